"""What the checks work with: networks, rows, and ways to say what was promised."""

import contextlib
import functools
import pickle
import random
import re
import warnings
from copy import deepcopy

import numpy as np
import sklearn
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from skunlearn.base import BaseUnlearner

NEEDS = {"original", "retain", "forget", "forget_labels", "val"}


def contract(check=None, *, where=lambda unlearner: True):
    """Make a function a check, which applies to the unlearners for which `where` is true."""
    if check is None:
        return functools.partial(contract, where=where)

    @functools.wraps(check)
    def quiet(name, unlearner):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # So few rows may rightly give a method something to say.
            warnings.filterwarnings("ignore", message=f"{re.escape(name)} ", category=UserWarning)
            check(name, unlearner)

    quiet.applies = where
    return quiet


def starts_from_original(unlearner):
    return "original" in unlearner._needs()


def trains_in_a_run(unlearner):
    return "max_epochs" in unlearner.get_params(deep=False)


class Passes:
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


class Network(nn.Module):
    """A hidden layer with batch normalisation; its forward passes are counted."""

    def __init__(self, n_features_in, n_classes, width=8):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(n_features_in, width), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.head = nn.Linear(width, n_classes)

    def forward(self, X):
        Passes.note()
        return self.head(self.hidden(X))


class ImageNetwork(nn.Module):
    """A convolution with batch normalisation, for images of 6 x 6."""

    def __init__(self, n_classes):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(4 * 6 * 6, n_classes)

    def forward(self, X):
        return self.head(self.hidden(X))


def logit(n_features_in):
    """A linear module with one output."""
    return nn.Linear(n_features_in, 1)


class CountTrainings(Callback):
    """Notes the number of rows of each training."""

    n_rows: list = []  # noqa: RUF012

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.n_rows.append(len(X))


class SeeBatches(Callback):
    """Notes the network at each batch, and whether it is one of training."""

    seen: list = []  # noqa: RUF012

    def on_batch_end(self, net, training=False, **kwargs):
        self.seen.append((net, training))


def make_network(module=Network, cls=NeuralNetClassifier, **params):
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


def set_up(unlearner, net=None, **params):
    """A clone with a network of the checks' own."""
    net = make_network() if net is None else net
    return clone(unlearner).set_params(estimator=net, memory=None, random_state=0, **params)


def make_problem(unlearner):
    """Rows, their labels, and what else a request of this unlearner is made of."""
    X, y = make_rows(0, 120)
    request = {"forget": np.arange(120) % 8 == 0}
    return X, y, request | make_held_out() if "val" in unlearner._needs() else request


def make_rows(seed, n_rows):
    X = np.random.default_rng(seed).normal(size=(n_rows, 8)).astype(np.float32)
    return X, X[:, :3].argmax(axis=1)


def make_held_out():
    return dict(zip(("X_val", "y_val"), make_rows(1, 40)))


@functools.cache
def train_once(as_instance):
    net = make_network(Network(8, 3) if as_instance else Network)
    if not as_instance:
        net.set_params(module__n_features_in=8, module__n_classes=3)
    return net.fit(*make_rows(0, 120))


def trained_network(as_instance=False):
    """A network trained by skorch alone."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        return deepcopy(train_once(as_instance))


def networks_of(fitted):
    """The networks that a fitted unlearner predicts with; of a network, itself."""
    return fitted._networks() if isinstance(fitted, BaseUnlearner) else [fitted]


def weights_of(fitted):
    return {
        f"{i}.{name}": value.clone()
        for i, net in enumerate(networks_of(fitted))
        for name, value in net.module_.state_dict().items()
    }


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class refuses:
    """Fail unless the block raises an error that says one of the words."""

    def __init__(self, promise, *words, error=ValueError):
        self.promise = promise
        self.words = words
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, kind, raised, trace):
        if raised is None:
            raise AssertionError(f"{self.promise}; it raised nothing")
        if not isinstance(raised, self.error):
            if not isinstance(raised, Exception):
                return False  # Ctrl-C is no answer
            got = f"{kind.__name__}: {raised}"
            raise AssertionError(f"{self.promise}; got {got}") from raised
        if self.words and not any(word in str(raised) for word in self.words):
            raise AssertionError(
                f"{self.promise}; its message has none of {', '.join(self.words)}: {raised}"
            ) from raised
        return True


@contextlib.contextmanager
def unchanged(name, fitted, X, when):
    """Fail if the block changes what a fitted unlearner holds or answers."""
    before, proba = vars(fitted).copy(), fitted.predict_proba(X)
    yield
    after = vars(fitted)
    changed = {key for key in before | after if before.get(key) is not after.get(key)}
    assert not changed, f"{name} must stay as it was {when}; {sorted(changed)} changed"
    assert np.array_equal(proba, fitted.predict_proba(X)), (
        f"{name} must stay as it was {when}; what it predicts changed"
    )


def global_state():
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
