"""What an auditor reads in a report: digests, verdicts, what was not measured, a page, a schema."""

import hashlib
import hmac
import json
import math
import os
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from sklearn.tree import DecisionTreeClassifier

from skunlearn import SISA, FineTune, Retrain, unlearning_report
from skunlearn.evaluation import UnlearningReport
from skunlearn.evaluation._criteria import check_criteria, judge, verdict_line
from skunlearn.evaluation._report_text import MEANINGS
from skunlearn.metrics import (
    Interval,
    attack_signal,
    change_signal,
    jensen_shannon_distance,
    membership_inference_auc,
    membership_inference_report,
    membership_inference_test,
)
from tests.networks import make_net

KEY = bytes(range(32))

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

rng = np.random.default_rng(0)
ALL = rng.normal(size=(240, 4)).astype(np.float32)
LABELS = np.where(ALL[:, 0] + rng.normal(size=240) > 0, "yes", "no")
X, Y, X_UNSEEN, Y_UNSEEN = ALL[:140], LABELS[:140], ALL[140:], LABELS[140:]
FORGET = np.arange(140) < 40
GROUPS, GROUPS_UNSEEN = np.arange(140) // 4, 100 + np.arange(100) // 4


@pytest.fixture(scope="module")
def models():
    net = make_net(max_epochs=20, module__hidden=32)
    return {
        "unlearner": FineTune(net, max_epochs=2, random_state=0).fit(X, Y, forget=FORGET),
        "original": FineTune(net, random_state=0).fit(X, Y),
        "reference": Retrain(net, random_state=1).fit(X, Y, forget=FORGET),
        "reference_2": Retrain(net, random_state=2).fit(X, Y, forget=FORGET),
    }


def report_of(models, rows=X, labels=Y, unseen=slice(None), **params):
    return unlearning_report(
        **{
            **models,
            "X": rows,
            "y": labels,
            "forget": FORGET,
            "X_unseen": X_UNSEEN[unseen],
            "y_unseen": Y_UNSEEN[unseen],
            "n_resamples": 9,
            **params,
        }
    )


@pytest.fixture(scope="module")
def full(models):
    return report_of(
        models, groups=GROUPS, groups_unseen=GROUPS_UNSEEN, key=KEY, tester="<b>audit</b>"
    )


def valid(report):
    """The JSON of a report, which a validator accepts."""
    schema = UnlearningReport.schema()
    Draft202012Validator.check_schema(schema)
    content = json.loads(report.to_json())
    Draft202012Validator(schema).validate(content)
    return content


def keyed(*contents):
    return hmac.new(KEY, b"".join(contents), "sha256").hexdigest()


def test_digests_are_keyed_for_each_row_and_for_the_set(full):
    def row_bytes(row):
        return b"(4,) True 32\n" + row.astype(float).tobytes()

    def label_bytes(label):
        return f"() False {len(label)}\n{label}".encode()

    rows = full.rows
    assert rows["forget"]["each"] == [keyed(row_bytes(row)) for row in X[FORGET]]
    content = [row_bytes(row) + label_bytes(label) for row, label in zip(X[~FORGET], Y[~FORGET])]
    assert rows["retain"] == {"count": 100, "hmac_sha256": keyed(*content)}
    assert "sha256" not in rows["unseen"]
    plain = hashlib.sha256(b"".join(content)).hexdigest()
    assert plain not in full.to_json() + repr(full) + full.to_html()


def test_without_a_key_there_are_counts_alone(models):
    rows = report_of({"unlearner": models["unlearner"]}).rows
    assert rows == {"retain": {"count": 100}, "forget": {"count": 40}, "unseen": {"count": 100}}


@pytest.mark.parametrize("n_unseen", [1, 2, 100])
@pytest.mark.parametrize("n_forget", [1, 2, 5])
@pytest.mark.parametrize("given", [(), ("original", "reference", "reference_2")])
def test_one_row_and_up_are_reported(models, n_forget, n_unseen, given):
    chosen = {name: models[name] for name in ("unlearner", *given)}
    report = report_of(
        chosen, forget=np.arange(140) < n_forget, unseen=slice(n_unseen), criteria={"nomus": (0, 1)}
    )
    assert report.metrics["forget_accuracy"]["unlearned"].value in np.arange(6) / n_forget
    assert "loss_attack_auc" in report.metrics
    for name, intervals in report.metrics.items():
        for interval in intervals.values():
            assert not math.isnan(interval.value), name
            assert interval.method or interval.reason, name
            assert math.isnan(interval.low) == bool(interval.reason), name
    if 1 in (n_forget, n_unseen):
        assert "loss_attack_accuracy" not in report.metrics
        assert "2 of each" in report.not_measured["loss_attack_accuracy"]
    (verdict,) = report.criteria
    assert verdict["verdict"] == "cannot be told"
    assert verdict["why"]
    content = valid(report)
    assert len(content["losses"]["unlearned"]["forget"]) == n_forget
    report.to_html(), repr(report), report._repr_html_(), report.table


def test_rows_to_forget_alone_leave_out_what_takes_retained_rows(models):
    report = report_of(models, rows=X[FORGET], labels=Y[FORGET], forget=np.ones(40, bool), key=KEY)
    assert not {"retain_accuracy", "gap", "tug_of_war"} & report.metrics.keys()
    assert {"js_distance", "utility", "forget_accuracy"} <= report.metrics.keys()
    assert report.not_measured["accuracy on retained rows"] == "no retained rows were given"
    assert report.rows["retain"] == {"count": 0}
    assert report.size["parameters_per_row"] is None
    valid(report)


def test_people_are_the_unit_of_intervals_and_are_attacked(full, models):
    proba = [models["unlearner"].predict_proba(rows) for rows in (X[FORGET], X_UNSEEN)]
    losses = [
        attack_signal(labels, p, signal="loss", labels=models["unlearner"].classes_)
        for labels, p in zip((Y[FORGET], Y_UNSEEN), proba)
    ]
    groups = {"groups_forget": GROUPS[FORGET], "groups_unseen": GROUPS_UNSEEN}
    expected = membership_inference_report(*losses, **groups, random_state=0)
    for name, interval in expected.items():
        found = full.metrics[f"loss_attack_{name}"]["unlearned"]
        assert found == pytest.approx(interval, abs=1e-6)
        assert found.method == interval.method
    rows = report_of(models).metrics
    for name in ("utility", "js_distance", "relative_js_distance", "gap"):
        interval, of_rows = full.metrics[name]["unlearned"], rows[name]["unlearned"]
        assert interval.value == pytest.approx(of_rows.value)
        assert interval[1:] != of_rows[1:], name
    assert "calibrated_attack_people_auc" in full.metrics
    assert "entropy_attack_people_auc" not in full.metrics
    assert full.settings["intervals_over"] == "people"
    assert "people" not in full.not_measured


def test_differences_have_a_sign_and_the_original_a_distance(full, models):
    metrics = full.metrics
    for name in ("utility", "retain_accuracy", "forget_accuracy"):
        for network in ("unlearned", "original"):
            difference = metrics[f"{name}_difference"][network]
            expected = metrics[name][network].value - metrics[name]["retrained"].value
            assert difference.value == pytest.approx(expected)
            assert difference.low <= difference.value <= difference.high
    probas = [models[name].predict_proba(X[FORGET]) for name in ("unlearner", "original")]
    found = metrics["js_distance_to_original"]
    assert found.keys() == {"unlearned", "retrained", "retrained_2"}
    assert found["unlearned"].value == pytest.approx(jensen_shannon_distance(*probas), rel=1e-3)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.5, 0.4, 0.6), "met"),
        (Interval(0.5, 0.39, 0.6), "cannot be told"),
        (Interval(0.5, 0.4, 0.61), "cannot be told"),
        (Interval(0.7, 0.6, 0.8), "cannot be told"),
        (Interval(0.7, 0.61, 0.8), "not met"),
        (Interval(0.2, 0.1, 0.39), "not met"),
        (Interval(0.5, math.nan, math.nan, reason="1 forget row"), "cannot be told"),
    ],
)
def test_verdicts_are_by_the_interval(interval, verdict):
    metrics = {"utility": {"unlearned": interval}}
    (found,) = judge({"utility": (0.4, 0.6)}, metrics, {})
    assert found["verdict"] == verdict
    assert found["value"] == interval.value
    assert found["why"] == interval.reason or "interval" in found["why"]


def test_an_open_end_and_an_infinite_bound():
    metrics = {"overshoot": {"unlearned": Interval(0.3, 0.2, math.inf)}}
    criteria = check_criteria({"overshoot": (None, 0.1)}, MEANINGS)
    assert judge(criteria, metrics, {})[0]["verdict"] == "not met"
    criteria = check_criteria({"overshoot": (None, 0.5)}, MEANINGS)
    assert judge(criteria, metrics, {})[0]["verdict"] == "cannot be told"
    criteria = check_criteria({"overshoot": (0.1, None)}, MEANINGS)
    assert judge(criteria, metrics, {})[0]["verdict"] == "met"


def test_what_was_not_measured_cannot_be_told_and_says_what_it_takes(models):
    criteria = {
        "calibrated_attack_people_auc": (0.4, 0.6),
        "relative_js_distance": (None, 1.5),
        "js_distance_to_original": (0, 1),
        "cka_ratio": (0.8, None),
        "utility_difference": (-0.05, None),
    }
    report = report_of({"unlearner": models["unlearner"]}, criteria=criteria)
    assert [verdict["why"] for verdict in report.criteria] == [
        "not measured: it takes groups and reference",
        "not measured: it takes reference_2",
        "not measured: it takes original",
        "not measured: it takes original",
        "not measured: it takes reference",
    ]
    assert report.verdict() == ("0 of 5 stated criteria are met, 0 not met, 5 cannot be told")
    valid(report)


def test_default_criteria_are_stated_and_never_a_bare_pass(full, models):
    assert [verdict["metric"] for verdict in full.criteria] == [
        "loss_attack_auc",
        "calibrated_attack_auc",
        "calibrated_attack_people_auc",
        "retain_accuracy_difference",
        "utility_difference",
    ]
    text = repr(full) + full.to_html() + full._repr_html_()
    assert not re.search(r"\bpass(ed)?\b", text, re.I)
    assert full.verdict() in text
    rows_alone = report_of({"unlearner": models["unlearner"]})
    assert [verdict["metric"] for verdict in rows_alone.criteria] == [
        "loss_attack_auc",
        "calibrated_attack_auc",
        "retain_accuracy_difference",
        "utility_difference",
    ]
    assert "not met (utility)" in verdict_line(
        judge({"utility": (0.99, 1)}, {"utility": {"unlearned": Interval(0.5, 0.4, 0.6)}}, {})
    )


def test_it_says_who_tested_when_against_whom_and_what_was_not_measured(full, models):
    assert full.tester == "<b>audit</b>"
    assert full.attackers.keys() >= {"loss_attack", "calibrated_attack", "loss_attack_people"}
    assert full.not_measured.keys() == {
        "attacks on each row with many networks",
        "relearning time",
        "another training with another seed",
        "copies, backups and models made from this one",
    }
    alone = report_of({"unlearner": models["unlearner"]})
    assert alone.tester is None
    assert "calibrated_attack" not in alone.attackers
    reasons = set(alone.not_measured.values())
    assert {"original was not given", "reference was not given"} <= reasons
    assert any("groups were not given" in reason for reason in reasons)


def test_parameters_are_counted_for_each_row(models):
    report = report_of({"unlearner": models["unlearner"]})
    n = 4 * 32 + 32 + 32 * 2 + 2
    assert report.size == {"parameters": n, "parameters_per_row": n / 100}
    ensemble = SISA(make_net(max_epochs=1), n_shards=3, random_state=0).fit(X, Y)
    assert report_of({"unlearner": ensemble}).size["parameters"] == 3 * (4 * 16 + 16 + 16 * 2 + 2)
    trees = SISA(DecisionTreeClassifier(), random_state=0).fit(X, Y)
    assert report_of({"unlearner": trees}).size == {"parameters": None, "parameters_per_row": None}


def test_json_is_as_the_schema_says(full, models):
    content = valid(full)
    assert content["rows"]["forget"]["each"] == full.rows["forget"]["each"]
    assert content["tester"] == "<b>audit</b>"
    assert len(content["losses"]["retrained_2"]["unseen"]) == 21
    wrong = content | {"criteria": [content["criteria"][0] | {"verdict": "passed"}]}
    with pytest.raises(ValidationError):
        Draft202012Validator(UnlearningReport.schema()).validate(wrong)


def test_quantiles_of_losses_are_those_of_the_rows_to_two_digits(full, models):
    p = models["unlearner"].predict_proba(X[FORGET])
    losses = attack_signal(Y[FORGET], p, signal="loss", labels=models["unlearner"].classes_)
    found = full.losses["unlearned"]["forget"]
    assert found == pytest.approx(np.quantile(losses, np.arange(21) / 20), rel=0.051)
    assert all(loss == float(f"{loss:.2g}") for loss in found)


def test_figures_of_features_are_over_people_where_the_others_are(full, models):
    rows = report_of(models)
    for name in ("linear_cka", "scatter_ratio", "cka_ratio"):
        ours, theirs = (report.metrics[name]["unlearned"] for report in (full, rows))
        assert ours.value == theirs.value
        assert (ours.low, ours.high) != (theirs.low, theirs.high)
        assert ours.low < ours.value < ours.high
    probe = full.metrics["linear_probe"]["unlearned"]
    assert math.isnan(probe.low)
    assert probe.reason
    few = report_of(models, groups=GROUPS, groups_unseen=np.arange(100) // 25)
    assert few.metrics["linear_cka"]["unlearned"].reason == "4 groups: an interval takes 12"
    assert "4 unseen groups" in few.metrics["loss_attack_people_auc"]["unlearned"].reason
    of_one = Y_UNSEEN == "yes"
    whose = np.where(of_one, 0, np.arange(100))
    uneven = report_of(models, groups=GROUPS, groups_unseen=whose)
    assert "unequally many rows" in uneven.metrics["scatter_ratio"]["unlearned"].reason
    some = np.sort(np.r_[np.flatnonzero(of_one)[:8], np.flatnonzero(~of_one)])
    alone = report_of(models, unseen=some, groups=GROUPS, groups_unseen=whose[some])
    assert "a class is of too few groups" in alone.metrics["scatter_ratio"]["unlearned"].reason


def test_rows_of_one_person_are_left_out_together(models):
    # Each person is 4 times the same row: the error is that of 25 rows, twice as large.
    people = np.arange(100) // 4 * 4
    params = {"X_unseen": X_UNSEEN[people], "y_unseen": Y_UNSEEN[people]}
    reports = (
        report_of(models, groups=GROUPS, groups_unseen=people, **params),
        report_of(models, **params),
    )
    ours, theirs = (each.metrics["linear_cka"]["unlearned"] for each in reports)
    assert (ours.high - ours.low) > 1.5 * (theirs.high - theirs.low)


class Parser(HTMLParser):
    """Holds the open tags, and what refers to other files."""

    tags = ()
    links = ()
    plots = 0

    def handle_starttag(self, tag, attrs):
        self.plots += tag == "svg"
        self.links += tuple(v for k, v in attrs if k in ("src", "href", "xlink:href"))
        if tag != "meta":
            self.tags += (tag,)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.tags[-1] == tag
        self.tags = self.tags[:-1]


def test_the_page_is_whole_and_has_its_plots_in_it(full, models):
    text = full.to_html()
    parser = Parser()
    parser.feed(text)
    assert parser.tags == ()
    assert parser.links == ()
    assert parser.plots == 2
    assert "<b>audit" not in text
    assert "&lt;b&gt;audit" in text
    for verdict in full.criteria:
        assert verdict["why"] in text
    for what, why in full.not_measured.items():
        assert what in text
        assert escape(why) in text
    assert not re.search(r"\bnan\b", text)
    alone = report_of({"unlearner": models["unlearner"]}).to_html()
    parser = Parser()
    parser.feed(alone)
    assert parser.plots == 1  # no distances


def test_what_is_said_of_an_attack_is_said_once(full):
    text = full.to_html()
    assert text.count("share of forget and unseen rows told apart") == 1
    assert text.count("likewise; ideal 0.5") >= 8
    assert "share of forget and unseen rows told apart; ideal 0.5" in text


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path, nor in CHROMIUM")
@pytest.mark.filterwarnings("ignore:.*NoMUS does not apply:UserWarning")
def test_it_prints_on_two_sheets_with_all_there_is_to_say(models, tmp_path):
    """A class of people, each network, and a dozen criteria of the user's."""
    names = "utility retain_accuracy forget_accuracy gap tug_of_war agreement js_distance "
    names += "relative_js_distance linear_cka cka_ratio class_attack_auc calibrated_attack_auc"
    report = report_of(
        models,
        forget=Y == "yes",
        groups=GROUPS,
        groups_unseen=GROUPS_UNSEEN,
        key=KEY,
        criteria=dict.fromkeys(names.split(), (0, 1)),
    )
    page, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(report.to_html(), encoding="utf-8")
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command = [BROWSER, *quiet, f"--user-data-dir={tmp_path}", f"--print-to-pdf={printed}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)
    assert len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) == 2


def test_whoever_has_both_networks_finds_what_changed(full, models):
    def signals(model, rows, labels):
        probas = [each.predict_proba(rows) for each in (models["original"], model)]
        return change_signal(labels, *probas, signal="loss", labels=model.classes_)

    for name, model in (("unlearned", "unlearner"), ("retrained", "reference")):
        forget, unseen, retain = (
            signals(models[model], rows, labels)
            for rows, labels in (
                (X[FORGET], Y[FORGET]),
                (X_UNSEEN, Y_UNSEEN),
                (X[~FORGET], Y[~FORGET]),
            )
        )
        found = full.metrics["change_attack_auc"][name].value
        assert found == pytest.approx(membership_inference_auc(forget, unseen), abs=1e-3)
        found = full.metrics["change_attack_auc_among_retained"][name].value
        assert found == pytest.approx(membership_inference_auc(forget, retain), abs=1e-3)
    assert "original" not in full.metrics["change_attack_auc"]
    assert "change_attack_people_auc" in full.metrics
    assert "change_attack" in full.attackers
    alone = report_of(
        {"unlearner": models["unlearner"]}, criteria={"change_attack_auc": (0.4, 0.6)}
    )
    assert "change_attack_auc" not in alone.metrics
    assert alone.criteria[0]["why"] == "not measured: it takes original"


def test_both_ends_and_retained_rows_are_tested(full, models):
    model = models["unlearner"]
    losses = {
        name: attack_signal(labels, model.predict_proba(rows), signal="loss", labels=model.classes_)
        for name, rows, labels in (
            ("forget", X[FORGET], Y[FORGET]),
            ("unseen", X_UNSEEN, Y_UNSEEN),
            ("retain", X[~FORGET], Y[~FORGET]),
        )
    }
    report = report_of({"unlearner": model})
    expected = membership_inference_test(losses["forget"], losses["unseen"], random_state=0)
    found = report.metrics["two_sided_pvalue"]["unlearned"]
    assert found.value == pytest.approx(expected.pvalue, abs=0.01)
    assert found.reason == "a p-value has none"
    found = report.metrics["retained_attack_auc"]["unlearned"].value
    expected = membership_inference_auc(losses["retain"], losses["unseen"])
    assert found == pytest.approx(expected, abs=1e-3)
    assert found > 0.5
    shared = report_of({"unlearner": model}, groups=GROUPS, groups_unseen=np.arange(100) // 4)
    assert "names people" in shared.not_measured["two_sided_pvalue"]


def test_a_class_is_forgotten():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 4)).astype(np.float32)
    labels = np.array(["a", "b", "c"])[np.argmax(rows[:, :3], axis=1)]
    known, forget = np.arange(300) < 200, labels[:200] == "b"
    net = make_net(max_epochs=10)
    X_train, y_train = rows[known], labels[known]
    model = Retrain(net, random_state=0).fit(X_train, y_train, forget=forget)

    def report(unseen, **params):
        return unlearning_report(
            model,
            X_train,
            y_train,
            forget=forget,
            X_unseen=rows[unseen],
            y_unseen=labels[unseen],
            n_resamples=9,
            **params,
        )

    with pytest.warns(UserWarning, match=r"all rows of the classes b: .* NoMUS does not apply"):
        found = report(~known)
    of_class = ~known & (labels == "b")
    right = model.predict(rows[~known]) == labels[~known]
    kept = found.metrics["utility_of_kept_classes"]["unlearned"].value
    assert kept == pytest.approx(right[labels[~known] != "b"].mean())
    assert found.metrics["utility_of_forgotten_classes"]["unlearned"].value < 0.2
    losses = [
        attack_signal(
            labels[rows_], model.predict_proba(rows[rows_]), signal="loss", labels=model.classes_
        )
        for rows_ in (np.flatnonzero(known)[forget], of_class)
    ]
    auc = found.metrics["class_attack_auc"]["unlearned"].value
    assert auc == pytest.approx(membership_inference_auc(*losses), abs=1e-3)
    assert abs(auc - 0.5) < 0.2 < abs(found.metrics["loss_attack_auc"]["unlearned"].value - 0.5)
    assert not {"nomus", "forgetting_score"} & found.metrics.keys()
    assert "mixes the classes" in found.not_measured["nomus"]
    assert found.criteria[0]["metric"] == "class_attack_auc"
    assert "loss_attack_auc" not in [each["metric"] for each in found.criteria]
    valid(found)
    with pytest.warns(UserWarning, match="classes b"):
        others = report(~known & (labels != "b"))
    assert "no rows of the forgotten" in others.not_measured["class_attack_auc"]
    assert "no rows of the forgotten" in others.criteria[0]["why"]
