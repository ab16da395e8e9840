"""One shard of an ensemble: how it is trained. Which rows are in it: `_ensemble.py`."""

import pickle
from copy import deepcopy
from dataclasses import dataclass

import joblib
import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.validation import validate_data
from skorch import NeuralNet
from torch import nn

from skunlearn._engine.build import parts_of
from skunlearn._engine.cache import train_once
from skunlearn._engine.fit import fit_network
from skunlearn._engine.random import seeded


@dataclass(frozen=True)
class Assignment:
    """Code of the label, digest, shard and slice of each row."""

    codes: np.ndarray
    digest: np.ndarray
    shard: np.ndarray
    slice: np.ndarray


def train_shard(template, shard, rows, ends, classes, seeds, start, state):
    """Train one shard; return its model, the states before later slices, and a log.

    A network is returned as its parts and its history.

    What comes out of a slice depends on nothing but the state before it, its rows and its seed.
    """
    train = _train_network if isinstance(template, NeuralNet) else _train_classifier
    device = getattr(template, "device", "cpu")
    model, states, log = None, [], []
    for s in range(start, len(ends)):
        with seeded(seeds[s], device):
            try:
                model, state, entries = train(template, rows, ends, classes, s, state)
            except ValueError as error:
                raise ValueError(f"SISA, shard {shard} of estimators_: {error}") from error
        states.append(state)
        log += [{**entry, "slice": s} for entry in entries]
    if isinstance(model, NeuralNet):  # which cannot be sent if its module is one of a script
        model = parts_of(model), model.history
    return model, states[:-1], log


def _train_network(template, rows, ends, classes, s, state):
    n_rows = int(ends[s])
    if n_rows < 2:  # batch normalisation could not train on it; it waits for the next slice
        return None, None, []
    rows = rows.take(np.arange(n_rows))
    epochs = epochs_of_slice(template, len(ends))
    net = fit_network(template, rows, len(classes), state=state, max_epochs=epochs)
    return net, _state_of(net), [{**entry, "n_rows": n_rows} for entry in net.history]


def _train_classifier(template, rows, ends, classes, s, state):
    X, y = rows
    before = int(ends[s - 1]) if s else 0
    n_rows = int(ends[s]) - before
    if len(ends) > 1:
        if n_rows:
            state = clone(template) if state is None else deepcopy(state)
            some = slice(before, before + n_rows)
            state.partial_fit(_safe_indexing(X, some), y[some], classes=classes)
    elif n_rows > 1:
        several = (y != y[0]).any()
        state = (clone(template) if several else DummyClassifier(strategy="prior")).fit(X, y)
    trained = n_rows > (len(ends) == 1)
    return state, state, [{"n_rows": n_rows}] * trained


def train_in_worker(*args):
    """Train a shard, maybe in another process, which cannot look up the classes of a script."""
    return pickle.dumps(joblib.wrap_non_picklable_objects(train_once(*args), keep_wrapper=False))


def epochs_of_slice(net, n_slices):
    """Epochs of each slice, so that all of them cost what training without slices does."""
    return max(1, round(2 * net.max_epochs / (n_slices + 1)))


def _state_of(net):
    parts = {name: part for kind in parts_of(net).values() for name, part in kind.items()}
    return {name: part.state_dict() for name, part in parts.items() if isinstance(part, nn.Module)}


def check_raw(unlearner, X, *y, reset):
    """Validate as the classifier's tags say it would; a frame is left as it is.

    Not leaving it to the classifier: a shard of one class or with a single row has none.
    """
    is_frame = hasattr(X, "columns")
    is_text = (
        hasattr(X, "__iter__")
        and not (is_frame or issparse(X))
        and isinstance(next(iter(X), None), str)
    )
    tags = get_tags(unlearner.estimator).input_tags
    finite = not is_frame and ("allow-nan" if tags.allow_nan else True)
    checked = validate_data(
        unlearner,
        X,
        *y,
        reset=reset,
        dtype=None,
        accept_sparse="csr" if tags.sparse else False,
        ensure_all_finite=finite,
        ensure_2d=not is_text,
        allow_nd=tags.three_d_array,
    )
    if not is_frame:
        return checked
    return (X, checked[1]) if y else X
