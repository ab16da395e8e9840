"""The pages of the documentation say what is so: their code runs, and no public name is missing."""

import ast
import doctest
import inspect
import pkgutil
import re
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import skunlearn
from tests.test_typing import FUNCTIONS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for folder in (".", "howto", "user_guide", "user_guide/methods")
    for path in (DOCS / folder).glob("*.rst")
)
OPTIONAL = (
    "accelerate",
    "distributed",
    "onnx",
    "onnxruntime",
    "pandas",
    "peft",
    "safetensors",
    "transformers",
)
ROUGHLY = doctest.register_optionflag("ROUGHLY")


class Checker(doctest.OutputChecker):
    """Compares numbers that another machine may round otherwise, where a line says ROUGHLY."""

    def check_output(self, want, got, flags):
        if flags & ROUGHLY:
            number = r"-?\d+\.\d+"
            pairs = list(zip(re.findall(number, want), re.findall(number, got)))
            if all(abs(float(theirs) - float(ours)) <= 0.25 for theirs, ours in pairs):
                want, got = (re.sub(number, "0.0", text) for text in (want, got))
        return super().check_output(want, got, flags)


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile's
@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in text_of(page)])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    needed = r"^>>> (?:from|import) (" + "|".join(OPTIONAL) + r")\b"
    for package in set(re.findall(needed, text_of(page), re.M)):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)  # where pages write what they write
    module = ModuleType("__main__")  # a script, whose classes can be pickled, for workers too
    monkeypatch.setitem(sys.modules, "__main__", module)
    test = doctest.DocTestParser().get_doctest(text_of(page), {}, page, str(DOCS / page), 0)
    test.globs = vars(module)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.DocTestRunner(Checker(), optionflags=options).run(test)
    assert tried
    assert not failed


def test_pages_that_count_the_methods_count_all():
    words = {"sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20}
    for page in ("../README.md", "index.rst", "user_guide/index.rst"):
        found = re.findall(rf"\b({'|'.join(words)})\b(?= methods| of them)", text_of(page).lower())
        assert {words[word] for word in found} == {len(skunlearn.all_unlearners())}, page


def test_the_reference_has_every_public_name():
    wanted = {}
    for name in ["skunlearn"] + [
        module.name for module in pkgutil.walk_packages(skunlearn.__path__, "skunlearn.")
    ]:
        if "._" in name:
            continue
        module = import_module(name)
        things = {n: getattr(module, n) for n in getattr(module, "__all__", ())}
        things |= {
            n: cls
            for n, cls in inspect.getmembers(module, inspect.isclass)
            if cls.__module__ == name and n[0] != "_"
        }
        for n, thing in things.items():
            wanted.setdefault(thing, f"{name}.{n}")
    found, module = [], None
    for line in text_of("api.rst").splitlines():
        if re.match(r"\.\. (current)?module:: ", line):
            module = import_module(line.split()[-1])
        elif re.fullmatch(r"   \w+", line):
            found.append(getattr(module, line.strip()))
    assert len(found) == len(set(found))
    missing = {name for thing, name in wanted.items() if thing not in found}
    assert not missing


def said(node, names):
    """The constant parts of a message, joined; `_` for what is filled in and cannot be told."""
    if isinstance(node, ast.JoinedStr):
        return "".join(said(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return said(node.value, names)
    if isinstance(node, ast.BinOp):
        return said(node.left, names) + said(node.right, names)
    if isinstance(node, ast.IfExp):
        return said(node.body, names) + said(node.orelse, names)
    if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "format":
        return said(node.func.value, names)
    if isinstance(node, ast.Name):
        return names.get(node.id, "_")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "_"


def messages(tree):
    """The warnings and errors of a module, as (function, text); what a name may say is read too."""
    around = {}
    for function in ast.walk(tree):  # an inner function comes after the one around it
        if isinstance(function, ast.FunctionDef):
            around |= dict.fromkeys(ast.walk(function), function)
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else node
        name = getattr(call, "func", None)
        is_warning = getattr(name, "attr", getattr(name, "id", None)) in ("warn", "warn_explicit")
        if isinstance(call, ast.Call) and call.args and (is_warning or call is not node):
            function, names = around.get(node), {}
            for assigned in ast.walk(function) if function else ():
                if isinstance(assigned, ast.Assign) and isinstance(assigned.targets[0], ast.Name):
                    target = assigned.targets[0].id
                    names[target] = names.get(target, "") + said(assigned.value, names)
            yield getattr(function, "name", ""), said(call.args[0], names)


def test_every_parameter_is_set_in_a_document():
    """By a page, an example or a docstring.

    Not those of what others make: skorch, which calls a callback; a request; a display's `from_`.
    """
    root = DOCS.parent
    shown = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.rst")]
    shown += [path.read_text(encoding="utf-8") for path in (root / "examples").glob("*.py")]
    shown += [
        ast.get_docstring(node) or ""
        for path in (root / "skunlearn").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    ]
    known = set(re.findall(r"\b(\w+)(?:=(?!=)|\":)", "\n".join(shown)))
    unset = {
        (name, parameter.name)
        for name, function in FUNCTIONS.items()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is not parameter.empty and parameter.name not in known
        if not name.endswith("Display.__init__") and ".on_" not in name and ".Rows." not in name
    }
    # It is scikit-learn's, and says which checks an estimator of one's own is known to fail.
    place = "skunlearn.utils.estimator_checks.parametrize_with_unlearning_checks"
    assert unset == {(place, "expected_failed_checks")}


#: Where a message is handed on that another function has worded, or the system.
HANDED_ON = {
    ("_engine/files.py", "write_new"),
    ("_engine/validation.py", "warn"),
    ("evaluation/_request_run.py", "_note"),
    ("evaluation/_request_run.py", "_refuse_or_warn"),
    ("evaluation/_returns.py", "raise_returned"),
    ("evaluation/requests.py", "_written"),
}


def unanswered(source, listed):
    """Functions and texts of the messages of a module that the page of questions does not have."""
    return [
        (function, text)
        for function, text in messages(ast.parse(source))
        if not any(part in text for part in listed)
        and not re.search(r"\bmust\b.*\bgot\b", text)  # all have one entry
    ]


def listed_messages():
    table = text_of("faq.rst").split("What it says, and where the answer is")[1]
    return re.findall(r"^   \* - ``(.+)``$", table, re.M)


def test_the_page_of_questions_has_every_warning_and_error_of_the_package():
    root, listed = Path(skunlearn.__file__).parent, listed_messages()
    handed_on, missing, strings = set(), [], []
    for path in sorted(root.rglob("*.py")):
        name, source = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        strings += [
            said(node, {})
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.JoinedStr | ast.Constant)
        ]
        if name.startswith("utils/estimator_checks/"):  # says what is wrong with a user's class
            continue
        for function, text in unanswered(source, listed):
            if re.search(r"[a-z]", text):
                missing.append((name, function, text))
            else:
                handed_on.add((name, function))
    assert missing == []
    assert handed_on == HANDED_ON
    assert [part for part in listed if not any(part in text for text in strings)] == []


@pytest.mark.parametrize(
    "line",
    [
        "warnings.warn('this is new')",
        "warn(f'{x} is new')",
        "raise ValueError('this is new, ' + x)",
        "text = 'this is new'; warn(text.format(x), UserWarning)",
        "warn(x)",
    ],
)
def test_a_new_warning_or_error_is_noticed(line):
    source = f"def function(x):\n    {line}\n"
    assert [function for function, _ in unanswered(source, listed_messages())] == ["function"]


def test_entries_that_messages_point_to_are_there():
    page = text_of("faq.rst")
    named = set(re.findall(r"`(faq-\w+)`", page))
    assert len(named) > 10
    assert named <= set(re.findall(r"^\.\. _(faq-\w+):$", page, re.M))


def test_front_pages_begin_with_a_method_that_the_chooser_names_for_a_poisoned_batch():
    chosen = " ".join(text_of("choosing.rst").split())
    (first,) = re.findall(r"begin with a shorter training, then (.+?);", chosen)
    for page in ("../README.md", "index.rst", "start.rst"):
        method = re.search(r"unlearner = (\w+)\(", text_of(page)).group(1)
        assert method in first, page


def test_examples_are_listed_in_the_order_of_the_gallery():
    pytest.importorskip("PIL")
    order = runpy.run_path(str(DOCS / "gallery.py"))["ORDER"]
    examples = DOCS.parent / "examples"
    header = (examples / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
    assert list(order) == re.findall(r"^\d+\. .*plot_(\w+)\.py`: \w", header, re.M)
    assert sorted(order) == sorted(p.stem.removeprefix("plot_") for p in examples.glob("plot_*.py"))


@pytest.mark.parametrize("size", [(730, 980), (800, 300), (400, 280)])
def test_a_thumbnail_is_the_left_upper_part_of_its_plot(size):
    Image = pytest.importorskip("PIL.Image")
    plot = Image.new("RGB", size, "white")
    plot.putpixel((0, 0), (0, 0, 0))
    thumbnail = runpy.run_path(str(DOCS / "gallery.py"))["crop"](plot, (400, 280))
    assert thumbnail.size == (400, 280)
    scale = min(size[0] / 400, size[1] / 280)
    assert thumbnail.getpixel((0, 0)) != thumbnail.getpixel((399, 279))
    assert scale <= 2  # its text is at least half as large as in the plot


def test_the_tables_of_the_site_are_whole():
    drawn = runpy.run_path(str(DOCS / "drawn.py"))
    tables = [drawn["choosing_table"](name, drawn[name.upper()]) for name in ("long", "short")]
    for table in [*tables, drawn["seconds_table"]()]:
        rows = re.split(r"^   \* ", table, flags=re.M)[1:]
        assert len(rows) > 5
        assert len({row.count("- ") for row in rows}) == 1


def inventories():
    """What the site can link to in other projects, by project: (kind, name, place)."""
    read = runpy.run_path(str(DOCS / "inventories.py"))["read"]
    names = sorted(path.stem for path in (DOCS / "inventories").glob("*.txt"))
    return {name: read(name)[1] for name in names}


def test_what_the_inventories_list_is_there():
    for project, entries in inventories().items():
        names = [name for _, name, _ in entries]
        assert len(names) == len(set(names))
        for kind, name, place in entries:
            assert place.endswith(f"#{name}")
            if project != "matplotlib" or find_spec("matplotlib"):
                is_class = isinstance(pkgutil.resolve_name(name), type)
                assert is_class == (kind in ("class", "exception")), name


def test_links_to_other_projects_are_in_the_inventories():
    listed = {name for entries in inventories().values() for _, name, _ in entries}
    projects = "|".join(inventories())
    role = rf":(?:class|func|meth|exc|obj):`~?((?:{projects})\.[\w.]+)`"
    beside = rf"^ {{4,}}((?:{projects})\.[\w.]+) :"  # in a section See Also
    files = [*DOCS.rglob("*.rst"), *Path(skunlearn.__file__).parent.rglob("*.py")]
    files += (DOCS.parent / "examples").glob("*.py")
    built = {"auto_examples", "generated", "study"}
    files = [path for path in files if not built & set(path.parts)]
    found = {
        name
        for path in files
        for name in re.findall(f"{role}|{beside}", path.read_text(encoding="utf-8"), re.M)
        for name in name
        if name
    }
    assert len(found) > 30
    assert found - listed == set()
