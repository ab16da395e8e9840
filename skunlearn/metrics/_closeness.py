"""How close an unlearned network is to one retrained without the rows: functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import wasserstein_distance

from skunlearn._engine.statistics import SMALLEST_FLOOR, jensen_shannon_divergences
from skunlearn._engine.validation import check_values
from skunlearn.metrics._scores import _check_labels, _check_sides, utility_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _paired(scores, reference):
    """Return two arrays of scores that belong together."""
    values = {"scores": scores, "reference_scores": reference}
    mappings = [isinstance(value, Mapping) for value in values.values()]
    if any(mappings):
        if not all(mappings) or scores.keys() != reference.keys():
            got = [list(v) if isinstance(v, Mapping) else type(v).__name__ for v in values.values()]
            raise ValueError(
                "scores and reference_scores must have the same names, or both be sequences; "
                f"got {got[0]} and {got[1]}."
            )
        values = {name: [value[key] for key in scores] for name, value in values.items()}
    arrays = []
    for name, value in values.items():
        array = check_values(name, value, (1,), "numbers by name or a sequence of numbers")
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be numbers; got {array.dtype}.")
        arrays.append(array.astype(float))
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(
            f"reference_scores must have one number for each of the {len(arrays[0])} in scores; "
            f"got {len(arrays[1])}."
        )
    return arrays


def average_gap(
    scores: Mapping[str, float] | ArrayLike,
    reference_scores: Mapping[str, float] | ArrayLike,
) -> float:
    """Mean absolute difference from the scores of a retrained network.

    0 or greater, at most 1 for scores that are shares; smaller is better, 0 is ideal.

    Parameters
    ----------
    scores : mapping of str to float, or sequence of float
        Scores of the unlearned network. In the literature the error on forget rows, the
        accuracies on retained and on unseen rows, and the accuracy of the membership inference
        attack; an error and the accuracy it belongs to give the same gap.
    reference_scores : mapping of str to float, or sequence of float
        The same scores of the retrained network: under the same names, or in the same order.

    Returns
    -------
    gap : float
        The mean over the scores.

    Raises
    ------
    ValueError
        If the names or numbers of scores differ, or one is not a finite number.

    See Also
    --------
    tug_of_war_score : A product of the same differences.
    jensen_shannon_distance : Closeness row by row.

    Notes
    -----
    Averages can agree where the rows behind them do not: read it beside
    `relative_jensen_shannon_distance`. Two retrainings are not 0 apart either.

    References
    ----------
    .. [1] J. Jia et al., "Model Sparsity Can Simplify Machine Unlearning", arXiv 2304.04934.
    .. [2] C. Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight
       Saliency in Both Image Classification and Generation", arXiv 2310.12508.

    Examples
    --------
    >>> from skunlearn.metrics import average_gap
    >>> unlearned = {"forget error": 0.4, "retain": 0.9, "test": 0.5, "attack": 0.55}
    >>> retrained = {"forget error": 0.5, "retain": 1.0, "test": 0.5, "attack": 0.51}
    >>> round(average_gap(unlearned, retrained), 3)
    0.06
    """
    ours, reference = _paired(scores, reference_scores)
    return float(np.mean(np.abs(ours - reference)))


def tug_of_war_score(
    scores: Mapping[str, float] | ArrayLike,
    reference_scores: Mapping[str, float] | ArrayLike,
) -> float:
    """Product of one minus the distance of each accuracy from the retrained network's.

    Ranges from 0 to 1; greater is better, 1 is ideal. A single accuracy that is far off spoils
    the product, whatever the others are.

    Parameters
    ----------
    scores : mapping of str to float, or sequence of float
        Accuracies of the unlearned network, from 0 to 1: on forget, retained and unseen rows.
    reference_scores : mapping of str to float, or sequence of float
        The same of the retrained network: under the same names, or in the same order.

    Returns
    -------
    score : float
        The product over the accuracies.

    Raises
    ------
    ValueError
        If the names or numbers of scores differ, or one is not a number from 0 to 1.

    See Also
    --------
    average_gap : The mean of the same differences.

    Notes
    -----
    The number of factors decides what a value means: compare scores made of the same
    accuracies only.

    References
    ----------
    .. [1] K. Zhao et al., "What Makes Unlearning Hard and What to Do About It",
       arXiv 2406.01257.

    Examples
    --------
    >>> from skunlearn.metrics import tug_of_war_score
    >>> unlearned = {"forget": 0.6, "retain": 0.9, "test": 0.5}
    >>> retrained = {"forget": 0.5, "retain": 1.0, "test": 0.5}
    >>> round(tug_of_war_score(unlearned, retrained), 3)
    0.81
    """
    ours, reference = _paired(scores, reference_scores)
    for name, values in (("scores", ours), ("reference_scores", reference)):
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"{name} must hold accuracies from 0 to 1; got values from {values.min():.4g} to "
                f"{values.max():.4g}."
            )
    return float(np.prod(1 - np.abs(ours - reference)))


def prediction_agreement(y_pred: ArrayLike, y_pred_reference: ArrayLike) -> float:
    """Share of rows for which two networks predict the same.

    Ranges from 0 to 1; greater is better. Ideal is the agreement of two retrained networks with
    each other, which is below 1.

    Parameters
    ----------
    y_pred : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels that the unlearned network predicts, or a multilabel indicator matrix.
    y_pred_reference : array-like of the shape of `y_pred`
        Labels that the retrained network predicts for the same rows.

    Returns
    -------
    agreement : float
        For indicator matrices the mean of the agreements of the labels, each judged on its own.

    Raises
    ------
    ValueError
        If the shapes differ, an array is empty, holds NaN, infinity or fractions, or one side
        holds strings and the other numbers.

    See Also
    --------
    jensen_shannon_distance : The same question about probabilities.

    Examples
    --------
    >>> from skunlearn.metrics import prediction_agreement
    >>> prediction_agreement(["cat", "dog", "dog", "cat"], ["cat", "dog", "cat", "cat"])
    0.75
    """
    ours = _check_labels("y_pred", y_pred)
    reference = _check_labels("y_pred_reference", y_pred_reference)
    if ours.shape != reference.shape:
        raise ValueError(
            f"y_pred_reference must have the shape of y_pred, {ours.shape}; got {reference.shape}."
        )
    return utility_score(reference, ours)


def jensen_shannon_distance(
    y_proba: ArrayLike, y_proba_reference: ArrayLike, *, multilabel: bool = False
) -> float:
    """Mean Jensen–Shannon distance of the probabilities that two networks give to the same rows.

    Ranges from 0 to 1; smaller is better. Ideal is the distance of two retrained networks from
    each other, which is above 0.

    Parameters
    ----------
    y_proba : array-like of shape (n_samples, n_classes)
        Probabilities of the unlearned network, usually on the forget rows.
    y_proba_reference : array-like of shape (n_samples, n_classes)
        Probabilities of the retrained network for the same rows.
    multilabel : bool, default=False
        Whether each column is a label of its own, so that rows do not sum to 1.

    Returns
    -------
    distance : float
        The mean over rows of the *distance*: the square root of the divergence, whose logarithm is
        to base 2. For `multilabel`, the mean over rows and labels of the distance of two Bernoulli
        distributions.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not a probability, or rows do not sum to 1.

    See Also
    --------
    relative_jensen_shannon_distance : The distance in units of that of two retrained networks.
    scipy.spatial.distance.jensenshannon : The distance of one pair of distributions, by default to
        base e.

    References
    ----------
    .. [1] D. M. Endres, J. E. Schindelin, "A New Metric for Probability Distributions", IEEE
       Transactions on Information Theory 49(7), 2003.

    Examples
    --------
    >>> from skunlearn.metrics import jensen_shannon_distance
    >>> jensen_shannon_distance([[1, 0], [0.3, 0.7]], [[0, 1], [0.3, 0.7]])
    0.5
    >>> jensen_shannon_distance([[1, 1], [0.3, 0.7]], [[0, 1], [0.3, 0.7]], multilabel=True)
    0.25
    """
    rows = jensen_shannon_divergences(
        multilabel, y_proba=y_proba, y_proba_reference=y_proba_reference
    )
    return float(np.sqrt(rows).mean())


def relative_jensen_shannon_distance(
    y_proba: ArrayLike,
    y_proba_reference: ArrayLike,
    y_proba_reference_2: ArrayLike,
    *,
    multilabel: bool = False,
) -> float:
    """Distance from a retrained network, in units of the distance between two retrained networks.

    0 or greater; smaller is better down to 1, which is ideal: the unlearned network is as close as
    another retraining is.

    Parameters
    ----------
    y_proba : array-like of shape (n_samples, n_classes)
        Probabilities of the unlearned network, usually on the forget rows.
    y_proba_reference : array-like of shape (n_samples, n_classes)
        Probabilities of the retrained network for the same rows.
    y_proba_reference_2 : array-like of shape (n_samples, n_classes)
        Probabilities of a network retrained once more, with another seed.
    multilabel : bool, default=False
        Whether each column is a label of its own, so that rows do not sum to 1.

    Returns
    -------
    ratio : float
        ``jensen_shannon_distance(y_proba, y_proba_reference)`` divided by
        ``jensen_shannon_distance(y_proba_reference, y_proba_reference_2)``.

    Raises
    ------
    ValueError
        As in `jensen_shannon_distance`, and if the two retrained networks do not differ, which
        leaves no unit to measure in.

    See Also
    --------
    jensen_shannon_distance : The distance itself.

    Notes
    -----
    A ratio well below 1 is no better than 1. A network that knows nothing on retained rows can have
    a good one on forget rows: read it beside the accuracy on retained rows.

    Examples
    --------
    >>> from skunlearn.metrics import relative_jensen_shannon_distance
    >>> retrained, again = [[0.4, 0.6], [0.7, 0.3]], [[0.6, 0.4], [0.5, 0.5]]
    >>> relative_jensen_shannon_distance([[0.9, 0.1], [1, 0]], retrained, again) > 2
    True
    >>> relative_jensen_shannon_distance(again, retrained, again)
    1.0
    """
    distance = jensen_shannon_distance(y_proba, y_proba_reference, multilabel=multilabel)
    floor = jensen_shannon_divergences(
        multilabel, y_proba_reference=y_proba_reference, y_proba_reference_2=y_proba_reference_2
    )
    floor = np.sqrt(floor).mean()
    if floor < SMALLEST_FLOOR:
        raise ValueError(
            "y_proba_reference_2 must be of another retraining; got the same probabilities as in "
            f"y_proba_reference (distance {floor:.1g}). Retrain with another random_state."
        )
    return float(distance / floor)


def zero_retrain_forgetting(
    y_proba: ArrayLike, y_proba_random: ArrayLike, *, multilabel: bool = False
) -> float:
    """How much a network's answers on forget rows resemble those of one that never learnt (ZRF).

    Ranges from 0 to 1. Ideal is the retrained network's own value, for which greater is not better:
    at 1 the network answers like the random one, though a retrained network knows much of rows
    that are like its own.

    Parameters
    ----------
    y_proba : array-like of shape (n_forget, n_classes)
        Probabilities of the unlearned network on the forget rows.
    y_proba_random : array-like of shape (n_forget, n_classes)
        Probabilities of a freshly initialised network for the same rows.
    multilabel : bool, default=False
        Whether each column is a label of its own, so that rows do not sum to 1.

    Returns
    -------
    score : float
        One minus the mean over rows of the Jensen–Shannon *divergence*, not its root, with the
        logarithm to base 2. For `multilabel`, the mean over rows and labels.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not a probability, or rows do not sum to 1.

    See Also
    --------
    jensen_shannon_distance : Closeness to a retrained network, which asks what matters.

    Notes
    -----
    The value needs no retrained network, but says little without one. Logarithms to base e
    would keep it above 0.307.

    References
    ----------
    .. [1] V. S. Chundawat et al., "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks
       using an Incompetent Teacher", arXiv 2205.08096.

    Examples
    --------
    >>> from skunlearn.metrics import zero_retrain_forgetting
    >>> zero_retrain_forgetting([[1, 0], [0.5, 0.5]], [[0, 1], [0.5, 0.5]])
    0.5
    >>> zero_retrain_forgetting([[1, 1], [0.5, 0.5]], [[0, 1], [0.5, 0.5]], multilabel=True)
    0.75
    """
    rows = jensen_shannon_divergences(multilabel, y_proba=y_proba, y_proba_random=y_proba_random)
    return float(1 - rows.mean())


def overshoot(loss_forget: ArrayLike, loss_unseen: ArrayLike) -> float:
    """How far the losses of forget rows lie above those of unseen rows.

    In nats, 0 or greater; smaller is better, 0 is ideal on average: no quantile of the forget
    losses is above that of the unseen ones. Losses far above give the forget rows away as surely
    as losses far below, of which this score says nothing.

    Parameters
    ----------
    loss_forget : array-like of shape (n_forget,)
        Cross-entropy of each forget row, as `sample_log_loss` has it. At least 2 rows.
    loss_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on. At least 2 rows.

    Returns
    -------
    score : float
        The mean over quantiles q of ``max(0, forget_q - unseen_q)``: the part of the Wasserstein
        distance that moves losses up. The two parts add up to the distance, and their difference
        is that of the means.

    Raises
    ------
    ValueError
        If a side has fewer than 2 rows, is not of one dimension or holds NaN or infinity.

    See Also
    --------
    forgetting_score : Sees both sides, in terms of an attack.
    scipy.stats.wasserstein_distance : Both parts together.

    Notes
    -----
    With few rows it is above 0 for losses of one distribution: with exponential losses of mean 1
    on average by 0.08 at 100 rows a side, 0.06 at 200 and 0.04 at 500. So compare with the
    retrained network's. A few rows with extreme losses move it much, since it is a mean; and a
    network that has collapsed fails on unseen rows as badly, which leaves nothing above them.

    Examples
    --------
    >>> from skunlearn.metrics import overshoot
    >>> overshoot([1.0, 5.0], [2.0, 3.0])
    1.0
    """
    forget, unseen = _check_sides(loss_forget=loss_forget, loss_unseen=loss_unseen)
    # max(0, x) is (|x| + x) / 2, and the mean of |x| over quantiles is the Wasserstein distance.
    up = (wasserstein_distance(forget, unseen) + forget.mean() - unseen.mean()) / 2
    return float(max(up, 0))
