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


def said(node):
    """The constant parts of a message, joined; `_` for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(said(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return said(node.left) + said(node.right)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "_"


def messages():
    """All strings of the package, and of these the ones that are warnings, as (file, text)."""
    every, warnings = [], []
    for path in sorted(Path(skunlearn.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                every.append(said(node))
            name = getattr(node, "func", None)
            if getattr(name, "attr", getattr(name, "id", None)) == "warn":
                warnings.append((path.name, said(node.args[0])))
    # A warning that another function has worded is among the strings of that one.
    return every, [(name, text) for name, text in warnings if text != "_"]


def test_the_page_of_questions_knows_the_messages_of_the_package():
    table = text_of("faq.rst").split("What it says, and where the answer is")[1]
    listed = re.findall(r"^   \* - ``(.+)``$", table, re.M)
    every, warnings = messages()
    assert len(warnings) >= 8
    assert [part for part in listed if not any(part in text for text in every)] == []
    missing = [(name, text) for name, text in warnings if not any(part in text for part in listed)]
    assert missing == []


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
