import contextlib
import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, InputShapeSetter
from torch import nn
from torch.nn.functional import kl_div, log_softmax, softmax
from torch.utils.data import DataLoader, Dataset, default_collate

from skunlearn import SISA, SSD, BadTeacher, Distill, EUk, FineTune, NegGrad, Retrain, SalUn
from skunlearn.methods.distill import bernoulli_divergence
from skunlearn.methods.distillation import divergence

# Students that hardly move are worse than their originals.
pytestmark = pytest.mark.filterwarnings("ignore:.*has damaged the network")


class Small(nn.Module):
    """Two layers, with batch normalisation and dropout between them."""

    def __init__(self, n_features_in, n_classes, dropout=0.0):
        super().__init__()
        self.first = nn.Linear(n_features_in, 6)
        self.norm = nn.BatchNorm1d(6)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(6, n_classes)

    def forward(self, X):
        return self.last(self.dropout(torch.relu(self.norm(self.first(X)))))


def make_net(module=Small, **params):
    params = {
        "train_split": None,
        "verbose": 0,
        "lr": 0.1,
        "max_epochs": 8,
        "batch_size": 64,
    } | params
    return NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **params)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3)).astype("float32")
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 0), np.arange(90) < 20


def state(unlearner):
    return {k: v.clone() for k, v in unlearner.estimator_.module_.state_dict().items()}


SIZES = {"module__n_features_in": 3, "module__n_classes": 3}
STILL = {"lr": 1e-30, "max_epochs": 1}  # so that the start is what comes out


def student_of(net, rows, method=Distill, **params):
    X, y, forget = rows
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = net.fit(X, y)
    unlearner = method(FrozenEstimator(net), random_state=0, **params or STILL)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*has (damaged|changed almost)")
        return unlearner.unlearn(X, y, forget=forget)


def weights_alone(found):
    """What training at a rate of almost nothing leaves as it was: all but batch statistics."""
    return {k: v for k, v in found.items() if "running" not in k and "num_batches" not in k}


def test_divergence_is_from_teacher_to_student_and_times_temperature_squared():
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    p = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]  # of logits that are halved
    q = [1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(-0.5))]
    right = 4 * sum(a * math.log(a / b) for a, b in zip(p, q))
    wrong = 4 * sum(b * math.log(b / a) for a, b in zip(p, q))
    assert divergence(teacher, student, 2.0).item() == pytest.approx(right, rel=1e-5)
    assert abs(right - wrong) > 0.01


def test_divergence_of_labels_is_the_sum_of_their_own():
    teacher, student = (
        torch.tensor([[2.0, -1.0], [0.0, 4.0]]),
        torch.tensor([[1.0, 1.0], [2.0, 0.0]]),
    )

    def own(t, s):
        p, q = 1 / (1 + math.exp(-t / 3)), 1 / (1 + math.exp(-s / 3))
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    pairs = zip(teacher.flatten().tolist(), student.flatten().tolist())
    expected = 9 * sum(own(t, s) for t, s in pairs) / 2  # of two rows
    assert bernoulli_divergence(teacher, student, 3.0).item() == pytest.approx(expected, rel=1e-5)


def test_two_parameters_worked_out_by_hand():
    """One step from a known start, on a network of one weight for each of two classes."""

    class Two(nn.Module):
        start = 0.0

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.full((1, 2), self.start) * torch.tensor([[1.0, -1.0]]))

        def forward(self, X):
            return X @ self.w

    Two.start = 1.0
    net = make_net(Two, batch_size=4).initialize()
    Two.start = 0.0
    X, y = np.array([[1.0], [2.0], [3.0], [0.5]], dtype="float32"), np.array([0, 1, 0, 1])
    forget = np.array([False, False, True, False])
    unlearner = Distill(FrozenEstimator(net), max_epochs=1, lr=0.25, random_state=0)
    unlearner.unlearn(X, y, forget=forget)
    # dT²KL/dz = T (q - p), with z the student's logits, which are 0: q is 1/2.
    x = np.array([1.0, 2.0, 0.5])
    p = 1 / (1 + np.exp(-(2 * x) / 2))
    gradient = (2 * (0.5 - p) * x).mean()
    expected = [[-0.25 * gradient, 0.25 * gradient]]
    assert unlearner.estimator_.module_.w.tolist() == [pytest.approx(expected[0], rel=1e-5)]


@pytest.mark.parametrize(("temperature", "ce_weight"), [(2.0, 0.0), (1.0, 0.0), (2.0, 0.7)])
def test_steps_are_those_of_plain_torch(rows, temperature, ce_weight):
    X, y, forget = rows
    net = make_net(nn.Linear, module__in_features=3, module__out_features=3, batch_size=-1)
    original = FineTune(net, random_state=0).fit(X, y).estimator_
    settings = {"temperature": temperature, "ce_weight": ce_weight, "random_state": 1}
    start = Distill(FrozenEstimator(original), **settings, **STILL).unlearn(X, y, forget=forget)
    module = nn.Linear(3, 3)
    module.load_state_dict(state(start))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.2)
    kept, labels = torch.tensor(X[~forget]), torch.tensor(y[~forget])
    with torch.no_grad():
        target = softmax(original.module_(kept) / temperature, dim=1)
    for n in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * n / 4))
        scores = module(kept)
        loss = temperature**2 * kl_div(
            log_softmax(scores / temperature, dim=1), target, reduction="batchmean"
        )
        loss = loss + ce_weight * nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = Distill(FrozenEstimator(original), lr=0.2, max_epochs=4, **settings)
    found.unlearn(X, y, forget=forget)
    for name, value in module.state_dict().items():
        assert state(found)[name].numpy() == pytest.approx(value.numpy(), abs=1e-5)


def test_steps_on_several_labels_are_those_of_plain_torch(rows):
    X, _, forget = rows
    y = np.stack([X[:, 0] > 0, X[:, 1] > X[:, 2]], axis=1).astype(int)
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=3,
        module__out_features=2,
        criterion=nn.BCEWithLogitsLoss,
        train_split=None,
        verbose=0,
        lr=0.5,
        batch_size=-1,
    )
    original = FineTune(net, random_state=0).fit(X, y).estimator_
    settings = {"temperature": 3.0, "ce_weight": 0.4, "random_state": 1}
    start = Distill(FrozenEstimator(original), **settings, **STILL).unlearn(X, y, forget=forget)
    module = nn.Linear(3, 2)
    module.load_state_dict(state(start))
    kept, labels = torch.tensor(X[~forget]), torch.tensor(y[~forget]).float()
    with torch.no_grad():
        p = (original.module_(kept) / 3).sigmoid()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.2)
    for n in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * n / 4))
        scores = module(kept)
        q = (scores / 3).sigmoid()
        each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        loss = 9 * each.sum(dim=1).mean()
        loss = loss + 0.4 * nn.functional.binary_cross_entropy_with_logits(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = Distill(FrozenEstimator(original), lr=0.2, max_epochs=4, **settings)
    found.unlearn(X, y, forget=forget)
    for name, value in module.state_dict().items():
        assert state(found)[name].numpy() == pytest.approx(value.numpy(), abs=1e-5)


def test_the_student_starts_where_a_retraining_does(rows):
    X, y, forget = rows
    original = FineTune(make_net(), random_state=0).fit(X, y)
    distilled, retrained = (
        cls(FrozenEstimator(original.estimator_), random_state=3, **STILL).unlearn(
            X, y, forget=forget
        )
        if cls is Distill
        else cls(make_net(), random_state=3, **STILL).fit(X, y, forget=forget)
        for cls in (Distill, Retrain)
    )
    expected = weights_alone(state(retrained))
    for name, value in weights_alone(state(distilled)).items():
        assert value.numpy() == pytest.approx(expected[name].numpy(), rel=1e-12, abs=1e-20)


def test_noise_is_the_share_of_the_fresh_network(rows):
    X, y, forget = rows
    original = FineTune(make_net(), random_state=0).fit(X, y).estimator_
    starts = {
        noise: weights_alone(
            state(
                Distill(FrozenEstimator(original), noise=noise, random_state=3, **STILL).unlearn(
                    X, y, forget=forget
                )
            )
        )
        for noise in (0.0, 0.25, 1.0)
    }
    own = original.module_.state_dict()
    for name in starts[0.0]:
        assert torch.equal(starts[0.0][name], own[name])
        assert not torch.equal(starts[1.0][name], own[name])
        mixed = 0.75 * own[name] + 0.25 * starts[1.0][name]
        assert starts[0.25][name].numpy() == pytest.approx(mixed.numpy(), abs=1e-6)


class Kinds(nn.Module):
    """A module of tied weights, complex ones, a mask, counts, and a buffer that is not saved."""

    def __init__(self, n_features_in=3, n_classes=3):
        super().__init__()
        self.first = nn.Linear(n_features_in, n_features_in)
        self.same = nn.Linear(n_features_in, n_features_in)
        self.same.weight = self.first.weight
        self.view = nn.Linear(n_features_in, n_features_in, bias=False)
        self.view.weight = nn.Parameter(self.first.weight.data)  # of the same memory
        self.turn = nn.Parameter(torch.randn(n_features_in, dtype=torch.complex64))
        self.last = nn.Linear(n_features_in, n_classes)
        mask = nn.Transformer.generate_square_subsequent_mask(n_features_in)
        self.register_buffer("mask", mask)
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass

    def forward(self, X):
        turned = (self.first(X) + self.view(X)) * self.turn
        return self.last(self.same(turned.real) + X @ self.mask.softmax(dim=1))


def kinds(noise, change=lambda module: None):
    """The tensors of an original and of the student as it starts from it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = make_net(Kinds, max_epochs=2).initialize()
    with torch.no_grad():
        original.module_.count += 5
        original.module_.unsaved += 8
        change(original.module_)
    X = np.random.default_rng(0).normal(size=(90, 3)).astype("float32")
    unlearner = Distill(FrozenEstimator(original), noise=noise, random_state=3, **STILL)
    unlearner.unlearn(X, np.arange(90) % 3, forget=np.arange(90) < 20)
    named = (
        dict(net.module_.named_parameters(remove_duplicate=False))
        | dict(net.module_.named_buffers())
        for net in (original, unlearner.estimator_)
    )
    return tuple(named)


@pytest.mark.filterwarnings("ignore:.*has changed almost nothing")
def test_each_kind_of_tensor_is_mixed_once():
    (own, start), (_, half), (_, fresh) = (kinds(noise) for noise in (0, 0.5, 1))
    assert own.keys() == start.keys() == half.keys() == fresh.keys()
    for name, value in own.items():
        assert torch.equal(start[name], value), name  # those that are not saved, and counts, too
        assert torch.equal(fresh[name], value) == (name == "mask"), name
        if value.is_floating_point() or value.is_complex():
            mixed = value if name == "mask" else 0.5 * value + 0.5 * fresh[name]
            assert torch.allclose(half[name], mixed, atol=1e-6), name
    assert own["count"].tolist() == [5, 5]
    assert half["count"].tolist() == fresh["count"].tolist() == [0, 0]
    for tied in (start, half, fresh):
        assert torch.equal(tied["first.weight"], tied["view.weight"])
        assert tied["first.weight"] is tied["same.weight"]


@pytest.mark.filterwarnings("ignore:.*has changed almost nothing")
def test_what_is_no_number_in_the_original_does_not_reach_a_fresh_student():
    _, fresh = kinds(1, lambda module: module.unsaved.fill_(torch.nan))
    assert fresh["unsaved"].tolist() == [0, 0]


def test_a_module_that_starts_with_other_weights_is_not_mixed(rows):
    X, y, forget = rows
    net = make_net(module__n_features_in=3, module__n_classes=3).fit(X, y)
    net.module_.norm = nn.Identity()
    with pytest.raises(ValueError, match=r"noise=0\.5 mixes .* \['norm.bias', .*Use noise=1"):
        Distill(FrozenEstimator(net), noise=0.5).unlearn(X, y, forget=forget)
    Distill(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=forget)


def test_no_buffer_of_the_original_is_in_a_fresh_student(rows):
    X, y, forget = rows
    original = FineTune(make_net(), random_state=0).fit(X, y).estimator_
    original.module_.norm.running_mean += 1000
    original.module_.norm.num_batches_tracked += 1000
    student = Distill(FrozenEstimator(original), random_state=0).unlearn(X, y, forget=forget)
    norm = student.estimator_.module_.norm
    assert norm.running_mean.abs().max() < 100
    assert norm.num_batches_tracked < 1000


def test_the_teacher_is_asked_in_evaluation_mode_and_stays_as_it_is(rows):
    X, y, forget = rows
    net = make_net(module__dropout=0.5)
    original = FineTune(net, random_state=0).fit(X, y).estimator_
    before = {k: v.clone() for k, v in original.module_.state_dict().items()}
    modes = []
    original.module_.register_forward_hook(lambda module, *_: modes.append(module.training))
    Distill(FrozenEstimator(original), random_state=0, max_epochs=2).unlearn(X, y, forget=forget)
    assert modes
    assert not any(modes)
    after = original.module_.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.filterwarnings("error")
def test_a_student_that_loses_more_than_a_fifth_of_the_accuracy_warns():
    class Threshold(nn.Module):
        start = 0.0

        def __init__(self):
            super().__init__()
            self.at = nn.Parameter(torch.tensor(self.start))

        def forward(self, X):
            return 5 * torch.cat([self.at - X, X - self.at], dim=1)

    X = np.linspace(-1, 1, 200, dtype="float32")[:, None]
    y, forget = (X[:, 0] > 0).astype(int), np.arange(200) % 10 == 0
    original = make_net(Threshold).initialize()
    for Threshold.start, warns in [(0.3, False), (0.5, True)]:  # 15 and 25 % of the rows
        seen = pytest.warns(UserWarning, match=r"Distill has damaged.* 1\.00 to 0\.75")
        with seen if warns else contextlib.nullcontext():
            Distill(FrozenEstimator(original), **STILL).unlearn(X, y, forget=forget)


@pytest.mark.parametrize("cache_teacher", [True, False])
def test_forget_rows_pass_through_neither_network_in_the_run(rows, cache_teacher):
    X, y, forget = rows
    X = X.copy()
    X[forget, 2] = 7.0  # by which to know them
    net = make_net()
    original = FineTune(net, random_state=0).fit(X, y).estimator_
    met = []

    class Watched(Distill):
        def _train(self, net, request, *phases, **kwargs):
            for each in (net, request.original):
                each.module_.register_forward_pre_hook(
                    lambda module, args: met.append(bool((args[0][:, 2] == 7).any()))
                )
            net = super()._train(net, request, *phases, **kwargs)
            met.append(None)  # what follows compares the networks
            return net

    unlearner = Watched(FrozenEstimator(original), cache_teacher=cache_teacher, random_state=0)
    unlearner.unlearn(X, y, forget=forget)
    run = met[: met.index(None)]
    assert run
    assert not any(run)


def test_asking_the_teacher_once_gives_what_asking_each_time_does(rows):
    X, y, forget = rows
    original = FrozenEstimator(FineTune(make_net(), random_state=0).fit(X, y).estimator_)
    once, each = (
        Distill(original, cache_teacher=cached, max_epochs=6, random_state=0).unlearn(
            X, y, forget=forget
        )
        for cached in (True, False)
    )
    for name, value in weights_alone(state(once)).items():
        assert value.numpy() == pytest.approx(state(each)[name].numpy(), abs=1e-4)
    assert once.unlearning_cost_ == pytest.approx(70 * (6 + 1 / 3))
    assert each.unlearning_cost_ == pytest.approx(70 * 6 * 4 / 3)


class Augmented(Dataset):
    """Rows that are other ones each time they are read."""

    def __init__(self, X, y):
        self.X, self.y, self.n_read = X, y, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.n_read += 1
        return self.X[i] + np.float32(0.01 * self.n_read), self.y[i]


def test_where_rows_may_be_augmented_the_teacher_sees_what_the_student_does(rows):
    X, y, forget = rows
    original = FineTune(make_net(), random_state=0).fit(X, y).estimator_
    unlearner = Distill(FrozenEstimator(original), max_epochs=3, random_state=0)
    unlearner.unlearn(Augmented(X, y), y, forget=forget)
    assert unlearner.unlearning_cost_ == pytest.approx(70 * 3 * 4 / 3)


class OwnLoader(DataLoader):
    """A loader that might augment rows."""


def stack(items):
    """A function that might, too."""
    return default_collate(items)


@pytest.mark.parametrize(
    "params",
    [
        {"iterator_train": OwnLoader},
        {"iterator_train__collate_fn": lambda items: default_collate(items)},
    ],
    ids=["loader", "collate_fn"],
)
def test_where_batches_may_be_augmented_the_teacher_is_asked_for_each(rows, params):
    X, y, forget = rows
    original = FineTune(make_net(**params), random_state=0).fit(X, y).estimator_
    unlearner = Distill(FrozenEstimator(original), max_epochs=3, random_state=0)
    unlearner.unlearn(X, y, forget=forget)
    assert unlearner.unlearning_cost_ == pytest.approx(70 * 3 * 4 / 3)


class Noisy(NeuralNetClassifier):
    """A network that augments the batches it trains on."""

    def train_step(self, batch, **fit_params):
        X, y = batch
        return super().train_step((X + 0.1 * torch.randn_like(X), y), **fit_params)


class Reading(NeuralNetClassifier):
    """A network that augments what it infers from."""

    def infer(self, X, **fit_params):
        return super().infer(X + 0.1 * torch.randn_like(X), **fit_params)


class Looping(NeuralNetClassifier):
    """A network with an iterator of its own."""

    def get_iterator(self, dataset, training=False):
        return super().get_iterator(dataset, training=training)


class Blur(Callback):
    """A callback that augments batches in place."""

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if training:
            batch[0].mul_(1 + 0.1 * torch.randn(1))


@pytest.mark.parametrize("cls", [Noisy, Reading, Looping, Blur])
def test_where_the_user_s_code_may_augment_batches_the_teacher_is_asked_for_each(rows, cls):
    params = {"callbacks": [Blur()]} if cls is Blur else {}
    cls = NeuralNetClassifier if cls is Blur else cls
    net = cls(
        Small, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1, **SIZES, **params
    )
    student = student_of(net, rows, lr=0.1, max_epochs=3)
    assert student.unlearning_cost_ == pytest.approx(70 * 3 * 4 / 3)


class Permuting(NeuralNetClassifier):
    """A network that trains on the rows of a batch in another order."""

    def train_step(self, batch, **fit_params):
        X, y = batch
        order = torch.randperm(len(y))
        return super().train_step((X[order], y[order]), **fit_params)


def test_rows_in_another_order_have_their_own_targets(rows):
    X, y, forget = rows
    net = Permuting(
        Small, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1, **SIZES
    )
    student = student_of(net, rows, lr=0.1, max_epochs=3)
    assert student.unlearning_cost_ == pytest.approx(70 * 3 * 4 / 3)
    for method, params in [(Distill, {"cache_teacher": True}), (BadTeacher, {})]:
        with pytest.raises(ValueError, match="Permuting, or a callback has changed"):
            method(FrozenEstimator(net), random_state=0, **params).unlearn(X, y, forget=forget)


@pytest.mark.parametrize(
    ("own", "epochs"), [(1, 1), (2, 2), (3, 3), (8, 3), (60, 3), (61, 4), (200, 10)]
)
def test_epochs_are_a_twentieth_of_the_network_s(rows, own, epochs):
    X, y, forget = rows
    original = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y).estimator_
    original.set_params(max_epochs=own)
    unlearner = Distill(FrozenEstimator(original), random_state=0).unlearn(X, y, forget=forget)
    assert len(unlearner.unlearning_history_) == epochs


def test_an_instance_starts_afresh_layer_by_layer(rows):
    original = make_net(Small(3, 3))
    student = student_of(original, rows)
    before = original.module_.state_dict()
    for name, value in weights_alone(state(student)).items():
        is_constant = name.startswith("norm")  # of weight 1 and bias 0, whoever starts it
        assert is_constant or (value - before[name]).abs().max() > 1e-3


class Statistics(nn.Module):
    """A layer with buffers alone, which it fills in training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, X):
        if self.training:
            self.mean.lerp_(X.detach().mean(dim=0), 0.1)
        return X - self.mean


class Restored(Statistics):
    """Its reset makes the buffer again, with values that are neither 0 nor 1."""

    def __init__(self):
        super().__init__()
        self.reset_parameters()

    def reset_parameters(self):
        self.mean.data.fill_(0.25)


class Constant(nn.Module):
    """A layer whose reset makes a constant again."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(3))
        self.reset_parameters()

    def reset_parameters(self):
        self.steps.copy_(torch.arange(3) / 10)

    def forward(self, X):
        return X + self.steps


class Prototypes(nn.Module):
    """A layer that keeps tensors in plain attributes."""

    def __init__(self):
        super().__init__()
        self.prototypes = {"all": [torch.zeros(3)]}

    def forward(self, X):
        return X + self.prototypes["all"][0]


class Keeps(nn.Module):
    """A layer that keeps what went through it, and has a mask."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3))

    def forward(self, X):
        self.last = X.detach()
        return X @ self.mask.softmax(dim=1)


class Centred(nn.CrossEntropyLoss):
    """A criterion that learns from the outputs it is given."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(3))

    def forward(self, scores, y):
        self.centre.lerp_(scores.detach().mean(dim=0), 0.1)
        return super().forward(scores - self.centre, y)


class Scaled(nn.CrossEntropyLoss):
    """A criterion with a weight."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, scores, y):
        return super().forward(scores * self.scale, y)


@pytest.mark.parametrize(
    ("layer", "kept"),
    [(Statistics, "mean"), (Prototypes, "prototypes")],
)
def test_an_instance_that_keeps_what_it_has_learnt_is_refused(rows, layer, kept):
    module = nn.Sequential(layer(), nn.Linear(3, 3))
    if layer is Prototypes:
        module[0].prototypes["all"][0] += 1000
    net = make_net(module)
    with pytest.raises(ValueError, match=rf"layer '0' .*module, a {layer.__name__}.*{kept}"):
        student_of(net, rows)
    student_of(net, rows, noise=0, **STILL)  # which starts as the original
    student_of(make_net(lambda: nn.Sequential(layer(), nn.Linear(3, 3))), rows)


@pytest.mark.parametrize("layer", [Restored, Constant, Keeps, lambda: nn.BatchNorm1d(3)])
def test_an_instance_that_makes_its_buffers_again_is_distilled(rows, layer):
    net = make_net(nn.Sequential(layer(), nn.Linear(3, 3)))
    student = student_of(net, rows).estimator_.module_
    assert not torch.allclose(student[1].weight, net.module_[1].weight)
    if hasattr(student[0], "mean"):
        net.module_[0].mean += 1000
        student = student_of(net.set_params(max_epochs=1), rows).estimator_.module_
        assert student[0].mean.abs().max() < 10


@pytest.mark.parametrize(("criterion", "kept"), [(Centred, "centre"), (Scaled, "scale")])
@pytest.mark.parametrize("module", [Small, Small(3, 3)], ids=["class", "instance"])
def test_a_criterion_that_keeps_what_it_has_learnt_is_refused(rows, module, criterion, kept):
    def made(criterion):
        sizes = {} if isinstance(module, nn.Module) else SIZES
        return NeuralNetClassifier(
            module, criterion=criterion, train_split=None, verbose=0, lr=0.1, **sizes
        )

    with pytest.raises(ValueError, match=rf"of estimator's criterion, a .*'{kept}'.*criterion's"):
        student_of(made(criterion()), rows)
    student_of(made(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3]))), rows)
    if not isinstance(module, nn.Module):
        student = student_of(made(criterion), rows).estimator_
        assert dict(student.criterion_.named_buffers()).get("centre", torch.zeros(1)).norm() == 0


class Encoded(NeuralNetClassifier):
    """A network with a second module."""

    def initialize_module(self):
        super().initialize_module()
        self.enc_ = nn.Linear(3, 3)
        return self

    def infer(self, X, **fit_params):
        return super().infer(self.enc_(X), **fit_params)


def test_a_second_module_starts_afresh_where_the_first_is_an_instance(rows):
    net = Encoded(
        nn.Linear(3, 3), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    )
    student = student_of(net, rows).estimator_
    for new, old in [(student.enc_, net.enc_), (student.module_, net.module_)]:
        assert not torch.allclose(new.weight, old.weight)


def test_frozen_layers_of_an_instance_stay_with_all_they_hold(rows):
    module = Small(3, 3)
    base = nn.Sequential(Statistics(), nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)
    net = make_net(nn.Sequential(base, module))
    student = student_of(net, rows).estimator_.module_
    assert torch.equal(student[0][1].weight, base[1].weight)
    assert student[0][2].num_batches_tracked > base[2].num_batches_tracked > 0
    assert not torch.allclose(student[1].last.weight, module.last.weight)


def test_a_pretrained_base_that_a_function_loads_is_where_the_student_starts(rows):
    base = nn.Linear(3, 3)
    weights = {name: value.clone() for name, value in base.state_dict().items()}

    def pretrained():
        loaded = nn.Linear(3, 3)
        loaded.load_state_dict(weights)
        return nn.Sequential(loaded, nn.Linear(3, 3))

    net = make_net(pretrained)
    student = student_of(net, rows).estimator_.module_
    assert torch.allclose(student[0].weight, weights["weight"])
    assert not torch.allclose(net.module_[0].weight, weights["weight"])
    assert not torch.allclose(student[1].weight, net.module_[1].weight)


def shares(requires_grad):
    """A function whose networks have a layer in common."""
    base = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(requires_grad)
    return lambda: nn.Sequential(base, nn.Linear(3, 3))


def shares_memory():
    """A function whose networks have the memory of a weight in common."""
    weight = torch.randn(3, 3)

    def build():
        module = nn.Linear(3, 3)
        module.weight = nn.Parameter(weight)
        return module

    return build


@pytest.mark.parametrize("method", [Distill, EUk, BadTeacher])
@pytest.mark.parametrize("build", [lambda: shares(True), shares_memory], ids=["layer", "memory"])
def test_networks_that_share_weights_are_refused(rows, method, build):
    X, y, forget = rows
    net = make_net(build()).fit(X, y)
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    with pytest.raises(ValueError, match=r"'weight' of a Linear is one and the same tensor"):
        method(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=forget)
    assert all(torch.equal(before[name], value) for name, value in net.module_.state_dict().items())
    with pytest.raises(ValueError, match=r"'weight' of a Linear is one and the same tensor"):
        method(net, random_state=0).fit(X, y, forget=forget)


@pytest.mark.parametrize("method", [Distill, EUk, BadTeacher, Retrain])
def test_lazy_layers_are_apart_until_they_have_sizes(rows, method):
    X, y, forget = rows
    unlearner = method(make_net(lambda: nn.LazyLinear(3)), random_state=0)
    module = unlearner.fit(X, y, forget=forget).estimator_.module_
    assert module.weight.shape == (3, 3)


class Sparse(nn.Module):
    """A layer with a sparse buffer, a mask."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.eye(3).to_sparse())

    def forward(self, X):
        return torch.sparse.mm(self.mask, X.T).T


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("instance", [False, True])
def test_a_sparse_buffer_stays_as_it_is(rows, noise, instance):
    def build():
        return nn.Sequential(Sparse(), nn.Linear(3, 3))

    student = student_of(make_net(build() if instance else build), rows, noise=noise, **STILL)
    assert student.estimator_.module_[0].mask.to_dense().equal(torch.eye(3))


def test_an_instance_is_distilled_again_and_again(rows):
    X, y, forget = rows
    student = student_of(make_net(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))), rows)
    before = student.estimator_.module_[0].weight
    student.set_params(random_state=1).unlearn(X, y, forget=forget | (np.arange(90) < 30))
    assert not torch.allclose(student.estimator_.module_[0].weight, before)


@pytest.mark.parametrize("method", [Retrain, FineTune])
def test_a_training_that_would_start_from_shared_weights_is_refused(rows, method):
    X, y, forget = rows
    with pytest.raises(ValueError, match=r"'weight' of a Linear is one and the same tensor"):
        method(make_net(shares(True)), random_state=0).fit(X, y, forget=forget)


def test_statistics_that_a_training_moves_count_as_shared(rows):
    net = make_net(shares(False))
    with pytest.raises(ValueError, match=r"'running_mean' of a BatchNorm1d is one and the same"):
        student_of(net, rows)

    base = nn.Linear(3, 3).requires_grad_(False)
    student = student_of(make_net(lambda: nn.Sequential(base, nn.Linear(3, 3))), rows)
    assert student.estimator_.module_[0].weight.equal(base.weight)


@pytest.mark.parametrize("method", [Distill, EUk, BadTeacher, FineTune])
def test_a_callback_that_sets_sizes_late_is_explained(rows, method):
    X, y, forget = rows

    def module(input_dim=1):
        return nn.Linear(input_dim, 3)

    net = make_net(module, callbacks=[InputShapeSetter()])
    with pytest.raises(ValueError, match=r"on_train_begin.*with module__\.\.\. instead"):
        method(net, random_state=0).fit(X, y, forget=forget)


def test_a_module_with_other_columns_than_the_original_is_refused(rows):
    X, y, forget = rows
    net = make_net(lambda: nn.Linear(3, 7)).initialize()
    net.module_ = nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"returns 7 columns, and the trained one 3"):
        Distill(FrozenEstimator(net)).unlearn(X, y, forget=forget)


def frozen_module(**sizes):
    return Small(**sizes).requires_grad_(False)


@pytest.mark.parametrize("method", [Distill, FineTune, BadTeacher, SSD, SalUn])
@pytest.mark.parametrize("instance", [False, True])
def test_a_network_that_is_frozen_whole_is_refused(rows, method, instance):
    X, y, forget = rows
    sizes = {name.removeprefix("module__"): size for name, size in SIZES.items()}
    net = make_net(frozen_module(**sizes)) if instance else make_net(frozen_module, **SIZES)
    with pytest.raises(ValueError, match="module is frozen: there is nothing to train"):
        method(FrozenEstimator(net.initialize())).unlearn(X, y, forget=forget)


@pytest.mark.parametrize("method", [FineTune, Retrain, SISA])
def test_a_training_of_a_network_that_is_frozen_whole_is_refused(rows, method):
    X, y, forget = rows
    with pytest.raises(ValueError, match="module is frozen: there is nothing to train"):
        method(make_net(frozen_module, **SIZES)).fit(X, y, forget=forget)


def test_a_frozen_teacher_may_have_a_student_that_is_not(rows):
    X, y, forget = rows
    net = make_net(**SIZES).initialize()
    net.module_.requires_grad_(False)
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    start, student = (
        state(Distill(FrozenEstimator(net), random_state=0, **how).unlearn(X, y, forget=forget))
        for how in (STILL, {})
    )
    for name, value in net.module_.state_dict().items():
        assert torch.equal(before[name], value)
        if name != "first.bias":  # whose gradient, before batch normalisation, is round-off
            assert not torch.equal(start[name], student[name])


def test_labels_are_not_read_without_a_weight(rows):
    X, y, forget = rows
    original = FrozenEstimator(FineTune(make_net(), random_state=0).fit(X, y).estimator_)
    first, second = (
        state(Distill(original, random_state=0).unlearn(X, labels, forget=forget))
        for labels in (y, (y + 1) % 3)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_unlearned_teacher_is_the_whole_of_undo(rows):
    X, y, forget = rows
    unlearned = NegGrad(make_net(), random_state=0, lr=0.01).fit(X, y, forget=forget)
    teacher = FrozenEstimator(unlearned.estimator_)
    student = Distill(teacher, random_state=0).unlearn(X, y, forget=forget)
    other = Distill(make_net(), random_state=0).fit(X, y, forget=forget)
    assert not torch.equal(state(student)["last.weight"], state(other)["last.weight"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"noise": 1.1}, "noise must be a number at least 0 and at most 1; got 1.1"),
        ({"noise": "all"}, "noise must be a number"),
        ({"temperature": 0}, "temperature must be a number at least 0.01 and at most 100; got 0"),
        ({"temperature": 101}, "temperature must be a number at least 0.01 and at most 100"),
        ({"temperature": math.inf}, "temperature must be a number at least 0.01 and at most 100"),
        ({"ce_weight": -1}, "ce_weight must be a number at least 0; got -1"),
        ({"cache_teacher": "yes"}, "cache_teacher must be 'auto', True or False; got 'yes'"),
    ],
)
def test_bad_parameters(rows, params, message):
    X, y, forget = rows
    with pytest.raises(ValueError, match=message):
        Distill(make_net(), **params).fit(X, y, forget=forget)


def test_a_search_leaves_noise_alone():
    space = Distill(make_net()).search_space()
    assert space.keys() == {"lr", "max_epochs", "temperature"}
