"""Checks of the contract of an unlearner, for those who write one; the package's own pass them.

Every check is a function ``check_<behaviour>(name, unlearner)`` that raises an `AssertionError`
saying what was promised, or lets through the error that the unlearner has raised.
"""

import contextlib
import functools
import inspect
import io
import numbers
import pickle
import random
import re
import reprlib
import tempfile
import warnings
from copy import deepcopy

import numpy as np
import sklearn
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, EpochScoring, LRScheduler, ProgressBar
from skorch.dataset import ValidSplit
from skorch.history import History
from torch import nn
from torch.utils.data import TensorDataset

from skunlearn.base import BaseUnlearner
from skunlearn.methods.finetune import FineTune

__all__ = ["check_unlearner", "parametrize_with_unlearning_checks"]

_CHECKS = []

_NEEDS = {"original", "retain", "forget", "forget_labels", "val"}


def parametrize_with_unlearning_checks(estimators, *, expected_failed_checks=None):
    """Decorate a pytest test so that it runs every check on every unlearner.

    The ids name the unlearner and the check, so that ``pytest -k`` chooses among them.

    Parameters
    ----------
    estimators : list of BaseUnlearner
        The unlearners, as instances. Each is cloned, and its `estimator` replaced by small networks
        of the checks' own, so that None will do: their hyperparameters must suit 120 rows of 8
        features, or of 6x6 pixels, and a network whose layers are called ``hidden`` and ``head``.
        `memory` and `random_state` are replaced too.
    expected_failed_checks : callable, default=None
        Takes an unlearner and returns a dict from the names of the checks that it is known to fail
        to the reasons. These are marked ``xfail``.

    Returns
    -------
    decorator : `pytest.mark.parametrize`
        For a test with the arguments ``estimator`` and ``check``.

    Raises
    ------
    TypeError
        If one of `estimators` is not an instance of :class:`~skunlearn.BaseUnlearner`.

    See Also
    --------
    check_unlearner : The same without pytest.
    sklearn.utils.estimator_checks.parametrize_with_checks : What any classifier is held to; an
        unlearner with a network that learns small problems passes these too.

    Notes
    -----
    The checks are of what an unlearner promises to its user: which arguments it takes, what it
    leaves alone, what it repeats and what it does not keep. They do not measure how well it
    forgets; that is what :mod:`skunlearn.metrics` is for.

    Examples
    --------
    An unlearner of one's own, and all that its tests need:

    >>> from typing import ClassVar
    >>> import torch
    >>> from skunlearn import BaseUnlearner
    >>> from skunlearn.utils.estimator_checks import parametrize_with_unlearning_checks
    >>> class Blur(BaseUnlearner):
    ...     '''Blur the weights with noise, then train on the retained rows.'''
    ...
    ...     needs: ClassVar = frozenset({"original", "retain"})
    ...
    ...     def __init__(
    ...         self, estimator, *, noise=0.1, max_epochs=1, memory=None, random_state=None
    ...     ):
    ...         super().__init__(estimator, memory=memory, random_state=random_state)
    ...         self.noise = noise
    ...         self.max_epochs = max_epochs
    ...
    ...     def _check_hyperparameters(self):
    ...         super()._check_hyperparameters()
    ...         if not self.noise >= 0:
    ...             raise ValueError(f"noise must be at least 0; got {self.noise!r}.")
    ...
    ...     def _unlearn(self, request):
    ...         net = self._copy(request.original)
    ...         with torch.no_grad():
    ...             for parameter in net.module_.parameters():
    ...                 parameter += self.noise * torch.randn_like(parameter)
    ...         return self._train(net, request, (request.retain, None, net.max_epochs))
    >>> @parametrize_with_unlearning_checks([Blur(None)])
    ... def test_blur_keeps_the_contract(estimator, check):
    ...     check(estimator)
    """
    import pytest

    expected = expected_failed_checks or (lambda unlearner: {})
    params = []
    for unlearner in estimators:
        for check in _checks_of(unlearner):
            reason = expected(unlearner).get(check.func.__name__)
            marks = () if reason is None else pytest.mark.xfail(reason=reason)
            name = _describe(unlearner) + "-" + check.func.__name__
            params.append(pytest.param(unlearner, check, marks=marks, id=name))
    return pytest.mark.parametrize(("estimator", "check"), params)


def check_unlearner(estimator):
    """Run every check on an unlearner.

    Parameters
    ----------
    estimator : BaseUnlearner
        The unlearner, as an instance; it is not changed. Its `estimator` may be None: see
        :func:`parametrize_with_unlearning_checks`.

    Raises
    ------
    TypeError
        If `estimator` is not an instance of :class:`~skunlearn.BaseUnlearner`.
    AssertionError
        At the first check that fails, saying what an unlearner promises. An error that the
        unlearner raises where it should work is let through.

    See Also
    --------
    parametrize_with_unlearning_checks : Each check as a test of its own.
    sklearn.utils.estimator_checks.check_estimator : What any classifier is held to.

    Examples
    --------
    >>> from skunlearn import FineTune
    >>> from skunlearn.utils.estimator_checks import check_unlearner
    >>> check_unlearner(FineTune(None, max_epochs=2))
    """
    for check in _checks_of(estimator):
        check(estimator)


def _checks_of(unlearner):
    """The checks that apply to an unlearner, each awaiting it."""
    if not isinstance(unlearner, BaseUnlearner):
        raise TypeError(
            f"estimators must be instances of BaseUnlearner, such as FineTune(None); got "
            f"{unlearner!r}."
        )
    for check, applies in _CHECKS:
        if applies(unlearner):
            yield functools.partial(check, type(unlearner).__name__)


def _describe(unlearner):
    """The unlearner with the hyperparameters that are not the default ones, on one line."""
    plain = {"estimator": None, "memory": None, "random_state": None}
    params = {name: plain.get(name, value) for name, value in unlearner.get_params(False).items()}
    return re.sub(r"estimator=None,|,?\s*estimator=None|\s", "", repr(type(unlearner)(**params)))


def _contract(check=None, *, where=lambda unlearner: True):
    """Make a function one of the checks, for the unlearners for which `where` is true."""
    if check is None:
        return functools.partial(_contract, where=where)

    @functools.wraps(check)
    def quiet(name, unlearner):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # So few rows may rightly give a method something to say.
            warnings.filterwarnings("ignore", message=f"{re.escape(name)} ", category=UserWarning)
            check(name, unlearner)

    _CHECKS.append((quiet, where))
    return quiet


def _starts_from_original(unlearner):
    return "original" in unlearner._needs()


def _trains_in_a_run(unlearner):
    return "max_epochs" in unlearner.get_params(deep=False)


# -- what the checks work with ---------------------------------------------------------------------


class _Passes:
    """Counts the forward passes of the checks' networks, and makes one of them fail."""

    count = 0
    last = None
    error = None

    @classmethod
    def note(cls):
        cls.count += 1
        if cls.count == cls.last:
            raise cls.error

    @classmethod
    @contextlib.contextmanager
    def fail(cls, at, error):
        cls.count, cls.last, cls.error = 0, at, error
        try:
            yield
        finally:
            cls.last = cls.error = None


class _Network(nn.Module):
    def __init__(self, n_features_in, n_classes, width=8):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(n_features_in, width), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.head = nn.Linear(width, n_classes)

    def forward(self, X):
        _Passes.note()
        return self.head(self.hidden(X))


class _ImageNetwork(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(4 * 6 * 6, n_classes)

    def forward(self, X):
        return self.head(self.hidden(X))


def _logit(n_features_in):
    return nn.Linear(n_features_in, 1)


class _CountTrainings(Callback):
    n_rows: list = []  # noqa: RUF012

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.n_rows.append(len(X))


class _SeeBatches(Callback):
    seen: list = []  # noqa: RUF012

    def on_batch_end(self, net, training=False, **kwargs):
        self.seen.append((net, training))


def _network(module=_Network, cls=NeuralNetClassifier, **params):
    """A network that learns the rows of the checks in a fraction of a second."""
    defaults = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer__momentum": 0.9,
        "lr": 0.1,
        "max_epochs": 5,
        "batch_size": 16,
        "train_split": None,
        "iterator_train__shuffle": True,
        "verbose": 0,
    }
    return cls(module, **(defaults | params))


def _set_up(unlearner, net=None, **params):
    """A clone with a network of the checks' own."""
    net = _network() if net is None else net
    return clone(unlearner).set_params(estimator=net, memory=None, random_state=0, **params)


def _problem(unlearner):
    """Rows, their labels, and what else a request of this unlearner is made of."""
    X, y = _rows(0, 120)
    request = {"forget": np.arange(120) % 8 == 0}
    return X, y, request | _held_out() if "val" in unlearner._needs() else request


def _rows(seed, n_rows):
    X = np.random.default_rng(seed).normal(size=(n_rows, 8)).astype(np.float32)
    return X, X[:, :3].argmax(axis=1)


def _held_out():
    return dict(zip(("X_val", "y_val"), _rows(1, 40)))


@functools.cache
def _train(as_instance):
    net = _network(_Network(8, 3) if as_instance else _Network)
    if not as_instance:
        net.set_params(module__n_features_in=8, module__n_classes=3)
    return net.fit(*_rows(0, 120))


def _trained(as_instance=False):
    """A network trained by skorch alone."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        return deepcopy(_train(as_instance))


def _networks(fitted):
    """The networks that a fitted unlearner answers with; a network answers itself."""
    if hasattr(fitted, "module_"):
        return [fitted]
    found = fitted.estimators_ if hasattr(fitted, "estimators_") else [fitted.estimator_]
    return [net for net in found if net is not None]


def _weights(fitted):
    return {
        f"{i}.{name}": value.clone()
        for i, net in enumerate(_networks(fitted))
        for name, value in net.module_.state_dict().items()
    }


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@contextlib.contextmanager
def _refuses(promise, *words, error=ValueError):
    """Fail unless the block raises an error that says one of the words."""
    try:
        yield
    except error as raised:
        if words and not any(word in str(raised) for word in words):
            raise AssertionError(
                f"{promise}; its message has none of {', '.join(words)}: {raised}"
            ) from raised
    except Exception as raised:
        raise AssertionError(f"{promise}; got {type(raised).__name__}: {raised}") from raised
    else:
        raise AssertionError(f"{promise}; it raised nothing")


@contextlib.contextmanager
def _unchanged(name, fitted, X, when):
    """Fail if the block changes what a fitted unlearner holds or answers."""
    before, proba = vars(fitted).copy(), fitted.predict_proba(X)
    yield
    after = vars(fitted)
    changed = {key for key in before | after if before.get(key) is not after.get(key)}
    assert not changed, f"{name} must stay as it was {when}; {sorted(changed)} changed"
    assert np.array_equal(proba, fitted.predict_proba(X)), (
        f"{name} must stay as it was {when}; what it predicts changed"
    )


def _global_state():
    return {
        "torch's random generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random generator": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "Python's random generator": random.getstate(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "scikit-learn's configuration": sklearn.get_config(),
    }


# -- hyperparameters -------------------------------------------------------------------------------


@_contract
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


@_contract
def check_hyperparameters_are_checked_before_training(name, unlearner):
    """A hyperparameter that makes no sense is a ValueError that names it; nothing is trained."""
    X, y, request = _problem(unlearner)
    params = unlearner.get_params(deep=False)
    wrong = {"lr": 0, "max_epochs": 0, "batch_size": 1.5, "optimizer": "sgd"}
    wrong = {key: value for key, value in wrong.items() if key in params}
    for key, value in params.items():
        if isinstance(value, numbers.Number) and not isinstance(value, bool):
            wrong.setdefault(key, np.nan)
    for key in ("random_state", "n_jobs", "verbose"):
        wrong.pop(key, None)
    for key, value in wrong.items():
        with _Passes.fail(None, None):
            with _refuses(f"{name} must raise a ValueError for {key}={value!r}", key):
                _set_up(unlearner, **{key: value}).fit(X, y, **request)
            assert _Passes.count == 0, (
                f"{name} must refuse {key}={value!r} before anything is trained"
            )


@_contract
def check_parameters_reach_the_module(name, unlearner):
    """``estimator__module__...`` is seen by get_params, set_params and clone, and has effect."""
    X, y, request = _problem(unlearner)
    model = _set_up(unlearner, _network(module__width=6))
    assert model.get_params()["estimator__module__width"] == 6, (
        f"{name}.get_params must reach estimator__module__..."
    )
    model = clone(model).set_params(estimator__module__width=5, estimator__lr=0.05)
    model.fit(X, y, **request)
    assert {net.module_.head.in_features for net in _networks(model)} == {5}, (
        f"{name} must build the module with estimator__module__..."
    )
    assert model.estimator.lr == 0.05, f"{name}.set_params must reach estimator__..."


# -- the forget mask -------------------------------------------------------------------------------


@_contract
def check_forget_must_be_a_mask(name, unlearner):
    """Whatever is not a boolean mask of shape (n_samples,) is a ValueError and changes nothing."""
    X, y, request = _problem(unlearner)
    n_rows = len(X)
    fitted = _set_up(unlearner).fit(X, y)
    with _unchanged(name, fitted, X, "when forget is refused"):
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
                with _refuses(promise, "forget"):
                    method(X, y, **request | {"forget": forget})


@_contract
def check_nothing_to_forget(name, unlearner):
    """A mask that is False everywhere is a plain fit with a warning; `unlearn` refuses it."""
    X, y, request = _problem(unlearner)
    request["forget"] = np.zeros(len(X), dtype=bool)
    fitted = _set_up(unlearner)
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
        _unchanged(name, fitted, X, "when there is nothing to forget"),
        _refuses(f"{name}.unlearn must raise a ValueError where forget marks no row", "forget"),
    ):
        fitted.unlearn(X, y, **request)


@_contract
def check_nothing_to_retain(name, unlearner):
    """A mask that is True everywhere is refused where retained rows are needed, else it works."""
    X, y, request = _problem(unlearner)
    request["forget"] = np.ones(len(X), dtype=bool)
    fitted = _set_up(unlearner).fit(X, y)
    if "retain" not in unlearner._needs():
        fitted.unlearn(X, y, **request)
        return
    promise = f"{name} needs retained rows and must raise a ValueError that says so without any"
    with (
        _unchanged(name, fitted, X, "when there is nothing to retain"),
        _refuses(promise, "retain"),
    ):
        fitted.unlearn(X, y, **request)


@_contract
def check_mask_decides(name, unlearner):
    """Two requests for other rows have other results."""
    X, y, request = _problem(unlearner)
    fitted = _ready(unlearner)
    results = [
        _weights(clone(fitted).fit(X, y, **request | {"forget": np.roll(request["forget"], shift)}))
        for shift in (0, 1)
    ]
    assert not _same(*results), f"{name} must forget the rows that forget marks; it ignores forget"


@_contract
def check_needs_are_honest(name, unlearner):
    """What is not among the `needs` has no effect; held-out rows among them are asked for."""
    needs = unlearner._needs()
    assert needs <= _NEEDS, f"{name}.needs must be out of {sorted(_NEEDS)}; got {sorted(needs)}"
    X, y, request = _problem(unlearner)
    forget = request["forget"]
    model = _ready(unlearner)
    if "val" in needs:
        with _refuses(f"{name} needs held-out rows and must say so without any", "X_val"):
            clone(model).fit(X, y, forget=forget)
    expected = _weights(model.fit(X, y, **request))
    if "forget" not in needs:
        other = X.copy()
        other[forget] = 1 - other[forget]
        assert _same(_weights(clone(model).fit(other, y, **request)), expected), (
            f"{name} does not list 'forget' among its needs, but the contents of the rows to "
            "forget change what it does"
        )
    if "forget_labels" not in needs:
        other = np.where(forget, (y + 1) % 3, y)
        assert _same(_weights(clone(model).fit(X, other, **request)), expected), (
            f"{name} does not list 'forget_labels' among its needs, but the labels of the rows to "
            "forget change what it does"
        )


def _ready(unlearner):
    """The unlearner with what it needs of an original, so that `fit` only unlearns."""
    return _set_up(
        unlearner, FrozenEstimator(_trained()) if _starts_from_original(unlearner) else None
    )


# -- fitting and unlearning ------------------------------------------------------------------------


@_contract
def check_plain_fit(name, unlearner):
    """Without `forget`, `fit` trains the original, the same whatever the method."""
    X, y, _ = _problem(unlearner)
    fitted = _set_up(unlearner)
    assert fitted.fit(X, y) is fitted, f"{name}.fit must return self"
    assert fitted.classes_.tolist() == [0, 1, 2], f"{name} must have the sorted labels as classes_"
    assert fitted.score(X, y) > 0.6, f"{name}.fit must train on all rows where forget is None"
    assert not hasattr(fitted, "unlearning_history_"), (
        f"{name}.fit must not unlearn where forget is None"
    )
    if hasattr(fitted, "estimator_"):
        original = FineTune(_network(), random_state=0).fit(X, y)
        assert _same(_weights(fitted), _weights(original)), (
            f"{name}.fit without forget must train what every other unlearner trains with the same "
            "network, rows and random_state"
        )


@_contract
def check_unlearning_changes_the_network_and_repeats(name, unlearner):
    """`fit` with `forget` is `fit`, then `unlearn`; a seed gives the same bits, another others."""
    X, y, request = _problem(unlearner)
    steps = _set_up(unlearner).fit(X, y)
    original = _weights(steps)
    assert steps.unlearn(X, y, **request) is steps, f"{name}.unlearn must return self"
    unlearned = _weights(steps)
    assert not _same(original, unlearned), (
        f"{name}.unlearn must change the network; every weight is that of the original"
    )
    assert _same(unlearned, _weights(clone(steps).fit(X, y, **request))), (
        f"{name}.fit with forget must be, bit for bit, fit and then unlearn with the same "
        "random_state; draw from the global generators, which are seeded meanwhile"
    )
    other = clone(steps).set_params(random_state=1).fit(X, y, **request)
    assert not _same(unlearned, _weights(other)), f"{name} must depend on random_state"


@_contract
def check_requests_can_follow_one_another(name, unlearner):
    """`unlearn` can be called again, with the rows that are left."""
    X, y, request = _problem(unlearner)
    kept = ~request["forget"]
    fitted = _set_up(unlearner).fit(X, y).unlearn(X, y, **request)
    first = _weights(fitted)
    request["forget"] = np.arange(kept.sum()) < 5
    fitted.unlearn(X[kept], y[kept], **request)
    assert not _same(first, _weights(fitted)), f"{name} must unlearn again when asked again"


@_contract
def check_a_class_may_vanish(name, unlearner):
    """`classes_` and the columns of `predict_proba` stay when a whole class is forgotten."""
    X, y, _ = _problem(unlearner)
    fitted = _set_up(unlearner, _network(callbacks=[EpochScoring("accuracy")]))
    fitted.fit(X, y, forget=y == 2, **_held_out())
    assert fitted.classes_.tolist() == [0, 1, 2], f"{name} must keep classes_"
    assert fitted.predict_proba(X).shape == (120, 3), f"{name} must keep a column per class"


@_contract
def check_interrupted_unlearning_changes_nothing(name, unlearner):
    """After an error or Ctrl-C in the middle, or at the end, it is as if nothing was asked."""
    X, y, request = _problem(unlearner)
    fitted = _set_up(unlearner).fit(X, y)
    with _Passes.fail(None, None):
        expected = _weights(deepcopy(fitted).unlearn(X, y, **request))
        n_passes = _Passes.count
    runs = [
        (fitted.unlearn, X, request, n_passes // 4, KeyboardInterrupt()),
        (fitted.unlearn, X, request, n_passes, RuntimeError("raised by the check")),
        (fitted.fit, X[:, :7], {}, 3, KeyboardInterrupt()),
    ]
    for method, rows, arguments, at, error in runs:
        if at > 0:  # a method may do without a forward pass
            what = f"when {method.__name__} ends in a {type(error).__name__}"
            with (
                _unchanged(name, fitted, X, what),
                _Passes.fail(at, error),
                _refuses(f"{name} must not go on {what}", error=type(error)),
            ):
                method(rows, y, **arguments)
    assert _same(expected, _weights(fitted.unlearn(X, y, **request))), (
        f"{name} must stay as it was when unlearn is interrupted; the next unlearn went otherwise"
    )


@_contract
def check_history(name, unlearner):
    """`unlearning_history_` is a skorch History of the last run, absent where there was none."""
    X, y, request = _problem(unlearner)
    fitted = _set_up(unlearner).fit(X, y, **request)
    assert isinstance(getattr(fitted, "unlearning_history_", None), History), (
        f"{name} must have a skorch History as unlearning_history_ after it has unlearned"
    )
    fitted.fit(X, y)
    assert not hasattr(fitted, "unlearning_history_"), (
        f"{name} must not keep unlearning_history_ when it is fitted anew"
    )


@_contract(where=_trains_in_a_run)
def check_an_unlearning_run_is_a_skorch_run(name, unlearner):
    """The network's callbacks, scores and schedules work while it unlearns."""
    X, y, request = _problem(unlearner)
    _SeeBatches.seen.clear()
    net = _network(
        callbacks=[
            ProgressBar(),
            _SeeBatches,
            LRScheduler("StepLR", step_size=1),
            EpochScoring("accuracy", name="unseen_acc", lower_is_better=False),
        ],
        max_epochs=2,
    )
    with contextlib.redirect_stderr(io.StringIO()):
        fitted = _set_up(unlearner, net).fit(X, y, **request | _held_out())
    seen = any(net is fitted.estimator_ and training for net, training in _SeeBatches.seen)
    _SeeBatches.seen.clear()
    assert seen, f"{name} must notify the network's callbacks of its training batches"
    history = fitted.unlearning_history_
    assert history is fitted.estimator_.history, f"{name} must have its network's history"
    wanted = {"train_loss", "dur"}
    if _starts_from_original(unlearner):  # others train as the original was trained
        wanted |= {"valid_loss", "unseen_acc"}
    assert wanted <= set(history[-1]), f"{name} must note {sorted(wanted)} of every epoch"
    assert type(fitted.estimator_) is type(net), f"{name} must return a {type(net).__name__}"


@_contract(where=_trains_in_a_run)
def check_the_networks_own_validation_split_is_used(name, unlearner):
    """Without held-out rows, those that the network's `train_split` sets aside validate the run."""
    X, y, request = _problem(unlearner)
    if "val" in unlearner._needs():
        return
    net = _network(train_split=ValidSplit(4, stratified=True))
    fitted = _set_up(unlearner, net).fit(X, y, **request)
    assert "valid_acc" in fitted.unlearning_history_[-1], f"{name} must validate on train_split"


# -- what is left alone, and what is not kept ------------------------------------------------------


@_contract
def check_global_state_is_left_as_it_was(name, unlearner):
    """Global random generators, thread counts and settings are as before."""
    X, y, request = _problem(unlearner)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        # Else a generator that was seeded just now could be seeded again without a trace.
        torch.rand(3), np.random.random(3), random.random()  # noqa: NPY002
        model = _set_up(unlearner)
        for method, arguments in [(model.fit, {}), (model.unlearn, request | _held_out())]:
            before = _global_state()
            method(X, y, **arguments)
            after = _global_state()
            changed = [what for what in before if before[what] != after[what]]
            assert not changed, f"{name}.{method.__name__} must leave {' and '.join(changed)} alone"
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


@_contract(where=_starts_from_original)
def check_frozen_network_is_left_untouched(name, unlearner):
    """A network in a FrozenEstimator is neither trained nor changed, and shares no weight."""
    X, y, request = _problem(unlearner)
    for as_instance in (False, True):
        net = _trained(as_instance)
        before, n_epochs = _weights(net), len(net.history)
        model = _set_up(unlearner, FrozenEstimator(net))
        results = [_weights(clone(model).unlearn(X, y, **request)), _weights(model.fit(X, y))]
        assert (_same(before, _weights(net)), len(net.history)) == (True, n_epochs), (
            f"{name} must not change the network in a FrozenEstimator; work on "
            "self._copy(request.original)"
        )
        assert not _same(before, results[0]), f"{name} must unlearn a network that is frozen"
        assert _same(before, results[1]), f"{name}.fit must not train a network that is frozen"
        assert model.estimator_.module_ is not net.module_, f"{name} must copy a frozen network"


@_contract
def check_users_network_is_never_changed(name, unlearner):
    """The network that was handed in stays uninitialised, with the parameters that it had."""
    X, y, request = _problem(unlearner)
    net = _network(callbacks=[EpochScoring("accuracy", on_train=True)])
    before = vars(net).copy()
    _set_up(unlearner, net).fit(X, y, **request)
    after = vars(net)
    changed = {key for key in before | after if before.get(key) is not after.get(key)}
    assert not changed, (
        f"{name} must train a clone of estimator, which stays as it was; {sorted(changed)} changed"
    )


@_contract
def check_pickle_keeps_no_forgotten_row_and_no_original_weight(name, unlearner):
    """After `unlearn`, a pickle holds neither rows to forget nor weights of the original."""
    X, y, request = _problem(unlearner)
    callbacks = [LRScheduler(), ("accuracy", EpochScoring("accuracy", on_train=True))]
    models = [_set_up(unlearner, _network(callbacks=callbacks)).fit(X, y)]
    if _starts_from_original(unlearner):
        models.append(_set_up(unlearner, FrozenEstimator(_trained())))
    for model in models:
        old = _weights(model if hasattr(model, "classes_") else model.estimator.estimator)
        model.unlearn(X, y, **request | _held_out())
        new, pickled = _weights(model), pickle.dumps(model)
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


@_contract(where=_starts_from_original)
def check_memory_trains_the_original_once(name, unlearner):
    """With `memory`, equal networks, rows and seeds share an original, and results are the same."""
    X, y, request = _problem(unlearner)

    def fit(memory, **params):
        _CountTrainings.n_rows.clear()
        net = _network(callbacks=[_CountTrainings], **{"max_epochs": 2} | params)
        model = _set_up(unlearner, net).set_params(memory=memory).fit(X, y, **request)
        return _weights(model), _CountTrainings.n_rows.count(len(X))

    with tempfile.TemporaryDirectory() as folder:
        plain, first, again = fit(None), fit(folder), fit(folder)
        assert (first[1], again[1]) == (plain[1], plain[1] - 1), (
            f"{name} must train the original once where memory is given"
        )
        for cached in (first, again):
            assert _same(plain[0], cached[0]), f"{name} must give the same with memory as without"
        assert fit(folder, batch_size=8)[1] == plain[1], (
            f"{name} must train another original for another network"
        )


# -- rows, labels and networks of many kinds -------------------------------------------------------


@_contract
def check_inputs_of_many_kinds_give_the_same(name, unlearner):
    """Arrays, lists, tensors and frames give the same bits; labels may be strings."""
    X, y, request = _problem(unlearner)
    names = np.array(["ant", "bee", "cow"])
    model = _set_up(unlearner, _network(max_epochs=2))
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


@_contract
def check_images_and_data_sets(name, unlearner):
    """Images keep their shape, and a data set that yields pairs gives the same as its arrays."""
    _, y, request = _problem(unlearner)
    rng = np.random.default_rng(0)
    X = rng.random((120, 1, 6, 6)).astype(np.float16)
    if "X_val" in request:
        request["X_val"] = rng.random((40, 1, 6, 6)).astype(np.float16)
    # 120 = 7 * 17 + 1: a last batch of one row, which batch normalisation cannot train on.
    net = _network(_ImageNetwork, max_epochs=2, batch_size=17)
    fitted = _set_up(unlearner, net).fit(X, y, **request)
    assert fitted.predict(X).shape == (120,), f"{name} must predict a label per image"
    data = TensorDataset(torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y))
    lazily = _set_up(unlearner, net).fit(data, **request)
    assert np.array_equal(lazily.predict_proba(data), fitted.predict_proba(X)), (
        f"{name} must give the same whether rows come as arrays or as a data set"
    )


@_contract
def check_binary_network(name, unlearner):
    """A NeuralNetBinaryClassifier, with one output, works like any other classifier."""
    X, y, request = _problem(unlearner)
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    held_out = _held_out()
    held_out["y_val"] = np.array(["no", "yes"])[(held_out["y_val"] > 0).astype(int)]
    net = _network(_logit, NeuralNetBinaryClassifier, criterion=nn.BCEWithLogitsLoss)
    fitted = _set_up(unlearner, net).fit(X, names)
    assert fitted.score(X, names) > 0.7, f"{name} must train a binary network"
    fitted.unlearn(X, names, **request | held_out)
    assert fitted.predict_proba(X).shape == (120, 2), f"{name} must keep a column per class"
    assert set(fitted.predict(X)) <= {"no", "yes"}, f"{name} must predict the labels it was given"


@_contract
def check_several_labels_per_row(name, unlearner):
    """Indicator matrices work where `multilabel` says so, and are refused elsewhere."""
    X, _, request = _problem(unlearner)
    Y = np.stack([X[:, 0] > 0, X[:, 1] > 0.3], axis=1).astype(int)
    held_out = _held_out()
    held_out["y_val"] = (held_out["X_val"][:, :2] > [0, 0.3]).astype(int)
    model = _set_up(unlearner, _network(criterion=nn.BCEWithLogitsLoss))
    if not unlearner.multilabel:
        promise = f"{name} has multilabel=False and must raise a ValueError for an indicator matrix"
        with _refuses(promise, "label"):
            model.fit(X, Y)
        return
    with _refuses(f"{name} must refuse indicators with CrossEntropyLoss", "indicator"):
        _set_up(unlearner).fit(X, Y)
    with _refuses(f"{name} must refuse single labels with BCEWithLogitsLoss", "indicator"):
        model.fit(X, Y[:, 0])
    assert (model.fit(X, Y).predict(X) == Y).mean() > 0.7, f"{name} must train on indicators"
    model.unlearn(X, Y, **request | held_out)
    assert model.predict(X).shape == model.predict_proba(X).shape == (120, 2), (
        f"{name} must keep a column per label"
    )


@_contract
def check_in_a_pipeline(name, unlearner):
    """A pipeline hands `forget` to its last step."""
    X, y, request = _problem(unlearner)
    pipe = make_pipeline(StandardScaler(), _set_up(unlearner))
    pipe.fit(X, y, **{f"{pipe.steps[-1][0]}__{key}": value for key, value in request.items()})
    assert hasattr(pipe[-1], "unlearning_history_"), f"{name} must unlearn in a pipeline"
    assert pipe.predict(X).shape == (120,), f"{name} must predict in a pipeline"


@_contract
def check_bad_rows_are_refused_and_nothing_is_lost(name, unlearner):
    """Rows and labels that cannot be right are a ValueError, and what was fitted stays."""
    X, y, request = _problem(unlearner)
    held_out = _held_out()
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
    fitted = _set_up(unlearner).fit(X, y)
    with _unchanged(name, fitted, X, "when rows are refused"):
        for what, (arguments, word) in cases.items():
            with _refuses(f"{name}.unlearn must raise a ValueError for {what}", word):
                fitted.unlearn(**{"X": X, "y": y} | request | arguments)
        with _refuses(f"{name}.fit must raise a ValueError for y of one class", "class"):
            fitted.fit(X, np.zeros(len(X)))
        with _refuses(f"{name}.fit must raise a ValueError for X with NaN", "NaN"):
            fitted.fit(broken, y)


@_contract
def check_unsuitable_estimators_are_refused(name, unlearner):
    """What cannot be trained as a classifier from fresh weights is a ValueError."""
    X, y, request = _problem(unlearner)
    for what, net in {
        "a transformer": StandardScaler(),
        "a regressor": _network(cls=NeuralNetRegressor),
        "a network with a regression loss": _network(criterion=nn.MSELoss),
        "a network on a module instance": _network(_Network(8, 3)),
        "a network with too many outputs": _network(module__n_classes=5),
    }.items():
        with _refuses(f"{name} must raise a ValueError if estimator is {what}", "estimator"):
            _set_up(unlearner, net).fit(X, y)
    for net in (_network(), FrozenEstimator(_network())):
        with _refuses(f"{name}.unlearn must raise a NotFittedError without a trained network"):
            _set_up(unlearner, net).unlearn(X, y, **request)
    with _refuses(f"{name}.predict must raise a NotFittedError before fit"):
        _set_up(unlearner).predict(X)
