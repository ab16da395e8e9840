"""What a network returns, what it keeps, and what its gradients and targets are made of."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import GradientNormClipping
from torch import nn

from skunlearn import (
    AMUN,
    DLFD,
    SCRUB,
    SISA,
    SSD,
    BadTeacher,
    CFk,
    EUk,
    FineTune,
    L1Sparse,
    Retrain,
    SalUn,
    all_unlearners,
)
from skunlearn._engine.predict import logits
from tests.networks import MLP, make_net

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


# -- the same network, told in other ways ----------------------------------------------------------


class Returning(nn.Module):
    """Two layers whose scores go through a function before they are returned."""

    def __init__(self, n_features_in, n_out=2, last=None, with_hidden=False):
        super().__init__()
        self.hidden, self.head = nn.Linear(n_features_in, 8), nn.Linear(8, n_out)
        self.last, self.with_hidden = last, with_hidden
        self.double()

    def forward(self, X):
        hidden = self.hidden(X).tanh()
        output = self.head(hidden)
        output = output if self.last is None else self.last(output)
        return (output, hidden) if self.with_hidden else output


class OfTheFirst:
    def get_loss(self, y_pred, *args, **kwargs):
        return super().get_loss(y_pred[0], *args, **kwargs)


class FirstOfClassifier(OfTheFirst, NeuralNetClassifier):
    pass


class FirstOfBinary(OfTheFirst, NeuralNetBinaryClassifier):
    pass


class FirstOfNeuralNet(OfTheFirst, NeuralNet):
    pass


def softmax(x):
    return x.softmax(dim=1)


def log_softmax(x):
    return x.log_softmax(dim=1)


def squeeze(x):
    return x.squeeze(1)


def returning(kind, criterion, **module):
    module = {f"module__{name}": value for name, value in module.items()}
    run = {"lr": 0.1, "batch_size": 16, "max_epochs": 3, "train_split": None, "verbose": 0}
    return kind(Returning, criterion=criterion, **module, **run)


SAME_CLASSES = {
    "NeuralNet": (NeuralNet, nn.CrossEntropyLoss, {}),
    "NLLLoss in NeuralNet": (NeuralNet, nn.NLLLoss, {"last": log_softmax}),
    "NLLLoss in NeuralNetClassifier": (NeuralNetClassifier, nn.NLLLoss, {"last": softmax}),
    "tuple": (FirstOfClassifier, nn.CrossEntropyLoss, {"with_hidden": True}),
    "tuple and NLLLoss": (
        FirstOfNeuralNet,
        nn.NLLLoss,
        {"last": log_softmax, "with_hidden": True},
    ),
}
SAME_LABELS = {
    "NeuralNet": (NeuralNet, nn.BCEWithLogitsLoss, {}),
    "BCELoss": (NeuralNetClassifier, nn.BCELoss, {"last": torch.sigmoid}),
    "MultiLabelSoftMarginLoss": (NeuralNetClassifier, nn.MultiLabelSoftMarginLoss, {}),
    "tuple": (FirstOfClassifier, nn.BCEWithLogitsLoss, {"with_hidden": True}),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", METHODS)
def test_what_a_module_returns_changes_nothing(cls, rows):
    expected = unlearned(cls, returning(NeuralNetClassifier, nn.CrossEntropyLoss), rows)
    for name, (kind, criterion, module) in SAME_CLASSES.items():
        found = unlearned(cls, returning(kind, criterion, **module), rows)
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
    one_column = NeuralNetBinaryClassifier, FirstOfBinary
    expected, found = (
        unlearned(cls, returning(kind, nn.BCEWithLogitsLoss, n_out=1, **module), rows)
        for kind, module in zip(one_column, ({}, {"with_hidden": True, "last": squeeze}))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cls", METHODS)
def test_what_a_module_returns_for_several_labels_changes_nothing(cls, rows):
    X, _, forget = rows
    rows = X, (X[:, :3] > [0, 0.3, -0.2]).astype(int), forget
    usual = returning(NeuralNetClassifier, nn.BCEWithLogitsLoss, n_out=3)
    if not cls.multilabel:
        with pytest.raises(ValueError, match=f"{cls.__name__} works with one label per row. Use"):
            unlearned(cls, usual, rows)
        return
    expected = unlearned(cls, usual, rows)
    for name, (kind, criterion, module) in SAME_LABELS.items():
        found = unlearned(cls, returning(kind, criterion, n_out=3, **module), rows)
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "criterion", "module", "message"),
    [
        (
            NeuralNetClassifier,
            nn.CrossEntropyLoss,
            {"with_hidden": True},
            r"module returns a tuple of 2, and criterion=CrossEntropyLoss .* get_loss takes",
        ),
        (
            NeuralNetBinaryClassifier,
            nn.BCEWithLogitsLoss,
            {"with_hidden": True, "n_out": 1},
            "returns a tuple of 2, and criterion=BCEWithLogitsLoss",
        ),
        (
            NeuralNetClassifier,
            nn.CrossEntropyLoss,
            {"last": lambda x: {"logits": x}},
            "module must return a tensor, or a tuple that begins with one; got dict",
        ),
        (
            NeuralNetClassifier,
            nn.CrossEntropyLoss,
            {"n_out": 1},
            "returns 1 columns, but y has 2 classes.*use skorch.NeuralNetBinaryClassifier",
        ),
        (
            NeuralNetClassifier,
            nn.CrossEntropyLoss,
            {"n_out": 1, "last": squeeze},
            "returns 1 columns, but y has 2 classes.*use skorch.NeuralNetBinaryClassifier",
        ),
        (
            NeuralNetClassifier,
            nn.BCEWithLogitsLoss,
            {"n_out": 1},
            "BCEWithLogitsLoss, takes. For one label per row, use .*NeuralNetBinaryClassifier",
        ),
        (
            NeuralNetBinaryClassifier,
            nn.CrossEntropyLoss,
            {"n_out": 1},
            "criterion=CrossEntropyLoss takes an output for each class",
        ),
        (
            NeuralNet,
            nn.NLLLoss,
            {"last": softmax},
            "NLLLoss takes log-probabilities in a NeuralNet, .* End it with log_softmax",
        ),
        (
            NeuralNetClassifier,
            nn.NLLLoss,
            {"last": log_softmax},
            "NLLLoss takes probabilities in a NeuralNetClassifier, .* End it with a softmax",
        ),
        (
            NeuralNetBinaryClassifier,
            nn.BCELoss,
            {"n_out": 1, "last": lambda x: x - 1000},
            "BCELoss takes probabilities in a NeuralNetBinaryClassifier, .*BCEWithLogitsLoss",
        ),
    ],
)
def test_outputs_that_the_criterion_does_not_take_are_refused(
    kind, criterion, module, message, rows
):
    for cls in dict(all_unlearners()).values():
        with pytest.raises(ValueError, match=message):
            unlearned(cls, returning(kind, criterion, **module), rows)


def test_logits_that_are_said_to_be_probabilities_are_refused(rows):
    net = make_net(criterion=Focal, predict_nonlinearity=None)
    with pytest.raises(ValueError, match=r"predict_nonlinearity=None is for .* returns values"):
        unlearned(FineTune, net, rows)


def test_several_labels_are_refused_with_the_right_remedy(rows):
    X, _, forget = rows
    Y = (X[:, :2] > 0).astype(int)
    net = returning(NeuralNetBinaryClassifier, nn.BCEWithLogitsLoss, n_out=2)
    with pytest.raises(ValueError, match=r"NeuralNetBinaryClassifier takes one label .* Use "):
        unlearned(FineTune, net, (X, Y, forget))
    net = returning(NeuralNetClassifier, nn.BCEWithLogitsLoss, n_out=1, last=squeeze)
    with pytest.raises(ValueError, match=r"y lacks some of them\.$"):
        unlearned(FineTune, net, (X, Y, forget))


# -- optimisers and sparse gradients ---------------------------------------------------------------


@pytest.mark.parametrize("cls", [FineTune, Retrain, SISA])
@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": torch.optim.SparseAdam},
        {"optimizer": torch.optim.Adam},
        {"optimizer__weight_decay": 0.1},
        {"callbacks": [GradientNormClipping(1.0)]},
    ],
)
def test_an_optimizer_that_cannot_take_the_gradients_is_named(cls, params):
    X = np.random.default_rng(0).integers(0, 10, (64, 3))
    net = make_net(Tokens, max_epochs=1)
    del net.optimizer__momentum
    net.set_params(**params)
    kind = params.get("optimizer", torch.optim.SGD).__name__
    message = rf"optimizer={kind}.*\['words.weight'\] are sparse, those of \['head.weight', "
    with pytest.raises(ValueError, match=message):
        cls(net, random_state=0).fit(X, X[:, 0] > 4, forget=np.arange(64) < 16)


def test_an_optimizer_of_a_method_that_cannot_take_the_gradients_is_named():
    X = np.random.default_rng(0).integers(0, 10, (64, 3))
    model = FineTune(make_net(Tokens, max_epochs=1), optimizer=torch.optim.SparseAdam).fit(
        X, X[:, 0] > 4
    )
    with pytest.raises(ValueError, match="optimizer=SparseAdam"):
        model.unlearn(X, X[:, 0] > 4, forget=np.arange(64) < 16)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sparse_adam_trains_a_module_whose_gradients_are_all_sparse():
    class Bag(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.words = nn.EmbeddingBag(10, n_classes, sparse=True)

        def forward(self, X):
            return self.words(X)

    X = np.random.default_rng(0).integers(0, 10, (64, 3))
    net = make_net(Bag, optimizer=torch.optim.SparseAdam)
    del net.optimizer__momentum
    rows = X, (X[:, 0] > 4).astype(int), np.arange(64) < 16
    assert np.isfinite(unlearned(FineTune, net, rows)).all()


@pytest.mark.parametrize(
    "model",
    [FineTune(None), SISA(None, n_shards=1), SISA(None, n_shards=1, aggregate="vote")],
)
def test_a_binary_network_predicts_by_its_threshold(model, rows):
    X, y, forget = rows
    net = returning(NeuralNetBinaryClassifier, nn.BCEWithLogitsLoss, n_out=1)
    model = clone(model).set_params(estimator=net.set_params(threshold=0.6), random_state=0)
    for _ in range(2):
        model = model.fit(X, y) if not hasattr(model, "classes_") else model
        nets = [model.estimators_[0] if isinstance(model, SISA) else model.estimator_]
        proba = nets[0].predict_proba(X.astype(float))[:, 1]
        assert ((proba > 0.5) & (proba < 0.6)).any()
        assert np.array_equal(model.predict(X), proba > 0.6)
        model.unlearn(X, y, forget=forget)
