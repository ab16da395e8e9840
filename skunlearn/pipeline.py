"""Unlearning in a pipeline, whose earlier steps have seen the rows to forget too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from skunlearn._engine.validation import check_forget, unwrapped
from skunlearn.base import BaseUnlearner

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline

    from skunlearn._engine.typing import HeldOutLabels, HeldOutRows, MaskLike, RowsLike


def unlearn_pipeline(
    pipeline: Pipeline,
    X: RowsLike,
    y: ArrayLike,
    *,
    forget: MaskLike,
    X_val: HeldOutRows = None,
    y_val: HeldOutLabels = None,
) -> Pipeline:
    """Make a whole pipeline forget: refit its transformers on retained rows, unlearn its last step.

    A scaler keeps means, an encoder categories, a vocabulary words of the rows it was fitted on. An
    unlearner at the end of a pipeline cannot reach them; this function replaces them.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        A fitted pipeline whose last step is an unlearner. It is changed in place, and only if
        everything has succeeded.
    X : array-like of shape (n_samples, ...)
        The rows to forget together with the rows to retain, as the pipeline takes them.
    y : array-like of shape (n_samples,)
        Labels.
    forget : array-like of bool of shape (n_samples,)
        True for the rows to forget.
    X_val : array-like, default=None
        Held-out rows, as the pipeline takes them; they are transformed for the last step. They may
        come in a :class:`~skunlearn.model_selection.Whole`.
    y_val : array-like, default=None
        Their labels.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        The same pipeline.

    Raises
    ------
    ValueError
        If the last step is not an unlearner, if there is nothing to retain that transformers could
        be fitted on, if columns or codes of a transformer would change their places, or if the last
        step refuses its input.

    See Also
    --------
    BaseUnlearner.unlearn : The same for the unlearner alone.

    Notes
    -----
    The network was trained on rows as the old transformers made them, and from now on is given rows
    as the new ones do. The fewer the rows to forget, the less the two differ. A transformer in a
    :class:`~sklearn.frozen.FrozenEstimator` is not fitted again.

    The network reads columns and codes by their places. Categories and words that only the rows to
    forget had are therefore taken out of `OneHotEncoder`, `OrdinalEncoder`, `CountVectorizer`,
    `TfidfVectorizer` and `DictVectorizer` without moving the others: their column is 0, and nothing
    gets their code. The output of every other transformer for retained rows is compared with what
    it was. Values of a scaler, an imputer or a `TargetEncoder` may drift; whole numbers must be the
    same; in other columns the root mean square of the change must not be more than half of their
    standard deviation, and where a column has few values none may go a quarter of the way to the
    next one.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from torch import nn
    >>> from skunlearn import FineTune, unlearn_pipeline
    >>> def linear(n_features_in, n_classes):
    ...     return nn.Linear(n_features_in, n_classes)
    >>> net = NeuralNetClassifier(
    ...     linear, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> X = np.arange(20.0)[:, None]
    >>> y = (X[:, 0] > 9).astype(int)
    >>> pipeline = make_pipeline(StandardScaler(), FineTune(net, random_state=0)).fit(X, y)
    >>> pipeline[0].mean_
    array([9.5])
    >>> pipeline = unlearn_pipeline(pipeline, X, y, forget=np.arange(20) > 17)
    >>> pipeline[0].mean_
    array([8.5])
    """
    check_is_fitted(pipeline)
    unlearner = pipeline[-1]
    if not isinstance(unlearner, BaseUnlearner):
        raise ValueError(
            f"the last step of pipeline must be an unlearner; got {type(unlearner).__name__}. Put "
            "a trained network there as, for example, DLFD(FrozenEstimator(net)), and fit the "
            "pipeline, which leaves the network as it is."
        )
    mask = check_forget(forget, _num_samples(X), X)
    head, before = pipeline[:-1], vars(unlearner).copy()
    if len(head):
        if mask.all():
            raise ValueError(
                "forget is True for all rows of X: there is none to fit the pipeline's "
                "transformers on; pass the rows to retain along with those to forget."
            )
        from skunlearn._engine.refit import refit  # which imports much that is not needed before

        retain = np.flatnonzero(~mask)
        transform, head = refit(head, _safe_indexing(X, retain), _safe_indexing(y, retain))
        X = transform(X)
        X_val = None if X_val is None else transform(unwrapped(X_val))
        names = getattr(X, "columns", None)
        if names is not None and hasattr(unlearner, "feature_names_in_"):
            unlearner.feature_names_in_ = np.asarray(names, dtype=object)  # some of them neutral
    try:
        unlearner.unlearn(X, y, forget=mask, X_val=X_val, y_val=y_val)
    except BaseException:
        vars(unlearner).clear()
        vars(unlearner).update(before)
        raise
    pipeline.steps[:-1] = head.steps
    return pipeline
