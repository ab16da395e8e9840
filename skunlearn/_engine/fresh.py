"""Networks as a training starts them: sizes from the data, fresh weights, layers drawn again."""

import inspect

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from skunlearn._engine.build import SIZES, assemble, copy_parts, plain_parts
from skunlearn._engine.predict import count_columns


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


def restored(template, parts, history, data, n_classes):
    """A network that was trained as a clone of `template` on `data`, from its parts."""
    net = assemble(template, parts, n_classes, **sizes_from_data(template, data, n_classes))
    net.history = history
    return net


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
