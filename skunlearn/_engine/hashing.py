"""Keys of trained networks: a digest of all that a training depends on."""

import contextlib
import dis
import functools
import sys
from collections.abc import Mapping
from types import CodeType, FunctionType

import numpy as np
import skorch
import torch
from joblib.hashing import NumpyHasher
from scipy.sparse import issparse
from sklearn.base import clone
from skorch.callbacks import (
    BatchScoring,
    EpochScoring,
    EpochTimer,
    LoadInitState,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)
from torch import nn
from torch.nn.parameter import is_lazy as is_uninitialized

from skunlearn._engine.build import parts_of
from skunlearn._engine.data import as_pair
from skunlearn._engine.fresh import sizes_from_data
from skunlearn._engine.random import seeded
from skunlearn._engine.validation import as_dataset, is_lazy

_LIBRARIES = {*sys.stdlib_module_names, "joblib", "numpy", "scipy", "sklearn", "skorch", "torch"}
_LIBRARIES -= {"__main__"}

_NUMBERS = (int, float, complex, np.ndarray, torch.Tensor)

_CONSTANTS = (*_NUMBERS, str, bytes, type, FunctionType)

_DISPLAYS = (EpochTimer, PrintLog, ProgressBar)

_SCORES = (BatchScoring, EpochScoring, PassthroughScoring)


def starting_point(template, data, n_classes):
    """What the training of a clone of `template` on `data` starts from, for a key.

    Code and parameters do not tell: weights may come from a file, or from a global of the function
    that builds the module. The generators must be seeded as they are for the training.

    Parameters
    ----------
    template : skorch.NeuralNet
        The network, not initialised.
    data : torch.utils.data.Dataset
        The rows, of which the shape of one is read.
    n_classes : int
        The number of classes.

    Returns
    -------
    content : list
        Parameters, buffers and plain attributes of each layer, and the optimiser.
    """
    net = clone(template)
    net.set_params(**sizes_from_data(net, data, n_classes)).initialize()
    for _, callback in net.callbacks_:
        if isinstance(callback, LoadInitState):
            callback.on_train_begin(net)
    content = []
    for part in (part for parts in parts_of(net).values() for part in parts.values()):
        if not isinstance(part, nn.Module):
            content.append(type(part))
            continue
        # A parameter that layers share has one name, and a frozen one does not move.
        content.append([(name, p.requires_grad) for name, p in part.named_parameters()])
        for name, layer in part.named_modules():
            known = {
                key: value  # hooks have numbers that go up all the time
                for key, value in vars(layer).items()
                if _is_constant(value) and "_hooks" not in key
            }
            content.append((name, type(layer), known))
    if hasattr(net, "optimizer_"):
        content.append((type(net.optimizer_), net.optimizer_.state_dict()))
    return content


def start_for_key(unlearner, X, y, seed):
    """`starting_point` of the network of an unlearner, from what its `fit` is given."""
    net = unlearner.estimator
    if not isinstance(net, skorch.NeuralNet):  # SISA's may be a classifier of scikit-learn
        return None
    data = as_dataset(net, X if is_lazy(net, X) else np.asarray(X))
    classes = getattr(net, "classes", None)
    n_classes = y.shape[1] if y.ndim == 2 else len(np.unique(y) if classes is None else classes)
    with seeded(seed, net.device):
        return starting_point(net, data, n_classes)


def cache_key(net, *content):
    """A digest of what a trained network depends on: its settings, the rows, labels and seed.

    Verbosity and callbacks that only show something are left out; so are those that only score,
    unless there are others, which may act on the scores. Classes and functions count with their
    code, and with that of what they refer to by name in their own package, for an edited one keeps
    its name. A data set that reads its rows when asked counts with its attributes only.
    """
    return _Hasher().hash(_cache_inputs(net, *content))


def _cache_inputs(net, *content):
    """The content of a key, without what makes no difference to the training."""
    versions = (sys.version_info[:2], torch.__version__, skorch.__version__)
    if not isinstance(net, skorch.NeuralNet):
        return versions, net, content
    params = net.get_params(deep=False)
    del params["verbose"], params["_params_to_validate"]
    given = params.pop("callbacks")
    given = [] if given == "disable" else [*net.get_default_callbacks(), *(given or [])]
    given = [cb if isinstance(cb, tuple) else (None, cb) for cb in given]

    def scores(cb):
        # A prediction of its own draws from the generator that shuffles the batches.
        own = getattr(cb, "use_caching", True) if net.use_caching == "auto" else net.use_caching
        return own and (_is_a(cb, _SCORES) or getattr(cb, "only_scores", False))

    alone = all(_is_a(cb, _DISPLAYS) or scores(cb) for _, cb in given)
    idle = [(name, cb) for name, cb in given if _is_a(cb, _DISPLAYS) or (alone and scores(cb))]
    names = {name for name, _ in idle}
    params = {
        name: value
        for name, value in params.items()
        if not (name.startswith("callbacks__") and name.split("__")[1] in names)
    }
    return versions, type(net), params, [item for item in given if item not in idle], content


def _is_a(cb, kinds):
    return issubclass(cb if isinstance(cb, type) else type(cb), kinds)


class _Hasher(NumpyHasher):
    """joblib's hasher, for which classes and functions are what they do, and not just a name.

    By their code, not their source: worker processes and interpreters have no source, and of a file
    that was edited after it was imported `inspect` returns what does not run.
    """

    def __init__(self):
        # The fastest that hashlib has, on processors that help with it.
        super().__init__("sha1", coerce_mmap=True)
        self.referenced = []
        self._places = {}

    def hash(self, obj):
        self.dump(obj)
        for obj in self.referenced:  # which grows meanwhile
            if obj.__module__ is None or obj.__module__.split(".")[0] not in _LIBRARIES:
                self.save(_content(obj))
        self._hash.update(self.stream.getvalue())
        return self._hash.hexdigest()

    def save(self, obj):
        if isinstance(obj, type | FunctionType):
            place = self._places.setdefault(id(obj), len(self.referenced))
            if place == len(self.referenced):
                self.referenced.append(obj)
            obj = (place, obj.__module__, obj.__name__)  # a worker's class has no __qualname__
        elif isinstance(obj, CodeType):
            obj = (obj.co_code, obj.co_names, obj.co_varnames, obj.co_freevars, obj.co_consts)
        elif isinstance(obj, torch.Tensor) and is_uninitialized(obj):
            obj = "lazy", str(obj.dtype)
        elif isinstance(obj, torch.Tensor):
            obj = obj.to_dense() if obj.layout != torch.strided else obj
            values = obj.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            obj = (str(obj.dtype), tuple(obj.shape), values)
        elif isinstance(obj, frozenset):
            obj = set(obj)
        super().save(obj)

    def memoize(self, obj):
        # Whether equal tuples are one object differs between processes.
        if not isinstance(obj, tuple):
            super().memoize(obj)


def _content(obj):
    """What a class or function consists of, as far as it can be told."""
    if isinstance(obj, type):
        members = {name: _unwrapped(value) for name, value in vars(obj).items()}
        # What its methods set, such as a counter, is not how it was written.
        codes = [f.__code__ for f in members.values() if isinstance(f, FunctionType)]
        kept = set().union(*(_names(code, "STORE_ATTR") for code in codes))
        return obj.__bases__, {
            name: value
            for name, value in members.items()
            if _is_code(value) or (_is_constant(value) and name not in kept and name[:2] != "__")
        }
    known = {}
    for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or ()):
        with contextlib.suppress(ValueError):  # nothing is in it yet
            known[name] = cell.cell_contents
    package = (obj.__module__ or "").split(".")[0]
    for name in _names(obj.__code__, "LOAD_GLOBAL") - _names(obj.__code__, "STORE_GLOBAL"):
        value = obj.__globals__.get(name)
        if _is_constant(value) and (
            not isinstance(value, type | FunctionType)
            or (value.__module__ or "").split(".")[0] == package
        ):
            known[name] = value
    known = {name: value for name, value in known.items() if _is_constant(value)}
    return obj.__code__, obj.__defaults__, obj.__kwdefaults__, known


def _unwrapped(member):
    if isinstance(member, property):
        return member.fget, member.fset, member.fdel
    return getattr(member, "__func__", member)


def _is_code(value):
    return any(
        isinstance(part, FunctionType) for part in (value if isinstance(value, tuple) else [value])
    )


def _is_constant(value):
    if isinstance(value, dict):
        return all(map(_is_constant, value)) and all(map(_is_constant, value.values()))
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, _CONSTANTS)


@functools.lru_cache(4096)
def _names(code, operation):
    """What an operation is done to in a function and those within it."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == operation}
    return names.union(
        *(_names(inner, operation) for inner in code.co_consts if isinstance(inner, CodeType))
    )


def each_row(data):
    """The rows one by one, without their labels, of whatever a classifier or a network reads."""
    from skorch.helper import SliceDataset  # which imports much that is not needed before

    if issparse(data):
        data = data.tocsr(copy=True)
        data.sum_duplicates()  # which sorts the columns of a row as well
        data.eliminate_zeros()
        for low, high in zip(data.indptr, data.indptr[1:]):
            yield data.indices[low:high], data.data[low:high]
    elif isinstance(data, Mapping):
        for i in range(len(next(iter(data.values())))):
            yield {key: values[i] for key, values in data.items()}
    elif isinstance(data, SliceDataset | torch.Tensor):
        yield from data
    elif isinstance(data, torch.utils.data.Dataset):
        for i in range(len(data)):
            yield as_pair(data[i])[0]
    else:
        yield from np.asarray(data)


def canonical_bytes(value, dtype=np.float64):
    """Bytes of a row or label: equal for float32 and float64, for arrays, tensors and lists.

    A `dtype` of float32 rounds numbers to what float32 can hold. Integers that float64 cannot hold
    are followed by what it rounds off.
    """
    if isinstance(value, Mapping):
        value = [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, tuple | list):
        parts = (canonical_bytes(part, dtype) for part in value)
        return f"{len(value)}\n".encode() + b"".join(parts)
    array = np.asarray(value)
    is_number = array.dtype.kind in "biuf"
    if array.ndim and not is_number:
        return canonical_bytes(array.tolist(), dtype)
    # + 0.0: there is a negative zero.
    if is_number:
        with np.errstate(over="ignore"):  # of float32, beyond which there is infinity
            numbers = array.astype(dtype, copy=False)
        numbers = numbers.astype(np.float64) + 0.0
        content = numbers.tobytes()
        if dtype is np.float64 and _is_beyond_float64(array):
            pairs = zip(array.ravel().tolist(), numbers.ravel().tolist())
            rest = np.array([float(exact - int(held)) for exact, held in pairs])
            content += rest.tobytes() if rest.any() else b""
    else:
        content = str(value).encode()
    return f"{array.shape} {is_number} {len(content)}\n".encode() + content


def _is_beyond_float64(array):
    """Whether there are integers so large that float64 may not hold them."""
    if array.dtype.kind not in "iu" or array.itemsize < 8 or not array.size:
        return False
    return int(array.max()) > 2**53 or int(array.min()) < -(2**53)
