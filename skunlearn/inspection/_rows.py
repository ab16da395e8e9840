"""The sets of rows that the displays compare, and the networks they compare them in."""

from collections.abc import Mapping

import numpy as np

from skunlearn._engine.predict import log_proba
from skunlearn._engine.validation import check_forget
from skunlearn.metrics import sample_log_loss

SETS = ("retain", "forget", "unseen")


def by_network(estimator):
    """Estimators by name; a single one goes by the name of its class."""
    if isinstance(estimator, Mapping):
        if not estimator:
            raise ValueError("estimator must name at least one estimator; got an empty mapping.")
        return dict(estimator)
    return {type(estimator).__name__: estimator}


def by_network_and_set(name, values, check):
    """Values by network and set, each through `check`; a single network goes without a name."""
    if not isinstance(values, Mapping) or not values:
        raise ValueError(
            f"{name} must map sets of rows, out of {SETS}, to arrays, or names of networks to such "
            f"mappings; got {type(values).__name__}."
        )
    if not all(isinstance(value, Mapping) for value in values.values()):
        values = {"": values}
    for sets in values.values():
        unknown = [key for key in sets if key not in SETS]
        if unknown or not sets:
            raise ValueError(f"{name} must have sets out of {SETS}; got {list(sets)}.")
    return {
        network: {
            key: check(
                f"{name}[{network!r}][{key!r}]" if network else f"{name}[{key!r}]", sets[key]
            )
            for key in SETS
            if key in sets
        }
        for network, sets in values.items()
    }


def check_mask(forget, y):
    """The mask of the rows to forget, of which there must be some."""
    mask = check_forget(forget, len(y))
    if not mask.any():
        raise ValueError(f"forget must mark at least one row; got {len(mask)} times False.")
    return mask


def row_losses(estimator, X, y):
    """Cross-entropy of each row."""
    labels, y = getattr(estimator, "classes_", None), np.asarray(y)
    logs = None if y.ndim == 2 else log_proba(estimator, X)
    answers = np.asarray(estimator.predict_proba(X)) if logs is None else logs[0]
    return sample_log_loss(y, answers, labels=labels)
