"""The package as a whole: what importing it costs, and what it lists."""

import re
import subprocess
import sys
from pathlib import Path

import skunlearn


def test_importing_loads_nothing_that_skorch_does_not():
    code = (
        "import sys, skorch; before = set(sys.modules); import skunlearn; "
        "print(*sorted(set(sys.modules) - before))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    added = {name.split(".")[0] for name in printed.stdout.split()}
    assert added <= {"skunlearn", "sklearn"}, printed.stderr
    assert {name for name in printed.stdout.split() if name.startswith("sklearn")} <= {
        "sklearn.dummy",
        "sklearn.frozen",
        "sklearn.frozen._frozen",
    }


def test_every_public_name_is_there_and_documented():
    for name in skunlearn.__all__:
        assert getattr(skunlearn, name).__doc__


def test_all_unlearners_are_sorted_and_can_be_made():
    listed = skunlearn.all_unlearners()
    assert [name for name, _ in listed] == sorted(name for name, _ in listed)
    assert {"DLFD", "FineTune", "NegGrad", "Retrain"} <= {name for name, _ in listed}
    assert "BaseUnlearner" not in dict(listed)
    for name, cls in listed:
        assert cls.__name__ == name
        assert cls.needs <= {"original", "retain", "forget", "forget_labels", "val"}


def test_the_readme_says_what_each_method_needs():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in readme.splitlines() if line.startswith("| `")]
    table = {row[1].strip(" `"): [mark.strip() == "✓" for mark in row[4:7]] for row in rows}
    assert table == {
        name: [need in cls.needs for need in ("retain", "forget", "forget_labels")]
        for name, cls in skunlearn.all_unlearners()
    }


def test_the_oldest_versions_that_are_declared_are_those_that_are_tested():
    root = Path(__file__).parents[1]
    declared = (root / "pyproject.toml").read_text().partition("docs = [")[0]
    floors = dict(re.findall(r'"([A-Za-z-]+)>=([\d.]+)"', declared))
    tested = dict(
        re.findall(r"^([A-Za-z-]+)==([\d.]+)$", (root / "constraints-oldest.txt").read_text(), re.M)
    )
    assert {"numpy", "scikit-learn", "skorch", "torch"} <= set(tested) <= set(floors)
    for name, version in tested.items():
        assert version.startswith(floors[name]), name
        assert set(version[len(floors[name]) :]) <= set(".0"), name
