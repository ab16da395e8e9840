"""The annotations: every public name has them, they say what is accepted, and mypy reads them."""

import ast
import importlib.util
import inspect
import pkgutil
import re
import runpy
import subprocess
import sys
import tempfile
import typing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpydoc.docscrape import NumpyDocString
from skorch.history import History

import skunlearn
from skunlearn import DLFD, SISA, AdvancedNegGrad, Distill, unlearning_report
from skunlearn.datasets import fetch_cmu_faces, make_identity_images
from skunlearn.evaluation import RequestLog, compare_unlearners, relearning_time
from skunlearn.inspection import FeatureDistributionDisplay, UnlearningCurveDisplay
from skunlearn.metrics import attack_signal, change_signal, get_scorer
from skunlearn.transport import transport_distance

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "tests" / "typing"


def public_modules():
    found = pkgutil.walk_packages(skunlearn.__path__, "skunlearn.")
    names = ["skunlearn", *(module.name for module in found)]
    return [importlib.import_module(name) for name in names if "._" not in name]


def functions_of(cls):
    """The constructor, public methods and properties that a class of the package itself defines."""
    for name, member in vars(cls).items():
        member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        member = member.fget if isinstance(member, property) else member
        member = inspect.unwrap(member) if inspect.isfunction(member) else member  # of set_output
        if inspect.isfunction(member) and (
            name in ("__init__", "__call__", "__len__", "__getitem__") or name[0] != "_"
        ):
            yield f"{cls.__module__}.{cls.__qualname__}.{name}", member


def public_functions():
    """Every public function, method and property, by name."""
    found = {}
    for module in public_modules():
        listed = getattr(module, "__all__", None)
        for name, member in inspect.getmembers(module):
            here = getattr(member, "__module__", None) == module.__name__ and name[0] != "_"
            if not (here if listed is None else name in listed):
                continue
            if inspect.isclass(member):
                ours = [cls for cls in member.__mro__ if cls.__module__.startswith("skunlearn.")]
                found.update(pair for cls in ours for pair in functions_of(cls))
            elif inspect.isfunction(member):
                found[f"{member.__module__}.{name}"] = member
    return {
        name: function
        for name, function in found.items()
        # What a NamedTuple or a dataclass makes itself has no source in the package.
        if function.__code__.co_filename.startswith(str(Path(skunlearn.__file__).parent))
    }


FUNCTIONS = public_functions()


def type_checking_names(module):
    """What only a type checker sees of a module."""
    names = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), names)
    names.pop("__builtins__", None)
    return names


def hints_of(function):
    module = sys.modules[function.__module__]
    return typing.get_type_hints(function, vars(module) | type_checking_names(module))


def choices_in(hint):
    """The values of the Literals of an annotation."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return {choice for part in typing.get_args(hint) for choice in choices_in(part)}


def test_the_test_sees_the_public_surface():
    assert "skunlearn.metrics._scores.nomus_score" in FUNCTIONS
    assert "skunlearn.methods.dlfd.DLFD.__init__" in FUNCTIONS
    assert "skunlearn.base.BaseUnlearner.unlearn" in FUNCTIONS
    assert "skunlearn.features.FeatureExtractor.transform" in FUNCTIONS
    assert "skunlearn.metrics._collapse.CorrelationCollapse.table" in FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_and_return_is_annotated(name):
    function = FUNCTIONS[name]
    signature = inspect.signature(function)
    bare = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    assert not bare
    assert signature.return_annotation is not signature.empty
    assert hints_of(function).keys() == signature.parameters.keys() - {"self", "cls"} | {"return"}


def test_a_literal_has_the_choices_that_the_docstring_has():
    """Where a docstring lists choices, ``{"a", "b"}``, the annotation has them, and no others."""
    compared = 0
    for name, function in FUNCTIONS.items():
        doc = function.__doc__
        if name.endswith(".__init__"):
            module, _, cls = name.removesuffix(".__init__").rpartition(".")
            doc = getattr(sys.modules[module], cls).__doc__
        hints = hints_of(function)
        for parameter in NumpyDocString(inspect.cleandoc(doc or ""))["Parameters"]:
            listed = re.match(r"\{(.*?)\}", parameter.type.replace("\\\n", ""), re.S)
            documented = set(ast.literal_eval(f"[{listed[1]}]")) if listed else set()
            for each in parameter.name.split(", "):
                if documented or choices_in(hints.get(each)):
                    quoted = set(re.findall(r'"(\w+)"', parameter.type.partition("default=")[0]))
                    assert choices_in(hints[each]) == documented | quoted, (name, each)
                    compared += 1
    assert compared > 10


def test_a_type_checker_sees_the_modules_that_are_imported_when_asked_for():
    assert type_checking_names(skunlearn).keys() == set(skunlearn._SUBPACKAGES)


def hyperparameter(cls, name):
    return lambda value: cls(None, **{name: value})._check_hyperparameters()


def history():
    history = History()
    history.new_epoch()
    history.record("loss", 0.5)
    history.new_batch()
    history.record_batch("loss", 0.5)
    return history


TWO, MASK = np.eye(2), np.array([True, False])
MANY = {"retain": np.random.default_rng(0).normal(size=(50, 3))}
MANY_LABELS = {"retain": np.arange(50) % 2}

#: Whatever has a Literal, by function and parameter, and a call with a value of it.
CALLS = {
    ("metrics._attacks.attack_signal", "signal"): lambda v: attack_signal(
        [0, 1], TWO, signal=v, labels=[0, 1]
    ),
    ("metrics._changes.change_signal", "signal"): lambda v: change_signal(
        [0, 1], TWO, TWO, signal=v, labels=[0, 1]
    ),
    ("metrics._scorers.get_scorer", "name"): get_scorer,
    ("transport.transport_distance", "method"): lambda v: transport_distance(
        torch.eye(2), torch.eye(2), method=v, generator=torch.Generator()
    ),
    ("methods.dlfd.DLFD.__init__", "transport"): hyperparameter(DLFD, "transport"),
    ("methods.dlfd.DLFD.__init__", "clip"): hyperparameter(DLFD, "clip"),
    ("methods.distill.Distill.__init__", "cache_teacher"): hyperparameter(Distill, "cache_teacher"),
    ("methods.ascent.AdvancedNegGrad.__init__", "loss_cap"): hyperparameter(
        AdvancedNegGrad, "loss_cap"
    ),
    ("methods.sisa._ensemble.SISA.__init__", "aggregate"): hyperparameter(SISA, "aggregate"),
    ("datasets._generators.make_identity_images", "n_channels"): lambda v: make_identity_images(
        2, 1, n_channels=v
    ),
    ("datasets._fetch.fetch_cmu_faces", "target"): lambda v: fetch_cmu_faces(
        target=v, data_home="nowhere", download_if_missing=False
    ),
    ("evaluation.relearning.relearning_time", "scoring"): lambda v: relearning_time(
        None, TWO, target=0, scoring=v
    ),
    ("evaluation.compare.compare_unlearners", "error_score"): lambda v: compare_unlearners(
        {}, TWO, [0, 1], forget=MASK, X_unseen=TWO, y_unseen=[0, 1], error_score=v
    ),
    ("evaluation.report.unlearning_report", "key"): lambda v: unlearning_report(
        SISA(None), TWO, [0, 1], forget=MASK, X_unseen=TWO, y_unseen=[0, 1], key=v
    ),
    ("evaluation.requests.RequestLog.unlearn", "on_return"): lambda v: asked(on_return=v),
    ("inspection._curve.UnlearningCurveDisplay.from_history", "level"): lambda v: (
        UnlearningCurveDisplay.from_history(history(), "loss", level=v)
    ),
    ("inspection._curve.UnlearningCurveDisplay.from_estimator", "level"): lambda v: (
        UnlearningCurveDisplay.from_estimator(
            SimpleNamespace(unlearning_history_=history()), "loss", level=v
        )
    ),
    ("inspection._features.FeatureDistributionDisplay.from_predictions", "projection"): lambda v: (
        FeatureDistributionDisplay.from_predictions(MANY, MANY_LABELS, projection=v)
    ),
}


def asked(**params):
    with tempfile.TemporaryDirectory() as folder:
        log = RequestLog(Path(folder, "log.jsonl"), key=bytes(16))
        log.unlearn(None, TWO, [0, 1], forget=MASK, request="a", X_unseen=TWO, **params)


#: Those that hand their choice on to one of the others.
HANDED_ON = {("inspection._features.FeatureDistributionDisplay.from_estimator", "projection")}


def literals():
    return {
        (name.removeprefix("skunlearn."), parameter): choices_in(hint)
        for name, function in FUNCTIONS.items()
        for parameter, hint in hints_of(function).items()
        if choices_in(hint)
    }


def test_every_literal_is_tried():
    assert literals().keys() - HANDED_ON == CALLS.keys()


@pytest.mark.parametrize(("function", "parameter"), CALLS)
def test_a_literal_has_the_choices_that_are_accepted(function, parameter):
    def complaint(value):
        try:
            CALLS[function, parameter](value)
        # What is not there, as rows, an archive or a package, is asked for after the choice.
        except (ValueError, TypeError, OSError, ImportError) as error:
            return str(error)
        return ""

    wrong = f"{parameter} must be"
    for choice in literals()[function, parameter]:
        assert wrong not in complaint(choice)
    assert wrong in complaint("nonsense")
    assert complaint(7)


def mypy(name):
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        f"tests/typing/{name}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout


def test_mypy_has_nothing_to_say_of_a_users_script():
    assert mypy("user_script.py") == ""


@pytest.mark.filterwarnings("ignore::UserWarning")  # of methods: it does not train for long
def test_a_users_script_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(SCRIPTS / "user_script.py"), run_name="__main__")
    assert "utility" in capsys.readouterr().out
    assert (tmp_path / "losses.png").exists()


def test_mypy_finds_in_wrong_calls_the_errors_that_they_list():
    lines = (SCRIPTS / "wrong.py").read_text(encoding="utf-8").splitlines()
    listed = {
        (number, code)
        for number, line in enumerate(lines, 1)
        if "# E: " in line
        for code in line.partition("# E: ")[2].split(", ")
    }
    found = re.findall(r":(\d+): error: .*\[([a-z-]+)\]$", mypy("wrong.py"), re.M)
    assert {(int(number), code) for number, code in found} == listed
