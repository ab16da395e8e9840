"""SSD and SalUn do what the papers describe, and can be told from the usual mistakes."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import History
from skorch.callbacks import Callback, GradientNormClipping
from torch import nn
from torch.nn.functional import cross_entropy

from skunlearn import SSD, FineTune, SalUn
from skunlearn._engine.rows import Rows
from skunlearn.methods.selective import _importances, _salient
from tests.networks import MLP, ConvNet, make_net


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    y[::5] = (y[::5] + 1) % 3  # wrong labels keep the gradients away from zero
    return X, y, np.arange(120) % 8 == 0


@pytest.fixture  # not shared: some tests set its parameters
def trained(problem):
    X, y, _ = problem
    return FineTune(make_net(), random_state=0).fit(X, y).estimator_


class TwoWeights(nn.Module):
    """Scores (a x0 + b x1 + x2, 0). Where they are equal, a row's gradient is -+ (x0, x1) / 2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, X):
        return torch.stack([X[:, :2] @ self.weight + X[:, 2], torch.zeros(len(X))], dim=1)


def undecided(*rows):
    """Rows whose third feature makes both scores equal."""
    return np.array([[x0, x1, -x0 - x1] for x0, x1 in rows], dtype=np.float32)


def rows_of(net, X, y):
    return Rows(net.get_dataset(X), torch.as_tensor(y))


# -- SSD -------------------------------------------------------------------------------------------


def test_importance_squares_the_gradient_of_each_row():
    net = make_net(TwoWeights).initialize()
    data = rows_of(net, undecided((2, 0), (2, -4), (0, 4)), [0, 1, 1])
    (importance,) = _importances(net, data, 1000)  # of gradients (-1, 0), (1, -2), (0, 2)
    assert importance.tolist() == pytest.approx([2 / 3, 8 / 3])
    X, y = data.batch()
    (of_batch,) = torch.autograd.grad(cross_entropy(net.module_(X), y), net.module_.weight)
    assert of_batch.square().tolist() == pytest.approx([0, 0])  # the rows cancel


@pytest.mark.parametrize(
    ("threshold", "dampening", "expected"),
    [
        (2.0, 1.0, [0.25, 1.0]),
        (2.0, 0.5, [0.125, 1.0]),
        (2.0, 0.0, [0.0, 1.0]),
        (3.9, 1.0, [0.25, 1.0]),
        (0.5, 0.5, [0.125, 0.5]),
        (0.5, 2.0, [0.5, 1.0]),  # without min(..., 1) the second weight would double
    ],
)
def test_dampening_worked_out_by_hand(threshold, dampening, expected):
    # Importances: forget (1, 1); retained (0, 1); all (0.25, 1). The weights start at (1, 1).
    X = undecided((2, 2), (0, 2), (0, 2), (0, 2))
    unlearner = SSD(
        FrozenEstimator(make_net(TwoWeights).initialize()), threshold=threshold, dampening=dampening
    ).unlearn(X, [0, 0, 1, 0], forget=[True, False, False, False])
    assert unlearner.estimator_.module_.weight.tolist() == pytest.approx(expected)


def test_a_weight_that_matters_to_no_row_is_left_alone():
    X = undecided((2, 0), (0.2, 0), (0.2, 0), (0.2, 0))
    unlearner = SSD(FrozenEstimator(make_net(TwoWeights).initialize()), threshold=1.0)
    unlearner.unlearn(X, [0, 0, 1, 1], forget=[True, False, False, False])
    first, second = unlearner.estimator_.module_.weight.tolist()
    assert 0 < first < 1
    assert second == 1  # not 0 / 0


def test_importances_are_those_of_evaluation_mode_and_leave_statistics_alone():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 1, 4, 4)).astype(np.float32), np.arange(40) % 2
    net = FineTune(make_net(ConvNet, max_epochs=2), random_state=0).fit(X, y).estimator_
    unlearner = SSD(FrozenEstimator(net), threshold=1.1).unlearn(X, y, forget=np.arange(40) < 8)
    for before, after in zip(net.module_.buffers(), unlearner.estimator_.module_.buffers()):
        assert torch.equal(before, after)


def test_at_most_so_many_rows_are_read(problem, trained):
    X, y, _ = problem
    data = rows_of(trained, X, y)
    seen = []

    class Counting(Rows):
        def __getitem__(self, i):
            seen.append(i)
            return super().__getitem__(i)

    few = _importances(trained, Counting(data.data, data.y), 50)
    assert len(seen) == len(set(seen)) == 50
    some = _importances(trained, data.take(np.array(seen)), 50)
    for a, b in zip(few, some):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("threshold", [8, 10.0])
def test_a_threshold_that_can_choose_nothing_is_refused(problem, trained, threshold):
    X, y, forget = problem  # 15 of 120
    with pytest.raises(ValueError, match=r"15 of 120 rows.* more than 8 times.*below that"):
        SSD(FrozenEstimator(trained), threshold=threshold).unlearn(X, y, forget=forget)


def test_ssd_trains_nothing(problem, trained):
    X, y, forget = problem
    unlearner = SSD(FrozenEstimator(trained)).unlearn(X, y, forget=forget)
    assert isinstance(unlearner.unlearning_history_, History)
    assert [epoch["batches"] for epoch in unlearner.unlearning_history_] == [[]]
    assert all(w.grad is None for w in unlearner.estimator_.module_.parameters())


# -- SalUn -----------------------------------------------------------------------------------------


def test_mask_is_the_largest_gradients_of_the_whole_network(problem, trained):
    X, y, forget = problem
    data = rows_of(trained, X[forget], y[forget])
    masks = _salient(trained.set_params(batch_size=4), data, 0.5)
    module = trained.module_
    loss = cross_entropy(module(torch.as_tensor(X[forget])), torch.as_tensor(y[forget]))
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    sizes = torch.cat([g.abs().flatten() for g in gradients])
    chosen = torch.cat([m.flatten() for m in masks])
    assert chosen.sum() == round(0.5 * len(sizes))
    assert sizes[chosen].min() >= sizes[~chosen].max() - 1e-6
    per_layer = [int(m.sum()) for m in masks]
    assert per_layer != [round(0.5 * m.numel()) for m in masks]


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": partial(torch.optim.Adam, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, weight_decay=0.1),
    "rmsprop": partial(torch.optim.RMSprop, weight_decay=0.1, momentum=0.5),
    "lbfgs": torch.optim.LBFGS,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("weight_share", [0.1, 0.5])
@pytest.mark.filterwarnings("ignore:SalUn has damaged")
def test_unmasked_weights_stay_bit_for_bit(problem, trained, optimizer, weight_share):
    X, y, forget = problem
    masks = _salient(trained, rows_of(trained, X[forget], y[forget]), weight_share)
    unlearner = SalUn(
        FrozenEstimator(trained),
        weight_share=weight_share,
        optimizer=optimizer,
        lr=0.01,
        max_epochs=2,
        random_state=0,
    ).unlearn(X, y, forget=forget)
    before, after = (
        torch.cat([w.detach().flatten() for w in net.module_.parameters()])
        for net in (trained, unlearner.estimator_)
    )
    chosen = torch.cat([mask.flatten() for mask in masks])
    assert torch.equal(before[~chosen], after[~chosen])
    assert (before[chosen] != after[chosen]).float().mean() > 0.9


class MaskGradients(Callback):
    """The usual way: mask the gradients and nothing else."""

    masks = None

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for weight, mask in zip(net.module_.parameters(), self.masks):
            weight.grad.mul_(mask)


@pytest.mark.filterwarnings("ignore:FineTune has damaged")
def test_masking_only_the_gradient_would_let_weights_drift(problem, trained):
    X, y, forget = problem
    MaskGradients.masks = _salient(trained, rows_of(trained, X[forget], y[forget]), 0.5)
    trained.set_params(callbacks=[MaskGradients])
    unlearner = FineTune(FrozenEstimator(trained), optimizer=OPTIMIZERS["adam"], random_state=0)
    after = unlearner.unlearn(X, y, forget=forget).estimator_.module_.parameters()
    trained.set_params(callbacks=None)
    unmasked = [
        torch.equal(a[~mask], b[~mask])
        for a, b, mask in zip(trained.module_.parameters(), after, MaskGradients.masks)
    ]
    assert not all(unmasked)


class Gradients(Callback):
    seen = None

    def on_grad_computed(self, net, named_parameters, **kwargs):
        Gradients.seen = [weight.grad.clone() for _, weight in named_parameters]


def test_gradients_of_unmasked_weights_do_not_count_where_norms_are_clipped(problem, trained):
    X, y, forget = problem
    masks = _salient(trained, rows_of(trained, X[forget], y[forget]), 0.5)
    trained.set_params(callbacks=[Gradients, GradientNormClipping(0.1)])
    SalUn(FrozenEstimator(trained), max_epochs=1, random_state=0).unlearn(X, y, forget=forget)
    trained.set_params(callbacks=None)
    assert all((g[~mask] == 0).all() for g, mask in zip(Gradients.seen, masks))
    assert any((g[mask] != 0).any() for g, mask in zip(Gradients.seen, masks))


def test_weights_that_the_user_froze_are_neither_counted_nor_moved(problem):
    X, y, forget = problem

    class HalfFrozen(MLP):
        def __init__(self, n_features_in, n_classes):
            super().__init__(n_features_in, n_classes)
            self.hidden.requires_grad_(False)

    original = FineTune(make_net(HalfFrozen), random_state=0).fit(X, y).estimator_
    for cls in (SalUn, SSD):
        unlearned = cls(FrozenEstimator(original), random_state=0).unlearn(X, y, forget=forget)
        same = {
            name: torch.equal(weight, unlearned.estimator_.module_.get_parameter(name))
            for name, weight in original.module_.named_parameters()
        }
        assert same["hidden.0.weight"]
        assert same["hidden.0.bias"]
        assert not same["head.weight"]


@pytest.mark.parametrize(
    ("unlearner", "name", "value"),
    [
        (SSD, "threshold", 0),
        (SSD, "threshold", None),
        (SSD, "dampening", -1),
        (SalUn, "weight_share", 0),
        (SalUn, "weight_share", 1.5),
    ],
)
def test_hyperparameters_are_checked(problem, unlearner, name, value):
    X, y, forget = problem
    with pytest.raises(ValueError, match=f"{name} must be"):
        unlearner(make_net(), **{name: value}).fit(X, y, forget=forget)


def test_ssd_reads_a_bounded_number_of_rows_of_each_kind(problem, monkeypatch):
    X, y, _ = problem
    monkeypatch.setattr("skunlearn.methods.selective._MAX_ROWS", 7)
    rows = []

    class Counting(MLP):
        def forward(self, X):
            if torch.is_grad_enabled():
                rows.append(len(X))
            return super().forward(X)

    original = FineTune(make_net(Counting), random_state=0).fit(X, y).estimator_
    rows.clear()
    SSD(FrozenEstimator(original), random_state=0).unlearn(X, y, forget=y == 0)
    assert sum(rows) == 2 * 7
