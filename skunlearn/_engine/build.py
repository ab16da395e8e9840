"""Making, copying and re-initialising the skorch networks that unlearners work on."""

import contextlib
import inspect
from functools import partial

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from skunlearn._engine.predict import count_columns

SIZES = ("module__n_features_in", "module__n_classes", "module__input_shape")


def sizes_from_data(net, rows, n_classes):
    """Arguments that the module requires, the user left out, and the data can tell."""
    if isinstance(net.module, nn.Module):
        return {}
    shape = tuple(np.shape(rows[0][0]))
    known = dict(zip(SIZES, (shape[0] if shape else None, n_classes, shape)))
    wanted = {
        f"module__{name}"
        for name, parameter in inspect.signature(net.module).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    return {name: known[name] for name in SIZES if name in wanted and not hasattr(net, name)}


def trainable_instances(net):
    """Parameters of a network that hold modules with weights, where a class was asked for."""
    given = net.get_params(deep=False)
    if net.get_params_for("module"):
        given.pop("module")  # of which skorch then takes no more than the class
    return {
        name: value
        for name, value in given.items()
        if isinstance(value, nn.Module) and any(True for _ in value.parameters())
    }


def check_fresh(net):
    """Refuse module instances, for a clone starts from whatever weights they hold."""
    for name, value in trainable_instances(net).items():
        raise ValueError(
            f"estimator was built on a module instance, {name}={type(value).__name__}(...), so a "
            "clone of it starts from whatever weights the instance holds and cannot be trained "
            f"from scratch. Pass the module's class ({name}={type(value).__name__}), or a function "
            "that builds it; a network that is trained already goes in a FrozenEstimator."
        )


def check_samplers(net):
    """Refuse samplers of given rows: each run here has rows of its own."""
    loader = getattr(net.iterator_train, "keywords", {})
    given = {
        f"iterator_train__{name}": getattr(net, f"iterator_train__{name}", loader.get(name))
        for name in ("sampler", "batch_sampler")
    }
    for name, value in given.items():
        if value is not None and not callable(value):
            raise ValueError(
                f"{name} of estimator is a {type(value).__name__} made for certain rows, and an "
                "unlearning run has others: its weights would fall on the wrong ones. Pass a "
                "function that makes one of the encoded labels of the rows at hand, such as "
                f"{name}=lambda y: WeightedRandomSampler(1 / np.bincount(y)[y], len(y)). For a "
                f"network that is trained already, set net.{name}."
            )
    for name in ("sampler", "batch_sampler"):
        if getattr(net, f"iterator_valid__{name}", None) is not None:
            raise ValueError(
                f"iterator_valid__{name} of estimator must not be set: predictions would come in "
                "another order than their rows."
            )


def configure(net, settings):
    """Set parameters of a network that is not initialised yet, dropping those they contradict."""
    if "optimizer" in settings:  # optimizer__... were meant for the optimiser that is replaced
        for name in [name for name in vars(net) if name.startswith("optimizer__")]:
            delattr(net, name)
    for name, inner in [("lr", "optimizer__lr"), ("batch_size", "iterator_train__batch_size")]:
        if name in settings and hasattr(net, inner):
            delattr(net, inner)
    return net.set_params(**settings)


def reinitialise(name, layer):
    """Draw all parameters of one layer anew, its own way; a layer that has none is a ValueError."""
    reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
    if reset is not None:
        with torch.no_grad():
            for parameter in layer.parameters(recurse=False):
                parameter.fill_(torch.nan)  # to find those that reset() leaves out
            reset()
    own = layer.named_parameters(recurse=False)
    left = [name for name, p in own if reset is None or p.isnan().any()]
    if left:
        if isinstance(layer, ParametrizationList):  # known by the layer that it is a part of
            owner, _, tensor = name.partition(".parametrizations.")
            name, left = owner, [f"{tensor} ({kind})" for kind in left]
        raise ValueError(
            f"layer {name!r} of estimator's module, a {type(layer).__name__}, cannot be "
            f"re-initialised: it has no reset_parameters() that draws {left} anew. Give it one, or "
            "pass the module's class, or a function that builds it, in place of an instance."
        )


def check_no_adapter(module, name):
    """Refuse a layer of an adapter, which starts otherwise than layers of its class."""
    for outer, adapted in module.named_modules():
        if name.startswith(f"{outer}.") and getattr(adapted, "adapter_layer_names", ()):
            raise ValueError(
                f"layer {name!r} of estimator's module is part of an adapter, a "
                f"{type(adapted).__name__}, and a module instance does not tell how that started. "
                "Pass a function that builds the module in place of an instance."
            )


def fresh_network(template, rows, n_classes):
    """A network as a training of `template` on `rows` would start, or None if an instance hides it.

    It is not compiled, and its lazy layers have their sizes.
    """
    if trainable_instances(template):
        return None
    net = clone(template)
    net.set_params(**sizes_from_data(template, rows, n_classes), compile=False)
    net.initialize()
    count_columns(net, rows)
    return net


def plain(module):
    """A module without what ``torch.compile`` has wrapped it in, where hooks run too."""
    return getattr(module, "_orig_mod", module)


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


def compiled_as(net, original):
    """Compile the modules and criteria of `net` where those of `original` are, in the same way."""
    net.compile = original.compile
    for name in (*net._modules, *net._criteria):
        part, before = getattr(net, f"{name}_"), getattr(original, f"{name}_")
        if original.compile:
            part = net.torch_compile(plain(part), name=name)
        elif plain(before) is not before:
            part = type(before)(plain(part), before.dynamo_ctx)
        setattr(net, f"{name}_", part)
    return net


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


def restored(template, parts, history, data, n_classes):
    """A network that was trained as a clone of `template` on `data`, from its parts."""
    net = assemble(template, parts, n_classes, **sizes_from_data(template, data, n_classes))
    net.history = history
    return net


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
