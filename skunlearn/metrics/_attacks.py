"""Membership inference on one network: the signals that an attack reads, and how well it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from skunlearn._engine.statistics import repeated_attack
from skunlearn._engine.validation import check_number
from skunlearn.metrics._scores import _check_proba, _check_sides, _clip, _proba_of_truth

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike, NDArray

    from skunlearn._engine.typing import RandomState

_SIGNALS = ("loss", "confidence", "entropy", "modified_entropy", "logit")


def attack_signal(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    signal: Literal["loss", "confidence", "entropy", "modified_entropy", "logit"],
    labels: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Signal that a membership inference attack reads, for each row.

    Every signal is oriented as the loss is: the greater it is, the more the row looks like one the
    network has never seen; members have small values.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_labels)
        True class labels, or a multilabel indicator matrix of zeros and ones.
    y_proba : array-like of shape (n_samples, n_classes) or (n_samples, n_labels)
        Probability of each class, rows summing to 1. For indicators, the probability of each
        label. As in `sample_log_loss`, logarithms are taken of probabilities clipped to
        [eps, 1 - eps], with the eps of their dtype.
    signal : {"loss", "confidence", "entropy", "modified_entropy", "logit"}
        With p the probabilities and y the true class:

        - "loss": ``-log p_y``, as `sample_log_loss`, from 0;
        - "confidence": ``-p_y``, from -1 to 0;
        - "entropy": ``-sum_j p_j log p_j``, from 0 to ``log(n_classes)``; it does not use y,
          so that a row classified wrongly with certainty looks like a member;
        - "modified_entropy": ``-(1 - p_y) log p_y - sum_{j != y} p_j log(1 - p_j)``, from 0; it
          corrects that [1]_;
        - "logit": ``-phi``, with the logit-scaled confidence
          ``phi = log p_y - log sum_{j != y} p_j`` [2]_, of either sign. Of the five it is the
          nearest to normally distributed.
    labels : array-like of shape (n_classes,), default=None
        The class of each column of `y_proba`, as in the `classes_` of a classifier. Needed unless
        `y_true` is an indicator matrix, where it is not used.

    Returns
    -------
    signal : ndarray of float64 of shape (n_samples,)
        For indicators, the mean over labels of the signal of each label, which is taken for a
        classification into two classes.

    Raises
    ------
    ValueError
        If `signal` is unknown, the shapes do not fit, a value is not a probability, rows do not sum
        to 1, or `y_true` holds a class that is not among `labels`.

    See Also
    --------
    calibrated_signal : The logit signal less that of a network which never saw the rows.
    membership_inference_report : How well a signal tells members.

    Notes
    -----
    With one label per row, "loss", "confidence" and "logit" put the rows in the same order, so AUC
    and TPR are the same for all three but for values that clipping has made equal. The accuracy,
    that of a logistic regression on the signal, differs a little.

    References
    ----------
    .. [1] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
       arXiv 2003.10595.
    .. [2] N. Carlini et al., "Membership Inference Attacks From First Principles",
       arXiv 2112.03570.

    Examples
    --------
    >>> from skunlearn.metrics import attack_signal
    >>> proba = [[0.5, 0.5], [0.9, 0.1]]
    >>> attack_signal(["a", "a"], proba, signal="confidence", labels=["a", "b"])
    array([-0.5, -0.9])
    >>> attack_signal(["a", "a"], proba, signal="logit", labels=["a", "b"])
    array([ 0. ..., -2.197...])
    """
    if signal not in _SIGNALS:
        raise ValueError(f"signal must be one of {list(_SIGNALS)}; got {signal!r}.")
    return _signal(signal, y_true, *_check_proba(y_true, y_proba, labels))


def _signal(signal, y_true, y_proba, column):
    truth = _proba_of_truth(y_true, y_proba, column)
    p = _clip(truth)
    if signal == "loss":
        return -np.log(p).mean(axis=1)
    if signal == "confidence":
        return -p.mean(axis=1)
    # Not 1 - p_y, in which what is left to the other classes is lost where p_y is close to 1.
    if column is None:
        others = (1 - truth)[:, :, None]
    else:
        is_other = np.ones(y_proba.shape, dtype=bool)
        np.put_along_axis(is_other, column[:, None], False, axis=1)
        others = y_proba[is_other].reshape(len(y_proba), 1, -1)
    if signal == "logit":
        # Clipped as a sum: clipped one by one, many classes would add up to many times eps.
        rest = _clip(others.sum(axis=2, dtype=float).astype(y_proba.dtype))
        return (np.log(rest) - np.log(p)).mean(axis=1)
    q = _clip(others)
    if signal == "entropy":
        return -(p * np.log(p) + (q * np.log(q)).sum(axis=2)).mean(axis=1)
    return -((1 - p) * np.log(p) + (q * np.log1p(-q)).sum(axis=2)).mean(axis=1)


def calibrated_signal(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    y_proba_reference: ArrayLike,
    *,
    labels: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """The logit signal of a network, less that of one which never saw any of the rows.

    Greater values look more like a row the network has never seen; members have small values. A
    network that has never seen the rows either has values around 0, on easy and hard rows alike.

    Forget rows and unseen rows often differ in themselves, as those of different people do: a
    network that saw neither then treats them differently, and an attack on its losses is off 0.5
    although there is nothing to remember. The reference network has the same difficulties with
    the same rows, and taking its signal away leaves what the audited network knows in addition.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_labels)
        True class labels, or a multilabel indicator matrix of zeros and ones.
    y_proba : array-like of shape (n_samples, n_classes) or (n_samples, n_labels)
        Probabilities that the audited network gives.
    y_proba_reference : array-like of the shape of `y_proba`
        Those of one reference network, trained on neither the forget rows nor the unseen ones, with
        columns in the same order.
    labels : array-like of shape (n_classes,), default=None
        The class of each column, as in the `classes_` of a classifier. Needed unless `y_true` is an
        indicator matrix.

    Returns
    -------
    signal : ndarray of float64 of shape (n_samples,)
        ``phi_reference - phi``, with phi as in `attack_signal`.

    Raises
    ------
    ValueError
        As in `attack_signal`, and if `y_proba_reference` does not have the shape of `y_proba`.

    See Also
    --------
    attack_signal : The signal without calibration.
    membership_inference_report : How well a signal tells members.

    Notes
    -----
    The reference network is one draw of many: its own luck with each row makes the signal noisier
    than the difference of two means would be, and the retrained network that other metrics are
    compared with must be another one, or its calibrated signal is 0 everywhere.

    References
    ----------
    .. [1] L. Watson, C. Guo, G. Cormode, A. Sablayrolles, "On the Importance of Difficulty
       Calibration in Membership Inference Attacks", arXiv 2111.08440.

    Examples
    --------
    >>> from skunlearn.metrics import calibrated_signal
    >>> audited = [[0.8, 0.2], [0.5, 0.5]]  # the second row is as hard for the reference
    >>> reference = [[0.6, 0.4], [0.5, 0.5]]
    >>> calibrated_signal([0, 1], audited, reference, labels=[0, 1])
    array([-0.98...,  0. ...])
    """
    signals = []
    for name, proba in (("y_proba", y_proba), ("y_proba_reference", y_proba_reference)):
        signals.append(_signal("logit", y_true, *_check_proba(y_true, proba, labels, name)))
    return signals[0] - signals[1]


def membership_inference_auc(signal_forget: ArrayLike, signal_unseen: ArrayLike) -> float:
    """Probability that a forget row looks more like a member than an unseen row does.

    Ranges from 0 to 1; 0.5 is ideal. Above it the network remembers forget rows; below it forget
    rows look less like members than rows it never saw, which is overshoot and gives them away
    as surely. Unlike the accuracy it needs no training, no balance and no random numbers.

    Parameters
    ----------
    signal_forget : array-like of shape (n_forget,)
        A signal such as the loss, small for members, from `sample_log_loss`, `attack_signal` or
        `calibrated_signal`. At least 2 rows.
    signal_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on. At least 2 rows.

    Returns
    -------
    auc : float
        Area under the ROC curve of the attack; a tie counts one half.

    Raises
    ------
    ValueError
        If a side has fewer than 2 rows, is not of one dimension or holds NaN or infinity.

    See Also
    --------
    membership_inference_accuracy : An attack that sees overshoot and memory alike.
    membership_inference_tpr : An attack that must hardly ever err.
    sklearn.metrics.roc_auc_score : The same number, from scores of one array.

    Notes
    -----
    Where some rows are remembered and others overshoot, the two cancel: 0.5 does not mean that
    nothing can be told.

    References
    ----------
    .. [1] N. Carlini et al., "Membership Inference Attacks From First Principles",
       arXiv 2112.03570.

    Examples
    --------
    >>> from skunlearn.metrics import membership_inference_auc
    >>> membership_inference_auc([0.1, 0.2, 0.9], [0.5, 0.9])
    0.75
    """
    forget, unseen = _check_sides(signal_forget=signal_forget, signal_unseen=signal_unseen)
    return _auc(forget, np.sort(unseen))


def _auc(forget, unseen):
    below = np.searchsorted(unseen, forget, "left") + np.searchsorted(unseen, forget, "right")
    return float(1 - below.mean() / (2 * len(unseen)))


def membership_inference_tpr(
    signal_forget: ArrayLike, signal_unseen: ArrayLike, *, max_fpr: float = 0.01
) -> float:
    """True positive rate of the attack at a fixed false positive rate.

    Ranges from 0 to 1; `max_fpr` is ideal. An attack that recognises few rows, but those with
    certainty, has an accuracy near 0.5 and yet is the one that people have to fear.

    Parameters
    ----------
    signal_forget : array-like of shape (n_forget,)
        A signal such as the loss, small for members, from `sample_log_loss`, `attack_signal` or
        `calibrated_signal`. At least 2 rows.
    signal_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on. At least 2 rows.
    max_fpr : float, default=0.01
        Greatest false positive rate: the share of unseen rows that the attack may take for members.

    Returns
    -------
    tpr : float
        The greatest true positive rate of an attack ``signal <= threshold`` whose false positive
        rate is no more than `max_fpr`.

    Raises
    ------
    ValueError
        If a side has fewer than 2 rows, is not of one dimension or holds NaN or infinity, or
        `max_fpr` is not from 0 to 1.

    See Also
    --------
    membership_inference_auc : Over all false positive rates.

    Notes
    -----
    Only attacks that exist are counted: rows with equal signals are told apart by none, and nothing
    is interpolated between two thresholds. With fewer than ``1 / max_fpr`` unseen rows, 100
    by default, not one of them may be mistaken, and the number is the share of forget rows below
    the smallest unseen one; it hangs on that one row until there are several hundred.

    References
    ----------
    .. [1] N. Carlini et al., "Membership Inference Attacks From First Principles",
       arXiv 2112.03570.

    Examples
    --------
    >>> from skunlearn.metrics import membership_inference_tpr
    >>> membership_inference_tpr([0.1, 0.2, 0.4, 0.9], [0.3, 0.6, 0.7, 0.8])
    0.5
    >>> membership_inference_tpr([0.1, 0.2, 0.4, 0.9], [0.3, 0.6, 0.7, 0.8], max_fpr=0.25)
    0.75
    """
    check_number("max_fpr", max_fpr, 0, 1)
    forget, unseen = _check_sides(signal_forget=signal_forget, signal_unseen=signal_unseen)
    return _tpr(forget, np.sort(unseen), max_fpr)


def _tpr(forget, unseen, max_fpr):
    # 0.29 * 100 is a little less than 29.
    n_allowed = int(max_fpr * len(unseen) + 1e-9)
    return float(np.mean(forget < unseen[n_allowed])) if n_allowed < len(unseen) else 1.0


class Interval(NamedTuple):
    """A metric with the bounds of its confidence interval.

    Attributes
    ----------
    value : float
        The metric itself.
    low, high : float
        The bounds.

    See Also
    --------
    membership_inference_report : Figures of attacks in this form.
    skunlearn.unlearning_report : All metrics in this form.

    Examples
    --------
    >>> from skunlearn.metrics import Interval
    >>> value, low, high = Interval(value=0.6, low=0.5, high=0.7)
    >>> low <= value <= high
    True
    """

    value: float
    low: float
    high: float


def membership_inference_report(
    signal_forget: ArrayLike,
    signal_unseen: ArrayLike,
    *,
    max_fpr: float = 0.01,
    n_splits: int = 10,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> dict[str, Interval]:
    """Accuracy, AUC and TPR of a membership inference attack, with confidence intervals.

    Parameters
    ----------
    signal_forget : array-like of shape (n_forget,)
        A signal such as the loss, small for members, from `sample_log_loss`, `attack_signal` or
        `calibrated_signal`. At least 2 rows.
    signal_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on. At least 2 rows.
    max_fpr : float, default=0.01
        Greatest false positive rate of the TPR.
    n_splits : int, default=10
        Number of attacks whose accuracy is averaged.
    n_resamples : int, default=1000
        Number of bootstrap resamples.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=None
        Decides the attack's splits and the resamples. Pass an int for repeatable numbers.

    Returns
    -------
    report : dict of str to Interval
        ``"accuracy"``, ``"auc"`` and ``"tpr"``, each a tuple ``(value, low, high)`` with these
        names. All range from 0 to 1; ideal are 0.5, 0.5 and `max_fpr`. The values are those of
        `membership_inference_accuracy`, `membership_inference_auc` and `membership_inference_tpr`.

    Raises
    ------
    ValueError
        If a side has fewer than 2 rows, is not of one dimension or holds NaN or infinity, or a
        number is out of its range.

    See Also
    --------
    attack_signal : The signals.
    u_lira : A stronger attack, with several networks.

    Notes
    -----
    Percentile bootstrap over rows, forget and unseen ones apart. The intervals are about the
    rows: that another seed would have made another network is not in them, and rows of one person
    are less than independent. Only the accuracy needs sides of one size, and cuts the larger; AUC
    and TPR use all rows.

    A resample holds some rows several times. An attack trained again on it would find in its test
    copies of rows it was trained on, so the accuracy's resamples are made of the guesses of the
    attacks of `n_splits` splits, each on rows it was not trained on. What the attack would have
    learnt from other rows is thereby left out: where there is nothing to tell, nominal 95 % are
    85 to 91 % for the accuracy, 94 or 95 % for the AUC and 84 to 98 % for the TPR (20 to 500 rows a
    side, 200 simulations each, ``benchmarks/bench_intervals.py``).

    The interval of the TPR is rough, and leans upwards, unless ``max_fpr * n_unseen`` is five or
    more: a resample often lacks the very rows that set the threshold.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import membership_inference_report
    >>> rng = np.random.default_rng(0)
    >>> memorised, unseen = rng.exponential(0.5, 200), rng.exponential(1.0, 300)
    >>> report = membership_inference_report(memorised, unseen, random_state=0)
    >>> for figure, (value, low, high) in report.items():
    ...     print(f"{figure:8} {value:.2f} [{low:.2f}, {high:.2f}]")
    accuracy 0.6... [0.5..., 0.6...]
    auc      0.6... [0.6..., 0.7...]
    tpr      0.0... [0.0..., 0...]
    """
    check_number("max_fpr", max_fpr, 0, 1)
    check_number("n_resamples", n_resamples, 2, integer=True)
    check_number("confidence_level", confidence_level, 0, 1)
    forget, unseen = _check_sides(signal_forget=signal_forget, signal_unseen=signal_unseen)
    rng = check_random_state(random_state)
    correct, rows = repeated_attack(forget, unseen, n_splits, rng)
    size = min(len(forget), len(unseen))
    # How often each row was guessed, and rightly: forget rows, then unseen ones.
    n_guessed = np.bincount(rows.ravel(), minlength=2 * size).reshape(2, size)
    n_right = np.bincount(rows[correct], minlength=2 * size).reshape(2, size)
    sides = np.arange(2)[:, None]

    def draw(n):
        return rng.randint(n, size=n)

    def figures():
        drawn = rng.randint(size, size=(2, size))
        total = n_guessed[sides, drawn].sum() or np.nan  # of few rows, it may have drawn no guess
        some, others = forget[draw(len(forget))], np.sort(unseen[draw(len(unseen))])
        accuracy = n_right[sides, drawn].sum() / total
        return accuracy, _auc(some, others), _tpr(some, others, max_fpr)

    resampled = np.array([figures() for _ in range(n_resamples)])
    tails = (1 - confidence_level) / 2
    low, high = np.nanquantile(resampled, [tails, 1 - tails], axis=0).tolist()
    unseen = np.sort(unseen)
    values = float(correct.mean()), _auc(forget, unseen), _tpr(forget, unseen, max_fpr)
    names = ("accuracy", "auc", "tpr")
    return {name: Interval(*bounds) for name, *bounds in zip(names, values, low, high)}
