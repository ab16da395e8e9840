"""The study: settings chosen from tuning splits alone, people kept apart, runs that go on."""

import csv
import importlib
import inspect
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import ttest_1samp
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from skorch.callbacks import Callback

from skunlearn import DLFD, Distill, FineTune, Retrain, all_unlearners
from skunlearn.features import FeatureExtractor
from skunlearn.metrics import jensen_shannon_distance
from skunlearn.transport import transport_distance

SHARED = Path(__file__).parents[2] / "shared" / "data"
STUDY = Path(__file__).parents[1] / "benchmarks" / "study"
MODULES = ("domains", "methods", "options", "report", "summarise", "tables", "tune", "variants")
MODULES += ("attacks", "checks", "compare", "cost", "defaults", "dial", "guard", "misleading")
MODULES += ("overlap", "students")
METHODS = ["FineTune", "DLFD", "Retrain (tuned, short)"]


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(STUDY))
    n_threads = torch.get_num_threads()
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    torch.set_num_threads(n_threads)
    sys.path.remove(str(STUDY))
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def smoke(study, tmp_path_factory):
    """The tables of a run that is as small as can be."""
    folder = tmp_path_factory.mktemp("results")
    command = ["smoke", "--trials", "2", "--tuning-splits", "2", "--results", str(folder)]
    command += ["--methods", *METHODS]
    for script in (study.tune, study.report, study.summarise):
        script.main(command)
    return SimpleNamespace(folder=folder, command=command)


def read(smoke, name):
    return smoke_rows(smoke.folder / f"{name}-smoke.csv")


def smoke_rows(path):
    with path.open(newline="") as file:
        assert file.readline().startswith("# numpy ")
        return list(csv.DictReader(file))


def test_every_method_is_tried_as_often_and_what_no_cap_allows_once(smoke):
    rows = read(smoke, "tuning")
    references = [row["method"] for row in rows if not row["trial"]]
    assert references == ["Original", "Retrain", "Retrain again"] * 2
    rows = [row for row in rows if row["trial"]]
    tried = [(row["method"], row["trial"], row["seed"]) for row in rows]
    assert len(set(tried)) == len(tried)
    assert {key for key in tried if key[2] == "0"} == {(m, t, "0") for m in METHODS for t in "01"}
    dearer = {key[:2] for key, row in zip(tried, rows) if key[2] == "0" and float(row["cost"]) > 1}
    assert 0 < len(dearer) < 6
    assert dearer.isdisjoint(key[:2] for key in tried if key[2] == "1")
    assert len(tried) == 12 - len(dearer)


def test_every_choice_is_run_on_every_reporting_split(smoke):
    chosen = {(row["method"], row["trial"]) for row in read(smoke, "chosen")}
    names = {name for name, _ in chosen}
    assert "DLFD: reversed" in names
    assert "Retrain (shortened)" in names
    rows = read(smoke, "reported")
    references = {("Original", ""), ("Retrain", ""), ("Retrain again", "")}
    assert {(row["method"], row["trial"]) for row in rows} == chosen | references
    assert sorted({row["seed"] for row in rows}) == ["100", "101"]
    assert len(rows) == 2 * len(chosen | references)
    retrained = [row for row in rows if row["method"] == "Retrain"]
    assert {row["cost"] for row in retrained} == {"1"}
    assert {row["relative_js_distance"] for row in retrained} == {"1"}


def test_means_of_the_summary_are_those_of_the_reported_rows(smoke):
    reported = read(smoke, "reported")
    for entry in read(smoke, "summary"):
        if entry["method"] != "Retrain (shortened)":
            continue
        key = entry["method"], entry["trial"]
        values = [float(row["gap"]) for row in reported if (row["method"], row["trial"]) == key]
        assert float(entry["gap"]) == pytest.approx(np.mean(values), rel=1e-3)
        assert float(entry["gap_sd"]) == pytest.approx(np.std(values, ddof=1), rel=1e-3)


def test_a_stopped_run_goes_on(smoke, study):
    path = smoke.folder / "tuning-smoke.csv"
    whole = path.read_text()
    rows = read(smoke, "tuning")
    path.write_text("".join(whole.splitlines(keepends=True)[:-3]))
    study.tune.main(smoke.command)
    again = read(smoke, "tuning")
    for row in rows + again:
        del row["seconds"]
    assert again == rows
    size = path.stat().st_size
    study.tune.main(smoke.command)
    assert path.stat().st_size == size


def test_figures_of_tuning_are_not_on_people_for_reporting(study, monkeypatch):
    seen = []
    monkeypatch.setattr(study.tune, "run", lambda domain, rows, *args, **kwargs: seen.append(rows))
    monkeypatch.setattr(
        study.report, "run", lambda domain, rows, *args, **kwargs: seen.append(rows)
    )
    domain, args = study.domains.DOMAINS["smoke"], SimpleNamespace(data=None, cache=None)
    study.tune.try_out(args, domain, 5, "FineTune", {"0": {}})
    study.report.report(args, domain, 5, {("FineTune", "0"): {}})
    (_, held_tuning, figures_tuning), (_, held, figures) = seen
    assert np.array_equal(figures_tuning[0], held[0])
    assert np.array_equal(held_tuning[0], figures[0])
    assert not np.array_equal(figures_tuning[0], figures[0])


def test_reporting_splits_are_other_draws_than_tuning_splits(study):
    assert study.options.FIRST_REPORTED >= 100
    domain = study.domains.DOMAINS["smoke"]
    masks = [domain.split(seed)[0][2] for seed in (0, 1, study.options.FIRST_REPORTED)]
    X = [domain.split(seed)[0][0] for seed in (0, 1, study.options.FIRST_REPORTED)]
    assert len({x[mask].tobytes() for x, mask in zip(X, masks)}) == 3


@pytest.mark.parametrize("name", ["smoke", "identities"])
def test_nobody_is_in_two_parts(study, name):
    domain = study.domains.DOMAINS[name]
    X, _, people = domain.load(None)
    person = {row.tobytes(): who for row, who in zip(X, people)}
    (train, _, forget), (val, _), (test, _) = domain.split(3)
    parts = [
        {person[row.tobytes()] for row in rows}
        for rows in (train[~forget], train[forget], val, test)
    ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(set(people))
    assert [len(part) for part in parts[1:]] == list(domain.sizes.values())


@pytest.mark.parametrize(
    "name", ["smoke", "identities", "speeches", "faces", "ecg", "digits", "cifar10-small"]
)
def test_domains_have_as_many_people_as_they_say(study, name):
    domain = study.domains.DOMAINS[name]
    try:
        _, y, people = domain.load(SHARED)
    except study.domains.MissingDataError as error:
        pytest.skip(str(error))
    assert len(np.unique(people)) == domain.n_people
    split = domain.masks(y, people, 0)
    forgotten, trained_on = (len(np.unique(people[m])) for m in (split.forget, split.train))
    unseen = len(np.unique(people[split.test]))
    retained = trained_on - forgotten
    assert domain.measured_share("relative_js_distance") == forgotten / retained
    assert domain.measured_share("nomus") == (forgotten + unseen) / retained


def test_trainings_are_annealed_once(study):
    X, y, _ = study.domains.DOMAINS["smoke"].load(None)
    rates = []

    class Noted(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    net = study.domains.DOMAINS["smoke"].net
    net = type(net)(**{**net.get_params(deep=False), "callbacks": [Noted, study.domains.Annealing]})
    original = FineTune(net, random_state=0).fit(X, y)
    n = 8 * 9  # epochs and batches
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(n) / n)) / 2
    assert rates == pytest.approx(cosine)
    rates.clear()
    forget = np.arange(len(X)) < 16
    Retrain(net, max_epochs=2, random_state=0).fit(X, y, forget=forget)
    assert rates == pytest.approx(0.05 * (1 + np.cos(np.pi * np.arange(16) / 16)) / 2)
    rates.clear()
    original.set_params(max_epochs=1).unlearn(X, y, forget=forget)
    assert rates == pytest.approx(0.05 * (1 + np.cos(np.pi * np.arange(1, 9) / 8)) / 2)


def test_every_unlearner_is_tuned(study):
    domain = study.domains.DOMAINS["speeches-long"]
    names = study.methods.tuned(domain).keys()
    assert {name for name, _ in all_unlearners()} - names == {"SISA", "Retrain"}
    assert (
        names - study.methods.tuned(study.domains.DOMAINS["speeches"]).keys()
        == {
            f"{name} ({start})"
            for name in ("DLFD", "FineTune")
            for start in ("reset", "shrunk", "targets", "ceiling", "matched", "drawn")
        }
        | study.students.students(domain.net).keys()
    )
    variants = study.variants.variants(domain.net)
    for name in names:
        trials = study.methods.draw_trials(name, domain, 6)
        fewer = study.methods.draw_trials(name, domain, 3)
        if domain.is_long:
            few = [trials[f"few-{i}"].get("max_epochs", 1) for i in range(6)]
            assert max(few) <= 3
            some = [trial["max_epochs"] for key, trial in trials.items() if key[:5] == "some-"]
            assert set(some) <= {4, 5, 6}
            assert bool(some) == ("max_epochs" in trials["0"] and name not in variants)
        assert len(trials) == 2 * len(fewer) == (18 if some else 12)
        assert fewer.items() <= trials.items()


@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_variants_start_where_they_say(study, monkeypatch):
    monkeypatch.setattr(DLFD, "_unlearn", lambda self, request: request.original)
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), *_ = smoke.split(0)
    original = FineTune(smoke.net, random_state=0).fit(X, y)
    before = [p.clone() for p in original.estimator_.module_.parameters()]
    kept = {}
    for cls, amount in [("AfterReset", 0.25), ("AfterShrinking", 0.5), ("AfterShrinking", 1.0)]:
        frozen = FrozenEstimator(original.estimator_)
        variant = getattr(study.variants, cls)(frozen, amount=amount, random_state=1)
        variant.unlearn(X, y, forget=forget)
        start = list(variant.estimator_.module_.parameters())
        kept[cls, amount] = [torch.equal(a, b) for a, b in zip(before, start)]
        weights = before[-2], start[-2]  # of the last layer
        if amount == 0.5:
            half = torch.corrcoef(torch.stack(weights).flatten(1))[0, 1]
        if amount == 1.0:
            none = torch.corrcoef(torch.stack(weights).flatten(1))[0, 1]
    n_tensors, n_layers = len(before), 7
    assert n_layers == sum(1 for m in original.estimator_.module_.modules() if m._parameters)
    # two of seven layers, of two tensors each: the last linear one and the normalisation before it
    n_kept = sum(kept["AfterReset", 0.25])
    assert n_tensors - 4 <= n_kept < n_tensors
    assert kept["AfterReset", 0.25][0]
    assert abs(none) < 0.3 < half
    assert torch.equal(before[0], next(original.estimator_.module_.parameters()))


@pytest.mark.filterwarnings("ignore:.*has damaged")
@pytest.mark.parametrize(("cls", "amount"), [("AfterReset", 0.25), ("AfterShrinking", 1.0)])
def test_variants_start_afresh_as_the_module_does(study, monkeypatch, cls, amount):
    class Zeros(study.domains.Convolutions):  # where its layers' class draws numbers
        def __init__(self, n_classes):
            super().__init__(n_classes)
            torch.nn.init.zeros_(self[-1].weight)

    monkeypatch.setattr(DLFD, "_unlearn", lambda self, request: request.original)
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), *_ = smoke.split(0)
    original = FineTune(clone(smoke.net).set_params(module=Zeros), random_state=0).fit(X, y)
    assert original.estimator_.module_[-1].weight.all()
    variant = getattr(study.variants, cls)(FrozenEstimator(original.estimator_), amount=amount)
    variant.unlearn(X, y, forget=forget)
    assert not variant.estimator_.module_[-1].weight.any()


@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_targets_draw_forget_rows_towards_a_network_that_never_saw_them(study):
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), *_ = smoke.split(0)
    original = FrozenEstimator(FineTune(smoke.net, random_state=0).fit(X, y).estimator_)
    scratch = Retrain(smoke.net, max_epochs=2, random_state=5).fit(X, y, forget=forget)
    distance = {}
    for amount in (1e-6, 10.0):
        variant = study.variants.WithTargets(original, amount=amount, max_epochs=4, random_state=0)
        variant.unlearn(X, y, forget=forget)
        distance[amount] = jensen_shannon_distance(
            variant.predict_proba(X[forget]), scratch.predict_proba(X[forget])
        )
    assert distance[10.0] < 0.9 * distance[1e-6]


@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_matched_targets_are_the_nearest_of_held_out_rows_of_the_class(study):
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), (X_val, y_val), _ = smoke.split(0)
    original = FineTune(smoke.net, random_state=0).fit(X, y)
    proba = {"forget": original.predict_proba(X[forget]), "unseen": original.predict_proba(X_val)}
    expected = np.empty_like(proba["forget"])
    for label in np.unique(y):
        here = y[forget] == label
        pool = proba["unseen"][y_val == label]
        pool = np.tile(pool, (-(-here.sum() // len(pool)), 1))
        cost = ((proba["forget"][here, None] - pool) ** 2).sum(-1)
        expected[here] = pool[linear_sum_assignment(cost)[1]]
    away, far = {}, {}
    for cls, amount in [("Matched", 10.0), ("Drawn", 10.0), ("Drawn", 1e-6)]:
        variant = getattr(study.variants, cls)(
            FrozenEstimator(original.estimator_),
            amount=amount,
            max_epochs=4,
            perturb_steps=0,
            random_state=0,
        )
        seen = []
        term = variant._term

        def told(net, request, term=term, seen=seen):
            added = term(net, request)
            seen.append(inspect.getclosurevars(added).nonlocals["targets"].numpy())
            return added

        variant._term = told
        variant.unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)
        away[cls] = np.square(seen[0] - proba["forget"]).sum()
        far[amount] = jensen_shannon_distance(variant.predict_proba(X[forget]), seen[0])
        if cls == "Matched":
            assert np.allclose(seen[0], expected, atol=1e-6)
    assert away["Matched"] < away["Drawn"]
    assert far[10.0] < 0.8 * far[1e-6]  # both of Drawn, with the same lots


def test_ceiling_lets_the_loss_on_forget_rows_rise_to_that_on_held_out_ones(study):
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), (X_val, y_val), _ = smoke.split(0)
    net = clone(smoke.net).set_params(max_epochs=30)  # so that it memorises the rows
    original = FineTune(net, random_state=0).fit(X, y)
    variant = study.variants.UnderCeiling(
        FrozenEstimator(original.estimator_),
        amount=3.0,
        max_epochs=8,
        lr=0.005,
        perturb_steps=0,
        random_state=0,
    )
    variant.unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)
    before, after = (
        [
            log_loss(rows[1], model.predict_proba(rows[0]))
            for rows in ((X[forget], y[forget]), unseen)
        ]
        for model, unseen in ((original, (X_val, y_val)), (variant, (X_val, y_val)))
    )
    assert before[0] < 0.1 * before[1]
    assert 0.5 * after[1] < after[0] < 1.3 * after[1]


def test_published_recipe_and_controls(study):
    domain = study.domains.DOMAINS["smoke"]
    params = {"perturb_steps": 3, "lr": 0.5}
    made = {
        name: study.methods.make(f"DLFD (published){name}", domain, params)
        for name in ("", ": no perturbation", ": random signs", ": reversed")
    }
    for unlearner in made.values():
        assert (unlearner.clean_weight, unlearner.bn_batches, unlearner.lr) == (0, 0, 0.5)
    assert made[""].perturb_steps == made[": reversed"].perturb_steps == 3
    assert made[": no perturbation"].perturb_steps == 0
    assert made[": reversed"].ot_weight == -made[""].ot_weight
    assert made[": random signs"].transport is study.methods.random_signs
    assert study.methods.make("DLFD", domain, params).clean_weight > 0


def test_random_signs_have_the_size_of_the_gradient(study):
    u, v = torch.randn(2, 8, 6, generator=torch.manual_seed(0))
    u.requires_grad_()
    (true,) = torch.autograd.grad(transport_distance(u, v), u)
    found = study.methods.random_signs(u, v)
    (random,) = torch.autograd.grad(found, u)
    assert found.item() == pytest.approx(transport_distance(u, v).item())
    assert torch.allclose(random.abs(), true.abs())
    assert 0.2 < (random.sign() == true.sign()).float().mean() < 0.8


def test_choice_within_a_cap(study):
    domain = study.domains.DOMAINS["smoke"]  # of 8 epochs

    def trial(method, trial, costs, distances, error="", retain=0.9):
        return [
            {"method": method, "trial": trial, "cost": cost, "error": error, "params": {}}
            | {"relative_js_distance": distance, "nomus": distance, "retain_accuracy": retain}
            for cost, distance in zip(costs, distances)
        ]

    rows = [
        *trial("DLFD", "0", [0.2, 0.3], [3.0, 2.0]),  # 2.5 at .25
        *trial("DLFD", "1", [0.2, 0.2], [2.0, 2.2]),  # 2.1 at .2
        *trial("DLFD", "2", [0.9, 1.0009], [1.0, 1.0]),
        *trial("DLFD", "3", [0.1, 0.1], [0.0, 0.0], error="diverged"),
        *trial("DLFD", "4", [0.1], [0.0]),  # stopped before its second split
        *trial("SSD", "0", [1.2, 1.2], [0.0, 0.0]),
        *trial("DLFD", "5", [0.2, 0.2], [0.5, 0.5], retain=0.8),  # has lost too much
        *trial("EUk", "0", [0.2, 0.2], [2.0, 2.0], retain=0.8),
        *trial("Retrain", "", [1.0, 1.0], [1.0, 1.0], retain=0.92),
    ]

    def chosen(objective):
        found = study.report.choose(domain, rows, objective)
        return {(row["method"], row["cap"]): row["trial"] for row in found}

    controls = ("", ": no perturbation", ": random signs", ": reversed")
    assert chosen("relative_js_distance") == {
        **{(f"DLFD{control}", 0.3): "1" for control in controls},
        **{(f"DLFD{control}", 1): "2" for control in controls},
        ("EUk", 0.3): "0",
        ("EUk", 1): "0",
        ("Retrain (shortened)", 0.3): "2",
        ("Retrain (shortened)", 1): "4",  # half, as the whole is a retraining
    }
    assert chosen("nomus")["DLFD", 0.3] == "0"
    within = {
        (row["method"], row["cap"]): row["n_within"]
        for row in study.report.choose(domain, rows, "nomus")
        if row["method"] == "DLFD"
    }
    assert within == {("DLFD", 0.3): 3, ("DLFD", 1.0): 4}
    longer = study.report.choose(domain.longer(120), rows, "nomus")
    by_default = [(row["cap"], row["params"]) for row in longer if "default" in row["method"]]
    assert by_default == [(0.1, {})]  # 6 epochs of 120 and a third: more than 5 %
    assert study.methods.make("Distill (default)", domain, {}).max_epochs is None


def test_ties_share_a_rank(study):
    def of(values):
        return dict(enumerate(values))

    better = partial(study.summarise.is_better, measured_share=0)
    # Differences 1, 2, 3: mean 2, half width 4.303 * 1 / sqrt(3) = 2.48.
    assert not better(of([2, 4, 6]), of([1, 2, 3]), greater=True)
    # 2, 2.1, 2.2: half width 0.248.
    assert better(of([3, 4.1, 5.2]), of([1, 2, 3]), greater=True)
    assert not better(of([3, 4.1, 5.2]), of([1, 2, 3]), greater=False)
    assert better(of([1, 2, 3]), of([3, 4.1, 5.2]), greater=False)
    assert not better(of([1]), of([0]), greater=True)
    # 1, 1.3, 1.6: half width 0.745 for independent splits, 1.49 where three more thirds are added.
    assert better(of([2, 3.3, 4.6]), of([1, 2, 3]), greater=True)
    assert not better(of([2, 3.3, 4.6]), of([1, 2, 3]), greater=True, measured_share=1)
    mean, half = study.summarise.paired([1, 1.3, np.nan, 1.6], measured_share=1)
    assert (mean, half) == (pytest.approx(1.3), pytest.approx(4.3027 * 0.3 * np.sqrt(4 / 3), 1e-4))
    names = ("A", "B", "C", "A: control", "FineTune (reset)", "un-fitted", "expensive", "remembers")
    choices = [{"method": name, "trial": "0", "cap": 0.3} for name in names]
    values = {"A": [5, 5.1, 5.2], "B": [5.1, 5.2, 5.0], "C": [1, 1.2, 1.1]}
    values["Retrain"] = [1, 1, 1]
    passing = {"retain_accuracy": 0.9, "cost": 0.3, "calibrated_attack_auc": 0.55}
    failing = {
        "un-fitted": {"retain_accuracy": 0.8},
        "remembers": {"calibrated_attack_auc": 0.7},
    }
    rows = [
        {"method": name, "trial": "0" if name in names else "", "seed": seed, "error": ""}
        | dict.fromkeys(study.summarise.SHOWN, value)
        | passing
        | failing.get(name, {"cost": 0.31} if name == "expensive" and seed == 2 else {})
        for name in ("Retrain", *names)
        for seed, value in enumerate(values.get(name, [0.9, 0.9, 0.9]))
    ]
    domain = study.domains.DOMAINS["smoke"]
    summary = {row["method"]: row for row in study.summarise.summarise(domain, choices, rows)}
    assert [summary[name]["nomus_rank"] for name in "ABC"] == [1, 1, 3]
    assert [summary[name]["gap_rank"] for name in "ABC"] == [3, 3, 1]
    ranked = [name for name in summary if "nomus_rank" in summary[name]]
    assert ranked == ["A", "B", "C", "remembers"]
    assert [name for name in summary if not summary[name]["kept"]] == ["un-fitted"]
    assert [name for name in summary if not summary[name]["in_cap"]] == ["expensive"]
    assert [name for name in summary if not summary[name]["forgot"]] == ["remembers"]


def test_an_attack_that_is_off_chance_level_both_ways_is_no_pass(study):
    def flags(aucs):
        rows = {
            seed: {"retain_accuracy": 1.0, "cost": 0.1, "calibrated_attack_auc": auc}
            for seed, auc in enumerate(aucs)
        }
        return study.summarise.guards(rows, rows, 0.1)["forgot"]

    assert np.mean([0.41, 0.82, 0.50, 0.36, 0.81]) - 0.5 < 0.1
    assert not flags([0.41, 0.82, 0.50, 0.36, 0.81])
    assert flags([0.41, 0.59])
    assert not flags([0.38, 0.62])


def _tables_of(distances):
    """Summaries and reports of domains, from distances by domain and method over seeds."""
    summaries, reports = {}, {}
    for domain, by_method in distances.items():
        summaries[domain] = [
            {"cap": 0.1, "method": name, "trial": "", "kept": 1}
            | {"nomus_rank": np.nan if name == "Original" or ": " in name else 1.0}
            for name in by_method
        ]
        reports[domain] = [
            {"method": name, "trial": "", "seed": seed, "error": "", "relative_js_distance": value}
            for name, values in by_method.items()
            for seed, value in enumerate(values)
        ]
    return summaries, reports


def test_a_tie_is_open_or_an_equivalence(study, monkeypatch):
    smoke = study.domains.DOMAINS["smoke"]
    monkeypatch.setattr(type(smoke), "measured_share", lambda self, figure: 0.0)
    noise = np.array([-0.02, 0.0, 0.02, 0.01, -0.01])
    original = [2.0] * 5
    distances = {"Original": original, "Retrain (shortened)": [1.0] * 5}
    distances |= {"DLFD": 1.5 + noise, "EUk": 1.05 + noise, "SSD": 1.0 + 40 * noise}
    found = {
        (row["ours"], row["theirs"]): row
        for row in study.compare.compare(*_tables_of({"smoke": distances}))
    }
    assert {key: row["verdict"] for key, row in found.items()} == {
        ("Retrain (shortened)", "Original"): "open",  # no scatter: no test
        ("DLFD", "Original"): "nearer",
        ("EUk", "Original"): "nearer",
        ("SSD", "Original"): "nearer",
        ("DLFD", "Retrain (shortened)"): "further",
        ("EUk", "Retrain (shortened)"): "equivalent",
        ("SSD", "Retrain (shortened)"): "open",
    }
    row = found["EUk", "Retrain (shortened)"]
    p = ttest_1samp(0.05 + noise, 0).pvalue
    assert (row["mean"], row["p"]) == (pytest.approx(0.05), pytest.approx(p))
    family = [found[name, "Retrain (shortened)"] for name in ("DLFD", "EUk", "SSD")]
    p = sorted(entry["p"] for entry in family)
    smallest_first = np.minimum.accumulate((np.array(p) * 3 / [1, 2, 3])[::-1])[::-1]
    assert sorted(entry["p_adjusted"] for entry in family) == pytest.approx(smallest_first)
    interval = ttest_1samp(0.05 + noise, 0).confidence_interval(0.9)
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


def test_controls_are_pooled_over_domains_as_shares_of_the_way(study):
    controls = {f"DLFD: {name}": [2.0, 2.0] for name in study.methods.CONTROLS}
    summaries, reports = _tables_of(
        {
            "speeches": {"Original": [3.0, 3.0], "DLFD": [2.2, 2.2]} | controls,  # .2 of 2
            "speeches-long": {"Original": [5.0, 5.0], "DLFD": [1.2, 1.2]} | controls,  # -.8 of 4
            "faces": {"Original": [2.0, 2.0], "DLFD": [1.9, 2.1]} | controls,  # nothing
            "ecg": {"Original": [2.0, 2.0], "DLFD": [2.1, 2.1]} | controls,  # .1
        }
    )
    rows = study.compare.pool(summaries, reports)
    assert {(row["ours"], row["control"]) for row in rows[:3]} == {
        ("DLFD", name) for name in study.methods.CONTROLS
    }
    shares = [(0.1 - 0.2) / 2, 0.0, 0.1]
    interval = ttest_1samp(shares, 0).confidence_interval()
    for row in rows[:3]:
        assert row["n_domains"] == 3
        assert row["mean"] == pytest.approx(np.mean(shares))
        assert row["half"] == pytest.approx((interval.high - interval.low) / 2)


def test_the_goal_is_reached_by_all_three_numbers(study):
    summary = [
        {"domain": "smoke", "cap": 0.1, "method": name, "trial": "0" if name != "Retrain" else ""}
        | {"relative_js_distance": distance, "retain_accuracy": accuracy, "cost": 0.1}
        | {"relative_js_distance_sd": 0.1, "n_seeds": 3.0}
        for name, distance, accuracy in [
            ("Retrain", 1.0, 0.98),
            ("Distill", 1.2, 0.94),
            ("far", 1.21, 0.98),
            ("lost", 1.0, 0.92),
            ("found", 1.0, 0.98),
            ("not attacked", 1.0, 0.98),
        ]
    ]
    attacks = [
        {"cap": cap, "method": name, "trial": trial, "u_lira_auc": auc, "n_models": 32.0}
        | {"seed": seed}
        for cap, name, trial, auc, seed in [
            (1.0, "Retrain", "", 0.51, 100),
            (1.0, "Retrain", "", 0.45, 101),
            (0.1, "Distill", "0", 0.54, 100),
            (0.1, "far", "0", 0.5, 100),
            (0.1, "lost", "0", 0.5, 100),
            (0.1, "found", "0", 0.52, 100),
            (0.1, "found", "0", 0.52, 101),
        ]
    ]
    found = {row["method"]: row for row in study.compare.goal(summary, attacks)}
    assert {name: row["reached"] for name, row in found.items()} == {
        "Distill": 1,
        "far": 0,
        "lost": 0,
        "found": 0,
    }
    assert found["Distill"]["u_lira_above"] == pytest.approx(0.03)
    assert found["found"]["u_lira_above"] == pytest.approx(0.04)  # beside both retrained networks
    assert found["found"]["u_lira_above_sd"] == pytest.approx(np.std([0.01, 0.07], ddof=1))
    assert found["found"]["n_attacked"] == 2
    assert found["Distill"]["u_lira_above_sd"] == ""  # of one split
    assert found["Distill"]["retain_lost"] == pytest.approx(0.04)
    assert study.compare.goal(summary, []) == []


def test_what_fails_is_a_row_that_says_why(study, tmp_path):
    domain = study.domains.DOMAINS["smoke"]
    train, val, test = domain.split(0)
    unlearner = study.methods.make("SSD", domain, {"threshold": 1000.0})
    trials = {("SSD", "0"): (unlearner, {"threshold": 1000.0})}
    (row,) = study.tables.run(domain, (train, val, test), trials, 0, tmp_path)
    assert "can choose no weight" in row["error"]
    table = study.tables.Table(tmp_path / "table.csv")
    table.add([row])
    (found,) = table.rows()
    assert found["params"] == {"threshold": 1000.0}
    assert np.isnan(found["nomus"])


def test_half_a_line_that_a_killed_run_has_left_is_left_out(study, tmp_path):
    table = study.tables.Table(tmp_path / "table.csv", ("method", "seed", "params"))
    rows = [{"method": name, "seed": 1.0, "params": {"lr": 0.1}} for name in "abc"]
    table.add(rows[:2])
    whole = table.path.read_text()
    table.path.write_text(whole[:-5])
    with pytest.warns(UserWarning, match="table.csv ends in half a line"):
        assert table.rows() == rows[:1]
    with pytest.warns(UserWarning, match="table.csv ends in half a line"):
        table.add(rows[1:2])
    assert table.path.read_text() == whole
    table.path.write_text(whole[:7])  # of the comment
    with pytest.warns(UserWarning, match="table.csv ends in half a line"):
        table.add(rows)
    assert table.rows() == rows
    table.add([])
    assert table.path.read_text().count("#") == table.path.read_text().count("method,") == 1


def test_rows_are_written_as_a_whole_or_not_at_all(study, tmp_path, monkeypatch):
    table = study.tables.Table(tmp_path / "table.csv", ("method", "seed"))
    table.add([{"method": "a", "seed": 1.0}])
    before = table.path.read_text()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    for change in (table.add, table.replace):
        with pytest.raises(KeyboardInterrupt):
            change([{"method": "b", "seed": 2.0}])
        assert table.path.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_domains_without_their_data_are_skipped(study, tmp_path, capsys):
    study.tune.main(["faces", "--data", str(tmp_path), "--results", str(tmp_path / "results")])
    assert "faces is skipped" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_the_paper_s_checks_vary_what_they_say(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study.checks, "SHARES", (0.1, 0.5))
    monkeypatch.setattr(study.checks, "EPOCHS", (1, 2))
    command = ["smoke", "--reporting-splits", "1", "--results", str(tmp_path)]
    study.checks.main(command)
    path = tmp_path / "checks-smoke.csv"
    rows = smoke_rows(path)
    by_key = {(row["method"], row["trial"]): row for row in rows}
    assert len(by_key) == len(rows) == 3 + 1 + 3 * 2 + 6 + 2 + 2 * 8
    cost = {key: float(row["cost"]) for key, row in by_key.items() if row["cost"]}
    assert cost["FineTune", "epochs=2"] > 1.5 * cost["FineTune", "epochs=1"]
    assert cost["DLFD", "component=no synthesised rows"] < cost["DLFD", "defaults"]
    assert by_key["DLFD", "share=0.1"]["js_distance"] != by_key["DLFD", "share=0.5"]["js_distance"]
    ways = {
        by_key["DLFD", trial]["js_distance"]
        for trial in ("defaults", "statistics=of the run", "statistics=frozen")
    }
    assert len(ways) == 3
    study.checks.main(command)
    assert smoke_rows(path) == rows


def test_frozen_statistics_are_the_original_s(study):
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), *_ = smoke.split(0)
    original = FineTune(smoke.net, random_state=0).fit(X, y).estimator_
    means = {}
    for cls in (study.checks.FrozenStatistics, study.checks.DLFD):
        unlearner = cls(FrozenEstimator(original), bn_batches=0, random_state=0)
        net = unlearner.unlearn(X, y, forget=forget).estimator_
        means[cls.__name__] = net.module_[1].running_mean
    assert torch.equal(means["FrozenStatistics"], original.module_[1].running_mean)
    assert not torch.equal(means["DLFD"], original.module_[1].running_mean)


def test_ways_of_choosing_whom_to_forget(study):
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(20), 5)
    y = (people < 8).astype(int)  # eight people of one class, twelve of the other
    X = people[:, None] + rng.normal(scale=0.1, size=(100, 3))
    masks = {
        kind: study.overlap.rows_to_forget(kind, X, y, people, 4, seed=1)
        for kind in study.overlap.KINDS
    }
    assert {kind: mask.sum() for kind, mask in masks.items()} == dict.fromkeys(masks, 20)
    for kind in masks.keys() - {"rows"}:
        assert len(np.unique(people[masks[kind]])) == 4
    assert len(np.unique(people[masks["rows"]])) > 8
    assert len(np.unique(y[masks["people of a class"]])) == 1
    assert np.ptp(people[masks["people alike"]]) == 3


def test_overlap_is_measured_beside_its_floor(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study.overlap, "KINDS", ("rows", "people of a class"))
    command = ["smoke", "--reporting-splits", "1", "--results", str(tmp_path)]
    study.overlap.main(command)
    rows = smoke_rows(tmp_path / "overlap-smoke.csv")
    assert [row["method"] for row in rows[:3]] == list(study.tables.REFERENCES)
    assert {row["method"] for row in rows[3:6]} == {"DLFD", "FineTune", "EUk"}
    apart = {row["trial"]: float(row["distance"]) / float(row["floor"]) for row in rows}
    assert 0.5 < apart["rows"] < 1.5  # they lie among the others
    assert apart["people of a class"] > 1.2 * apart["rows"]


def test_attacks_on_each_row_are_of_what_was_chosen(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study.domains.Domain, "attacked_caps", (0.3, 1))
    choices = [
        {"domain": "smoke", "method": name, "trial": trial, "cap": cap, "params": params}
        for name, trial, cap, params in [
            ("FineTune", "3", 0.3, {"max_epochs": 1, "lr": 1e-6}),
            ("Retrain (shortened)", "2", 0.3, {"max_epochs": 2}),
            ("FineTune", "3", 1.0, {"max_epochs": 1, "lr": 1e-6}),
            ("FineTune", "4", 0.1, {"max_epochs": 1, "lr": 0.1}),
            ("DLFD: reversed", "0", 0.3, {}),
            ("SSD", "5", 0.3, {"threshold": 1000.0}),  # which chooses no weight
        ]
    ]
    study.tables.Table(tmp_path / "chosen-smoke.csv", study.report.CHOICE).replace(choices)
    command = ["smoke", "--models", "8", "--klom-models", "4", "--results", str(tmp_path)]
    study.attacks.main(command)
    path = tmp_path / "attacks-smoke.csv"
    rows = smoke_rows(path)
    assert [(row["method"], row["cap"]) for row in rows] == [
        ("Retrain", "1"),
        ("Retrain (shortened)", "0.3"),
        ("FineTune", "0.3"),
        ("FineTune", "1"),
    ]
    assert "smoke SSD 5 is left out, for it is refused: threshold=1000.0" in capsys.readouterr().out
    assert {row["n_people"] for row in rows} == {"8"}  # four to forget and four held out
    auc = {row["method"]: float(row["u_lira_auc"]) for row in rows}
    assert auc["FineTune"] > auc["Retrain"]  # it is the original, all but unchanged
    against = {row["method"]: float(row["against_retrained_auc"]) for row in rows}
    assert against["FineTune"] > 0.6 > against["Retrain"]
    for row in rows:
        assert float(row["u_lira_low"]) < auc[row["method"]] < float(row["u_lira_high"])
    written = path.read_text()
    path.write_text("".join(written.splitlines(keepends=True)[:-2]))

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / ".cache").rglob("*.npz")}
    study.attacks.main(command)
    assert path.read_text() == written
    for file in (tmp_path / ".cache").rglob("*.npz"):  # no network was trained again
        assert file.stat().st_mtime_ns == kept[file]


def test_what_leaks_on_a_tuning_split_is_passed_over(study, tmp_path, monkeypatch):
    """The closest that hardly leaks is chosen; each setting is attacked once, whatever the cap."""
    domain, closest = study.domains.DOMAINS["smoke"], {"a": 1.0, "b": 1.1, "c": 1.3, "d": 0.9}
    noise = {"a": 0.7, "b": 0.9, "c": 1.0, "d": 0.8}
    rows = [
        {"method": "Distill", "trial": trial, "seed": seed, "error": ""}
        | {"cost": 0.6 if trial == "b" else 0.2, "retain_accuracy": 0.9}
        | {"relative_js_distance": distance, "params": {"noise": noise[trial]}}
        for trial, distance in closest.items()
        for seed in (0, 1)
    ]
    references = [
        {"method": "Retrain", "trial": "", "seed": seed, "error": ""}
        | {"cost": 1.0, "retain_accuracy": 0.9, "relative_js_distance": 1.0, "params": {}}
        for seed in (0, 1)
    ]
    study.tables.Table(tmp_path / "tuning-smoke.csv").add(rows + references)
    attacked = []

    def membership(args, domain, seed, unlearner):
        assert seed == 0  # a tuning split
        if isinstance(unlearner, Retrain):
            return {"u_lira_auc": 0.49}
        attacked.append(unlearner.noise)
        return {"n_models": 3, "u_lira_auc": {0.7: 0.521, 0.8: 0.6}.get(unlearner.noise, 0.5)}

    monkeypatch.setattr(study.guard, "membership", membership)
    monkeypatch.setattr(study.domains.Domain, "attacked_caps", (0.3, 1.0))
    command = ["smoke", "--models", "3", "--results", str(tmp_path)]
    study.guard.main(command)
    assert attacked == [0.8, 0.7, 1.0, 0.9]
    study.guard.main(command)
    assert attacked[4:] == []
    found = smoke_rows(tmp_path / "guard-smoke.csv")
    assert [(row["cap"], row["turn"], row["trial"], row["passed"]) for row in found] == [
        *[("0.3", "1", "d", "0"), ("0.3", "2", "a", "0"), ("0.3", "3", "c", "1")],
        *[("1", "1", "d", "0"), ("1", "2", "a", "0"), ("1", "3", "b", "1")],
    ]
    chosen = study.report.guarded(SimpleNamespace(results=tmp_path), domain)
    assert {(row["method"], row["cap"]): row["trial"] for row in chosen} == {
        ("Distill (guarded)", 0.3): "c",
        ("Distill (guarded)", 1.0): "b",
    }
    assert study.methods.make("Distill (guarded)", domain, {"noise": 0.9}).noise == 0.9


def test_an_interval_of_an_attack_is_over_people(study):
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(40), 5)
    member = rng.permuted(np.tile(np.arange(40) % 2 == 0, (10, 1)), axis=1)[:, who]
    of_person = rng.normal(size=(10, 40))[:, who]  # rows of a person are alike
    alone = rng.normal(size=(10, 200))
    low, high = study.attacks.interval(of_person, member, who)
    assert low < 0.5 < high
    narrow = study.attacks.interval(alone, member, who)
    assert high - low > 1.5 * (narrow[1] - narrow[0])
    assert study.attacks.interval(of_person, member, who) == (low, high)


def test_the_dial_is_turned_as_it_says(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study.dial, "EPOCHS", (1, 2))
    monkeypatch.setattr(study.dial, "NOISE", (1.0, 0.5))
    command = ["smoke", "--models", "6", "--reporting-splits", "1", "--results", str(tmp_path)]
    command += ["--epochs", "1"]
    study.dial.main(command)
    path = tmp_path / "dial-smoke.csv"
    rows = smoke_rows(path)
    settings = [("Distill", "1", "1"), ("Distill", "0.5", "1")]
    settings += [("Retrain (shortened)", "", "1"), ("FineTune", "", "1")]
    noise = {name: make.keywords["noise"] for name, make in study.dial.CONTROLS.items()}
    controls = [(name, f"{noise[name]:g}", "1") for name in study.dial.CONTROLS]
    references = {"closeness": [("Original", "", "")], "attack": [("Retrain", "", "")]}
    parts = {"closeness": settings, "control": controls, "attack": settings}
    for part, wanted in (parts | {"attacked control": controls}).items():
        here = [row for row in rows if row["part"] == part]
        found = [(row["method"], row["noise"], row["epochs"]) for row in here]
        assert sorted(found) == sorted(wanted + references.get(part, []))
        for name in ("relative_js_distance", "u_lira_auc"):
            assert all(bool(row[name]) == (("attack" in part) == (name[0] == "u")) for row in here)
    cost = {row["method"]: float(row["cost"]) for row in rows if row["cost"]}
    assert cost["Retrain (shortened)"] == pytest.approx(1 / 8)
    assert cost["Distill"] == cost["another row"] == pytest.approx((1 + 1 / 3) / 8, rel=1e-3)
    written = path.read_text()
    study.dial.main(command)
    assert path.read_text() == written


def test_controls_of_distillation_imitate_something_else(study):
    outputs = torch.tensor([[3.0, -1.0], [0.5, 0.0], [-2.0, 2.0], [0.2, 0.1], [1.0, 2.5]])
    y = torch.tensor([0, 0, 1, 0, 1])

    def entropy(scores):
        log_p = (scores / 2).log_softmax(1)
        return -(log_p.exp() * log_p).sum(1).mean().item()

    net = study.domains.DOMAINS["smoke"].net
    smoothed = study.students.Smoothed(net, temperature=2.0)._targets(outputs, y)
    assert smoothed.argmax(1).tolist() == y.tolist()
    assert entropy(smoothed) == pytest.approx(entropy(outputs), rel=1e-4)
    across = study.dial.ExchangedAcross(net)._targets(outputs, y)
    assert across[3].tolist() == pytest.approx([2.5, 1.0])  # .52 sure: of the others .82 is nearest
    assert across.argmax(1).tolist() == y.tolist()
    torch.manual_seed(1)
    exchanged = study.dial.Exchanged(net)._targets(outputs, y)
    assert not torch.equal(exchanged, outputs)
    for label in (0, 1):
        ours, theirs = (sorted(rows[y == label].tolist()) for rows in (exchanged, outputs))
        assert ours == theirs


@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_students_differ_from_plain_ones_by_what_they_say(study, monkeypatch):
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), *_ = smoke.split(0)
    original = FineTune(smoke.net, random_state=0).fit(X, y).estimator_

    def answers(cls, **params):
        student = cls(FrozenEstimator(original), max_epochs=2, random_state=5, **params)
        return student.unlearn(X, y, forget=forget).predict_proba(X)

    plain, of = answers(Distill), study.students
    assert np.allclose(answers(of.Featured, feature_weight=0.0), plain, atol=1e-5)
    assert not np.allclose(answers(of.Featured, feature_weight=5.0), plain, atol=1e-2)
    assert not np.allclose(answers(of.Warmed), plain, atol=1e-2)
    monkeypatch.setattr(of, "RISE", 1e-9)  # all but at once: only the first step is left out
    assert np.allclose(answers(of.Warmed), plain, atol=0.1)
    retrained = [
        cls(smoke.net, max_epochs=2, random_state=5, **params)
        .fit(X, y, forget=forget)
        .predict_proba(X)
        for cls, params in [
            (Retrain, {}),
            (of.InBatches, {}),
            (of.InBatches, {"batch_size": 4}),
        ]
    ]
    assert np.array_equal(retrained[0], retrained[1])
    assert not np.allclose(retrained[0], retrained[2], atol=1e-2)


@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_features_of_a_student_come_near_the_original_s(study):
    """Its features, not its answers alone: a large weight brings them nearer than none."""
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), *_ = smoke.split(0)
    original = FineTune(smoke.net, random_state=0).fit(X, y).estimator_
    of_original = FeatureExtractor(original).fit(X).transform(X[~forget])
    apart = []
    for weight in (0.0, 10.0):
        student = study.students.Featured(
            FrozenEstimator(original), feature_weight=weight, max_epochs=8, random_state=5
        )
        net = student.unlearn(X, y, forget=forget).estimator_
        ours = FeatureExtractor(net).fit(X).transform(X[~forget])
        apart.append(float(np.mean((ours - of_original) ** 2)))
    assert apart[1] < 0.7 * apart[0]


def test_trainings_of_a_split_are_averaged(study, tmp_path):
    domain, found = study.domains.DOMAINS["smoke"], []
    rows = domain.split(100)
    trials = {("Retrain (shortened)", "1"): (Retrain(domain.net, max_epochs=1), {})}
    for seed, n_trainings in [(100, 1), (1100, 1), (100, 2)]:
        (row,) = study.tables.run(domain, rows, trials, seed, tmp_path, n_trainings=n_trainings)
        found.append(row)
    for figure in ("relative_js_distance", "retain_accuracy", "cost"):
        mean = (found[0][figure] + found[1][figure]) / 2
        assert found[2][figure] == pytest.approx(mean)
    assert found[0]["relative_js_distance"] != found[1]["relative_js_distance"]
    assert (found[2]["seed"], found[2]["error"]) == (100, "")
    assert study.domains.DOMAINS["digits"].n_trainings == 2  # of which there are six splits


@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_a_student_of_a_retrained_network_has_nothing_of_the_original(study):
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), *_ = smoke.split(0)
    found = {}
    for cls in (study.dial.ByRetrained, study.dial.Distill):
        for seed in (0, 1):
            original = FineTune(smoke.net, random_state=seed).fit(X, y).estimator_
            student = cls(FrozenEstimator(original), max_epochs=1, random_state=5)
            found[cls.__name__, seed] = student.unlearn(X, y, forget=forget).predict_proba(X)
    assert np.array_equal(found["ByRetrained", 0], found["ByRetrained", 1])
    assert not np.array_equal(found["Distill", 0], found["Distill", 1])


@pytest.mark.filterwarnings("ignore:.*has damaged", "ignore:Forget and retained features")
def test_teachers_that_unlearn_and_rows_that_are_pushed_change_what_a_student_is_told(study):
    smoke = study.domains.DOMAINS["smoke"]
    (X, y, forget), (X_val, y_val), _ = smoke.split(0)
    original = FineTune(smoke.net, random_state=0).fit(X, y).estimator_
    before = original.predict_proba(X)
    found = []
    dial = study.dial
    for cls in (Distill, dial.ByUnlearned, dial.Pushed, dial.PushedAtRandom, dial.PushedBack):
        student = cls(FrozenEstimator(original), max_epochs=1, random_state=5)
        student.unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)
        assert all(not np.array_equal(student.predict_proba(X), other) for other in found)
        found.append(student.predict_proba(X))
    assert np.array_equal(original.predict_proba(X), before)


def test_what_misleads(study, tmp_path):
    command = ["smoke", "--reporting-splits", "1", "--results", str(tmp_path)]
    study.misleading.main(command)
    rows = smoke_rows(tmp_path / "misleading-smoke.csv")
    study.misleading.main(command)  # goes on where it was: nothing is left to do
    assert smoke_rows(tmp_path / "misleading-smoke.csv") == rows
    dealt = {row["case"]: row for row in rows if row["part"] == "rows"}
    as_they_are, anew = dealt["as they are"], dealt["dealt anew"]
    assert anew["gap"] == as_they_are["gap"] == "0"
    assert anew["nomus"] == as_they_are["nomus"]
    assert float(anew["relative_js_distance"]) > 1.1
    assert as_they_are["relative_js_distance"] == "1"
    unseen = {(row["case"], row["method"]): row for row in rows if row["part"] == "unseen"}
    assert len(unseen) == 2 * 5
    for name in ("Original", "Retrain"):
        one, other = (unseen[case, name] for case in ("other people", "the same people"))
        assert one["utility"] == other["utility"]
        assert one["attack"] != other["attack"]


def test_an_unbalanced_attack_finds_what_is_not_there(study):
    forget, unseen = np.random.default_rng(0).exponential(size=(2, 400))
    balanced = study.misleading.unbalanced_attack(forget[:100], unseen[:100], 0)
    unbalanced = study.misleading.unbalanced_attack(forget[:100], unseen, 0)
    assert balanced == pytest.approx(0.5, abs=0.08)
    assert unbalanced == pytest.approx(0.8, abs=0.02)


def test_defaults_are_looked_for_on_tuning_splits(study, tmp_path, monkeypatch, capsys):
    grid = {"lr": [1.0, 5.0], "max_epochs": [1], "ce_weight_start": [0.0], "step": [(1, 0.1)]}
    monkeypatch.setattr(study.defaults, "GRID", grid)
    study.defaults.main(["smoke", "--tuning-splits", "1", "--results", str(tmp_path)])
    rows = smoke_rows(tmp_path / "defaults-smoke.csv")
    assert [row["trial"] for row in rows] == ["", "", "", "0", "1"]
    assert {row["seed"] for row in rows} == {"0"}
    params = json.loads(rows[4]["params"])
    made = study.defaults.setting(study.domains.DOMAINS["smoke"].net, params)
    assert (made.lr, made.perturb_steps, made.step_size) == (5 * 0.05, 1, 0.1)
    assert capsys.readouterr().out.count("'max_epochs': 1") == 2


def test_what_is_left_of_the_way(study):
    def row(method, trial, distance, retain):
        return {
            "domain": "x",
            "method": method,
            "trial": trial,
            "relative_js_distance": distance,
            "retain_accuracy": retain,
            "cost": 0.1,
            "nomus": 0.7,
            "error": "",
        }

    rows = [row("Original", "", 3.0, 1.0), row("Retrain", "", 1.0, 0.9)]
    rows += [row("DLFD", "4", 2.5, 0.8), row("DLFD", "4", 1.5, 0.8)]
    assert study.defaults.left_over(rows)["4"]["x"][:2] == pytest.approx((0.5, 0.1))


def test_costs_are_tables(study, tmp_path):
    tiny = ["--rows", "100", "--features", "16", "--batch", "8", "--repeats", "1", "--results"]
    n_threads = torch.get_num_threads()
    study.cost.main([*tiny, str(tmp_path)])
    torch.set_num_threads(n_threads)
    runs = smoke_rows(tmp_path / "cost-unlearning.csv")
    assert {(row["part"], row["method"]) for row in runs} == {
        (part, name) for part in ("rows", "features") for name in ("DLFD", "FineTune", "Retrain")
    }
    assert all(float(row["seconds"]) > 0 for row in runs)
    solvers = smoke_rows(tmp_path / "cost-solvers.csv")
    assert [row["method"] for row in solvers] == ["sinkhorn", "exact", "sliced"]
