"""The pages of the documentation say what is so: their code runs, and no public name is missing."""

import doctest
import inspect
import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import skunlearn

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for folder in (".", "user_guide", "user_guide/methods")
    for path in (DOCS / folder).glob("*.rst")
)


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in text_of(page)])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    needed = r"^>>> from (accelerate|distributed|safetensors) "
    for package in set(re.findall(needed, text_of(page), re.M)):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)  # where pages write what they write
    module = ModuleType("__main__")  # a script, whose classes can be pickled, for workers too
    monkeypatch.setitem(sys.modules, "__main__", module)
    test = doctest.DocTestParser().get_doctest(text_of(page), {}, page, str(DOCS / page), 0)
    test.globs = vars(module)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.DocTestRunner(optionflags=options).run(test)
    assert tried
    assert not failed


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
