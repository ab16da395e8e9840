"""What the readme and the front page show runs as it stands there, and says what it says."""

import csv
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("page", "block"),
    [
        ("README.md", r"^```python\n(.*?)^```"),
        ("docs/index.rst", r"^\.\. code-block:: python\n\n(.*?)^(?=\S)"),
    ],
)
def test_the_code_of_the_first_page_runs(page, block, capsys):
    text = (ROOT / page).read_text(encoding="utf-8")
    (code,) = re.findall(block, text, re.M | re.S)
    exec(textwrap.dedent(code), {})
    pattern = r"^ *wrong labels repeated: (\S+), right ones found: (\S+)$"
    shown = re.findall(pattern, capsys.readouterr().out, re.M)
    said = re.findall(pattern, text, re.M)
    assert len(said) == 2
    for ours, theirs in zip(shown, said, strict=True):
        assert [float(value) for value in ours] == pytest.approx(
            [float(v) for v in theirs], abs=0.1
        )


def rows_of(name):
    lines = (RESULTS / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def short(value):
    """A number as the prose has it: two digits, and no zero before the point."""
    return re.sub(r"^0(?=\.)", "", f"{float(value):.2f}")


LONG = ("speeches-long", "faces-long", "ecg-long")


def long_figures(method, cap):
    """What the summaries say of a method on the three long domains, by name of the figure."""
    found = [
        row
        for domain in LONG
        for row in rows_of(f"summary-{domain}")
        if row["method"] == method and float(row["cap"]) == cap
    ]
    assert len(found) == len(LONG)
    distance = "relative_js_distance"
    return {
        "distance": [f"{short(row[distance])} ± {short(row[distance + '_sd'])}" for row in found],
        "original": [short(row[distance]) for row in found],
        "accuracy": [short(row["retain_accuracy"]) for row in found],
    }


def flat(path):
    return " ".join((ROOT / path).read_text(encoding="utf-8").split())


IN_README = {("Retrain (shortened)", 0.1), ("Distill", 0.1), ("Distill", 0.05)}
IN_README |= {("Retrain (tuned, short)", 0.05)}


@pytest.mark.parametrize("cap", [0.03, 0.05, 0.1])
@pytest.mark.parametrize("method", ["Distill", "Retrain (shortened)", "Retrain (tuned, short)"])
def test_distances_in_prose_are_those_of_the_tables(method, cap):
    found = long_figures(method, cap)
    if (method, cap) in IN_README:
        assert ", ".join(found["distance"]) in flat("README.md")
    cells = zip(found["distance"], found["accuracy"])
    line = " ".join(f"{distance} ({accuracy})" for distance, accuracy in cells)
    assert f"{method}, {cap:.0%}".replace("%", " %") + f" {line}" in flat(
        "docs/user_guide/methods/distill.rst"
    )


def test_the_original_s_distance_in_prose_is_that_of_the_tables():
    found = long_figures("Original", 0.1)["original"]
    assert f"the original's: {', '.join(found)}" in flat("README.md")


def test_attacks_in_prose_are_those_of_the_tables():
    page = flat("docs/user_guide/methods/distill.rst")
    aucs = {
        (domain, row["method"], float(row["cap"])): short(row["u_lira_auc"])
        for domain in ("speeches-long", "ecg-long")
        for row in rows_of(f"attacks-{domain}")
    }
    for method in (
        "Distill",
        "FineTune",
        "L1Sparse",
        "EUk",
        "UNSIR",
        "SCRUB",
        "DLFD",
        "BadTeacher",
    ):
        cells = (aucs[d, method, cap] for d in ("speeches-long", "ecg-long") for cap in (0.05, 0.1))
        assert f"{method} {' '.join(cells)}" in page
    of_originals = {"FineTune", "L1Sparse", "EUk", "UNSIR", "SCRUB", "SalUn", "BadTeacher", "DLFD"}
    of_originals.add("DLFD (published)")
    for domain, said in {"speeches-long": ".58 to .91", "ecg-long": ".59 to .88"}.items():
        found = [auc for (d, name, _), auc in aucs.items() if d == domain and name in of_originals]
        assert f"{min(found)} to {max(found)}" == said
        assert said in flat("README.md")
        assert said in flat("docs/choosing.rst")
        fresh = [
            a for (d, name, _), a in aucs.items() if d == domain and name.startswith("Retrain (")
        ]
        assert max(fresh) <= ".51"
    dial = rows_of("dial-speeches-long")
    for epochs in ("3", "6", "12"):
        row = {
            row["noise"]: short(row["u_lira_auc"])
            for row in dial
            if (row["part"], row["method"], row["epochs"]) == ("attack", "Distill", epochs)
        }
        cells = " ".join(row[noise] for noise in ("1", "0.9", "0.8", "0.7", "0.5", "0.3"))
        assert f"{epochs} epochs {cells}" in page


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("labels (a shorter training)", "Retrain (shortened)"),
        ("smoothed labels", "label smoothing"),
        ("outputs of another row of the class", "another row"),
        ("the original's outputs", "Distill"),
        ("a retrained network's outputs", "retrained teacher"),
    ],
)
def test_controls_of_distill_in_prose_are_those_of_the_tables(name, method):
    def mean(domain, epochs):
        rows = [
            float(row["relative_js_distance"])
            for row in rows_of(f"dial-{domain}")
            if (row["method"], row["epochs"]) == (method, epochs)
            and row["noise"] in ("1", "")
            and "attack" not in row["part"]
        ]
        return short(sum(rows) / len(rows))

    cells = " ".join(f"{mean(domain, '6')}, {mean(domain, '12')}" for domain in LONG)
    assert f"{name} {cells}" in flat("docs/user_guide/methods/distill.rst")


def test_the_dial_of_the_heart_beats_in_prose_is_that_of_the_table():
    page, rows = flat("docs/user_guide/methods/distill.rst"), rows_of("dial-ecg-long")
    for epochs in ("3", "6", "12"):
        row = {
            row["noise"]: short(row["u_lira_auc"])
            for row in rows
            if (row["part"], row["method"], row["epochs"]) == ("attack", "Distill", epochs)
        }
        cells = " ".join(row[noise] for noise in ("1", "0.9", "0.8", "0.7", "0.5", "0.3"))
        assert f"heart beats, {epochs} epochs {cells}" in page


def test_what_else_a_student_was_told_is_as_the_table_has_it():
    page = flat("docs/user_guide/methods/distill.rst")
    found = {
        row["method"]: short(row["u_lira_auc"])
        for row in rows_of("dial-speeches-long")
        if row["part"] == "attacked control" and row["epochs"] == "6"
    }
    less, pushed = found["unlearned teacher, less noise"], found["pushed rows"]
    assert f"the AUC of U-LiRA is {less} (.56 to .59)" in page
    assert f"U-LiRA does not find it either ({found['temperature 4']})" in page
    assert f"and leaks ({pushed}; with random signs" in page
    assert f".09 and {found['pushed rows: random signs']}, towards them" in page
    assert f".17 and {found['pushed rows: reversed']})" in page
