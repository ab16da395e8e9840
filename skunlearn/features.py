"""Reading a network's features at a named layer, and adding to a layer's output."""

import contextlib

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from skorch import NeuralNet
from skorch.dataset import unpack_data
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from ._data import Rows, as_dataset, input_dtype, is_lazy
from ._network import modes_kept, plain, quiet, released
from ._validation import check_number


def feature_layer(net, layer, X, parameter="feature_layer"):
    """Find the layer whose activations are the features.

    Parameters
    ----------
    net : skorch.NeuralNet
        An initialised network.
    layer : str
        ``"auto"`` for the input of the linear layer that runs last, or the name of a submodule,
        whose output is meant.
    X : torch.Tensor or dict
        A batch to find out which linear layer runs last.
    parameter : str, default="feature_layer"
        What the user knows `layer` as, for messages.

    Returns
    -------
    module : torch.nn.Module
        The submodule to listen to.
    takes_input : bool
        Whether its input is meant, not its output.

    Raises
    ------
    ValueError
        If there is no such layer; the message lists the names that exist.
    """
    if layer != "auto":
        return named_layer(net, layer, parameter), False
    last = []
    linear = [m for m in net.module_.modules() if isinstance(m, nn.Linear)]
    with contextlib.ExitStack() as stack:
        for module in linear:
            handle = module.register_forward_pre_hook(lambda module, args: last.append(module))
            stack.callback(handle.remove)
        net.evaluation_step((X, None))
    if not last:
        raise ValueError(
            f"{parameter}='auto' takes the input of the network's last linear layer, but no "
            f"torch.nn.Linear runs in {type(net.module_).__name__}. Name a layer whose output to "
            f"use: {layer_names(net)}."
        )
    return last[-1], True


def layer_names(net):
    """Names of the network's submodules, as `feature_layer` takes them."""
    return [name for name, _ in net.module_.named_modules() if name]


def named_layer(net, name, parameter):
    """The submodule called `name`; a `ValueError` about `parameter` lists the names that exist."""
    modules = dict(net.module_.named_modules())
    if not name or name not in modules:
        raise ValueError(
            f"{parameter}={name!r} is not a layer of {type(net.module_).__name__}; "
            f"its layers are {layer_names(net)}."
        )
    return modules[name]


@contextlib.contextmanager
def reading(module, takes_input):
    """Collect the activations at a layer, a tensor for each forward pass made in the context."""
    read = []

    def keep(activation):
        activation = _first(activation)
        if isinstance(activation, PackedSequence):
            activation = activation.data
        read.append(activation.clone())  # which a ReLU in place may be about to overwrite

    if takes_input:
        handle = module.register_forward_pre_hook(
            lambda module, args, kwargs: keep(args or tuple(kwargs.values())), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(lambda module, args, output: keep(output))
    try:
        yield read
    finally:
        handle.remove()


def _first(output):
    """The first of several outputs; a packed sequence is a tuple, but one output."""
    several = isinstance(output, tuple) and not isinstance(output, PackedSequence)
    return output[0] if several else output


def added(values, delta):
    """A tensor, or the steps of packed sequences, with `delta` added."""
    if isinstance(values, PackedSequence):
        return values._replace(data=values.data + delta)
    return values + delta


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


def value_range(read, items):
    """The limits of the values of some rows, for each feature by itself.

    The features are on the second axis, or on the last where the length of the second varies from
    batch to batch, as that of padded sequences does. If both vary, all values have one range.

    Parameters
    ----------
    read : callable
        Returns the values, a tensor, for a batch of a list of items.
    items : list of tuple
        Items of a data set.

    Returns
    -------
    low, high : torch.Tensor
        They broadcast against the values of any batch.
    """
    batch = read(items)
    sizes = [np.prod(np.shape(x)) if hasattr(x, "shape") else len(x) for x, _ in items]
    ends = [read([items[i]] * 2) for i in {int(np.argmin(sizes)), int(np.argmax(sizes))}]
    parts, shapes = [batch], {part.shape[1:] for part in (batch, *ends)}
    if len(shapes) > 1:  # each row by itself, for padding is no value of the data
        parts = [read([item] * 2) for item in items]
        shapes |= {part.shape[1:] for part in parts}
    fixed = [
        axis for axis in (1, -1) if batch.ndim > 1 and len({(0, *s)[axis] for s in shapes}) == 1
    ]
    keep = fixed[0] % batch.ndim if fixed else None
    others = [axis for axis in range(batch.ndim) if axis != keep]
    low = torch.stack([part.amin(others, True) for part in parts]).amin(0)
    return low, torch.stack([part.amax(others, True) for part in parts]).amax(0)


@contextlib.contextmanager
def adding(module, delta):
    """Add `delta` to the output of a layer (to its first output, if it has several)."""

    def add(module, args, output):
        if _first(output) is not output:
            return (added(output[0], delta), *output[1:])
        return added(output, delta)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def constant_parameters(module):
    """Switch off the gradients of all parameters, so that none is computed."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def extract(net, X, layer):
    """Activations at a layer for a batch, in evaluation mode and without gradient."""
    with reading(*layer) as read:
        net.evaluation_step((X, None))
    if not read:
        raise ValueError(f"{type(layer[0]).__name__} is a layer that does not run in this network.")
    return read[-1]


class FeatureExtractor(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, MetaEstimatorMixin, BaseEstimator
):
    """Transform rows into a fitted network's activations at a named layer.

    The network is used as it is: `fit` trains nothing, and `transform` can be called without it.

    Parameters
    ----------
    estimator : unlearner, skorch.NeuralNet, Pipeline or FrozenEstimator of one of them
        Fitted. Of an unlearner, its ``estimator_`` is read; of a pipeline, its last step, on rows
        as the steps before it transform them. What clones the extractor, such as a search or
        ``cross_val_score``, clones a bare `estimator` into an unfitted one; a
        :class:`~sklearn.frozen.FrozenEstimator` stays fitted.
    layer : str, default="auto"
        Name of the submodule whose output is the features; ``"auto"`` takes the input of the linear
        layer that runs last. A layer that runs several times is read at its last run.
    batch_size : int, default=None
        Rows that go through the network at a time; None for the network's own.

    See Also
    --------
    skunlearn.metrics.correlation_collapse : How much of the features' correlation with the labels
        was lost.
    skunlearn.metrics.feature_transport_distance : How far two sets of features lie apart.

    Notes
    -----
    Activations with several axes, as those of a convolution, are flattened in C order, nothing is
    averaged: there is a feature for each channel at each position. They are many; the layer that
    pools, if the network has one, gives fewer.

    The network runs in evaluation mode, without gradient, one batch at a time; afterwards its
    modules are in the modes that they were in, and there is no hook left.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune
    >>> from skunlearn.features import FeatureExtractor
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = FineTune(net, random_state=0).fit(X, y)
    >>> FeatureExtractor(unlearner).transform(X).shape
    (200, 8)
    >>> probe = make_pipeline(FeatureExtractor(unlearner, layer="0"), LogisticRegression())
    >>> probe.fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(self, estimator, *, layer="auto", batch_size=None):
        self.estimator = estimator
        self.layer = layer
        self.batch_size = batch_size

    def fit(self, X, y=None):
        """Check that the network is fitted, and note how many features the layer has.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict or torch.utils.data.Dataset
            Rows, as the estimator predicts them; one is looked at.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object
            The extractor.

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If `estimator` is not of one network, or there is no such layer.
        """
        self._read(X, one_row=True)
        return self

    def transform(self, X):
        """Read the activations.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict or torch.utils.data.Dataset
            Rows, as the estimator predicts them.

        Returns
        -------
        Z : ndarray of float32 of shape (n_samples, n_features)
            The activations, flattened.

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If `estimator` is not of one network, there is no such layer, or it does not give each
            row as many activations.
        """
        return self._read(X)

    def _read(self, X, one_row=False):
        estimator, net, X = self._network(X)
        if self.batch_size is not None:
            check_number("batch_size", self.batch_size, 1, integer=True)
        if not is_lazy(net, X):
            if estimator is net:
                X = check_array(X, allow_nd=True)
            else:
                X = validate_data(estimator, X, reset=False, allow_nd=True)
        settings = (
            {} if self.batch_size is None else {"iterator_valid__batch_size": self.batch_size}
        )
        net = quiet(net, module_=plain(net.module_), **settings)
        data = as_dataset(net, X)
        rows = Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data))
        if not len(rows):
            raise ValueError("X must hold at least one row; got none.")
        Z, done = None, 0
        with modes_kept(net), released(net):
            # Two rows, for modules that squeeze a batch of one.
            batch = next(iter(net.get_iterator(rows.take([0, 0]))))
            layer = feature_layer(net, self.layer, unpack_data(batch)[0], "layer")
            if one_row:
                rows = rows.take([0])
            for batch in net.get_iterator(rows):
                X_batch, y_batch = unpack_data(batch)
                z = extract(net, X_batch, layer)
                n = len(y_batch)
                if z.ndim == 0 or len(z) != n or (Z is not None and z[0].numel() != Z.shape[1]):
                    raise ValueError(
                        f"layer={self.layer!r} must give each row as many activations; got shape "
                        f"{tuple(z.shape)} for a batch of {n} rows"
                        + ("." if Z is None else f", after {Z.shape[1]} activations a row before.")
                    )
                if Z is None:  # filled as batches come, so that nothing is held twice
                    Z = np.empty((len(rows), z[0].numel()), dtype=np.float32)
                Z[done : done + n] = z.reshape(n, -1).float().cpu().numpy()
                done += n
        self._n_features_out = Z.shape[1]
        return Z

    def _network(self, X):
        """The innermost estimator, its network, and X as it is given to them."""
        from sklearn.pipeline import Pipeline  # not loaded by skorch

        estimator = self.estimator
        try:
            check_is_fitted(estimator)
        except NotFittedError as error:
            raise NotFittedError(
                f"estimator must be fitted; got a {type(estimator).__name__} that is not. If it "
                "was, it has been cloned since, by a search or by cross-validation: wrap it, as in "
                "FeatureExtractor(FrozenEstimator(estimator))."
            ) from error
        while isinstance(estimator, FrozenEstimator | Pipeline):
            if isinstance(estimator, FrozenEstimator):
                estimator = estimator.estimator
                continue
            if len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        net = getattr(estimator, "estimator_", estimator)
        if not isinstance(net, NeuralNet):
            raise ValueError(
                "estimator must be a fitted skorch network, an unlearner with one (its "
                "estimator_), a Pipeline that ends in one of these, or a FrozenEstimator of them; "
                f"got {self.estimator!r}."
            )
        return estimator, net, X

    def __sklearn_is_fitted__(self):
        try:
            check_is_fitted(self.estimator)
        except NotFittedError:
            return False
        return True
