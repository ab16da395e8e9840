"""Attackers who know more than one network, or the classes; and what becomes of a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skunlearn._engine.validation import check_values
from skunlearn.metrics._attacks import attack_signal
from skunlearn.metrics._scores import _as_proba, _check_labels, _check_proba, utility_score

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike, NDArray


def change_signal(
    y_true: ArrayLike,
    y_proba_before: ArrayLike,
    y_proba_after: ArrayLike,
    *,
    signal: Literal["loss", "distance"],
    labels: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Signal of an attacker who has the network from before and from after unlearning.

    Whoever has both finds the forget rows by what has changed. Smaller values look more like a
    forget row, as in all signals.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_labels)
        True class labels, or a multilabel indicator matrix of zeros and ones.
    y_proba_before : array-like of shape (n_samples, n_classes) or (n_samples, n_labels)
        Probabilities that the original network gives, or their logarithms; see `attack_signal`.
    y_proba_after : array-like of the shape of `y_proba_before`
        Those of the network that has unlearned, with columns in the same order.
    signal : {"loss", "distance"}
        - "loss": the loss before less the loss after, which is the more negative, the more of the
          row's memory is gone;
        - "distance": minus the Euclidean distance of the two rows of probabilities [1]_. It uses no
          label, and sees any change, one to the better too.
    labels : array-like of shape (n_classes,), default=None
        The class of each column, as in the `classes_` of a classifier. Needed unless `y_true` is an
        indicator matrix.

    Returns
    -------
    signal : ndarray of float64 of shape (n_samples,)
        For `membership_inference_report`, of forget rows beside unseen rows, or beside
        retained ones.

    Raises
    ------
    ValueError
        As in `attack_signal`, and if the two arrays differ in shape.

    See Also
    --------
    attack_signal : The signals of one network.
    calibrated_signal : The difference to a network that never saw the rows.

    Notes
    -----
    A network that was retrained without the rows has changed on them too: this attack shows that
    something was forgotten, where the others show that it was not. Read it beside the retrained
    network's. A method whose forget rows are found more easily than those points at
    them, and whoever keeps the network from before should not give out the one from after.

    References
    ----------
    .. [1] M. Chen et al., "When Machine Unlearning Jeopardizes Privacy", arXiv 2005.02205.

    Examples
    --------
    >>> from skunlearn.metrics import change_signal
    >>> before, after = [[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]
    >>> change_signal([0, 1], before, after, signal="loss", labels=[0, 1])
    array([-0.58...,  0. ...])
    >>> change_signal([0, 1], before, after, signal="distance", labels=[0, 1])
    array([-0.56...,  -0. ...])
    """
    if signal not in ("loss", "distance"):
        raise ValueError(f"signal must be one of ['loss', 'distance']; got {signal!r}.")
    probas = {"y_proba_before": y_proba_before, "y_proba_after": y_proba_after}
    before, after = (
        _as_proba(*_check_proba(y_true, proba, labels, name)).astype(float)
        for name, proba in probas.items()
    )
    if before.shape != after.shape:
        raise ValueError(
            f"y_proba_after must have the shape of y_proba_before, {before.shape}; got "
            f"{after.shape}."
        )
    if signal == "distance":
        return -np.linalg.norm(before - after, axis=1)
    losses = [
        attack_signal(y_true, proba, signal="loss", labels=labels) for proba in probas.values()
    ]
    return losses[0] - losses[1]


class ClassUtility(NamedTuple):
    """Result of `class_utility`: accuracy on the classes kept and on those forgotten.

    Attributes
    ----------
    kept : float
        Accuracy on rows of the classes that were kept.
    forgotten : float
        Accuracy on rows of the classes that were to be forgotten.

    See Also
    --------
    class_utility : Computes the two.

    Examples
    --------
    >>> from skunlearn.metrics import ClassUtility
    >>> ClassUtility(kept=0.9, forgotten=0.0).kept
    0.9
    """

    kept: float
    forgotten: float


def class_utility(y_true: ArrayLike, y_pred: ArrayLike, *, forgotten: ArrayLike) -> ClassUtility:
    """Accuracy on unseen rows of the classes kept, and of the classes forgotten.

    The one should stay, the other fall to the retrained network's, which is 0 if every row of a
    class is forgotten. A single accuracy, and NoMUS, mix the two: the better a class is forgotten,
    the smaller they are.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True class labels of unseen rows.
    y_pred : array-like of shape (n_samples,)
        Predicted labels.
    forgotten : array-like of shape (n_forgotten,)
        The classes that were to be forgotten.

    Returns
    -------
    utility : ClassUtility
        A tuple ``(kept, forgotten)``; NaN where there are no rows.

    Raises
    ------
    ValueError
        As in `utility_score`, and for indicators.

    See Also
    --------
    utility_score : Of all rows together.
    same_class : The unseen rows that an attack on a class compares with.

    References
    ----------
    .. [1] A. Golatkar, A. Achille, S. Soatto, "Eternal Sunshine of the Spotless Net: Selective
       Forgetting in Deep Networks", arXiv 1911.04933.

    Examples
    --------
    >>> from skunlearn.metrics import class_utility
    >>> class_utility(["cat", "cat", "dog", "cow"], ["cat", "dog", "cow", "cow"], forgotten=["dog"])
    ClassUtility(kept=0.66..., forgotten=0.0)
    """
    y_true, y_pred = _check_labels("y_true", y_true), _check_labels("y_pred", y_pred)
    if y_true.ndim != 1:
        raise ValueError(f"y_true must hold one class for each row; got shape {y_true.shape}.")
    of_forgotten = np.isin(y_true, np.asarray(forgotten))
    if y_true.shape != y_pred.shape:
        utility_score(y_true, y_pred)  # which says what is wrong
    return ClassUtility(
        *(
            utility_score(y_true[rows], y_pred[rows]) if rows.any() else float("nan")
            for rows in (~of_forgotten, of_forgotten)
        )
    )


def same_class(y_unseen: ArrayLike, y_forget: ArrayLike) -> NDArray[np.bool_]:
    """Mask of the unseen rows whose class occurs among the forget rows.

    An attack that compares the rows of a class to forget with unseen rows of other classes finds
    the class, not the memory: the retrained network, which has never seen either, is far from 0.5.
    Compared with unseen rows of the same class it is at 0.5.

    Parameters
    ----------
    y_unseen : array-like of shape (n_unseen,)
        Class labels of the unseen rows.
    y_forget : array-like of shape (n_forget,)
        Class labels of the forget rows.

    Returns
    -------
    mask : ndarray of bool of shape (n_unseen,)
        True for the rows to attack with. Where it is True everywhere, and each class is about as
        frequent among forget rows as among unseen ones, nothing changes.

    Raises
    ------
    ValueError
        If an array is empty or not of one dimension, or no unseen row has a class of the forget
        rows.

    See Also
    --------
    class_utility : Accuracy on the two kinds of classes.
    membership_inference_report : The attack.

    Examples
    --------
    >>> from skunlearn.metrics import same_class
    >>> same_class(["cat", "dog", "dog", "cow"], ["dog", "dog"])
    array([False,  True,  True, False])
    """
    unseen, forget = (
        check_values(name, value, (1,), "class labels of shape (n_rows,)")
        for name, value in (("y_unseen", y_unseen), ("y_forget", y_forget))
    )
    mask = np.isin(unseen, forget)
    if not mask.any():
        raise ValueError(
            "y_unseen must have rows of a class that is to be forgotten, "
            f"{np.unique(forget)[:10].tolist()}; got {np.unique(unseen)[:10].tolist()}."
        )
    return mask
