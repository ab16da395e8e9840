"""Reading a network's features at a named layer, and adding to its input or a layer's output."""

import contextlib

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence


def feature_layer(net, layer, X, parameter="feature_layer"):
    """Find the layer whose activations are the features.

    Parameters
    ----------
    net : skorch.NeuralNet
        An initialised network.
    layer : str
        ``"auto"`` for the input of the linear layer that runs last, or the name of a submodule,
        whose output is meant.
    X : torch.Tensor or dict
        A batch to find out which linear layer runs last.
    parameter : str, default="feature_layer"
        What the user knows `layer` as, for messages.

    Returns
    -------
    module : torch.nn.Module
        The submodule to listen to.
    takes_input : bool
        Whether its input is meant, not its output.

    Raises
    ------
    ValueError
        If there is no such layer; the message lists the names that exist.
    """
    if layer != "auto":
        return named_layer(net, layer, parameter), False
    last = []
    linear = [m for m in net.module_.modules() if isinstance(m, nn.Linear)]
    with contextlib.ExitStack() as stack:
        for module in linear:
            handle = module.register_forward_pre_hook(lambda module, args: last.append(module))
            stack.callback(handle.remove)
        net.evaluation_step((X, None))
    if not last:
        raise ValueError(
            f"{parameter}='auto' takes the input of the network's last linear layer, but no "
            f"torch.nn.Linear runs in {type(net.module_).__name__}. Name a layer whose output to "
            f"use: {layer_names(net)}."
        )
    return last[-1], True


def layer_names(net):
    """Names of the network's submodules, as `feature_layer` takes them."""
    return [name for name, _ in net.module_.named_modules() if name]


def named_layer(net, name, parameter):
    """The submodule called `name`; a `ValueError` about `parameter` lists the names that exist."""
    modules = dict(net.module_.named_modules())
    if not name or name not in modules:
        raise ValueError(
            f"{parameter}={name!r} is not a layer of {type(net.module_).__name__}; "
            f"its layers are {layer_names(net)}."
        )
    return modules[name]


@contextlib.contextmanager
def capture_output(module, takes_input):
    """Collect the activations at a layer, a tensor for each forward pass made in the context."""
    read = []

    def keep(activation):
        activation = _first(activation)
        if isinstance(activation, PackedSequence):
            activation = activation.data
        read.append(activation.clone())  # which a ReLU in place may be about to overwrite

    if takes_input:
        handle = module.register_forward_pre_hook(
            lambda module, args, kwargs: keep(args or tuple(kwargs.values())), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(lambda module, args, output: keep(output))
    try:
        yield read
    finally:
        handle.remove()


def _first(output):
    """The first of several outputs; a packed sequence is a tuple, but one output."""
    several = isinstance(output, tuple) and not isinstance(output, PackedSequence)
    return output[0] if several else output


def added(values, delta):
    """A tensor, or the steps of packed sequences, with `delta` added."""
    if isinstance(values, PackedSequence):
        return values._replace(data=values.data + delta)
    return values + delta


@contextlib.contextmanager
def add_to_output(module, delta):
    """Add `delta` to the output of a layer (to its first output, if it has several)."""

    def add(module, args, output):
        if _first(output) is not output:
            return (added(output[0], delta), *output[1:])
        return added(output, delta)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def frozen_parameters(module):
    """Switch off the gradients of all parameters, so that none is computed."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def forward_features(net, X, layer):
    """Activations at a layer for a batch, in evaluation mode and without gradient."""
    with capture_output(*layer) as read:
        net.evaluation_step((X, None))
    if not read:
        raise ValueError(f"{type(layer[0]).__name__} is a layer that does not run in this network.")
    return read[-1]


def check_alike(forget, retain, layer_name, net):
    """Raise a ValueError unless two batches have as many features of each row."""
    if forget.shape[1:] != retain.shape[1:]:
        raise ValueError(
            f"feature_layer={layer_name!r} must give all rows as many features; got shapes "
            f"{tuple(forget.shape)} and {tuple(retain.shape)} for two batches of rows of different "
            "lengths. Name a layer behind the one that pools over the length: "
            f"{layer_names(net)}."
        )


def value_range(read, items):
    """The limits of the values of some rows, for each feature by itself.

    The features are on the second axis, or on the last where the length of the second varies from
    batch to batch, as that of padded sequences does. If both vary, all values have one range.

    Parameters
    ----------
    read : callable
        Returns the values, a tensor, for a batch of a list of items.
    items : list of tuple
        Items of a data set.

    Returns
    -------
    low, high : torch.Tensor
        They broadcast against the values of any batch.
    """
    batch = read(items)
    sizes = [np.prod(np.shape(x)) if hasattr(x, "shape") else len(x) for x, _ in items]
    ends = [read([items[i]] * 2) for i in {int(np.argmin(sizes)), int(np.argmax(sizes))}]
    parts, shapes = [batch], {part.shape[1:] for part in (batch, *ends)}
    if len(shapes) > 1:  # each row by itself, for padding is no value of the data
        parts = [read([item] * 2) for item in items]
        shapes |= {part.shape[1:] for part in parts}
    fixed = [
        axis for axis in (1, -1) if batch.ndim > 1 and len({(0, *s)[axis] for s in shapes}) == 1
    ]
    keep = fixed[0] % batch.ndim if fixed else None
    others = [axis for axis in range(batch.ndim) if axis != keep]
    low = torch.stack([part.amin(others, True) for part in parts]).amin(0)
    return low, torch.stack([part.amax(others, True) for part in parts]).amax(0)


class Place:
    """Where a perturbation is added: to the input of a network, or to the output of a layer.

    Parameters
    ----------
    net : skorch.NeuralNet
        An initialised network.
    name : str
        ``"input"``, or the name of a submodule: what the user knows as `perturb_at`.
    """

    def __init__(self, net, name):
        self.net = net
        self.name = name
        self.layer = None if name == "input" else named_layer(net, name, "perturb_at")

    def values(self, X):
        """What the perturbation of a batch is added to."""
        if self.layer is not None:
            return forward_features(self.net, X, (self.layer, False))
        if isinstance(X, PackedSequence):
            X = X.data
        if isinstance(X, torch.Tensor) and X.dtype.is_floating_point:
            return X
        raise ValueError(
            "perturb_at='input' needs an input that is one floating-point array; got "
            f"{X.dtype if isinstance(X, torch.Tensor) else type(X).__name__}. Name a layer whose "
            f"output can be perturbed, such as an embedding: {layer_names(self.net)}."
        )

    @contextlib.contextmanager
    def added(self, X, delta):
        """The input to infer from so that the network sees the perturbation."""
        if self.layer is None:
            yield added(X, delta)
        else:
            with add_to_output(self.layer, delta):
                yield X

    def check_reaches(self, layer, layer_name, X):
        """Raise a ValueError if what is read at `layer` does not depend on the perturbation."""
        delta = torch.zeros_like(self.values(X)).requires_grad_()
        with (
            frozen_parameters(self.net.module_),
            self.added(X, delta) as X_far,
            capture_output(*layer) as read,
        ):
            self.net.infer(X_far)
        if not read[-1].requires_grad:
            raise ValueError(
                f"perturb_at={self.name!r} must come before the feature layer, "
                f"feature_layer={layer_name!r}, for features to depend on it."
            )
