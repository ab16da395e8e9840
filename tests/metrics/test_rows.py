"""Verdicts on each row."""

import itertools
import math

import numpy as np
import pytest

from skunlearn.evaluation import KlomMargins
from skunlearn.metrics import memorisation, u_lira, unlearning_epsilon, worst_rows


def epsilon_by_hand(unlearned, retrained, delta):
    """All thresholds of a margin, either way, and of the likelihood ratio: one row, plain loops."""

    def density(x, sample):
        mean, variance = np.mean(sample), np.var(sample)
        return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(variance)

    def ratio(x):
        return math.log(density(x, unlearned) / density(x, retrained))

    best = 0.0
    for score in (lambda x: x, lambda x: -x, ratio):
        positive, negative = [list(map(score, side)) for side in (unlearned, retrained)]
        values = sorted({*positive, *negative})
        for threshold in [(a + b) / 2 for a, b in itertools.pairwise(values)]:
            fnr = sum(value < threshold for value in positive) / len(positive)
            fpr = sum(value > threshold for value in negative) / len(negative)
            if fnr == fpr == 0:
                return math.inf
            if fnr == 0 or fpr == 0:
                continue
            for a, b in ((fpr, fnr), (fnr, fpr)):
                if 1 - delta - a > 0:
                    best = max(best, math.log((1 - delta - a) / b))
    return best


@pytest.mark.parametrize("delta", [0, 0.1])
def test_epsilon_is_that_of_the_best_attack_on_each_row(delta):
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.normal(size=(12, 40)), rng.normal(size=(15, 40))
    unlearned[:, :10] += 2
    unlearned[:, 10:20] += rng.choice([-3, 3], (12, 10))
    unlearned[:, 20] += 100
    found = unlearning_epsilon(unlearned, retrained, delta=delta)
    expected = [epsilon_by_hand(u, r, delta) for u, r in zip(unlearned.T, retrained.T)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[20] == np.inf


def test_epsilon_of_margins_that_are_all_equal_is_0():
    assert unlearning_epsilon(np.ones((4, 2)), np.ones((5, 2))).tolist() == [0, 0]


def test_epsilon_sees_both_sides():
    rng = np.random.default_rng(0)
    sides = rng.normal(size=(200, 1)) + 4 * rng.choice([-1, 1], (200, 1))
    one, other = rng.normal(size=(2, 200, 1))
    assert unlearning_epsilon(sides, one) > 2.5
    assert unlearning_epsilon(other, one) < 1.5


def test_memorisation_by_hand():
    original, retrained = [[0.0, 3.0]], [[0.0, -3.0], [0.0, 0.0]]
    p = [1 / (1 + math.exp(-margin)) for margin in (3, -3, 0)]
    expected = [0, p[0] - (p[1] + p[2]) / 2]
    np.testing.assert_allclose(memorisation(original, retrained), expected)
    with pytest.raises(ValueError, match="margins_retrained must have the 2 rows of margins_orig"):
        memorisation(original, [[1.0]])


def test_worst_rows_are_the_greatest():
    values = np.r_[np.zeros(95), [5, 1, 2, 3, 4]]
    assert worst_rows(values) == 1.5
    assert worst_rows(values, share=0.03) == 4
    assert worst_rows(values, share=1e-9) == 5
    assert worst_rows([1, np.inf]) == np.inf
    with pytest.raises(ValueError, match="values must be finite"):
        worst_rows([1, np.nan])
    with pytest.raises(ValueError, match="share"):
        worst_rows([1, 2], share=0)


def test_u_lira_asks_whether_a_network_was_retrained():
    """A method that leaves the same mark on all rows, which does not tell one from another."""
    rng = np.random.default_rng(0)
    margins = KlomMargins(rng.normal(size=(20, 50)) + 2, rng.normal(size=(20, 50)))
    forget = np.arange(50) < 30
    pooled, member = margins.unlearned_or_retrained(forget)
    assert pooled.shape == member.shape == (40, 30)
    np.testing.assert_array_equal(pooled[::2], margins.unlearned[:, :30])
    np.testing.assert_array_equal(pooled[1::2], margins.retrained[:, :30])
    assert member[::2].all()
    assert not member[1::2].any()
    assert u_lira(pooled, member).auc > 0.85
    assert margins.unlearned_or_retrained()[0].shape == (40, 50)
    halves = np.arange(20)[:, None] % 2 == np.arange(50) % 2
    assert 0.4 < u_lira(margins.unlearned, halves).auc < 0.6
