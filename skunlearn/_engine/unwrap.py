"""What frozen estimators and pipelines are about: the estimator inside, and its network."""

from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet


def unwrap(model, X=None):
    """The estimator in a FrozenEstimator or at the end of a Pipeline, and `X` as it is given it.

    Parameters
    ----------
    model : estimator
        Any; what is neither frozen nor a pipeline is returned as it is.
    X : array-like, default=None
        Rows, which the steps before the last transform.

    Returns
    -------
    inner : estimator
        The innermost estimator.
    X : array-like or None
        The rows, transformed.
    """
    from sklearn.pipeline import Pipeline  # not loaded by skorch

    while isinstance(model, FrozenEstimator | Pipeline):
        if isinstance(model, FrozenEstimator):
            model = model.estimator
            continue
        if X is not None and len(model) > 1:
            X = model[:-1].transform(X)
        model = model[-1]
    return model, X


def innermost(model):
    """The estimator that a FrozenEstimator or a Pipeline is about."""
    return unwrap(model)[0]


def network_of(model):
    """The one network of an estimator, or None."""
    inner = innermost(model)
    net = getattr(inner, "estimator_", inner)
    return net if isinstance(net, NeuralNet) else None
