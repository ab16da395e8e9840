import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from skunlearn.metrics import klom, membership_inference_tpr, rmia, u_lira


def halves(n_models, n_rows):
    """Complementary pairs: who has unlearned a row and who never saw it."""
    rng = np.random.default_rng(1)
    first = rng.permuted(np.arange(n_rows) % 2 == 0)
    rows = [rng.permutation(first) for _ in range(n_models // 2)]
    return np.array([part for row in rows for part in (row, ~row)])


def some_margins(n_models=8, n_rows=30, left=1.0):
    rng = np.random.default_rng(0)
    member = halves(n_models, n_rows)
    hardness = rng.normal(0, 3, n_rows)
    return hardness + rng.normal(size=(n_models, n_rows)) + left * member, member


# -- U-LiRA ----------------------------------------------------------------------------------------


def density(x, mean, variance):
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


@pytest.mark.parametrize("n_models", [8, 64])
def test_u_lira_is_the_likelihood_ratio_of_models_held_out(n_models):
    margins, member = some_margins(n_models, n_rows=9)
    n_rows, expected = 9, np.empty(margins.shape)
    for model in range(n_models):
        partner = model + 1 if model % 2 == 0 else model - 1
        fits = {}
        for kind in (True, False):
            samples = [
                [
                    margins[other, row]
                    for other in range(n_models)
                    if other not in (model, partner) and member[other, row] == kind
                ]
                for row in range(n_rows)
            ]
            means = [sum(sample) / len(sample) for sample in samples]
            squares = [sum((v - m) ** 2 for v in sample) for sample, m in zip(samples, means)]
            if n_models < 64:
                variances = n_rows * [sum(squares) / sum(len(sample) - 1 for sample in samples)]
            else:
                variances = [square / (len(sample) - 1) for square, sample in zip(squares, samples)]
            fits[kind] = list(zip(means, variances))
        for row in range(n_rows):
            unlearned, unseen = (density(margins[model, row], *fits[k][row]) for k in (True, False))
            expected[model, row] = math.log(unseen / unlearned)
    attack = u_lira(margins, member, max_fpr=0.1)
    np.testing.assert_allclose(attack.signal, expected, rtol=1e-6, atol=1e-9)
    right = [np.mean(expected[member] < 0), np.mean(expected[~member] >= 0)]
    assert attack.accuracy == pytest.approx(np.mean(right))
    assert attack.auc == pytest.approx(roc_auc_score(member.ravel(), -expected.ravel()))
    assert attack.tpr == membership_inference_tpr(expected[member], expected[~member], max_fpr=0.1)


def test_u_lira_reaches_the_accuracy_of_the_best_attacker():
    margins, member = some_margins(100, 200, left=2.0)
    # Two unit Gaussians two apart: Phi(1) and, for the AUC, Phi(sqrt 2).
    attack = u_lira(margins, member)
    assert attack.accuracy == pytest.approx(norm.cdf(1), abs=0.015)
    assert attack.auc == pytest.approx(norm.cdf(math.sqrt(2)), abs=0.015)


def test_u_lira_finds_overshoot_and_what_differs_from_row_to_row():
    rng = np.random.default_rng(0)
    margins, member = some_margins(32, 100, left=0.0)
    sign = np.where(rng.random(100) < 0.5, 1, -1)  # remembered, overshot
    attack = u_lira(margins + 3 * sign * member, member)
    assert attack.accuracy > 0.85
    by_row = ((attack.signal < 0) == member).mean(axis=0)
    assert by_row.min() > 0.6


@pytest.mark.parametrize("n_models", [6, 64])
def test_u_lira_is_a_coin_where_nothing_is_left(n_models):
    rng = np.random.default_rng(0)
    member = halves(n_models, 100)
    accuracies = [u_lira(rng.normal(size=member.shape), member).accuracy for _ in range(30)]
    error = np.std(accuracies) / math.sqrt(30)
    # Held out one at a time, models would be told below 0.5; judged by those who fitted, above.
    assert np.mean(accuracies) == pytest.approx(0.5, abs=3 * error)
    assert error < 0.004


def test_u_lira_takes_margins_that_are_all_equal():
    attack = u_lira(np.full((8, 5), 15.9), halves(8, 5))
    assert (attack.signal == 0).all()
    assert (attack.accuracy, attack.auc, attack.tpr) == (0.5, 0.5, 0.0)


# -- RMIA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_counts_the_population_rows_that_a_row_dominates(gamma):
    margins, member = some_margins(8, 40)
    population = np.random.default_rng(2).normal(0, 2, size=(8, 25))

    def p(margin):
        return 1 / (1 + math.exp(-margin))

    expected = np.empty(margins.shape)
    for model in range(8):
        partner = model + 1 if model % 2 == 0 else model - 1
        others = [other for other in range(8) if other not in (model, partner)]
        for row in range(40):
            saw = [p(margins[other, row]) for other in others if member[other, row]]
            not_saw = [p(margins[other, row]) for other in others if not member[other, row]]
            p_x = (sum(saw) / len(saw) + sum(not_saw) / len(not_saw)) / 2
            dominated = 0
            for z in range(25):
                p_z = sum(p(population[other, z]) for other in others) / len(others)
                ratio = (p(margins[model, row]) / p_x) / (p(population[model, z]) / p_z)
                dominated += ratio >= gamma
            expected[model, row] = 1 - dominated / 25
    attack = rmia(margins, member, population, gamma=gamma, max_fpr=0.1)
    np.testing.assert_allclose(attack.signal, expected)
    assert attack.auc == pytest.approx(roc_auc_score(member.ravel(), -expected.ravel()))
    assert attack.tpr == membership_inference_tpr(expected[member], expected[~member], max_fpr=0.1)

    # The threshold of each pair is the best of the other models, tried one after the other.
    right = np.empty(member.shape, dtype=bool)
    for pair in range(0, 8, 2):
        others = [other for other in range(8) if other not in (pair, pair + 1)]
        signal, truth = expected[others], member[others]

        def gain(t, signal=signal, truth=truth):
            return np.mean(signal[truth] <= t) - np.mean(signal[~truth] <= t)

        best = max([-1.0, *sorted(set(signal.ravel()))], key=lambda t: round(gain(t), 9))
        right[pair : pair + 2] = (expected[pair : pair + 2] <= best) == member[pair : pair + 2]
    assert attack.accuracy == pytest.approx(np.mean([right[member].mean(), right[~member].mean()]))


def test_rmia_sees_memory_whatever_the_hardness_of_rows_and_is_a_coin_without():
    rng = np.random.default_rng(0)
    population = rng.normal(0, 3, 200) + rng.normal(size=(16, 200))
    for left, low, high in [(3.0, 0.75, 1.0), (0.0, 0.46, 0.54), (-3.0, 0.0, 0.25)]:
        margins, member = some_margins(16, 200, left)
        attack = rmia(margins, member, population)
        assert low < attack.auc < high
        assert ((attack.signal >= 0) & (attack.signal <= 1)).all()
        if left == 0:
            assert attack.accuracy == pytest.approx(0.5, abs=0.04)
        if left > 0:
            assert attack.accuracy > 0.7


def test_rmia_takes_margins_whose_probability_is_zero_in_double_precision():
    margins, member = some_margins()
    population = np.random.default_rng(0).normal(size=(8, 40))
    margins[:, 0] = population[:, 0] = -800.0
    attack = rmia(margins, member, population)
    margins[:, 0] = population[:, 0] = -100.0
    np.testing.assert_array_equal(attack.signal, rmia(margins, member, population).signal)
    assert attack.signal[:, 0].min() > 0.5  # as probable as ever, which dominates few rows


def test_rmia_dominates_from_gamma_on():
    margins, population = np.zeros((4, 3)), np.zeros((4, 5))  # every ratio is 1
    member = halves(4, 3)
    assert (rmia(margins, member, population, gamma=1).signal == 0).all()
    assert (rmia(margins, member, population, gamma=1.01).signal == 1).all()


# -- KLoM ------------------------------------------------------------------------------------------


def klom_by_hand(unlearned, retrained, n_bins=20, eps=1e-5):
    unlearned, retrained = (
        [min(max(v, -100), 100) for v in side] for side in (unlearned, retrained)
    )
    low, high = min(unlearned + retrained), max(unlearned + retrained)
    p, q = [0] * n_bins, [0] * n_bins
    for side, share in ((unlearned, p), (retrained, q)):
        for v in side:
            share[min(int((v - low) / (high - low) * n_bins), n_bins - 1)] += 1 / len(side)
    q = [max(b, eps) if a > 0 else b for a, b in zip(p, q)]
    return sum(a * math.log(a / (b / sum(q))) for a, b in zip(p, q) if a > 0)


@pytest.mark.parametrize(("n_bins", "eps"), [(20, 1e-5), (5, 1e-2)])
def test_klom_is_the_binned_divergence_row_by_row(n_bins, eps):
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.normal(1, 1, (30, 40)), 20 * rng.standard_t(1, (50, 40))
    assert (abs(retrained) > 100).any()
    expected = [
        klom_by_hand(list(u), list(r), n_bins, eps) for u, r in zip(unlearned.T, retrained.T)
    ]
    found = klom(unlearned, retrained, n_bins=n_bins, eps=eps)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert (found >= 0).all()


def test_klom_is_what_a_case_small_enough_to_work_out_says():
    # Two bins, from 0 to 2: p = (1/2, 1/2), q = (3/4, 1/4), of which the last has the value 2.
    unlearned, retrained = [[0.0], [2.0]], [[0.0], [0.0], [0.5], [2.0]]
    found = klom(unlearned, retrained, n_bins=2)[0]
    assert found == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    other = klom(retrained, unlearned, n_bins=2)[0]  # the other direction is another number
    assert other == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_klom_scales_back_what_it_has_added():
    # p = (0, 1), q = (1, eps) / (1 + eps).
    found = klom([[2.0], [2.0]], [[0.0], [0.0]], n_bins=2, eps=0.5)[0]
    assert found == pytest.approx(math.log(1.5 / 0.5))
    assert klom([[2.0]], [[0.0]])[0] == pytest.approx(-math.log(1e-5), abs=1e-4)


def test_klom_of_the_same_margins_is_zero():
    margins = np.random.default_rng(0).normal(size=(10, 6))
    margins[:, 3] = 4.0
    np.testing.assert_allclose(klom(margins, margins[::-1]), 0, atol=1e-12)
    assert klom([[150.0]], [[1000.0]])[0] == 0  # both are 100


def test_klom_of_few_models_has_the_floor_that_its_notes_tell():
    rng = np.random.default_rng(0)
    for n, floor in [(20, 3.0), (50, 0.9), (100, 0.3)]:
        assert klom(*rng.normal(size=(2, n, 300))).mean() == pytest.approx(floor, rel=0.15)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [u_lira, lambda *a: rmia(*a, np.zeros((len(a[0]), 3)))])
@pytest.mark.parametrize(
    ("margins", "member", "message"),
    [
        (np.zeros(8), np.zeros(8, bool), "margins must be numbers of shape"),
        (np.full((8, 2), np.nan), halves(8, 2), "margins must be finite"),
        (np.full((8, 2), "a"), halves(8, 2), "margins must be numbers"),
        (np.zeros((8, 2)), halves(8, 4), r"member must be a boolean array .*\(8, 2\); got .*8, 4"),
        (np.zeros((8, 2)), halves(8, 2).astype(int), "member must be a boolean array .* got .*int"),
        (np.zeros((8, 2)), np.ones((8, 2), bool), r"member must leave each row .* row 0 has 0"),
        (np.zeros((2, 2)), halves(2, 2), r"member must leave .* models \[0, 1\] are judged"),
    ],
)
def test_attacks_refuse_what_is_not_margins(attack, margins, member, message):
    with pytest.raises(ValueError, match=message):
        attack(margins, member)


def test_attacks_and_klom_refuse_numbers_and_shapes_that_do_not_fit():
    margins, member = some_margins()
    with pytest.raises(ValueError, match="row 0 has 1 of a kind"):
        u_lira(margins[:4], member[:4])
    with pytest.raises(ValueError, match="max_fpr"):
        u_lira(margins, member, max_fpr=2)
    with pytest.raises(ValueError, match="gamma"):
        rmia(margins, member, margins, gamma=0.5)
    with pytest.raises(ValueError, match="margins_population must be of the 8 models"):
        rmia(margins, member, margins[:4])
    with pytest.raises(ValueError, match="margins_retrained must have the 30 rows"):
        klom(margins, margins[:, :5])
    with pytest.raises(ValueError, match="n_bins"):
        klom(margins, margins, n_bins=0)
    with pytest.raises(ValueError, match="eps"):
        klom(margins, margins, eps=0)
