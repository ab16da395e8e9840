"""Caching of originals: trained once, found again by what they depend on, and cleared for good."""

import functools
import runpy
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import sklearn
import skorch
import torch
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LoadInitState,
    LRScheduler,
    ProgressBar,
)
from torch import nn
from torch.utils.data import TensorDataset

from skunlearn import SISA, FineTune
from skunlearn._engine.cache import train_once
from skunlearn._engine.hashing import cache_key
from skunlearn.callbacks import ForgettingMonitor
from skunlearn.metrics import get_scorer
from skunlearn.model_selection import ForgetKFold
from tests.networks import MLP, make_net


class Log(Callback):
    """Write a line to a file for each training, with its number of rows."""

    def __init__(self, path, seconds=0):
        self.path = path
        self.seconds = seconds

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        time.sleep(self.seconds)
        with open(self.path, "a") as file:
            file.write(f"{len(X)}\n")


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    return X, y, np.arange(90) % 3 == 0


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.estimator_.module_.parameters()])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_trains_each_original_once_and_scores_the_same(problem, tmp_path, n_jobs):
    X, y, forget = problem

    class Block(nn.Linear):  # like those of a notebook, in no module that a worker could import
        pass

    class Net(nn.Module):
        def __init__(self, n_features_in, n_classes):
            super().__init__()
            self.layer = Block(n_features_in, n_classes)

        def forward(self, X):
            return self.layer(X)

    log = tmp_path / "log"
    net = make_net(Net, max_epochs=2, callbacks=[Log(str(log))])
    folder = str(tmp_path / "cache")

    def search(memory, n_jobs):
        log.write_text("")
        grid = {"lr": [0.01, 0.1, 0.5], "max_epochs": [1, 2]}
        with sklearn.config_context(enable_metadata_routing=True):
            found = GridSearchCV(
                FineTune(net, memory=memory, random_state=0),
                grid,
                cv=ForgetKFold(3),
                scoring=get_scorer("nomus"),
                n_jobs=n_jobs,
            ).fit(X, y, forget=forget)
        trainings = log.read_text().split()
        # A fold has the 30 rows to forget and 40 others; those alone are of an unlearning run.
        return found, trainings.count("70"), trainings.count("90"), trainings.count("40")

    plain, *trainings = search(None, 1)
    assert trainings == [18, 1, 18]
    cached, *trainings = search(folder, n_jobs)
    assert trainings == [3, 1, 18]
    again, *trainings = search(folder, 1)
    assert trainings == [0, 0, 18]
    for found in (cached, again):
        for name in ("split0_test_score", "split1_test_score", "split2_test_score"):
            assert (found.cv_results_[name] == plain.cv_results_[name]).all()
        assert torch.equal(weights(found.best_estimator_), weights(plain.best_estimator_))
        assert type(found.best_estimator_.estimator_.module_) is Net


def test_two_at_once_train_one_original(problem, tmp_path):
    X, y, _ = problem
    log = tmp_path / "log"
    net = make_net(max_epochs=1, callbacks=[Log(str(log), seconds=0.3)])
    memory = str(tmp_path / "cache")
    models = joblib.Parallel(4, backend="threading")(
        joblib.delayed(FineTune(net, memory=memory, random_state=0).fit)(X, y) for _ in range(4)
    )
    assert log.read_text() == "90\n"
    assert all(torch.equal(weights(model), weights(models[0])) for model in models)


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    content = (1, "rows")
    assert train_once(memory, content, lambda: "first") == "first"
    (lock,) = (tmp_path / "locks").iterdir()
    memory.clear(warn=False)
    lock.parent.mkdir()
    code = (
        "import filelock, sys, time\nwith filelock.FileLock(sys.argv[1]):\n print(1, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code + " time.sleep(60)", str(lock)], stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        results = []
        waiting = threading.Thread(
            target=lambda: results.append(train_once(memory, content, lambda: "second"))
        )
        waiting.start()
        time.sleep(0.3)
        assert not results
        holder.kill()
        waiting.join(timeout=20)
    assert results == ["second"]


def test_clear_leaves_nothing(problem, tmp_path):
    X, y, forget = problem
    folder = str(tmp_path / "cache")
    model = FineTune(make_net(max_epochs=1), memory=folder, random_state=0)
    model.fit(X, y, forget=forget)
    files = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert "output.pkl" in files
    joblib.Memory(folder, verbose=0).clear(warn=False)
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in left] == [".gitignore"]
    assert torch.equal(weights(model.fit(X, y)), weights(model.fit(X, y)))


def test_any_object_that_caches_will_do(problem):
    X, y, _ = problem

    class Memory:
        calls = 0

        def cache(self, func, ignore):
            def cached(key, train):
                assert ignore == ["train"]
                self.calls += 1
                self.kept = getattr(self, "kept", {})
                if key not in self.kept:
                    self.kept[key] = func(key, train)
                return self.kept[key]

            return cached

    memory = Memory()
    models = [FineTune(make_net(max_epochs=1), memory=memory, random_state=0) for _ in "ab"]
    one, two = (model.fit(X, y) for model in models)
    assert memory.calls == 2
    assert len(memory.kept) == 1
    assert torch.equal(weights(one), weights(two))
    assert one.estimator_.module_ is not two.estimator_.module_


def test_what_cannot_be_pickled_is_said(problem, tmp_path):
    X, y, _ = problem

    class Holder(MLP):
        def __init__(self, n_features_in, n_classes):
            super().__init__(n_features_in, n_classes)
            self.lock = threading.Lock()

    with pytest.raises(ValueError, match=r"memory cannot keep this network.*lock"):
        FineTune(make_net(Holder, max_epochs=1), memory=str(tmp_path), random_state=0).fit(X, y)


# -- the key ---------------------------------------------------------------------------------------


def test_key_has_no_forget_mask(problem, tmp_path):
    X, y, forget = problem
    log = tmp_path / "log"
    net = make_net(max_epochs=1, callbacks=[Log(str(log))])
    for mask in (None, forget, np.roll(forget, 1)):
        FineTune(net, memory=str(tmp_path / "cache"), random_state=0).fit(X, y, forget=mask)
    assert log.read_text().split() == ["90", "60", "60"]


@pytest.mark.parametrize(
    "params",
    [
        {"verbose": 1},
        {"callbacks": [ProgressBar(), EpochScoring("f1", on_train=True)]},
        {"callbacks": [("f1", BatchScoring("f1"))], "callbacks__f1__on_train": True},
        {"callbacks": [ForgettingMonitor(np.eye(4), [0, 1, 0, 1], np.ones((4, 4)), [1, 1, 0, 0])]},
        {"callbacks": "disable"},
        {"callbacks": []},
        {"callbacks__print_log": None},
        {"callbacks__valid_acc__on_train": True},
    ],
)
def test_key_has_no_verbosity_and_no_watching_callbacks(problem, params):
    assert cache_key(make_net(**params), *problem) == cache_key(make_net(), *problem)


@pytest.mark.parametrize(
    "params",
    [
        {"lr": 0.2},
        {"module__hidden": 3},
        {"module": functools.partial(MLP, hidden=3)},
        {"criterion": nn.NLLLoss},
        {"criterion__weight": torch.tensor([1.0, 2.0])},
        {"callbacks": [LRScheduler("StepLR", step_size=1)]},
        {"callbacks": [LRScheduler("LambdaLR", lr_lambda=lambda epoch: 0.5**epoch)]},
        {"callbacks": [EpochScoring("f1", use_caching=False)]},
        {"train_split": sklearn.model_selection.KFold},
    ],
)
def test_key_has_what_changes_the_training(problem, params):
    assert cache_key(make_net(**params), *problem) != cache_key(make_net(), *problem)
    assert cache_key(make_net(**params), *problem) == cache_key(make_net(**params), *problem)


def test_key_has_scores_that_another_callback_acts_on(problem):
    keys = {
        cache_key(make_net(callbacks=[EpochScoring(score, name="s"), EarlyStopping("s")]), *problem)
        for score in ("f1", "accuracy")
    }
    assert len(keys) == 2
    shown = [EpochScoring("f1", name="s"), EarlyStopping("s"), ProgressBar()]
    assert cache_key(make_net(callbacks=shown), *problem) in keys


def test_key_has_rows_labels_and_seed(problem):
    X, y, _ = problem
    other = X.copy()
    other[5, 2] += 1e-6
    contents = [(X, y, 0), (other, y, 0), (X, 1 - y, 0), (X, y, 1), (X[::-1], y, 0)]
    contents += [(torch.as_tensor(X).bfloat16(), y, 0), (TensorDataset(torch.as_tensor(X)), y, 0)]
    assert len({cache_key(make_net(), *content) for content in contents}) == len(contents)
    assert cache_key(make_net(), X.copy(), y.copy(), 0) == cache_key(make_net(), X, y, 0)


def test_key_of_mapped_rows_is_that_of_the_same_rows_in_memory(problem, tmp_path):
    X, y, _ = problem
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert cache_key(make_net(), mapped, y) == cache_key(make_net(), X, y)


SOURCE = """
WIDTH = {width}

def act(X):
    return X.{act}()

class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.layer = nn.Linear(size, WIDTH)

    def forward(self, X):
        {comment}
        return act(self.layer(X))

class Net(nn.Module):
    sizes = [{size}]

    def __init__(self):
        super().__init__()
        self.block = Block(4)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, X):
        def head(X):
            return {head} * self.head(X)
        return head(self.block(X))
"""


def defined(**changes):
    """Run a module's source, as changed; return its network class."""
    plain = {"width": 8, "act": "relu", "comment": "", "size": 1, "head": 1}
    scope = {"nn": nn, "__name__": "users_module"}
    exec(SOURCE.format(**plain | changes), scope)
    return scope["Net"]


@pytest.mark.parametrize("change", [{"width": 9}, {"act": "tanh"}, {"size": 2}, {"head": 2}])
def test_key_has_the_code_of_a_module_and_of_what_it_refers_to(problem, change):
    key = cache_key(make_net(defined()), *problem)
    assert key == cache_key(make_net(defined(comment="# the same")), *problem)
    assert key != cache_key(make_net(defined(**change)), *problem)


def test_key_has_no_counter_that_a_class_keeps(problem):
    class Count(Callback):
        total = 0

        def on_train_begin(self, net, **kwargs):
            Count.total += 1

    key = cache_key(make_net(callbacks=[Count]), *problem)
    Count.total += 1
    assert cache_key(make_net(callbacks=[Count]), *problem) == key


def test_key_has_what_a_function_was_made_with(problem):
    def maker(hidden):
        def module(n_features_in, n_classes):
            return MLP(n_features_in, n_classes, hidden)

        return module

    keys = [cache_key(make_net(maker(hidden)), *problem) for hidden in (3, 4, 3)]
    assert keys[0] == keys[2] != keys[1]


def test_key_has_the_defaults_of_a_function():
    def with_default(hidden, other):
        def module(n_features_in, n_classes, hidden=hidden, *, other=other):
            return nn.Linear(n_features_in, n_classes)

        return module

    keys = {cache_key(make_net(with_default(*given))) for given in [(2, 3), (4, 3), (2, 5)]}
    assert len(keys) == 3
    assert cache_key(make_net(with_default(2, 3))) in keys


@pytest.mark.parametrize("library", [torch, skorch])
def test_key_has_the_versions_of_the_libraries(library, monkeypatch):
    before = cache_key(make_net())
    monkeypatch.setattr(library, "__version__", "0.0")
    assert cache_key(make_net()) != before


def test_key_has_the_version_of_python(monkeypatch):
    before = cache_key(make_net())
    other = SimpleNamespace(version_info=(sys.version_info[0], 0, 0))
    monkeypatch.setattr("skunlearn._engine.hashing.sys", other)
    assert cache_key(make_net()) != before


def test_key_has_the_code_of_a_users_network(problem):
    def derived(power):
        class Net(NeuralNetClassifier):
            def get_loss(self, y_pred, y_true, **kwargs):
                return super().get_loss(y_pred, y_true, **kwargs) ** power

        return Net(MLP)

    keys = [cache_key(derived(power), *problem) for power in (1, 2, 1)]
    assert keys[0] == keys[2] != keys[1]


def test_key_is_the_same_in_another_process(problem):
    X, y, _ = problem
    net = make_net(defined(), callbacks=[Log("log"), LRScheduler("StepLR", step_size=1)])
    by_value = joblib.Parallel(2)(joblib.delayed(cache_key)(net, X, y) for _ in range(2))
    assert set(by_value) == {cache_key(net, X, y)}


# -- what the training starts from ----------------------------------------------------------------

PRETRAINED = nn.Linear(4, 3)
SETTINGS = {"scale": 1.0}


class Scaled(nn.Module):
    """Reads a number and a tensor, neither of which is a parameter, when it is built."""

    def __init__(self, n_features_in, n_classes):
        super().__init__()
        self.layer = nn.Linear(n_features_in, n_classes)
        self.scale = SETTINGS["scale"]
        self.register_buffer("shift", torch.full((), SETTINGS["scale"]), persistent=False)
        self.table = [torch.full((2,), SETTINGS["scale"])]

    def forward(self, X):
        return self.scale * self.layer(X) + self.shift + self.table[0][0]


def on_pretrained(n_classes):
    return nn.Sequential(PRETRAINED, nn.Linear(3, n_classes))


def on_copy(n_classes):
    from copy import deepcopy

    return nn.Sequential(deepcopy(PRETRAINED), nn.Linear(3, n_classes))


def from_file(path):
    def module(n_features_in, n_classes):
        layer = nn.Linear(n_features_in, n_classes)
        layer.load_state_dict(torch.load(path, weights_only=True))
        return layer

    return module


def original(net, problem, memory):
    X, y, _ = problem
    return weights(FineTune(net, memory=memory, random_state=0).fit(X, y))


def test_the_original_of_other_weights_is_not_served(problem, tmp_path):
    memory = str(tmp_path / "cache")
    net = make_net(on_copy, max_epochs=1)
    first = original(net, problem, memory)
    assert torch.equal(first, original(net, problem, memory))
    saved = PRETRAINED.weight.detach().clone()
    try:
        with torch.no_grad():
            PRETRAINED.weight += 1
        other = original(net, problem, memory)
    finally:
        with torch.no_grad():
            PRETRAINED.weight.copy_(saved)
    assert not torch.equal(first, other)
    assert torch.equal(first, original(net, problem, memory))


def test_a_frozen_layer_is_told_from_one_that_moves(problem, tmp_path):
    memory = str(tmp_path / "cache")
    net = make_net(on_copy, max_epochs=1)
    first = original(net, problem, memory)
    PRETRAINED.requires_grad_(False)
    try:
        other = original(net, problem, memory)
    finally:
        PRETRAINED.requires_grad_(True)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("cached", [False, True])
def test_a_module_that_each_training_would_go_on_from_is_refused(problem, tmp_path, cached):
    saved = PRETRAINED.weight.detach().clone()
    memory = str(tmp_path / "cache") if cached else None
    with pytest.raises(ValueError, match="'weight' of a Linear is one and the same tensor"):
        original(make_net(on_pretrained, max_epochs=1), problem, memory)
    assert torch.equal(PRETRAINED.weight, saved)


def test_a_file_of_weights_counts_with_its_content(problem, tmp_path):
    memory, path = str(tmp_path / "cache"), tmp_path / "weights.pt"
    net = make_net(from_file(str(path)), max_epochs=1)
    found = []
    for value in (0.1, 0.2, 0.1):
        layer = nn.Linear(4, 2)
        nn.init.constant_(layer.weight, value)
        nn.init.zeros_(layer.bias)
        torch.save(layer.state_dict(), path)
        found.append(original(net, problem, memory))
        found.append(original(net, problem, None))
    for cached, plain in zip(found[::2], found[1::2]):
        assert torch.equal(cached, plain)
    assert not torch.equal(found[0], found[2])


def test_weights_that_skorch_loads_count_with_their_content(problem, tmp_path):
    memory = str(tmp_path / "cache")
    X, y, _ = problem
    checkpoint = Checkpoint(dirname=str(tmp_path / "state"), monitor=None)
    net, found = make_net(max_epochs=1, callbacks=[LoadInitState(checkpoint)]), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        sizes = {"module__n_features_in": 4, "module__n_classes": 2}
        make_net(max_epochs=1, callbacks=[checkpoint], **sizes).fit(X, y)
        found.append(original(net, problem, memory))
        assert torch.equal(found[-1], original(net, problem, None))
    assert not torch.equal(*found)


def test_an_optimizer_that_skorch_loads_counts_with_its_state(problem, tmp_path):
    memory = str(tmp_path / "cache")
    X, y, _ = problem
    checkpoint = Checkpoint(dirname=str(tmp_path / "state"), monitor=None)
    net, found = make_net(max_epochs=1, callbacks=[LoadInitState(checkpoint)]), []
    sizes = {"module__n_features_in": 4, "module__n_classes": 2}
    make_net(max_epochs=1, callbacks=[checkpoint], **sizes).fit(X, y)
    path = tmp_path / "state" / "optimizer.pt"
    for factor in (1, -2):
        state = torch.load(path, weights_only=True)
        for values in state["state"].values():
            values["momentum_buffer"] *= factor
        torch.save(state, path)
        found.append(original(net, problem, memory))
        assert torch.equal(found[-1], original(net, problem, None))
    assert not torch.equal(*found)


def test_attributes_and_buffers_of_the_start_count(problem, tmp_path, monkeypatch):
    memory = str(tmp_path / "cache")
    net = make_net(Scaled, max_epochs=1)
    first = original(net, problem, memory)
    monkeypatch.setitem(SETTINGS, "scale", 2.0)
    assert not torch.equal(first, original(net, problem, memory))
    assert torch.equal(original(net, problem, memory), original(net, problem, None))


def test_a_lazy_module_can_be_kept(problem, tmp_path):
    def module(n_classes):
        return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(n_classes))

    log = tmp_path / "log"
    net = make_net(module, max_epochs=1, callbacks=[Log(str(log))])
    memory = str(tmp_path / "cache")
    assert torch.equal(original(net, problem, memory), original(net, problem, memory))
    assert log.read_text() == "90\n"


def test_shards_of_other_weights_are_not_served(problem, tmp_path):
    X, y, forget = problem
    path = tmp_path / "weights.pt"
    net, found = make_net(from_file(str(path)), max_epochs=1), []
    for value in (0.1, 0.2):
        layer = nn.Linear(4, 2)
        nn.init.constant_(layer.weight, value)
        nn.init.zeros_(layer.bias)
        torch.save(layer.state_dict(), path)
        for memory in (str(tmp_path / "cache"), None):
            model = SISA(net, n_shards=2, n_slices=2, memory=memory, random_state=0).fit(X, y)
            found.append(model.unlearn(X, y, forget=forget).predict_proba(X))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[2], found[3])
    assert not np.array_equal(found[0], found[2])


# -- damaged entries -------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "other", "older"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_damaged_entry_is_trained_again(problem, tmp_path, damage, compress):
    log = tmp_path / "log"
    net = make_net(max_epochs=1, callbacks=[Log(str(log))])
    memory = joblib.Memory(tmp_path / "cache", verbose=0, compress=compress)
    first = original(net, problem, memory)
    (path,) = (tmp_path / "cache").rglob("output.pkl")
    content = bytearray(path.read_bytes())
    places = [len(content) // 2] if damage != "flipped" else [len(content) // 3, len(content) // 2]
    for place in places:
        content[place] ^= 255  # of a single bit, compression may make nothing
        if damage == "other":
            joblib.dump("something else", path)
        elif damage == "older":
            joblib.dump(joblib.load(path)[32:], path)
        else:
            path.write_bytes(
                {"flipped": content, "truncated": content[:place], "empty": b""}[damage]
            )
        log.write_text("")
        assert torch.equal(first, original(net, problem, memory))
        assert log.read_text() == "90\n"
        log.write_text("")
        assert torch.equal(first, original(net, problem, memory))
        assert log.read_text() == ""


def test_every_byte_of_an_entry_counts(tmp_path):
    memory, calls = joblib.Memory(tmp_path, verbose=0), []

    def train():
        calls.append(1)
        return "result"

    assert train_once(memory, (1,), train) == "result"
    (path,) = tmp_path.rglob("output.pkl")
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert train_once(memory, (1,), train) == "result"
    assert len(calls) > 0.8 * len(content)  # a few bytes say how long the pickle is


def test_a_damaged_entry_of_any_object_that_caches_is_not_used(problem):
    class Memory:
        kept = None

        def cache(self, func, ignore):
            def cached(key, train):
                self.kept = self.kept or func(key, train)
                return self.kept

            return cached

    memory = Memory()
    first = original(make_net(max_epochs=1), problem, memory)
    memory.kept = memory.kept[:-9] + b"x" + memory.kept[-8:]
    assert torch.equal(first, original(make_net(max_epochs=1), problem, memory))


@pytest.mark.filterwarnings("ignore:DLFD has changed almost nothing")
def test_benchmark_prints_its_table(monkeypatch, capsys):
    path = str(Path(__file__).parents[2] / "benchmarks" / "bench_cache.py")
    tiny = f"--rows 600 --epochs 1 --digest-rows 40 --threads {torch.get_num_threads()}"
    monkeypatch.setattr("sys.argv", [path, *tiny.split()])
    runpy.run_path(path, run_name="__main__")
    assert "same scores: True" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["labels", "seed"])
def test_the_cache_of_a_run_tells_labels_and_seeds_apart(problem, tmp_path, change):
    X, y, _ = problem
    other = (1 - y, 0) if change == "labels" else (y, 1)
    plain, plain_other, cached, cached_other = (
        weights(FineTune(make_net(max_epochs=2), memory=memory, random_state=seed).fit(X, labels))
        for memory in (None, str(tmp_path))
        for labels, seed in ((y, 0), other)
    )
    assert torch.equal(plain, cached)
    assert torch.equal(plain_other, cached_other)
    assert not torch.equal(plain, plain_other)
