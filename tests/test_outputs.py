"""What a network returns, what it keeps, and what its gradients and targets are made of."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from skunlearn import (
    AMUN,
    DLFD,
    SCRUB,
    SSD,
    BadTeacher,
    CFk,
    EUk,
    FineTune,
    L1Sparse,
    SalUn,
    all_unlearners,
)
from skunlearn._engine.predict import logits

from .networks import MLP, make_net

METHODS = [pytest.param(cls, id=name) for name, cls in all_unlearners()]


class OneColumn(nn.Module):
    def __init__(self, n_features_in, sigmoid=False):
        super().__init__()
        self.sigmoid = sigmoid
        self.body = nn.Sequential(nn.Linear(n_features_in, 8), nn.Tanh(), nn.Linear(8, 1))
        self.double()

    def forward(self, X):
        return self.body(X).sigmoid() if self.sigmoid else self.body(X)


class Probabilities(MLP):
    def forward(self, X):
        return super().forward(X).softmax(dim=1)


class Keeper(MLP):
    def forward(self, X):
        self.seen = [self.hidden(X)]
        return self.head(self.seen[0])


class OldNorm(MLP):
    def __init__(self, n_features_in, n_classes):
        super().__init__(n_features_in, n_classes)
        with pytest.warns(FutureWarning):
            self.head = nn.utils.weight_norm(self.head)


class NewNorm(MLP):
    norm = staticmethod(nn.utils.parametrizations.weight_norm)

    def __init__(self, n_features_in, n_classes):
        super().__init__(n_features_in, n_classes)
        self.head = self.norm(self.head)


class Spectral(NewNorm):
    norm = staticmethod(nn.utils.parametrizations.spectral_norm)


class OldSpectral(NewNorm):
    norm = staticmethod(nn.utils.spectral_norm)


class Tokens(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.words = nn.Embedding(10, 4, sparse=True)
        self.head = nn.Linear(4, n_classes)

    def forward(self, X):
        return self.head(self.words(X).mean(dim=1))


class Focal(nn.Module):
    def forward(self, output, y):
        loss = nn.functional.cross_entropy(output, y, reduction="none")
        return ((1 - torch.exp(-loss)) ** 2 * loss).mean()


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 4)).astype("float32")
    return X, (X[:, 0] + 0.5 * rng.normal(size=64) > 0).astype(int), np.arange(64) < 16


def unlearned(cls, net, rows):
    X, y, forget = rows
    return cls(net, random_state=0).fit(X, y).unlearn(X, y, forget=forget).predict_proba(X)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", METHODS)
def test_a_sigmoid_in_the_module_is_one_in_the_loss(cls, rows):
    probas = [
        unlearned(
            cls,
            NeuralNetBinaryClassifier(
                OneColumn,
                module__sigmoid=sigmoid,
                criterion=nn.BCELoss if sigmoid else nn.BCEWithLogitsLoss,
                lr=0.1,
                batch_size=16,
                max_epochs=5,
                train_split=None,
                verbose=0,
            ),
            rows,
        )
        for sigmoid in (False, True)
    ]
    np.testing.assert_allclose(*probas, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("module", [Keeper, OldNorm])
def test_tensors_that_a_module_keeps_are_no_hindrance(cls, module, rows):
    assert np.isfinite(unlearned(cls, make_net(module, max_epochs=1), rows)).all()


NORMS = [OldNorm, NewNorm, Spectral, OldSpectral]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", NORMS)
@pytest.mark.parametrize("method", [EUk, BadTeacher])
def test_normalised_weights_start_as_their_module_does(method, module, rows):
    X, y, forget = rows
    net = make_net(module, module__n_features_in=4, module__n_classes=2, max_epochs=2).fit(X, y)
    run = {"random_state": 0, "max_epochs": 1, "lr": 1e-12}
    model = method(FrozenEstimator(net), **run, **({"k": 1} if method is EUk else {}))
    model.unlearn(X, y, forget=forget)
    old, new = net.module_, model.estimator_.module_
    assert torch.allclose(old.hidden[0].weight, new.hidden[0].weight)
    if method is EUk:
        assert not torch.allclose(old.head.bias, new.head.bias, atol=1e-3)
        assert not torch.allclose(old.head.weight, new.head.weight, atol=1e-3)
        assert new.head.bias.abs().max() <= 0.25  # as the Linear of 16 inputs starts


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", NORMS[:3])
@pytest.mark.parametrize("method", [EUk, BadTeacher])
def test_normalised_weights_of_an_instance_are_refused_by_name(method, module, rows):
    X, y, forget = rows
    net = make_net(module(4, 2), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"layer 'head' .*cannot be .*class, or a function"):
        method(FrozenEstimator(net)).unlearn(X, y, forget=forget)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm", [Spectral.norm, OldSpectral.norm])
@pytest.mark.parametrize("method", [CFk, EUk])
def test_frozen_layers_keep_their_spectral_norm(method, norm, rows):
    X, y, forget = rows

    def build():
        return nn.Sequential(norm(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 2))

    net = make_net(build, max_epochs=1).fit(X, y)
    model = method(FrozenEstimator(net), k=1, max_epochs=2, random_state=0)
    model.unlearn(X, y, forget=forget)
    before, after = net.module_[0].state_dict(), model.estimator_.module_[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_copy_holds_no_activations(rows):
    X, y, _ = rows
    from skunlearn._engine.build import copy_parts, parts_of

    net = make_net(Keeper, module__n_features_in=4, module__n_classes=2, max_epochs=1).fit(X, y)
    net.module_(torch.as_tensor(X))
    copy = copy_parts(parts_of(net))["modules"]["module"]
    assert not copy.seen[0].any()
    assert torch.equal(copy.head.weight, net.module_.head.weight)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", [SSD, SalUn, FineTune, BadTeacher, SCRUB])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD])
def test_sparse_gradients(cls, optimizer):
    X = np.random.default_rng(0).integers(0, 10, (64, 3))
    rows = X, (X[:, 0] > 4).astype(int), np.arange(64) < 16
    net = make_net(Tokens, optimizer__momentum=0, optimizer=optimizer, max_epochs=2)
    assert np.isfinite(unlearned(cls, net, rows)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", [AMUN, SCRUB, BadTeacher, FineTune])
def test_a_loss_of_ones_own_is_told_by_predict_nonlinearity(cls, rows):
    with pytest.raises(ValueError, match="predict_nonlinearity"):
        unlearned(cls, make_net(criterion=Focal), rows)
    softmax = {"predict_nonlinearity": lambda output: output.softmax(dim=-1)}
    told = unlearned(cls, make_net(criterion=Focal, **softmax), rows)
    np.testing.assert_allclose(told.sum(axis=1), 1, rtol=1e-5)


def test_logits_are_known_from_the_criterion():
    from skunlearn._engine.predict import logits

    sizes = {"module__n_features_in": 4, "module__n_classes": 2, "max_epochs": 1}

    class Own(nn.CrossEntropyLoss):
        pass

    output = torch.tensor([[0.25, 0.75]])
    same = logits(make_net(criterion=Own, **sizes).initialize(), output)
    assert torch.equal(same, output)
    taken = NeuralNetClassifier(Probabilities, **sizes).initialize()
    torch.testing.assert_close(logits(taken, output), output.log())
    told = make_net(criterion=Focal, predict_nonlinearity=None, **sizes).initialize()
    torch.testing.assert_close(logits(told, output), output.log())


@pytest.mark.parametrize("sigmoid", [False, True])
def test_one_column_is_the_logit_of_the_second_class(sigmoid):
    criterion = nn.BCELoss if sigmoid else nn.BCEWithLogitsLoss
    net = NeuralNetBinaryClassifier(
        OneColumn, criterion=criterion, module__n_features_in=4, module__sigmoid=sigmoid
    ).initialize()
    z = torch.tensor([-1.0, 2.0])
    found = logits(net, z.sigmoid() if sigmoid else z)
    torch.testing.assert_close(found, torch.tensor([[0.0, -1.0], [0.0, 2.0]]))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", [L1Sparse, EUk, DLFD])
def test_sparse_gradients_are_no_hindrance_elsewhere(cls):
    X = np.random.default_rng(0).integers(0, 10, (64, 3))
    y, forget = (X[:, 0] > 4).astype(int), np.arange(64) < 16
    net = make_net(Tokens, module__n_classes=2, max_epochs=2).set_params(optimizer__momentum=0)
    net.fit(X, y)
    model = cls(FrozenEstimator(net), random_state=0)
    if cls is DLFD:
        model.set_params(perturb_at="words")
    model.unlearn(X, y, forget=forget)
    assert np.isfinite(model.predict_proba(X)).all()
