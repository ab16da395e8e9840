"""What an unlearning run must survive: users' networks, callbacks, splits, caches and threads."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from joblib import Memory, Parallel, delayed
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    InputShapeSetter,
    LRScheduler,
)
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import TensorDataset

from skunlearn import DLFD, BadTeacher, FineTune, NegGrad, RandomLabel, Retrain
from tests.networks import MLP, make_net


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    return X, y, np.arange(200) < 20


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.estimator_.module_.parameters()])


class Sizes(Callback):
    """Note how many rows each training reads."""

    seen: list = []  # noqa: RUF012

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        self.seen.append(len(dataset_train))


def test_retraining_sets_validation_rows_aside_once(problem):
    X, y, forget = problem
    net = make_net(train_split=ValidSplit(5, stratified=True), max_epochs=1, callbacks=[Sizes])
    Sizes.seen.clear()
    one = Retrain(net, random_state=0).fit(X, y, forget=forget)
    two = Retrain(net, random_state=0).fit(X, y).unlearn(X, y, forget=forget)
    assert Sizes.seen == [144, 160, 144]
    assert torch.equal(weights(one), weights(two))


def test_predictions_draw_from_no_global_generator(problem):
    X, y, forget = problem
    model = FineTune(make_net(), random_state=0).fit(X, y, forget=forget)
    before = torch.get_rng_state()
    model.predict_proba(X)  # while another thread may be training
    assert torch.equal(torch.get_rng_state(), before)


def test_held_out_rows_that_a_method_does_not_use_change_nothing(problem):
    X, y, forget = problem
    probas = []
    for val in ({}, {"X_val": X[:30], "y_val": y[:30]}):
        model = FineTune(make_net(), max_epochs=3, random_state=0).fit(X, y)
        probas.append(model.unlearn(X, y, forget=forget, **val).predict_proba(X))
    assert "valid_loss" in model.unlearning_history_[-1]
    assert np.array_equal(*probas)


def test_a_random_validation_split_is_seeded_too(problem):
    X, y, forget = problem
    net = make_net(train_split=ValidSplit(0.2))
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    models = [FineTune(net, random_state=0).fit(X, y).unlearn(X, y, forget=forget) for _ in "ab"]
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert (before == np.random.get_state()[1]).all()  # noqa: NPY002


def test_cache_tells_an_edited_module_from_the_one_before(problem, tmp_path):
    X, y, _ = problem
    scope = {"MLP": MLP}
    for hidden in (5, 7):
        code = f"def module(n_features_in, n_classes): return MLP(4, 3, {hidden})"
        exec(code, scope)
        model = FineTune(
            make_net(scope["module"], max_epochs=1), memory=str(tmp_path), random_state=0
        )
        assert model.fit(X, y).estimator_.module_.head.in_features == hidden


@pytest.mark.parametrize("kind", ["array", "data set"])
def test_cache_is_hit_by_the_same_rows_and_by_no_others(problem, tmp_path, kind):
    X, y, _ = problem
    trainings = []

    class Count(EpochScoring):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            trainings.append(1)
            super().on_train_begin(net, X, y, **kwargs)

    def fit(X, memory):
        net = make_net(
            max_epochs=1,
            callbacks=[Count("accuracy", on_train=True)],
            criterion__weight=torch.ones(3),
        )
        rows = (X, y) if kind == "array" else (TensorDataset(*map(torch.as_tensor, (X, y))),)
        return FineTune(net, memory=memory, random_state=0).fit(*rows)

    memory = Memory(tmp_path, verbose=0)
    first, again = fit(X, memory), fit(X.copy(), memory)
    assert len(trainings) == 1
    assert torch.equal(weights(first), weights(again))
    fit(X + 1, memory)
    assert len(trainings) == 2


def test_cache_is_not_used_without_a_seed(problem, tmp_path):
    X, y, _ = problem
    with pytest.warns(UserWarning, match="memory is not used with random_state=None"):
        FineTune(make_net(max_epochs=1), memory=str(tmp_path)).fit(X, y)
    assert not list(tmp_path.rglob("*.pkl"))


class OwnStep(NeuralNetClassifier):
    def train_step(self, batch, **fit_params):
        X, y = batch
        self.optimizer_.zero_grad()
        loss = self.get_loss(self.infer(X), y)
        loss.backward()
        self.optimizer_.step()
        return {"loss": loss, "y_pred": None}


def test_a_network_whose_step_goes_past_the_method_is_refused(problem):
    X, y, forget = problem
    net = OwnStep(MLP, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=1)
    model = DLFD(net, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="OwnStep, has a train_step that does not call"):
        model.unlearn(X, y, forget=forget)


def test_perturbing_after_the_feature_layer_is_refused(problem):
    X, y, forget = problem
    model = DLFD(make_net(), perturb_at="head", random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="perturb_at='head' must come before the feature layer"):
        model.unlearn(X, y, forget=forget)


class TwoModules(NeuralNetClassifier):
    def initialize_module(self):
        super().initialize_module()
        self.extra_ = nn.Dropout(0.5)
        return self

    def infer(self, x, **fit_params):
        MODES.append(self.extra_.training)
        return super().infer(self.extra_(x), **fit_params)


MODES = []


def test_every_module_of_a_network_trains_in_training_mode(problem):
    X, y, forget = problem
    net = TwoModules(
        MLP,
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
        max_epochs=1,
        batch_size=200,
    )
    model = DLFD(net, max_epochs=1, random_state=0).fit(X, y)
    MODES.clear()
    model.unlearn(X, y, forget=forget)
    # The perturbed and the clean pass of the one batch; features and perturbation in evaluation.
    assert MODES.count(True) == 2
    assert MODES.count(False) > 2


def test_batch_size_counts_even_where_the_loader_has_its_own(problem):
    X, y, forget = problem
    model = FineTune(make_net(iterator_train__batch_size=90), batch_size=30, random_state=0)
    model.fit(X, y, forget=forget)
    assert len(model.unlearning_history_[0]["batches"]) == 6


def test_a_loader_whose_batches_cannot_be_marked_is_refused(problem):
    X, y, forget = problem

    class Plain:  # yields batches, and is no DataLoader
        def __init__(self, dataset, batch_size, shuffle=False, **kwargs):
            self.dataset, self.batch_size = dataset, batch_size

        def __len__(self):
            return -(-len(self.dataset) // self.batch_size)

        def __iter__(self):
            return iter(torch.utils.data.DataLoader(self.dataset, self.batch_size))

    model = BadTeacher(make_net(max_epochs=1, iterator_train=Plain), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"iterator_train.* got Plain, .* no collate_fn"):
        model.unlearn(X, y, forget=forget)


class Resize(Callback):
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        net.set_params(module__hidden=16)


def test_a_callback_that_makes_the_module_anew_is_refused(problem):
    X, y, forget = problem
    model = FineTune(make_net(callbacks=[Resize()]), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="replaced its module"):
        model.unlearn(X, y, forget=forget)


def test_input_shape_setter_works_while_training(problem):
    X, y, _ = problem

    def module(input_dim=1, n_classes=3):
        return nn.Linear(input_dim, n_classes)

    model = FineTune(make_net(module, callbacks=[InputShapeSetter()]), random_state=0).fit(X, y)
    assert model.estimator_.module_.in_features == 4


def test_labels_of_a_frozen_network(problem):
    X, y, forget = problem
    numbers = make_net(classes=[2, 1, 0], module__n_features_in=4, module__n_classes=3).fit(X, y)
    model = FineTune(FrozenEstimator(numbers), random_state=0).fit(X, y)
    assert model.score(X, y) == numbers.score(X, y) > 0.8
    names = np.array(["ant", "bee", "cow"])
    named = make_net(classes=list(names), module__n_features_in=4, module__n_classes=3).fit(X, y)
    model = FineTune(FrozenEstimator(named), random_state=0).fit(X, names[y])
    assert model.score(X, names[y]) > 0.8
    with pytest.raises(ValueError, match=r"'ant'.*by net.set_params\(classes="):
        FineTune(FrozenEstimator(numbers)).unlearn(X, names[y], forget=forget)


def test_early_stopping_ends_a_training_and_a_run(problem):
    X, y, forget = problem
    stop = EarlyStopping("train_loss", patience=2, threshold=0.9, sink=lambda text: None)
    model = FineTune(make_net(callbacks=[stop]), max_epochs=20, random_state=0)
    model.fit(X, y)
    assert len(model.estimator_.history) < 10
    model.unlearn(X, y, forget=forget)
    assert 2 <= len(model.unlearning_history_) < 20


def test_one_row_can_be_forgotten(problem):
    X, y, _ = problem
    model = DLFD(make_net(), random_state=0).fit(X, y)
    model.unlearn(X, y, forget=np.arange(200) == 7, X_val=X[:50], y_val=y[:50])
    assert "forgetting_score" not in model.unlearning_history_[0]["batches"][0]


def test_a_last_batch_of_one_row_with_batch_norm(problem):
    X, y, forget = problem

    def module(n_features_in, n_classes):
        return nn.Sequential(
            nn.Linear(n_features_in, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_classes)
        )

    rows = slice(0, 171)  # 20 to forget, 151 = 5 * 30 + 1 to retain
    model = DLFD(make_net(module), max_epochs=1, batch_size=30, random_state=0).fit(X, y)
    model.unlearn(X[rows], y[rows], forget=forget[rows])
    assert len(model.unlearning_history_[0]["batches"]) == 5


def test_checkpoints_of_a_run_hold_no_forget_row(problem, tmp_path):
    X, y, forget = problem
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 16)).astype(np.float32)
    saver = Checkpoint(monitor=None, f_pickle="net.pkl", dirname=str(tmp_path))
    model = DLFD(make_net(callbacks=[saver]), random_state=0).fit(X, y)
    model.unlearn(X, y, forget=forget, X_val=X[100:150], y_val=y[100:150])
    raw = (tmp_path / "net.pkl").read_bytes()
    assert not any(row.tobytes() in raw for row in X[forget])
    assert type(pickle.loads(raw)) is NeuralNetClassifier


def test_scoring_callbacks_work_with_and_without_caching(problem):
    X, y, forget = problem
    scores = [EpochScoring("accuracy", name=n, use_caching=n == "a", on_train=True) for n in "ab"]
    model = FineTune(make_net(callbacks=scores), random_state=0).fit(X, y, forget=forget)
    assert model.unlearning_history_[-1]["b"] > 0.8


def pad(pairs):
    sequences, y = zip(*pairs)
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True), torch.stack(y)


class Ragged(torch.utils.data.Dataset):
    def __init__(self, y):
        self.y = y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.full((1 + i % 4,), int(self.y[i]) + 1), self.y[i]


def test_rows_of_different_lengths_are_collated_as_the_network_does(problem):
    _, y, forget = problem

    class Bag(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.embedding = nn.Embedding(5, 8, padding_idx=0)
            self.head = nn.Linear(8, n_classes)

        def forward(self, X):
            return self.head(self.embedding(X).mean(dim=1))

    net = make_net(Bag, iterator_train__collate_fn=pad, iterator_valid__collate_fn=pad)
    model = DLFD(net, perturb_at="embedding", clip=(-3, 3), random_state=0).fit(Ragged(y))
    model.unlearn(Ragged(y), forget=forget)
    assert model.score(Ragged(y), y) > 0.6


class Around(nn.Module):
    def __init__(self, backbone, n_classes):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(8, n_classes)

    def forward(self, X):
        return self.head(self.backbone(X).relu())


def test_a_backbone_instance_is_not_taken_for_fresh_and_not_kept(problem):
    X, y, forget = problem
    backbone = nn.Linear(4, 8)
    net = make_net(Around, module__backbone=backbone, module__n_classes=3)
    with pytest.raises(ValueError, match=r"module instance, module__backbone=Linear"):
        DLFD(net).fit(X, y)
    frozen = FrozenEstimator(net.fit(X, y))
    with pytest.raises(ValueError, match=r"module instance, module__backbone=Linear"):
        Retrain(frozen).unlearn(X, y, forget=forget)
    model = DLFD(frozen, random_state=0).unlearn(X, y, forget=forget)
    assert model.estimator_.module__backbone is model.estimator_.module_.backbone
    assert backbone.weight.detach().numpy().tobytes() not in pickle.dumps(model)


def test_a_scheduler_keeps_no_momentum_of_the_run(problem):
    X, y, forget = problem
    net = make_net(callbacks=[("schedule", LRScheduler("StepLR", step_size=1))])
    model = NegGrad(net, random_state=0).fit(X, y, forget=forget)
    scheduler = dict(model.estimator_.callbacks_)["schedule"].lr_scheduler_
    assert not scheduler.optimizer.state


def test_nothing_of_a_run_waits_for_the_garbage_collector(problem):
    X, y, forget = problem
    model = DLFD(make_net(), random_state=0).fit(X, y)
    original = weakref.ref(model.estimator_.module_)
    gc.collect()
    gc.disable()
    try:
        model.unlearn(X, y, forget=forget, X_val=X[:50], y_val=y[:50])
        assert original() is None
    finally:
        gc.enable()


def test_a_deep_copy_keeps_the_frozen_original(problem):
    X, y, forget = problem
    net = make_net(module__n_features_in=4, module__n_classes=3).fit(X, y)
    model = FineTune(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=forget)
    again = clone(copy.deepcopy(model)).fit(X, y, forget=forget)
    assert torch.equal(weights(model), weights(again))


def test_threads_do_not_disturb_each_other(problem):
    X, y, forget = problem

    def run():
        return weights(FineTune(make_net(), random_state=0).fit(X, y, forget=forget))

    expected = run()
    results = Parallel(2, backend="threading")(delayed(run)() for _ in range(4))
    assert all(torch.equal(result, expected) for result in results)


def test_a_run_that_diverges_changes_nothing(problem):
    X, y, forget = problem
    model = NegGrad(make_net(), lr=1e30, max_epochs=20, random_state=0).fit(X, y)
    before = weights(model)
    with pytest.raises(ValueError, match="NegGrad has diverged"):
        model.unlearn(X, y, forget=forget)
    assert torch.equal(before, weights(model))


def test_labels_of_a_data_set_are_not_read_row_by_row(problem):
    X, y, _ = problem

    class Lazy(torch.utils.data.Dataset):
        read = 0
        targets = y

        def __len__(self):
            return 200

        def __getitem__(self, i):
            Lazy.read += 1
            return X[i], y[i]

    FineTune(make_net(max_epochs=1), random_state=0).fit(Lazy())
    assert Lazy.read <= 200 + 12


def test_a_second_request_to_a_frozen_network_goes_on_from_the_first(problem):
    X, y, forget = problem
    net = FineTune(make_net(), random_state=0).fit(X, y).estimator_
    model = FineTune(FrozenEstimator(net), lr=0.5, random_state=0).unlearn(X, y, forget=forget)
    first = weights(model)
    model.set_params(lr=1e-12, optimizer=torch.optim.SGD)
    with pytest.warns(UserWarning, match="changed almost nothing"):
        model.unlearn(X[20:], y[20:], forget=np.arange(180) < 5)
    assert torch.allclose(weights(model), first, atol=1e-6)
    original = torch.cat([p.detach().flatten() for p in net.module_.parameters()])
    assert (first - original).abs().max() > 0.01


class Batches(Callback):
    """Keep the rows, and the learning rate, of each training batch."""

    seen: list = []  # noqa: RUF012

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.seen.append((batch[0], net.optimizer_.param_groups[0]["lr"]))


@pytest.mark.parametrize(
    ("given", "shuffled"), [({}, True), ({"iterator_train__shuffle": False}, False)]
)
def test_a_run_shuffles_unless_the_user_says_otherwise(problem, given, shuffled):
    X, y, forget = problem
    X = X.copy()
    X[:, 0] = np.arange(200) / 200
    net = make_net(callbacks=[Batches], lr=0.1, **given)
    if not given:
        del net.iterator_train__shuffle
    model = FineTune(net, max_epochs=1, random_state=0).fit(X, y)
    Batches.seen.clear()
    model.unlearn(X, y, forget=forget)
    order = (torch.cat([batch[:, 0] for batch, _ in Batches.seen]) * 200).round().tolist()
    assert sorted(order) == list(range(20, 200))
    assert (order != sorted(order)) == shuffled


def test_a_run_does_not_depend_on_the_global_generators(problem):
    X, y, forget = problem
    found = []
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            model = FineTune(make_net(train_split=ValidSplit(0.2)), random_state=0)
            found.append(weights(model.fit(X, y, forget=forget)))
    np.random.set_state(state)  # noqa: NPY002
    assert torch.equal(*found)


@pytest.mark.parametrize("cls", [FineTune, RandomLabel])
def test_a_request_is_as_random_as_random_state_says(problem, cls):
    X, y, forget = problem
    trained = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y).estimator_

    def unlearned(state):
        model = cls(FrozenEstimator(trained), lr=0.5, random_state=state)
        return weights(model.unlearn(X, y, forget=forget))

    assert torch.equal(unlearned(1), unlearned(1))
    assert not torch.equal(unlearned(1), unlearned(2))
    assert not torch.equal(unlearned(None), unlearned(None))
    state = np.random.RandomState(1)
    first = unlearned(state)
    assert not torch.equal(first, unlearned(state))
    assert torch.equal(first, unlearned(np.random.RandomState(1)))


def test_a_score_weighs_the_rows(problem):
    X, y, _ = problem
    model = FineTune(make_net(max_epochs=2), random_state=0).fit(X, y)
    right = model.predict(X) == y
    assert 0 < right.sum() < 200
    weight = np.where(right, 1.0, 3.0)
    expected = pytest.approx(right.sum() / weight.sum())
    assert model.score(X, y, sample_weight=weight) == expected
    data = TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    assert model.score(data, sample_weight=weight) == expected


def test_rows_that_train_split_sets_aside_are_not_trained_on(problem):
    X, y, forget = problem
    net = make_net(train_split=ValidSplit(5), max_epochs=1, callbacks=[Sizes])
    model = FineTune(net, max_epochs=1, random_state=0).fit(X, y)
    Sizes.seen.clear()
    model.unlearn(X, y, forget=forget)
    assert Sizes.seen == [144]  # 180 * 4 / 5
    batches = model.unlearning_history_[0]["batches"]
    assert sum(batch.get("train_batch_size", 0) for batch in batches) == 144


def test_a_schedule_of_the_users_own_takes_the_place_of_the_cosine(problem):
    X, y, _ = problem
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
    net = make_net(callbacks=[("schedule", schedule), Batches], batch_size=10, max_epochs=1)
    model = FineTune(net, max_epochs=2, lr=0.4, random_state=0).fit(X[:50], y[:50])
    Batches.seen.clear()
    model.unlearn(X[:50], y[:50], forget=np.arange(50) < 10)
    assert [lr for _, lr in Batches.seen] == pytest.approx([0.4] * 4 + [0.2] * 4)
