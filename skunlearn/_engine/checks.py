"""Checks of a network, and of the rows and labels that it is given."""

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data
from skorch import NeuralNet, NeuralNetRegressor
from skorch.utils import is_dataset
from torch import nn

from skunlearn._engine.build import check_samplers
from skunlearn._engine.inputs import as_pair, is_lazy, labels_of, unwrapped
from skunlearn._engine.outputs import is_multilabel
from skunlearn._engine.rows import as_dataset

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
        several = (
            f"{type(unlearner).__name__} works with one label per row"
            if taken
            else (f"the criterion of estimator, {name}, takes one label per row")
        )
        raise ValueError(
            f"{y_name} is an indicator matrix of 0 and 1, of shape {y.shape}, but {several}. "
            + (f"It is one-hot: pass {way}." if one_hot else "")
            + ("" if one_hot or taken else "Use torch.nn.BCEWithLogitsLoss.")
        )
    if taken and not given:
        raise ValueError(
            f"{y_name} has one label per row, shape {y.shape}, and is not an indicator matrix "
            f"of 0 and 1, which the criterion of estimator, {name}, takes. For one label per "
            "row, use torch.nn.CrossEntropyLoss and a module with an output for each class, or "
            "for two classes skorch.NeuralNetBinaryClassifier and a module with one output. "
            f"For several labels per row, pass {y_name} of shape (n_samples, n_labels)."
        )


def distinct_classes(y):
    """The classes that labels name; one alone is a ValueError."""
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"y has one class, {classes.tolist()}; a classifier needs at least two.")
    return classes
