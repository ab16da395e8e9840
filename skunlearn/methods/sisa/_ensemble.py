"""Exact unlearning made cheap beforehand: an ensemble in which few models have seen a row.

It has over 500 lines because half of them are the docstrings of what users call.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from joblib import Parallel, delayed
from scipy.special import logsumexp
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    check_memory,
)
from skorch import NeuralNet
from skorch.history import History

from skunlearn._engine.cache import is_kept
from skunlearn._engine.files import digest
from skunlearn._engine.fresh import check_fresh, restored
from skunlearn._engine.hashing import canonical_bytes, each_row, starting_point
from skunlearn._engine.predict import predict_log_proba, predict_proba, predicted
from skunlearn._engine.random import draw_seed, restore_accelerator, seeded
from skunlearn._engine.rows import rows_for
from skunlearn._engine.validation import (
    Given,
    as_dataset,
    check_groups,
    check_network,
    check_network_data,
    check_network_X,
    check_number,
    check_row_shapes,
    distinct_classes,
    encode_labels,
    is_multilabel,
)
from skunlearn.base import BaseUnlearner
from skunlearn.methods.sisa._checkpoints import Run, delete, is_whole, load
from skunlearn.methods.sisa._shard import (
    Assignment,
    check_raw,
    epochs_of_slice,
    train_in_worker,
    train_shard,
)

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from skunlearn._engine.typing import (
        Folder,
        HeldOutLabels,
        HeldOutRows,
        MaskLike,
        Memory,
        Network,
        RandomState,
        RowsLike,
    )


class SISA(BaseUnlearner):
    """Sharded, Isolated, Sliced, Aggregated training: an ensemble that retrains only a part.

    The rows are dealt out to shards, each of which trains a model of its own; the models vote. A
    row to forget was seen by one model only, and only that one is trained again. Within a shard the
    rows come in slices, with a checkpoint of the model before each, so that the training is
    repeated from the first slice that loses a row. The result is, bit for bit, the ensemble that
    never had the rows.

    Parameters
    ----------
    estimator : skorch.NeuralNet or scikit-learn classifier
        What each shard trains. A network's module must be given as a class (or a function), never
        as an instance, whose weights could not be made fresh.
    n_shards : int, default=5
        Models of the ensemble. More make a request cheaper and each model weaker.
    n_slices : int, default=1
        Slices of each shard. More than one needs a network, or a classifier with ``partial_fit``;
        see Notes.
    aggregate : {"mean_proba", "vote"}, default="mean_proba"
        Whether `predict_proba` returns the mean of the models' probabilities, or the share of the
        models that chose each class. `predict` takes the largest.
    checkpoint_dir : str or path-like, default=None
        Folder to keep checkpoints in, made if need be; None keeps them in memory. Weights of
        networks are written as state dicts, which are read back with ``weights_only=True``;
        scikit-learn classifiers are pickled by joblib, so nobody else should be able to write to
        the folder. Files of forgotten rows are deleted by `unlearn`, all earlier ones by the
        next `fit`. Copies and pickles of the ensemble refer to the same files, and ensembles may
        share a folder: ``sisa-manifest.json`` lists the files of all of them. What a killed run
        has left there is deleted by the next `fit` or `unlearn` in it. A file that is missing or
        was changed is not used; the shard is then trained from an earlier slice.
    n_jobs : int, default=None
        Shards trained at a time, by joblib: inside ``joblib.parallel_config(backend="dask")`` the
        cluster trains them. Threads of one process take turns, since they share what is seeded.
    memory : str, joblib.Memory or None, default=None
        Where to cache trained shards; see :class:`~skunlearn.BaseUnlearner`. Not used with
        ``random_state=None``.
    random_state : int, RandomState or None, default=None
        Seeds the dealing out, weights and batches.

    Attributes
    ----------
    estimators_ : list of length n_shards
        The fitted model of each shard; None for a shard with fewer than two rows, which has no
        vote.
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    unlearning_history_ : skorch.History
        What the last request (or a `fit` with one) trained: an entry for each epoch of a network
        and each call of a classifier's ``fit`` or ``partial_fit``, with its ``shard``, ``slice``
        and ``n_rows``.

    See Also
    --------
    Retrain : One model, trained again as a whole.
    skunlearn.model_selection.forget_mask : From the names of people to `forget`.

    Notes
    -----
    *Where a row goes* is computed from a keyed hash of its contents, or of its group where `groups`
    is given: all rows of a person are in the same slice of the same shard. So the other rows stay
    where they are when one is forgotten, in whatever order rows come; sizes are balanced only on
    average. Of the rows, the ensemble keeps 64-bit digests, which tell it what it was trained on;
    those of forgotten rows are dropped. Each time it is given a row, its content must be the same:
    a data set that augments at random does not qualify (augment in the module, or in a callback).

    *Networks* train on the first slice, then go on with the first two together, and so on, for
    ``2 / (n_slices + 1)`` of their ``max_epochs`` each (rounded), so that slices cost nothing. Each
    of these is a run of its own: optimiser and schedules start again. A checkpoint holds
    weights only. *Classifiers with* ``partial_fit`` are handed one slice after the other, once:
    as good as ``fit`` for naive Bayes, but a single pass for gradient descent. Other classifiers
    are fitted whole. A shard whose rows are all of one class answers that class.

    A single row's request costs ``1 / n_shards`` of the training, and slices save at most a third
    of that, for `n_slices` times the memory; `expected_cost` tells beforehand. Many rows at random
    hit every shard: there is then nothing to gain over `Retrain`. Rows that share a person should
    be given by `groups`, or a person's request hits as many shards as the person has rows.
    Held-out rows are of no use to it.

    What a model remembers is diluted by the others: the mean of the ensemble hides most of it from
    an attack on losses, so that the forgetting score is near 0 before a request already, and moves
    within its noise. That rows are forgotten follows from how it works, not from that score.

    In a pipeline, the steps before have seen the rows too, and what they make of the others changes
    when they forget them: put the pipeline into the ensemble, not the ensemble into the pipeline.

    Results agree bit for bit between runs with the same number of threads; worker processes may
    have another number of them than the main one.

    **Published settings.** The number of shards and slices depends on the data and on how many
    requests are expected. The models vote: ``aggregate="vote"``.

    References
    ----------
    .. [1] Machine Unlearning. arXiv:1912.03817.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skunlearn import SISA
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> forget = np.arange(200) == 7
    >>> unlearner = SISA(DecisionTreeClassifier(), random_state=0).fit(X, y)
    >>> round(unlearner.expected_cost(X, y, forget=forget), 2)
    0.21
    >>> unlearner.unlearn(X, y, forget=forget).predict(X[:3]).tolist()
    ['yes', 'no', 'no']
    """

    __metadata_request__fit: ClassVar = {"groups": True}

    needs: ClassVar[frozenset[str]] = frozenset({"retain"})

    def __init__(
        self,
        estimator: Network,
        *,
        n_shards: int = 5,
        n_slices: int = 1,
        aggregate: Literal["mean_proba", "vote"] = "mean_proba",
        checkpoint_dir: Folder | None = None,
        n_jobs: int | None = None,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.n_shards = n_shards
        self.n_slices = n_slices
        self.aggregate = aggregate
        self.checkpoint_dir = checkpoint_dir
        self.n_jobs = n_jobs

    def _search_space(self, common):
        return {"n_shards": [2, 3, 5, 10], "aggregate": ["mean_proba", "vote"]}

    # -- what a user calls -------------------------------------------------------------------------

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: MaskLike | None = None,
        groups: ArrayLike | None = None,
        X_val: HeldOutRows = None,
        y_val: HeldOutLabels = None,
    ) -> Self:
        """Train the ensemble on the rows that `forget` does not mark.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            Training rows; sparse matrices and data frames reach a scikit-learn classifier as they
            are.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or an indicator matrix if the criterion of a network takes one. May be left out
            if `X` is a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,), default=None
            True for the rows to forget, which are then not trained on in the first place.
        groups : array-like of shape (n_samples,), default=None
            The person, or other group, of each row. Rows of a group stay together.
        X_val, y_val : array-like, default=None
            Held-out rows, which are checked and not used.

        Returns
        -------
        self : object
            The fitted ensemble.

        Raises
        ------
        ValueError
            If an argument is not as described; what was fitted before is kept.
        """
        stale = self._files()
        self._fit(X, y, forget, X_val, y_val, groups)
        delete(stale)
        return self

    def unlearn(
        self,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: MaskLike,
        groups: ArrayLike | None = None,
        X_val: HeldOutRows = None,
        y_val: HeldOutLabels = None,
    ) -> Self:
        """Retrain the models of the ensemble that were trained on the rows that `forget` marks.

        Can be called again for the next request. If it fails or is interrupted, the estimator stays
        as it was. `n_shards` and `n_slices` are those of the last `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            The rows that the ensemble was trained on, in any order. Those that it has forgotten
            before may be there if `forget` marks them again.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or an indicator matrix if the criterion of a network takes one. May be left out
            if `X` is a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,)
            True for the rows to forget; at least one.
        groups : array-like of shape (n_samples,), default=None
            As given to `fit`.
        X_val, y_val : array-like, default=None
            Held-out rows, which are checked and not used.

        Returns
        -------
        self : object
            The ensemble, without the rows.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        ValueError
            If an argument is not as described, or the rows are not those of the training.
        """
        stale = self._files()
        self._forget(X, y, forget, X_val, y_val, groups)
        delete(stale - self._files())
        return self

    def expected_cost(
        self,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: MaskLike,
        groups: ArrayLike | None = None,
    ) -> float:
        """Cost of a request, as a share of training the whole ensemble again.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            Rows, as for `unlearn`.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or an indicator matrix if the criterion of a network takes one. May be left out
            if `X` is a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,)
            True for the rows to forget.
        groups : array-like of shape (n_samples,), default=None
            As given to `fit`.

        Returns
        -------
        cost : float
            Rows times epochs that `unlearn` would train, divided by those of a training of every
            shard on the retained rows: 0 if there is nothing to do, 1 if all of it is repeated.
        """
        task = self._check_task(Given(X, y, forget, None, None, groups), self._needs())
        assigned, keep, first = self._plan(task)
        n_slices = self._fitted_slices()
        repeated = everything = 0
        for shard in np.unique(assigned.shard[keep]):
            slices = assigned.slice[keep & (assigned.shard == shard)]
            costs = self._costs(np.bincount(slices, minlength=n_slices))
            everything += costs.sum()
            repeated += costs[first.get(shard, n_slices) :].sum()
        return float(repeated / max(everything, 1))

    # -- the contract ------------------------------------------------------------------------------

    def _carry_out(self, given, needs, reset=False):
        task = self._check_task(given, needs, reset)
        (self._fit_task if reset else self._unlearn_task)(task)
        return task

    def _fit_task(self, task):
        stale = self._files()
        self._seed = draw_seed(self.random_state)
        self._checkpoints = [[None] * (self.n_slices - 1)] * self.n_shards
        self.estimators_ = [None] * self.n_shards
        assigned = self._assign_shards(task.data, task.codes, task.groups)
        keep = ~task.mask
        first = dict.fromkeys(np.unique(assigned.shard[keep]).tolist(), 0)
        history = self._train_shards(task.data, assigned, keep, first, stale)
        if task.mask.any():
            self._note(history)

    def _unlearn_task(self, task):
        self._note(self._train_shards(task.data, *self._plan(task), self._files()))

    def _note(self, history):
        """Keep what a request has trained."""
        self.unlearning_history_ = history
        self.unlearning_cost_ = float(sum(entry["n_rows"] for entry in history))

    def _predict_proba(self, X):
        return np.mean(
            [self._member_proba(m, X) for m in self.estimators_ if m is not None], axis=0
        )

    def _predict_log_proba(self, X):
        if self.aggregate != "mean_proba" or type(self)._predict_proba is not SISA._predict_proba:
            return None
        logs = [
            predict_log_proba(m, as_dataset(m, X)) if isinstance(m, NeuralNet) else None
            for m in self.estimators_
            if m is not None
        ]
        if any(each is None for each in logs):
            return None
        return logsumexp(logs, axis=0) - np.log(len(logs))

    def _to_codes(self, proba):
        return self._to_labels(proba, self.aggregate == "mean_proba")

    def _start_from(self, original, X, y):
        self.fit(X, y)  # an ensemble forgets what it has learnt itself

    def _networks(self):
        return [m for m in getattr(self, "estimators_", ()) if isinstance(m, NeuralNet)]

    def _member_proba(self, model, X):
        """The probabilities or the vote of one model, with a column for each of `classes_`."""
        n_classes = len(self.classes_)
        if isinstance(model, NeuralNet):
            proba = predict_proba(model, as_dataset(model, X))
            if self.aggregate == "mean_proba":
                return proba
            votes = self._to_labels(proba, True)
            return votes if votes.ndim == 2 else np.eye(n_classes)[votes]
        if self.aggregate == "vote":
            return np.eye(n_classes)[encode_labels(model.predict(X), self.classes_)]
        proba = model.predict_proba(X)
        if proba.shape[1] == n_classes:
            return proba
        full = np.zeros((len(proba), n_classes))
        full[:, encode_labels(model.classes_, self.classes_)] = proba
        return full

    def _to_labels(self, proba, are_probabilities):
        """Positions in `classes_`, or indicators where a row may have several labels."""
        net = self.estimator
        if isinstance(net, NeuralNet) and (are_probabilities or is_multilabel(net)):
            return predicted(net, proba)
        return proba.argmax(axis=1)

    # -- rows, shards and slices -------------------------------------------------------------------

    def _plan(self, task):
        """Where rows belong, which to keep, and from which slice on each shard is trained again."""
        mask, assigned = task.mask, self._assign_shards(task.data, task.codes, task.groups)
        trained = Counter(self._members.tolist())
        kept = Counter(assigned.digest[~mask].tolist())
        unknown = (kept - trained).total()
        missing = (trained - Counter(assigned.digest.tolist())).total()
        if unknown or missing:
            raise ValueError(
                "X, y and groups must be the rows that the ensemble was trained on: "
                f"{unknown} of the {kept.total()} rows to retain are not, or not any more, among "
                f"them, and {missing} of the {trained.total()} it was trained on are missing. Pass "
                "what fit was given; rows that were forgotten since may be left out, or marked "
                "by forget again."
            )
        gone = np.array(list(trained - kept), dtype=np.uint64)
        hit = mask & np.isin(assigned.digest, gone)
        first = {}
        for shard in np.unique(assigned.shard[hit]).tolist():
            start = int(assigned.slice[hit & (assigned.shard == shard)].min())
            # A copy of the ensemble may have deleted the file, and a disk may have spoilt it.
            while start and not is_whole(self._checkpoints[shard][start - 1]):
                start -= 1
            first[shard] = start
        return assigned, ~mask, first

    def _assign_shards(self, data, codes, groups):
        """Where each row belongs, by its contents or its group alone."""
        n_shards, n_slices = len(self.estimators_), self._fitted_slices()
        key = self._seed.to_bytes(8, "little")

        def number(*contents):
            text = b"".join(map(canonical_bytes, contents))
            return int.from_bytes(digest(text, key, size=8), "little")

        if groups is None:
            names = itself = [number(x, code) for x, code in zip(each_row(data), codes)]
        else:
            groups = check_groups(groups)
            check_consistent_length(codes, groups)
            names = [number(group) for group in groups]
            itself = [
                number(x, code, group) for x, code, group in zip(each_row(data), codes, groups)
            ]
        names = np.array(names, dtype=np.uint64)
        return Assignment(
            codes,
            np.array(itself, dtype=np.uint64),
            (names % n_shards).astype(int),
            (names // n_shards % n_slices).astype(int),
        )

    def _fitted_slices(self):
        return len(self._checkpoints[0]) + 1

    def _costs(self, n_rows):
        """Rows times epochs of the training of each slice, from the number of rows in each."""
        template = self.estimator
        is_network = isinstance(template, NeuralNet)
        if not is_network and len(n_rows) > 1:
            return n_rows
        n_rows = n_rows.cumsum()
        epochs = epochs_of_slice(template, len(n_rows)) if is_network else 1
        return np.where(n_rows > 1, n_rows, 0) * epochs

    # -- training ----------------------------------------------------------------------------------

    def _train_shards(self, data, assigned, keep, first, stale):
        """Train shards on the rows to keep, each from its given first slice on.

        Of the `stale` files, those that the ensemble does not use afterwards are taken off the
        manifest.
        """
        template = self.estimator
        is_network = isinstance(template, NeuralNet)
        rows = rows_for(template, None, data, assigned.codes) if is_network else None
        # Without random_state, the next fit deals out the rows in another way.
        memory = check_memory(None if self.random_state is None else self.memory)
        is_cached = is_kept(memory)
        n_slices = self._fitted_slices()

        def task(shard, start):
            index = np.flatnonzero(keep & (assigned.shard == shard))
            index = index[np.lexsort((assigned.digest[index], assigned.slice[index]))]
            ends = np.searchsorted(assigned.slice[index], np.arange(n_slices), side="right")
            seeds = [
                int(np.random.SeedSequence([self._seed, shard, s]).generate_state(1)[0])
                for s in range(n_slices)
            ]
            content = (
                assigned.digest[index],
                assigned.codes[index],
                self.classes_,
                ends,
                seeds,
                start,
            )
            some = (
                rows.take(index)
                if is_network
                else (_safe_indexing(data, index), self.classes_[assigned.codes[index]])
            )
            state = load(self._checkpoints[shard][start - 1]) if start else None
            if is_cached:
                content += (state,)
                if is_network:
                    with seeded(seeds[start], template.device):
                        content += (starting_point(template, rows, len(self.classes_)),)
            work = partial(
                train_shard, template, shard, some, ends, self.classes_, seeds, start, state
            )
            return delayed(train_in_worker)(memory, (template, *content), work)

        history = History()
        estimators, checkpoints = list(self.estimators_), list(self._checkpoints)
        with Run(self.checkpoint_dir) as run, restore_accelerator(template):
            results = Parallel(n_jobs=self.n_jobs, return_as="generator")(
                task(shard, start) for shard, start in first.items()
            )
            with contextlib.closing(results):
                for result, (shard, start) in zip(results, first.items()):
                    model, states, log = pickle.loads(result)
                    if is_network and model is not None:
                        model = restored(template, *model, rows, len(self.classes_))
                        model.classes_inferred_ = self.classes_  # for a FrozenEstimator of it
                    estimators[shard] = model
                    checkpoints[shard] = checkpoints[shard][:start] + [
                        run.save(state, f"shard{shard}-slice{start + i}")
                        for i, state in enumerate(states)
                    ]
                    history.extend({**entry, "shard": shard} for entry in log)
            if all(model is None for model in estimators):
                raise ValueError(
                    f"n_shards={len(estimators)} leaves no shard with two of the "
                    f"{np.count_nonzero(keep)} retained rows; fit with fewer shards."
                )
            self.estimators_, self._checkpoints = estimators, checkpoints
            self._members = np.sort(assigned.digest[keep])
            run.keep(self._files(), stale - self._files())
        return history

    # -- checkpoints -------------------------------------------------------------------------------

    def _files(self):
        """Paths of the checkpoints that are kept on disk."""
        kept = getattr(self, "_checkpoints", [])
        return {state for states in kept for state in states if isinstance(state, str)}

    # -- checks ------------------------------------------------------------------------------------

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if isinstance(self.estimator, NeuralNet):
            tags.classifier_tags.multi_label = is_multilabel(self.estimator)
            tags.input_tags.three_d_array = tags.input_tags.dict = True
        elif hasattr(self.estimator, "fit"):
            tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def _check_hyperparameters(self):
        check_number("n_shards", self.n_shards, 1, integer=True)
        check_number("n_slices", self.n_slices, 1, integer=True)
        if self.aggregate not in ("mean_proba", "vote"):
            raise ValueError(f"aggregate must be 'mean_proba' or 'vote'; got {self.aggregate!r}.")
        if not isinstance(self.checkpoint_dir, str | os.PathLike | None):
            raise ValueError(
                "checkpoint_dir must be the path of a folder, or None to keep checkpoints in "
                f"memory; got {self.checkpoint_dir!r}."
            )

    def _check_estimator(self):
        if isinstance(self.estimator, FrozenEstimator):
            raise ValueError(
                "estimator must be one that SISA can train, shard by shard; got a FrozenEstimator. "
                "Pass the wrapped network instead."
            )
        if isinstance(self.estimator, NeuralNet):
            check_fresh(self.estimator)
            check_network(self.estimator)
            return
        name = type(self.estimator).__name__
        if not hasattr(self.estimator, "fit") or not is_classifier(self.estimator):
            raise ValueError(
                "estimator must be a skorch network that classifies, such as "
                "skorch.NeuralNetClassifier, or a scikit-learn classifier; "
                f"got {self.estimator!r}."
            )
        if self.n_slices > 1 and not hasattr(self.estimator, "partial_fit"):
            raise ValueError(
                f"n_slices must be 1 for an estimator that cannot go on with its training; got "
                f"n_slices={self.n_slices} and {name}, which has no partial_fit."
            )
        if self.aggregate == "mean_proba" and not hasattr(self.estimator, "predict_proba"):
            raise ValueError(
                "aggregate must be 'vote' for an estimator without predict_proba; got "
                f"aggregate='mean_proba' and {name}."
            )

    def _check_X(self, X):
        if isinstance(self.estimator, NeuralNet):
            return check_network_X(self, self.estimator, X)
        return check_raw(self, X, reset=False)

    def _check_task(self, given, needs, reset=False):
        if not reset:
            check_is_fitted(self)
        self._check_hyperparameters()
        self._check_estimator()
        task = given.check(self, self._check_data, needs, reset=reset, unlearns=not reset)
        if task.val is not None and isinstance(self.estimator, NeuralNet):
            check_row_shapes(self.estimator, task.data, task.val[0])
        return task

    def _check_data(self, X, y, x_name, y_name, reset):
        if isinstance(self.estimator, NeuralNet):
            several = get_tags(self).classifier_tags.multi_label
            return check_network_data(self, self.estimator, several, X, y, x_name, y_name, reset)
        data, y = check_raw(self, X, y, reset=reset)
        check_classification_targets(y)
        return data, y

    def _check_classes(self, data, y):
        if y.ndim == 2:
            return np.arange(y.shape[1])
        given = getattr(self.estimator, "classes", None)
        return distinct_classes(y) if given is None else np.asarray(given)
