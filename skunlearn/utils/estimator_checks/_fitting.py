"""Checks of `fit` and `unlearn`: what they train, that they repeat, and that they can fail."""

import contextlib
import io
from copy import deepcopy

import numpy as np
from sklearn.base import clone
from skorch.callbacks import EpochScoring, LRScheduler, ProgressBar
from skorch.dataset import ValidSplit
from skorch.history import History

from skunlearn.methods.base import NetworkUnlearner
from skunlearn.methods.finetune import FineTune
from skunlearn.utils.estimator_checks._tools import (
    Passes,
    SeeBatches,
    contract,
    make_held_out,
    make_network,
    make_problem,
    refuses,
    same_weights,
    set_up,
    starts_from_original,
    trains_in_a_run,
    unchanged,
    weights_of,
)


@contract
def check_plain_fit(name, unlearner):
    """Without `forget`, `fit` trains the original, the same whatever the method."""
    X, y, _ = make_problem(unlearner)
    fitted = set_up(unlearner)
    assert fitted.fit(X, y) is fitted, f"{name}.fit must return self"
    assert fitted.classes_.tolist() == [0, 1, 2], f"{name} must have the sorted labels as classes_"
    assert fitted.score(X, y) > 0.6, f"{name}.fit must train on all rows where forget is None"
    assert not hasattr(fitted, "unlearning_history_"), (
        f"{name}.fit must not unlearn where forget is None"
    )
    if isinstance(fitted, NetworkUnlearner):
        original = FineTune(make_network(), random_state=0).fit(X, y)
        assert same_weights(weights_of(fitted), weights_of(original)), (
            f"{name}.fit without forget must train what every other unlearner trains with the same "
            "network, rows and random_state"
        )


@contract
def check_unlearning_changes_the_network_and_repeats(name, unlearner):
    """`fit` with `forget` is `fit`, then `unlearn`; a seed gives the same bits, another others."""
    X, y, request = make_problem(unlearner)
    steps = set_up(unlearner).fit(X, y)
    original = weights_of(steps)
    assert steps.unlearn(X, y, **request) is steps, f"{name}.unlearn must return self"
    unlearned = weights_of(steps)
    assert not same_weights(original, unlearned), (
        f"{name}.unlearn must change the network; every weight is that of the original"
    )
    assert same_weights(unlearned, weights_of(clone(steps).fit(X, y, **request))), (
        f"{name}.fit with forget must be, bit for bit, fit and then unlearn with the same "
        "random_state; draw from the global generators, which are seeded meanwhile"
    )
    other = clone(steps).set_params(random_state=1).fit(X, y, **request)
    assert not same_weights(unlearned, weights_of(other)), f"{name} must depend on random_state"


@contract
def check_requests_can_follow_one_another(name, unlearner):
    """`unlearn` can be called again, with the rows that are left."""
    X, y, request = make_problem(unlearner)
    kept = ~request["forget"]
    fitted = set_up(unlearner).fit(X, y).unlearn(X, y, **request)
    first = weights_of(fitted)
    request["forget"] = np.arange(kept.sum()) < 5
    fitted.unlearn(X[kept], y[kept], **request)
    assert not same_weights(first, weights_of(fitted)), f"{name} must unlearn when asked again"


@contract
def check_a_class_may_vanish(name, unlearner):
    """`classes_` and the columns of `predict_proba` stay when a whole class is forgotten."""
    X, y, _ = make_problem(unlearner)
    fitted = set_up(unlearner, make_network(callbacks=[EpochScoring("accuracy")]))
    fitted.fit(X, y, forget=y == 2, **make_held_out())
    assert fitted.classes_.tolist() == [0, 1, 2], f"{name} must keep classes_"
    assert fitted.predict_proba(X).shape == (120, 3), f"{name} must keep a column per class"


@contract
def check_interrupted_unlearning_changes_nothing(name, unlearner):
    """After an error or Ctrl-C in the middle, or at the end, it is as if nothing was asked."""
    X, y, request = make_problem(unlearner)
    fitted = set_up(unlearner).fit(X, y)
    with Passes.fail(None, None):
        expected = weights_of(deepcopy(fitted).unlearn(X, y, **request))
        n_passes = Passes.count
    runs = [
        (fitted.unlearn, X, request, (n_passes + 1) // 2, KeyboardInterrupt()),
        (fitted.unlearn, X, request, n_passes, RuntimeError("raised by the check")),
        (fitted.fit, X[:, :7], {}, 3, KeyboardInterrupt()),
    ]
    for method, rows, arguments, at, error in runs:
        if at > 0:  # a method may do without a forward pass
            what = f"when {method.__name__} ends in a {type(error).__name__}"
            with (
                unchanged(name, fitted, X, what),
                Passes.fail(at, error),
                refuses(f"{name} must not go on {what}", error=type(error)),
            ):
                method(rows, y, **arguments)
    assert same_weights(expected, weights_of(fitted.unlearn(X, y, **request))), (
        f"{name} must stay as it was when unlearn is interrupted; the next unlearn went otherwise"
    )


@contract
def check_history(name, unlearner):
    """`unlearning_history_` is a skorch History of the last run, absent where there was none."""
    X, y, request = make_problem(unlearner)
    fitted = set_up(unlearner).fit(X, y, **request)
    assert isinstance(getattr(fitted, "unlearning_history_", None), History), (
        f"{name} must have a skorch History as unlearning_history_ after it has unlearned"
    )
    fitted.fit(X, y)
    assert not hasattr(fitted, "unlearning_history_"), (
        f"{name} must not keep unlearning_history_ when it is fitted again"
    )


@contract(where=trains_in_a_run)
def check_an_unlearning_run_is_a_skorch_run(name, unlearner):
    """The network's callbacks, scores and schedules work while it unlearns."""
    X, y, request = make_problem(unlearner)
    SeeBatches.seen.clear()
    net = make_network(
        callbacks=[
            ProgressBar(detect_notebook=False),  # that of notebooks needs ipywidgets
            SeeBatches,
            LRScheduler("StepLR", step_size=1),
            EpochScoring("accuracy", name="unseen_acc", lower_is_better=False),
        ],
        max_epochs=2,
    )
    with contextlib.redirect_stderr(io.StringIO()):
        fitted = set_up(unlearner, net).fit(X, y, **request | make_held_out())
    seen = any(net is fitted.estimator_ and training for net, training in SeeBatches.seen)
    SeeBatches.seen.clear()
    assert seen, f"{name} must notify the network's callbacks of its training batches"
    history = fitted.unlearning_history_
    assert history is fitted.estimator_.history, f"{name} must have its network's history"
    wanted = {"train_loss", "dur"}
    if starts_from_original(unlearner):  # others train as the original was trained
        wanted |= {"valid_loss", "unseen_acc"}
    assert wanted <= set(history[-1]), f"{name} must note {sorted(wanted)} of every epoch"
    assert type(fitted.estimator_) is type(net), f"{name} must return a {type(net).__name__}"


@contract(where=trains_in_a_run)
def check_the_networks_own_validation_split_is_used(name, unlearner):
    """Without held-out rows, those that the network's `train_split` sets aside validate the run."""
    X, y, request = make_problem(unlearner)
    if "val" in unlearner._needs():
        return
    net = make_network(train_split=ValidSplit(4, stratified=True))
    fitted = set_up(unlearner, net).fit(X, y, **request)
    assert "valid_acc" in fitted.unlearning_history_[-1], f"{name} must validate on train_split"
