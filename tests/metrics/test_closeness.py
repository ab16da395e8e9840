import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from skunlearn.metrics import (
    average_gap,
    jensen_shannon_distance,
    overshoot,
    prediction_agreement,
    relative_jensen_shannon_distance,
    tug_of_war_score,
    zero_retrain_forgetting,
)

UNLEARNED = {"forget": 0.7, "retain": 0.8, "test": 0.5, "attack": 0.6}
RETRAINED = {"attack": 0.5, "test": 0.55, "retain": 1.0, "forget": 0.5}  # another order


def probabilities(seed, n_rows=40, n_classes=5, concentration=0.3):
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, concentration), n_rows)


def test_gap_and_tug_of_war_match_scores_by_name():
    assert average_gap(UNLEARNED, RETRAINED) == pytest.approx((0.2 + 0.2 + 0.05 + 0.1) / 4)
    assert tug_of_war_score(UNLEARNED, RETRAINED) == pytest.approx(0.8 * 0.8 * 0.95 * 0.9)


@pytest.mark.parametrize("convert", [list, np.array, pd.Series])
def test_gap_and_tug_of_war_take_sequences(convert):
    ours, reference = convert([0.7, 0.8, 0.5]), convert([0.5, 1, 0.55])
    assert average_gap(ours, reference) == pytest.approx(0.15)
    assert tug_of_war_score(ours, reference) == pytest.approx(0.8 * 0.8 * 0.95)
    assert average_gap(ours, ours) == 0
    assert tug_of_war_score(ours, ours) == 1


def test_differences_of_either_sign_do_not_cancel():
    assert average_gap([0.4, 0.6], [0.6, 0.4]) == pytest.approx(0.2)
    assert tug_of_war_score([0.4, 0.6], [0.6, 0.4]) == pytest.approx(0.64)


def test_gap_of_errors_is_that_of_accuracies():
    errors = {name: 1 - value for name, value in UNLEARNED.items()}
    reference = {name: 1 - value for name, value in RETRAINED.items()}
    assert average_gap(errors, reference) == pytest.approx(average_gap(UNLEARNED, RETRAINED))


@pytest.mark.parametrize("score", [average_gap, tug_of_war_score])
@pytest.mark.parametrize(
    ("ours", "reference", "message"),
    [
        ({"a": 1}, {"b": 1}, r"same names.*got \['a'\] and \['b'\]"),
        ({"a": 1, "b": 1}, {"a": 1}, r"same names.*got \['a', 'b'\] and \['a'\]"),
        ({"a": 1}, [1], r"same names, or both be sequences; got \['a'\] and list"),
        ([1, 0], [1], "one number for each of the 2 in scores; got 1"),
        ([], [], "scores must be numbers by name or a sequence"),
        ({}, {}, "scores must be numbers by name or a sequence"),
        (0.5, 0.5, "scores must be numbers by name or a sequence"),
        ([np.nan], [1], "scores must be finite"),
        ([1], [np.inf], "reference_scores must be finite"),
        (["a"], [1], "scores must be numbers"),
    ],
)
def test_gap_and_tug_of_war_refuse_what_does_not_match(score, ours, reference, message):
    with pytest.raises(ValueError, match=message):
        score(ours, reference)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_tug_of_war_is_of_accuracies(value):
    with pytest.raises(ValueError, match="scores must hold accuracies from 0 to 1"):
        tug_of_war_score([value, 0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="reference_scores must hold accuracies from 0 to 1"):
        tug_of_war_score([0.5], [value])


def test_agreement_is_the_share_of_equal_predictions():
    assert prediction_agreement([0, 1, 2, 2, 1], [0, 2, 2, 2, 1]) == pytest.approx(0.8)
    ours, reference = np.array([[1, 0, 0], [1, 1, 0]]), np.array([[1, 0, 1], [1, 1, 0]])
    assert prediction_agreement(ours, reference) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("ours", "reference", "message"),
    [
        ([0, 1], [0, 1, 1], r"y_pred_reference must have the shape of y_pred, \(2,\); got \(3,\)"),
        ([0.3, 0.7], [0, 1], "y_pred must hold class labels"),
        ([0, 1], [0.3, 0.7], "y_pred_reference must hold class labels"),
        (["0", "1"], [0, 1], "must hold labels of the type"),
    ],
)
def test_agreement_refuses_what_is_not_labels(ours, reference, message):
    with pytest.raises(ValueError, match=message):
        prediction_agreement(ours, reference)


def test_distance_is_the_mean_of_scipys_to_base_2():
    p, q = probabilities(0), probabilities(1)
    rows = [jensenshannon(a, b, base=2) for a, b in zip(p, q)]
    assert jensen_shannon_distance(p, q) == pytest.approx(np.mean(rows))
    # Usual mistakes: the divergence, base e, the distance of the mean predictions.
    others = [np.mean(np.square(rows)), np.mean([jensenshannon(a, b) for a, b in zip(p, q)])]
    others.append(jensenshannon(p.mean(axis=0), q.mean(axis=0), base=2))
    assert np.abs(np.array(others) - np.mean(rows)).min() > 0.05


def test_distance_is_symmetric_and_keeps_its_bounds():
    p, q = probabilities(0), probabilities(1)
    assert jensen_shannon_distance(p, q) == pytest.approx(jensen_shannon_distance(q, p))
    assert jensen_shannon_distance(p, p) == 0
    assert jensen_shannon_distance(np.eye(3), np.eye(3)[[1, 2, 0]]) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_distance_of_equal_predictions_but_for_rounding_is_a_small_number(dtype):
    p = probabilities(0, n_rows=500).astype(dtype)
    assert 0 <= jensen_shannon_distance(p, np.nextafter(p, dtype(0.5))) < 0.02
    torch_p = torch.tensor(p)
    assert jensen_shannon_distance(torch_p, torch_p) == 0
    p = p.astype(float)  # rows need not sum to 1 exactly
    assert jensen_shannon_distance(p, 0.993 * p) == pytest.approx(0, abs=1e-6)


def test_multilabel_distance_is_that_of_a_coin_for_each_label():
    rng = np.random.default_rng(0)
    p, q = rng.random((30, 4)), rng.random((30, 4))
    coins = [jensenshannon([a, 1 - a], [b, 1 - b], base=2) for a, b in zip(p.ravel(), q.ravel())]
    assert jensen_shannon_distance(p, q, multilabel=True) == pytest.approx(np.mean(coins))
    squared = np.mean(np.square(coins))
    zrf = zero_retrain_forgetting(p, q, multilabel=True)
    assert zrf == pytest.approx(1 - squared)


def test_zrf_takes_the_divergence_from_one():
    p, q = probabilities(0), probabilities(1)
    divergence = np.mean([jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q)])
    assert zero_retrain_forgetting(p, q) == pytest.approx(1 - divergence)
    assert zero_retrain_forgetting(p, p) == 1
    assert zero_retrain_forgetting([[1, 0]], [[0, 1]]) == 0


def test_another_retraining_is_one_floor_away():
    retrained, again, unlearned = (probabilities(seed) for seed in range(3))
    assert relative_jensen_shannon_distance(again, retrained, again) == 1
    near = 0.9 * retrained + 0.1 * again
    assert relative_jensen_shannon_distance(near, retrained, again) < 0.5
    expected = jensen_shannon_distance(unlearned, retrained) / jensen_shannon_distance(
        again, retrained
    )
    ratio = relative_jensen_shannon_distance(unlearned, retrained, again)
    assert ratio == pytest.approx(expected)
    multilabel = relative_jensen_shannon_distance(unlearned, retrained, again, multilabel=True)
    assert multilabel != pytest.approx(ratio)


def test_two_retrainings_that_are_one_are_refused():
    p, q = probabilities(0), probabilities(1)
    with pytest.raises(ValueError, match=r"y_proba_reference_2 must be of another.*random_state"):
        relative_jensen_shannon_distance(p, q, q)


@pytest.mark.parametrize(
    ("ours", "reference", "message"),
    [
        ([[0.5, 0.5]], [[1, 0], [0, 1]], r"y_proba_reference must .*\(1, 2\); got \(2, 2\)"),
        ([[0.5, 0.5]], [[0.2, 0.2]], "rows of y_proba_reference must sum to 1.*multilabel=True"),
        ([[2.0, -1.0]], [[1, 0]], "y_proba must hold probabilities.*from -1 to 2.*softmax"),
        ([0.5, 0.5], [0.5, 0.5], "y_proba must be probabilities of shape"),
        ([[np.nan, 1]], [[0, 1]], "y_proba must be finite"),
    ],
)
def test_probabilities_that_are_none_are_refused(ours, reference, message):
    with pytest.raises(ValueError, match=message):
        jensen_shannon_distance(ours, reference)
    with pytest.raises(ValueError, match=message):
        relative_jensen_shannon_distance(ours, reference, [[0.5, 0.5]] * len(reference))
    with pytest.raises(ValueError, match=message.replace("y_proba_reference", "y_proba_random")):
        zero_retrain_forgetting(ours, reference)


def quantile_loop(forget, unseen):
    """The mean over quantiles, on a grid on which both sides are constant."""
    n = np.lcm(len(forget), len(unseen))
    up = np.repeat(np.sort(forget), n // len(forget)) - np.repeat(np.sort(unseen), n // len(unseen))
    return np.maximum(up, 0).mean()


@pytest.mark.parametrize(("n_forget", "n_unseen"), [(30, 30), (12, 50), (50, 12), (2, 7)])
@pytest.mark.parametrize("scale", [0.1, 1, 5])
def test_overshoot_is_the_mean_over_quantiles_of_what_lies_above(n_forget, n_unseen, scale):
    rng = np.random.default_rng(n_forget)
    forget, unseen = scale * rng.exponential(size=n_forget), rng.exponential(size=n_unseen)
    up, down = overshoot(forget, unseen), overshoot(unseen, forget)
    assert up == pytest.approx(quantile_loop(forget, unseen), abs=1e-12)
    assert up + down == pytest.approx(wasserstein_distance(forget, unseen))
    assert up - down == pytest.approx(forget.mean() - unseen.mean())


def test_overshoot_sees_one_side_only():
    assert overshoot([0.0, 1.0], [1.0, 9.0]) == 0
    assert overshoot([4.0, 8.0], [1.0, 2.0]) == 4.5
    assert overshoot([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]) == 0
    # The means are equal, and quantiles are compared in order, not row by row.
    assert overshoot([6.0, 0.0], [3.0, 3.0]) == 1.5
    assert overshoot([3.0, 1.0], [1.0, 3.0]) == 0


@pytest.mark.parametrize(
    ("forget", "unseen", "message"),
    [
        ([], [1.0, 2.0], "loss_forget must be numbers of shape"),
        ([1.0, 2.0], [[1.0]], "loss_unseen must be numbers of shape"),
        ([1.0, np.nan], [1.0, 2.0], "loss_forget must be finite"),
        (["a", "b"], [1.0, 2.0], "loss_forget must be numbers"),
    ],
)
def test_overshoot_refuses_what_is_not_losses(forget, unseen, message):
    with pytest.raises(ValueError, match=message):
        overshoot(forget, unseen)
