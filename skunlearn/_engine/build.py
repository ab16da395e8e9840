"""The parts of skorch networks: read, copied and put together."""

import contextlib
from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from skunlearn._engine.predict import plain

#: What the data says of a module, where the user has not.
SIZES = ("module__n_features_in", "module__n_classes", "module__input_shape")


def configure(net, settings):
    """Set parameters of a network that is not initialised yet, dropping those they contradict."""
    if "optimizer" in settings:  # optimizer__... were meant for the optimiser that is replaced
        for name in [name for name in vars(net) if name.startswith("optimizer__")]:
            delattr(net, name)
    for name, inner in [("lr", "optimizer__lr"), ("batch_size", "iterator_train__batch_size")]:
        if name in settings and hasattr(net, inner):
            delattr(net, inner)
    return net.set_params(**settings)


def settings_of_copy(template, net):
    """What a copy of a trained network is told: its sizes; to shuffle, unless the user says how."""
    settings = {name: getattr(net, name) for name in SIZES if hasattr(net, name)}
    ways = ("shuffle", "sampler", "batch_sampler")
    if not any(hasattr(template, f"iterator_train__{way}") for way in ways):
        settings["iterator_train__shuffle"] = True
    return settings


def parts_of(net):
    """The modules and criteria of a fitted network, by name; what skorch has compiled as it was."""
    unwrap = plain if net.compile else lambda part: part
    return {
        kind: {name: unwrap(getattr(net, f"{name}_")) for name in getattr(net, f"_{kind}")}
        for kind in ("modules", "criteria")
    }


def plain_parts(net):
    """The modules and criteria of a fitted network, by name, none of them compiled."""
    return {
        kind: {name: plain(part) for name, part in parts.items()}
        for kind, parts in parts_of(net).items()
    }


def assemble(template, parts, n_classes, **settings):
    """An initialised network with the template's settings and the given modules and criteria."""
    # skorch trains an instance that it was given in place: the template's holds the original's
    # weights, and its successor is the part of the same name.
    module = getattr(template, "module_", nn.Module())
    names = {id(part): name for name, part in plain(module).named_modules()} | {id(module): ""}
    params = {
        name: plain(parts["modules"]["module"]).get_submodule(names[id(value)])
        if id(value) in names
        else value
        if isinstance(value, nn.Module)
        else clone(value, safe=False)
        for name, value in template.get_params(deep=False).items()
    }
    net = type(template)(**params)
    configure(net, settings)

    # What skorch calls to make a module or criterion returns the one that is there.
    given = {name: part for kind in parts.values() for name, part in kind.items()}
    known = {name: part for name, part in given.items() if name in params}
    with attributes(net, {name: partial(_made, part) for name, part in known.items()}):
        net.initialize()
    # A class of the user's may make others besides, or wrap them.
    others = [
        name
        for name, part in given.items()
        if all(at is not part for at in _unwraps(getattr(net, f"{name}_")))
    ]
    for name in others:
        part = given[name]
        setattr(net, f"{name}_", net.torch_compile(part, name=name) if net.compile else part)
    if others and hasattr(net, "optimizer_"):
        net.initialize_optimizer()
    net.classes_inferred_ = np.arange(n_classes)
    return net


def _made(part, **params):
    return part


def _unwraps(part):
    """A module, and those that torch or an Accelerator has wrapped it around."""
    while part is not None:
        yield part
        part = getattr(part, "_orig_mod", None) or (
            part.module if isinstance(part, nn.parallel.DistributedDataParallel) else None
        )


@contextlib.contextmanager
def attributes(net, values):
    """Set parameters of a network for a moment."""
    before = {name: vars(net)[name] for name in values if name in vars(net)}
    vars(net).update(values)
    try:
        yield
    finally:
        for name in values:
            del vars(net)[name]
        vars(net).update(before)


def tensors_of(value):
    """The tensors and arrays in an attribute of a module, in containers too."""
    if isinstance(value, torch.Tensor | np.ndarray):
        yield value
    elif isinstance(value, Mapping | list | tuple | deque):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_of(inner)


def attributes_of(parts):
    """Where modules hold tensors that are neither parameters nor buffers: (module, name) pairs."""
    own = ("_modules", "_parameters", "_buffers")
    return [
        (module, name)
        for module in modules_of(parts)
        for name, value in vars(module).items()
        if name not in own and any(True for _ in tensors_of(value))
    ]


def without_graphs(parts):
    """A memo for `deepcopy` of modules that leaves out what a forward pass left there.

    torch refuses to copy a tensor that a graph hangs on, and one that a module keeps for a plot is
    made of the rows that went through it. The old `weight_norm` computes its own at each pass.
    """
    return {
        id(t): t.new_zeros(t.shape)
        for module, name in attributes_of(parts)
        for t in tensors_of(vars(module)[name])
        if isinstance(t, torch.Tensor) and not t.is_leaf
    }


def copy_parts(parts):
    """A deep copy of the modules and criteria of a network, without what has a graph."""
    return deepcopy(parts, without_graphs(parts))


def modules_of(parts):
    """All modules of a network's modules and criteria, in a fixed order."""
    parts = (part for kind in parts.values() for part in kind.values())
    return [m for part in parts if isinstance(part, nn.Module) for m in part.modules()]
