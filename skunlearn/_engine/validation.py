"""What comes in: numbers, rows, labels, masks; what is refused; labels as codes."""

from __future__ import annotations

import inspect
import numbers
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data
from skorch import NeuralNetBinaryClassifier
from skorch.dataset import Dataset
from skorch.utils import is_dataset
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
)

if TYPE_CHECKING:
    from typing import Any

_PACKAGE = str(Path(__file__).parents[1])

_INDICATOR_LOSSES = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.MultiLabelSoftMarginLoss,
)


def check_forget(forget, n_samples, X=None):
    """Return a forget mask as a boolean array of shape (n_samples,).

    Parameters
    ----------
    forget : array-like of bool of shape (n_samples,)
        A NumPy array, a list of bools, a pandas Series or a torch tensor. True
        marks a row to forget. A mask that is True everywhere, or nowhere, is
        accepted: whether that makes sense is for the caller to say.
    n_samples : int
        The number of rows the mask has to cover.
    X : array-like, default=None
        The rows. A pandas mask has to have the index of a pandas `X`: rows are taken by position.

    Returns
    -------
    mask : ndarray of bool of shape (n_samples,)
        The mask; it may share memory with `forget`.

    Raises
    ------
    ValueError
        If `forget` is not boolean or not of shape (n_samples,), or its index is not
        that of `X`. Row indices are refused rather than converted, because
        scikit-learn slices a mask with the rows of each fold but hands an index
        array through whole.

    Examples
    --------
    >>> from skunlearn._engine.validation import check_forget
    >>> check_forget([True, False, False], 3)
    array([ True, False, False])
    """
    if hasattr(forget, "detach"):  # a torch tensor, perhaps on a device NumPy cannot read
        forget = forget.detach().cpu()
    wanted = f"forget must be a boolean mask of shape ({n_samples},), True for the rows to forget"
    try:
        mask = np.asarray(forget)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wanted}; got {type(forget).__name__}: {error}") from error
    # pandas' nullable booleans arrive as objects, and are a mask if none is missing.
    if mask.dtype == object and getattr(forget, "dtype", None) == "boolean":
        missing = np.flatnonzero([not isinstance(value, bool | np.bool_) for value in mask])
        if missing.size:
            raise ValueError(
                f"{wanted}; got a nullable boolean array with missing values at rows "
                f"{missing[:5].tolist()}; fill them first, as with forget.fillna(False)."
            )
        mask = mask.astype(bool)
    if mask.ndim == 0:
        raise ValueError(f"{wanted}; got {forget!r}.")
    if mask.dtype != bool:
        if mask.shape == (n_samples,) and np.isin(mask, (0, 1)).all():
            hint = "; 0 and 1 become a mask with mask.astype(bool)"
        elif np.issubdtype(mask.dtype, np.integer):
            hint = (
                "; turn row indices into a mask with "
                f"mask = np.zeros({n_samples}, dtype=bool); mask[indices] = True"
            )
        elif mask.dtype.kind in "US":
            hint = "; forget_mask(groups, names) makes a mask of people's names"
        else:
            hint = "; compare or convert it to booleans first"
        raise ValueError(f"{wanted}; got an array of {mask.dtype}, shape {mask.shape}{hint}.")
    if mask.shape != (n_samples,):
        raise ValueError(
            f"{wanted}, one entry for each row of X; got a boolean array of shape {mask.shape}."
        )
    if hasattr(X, "iloc") and hasattr(forget, "iloc") and not X.index.equals(forget.index):
        raise ValueError(
            f"{wanted}, in the order of X; got one whose pandas index is not that of X, and rows "
            "are taken by position. Align it with forget.loc[X.index], or pass forget.to_numpy()."
        )
    return mask


def check_number(name, value, low, high=np.inf, *, integer=False, low_open=False):
    """Raise a ValueError unless a hyperparameter is a number in its range.

    Parameters
    ----------
    name : str
        The hyperparameter.
    value : object
        What it was set to.
    low, high : float
        The range, both ends included.
    integer : bool, default=False
        Whether it must be an integer.
    low_open : bool, default=False
        Whether `low` itself is excluded.
    """
    kind = numbers.Integral if integer else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    if is_number and (low < value if low_open else low <= value) and value <= high:
        return
    what = "an integer" if integer else "a number"
    bound = f"greater than {low}" if low_open else f"at least {low}"
    if high < np.inf:
        bound += f" and at most {high}"
    raise ValueError(f"{name} must be {what} {bound}; got {value!r}.")


def check_groups(groups, name="groups"):
    groups = np.asarray(groups)
    if groups.ndim != 1 or len(groups) == 0:
        raise ValueError(
            f"{name} must have shape (n_samples,), with at least one row; got {groups.shape}."
        )
    if (groups != groups).any():
        raise ValueError(f"{name} must name the group of every row; got missing values (NaN).")
    return groups


def check_sides_groups(sides, **groups):
    """The groups of forget rows and of unseen ones, or None twice; one alone is a ValueError."""
    missing = [name for name, value in groups.items() if value is None]
    if len(missing) == len(groups):
        return (None,) * len(groups)
    if missing:
        raise ValueError(f"{' and '.join(groups)} must be given together; got {missing[0]}=None.")
    checked = []
    for side, (name, value) in zip(sides, groups.items()):
        checked.append(check_groups(value, name))
        if len(checked[-1]) != len(side):
            raise ValueError(
                f"{name} must name the group of each of the {len(side)} rows; got "
                f"{len(checked[-1])}."
            )
    return tuple(checked)


def check_values(name, value, ndim, what):
    """Return a non-empty array of a wanted number of axes, without NaN or infinity."""
    array = np.asarray(value)
    if array.ndim not in ndim or array.size == 0:
        raise ValueError(f"{name} must be {what}; got an array of shape {array.shape}.")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite; got NaN or infinity in "
            f"{np.count_nonzero(~np.isfinite(array))} of {array.size} values."
        )
    return array


def is_multilabel(net):
    """Whether the criterion takes an indicator matrix: a column of 0 and 1 for each label."""
    criterion = net.criterion.func if isinstance(net.criterion, partial) else net.criterion
    criterion = criterion if isinstance(criterion, type) else type(criterion)
    return issubclass(criterion, _INDICATOR_LOSSES) and not isinstance(
        net, NeuralNetBinaryClassifier
    )


def as_dataset(net, X):
    """The data set that `net` reads `X` from; a data set is returned as it is."""
    return X if is_dataset(X) else net.get_dataset(X)


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


def unwrapped(X):
    """The rows in a `Whole`, or `X` as it is; a tensor is taken to the CPU and out of its graph."""
    while isinstance(X, Whole):
        X = X.rows
    return X.detach().cpu() if isinstance(X, torch.Tensor) else X


def is_lazy(net, X, name="X"):
    """Whether `X` is left to skorch: a data set, a dict, or what a custom one is made of.

    A `ValueError` says what to pass in place of something that is neither that nor an array.
    """
    from skorch.helper import SliceDataset  # which imports much that is not needed before

    check_kind(X, name)
    if isinstance(X, SliceDataset) and len(X) and not isinstance(X.dataset[0], tuple | list):
        as_pair(X.dataset[0], f"the data set of {name}")
    return (
        is_dataset(X)
        or isinstance(X, SliceDataset)
        or (isinstance(X, Mapping) and not issparse(X))
        or net.dataset is not Dataset
    )


def check_kind(X, name):
    """Refuse what cannot be cut into rows to forget and rows to retain."""
    wanted = f"{name} must be an array, a dict of arrays, or a data set with a length"
    if isinstance(X, DataLoader):
        raise ValueError(
            f"{wanted}; got a DataLoader. Pass its data set, {name}.dataset; the network makes the "
            "batches, as its batch_size and iterator_train__... say."
        )
    if is_dataset(X):
        if isinstance(X, IterableDataset) or not hasattr(X, "__len__"):
            raise ValueError(
                f"{wanted}; got {type(X).__name__}, an IterableDataset or another that has no "
                "length, whose rows cannot be asked for one by one. If its pairs fit into memory, "
                f"pass torch.utils.data.StackDataset(*zip(*{name})); or else write a data set with "
                "__len__ and __getitem__."
            )
        return
    if isinstance(X, Mapping) or issparse(X) or hasattr(X, "__array__") or hasattr(X, "iloc"):
        return
    if not (hasattr(X, "__getitem__") and hasattr(X, "__len__")) or not len(X):
        return
    # A list, or a data set of another library, such as Hugging Face's.
    first = X[0] if isinstance(X, list | tuple) or hasattr(X, "column_names") else None
    if isinstance(first, Mapping):
        as_pair(first, name)
    if isinstance(first, tuple) and len(first) == 2 and np.ndim(first[0]) > np.ndim(first[1]) == 0:
        raise ValueError(
            f"{wanted}; got a {type(X).__name__} of pairs. Make it a data set, with "
            f"torch.utils.data.StackDataset(*zip(*{name}))."
        )


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
        labels = [_plain(as_pair(data[i], name)[1]) for i in range(len(data))]
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
        return np.asarray(_plain(data.tensors[1]))
    if reads_as(StackDataset) and isinstance(data.datasets, tuple) and len(data.datasets) == 2:
        labels = data.datasets[1]
        return None if is_dataset(labels) else np.asarray([_plain(label) for label in labels])
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
            y, few = np.asarray(_plain(y)), {0, n // 2, n - 1} if n else ()
            yielded = {i: np.asarray(_plain(as_pair(data[i], name)[1])) for i in few}
            if all(np.array_equal(label, y[i]) for i, label in yielded.items()):
                return y
    return None


def _plain(label):
    return label.detach().cpu().numpy() if isinstance(label, torch.Tensor) else label


def given_labels(name, X, y):
    """The labels of rows, out of the data set `X` where `y` is None."""
    if y is None:
        rows = f"X{name[1:]}"
        check_kind(X, rows)
        if not is_dataset(X):
            raise ValueError(
                f"{name} must be given unless {rows} is a data set of pairs; got None, and "
                f"{rows} of type {type(X).__name__}."
            )
        y = labels_of(X, rows)
    y = np.asarray(_plain(y))
    return y if y.ndim == 2 and y.shape[1] > 1 else column_or_1d(y)


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
            f"{np.unique(y[unknown])[:10].tolist()}. It knows {classes.tolist()}. A network that "
            "was trained on numbers is told the labels of its columns by "
            "net.set_params(classes=[...]), in the order of the columns."
        )
    return codes


def distinct_classes(y):
    """The classes that labels name; one alone is a ValueError."""
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"y has one class, {classes.tolist()}; a classifier needs at least two.")
    return classes


def warn(message):
    """Warn with a UserWarning, of the first call from outside the package."""
    frame, level = inspect.currentframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def check_network_X(unlearner, net, X):
    """Rows for a network to predict; a data set is left to skorch."""
    X = unwrapped(X)
    return X if is_lazy(net, X) else validate_data(unlearner, X, reset=False, allow_nd=True)


def check_network_data(unlearner, net, X, y, x_name, y_name, reset):
    """Rows as a data set and their labels, for the network of an unlearner to train on."""
    if is_lazy(net, X, x_name):
        if reset:
            for name in ("n_features_in_", "feature_names_in_"):
                vars(unlearner).pop(name, None)
        data = as_dataset(net, X)
        if not len(data):
            raise ValueError(f"{x_name} must hold at least one row; got none.")
        as_pair(data[0], x_name)
        if y is None:
            if not is_dataset(X):
                raise ValueError(f"{y_name} must be given unless {x_name} yields pairs.")
            y = labels_of(data, x_name)
        y = np.asarray(y)
        if y.shape[:1] != (len(data),):
            raise ValueError(
                f"{y_name} must have a label for each of the {len(data)} rows of {x_name}; "
                f"got shape {y.shape}."
            )
    else:
        X, y = validate_data(unlearner, X, y, reset=reset, allow_nd=True, multi_output=True)
        data = as_dataset(net, X)
    check_targets(unlearner, net, y, y_name)
    return data, y if is_multilabel(net) else column_or_1d(y, warn=True)


def check_targets(unlearner, net, y, y_name):
    """Raise a ValueError for labels of a kind that the criterion does not take."""
    # Of what is missing, NaN is not equal to itself, and pandas' NA has no truth value.
    if y.dtype.kind in "fO" and any(
        value is None or type(value).__name__ == "NAType" or value != value for value in y.flat
    ):
        raise ValueError(f"{y_name} must hold the label of every row; got missing values.")
    try:
        check_classification_targets(y)
        given, taken = type_of_target(y) == "multilabel-indicator", is_multilabel(net)
    except ValueError as error:
        raise ValueError(
            f"{y_name}: {error} Pass one class for each row, such as the argmax of shares of "
            "several, or an indicator matrix of 0 and 1."
        ) from error
    name = getattr(net.criterion, "__name__", type(net.criterion).__name__)
    one_hot = given and (y.sum(axis=1) == 1).all()
    if given and not (taken and unlearner.multilabel):
        way = f"{y_name}.argmax(axis=1)"
        if hasattr(net, "classes") and net.classes is not None:
            way = f"np.asarray(net.classes)[{way}]"
        several = f"the criterion of estimator, {name}, takes"
        remedy = "Use torch.nn.BCEWithLogitsLoss."
        if taken:
            several = f"{type(unlearner).__name__} works with"
            remedy = "Use a method whose attribute multilabel is True, such as DLFD."
        elif isinstance(net, NeuralNetBinaryClassifier):
            several = "a NeuralNetBinaryClassifier takes"
            remedy = "Use skorch.NeuralNetClassifier with torch.nn.BCEWithLogitsLoss."
        raise ValueError(
            f"{y_name} is an indicator matrix of 0 and 1, of shape {y.shape}, but {several} "
            f"one label per row. {f'It is one-hot: pass {way}.' if one_hot else remedy}"
        )
    if taken and not given:
        raise ValueError(
            f"{y_name} has one label per row, shape {y.shape}, and is not an indicator matrix "
            f"of 0 and 1, which the criterion of estimator, {name}, takes. For one label per "
            "row, use torch.nn.CrossEntropyLoss and a module with an output for each class, or "
            "for two classes skorch.NeuralNetBinaryClassifier and a module with one output. "
            f"For several labels per row, pass {y_name} of shape (n_samples, n_labels)."
        )
