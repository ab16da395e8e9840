"""What modules keep of the rows that went through them is gone after a run; states stay."""

import pickle
from collections import deque
from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skunlearn import FineTune, all_unlearners
from tests.networks import MLP, make_net

METHODS = [pytest.param(cls, id=name) for name, cls in all_unlearners()]


class Keeps(MLP):
    """Keeps its last input and its growing past, of training alone and with the graph too."""

    def __init__(self, n_features_in, n_classes):
        super().__init__(n_features_in, n_classes)
        self.past, self.few, self.inner = [], deque(maxlen=3), {}

    def forward(self, X):
        self.last = X
        self.past.append(X.detach())
        self.inner["rows"] = (X.detach().numpy().copy(), "note")
        if self.training:
            self.few.append(X)
        hidden = self.hidden(X)
        self.attention = hidden.softmax(dim=1)
        self.first = X[0]
        if hidden.requires_grad:
            hidden.register_hook(self.keep)
        return self.head(hidden)

    def keep(self, gradient):
        self.gradient = gradient


class Needs(MLP):
    """Its output depends on tensors that are no buffers: a constant and a running mean."""

    def __init__(self, n_features_in, n_classes):
        super().__init__(n_features_in, n_classes)
        self.shift = torch.full((n_features_in,), 0.5)
        self.mean = torch.zeros(n_features_in)

    def forward(self, X):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * X.mean(0)
        return super().forward(X + self.shift - self.mean)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(96, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int), np.arange(96) < 24


def fitted(cls, module, rows, **params):
    X, y, forget = rows
    net = make_net(module, module__n_features_in=4, module__n_classes=2, max_epochs=2)
    unlearner = cls(net, random_state=0, **params)
    return unlearner.fit(X, y, forget=forget, X_val=X[-10:] + 1, y_val=y[-10:])


def test_a_pickle_of_a_frozen_network_has_its_settings(rows):
    X, y, forget = rows
    net = make_net(module__n_features_in=4, module__n_classes=2, max_epochs=7, lr=0.05).fit(X, y)
    unlearner = FineTune(FrozenEstimator(net), max_epochs=2, lr=0.01, random_state=0)
    loaded = pickle.loads(pickle.dumps(unlearner.unlearn(X, y, forget=forget)))
    template = loaded.estimator.estimator
    assert (template.max_epochs, template.lr) == (7, 0.05)
    assert template.module_ is loaded.estimator_.module_
    again = [each.unlearn(X, y, forget=forget).predict_proba(X) for each in (unlearner, loaded)]
    np.testing.assert_array_equal(*again)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", METHODS)
def test_no_row_is_left_in_a_module_that_keeps_its_inputs(cls, rows):
    unlearner = fitted(cls, Keeps, rows)
    content = pickle.dumps(unlearner)
    X, _, forget = rows
    assert not [i for i in np.flatnonzero(forget) if X[i].tobytes() in content]
    if hasattr(unlearner, "estimator_"):
        module = unlearner.estimator_.module_
        kept = [module.last, module.attention, module.first, module.gradient, *module.past]
        assert not any(tensor.any() for tensor in kept)
        assert not any(tensor.any() for tensor in module.few)
        assert not module.inner["rows"][0].any()
        assert all(tensor.is_leaf for tensor in kept)
    expected = unlearner.predict_proba(X)
    np.testing.assert_array_equal(deepcopy(unlearner).predict_proba(X), expected)
    np.testing.assert_array_equal(pickle.loads(content).predict_proba(X), expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", METHODS)
def test_a_state_that_the_output_depends_on_stays(cls, rows):
    unlearner = fitted(cls, Needs, rows)
    for net in getattr(unlearner, "estimators_", None) or [unlearner.estimator_]:
        assert torch.equal(net.module_.shift, torch.full((4,), 0.5))
        assert net.module_.mean.any()
        assert not net.module_.mean.requires_grad


@pytest.mark.parametrize("cls", [cls for _, cls in all_unlearners()][:3])
def test_an_unlearner_is_copied_after_passes_with_gradients(cls, rows):
    X, y, _ = rows
    net = make_net(Keeps, module__n_features_in=4, module__n_classes=2, max_epochs=1)
    original = net.fit(X, y)
    original.module_(torch.as_tensor(X)).sum().backward()
    frozen = cls(FrozenEstimator(original), random_state=0).fit(X, y)
    frozen.estimator_.module_(torch.as_tensor(X)).sum().backward()
    np.testing.assert_array_equal(deepcopy(frozen).predict(X), frozen.predict(X))
    plain = cls(make_net(Keeps, max_epochs=1), random_state=0).fit(X, y)
    np.testing.assert_array_equal(deepcopy(plain).predict(X), plain.predict(X))


class Norm(MLP):
    def __init__(self, n_features_in, n_classes):
        super().__init__(n_features_in, n_classes)
        self.head = nn.utils.spectral_norm(self.head)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_weight_that_a_norm_computes_stays(rows):
    from skunlearn import FineTune

    module = fitted(FineTune, Norm, rows).estimator_.module_
    assert module.head.weight.any()
