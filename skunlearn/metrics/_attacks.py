"""Membership inference on one network: the signals that an attack reads, and how well it does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_random_state

from skunlearn._engine.intervals import (
    Interval,
    absent,
    of_accuracy,
    of_auc,
    of_tpr,
    placements,
    too_few,
    tpr,
)
from skunlearn._engine.statistics import mean_by_group, repeated_attack, times_guessed
from skunlearn._engine.validation import check_number, check_sides_groups
from skunlearn.metrics._scores import (
    _as_proba,
    _check_proba,
    _check_sides,
    _clip,
    _loss,
    _proba_of_truth,
    _truth_and_rest,
)

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
        Probability of each class, rows summing to 1, or its logarithm, as
        :meth:`~skunlearn.BaseUnlearner.predict_log_proba` returns it. For indicators, the
        probability of each label. "loss" and "logit" are finite as `sample_log_loss` is, up to 87
        nats of probabilities and exact of logarithms; the others are of probabilities clipped to
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
    and TPR are the same for all three but for confidences that clipping has made equal. The
    accuracy, that of a logistic regression on the signal, differs a little.

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
    truth, rest = _truth_and_rest(y_true, y_proba, column)
    if signal == "loss":
        return _loss(truth, rest).mean(axis=1)
    if signal == "logit":
        return (rest - truth).mean(axis=1)
    y_proba = _as_proba(y_proba, column)
    truth = _proba_of_truth(y_true, y_proba, column)
    p = _clip(truth)
    if signal == "confidence":
        return -p.mean(axis=1)
    # Not 1 - p_y, in which what is left to the other classes is lost where p_y is close to 1.
    if column is None:
        others = (1 - truth)[:, :, None]
    else:
        is_other = np.ones(y_proba.shape, dtype=bool)
        np.put_along_axis(is_other, column[:, None], False, axis=1)
        others = y_proba[is_other].reshape(len(y_proba), 1, -1)
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
        Probabilities that the audited network gives, or their logarithms; see `attack_signal`.
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
        `calibrated_signal`.
    signal_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on.

    Returns
    -------
    auc : float
        Area under the ROC curve of the attack; a tie counts one half.

    Raises
    ------
    ValueError
        If a side is empty, is not of one dimension or holds NaN or infinity.

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
    return placements(*_check_sides(signal_forget=signal_forget, signal_unseen=signal_unseen))[0]


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
        `calibrated_signal`.
    signal_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on.
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
        If a side is empty, is not of one dimension or holds NaN or infinity, or
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
    return tpr(forget, np.sort(unseen), max_fpr)


def membership_inference_report(
    signal_forget: ArrayLike,
    signal_unseen: ArrayLike,
    *,
    groups_forget: ArrayLike | None = None,
    groups_unseen: ArrayLike | None = None,
    max_fpr: float = 0.01,
    n_splits: int = 10,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> dict[str, Interval]:
    """Accuracy, AUC and TPR of a membership inference attack, with confidence intervals.

    Parameters
    ----------
    signal_forget : array-like of shape (n_forget,)
        A signal such as the loss, small for members, from `sample_log_loss`, `attack_signal` or
        `calibrated_signal`.
    signal_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on.
    groups_forget, groups_unseen : array-like of shape (n_forget,) and (n_unseen,), default=None
        The person each row is from, both or neither. If given, the intervals are over people, and
        people are attacked too, by the mean of the signal over their rows.
    max_fpr : float, default=0.01
        Greatest false positive rate of the TPR.
    n_splits : int, default=10
        Number of attacks whose accuracy is averaged.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=None
        Decides the attack's splits. Pass an int for repeatable numbers.

    Returns
    -------
    report : dict of str to Interval
        ``"accuracy"``, ``"auc"`` and ``"tpr"``, each of which unpacks as ``value, low, high`` and
        has the attributes `method` and `reason`. All range from 0 to 1; ideal are 0.5, 0.5
        and `max_fpr`. The values are those of `membership_inference_accuracy`,
        `membership_inference_auc` and `membership_inference_tpr`. With groups there are
        ``"people_accuracy"``, ``"people_auc"`` and ``"people_tpr"`` as well.

    Raises
    ------
    ValueError
        If a side is empty, is not of one dimension or holds NaN or infinity, a number is out of its
        range, groups are given for one side only, or do not fit the rows.

    See Also
    --------
    attack_signal : The signals.
    u_lira : A stronger attack, with several networks.

    Notes
    -----
    The intervals are about the rows, or about the people that they are of: that another seed would
    have made another network is not in them. Without groups, rows are taken for independent, and
    those of one person are not.

    - AUC: Newcombe's score interval [1]_ (method 5), made as wide as the variance that Hanley and
      McNeil's formula or the observed placements of the rows [2]_ have, if that is greater, as for
      rows of which some are remembered and others overshoot. Of people, the placements of a
      person's rows are added up first.
    - TPR: the threshold lies between two order statistics of the unseen rows; the share of forget
      rows below each has its Clopper–Pearson bound.
    - Accuracy: Clopper–Pearson for six tenths of the rows of the smaller side. Each row is guessed
      about once, and attacks that were trained on other rows would differ besides.
    - Of people, Clopper–Pearson is applied to an effective number of rows, that of Korn and
      Graubard [3]_.

    AUC and accuracy have bounds with 6 rows (or people) a side and more: of fewer, all may well
    differ from the rest in the same way. People with unequally many rows count as fewer: as many as
    people with equally many rows would be worth. Otherwise the bounds are NaN and `reason` says
    why. The accuracy itself is NaN with one row on a side. Simulated coverage of all of them is at
    least 93 % at nominal 95 %; see the user guide and ``benchmarks/bench_intervals.py``.

    The attack on people is stronger than that on rows, since what is remembered adds up, and
    strongest with `calibrated_signal`, without which hard people and easy ones differ more.

    References
    ----------
    .. [1] R. G. Newcombe, "Confidence Intervals for an Effect Size Measure Based on the
       Mann–Whitney Statistic. Part 2: Asymptotic Methods and Evaluation", Statistics in Medicine
       25(4), 2006.
    .. [2] N. A. Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics 53(2),
       1997.
    .. [3] E. L. Korn, B. I. Graubard, "Confidence Intervals for Proportions with Small Expected
       Number of Positive Counts Estimated from Survey Data", Survey Methodology 24(2), 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import membership_inference_report
    >>> rng = np.random.default_rng(0)
    >>> memorised, unseen = rng.exponential(0.5, 200), rng.exponential(1.0, 300)
    >>> report = membership_inference_report(memorised, unseen, random_state=0)
    >>> for name, (value, low, high) in report.items():
    ...     print(f"{name:8} {value:.2f} [{low:.2f}, {high:.2f}]")
    accuracy 0.6... [0.5..., 0...]
    auc      0.6... [0.6..., 0.7...]
    tpr      0.0... [0.0..., 0...]
    >>> people = membership_inference_report(
    ...     memorised, unseen, groups_forget=np.arange(200) // 10,
    ...     groups_unseen=20 + np.arange(300) // 10, random_state=0,
    ... )
    >>> people["people_auc"].value > people["auc"].value
    True
    """
    check_number("max_fpr", max_fpr, 0, 1)
    check_number("n_splits", n_splits, 1, integer=True)
    check_number("confidence_level", confidence_level, 0, 1, low_open=True, high_open=True)
    sides = _check_sides(signal_forget=signal_forget, signal_unseen=signal_unseen)
    groups = check_sides_groups(sides, groups_forget=groups_forget, groups_unseen=groups_unseen)

    def attack(sides, groups):
        return {
            "accuracy": _accuracy(sides, groups, n_splits, confidence_level, random_state),
            "auc": of_auc(*sides, confidence_level, *groups),
            "tpr": of_tpr(*sides, max_fpr, confidence_level, *groups),
        }

    report = attack(sides, groups)
    if groups[0] is not None:
        means = [mean_by_group(side, group) for side, group in zip(sides, groups)]
        for name, found in attack(means, (None, None)).items():  # of which each has one value
            reason = found.reason.replace(" row", " group")
            report[f"people_{name}"] = absent(found.value, reason) if reason else found
    return report


def _accuracy(sides, groups, n_splits, level, random_state):
    codes = [np.arange(len(side)) for side in sides]
    if reason := too_few(codes, None, 2, "to be trained, an attack takes"):
        return absent(math.nan, reason)
    correct, rows, kept = repeated_attack(*sides, n_splits, check_random_state(random_state))
    if groups[0] is not None:
        groups = [group[positions] for group, positions in zip(groups, kept)]
    right, asked = times_guessed(correct, rows, kept.shape[1])
    return of_accuracy(float(correct.mean()), right, asked, level, *groups)
