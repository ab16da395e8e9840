"""The layers of the package: imports run downwards, and what is private stays in its layer."""

import ast
import inspect
from pathlib import Path

import pytest

import skunlearn
from skunlearn import BaseUnlearner

ROOT = Path(skunlearn.__file__).parent

#: The layers, from the top; each imports from those below it and from itself.
LAYERS = (
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


def layer_of(module):
    """The layer of a module; None for the package itself."""
    return (module.split(".") + [None])[1]


def arrows():
    """Every import within the package: who imports, from which module, which name."""
    for module, path in modules():
        for source, name in imports(path):
            if f"{source}.{name}" in NAMES:  # the module itself is imported
                source, name = f"{source}.{name}", None
            yield module, source, name


def test_every_layer_is_on_the_list():
    assert {layer_of(name) for name in NAMES} - {None} == set(LAYERS)


def test_imports_run_downwards():
    upwards = [
        (module, source)
        for module, source, _ in arrows()
        if layer_of(module) is not None
        and layer_of(module) != layer_of(source)
        and (
            layer_of(source) is None
            or LAYERS.index(layer_of(module)) > LAYERS.index(layer_of(source))
        )
    ]
    assert not upwards


def test_no_layer_has_a_circle():
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


def test_what_is_private_stays_in_its_layer():
    """`_engine` is for all layers, but the private names in it are for it alone."""
    taken = []
    for module, source, name in arrows():
        if layer_of(module) == layer_of(source):
            continue
        inside = source.split(".")[2:] if layer_of(source) else []
        if any(is_private(part) for part in inside) or is_private(name):
            taken.append((module, source, name))
    assert not taken


#: What other layers may call of an unlearner that is not public, of the protected contract.
PROTECTED = {"_needs", "_networks", "_start_from", "_to_codes"}

#: What `_engine`, which knows no unlearner, calls of one that it is given.
CALLED_BACK = {
    ("skunlearn._engine.validation", "_check_classes"),  # whose arguments `Given` checks
    ("skunlearn._engine.predict", "_log_proba"),  # which returns None where it knows none
}


def members(tree):
    """Private names that objects of the classes of a module have."""
    for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(cls):
            if isinstance(node, ast.FunctionDef):
                yield node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.attr


def accesses(tree):
    """Every attribute that is read or written, by its name or by a string: whose, and which."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.value, node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            called = getattr(node.func, "id", getattr(node.func, "attr", None))
            given = getattr(node.args[1], "value", None)
            if called in ("getattr", "hasattr", "setattr", "delattr"):
                yield node.args[0], given if isinstance(given, str) else ""


def bound_modules(tree):
    """What names stand for modules of the package, and for which."""
    bound = {"skunlearn": "skunlearn"}
    for node in ast.walk(tree):
        for alias in getattr(node, "names", ()) if isinstance(node, ast.ImportFrom) else ():
            if f"{node.module}.{alias.name}" in NAMES:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for alias in getattr(node, "names", ()) if isinstance(node, ast.Import) else ():
            if alias.asname and alias.name in NAMES:
                bound[alias.asname] = alias.name
    return bound


def resolved(value, bound):
    """The module that an expression stands for, if it is one of the package."""
    first, *others = ast.unparse(value).split(".")
    name = ".".join([bound.get(first, ""), *others])
    return name if name in NAMES else None


def private_accesses(sources):
    """Private attributes of what belongs to another layer: module and name; of given sources."""
    trees = {module: ast.parse(text) for module, text in sources.items()}
    owners = {}
    for module, tree in trees.items():
        for name in filter(is_private, members(tree)):
            owners.setdefault(name, set()).add(layer_of(module))
    for module, tree in trees.items():
        bound = bound_modules(tree)
        for value, name in accesses(tree):
            if not is_private(name):
                continue
            source = resolved(value, bound)
            if source is not None:
                if layer_of(source) != layer_of(module):
                    yield module, name
            elif (
                ast.unparse(value) not in ("self", "cls", "super()")
                and name in owners
                and layer_of(module) not in owners[name]
                and name not in PROTECTED
            ):
                yield module, name


SOURCES = {module: path.read_text(encoding="utf-8") for module, path in modules()}


def test_private_attributes_stay_in_their_layer():
    """An object of another layer is used by its public names, or by the protected contract."""
    assert set(private_accesses(SOURCES)) == CALLED_BACK


def test_the_protected_contract_is_documented():
    for name in PROTECTED:
        assert inspect.getdoc(getattr(BaseUnlearner, name)), name


@pytest.mark.parametrize(
    ("module", "line", "name"),
    [
        ("skunlearn.evaluation._seed", "def f(model):\n    model._carry_out(1)", "_carry_out"),
        ("skunlearn.evaluation._seed", "def f(model):\n    model._cost = 1", "_cost"),
        ("skunlearn.metrics._rows", "def f(u):\n    u.inner._check_task(1)._fit(2)", "_fit"),
        ("skunlearn.utils._discovery", "getattr(object, '_template', None)", "_template"),
        (
            "skunlearn.evaluation.report",
            "import skunlearn.metrics\nskunlearn.metrics._rows",
            "_rows",
        ),
        ("skunlearn.inspection._loss", "from skunlearn import transport as t\nt._f(1)", "_f"),
    ],
)
def test_a_private_attribute_taken_across_layers_is_found(module, line, name):
    assert (module, name) in set(private_accesses(SOURCES | {module: line}))


def test_no_module_is_imported_by_a_string():
    """Which the other tests do not see; packages make what they contain reachable in this way."""
    found = {
        (module, ast.unparse(node))
        for module, text in SOURCES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
        and "skunlearn" in ast.unparse(node)
    }
    assert {module for module, _ in found} == {"skunlearn", "skunlearn.utils"}


@pytest.mark.parametrize("module", ["skunlearn.methods.dlfd", "skunlearn._engine.run"])
def test_the_test_sees_imports(module):
    """That it is not green because it reads nothing."""
    assert sum(source == module for _, source, _ in arrows()) > 0


def test_a_long_file_says_why_it_is_long():
    for path in sorted(ROOT.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 500 or "over 500 lines because" in "".join(lines[:6]), path
