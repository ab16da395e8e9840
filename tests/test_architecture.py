"""The rooms of the package: imports run downwards, and what is private stays in its room."""

import ast
from pathlib import Path

import pytest

import skunlearn

ROOT = Path(skunlearn.__file__).parent

#: The rooms, from the top; each imports from those below it and from itself.
ROOMS = (
    "utils",
    "evaluation",
    "methods",
    "inspection",
    "callbacks",
    "pipeline",
    "metrics",
    "model_selection",
    "base",
    "features",
    "transport",
    "datasets",
    "_engine",
)


def modules():
    """Every module of the package, by name."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(path):
    """What a module imports from the package: pairs of a module and a name, or None for all."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} has a relative import"
            if node.module.split(".")[0] == "skunlearn":
                yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "skunlearn":
                    yield alias.name, None


NAMES = {name for name, _ in modules()}


def room(module):
    """The room of a module; None for the package itself."""
    return (module.split(".") + [None])[1]


def arrows():
    """Every import within the package: who imports, from which module, which name."""
    for module, path in modules():
        for source, name in imports(path):
            if f"{source}.{name}" in NAMES:  # the module itself is imported
                source, name = f"{source}.{name}", None
            yield module, source, name


def test_every_room_is_on_the_list():
    assert {room(name) for name in NAMES} - {None} == set(ROOMS)


def test_imports_run_downwards():
    upwards = [
        (module, source)
        for module, source, _ in arrows()
        if room(module) is not None
        and room(module) != room(source)
        and (room(source) is None or ROOMS.index(room(module)) > ROOMS.index(room(source)))
    ]
    assert not upwards


def test_no_room_has_a_circle():
    graph = {}
    for module, source, _ in arrows():
        graph.setdefault(module, set()).add(source)
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for source in graph.get(module, ()):
                visit(source, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def is_private(name):
    return name is not None and name.startswith("_") and not name.startswith("__")


def test_what_is_private_stays_in_its_room():
    """`_engine` is for all rooms, but the private names in it are for it alone."""
    taken = []
    for module, source, name in arrows():
        if room(module) == room(source):
            continue
        inside = source.split(".")[2:] if room(source) else []
        if any(is_private(part) for part in inside) or is_private(name):
            taken.append((module, source, name))
    assert not taken


@pytest.mark.parametrize("module", ["skunlearn.methods.dlfd", "skunlearn._engine.run"])
def test_the_test_sees_imports(module):
    """That it is not green because it reads nothing."""
    assert sum(source == module for _, source, _ in arrows()) > 0


def test_a_long_file_says_why_it_is_long():
    for path in sorted(ROOT.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 500 or "over 500 lines because" in "".join(lines[:6]), path
