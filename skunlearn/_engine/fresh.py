"""Networks as a training starts them: sizes from the data, fresh weights, layers drawn again."""

import inspect

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import ParametrizationList

from skunlearn._engine.build import SIZES, assemble, copy_parts, modules_of, plain_parts, tensors_of
from skunlearn._engine.finish import drop_activations
from skunlearn._engine.predict import count_columns, plain


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


def instances(net):
    """The modules and criteria of a network that are instances which the user made."""
    names = (*net._modules, *net._criteria)
    return [
        name
        for name in names
        if isinstance(getattr(net, name, None), nn.Module) and not net.get_params_for(name)
    ]


def check_fresh(net):
    """Refuse module instances, for a clone starts from whatever weights they hold."""
    for name, value in trainable_instances(net).items():
        raise ValueError(
            f"estimator was built on a module instance, {name}={type(value).__name__}(...), so a "
            "clone of it starts from whatever weights the instance holds and cannot be trained "
            f"from scratch. Pass the module's class ({name}={type(value).__name__}), or a function "
            "that builds it; a network that is trained already goes in a FrozenEstimator."
        )


def reinitialise(name, layer, *, part="module", keeps_states=False):
    """Re-initialise a layer in its own way; a ValueError if it has none.

    Parameters
    ----------
    name : str
        The layer's name in its part of the network.
    layer : torch.nn.Module
        The layer.
    part : str, default="module"
        What skorch calls the part.
    keeps_states : bool, default=False
        Whether buffers and other tensors that no ``reset_parameters()`` makes again may stay.
    """
    reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
    before = {} if keeps_states else _states(layer)
    if reset is not None:
        with torch.no_grad():
            for parameter in layer.parameters(recurse=False):
                parameter.fill_(torch.nan)  # to find those that reset() leaves out
            reset()
    own = layer.named_parameters(recurse=False)
    left = [name for name, p in own if reset is None or p.isnan().any()]
    after = _states(layer) if before else {}
    left += [
        name
        for name, states in before.items()
        for state in states
        if any(_is_left(state, now) for now in after.get(name, []))
    ]
    if left:
        if isinstance(layer, ParametrizationList):  # known by the layer that it is a part of
            owner, _, tensor = name.partition(".parametrizations.")
            name, left = owner, [f"{tensor} ({kind})" for kind in left]
        raise ValueError(
            f"layer {name!r} of estimator's {part}, a {type(layer).__name__}, cannot be "
            f"re-initialised: it has no reset_parameters() that draws {left} again. Give it one, "
            f"or pass the {part}'s class, or a function that builds it, in place of an instance."
        )


def _states(layer):
    """What a layer holds besides parameters, by name: its tensors, their versions and values.

    That is buffers, and tensors and arrays in other attributes. What is nowhere but 0, 1 or
    infinite is a mask, or empty, and tells nothing of rows; the weights of classes in torch's
    losses are the user's.
    """
    if type(layer).__module__ == "torch.nn.modules.loss":
        return {}
    own = ("_modules", "_parameters", "_buffers")
    named = layer._buffers | {n: value for n, value in vars(layer).items() if n not in own}
    states = {}
    for name, held in named.items():
        for tensor in tensors_of(held):
            if isinstance(tensor, nn.Parameter):
                continue
            if isinstance(tensor, np.ndarray):
                if tensor.dtype.kind not in "iufc":
                    continue
                value = torch.as_tensor(tensor.astype(complex))
            else:
                value = tensor.detach().to_dense()
            if not ((value == 0) | (value == 1) | value.isinf()).all():
                version = getattr(tensor, "_version", 0)
                states.setdefault(name, []).append((tensor, version, value.clone()))
    return states


def _is_left(before, now):
    """Whether a tensor is the same one as before, and nobody has written to it."""
    (tensor, version, value), (tensor_now, version_now, value_now) = before, now
    return (
        tensor is tensor_now
        and version == version_now
        and torch.allclose(value, value_now, rtol=0, atol=0, equal_nan=True)
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


def fresh_network(template, rows, n_classes, original=None):
    """A network as a training of `template` on `rows` would start, or None if an instance hides it.

    It is not compiled, and its lazy layers have their sizes. A ValueError names what it would train
    of `original`.
    """
    if trainable_instances(template):
        return None
    net = clone(template)
    net.set_params(**sizes_from_data(template, rows, n_classes), compile=False)
    net.initialize()
    try:
        n_columns = count_columns(net, rows)
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"a network as estimator makes it does not take the rows: {error}. If a callback has "
            "set sizes of its module in on_train_begin, set them with module__... instead."
        ) from error
    if original is not None:
        if n_columns != n_classes:
            raise ValueError(
                f"a network as estimator makes it returns {n_columns} columns, and the trained one "
                f"{n_classes}. Set its sizes with module__..., or build the module as it was."
            )
        check_apart(net, original)
    return net


def check_apart(net, other):
    """Refuse a network whose training would change another one that was built like it."""
    known = {_memory(t) for module in _modules(other) for t in _own_tensors(module).values()}
    net._set_training(True)
    for module in _modules(net):
        for name, tensor in _own_tensors(module).items():
            moves = isinstance(module, _NormBase) and module.training and name in module._buffers
            if (moves or tensor.requires_grad) and _memory(tensor) in known - {None}:
                raise ValueError(
                    f"{name!r} of a {type(module).__name__} is one and the same tensor in each "
                    "network that estimator's module builds, so training one changes the others, "
                    "and none starts from scratch. Let the module's class or function build, load "
                    "or copy.deepcopy all that is trained at each call."
                )


def _modules(net):
    return modules_of({"modules": plain_parts(net)["modules"]})


def _own_tensors(module):
    return dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))


def _memory(tensor):
    """Where a tensor lies; None if nowhere."""
    try:
        place = tensor.untyped_storage().data_ptr()
    except (RuntimeError, ValueError):  # sparse, a wrapper of others, or lazy
        place = id(tensor)
    return (tensor.device, place) if place else None


def reinitialised(template, original, n_classes, *, student_of=None):
    """A copy of a network with its layers drawn again, each its own way; it is not compiled.

    Parameters
    ----------
    template : skorch.NeuralNet
        Its settings.
    original : skorch.NeuralNet
        The network to copy.
    n_classes : int
        Columns of its output.
    student_of : Rows, default=None
        What the copy will be trained on. Then layers of which no parameter is trained stay as they
        are, criteria are drawn again as well, and so is all that layers hold besides parameters.
    """
    net = assemble(template, copy_parts(plain_parts(original)), n_classes, compile=False)
    if student_of is None:
        start_again(net, net._modules, keeps_states=True)
    else:
        drop_activations(net, student_of)
        start_again(net, (*net._modules, *net._criteria), keep_frozen=True)
    return net


def start_again(net, names, *, keep_frozen=False, keeps_states=False):
    """Draw the layers of some parts of a network again, each its own way."""
    for part in names:
        module, kept = plain(getattr(net, f"{part}_")), set()
        layers = list(module.named_modules()) if isinstance(module, nn.Module) else []
        if keep_frozen:  # with the masks and positions that a frozen base holds
            frozen = [layer for _, layer in layers if _is_frozen(layer.parameters())]
            kept = {inner for layer in frozen for inner in layer.modules()}
            kept |= {layer for _, layer in layers if _is_frozen(layer.parameters(recurse=False))}
        # From the inside: a module that also sets its children's weights has the last word.
        for name, layer in reversed(layers):
            if layer not in kept:
                reinitialise(name, layer, part=part, keeps_states=keeps_states)


def _is_frozen(parameters):
    """Whether there are parameters, and none of them is trained."""
    parameters = list(parameters)
    return bool(parameters) and not any(p.requires_grad for p in parameters)
