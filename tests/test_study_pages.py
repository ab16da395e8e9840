"""The study's pages run on the committed tables, whose summaries are of what was reported."""

import ast
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PAGES = sorted((BENCHMARKS / "pages").glob("plot_*.py"))
SUMMARIES = sorted((BENCHMARKS / "results").glob("summary-*.csv"))


@pytest.fixture
def beside(monkeypatch):
    """Import what lies beside the scripts, and forget it afterwards."""
    monkeypatch.setattr(
        sys, "path", [str(BENCHMARKS / name) for name in ("pages", "study")] + sys.path
    )
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if BENCHMARKS in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]


def test_pages_import_of_the_study_through_what_they_share():
    # sphinx-gallery puts the path back after a page, and leaves the modules loaded.
    beside = {path.stem for path in (BENCHMARKS / "study").glob("*.py")}
    for page in PAGES:
        for node in ast.walk(ast.parse(page.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                modules = names if isinstance(node, ast.Import) else {node.module}
                assert not modules & beside, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_run_on_the_committed_tables(page, beside, monkeypatch):
    monkeypatch.chdir(page.parent)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()) or plt.close())
    runpy.run_path(str(page))
    assert shown
    assert all(any(axes.has_data() for axes in figure.axes) for figure in shown)


def test_each_method_has_a_colour_and_a_marker_of_its_own(beside):
    from _tables import STYLES, style

    for part in ("color", "marker"):
        looks = [look[part] for look in STYLES.values()]
        assert len(looks) == len(set(looks))
    assert style("DLFD (reset)") == style("DLFD") != style("DLFD (published)")


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: path.stem)
def test_committed_summaries_are_of_the_committed_reports(path, beside):
    from domains import DOMAINS
    from summarise import summarise
    from tables import Table, _text

    domain = DOMAINS[path.stem.removeprefix("summary-")]
    chosen, reported = (
        Table(path.with_name(f"{part}-{domain.name}.csv")).rows() for part in ("chosen", "reported")
    )
    rows = summarise(domain, chosen, reported)
    committed = Table(path).rows()
    assert len(rows) == len(committed) > 0
    for row, found in zip(rows, committed):
        for name, value in row.items():
            if name not in ("domain", "method", "trial"):
                assert found[name] == pytest.approx(float(_text(value)), nan_ok=True)
            else:
                assert found[name] == value


@pytest.mark.parametrize(
    ("domain", "cap", "ours", "theirs", "page"),
    [
        ("identities", 0.3, "RandomLabel", "Original", "benchmarks/pages/GALLERY_HEADER.rst"),
        *(
            ("speeches-long", 0.05, "Distill", theirs, page)
            for theirs in ("Retrain (shortened)", "Retrain (tuned, short)")
            for page in (
                "benchmarks/pages/GALLERY_HEADER.rst",
                "docs/user_guide/methods/distill.rst",
            )
        ),
        (
            "faces-long",
            0.1,
            "Retrain (shortened)",
            "Original",
            "benchmarks/pages/GALLERY_HEADER.rst",
        ),
    ],
)
def test_differences_in_prose_are_those_of_the_tables(
    domain, cap, ours, theirs, page, beside, monkeypatch
):
    monkeypatch.chdir(BENCHMARKS / "pages")
    from _tables import against

    table = against([(ours, theirs)], domains=[domain])
    (row,) = table[table.cap == cap].to_dict("records")
    said = f"{row['mean']:.2f} ± {row['half']:.2f}".replace("-0.", "−.").replace(" 0.", " .")
    assert said in " ".join((BENCHMARKS.parent / page).read_text(encoding="utf-8").split())


def test_how_many_settings_reach_the_nomus_of_a_retrained_network(beside, monkeypatch):
    monkeypatch.chdir(BENCHMARKS / "pages")
    monkeypatch.setattr(plt, "show", plt.close)
    page = runpy.run_path("plot_6_misleading.py")
    mean, above = page["mean"], page["above"]
    of_domain = (mean.excess > 0).groupby("domain").mean()
    share, lost = len(above) / len(mean), (above.kept < -0.1).mean()
    header = (BENCHMARKS / "pages" / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
    here, there = of_domain["speeches"], of_domain["ecg"]
    said = (
        f"{share:.0%} of all settings reach the retrained network's ({here:.0%} of them on the "
        f"speeches, {there:.0%} on the heart beats), and {lost:.0%} of these lose more than .1"
    )
    assert said.replace("%", " %") in " ".join(header.split())


def test_what_dlfd_does_beyond_its_controls_is_what_the_table_says(beside):
    from tables import Table

    said = {
        row["control"]: f"{row['mean']:.2f} ± {row['half']:.2f}".replace("-0.", "−.").replace(
            " 0", " "
        )
        for row in Table(BENCHMARKS / "results" / "pooled.csv").rows()
        if row["ours"] == "DLFD"
    }
    header = (BENCHMARKS / "pages" / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
    header = " ".join(header.split())
    assert f"with random signs is {said['random signs']} of the way" in header
    assert f"*towards* the forget features it is {said['reversed']}," in header
    assert f"against no perturbation {said['no perturbation']}:" in header


def test_klom_in_prose_is_that_of_the_tables(beside):
    from _tables import STUDENTS
    from tables import Table

    page = (BENCHMARKS / "pages" / "plot_9_attacks.py").read_text(encoding="utf-8")
    page = " ".join(page.replace("\n# ", "\n").split())
    found = {
        (domain, row["method"], row["cap"]): (row["klom_forget_50"], row["klom_forget_95"])
        for domain in ("speeches", "faces", "ecg")
        for row in Table(BENCHMARKS / "results" / f"attacks-{domain}-long.csv").rows()
        if row["n_klom_models"] > 0  # a split
    }

    def both(*key):
        return "{:.2f} and {:.2f}".format(*found[key])

    assert f"near the floor ({both('speeches', 'Retrain', 1.0)})" in page
    guarded = both("speeches", "Distill (guarded)", 0.05)
    said = f"{both('speeches', 'Distill', 0.1)} within 10 %, {guarded} guarded at 5 %."
    assert said in page
    assert f"U-LiRA finds, has {both('speeches', 'Distill', 0.05)}." in page
    shorter = [both("speeches", "Retrain (shortened)", cap) for cap in (0.1, 0.05)]
    assert "have {} (12 epochs) to {} (6)".format(*shorter) in page
    assert f"near the floor ({both('ecg', 'Retrain', 1.0)})" in page
    aside = {"Retrain", *STUDENTS}
    medians = {key: value[0] for key, value in found.items() if key[1] not in aside}
    least = min((key for key in medians if key[0] == "ecg"), key=medians.get)
    assert f"the least median is {least[1]}'s ({medians[least]:.2f})" in page
    floor = found["faces", "Retrain", 1.0][0]
    assert f"below the floor's ({floor:.2f})" in page
    assert max(medians["faces", "EUk", 0.05], medians["faces", "Retrain (shortened)", 0.1]) < floor


def test_how_far_the_goal_is_is_what_the_table_says(beside):
    from tables import Table

    rows = Table(BENCHMARKS / "results" / "goal.csv").rows()
    header = " ".join(
        (BENCHMARKS / "pages" / "GALLERY_HEADER.rst").read_text(encoding="utf-8").split()
    )
    reached = {row["method"]: row for row in rows if row["reached"] and row["cap"] == 0.05}
    assert {row["domain"] for row in reached.values()} <= {"speeches-long", "faces-long"}
    for said, method in {
        "tuned": "Distill (fresh)",
        "guarded": "Distill (guarded)",
        "smoothed labels": "Distill (smoothed labels)",
        "labels at a tuned rate": "Retrain (tuned, short)",
    }.items():
        (row,) = (
            r
            for r in rows
            if (r["domain"], r["cap"], r["method"]) == ("speeches-long", 0.05, method)
        )
        assert row["reached"] == 1
        above = f"{abs(row['u_lira_above']):.3f}".removeprefix("0")
        sign = "−" if row["u_lira_above"] < 0 else "+"
        distance = f"{row['relative_js_distance']:.2f}".removeprefix("0")
        assert f"{said} ({distance}, {sign}{above})" in header
    default = {row["domain"]: row for row in rows if row["method"] == "Distill (default)"}
    of_faces = (row for row in rows if row["domain"] == "faces-long")
    at_five = {row["method"]: row for row in of_faces if row["cap"] == 0.05}
    names = "Distill (fresh)", "Distill (smoothed labels)", "Retrain (short, batches)"
    assert [at_five[name]["reached"] for name in names] == [1, 1, 1]
    assert {at_five[name]["n_attacked"] for name in at_five} == {5}

    def both(row):
        sign = "−" if row["u_lira_above"] < 0 else "+"
        return f"{row['relative_js_distance']:.2f}, {sign}{abs(row['u_lira_above']):.3f}"

    said = [both(at_five[name]).replace("0.", ".") for name in names]
    assert "reaches it ({}), and so do smoothed labels ({}) and labels".format(*said) in header
    assert f"and labels with batches of 8 ({said[2]})." in header
    said = [both(default[name]) for name in ("speeches-long", "faces-long")]
    assert "on the speeches ({}) and on the faces ({}).".format(*said).replace("0.", ".") in header
    assert [row["reached"] for row in default.values()] == [1, 1, 0]


def test_what_is_said_of_the_task_that_is_learnt_slowly_is_what_the_table_says(beside):
    from tables import Table

    rows = Table(BENCHMARKS / "results" / "dial-cifar10-small.csv").rows()

    def mean(method, figure, noise="", epochs=3):
        key = method, "" if noise == "" else float(noise), "" if epochs == "" else float(epochs)
        values = [
            float(row[figure])
            for row in rows
            if (row["method"], *(_or_empty(row[n]) for n in ("noise", "epochs"))) == key
            and np.isfinite(row[figure])  # closeness and attacks are rows of their own
        ]
        assert values, key
        return f"{np.mean(values):.2f}".removeprefix("0")

    page = (BENCHMARKS / "pages" / "plot_8_dial.py").read_text(encoding="utf-8")
    guide = (BENCHMARKS.parent / "docs/user_guide/methods/distill.rst").read_text(encoding="utf-8")
    page, guide = (" ".join(text.replace("\n# ", "\n").split()) for text in (page, guide))
    scratch = mean("Retrain (shortened)", "retain_accuracy")
    tuned = [mean("FineTune", f"{side}_accuracy") for side in ("retain", "forget")]
    half = {side: mean("Distill", f"{side}_accuracy", 0.5) for side in ("retain", "forget")}
    fresh = mean("Distill", "retain_accuracy", 1)
    original = mean("Original", "relative_js_distance", epochs="")
    assert f"its rows ({fresh}), as three epochs from scratch have ({scratch})" in page
    assert f"(its distance is {original})" in page
    assert f"with .5 it is {half['retain']}, and of the rows to forget {half['forget']}" in page
    assert f"those that nobody saw {mean('Distill', 'utility', 0.5)}" in page
    assert f"keeps {tuned[0]}, and {tuned[1]} of the rows to forget" in page
    late = [mean("Distill", f"{side}_accuracy", 0.7, 12) for side in ("retain", "forget")]
    cost = mean("Distill", "cost", 0.7, 12)
    said = f"({cost} of the cost) noise .7 keeps {late[0]}, with {late[1]} of the rows to forget"
    assert said in page
    assert f"get {scratch} of the retained rows right and the student with noise 1 {fresh}" in guide
    near = [mean("Distill", "relative_js_distance", noise) for noise in (0.5, 1)]
    assert f"it is {half['retain']}, nearer ({near[0]} against {near[1]})" in guide
    assert f"gets {tuned[0]}, and {tuned[1]} of the rows to forget" in guide
    assert f"the original's own is {original}" in guide
    found = {noise: mean("Distill", "u_lira_auc", noise) for noise in (1, 0.5, 0.3)}
    chance = mean("Retrain", "u_lira_auc", epochs="")
    assert (
        f"{found[1]} with noise of 1, {found[0.5]} with .5 and {found[0.3]} with .3 (± .02; a "
        f"retrained network has {chance})"
    ) in page
    tuned = mean("FineTune", "u_lira_auc")
    late = {name: mean("FineTune", f"{name}_auc", epochs=12) for name in ("u_lira", "rmia")}
    assert f"fine-tuned network ({tuned} after three, {late['u_lira']} after twelve)" in page
    assert f"the fine-tuned one {late['rmia']})" in page
    assert f"after as much fine-tuning {late['u_lira']})" in guide
    assert f"finds it ({tuned}), and the students hardly ({found[1]} with noise 1" in guide
    assert f"{found[0.3]} with .3; a retrained network {chance})" in guide


def _or_empty(value):
    return "" if value == "" or np.isnan(value) else float(value)
