"""Relabelling: which labels the forget rows get, and where their adversarial examples lie."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from skunlearn import AMUN, FineTune, RandomLabel
from skunlearn.methods import relabel
from skunlearn.methods.relabel import draw_wrong, nearest_adversarial
from tests.networks import ConvNet, make_net


class Seen(Callback):
    """Keep the training batches of a run."""

    def on_train_begin(self, net, **kwargs):
        self.batches = []

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if training:
            self.batches.append(batch)


def batches_of(model):
    return next(cb for _, cb in model.estimator_.callbacks_ if isinstance(cb, Seen)).batches


def linear(weight, bias=0.0, **params):
    """A network with logits ``(0, weight . x + bias)``; every batch holds all rows."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(weight))
            self.bias = nn.Parameter(torch.tensor(bias))

        def forward(self, X):
            score = X @ self.weight + self.bias
            return torch.stack([torch.zeros_like(score), score], dim=1)

    params = {"lr": 0.5, "batch_size": 100, "optimizer__momentum": 0, **params}
    return make_net(Linear, **params).initialize()


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_wrong_labels_are_never_the_true_ones_and_otherwise_uniform(dtype, n_classes):
    torch.manual_seed(0)
    y = torch.arange(n_classes).repeat(3000).to(dtype)
    wrong = draw_wrong(y, n_classes)
    assert wrong.dtype == dtype
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (y.long(), wrong.long()), 1)
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(n_classes, dtype=bool)]
    assert np.allclose(others, 3000 / (n_classes - 1), rtol=0.25)


def test_random_label_takes_the_step_of_plain_torch():
    X = torch.tensor([[1.0, 0.5], [-1.0, 0.3], [0.4, -2.0]])
    y, wrong = torch.tensor([1, 0, 0]), torch.tensor([1, 0, 1])
    net = linear([0.3, -0.2])
    unlearned = RandomLabel(FrozenEstimator(net), max_epochs=1, random_state=0)
    unlearned.unlearn(X, y, forget=np.array([False, False, True]))

    def step(labels):
        weight = torch.tensor([0.3, -0.2], requires_grad=True)
        score = X @ weight
        F.cross_entropy(torch.stack([0 * score, score], 1), labels).backward()
        return weight.detach() - 0.5 * weight.grad

    after = unlearned.estimator_.module_.weight.detach()
    assert torch.allclose(after, step(wrong))
    assert not torch.allclose(after, step(y), atol=0.05)


def test_wrong_labels_are_drawn_anew_in_each_epoch_and_retained_ones_stay():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)).astype(np.float32)
    X[:, 0] = np.arange(90)  # tells rows apart
    y = rng.integers(0, 5, 90)
    forget = np.arange(90) < 30
    net = make_net(batch_size=100, callbacks=[Seen], max_epochs=1, lr=0.01)
    model = RandomLabel(net, max_epochs=4, random_state=0).fit(X, y, forget=forget)
    labels = []
    for X_seen, y_seen in batches_of(model):
        labels.append(y_seen[X_seen[:, 0].argsort()].numpy())
        assert len(y_seen) == 90
        assert (labels[-1][~forget] == y[~forget]).all()
        assert (labels[-1][forget] != y[forget]).all()
    assert not np.array_equal(labels[0], labels[1])


def test_adversarial_examples_are_next_to_the_boundary_and_straight_across():
    net = linear([3.0, 4.0], -10.0)
    X = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    y = torch.tensor([0, 0, 1])
    distance = torch.tensor([10.0, 3.0, 4.0]) / 5  # |w . x + b| / |w|
    low, high = torch.full((1, 2), -50.0), torch.full((1, 2), 50.0)
    X_far, label = nearest_adversarial(net, X, y, low, high, radius=0.0001, n_steps=50)
    assert label.tolist() == [1, 1, 0]
    assert net.predict(X_far.numpy()).tolist() == [1, 1, 0]
    moved = torch.linalg.vector_norm(X_far - X, dim=1)
    assert (moved >= distance).all()
    # The last ball has a radius of at most twice the distance, and steps are a tenth of that.
    assert (moved <= 1.2 * distance).all()
    assert torch.allclose((X_far - X) / moved[:, None] @ torch.tensor([0.6, 0.8]), y * -2.0 + 1)


def test_lengths_are_in_units_of_the_range_of_the_data():
    scale = torch.tensor([1000.0, 0.01])
    X, y = torch.tensor([[0.2, 0.1], [0.9, 0.8]]), torch.tensor([0, 1])
    low, high = torch.zeros(1, 2), torch.ones(1, 2)
    plain, _ = nearest_adversarial(linear([3.0, 4.0], -2.5), X, y, low, high, 0.05, 50)
    scaled, _ = nearest_adversarial(
        linear((torch.tensor([3.0, 4.0]) / scale).tolist(), -2.5),
        X * scale,
        y,
        low * scale,
        high * scale,
        0.05,
        50,
    )
    assert torch.allclose(scaled / scale, plain, atol=1e-5)


def test_adversarial_examples_stay_within_the_range_of_the_data():
    X, y = torch.tensor([[0.1, 0.5]]), torch.tensor([0])
    low, high = torch.zeros(1, 2), torch.ones(1, 2)
    net = linear([10.0, 1.0], -10.8)  # crossed only where the first value is above 0.98
    X_far, label = nearest_adversarial(net, X, y, low, high, 0.05, 50)
    assert label.item() == 1
    assert ((X_far >= 0) & (X_far <= 1)).all()
    out_of_reach = linear([1.0, 1.0], -2.5)
    assert nearest_adversarial(out_of_reach, X, y, low, high, 0.05, 50)[1].item() == 0


def test_a_row_that_is_wrong_already_is_its_own_adversarial_example():
    X, y = torch.tensor([[0.3, 0.3]]), torch.tensor([1])
    low, high = torch.zeros(1, 2), torch.ones(1, 2)
    X_far, label = nearest_adversarial(linear([1.0, 1.0], -1.0), X, y, low, high, 0.05, 50)
    assert torch.equal(X_far, X)
    assert label.item() == 0


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.random((40, 2)).astype(np.float32)
    y = (X @ [1.0, 1.0] > 1).astype(int)
    return X, y, np.arange(40) < 10


@pytest.mark.parametrize("include_forget", [False, True])
def test_amun_trains_on_adversarial_examples_with_the_predicted_labels(problem, include_forget):
    X, y, forget = problem
    net = linear([4.0, 4.0], -4.0, callbacks=[Seen], lr=5.0)
    before = net.module_.state_dict()
    model = AMUN(
        FrozenEstimator(net), max_epochs=1, include_forget=include_forget, random_state=0
    ).unlearn(X, y, forget=forget)
    ((X_seen, y_seen),) = batches_of(model)
    X_seen, y_seen = X_seen.numpy(), y_seen.numpy()

    def rows_in(X, y):
        both = np.column_stack([X_seen, y_seen])
        return [bool((both == row).all(axis=1).any()) for row in np.column_stack([X, y])]

    assert all(rows_in(X[~forget], y[~forget]))
    assert all(rows_in(X[forget], y[forget])) == include_forget
    assert len(X_seen) == 40 + 10 * include_forget
    new = ~np.isin(X_seen[:, 0], X[:, 0])
    assert new.sum() == 10
    assert (net.predict(X_seen[new]) == y_seen[new]).all()  # which is what the original says
    assert sorted(y_seen[new]) == sorted(1 - y[forget])
    # The gradient step is that of plain cross-entropy on this batch.
    weight = before["weight"].clone().requires_grad_()
    score = torch.tensor(X_seen) @ weight + before["bias"]
    F.cross_entropy(torch.stack([0 * score, score], 1), torch.tensor(y_seen)).backward()
    after = model.estimator_.module_.weight.detach()
    assert torch.allclose(after, before["weight"] - 5 * weight.grad, atol=1e-5)


def test_amun_works_without_retained_rows(problem):
    X, y, forget = problem
    net = linear([4.0, 4.0], -4.0)
    model = AMUN(FrozenEstimator(net), max_epochs=1, random_state=0)
    model.unlearn(X[forget], y[forget], forget=np.ones(10, dtype=bool))
    assert not torch.equal(model.estimator_.module_.weight, net.module_.weight)


def test_amun_leaves_the_original_and_its_gradients_alone(problem):
    X, y, forget = problem
    net = linear([4.0, 4.0], -4.0)
    AMUN(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=forget)
    assert net.module_.weight.tolist() == [4.0, 4.0]
    assert net.module_.weight.grad is None
    assert net.module_.weight.requires_grad


def test_amun_leaves_out_rows_without_an_adversarial_example():
    X = np.random.default_rng(0).random((30, 2)).astype(np.float32)
    y = np.arange(30) % 2
    net = linear([0.0, 0.0], -1.0, callbacks=[Seen])  # says 0 whatever it sees
    model = AMUN(FrozenEstimator(net), max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match="no adversarial example of 5 of the 10 rows"):
        model.unlearn(X, y, forget=np.arange(30) < 10)
    assert len(batches_of(model)[0][0]) == 20 + 5
    with pytest.raises(ValueError, match="of any of the 15 rows"):
        model.unlearn(X, y, forget=y == 0)


class Arrays(torch.utils.data.Dataset):
    """Yields NumPy arrays, as a user's data set may."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], int(self.y[i])


def test_amun_reads_a_data_set_of_arrays(problem):
    X, y, forget = problem
    net = linear([4.0, 4.0], -4.0)
    lazy, plain = (
        AMUN(FrozenEstimator(net), include_forget=True, random_state=0).unlearn(
            data, y, forget=forget
        )
        for data in (Arrays(X, y), X)
    )
    assert torch.equal(lazy.estimator_.module_.weight, plain.estimator_.module_.weight)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.EmbeddingBag(20, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, X):
        return self.head(self.embed(X))


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.head(x)


@pytest.mark.parametrize(("module", "kind"), [(Tokens, "torch.int64"), (Named, "dict")])
def test_amun_refuses_inputs_that_cannot_be_perturbed(problem, module, kind):
    X, y, forget = problem
    X = {"x": X} if kind == "dict" else (X * 20).astype(np.int64)
    net = make_net(module).initialize()
    with pytest.raises(ValueError, match=f"single floating-point array; got {kind}"):
        AMUN(FrozenEstimator(net)).unlearn(X, y, forget=forget)
    RandomLabel(FrozenEstimator(net)).unlearn(X, y, forget=forget)


@pytest.mark.parametrize(
    ("name", "value"),
    [("radius", 0), ("perturb_steps", 0), ("perturb_steps", 2.5), ("include_forget", 1)],
)
def test_hyperparameters_are_checked(problem, name, value):
    X, y, forget = problem
    with pytest.raises(ValueError, match=f"{name} must be"):
        AMUN(make_net(), **{name: value}).fit(X, y, forget=forget)


def test_amun_hands_on_radius_and_steps(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.random((40, 2)).astype(np.float32)
    y, forget = (X @ [1.0, 1.0] > 1).astype(int), np.arange(40) < 10
    seen, find = [], relabel.nearest_adversarial
    monkeypatch.setattr(relabel, "nearest_adversarial", lambda *a: seen.append(a[-2:]) or find(*a))
    params = {"radius": 0.3, "perturb_steps": 37, "max_epochs": 1, "random_state": 0}
    AMUN(FrozenEstimator(linear([4.0, 4.0], -4.0)), **params).unlearn(X, y, forget=forget)
    assert set(seen) == {(0.3, 37)}


def test_the_search_for_adversarial_rows_is_in_evaluation_mode():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 1, 4, 4)).astype(np.float32)
    y = (X.mean((1, 2, 3)) > 0).astype(int)
    net = FineTune(make_net(ConvNet, max_epochs=3), random_state=0).fit(X, y).estimator_
    net.module_.train()
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    low, high = X.amin((0, 2, 3), True), X.amax((0, 2, 3), True)
    far, label = nearest_adversarial(net, X, y, low, high, 0.05, 20)
    assert all(torch.equal(v, net.module_.state_dict()[k]) for k, v in before.items())
    assert net.predict(far.numpy()).tolist() == label.tolist()
