"""Checks of what an unlearner leaves alone, and of what it does not keep."""

import pickle
import random
import tempfile

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import EpochScoring, LRScheduler

from skunlearn.utils.estimator_checks._tools import (
    CountTrainings,
    contract,
    global_state,
    make_held_out,
    make_network,
    make_problem,
    same_weights,
    set_up,
    starts_from_original,
    trained_network,
    weights_of,
)


@contract
def check_global_state_is_left_as_it_was(name, unlearner):
    """Global random generators, thread counts and settings are as before."""
    X, y, request = make_problem(unlearner)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        # Else a generator that was seeded just now could be seeded again without a trace.
        torch.rand(3), np.random.random(3), random.random()  # noqa: NPY002
        model = set_up(unlearner)
        for method, arguments in [(model.fit, {}), (model.unlearn, request | make_held_out())]:
            before = global_state()
            method(X, y, **arguments)
            after = global_state()
            changed = [what for what in before if before[what] != after[what]]
            assert not changed, f"{name}.{method.__name__} must leave {' and '.join(changed)} alone"
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


@contract(where=starts_from_original)
def check_frozen_network_is_left_untouched(name, unlearner):
    """A network in a FrozenEstimator is neither trained nor changed, and shares no weight."""
    X, y, request = make_problem(unlearner)
    for as_instance in (False, True):
        net = trained_network(as_instance)
        before, n_epochs = weights_of(net), len(net.history)
        model = set_up(unlearner, FrozenEstimator(net))
        results = [weights_of(clone(model).unlearn(X, y, **request)), weights_of(model.fit(X, y))]
        assert (same_weights(before, weights_of(net)), len(net.history)) == (True, n_epochs), (
            f"{name} must not change the network in a FrozenEstimator; work on "
            "self._copy(request.original)"
        )
        assert not same_weights(before, results[0]), f"{name} must unlearn a frozen network"
        assert same_weights(before, results[1]), f"{name}.fit must not train a frozen network"
        assert model.estimator_.module_ is not net.module_, f"{name} must copy a frozen network"


@contract
def check_users_network_is_never_changed(name, unlearner):
    """The network that was handed in stays uninitialised, with the parameters that it had."""
    X, y, request = make_problem(unlearner)
    net = make_network(callbacks=[EpochScoring("accuracy", on_train=True)])
    before = vars(net).copy()
    set_up(unlearner, net).fit(X, y, **request)
    after = vars(net)
    changed = {key for key in before | after if before.get(key) is not after.get(key)}
    assert not changed, (
        f"{name} must train a clone of estimator, which stays as it was; {sorted(changed)} changed"
    )


@contract
def check_pickle_keeps_no_forgotten_row_and_no_original_weight(name, unlearner):
    """After `unlearn`, a pickle holds neither rows to forget nor weights of the original."""
    X, y, request = make_problem(unlearner)
    callbacks = [LRScheduler(), ("accuracy", EpochScoring("accuracy", on_train=True))]
    models = [set_up(unlearner, make_network(callbacks=callbacks)).fit(X, y)]
    if starts_from_original(unlearner):
        models.append(set_up(unlearner, FrozenEstimator(trained_network())))
    for model in models:
        old = weights_of(model if hasattr(model, "classes_") else model.estimator.estimator)
        model.unlearn(X, y, **request | make_held_out())
        new, pickled = weights_of(model), pickle.dumps(model)
        # What a method leaves alone by definition, such as the first layers, it may keep.
        for key in old:
            for was, is_now in zip(_windows(old[key]), _windows(new[key])):
                assert was == is_now or was not in pickled, (
                    f"{name} must not keep weights of the original, but a pickle has those of {key}"
                )
        for row in X[request["forget"]]:
            assert not any(row.astype(dtype).tobytes() in pickled for dtype in ("f4", "f8")), (
                f"{name} must not keep rows to forget, but a pickle has one"
            )
        again = pickle.loads(pickled)
        assert np.array_equal(again.predict_proba(X), model.predict_proba(X)), (
            f"{name} must predict the same after pickling"
        )
        again.unlearn(X, y, **request)


def _windows(tensor, n_bytes=32):
    """Byte strings long enough to be found only where the values are kept."""
    raw = tensor.numpy().tobytes()
    return [raw[i : i + n_bytes] for i in range(0, len(raw) - n_bytes + 1, n_bytes)]


@contract(where=starts_from_original)
def check_memory_trains_the_original_once(name, unlearner):
    """With `memory`, equal networks, rows and seeds share an original, and results are the same."""
    X, y, request = make_problem(unlearner)

    def fit(memory, **params):
        CountTrainings.n_rows.clear()
        net = make_network(callbacks=[CountTrainings], **{"max_epochs": 2} | params)
        model = set_up(unlearner, net).set_params(memory=memory).fit(X, y, **request)
        return weights_of(model), CountTrainings.n_rows.count(len(X))

    with tempfile.TemporaryDirectory() as folder:
        plain, first, again = fit(None), fit(folder), fit(folder)
        assert (first[1], again[1]) == (plain[1], plain[1] - 1), (
            f"{name} must train the original once where memory is given"
        )
        for cached in (first, again):
            assert same_weights(plain[0], cached[0]), (
                f"{name} must do the same with memory as without"
            )
        assert fit(folder, batch_size=8)[1] == plain[1], (
            f"{name} must train another original for another network"
        )
