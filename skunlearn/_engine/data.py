"""Data sets: their pairs and labels, and held-out rows that nothing slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from skorch.dataset import Dataset
from skorch.utils import is_dataset
from torch.utils.data import ConcatDataset, StackDataset, Subset, TensorDataset

if TYPE_CHECKING:
    from typing import Any


class Whole:
    """Held-out rows, or their labels, that no search and no cross-validation slices.

    scikit-learn slices with the folds whatever is passed to `fit` and has as many rows as `X`.
    Held-out rows with as many rows would lose some in each fold, so an unlearner refuses them in a
    search unless they come in this holder.

    Parameters
    ----------
    rows : array-like, dict, torch.utils.data.Dataset or None
        What `fit` takes as `X_val` or `y_val`.

    See Also
    --------
    skunlearn.BaseUnlearner.fit : Takes it as `X_val` and `y_val`.
    ForgetKFold : Folds for searches over unlearners.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn import config_context
    >>> from sklearn.model_selection import cross_validate
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune
    >>> from skunlearn.metrics import get_scorer
    >>> from skunlearn.model_selection import ForgetKFold, Whole
    >>> def linear(n_features_in, n_classes):
    ...     return nn.Linear(n_features_in, n_classes)
    >>> net = NeuralNetClassifier(
    ...     linear, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, X_val = rng.normal(size=(2, 60, 4))
    >>> y, y_val = X[:, 0] > 0, X_val[:, 0] > 0
    >>> params = {"forget": np.arange(60) < 10, "X_val": Whole(X_val), "y_val": Whole(y_val)}
    >>> with config_context(enable_metadata_routing=True):
    ...     found = cross_validate(
    ...         FineTune(net, random_state=0), X, y, cv=ForgetKFold(2),
    ...         scoring=get_scorer("utility"), params=params,
    ...     )
    >>> found["test_score"].shape
    (2,)
    """

    # Without a length, a shape or __array__, it is no array to scikit-learn.
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __repr__(self):
        return f"{type(self).__name__}({self.rows!r})"


def as_pair(item, name="X"):
    """An item of a data set, which is a pair (x, label); others are a `ValueError`."""
    if isinstance(item, tuple | list) and len(item) == 2:
        return item
    wrapping = f"skunlearn.datasets.LabelledDataset({name}, "
    if isinstance(item, Mapping):
        got = f"a dict with the keys {list(item)[:20]}"
        way = f"{wrapping}label='...') takes the label of each row from the key that you name."
    elif isinstance(item, tuple | list) and len(item) > 2:
        got = f"a {type(item).__name__} of {len(item)}"
        way = (
            f"{wrapping}label={len(item) - 1}, inputs=0) takes the label from the given position, "
            "counted from 0, and leaves out the rest."
        )
    else:
        shape = f" of shape {tuple(item.shape)}" if hasattr(item, "shape") else ""
        got = f"a bare row, {type(item).__name__}{shape}"
        way = (
            f"torch.utils.data.StackDataset({name}, y) yields pairs of rows and labels; for rows "
            f"without labels, to predict them, there is {wrapping}label=None)."
        )
    raise ValueError(f"{name} must yield pairs (x, label) as its items; got {got}. {way}")


def labels_of(data, name="X"):
    """The labels that a data set yields, without reading all rows where it keeps them apart."""
    labels = _labels_apart(data, name)
    if labels is None:
        labels = [plain_label(as_pair(data[i], name)[1]) for i in range(len(data))]
    return np.asarray(labels)


def _labels_apart(data, name):
    """The labels that a data set keeps apart from its rows, or None."""

    def reads_as(kind):
        return isinstance(data, kind) and type(data).__getitem__ is kind.__getitem__

    if reads_as(Subset):
        labels = _labels_apart(data.dataset, name)
        return None if labels is None else labels[np.asarray(data.indices, dtype=int)]
    if reads_as(ConcatDataset):
        parts = [_labels_apart(part, name) for part in data.datasets]
        return None if any(part is None for part in parts) else np.concatenate(parts)
    if reads_as(TensorDataset) and len(data.tensors) == 2:
        return np.asarray(plain_label(data.tensors[1]))
    if reads_as(StackDataset) and isinstance(data.datasets, tuple) and len(data.datasets) == 2:
        labels = data.datasets[1]
        return None if is_dataset(labels) else np.asarray([plain_label(label) for label in labels])
    if (isinstance(data, Dataset) and data.y is None) or getattr(data, "label", "") is None:
        raise ValueError(
            f"{name} holds no labels, for it is a {type(data).__name__} without any; pass them as "
            f"y{name[1:]}."
        )
    n = len(data)
    tensors = getattr(data, "tensors", ())
    kept = [getattr(data, "y", None), getattr(data, "targets", None)]
    for y in [*kept, tensors[1]] if len(tensors) == 2 else kept:
        # It may be something else: labels before a transformation, or the persons of whom the rows
        # yield the age.
        if hasattr(y, "__len__") and len(y) == n:
            y, few = np.asarray(plain_label(y)), {0, n // 2, n - 1} if n else ()
            yielded = {i: np.asarray(plain_label(as_pair(data[i], name)[1])) for i in few}
            if all(np.array_equal(label, y[i]) for i, label in yielded.items()):
                return y
    return None


def plain_label(label):
    return label.detach().cpu().numpy() if isinstance(label, torch.Tensor) else label
