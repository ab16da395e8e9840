"""Numbers that metrics, reports and comparisons have in common."""

import math

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import rel_entr
from sklearn.model_selection import StratifiedShuffleSplit

from skunlearn._engine.validation import check_number, check_values

SMALLEST_FLOOR = 1e-6  # below it, two retrained networks differ by rounding alone


def few_of(n, most, rng):
    """Positions of `n` rows, or of `most` of them at random where there are more."""
    return np.arange(n) if n <= most else rng.permutation(n)[:most]


def repeated_attack(forget, unseen, n_splits, rng):
    """Run the attack of `membership_inference_accuracy`.

    Returns whether each guess was right and which row it was of, both of shape (n_splits, n_test),
    and the positions of the rows in each side, of shape (2, size). Rows are counted after
    balancing: first those to forget, then as many unseen ones.
    """
    check_number("n_splits", n_splits, 1, integer=True)
    size = min(len(forget), len(unseen))
    kept = np.array([few_of(len(side), size, rng) for side in (forget, unseen)])
    x = np.concatenate([forget[kept[0]], unseen[kept[1]]])
    y = np.repeat([1, 0], size)
    # scikit-learn's default share, but never less than a row of each class.
    test_size = max(2, math.ceil(0.1 * len(x)))
    splitter = StratifiedShuffleSplit(n_splits, test_size=test_size, random_state=rng)
    train, test = (np.array(part) for part in zip(*splitter.split(x, y)))
    # Ten calls of LogisticRegression cost 20 to 300 ms where this costs 1 to 2, and this number
    # is wanted in the middle of training. Standardising is undone by the scaled penalty.
    scale = x.std() or 1.0
    x = (x - x.mean()) / scale
    weight, intercept = _fit_logistic(x[train], y[train], 1 / scale**2)
    guess = weight[:, None] * x[test] + intercept[:, None] > 0
    return guess == y[test], test, kept


def times_guessed(right, rows, size):
    """How often each row was told rightly, and asked of at all: arrays of shape (2, size)."""
    return tuple(
        np.bincount(rows[chosen].ravel(), minlength=2 * size).reshape(2, size)
        for chosen in (right, np.ones_like(right))
    )


def mean_by_group(values, groups):
    """The mean of each group's values, in the order of the names of groups."""
    _, codes = np.unique(groups, return_inverse=True)
    return np.bincount(codes, values) / np.bincount(codes)


def _fit_logistic(x, y, precision):
    """Fit one logistic regression on one feature per row of `x` and `y`, all at once.

    Minimises sum(log(1 + exp(m)) - y * m) + precision / 2 * weight ** 2, with
    m = weight * x + intercept, by Newton's method with step halving.
    """

    def margin(theta):
        return theta[0][:, None] * x + theta[1][:, None]

    def objective(theta):
        m = margin(theta)
        return (np.logaddexp(0, m) - y * m).sum(axis=1) + precision / 2 * theta[0] ** 2

    theta = np.zeros((2, len(x)))
    value = objective(theta)
    for _ in range(100):
        p = (1 + np.tanh(margin(theta) / 2)) / 2
        g_weight = ((p - y) * x).sum(axis=1) + precision * theta[0]
        g_intercept = (p - y).sum(axis=1)
        # The small constant keeps a saturated fit from dividing by zero.
        h = p * (1 - p) + 1e-12
        h_ww, h_wi, h_ii = (h * x * x).sum(axis=1) + precision, (h * x).sum(axis=1), h.sum(axis=1)
        step = np.stack(
            (h_ii * g_weight - h_wi * g_intercept, h_ww * g_intercept - h_wi * g_weight)
        )
        step /= h_ww * h_ii - h_wi**2
        for _ in range(30):
            new_value = objective(theta - step)
            worse = new_value > value + 1e-12 * (1 + abs(value))
            if not worse.any():
                break
            step[:, worse] /= 2
        theta, value = theta - step, new_value
        if abs(step).max() < 1e-9:
            break
    return theta


def jensen_shannon_divergences(multilabel, **two):
    """Jensen–Shannon divergence in bits of each row, or of each label of each row."""
    arrays = []
    for name, value in two.items():
        array = check_values(name, value, (2,), "probabilities of shape (n_samples, n_classes)")
        array = array.astype(float)
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"{name} must hold probabilities from 0 to 1; got values from {array.min():.4g} "
                f"to {array.max():.4g}. Apply a softmax or sigmoid to logits."
            )
        totals = array.sum(axis=1, keepdims=True)
        if multilabel:
            array = np.stack([array, 1 - array], axis=-1)
        # Loose enough for half precision, tight enough to catch what is not a distribution.
        elif abs(totals - 1).max() > 1e-2:
            raise ValueError(
                f"the rows of {name} must sum to 1; got sums from {totals.min():.4g} to "
                f"{totals.max():.4g}. If the columns are labels of their own, pass multilabel=True."
            )
        else:
            array = array / totals
        arrays.append(array)
    p, q = arrays
    if p.shape != q.shape:
        first, second = two
        raise ValueError(
            f"{second} must have the shape of {first}, {p.shape[:2]}; got {q.shape[:2]}."
        )
    middle = (p + q) / 2
    # Not scipy's jensenshannon, whose root is NaN where rounding leaves less than 0.
    nats = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / 2
    return np.clip(nats / math.log(2), 0, 1)


def truth_first(codes, proba):
    """Probabilities with that of the true class first, and the others in falling order.

    Of indicators, the probability of the truth about each label.
    """
    if codes.ndim == 2:
        return np.where(codes == 1, proba, 1 - proba)
    truth = np.take_along_axis(proba, codes[:, None], axis=1)
    others = proba.copy()
    np.put_along_axis(others, codes[:, None], -1, axis=1)
    return np.hstack([truth, -np.sort(-others, axis=1)[:, :-1]])


def relative_mmd(ours, first, second, people):
    """Squared MMD of two samples less that of the first and a third, and its jackknife error.

    The samples are of the same rows; `people` are codes of whose they are, from 0.
    """
    n, n_people = len(ours), people.max() + 1
    pairs = np.concatenate([ours, first, second])
    squared = cdist(pairs, pairs, "sqeuclidean")
    width = np.median(squared[np.triu_indices(len(pairs), 1)])
    kernel = np.exp(-squared / (2 * (width or 1.0)))

    def between(a, b):
        return kernel[a * n : (a + 1) * n, b * n : (b + 1) * n]

    # What the network has in common with itself is in both discrepancies, and cancels.
    away, near = (
        between(other, other) - between(0, other) - between(0, other).T for other in (2, 1)
    )
    by_people = np.zeros((n_people, n_people))
    np.add.at(by_people, (people[:, None], people[None, :]), away - near)
    np.fill_diagonal(by_people, 0)
    sizes = np.bincount(people)
    total, n_pairs = by_people.sum(), n**2 - (sizes**2).sum()
    statistic = total / n_pairs
    without = (total - 2 * by_people.sum(axis=1)) / (n_pairs - 2 * sizes * (n - sizes))
    error = np.sqrt((n_people - 1) / n_people * ((without - without.mean()) ** 2).sum())
    return float(statistic), float(error)
