"""Description of an estimator and of rows: classes, parameters, versions, digests."""

import functools
import platform
from importlib.metadata import version

import numpy as np
import torch
from skorch import NeuralNet

from skunlearn._engine.build import parts_of
from skunlearn._engine.chain import keyed_digest, keyed_hash
from skunlearn._engine.hashing import canonical_bytes, each_row
from skunlearn._engine.predict import plain
from skunlearn._engine.unwrap import innermost

_LIBRARIES = ("skunlearn", "numpy", "scipy", "scikit-learn", "skorch", "torch", "POT")


def digests_of(X, y, names, key):
    """Count and digest of the sets by their `names`, and a digest of each row without its label.

    The digests are keyed by bytes, plain SHA-256 for ``"unkeyed"``, and left out for None. Those of
    the single rows are then plain ones, to compare rows with, and no part of a report.
    """
    secret = key if isinstance(key, bytes) else None
    algorithm = "sha256" if secret is None else "hmac_sha256"
    digests = {name: keyed_hash(secret) for name in np.unique(names).tolist()}
    single = []
    for name, row, label in zip(names.tolist(), each_row(X), y, strict=True):
        content = canonical_bytes(row)
        digests[name].update(content + canonical_bytes(label))
        single.append(keyed_digest(secret, content))
    sets = {name: {"count": int(np.sum(names == name))} for name in digests}
    if key is not None:
        sets = {name: said | {algorithm: digests[name].hexdigest()} for name, said in sets.items()}
    return sets, single


def size_of(model, n_rows):
    """Parameters of the networks of an unlearner, and how many there are for each row."""
    inner = innermost(model)
    nets = inner._networks() if hasattr(inner, "_networks") else [inner]
    n_parameters = sum(
        p.numel() for net in nets for p in getattr(net, "module_", torch.nn.Identity()).parameters()
    )
    if not n_parameters:
        return {"parameters": None, "parameters_per_row": None}
    per_row = n_parameters / n_rows if n_rows else None
    return {"parameters": n_parameters, "parameters_per_row": per_row}


def versions():
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def qualified_name(kind):
    return f"{kind.__module__}.{kind.__qualname__}"


def parameters_of(estimator):
    """The parameters of an estimator, network or callback, without the contents of any rows."""
    return {
        name: _size(value) if name[:2] in ("X", "X_", "y", "y_") else described(value)
        for name, value in sorted(estimator.get_params(deep=False).items())
        if name != "_params_to_validate"
    }


def described(value):
    """A parameter as JSON can hold it; of what may be rows there is no more than type and size."""
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if value is None or isinstance(value, bool | int | float):
        return value
    # A path may hold the name of somebody.
    if isinstance(value, str) and len(value) <= 200 and not {"/", "\\"} & set(value):
        return value
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return qualified_name(value)
    if isinstance(value, functools.partial):
        keywords = {name: described(part) for name, part in value.keywords.items()}
        return {"partial": described(value.func), **keywords}
    if hasattr(value, "get_params"):
        return {"class": qualified_name(type(value)), **parameters_of(value)}
    if isinstance(value, tuple | list) and (
        all(map(_is_part, value)) or (len(value) <= 3 and all(map(_is_number, value)))
    ):
        return [
            [item[0], described(item[1])] if isinstance(item, tuple) else described(item)
            for item in value
        ]
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    return _size(value)


def _is_number(value):
    return value is None or isinstance(value, bool | int | float | np.number | np.bool_)


def _is_part(value):
    """Whether it is a class, estimator or callback, or one with its name: not a row or label."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    return isinstance(value, type) or hasattr(value, "get_params")


def _size(value):
    """The type of an object, and how large it is."""
    if value is None:
        return None
    if hasattr(value, "shape"):
        return f"{qualified_name(type(value))} of shape {tuple(value.shape)}"
    size = f" of length {len(value)}" if hasattr(value, "__len__") else ""
    return qualified_name(type(value)) + size


def fingerprint(key, unlearner):
    """Keyed digest of the weights and buffers of an unlearner; None where it has no network.

    A network that was saved and loaded, in whatever form, has that of the one before.
    """
    inner = innermost(unlearner)
    nets = inner._networks() or [innermost(inner.estimator)]
    content = [
        canonical_bytes([name, *plain(part).state_dict().items()])
        for net in nets
        if isinstance(net, NeuralNet)
        for parts in parts_of(net).values()
        for name, part in parts.items()
        if isinstance(part, torch.nn.Module)
    ]
    return keyed_digest(key, b"".join(content)) if content else None
