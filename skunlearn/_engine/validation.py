"""What comes in: numbers, rows, labels, masks, networks; what is refused; labels as codes.

It has over 500 lines because messages that name a way out are half of them.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import numbers
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _num_samples, validate_data
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from skorch.utils import is_dataset
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
)

from skunlearn._engine.data import Whole, as_pair, labels_of, plain_label

_PACKAGE = str(Path(__file__).parents[1])

# Messages of warnings, while somebody notes them.
_NOTED: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("_NOTED", default=None)

_REGRESSION_LOSSES = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.PoissonNLLLoss,
    nn.GaussianNLLLoss,
)

#: Parameters of an unlearner that replace the network's own for its run, unless they are None.
SETTINGS = ("lr", "optimizer", "batch_size", "max_epochs")

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


def check_number(name, value, low, high=np.inf, *, integer=False, low_open=False, high_open=False):
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
    low_open, high_open : bool, default=False
        Whether `low`, or `high`, itself is excluded.
    """
    kind = numbers.Integral if integer else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    is_above = is_number and (low < value if low_open else low <= value)
    if is_above and (value < high if high_open else value <= high):
        return
    what = "an integer" if integer else "a number"
    bound = f"greater than {low}" if low_open else f"at least {low}"
    if high < np.inf:
        bound += f" and {'less than' if high_open else 'at most'} {high}"
    raise ValueError(f"{name} must be {what} {bound}; got {value!r}.")


def check_settings(unlearner):
    """Raise a ValueError for what an unlearner sets on its network if it makes no sense there."""
    given = {name: getattr(unlearner, name, None) for name in SETTINGS}
    if given["lr"] is not None:
        check_number("lr", given["lr"], 0, low_open=True)
    for name in ("batch_size", "max_epochs"):
        if given[name] is not None:
            check_number(name, given[name], 1, integer=True)
    if given["optimizer"] is not None and not callable(given["optimizer"]):
        raise ValueError(
            "optimizer must be a torch.optim class (or functools.partial of one) or None for the "
            f"network's own; got {given['optimizer']!r}."
        )


def has_missing(values):
    """Whether an array has a value that is missing: None, NaN, or pandas' NA."""
    if values.dtype.kind != "O":
        return bool((values != values).any())
    # NaN is not equal to itself, and pandas' NA has no truth value.
    return any(
        value is None or type(value).__name__ == "NAType" or value != value for value in values.flat
    )


def check_groups(groups, name="groups"):
    groups = np.asarray(groups)
    if groups.ndim != 1 or len(groups) == 0:
        raise ValueError(
            f"{name} must have shape (n_samples,), with at least one row; got {groups.shape}."
        )
    if has_missing(groups):
        raise ValueError(f"{name} must name the group of every row; got missing values.")
    _check_names(groups, name)
    return groups


def _check_names(groups, name):
    """Refuse names of groups that are not of one type, and so have no order."""
    if groups.dtype.kind != "O":
        return
    kinds = sorted({type(group).__name__ for group in groups})
    if len(kinds) == 1:
        return
    try:
        np.sort(groups)
    except TypeError as error:
        raise ValueError(
            f"{name} must hold names of one type; got {' and '.join(kinds)}."
        ) from error


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
    if len({array.dtype.kind for array in checked}) > 1:
        checked = [array.astype(object) for array in checked]
        _check_names(np.concatenate(checked), " and ".join(groups))
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
    y = np.asarray(plain_label(y))
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


@contextlib.contextmanager
def noted_warnings():
    """Note the messages of warnings that the package gives, whatever becomes of the warnings."""
    messages = []
    token = _NOTED.set(messages)
    try:
        yield messages
    finally:
        _NOTED.reset(token)


def note_warning(message):
    """Add the message of a warning to what is noted, if it is."""
    messages = _NOTED.get()
    if messages is not None:
        messages.append(message)


def warn(message, noted=None, category=UserWarning):
    """Warn of the first call from outside the package.

    `noted` is what a record has of it, where the message says more than a record should keep.
    """
    note_warning(noted or message)
    frame, level = inspect.currentframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def check_network_X(unlearner, net, X):
    """Rows for a network to predict; a data set is left to skorch."""
    X = unwrapped(X)
    return X if is_lazy(net, X) else validate_data(unlearner, X, reset=False, allow_nd=True)


def check_network_data(unlearner, net, takes_several, X, y, x_name, y_name, reset):
    """Rows as a data set and their labels, for the network of an unlearner to train on.

    Where it `takes_several` labels per row, labels may be an indicator matrix.
    """
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
    check_targets(unlearner, net, takes_several, y, y_name)
    return data, y if is_multilabel(net) else column_or_1d(y, warn=True)


def check_targets(unlearner, net, takes_several, y, y_name):
    """Raise a ValueError for labels of a kind that the criterion, or the method, does not take."""
    if has_missing(y):
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
    if given and not takes_several:
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


def check_network(net):
    """Refuse what is no network that classifies."""
    if not isinstance(net, NeuralNet) or isinstance(net, NeuralNetRegressor):
        raise ValueError(
            "estimator must be a skorch network that classifies, such as "
            f"skorch.NeuralNetClassifier, or one in a FrozenEstimator; got {net!r}."
        )
    criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
    if issubclass(criterion, _REGRESSION_LOSSES):
        raise ValueError(
            f"estimator has the criterion {criterion.__name__}, which is a regression loss; "
            "use a classification loss, such as torch.nn.CrossEntropyLoss."
        )
    check_samplers(net)


def check_samplers(net):
    """Refuse samplers of given rows: each run here has rows of its own."""
    loader = getattr(net.iterator_train, "keywords", {})
    given = {
        f"iterator_train__{name}": getattr(net, f"iterator_train__{name}", loader.get(name))
        for name in ("sampler", "batch_sampler")
    }
    for name, value in given.items():
        if value is not None and not callable(value):
            raise ValueError(
                f"{name} of estimator is a {type(value).__name__} made for certain rows, and an "
                "unlearning run has others: its weights would fall on the wrong ones. Pass a "
                "function that makes one of the encoded labels of the rows at hand, such as "
                f"{name}=lambda y: WeightedRandomSampler(1 / np.bincount(y)[y], len(y)). For a "
                f"network that is trained already, set net.{name}."
            )
    for name in ("sampler", "batch_sampler"):
        if getattr(net, f"iterator_valid__{name}", None) is not None:
            raise ValueError(
                f"iterator_valid__{name} of estimator must not be set: predictions would come in "
                "another order than their rows."
            )


@dataclass(frozen=True)
class Task:
    """What `fit` or `unlearn` was given, checked; labels are codes, positions in `classes_`."""

    data: object
    codes: np.ndarray
    mask: np.ndarray
    val: tuple | None
    groups: object


@dataclass
class Given:
    """The arguments of `fit` or `unlearn`, as they came."""

    X: object
    y: object
    forget: object
    X_val: object
    y_val: object
    groups: object

    def check(self, unlearner, check_data, needs, *, reset, unlearns):
        """The arguments as a task, which marks rows if it `unlearns`.

        If `reset`, the `unlearner` is told its classes and its number of features.
        ``check_data(X, y, x_name, y_name, reset)`` returns rows and labels.
        """
        X, y = unwrapped(self.X), unwrapped(self.y)
        data, y = check_data(X, y, "X", "y", reset)
        mask = np.zeros(len(y), dtype=bool)
        if self.forget is not None:
            mask = check_forget(self.forget, len(y), X)
        if unlearns and not mask.any():
            raise ValueError(
                "forget marks no row: nothing to unlearn. Pass a boolean mask of shape "
                f"({len(y)},) that is True for the rows to forget."
            )
        val = self._held_out(check_data)
        if mask.any():
            _check_needs(needs, mask, val, type(unlearner).__name__)
        if reset:
            unlearner.classes_ = unlearner._check_classes(data, y)
        codes = encode_labels(y, unlearner.classes_)
        if val is not None:
            val = val[0], encode_labels(val[1], unlearner.classes_, "y_val")
        return Task(data, codes, mask, val, self.groups)

    def check_not_sliced(self, name):
        """Refuse held-out rows that scikit-learn may have sliced with the folds of a search."""
        if self.X_val is None or isinstance(self.X_val, Whole):
            return
        n, n_val = (
            _num_samples(next(iter(rows.values())) if isinstance(rows, Mapping) else rows)
            for rows in (self.X, self.X_val)
        )
        if n == n_val:
            raise ValueError(
                f"X_val has as many rows as X, {n}, and this {name} is a clone, as "
                "searches and cross-validation make them. scikit-learn slices with the folds "
                "whatever has as many rows as X, so that these may be a part of the held-out rows "
                "alone. Pass X_val=skunlearn.model_selection.Whole(X_val) and "
                "y_val=skunlearn.model_selection.Whole(y_val), which nothing slices."
            )

    def _held_out(self, check_data):
        X_val, y_val = unwrapped(self.X_val), unwrapped(self.y_val)
        if X_val is None:
            if y_val is not None:
                raise ValueError("y_val was given without X_val; pass the rows it belongs to.")
            return None
        if y_val is None and not is_dataset(X_val):
            check_kind(X_val, "X_val")
            raise ValueError("X_val was given without y_val; pass the labels of the held-out rows.")
        try:
            return check_data(X_val, y_val, "X_val", "y_val", False)
        except ValueError as error:
            if "_val" in str(error):
                raise
            raise ValueError(f"X_val or y_val is not as it should be: {error}") from error


def _check_needs(needs, mask, val, name):
    """Raise a ValueError for what a method cannot work without and was not given."""
    if "retain" in needs and mask.all():
        raise ValueError(
            f"{name} needs retained rows, but forget is True for all {len(mask)} rows of X; pass "
            "the rows to retain along with those to forget."
        )
    if "val" in needs and val is None:
        raise ValueError(
            f"{name}, as it is set up, needs held-out rows; pass them as X_val and y_val."
        )


def check_row_shapes(net, data, held_out):
    """Refuse held-out rows with another first axis than rows that are stacked as they are."""
    if "collate_fn" in net.get_params_for("iterator_train"):  # which may pad them
        return
    shapes = [tuple(getattr(part[0][0], "shape", ())) for part in (held_out, data)]
    if all(shapes) and (shapes[0][0] != shapes[1][0] or len(shapes[0]) != len(shapes[1])):
        raise ValueError(
            f"X_val must have rows of the shape of those of X, {shapes[1]}; got {shapes[0]}."
        )
