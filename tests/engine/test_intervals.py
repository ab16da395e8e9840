"""Intervals against what is worked out otherwise, and how often they hold the truth."""

import copy
import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t

from skunlearn._engine.intervals import (
    Interval,
    distance,
    of_auc,
    of_difference,
    of_difference_of_mmd,
    of_jackknife,
    of_mean,
    of_overshoot,
    of_ratio,
    of_tpr,
    too_few,
    worth,
)
from skunlearn.metrics import membership_inference_report, overshoot


@pytest.mark.parametrize(("n_right", "n"), [(0, 1), (1, 1), (0, 12), (7, 12), (12, 12), (90, 1000)])
def test_share_of_rows_has_its_exact_binomial_interval(n_right, n):
    found = of_mean(np.arange(n) < n_right, 0.95)
    expected = binomtest(n_right, n).proportion_ci(0.95)
    assert tuple(found) == pytest.approx((n_right / n, *expected))
    assert found.method == "Clopper–Pearson"


def test_interval_keeps_its_method_and_reason():
    found = of_mean(np.array([True, False]), 0.95)
    value, low, high = found
    assert (value, low, high) == found == (0.5, found.low, found.high)
    copies = [pickle.loads(pickle.dumps(found)), copy.deepcopy(found), replace(found)]
    copies += [Interval(**asdict(found)), Interval(**json.loads(json.dumps(asdict(found))))]
    for each in copies:
        assert each == found
        assert each.method == found.method == "Clopper–Pearson"
    assert found != replace(found, method="another")
    assert found[0] == 0.5
    assert found[1:] == (low, high)
    assert len(found) == 3
    assert hash(found) == hash(replace(found))
    assert asdict(Interval(1.0, np.nan, np.nan, reason="one row"))["reason"] == "one row"


def test_jackknife_of_a_mean_has_its_standard_error():
    x = np.random.default_rng(0).normal(size=20000)
    group = np.arange(len(x)) % 20
    without = np.array([x[group != g].mean() for g in range(20)])
    value, low, high = of_jackknife(x.mean() + 1, without + 1, 0.95)
    # Of a mean far from 0, which has no bias, the three intervals are one.
    assert (high - low) / 2 == pytest.approx(2.23 * x.std() / np.sqrt(len(x)), rel=0.35)
    assert value - low == pytest.approx(high - value, rel=0.01)


def test_jackknife_by_hand():
    """Three parts: deviations -1, 0, 1 from a mean of 4.5, and a bias of 2 · (4.5 - 4)."""
    _, low, high = of_jackknife(4.0, np.array([3.5, 4.5, 5.5]), 0.95)
    half = t.ppf(0.975, 1) * np.sqrt(2 / 3 * 2)
    assert (low, high) == (0, pytest.approx(max(4 + half, root_end(half))))


def root_end(half):
    roots = np.sqrt([3.5, 4.5, 5.5])
    error = np.sqrt(2 / 3 * ((roots - roots.mean()) ** 2).sum())
    return (2 + t.ppf(0.975, 1) * error) ** 2


def test_jackknife_that_cannot_be_had_says_so():
    found = of_jackknife(1.0, np.array([1.0, np.inf]), 0.95)
    assert np.isnan(found.low)
    assert found.reason == "of some of the rows alone it cannot be had"
    assert tuple(of_jackknife(1.0, np.ones(5), 0.95, 1)) == (1, 1, 1)


def test_difference_of_mmd_is_that_of_its_test():
    half = 0.1 * t.ppf(0.975, 3)
    found = of_difference_of_mmd(0.3, 0.1, np.arange(12), 0.95)
    assert tuple(found) == (0.3, 0.3 - half, 0.3 + half)


def test_rows_that_are_answered_alike_do_not_say_how_far_a_difference_of_mmd_varies():
    found = of_difference_of_mmd(0.0, 0.0, np.arange(12), 0.95)
    assert found.value == 0
    assert np.isnan(found.low)
    assert "answered alike" in found.reason


def test_distances_that_are_all_0_leave_open_that_others_are_not():
    """Of six rows: the variance of either mean is (1 / 6)², and Fieller's equation is solved."""
    found = of_ratio(np.zeros(6), np.ones(6), 0.95)
    half = t.ppf(0.975, 5) / 6
    assert found.low == 0
    assert found.high == pytest.approx(brentq(lambda r: r - half * np.hypot(1, r), 0, 9))


def test_auc_by_hand():
    """Two rows of each six are told wrongly from all others; Newcombe's equation is solved."""
    forget, unseen = [0, 0, 0, 0, 9, 9], [5, 5, 5, 5, 5, 5]
    value, low, high = of_auc(np.array(forget), np.array(unseen), 0.95)
    assert value == pytest.approx(4 / 6)
    # All chance is in the forget rows: their placements are 1 or 0.
    observed = (4 * (1 / 3) ** 2 + 2 * (2 / 3) ** 2) / 5 / 6

    def variance(auc):
        a, b = (1 - auc) / (2 - auc), auc / (1 + auc)
        return auc * (1 - auc) / 36 * (1 + 5 * (a + b))

    factor = t.ppf(0.975, 5) ** 2 * max(1, observed / variance(value))
    for bound, start in ((low, 0.0), (high, 1.0)):
        found = brentq(
            lambda auc: (auc - value) ** 2 - factor * variance(auc),
            start,
            value - 1e-9 if start == 0 else value + 1e-9,
        )
        assert bound == pytest.approx(found)


def test_auc_of_many_rows_has_the_textbook_standard_error():
    rng = np.random.default_rng(0)
    forget, unseen = rng.normal(0, 1, 3000), rng.normal(0.5, 1, 3000)
    told = forget[:, None] < unseen
    error = np.sqrt(told.mean(1).var() / 3000 + told.mean(0).var() / 3000)
    value, low, high = of_auc(forget, unseen, 0.95)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert value == pytest.approx(told.mean())


def test_tpr_by_hand():
    """Of 500 unseen rows none to 6 may lie below the threshold of 1 in 250."""
    forget, unseen = np.r_[np.full(40, -1.0), np.full(60, 1e6)], np.arange(500.0)
    value, low, high = of_tpr(forget, unseen, 1 / 250, 0.95)
    assert value == 0.4
    assert low == 0  # of so few mistakes, none may be allowed
    assert high == pytest.approx(binomtest(40, 100).proportion_ci(0.975).high)
    # With 1 in 10, the 36th to the 66th of the order are possible thresholds.
    forget = np.r_[np.full(40, 30.5), np.full(20, 64.5), np.full(40, 1e6)]
    value, low, high = of_tpr(forget, unseen, 0.1, 0.95)
    assert value == 0.4
    assert low == pytest.approx(binomtest(40, 100).proportion_ci(0.975).low)
    assert high == pytest.approx(binomtest(60, 100).proportion_ci(0.975).high)


def test_overshoot_has_the_value_of_the_metric_and_no_upper_bound():
    rng = np.random.default_rng(0)
    forget, unseen = rng.exponential(3, 40), rng.exponential(1, 100)
    found = of_overshoot(forget, unseen, 0.95, 200, np.random.RandomState(0))
    assert found.value == pytest.approx(overshoot(forget, unseen))
    assert 0 < found.low < found.value
    assert found.high == np.inf
    few = of_overshoot(forget[:5], unseen, 0.95, 200, np.random.RandomState(0))
    assert few.value == pytest.approx(overshoot(forget[:5], unseen))
    assert np.isnan(few.low)
    assert few.reason == "5 forget rows and 100 unseen rows: an interval takes 20 of each"


def test_ratio_of_many_rows_has_the_delta_methods_error():
    rng = np.random.default_rng(0)
    above, below = rng.beta(2, 8, (2, 4000))
    value, low, high = of_ratio(above, below, 0.95)
    error = (above / below.mean() - value * below / below.mean()).std() / np.sqrt(4000)
    assert value == pytest.approx(above.mean() / below.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.02)


def test_a_ratio_whose_unit_may_be_0_has_no_upper_bound():
    below = np.r_[0.3, np.zeros(29)]
    value, low, high = of_ratio(np.full(30, 0.2), below, 0.95)
    assert (low, high) == (0, np.inf)
    assert value == pytest.approx(20)


def test_difference_is_0_wide_for_no_number_of_rows():
    same = np.ones(12)
    value, low, high = of_difference(same, same, 0.95)
    assert value == 0
    assert low == -high == pytest.approx(-binomtest(0, 12).proportion_ci(0.95).high)


def test_what_gains_does_not_lose():
    # Half the rows gain and half of them lose: each is 1 or -1, with a variance of 1.
    gains = np.arange(100) % 2
    _, low, high = of_difference(gains, 1 - gains, 0.95)
    assert high == -low == pytest.approx(1.96 / 10, rel=0.06)


@pytest.mark.parametrize(("n", "share"), [(12, 0.4), (100, 0.5), (1000, 0.3)])
@pytest.mark.parametrize("size", [1, 5])
def test_the_interval_of_a_difference_covers_0(n, share, size):
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        drawn = rng.choice([1, -1, 0], n, p=[share, share, 1 - 2 * share]).repeat(size)
        groups = np.arange(n).repeat(size) if size > 1 else None
        _, low, high = of_difference(drawn > 0, (drawn < 0).astype(int), 0.95, groups)
        held += low <= 0 <= high
    assert held / 200 >= 0.93


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        ((0.1, 0.05, 0.2), (0.1, 0.05, 0.2)),
        ((-0.1, -0.2, -0.05), (0.1, 0.05, 0.2)),
        ((-0.1, -0.2, 0.05), (0.1, 0.0, 0.2)),
        ((0.1, -0.3, 0.2), (0.1, 0.0, 0.3)),
    ],
)
def test_a_distance_has_no_sign(difference, expected):
    assert tuple(distance(Interval(*difference))) == expected
    moved = Interval(*(each + 0.5 for each in difference))
    assert tuple(distance(moved, 0.5)) == pytest.approx(expected)


def test_what_people_with_unequally_many_rows_are_worth_by_hand():
    """Of 1, 1 and 2 rows: 16 / 6 people; (6/16)² / (18/256) - 1 degrees of freedom."""
    n_people, degrees, room = worth(np.array([0, 1, 2, 2]))
    assert n_people == pytest.approx(16 / 6)
    assert degrees == pytest.approx(1)
    assert room == pytest.approx([0.75, 0.75, 0.5])
    even = worth(np.arange(40) // 5)
    assert even[0] == pytest.approx(8)
    assert even[1] == pytest.approx(7)
    assert even[2] == pytest.approx(7 / 8)


def test_people_of_whom_one_has_most_rows_have_no_interval():
    codes = np.repeat(np.arange(12), [60, *[2] * 11])  # 82² / 3644
    reason = "12 groups, with unequally many rows and worth 1.8: an interval takes 6"
    assert too_few([codes], codes) == reason
    both = "12 forget groups, with unequally many rows and worth 1.8 and 82 unseen groups"
    assert too_few([codes, np.arange(82)], codes) == f"{both}: an interval takes 6 of each"
    assert not too_few([np.repeat(np.arange(6), [8, 9, 10, 10, 11, 12])], codes)
    values, others = np.linspace(0, 1, 82), np.linspace(0.1, 1, 82)
    found = [
        of_auc(values, others, 0.95, codes, 100 + codes),
        of_mean(values, 0.95, codes),
        of_ratio(values, others, 0.95, codes),
    ]
    assert [interval.reason.endswith(f"{reason[-25:]}") for interval in found[1:]] == [True, True]
    assert np.isnan([interval.low for interval in found]).all()


# -- how often they hold the truth; the table is of benchmarks/bench_intervals.py -----------------


def rows(rng, n_people, n_each, correlation):
    """Normal signals, correlated within a person."""
    person = np.repeat(rng.normal(size=n_people), n_each)
    own = rng.normal(size=n_people * n_each)
    return np.sqrt(correlation) * person + np.sqrt(1 - correlation) * own


@pytest.mark.parametrize(
    ("n_forget", "n_unseen", "shift", "mixed"),
    [(6, 100, 0, 0), (12, 12, 2.9, 0), (12, 300, 0, 3), (100, 30, 1, 0)],
)
def test_intervals_of_rows_cover(n_forget, n_unseen, shift, mixed):
    rng = np.random.default_rng(0)
    truth = norm.cdf(shift / np.sqrt(2)), norm.cdf(norm.ppf(0.05) + shift)
    held = []
    for _ in range(200):
        forget, unseen = rng.normal(size=n_forget) - shift, rng.normal(size=n_unseen)
        if mixed:  # half is remembered, half overshoots
            forget += mixed * rng.choice([-1, 1], n_forget)
        auc = of_auc(forget, unseen, 0.95)
        tpr = of_tpr(forget, unseen, 0.05, 0.95)
        held.append([auc.low <= truth[0] <= auc.high, mixed or tpr.low <= truth[1] <= tpr.high])
    assert (np.mean(held, axis=0) >= 0.93).all()


def test_intervals_of_people_cover_where_those_of_rows_do_not():
    rng = np.random.default_rng(0)
    people = {"groups_forget": np.repeat(np.arange(12), 10)}
    people["groups_unseen"] = 100 + np.repeat(np.arange(30), 10)
    held = []
    for seed in range(150):
        sides = rows(rng, 12, 10, 0.3), rows(rng, 30, 10, 0.3)
        reports = [
            membership_inference_report(*sides, **groups, random_state=seed)
            for groups in (people, {})
        ]
        held.append(
            [[r[name].low <= 0.5 <= r[name].high for name in ("auc", "accuracy")] for r in reports]
        )
    of_people, of_rows = np.mean(held, axis=0)
    assert (of_people >= 0.93).all()
    assert of_rows[0] < 0.8


@pytest.mark.parametrize(
    ("n", "above", "below"), [(6, 0.9, 0.95), (12, 0.02, 0.3), (30, 0.02, 0.3)]
)
def test_ratios_of_distances_that_are_0_or_1_cover(n, above, below):
    """Votes, and networks that are sure of all rows; it was in 62, 58 and 47 %."""
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        distances = [(rng.random(n) < share) * 1.0 for share in (above, below)]
        if distances[1].any():
            found = of_ratio(*distances, 0.95)
            held.append(found.low <= above / below <= found.high)
    assert np.mean(held) >= 0.93


@pytest.mark.parametrize("n", [20, 100])
def test_ratios_of_small_distances_are_of_networks_that_agree(n):
    """The nearer two networks are, the more is known of their ratio; a scale changes nothing."""
    rng = np.random.default_rng(0)
    below = rng.uniform(0.001, 0.009, n)
    above = below * rng.uniform(0.8, 1.2, n)
    small, large = of_ratio(above, below, 0.95), of_ratio(30 * above, 30 * below, 0.95)
    assert (small.low, small.high) == pytest.approx((large.low, large.high))
    assert 0.9 < small.low < small.high < 1.1


@pytest.mark.parametrize("one_has_most", [False, True])
def test_intervals_of_people_with_unequally_many_rows_cover(one_has_most):
    """Taken for people with equally many rows, the AUC holds in 88 %, the ratio in 87 %."""
    rng = np.random.default_rng(0)
    held, n = [], 100 if one_has_most else 14
    for _ in range(200):
        sizes = np.r_[60, np.full(n - 1, 2)] if one_has_most else rng.choice([2, 3, 20], n)
        people = np.repeat(np.arange(n), sizes)
        # What all rows of a person have in common is nine tenths of the variance.
        first, second, unseen = (
            0.3 * rng.normal(size=len(people)) + np.sqrt(0.91) * rng.normal(size=n)[people]
            for _ in range(3)
        )
        shares = norm.cdf(first), norm.cdf(second)
        found = {
            0.5: of_auc(first, unseen, 0.95, people, n + people),
            0.75: of_mean((first < norm.ppf(0.75)) * 1.0, 0.95, people),
            1: of_ratio(*shares, 0.95, people),
            0.3: of_difference(first < norm.ppf(0.9), second < norm.ppf(0.6), 0.95, people),
        }
        held.append([not found[t].reason and not found[t].low <= t <= found[t].high for t in found])
    assert (np.mean(held, axis=0) <= 0.07).all()


def test_lower_bound_of_overshoot_lets_nothing_be_nothing():
    rng = np.random.default_rng(0)
    found = [
        of_overshoot(*rng.exponential(size=(2, 30)), 0.95, 100, np.random.RandomState(seed)).low
        for seed in range(150)
    ]
    assert np.mean(np.array(found) == 0) >= 0.93
