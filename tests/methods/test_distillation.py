"""Distillation: each step against plain torch, and against the mistakes that are usually made."""

import tempfile

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import entr
from sklearn.frozen import FrozenEstimator
from skorch import History, NeuralNetClassifier
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from skunlearn import SCRUB, BadTeacher, FineTune
from skunlearn._engine.fresh import reinitialise
from skunlearn._engine.rows import Rows
from skunlearn.methods.distillation import _is_unsure, _RestoreBest, divergence, teacher_logits
from tests.networks import MLP, make_net

X_RETAIN = torch.tensor([[1.0], [-0.5], [2.0], [-1.5]])
Y_RETAIN = torch.tensor([0, 1, 0, 1])
X_FORGET = torch.tensor([[1.5], [-0.8]])
Y_FORGET = torch.tensor([1, 0])
X = torch.cat([X_RETAIN, X_FORGET])
Y = torch.cat([Y_RETAIN, Y_FORGET])
FORGET = np.array([False] * 4 + [True] * 2)


class TwoWeights(nn.Module):
    """Logits ``x * (a, b)``; all weights start from 0."""

    def __init__(self, softmax=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.softmax = softmax

    def forward(self, X):
        scores = X * self.weight
        return scores.softmax(dim=1) if self.softmax else scores


def two_weights(**params):
    """A network of two weights that were trained to 0.5 and -1; every batch holds all rows."""
    params = {"lr": 2.0, "batch_size": 100, "optimizer__momentum": 0, **params}
    net = make_net(TwoWeights, **params).initialize()
    with torch.no_grad():
        net.module_.weight.copy_(torch.tensor([0.5, -1.0]))
    return net


def weight_of(net):
    return net.module_.weight.detach().clone()


def kl(p, q, temperature):
    """KL(p || q) of softened logits, in probabilities."""
    p, q = ((logits / temperature).softmax(dim=1) for logits in (p, q))
    return temperature**2 * (p * (p / q).log()).sum(dim=1).mean()


def descend(losses, start=(0.5, -1.0), lr=2.0):
    """Gradient steps on functions of the weight, under the cosine that a run follows."""
    weight = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(losses))
    for loss in losses:
        optimizer.zero_grad()
        loss(weight).backward()
        optimizer.step()
        schedule.step()
    return weight.detach()


def testdivergence_is_that_of_softened_probabilities_from_teacher_to_student():
    even, skewed = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()  # (1/2, 1/2), (3/4, 1/4)
    right = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    swapped = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    on_raw_logits = F.kl_div(skewed, even.softmax(dim=1), reduction="batchmean")
    assert divergence(even, skewed, 1.0).item() == pytest.approx(right, rel=1e-5)
    assert divergence(skewed, even, 1.0).item() == pytest.approx(swapped, rel=1e-5)
    assert on_raw_logits.item() != pytest.approx(right, rel=0.1)
    assert divergence(2 * even, 2 * skewed, 2.0).item() == pytest.approx(4 * right, rel=1e-5)
    three = [scores.expand(3, 2) for scores in (even, skewed)]
    assert divergence(*three, 1.0).item() == pytest.approx(right, rel=1e-5)  # mean, not sum


@pytest.mark.parametrize("net", [{}, {"criterion": nn.NLLLoss, "module__softmax": True}])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_bad_teacher_takes_the_steps_of_plain_torch(net, temperature):
    original = two_weights(**net)

    def loss(weight):
        teachers = torch.cat([X_RETAIN * torch.tensor([0.5, -1.0]), torch.zeros(2, 2)])
        return kl(teachers, X * weight, temperature)

    unlearned = BadTeacher(
        FrozenEstimator(original), max_epochs=4, temperature=temperature, random_state=0
    ).unlearn(X, Y, forget=FORGET)
    expected = descend([loss] * 4)
    assert torch.allclose(weight_of(unlearned.estimator_), expected, atol=1e-4)
    # Without the forget rows nothing would move, and a divergence that is subtracted is negative.
    assert not torch.allclose(expected, weight_of(original), atol=0.05)
    assert min(unlearned.unlearning_history_[:, "train_loss"]) > 0


def test_bad_teacher_reads_no_labels():
    right, wrong = (
        BadTeacher(FrozenEstimator(two_weights()), random_state=0).unlearn(X, y, forget=FORGET)
        for y in (Y, 1 - Y)
    )
    assert torch.equal(weight_of(right.estimator_), weight_of(wrong.estimator_))


@pytest.fixture(scope="module")
def trained_instance():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_net(MLP(4, 2), max_epochs=30).fit(X, y), X, y


def test_bad_teacher_of_a_module_instance_has_fresh_weights(trained_instance):
    net, X, y = trained_instance
    before = net.predict_proba(X)
    forget = np.arange(100) < 20
    with torch.no_grad():
        weights = [p.clone() for p in net.module_.parameters()]
    unlearned = BadTeacher(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=forget)
    after = unlearned.predict_proba(X)
    # A teacher with the trained weights would leave everything as it was.
    assert after[forget].max(axis=1).mean() < before[forget].max(axis=1).mean() - 0.05
    assert all(torch.equal(a, b) for a, b in zip(weights, net.module_.parameters()))


def test_reinitialise_draws_everything_anew():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(4, 4),
        nn.BatchNorm1d(4),
        nn.TransformerEncoderLayer(4, 2, dim_feedforward=4),
        nn.LSTM(4, 4),
    )
    with torch.no_grad():
        for value in module.state_dict().values():
            value.fill_(7)
    for name, layer in reversed(list(module.named_modules())):
        reinitialise(name, layer)
    for name, value in module.state_dict().items():
        assert not (value == 7).any(), name


def test_module_instance_that_cannot_be_reinitialised_is_refused():
    net = make_net(TwoWeights()).initialize()
    with pytest.raises(ValueError, match=r"TwoWeights, cannot be re-initialised.*'weight'"):
        BadTeacher(FrozenEstimator(net)).unlearn(X, Y, forget=FORGET)


def scrub_losses(teacher, kl_weight=0.3, ce_weight=0.7, temperature=2.0):
    """The losses of a pass over forget rows and of one over retained rows."""

    def maximise(weight):
        return -kl(X_FORGET * teacher(weight), X_FORGET * weight, temperature)

    def minimise(weight):
        scores = X_RETAIN * weight
        loss = ce_weight * F.cross_entropy(scores, Y_RETAIN)
        return loss + kl_weight * kl(X_RETAIN * teacher(weight), scores, temperature)

    return maximise, minimise


@pytest.mark.parametrize("net", [{}, {"criterion": nn.NLLLoss, "module__softmax": True}])
def test_scrub_takes_the_steps_of_plain_torch(net):
    original = two_weights(**net)
    unlearned = SCRUB(
        FrozenEstimator(original),
        max_epochs=3,
        ascent_epochs=2,
        kl_weight=0.3,
        ce_weight=0.7,
        temperature=2.0,
        random_state=0,
    ).unlearn(X, Y, forget=FORGET)
    maximise, minimise = scrub_losses(lambda weight: torch.tensor([0.5, -1.0]))
    expected = descend([maximise, minimise, maximise, minimise, minimise])
    assert torch.allclose(weight_of(unlearned.estimator_), expected, atol=1e-4)
    maximise, minimise = scrub_losses(lambda weight: weight.detach())
    shallow_teacher = descend([maximise, minimise, maximise, minimise, minimise])
    assert not torch.allclose(expected, shallow_teacher, atol=0.02)
    # An optimiser of the teacher's weights would have moved these.
    assert torch.equal(weight_of(original), torch.tensor([0.5, -1.0]))
    losses = unlearned.unlearning_history_[:, "train_loss"]
    assert losses[0] == pytest.approx(0, abs=1e-5)
    assert losses[2] < -0.001


@pytest.mark.parametrize(
    ("ascent_epochs", "rows"),
    [(0, [4, 4, 4]), (1, [2, 4, 4, 4]), (2, [2, 4, 2, 4, 4]), (9, [2, 4, 2, 4, 2, 4])],
)
def test_scrub_alternates_for_ascent_epochs(ascent_epochs, rows):
    unlearned = SCRUB(
        FrozenEstimator(two_weights()), max_epochs=3, ascent_epochs=ascent_epochs, random_state=0
    ).unlearn(X, Y, forget=FORGET)
    history = unlearned.unlearning_history_
    assert [epoch["batches"][0]["train_batch_size"] for epoch in history] == rows


def test_scrub_takes_forget_rows_in_batches_of_their_own_size():
    unlearned = SCRUB(
        FrozenEstimator(two_weights()),
        max_epochs=2,
        ascent_epochs=1,
        batch_size=3,
        forget_batch_size=1,
        random_state=0,
    ).unlearn(X, Y, forget=FORGET)
    assert [
        [batch["train_batch_size"] for batch in epoch["batches"]]
        for epoch in unlearned.unlearning_history_
    ] == [[1, 1], [3, 1], [3, 1]]


def test_a_batch_sampler_leaves_no_choice_of_forget_batch_size():
    net = two_weights(
        iterator_train__batch_sampler=lambda y: [[i, i + 1] for i in range(0, len(y), 2)],
        iterator_train__batch_size=1,
        iterator_train__shuffle=False,
    )
    SCRUB(FrozenEstimator(net), random_state=0).unlearn(X, Y, forget=FORGET)
    with pytest.raises(ValueError, match=r"forget_batch_size=1 .* iterator_train__batch_sampler"):
        SCRUB(FrozenEstimator(net), forget_batch_size=1).unlearn(X, Y, forget=FORGET)


class Requested:
    """What a request holds for restoring an epoch."""

    def __init__(self, forget, val):
        self.forget, self.val = (
            torch.utils.data.TensorDataset(torch.zeros(len(y), 1)) for y in (forget, val)
        )
        self.forget.y, self.val.y = torch.tensor(forget), torch.tensor(val)


def test_restore_best_weights_held_out_rows_to_the_classes_of_the_forget_rows():
    restore = _RestoreBest(Requested([0, 0, 1, 3], [0, 1, 1, 2]), None, n_classes=4)
    assert restore.weights.tolist() == [2, 0.5, 0.5, 0]


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 6)).astype(np.float32)
    y = (X[:, 0] > 0) + (X[:, 1] > 0.5).astype(int)
    y = np.where(rng.random(160) < 0.3, rng.integers(0, 3, 160), y)
    net = make_net(module__hidden=64, max_epochs=60, iterator_train__shuffle=False)
    original = SCRUB(net, random_state=0).fit(X[:100], y[:100]).estimator_
    return original, X[:100], y[:100], X[100:], y[100:], np.arange(100) < 20


@pytest.mark.filterwarnings("ignore:SCRUB has damaged")
@pytest.mark.parametrize("held_out", ["all", "those that the last epoch gets right"])
def test_restore_best_returns_to_the_epoch_nearest_to_the_held_out_error(
    noisy, tmp_path, monkeypatch, held_out
):
    original, X, y, X_val, y_val, forget = noisy
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    keep = ~forget | (y == 0)  # forget rows of one class only
    X, y, forget = X[keep], y[keep], forget[keep]
    params = {"max_epochs": 8, "ascent_epochs": 8, "batch_size": 4, "random_state": 0}
    last = SCRUB(FrozenEstimator(original), **params)
    last.unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)
    if held_out != "all":
        right = last.predict(X_val) == y_val
        X_val, y_val = X_val[right], y_val[right]
    target = 1 - last.score(X_val[y_val == 0], y_val[y_val == 0])
    model = SCRUB(FrozenEstimator(original), restore_best=True, **params)
    model.unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)
    history = model.unlearning_history_
    errors = [epoch["forget_error"] for epoch in history if "forget_error" in epoch]
    assert len(errors) == 8
    assert errors[-1] == pytest.approx(1 - last.score(X[forget], y[forget]))
    (restored,) = [epoch for epoch in history if epoch["restored"]]
    assert abs(restored["forget_error"] - target) == min(abs(e - target) for e in errors)
    assert 1 - model.score(X[forget], y[forget]) == pytest.approx(restored["forget_error"])
    if held_out != "all":  # a target of 0, as in the first epochs, and the run has gone beyond
        assert target == errors[0] == 0 < errors[-1]
        assert restored is not history[-1]
    assert list(tmp_path.iterdir()) == []


def test_restore_best_returns_to_the_last_of_equally_near_epochs(tmp_path, monkeypatch):
    restore = _RestoreBest(Requested([0, 0, 1, 3], [0, 1, 1, 2]), tmp_path, n_classes=4)
    monkeypatch.setattr(restore, "_error", lambda *args: 0.5)
    net = two_weights()
    net.history = History()
    for epoch, error in enumerate([0.0, 0.25, None, 0.75, 0.25, None, 1.0], 1):
        net.history.new_epoch()
        if error is not None:
            net.history.record("forget_error", error)
            torch.save([{"weight": torch.full((2,), float(epoch))}, {}], tmp_path / str(epoch))
    assert weight_of(restore.apply(net)).tolist() == [5.0, 5.0]
    assert net.history[:, "restored"] == [epoch == 5 for epoch in range(1, 8)]


def test_restore_best_needs_held_out_rows_of_the_same_classes(noisy):
    original, X, y, X_val, y_val, _ = noisy
    model = SCRUB(FrozenEstimator(original), restore_best=True)
    forget = (np.arange(100) < 20) & (y == 0)
    with pytest.raises(ValueError, match="SCRUB, as it is set up, needs held-out rows"):
        model.unlearn(X, y, forget=forget)
    other = y_val != 0
    with pytest.raises(ValueError, match="of the same classes"):
        model.unlearn(X, y, forget=forget, X_val=X_val[other], y_val=y_val[other])
    model.set_params(restore_best=False).unlearn(X, y, forget=forget)


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        (BadTeacher, "temperature", 0),
        (BadTeacher, "temperature", np.inf),
        (SCRUB, "temperature", -1.0),
        (SCRUB, "temperature", 1e4),
        (SCRUB, "forget_batch_size", 0),
        (SCRUB, "forget_batch_size", -1),
        (SCRUB, "forget_batch_size", 2.5),
        (SCRUB, "ascent_epochs", 1.5),
        (SCRUB, "ascent_epochs", -1),
        (SCRUB, "kl_weight", -0.1),
        (SCRUB, "ce_weight", "much"),
        (SCRUB, "restore_best", "yes"),
    ],
)
def test_hyperparameters_are_checked(method, name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        method(make_net(), **{name: value}).fit(X, Y, forget=FORGET)


def test_error_of_held_out_rows_is_weighted():
    restore = _RestoreBest(Requested([0, 0, 1, 3], [0, 1, 1, 2]), None, n_classes=4)

    class Says:
        module_ = nn.Identity()

        def predict_proba(self, rows):
            return np.eye(4)[[1, 1, 0, 2]]  # wrong, right, wrong, right

    error = restore._error(Says(), restore.request.val, restore.weights)
    assert error == pytest.approx((2 + 0.5) / 3)  # unweighted: 1 / 2


def with_noise(n_features_in, n_classes):
    return nn.Sequential(
        nn.Linear(n_features_in, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, n_classes)
    )


class LeavesOut(NeuralNetClassifier):
    """As an Accelerator, which takes the rows of a batch for padding after other loaders' ends."""

    def evaluation_step(self, batch, training=False):
        return super().evaluation_step(batch, training=training)[:-1]


def test_a_teacher_answers_for_every_row():
    params = {"criterion": nn.CrossEntropyLoss, "module__in_features": 2, "module__out_features": 3}
    net = LeavesOut(nn.Linear, **params).initialize()
    assert teacher_logits(net, torch.ones(5, 2)).shape == (5, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", [SCRUB, BadTeacher])
def test_teachers_answer_in_evaluation_mode_and_without_gradient(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    y, forget = (X[:, 0] > 0).astype(int), np.arange(60) < 12
    net = FineTune(make_net(with_noise), random_state=0).fit(X, y).estimator_
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    net.module_.train()
    answers = [teacher_logits(net, torch.as_tensor(X)) for _ in range(2)]
    with torch.no_grad():
        assert torch.equal(answers[0], net.module_.eval()(torch.as_tensor(X)))
    assert torch.equal(*answers)
    assert not answers[0].requires_grad
    method(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=forget)
    after = net.module_.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(("share", "unsure"), [(0.45, False), (0.55, True), (0.95, True)])
def test_unsure_is_from_half_of_the_greatest_entropy_on(share, unsure):
    # Of two classes with probabilities p and 1 - p, whose entropy is the given share of log 2.
    p = brentq(lambda p: entr(p) + entr(1 - p) - share * np.log(2), 1e-9, 0.5)
    net = two_weights()
    with torch.no_grad():
        net.module_.weight.copy_(torch.tensor([np.log(p), np.log(1 - p)]))
    rows = Rows(TensorDataset(torch.ones(6, 1), torch.zeros(6)), torch.zeros(6))
    assert _is_unsure(net, rows) == unsure
