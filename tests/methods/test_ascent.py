"""Gradient ascent on the rows to forget, against arithmetic and plain torch."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skunlearn import AdvancedNegGrad, NegGrad
from tests.methods.test_finetune import column, prefit, two_weights, weights_of


def loss_gradient(weights, X, y):
    """Cross-entropy of scores (a * x, b * x), and its gradient, in plain torch."""
    w = torch.tensor(weights, requires_grad=True)
    scores = torch.as_tensor(X) * w
    loss = nn.functional.cross_entropy(scores, torch.as_tensor(y))
    loss.backward()
    return loss.item(), w.grad.numpy()


# At zero weights p = (1/2, 1/2), so the gradient of CE is mean((1/2 - [y == c]) * x): for class 0,
# ((-1/2) * 1 + (1/2) * 3) / 2 = 1/2 on the retained rows and (-1/2) * 8 = -4 on the forget row.
X = column(1, 3, 8)
Y = np.array([0, 1, 0])
FORGET = np.array([False, False, True])


def test_neg_grad_step_climbs_the_loss_of_the_forget_rows_alone():
    model = NegGrad(FrozenEstimator(two_weights(0.0, 0.0, lr=0.1)), random_state=0)
    model.unlearn(X, Y, forget=FORGET)
    # Descent would give (.4, -.4), ascent on all rows other numbers, retained rows subtract .05.
    assert weights_of(model) == pytest.approx([-0.4, 0.4], rel=1e-5)
    assert model.unlearning_history_[0, "train_loss"] == pytest.approx(-np.log(2))


@pytest.mark.parametrize("forget_weight", [0.0, 0.05, 0.5, 1.0])
def test_advanced_neg_grad_step_descends_on_retained_and_climbs_on_forget_rows(forget_weight):
    model = AdvancedNegGrad(
        FrozenEstimator(two_weights(0.0, 0.0, lr=0.1)),
        forget_weight=forget_weight,
        max_epochs=1,
        random_state=0,
    )
    model.unlearn(X, Y, forget=FORGET)
    first = -0.1 * (0.5 - forget_weight * -4)
    assert weights_of(model) == pytest.approx([first, -first])
    loss = model.unlearning_history_[0, "train_loss"]
    assert loss == pytest.approx((1 - forget_weight) * np.log(2))


@pytest.mark.parametrize("loss_cap", [None, "val"])
def test_advanced_neg_grad_pairs_every_retained_batch_with_forget_rows(loss_cap):
    batches = []

    class Spy(nn.Linear):
        def forward(self, X):
            if self.training:
                batches.append(X.ravel().tolist())
            return super().forward(X)

    net = prefit(Spy, 1, 2, False, batch_size=2)
    rows = column(*range(10))
    model = AdvancedNegGrad(FrozenEstimator(net), loss_cap=loss_cap, max_epochs=2, random_state=0)
    y = np.arange(10) % 2
    model.unlearn(rows, y, forget=np.arange(10) < 2, X_val=rows, y_val=y)
    assert len(batches) == 2 * 2 * 4
    assert all(sorted(batch) == [0, 1] for batch in batches[::2])
    for epoch in (batches[1:8:2], batches[9::2]):
        assert sorted(x for batch in epoch for x in batch) == list(range(2, 10))


# With the weights (1, 0) the loss of a row (x, y) is log(1 + exp(-x)) for class 0, .313 for x = 1.
@pytest.mark.parametrize(
    ("x_val", "y_val", "climbs"),
    [(1, 1, True), (2, 0, False)],  # held-out losses 1.313 and .127
)
def test_loss_cap_stops_the_ascent_where_the_loss_reaches_that_of_unseen_rows(x_val, y_val, climbs):
    rows, y, forget = column(1, 3, 1), np.array([0, 1, 0]), np.array([False, False, True])
    model = AdvancedNegGrad(
        FrozenEstimator(two_weights(1.0, 0.0)),
        forget_weight=0.5,
        loss_cap="val",
        max_epochs=1,
        random_state=0,
    )
    model.unlearn(rows, y, forget=forget, X_val=column(x_val), y_val=np.array([y_val]))
    retain_loss, retain = loss_gradient([1.0, 0.0], rows[:2], y[:2])
    forget_loss, forgotten = loss_gradient([1.0, 0.0], rows[2:], y[2:])
    val_loss = np.log(1 + np.exp(x_val if y_val else -x_val))
    expected = np.array([1.0, 0.0]) - (retain - climbs * 0.5 * forgotten)
    assert weights_of(model) == pytest.approx(expected, rel=1e-5)
    history = model.unlearning_history_
    assert history[0, "batches", 0, "val_loss"] == pytest.approx(val_loss, rel=1e-5)
    assert history[0, "train_loss"] == pytest.approx(
        retain_loss - 0.5 * min(forget_loss, val_loss), rel=1e-5
    )


@pytest.mark.parametrize("loss_cap", [None, "val"])
def test_loss_cap_keeps_a_long_run_from_diverging(loss_cap):
    # Retained rows lie on the first axis and say nothing of the second, on which are a forget row
    # and an unseen one with the other label: as the loss of one rises, that of the other falls, and
    # they meet at log 2.
    rows = np.array([[1, 0]] * 10 + [[0, 1]], dtype=np.float32)
    y = np.array([0, 1] * 5 + [0])
    net = prefit(nn.Linear, 2, 2, False, optimizer__momentum=0.0, lr=0.02, batch_size=1)
    with torch.no_grad():
        net.module_.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    model = AdvancedNegGrad(
        FrozenEstimator(net), forget_weight=1, loss_cap=loss_cap, max_epochs=50, random_state=0
    )
    model.unlearn(rows, y, forget=np.arange(11) == 10, X_val=rows[10:], y_val=np.array([1]))
    loss = -np.log(model.predict_proba(rows[10:])[0, 0])
    assert loss == pytest.approx(np.log(2), abs=0.1) if loss_cap else loss > 3


@pytest.mark.parametrize("n_unseen", [150, 1500])
def test_loss_cap_is_measured_every_few_batches_on_a_bounded_number_of_rows(n_unseen):
    evaluated = []

    class Spy(nn.Linear):
        def forward(self, X):
            if not self.training:
                evaluated.append(len(X))
            return super().forward(X)

    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(150, 3)).astype(np.float32), np.arange(150) % 2
    unseen, y_unseen = rng.normal(size=(n_unseen, 3)).astype(np.float32), np.arange(n_unseen) % 2
    net = prefit(Spy, 3, 2, batch_size=12)
    model = AdvancedNegGrad(FrozenEstimator(net), loss_cap="val", max_epochs=2, random_state=0)
    model.unlearn(rows, y, forget=np.arange(150) < 30, X_val=unseen, y_val=y_unseen)
    # 20 batches: measured before those of number 0, 8 and 16. Validation is in batches of 12.
    assert [n for n in evaluated if n > 12] == [128] * 3
    batches = [batch for epoch in model.unlearning_history_ for batch in epoch["batches"][:10]]
    assert [i for i, batch in enumerate(batches) if "val_loss" in batch] == [0, 8, 16]


def test_loss_cap_needs_held_out_rows():
    frozen = FrozenEstimator(two_weights(0.0, 0.0))
    model = AdvancedNegGrad(frozen, loss_cap="val", random_state=0)
    with pytest.raises(ValueError, match="needs held-out rows; pass them"):
        model.unlearn(X, Y, forget=FORGET)
    model.set_params(loss_cap=None).unlearn(X, Y, forget=FORGET)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forget_weight", -1),
        ("forget_weight", "1"),
        ("forget_weight", True),
        ("loss_cap", "retain"),
        ("loss_cap", 1.0),
    ],
)
def test_hyperparameters_are_checked(name, value):
    model = AdvancedNegGrad(FrozenEstimator(two_weights(0.0, 0.0)), **{name: value})
    with pytest.raises(ValueError, match=f"{name} must be"):
        model.unlearn(X, Y, forget=FORGET)
