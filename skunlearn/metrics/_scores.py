"""The numbers of an unlearning run, as functions of arrays.

None of them knows what an estimator is; the scorers next door do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import check_random_state

from skunlearn._engine.statistics import repeated_attack
from skunlearn._engine.validation import check_number, check_values

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from skunlearn._engine.typing import RandomState


def _check_indicator(name, array):
    if not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"{name} of shape {array.shape} must be a multilabel indicator matrix of zeros and "
            "ones; class labels belong in an array of shape (n_samples,)."
        )
    return array


def _check_labels(name, value):
    array = check_values(
        name, value, (1, 2), "class labels of shape (n_samples,) or indicators of (n, n_labels)"
    )
    if array.ndim == 2:
        return _check_indicator(name, array)
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        raise ValueError(
            f"{name} must hold class labels; got fractions such as {array[array % 1 != 0][0]!r}. "
            "Turn probabilities into labels first."
        )
    return array


def utility_score(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Accuracy on rows the network never saw.

    Ranges from 0 to 1; greater is better, 1 is ideal.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_labels)
        True class labels, or a multilabel indicator matrix of zeros and ones.
    y_pred : array-like of the shape of `y_true`
        Predicted labels or indicators.

    Returns
    -------
    utility : float
        The share of rows predicted right. For indicator matrices the mean of the
        accuracies of the labels, each judged on its own.

    Raises
    ------
    ValueError
        If the shapes differ, an array is empty, holds NaN, infinity or fractions,
        or one side holds strings and the other numbers.

    See Also
    --------
    nomus_score : Utility and forgetting in one number.

    References
    ----------
    .. [1] D. Choi, D. Na, "Towards Machine Unlearning Benchmarks: Forgetting the
       Personal Identities in Facial Recognition Systems", arXiv 2311.02240.

    Examples
    --------
    >>> from skunlearn.metrics import utility_score
    >>> utility_score(["cat", "dog", "dog", "cat"], ["cat", "dog", "cat", "cat"])
    0.75
    >>> utility_score([[1, 0], [1, 1]], [[1, 0], [0, 0]])
    0.5
    """
    y_true, y_pred = _check_labels("y_true", y_true), _check_labels("y_pred", y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y_pred must have the shape of y_true, {y_true.shape}; got {y_pred.shape}."
        )
    kinds = {y_true.dtype.kind, y_pred.dtype.kind}
    if kinds & set("US") and not kinds <= set("USTO"):
        raise ValueError(
            "y_pred must hold labels of the type of y_true; got "
            f"{y_pred.dtype} beside {y_true.dtype}."
        )
    return float(np.mean(y_true == y_pred))


def sample_log_loss(
    y_true: ArrayLike, y_proba: ArrayLike, *, labels: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Cross-entropy of each row, which the membership inference attack reads.

    Each value is 0 or greater; 0 means that the true class was predicted with
    certainty.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_labels)
        True class labels, or a multilabel indicator matrix of zeros and ones.
    y_proba : array-like of shape (n_samples, n_classes) or (n_samples, n_labels)
        Probability of each class, rows summing to 1, or its logarithm, as
        :meth:`~skunlearn.BaseUnlearner.predict_log_proba` returns it. For indicators, the
        probability of each label.
    labels : array-like of shape (n_classes,), default=None
        The class of each column of `y_proba`, as in the `classes_` of a
        classifier. Needed unless `y_true` is an indicator matrix, where it is not
        used.

    Returns
    -------
    loss : ndarray of float64 of shape (n_samples,)
        ``-log`` of the probability given to the true class; for indicators the
        mean over labels of the binary cross-entropy. It is finite: a probability is taken for
        at least the least normal number of its dtype, and at least 1e-38 (87 nats), one minus
        a probability, as of a label that is 0, for at least the eps of its dtype. Of logarithms,
        it is exact at any size.

    Raises
    ------
    ValueError
        If the shapes do not fit, a value is not a probability, rows do not sum to
        1, or `y_true` holds a class that is not among `labels`.

    See Also
    --------
    attack_signal : This and other signals of membership.
    membership_inference_accuracy : How well these losses tell members.
    sklearn.metrics.log_loss : The mean of these values over rows.

    Examples
    --------
    >>> from skunlearn.metrics import sample_log_loss
    >>> sample_log_loss(["b", "a"], [[0.5, 0.5], [0.25, 0.75]], labels=["a", "b"])
    array([0.693..., 1.386...])
    >>> sample_log_loss(["a"], [[-200.0, 0.0]], labels=["a", "b"])
    array([200.])
    >>> sample_log_loss([[1, 0]], [[0.5, 0.5]])
    array([0.693...])
    """
    return _loss(*_truth_and_rest(y_true, *_check_proba(y_true, y_proba, labels))).mean(axis=1)


def _loss(truth, rest):
    # Where the truth is likely, what is left to the rest is known to more digits.
    return np.where(truth < np.log(0.5), -truth, -np.log1p(-np.exp(np.minimum(rest, np.log(0.5)))))


def _check_proba(y_true, y_proba, labels, name="y_proba"):
    """Return probabilities or their logarithms as floats, and the column of each row's class.

    The column is None for indicators.
    """
    y_true = check_values(
        "y_true",
        y_true,
        (1, 2),
        "class labels of shape (n_samples,) or indicators of (n, n_labels)",
    )
    y_proba = check_values(name, y_proba, (2,), "probabilities of shape (n_samples, n_classes)")
    if y_proba.dtype.kind != "f":
        y_proba = y_proba.astype(float)
    are_logs = y_true.ndim == 1 and _are_logs(y_proba)
    if not (are_logs or (y_proba.min() >= 0 and y_proba.max() <= 1)):
        raise ValueError(
            f"{name} must hold probabilities from 0 to 1; got values from "
            f"{y_proba.min():.4g} to {y_proba.max():.4g}. Apply a softmax or sigmoid to logits."
        )
    if len(y_true) != len(y_proba):
        raise ValueError(
            f"{name} must have one row for each of the {len(y_true)} values of y_true; "
            f"got shape {y_proba.shape}."
        )
    if y_true.ndim == 2:
        _check_indicator("y_true", y_true)
        if y_true.shape != y_proba.shape:
            raise ValueError(
                f"{name} must have the shape of the indicators in y_true, {y_true.shape}; "
                f"got {y_proba.shape}."
            )
        return y_proba, None
    if labels is None:
        raise ValueError(
            f"labels must name the class of each column of {name}, as in the classes_ of a "
            "classifier; got None."
        )
    labels = np.asarray(labels)
    if labels.shape != (y_proba.shape[1],):
        raise ValueError(
            f"labels must name the {y_proba.shape[1]} columns of {name}; "
            f"got an array of shape {labels.shape}."
        )
    totals = (np.exp(y_proba) if are_logs else y_proba).sum(axis=1, dtype=float)
    # Loose enough for half precision, tight enough to catch what is not a distribution.
    if abs(totals - 1).max() > 1e-2:
        what = " are logarithms, whose exponentials must" if are_logs else " must"
        raise ValueError(
            f"the rows of {name}{what} sum to 1; got sums from {totals.min():.4g} to "
            f"{totals.max():.4g}."
        )
    columns = {label: column for column, label in enumerate(labels.tolist())}
    unknown = sorted(set(y_true.tolist()) - set(columns), key=str)
    if unknown:
        raise ValueError(
            f"y_true holds classes that are not among labels: {unknown[:5]}; "
            f"labels are {labels.tolist()[:20]}."
        )
    return y_proba, np.array([columns[label] for label in y_true.tolist()])


def _are_logs(y_proba):
    """Whether checked rows are logarithms: probabilities, which sum to 1, are not all 0 or less."""
    return y_proba.max() <= 0


def _as_proba(y_proba, column):
    """Checked rows as probabilities."""
    return np.exp(y_proba) if column is not None and _are_logs(y_proba) else y_proba


def _proba_of_truth(y_true, y_proba, column):
    """Probability of the truth, of shape (n_samples, n_labels), or (n_samples, 1) for classes."""
    if column is None:
        return np.where(np.asarray(y_true) == 1, y_proba, 1 - y_proba)
    return np.take_along_axis(y_proba, column[:, None], axis=1)


def _truth_and_rest(y_true, y_proba, column):
    """Logarithm of the probability of the truth, and of all else, of shape (n, n_labels).

    Small ones are as exact as large ones, but for one minus a probability.
    """
    info = np.finfo(y_proba.dtype)
    # Of float64, zeros are votes more often than underflow; 700 nats would drown all else.
    least = max(float(info.tiny), float(np.finfo(np.float32).tiny))
    if column is None:
        given = np.asarray(y_true) == 1
        p = y_proba.astype(float)
        exact, rounded = np.maximum(p, least), np.maximum(1 - p, float(info.eps))
        return np.log(np.where(given, exact, rounded)), np.log(np.where(given, rounded, exact))
    is_true = np.zeros(y_proba.shape, dtype=bool)
    np.put_along_axis(is_true, column[:, None], True, axis=1)
    if _are_logs(y_proba):
        logs = y_proba.astype(float)
        truth = logs[is_true]
        # Of a single class there is no other.
        rest = logsumexp(np.where(is_true, -np.inf, logs), axis=1) if logs.shape[1] > 1 else None
        rest = np.full_like(truth, np.log(least)) if rest is None else rest
        return truth[:, None], rest[:, None]
    sums = (np.where(part, y_proba, 0).sum(axis=1, dtype=float) for part in (is_true, ~is_true))
    return tuple(np.log(np.maximum(each, least))[:, None] for each in sums)


def _clip(proba):
    """Probabilities in double precision, at least the eps of their dtype away from 0 and 1."""
    eps = np.finfo(proba.dtype).eps
    return np.clip(proba, eps, 1 - eps).astype(float)


def membership_inference_accuracy(
    loss_forget: ArrayLike,
    loss_unseen: ArrayLike,
    *,
    n_splits: int = 10,
    random_state: RandomState = None,
) -> float:
    """Accuracy of an attack that tells forget rows from unseen rows by their loss.

    Ranges from 0 to 1; 0.5 is ideal: the attack is at chance level. Above
    it the network still treats the forget rows as it treats what it has learnt, or
    overshoots and treats them conspicuously worse than unseen rows.

    The attacker is a logistic regression on one feature, the loss, with forget rows as class
    1 and unseen rows as class 0. It minimises what scikit-learn's ``LogisticRegression()``
    minimises, to the end: where all losses are below some 3e-3, scikit-learn's solver stops
    at its start and the accuracy is 0.5. The larger side is first cut to the size of the
    smaller, since an attack on unbalanced classes scores above 0.5 by always naming the
    larger one. The accuracy is the mean over stratified shuffle splits with a tenth of the
    rows for testing.

    Parameters
    ----------
    loss_forget : array-like of shape (n_forget,)
        Cross-entropy of each forget row, from `sample_log_loss` or a criterion
        without reduction. At least 2 rows.
    loss_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on. At least 2 rows.
    n_splits : int, default=10
        Number of attacks whose accuracy is averaged; 10 in the paper.
    random_state : int, RandomState instance or None, default=None
        Decides which rows are kept and how they are split. Pass an int for repeatable numbers.

    Returns
    -------
    accuracy : float
        The mean over the attacks.

    Raises
    ------
    ValueError
        If a side has fewer than 2 rows, is not of one dimension or holds NaN or
        infinity, or if `n_splits` is not a positive integer.

    See Also
    --------
    forgetting_score : The distance of this number from 0.5.
    attack_signal : Other signals to attack with; this function takes any of them as the losses.
    membership_inference_report : This accuracy, the AUC and the TPR, with their intervals.

    Notes
    -----
    Where forget rows and unseen rows differ in themselves, as those of different people do, a
    network that saw neither is not at 0.5 either; see `calibrated_signal`.

    The attack on few rows is noisy. With losses of the same distribution on both sides it is on
    average 0.04 away from 0.5 at 100 rows a side, 0.03 at 200 and 0.02 at 500, so compare
    with the number of a retrained network.

    References
    ----------
    .. [1] D. Choi, D. Na, "Distribution-Level Feature Distancing for Machine
       Unlearning", arXiv 2409.14747.
    .. [2] D. Choi, D. Na, "Towards Machine Unlearning Benchmarks", arXiv 2311.02240.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import membership_inference_accuracy
    >>> rng = np.random.default_rng(0)
    >>> memorised, unseen = rng.exponential(0.1, 200), rng.exponential(1.0, 300)
    >>> membership_inference_accuracy(memorised, unseen, random_state=0) > 0.75
    True
    """
    losses = _check_sides(2, loss_forget=loss_forget, loss_unseen=loss_unseen)
    correct, *_ = repeated_attack(*losses, n_splits, check_random_state(random_state))
    return float(correct.mean())


def _check_sides(fewest=1, **sides):
    """Return what is known of forget rows and of unseen rows as two arrays of floats."""
    arrays = []
    for name, values in sides.items():
        what = "numbers of shape (n_rows,)" + f" with at least {fewest} rows" * (fewest > 1)
        array = check_values(name, values, (1,), what)
        if len(array) < fewest or array.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be {what}; got {array.dtype} of shape {array.shape}.")
        arrays.append(array.astype(float))
    return arrays


def forgetting_score(
    loss_forget: ArrayLike,
    loss_unseen: ArrayLike,
    *,
    n_splits: int = 10,
    random_state: RandomState = None,
) -> float:
    """Distance of the membership inference attack's accuracy from chance level.

    Ranges from 0 to 0.5; smaller is better, 0 is ideal on average. It is
    ``|membership_inference_accuracy - 0.5|``, so the noise of the attack never
    cancels: a retrained network does not score 0 either.

    Parameters
    ----------
    loss_forget : array-like of shape (n_forget,)
        Cross-entropy of each forget row. At least 2 rows.
    loss_unseen : array-like of shape (n_unseen,)
        Cross-entropy of each row the network was never trained on. At least 2 rows.
    n_splits : int, default=10
        Number of attacks whose accuracy is averaged.
    random_state : int, RandomState instance or None, default=None
        Pass an int for repeatable numbers.

    Returns
    -------
    score : float
        The distance of the accuracy from 0.5.

    Raises
    ------
    ValueError
        As in `membership_inference_accuracy`.

    See Also
    --------
    membership_inference_accuracy : The attack.
    nomus_score : Utility and forgetting in one number.

    References
    ----------
    .. [1] D. Choi, D. Na, "Distribution-Level Feature Distancing for Machine
       Unlearning", arXiv 2409.14747.

    Examples
    --------
    >>> from skunlearn.metrics import forgetting_score
    >>> forgetting_score([0.0, 0.1, 0.2, 0.1], [9.0, 8.0, 9.5, 9.1], random_state=0)
    0.5
    """
    accuracy = membership_inference_accuracy(
        loss_forget, loss_unseen, n_splits=n_splits, random_state=random_state
    )
    return abs(accuracy - 0.5)


def nomus_score(utility: float, forgetting_score: float, *, weight: float = 0.5) -> float:
    """Normalised machine unlearning score: utility and forgetting in one number.

    Ranges from 0 to 1; greater is better, 1 is ideal. It is
    ``weight * utility + (1 - weight) * (1 - 2 * forgetting_score)``.

    Parameters
    ----------
    utility : float
        Accuracy on unseen rows, from 0 to 1.
    forgetting_score : float
        From 0 (forgotten) to 0.5 (every forget row recognised).
    weight : float, default=0.5
        The share of utility, from 0 to 1.

    Returns
    -------
    score : float
        The weighted mean of the two.

    Raises
    ------
    ValueError
        If a number is outside its range.

    See Also
    --------
    utility_score : The first number.
    forgetting_score : The second.

    Notes
    -----
    The score does not use the retained rows: with ``weight=0.5``, whatever un-fits
    the whole network reaches ``(utility + 1) / 2``. Read it beside the retrained
    network's own score and the accuracy on retained rows.

    References
    ----------
    .. [1] D. Choi, D. Na, "Towards Machine Unlearning Benchmarks: Forgetting the
       Personal Identities in Facial Recognition Systems", arXiv 2311.02240.
    .. [2] D. Choi, D. Na, "Distribution-Level Feature Distancing for Machine
       Unlearning", arXiv 2409.14747.

    Examples
    --------
    >>> from skunlearn.metrics import nomus_score
    >>> round(nomus_score(0.5951, 0.2136), 3)
    0.584
    """
    check_number("utility", utility, 0, 1)
    check_number("forgetting_score", forgetting_score, 0, 0.5)
    check_number("weight", weight, 0, 1)
    return float(weight * utility + (1 - weight) * (1 - 2 * forgetting_score))
