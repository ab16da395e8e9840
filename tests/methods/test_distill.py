import math

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.functional import kl_div, log_softmax, softmax
from torch.utils.data import DataLoader, Dataset, default_collate

from skunlearn import Distill, FineTune, NegGrad, Retrain
from skunlearn.methods.distill import bernoulli_divergence
from skunlearn.methods.distillation import divergence


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


STILL = {"lr": 1e-30, "max_epochs": 1}  # so that the start is what comes out


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


@pytest.mark.parametrize(("own", "epochs"), [(8, 3), (60, 3), (61, 4), (200, 10)])
def test_epochs_are_a_twentieth_of_the_network_s(rows, own, epochs):
    X, y, forget = rows
    original = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y).estimator_
    original.set_params(max_epochs=own)
    unlearner = Distill(FrozenEstimator(original), random_state=0).unlearn(X, y, forget=forget)
    assert len(unlearner.unlearning_history_) == epochs


def test_an_instance_starts_afresh_layer_by_layer(rows):
    X, y, forget = rows
    original = make_net(Small(3, 3)).fit(X, y)
    before = {k: v.clone() for k, v in original.module_.state_dict().items()}
    student = Distill(FrozenEstimator(original), random_state=0, **STILL).unlearn(
        X, y, forget=forget
    )
    for name, value in weights_alone(state(student)).items():
        is_constant = name.startswith("norm")  # of weight 1 and bias 0, whoever starts it
        assert is_constant or (value - before[name]).abs().max() > 1e-3


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
        ({"temperature": 0}, "temperature must be a number greater than 0; got 0"),
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
