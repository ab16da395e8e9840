"""Checks of `forget`: what a mask is, that it decides, and what else a request needs."""

import reprlib
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skunlearn.utils.estimator_checks._tools import (
    NEEDS,
    contract,
    make_problem,
    refuses,
    same_weights,
    set_up,
    starts_from_original,
    trained_network,
    unchanged,
    weights_of,
)


@contract
def check_forget_must_be_a_mask(name, unlearner):
    """Whatever is not a boolean mask of shape (n_samples,) is a ValueError and changes nothing."""
    X, y, request = make_problem(unlearner)
    n_rows = len(X)
    fitted = set_up(unlearner).fit(X, y)
    with unchanged(name, fitted, X, "when forget is refused"):
        for forget in (
            np.array([0, 5, 7]),
            np.arange(n_rows),
            np.zeros(n_rows - 1, dtype=bool),
            np.zeros((n_rows, 1), dtype=bool),
            np.ones(n_rows),
            ["yes"] * n_rows,
            True,
        ):
            for method in (fitted.unlearn, fitted.fit):
                promise = (
                    f"{name}.{method.__name__} must raise a ValueError about forget where it is "
                    f"not a boolean mask of shape ({n_rows},), as with {reprlib.repr(forget)}"
                )
                with refuses(promise, "forget"):
                    method(X, y, **request | {"forget": forget})


@contract
def check_nothing_to_forget(name, unlearner):
    """A mask that is False everywhere is a plain fit with a warning; `unlearn` refuses it."""
    X, y, request = make_problem(unlearner)
    request["forget"] = np.zeros(len(X), dtype=bool)
    fitted = set_up(unlearner)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted.fit(X, y, **request)
    assert any("forget" in str(warning.message) for warning in caught), (
        f"{name}.fit must warn where forget marks no row"
    )
    assert not hasattr(fitted, "unlearning_history_"), (
        f"{name}.fit must not unlearn where forget marks no row"
    )
    with (
        unchanged(name, fitted, X, "when there is nothing to forget"),
        refuses(f"{name}.unlearn must raise a ValueError where forget marks no row", "forget"),
    ):
        fitted.unlearn(X, y, **request)


@contract
def check_nothing_to_retain(name, unlearner):
    """A mask that is True everywhere is refused where retained rows are needed, else it works."""
    X, y, request = make_problem(unlearner)
    request["forget"] = np.ones(len(X), dtype=bool)
    fitted = set_up(unlearner).fit(X, y)
    if "retain" not in unlearner._needs():
        fitted.unlearn(X, y, **request)
        return
    promise = f"{name} needs retained rows and must raise a ValueError that says so without any"
    with (
        unchanged(name, fitted, X, "when there is nothing to retain"),
        refuses(promise, "retain"),
    ):
        fitted.unlearn(X, y, **request)


@contract
def check_mask_decides(name, unlearner):
    """Two requests for other rows have other results."""
    X, y, request = make_problem(unlearner)
    fitted = _ready(unlearner)
    results = [
        weights_of(clone(fitted).fit(X, y, **request | {"forget": forget}))
        for forget in (request["forget"], np.roll(request["forget"], 1))
    ]
    assert not same_weights(*results), (
        f"{name} must forget the rows that forget marks; it ignores forget"
    )


@contract
def check_needs_are_honest(name, unlearner):
    """What is not among the `needs` has no effect; held-out rows among them are asked for."""
    needs = unlearner._needs()
    assert needs <= NEEDS, f"{name}.needs must be out of {sorted(NEEDS)}; got {sorted(needs)}"
    X, y, request = make_problem(unlearner)
    forget = request["forget"]
    model = _ready(unlearner)
    if "val" in needs:
        with refuses(f"{name} needs held-out rows and must say so without any", "X_val"):
            clone(model).fit(X, y, forget=forget)
    expected = weights_of(model.fit(X, y, **request))
    if "forget" not in needs:
        other = X.copy()
        other[forget] = 1 - other[forget]
        assert same_weights(weights_of(clone(model).fit(other, y, **request)), expected), (
            f"{name} does not list 'forget' among its needs, but the contents of the rows to "
            "forget change what it does"
        )
    if "forget_labels" not in needs:
        other = np.where(forget, (y + 1) % 3, y)
        assert same_weights(weights_of(clone(model).fit(X, other, **request)), expected), (
            f"{name} does not list 'forget_labels' among its needs, but the labels of the rows to "
            "forget change what it does"
        )


def _ready(unlearner):
    """The unlearner with what it needs of an original, so that `fit` only unlearns."""
    return set_up(
        unlearner, FrozenEstimator(trained_network()) if starts_from_original(unlearner) else None
    )
