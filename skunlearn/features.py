"""The activations of a network as a transformer of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from skorch import NeuralNet
from skorch.dataset import unpack_data

from skunlearn._engine.hooks import feature_layer, forward_features
from skunlearn._engine.predict import plain, without_global_rng
from skunlearn._engine.random import preserve_modes, restore_accelerator
from skunlearn._engine.rows import Rows, input_dtype
from skunlearn._engine.unwrap import unwrap
from skunlearn._engine.validation import as_dataset, check_number, is_lazy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from skunlearn._engine.typing import Estimator, RowsLike


class FeatureExtractor(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, MetaEstimatorMixin, BaseEstimator
):
    """Transform rows into a fitted network's activations at a named layer.

    The network is used as it is: `fit` trains nothing, and `transform` can be called without it.
    After `fit`, arrays must have as many columns as those it was given.

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

    Attributes
    ----------
    n_features_in_ : int
        Size of the second axis of `X` in `fit`, where `X` is an array.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, where `X` is a data frame.

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

    def __init__(
        self,
        estimator: Estimator,
        *,
        layer: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.batch_size = batch_size

    def fit(self, X: RowsLike, y: object = None) -> Self:
        """Check that the network is fitted, and note how many features the layer has.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict or torch.utils.data.Dataset
            Rows, as the estimator predicts them; one is read.
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
        for name in ("n_features_in_", "feature_names_in_"):
            vars(self).pop(name, None)
        self._read(X, one_row=True)
        return self

    def transform(self, X: RowsLike) -> NDArray[np.float32]:
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
        given = X
        estimator, net, X = self._network(X)
        if self.batch_size is not None:
            check_number("batch_size", self.batch_size, 1, integer=True)
        if not is_lazy(net, X):
            if estimator is net:
                X = check_array(X, allow_nd=True)
            else:
                X = validate_data(estimator, X, reset=False, allow_nd=True)
            if not is_lazy(net, given) and (one_row or hasattr(self, "n_features_in_")):
                validate_data(self, given, reset=one_row, skip_check_array=True)
        settings = (
            {} if self.batch_size is None else {"iterator_valid__batch_size": self.batch_size}
        )
        net = without_global_rng(net, module_=plain(net.module_), **settings)
        data = as_dataset(net, X)
        rows = Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data))
        if not len(rows):
            raise ValueError("X must hold at least one row; got none.")
        Z, done = None, 0
        with preserve_modes(net), restore_accelerator(net):
            # Two rows, for modules that squeeze a batch of one.
            batch = next(iter(net.get_iterator(rows.take([0, 0]))))
            layer = feature_layer(net, self.layer, unpack_data(batch)[0], "layer")
            if one_row:
                rows = rows.take([0])
            for batch in net.get_iterator(rows):
                X_batch, y_batch = unpack_data(batch)
                z = forward_features(net, X_batch, layer)
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
        try:
            check_is_fitted(self.estimator)
        except NotFittedError as error:
            raise NotFittedError(
                f"estimator must be fitted; got a {type(self.estimator).__name__} that is not. If "
                "it was, it has been cloned since, by a search or by cross-validation: wrap it, as "
                "in FeatureExtractor(FrozenEstimator(estimator))."
            ) from error
        estimator, X = unwrap(self.estimator, X)
        net = getattr(estimator, "estimator_", estimator)
        if not isinstance(net, NeuralNet):
            if hasattr(estimator, "estimators_"):
                raise ValueError(
                    f"estimator must be of one network; got a {type(estimator).__name__}, an "
                    "ensemble of several, which have no layer in common. Pass one of its "
                    "estimators_."
                )
            raise ValueError(
                "estimator must be a fitted skorch network, an unlearner with one (its "
                "estimator_), a Pipeline that ends in one of these, or a FrozenEstimator of them; "
                f"got {self.estimator!r}."
            )
        return estimator, net, X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = tags.input_tags.dict = True
        return tags

    def __sklearn_is_fitted__(self):
        try:
            check_is_fitted(self.estimator)
        except NotFittedError:
            return False
        return True
