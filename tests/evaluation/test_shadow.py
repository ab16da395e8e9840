"""The driver of attacks on each row: what it trains, that it resumes, and what the attacks see."""

import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import TensorDataset

from skunlearn import (
    AdvancedNegGrad,
    FineTune,
    NegGrad,
    Retrain,
    klom_margins,
    shadow_margins,
)
from skunlearn._engine.files import write
from skunlearn.metrics import klom, rmia, u_lira
from tests.networks import MLP, make_net

# Quick runs on tiny problems; what they do to the network is of no interest.
pytestmark = pytest.mark.filterwarnings("ignore:.* has changed almost nothing")


class Log(Callback):
    """Write down the rows of every training, and fail at that which a file tells."""

    def __init__(self, path):
        self.path = path

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        with open(self.path, "a") as file:
            file.write(" ".join(str(int(X[i][0][0])) for i in range(len(X))) + "\n")
        fail = Path(self.path + ".fail")
        if fail.exists() and len(trainings(self.path)) == int(fail.read_text()):
            raise RuntimeError("stopped")


def trainings(path):
    return [set(map(int, line.split())) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def problem():
    """60 rows, of which the last 20 are candidates; the first feature is the row's number."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    X[:, 0] = np.arange(60)
    y = rng.integers(2, size=60)
    return X, y, np.arange(60) >= 40


def margins_of(model, X, truth):
    p = model.predict_proba(X).astype(float)
    rows = np.arange(len(X))
    return np.log(p[rows, truth]) - np.log(p[rows, 1 - truth])


def quick(tmp_path, **params):
    return make_net(max_epochs=1, lr=0.01, callbacks=[Log(str(tmp_path / "log"))], **params)


def test_each_model_is_trained_on_half_of_the_candidates_and_unlearns_them(problem, tmp_path):
    X, y, forget = problem
    unlearner = FineTune(quick(tmp_path), lr=0.1, max_epochs=1)
    shadow = shadow_margins(
        unlearner, X, y, forget=forget, X_unseen=X[:7], y_unseen=y[:7], n_models=6, random_state=3
    )
    assert shadow.margins.shape == shadow.member.shape == (6, 20)
    assert shadow.margins_population.shape == (6, 7)
    assert (shadow.member.sum(axis=1) == 10).all()
    assert (shadow.member[::2] == ~shadow.member[1::2]).all()
    assert len({tuple(row) for row in shadow.member}) == 6
    retained = set(range(40))
    trained = trainings(tmp_path / "log")
    for member, original, unlearned in zip(shadow.member, trained[::2], trained[1::2]):
        assert original == retained | set((40 + np.flatnonzero(member)).tolist())
        assert unlearned == retained
    assert not hasattr(unlearner, "estimator_")


def test_margins_are_those_of_the_unlearned_models(problem):
    X, y, forget = problem
    y = np.array(["no", "yes"])[y]
    unlearner = NegGrad(make_net(max_epochs=3), lr=0.01, max_epochs=1)
    shadow = shadow_margins(
        unlearner, X, y, forget=forget, X_unseen=X[:5], y_unseen=y[:5], n_models=2, random_state=0
    )
    rng = np.random.RandomState(0)
    rng.permutation(20)
    for member, margins, unseen, seed in zip(
        shadow.member, shadow.margins, shadow.margins_population, rng.randint(2**31 - 1, size=2)
    ):
        seen = ~forget
        seen[forget] = member
        model = clone(unlearner).set_params(random_state=int(seed))
        model.fit(X[seen], y[seen], forget=forget[seen])
        for rows, labels, given in [(X[forget], y[forget], margins), (X[:5], y[:5], unseen)]:
            truth = (labels == "yes").astype(int)
            np.testing.assert_allclose(given, margins_of(model, rows, truth), atol=1e-4)


def test_the_candidates_of_a_person_go_together(problem):
    X, y, forget = problem
    groups = np.arange(60) // 5
    shadow = shadow_margins(
        Retrain(make_net(max_epochs=1)),
        X,
        y,
        forget=forget,
        groups=groups,
        n_models=4,
        random_state=0,
    )
    people = shadow.member.reshape(4, 4, 5)
    assert (people == people[:, :, :1]).all()
    assert (people[:, :, 0].sum(axis=1) == 2).all()


def test_klom_has_unlearned_and_retrained_models_of_the_same_rows(problem, tmp_path):
    X, y, forget = problem
    unlearner = FineTune(quick(tmp_path), lr=0.1, max_epochs=1)
    margins = klom_margins(
        unlearner, X, y, forget=forget, X_unseen=X[:7], y_unseen=y[:7], n_models=2, random_state=3
    )
    assert margins.unlearned.shape == margins.retrained.shape == (2, 67)
    everything, retained = set(range(60)), set(range(40))
    assert trainings(tmp_path / "log") == 2 * [everything, retained, retained]
    assert klom(*margins).shape == (67,)
    np.testing.assert_allclose(margins.unlearned[:, :7], margins.unlearned[:, 60:], atol=1e-4)
    seed = np.random.RandomState(3).randint(2**31 - 1, size=2)[1]
    model = Retrain(make_net(max_epochs=1, lr=0.01), random_state=int(seed))
    model.fit(X, y, forget=forget)
    np.testing.assert_allclose(margins.retrained[0, :60], margins_of(model, X, y), atol=1e-4)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("drive", [shadow_margins, klom_margins])
def test_a_call_that_was_stopped_goes_on_where_it_was(problem, tmp_path, drive, n_jobs):
    X, y, forget = problem
    folder, log, fail = tmp_path / "a" / "folder", tmp_path / "log", tmp_path / "log.fail"

    def run(**settings):
        log.write_text("")
        unlearner = FineTune(quick(tmp_path), lr=0.1, max_epochs=1)
        given = {"n_models": 4, "random_state": 0, "X_unseen": X[:3], "y_unseen": y[:3]}
        found = drive(unlearner, X, y, forget=forget, **given | settings)
        return [np.asarray(part) for part in found], len(trainings(log))

    whole, n_whole = run()
    fail.write_text("6")
    with (
        joblib.parallel_config("threading", n_jobs=n_jobs),
        pytest.raises(RuntimeError, match="stopped"),
    ):
        run(folder=folder)
    fail.unlink()
    # A model costs two trainings, but a retrained one costs one.
    n_done = len(list(folder.glob("*.npz")))
    if n_jobs == 1:  # else another thread may be about to write
        assert n_done == len(list(folder.iterdir()))
        assert n_done == {shadow_margins: 2, klom_margins: 3}[drive]
        assert n_whole - run(folder=folder)[1] == {shadow_margins: 4, klom_margins: 5}[drive]
    with joblib.parallel_config("threading", n_jobs=n_jobs):
        again, n_trained = run(folder=folder)
    assert n_trained < n_whole if n_jobs == 2 else n_trained == 0
    for part, expected in zip(again, whole):
        assert part.tobytes() == expected.tobytes()
    longer, n_trained = run(folder=folder, n_models=6)
    assert n_trained == n_whole // 2
    assert all((part[:4] == expected).all() for part, expected in zip(longer, whole))


def test_files_of_other_settings_are_not_used(problem, tmp_path):
    X, y, forget = problem
    folder = tmp_path / "folder"
    base = {
        "unlearner": FineTune(make_net(max_epochs=1), lr=0.1, max_epochs=1),
        "X": X,
        "y": y,
        "forget": forget,
        "X_unseen": X[:3],
        "y_unseen": y[:3],
        "n_models": 2,
        "random_state": 0,
    }
    changes = [
        {},
        {"unlearner": FineTune(make_net(max_epochs=1), lr=0.2, max_epochs=1)},
        {"unlearner": FineTune(make_net(max_epochs=1, lr=0.2), lr=0.1, max_epochs=1)},
        {"unlearner": NegGrad(make_net(max_epochs=1), lr=0.1, max_epochs=1)},
        {"X": X + np.float32(1e-3)},
        {"y": 1 - y},
        {"forget": ~forget},
        {"X_unseen": X[1:4]},
        {"y_unseen": 1 - y[:3]},
        {"groups": np.arange(60) // 2},
        {"X_val": X[:9], "y_val": y[:9]},
        {"random_state": 1},
    ]
    for n_before, change in enumerate(changes):
        shadow_margins(folder=folder, **base | change)
        assert len(list(folder.iterdir())) == 2 * (n_before + 1), change
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    same = {
        "unlearner": FineTune(
            make_net(max_epochs=1, verbose=1), lr=0.1, max_epochs=1, memory=None, random_state=7
        ),
        "n_jobs": 2,
    }
    shadow_margins(folder=str(folder), **base | same)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept


def test_a_file_holds_the_margins_and_nothing_else(problem, tmp_path):
    X, y, forget = problem
    unlearner = Retrain(make_net(max_epochs=1))
    shadow = shadow_margins(
        unlearner, X, y, forget=forget, n_models=2, folder=tmp_path, random_state=0
    )
    rows = []
    for path in tmp_path.iterdir():
        with np.load(path, allow_pickle=False) as kept:
            assert kept.files == ["margins"]
            rows.append(kept["margins"].tobytes())
    assert set(rows) == {row.tobytes() for row in shadow.margins}


def test_data_sets_and_dicts_of_arrays_are_taken(problem):
    X, y, forget = problem

    class Net(MLP):
        def forward(self, X, more=None):
            return super().forward(X)

    run = {"forget": forget, "n_models": 2, "random_state": 0}
    plain = shadow_margins(Retrain(make_net(Net)), X, y, X_unseen=X[:3], y_unseen=y[:3], **run)
    data = TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    few = TensorDataset(torch.as_tensor(X[:3]), torch.as_tensor(y[:3]))
    sizes = {"module__n_features_in": 4, "module__n_classes": 2}
    lazy = shadow_margins(Retrain(make_net(Net, **sizes)), data, X_unseen=few, **run)
    for one, other in zip(plain, lazy):
        np.testing.assert_array_equal(one, other)
    keys = shadow_margins(Retrain(make_net(Net, **sizes)), {"X": X, "more": X}, y, **run)
    np.testing.assert_allclose(keys.margins, plain.margins, atol=1e-4)  # 20 rows, not 23
    assert keys.margins_population is None


def test_rows_with_several_labels_are_taken(problem):
    X, y, forget = problem
    Y = np.column_stack([y, 1 - y, X[:, 1] > 0]).astype(int)
    net = make_net(criterion=nn.BCEWithLogitsLoss, max_epochs=1)
    shadow = shadow_margins(Retrain(net), X, Y, forget=forget, n_models=2, random_state=0)
    assert shadow.margins.shape == (2, 20)


def test_global_random_state_is_left_alone(problem):
    X, y, forget = problem
    before = np.random.mtrand._rand.get_state(legacy=False), torch.get_rng_state()
    shadow_margins(Retrain(make_net()), X, y, forget=forget, n_models=2, random_state=0)
    after = np.random.mtrand._rand.get_state(legacy=False)
    assert joblib.hash(after) == joblib.hash(before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_parallel_config_is_honoured(problem):
    X, y, forget = problem
    used = []

    class Backend(joblib.parallel.ThreadingBackend):
        def configure(self, n_jobs=1, **kwargs):
            used.append(n_jobs)
            return super().configure(n_jobs, **kwargs)

    with joblib.parallel_config(Backend(), n_jobs=2):
        shadow_margins(
            Retrain(make_net(max_epochs=1)), X, y, forget=forget, n_models=2, random_state=0
        )
    assert used[0] == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped"])
def test_a_damaged_file_is_named_and_its_model_trained_again(problem, tmp_path, damage):
    X, y, forget = problem
    call = {"forget": forget, "n_models": 2, "folder": tmp_path, "random_state": 0}
    unlearner = Retrain(make_net(max_epochs=1))
    whole = shadow_margins(unlearner, X, y, **call)
    path = min(tmp_path.iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:100], "empty": b"", "flipped": content}[damage])
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged"):
        again = shadow_margins(unlearner, X, y, **call)
    assert np.array_equal(again.margins, whole.margins)
    shadow_margins(unlearner, X, y, **call)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write(tmp_path / "row", b"old")

    def full(source, target):
        raise OSError("no space left")

    monkeypatch.setattr("skunlearn._engine.files.os.replace", full)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "row", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["row"]
    assert (tmp_path / "row").read_bytes() == b"old"


def test_long_runs_show_their_progress_where_tqdm_is_installed(problem, monkeypatch, capsys):
    X, y, forget = problem
    run = {"forget": forget, "n_models": 2, "random_state": 0}
    unlearner = Retrain(make_net(max_epochs=1))
    shadow_margins(unlearner, X, y, **run)
    assert "model" not in capsys.readouterr().err

    from tqdm import auto

    class Bar(auto.tqdm):
        def __init__(self, *args, delay, **kwargs):
            assert delay == 2
            super().__init__(*args, mininterval=0, **kwargs)

    monkeypatch.setattr(auto, "tqdm", Bar)
    shadow_margins(unlearner, X, y, **run)
    assert "2/2" in capsys.readouterr().err

    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    shadow_margins(unlearner, X, y, **run)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unlearner": make_net()}, "unlearner must be one of skunlearn's"),
        ({"unlearner": "frozen"}, "unlearner must train its networks itself"),
        ({"folder": "x", "random_state": None}, "random_state must be an integer if folder"),
        ({"y": None}, "y must be given unless"),
        ({"X_unseen": np.zeros((3, 4))}, "y_unseen must be given unless"),
        ({"forget": np.zeros(60, dtype=bool)}, "forget marks none of the 60 rows"),
        ({"forget": np.arange(60)}, "forget must be a boolean mask"),
        ({"forget": np.arange(60) == 3}, r"forget must mark rows .* got 1 of 1 row"),
        ({"groups": np.zeros(60, dtype=int)}, r"forget must mark rows .* got 20 of 1 group"),
        ({"groups": np.zeros(3)}, "inconsistent"),
        ({"n_models": 3}, "n_models must be even"),
        ({"n_models": 0}, "n_models must be an integer"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(problem, change, message):
    X, y, forget = problem
    if change.get("unlearner") == "frozen":
        net = Retrain(make_net(max_epochs=1)).fit(X, y).estimator_
        change = {"unlearner": FineTune(FrozenEstimator(net))}
    given = {"unlearner": Retrain(make_net()), "X": X, "y": y, "forget": forget, "n_models": 2}
    with pytest.raises(ValueError, match=message):
        shadow_margins(**given | change)


def test_klom_needs_rows_to_retain(problem):
    X, y, _ = problem
    with pytest.raises(ValueError, match="forget must leave rows to retain"):
        klom_margins(Retrain(make_net()), X, y, forget=np.ones(60, dtype=bool))


# -- what the attacks see --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "remembers"),
    [
        (Retrain, {}, False),
        (FineTune, {"lr": 0.005, "max_epochs": 2}, True),
        (NegGrad, {"lr": 0.03, "max_epochs": 1}, True),
    ],
)
def test_attacks_see_what_weak_unlearning_leaves_and_nothing_in_retrained_models(
    method, params, remembers
):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(140, 20)).astype(np.float32)
    y = rng.integers(2, size=140)  # without a pattern: they can only be memorised
    forget = (np.arange(140) >= 60)[:100]
    net = make_net(max_epochs=15, module__hidden=32)
    shadow = shadow_margins(
        method(net, **params), X[:100], y[:100], forget=forget,
        X_unseen=X[100:], y_unseen=y[100:], n_models=12, random_state=0,
    )  # fmt: skip
    likelihood, robust = u_lira(shadow.margins, shadow.member), rmia(*shadow)
    if remembers:
        assert likelihood.accuracy > 0.75
        assert robust.auc > 0.75
    else:
        assert likelihood.accuracy == pytest.approx(0.5, abs=0.06)
        assert robust.auc == pytest.approx(0.5, abs=0.06)


def test_klom_is_greater_on_forget_rows_that_are_remembered():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 20)).astype(np.float32)
    y = rng.integers(2, size=100)
    forget = np.arange(100) >= 60
    net = make_net(max_epochs=15, module__hidden=32)
    run = {"forget": forget, "n_models": 8, "random_state": 0}
    weak = klom(*klom_margins(NegGrad(net, lr=0.03, max_epochs=1), X, y, **run), n_bins=5)
    exact = klom(*klom_margins(Retrain(net), X, y, **run), n_bins=5)
    assert np.median(weak[forget]) > 5
    assert np.median(exact[forget]) < np.median(weak[forget]) / 2


def test_shadow_models_are_given_the_held_out_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(2, size=60)
    method = AdvancedNegGrad(make_net(max_epochs=2), loss_cap="val", max_epochs=1, lr=0.1)
    arguments = {"forget": np.arange(50) < 20, "n_models": 2, "random_state": 0}
    found = shadow_margins(method, X[:50], y[:50], X_val=X[50:], y_val=y[50:], **arguments)
    assert np.isfinite(found.margins).all()
    with pytest.raises(ValueError, match="held-out rows"):
        shadow_margins(method, X[:50], y[:50], **arguments)
