"""The study's pages run on the committed tables, whose summaries are of what was reported."""

import ast
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
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
        ("ecg-long", 0.05, "L1Sparse", "Distill", "docs/choosing.rst"),
        ("identities", 0.3, "RandomLabel", "Original", "benchmarks/pages/GALLERY_HEADER.rst"),
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


def test_what_distill_loses_on_the_faces_is_what_the_table_says(beside):
    from tables import Table

    kept = {
        row["method"]: f"{row['retain_accuracy']:.3f}".removeprefix("0")
        for row in Table(BENCHMARKS / "results" / "summary-faces-long.csv").rows()
        if row["cap"] == 0.05
    }
    header = (BENCHMARKS / "pages" / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
    assert f"({kept['Distill']}, the retrained network has {kept['Retrain']})" in header
