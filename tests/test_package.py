"""The package as a whole: what importing it costs, and what it lists."""

import math
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn

import skunlearn

ROOT = Path(__file__).parents[1]


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


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


def test_every_public_module_is_reachable_after_importing_the_package():
    public = [
        module.name
        for module in pkgutil.walk_packages(skunlearn.__path__, "skunlearn.")
        if "._" not in module.name
    ]
    assert {"skunlearn.utils.estimator_checks", "skunlearn.methods.sisa"} <= set(public)
    code = f"import skunlearn\nfor name in {public}: assert eval(name).__name__ == name, name"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in public:
        parent, _, last = name.rpartition(".")
        assert last in dir(sys.modules[parent]), name


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


def test_the_table_of_methods_says_what_each_needs():
    page = text_of("docs/user_guide/methods/index.rst")
    rows = re.findall(r"   \* - :class:`~skunlearn\.(\w+)`\n((?:     -.*\n)+)", page)
    table = {
        name: [cell.strip(" -") == "✓" for cell in cells.splitlines()[2:5]] for name, cells in rows
    }
    assert len(table) == len(rows)
    assert table == {
        name: [need in cls.needs for need in ("retain", "forget", "forget_labels")]
        for name, cls in skunlearn.all_unlearners()
    }


def test_the_readme_names_every_method_and_fits_on_three_screens():
    readme = text_of("README.md")
    for name, _ in skunlearn.all_unlearners():
        assert f"`{name}`" in readme
    # Of fifty lines of 120 characters, twenty of them for the plot.
    assert sum(max(1, math.ceil(len(line) / 120)) for line in readme.splitlines()) + 20 <= 150
    links = re.findall(r"\]\(((?!https?:)[^)#]+)\)", readme)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


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


def test_citation_and_metadata_agree():
    metadata, citation = text_of("pyproject.toml"), text_of("CITATION.cff")

    def declared(pattern, text):
        return re.search(pattern, text, re.M | re.S)[1]

    def quoted(text):
        return re.findall(r'"([^"]+)"', text)

    (title,) = quoted(declared(r"^title: (.+?)$", citation))
    name, description = quoted(
        declared(r'^(name = ".+?")$', metadata) + declared(r'^(description = ".+?")$', metadata)
    )
    assert title == f"{name}: {description[0].lower()}{description[1:]}"
    assert declared(r"^version: (\S+)$", citation) == skunlearn.__version__
    assert declared(r"^license: (\S+)$", citation) in quoted(
        declared(r"^(license = .+?)$", metadata)
    )
    authors = declared(r"^authors:\n(.+?)^\w", citation)
    assert quoted(authors) == quoted(declared(r"^authors = \[(.+?)\]$", metadata))
    keywords = declared(r"^keywords:\n(.+?)^\w", citation)
    assert re.findall(r"- (.+)", keywords) == quoted(declared(r"^keywords = \[(.+?)\]", metadata))
    address = re.search(r"^repository-code: \"?(.+?)\"?$", citation, re.M)
    urls = re.search(r"^\[project.urls\]\n(.+?)^\[", metadata, re.M | re.S)
    assert (address is None) == (urls is None)
    assert address is None or address[1] in urls[1]


def test_commands_and_files_that_are_named_exist():
    makefile = text_of("Makefile")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        ".ci/run",
        ".github/PULL_REQUEST_TEMPLATE.md",
        ".github/workflows/tests.yml",
    ):
        named = set(re.findall(r"(?:^|[`:&]|run:) *make ([a-z][\w-]*)", text_of(name), re.M))
        assert named, name
        assert named <= targets, name
    files = re.findall(r"\btests/[\w/]+(?:\.py)?", makefile)
    files += re.findall(r"\b(?:benchmarks|docs|examples)/[\w/]+\.py", makefile)
    places = re.findall(
        r"`((?:methods|_engine|evaluation|metrics|inspection|utils)/\w*(?:\.py)?)`",
        text_of("CONTRIBUTING.md"),
    )
    assert len(files) > 10
    assert len(places) > 10
    for path in [*files, *(f"skunlearn/{place}" for place in places)]:
        assert (ROOT / path).exists(), path


def test_show_versions_is_what_a_report_of_a_fault_asks_for(capsys):
    skunlearn.show_versions()
    printed = capsys.readouterr().out
    users = text_of("pyproject.toml").partition("test = [")[0]
    declared = re.findall(r'"([A-Za-z-]+)>=[\d.]+"', users.partition("requires-python")[2])
    assert {"torch", "filelock", "tqdm", "pandas"} <= set(declared)
    for name in ("python", "system", "skunlearn", *declared):
        assert re.search(rf"^{name}: +\S", printed, re.M), name
    assert "skunlearn.show_versions()" in text_of(".github/ISSUE_TEMPLATE/bug.yml")


def test_the_way_of_deprecation_works_for_a_class_and_a_parameter():
    (block,) = re.findall(r"^```python\n(.*?)^```", text_of("CONTRIBUTING.md"), re.M | re.S)
    names = {"__name__": "contributing"}
    place = Path(skunlearn.__file__).with_name("practise.py")  # as if it were in the package
    exec(compile(block, str(place), "exec"), names)
    net = NeuralNetClassifier(
        lambda n_features_in, n_classes: nn.Linear(n_features_in, n_classes),
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
    )
    X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    y, forget = (X[:, 0] > 0).astype(int), np.arange(40) < 10

    def epochs(unlearner):
        return len(unlearner.fit(X, y, forget=forget).unlearning_history_)

    assert epochs(names["Rehearse"](net, max_epochs=2)) == 2
    old = names["Rehearse"](net, n_epochs=3)
    assert clone(old).get_params(deep=False)["n_epochs"] == 3
    with pytest.warns(FutureWarning, match=r"n_epochs was renamed to max_epochs in 0\.3") as noted:
        assert epochs(old) == 3
    assert {warning.filename for warning in noted} == {__file__}  # where the user's code is
    with pytest.warns(FutureWarning, match="Practise was renamed to Rehearse"):
        practise = names["Practise"](net, max_epochs=1)
    assert epochs(practise) == 1
    with pytest.warns(FutureWarning, match="Practise was renamed to Rehearse"):
        assert clone(practise).max_epochs == 1
