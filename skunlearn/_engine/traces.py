"""What modules keep of the rows that went through them: left out of copies, dropped after a run."""

from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from itertools import zip_longest

import numpy as np
import torch
from skorch.utils import to_device
from torch import nn

from skunlearn._engine.build import plain_parts
from skunlearn._engine.predict import without_global_rng
from skunlearn._engine.restore import preserve_rng_and_modes


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
