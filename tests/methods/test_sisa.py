"""SISA: exactness, cost, checkpoints, and the contract of an unlearner."""

import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch import NeuralNetBinaryClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from skunlearn.methods.sisa import _shard
from skunlearn.methods.sisa._ensemble import SISA
from skunlearn.model_selection import ForgetKFold
from tests.networks import MLP, ConvNet, DoubleMLP, make_net

SETUPS = {
    "network": (make_net(), {}),
    "sliced network": (make_net(), {"n_slices": 3}),
    "network with schedule": (
        make_net(callbacks=[LRScheduler("StepLR", step_size=2)], optimizer__momentum=0.5, lr=0.2),
        {"n_slices": 2, "n_shards": 2, "aggregate": "vote"},
    ),
    "tree": (DecisionTreeClassifier(max_features=1), {}),
    "sliced naive Bayes": (GaussianNB(), {"n_slices": 4}),
    "sliced gradient descent": (SGDClassifier(loss="log_loss"), {"n_slices": 2}),
    "without probabilities": (LinearSVC(), {"aggregate": "vote"}),
    "pipeline": (make_pipeline(StandardScaler(), DecisionTreeClassifier()), {"n_shards": 3}),
}
every_setup = pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS.keys())
kinds = pytest.mark.parametrize("base", [make_net(), LogisticRegression()], ids=["net", "sklearn"])


@parametrize_with_checks(
    [
        SISA(make_net(DoubleMLP, max_epochs=20), random_state=0),
        SISA(
            make_net(DoubleMLP, max_epochs=20),
            n_shards=2,
            n_slices=2,
            aggregate="vote",
            random_state=0,
        ),
        SISA(LogisticRegression(), random_state=0),
        SISA(SGDClassifier(loss="log_loss"), n_shards=3, n_slices=2, random_state=0),
        SISA(BernoulliNB(), n_shards=3, n_slices=2, random_state=0),
        SISA(LinearSVC(), aggregate="vote", random_state=0),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    return X, y, np.isin(np.arange(120), [7, 8, 60])


def state(model):
    """What a model has learnt, and nothing of how long it took."""
    if model is None or isinstance(model, dict):
        return joblib.hash(model)
    if hasattr(model, "module_"):
        return joblib.hash({name: value.numpy() for name, value in weights(model).items()})
    return joblib.hash(model)


def weights(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def load(checkpoint):
    """The tensors or the model of a checkpoint."""
    if isinstance(checkpoint, str):
        if checkpoint.endswith(".joblib"):
            return joblib.load(checkpoint)
        checkpoint = torch.load(checkpoint, weights_only=True)
    if isinstance(checkpoint, dict):
        return {name: value.numpy().copy() for name, value in checkpoint["module"].items()}
    return checkpoint


def everything(ensemble):
    """All that an ensemble holds of its training."""
    checkpoints = [[state(load(c)) for c in shard] for shard in ensemble._checkpoints]
    return [state(m) for m in ensemble.estimators_], checkpoints, ensemble._members.tolist()


# -- exactness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
@every_setup
def test_unlearning_equals_never_having_had_the_rows(setup, problem, on_disk, tmp_path):
    X, y, forget = problem
    base, params = setup
    params = {"random_state": 0, **params}
    if on_disk:
        params["checkpoint_dir"] = tmp_path
    fitted = SISA(base, **params).fit(X, y)
    before = everything(fitted)
    unlearned = everything(fitted.unlearn(X, y, forget=forget))
    assert unlearned != before
    assert unlearned == everything(SISA(base, **params).fit(X, y, forget=forget))
    assert unlearned == everything(SISA(base, **params).fit(X[~forget], y[~forget]))
    order = np.random.default_rng(1).permutation(np.flatnonzero(~forget))
    assert unlearned == everything(SISA(base, **params).fit(X[order], y[order]))


def places(X, codes, seed, n_shards, n_slices):
    """Digest, shard and slice of each row, by the definition."""
    digests = np.array(
        [
            int.from_bytes(
                hashlib.blake2b(
                    f"{row.shape} True {8 * row.size}\n".encode()
                    + row.astype(float).tobytes()
                    + b"() True 8\n"
                    + np.float64(code).tobytes(),
                    digest_size=8,
                    key=int(seed).to_bytes(8, "little"),
                ).digest(),
                "little",
            )
            for row, code in zip(X, codes)
        ],
        dtype=object,
    )
    return digests, digests % n_shards, digests // n_shards % n_slices


def test_shards_are_what_plain_skorch_makes_of_the_remaining_rows(problem):
    X, y, forget = problem
    fitted = SISA(make_net(max_epochs=8), n_shards=3, n_slices=3, random_state=0).fit(X, y)
    fitted.unlearn(X, y, forget=forget)

    X, y = X[~forget], y[~forget]
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    digests, shards, slices = places(X, y, seed, 3, 3)
    probas = []
    for shard in range(3):
        previous = None
        for s in range(3):  # 8 epochs without slices are 4 for each of 3: 4 * (1 + 2 + 3) = 8 * 3
            union = np.flatnonzero((shards == shard) & (slices <= s))
            union = np.array(sorted(union, key=lambda i: (slices[i], digests[i])))
            sizes = {"module__n_features_in": 4, "module__n_classes": 3}
            with torch.random.fork_rng():
                seeds = np.random.SeedSequence([seed, shard, s]).generate_state(1)
                torch.manual_seed(int(seeds[0]))
                net = make_net(max_epochs=4, **sizes).initialize()
                if previous is not None:
                    net.module_.load_state_dict(weights(previous))
                previous = net.partial_fit(X[union], y[union])
            if s < 2:
                assert state(load(fitted._checkpoints[shard][s])) == state(previous)
        assert state(fitted.estimators_[shard]) == state(previous)
        probas.append(previous.predict_proba(X))
    assert np.array_equal(fitted.predict_proba(X), np.mean(probas, axis=0))


@every_setup
def test_only_what_was_hit_is_trained_again(setup, problem):
    X, y, forget = problem
    base, params = setup
    forget = np.arange(120) == 7
    fitted = SISA(base, random_state=0, **params).fit(X, y)
    models, checkpoints = fitted.estimators_, fitted._checkpoints
    deal = fitted._assign_shards(X, y, None)
    shard, first = int(deal.shard[7]), int(deal.slice[7])
    fitted.unlearn(X, y, forget=forget)
    log = fitted.unlearning_history_
    assert {entry["shard"] for entry in log} == {shard}
    assert {entry["slice"] for entry in log} == set(range(first, fitted.n_slices))
    for i, (before, after) in enumerate(zip(models, fitted.estimators_)):
        assert (after is before) == (i != shard)
    for s, (before, after) in enumerate(zip(checkpoints[shard], fitted._checkpoints[shard])):
        assert (after is before) == (s < first)


def test_requests_can_follow_one_another_in_any_form(problem):
    X, y, _ = problem
    first, second = np.isin(np.arange(120), [3, 5]), np.isin(np.arange(120), [5, 9, 80])
    both = first | second
    expected = everything(SISA(GaussianNB(), n_slices=2, random_state=0).fit(X[~both], y[~both]))

    def start():
        return SISA(GaussianNB(), n_slices=2, random_state=0).fit(X, y).unlearn(X, y, forget=first)

    left = np.random.default_rng(0).permutation(np.flatnonzero(~first))
    assert everything(start().unlearn(X[left], y[left], forget=second[left])) == expected
    assert everything(start().unlearn(X, y, forget=both)) == expected
    again = start()
    models = again.estimators_
    again.unlearn(X, y, forget=first)
    assert len(again.unlearning_history_) == 0
    assert again.estimators_ == models


def test_forgotten_rows_cannot_slip_back(problem):
    X, y, _ = problem
    first, second = np.arange(120) == 3, np.arange(120) == 9
    fitted = SISA(GaussianNB(), random_state=0).fit(X, y).unlearn(X, y, forget=first)
    before = vars(fitted).copy()
    with pytest.raises(ValueError, match="1 of the 119 rows to retain are not"):
        fitted.unlearn(X, y, forget=second)
    assert vars(fitted) == before


def test_rows_must_be_those_of_the_training(problem):
    X, y, forget = problem
    groups = np.arange(120) // 10
    fitted = SISA(GaussianNB(), random_state=0).fit(X, y)
    cases = [
        (X[5:], y[5:], forget[5:], None, "5 of the 120 it was trained on are missing"),
        (X + 1, y, forget, None, "117 of the 117 rows to retain are not"),
        (X, (y + 1) % 3, forget, None, "117 of the 117 rows to retain are not"),
        (X, y, forget, groups, "117 of the 117 rows to retain are not"),
    ]
    for X_other, y_other, mask, groups_other, message in cases:
        with pytest.raises(ValueError, match=message):
            fitted.unlearn(X_other, y_other, forget=mask, groups=groups_other)
        with pytest.raises(ValueError, match=message):
            fitted.expected_cost(X_other, y_other, forget=mask, groups=groups_other)


def test_one_of_two_equal_rows_can_be_forgotten(problem):
    X, y, _ = problem
    X, y = np.concatenate([X, X[:1]]), np.concatenate([y, y[:1]])
    last = np.arange(121) == 120
    fitted = SISA(GaussianNB(), random_state=0).fit(X, y).unlearn(X, y, forget=last)
    once = SISA(GaussianNB(), random_state=0).fit(X[:120], y[:120])
    assert everything(fitted) == everything(once)
    fitted.unlearn(X, y, forget=last | (np.arange(121) == 0))
    assert everything(fitted) == everything(clone(fitted).fit(X[1:120], y[1:120]))


@pytest.mark.parametrize(
    ("n_shards", "n_slices", "most"),
    [(4, 5, 43.8), (4, 6, 49.7)],  # p = .001; a slice must not depend on the shard
)
def test_deal_is_of_even_size_and_differs_between_seeds(n_shards, n_slices, most):
    X = np.random.default_rng(0).normal(size=(4000, 2))
    y = np.arange(4000) % 2
    deals = []
    for seed in range(2):
        model = SISA(GaussianNB(), n_shards=n_shards, n_slices=n_slices, random_state=seed)
        deal = model.fit(X, y)._assign_shards(X, y, None)
        n_cells = n_shards * n_slices
        counts = np.bincount(deal.shard * n_slices + deal.slice, minlength=n_cells)
        expected = 4000 / n_cells
        assert ((counts - expected) ** 2 / expected).sum() < most  # chi-squared of n_cells - 1
        deals.append(deal.shard)
    assert np.mean(deals[0] == deals[1]) < 0.3


# -- groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["numbers", "strings", "series"])
def test_a_persons_request_hits_one_slice_of_one_shard(problem, names):
    X, y, _ = problem
    groups = np.arange(120) % 20
    if names != "numbers":
        groups = np.array([f"person {i}" for i in groups])
    forget = groups == groups[5]
    if names == "series":
        groups = pd.Series(groups)
    fitted = SISA(GaussianNB(), n_slices=3, random_state=0).fit(X, y, groups=groups)
    fitted.unlearn(X, y, forget=forget, groups=groups)
    log = fitted.unlearning_history_
    assert len({entry["shard"] for entry in log}) == 1
    kept = np.flatnonzero(~forget)
    fresh = clone(fitted).fit(X[kept], y[kept], groups=np.asarray(groups)[kept])
    assert everything(fitted) == everything(fresh)
    deal = fitted._assign_shards(X, y, groups)
    assert len(set(zip(deal.shard[forget], deal.slice[forget]))) == 1
    assert len(np.unique(deal.shard)) > 1


def test_groups_are_checked(problem):
    X, y, forget = problem
    fitted = SISA(GaussianNB())
    with pytest.raises(ValueError, match="groups must have shape"):
        fitted.fit(X, y, groups=X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.fit(X, y, groups=np.arange(119))
    with pytest.raises(ValueError, match="missing values"):
        fitted.fit(X, y, groups=np.full(120, np.nan), forget=forget)


def test_groups_and_forget_are_routed(problem):
    X, y, forget = problem
    groups = np.arange(120) // 6
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(StandardScaler(), SISA(GaussianNB(), random_state=0))
        pipe.fit(X, y, forget=forget, groups=groups)
    Z = StandardScaler().fit_transform(X)
    direct = SISA(GaussianNB(), random_state=0).fit(Z, y, forget=forget, groups=groups)
    assert everything(pipe[-1]) == everything(direct)
    pipe = make_pipeline(StandardScaler(), SISA(GaussianNB(), random_state=0))
    pipe.fit(X, y, sisa__forget=forget, sisa__groups=groups)
    assert everything(pipe[-1]) == everything(direct)


# -- cost ------------------------------------------------------------------------------------------


class CountRows(Callback):
    """Add up the rows of all training batches of all networks."""

    total = 0

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if training:
            CountRows.total += len(batch[1])


@pytest.mark.parametrize("n_slices", [1, 2, 4])
def test_expected_cost_is_the_share_of_training_that_is_repeated(problem, n_slices):
    X, y, _ = problem
    net = make_net(callbacks=[CountRows])
    for forgotten in [[7], [7, 8, 60], list(range(100)), [33, 34]]:
        forget = np.isin(np.arange(120), forgotten)
        fitted = SISA(net, n_slices=n_slices, random_state=0).fit(X, y)
        cost = fitted.expected_cost(X, y, forget=forget)
        assert isinstance(cost, float)
        CountRows.total = 0
        fitted.unlearn(X, y, forget=forget)
        repeated = CountRows.total
        CountRows.total = 0
        clone(fitted).fit(X, y, forget=forget)
        assert cost == repeated / CountRows.total
        assert sum(entry["n_rows"] for entry in fitted.unlearning_history_) == repeated
        assert fitted.expected_cost(X, y, forget=forget) == 0


@pytest.mark.parametrize(("n_shards", "n_slices"), [(5, 1), (5, 3), (60, 1)])
def test_expected_cost_of_classifiers_counts_rows_given_to_fit(problem, n_shards, n_slices):
    X, y, forget = problem
    fitted = SISA(GaussianNB(), n_shards=n_shards, n_slices=n_slices, random_state=0).fit(X, y)
    cost = fitted.expected_cost(X, y, forget=forget)
    fitted.unlearn(X, y, forget=forget)
    repeated = sum(entry["n_rows"] for entry in fitted.unlearning_history_)
    never = clone(fitted).fit(X, y, forget=forget)
    assert cost == repeated / sum(entry["n_rows"] for entry in never.unlearning_history_)
    assert 0 < cost < 0.7


@pytest.mark.parametrize(("n_slices", "epochs"), [(1, 12), (2, 8), (3, 6), (5, 4), (40, 1)])
def test_slices_share_the_epochs(problem, n_slices, epochs):
    X, y, forget = problem
    net = make_net(max_epochs=12)
    fitted = SISA(net, n_slices=n_slices, n_shards=1, random_state=0).fit(X, y, forget=forget)
    assert len(fitted.unlearning_history_) in range(epochs * (n_slices - 2), epochs * n_slices + 1)
    assert len(fitted.estimators_[0].history) == epochs


# -- checkpoints -----------------------------------------------------------------------------------


def checkpoints(folder):
    """The files in a folder that hold states of models, whole or not."""
    others = ("sisa-manifest.json", "sisa-manifest.lock")
    return {path for path in folder.iterdir() if path.name not in others}


def listed(folder):
    return set(json.loads((folder / "sisa-manifest.json").read_text()))


@pytest.mark.parametrize("base", [make_net(), GaussianNB()], ids=["net", "sklearn"])
def test_files_of_forgotten_rows_are_deleted(base, problem, tmp_path):
    X, y, forget = problem
    folder = tmp_path / "made" / "if need be"
    fitted = SISA(base, n_slices=3, random_state=0, checkpoint_dir=folder).fit(X, y)
    before = {path: path.read_bytes() for path in checkpoints(folder)}
    assert len(before) == 5 * 2
    fitted.unlearn(X, y, forget=forget)
    after = checkpoints(folder)
    assert {str(path) for path in after} == fitted._files()
    assert len(after) == 5 * 2
    assert set(before) - after
    assert set(before) & after
    never = SISA(base, n_slices=3, random_state=0).fit(X, y, forget=forget)
    assert everything(never) == everything(fitted)
    fitted.fit(X, y)
    assert len(checkpoints(folder)) == 5 * 2
    assert not after & checkpoints(folder)
    assert listed(folder) == {path.name for path in checkpoints(folder)}


def test_ensembles_can_share_a_folder(problem, tmp_path):
    X, y, forget = problem
    first = SISA(GaussianNB(), n_slices=2, random_state=0, checkpoint_dir=tmp_path).fit(X, y)
    second = clone(first).set_params(random_state=1).fit(X, y)
    second.unlearn(X, y, forget=forget)
    first.unlearn(X, y, forget=forget)
    assert everything(first) == everything(clone(first).fit(X, y, forget=forget))


KILLED = """
import os, pickle, sys, time
import numpy as np
import torch
from skorch.callbacks import Callback
from skunlearn.methods.sisa._ensemble import SISA
from tests.networks import make_net

class Stop(Callback):
    n_epochs = 0

    def on_epoch_begin(self, net, **kwargs):
        Stop.n_epochs += 1
        if Stop.n_epochs == int(sys.argv[2]):
            print("here", flush=True)
            time.sleep(120)

torch.set_num_threads(1)
rng = np.random.default_rng(0)
X = rng.normal(size=(120, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
net = make_net(max_epochs=2, callbacks=[Stop])
model = SISA(net, n_shards=3, n_slices=2, random_state=0, checkpoint_dir=sys.argv[1])
model.fit(X, y)
with open(sys.argv[3], "wb") as file:
    pickle.dump({**vars(model), "estimator": None, "estimators_": None}, file)
model.unlearn(X, y, forget=np.arange(120) < 60)
"""


def start(folder, n_epochs, kept):
    """A process that waits in the given epoch of its training."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(n_epochs), str(kept)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.readline() == b"here\n"
    return process


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
@pytest.mark.parametrize("call", ["fit", "unlearn"])
def test_what_a_killed_fit_has_left_is_deleted_by_the_next_call(problem, call, tmp_path):
    X, y, _ = problem
    folder = tmp_path / "checkpoints"
    other = SISA(GaussianNB(), n_slices=2, random_state=0, checkpoint_dir=folder).fit(X, y)
    process = start(folder, 6, tmp_path / "kept")
    try:
        left = checkpoints(folder) - {Path(path) for path in other._files()}
        assert {path.suffix for path in left} == {".pt", ".lock"}
        other.unlearn(X, y, forget=np.arange(120) == 3)  # while the other is at work
        assert left <= checkpoints(folder)
    finally:
        kill(process)
    if call == "fit":
        clone(other).fit(X, y)
    else:
        other.unlearn(X, y, forget=np.isin(np.arange(120), [3, 4]))
    assert not left & checkpoints(folder)
    assert {Path(path) for path in other._files()} <= checkpoints(folder)
    assert {path.name for path in checkpoints(folder)} == listed(folder)
    both = np.isin(np.arange(120), [3, 4, 80])
    assert everything(other.unlearn(X, y, forget=both)) == everything(
        SISA(GaussianNB(), n_slices=2, random_state=0).fit(X, y, forget=both)
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_a_killed_unlearn_leaves_the_files_of_the_ensemble(problem, tmp_path):
    X, y, _ = problem
    folder = tmp_path / "checkpoints"
    kill(start(folder, 10, tmp_path / "kept"))  # fit trains for an epoch in each of 3 * 2 slices
    before = pickle.loads((tmp_path / "kept").read_bytes())
    kept = {path for shard in before["_checkpoints"] for path in shard if path is not None}
    assert kept < {str(path) for path in checkpoints(folder) if path.suffix == ".pt"}
    SISA(GaussianNB(), n_slices=2, random_state=0, checkpoint_dir=folder).fit(X, y)
    names = {path.name for path in checkpoints(folder)}
    assert {Path(path).name for path in kept} <= names
    assert names == listed(folder)


def test_files_that_were_deleted_or_changed_are_not_used(problem, tmp_path):
    X, y, forget = problem
    for base in (make_net(), GaussianNB()):
        expected = everything(SISA(base, n_slices=3, random_state=0).fit(X, y, forget=forget))
        for damage in ("deleted", "empty", "flipped"):
            fitted = SISA(base, n_slices=3, random_state=0, checkpoint_dir=tmp_path).fit(X, y)
            intact = fitted.expected_cost(X, y, forget=forget)
            for path in map(Path, fitted._files()):
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes(b"" if damage == "empty" else content)
                if damage == "deleted":
                    path.unlink()
            assert fitted.expected_cost(X, y, forget=forget) >= intact
            fitted.unlearn(X, y, forget=forget)
            hit = {entry["shard"] for entry in fitted.unlearning_history_}
            assert [state(fitted.estimators_[i]) for i in hit] == [expected[0][i] for i in hit]
            assert {entry["slice"] for entry in fitted.unlearning_history_} == {0, 1, 2}


def test_copies_share_files_and_do_not_delete_each_others(problem, tmp_path):
    X, y, _ = problem
    first, second = np.arange(120) == 3, np.isin(np.arange(120), [9, 60])
    one = SISA(GaussianNB(), n_shards=2, n_slices=3, random_state=0, checkpoint_dir=tmp_path)
    one.fit(X, y)
    two, three = deepcopy(one), pickle.loads(pickle.dumps(one))
    assert one._files() == two._files() == three._files()
    two.unlearn(X, y, forget=first)
    three.unlearn(X, y, forget=second)
    one.unlearn(X, y, forget=first | second)
    plain = clone(one).set_params(checkpoint_dir=None)
    for model, mask in [(two, first | second), (three, first | second), (one, first | second)]:
        model.unlearn(X, y, forget=mask)
        assert [state(m) for m in model.estimators_] == [
            state(m) for m in clone(plain).fit(X, y, forget=mask).estimators_
        ]


@pytest.mark.parametrize("content", ['["sisa', '{"sisa": 1}'])
def test_a_manifest_that_cannot_be_read_is_named(problem, tmp_path, content):
    X, y, forget = problem
    fitted = SISA(GaussianNB(), n_slices=2, random_state=0, checkpoint_dir=tmp_path).fit(X, y)
    files, before = checkpoints(tmp_path), vars(fitted).copy()
    (tmp_path / "sisa-manifest.json").write_text(content)
    for call in (fitted.unlearn, fitted.fit):
        with pytest.raises(ValueError, match=r"manifest that cannot be read, .*manifest\.json"):
            call(X, y, forget=forget)
        assert checkpoints(tmp_path) == files
        assert vars(fitted) == before


def test_a_manifest_that_was_half_written_is_deleted(problem, tmp_path):
    X, y, forget = problem
    fitted = SISA(GaussianNB(), n_slices=2, random_state=0, checkpoint_dir=tmp_path).fit(X, y)
    half = tmp_path / "sisa-manifest.json.0123.tmp"
    half.write_text('["sisa')
    fitted.unlearn(X, y, forget=forget)
    assert not half.exists()


def test_checkpoints_may_move_to_another_folder_or_to_memory(problem, tmp_path):
    X, y, forget = problem
    fitted = SISA(GaussianNB(), n_slices=2, random_state=0, checkpoint_dir=tmp_path / "a").fit(X, y)
    expected = everything(clone(fitted).set_params(checkpoint_dir=None).fit(X, y, forget=forget))
    fitted.set_params(checkpoint_dir=tmp_path / "b").unlearn(X, y, forget=forget)
    assert everything(fitted) == expected
    for name in "ab":
        assert listed(tmp_path / name) == {path.name for path in checkpoints(tmp_path / name)}
        assert listed(tmp_path / name)
    fitted.set_params(checkpoint_dir=None).fit(X, y)
    assert not checkpoints(tmp_path / "a") | checkpoints(tmp_path / "b")
    assert listed(tmp_path / "a") == listed(tmp_path / "b") == set()


class StopAt(Callback):
    """Raise an error in the fourth epoch-start after being armed."""

    left = None

    def __init__(self, error=None):
        self.error = error

    def on_epoch_begin(self, net, **kwargs):
        if StopAt.left is not None:
            StopAt.left -= 1
            if StopAt.left < 0:
                raise self.error


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("from a callback")])
def test_interruption_leaves_the_estimator_and_its_files_as_they_were(
    problem, error, on_disk, tmp_path
):
    X, y, _ = problem
    forget = np.arange(120) < 30
    net = make_net(callbacks=[StopAt(error)])
    folder = tmp_path if on_disk else None
    fitted = SISA(net, n_slices=2, random_state=0, checkpoint_dir=folder).fit(X, y)
    before, kept, proba = vars(fitted).copy(), everything(fitted), fitted.predict_proba(X)
    files = set(tmp_path.iterdir())
    try:
        for call in (
            lambda: fitted.unlearn(X, y, forget=forget),
            lambda: fitted.fit(X[:, :3], y),
        ):
            StopAt.left = 25  # in the second shard
            with pytest.raises(type(error)):
                call()
            assert vars(fitted) == before
            assert set(tmp_path.iterdir()) == files
    finally:
        StopAt.left = None
    assert everything(fitted) == kept
    assert np.array_equal(proba, fitted.predict_proba(X))
    fitted.unlearn(X, y, forget=forget)
    assert everything(fitted) == everything(clone(fitted).fit(X, y, forget=forget))


def chunks(tensors, n_bytes=32):
    for tensor in tensors:
        raw = np.ascontiguousarray(tensor).tobytes()
        if len(raw) >= n_bytes:
            yield raw[:n_bytes]


@pytest.mark.parametrize("checkpoints", ["memory", "disk"])
def test_pickle_holds_nothing_of_forgotten_rows(problem, checkpoints, tmp_path):
    X = np.random.default_rng(1).normal(size=(120, 12)).astype(np.float32)
    _, y, _ = problem
    forget = np.arange(120) == 7
    folder = tmp_path if checkpoints == "disk" else None
    fitted = SISA(make_net(), n_shards=3, n_slices=3, random_state=0, checkpoint_dir=folder)
    fitted.fit(X, y)
    digest = set(fitted._members.tolist())
    deal = fitted._assign_shards(X, y, None)
    hit, first = deal.shard[7], deal.slice[7]
    stale = list(weights(fitted.estimators_[hit]).values())
    for s in range(first, 2):
        stale += load(fitted._checkpoints[hit][s]).values()

    def dump():
        return pickle.dumps(fitted) + b"".join(f.read_bytes() for f in tmp_path.iterdir())

    assert all(chunk in dump() for chunk in chunks(stale))
    fitted.unlearn(X, y, forget=forget)
    pickled = dump()
    assert not any(chunk in pickled for chunk in chunks(stale))
    assert not any(chunk in pickled for chunk in chunks(X))
    (gone,) = digest - set(fitted._members.tolist())
    assert int(gone).to_bytes(8, "little") not in pickled
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    later = np.isin(np.arange(120), [7, 50])
    assert again.unlearn(X, y, forget=later) is again
    assert everything(again) == everything(clone(again).fit(X, y, forget=later))


# -- many at a time --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize(
    ("base", "n_slices"),
    [(make_net(), 2), (DecisionTreeClassifier(max_features=1), 1)],
    ids=["net", "sklearn"],
)
def test_jobs_change_nothing(base, n_slices, backend, problem):
    X, y, forget = problem
    one = SISA(base, n_slices=n_slices, random_state=0).fit(X, y)
    expected = everything(one), everything(one.unlearn(X, y, forget=forget))
    with joblib.parallel_config(backend=backend):
        two = SISA(base, n_slices=n_slices, random_state=0, n_jobs=2).fit(X, y)
        assert everything(two) == expected[0]
        assert everything(two.unlearn(X, y, forget=forget)) == expected[1]


def test_a_dask_cluster_can_train_the_shards(problem):
    distributed = pytest.importorskip("dask.distributed")
    X, y, forget = problem
    expected = SISA(make_net(), n_slices=2, random_state=0).fit(X, y, forget=forget)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        fitted = SISA(make_net(), n_slices=2, random_state=0, n_jobs=2).fit(X, y)
        fitted.unlearn(X, y, forget=forget)
    assert everything(fitted) == everything(expected)


def test_memory_trains_each_shard_once(problem, tmp_path):
    X, y, forget = problem
    net = make_net(callbacks=[CountRows])
    plain = SISA(net, n_slices=2, random_state=0).fit(X, y)
    expected = everything(plain), everything(plain.unlearn(X, y, forget=forget))
    for attempt in range(2):
        CountRows.total = 0
        cached = SISA(net, n_slices=2, random_state=0, memory=str(tmp_path)).fit(X, y)
        assert everything(cached) == expected[0]
        assert everything(cached.unlearn(X, y, forget=forget)) == expected[1]
        assert (CountRows.total > 0) == (attempt == 0)
    clone(cached).set_params(aggregate="vote").fit(X, y)
    assert CountRows.total == 0
    for changed in ({"random_state": 1}, {"n_slices": 3}, {"estimator__lr": 0.05}):
        CountRows.total = 0
        clone(cached).set_params(**changed).fit(X, y)
        assert CountRows.total > 0
    trees = SISA(DecisionTreeClassifier(), random_state=0, memory=str(tmp_path))
    for _ in range(2):
        fitted = clone(trees).fit(X, y)
        assert np.array_equal(fitted.predict_proba(X), trees.fit(X, y).predict_proba(X))


# -- the ensemble's opinion ------------------------------------------------------------------------


@kinds
def test_aggregates(base, problem):
    X, y, _ = problem
    names = np.array(["ant", "bee", "cow"])
    soft = SISA(base, n_shards=3, random_state=0).fit(X, names[y])
    probas = np.array([m.predict_proba(X) for m in soft.estimators_])
    assert np.array_equal(soft.predict_proba(X), probas.mean(axis=0))
    assert (soft.predict(X) == names[probas.mean(axis=0).argmax(axis=1)]).all()
    hard = clone(soft).set_params(aggregate="vote").fit(X, names[y])
    votes = np.array([np.bincount(v, minlength=3) for v in probas.argmax(axis=2).T]) / 3
    assert np.allclose(hard.predict_proba(X), votes)
    assert (hard.predict(X) == names[votes.argmax(axis=1)]).all()
    assert soft.score(X, names[y]) > 0.7


def test_a_shard_may_lack_classes(problem):
    X, y, _ = problem
    groups = y  # all rows of a class in one shard: some lack two classes, some have no row
    for base, aggregate in [
        (make_net(), "mean_proba"),
        (LogisticRegression(), "mean_proba"),
        (LogisticRegression(), "vote"),
        (GaussianNB(), "mean_proba"),
    ]:
        fitted = SISA(base, n_shards=2, aggregate=aggregate, random_state=0)
        fitted.fit(X, y, groups=groups)
        assert fitted.predict_proba(X).shape == (120, 3)
        assert np.allclose(fitted.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    for place, labels in ((3, y), (0, y + 1)):  # after the others, and before them
        rare = np.where(np.arange(120) == 5, place, labels)
        fitted = SISA(LogisticRegression(), random_state=0).fit(X, rare)
        shares = [m.predict_proba(X).shape[1] for m in fitted.estimators_]
        assert sorted(shares) == [3, 3, 3, 3, 4]
        for label in range(4):
            knowing = [m for m in fitted.estimators_ if label in m.classes_]
            columns = [m.predict_proba(X)[:, m.classes_.tolist().index(label)] for m in knowing]
            assert np.allclose(fitted.predict_proba(X)[:, label], np.sum(columns, axis=0) / 5)


@kinds
def test_a_class_may_vanish_from_the_retained_rows(base, problem):
    X, y, _ = problem
    fitted = SISA(base, random_state=0).fit(X, y).unlearn(X, y, forget=y == 2)
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.predict_proba(X).shape == (120, 3)
    assert everything(fitted) == everything(clone(fitted).fit(X, y, forget=y == 2))


@kinds
def test_shards_may_be_empty(base, problem):
    X, y, _ = problem
    fitted = SISA(base, n_shards=60, random_state=0).fit(X, y)
    assert None in fitted.estimators_
    assert fitted.predict(X).shape == (120,)
    some = SISA(base, n_shards=4, random_state=0).fit(X, y)
    emptied = some._assign_shards(X, y, None).shard == 2
    some.unlearn(X, y, forget=emptied)
    assert [m is None for m in some.estimators_] == [False, False, True, False]
    assert everything(some) == everything(clone(some).fit(X, y, forget=emptied))
    with pytest.raises(ValueError, match="n_shards=10000 leaves no shard with two"):
        SISA(base, n_shards=10_000, random_state=0).fit(X[:10], y[:10])


def test_empty_slices_are_passed_over(problem):
    X, y, _ = problem
    for base in (make_net(module=ConvNet), GaussianNB()):
        Z = X[:40].reshape(40, 1, 2, 2) if hasattr(base, "module") else X[:40]
        fitted = SISA(base, n_shards=2, n_slices=25, random_state=0).fit(Z, y[:40])
        forget = np.arange(40) < 4
        fitted.unlearn(Z, y[:40], forget=forget)
        assert everything(fitted) == everything(clone(fitted).fit(Z, y[:40], forget=forget))


def test_binary_network_keeps_its_threshold(problem):
    X, y, forget = problem
    names = np.array(["no", "yes"])[(y > 0).astype(int)]

    def logit(n_features_in):
        return nn.Linear(n_features_in, 1)

    net = NeuralNetBinaryClassifier(
        logit, train_split=None, verbose=0, lr=0.5, max_epochs=20, threshold=0.8
    )
    for aggregate in ("mean_proba", "vote"):
        fitted = SISA(net, n_slices=2, aggregate=aggregate, random_state=0).fit(X, names)
        fitted.unlearn(X, names, forget=forget)
        members = np.array([m.predict_proba(X)[:, 1] for m in fitted.estimators_])
        share = members.mean(axis=0) if aggregate == "mean_proba" else (members > 0.8).mean(axis=0)
        assert np.allclose(fitted.predict_proba(X)[:, 1], share)
        limit = 0.8 if aggregate == "mean_proba" else 0.5
        assert (fitted.predict(X) == np.where(share > limit, "yes", "no")).all()


# -- kinds of input --------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [make_net(), GaussianNB()], ids=["net", "sklearn"])
def test_inputs_of_many_kinds_give_the_same(base, problem):
    X, y, forget = problem
    names = np.array(["ant", "bee", "cow"])
    expected = SISA(base, n_slices=2, random_state=0).fit(X, y, forget=forget)
    inputs = {
        "strings": (X, names[y], forget),
        "tensors": (torch.as_tensor(X), torch.as_tensor(y), torch.as_tensor(forget)),
        "frame": (pd.DataFrame(X, columns=list("abcd")), pd.Series(y), pd.Series(forget)),
    }
    if hasattr(base, "module"):
        inputs["float64"] = (X.astype(np.float64), y, forget)
        inputs["lists"] = (X.tolist(), y.tolist(), forget.tolist())
        data = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
        inputs["data set"] = (data, None, forget)
    for kind, (X_kind, y_kind, forget_kind) in inputs.items():
        fitted = SISA(base, n_slices=2, random_state=0).fit(X_kind, y_kind)
        fitted.unlearn(X_kind, y_kind, forget=forget_kind)
        assert np.array_equal(fitted.predict_proba(X_kind), expected.predict_proba(X)), kind
        predicted = fitted.predict(X_kind)
        assert (
            predicted == (names if kind == "strings" else np.arange(3))[expected.predict(X)]
        ).all()
    assert SISA(base).fit(inputs["frame"][0], y).feature_names_in_.tolist() == list("abcd")
    # Rows may come in another form at the next request.
    fitted = SISA(base, n_slices=2, random_state=0).fit(X, y)
    fitted.unlearn(torch.as_tensor(X).double(), y.tolist(), forget=forget)
    assert np.allclose(fitted.predict_proba(X), expected.predict_proba(X))


def test_images(problem):
    _, y, forget = problem
    X = np.random.default_rng(0).random((120, 1, 6, 6)).astype(np.float16)
    net = make_net(ConvNet, max_epochs=2, batch_size=17)
    fitted = SISA(net, n_slices=2, random_state=0).fit(X, y).unlearn(X, y, forget=forget)
    assert everything(fitted) == everything(clone(fitted).fit(X, y, forget=forget))


class TwoInputs(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.linear = nn.Linear(4, n_classes)

    def forward(self, left, right):
        return self.linear(torch.cat([left, right], dim=1))


def test_dicts_of_arrays(problem):
    X, y, forget = problem
    X = {"left": X[:, :2], "right": X[:, 2:]}
    fitted = SISA(make_net(TwoInputs), n_slices=2, random_state=0)
    fitted.fit(X, y).unlearn(X, y, forget=forget)
    assert everything(fitted) == everything(clone(fitted).fit(X, y, forget=forget))


def test_a_data_set_that_changes_from_read_to_read_is_refused(problem):
    X, y, forget = problem

    class Augmented(torch.utils.data.Dataset):
        def __len__(self):
            return len(y)

        def __getitem__(self, i):
            return torch.as_tensor(X[i]) + torch.rand(4), y[i]

    fitted = SISA(make_net(), random_state=0).fit(Augmented())
    with pytest.raises(ValueError, match="must be the rows that the ensemble was trained on"):
        fitted.unlearn(Augmented(), forget=forget)


def test_classifiers_read_what_they_always_read(problem):
    X, y, forget = problem
    frame = pd.DataFrame(X, columns=list("abcd")).assign(e=np.where(X[:, 3] > 0, "up", "down"))
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["e"]), remainder="passthrough"
    )
    texts = [f"word{a} word{b} common" for a, b in zip(y, np.arange(120) % 7)]
    gaps = X.astype(float)
    gaps[3, 1] = np.nan
    cases = [
        (make_pipeline(encoder, LogisticRegression()), frame),
        (make_pipeline(CountVectorizer(), MultinomialNB()), texts),
        (DecisionTreeClassifier(), gaps),
        (LogisticRegression(), csr_array(np.where(X > 0, X, 0))),
    ]
    for base, data in cases:
        fitted = SISA(base, random_state=0).fit(data, y)
        assert fitted.score(data, y) > 0.5
        fitted.unlearn(data, y, forget=forget)
        never = clone(fitted).fit(data, y, forget=forget)
        assert np.array_equal(fitted.predict_proba(data), never.predict_proba(data))
        assert np.array_equal(fitted._members, never._members)
    with pytest.raises(ValueError, match="NaN"):
        SISA(LogisticRegression()).fit(gaps, y)


def test_class_weights_are_of_the_users_labels(problem):
    X, y, _ = problem
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    base = LogisticRegression(class_weight={"no": 1, "yes": 1000})
    assert (SISA(base, random_state=0).fit(X, names).predict(X) == "yes").mean() > 0.9


# -- the contract of an unlearner ------------------------------------------------------------------


@kinds
def test_random_state_repeats_and_leaves_global_generators_alone(base, problem):
    X, y, forget = problem
    if not hasattr(base, "module"):
        base = DecisionTreeClassifier(max_features=1)
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = SISA(base, random_state=0).fit(X, y, forget=forget)
    again = SISA(base, random_state=0).fit(X, y, forget=forget)
    other = SISA(base, random_state=1).fit(X, y, forget=forget)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()
    assert everything(first) == everything(again)
    assert everything(first) != everything(other)
    unseeded = SISA(base).fit(X, y).unlearn(X, y, forget=forget)
    assert len(unseeded._members) == 117


@pytest.mark.parametrize(
    ("forget", "message"),
    [
        (np.array([0, 5, 7]), "boolean mask"),
        (np.zeros(119, dtype=bool), r"shape \(120,\)"),
        (np.ones(120), "boolean"),
    ],
)
@kinds
def test_forget_must_be_a_mask(base, problem, forget, message):
    X, y, _ = problem
    fitted = SISA(base, random_state=0).fit(X, y)
    for call in (fitted.fit, fitted.unlearn, fitted.expected_cost):
        with pytest.raises(ValueError, match=message):
            call(X, y, forget=forget)


@kinds
def test_nothing_to_forget_or_to_retain(base, problem):
    X, y, forget = problem
    fitted = SISA(base, random_state=0)
    with pytest.warns(UserWarning, match="forget marks no row"):
        fitted.fit(X, y, forget=np.zeros_like(forget))
    assert not hasattr(fitted, "unlearning_history_")
    before = vars(fitted).copy()
    for call in (fitted.unlearn, fitted.expected_cost):
        with pytest.raises(ValueError, match="forget marks no row"):
            call(X, y, forget=np.zeros_like(forget))
        with pytest.raises(ValueError, match="SISA needs retained rows"):
            call(X, y, forget=np.ones_like(forget))
    with pytest.raises(ValueError, match="SISA needs retained rows"):
        fitted.fit(X, y, forget=np.ones_like(forget))
    assert vars(fitted) == before


@kinds
def test_bad_rows_are_refused_and_nothing_is_lost(base, problem):
    X, y, forget = problem
    fitted = SISA(base, random_state=0).fit(X, y)
    before = vars(fitted).copy()
    cases = [
        ({"X": X[:0], "y": y[:0], "forget": forget[:0]}, "0 sample"),
        ({"X": X, "y": y[:-1], "forget": forget}, "inconsistent numbers of samples"),
        ({"X": X[:, :2], "y": y, "forget": forget}, "features"),
        ({"X": X, "y": y + 7, "forget": forget}, "labels that the network was not trained on"),
        ({"X": X, "y": y, "forget": forget, "X_val": X}, "y_val"),
        ({"X": X, "y": y, "forget": forget, "y_val": y}, "X_val"),
        ({"X": X, "y": y, "forget": forget, "X_val": X[:, :2], "y_val": y}, "features"),
        ({"X": X, "y": y, "forget": forget, "X_val": X, "y_val": y + 7}, "y_val holds labels"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            fitted.unlearn(**arguments)
        assert vars(fitted) == before
    with pytest.raises(ValueError, match="one class"):
        fitted.fit(X, np.zeros(120))
    assert vars(fitted) == before
    fitted.unlearn(X, y, forget=forget, X_val=X[:9], y_val=y[:9])


def test_unsuitable_estimators_are_refused(problem):
    X, y, forget = problem
    net = make_net(module__n_features_in=4, module__n_classes=3).initialize()
    cases = [
        (StandardScaler(), {}, "must be a skorch network that classifies"),
        (None, {}, "must be a skorch network that classifies"),
        (NeuralNetRegressor(MLP), {}, "must be a skorch network"),
        (FrozenEstimator(net), {}, "got a FrozenEstimator"),
        (FrozenEstimator(GaussianNB().fit(X, y)), {}, "got a FrozenEstimator"),
        (make_net(criterion=nn.MSELoss), {}, "regression loss"),
        (make_net(MLP(4, 3)), {}, "module instance"),
        (make_net(module__n_classes=5), {}, "5 columns, but y has 3 classes"),
        (DecisionTreeClassifier(), {"n_slices": 2}, "n_slices must be 1 .* DecisionTreeClassifier"),
        (LinearSVC(), {}, "aggregate must be 'vote' .* LinearSVC"),
    ]
    for base, params, message in cases:
        with pytest.raises(ValueError, match=message):
            SISA(base, **params).fit(X, y)
    for call in ("unlearn", "expected_cost"):
        with pytest.raises(NotFittedError):
            getattr(SISA(make_net()), call)(X, y, forget=forget)
        with pytest.raises(NotFittedError):
            getattr(SISA(FrozenEstimator(net)), call)(X, y, forget=forget)
    with pytest.raises(NotFittedError):
        SISA(make_net()).predict(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_shards", 0),
        ("n_shards", 2.0),
        ("n_slices", 0),
        ("n_slices", "two"),
        ("aggregate", "median"),
        ("checkpoint_dir", 3),
    ],
)
def test_hyperparameters_are_checked(problem, name, value):
    X, y, _ = problem
    with pytest.raises(ValueError, match=f"{name} must be"):
        SISA(make_net(), **{name: value}).fit(X, y)


@kinds
def test_users_estimator_is_never_changed(base, problem):
    X, y, forget = problem
    base = clone(base)
    before = set(vars(base))
    SISA(base, random_state=0).fit(X, y).unlearn(X, y, forget=forget)
    assert set(vars(base)) == before


def test_shards_and_slices_change_with_the_next_fit_only(problem):
    X, y, forget = problem
    fitted = SISA(GaussianNB(), n_shards=3, n_slices=2, random_state=0).fit(X, y)
    never = everything(clone(fitted).fit(X, y, forget=forget))
    fitted.set_params(n_shards=7, n_slices=5).unlearn(X, y, forget=forget)
    assert everything(fitted) == never
    assert len(fitted.fit(X, y).estimators_) == 7


def test_parameters_reach_down_to_the_module(problem):
    X, y, _ = problem
    model = SISA(make_net(module__hidden=8), random_state=0)
    model = clone(model).set_params(estimator__module__hidden=5).fit(X, y)
    assert {m.module_.head.in_features for m in model.estimators_} == {5}


def test_history_is_skorchs(problem):
    X, y, forget = problem
    fitted = SISA(make_net(max_epochs=3), n_slices=2, random_state=0).fit(X, y, forget=forget)
    history = fitted.unlearning_history_
    assert len(history[:, "train_loss"]) == 5 * 2 * 2
    assert history[-1, ("shard", "slice")] == (4, 1)
    fitted.fit(X, y)
    assert not hasattr(fitted, "unlearning_history_")


@pytest.mark.parametrize("aggregate", ["mean_proba", "vote"])
def test_a_row_may_have_several_labels(problem, aggregate):
    X, _, forget = problem
    Y = np.stack([X[:, 0] > 0, X[:, 1] > 0.3], axis=1).astype(int)
    net = make_net(criterion=nn.BCEWithLogitsLoss, max_epochs=20)
    fitted = SISA(net, n_slices=2, aggregate=aggregate, random_state=0).fit(X, Y)
    assert (fitted.predict(X) == Y).mean() > 0.85
    fitted.unlearn(X, Y, forget=forget)
    assert everything(fitted) == everything(clone(fitted).fit(X, Y, forget=forget))
    with torch.no_grad():
        outputs = [m.module_(torch.as_tensor(X)).sigmoid().numpy() for m in fitted.estimators_]
    if aggregate == "vote":
        outputs = [output > 0.5 for output in outputs]
    assert np.allclose(fitted.predict_proba(X), np.mean(outputs, axis=0), atol=1e-6)
    assert (fitted.predict(X) == (np.mean(outputs, axis=0) > 0.5)).all()
    with pytest.raises(ValueError, match="1d array"):
        SISA(GaussianNB()).fit(X, Y)


def test_a_search_over_shards_with_groups(problem):
    X, y, _ = problem
    groups = np.arange(120) // 3
    forget = np.isin(groups, [1, 5])
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            SISA(LogisticRegression(), random_state=0),
            {"n_shards": [2, 3], "aggregate": ["mean_proba", "vote"]},
            cv=ForgetKFold(3),
            scoring="accuracy",
        ).fit(X, y, forget=forget, groups=groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    never = clone(best).fit(X[~forget], y[~forget], groups=groups[~forget])
    assert np.array_equal(best.predict_proba(X), never.predict_proba(X))


def test_networks_of_a_class_that_cannot_be_looked_up_come_back_from_workers(problem):
    X, y, _ = problem

    class Local(MLP):
        pass

    model = SISA(make_net(Local), n_shards=2, random_state=0).fit(X, y)
    assert {type(net.module_) for net in model.estimators_} == {Local}
    plain = SISA(make_net(), n_shards=2, random_state=0).fit(X, y)
    assert np.array_equal(model.predict_proba(X), plain.predict_proba(X))


def test_an_error_in_a_shard_names_it_and_nothing_is_lost(problem, monkeypatch, tmp_path):
    X, y, _ = problem
    fitted = SISA(make_net(), n_slices=2, random_state=0, checkpoint_dir=tmp_path).fit(X, y)
    before, files = vars(fitted).copy(), checkpoints(tmp_path)
    n_rows, train = np.bincount(fitted._assign_shards(X, y, None).shard), _shard.fit_network

    def diverge(template, rows, *args, **kwargs):
        if 2 * len(rows) > n_rows[0]:
            raise ValueError("training has diverged")
        return train(template, rows, *args, **kwargs)

    monkeypatch.setattr(_shard, "fit_network", lambda *args, **kwargs: diverge(*args, **kwargs))
    with pytest.raises(ValueError, match=r"shard 0 of estimators_: training has diverged"):
        fitted.fit(X, y)
    assert vars(fitted) == before
    assert checkpoints(tmp_path) == files
    fitted.predict_proba(X)
