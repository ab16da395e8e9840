"""UNSIR does what the paper describes, and each part of it can be told from its usual mistake."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn
from torch.nn.functional import cross_entropy

from skunlearn import UNSIR, FineTune
from skunlearn._engine.rows import Rows
from skunlearn.base import Request
from tests.networks import ConvNet, make_net


@pytest.fixture(scope="module")
def images():
    """Images with more channels than noise rows are learnt; labels 0 and 2 are to be forgotten."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 5, 4, 4)) + y[:, None, None, None]
    return X.astype(np.float32), y, np.isin(np.arange(60), [0, 2, 3, 5, 8])


@pytest.fixture  # not shared: some tests set its parameters
def trained(images):
    X, y, _ = images
    net = make_net(ConvNet, module__n_channels=5, max_epochs=4, batch_size=11)
    return FineTune(net, random_state=0).fit(X, y).estimator_


def learn_noise(original, X, y, forget, **params):
    """The noise of a run, always from the same start, and the network that it was learnt from."""
    rows = Rows(original.get_dataset(X), torch.as_tensor(y))
    request = Request(original, rows.take(~forget), rows.take(forget), None, None)
    unlearner = UNSIR(FrozenEstimator(original), **params)
    unlearner.classes_ = np.unique(y)
    net = unlearner._copy(original)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = unlearner._learn_noise(net, request)
    return noise.data.X, noise.y, net


def by_hand(module, start, label, n_steps, sign=-1, penalty=lambda n: n.flatten(1).square().sum(1)):
    """Adam in plain torch on -CE(n, label) + 0.1 * (mean over rows of the squared norm)."""
    noise = start.clone().requires_grad_()
    adam = torch.optim.Adam([noise], lr=0.1)
    for _ in range(n_steps):
        loss = cross_entropy(module.eval()(noise), torch.full((len(noise),), label))
        adam.zero_grad()
        (sign * loss + 0.1 * penalty(noise).mean()).backward()
        adam.step()
    return noise.detach()


def test_noise_raises_the_loss_against_its_norm(images, trained):
    start, labels, _ = learn_noise(trained, *images, noise_rows=3, noise_steps=0)
    noise, _, net = learn_noise(trained, *images, noise_rows=3, noise_steps=12)
    assert labels.tolist() == [0, 0, 0, 2, 2, 2]
    for label in (0, 2):
        of_label = labels == label
        right = by_hand(net.module_, start[of_label], label, 12)
        lowering = by_hand(net.module_, start[of_label], label, 12, sign=1)
        mean_of_all = by_hand(net.module_, start[of_label], label, 12, penalty=torch.square)
        torch.testing.assert_close(noise[of_label], right)
        assert (noise[of_label] - lowering).abs().max() > 0.05
        assert (noise[of_label] - mean_of_all).abs().max() > 0.05


def test_first_step_of_noise_worked_out_by_hand():
    class Mirror(nn.Module):
        """Scores (x, -x)."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, X):
            return self.weight * torch.cat([X, -X], dim=1)

    X, y = np.array([[1.0], [-1.0], [2.0]], dtype=np.float32), np.array([0, 1, 0])
    net = make_net(Mirror).initialize()
    forget = np.array([True, False, False])
    start, _, _ = learn_noise(net, X, y, forget, noise_rows=200, noise_steps=0)
    noise, _, _ = learn_noise(net, X, y, forget, noise_rows=200, noise_steps=1)
    # For label 0, CE = log(1 + exp(-2x)), so -CE + 0.1 x^2 has the slope 2 / (1 + exp(2x)) + 0.2 x,
    # which is positive from -10 up, and Adam's first step is as long as its learning rate.
    assert start.min() < -1 < 1 < start.max()
    torch.testing.assert_close(noise, start - 0.1, rtol=0, atol=1e-4)


def test_learning_noise_leaves_the_network_as_it_was(images, trained):
    before = {name: value.clone() for name, value in trained.module_.state_dict().items()}
    _, _, net = learn_noise(trained, *images)
    after = net.module_.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.requires_grad and weight.grad is None for weight in net.module_.parameters())


class Watch(Callback):
    """Keep the rows of every training batch, by epoch."""

    epochs = None

    def on_epoch_begin(self, net, **kwargs):
        Watch.epochs.append([])

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            Watch.epochs[-1].append(batch)


def test_impair_mixes_all_the_noise_with_the_retained_rows_and_repair_has_none(images, trained):
    X, y, forget = images
    trained.set_params(callbacks=[Watch])
    Watch.epochs = []
    UNSIR(
        FrozenEstimator(trained), max_epochs=3, noise_rows=3, noise_ratio=2.0, random_state=0
    ).unlearn(X, y, forget=forget)
    real = {row.tobytes(): (label, marked) for row, label, marked in zip(X, y, forget)}
    epochs = []
    for batches in Watch.epochs:
        rows = [(x.numpy().tobytes(), int(label)) for X, y in batches for x, label in zip(X, y)]
        noise = [row for row in rows if row[0] not in real]
        kept = [row for row in rows if row[0] in real]
        assert all(real[x] == (label, False) for x, label in kept)  # the forget rows are not seen
        assert {label for _, label in noise} <= {0, 2}
        epochs.append((len({x for x, _ in kept}), len(noise), len({x for x, _ in noise})))
    assert epochs == [(55, 110, 6), (55, 0, 0), (55, 0, 0)]
    mixed = [{x.numpy().tobytes() in real for x in X} for X, _ in Watch.epochs[0]]
    assert all(kinds == {True, False} for kinds in mixed)


def test_one_epoch_is_impaired_and_not_repaired(images, trained):
    X, y, forget = images
    trained.set_params(callbacks=[Watch])
    Watch.epochs = []
    unlearner = UNSIR(FrozenEstimator(trained), max_epochs=1, noise_ratio=1.0, random_state=0)
    assert len(unlearner.unlearn(X, y, forget=forget).unlearning_history_) == 1
    assert sum(len(y) for _, y in Watch.epochs[0]) == 110


def test_a_data_set_of_numpy_rows(images, trained):
    X, y, forget = images

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return X[i], y[i]

    unlearner = UNSIR(FrozenEstimator(trained), noise_ratio=1.0, random_state=0)
    plain = clone(unlearner).unlearn(X, y, forget=forget)
    lazy = clone(unlearner).unlearn(Pairs(), forget=forget)
    assert np.array_equal(plain.predict_proba(X), lazy.predict_proba(X))


class Tokens(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.embed = nn.EmbeddingBag(10, 4)
        self.head = nn.Linear(4, n_classes)

    def forward(self, tokens):
        return self.head(self.embed(tokens))


@pytest.mark.parametrize(
    ("as_input", "message"), [(lambda X: X, "int64"), (lambda X: {"tokens": X}, "dict")]
)
def test_input_that_is_not_one_floating_point_array_is_refused(as_input, message):
    rng = np.random.default_rng(0)
    X, y = as_input(rng.integers(0, 10, size=(40, 6))), np.arange(40) % 2
    unlearner = UNSIR(make_net(Tokens, max_epochs=1), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=f"one floating-point array; got .*{message}"):
        unlearner.unlearn(X, y, forget=np.arange(40) < 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise_rows", 0),
        ("noise_rows", 2.5),
        ("noise_ratio", 0),
        ("noise_ratio", "half"),
        ("noise_steps", -1),
    ],
)
def test_hyperparameters_are_checked(images, name, value):
    X, y, forget = images
    with pytest.raises(ValueError, match=f"{name} must be"):
        UNSIR(make_net(ConvNet), **{name: value}).fit(X, y, forget=forget)


class Flat(nn.Module):
    """Its loss is log 2 whatever the row, so that only the penalty moves the noise."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, X):
        return self.weight * torch.zeros(len(X), 2) + 0 * X.sum()


def test_the_penalty_leads_noise_towards_0():
    X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    y, forget = np.arange(12) % 2, np.arange(12) < 1
    net = make_net(Flat).initialize()
    start, _, _ = learn_noise(net, X, y, forget, noise_steps=0)
    end, _, _ = learn_noise(net, X, y, forget, noise_steps=1)
    far = start.abs() > 0.2
    # Adam's first step has the length of its learning rate.
    torch.testing.assert_close((start - end)[far], 0.1 * start.sign()[far], rtol=0, atol=1e-4)
