"""Rows of a data set as a network reads them: lazily, with encoded labels, in its dtype."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import issparse
from skorch.dataset import Dataset
from skorch.utils import is_dataset
from torch.utils.data import default_collate


class Rows(torch.utils.data.Dataset):
    """A view of some rows of a data set, read only when asked for.

    Parameters
    ----------
    data : torch.utils.data.Dataset
        Yields pairs whose first element is one row; the second is ignored.
    y : torch.Tensor of shape (n_rows,) or (n_rows, n_labels)
        What the criterion takes as the target of each row of this view.
    index : ndarray of shape (n_rows,), optional
        Positions in `data`; all of them by default.
    dtype : torch.dtype, optional
        What arrays are cast to; they are left as they are by default.
    """

    def __init__(self, data, y, index=None, dtype=None):
        self.data = data
        self.y = y
        self.index = np.arange(len(data)) if index is None else index
        self.dtype = dtype

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        x = self.data[int(self.index[i])][0]
        if self.dtype is not None:
            # np.array copies: torch warns of arrays that are read-only, as memory maps are.
            x = (x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))).to(self.dtype)
        return x, self.y[i]

    def take(self, which):
        """The rows at the given positions, or where a mask is True, as another view."""
        which = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which)
        return Rows(self.data, self.y[which], self.index[which], self.dtype)

    def relabel(self, y):
        """The same rows with other targets."""
        return Rows(self.data, y, self.index, self.dtype)

    def batch(self, which=None):
        """Load the rows at the given positions (all by default) as one batch ``(X, y)``."""
        which = range(len(self)) if which is None else which
        return default_collate([self[i] for i in which])


def is_lazy(X):
    """Whether `X` is left to skorch to read: a data set, or a dict of arrays."""
    return is_dataset(X) or (isinstance(X, Mapping) and not issparse(X))


def as_dataset(net, X):
    """The data set that `net` reads `X` from; a data set is returned as it is."""
    return X if is_dataset(X) else net.get_dataset(X)


def input_dtype(net, data):
    """What rows must be cast to before `net` can read them; None where they are left alone.

    Users hand in float64, float16 or integer arrays, as they would to any scikit-learn classifier,
    and a network takes exactly one floating-point type. Only plain arrays are cast: token ids for
    an embedding stay integers, and a data set of the user's own yields what the user meant.
    """
    if type(data) is not Dataset or not isinstance(data.X, np.ndarray | torch.Tensor):
        return None
    is_integer = np.asarray(data.X[:0]).dtype.kind in "iu"
    embeds = any(
        isinstance(m, torch.nn.Embedding | torch.nn.EmbeddingBag) for m in net.module_.modules()
    )
    if is_integer and embeds:
        return None
    floats = (p.dtype for p in net.module_.parameters() if p.dtype.is_floating_point)
    return next(floats, torch.get_default_dtype())


def encode_labels(y, classes, name="y"):
    """Position of each label in `classes`; a `ValueError` names labels that are not in it.

    An indicator matrix, with a column for each of the `classes`, is returned as it is.
    """
    if y.ndim == 2:
        if y.shape[1] != len(classes):
            raise ValueError(f"{name} has {y.shape[1]} labels, not {len(classes)}.")
        return y
    order = np.argsort(classes)
    position = np.searchsorted(classes, y, sorter=order)
    codes = order[np.minimum(position, len(order) - 1)]
    unknown = classes[codes] != y
    if unknown.any():
        raise ValueError(
            f"{name} holds labels that the network was not trained on: "
            f"{np.unique(y[unknown])[:10].tolist()}. It knows {classes.tolist()}."
        )
    return codes
