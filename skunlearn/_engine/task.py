"""What a run is about: a network that is checked, and the arguments of `fit` as a task."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import _num_samples
from skorch import NeuralNet, NeuralNetRegressor
from skorch.utils import is_dataset
from torch import nn

from skunlearn._engine.validation import (
    Whole,
    as_pair,
    check_forget,
    check_kind,
    encode_labels,
    unwrapped,
)

_REGRESSION_LOSSES = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.PoissonNLLLoss,
    nn.GaussianNLLLoss,
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
    shapes = [tuple(getattr(as_pair(part[0])[0], "shape", ())) for part in (held_out, data)]
    if all(shapes) and (shapes[0][0] != shapes[1][0] or len(shapes[0]) != len(shapes[1])):
        raise ValueError(
            f"X_val must have rows of the shape of those of X, {shapes[1]}; got {shapes[0]}."
        )
