"""Arguments of a report: checked, and tried on two rows before there is anything to measure."""

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skunlearn._engine.random import preserve_modes
from skunlearn._engine.rows import take_rows
from skunlearn._engine.unwrap import network_of
from skunlearn._engine.validation import (
    check_forget,
    check_kind,
    check_number,
    check_sides_groups,
    encode_labels,
    given_labels,
)
from skunlearn.evaluation._criteria import check_criteria
from skunlearn.evaluation._figures import Subject
from skunlearn.evaluation._report_text import MEANINGS
from skunlearn.features import FeatureExtractor

#: By their names in the report.
_PARAMETERS = {
    "unlearned": "unlearner",
    "original": "original",
    "retrained": "reference",
    "retrained_2": "reference_2",
}


def as_rows(X, name):
    """A list of rows as an array: networks with several inputs would take it for one of inputs."""
    check_kind(X, name)
    return np.asarray(X) if isinstance(X, list | tuple) else X


def check_arguments(
    unlearner,
    X,
    y,
    forget,
    X_unseen,
    y_unseen,
    original,
    reference,
    reference_2,
    groups,
    groups_unseen,
    criteria,
    request,
    tester,
    key,
    feature_layer,
    n_splits,
    n_resamples,
    confidence_level,
    random_state,
):
    """The networks by their names, the labels, the mask and the groups, of what a report is given.

    An unlearner of None is one that cannot be checked yet.
    """
    check_number("n_splits", n_splits, 1, integer=True)
    check_number("n_resamples", n_resamples, 2, integer=True)
    check_number("confidence_level", confidence_level, 0, 1, low_open=True, high_open=True)
    check_random_state(random_state)
    strings = {"request": request or "", "tester": tester or "", "feature_layer": feature_layer}
    for name, value in strings.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a string; got {value!r}.")
    _check_key(key)
    models = _fitted_models(unlearner, original, reference, reference_2)
    labels = given_labels("y", X, y), given_labels("y_unseen", X_unseen, y_unseen)
    mask = _check_sets(forget, X, *labels)
    check_criteria(criteria, MEANINGS)
    groups = check_sides_groups(labels, groups=groups, groups_unseen=groups_unseen)
    return models, labels, mask, groups


def rehearse(arguments):
    """Raise what a report would raise of its arguments, without the time that it takes.

    A row to forget and an unseen one go through each network.
    """
    models, labels, mask, _ = check_arguments(**arguments)
    if "unlearned" not in models:
        return
    classes = np.asarray(models["unlearned"].classes_)
    names = "y", "y_unseen"
    codes = [encode_labels(y, classes, name) for y, name in zip(labels, names)]
    first = np.flatnonzero(mask)[:1], np.arange(1)
    rows = [take_rows(arguments[name], i) for name, i in zip(("X", "X_unseen"), first)]
    nets = {name: network_of(model) for name, model in models.items()}
    with preserve_modes(*(net for net in nets.values() if net is not None)):
        for name, model in models.items():
            Subject(
                name, model, rows, [y[i] for y, i in zip(codes, first)], mask[first[0]], classes
            )
            if nets[name] is not None and nets.get("original") is not None:
                FeatureExtractor(model, layer=arguments["feature_layer"]).transform(rows[1])


def _check_key(key):
    """Refuse keys by which digests could be found out."""
    if key is None or key == "unkeyed":
        return
    if not isinstance(key, bytes) or len(key) < 16:
        got = f"{len(key)} bytes" if isinstance(key, bytes) else f"{type(key).__name__}"
        raise ValueError(
            f"key must be at least 16 bytes, 'unkeyed' or None; got {got}. secrets.token_bytes(32) "
            "makes one."
        )


def _fitted_models(unlearner, original, reference, reference_2):
    """The estimators that were given, by their names in the report."""
    if reference is None and reference_2 is not None:
        raise ValueError(
            "reference_2 was given without reference; pass the first retraining there."
        )
    models = {
        "unlearned": unlearner,
        "original": original,
        "retrained": reference,
        "retrained_2": reference_2,
    }
    models = {name: model for name, model in models.items() if model is not None}
    for name, model in models.items():
        if not hasattr(model, "fit"):
            raise ValueError(
                f"{_PARAMETERS[name]} must be a fitted estimator; got {type(model).__name__}. "
                "A torch module goes into a skorch.NeuralNetClassifier, which is initialized."
            )
        check_is_fitted(model)
    return models


def _check_sets(forget, X, y, y_unseen):
    """The forget mask, if there are rows to forget and unseen ones."""
    mask = check_forget(forget, len(y), X)
    if not mask.any() or not len(y_unseen):
        raise ValueError(
            "forget must mark at least one row, and X_unseen must have one; got "
            f"{np.count_nonzero(mask)} True of {len(mask)}, and {len(y_unseen)} unseen rows."
        )
    return mask
