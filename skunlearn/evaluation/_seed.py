"""One seed of a comparison: its original, its references, and what methods make of the original."""

import time

import numpy as np
from sklearn.base import clone
from sklearn.metrics import recall_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_memory

from skunlearn._engine.cache import is_kept, train_once
from skunlearn._engine.files import nan_to_none, write_row
from skunlearn._engine.hashing import start_for_key
from skunlearn._engine.rows import take_rows
from skunlearn._engine.statistics import few_of
from skunlearn._engine.unwrap import network_of
from skunlearn._engine.validation import encode_labels
from skunlearn.base import BaseUnlearner
from skunlearn.evaluation._figures import (
    FEATURE_ROWS,
    NO_NOMUS,
    Measure,
    Subject,
    forgotten_classes,
)
from skunlearn.features import FeatureExtractor
from skunlearn.methods.finetune import FineTune
from skunlearn.methods.retrain import Retrain

ORIGINAL, REFERENCE, REFERENCE_2 = "Original", "Retrain", "Retrain again"

#: The first columns of the table; others follow in alphabetical order.
COLUMNS = ("method", "seed", "utility", "retain_accuracy", "forget_accuracy", "forgetting_score")
COLUMNS += ("nomus", "nomus_low", "nomus_high", "gap", "relative_js_distance", "cost", "seconds")


def run_seed(net, data, groups, seed, todo, settings, memory, raises):
    """Run the methods that are left for a seed; write and return their rows of the table.

    Parameters
    ----------
    net : skorch.NeuralNet
        The network, untrained.
    data : tuple
        ``X, y, mask, X_unseen, y_unseen, X_val, y_val``.
    groups : tuple
        The person of each row of `X` and of `X_unseen`, or None twice.
    seed : int
        The seed.
    todo : dict of str to tuple
        Of each method, the unlearner (None for what is always compared) and the file of its row,
        or None.
    settings : tuple
        ``feature_layer, n_splits``.
    memory : str, joblib.Memory or None
        Where to keep the original and the references.
    raises : bool
        Whether an error of a method ends the comparison.

    Returns
    -------
    rows : list of dict
        A row for each method.
    """
    run, rows = _Seed(net, data, groups, seed, settings, memory), []
    for name, (model, path) in todo.items():
        try:
            model, costs = run.unlearned(name, model)
        except ValueError as error:
            if raises:
                raise
            row = {"method": name, "seed": seed} | dict.fromkeys(COLUMNS[2:])
            row["error"] = str(error)
        else:
            row = run.row(name, model, costs)
        row = nan_to_none(row)
        if path is not None:
            write_row(path, row)
        rows.append(row)
    return rows


class _Seed:
    """The networks that a seed trains, and measurements beside them."""

    def __init__(self, net, data, groups, seed, settings, memory):
        _, y, _, _, y_unseen, *_ = data
        self.net, self.data, self.groups, self.seed = net, data, groups, seed
        self.layer, n_splits = settings
        self.memory = check_memory(memory)
        *states, self.state = np.random.SeedSequence(seed).generate_state(4).tolist()
        original, first, second = self._train_networks(*states)
        self.classes = original.classes_
        if y.ndim == 1:
            original.estimator_.set_params(classes=self.classes)  # which it is to be frozen with
        self.original = original.estimator_
        self.codes = (
            encode_labels(y, self.classes),
            encode_labels(y_unseen, self.classes, "y_unseen"),
        )
        self.gone = forgotten_classes(self.codes[0], self.data[2])
        self.feature_rows = few_of(len(y_unseen), FEATURE_ROWS, check_random_state(seed))
        # Of overshoot, the table has no interval.
        self.measure = Measure(n_splits, 2, 0.95, seed)
        self.known = {
            name: self._read(name, model)
            for name, model in ((ORIGINAL, original), (REFERENCE, first), (REFERENCE_2, second))
        }

    def unlearned(self, name, model):
        """Let a method unlearn; return it and what that took. What is always compared is ready."""
        if name in self.known:
            return None, self.costs[name]
        X, y, mask, _, _, X_val, y_val = self.data
        model = _tuned(model, self.data, self.state).set_params(random_state=self.state)
        model._start_from(self.original, X, y)
        start = time.perf_counter()
        model.unlearn(X, y, forget=mask, X_val=X_val, y_val=y_val)
        seconds = time.perf_counter() - start
        return model, {"cost": model.unlearning_cost_ / self.unit, "seconds": seconds}

    def row(self, name, model, costs):
        """The row of a network that has unlearned, or of one that is always compared."""
        subject, Z = self.known[name] if name in self.known else self._read(name, model)
        metrics = self._measured(name, subject, Z)
        row = {"method": name, "seed": self.seed}
        row |= {key: each.value for key, each in metrics.items()}
        row |= {"nomus_low": metrics["nomus"].low, "nomus_high": metrics["nomus"].high} | costs
        if len(self.gone):
            row |= dict.fromkeys(("nomus", "nomus_low", "nomus_high", "forgetting_score"))
            row["no_nomus"] = NO_NOMUS
        if self.codes[1].ndim == 1:
            row["balanced_utility"] = self._balanced_utility(subject)
        return {key: row.get(key) for key in (*COLUMNS, *sorted(row.keys() - set(COLUMNS)))}

    def _train_networks(self, *states):
        """The original and two references; what they cost is noted."""
        mask = self.data[2]
        original, _ = self._trained(FineTune, states[0], None)
        first, first_seconds = self._trained(Retrain, states[1], mask)
        second, second_seconds = self._trained(Retrain, states[2], mask)
        self.unit = first.unlearning_cost_
        share = second.unlearning_cost_ / self.unit
        self.costs = {
            ORIGINAL: {"cost": None, "seconds": None},  # it is there anyway
            REFERENCE: {"cost": 1.0, "seconds": first_seconds},
            REFERENCE_2: {"cost": share, "seconds": second_seconds},
        }
        return original, first, second

    def _trained(self, kind, state, forget):
        """A fitted unlearner, and the seconds that it took when it was trained."""
        X, y, *_ = self.data
        unlearner = kind(clone(self.net), random_state=state)

        def train():
            start = time.perf_counter()
            unlearner.fit(X, y, forget=forget)
            return unlearner, time.perf_counter() - start

        content = self.net, kind, X, y, forget, state
        if is_kept(self.memory):
            content += (start_for_key(unlearner, X, y, state),)
        return train_once(self.memory, content, train)

    def _read(self, name, model):
        """What a fitted unlearner predicts, and its features if it is of one network."""
        X, _, mask, X_unseen, *_ = self.data
        Z = None
        if self.layer is not None and network_of(model) is not None:
            some = take_rows(X_unseen, self.feature_rows)
            Z = FeatureExtractor(model, layer=self.layer).transform(some)
        data = X, X_unseen
        return Subject(name, model, data, self.codes, mask, self.classes, self.groups), Z

    def _measured(self, name, subject, Z):
        """The metrics; references are compared with each other, all others with the first."""
        reference, other = self.known[REFERENCE][0], self.known[REFERENCE_2][0]
        if name == REFERENCE:
            reference, other = other, reference
        metrics = self.measure.own(subject)
        metrics |= self.measure.calibrated(subject, other if subject is not other else reference)
        metrics |= self.measure.closeness(subject, reference, other)
        if len(self.gone):
            metrics |= self.measure.of_classes(subject, self.gone)
        if Z is not None and name != ORIGINAL:
            features = {"original": self.known[ORIGINAL][1], name: Z}
            labels, groups = (
                each if each is None else each[self.feature_rows]
                for each in (self.codes[1], self.groups[1])
            )
            metrics |= self.measure.collapse(features, labels, groups).get(name, {})
        return metrics

    def _balanced_utility(self, subject):
        present = np.unique(self.codes[1])
        hits = self.codes[1], subject.predicted["unseen"]
        return float(recall_score(*hits, labels=present, average="macro", zero_division=0))


def _tuned(model, data, state):
    """The unlearner itself, or a search's with the parameters that the search finds."""
    if isinstance(model, BaseUnlearner):
        return clone(model)
    X, y, mask, *_ = data
    search = clone(model).set_params(estimator__random_state=state).fit(X, y, forget=mask)
    return clone(search.estimator).set_params(**search.best_params_)
