"""Comparisons: the same originals and references for all, counted and written down."""

import json
from typing import ClassVar

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skunlearn import (
    SISA,
    SSD,
    AdvancedNegGrad,
    BadTeacher,
    FineTune,
    NegGrad,
    Retrain,
    unlearning_report,
)
from skunlearn.evaluation import compare_unlearners, pareto_front
from skunlearn.metrics import get_scorer
from skunlearn.model_selection import ForgetKFold
from tests.networks import make_net

EPOCHS, N_FORGET, N = 8, 48, 160


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N + 80, 6)).astype(np.float32)
    y = np.where(X[:, 0] + rng.normal(size=len(X)) > 0, "yes", "no")
    forget = np.arange(N) < N_FORGET
    rows = {"X_unseen": X[N : N + 60], "y_unseen": y[N : N + 60], "forget": forget}
    return X[:N], y[:N], rows


class Trainings(Callback):
    """Counts the trainings of all networks."""

    n = 0

    def on_train_begin(self, net, **kwargs):
        Trainings.n += 1


class Stopped(NegGrad):
    """Is interrupted at its second run."""

    n = 0

    def unlearn(self, X, y=None, *, forget, X_val=None, y_val=None):
        Stopped.n += 1
        if Stopped.n == 2:
            raise KeyboardInterrupt
        return super().unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)


def net(**params):
    return make_net(max_epochs=EPOCHS, **params)


def compare(unlearners, problem, **kwargs):
    X, y, rows = problem
    return compare_unlearners(unlearners, X, y, **(rows | {"seeds": [3]} | kwargs))


def by_method(comparison):
    return {row["method"]: row for row in comparison.records}


def without_seconds(comparison):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in comparison.records]


def test_cost_is_the_share_of_samples_that_retraining_takes(problem):
    rows = by_method(
        compare(
            {
                "half": Retrain(net(), max_epochs=EPOCHS // 2),
                "one": FineTune(net(), max_epochs=1),
                "ascent": NegGrad(net(), max_epochs=1, lr=0.01),
                "teachers": BadTeacher(net(), max_epochs=1),
                "shards": SISA(net(), n_shards=2, n_slices=1, n_jobs=2),
            },
            problem,
        )
    )
    n_retain = N - N_FORGET
    unit = EPOCHS * n_retain
    assert rows["Original"]["cost"] is None
    assert rows["Retrain"]["cost"] == 1
    assert rows["half"]["cost"] == pytest.approx(0.5, abs=0.002)
    assert rows["one"]["cost"] == pytest.approx(n_retain / unit)
    assert rows["ascent"]["cost"] == pytest.approx(N_FORGET / unit)
    # The student learns from all rows; the original and a random network answer for all of them,
    # and the random one is asked beforehand whether it is unsure of the forget rows.
    right = (N * 5 / 3 + N_FORGET / 3) / unit
    assert rows["teachers"]["cost"] == pytest.approx(right, rel=0.05)
    assert rows["shards"]["cost"] == pytest.approx(1, rel=0.1)
    assert all(row["seconds"] > 0 for name, row in rows.items() if name != "Original")


def test_validation_is_not_counted(problem):
    X, y, _ = problem
    costs = [
        by_method(compare([FineTune(net(), max_epochs=2)], problem, **val))["FineTune"]["cost"]
        for val in ({}, {"X_val": X[:100], "y_val": y[:100]})
    ]
    assert costs[0] == costs[1]


def test_each_original_and_reference_is_trained_once(problem):
    Trainings.n = 0
    template = net(callbacks=[Trainings])
    comparison = compare([FineTune(template), NegGrad(template)], problem, seeds=[0, 1])
    assert Trainings.n == 2 * (3 + 2)
    assert [(row["method"], row["seed"]) for row in comparison.records] == [
        (name, seed)
        for name in ("Original", "Retrain", "Retrain again", "FineTune", "NegGrad")
        for seed in (0, 1)
    ]


GROUPS = {"groups": np.arange(N) // 4, "groups_unseen": N + np.arange(60) // 4}


@pytest.mark.parametrize("groups", [{}, GROUPS], ids=["rows", "people"])
def test_figures_are_those_of_a_report_on_networks_made_by_hand(problem, groups):
    X, y, rows = problem
    rows = rows | groups
    found = by_method(compare([FineTune(net(), max_epochs=2)], problem, n_splits=10, **groups))
    states = np.random.SeedSequence(3).generate_state(4).tolist()
    original = FineTune(net(), random_state=states[0]).fit(X, y)
    retrained, again = (
        Retrain(net(), random_state=state).fit(X, y, forget=rows["forget"]) for state in states[1:3]
    )
    frozen = FrozenEstimator(original.estimator_.set_params(classes=original.classes_))
    report = unlearning_report(
        FineTune(frozen, max_epochs=2, random_state=states[3]).unlearn(X, y, forget=rows["forget"]),
        X,
        y,
        **rows,
        original=original,
        reference=retrained,
        reference_2=again,
        n_resamples=20,
        random_state=3,
    )
    compared = set()
    for metric, intervals in report.metrics.items():
        for name, network in (("FineTune", "unlearned"), ("Original", "original")):
            if network in intervals and metric in found[name]:
                assert found[name][metric] == pytest.approx(intervals[network].value), metric
                compared.add(metric)
    assert compared >= {
        "nomus",
        "gap",
        "relative_js_distance",
        "calibrated_attack_auc",
        "cka_ratio",
    }
    assert ("calibrated_attack_people_auc" in compared) == bool(groups)
    nomus = report.metrics["nomus"]["unlearned"]
    bounds = found["FineTune"]["nomus_low"], found["FineTune"]["nomus_high"]
    assert bounds == pytest.approx(nomus[1:])
    assert found["Retrain"]["relative_js_distance"] == pytest.approx(1)
    assert found["Retrain"]["gap"] == found["Retrain again"]["gap"] > 0


def test_balanced_utility_is_the_mean_over_classes_that_are_there(problem):
    rng = np.random.default_rng(0)
    X, y, rows = problem
    y = np.where(y == "yes", "yes", rng.choice(["no", "perhaps"], len(y)))  # none is unseen
    rows = rows | {"X_unseen": rows["X_unseen"][:40], "y_unseen": rows["y_unseen"][:40]}
    found = compare([FineTune(net(), max_epochs=1)], (X, y, rows), feature_layer=None)
    state = np.random.SeedSequence(3).generate_state(4).tolist()[0]
    predicted = FineTune(net(), random_state=state).fit(X, y).predict(rows["X_unseen"])
    shares = [np.mean(predicted[rows["y_unseen"] == c] == c) for c in ("no", "yes")]
    assert by_method(found)["Original"]["balanced_utility"] == pytest.approx(np.mean(shares))
    assert shares[0] != shares[1]


@pytest.mark.parametrize("share", [1.0, 0.95])
def test_where_a_class_is_forgotten_the_columns_are_those_of_a_report(problem, share):
    X, y, rows = problem
    rng = np.random.default_rng(1)
    y = np.where(y == "yes", "yes", rng.choice(["no", "perhaps"], len(y)))
    y_unseen = np.where(
        rows["y_unseen"] == "yes", "yes", rng.choice(["no", "perhaps"], len(rows["y_unseen"]))
    )
    of_class = np.flatnonzero(y == "perhaps")
    forget = np.isin(np.arange(N), of_class[: int(np.ceil(share * len(of_class)))])
    rows = rows | {"y_unseen": y_unseen, "forget": forget}
    warning = "rows of the classes perhaps: .* and unseen rows of other classes.*NoMUS does not"
    with pytest.warns(UserWarning, match=warning) as shown:
        found = compare([FineTune(net(), max_epochs=1)], (X, y, rows), feature_layer=None)
    assert sum("NoMUS does not" in str(each.message) for each in shown) == 1
    state = np.random.SeedSequence(3).generate_state(4).tolist()[0]
    original = FineTune(net(), random_state=state).fit(X, y)
    with pytest.warns(UserWarning, match=warning):
        report = unlearning_report(original, X, y, **rows, n_splits=40, n_resamples=2)
    row = by_method(found)["Original"]
    for name in ("utility_of_kept_classes", "utility_of_forgotten_classes", "class_attack_auc"):
        assert row[name] == pytest.approx(report.metrics[name]["unlearned"].value), name
    for row in found.records:
        assert row["no_nomus"] == report.not_measured["nomus"]
        assert [row[n] for n in ("nomus", "nomus_low", "nomus_high", "forgetting_score")] == [
            None,
            None,
            None,
            None,
        ]
        assert 0 <= row["utility_of_forgotten_classes"] < row["utility_of_kept_classes"]
    assert "-" in repr(found)
    assert found.table["nomus"].isna().all()
    with pytest.raises(ValueError, match="both forgetting_score and utility, which does not apply"):
        found.plot_tradeoff()
    assert found.plot_front().x.shape == (3,)  # the original costs nothing


def test_features_need_not_be_looked_at(problem):
    with_, without = (
        by_method(compare([FineTune(net(), max_epochs=1)], problem, feature_layer=layer))
        for layer in ("auto", None)
    )
    left_out = with_["FineTune"].keys() - without["FineTune"].keys()
    assert left_out == {"linear_cka", "scatter_ratio", "linear_probe", "cka_ratio"}
    assert without["FineTune"]["nomus"] == with_["FineTune"]["nomus"]


def test_a_stopped_comparison_goes_on_where_it_was(problem, tmp_path):
    methods = {"one": FineTune(net(), max_epochs=1), "two": Stopped(net(), max_epochs=1, lr=0.01)}
    Stopped.n = 2
    whole = compare(methods, problem, seeds=[0, 1])
    Stopped.n = 0
    with pytest.raises(KeyboardInterrupt):
        compare(methods, problem, seeds=[0, 1], folder=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 2 * 5 - 1
    resumed = compare(methods, problem, seeds=[0, 1], folder=tmp_path)
    assert Stopped.n == 3
    assert without_seconds(resumed) == without_seconds(whole)
    Trainings.n = 0
    assert compare(methods, problem, seeds=[0, 1], folder=tmp_path).records == resumed.records
    assert Trainings.n == 0


@pytest.mark.parametrize("damage", ["truncated", "empty", "other", "digit", "older"])
def test_a_damaged_row_is_named_and_its_run_repeated(problem, tmp_path, damage):
    methods = {"one": FineTune(net(), max_epochs=1), "two": NegGrad(net(), max_epochs=1)}
    whole = compare(methods, problem, folder=tmp_path)
    path = next(path for path in tmp_path.iterdir() if '"two"' in path.read_text())
    text = path.read_text()
    row = json.loads(text)
    row["utility"] += 0.1
    older = {key: value for key, value in row.items() if key != "digest"}
    broken = {"truncated": text[:60], "empty": "", "other": "[1, 2]"}
    broken |= {"digit": json.dumps(row), "older": json.dumps(older)}
    path.write_text(broken[damage])
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged"):
        again = compare(methods, problem, folder=tmp_path)
    assert without_seconds(again) == without_seconds(whole)
    assert compare(methods, problem, folder=tmp_path).records == again.records


def test_a_method_that_fails_can_leave_its_row_empty(problem, tmp_path):
    methods = {"refused": SSD(net(), threshold=1000.0), "one": FineTune(net(), max_epochs=1)}
    with pytest.raises(ValueError, match="can choose no weight"):
        compare(methods, problem)
    found = compare(methods, problem, error_score=np.nan, folder=tmp_path)
    row = by_method(found)["refused"]
    assert "can choose no weight" in row["error"]
    assert row["nomus"] is row["cost"] is None
    assert by_method(found)["one"]["nomus"] > 0
    assert np.isnan(found.summary()["refused"]["gap"]).all()
    assert compare(methods, problem, error_score=np.nan, folder=tmp_path).records == found.records


def test_nothing_of_another_setting_is_taken_from_the_folder(problem, tmp_path):
    X, y, rows = problem
    compare([FineTune(net(), max_epochs=1)], problem, folder=tmp_path)
    n = len(list(tmp_path.iterdir()))
    compare([FineTune(net(), max_epochs=2)], problem, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == n + 1
    other = rows | {"forget": ~rows["forget"]}
    compare([FineTune(net(), max_epochs=1)], (X, y, other), folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == n + 1 + n
    for setting in ({"n_splits": 39}, {"feature_layer": None}):
        n = len(list(tmp_path.iterdir()))
        compare([FineTune(net(), max_epochs=1)], problem, folder=tmp_path, **setting)
        assert len(list(tmp_path.iterdir())) == n + 4
    for path in tmp_path.iterdir():
        assert set(map(type, json.loads(path.read_text()).values())) <= {
            str,
            int,
            float,
            type(None),
        }


def test_memory_keeps_what_every_method_is_compared_with(problem, tmp_path):
    Trainings.n = 0
    template = net(callbacks=[Trainings])
    compare([FineTune(template)], problem, memory=str(tmp_path))
    assert Trainings.n == 3 + 1
    compare([NegGrad(template)], problem, memory=str(tmp_path))
    assert Trainings.n == 3 + 1 + 1


@pytest.mark.parametrize("wanted", [0.01, 0.5])
def test_a_search_brings_the_parameters_it_finds(problem, wanted):
    search = GridSearchCV(
        FineTune(net(), max_epochs=1),
        {"lr": [0.01, 0.5]},
        cv=ForgetKFold(2),
        scoring=lambda model, X, y: float(model.lr == wanted),
    )
    methods = {str(lr): FineTune(net(), max_epochs=1, lr=lr) for lr in (0.01, 0.5)}
    with sklearn.config_context(enable_metadata_routing=True):
        rows = by_method(compare({"searched": search, **methods}, problem))
    assert rows["0.01"]["nomus"] != rows["0.5"]["nomus"]
    searched, found = (
        {**rows[name], "method": "", "seconds": 0} for name in ("searched", str(wanted))
    )
    assert searched == found


def test_a_search_is_seeded_anew_for_each_seed_of_a_comparison(problem):
    class Watched(GridSearchCV):
        seen: ClassVar = []

        def fit(self, X, y=None, **params):
            self.seen.append(self.estimator.random_state)
            return super().fit(X, y, **params)

    search = Watched(
        FineTune(net(), max_epochs=1),
        {"lr": [0.1]},
        cv=ForgetKFold(2),
        scoring=get_scorer("utility"),
        refit=False,
    )
    with sklearn.config_context(enable_metadata_routing=True):
        for _ in range(2):
            compare({"searched": search}, problem, seeds=[0, 1])
    assert Watched.seen[:2] == Watched.seen[2:]
    assert all(isinstance(state, int) for state in Watched.seen)
    assert len(set(Watched.seen)) == 2


@pytest.mark.parametrize("n_jobs", [2])
def test_seeds_in_two_processes_give_what_one_gives(problem, n_jobs):
    one, two = (
        compare([FineTune(net(), max_epochs=1)], problem, seeds=[0, 1], n_jobs=n)
        for n in (None, n_jobs)
    )
    assert without_seconds(one) == without_seconds(two)


def test_a_dask_cluster_gives_what_one_process_gives(problem):
    distributed = pytest.importorskip("distributed")
    methods = [FineTune(net(), max_epochs=1), NegGrad(net(), max_epochs=1, lr=0.01)]
    here = compare(methods, problem, seeds=[0, 1])
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        there = compare(methods, problem, seeds=[0, 1])
    assert without_seconds(there) == without_seconds(here)


def test_table_summary_and_text(problem):
    comparison = compare([FineTune(net(), max_epochs=1)], problem, seeds=[0, 1])
    table = comparison.table
    assert table["method"].nunique() == 4
    mean, spread = comparison.summary()["FineTune"]["nomus"]
    values = table.loc[table["method"] == "FineTune", "nomus"]
    assert (mean, spread) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert f"{mean:.3f} ± {spread:.3f}" in repr(comparison)


def test_it_draws_itself(problem):
    plt = pytest.importorskip("matplotlib.pyplot")
    methods = {"one": FineTune(net(), max_epochs=1), "four": FineTune(net(), max_epochs=4)}
    comparison = compare(methods, problem)
    assert comparison.plot_tradeoff().methods == list(by_method(comparison))
    assert comparison.plot_closeness().y_name == "nomus"
    front = comparison.plot_front()
    assert "Original" not in front.methods  # which has no cost
    line = next(line for line in front.ax_.lines if line.get_label() == "front")
    assert line.get_xdata()[0] == min(front.x)
    plt.close("all")


def test_front_is_what_nothing_is_both_cheaper_and_closer_than():
    rng = np.random.default_rng(0)
    cost, loss = rng.integers(20, size=(2, 60)) / 20
    front = set(pareto_front(cost, loss).tolist())
    for i in range(60):
        beaten = any(
            cost[j] <= cost[i] and loss[j] <= loss[i] and (cost[j], loss[j]) != (cost[i], loss[i])
            for j in range(60)
        )
        twin = any((cost[j], loss[j]) == (cost[i], loss[i]) for j in range(i))
        assert (i in front) == (not beaten and not twin)
    with pytest.raises(ValueError, match="one shape"):
        pareto_front([1, 2], [1])


@pytest.mark.parametrize(
    ("unlearners", "kwargs", "message"),
    [
        ([], {}, "at least one; got none"),
        ([FineTune(net()), FineTune(net())], {}, "different names"),
        ({"Retrain": FineTune(net())}, {}, "must not be called \\['Retrain'\\]"),
        ([FineTune(net()), NegGrad(net(lr=0.2))], {}, "that of 'FineTune' differs from that of"),
        ([FineTune(FrozenEstimator(net()))], {}, "a FrozenEstimator in 'FineTune'"),
        ([net()], {}, "unlearners, or searches over one"),
        ([FineTune(net())], {"seeds": [1, 1]}, "different integers"),
        ([FineTune(net())], {"error_score": 0}, "'raise' or numpy.nan; got 0"),
        ([FineTune(net())], {"forget": np.zeros(N, bool)}, "0 True of 160"),
    ],
)
def test_what_cannot_be_compared_is_refused(unlearners, kwargs, message, problem):
    with pytest.raises(ValueError, match=message):
        compare(unlearners, problem, **kwargs)


def test_a_comparison_hands_on_the_held_out_rows(problem):
    X, y, _ = problem
    method = AdvancedNegGrad(net(), loss_cap="val", max_epochs=1)
    rows = by_method(compare([method], problem, X_val=X[:30], y_val=y[:30]))
    assert rows["AdvancedNegGrad"]["nomus"] > 0
    with pytest.raises(ValueError, match="held-out rows"):
        compare([method], problem)


def test_a_comparison_searches_with_the_mask(problem):
    seen = []

    class Watched(FineTune):
        def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
            seen.append((X, forget))
            return super().fit(X, y, forget=forget, X_val=X_val, y_val=y_val)

    search = GridSearchCV(
        Watched(net(), max_epochs=1, lr=0.01),
        {"batch_size": [16]},
        cv=ForgetKFold(2),
        scoring=get_scorer("utility"),
        refit=False,
    )
    with sklearn.config_context(enable_metadata_routing=True):
        compare({"searched": search}, problem)
    X, _, rows = problem
    to_forget = {row.tobytes() for row in X[rows["forget"]]}
    masked = [(fold, mask) for fold, mask in seen if mask is not None]
    assert len(masked) >= 2
    for fold, mask in masked:  # ForgetKFold keeps every forget row in every fold
        assert {row.tobytes() for row in fold[mask]} == to_forget
