"""Checks of hyperparameters: stored untouched, checked before training, passed on."""

import inspect
import numbers

import numpy as np
from sklearn.base import clone

from skunlearn.utils.estimator_checks._tools import (
    Passes,
    contract,
    make_network,
    make_problem,
    networks_of,
    refuses,
    set_up,
)


@contract
def check_hyperparameters_are_stored_untouched(name, unlearner):
    """Everything after `estimator` is keyword-only, stored as given; memory and seed are there."""
    first, *others = inspect.signature(type(unlearner)).parameters.values()
    assert first.name == "estimator", f"{name}'s first parameter must be estimator, not {first}"
    for parameter in others:
        assert parameter.kind is parameter.KEYWORD_ONLY, (
            f"{name}'s parameter {parameter.name} must be keyword-only: put a * after estimator"
        )
    missing = {"memory", "random_state"} - {parameter.name for parameter in others}
    assert not missing, f"{name} must take {sorted(missing)} and hand it to BaseUnlearner"
    for value in (object(), None):
        made = type(unlearner)(**dict.fromkeys(["estimator", *(p.name for p in others)], value))
        for parameter in (first, *others):
            assert getattr(made, parameter.name, made) is value, (
                f"{name} must store {parameter.name} untouched; checks belong into "
                "_check_hyperparameters"
            )


@contract
def check_hyperparameters_are_checked_before_training(name, unlearner):
    """A hyperparameter that makes no sense is a ValueError that names it; nothing is trained."""
    X, y, request = make_problem(unlearner)
    params = unlearner.get_params(deep=False)
    wrong = {"lr": 0, "max_epochs": 0, "batch_size": 1.5, "optimizer": "sgd"}
    wrong = {key: value for key, value in wrong.items() if key in params}
    for key, value in params.items():
        if isinstance(value, numbers.Number) and not isinstance(value, bool):
            wrong.setdefault(key, np.nan)
    for key in ("random_state", "n_jobs", "verbose"):
        wrong.pop(key, None)
    for key, value in wrong.items():
        with Passes.fail(None, None):
            with refuses(f"{name} must raise a ValueError for {key}={value!r}", key):
                set_up(unlearner, **{key: value}).fit(X, y, **request)
            assert Passes.count == 0, (
                f"{name} must refuse {key}={value!r} before anything is trained"
            )


@contract
def check_parameters_reach_the_module(name, unlearner):
    """``estimator__module__...`` is seen by get_params, set_params and clone, and has effect."""
    X, y, request = make_problem(unlearner)
    model = set_up(unlearner, make_network(module__width=6))
    assert model.get_params()["estimator__module__width"] == 6, (
        f"{name}.get_params must reach estimator__module__..."
    )
    model = clone(model).set_params(estimator__module__width=5, estimator__lr=0.05)
    model.fit(X, y, **request)
    assert {net.module_.head.in_features for net in networks_of(model)} == {5}, (
        f"{name} must build the module with estimator__module__..."
    )
    assert model.estimator.lr == 0.05, f"{name}.set_params must reach estimator__..."
