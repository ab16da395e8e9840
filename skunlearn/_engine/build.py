"""Making, copying and re-initialising the skorch networks that unlearners work on."""

import contextlib
import inspect
from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from itertools import zip_longest

import numpy as np
import torch
from sklearn.base import clone
from skorch.utils import to_device
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from skunlearn._engine.predict import count_columns, plain, without_global_rng
from skunlearn._engine.random import preserve_rng_and_modes

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
    """Re-initialise a layer in its own way; a ValueError if it has none."""
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
            f"re-initialised: it has no reset_parameters() that draws {left} again. Give it one, "
            "or pass the module's class, or a function that builds it, in place of an instance."
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


def reinitialised(template, original, n_classes, *, keep_frozen=False):
    """A copy of a network with its layers drawn again, each its own way; it is not compiled.

    If `keep_frozen`, layers of which no parameter is trained stay as they are.
    """
    net = assemble(template, copy_parts(plain_parts(original)), n_classes, compile=False)
    # From the inside: a module that also sets its children's weights has the last word.
    for name, layer in reversed(list(net.module_.named_modules())):
        own = list(layer.parameters(recurse=False))
        if not (keep_frozen and own and not any(p.requires_grad for p in own)):
            reinitialise(name, layer)
    return net


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


def _tensors(value):
    """The tensors and arrays in an attribute of a module, in containers too."""
    if isinstance(value, torch.Tensor | np.ndarray):
        yield value
    elif isinstance(value, Mapping | list | tuple | deque):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(inner)


def _same(first, second):
    return all(
        type(a) is type(b)
        and (torch.equal if isinstance(a, torch.Tensor) else np.array_equal)(a, b)
        for a, b in zip_longest(_tensors(first), _tensors(second))
    )


def _zeros(value):
    """Zeros in the place of each tensor and array, as a memo for `deepcopy`."""
    return {
        id(t): t.new_zeros(t.shape) if isinstance(t, torch.Tensor) else np.zeros_like(t)
        for t in _tensors(value)
    }


def _attributes_of(parts):
    """Where modules hold tensors that are neither parameters nor buffers: (module, name) pairs."""
    own = ("_modules", "_parameters", "_buffers")
    return [
        (module, name)
        for module in _modules(parts)
        for name, value in vars(module).items()
        if name not in own and any(True for _ in _tensors(value))
    ]


def without_graphs(parts):
    """A memo for `deepcopy` of modules that leaves out what a forward pass left there.

    torch refuses to copy a tensor that a graph hangs on, and one that a module keeps for a plot is
    made of the rows that went through it. The old `weight_norm` computes its own at each pass.
    """
    return {
        id(t): t.new_zeros(t.shape)
        for module, name in _attributes_of(parts)
        for t in _tensors(vars(module)[name])
        if isinstance(t, torch.Tensor) and not t.is_leaf
    }


def copy_parts(parts):
    """A deep copy of the modules and criteria of a network, without what has a graph."""
    return deepcopy(parts, without_graphs(parts))


def drop_activations(net, rows):
    """Zero what the modules of a network keep of the rows that went through them.

    That is each attribute, neither a parameter nor a buffer, that a pass over two of `rows` changes
    in a copy, unless the copy's output or loss depends on what it was before: then it is a state
    that the network needs, of which only the graph is dropped.
    """
    parts = plain_parts(net)
    kept = _attributes_of(parts)
    if not kept:
        return

    def passed(drop, row=0):
        """What the given attributes are after passes that start without them, and the outputs."""
        copy, outputs = copy_parts(parts), []
        twins = dict(zip(map(id, _modules(parts)), _modules(copy)))
        for module, name in drop:
            value = vars(twins[id(module)])[name]
            vars(twins[id(module)])[name] = deepcopy(value, _zeros(value))
        view = without_global_rng(
            net, **{f"{n}_": part for kind in copy.values() for n, part in kind.items()}
        )
        with preserve_rng_and_modes(net):
            X, y = to_device(rows.batch([row, row]), net.device)
            for training in (True, False):  # a module may keep something in one of them alone
                view._set_training(training)
                y_pred = view.infer(X)
                loss = view.get_loss(y_pred, y, X=X, training=training)
                if loss.requires_grad:
                    loss.backward()  # hooks on gradients keep something too
                outputs += [loss, *_tensors(y_pred)]
        return [vars(twins[id(m)]).get(name) for m, name in kept], outputs

    after, expected = passed([])
    others, _ = passed([], len(rows) - 1)  # the first row may be the one that is kept
    rewritten = [
        (module, name)
        for (module, name), *values in zip(kept, after, others)
        if not all(_same(vars(module)[name], value) for value in values)
        # The weight that an old weight_norm or spectral_norm computes of weight_g or weight_orig.
        and not {f"{name}_g", f"{name}_orig"} & set(module._parameters)
    ]

    def needless(drop):
        _, outputs = passed(drop)
        pairs = zip(outputs, expected)
        return all(torch.allclose(a, b, 1e-3, 1e-5, equal_nan=True) for a, b in pairs)

    if rewritten and not needless(rewritten):
        rewritten = [place for place in rewritten if needless([place])]
    graphs = without_graphs(parts)
    for module, name in kept:
        value = vars(module)[name]
        if (module, name) in rewritten:
            memo = _zeros(value)
        else:
            memo = {id(t): t.detach() for t in _tensors(value) if id(t) in graphs}
        if memo:
            vars(module)[name] = deepcopy(value, memo)


def _modules(parts):
    """All modules of a network's modules and criteria, in a fixed order."""
    parts = (part for kind in parts.values() for part in kind.values())
    return [m for part in parts if isinstance(part, nn.Module) for m in part.modules()]
