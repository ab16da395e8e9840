"""Rows of a data set as a network reads them: lazily, with encoded labels, in its dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from skorch import NeuralNetBinaryClassifier
from skorch.dataset import Dataset
from skorch.utils import is_dataset, multi_indexing
from torch.utils.data import DataLoader, Subset, default_collate

from skunlearn._engine.data import as_pair
from skunlearn._engine.validation import is_multilabel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray
    from skorch.helper import SliceDataset
    from torch import Tensor

    from skunlearn._engine.typing import SizedItems


class Rows(Dataset):
    """Rows of a request: a lazy view of some rows of the data, with encoded labels.

    A method is given two of them, ``request.retain`` and ``request.forget``, and trains on them as
    on any torch data set. An item is a pair of an input and its target; nothing is read before it
    is asked for. No method changes a view: what the methods below return is another one. `X` is the
    inputs alone, as lazy as the rows, and `shape` the number of rows, then the shape of one input.

    Parameters
    ----------
    data : torch.utils.data.Dataset
        Yields pairs whose first element is one row; the second is ignored.
    y : torch.Tensor of shape (n_rows,) or (n_rows, n_labels)
        What the criterion takes as the target of each row of this view.
    index : ndarray of shape (n_rows,), default=None
        Positions in `data`; all of them by default.
    dtype : torch.dtype, default=None
        What arrays are cast to; they are left as they are by default.
    collate : callable, default=torch.utils.data.default_collate
        Makes a batch of a list of pairs, as a data loader's ``collate_fn`` does.

    Attributes
    ----------
    y : torch.Tensor of shape (n_rows,) or (n_rows, n_labels)
        The targets: positions in `classes_` of the unlearner (floats for a criterion that takes
        floats), or indicators of several labels.

    See Also
    --------
    Request : Holds the rows to retain and to forget, and held-out rows.
    skunlearn.NetworkUnlearner : Its `_train` takes rows.

    Examples
    --------
    >>> import torch
    >>> from skorch.dataset import Dataset
    >>> from skunlearn.base import Rows
    >>> rows = Rows(Dataset(torch.eye(4).numpy()), torch.tensor([0, 1, 1, 0]))
    >>> few = rows.take([1, 3])
    >>> len(few), few.shape, few.y
    (2, (2, 4), tensor([1, 0]))
    >>> X, y = few.relabel(1 - few.y).batch()
    >>> X
    tensor([[0., 1., 0., 0.],
            [0., 0., 0., 1.]])
    >>> y
    tensor([0, 1])
    """

    def __init__(
        self,
        data: SizedItems,
        y: Tensor,
        index: NDArray[np.intp] | None = None,
        dtype: torch.dtype | None = None,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        self.data = data
        self.y = y
        self.index = np.arange(len(data)) if index is None else index
        self.dtype = dtype
        self.collate = collate
        # Whether they are simply rows of an array, to be cast: then they may come as whole batches.
        self.is_array = dtype is not None and holds_array(data)

    @property
    def X(self) -> SliceDataset:
        """The inputs alone, where skorch's scoring callbacks look for them."""
        from skorch.helper import SliceDataset  # which imports much that is not needed before

        return SliceDataset(self, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all inputs, which skorch's InputShapeSetter asks for."""
        return (len(self), *np.shape(self[0][0]))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Any, Tensor]:
        x = as_pair(self.data[int(self.index[i])])[0]
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            x = x.copy()  # torch warns of arrays that are read-only, as memory maps are
        if self.dtype is not None:
            x = torch.as_tensor(x).to(self.dtype)
        return x, self.y[i]

    def __getitems__(self, which: Sequence[int]) -> list[tuple[Any, Tensor]]:
        if not self.is_array:
            return [self[i] for i in which]
        x = torch.as_tensor(self.data.X[self.index[which]]).to(self.dtype)
        return list(zip(x, self.y[which]))

    def take(self, which: ArrayLike) -> Rows:
        """The rows at the given positions, or where a mask is True.

        Parameters
        ----------
        which : array-like of int or of bool
            Positions, or a mask of as many rows as there are.

        Returns
        -------
        rows : Rows
            Another view of the same data.
        """
        which = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which)
        return Rows(self.data, self.y[which], self.index[which], self.dtype, self.collate)

    def relabel(self, y: Tensor) -> Rows:
        """The same rows with other targets.

        Parameters
        ----------
        y : torch.Tensor of shape (n_rows,) or (n_rows, n_labels)
            The targets.

        Returns
        -------
        rows : Rows
            Another view of the same data.
        """
        return Rows(self.data, y, self.index, self.dtype, self.collate)

    def cast(self, dtype: torch.dtype | None) -> Rows:
        """The same rows, their inputs of another type.

        Parameters
        ----------
        dtype : torch.dtype or None
            The type; None leaves inputs as they are.

        Returns
        -------
        rows : Rows
            Another view of the same data.
        """
        return Rows(self.data, self.y, self.index, dtype, self.collate)

    def join(self, other: Rows) -> Rows:
        """These rows, followed by others of the same data set.

        Parameters
        ----------
        other : Rows
            The others.

        Returns
        -------
        rows : Rows
            Another view of the same data.
        """
        y, index = torch.cat([self.y, other.y]), np.concatenate([self.index, other.index])
        return Rows(self.data, y, index, self.dtype, self.collate)

    def batch(self, which: Iterable[int] | None = None) -> tuple[Any, Tensor]:
        """Load some rows as one batch.

        Parameters
        ----------
        which : iterable of int, default=None
            Positions; all of them by default.

        Returns
        -------
        X : torch.Tensor or what the network's ``collate_fn`` makes
            The inputs.
        y : torch.Tensor
            The targets.
        """
        which = range(len(self)) if which is None else which
        return self.collate(self.__getitems__(list(which)))


def first_rows(rows, n):
    """At most the first `n` rows."""
    return rows.take(np.arange(len(rows))[:n])


def shapes_of(rows):
    """The shape of the first input, or those of its parts."""

    def shapes(x):
        if isinstance(x, Mapping):
            return {key: shapes(part) for key, part in x.items()}
        return list(map(shapes, x)) if isinstance(x, tuple | list) else tuple(np.shape(x))

    return shapes(rows.__getitems__([0])[0][0])


class JoinedRows(Dataset):
    """Rows of several data sets, one after the other, with the labels of all of them.

    Parameters
    ----------
    *parts : Rows
        The rows.
    """

    def __init__(self, *parts):
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])
        self.y = torch.cat([part.y for part in parts])

    X, shape = Rows.X, Rows.shape

    def __len__(self):
        return int(self.starts[-1])

    def part_of(self, which):
        """The number of the part that each of the given rows belongs to."""
        return np.searchsorted(self.starts[1:], which, side="right")

    def __getitem__(self, i):
        part = self.part_of(i)
        return self.parts[part][int(i - self.starts[part])]

    def __getitems__(self, which):
        which, items = np.asarray(which), [None] * len(which)
        parts = self.part_of(which)
        for part in np.unique(parts):
            at = np.flatnonzero(parts == part)
            some = self.parts[part].__getitems__(which[at] - self.starts[part])
            for i, item in zip(at, some):
                items[i] = item
        return items


class MarkedRows(JoinedRows):
    """Rows of several data sets, of which a training step can tell from which each one is.

    Not by their labels, which callbacks and loaders of the user see too.

    Attributes
    ----------
    marks : torch.Tensor of int64 of shape (n_rows,)
        The number of the part that each row of the current batch belongs to.
    labels : torch.Tensor of shape (n_rows,) or (n_rows, n_labels)
        The targets of the current batch, as its loader has made them.
    """

    marks = labels = None

    def __getitems__(self, which):
        return list(zip(super().__getitems__(which), self.part_of(which).tolist()))


class NumberedRows(MarkedRows):
    """Rows of which a training step can tell the position of each: that is its mark."""

    def part_of(self, which):
        """The position of each of the given rows; all are of one part."""
        return np.asarray(which)

    def __getitems__(self, which):
        return list(zip(self.parts[0].__getitems__(which), map(int, which)))


class MarkedBatch:
    """Collate pairs as `collate` does, apart from their marks.

    Parameters
    ----------
    collate : callable
        The loader's own.
    """

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, items):
        pairs, marks = zip(*items)
        batch = self.collate(list(pairs))
        y = torch.stack([torch.as_tensor(y) for _, y in pairs])
        if not torch.equal(torch.as_tensor(batch[1]), y):
            raise ValueError(
                "collate_fn of estimator's iterator_train must keep rows and labels in their "
                "order; got labels in another one. With packed sequences, use "
                "enforce_sorted=False in place of sorting."
            )
        return batch, torch.tensor(marks)


def take_rows(X, which):
    """The rows at the given positions of whatever a network takes as its input."""
    return Subset(X, which) if is_dataset(X) else multi_indexing(X, which)


def holds_array(data):
    """Whether the rows of a data set are simply those of an array."""
    return type(data) is Dataset and isinstance(data.X, np.ndarray | torch.Tensor)


def input_dtype(net, data):
    """What rows must be cast to before `net` can read them; None where they are left alone.

    Users hand in float64, float16 or integer arrays, as they would to any scikit-learn classifier,
    and a network takes exactly one floating-point type. Only plain arrays are cast: token ids for
    an embedding stay integers, and a data set of the user's own yields what the user meant.
    """
    if not holds_array(data):
        return None
    is_integer = np.asarray(data.X[:0]).dtype.kind in "iu"
    embeds = any(
        isinstance(m, torch.nn.Embedding | torch.nn.EmbeddingBag) for m in net.module_.modules()
    )
    if is_integer and embeds:
        return None
    floats = (p.dtype for p in net.module_.parameters() if p.dtype.is_floating_point)
    return next(floats, torch.get_default_dtype())


def rows_for(template, original, data, codes):
    """Rows with the target type the criterion takes, and the input type the network takes."""
    takes_float = isinstance(template, NeuralNetBinaryClassifier) or is_multilabel(template)
    y_type = torch.float32 if takes_float else torch.int64
    dtype = None if original is None else input_dtype(original, data)
    collate = template.get_params_for("iterator_train").get("collate_fn", default_collate)
    rows = Rows(data, torch.as_tensor(codes, dtype=y_type), dtype=dtype, collate=collate)
    return rows if original is None else cast_for(original, rows)


def cast_for(net, rows):
    """The same rows, their inputs and floating-point targets of the types that `net` takes."""
    floats = (p.dtype for p in net.module_.parameters() if p.dtype.is_floating_point)
    if rows.y.is_floating_point():
        rows = rows.relabel(rows.y.to(next(floats, torch.get_default_dtype())))
    return rows.cast(input_dtype(net, rows.data))


def check_batch(name, rows, items, X):
    """Refuse batches whose rows cannot be put in a batch again, by the same ``collate_fn``."""
    pairs = [(x, y) for x, (_, y) in zip(X, items)]
    if len(X) != len(items) or rows.collate(pairs)[0].shape != X.shape:
        raise ValueError(
            f"{name} makes rows up and needs a collate_fn of estimator's iterator_train that pads "
            f"rows and stacks them on the first axis; got a batch of shape {tuple(X.shape)} for "
            f"{len(items)} rows, of which the first has shape {tuple(np.shape(items[0][0]))}. Move "
            "axes in the module, or in the data set."
        )


def is_static(net, rows):
    """Whether training reads the same rows each time: those of arrays, batched by torch alone.

    A class or a callback of the user's that takes part in making batches may change them.
    """
    loader = getattr(net.iterator_train, "func", net.iterator_train)
    is_plain = loader is DataLoader and rows.collate is default_collate
    names = ("run_single_epoch", "get_iterator", "train_step", "train_step_single", "infer")
    hooks = [getattr(net, name) for name in ("on_batch_begin", *names)]
    hooks += [callback.on_batch_begin for _, callback in net.callbacks_]
    of_skorch = all(str(getattr(hook, "__module__", "")).startswith("skorch.") for hook in hooks)
    return is_plain and of_skorch and type(rows.data) is Dataset
