"""Confidence intervals of what is measured, over rows or over the people that the rows are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from scipy.stats import beta, binom, norm, t

# Of fewer, all are on the same side of their median more often than once in 20.
FEWEST = 6

# Of fewer, a bootstrap of losses does not know how great they may be.
FEWEST_LOSSES = 20

# Of fewer rows, or of fewer people with so many rows, no interval of features was found that holds.
FEWEST_FEATURES, FEWEST_FEATURE_PEOPLE = 40, 12


@dataclass(frozen=True, eq=False)
class Interval(Sequence[float]):
    """A metric with the bounds of its confidence interval.

    It can be unpacked as ``value, low, high``, and is equal to the tuple of these; its method and
    reason stay with it in pickles, and in what `dataclasses.asdict` makes of it.

    Parameters
    ----------
    value : float
        The metric itself; NaN if it cannot be had.
    low, high : float
        The bounds; NaN if no interval covers what it says.
    method : str, default=""
        How the bounds were found.
    reason : str, default=""
        Why there are none.

    Attributes
    ----------
    value, low, high, method, reason
        As given.

    See Also
    --------
    membership_inference_report : Metrics of attacks in this form.
    skunlearn.unlearning_report : All metrics in this form.

    Examples
    --------
    >>> from skunlearn.metrics import Interval, membership_inference_report
    >>> value, low, high = Interval(value=0.6, low=0.5, high=0.7)
    >>> low <= value <= high
    True
    >>> auc = membership_inference_report([0.1], [0.2, 0.3], random_state=0)["auc"]
    >>> auc.value, auc.low, auc.reason
    (1.0, nan, '1 forget row and 2 unseen rows: an interval takes 6 of each')
    >>> from dataclasses import asdict
    >>> asdict(auc)["reason"] == auc.reason
    True
    """

    value: float
    low: float
    high: float
    method: str = ""
    reason: str = ""

    @overload
    def __getitem__(self, i: int) -> float: ...

    @overload
    def __getitem__(self, i: slice) -> tuple[float, ...]: ...

    def __getitem__(self, i: int | slice) -> float | tuple[float, ...]:
        return (self.value, self.low, self.high)[i]

    def __len__(self) -> int:
        return 3

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Interval):
            same = (self.method, self.reason) == (other.method, other.reason)
            return same and tuple(self) == tuple(other)
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))


def absent(value, reason):
    """The interval of a value without bounds."""
    return Interval(float(value), math.nan, math.nan, reason=reason)


def people(groups, n):
    """Codes of the people that rows are of, and how many there are; rows alone without `groups`."""
    if groups is None:
        return np.arange(n), n
    names, codes = np.unique(groups, return_inverse=True)
    return codes.ravel(), len(names)


def worth(codes, weights=None):
    """How many people with equally many rows each the people of some rows are worth.

    Returns
    -------
    n_people : float
        For a mean over rows, where those of one person are alike.
    degrees : float
        Degrees of freedom of its variance.
    room : ndarray
        By which the square of a person's part in that variance is divided: who has much of the
        rows has drawn the mean near.
    """
    sizes = np.bincount(codes, weights).astype(float)
    squares = (sizes**2).sum()
    degrees = max(squares**2 / (sizes**4).sum() - 1, 1.0)
    return sizes.sum() ** 2 / squares, degrees, np.maximum(1 - sizes / sizes.sum(), 1e-12)


def _unit(groups):
    return "row" if groups is None else "group"


def _count(n, groups, what=""):
    return f"{n} {what}{_unit(groups)}{'s' * (n != 1)}"


def too_few(sides, groups, fewest=FEWEST, does="an interval takes"):
    """Why there is no interval of one side or two, of so few rows or people; empty if there is one.

    Parameters
    ----------
    sides : list of ndarray
        Codes of whose the rows are.
    groups : array-like or None
        None where they are rows alone.
    fewest : int
        People, or as many as people with unequally many rows are worth.
    does : str
        What takes as many.
    """
    found = [(int(codes.max()) + 1, float(worth(codes)[0])) for codes in sides]
    if min(n_worth for _, n_worth in found) >= fewest - 0.5:
        return ""
    names = ("forget ", "unseen ") if len(sides) > 1 else ("",)
    parts = [
        _count(n, groups, name)
        + f", with unequally many rows and worth {n_worth:.1f}" * (n >= fewest > n_worth + 0.5)
        for (n, n_worth), name in zip(found, names)
    ]
    return f"{' and '.join(parts)}: {does} {fewest}{' of each' * (len(sides) > 1)}"


def clopper_pearson(share, n, tail):
    """Bounds that a share of `n`, which need not be whole, leaves out `tail` times each."""
    x = share * n
    low = 0.0 if x <= 0 else float(beta.ppf(tail, x, n - x + 1))
    high = 1.0 if x >= n else float(beta.isf(tail, x + 1, n - x))
    return low, high


def effective_number(values, groups, weights, tail):
    """Mean of values from 0 to 1, and the number of independent rows that it is worth.

    Korn and Graubard's number: that of rows whose values are 0 or 1 and which would have the
    variance of this mean, less for what is uncertain about that variance.
    """
    n = len(values)
    codes, n_people = people(groups, n)
    weights = np.ones(n) if weights is None else weights
    total = weights.sum()
    mean = float(weights @ values / total)
    fewest, degrees, room = worth(codes, weights)
    most = total**2 / (weights**2).sum()
    parts = np.bincount(codes, weights * (values - mean)) / total
    squares = (parts**2).sum()
    if n_people == n and is_binary(values):
        return mean, most
    if n_people < 2 or squares <= 1e-20:
        return mean, fewest
    variance = (parts**2 / room).sum()
    if is_binary(values):
        # Of few people who differ from the others, the variance is less certain.
        degrees = min(max(squares**2 / (parts**4).sum(), 1), degrees)
    else:
        # Of values that are alike, one at the far end may have been missed.
        variance += (max(mean, 1 - mean) / fewest) ** 2
    number = mean * (1 - mean) / variance * (norm.ppf(tail) / t.ppf(tail, degrees)) ** 2
    number = max(number, fewest)
    return mean, min(number, most) if is_binary(values) else number


def is_binary(values):
    return np.isin(values, (0, 1)).all()


def of_mean(values, level, groups=None, weights=None):
    """Interval of the mean of values from 0 to 1."""
    tail = (1 - level) / 2
    mean, number = effective_number(values, groups, weights, tail)
    if not is_binary(values) and (reason := too_few([people(groups, len(values))[0]], groups)):
        return absent(mean, reason)
    method = "Clopper–Pearson"
    if groups is not None or weights is not None or not is_binary(values):
        method += " at the effective number of rows"
    return Interval(mean, *clopper_pearson(mean, number, tail), method)


def of_auc(forget, unseen, level, groups_forget=None, groups_unseen=None):
    """Interval of the AUC."""
    value, (above, below) = placements(forget, unseen)
    groups = groups_forget, groups_unseen
    codes_of_sides = [people(group, len(side))[0] for group, side in zip(groups, (above, below))]
    if reason := too_few(codes_of_sides, groups_forget):
        return absent(value, reason)
    variances, numbers, parts, degrees_of_sides = [], [], [], []
    for values, codes in zip((above, below), codes_of_sides):
        fewest, degrees, room = worth(codes)
        of_rows = ((values - value) ** 2).sum() / (len(values) - 1) / len(values)
        part = np.bincount(codes, values - value) / len(values)
        of_people = (part**2 / room).sum()
        number = len(values) * of_rows / of_people if of_people > 0 else fewest
        variances.append(of_people)
        numbers.append(min(max(number, fewest), len(values)))
        parts.append(part)
        degrees_of_sides.append(degrees)
    together = sum(variances)
    if groups_forget is not None:  # people of whom there are rows on both sides
        _, mine, theirs = np.intersect1d(
            np.unique(groups_forget), np.unique(groups_unseen), return_indices=True
        )
        together += 2 * (parts[0][mine] * parts[1][theirs]).sum()
    usual = _variance(value, *numbers)
    factor = max(1.0, together / usual) if usual > 0 else 1.0
    degrees = min(degrees_of_sides)
    if sum(variances) > 0:
        degrees = sum(variances) ** 2 / sum(v**2 / d for v, d in zip(variances, degrees_of_sides))
    factor *= t.ppf((1 + level) / 2, degrees) ** 2

    def bound(end):
        outside, inside = end, value
        for _ in range(50):
            middle = (outside + inside) / 2
            if (middle - value) ** 2 > factor * _variance(middle, *numbers):
                outside = middle
            else:
                inside = middle
        return float(inside)

    method = "Newcombe's score interval, at least as wide as the variance of placements"
    if groups_forget is not None:
        method += " of people"
    return Interval(value, bound(0.0), bound(1.0), method)


def placements(forget, unseen):
    """The AUC, and of each row of each side the share of the other that it is told from."""
    shares = []
    for mine, others in ((forget, np.sort(unseen)), (unseen, np.sort(forget))):
        below = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
        shares.append(below / (2 * len(others)))
    return float(1 - shares[0].mean()), (1 - shares[0], shares[1])


def _variance(auc, m, n):
    """Variance of an AUC: Newcombe's method 5, or Hanley and McNeil's if that is greater."""
    a, b = (1 - auc) / (2 - auc), auc / (1 + auc)
    both = max(((m + n) / 2 - 1) * (a + b), (m - 1) * a + (n - 1) * b, (n - 1) * a + (m - 1) * b)
    return auc * (1 - auc) / (m * n) * (1 + both)


def _mistakes(max_fpr, n):
    return int(max_fpr * n + 1e-9)  # 0.29 * 100 is a little less than 29


def tpr(forget, ordered, max_fpr):
    """The true positive rate at a false positive rate among unseen rows, which are in order."""
    n_allowed = _mistakes(max_fpr, len(ordered))
    return float(np.mean(forget < ordered[n_allowed])) if n_allowed < len(ordered) else 1.0


def of_tpr(forget, unseen, max_fpr, level, groups_forget=None, groups_unseen=None):
    """Interval of the true positive rate at a false positive rate."""
    order = np.argsort(unseen, kind="stable")
    ordered = unseen[order]
    n = len(ordered)
    tail = (1 - level) / 4
    value = tpr(forget, ordered, max_fpr)
    number = n
    if groups_unseen is not None:
        taken = 1.0 * (np.arange(n) < _mistakes(max_fpr, n))
        number = effective_number(taken, groups_unseen[order], None, tail)[1]
    # The threshold of the population is above the first of these order statistics, and below the
    # second, but for one in `tail` times each.
    ranks = np.arange(1, math.floor(number) + 1)
    below = np.flatnonzero(binom.cdf(ranks - 1, len(ranks), max_fpr) <= tail)
    above = np.flatnonzero(binom.sf(ranks - 1, len(ranks), max_fpr) <= tail)
    scale = n / len(ranks)
    low, high = 0.0, 1.0
    if len(below):
        threshold = ordered[math.floor(ranks[below[-1]] * scale) - 1]
        mean, number = effective_number((forget < threshold) * 1.0, groups_forget, None, tail)
        low = clopper_pearson(mean, number, tail)[0]
    if len(above):
        threshold = ordered[math.ceil(ranks[above[0]] * scale) - 1]
        mean, number = effective_number((forget < threshold) * 1.0, groups_forget, None, tail)
        high = clopper_pearson(mean, number, tail)[1]
    method = "order statistics and Clopper–Pearson"
    if groups_forget is not None:
        method += " at the effective number of rows (Korn–Graubard)"
    return Interval(value, min(low, value), max(high, value), method)


def of_accuracy(value, right, guessed, level, groups_forget=None, groups_unseen=None):
    """Interval of the accuracy of an attack.

    `right` and `guessed` of shape (2, n_rows): how often each row of a side was told rightly, and
    how often an attack that was not trained on it was asked. Groups are of those rows.
    """
    size = right.shape[1]
    sides = groups_forget, groups_unseen
    groups = None if groups_forget is None else np.concatenate(sides)
    if reason := too_few([people(side, size)[0] for side in sides], groups):
        return absent(value, reason)
    asked = guessed.ravel() > 0
    weights = guessed.ravel()[asked].astype(float)
    independent = weights.sum() ** 2 / (weights**2).sum()
    # An attack that was trained on other rows has another threshold, and may take the other side.
    number = 0.6 * min(independent, size)
    method = "Clopper–Pearson at six tenths of the rows of the smaller side"
    if groups is not None:
        shares = right.ravel()[asked] / weights
        worth = effective_number(shares, groups[asked], None, (1 - level) / 2)[1]
        number = min(number, 0.6 * worth / 2)  # of both sides
        method = "Clopper–Pearson at the effective number of rows"
    return Interval(value, *clopper_pearson(value, number, (1 - level) / 2), method)


def of_difference(first, second, level, groups=None, weights=None):
    """Interval of the mean of ``first - second``, of which each is from 0 to 1, row by row."""
    difference = np.asarray(first, dtype=float) - second
    sides = np.maximum([difference, -difference], 0)
    up, down = (of_mean(side, level, groups, weights) for side in sides)
    value = up.value - down.value
    if up.reason or down.reason:
        return absent(value, up.reason or down.reason)
    # What gains does not lose: the two shares are correlated, as those of a multinomial are.
    codes, _ = people(groups, len(difference))
    weights = np.ones(len(difference)) if weights is None else weights
    parts = [
        np.bincount(codes, weights * (side - each.value)) for side, each in zip(sides, (up, down))
    ]
    (of_up, both), (_, of_down) = np.inner(parts, parts)
    correlation = min(both / math.sqrt(of_up * of_down), 0) if of_up * of_down > 0 else 0

    def joint(one, other):
        return math.sqrt(one**2 + other**2 - 2 * correlation * one * other)

    low = max(value - joint(up.value - up.low, down.high - down.value), -1.0)
    high = min(value + joint(up.high - up.value, down.value - down.low), 1.0)
    return Interval(value, low, high, "of the rows that gain and of those that lose (MOVER)")


_AT_AN_END, _MOST = 0.01, 0.8  # from 0 or 1; the share of rows


def _of_missed(values, n_worth):
    """Variance of a mean for a value at the other end that was missed, where most are at an end.

    Of networks whose answers are 0 or 1, distances of all rows may be alike by chance.
    """
    if np.mean(np.minimum(values, 1 - values) < _AT_AN_END) < _MOST:
        return 0.0
    mean = np.mean(values)
    return (max(mean, 1 - mean) / n_worth) ** 2


def of_ratio(above, below, level, groups=None):
    """Interval of the ratio of two means of numbers from 0 to 1, of the same rows."""
    n = len(above)
    codes, _ = people(groups, n)
    means = np.mean(above), np.mean(below)
    value = float(means[0] / means[1])
    if reason := too_few([codes], groups):
        return absent(value, reason)
    n_worth, degrees, room = worth(codes)
    parts = np.array(
        [np.bincount(codes, each - mean) / n for each, mean in zip((above, below), means)]
    )
    (of_above, both), (_, of_below) = parts / room @ parts.T
    largest = max(np.max(above), np.max(below))
    # Small distances throughout are of networks that agree, and not of such that are always sure.
    if largest > 0.5 or largest < 1e-6:
        of_above += _of_missed(above, n_worth)
        of_below += _of_missed(below, n_worth)
    # The ratios r for which mean(above - r * below) is not further from 0 than chance allows.
    squared = t.ppf((1 + level) / 2, degrees) ** 2
    a = means[1] ** 2 - squared * of_below
    b = means[0] * means[1] - squared * both
    c = means[0] ** 2 - squared * of_above
    if a <= 0:  # it may be divided by 0
        return Interval(value, 0.0, math.inf, "Fieller")
    root = math.sqrt(max(b * b - a * c, 0))
    return Interval(value, max((b - root) / a, 0.0), float((b + root) / a), "Fieller")


def of_difference_of_mmd(value, error, codes, level):
    """Interval of the difference of two squared distances, by its standard error."""
    if error <= 1e-12:
        return absent(
            value, "the rows are answered alike, so that they do not say how far it varies"
        )
    # Away from 0 it is skewed: its error is known as well as that of a quarter as many others.
    half = t.ppf((1 + level) / 2, max((worth(codes)[1] + 1) // 4, 1)) * error
    return Interval(value, value - half, value + half, "jackknife")


def of_jackknife(value, without, level, highest=math.inf):
    """Interval of a metric from 0 to `highest`, by its values without one part of the rows each.

    The estimates and their spreads are skewed near 0, and biased there by the fewness of the rows.
    So the interval holds three: of the metric, of its square root, and of the metric less its bias.
    """
    if not (np.isfinite(value) and np.isfinite(without).all()):
        return absent(value, "of some of the rows alone it cannot be had")
    n = len(without)
    # Spreads of skewed values are known as well as those of half as many others.
    quantile = t.ppf((1 + level) / 2, n // 2)

    def around(value, without, bias=0.0):
        half = quantile * math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
        return value - bias - half, value - bias + half

    bounds = [around(value, without), around(value, without, (n - 1) * (without.mean() - value))]
    bounds.append(tuple(max(b, 0) ** 2 for b in around(math.sqrt(value), np.sqrt(without))))
    lows, highs = zip(*bounds)
    low, high = min(*lows, value), max(*highs, value)
    method = "jackknife over parts of the rows, also of the square root and without the bias"
    return Interval(float(value), max(float(low), 0.0), min(float(high), highest), method)


def of_overshoot(forget, unseen, level, n_resamples, rng, groups_forget=None, groups_unseen=None):
    """Interval of the part of the Wasserstein distance that moves up, which has no upper bound.

    With D the difference of the quantile functions and D* that of a resample, the overshoot
    exceeds that of the population by at most the mean of ``max(0, D - true D)``, which is
    distributed as that of ``max(0, D* - D)``.
    """
    m, n = len(forget), len(unseen)
    ends = np.unique(np.r_[np.arange(1, m + 1) / m, np.arange(1, n + 1) / n].round(12))
    share = np.diff(np.r_[0, ends])
    at = ends - share / 2

    def quantiles(ordered):
        return ordered[np.minimum((at * len(ordered)).astype(int), len(ordered) - 1)]

    def resampler(values, groups):
        order = np.argsort(values)
        codes, n_people = people(groups, len(values))
        ordered, codes = values[order], codes[order]

        def resample():
            drawn = np.bincount(rng.randint(n_people, size=n_people), minlength=n_people)
            return quantiles(np.repeat(ordered, drawn[codes]))

        return quantiles(ordered), resample, codes

    (mine, draw_mine, of_mine), (others, draw_others, of_others) = (
        resampler(*side) for side in ((forget, groups_forget), (unseen, groups_unseen))
    )
    difference = mine - others
    value = float(np.maximum(difference, 0) @ share)
    if reason := too_few([of_mine, of_others], groups_forget, FEWEST_LOSSES):
        return absent(value, reason)
    n_people = min(worth(of_mine)[0], worth(of_others)[0])
    excess = [
        np.maximum(draw_mine() - draw_others() - difference, 0) @ share for _ in range(n_resamples)
    ]
    # Resamples of few rows differ by less than the rows do from all others.
    margin = (1 + 2 / math.sqrt(n_people)) * float(np.quantile(excess, (1 + level) / 2))
    low = max(value - margin, 0.0)
    method = "bootstrap of quantile functions; no upper bound, since losses have none"
    return Interval(value, low, math.inf, method)


def distance(interval, centre=0.0):
    """The interval of how far a number is from `centre`."""
    value = abs(interval.value - centre)
    if interval.reason:
        return absent(value, interval.reason)
    ends = abs(interval.low - centre), abs(interval.high - centre)
    low = 0.0 if interval.low <= centre <= interval.high else min(ends)
    return Interval(value, min(low, value), max(*ends, value), interval.method)
