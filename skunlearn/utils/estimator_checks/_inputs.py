"""Checks of rows, labels and networks of many kinds."""

import contextlib

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetRegressor
from torch import nn
from torch.utils.data import TensorDataset

from skunlearn.utils.estimator_checks._tools import (
    ImageNetwork,
    Network,
    contract,
    logit,
    make_held_out,
    make_network,
    make_problem,
    refuses,
    set_up,
    unchanged,
)


@contract
def check_inputs_of_many_kinds_give_the_same(name, unlearner):
    """Arrays, lists, tensors and frames give the same bits; labels may be strings."""
    X, y, request = make_problem(unlearner)
    names = np.array(["ant", "bee", "cow"])
    model = set_up(unlearner, make_network(max_epochs=2))
    expected = clone(model).fit(X, y, **request)
    proba, predicted = expected.predict_proba(X), expected.predict(X)
    kinds = {
        "float64": (X.astype(np.float64), y, request),
        "tensors": (
            torch.as_tensor(X),
            torch.as_tensor(y),
            {key: torch.as_tensor(value) for key, value in request.items()},
        ),
        "lists": (
            X.tolist(),
            y.tolist(),
            {key: value.tolist() for key, value in request.items()},
        ),
        "strings": (
            X,
            names[y],
            {key: names[value] if key == "y_val" else value for key, value in request.items()},
        ),
    }
    with contextlib.suppress(ImportError):
        import pandas as pd

        columns = [f"column {i}" for i in range(8)]
        frames = {key: pd.DataFrame(request[key], columns=columns) for key in request if "X" in key}
        series = {key: pd.Series(request[key]) for key in request if "X" not in key}
        kinds["frame"] = pd.DataFrame(X, columns=columns), pd.Series(y), frames | series
    for kind, (X_kind, y_kind, request_kind) in kinds.items():
        fitted = clone(model).fit(X_kind, y_kind, **request_kind)
        assert np.array_equal(fitted.predict_proba(X_kind), proba), (
            f"{name} must give the same whether rows come as arrays or as {kind}"
        )
        wanted = names[predicted] if kind == "strings" else predicted
        assert (fitted.predict(X_kind) == wanted).all(), f"{name} must predict labels of {kind}"
        if kind == "strings":
            assert (fitted.classes_ == names).all(), f"{name} must keep the names in classes_"
        if kind == "frame":
            assert fitted.feature_names_in_.tolist() == columns, (
                f"{name} must have the columns of a frame as feature_names_in_"
            )


@contract
def check_images_and_data_sets(name, unlearner):
    """Images keep their shape, and a data set that yields pairs gives the same as its arrays."""
    _, y, request = make_problem(unlearner)
    rng = np.random.default_rng(0)
    X = rng.random((120, 1, 6, 6)).astype(np.float16)
    if "X_val" in request:
        request["X_val"] = rng.random((40, 1, 6, 6)).astype(np.float16)
    # 120 = 7 * 17 + 1: a last batch of one row, which batch normalisation cannot train on.
    net = make_network(ImageNetwork, max_epochs=2, batch_size=17)
    fitted = set_up(unlearner, net).fit(X, y, **request)
    assert fitted.predict(X).shape == (120,), f"{name} must predict a label per image"
    data = TensorDataset(torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y))
    lazily = set_up(unlearner, net).fit(data, **request)
    # Up to rounding, which depends on how many rows go through the network at a time.
    assert np.allclose(lazily.predict_proba(data), fitted.predict_proba(X), atol=1e-3), (
        f"{name} must give the same whether rows come as arrays or as a data set"
    )


@contract
def check_binary_network(name, unlearner):
    """A NeuralNetBinaryClassifier, with one output, works like any other classifier."""
    X, y, request = make_problem(unlearner)
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    held_out = make_held_out()
    held_out["y_val"] = np.array(["no", "yes"])[(held_out["y_val"] > 0).astype(int)]
    net = make_network(logit, NeuralNetBinaryClassifier, criterion=nn.BCEWithLogitsLoss)
    fitted = set_up(unlearner, net).fit(X, names)
    assert fitted.score(X, names) > 0.7, f"{name} must train a binary network"
    fitted.unlearn(X, names, **request | held_out)
    assert fitted.predict_proba(X).shape == (120, 2), f"{name} must keep a column per class"
    assert set(fitted.predict(X)) <= {"no", "yes"}, f"{name} must predict the labels it was given"


@contract
def check_several_labels_per_row(name, unlearner):
    """Indicator matrices work where `multilabel` says so, and are refused elsewhere."""
    X, _, request = make_problem(unlearner)
    Y = np.stack([X[:, 0] > 0, X[:, 1] > 0.3], axis=1).astype(int)
    held_out = make_held_out()
    held_out["y_val"] = (held_out["X_val"][:, :2] > [0, 0.3]).astype(int)
    model = set_up(unlearner, make_network(criterion=nn.BCEWithLogitsLoss))
    if not unlearner.multilabel:
        promise = f"{name} has multilabel=False and must raise a ValueError for an indicator matrix"
        with refuses(promise, "label"):
            model.fit(X, Y)
        return
    with refuses(f"{name} must refuse indicators with CrossEntropyLoss", "indicator"):
        set_up(unlearner).fit(X, Y)
    with refuses(f"{name} must refuse single labels with BCEWithLogitsLoss", "indicator"):
        model.fit(X, Y[:, 0])
    assert (model.fit(X, Y).predict(X) == Y).mean() > 0.7, f"{name} must train on indicators"
    model.unlearn(X, Y, **request | held_out)
    assert model.predict(X).shape == model.predict_proba(X).shape == (120, 2), (
        f"{name} must keep a column per label"
    )


@contract
def check_in_a_pipeline(name, unlearner):
    """A pipeline hands `forget` to its last step."""
    X, y, request = make_problem(unlearner)
    pipe = make_pipeline(StandardScaler(), set_up(unlearner))
    pipe.fit(X, y, **{f"{pipe.steps[-1][0]}__{key}": value for key, value in request.items()})
    assert hasattr(pipe[-1], "unlearning_history_"), f"{name} must unlearn in a pipeline"
    assert pipe.predict(X).shape == (120,), f"{name} must predict in a pipeline"


@contract
def check_bad_rows_are_refused_and_nothing_is_lost(name, unlearner):
    """Rows and labels that cannot be right are a ValueError, and what was fitted stays."""
    X, y, request = make_problem(unlearner)
    held_out = make_held_out()
    broken, infinite = X.copy(), X.copy()
    broken[3, 1], infinite[0, 0] = np.nan, np.inf
    none = {"X": X[:0], "y": y[:0], "forget": request["forget"][:0]}
    cases = {
        "X with NaN": ({"X": broken}, "NaN"),
        "X with infinity": ({"X": infinite}, "infinity"),
        "no rows": (none, "sample"),
        "fewer labels than rows": ({"y": y[:-1]}, "samples"),
        "fewer features than in fit": ({"X": X[:, :2]}, "features"),
        "labels that are not among classes_": ({"y": y + 7}, "labels"),
        "X_val without y_val": ({"X_val": X, "y_val": None}, "y_val"),
        "y_val without X_val": ({"X_val": None, "y_val": y}, "X_val"),
        "X_val with fewer features": (held_out | {"X_val": held_out["X_val"][:, :2]}, "features"),
        "y_val not among classes_": (held_out | {"y_val": held_out["y_val"] + 7}, "y_val"),
    }
    fitted = set_up(unlearner).fit(X, y)
    with unchanged(name, fitted, X, "when rows are refused"):
        for what, (arguments, word) in cases.items():
            with refuses(f"{name}.unlearn must raise a ValueError for {what}", word):
                fitted.unlearn(**{"X": X, "y": y} | request | arguments)
        with refuses(f"{name}.fit must raise a ValueError for y of one class", "class"):
            fitted.fit(X, np.zeros(len(X)))
        with refuses(f"{name}.fit must raise a ValueError for X with NaN", "NaN"):
            fitted.fit(broken, y)


@contract
def check_unsuitable_estimators_are_refused(name, unlearner):
    """What cannot be trained as a classifier from fresh weights is a ValueError."""
    X, y, request = make_problem(unlearner)
    for what, net in {
        "a transformer": StandardScaler(),
        "a regressor": make_network(cls=NeuralNetRegressor),
        "a network with a regression loss": make_network(criterion=nn.MSELoss),
        "a network on a module instance": make_network(Network(8, 3)),
        "a network with too many outputs": make_network(module__n_classes=5),
    }.items():
        with refuses(f"{name} must raise a ValueError if estimator is {what}", "estimator"):
            set_up(unlearner, net).fit(X, y)
    for net in (make_network(), FrozenEstimator(make_network())):
        with refuses(f"{name}.unlearn must raise a NotFittedError without a trained network"):
            set_up(unlearner, net).unlearn(X, y, **request)
    with refuses(f"{name}.predict must raise a NotFittedError before fit"):
        set_up(unlearner).predict(X)
