"""What may be handed in as X: lazy rows of several kinds, none of which is ever loaded whole."""

import gc
import tracemalloc
import weakref
from functools import partial

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.ensemble import AdaBoostClassifier, VotingClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import has_fit_parameter
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.helper import SliceDataset, SliceDict
from skorch.utils import to_device
from torch import nn
from torch.utils.data import Subset, TensorDataset

from skunlearn import (
    AMUN,
    DLFD,
    UNSIR,
    AdvancedNegGrad,
    Distill,
    FineTune,
    NegGrad,
    RandomLabel,
    Retrain,
    all_unlearners,
)
from skunlearn._engine.data import labels_of
from skunlearn.metrics import get_scorer
from skunlearn.model_selection import ForgetKFold
from tests.networks import MLP, ConvNet, make_net

N = 80
every_unlearner = pytest.mark.parametrize(
    "unlearner", [cls for _, cls in all_unlearners()], ids=[name for name, _ in all_unlearners()]
)
some_unlearners = pytest.mark.parametrize(
    "unlearner", [FineTune, DLFD, NegGrad, RandomLabel, Retrain]
)


@pytest.fixture(scope="module")
def problem():
    X = np.random.default_rng(0).integers(256, size=(N, 1, 6, 6), dtype=np.uint8)
    return X, np.arange(N) % 3, np.arange(N) % 8 == 0


class Lazy(torch.utils.data.Dataset):
    """Makes each row when it is asked for."""

    def __init__(self, X, y):
        self.arrays = X, y

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, i):
        X, y = self.arrays
        return X[i].astype(np.float32), y[i]


class ImageFolder(torch.utils.data.Dataset):
    """Files, each of them read when its row is asked for."""

    def __init__(self, folder, X, y):
        self.targets = y
        self.paths = []
        for i, x in enumerate(X):
            self.paths.append(folder / f"{i:05}.npy")
            np.save(self.paths[-1], x)
        self.n_read = 0
        self.alive = weakref.WeakValueDictionary()
        self.most_alive = 0

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        x = np.load(self.paths[i]).astype(np.float32)
        self.alive[self.n_read] = x
        self.n_read += 1
        self.most_alive = max(self.most_alive, len(self.alive))
        return x, self.targets[i]


def memory_map(path, X):
    array = np.memmap(path, X.dtype, "w+", shape=X.shape)
    array[:] = X
    array.flush()
    return np.memmap(path, X.dtype, "r", shape=X.shape)


KINDS = {
    "data set with labels": lambda X, y, path: (Lazy(X, y), None),
    "data set and labels": lambda X, y, path: (Lazy(X, -y), y),
    "slices": lambda X, y, path: (SliceDataset(Lazy(X, y)), SliceDataset(Lazy(X, y), idx=1)),
    "memory map": lambda X, y, path: (memory_map(path / "X", X.astype(np.float32)), y),
    "memory map of bytes": lambda X, y, path: (memory_map(path / "X", X), y),
    "image folder": lambda X, y, path: (ImageFolder(path, X, y), None),
}


COMMON = ("data set with labels", "memory map of bytes")


@pytest.mark.parametrize(
    ("unlearner", "kind"),
    [
        pytest.param(cls, kind, id=f"{name}-{kind}")
        for name, cls in all_unlearners()
        for kind in KINDS
        if kind in COMMON or cls in (FineTune, DLFD)
    ],
)
def test_lazy_rows_give_what_arrays_give(unlearner, kind, problem, tmp_path):
    X, y, forget = problem
    (tmp_path / "unseen").mkdir()
    rows, labels = KINDS[kind](X, y, tmp_path)
    unseen, unseen_labels = KINDS[kind](X[:20], y[:20], tmp_path / "unseen")
    net = make_net(ConvNet, max_epochs=1, lr=1e-4, batch_size=40)
    if unlearner is AMUN:
        unlearner = partial(AMUN, perturb_steps=2)
    expected = unlearner(net, random_state=0).fit(X, y)
    expected.unlearn(X, y, forget=forget, X_val=X[:20], y_val=y[:20])
    model = unlearner(net, random_state=0).fit(rows, labels)
    model.unlearn(rows, labels, forget=forget, X_val=unseen, y_val=unseen_labels)
    proba = expected.predict_proba(X)
    assert np.array_equal(model.predict_proba(rows), proba)
    assert model.predict(rows).tolist() == expected.classes_[proba.argmax(axis=1)].tolist()
    y_true = y if labels is None else labels
    assert model.score(rows, y_true) == expected.score(X, y)
    at_once = clone(model).fit(rows, labels, forget=forget, X_val=unseen, y_val=unseen_labels)
    assert np.array_equal(at_once.predict_proba(rows), proba)


class AfterBatch(Callback):
    def __init__(self, call):
        self.call = call

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.call()


@some_unlearners
def test_an_image_folder_is_read_a_batch_at_a_time(unlearner, tmp_path):
    rng = np.random.default_rng(0)
    n = 200
    X = rng.integers(256, size=(n, 1, 6, 6), dtype=np.uint8)
    data = ImageFolder(tmp_path, X, np.arange(n) % 2)
    read = []
    net = make_net(
        ConvNet,
        max_epochs=1,
        lr=1e-4,
        batch_size=8,
        callbacks=[AfterBatch(lambda: read.append(data.n_read))],
    )
    model = unlearner(net, random_state=0).fit(data)
    assert read[-1] <= n + 7  # every row once, few for their labels
    read.clear()
    model.unlearn(data, forget=np.arange(n) < 20)
    if len(read) > 1:
        assert max(np.diff(read)) <= 2 * 8
    before = data.n_read
    assert model.predict_proba(data).shape == (n, 2)
    assert data.n_read == before + n
    # Some methods look at a few rows beforehand, and at some of those they have changed after.
    assert data.most_alive < n


class NoteRows(Callback):
    def on_train_begin(self, net, X=None, **kwargs):
        NOTED.append(X.data.X)


NOTED = []


@pytest.mark.parametrize(
    ("unlearner", "dtype"),
    [(cls, np.uint8) for cls in (FineTune, DLFD, NegGrad, RandomLabel, Retrain)]
    + [(FineTune, np.float32), (DLFD, np.float32)],
)
def test_a_memory_map_is_never_copied(unlearner, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr("skunlearn.methods.dlfd._CHECK_ROWS", 20)
    shape = (1_000, 3, 32, 32)
    np.memmap(tmp_path / "X", dtype, "w+", shape=shape)[::7] = 1
    X = np.memmap(tmp_path / "X", dtype, "r", shape=shape)
    y = np.arange(len(X)) % 2
    net = make_net(
        lambda: nn.Sequential(nn.MaxPool2d(8), nn.Flatten(), nn.Linear(48, 2)),
        max_epochs=1,
        batch_size=50,
        callbacks=[NoteRows],
    )
    model = unlearner(net, random_state=0)

    def run(n):
        model.fit(X[:n], y[:n])
        model.unlearn(X[:n], y[:n], forget=np.arange(n) < n / 10, X_val=X[:200], y_val=y[:200])
        model.score(X[:n], y[:n])

    run(100)  # imports
    NOTED.clear()
    tracemalloc.start()
    try:
        run(len(X))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(NOTED) == 2
    assert all(np.shares_memory(rows, X) for rows in NOTED)
    assert peak < X.nbytes / 3


def test_read_only_token_ids_do_not_warn(tmp_path):
    X = memory_map(tmp_path / "X", np.arange(N * 6).reshape(N, 6) % 50)
    y = np.arange(N) % 2
    net = make_net(lambda: nn.Sequential(nn.EmbeddingBag(50, 8), nn.Linear(8, 2)), lr=0.5)
    model = FineTune(net, random_state=0).fit(X, y, forget=np.arange(N) < 8)
    assert model.score(X, y) > 0.5


class Two(nn.Module):
    """A network with two inputs."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(2, 8)
        self.right = nn.Linear(2, 8)
        self.head = nn.Linear(16, 2)

    def forward(self, left, right):
        return self.head(torch.cat([self.left(left), self.right(right)], dim=1).relu())


@pytest.fixture(scope="module")
def pairs():
    X = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    y = (X[:, 0] + X[:, 2] > 0).astype(int)
    return {"left": X[:, :2], "right": X[:, 2:]}, y, np.arange(120) < 15


@every_unlearner
@pytest.mark.filterwarnings("ignore:SSD has damaged")
def test_dicts_of_arrays(unlearner, pairs):
    X, y, forget = pairs
    unseen = {name: values[:30] for name, values in X.items()}
    model = unlearner(make_net(Two), random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    request = {"forget": forget, "X_val": unseen, "y_val": y[:30]}
    if unlearner in (DLFD, AMUN, UNSIR):  # which make rows up
        with pytest.raises(ValueError, match=r"one floating-point array|a single floating-point"):
            model.unlearn(X, y, **request)
    if unlearner in (AMUN, UNSIR):
        return
    if unlearner is DLFD:
        model.set_params(perturb_at="left")
    before = model.predict_proba(X)
    model.unlearn(X, y, **request)
    assert np.abs(model.predict_proba(X) - before).max() > 1e-3
    again = clone(model).fit(SliceDict(**X), y, **request)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(SliceDict(**X)))


@pytest.mark.parametrize("kind", ["slices", "dict"])
def test_searches_cut_lazy_rows_without_reading_them(kind, pairs):
    X, y, forget = pairs
    net = make_net(Two, max_epochs=2)
    data = SliceDict(**X)
    if kind == "slices":

        def module():
            return nn.Linear(4, 2)

        net = make_net(module, max_epochs=2)
        values = np.hstack([X["left"], X["right"]])
        data = SliceDataset(TensorDataset(torch.as_tensor(values), torch.as_tensor(y)))
    search = GridSearchCV(
        FineTune(net, random_state=0),
        {"lr": [1e-3, 0.1]},
        cv=ForgetKFold(2),
        scoring=get_scorer("nomus"),
    )
    with sklearn.config_context(enable_metadata_routing=True):
        found = clone(search).fit(data, y, forget=forget)
        if kind == "slices":
            same = clone(search).fit(values, y, forget=forget)
            assert found.cv_results_["mean_test_score"].tolist() == (
                same.cv_results_["mean_test_score"].tolist()
            )
    assert (found.cv_results_["mean_test_score"] > 0.5).all()
    assert found.predict(data).shape == (120,)


def test_slices_need_their_labels(problem):
    X, y, _ = problem
    with pytest.raises(ValueError, match="y must be given unless X yields pairs"):
        FineTune(make_net(ConvNet)).fit(SliceDataset(Lazy(X, y)))


def test_labels_of_parts_are_read_without_the_rows(tmp_path):
    data = ImageFolder(tmp_path, np.zeros((6, 2)), np.array([3, 1, 4, 1, 5, 9]))
    part = Subset(Subset(data, [5, 4, 3, 0]), [0, 3])
    assert labels_of(part).tolist() == [9, 3]
    assert data.n_read == 3


def test_an_attribute_that_is_not_the_labels_is_not_taken_for_them(problem):
    X, y, _ = problem

    class Persons(Lazy):
        y = np.arange(N) // 4
        targets = np.arange(5)

    assert labels_of(Persons(X, y)).tolist() == y.tolist()


def test_labels_that_a_data_set_transforms_are_those_it_yields(problem):
    X, y, _ = problem

    class Transformed(Lazy):
        targets = y
        target_transform = staticmethod(lambda label: label + 10)

        def __getitem__(self, i):
            x, label = super().__getitem__(i)
            return x, self.target_transform(label)

    model = FineTune(make_net(ConvNet, max_epochs=1), random_state=0).fit(Transformed(X, y))
    assert model.classes_.tolist() == [10, 11, 12]


# -- sample weights --------------------------------------------------------------------------------


def test_sample_weight_is_refused(pairs):
    X, y, _ = pairs
    X = np.hstack([X["left"], X["right"]])
    model = FineTune(make_net(max_epochs=1), random_state=0)
    weight = np.ones(len(y))
    assert not has_fit_parameter(model, "sample_weight")
    with pytest.raises(TypeError, match="unexpected keyword argument 'sample_weight'"):
        model.fit(X, y, sample_weight=weight)
    with pytest.raises(TypeError, match="does not support sample weights"):
        VotingClassifier([("one", model)]).fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="FineTune doesn't support sample_weight"):
        AdaBoostClassifier(model).fit(X, y)


class Weighted(NeuralNetClassifier):
    """Weights of rows as skorch documents them: a part of X, which the loss looks at."""

    def get_loss(self, y_pred, y_true, X=None, *args, **kwargs):
        loss = super().get_loss(y_pred, y_true, X, *args, **kwargs)
        return (to_device(X["sample_weight"], self.device) * loss).mean()


class IgnoresWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, data, sample_weight):
        return self.head(self.hidden(data).relu())


@pytest.mark.parametrize(
    "unlearner",
    [cls for name, cls in all_unlearners() if name not in ("UNSIR", "AMUN")],  # which make up rows
    ids=lambda cls: cls.__name__,
)
def test_weights_in_a_dict_count_in_fit_and_unlearn(unlearner):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 4)).astype(np.float32)
    truth = (data[:, 0] > 0).astype(int)
    wrong = np.arange(200) % 2 == 1  # half of the labels are wrong, and weigh nothing
    y = np.where(wrong, 1 - truth, truth)
    X = {"data": data, "sample_weight": np.where(wrong, 0, 2).astype(np.float32)}
    net = Weighted(
        IgnoresWeight,
        criterion=nn.CrossEntropyLoss,
        criterion__reduction="none",
        train_split=None,
        verbose=0,
        lr=0.1,
        max_epochs=20,
        batch_size=20,
    )
    model = unlearner(net, random_state=0)
    if unlearner is DLFD:
        model.set_params(perturb_at="hidden")
    if unlearner is Distill:  # which starts afresh
        model.set_params(max_epochs=20)
    model.fit(X, y)
    assert model.score(X, truth) > 0.9
    model.unlearn(X, y, forget=np.arange(200) < 20)
    assert model.score(X, truth) > 0.9


# -- accelerated networks, many machines -----------------------------------------------------------


@pytest.fixture
def accelerated():
    accelerate = pytest.importorskip("accelerate")
    from skorch.hf import AccelerateMixin

    class AcceleratedNet(AccelerateMixin, NeuralNetClassifier):
        pass

    return AcceleratedNet(
        MLP,
        accelerator=accelerate.Accelerator(cpu=True),
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        lr=0.1,
        max_epochs=5,
        batch_size=16,
        iterator_train__shuffle=True,
        callbacks__print_log__sink=print,
        verbose=0,
    )


@pytest.mark.filterwarnings("ignore:Distill has damaged")  # its epochs are few here
@pytest.mark.parametrize(
    "unlearner",
    [cls for _, cls in all_unlearners()] + [partial(AdvancedNegGrad, loss_cap="val")],
)
def test_an_accelerated_network_fits_and_unlearns(unlearner, accelerated, pairs):
    X, y, forget = pairs
    X = np.hstack([X["left"], X["right"]])

    def run(net):
        model = unlearner(net, random_state=0).fit(X, y)
        model.unlearn(X, y, forget=forget, X_val=X[:30], y_val=y[:30])
        return model.predict_proba(X)

    proba = run(accelerated)
    assert np.array_equal(run(accelerated), proba)
    plain = make_net(max_epochs=5, optimizer__momentum=0)
    assert np.allclose(run(plain), proba, atol=1e-6)


@pytest.mark.parametrize("unlearner", [FineTune, DLFD])
def test_an_accelerator_keeps_nothing_of_the_original(unlearner, accelerated, pairs):
    X, y, forget = pairs
    X = np.hstack([X["left"], X["right"]])
    model = unlearner(accelerated, random_state=0).fit(X, y)
    original = weakref.ref(model.estimator_.module_.head.weight)
    model.unlearn(X, y, forget=forget, X_val=X[:30], y_val=y[:30])
    gc.collect()
    assert original() is None


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_search_on_a_dask_cluster_is_the_same(processes, pairs):
    distributed = pytest.importorskip("distributed")
    X, y, forget = pairs
    X = np.hstack([X["left"], X["right"]])
    search = GridSearchCV(
        FineTune(make_net(max_epochs=2), random_state=0),
        {"lr": [0.01, 0.1]},
        cv=ForgetKFold(2),
        scoring=get_scorer("nomus"),
    )
    with sklearn.config_context(enable_metadata_routing=True):
        here = clone(search).fit(X, y, forget=forget).cv_results_["mean_test_score"]
        cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=processes,
            memory_limit=0,  # threads share this process, which other tests have filled
            dashboard_address=None,
        )
        with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
            there = clone(search).fit(X, y, forget=forget).cv_results_["mean_test_score"]
    assert there.tolist() == here.tolist()


def test_a_pandas_mask_of_other_rows_is_refused():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pandas.DataFrame(rng.normal(size=(40, 4)), columns=list("abcd"))
    y = pandas.Series(np.arange(40) % 2)
    forget = X.index < 5
    mask = pandas.Series(forget, index=X.index)
    order = rng.permutation(40)
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"forget\.loc\[X\.index\]"):
        model.unlearn(X.iloc[order], y.iloc[order], forget=mask)
    rows = X.iloc[order], y.iloc[order]
    by_label = model.unlearn(*rows, forget=mask.loc[rows[0].index]).predict_proba(X)
    model.fit(X, y).unlearn(*rows, forget=forget[order])
    assert np.array_equal(model.predict_proba(X), by_label)


def test_a_mask_of_names_is_sent_to_forget_mask(problem):
    X, y, _ = problem
    with pytest.raises(ValueError, match=r"forget_mask\(groups, names\)"):
        FineTune(make_net()).fit(X, y, forget=["ann"])
