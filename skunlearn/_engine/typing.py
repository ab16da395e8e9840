"""What public functions take, as names for annotations. Only type checkers import it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skorch import NeuralNet
from torch.utils.data import Dataset

from skunlearn._engine.data import Whole


class _AnyArray(Protocol):
    def __array__(self) -> NDArray[Any]: ...


class _BoolArray(Protocol):
    def __array__(self) -> NDArray[np.bool_]: ...


class _Frame(Protocol):
    @property
    def iloc(self) -> Any: ...


class _Sparse(Protocol):
    def tocsr(self) -> Any: ...


class SizedItems(Protocol):
    """What yields an item for each row, and has a length, such as a list or a data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


class Estimator(Protocol):
    """An estimator: a network of skorch or one in a FrozenEstimator, an unlearner, a pipeline.

    Theirs have no annotations, so that to a type checker their classes are whatever is passed.
    """

    def fit(self, X: Any, y: Any, /) -> Any: ...

    def get_params(self, deep: bool = True) -> Any: ...

    def set_params(self, **params: Any) -> Any: ...


class Predictor(Protocol):
    """A fitted classifier."""

    def predict(self, X: Any, /) -> Any: ...

    def predict_proba(self, X: Any, /) -> Any: ...


class _Caches(Protocol):
    """A joblib.Memory, or what has its interface."""

    def cache(self, func: Any, /, **kwargs: Any) -> Any: ...


class Transformer(Protocol):
    """What makes features of features."""

    def fit_transform(self, X: Any, /) -> Any: ...


Array: TypeAlias = NDArray[Any]

#: Rows: arrays, data frames, tensors, lists, dicts of them, and data sets.
RowsLike: TypeAlias = (
    _AnyArray | _Frame | _Sparse | Sequence[Any] | Mapping[str, Any] | Dataset[Any]
)

#: A boolean mask: an array, a list of bools, a series or a tensor. Never a string, nor indices.
MaskLike: TypeAlias = _BoolArray | _Frame | Sequence[bool]

#: What `fit` and `unlearn` take as `X_val` and `y_val`.
HeldOutRows: TypeAlias = RowsLike | Whole | None
HeldOutLabels: TypeAlias = ArrayLike | Whole | None

#: A network, also in a FrozenEstimator. None is for `check_unlearner`, which sets one of its own.
Network: TypeAlias = Estimator | None

#: A class of optimisers, or a ``functools.partial`` of one.
Optimizer: TypeAlias = Callable[..., torch.optim.Optimizer]

RandomState: TypeAlias = int | np.integer[Any] | np.random.RandomState | None

Memory: TypeAlias = str | _Caches | None

Folder: TypeAlias = str | os.PathLike[str]

#: Values of sets of rows ("retain", "forget", "unseen"), or such mappings by name of a network.
BySet: TypeAlias = Mapping[str, ArrayLike] | Mapping[str, Mapping[str, ArrayLike]]

#: ``step(net, X, y, progress)`` returns the loss of a batch and the network's output for it.
Step: TypeAlias = Callable[[NeuralNet, Any, torch.Tensor, float], tuple[torch.Tensor, Any]]

#: What a training run is made of: rows, a step (None is the plain one) and epochs.
Phase: TypeAlias = tuple[Dataset[Any], Step | None, int]
