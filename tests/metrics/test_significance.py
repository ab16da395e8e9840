"""Tests against plain loops, and their level and power."""

import itertools

import numpy as np
import pytest
from scipy.stats import ks_2samp, rankdata

from skunlearn.metrics import (
    membership_inference_auc,
    membership_inference_test,
    relative_mmd_test,
)


def best_attack(forget, unseen):
    """By trying all thresholds, of the signal and of the distance of ranks from the middle."""
    ranks = rankdata([*forget, *unseen])
    away = abs(ranks - (len(ranks) + 1) / 2)
    n, best = len(forget), 0
    for threshold in ranks:
        rates = [np.mean(side <= threshold) for side in (ranks[:n], ranks[n:])]
        best = max(best, abs(rates[0] - rates[1]))
    for threshold in away:
        rates = [np.mean(side >= threshold) for side in (away[:n], away[n:])]
        best = max(best, rates[0] - rates[1])
    return best


def test_statistic_is_that_of_the_best_attack():
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (1, 9), (7, 12), (15, 4)):
        for digits, spread in itertools.product((0, 8), (0.3, 1, 4)):
            forget, unseen = (
                rng.normal(0, spread, n).round(digits),
                rng.normal(size=m).round(digits),
            )
            found = membership_inference_test(forget, unseen, n_permutations=1).statistic
            assert found == pytest.approx(best_attack(forget, unseen))
            assert found >= ks_2samp(forget, unseen).statistic - 1e-12


def test_pvalue_is_the_share_of_exchanges_that_differ_as_much():
    forget, unseen = [0.0, 1.0, 2.0], [3.0, 4.0, 5.0, 1.5]
    pooled = np.r_[forget, unseen]
    found = membership_inference_test(forget, unseen, n_permutations=4000, random_state=0)
    statistics = [
        best_attack(pooled[list(some)], np.delete(pooled, some))
        for some in itertools.combinations(range(7), 3)
    ]
    expected = np.mean(np.array(statistics) >= found.statistic - 1e-9)
    assert found.pvalue == pytest.approx(expected, abs=0.03)


def test_two_sides_are_seen_where_one_threshold_is_blind():
    rng = np.random.default_rng(0)
    forget, unseen = rng.normal(np.repeat([-3, 3], 20)), rng.normal(size=100)
    assert 0.4 < membership_inference_auc(forget, unseen) < 0.6
    test = membership_inference_test(forget, unseen, n_permutations=199, random_state=0)
    assert test.pvalue == 1 / 200
    assert test.statistic > ks_2samp(forget, unseen).statistic + 0.2


def test_one_row_can_be_tested():
    unseen = np.arange(99.0)
    test = membership_inference_test([-1.0], unseen, random_state=0)
    assert test.statistic == 1
    assert test.pvalue == pytest.approx(0.02, abs=0.015)
    other_end = membership_inference_test([200.0], unseen, random_state=0)
    assert other_end.pvalue == pytest.approx(0.02, abs=0.015)
    assert membership_inference_test([50.5], unseen, random_state=0).pvalue > 0.9


def test_people_are_exchanged_with_all_their_rows():
    rng = np.random.default_rng(0)
    p_rows, p_people = [], []
    for seed in range(40):
        sides = [np.repeat(rng.normal(size=n), 10) for n in (6, 10)]
        groups = {"groups_forget": np.arange(60) // 10, "groups_unseen": 6 + np.arange(100) // 10}
        settings = {"n_permutations": 99, "random_state": seed}
        p_rows.append(membership_inference_test(*sides, **settings).pvalue)
        p_people.append(membership_inference_test(*sides, **groups, **settings).pvalue)
    assert np.mean(np.array(p_rows) <= 0.05) > 0.5
    assert np.mean(np.array(p_people) <= 0.05) <= 0.15
    with pytest.raises(ValueError, match=r"other people than groups_forget; got both for \[3\]"):
        membership_inference_test([1, 2], [3], groups_forget=[2, 3], groups_unseen=[3])


def test_each_person_counts_once_however_many_rows_there_are_of_them():
    """Of the one to forget all rows are below those of two others, of which one has the most."""
    unseen, whose = [2.0] * 9 + [0.5], [1] * 9 + [2]
    groups = {"groups_forget": [0, 0], "groups_unseen": whose}
    found = membership_inference_test([0.0, 1.0], unseen, n_permutations=1, **groups)
    assert found.statistic == pytest.approx(0.5)  # at 0 or 1: half or all of it, none or half of 2


@pytest.mark.parametrize(
    ("n_forget", "forget_rows", "n_unseen", "unseen_rows", "correlation"),
    [(10, 10, 10, 1, 0.0), (10, 1, 40, 10, 0.0), (10, 1, 40, 10, 0.3), (6, 2, 20, 10, 0.0)],
)
def test_level_holds_where_one_side_has_more_rows_of_each_person(
    n_forget, forget_rows, n_unseen, unseen_rows, correlation
):
    """It was 0.60, 0.52, 0.40 and 0.27 with all rows of each who takes another's place."""
    rng, pvalues = np.random.default_rng(0), []
    for seed in range(120):
        sides, people = [], []
        for first, n, each in ((0, n_forget, forget_rows), (100, n_unseen, unseen_rows)):
            own, person = rng.normal(size=n * each), np.repeat(rng.normal(size=n), each)
            sides.append(np.sqrt(correlation) * person + np.sqrt(1 - correlation) * own)
            people.append(first + np.arange(n * each) // each)
        groups = dict(zip(("groups_forget", "groups_unseen"), people))
        test = membership_inference_test(*sides, **groups, n_permutations=39, random_state=seed)
        pvalues.append(test.pvalue)
    assert np.mean(np.array(pvalues) <= 0.05) <= 0.1


def test_a_person_with_most_of_the_rows_is_worth_few():
    rng = np.random.default_rng(0)
    probas = rng.dirichlet([1, 1, 1], (3, 40))
    whose = np.repeat(np.arange(11), [30, *[1] * 10])
    with pytest.raises(ValueError, match=r"11 groups, .* worth 1\.8: the test takes 6"):
        relative_mmd_test(np.zeros(40, int), *probas, labels=range(3), groups=whose)


def soft(logits):
    shares = np.exp(logits)
    return shares / shares.sum(axis=-1, keepdims=True)


def mmd_by_hand(y, *probas):
    """The difference of two unbiased estimates over pairs of different rows, by plain loops."""
    rows = [
        [np.array([row[k], *sorted(np.delete(row, k))[::-1]]) for row, k in zip(proba, y)]
        for proba in probas
    ]
    every = [row for part in rows for row in part]
    squared = [((a - b) ** 2).sum() for a, b in itertools.combinations(every, 2)]
    width = np.median(squared)

    def k(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * width))

    def mmd(a, b):
        pairs = list(itertools.permutations(range(len(a)), 2))
        return np.mean([k(a[i], a[j]) + k(b[i], b[j]) - 2 * k(a[i], b[j]) for i, j in pairs])

    return mmd(rows[0], rows[2]) - mmd(rows[0], rows[1])


def test_relative_statistic_is_the_difference_of_two_discrepancies():
    rng = np.random.default_rng(0)
    y, (ours, one, other) = rng.integers(3, size=9), rng.dirichlet(np.ones(3), (3, 9))
    found = relative_mmd_test(y, ours, one, other, labels=range(3))
    assert found.statistic == pytest.approx(mmd_by_hand(y, ours, one, other))
    mirrored = relative_mmd_test(y, ours, other, one, labels=range(3))
    assert mirrored.statistic == pytest.approx(-found.statistic)
    assert mirrored.pvalue == pytest.approx(found.pvalue)
    indicators = np.eye(3, dtype=int)[y]
    by_labels = relative_mmd_test(indicators, ours, one, other)
    flipped = [np.where(indicators == 1, part, 1 - part) for part in (ours, one, other)]
    assert relative_mmd_test(np.ones((9, 3), int), *flipped) == pytest.approx(by_labels)


def test_a_network_by_hand_and_one_that_is_as_far_from_both():
    y = np.zeros(20, dtype=int)
    near, far = (np.tile(row, (10, 1)) for row in ([[0.5, 0.5], [0.4, 0.6]], [[1, 0], [0.9, 0.1]]))
    nearer = relative_mmd_test(y, near, near, far, labels=[0, 1])
    assert nearer.statistic > 0
    assert nearer.pvalue < 1e-4
    assert relative_mmd_test(y, near, far, far, labels=[0, 1]) == (0, 1)


def test_sure_of_the_right_class_is_far_from_sure_of_the_wrong_one():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    right, wrong = np.eye(2)[y] * 0.9 + 0.05, np.eye(2)[1 - y] * 0.9 + 0.05
    ours = wrong + rng.uniform(-0.04, 0.04, (40, 1)) * [1, -1]
    # As distributions over the rows, the probabilities of both are the same.
    assert sorted(right.tolist()) == sorted(wrong.tolist())
    test = relative_mmd_test(y, ours, wrong, right, labels=[0, 1])
    assert test.statistic > 0
    assert test.pvalue < 1e-6


def test_level_and_power_of_the_relative_test():
    rng = np.random.default_rng(0)
    rejected, y = [], np.zeros(40, dtype=int)
    for _ in range(120):
        base = rng.normal(size=(40, 3))
        own = rng.normal(0, 0.5, (3, 40, 3))
        ours, one, other = base + own
        cases = {
            "as far": (one + [0, 1.2, 0], other + [0, 0, 1.2]),
            "retrained": (one, other + [1.5, 0, 0]),
            "original": (one + [1.5, 0, 0], other),
        }
        rejected.append(
            [
                test.pvalue <= 0.05 and np.sign(test.statistic) == sign
                for sign, networks in zip((1, 1, -1), cases.values())
                for test in [relative_mmd_test(y, *map(soft, (ours, *networks)), labels=range(3))]
            ]
        )
    as_far, retrained, original = np.mean(rejected, axis=0)
    assert as_far <= 0.06  # of one side, half of the level
    assert min(retrained, original) > 0.7


def test_relative_test_compares_rows_of_different_people():
    rng = np.random.default_rng(0)
    probas, y = rng.dirichlet(np.ones(3), (3, 10)), np.zeros(10, dtype=int)
    alone = relative_mmd_test(y, *probas, labels=range(3))
    copied = relative_mmd_test(
        y.repeat(5), *probas.repeat(5, axis=1), labels=range(3), groups=np.arange(10).repeat(5)
    )
    # The width of the kernel is over all pairs, copies of a row included.
    assert copied.statistic == pytest.approx(alone.statistic, rel=0.2)
    assert copied.pvalue == pytest.approx(alone.pvalue, abs=0.05)


def test_relative_test_refuses_what_does_not_fit():
    y, proba = np.zeros(8, dtype=int), np.full((8, 2), 0.5)
    known = {"labels": [0, 1]}
    with pytest.raises(ValueError, match="y_proba_original must have one row for each of the 8"):
        relative_mmd_test(y, proba, proba, proba[:7], **known)
    with pytest.raises(ValueError, match="y_proba_retrained must hold probabilities"):
        relative_mmd_test(y, proba, proba + 1, proba, **known)
    with pytest.raises(ValueError, match="got 5 rows: the test takes 6"):
        relative_mmd_test(y[:5], proba[:5], proba[:5], proba[:5], **known)
    with pytest.raises(ValueError, match="got 2 groups: the test takes 6"):
        relative_mmd_test(y, proba, proba, proba, groups=np.arange(8) // 4, **known)
    with pytest.raises(ValueError, match="the person of each of the 8 rows; got 2"):
        relative_mmd_test(y, proba, proba, proba, groups=[1, 2], **known)
