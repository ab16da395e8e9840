"""Tests with a controlled level: whether anything is left, and which network is nearer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import rankdata, t
from sklearn.utils import check_random_state

from skunlearn._engine.intervals import people, too_few, worth
from skunlearn._engine.statistics import relative_mmd, truth_first
from skunlearn._engine.validation import (
    check_groups,
    check_number,
    check_sides_groups,
)
from skunlearn.metrics._scores import _as_proba, _check_proba, _check_sides

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from skunlearn._engine.typing import RandomState


class Significance(NamedTuple):
    """Result of `membership_inference_test` or `relative_mmd_test`: statistic and p-value.

    Attributes
    ----------
    statistic : float
        What was measured.
    pvalue : float
        How often chance alone gives as much, if the null hypothesis is true.

    See Also
    --------
    membership_inference_test : Tells whether forget rows differ from unseen ones at all.
    relative_mmd_test : Tells to which of two networks a third one is nearer.

    Examples
    --------
    >>> from skunlearn.metrics import Significance
    >>> statistic, pvalue = Significance(statistic=0.4, pvalue=0.01)
    >>> pvalue < 0.05
    True
    """

    statistic: float
    pvalue: float


def membership_inference_test(
    signal_forget: ArrayLike,
    signal_unseen: ArrayLike,
    *,
    groups_forget: ArrayLike | None = None,
    groups_unseen: ArrayLike | None = None,
    n_permutations: int = 999,
    random_state: RandomState = None,
) -> Significance:
    """Two-sided test of whether a signal tells forget rows from unseen ones.

    AUC, TPR and the attack's accuracy order the rows from the one end to the other. Where some rows
    are remembered and others overshoot, they may be at chance level although the rows are easily
    told: their signals are small or great, and those of unseen rows in between. This test sees
    both.

    Parameters
    ----------
    signal_forget : array-like of shape (n_forget,)
        A signal, from `sample_log_loss`, `attack_signal`, `calibrated_signal` or `change_signal`.
    signal_unseen : array-like of shape (n_unseen,)
        The same for rows the network was never trained on.
    groups_forget, groups_unseen : array-like of shape (n_forget,) and (n_unseen,), default=None
        The person each row is from, both or neither. If given, people are exchanged, not rows, and
        each counts once, however many rows there are of them.
    n_permutations : int, default=999
        How many exchanges.
    random_state : int, RandomState instance or None, default=None
        Decides the exchanges. Pass an int for repeatable numbers.

    Returns
    -------
    test : Significance
        A tuple ``(statistic, pvalue)``. The statistic, from 0 to 1, is the greatest difference of
        true and false positive rate of three attacks, which name the rows below a threshold, those
        above, or those whose ranks are far from the middle. The p-value is from
        ``1 / (n_permutations + 1)`` to 1; small values say that forget rows and unseen ones differ.

    Raises
    ------
    ValueError
        As in `membership_inference_report`, if `n_permutations` is not positive, or a person has
        rows on both sides.

    See Also
    --------
    membership_inference_report : Attacks with one threshold, and their intervals.
    scipy.stats.ks_2samp : The test of the first two attacks, of Kolmogorov and Smirnov.

    Notes
    -----
    A permutation test: its level is exact, however few rows there are, if forget and unseen rows
    (or people with equally many rows) could be exchanged but for what the network remembers.
    Whoever takes the place of a person with fewer rows is left as many: where people have unequally
    many, the p-value tends to be greater than it need be. A great p-value does not say that nothing
    is left, least of all with few rows: one row among 99 others has 0.02 if it is the first or the
    last of all, and no row can have less. The statistic itself is above 0 by chance, the more so
    for few rows.

    References
    ----------
    .. [1] J. L. Hodges, "The Significance Probability of the Smirnov Two-Sample Test", Arkiv för
       Matematik 3(5), 1958.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import membership_inference_auc, membership_inference_test
    >>> rng = np.random.default_rng(0)
    >>> unseen = rng.normal(size=200)
    >>> forget = rng.normal(np.repeat([-3, 3], 25))  # half is remembered, half overshoots
    >>> 0.45 < membership_inference_auc(forget, unseen) < 0.55
    True
    >>> statistic, pvalue = membership_inference_test(forget, unseen, random_state=0)
    >>> statistic > 0.6, pvalue
    (True, 0.001)
    """
    check_number("n_permutations", n_permutations, 1, integer=True)
    sides = _check_sides(signal_forget=signal_forget, signal_unseen=signal_unseen)
    groups = check_sides_groups(sides, groups_forget=groups_forget, groups_unseen=groups_unseen)
    if groups[0] is None:
        groups = [np.arange(len(sides[0])), len(sides[0]) + np.arange(len(sides[1]))]
    elif (both := np.intersect1d(*groups)).size:
        raise ValueError(
            "groups_unseen must name other people than groups_forget; got both for "
            f"{both[:5].tolist()}."
        )
    rng = check_random_state(random_state)
    (first, n_first), (second, n_second) = (people(group, len(group)) for group in groups)
    signal, person = np.concatenate(sides), np.concatenate([first, n_first + second])
    ranks = rankdata(signal)
    # Far from the middle first. Of equal signals, no attack names one alone.
    orders = [_steps(ranks), _steps(-abs(ranks - (len(ranks) + 1) / 2))]
    n_rows = np.bincount(person)
    is_forget = np.arange(n_first + n_second) < n_first

    def statistic(is_forget, weights):
        # What a row adds to the difference of the rates of an attack that names it.
        each = weights * np.where(is_forget, 1 / n_first, -1 / n_second)[person]
        below, far = (np.cumsum(each[order])[ends] for order, ends in orders)
        return max(abs(below).max(), far.max())

    def exchanged():
        # Who takes the place of another has no more rows than those: or a side of people with few
        # rows each, whose signals spread more, would differ from the others by that alone.
        place = rng.permutation(len(n_rows))
        n_kept = np.minimum(n_rows, n_rows[place])
        weights = 1 / n_kept[person]
        if (n_kept < n_rows).any():
            order = np.lexsort((rng.random_sample(len(person)), person))
            number = np.empty(len(person), dtype=int)
            number[order] = np.arange(len(person)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
            weights = np.where(number < n_kept[person], weights, 0)
        return statistic(is_forget[place], weights)

    # Each person counts once, however many rows there are of them.
    found = statistic(is_forget, 1 / n_rows[person])
    n_as_great = sum(exchanged() >= found - 1e-12 for _ in range(n_permutations))
    return Significance(float(found), (1 + int(n_as_great)) / (1 + n_permutations))


def _steps(values):
    """The order of values, and where in it each run of equal ones ends."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.append(ordered[1:] > ordered[:-1], True))


def relative_mmd_test(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    y_proba_retrained: ArrayLike,
    y_proba_original: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Significance:
    """Test of whether a network is nearer to the retrained or to the original one.

    Two-sample tests ask whether two networks differ, and reject even a second retraining, given
    enough rows. This one asks which of two is further away, and its errors are controlled: where
    both are equally far, it names either in one of twenty cases at most, at a p-value of 0.05.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_labels)
        True class labels of forget rows, or a multilabel indicator matrix of zeros and ones.
    y_proba : array-like of shape (n_samples, n_classes) or (n_samples, n_labels)
        Probabilities that the network gives which has unlearned.
    y_proba_retrained : array-like of the shape of `y_proba`
        Those of a network retrained without the rows.
    y_proba_original : array-like of the shape of `y_proba`
        Those of the network before it unlearned.
    labels : array-like of shape (n_classes,), default=None
        The class of each column, as in the `classes_` of a classifier. Needed unless `y_true` is an
        indicator matrix.
    groups : array-like of shape (n_samples,), default=None
        The person each row is from; rows of different people alone are then compared.

    Returns
    -------
    test : Significance
        A tuple ``(statistic, pvalue)``. The statistic is the squared maximum mean discrepancy of
        the network and the original less that of the network and the retrained one: above 0 it is
        nearer to the retrained network, below 0 nearer to the original. The p-value is two-sided.

    Raises
    ------
    ValueError
        As in `attack_signal`, if the shapes differ, or there are fewer than 6 rows, or people.

    See Also
    --------
    relative_jensen_shannon_distance : Closeness row by row, without a test.
    membership_inference_test : Tells whether forget rows differ from unseen ones.

    Notes
    -----
    Each row is the probability of its true class, followed by those of the others in falling order:
    being sure of the right class and being sure of a wrong one are then different. The kernel is
    Gaussian, its width the median distance of all pairs of rows. The three samples
    are of the same rows, which the published test takes for independent: here the difference is a
    single U-statistic over pairs of different rows (or people), of which each has its three
    predictions, and its variance is that of the jackknife. Where the three networks answer alike,
    the p-values are greater than they need be. Level and power are simulated in
    ``benchmarks/bench_intervals.py``.

    It compares distributions over the rows: networks that exchange their answers to two rows
    are no further apart.

    References
    ----------
    .. [1] W. Bounliphone et al., "A Test of Relative Similarity for Model Selection in Generative
       Models", arXiv 1511.04581.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import relative_mmd_test
    >>> rng = np.random.default_rng(0)
    >>> retrained, unlearned = rng.dirichlet([1, 1, 1], (2, 100))
    >>> original = rng.dirichlet([9, 1, 1], 100)
    >>> y = np.zeros(100, dtype=int)
    >>> statistic, pvalue = relative_mmd_test(y, unlearned, retrained, original, labels=[0, 1, 2])
    >>> statistic > 0, pvalue < 0.01
    (True, True)
    """
    samples = []
    for name, value in (
        ("y_proba", y_proba),
        ("y_proba_retrained", y_proba_retrained),
        ("y_proba_original", y_proba_original),
    ):
        proba, column = _check_proba(y_true, value, labels, name)
        codes = np.asarray(y_true) if column is None else column
        samples.append(truth_first(codes, _as_proba(proba, column).astype(float)))
    ours, retrained, original = samples
    n = len(ours)
    if groups is not None:
        groups = check_groups(groups)
        if len(groups) != n:
            raise ValueError(
                f"groups must name the person of each of the {n} rows; got {len(groups)}."
            )
    codes, _ = people(groups, n)
    if reason := too_few([codes], groups, does="the test takes"):
        raise ValueError(f"y_proba must be of more rows, or people; got {reason}.")
    statistic, error = relative_mmd(ours, retrained, original, codes)
    # Equal up to rounding, they are equally far.
    ratio = abs(statistic) / max(error, 1e-300) if abs(statistic) > 1e-12 else 0.0
    pvalue = 2 * t.sf(ratio, worth(codes)[1])
    return Significance(float(statistic), float(pvalue))
