"""The report says what the metrics say, with intervals, and holds none of the rows."""

import hashlib
import json
import pickle
import re
import sys
from dataclasses import asdict
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import beta
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier
from torch import nn
from torch.utils.data import TensorDataset

from skunlearn import SISA, FineTune, Retrain, unlearning_report
from skunlearn.callbacks import ForgettingMonitor
from skunlearn.evaluation._description import described, digests_of
from skunlearn.evaluation._report_text import facts
from skunlearn.features import FeatureExtractor
from skunlearn.metrics import (
    correlation_collapse,
    get_scorer,
    linear_cka,
    overshoot,
    relative_mmd_test,
)
from tests.networks import make_net

N_TRAIN = 160


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6)).astype(np.float32)
    y = np.array(["c", "a", "b"])[rng.integers(3, size=400)]
    easy = rng.random(400) < 0.5
    y[easy] = np.where(X[easy, 0] > 0, "a", "b")
    return X[:N_TRAIN], y[:N_TRAIN], X[N_TRAIN:], y[N_TRAIN:], np.arange(N_TRAIN) < 50


@pytest.fixture(scope="module")
def models(data):
    X, y, _, _, forget = data
    net = make_net(max_epochs=25, module__hidden=64)
    models = {"original": FineTune(net, random_state=0).fit(X, y)}
    models["unlearned"] = FineTune(net, max_epochs=8, random_state=0).fit(X, y, forget=forget)
    models["retrained"] = Retrain(net, random_state=1).fit(X, y, forget=forget)
    models["retrained_2"] = Retrain(net, random_state=2).fit(X, y, forget=forget)
    return models


def make_report(models, data, **params):
    X, y, X_test, y_test, forget = data
    names = {"original": "original", "retrained": "reference", "retrained_2": "reference_2"}
    others = {names[name]: model for name, model in models.items() if name in names}
    return unlearning_report(
        models["unlearned"],
        X,
        y,
        **{
            "forget": forget,
            "X_unseen": X_test,
            "y_unseen": y_test,
            "n_resamples": 20,
            **others,
            **params,
        },
    )


@pytest.fixture(scope="module")
def report(models, data):
    return make_report(models, data, n_resamples=400, key="unkeyed")


def row_losses(model, X, y):
    truth, rest = truth_and_rest(model, X, y)
    return np.log1p(rest / truth)


def truth_and_rest(model, X, y):
    """Probability of the true class, and of all others together."""
    proba = model.predict_proba(X)
    is_true = model.classes_ == y[:, None]
    return [(proba * chosen).sum(axis=1, dtype=float) for chosen in (is_true, ~is_true)]


def test_accuracies_and_their_exact_intervals(report, models, data):
    X, y, X_test, y_test, forget = data
    for name, model in models.items():
        for metric, rows, labels in (
            ("utility", X_test, y_test),
            ("retain_accuracy", X[~forget], y[~forget]),
            ("forget_accuracy", X[forget], y[forget]),
        ):
            value, low, high = report.metrics[metric][name]
            assert value == pytest.approx(accuracy_score(labels, model.predict(rows)))
            n, k = len(labels), round(value * len(labels))
            assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1))
            assert high == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1)


def test_forgetting_and_nomus_are_those_of_the_scorers(report, models, data):
    X, y, X_test, y_test, forget = data
    sets = {"X_forget": X[forget], "y_forget": y[forget]}
    metrics = report.metrics
    for name, model in models.items():
        nomus = get_scorer("nomus", **sets)(model, X_test, y_test)
        forgetting = -get_scorer("neg_forgetting_score", **sets)(model, X_test, y_test)
        assert metrics["nomus"][name].value == pytest.approx(nomus)
        assert metrics["forgetting_score"][name].value == pytest.approx(forgetting)
        accuracy = metrics["loss_attack_accuracy"][name]
        assert abs(accuracy.value - 0.5) == pytest.approx(forgetting)
        low = (
            0
            if accuracy.low <= 0.5 <= accuracy.high
            else min(abs(accuracy.low - 0.5), abs(accuracy.high - 0.5))
        )
        assert metrics["forgetting_score"][name].low == pytest.approx(low)
        assert metrics["nomus"][name].high == pytest.approx(
            metrics["utility"][name].high / 2 + 0.5 - low
        )
    assert metrics["forgetting_score"]["original"].low > 0.02


def test_attacks_and_overshoot(report, models, data):
    X, y, X_test, y_test, forget = data
    members = np.repeat([1, 0], [forget.sum(), len(y_test)])
    for name, model in models.items():
        losses = row_losses(model, X[forget], y[forget]), row_losses(model, X_test, y_test)
        auc = roc_auc_score(members, -np.concatenate(losses))
        assert report.metrics["loss_attack_auc"][name].value == pytest.approx(auc, abs=1e-3)
        assert report.metrics["overshoot"][name].value == pytest.approx(
            overshoot(*losses), abs=1e-3
        )
        probas = model.predict_proba(X[forget]), model.predict_proba(X_test)
        entropies = [-(p * np.log(p)).sum(axis=1) for p in probas]
        auc = roc_auc_score(members, -np.concatenate(entropies))
        assert report.metrics["entropy_attack_auc"][name].value == pytest.approx(auc, abs=1e-3)
    assert report.metrics["loss_attack_auc"]["original"].value > 0.6


def test_calibration_is_by_the_second_retraining_if_there_is_one(report, models, data):
    X, y, X_test, y_test, forget = data

    def phi(model, X, y):
        truth, rest = truth_and_rest(model, X, y)
        return np.log(truth / rest)

    def auc(model, calibration_model):
        signals = [
            phi(model, rows, labels) - phi(calibration_model, rows, labels)
            for rows, labels in ((X[forget], y[forget]), (X_test, y_test))
        ]
        return roc_auc_score(np.repeat([1, 0], list(map(len, signals))), np.concatenate(signals))

    found = report.metrics["calibrated_attack_auc"]
    assert list(found) == ["unlearned", "original", "retrained"]
    for name, interval in found.items():
        expected = auc(models[name], models["retrained_2"])
        assert interval.value == pytest.approx(expected, abs=2e-3)
    alone = make_report({k: models[k] for k in ("unlearned", "retrained")}, data)
    found = alone.metrics["calibrated_attack_auc"]
    assert list(found) == ["unlearned"]
    expected = auc(models["unlearned"], models["retrained"])
    assert found["unlearned"].value == pytest.approx(expected, abs=2e-3)


def test_closeness_to_the_retrained_network(report, models, data):
    X, _, _, _, forget = data
    metrics, last = report.metrics, models["retrained"]
    accuracies = ("utility", "retain_accuracy", "forget_accuracy")

    def distance(a, b):
        return np.mean(
            jensenshannon(
                a.predict_proba(X[forget]).astype(float),
                b.predict_proba(X[forget]).astype(float),
                axis=1,
                base=2,
            )
        )

    floor = distance(last, models["retrained_2"])
    for name in ("unlearned", "original", "retrained_2"):
        differences = [
            abs(metrics[metric][name].value - metrics[metric]["retrained"].value)
            for metric in (*accuracies, "loss_attack_accuracy")
        ]
        assert metrics["gap"][name].value == pytest.approx(np.mean(differences))
        assert metrics["tug_of_war"][name].value == pytest.approx(
            np.prod([1 - d for d in differences[:3]])
        )
        same = models[name].predict(X[forget]) == last.predict(X[forget])
        assert metrics["agreement"][name].value == pytest.approx(same.mean())
        away = distance(models[name], last)
        assert metrics["js_distance"][name].value == pytest.approx(away, rel=1e-3)
        if name != "retrained_2":  # of which it would be 1, whatever the two are
            low, high = metrics["relative_js_distance"][name][1:]
            ratio = metrics["relative_js_distance"][name].value
            assert ratio == pytest.approx(away / floor, rel=1e-3)
            assert low < ratio < high
    assert metrics["relative_js_distance"].keys() == {"unlearned", "original"}
    assert metrics["gap"]["original"].value > 0.05
    assert "retrained" not in metrics["gap"]


def test_intervals_of_closeness_are_like_those_of_resampled_rows(report, models, data):
    """The bounds of each difference by a plain loop; rows are drawn for both networks alike."""
    X, y, X_test, y_test, forget = data
    rng = np.random.default_rng(1)
    bounds = []
    for rows, labels in ((X_test, y_test), (X[~forget], y[~forget]), (X[forget], y[forget])):
        a, b = (models[name].predict(rows) == labels for name in ("original", "retrained"))
        drawn = [rng.integers(len(a), size=len(a)) for _ in range(2000)]
        low, high = np.quantile([a[i].mean() - b[i].mean() for i in drawn], [0.025, 0.975])
        ends = abs(low), abs(high)
        bounds.append((0 if low <= 0 <= high else min(ends), max(ends)))
    low, high = np.transpose(bounds)
    _, found_low, found_high = report.metrics["tug_of_war"]["original"]
    assert found_low == pytest.approx(np.prod(1 - high), abs=0.06)
    assert found_high == pytest.approx(np.prod(1 - low), abs=0.06)


def test_nearer_to_the_retrained_or_to_the_original(report, models, data):
    X, y, _, _, forget = data
    found = report.metrics["mmd_difference"]
    assert found.keys() == {"unlearned", "retrained_2"}
    probas = [models[name].predict_proba(X[forget]) for name in ("retrained", "original")]
    for name, interval in found.items():
        ours = models[name].predict_proba(X[forget])
        expected = relative_mmd_test(y[forget], ours, *probas, labels=models[name].classes_)
        assert interval.value == pytest.approx(expected.statistic, rel=1e-3)
        # The test is one of no difference; away from it the interval has to be wider.
        assert expected.pvalue < 0.05 or interval.low < 0 < interval.high
    assert found["retrained_2"].value > 0


def test_every_figure_lies_in_its_interval(report):
    for name, intervals in report.metrics.items():
        for interval in intervals.values():
            if name != "two_sided_pvalue":  # which has none
                assert interval.low <= interval.value <= interval.high, name
            assert interval.method, name


def test_collapse_beside_the_retrained_network(report, models, data):
    _, _, X_test, y_test, _ = data
    Z = {name: FeatureExtractor(model).transform(X_test) for name, model in models.items()}
    result = correlation_collapse(
        Z["original"], Z["unlearned"], y_test, Z_retrained=Z["retrained"], random_state=0
    )
    for name, found in (
        ("original", result.original),
        ("unlearned", result.unlearned),
        ("retrained", result.retrained),
    ):
        for metric, value in found.items():
            assert report.metrics[metric][name].value == pytest.approx(value)
    ratios = report.metrics["cka_ratio"]
    assert set(ratios) == {"unlearned", "retrained", "retrained_2"}
    assert ratios["unlearned"].value == pytest.approx(result.ratio["linear_cka"])
    # No more than a moment of a mean, but the same kind of number as that of a bootstrap.
    value, low, high = report.metrics["linear_cka"]["original"]
    assert 0.01 < high - low < 0.3


def test_features_are_those_of_the_layer_that_is_named(models, data):
    _, _, X_test, y_test, _ = data
    found = make_report(models, data, n_resamples=20, feature_layer="hidden.0").metrics
    Z = FeatureExtractor(models["unlearned"], layer="hidden.0").transform(X_test)
    assert found["linear_cka"]["unlearned"].value == pytest.approx(linear_cka(Z, y_test))


def test_without_others_there_are_the_figures_of_one_network(models, data):
    report = make_report({"unlearned": models["unlearned"]}, data)
    assert set(report.networks) == {"unlearned"}
    assert not set(report.metrics) & {"gap", "calibrated_attack_auc", "linear_cka", "cka_ratio"}
    assert len(report.metrics) == 20


def test_each_network_predicts_each_row_once(models, data, monkeypatch):
    calls = []
    predict = FineTune.predict_proba
    for kind in (FineTune, Retrain):
        monkeypatch.setattr(
            kind, "predict_proba", lambda self, X: calls.append((self, len(X))) or predict(self, X)
        )
        monkeypatch.setattr(kind, "predict", None)
    make_report(models, data)
    assert sorted(n for _, n in calls) == [160] * 4 + [240] * 4


def test_it_is_repeatable_and_leaves_everything_as_it_was(models, data):
    net = models["unlearned"].estimator_
    net.module_.train()
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    models = {name: models[name] for name in ("unlearned", "original", "retrained")}
    first, second, third = (make_report(models, data, random_state=i).metrics for i in (3, 3, 4))
    assert first == second
    assert first != third
    assert net.module_.training
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_json_is_strict_and_says_everything(report):
    text = report.to_json()

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(text, parse_constant=refuse)
    assert content["method"] == "skunlearn.methods.finetune.FineTune"
    assert content["networks"]["retrained"] == "skunlearn.methods.retrain.Retrain"
    assert content["parameters"]["max_epochs"] == 8
    net = content["parameters"]["estimator"]
    assert net["class"] == "skorch.classifier.NeuralNetClassifier"
    assert net["optimizer"] == "torch.optim.sgd.SGD"
    assert net["module__hidden"] == 64
    assert torch.__version__.startswith(content["versions"]["torch"])  # which may name a build
    assert content["rows"]["forget"]["count"] == 50
    assert content["rows"]["retain"]["count"] == 110
    assert content["rows"]["unseen"]["count"] == 240
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", content["date"])
    assert content["settings"]["n_resamples"] == 400
    for name, intervals in report.metrics.items():
        if name == "two_sided_pvalue":  # which has no interval
            assert content["metrics"][name]["original"]["low"] is None
            continue
        assert content["metrics"][name].pop("meaning")
        found = {k: asdict(v) for k, v in intervals.items()}
        if name == "overshoot":  # which has no upper bound
            assert {interval.pop("high") for interval in found.values()} == {np.inf}
            assert {interval.pop("high") for interval in content["metrics"][name].values()} == {
                None
            }
        assert content["metrics"][name] == found
    assert len(report.to_json(indent=None).splitlines()) == 1


def test_infinite_figures_and_parameters_are_null_in_json(models, data):
    X, y, X_test, y_test, forget = data

    class Constant(nn.Module):
        def __init__(self, n_features_in, n_classes):
            super().__init__()
            self.head = nn.Linear(1, n_classes)

        def forward(self, X):
            # Features that tell the signs of X apart, and nothing else.
            return self.head((X[:, :1] > 0).float())

    net = make_net(Constant, optimizer__nesterov=False, optimizer__momentum=0.0)
    y, y_test = (np.where(rows[:, 0] > 0, "a", "b") for rows in (X, X_test))
    model = FineTune(net, random_state=0).fit(X, y)
    model.set_params(lr=float("inf"))
    report = unlearning_report(
        model, X, y, forget=forget, X_unseen=X_test, y_unseen=y_test, original=model, n_resamples=9
    )
    assert report.metrics["scatter_ratio"]["original"].value == float("inf")
    content = json.loads(report.to_json())
    assert content["metrics"]["scatter_ratio"]["original"]["value"] is None
    assert content["parameters"]["lr"] is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (torch.float64, "torch.float64"),
        (torch.device("cpu"), "cpu"),
        ({"Anna Meier": 2.0}, "builtins.dict of length 1"),  # as weights of classes are
        (partial(print, end=""), {"partial": "builtins.print", "end": ""}),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0, 4.0], "builtins.list of length 4"),  # which may be a row
        (["Anna Meier", "Bob Roe"], "builtins.list of length 2"),
        ([[1.0, 2.0], [3.0, 4.0]], "builtins.list of length 2"),
        ("/home/anna/cache", "builtins.str of length 16"),
        ([("a", nn.ReLU)] * 4, [["a", "torch.nn.modules.activation.ReLU"]] * 4),
        ("a" * 201, "builtins.str of length 201"),
        (np.zeros((5, 2)), "numpy.ndarray of shape (5, 2)"),
        (object(), "builtins.object"),
    ],
)
def test_a_parameter_is_described_without_what_may_be_rows(value, said):
    assert described(value) == said


def test_digests_are_those_of_the_rows_whatever_holds_them():
    X, y, names = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0]), np.array(["a", "b", "a"])
    plain = digests_of(X, y, names, "unkeyed")
    assert {name: said["count"] for name, said in plain[0].items()} == {"a": 2, "b": 1}
    assert digests_of(torch.as_tensor(X), y, names, "unkeyed") == plain
    assert (
        digests_of(TensorDataset(torch.as_tensor(X), torch.as_tensor(y)), y, names, "unkeyed")
        == plain
    )
    by_column = {"one": X[:, 0], "two": X[:, 1]}
    swapped = {"two": X[:, 1], "one": X[:, 0]}
    assert (
        digests_of(by_column, y, names, "unkeyed")
        == digests_of(swapped, y, names, "unkeyed")
        != plain
    )
    other = {"one": X[:, 1], "two": X[:, 0]}
    assert digests_of(other, y, names, "unkeyed") != digests_of(by_column, y, names, "unkeyed")
    half = torch.as_tensor(X).bfloat16()  # of which numpy has no type; these numbers fit in it
    assert digests_of(half, y, names, "unkeyed") == plain
    words = np.array([["ab", "c"], ["a", "bc"], ["ab", "c"]])
    _, (first, second, third) = digests_of(words, y, names, "unkeyed")
    assert first == third != second


def test_it_holds_no_rows(models, data):
    X, y, X_test, y_test, forget = data
    monitor = ForgettingMonitor(X[forget][:3].tolist(), y[forget][:3].tolist(), X_test, y_test)
    model = FineTune(make_net(callbacks=[monitor], max_epochs=1), random_state=0)
    model.fit(X, y, forget=forget)
    report = make_report({**models, "unlearned": model}, data)
    described = report.parameters["estimator"]["callbacks"][0]
    assert described["class"] == "skunlearn.callbacks.ForgettingMonitor"
    assert described["X_forget"] == "builtins.list of length 3"
    assert described["y_forget"] == "builtins.list of length 3"
    assert described["X_unseen"] == "numpy.ndarray of shape (240, 6)"
    assert described["n_rows"] == 200
    held = pickle.dumps(report)
    text = report.to_json() + repr(report) + report._repr_html_()
    for row in np.concatenate([X, X_test]):
        assert row.tobytes() not in held
        assert str(row[0]) not in text
        assert str(float(row[0])) not in text


def digest_of(X, y):
    """Worked out from what the docstring says."""
    digest = hashlib.sha256()
    for row, label in zip(X, y):
        content = row.astype(float).tobytes()
        digest.update(f"{row.shape} True {len(content)}\n".encode() + content)
        digest.update(f"() False {len(label)}\n{label}".encode())
    return digest.hexdigest()


def test_digests_are_of_the_rows_in_order(report, data):
    X, y, X_test, y_test, forget = data
    assert report.rows["forget"]["sha256"] == digest_of(X[forget], y[forget])
    assert report.rows["retain"]["sha256"] == digest_of(X[~forget], y[~forget])
    assert report.rows["unseen"]["sha256"] == digest_of(X_test, y_test)


def test_digests_do_not_depend_on_what_the_rows_are_kept_in(data):
    X, y, X_test, y_test, forget = data
    codes, codes_test = (np.searchsorted(["a", "b", "c"], labels) for labels in (y, y_test))
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(X, codes)

    def rows(X, y, X_unseen, y_unseen):
        return unlearning_report(
            model,
            X,
            y,
            forget=forget,
            X_unseen=X_unseen,
            y_unseen=y_unseen,
            n_resamples=2,
            key="unkeyed",
        ).rows

    plain = rows(X, codes, X_test, codes_test)
    tensors = [map(torch.as_tensor, pair) for pair in ((X, codes), (X_test, codes_test))]
    lazy = [TensorDataset(*pair) for pair in tensors]
    assert rows(lazy[0], None, lazy[1], None) == plain
    assert rows(pd.DataFrame(X), pd.Series(codes), pd.DataFrame(X_test), codes_test) == plain
    other = X.copy()
    other[0, 0] += 1  # a forget row
    changed = rows(other, codes, X_test, codes_test)
    assert changed["forget"]["sha256"] != plain["forget"]["sha256"]
    assert changed["retain"] == plain["retain"]
    wrong = codes.copy()
    wrong[-1] = (wrong[-1] + 1) % 3  # a retained one's label
    assert rows(X, wrong, X_test, codes_test)["retain"] != plain["retain"]
    assert rows(X.astype(float), codes, X_test, codes_test)["forget"] == plain["forget"]


def test_table_is_a_frame_or_a_list(report, monkeypatch):
    frame = report.table
    assert frame.columns.tolist() == [
        *("metric", "network", "value", "low", "high", "method", "reason", "meaning")
    ]
    one = frame[(frame.metric == "nomus") & (frame.network == "original")].iloc[0]
    assert (one.value, one.low, one.high) == report.metrics["nomus"]["original"]
    assert len(frame) == sum(map(len, report.metrics.values()))
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = report.table
    monkeypatch.undo()
    assert pd.DataFrame(rows).equals(frame)


def test_repr_has_a_line_for_each_figure_and_a_column_for_each_network(report):
    lines = repr(report).splitlines()
    assert lines[0] == "UnlearningReport"
    assert any("50, sha256 " + report.rows["forget"]["sha256"] in line for line in lines)
    header = next(line for line in lines if "retrained 2" in line)
    assert header.split() == ["unlearned", "original", "retrained", "retrained", "2"]
    line = next(line for line in lines if line.startswith("  NoMUS "))
    cells = re.findall(r"[\d.]+ \[[\d.]+, [\d.]+\]", line)
    value, low, high = report.metrics["nomus"]["original"]
    assert len(cells) == 4
    assert cells[1] == f"{value:.3f} [{low:.3f}, {high:.3f}]"
    assert next(line for line in lines if line.startswith("  gap ")).split()[-4] == "-"
    assert max(map(len, lines)) < 132


def test_html_is_well_formed_and_escaped(models, data):
    class Method(FineTune):  # whose qualified name has <locals> in it
        pass

    X, y, _, _, forget = data
    model = Method(make_net(max_epochs=1), random_state=0).fit(X, y, forget=forget)
    report = make_report({**models, "unlearned": model}, data)
    text = report._repr_html_()
    assert "<locals>" not in text
    assert "&lt;locals&gt;" in text

    class Parser(HTMLParser):
        cells = 0
        open_tags = ()

        def handle_starttag(self, tag, attrs):
            self.open_tags = (*self.open_tags, tag)
            self.cells += tag == "td"

        def handle_endtag(self, tag):
            assert self.open_tags[-1] == tag
            self.open_tags = self.open_tags[:-1]

    parser = Parser()
    parser.feed(text)
    assert parser.open_tags == ()
    assert parser.cells == 5 * len(report.metrics) + len(facts(report))


def test_networks_of_every_kind_are_compared(models, data):
    X, y, X_test, y_test, forget = data
    net = make_net(max_epochs=2)
    pipeline = make_pipeline(StandardScaler(), FineTune(net, random_state=0)).fit(X, y)
    shards = SISA(net, n_shards=2, random_state=0).fit(X, y)
    other = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    report = unlearning_report(
        pipeline,
        X,
        y,
        forget=forget,
        X_unseen=X_test,
        y_unseen=y_test,
        original=models["original"].estimator_,
        reference=shards,
        reference_2=other,
        n_resamples=20,
    )
    utility = report.metrics["utility"]
    assert utility["unlearned"].value == pytest.approx(pipeline.score(X_test, y_test))
    assert utility["original"].value == pytest.approx(models["original"].score(X_test, y_test))
    assert utility["retrained"].value == pytest.approx(shards.score(X_test, y_test))
    assert utility["retrained_2"].value == pytest.approx(other.score(X_test, y_test))
    assert set(report.metrics["linear_cka"]) == {"unlearned", "original"}
    assert report.method == "skunlearn.methods.finetune.FineTune"
    assert report.parameters["steps"][1][1]["class"] == "skunlearn.methods.finetune.FineTune"
    frozen = make_report({**models, "original": FrozenEstimator(models["original"])}, data)
    assert frozen.metrics["utility"]["original"] == utility["original"]


def test_an_estimator_decides_by_its_own_rule(data):
    X, _, X_test, _, forget = data
    y, y_test = (np.where(rows[:, 0] > 0, "yes", "no") for rows in (X, X_test))
    model = FixedThresholdClassifier(LogisticRegression(), threshold=0.05, pos_label="yes")
    model.fit(X, y)
    report = unlearning_report(
        model, X, y, forget=forget, X_unseen=X_test, y_unseen=y_test, n_resamples=2
    )
    utility = report.metrics["utility"]["unlearned"].value
    assert utility == pytest.approx(model.score(X_test, y_test))
    assert utility < LogisticRegression().fit(X, y).score(X_test, y_test) - 0.05


def test_several_labels_per_row(data):
    X, _, X_test, _, forget = data
    Y, Y_test = ((rows[:, :3] > 0).astype(np.float32) for rows in (X, X_test))
    net = make_net(criterion=nn.BCEWithLogitsLoss, max_epochs=3)
    models = [FineTune(net, random_state=seed).fit(X, Y, forget=forget) for seed in range(3)]
    report = unlearning_report(
        models[0],
        X,
        Y,
        forget=forget,
        X_unseen=X_test,
        y_unseen=Y_test,
        original=models[0],
        reference=models[1],
        reference_2=models[2],
        n_resamples=50,
    )
    utility = report.metrics["utility"]["unlearned"]
    assert utility.value == pytest.approx(np.mean(models[0].predict(X_test) == Y_test))
    assert 0 < utility.low < utility.value < utility.high < 1
    same = models[0].predict(X[forget]) == models[1].predict(X[forget])
    assert report.metrics["agreement"]["unlearned"].value == pytest.approx(same.mean())
    assert 0.2 < report.metrics["relative_js_distance"]["unlearned"].value < 5
    assert report.metrics["cka_ratio"]["unlearned"].value == 1


def test_a_binary_network_decides_by_its_threshold(data):
    X, _, X_test, _, forget = data
    y, y_test = ((rows[:, 0] > 0).astype(int) for rows in (X, X_test))

    class Single(nn.Linear):
        def __init__(self, n_features_in):
            super().__init__(n_features_in, 1)

        def forward(self, X):
            return super().forward(X).squeeze(-1)

    net = NeuralNetBinaryClassifier(Single, threshold=0.8, train_split=None, verbose=0)
    model = FineTune(net, random_state=0).fit(X, y)
    report = unlearning_report(
        model, X, y, forget=forget, X_unseen=X_test, y_unseen=y_test, n_resamples=2
    )
    assert report.metrics["utility"]["unlearned"].value == pytest.approx(
        model.score(X_test, y_test)
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"forget": np.zeros(N_TRAIN, bool)}, "forget must mark at least one row.* got 0 True"),
        ({"X_unseen": np.zeros((0, 6)), "y_unseen": []}, "X_unseen must have one; got 50 True of"),
        ({"key": b"short"}, "key must be at least 16 bytes, 'unkeyed' or None; got 5 bytes"),
        ({"key": "secret"}, "key must be .* got str"),
        ({"groups": np.arange(N_TRAIN)}, "must be given together; got groups_unseen=None"),
        ({"criteria": {"auc": (0, 1)}}, "criteria must name metrics of a report; got 'auc'"),
        ({"criteria": ["utility"]}, "criteria must be a dict .* got list"),
        ({"criteria": {"utility": ("0.7", None)}}, r"a range .* got \('0.7', None\) for 'utility'"),
        *(
            ({"groups": whose, "groups_unseen": np.arange(240)}, message)
            for whose, message in (
                (
                    np.array([None] * N_TRAIN),
                    "groups must name the group of every row; got missing",
                ),
                (np.array(["a", 1] * (N_TRAIN // 2), object), "one type; got int and str"),
                (np.array(["a"] * N_TRAIN), "groups and groups_unseen must .* got int and str"),
            )
        ),
        ({"criteria": {"utility": (1, 0)}}, r"a range \(low, high\).* got \(1, 0\) for 'utility'"),
        ({"criteria": {"utility": 0.9}}, r"a range \(low, high\).* got \(0.9,\) for 'utility'"),
        ({"forget": np.arange(3)}, "forget must be a boolean mask"),
        ({"y_unseen": None}, "y_unseen must be given"),
        ({"y_unseen": ["a", "b"]}, "240|2 rows"),
        ({"reference": None}, "reference_2 was given without reference"),
        ({"n_splits": 0}, "n_splits"),
        ({"n_resamples": 0}, "n_resamples"),
        ({"confidence_level": 95}, "confidence_level must be .* less than 1; got 95"),
        ({"feature_layer": "nowhere"}, "nowhere"),
    ],
)
def test_bad_arguments(models, data, params, message):
    with pytest.raises(ValueError, match=message):
        make_report(models, data, **params)


def test_networks_that_cannot_be_compared_are_refused(models, data):
    X, y, _, _, _ = data
    fewer = FineTune(make_net(max_epochs=1), random_state=0).fit(X, np.where(y == "a", "a", "b"))
    with pytest.raises(ValueError, match=r"the retrained network must have the classes .*'c'"):
        make_report(models, data, reference=fewer)
    with pytest.raises(ValueError, match=r"the original network must give each of the 160 rows"):
        make_report(models, data, original=fewer.estimator_)
    with pytest.raises(NotFittedError):
        make_report(models, data, original=FineTune(make_net()))


def test_retrainings_that_do_not_differ_leave_out_the_distance_in_their_units(models, data):
    same = {**models, "retrained_2": models["retrained"]}
    metrics = make_report(same, data).metrics
    assert "relative_js_distance" not in metrics
    assert metrics["js_distance"]["unlearned"].value > 0


def test_unseen_rows_that_were_trained_on_are_noticed(models, data):
    X, y, X_test, y_test, forget = data
    mixed = {"X_unseen": np.r_[X_test, X[forget][:7]], "y_unseen": np.r_[y_test, y[forget][:7]]}
    with pytest.warns(UserWarning, match="247 rows, of which 7 are in X as well"):
        make_report({"unlearned": models["unlearned"]}, data, **mixed)


def test_settings_of_numpy_types_are_filed_too(models, data):
    numbers = {"random_state": np.int64(3), "n_resamples": np.int64(5)}
    text = make_report({"unlearned": models["unlearned"]}, data, **numbers).to_json()
    assert json.loads(text)["settings"]["random_state"] == 3


def test_four_unseen_rows_have_no_figures_of_collapse(models, data):
    _, _, X_test, y_test, _ = data
    rows = np.concatenate([np.flatnonzero(y_test == label)[:2] for label in "ab"])
    few = {"X_unseen": X_test[rows], "y_unseen": y_test[rows]}
    assert "linear_cka" not in make_report(models, data, **few).metrics


def test_level_is_that_of_every_interval(models, data):
    wide, narrow = (
        make_report(models, data, n_resamples=400, confidence_level=level).metrics
        for level in (0.95, 0.5)
    )
    for metric in (
        "loss_attack_accuracy",
        "loss_attack_auc",
        "utility",
        "gap",
        "js_distance",
        "relative_js_distance",
        "linear_cka",
    ):
        (_, a, b), (_, c, d) = (found[metric]["unlearned"] for found in (wide, narrow))
        # Of a Gaussian: 0.674 / 1.960 = 0.344; of four that hold together, 1.534 / 2.498 = 0.614.
        assert 0.2 < (d - c) / (b - a) < (0.75 if metric == "gap" else 0.65), metric


def test_low_end_of_nomus_takes_the_worst_of_both(report):
    metrics = report.metrics
    for name, nomus in metrics["nomus"].items():
        utility, forgetting = metrics["utility"][name], metrics["forgetting_score"][name]
        assert nomus.low == pytest.approx(utility.low / 2 + 0.5 - forgetting.high)
        assert nomus.high == pytest.approx(utility.high / 2 + 0.5 - forgetting.low)


def test_no_criteria_can_be_stated(models, data):
    report = make_report(models, data, criteria={})
    assert report.criteria == []
    assert report.verdict() == "no criteria are stated"
    assert "no criteria are stated" in report.to_html()


def test_names_of_people_may_be_strings_of_either_kind(models, data):
    """Those of a data frame are objects."""
    people = np.array([f"p{i % 9}" for i in range(N_TRAIN)])
    others = np.array([f"q{i % 9}" for i in range(240)], dtype=object)
    report = make_report(models, data, groups=people, groups_unseen=others)
    assert report.settings["intervals_over"] == "people"
