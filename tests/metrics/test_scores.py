import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from torch import nn

from skunlearn.metrics import (
    forgetting_score,
    membership_inference_accuracy,
    nomus_score,
    sample_log_loss,
    utility_score,
)


def sklearn_attack(loss_forget, loss_unseen, test_size, seed, n_splits=10, **attacker):
    x = np.concatenate([loss_forget, loss_unseen])[:, None]
    y = np.repeat([1, 0], [len(loss_forget), len(loss_unseen)])
    cv = StratifiedShuffleSplit(n_splits, test_size=test_size, random_state=seed)
    return cross_val_score(LogisticRegression(**attacker), x, y, cv=cv).mean()


@pytest.mark.parametrize(
    ("utility", "forgetting", "published"),
    [(0.5951, 0.2136, 0.5839), (0.6197, 0.0279, 0.7819)],
)
def test_nomus_agrees_with_the_published_pairs(utility, forgetting, published):
    assert nomus_score(utility, forgetting) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize(
    ("weight", "expected"), [(1, 0.8), (0, 0.6), (0.25, 0.25 * 0.8 + 0.75 * 0.6)]
)
def test_nomus_weighs_utility_against_forgetting(weight, expected):
    assert nomus_score(0.8, 0.2, weight=weight) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"utility": 1.01}, "utility must .* got 1.01"),
        ({"utility": -0.1}, "utility"),
        ({"utility": float("nan")}, "utility"),
        ({"utility": "0.5"}, "utility"),
        ({"forgetting_score": 0.51}, "forgetting_score must .* 0.5; got 0.51"),
        ({"forgetting_score": -0.01}, "forgetting_score"),
        ({"weight": 1.5}, "weight"),
        ({"weight": None}, "weight"),
    ],
)
def test_nomus_refuses_numbers_out_of_range(arguments, parameter):
    with pytest.raises(ValueError, match=parameter):
        nomus_score(**{"utility": 0.5, "forgetting_score": 0.1, **arguments})


def test_utility_is_accuracy():
    assert utility_score([3, 1, 2, 2, 1], [3, 1, 1, 2, 1]) == 0.8
    assert utility_score(np.array(["a", "b"], dtype=object), np.array(["a", "c"])) == 0.5
    assert utility_score(torch.tensor([1, 0]), [1.0, 0.0]) == 1.0


def test_utility_of_indicators_is_the_mean_accuracy_of_the_labels():
    y_true = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]])
    y_pred = np.array([[1, 0, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1]])  # label accuracies 3/4, 1, 1/2
    assert utility_score(y_true, y_pred) == pytest.approx((0.75 + 1 + 0.5) / 3)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([], [], "y_true must"),
        (1, 1, "y_true must"),
        ([0, 1], [0, 1, 1], r"y_pred must have the shape .*\(2,\).*\(3,\)"),
        ([0, 1], [[1, 0], [0, 1]], "y_pred must have the shape"),
        ([0.0, np.nan], [0, 1], "y_true must be finite"),
        ([0, 1], [0.0, np.inf], "y_pred must be finite"),
        ([0, 1], [0.3, 0.7], "y_pred must hold class labels"),
        ([[0, 2], [1, 1]], [[0, 1], [1, 1]], "y_true .* indicator"),
        (["0", "1"], [0, 1], "y_pred must hold labels of the type"),
    ],
)
def test_utility_refuses_what_is_not_labels(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        utility_score(y_true, y_pred)


def test_sample_log_loss_is_minus_the_log_of_the_true_class():
    loss = sample_log_loss(
        ["b", "a", "c"], [[0.2, 0.5, 0.3], [0.1, 0.9, 0], [0, 0, 1]], labels=list("abc")
    )
    np.testing.assert_allclose(loss, [np.log(2), np.log(10), 0], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sample_log_loss_averages_to_scikit_learns_log_loss(dtype):
    rng = np.random.default_rng(0)
    y_proba = rng.dirichlet(np.ones(4) / 10, 200).astype(dtype)
    y_proba = (y_proba + dtype(0.01)) / dtype(1.04)  # scikit-learn clips small ones
    y = rng.choice([2, 3, 5, 7], 200)
    loss = sample_log_loss(y, y_proba, labels=[2, 3, 5, 7])
    assert loss.shape == (200,)
    assert loss.dtype == np.float64
    expected = log_loss(y, y_proba.astype(dtype), labels=[2, 3, 5, 7])
    assert loss.mean() == pytest.approx(expected, rel=1e-5)


def test_sample_log_loss_agrees_with_torch():
    torch.manual_seed(0)
    logits, y = torch.randn(50, 3, dtype=torch.float64), torch.randint(3, (50,))
    np.testing.assert_allclose(
        sample_log_loss(y, logits.softmax(1), labels=range(3)),
        nn.functional.cross_entropy(logits, y, reduction="none"),
    )
    target = torch.randint(2, (50, 3))
    expected = nn.functional.binary_cross_entropy_with_logits(
        logits, target.double(), reduction="none"
    )
    np.testing.assert_allclose(sample_log_loss(target, logits.sigmoid()), expected.mean(1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sample_log_loss_is_finite_at_certainty(dtype):
    loss = sample_log_loss([0, 1], np.array([[0, 1], [0, 1]], dtype), labels=[0, 1])
    least = max(float(np.finfo(dtype).tiny), float(np.finfo(np.float32).tiny))
    np.testing.assert_allclose(loss, [-np.log(least), 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(sample_log_loss([[1, 0]], np.array([[0, 0]], dtype))[0], loss.mean())
    # One minus a probability is known to fewer digits than the probability.
    eps = float(np.finfo(dtype).eps)
    assert sample_log_loss([[0]], np.array([[1]], dtype)) == pytest.approx(-np.log(eps))


def test_losses_of_single_precision_are_those_of_double_where_the_truth_is_sure_or_hopeless():
    torch.manual_seed(0)
    logits = 3 * torch.randn(300, 5, dtype=torch.float64)
    logits[:, 0] += torch.linspace(-70, 70, 300)
    y = np.zeros(300, dtype=int)
    expected = nn.functional.softplus(logits[:, 1:].logsumexp(1) - logits[:, 0], threshold=1000)
    found = sample_log_loss(y, logits.softmax(1).float(), labels=range(5))
    assert expected.max() > 60
    assert expected.min() < 1e-25
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("y_true", "y_proba", "labels", "message"),
    [
        (["a", "x"], [[1, 0], [0, 1]], ["a", "b"], r"y_true .* not among labels: \['x'\]"),
        ([0, 1], [[1, 0], [0, 1]], None, "labels must name"),
        ([0, 1], [[1, 0], [0, 1]], [0, 1, 2], r"labels must name the 2 columns .*\(3,\)"),
        ([0, 1], [[1, 0]], [0, 1], "y_proba must have one row for each"),
        ([0, 1], [[2.0, -1.0], [0, 1]], [0, 1], "y_proba must .* from -1 to 2.*softmax"),
        ([0, 1], [[0.5, 0.1], [0, 1]], [0, 1], "sum to 1; got sums from 0.6 to 1"),
        ([0, 1], [[np.nan, 1], [0, 1]], [0, 1], "y_proba must be finite; got .* 1 of 4"),
        ([0, 1], [0.5, 0.5], [0, 1], "y_proba must be probabilities of shape"),
        ([], np.empty((0, 2)), [0, 1], "y_true must be"),
        ([[1, 0]], [[0.5, 0.5, 0.5]], None, "y_proba must have the shape"),
        ([[1, 3]], [[0.5, 0.5]], None, "y_true .* indicator"),
    ],
)
def test_sample_log_loss_refuses_what_does_not_fit(y_true, y_proba, labels, message):
    with pytest.raises(ValueError, match=message):
        sample_log_loss(y_true, y_proba, labels=labels)


@pytest.mark.filterwarnings("ignore:Line search of Newton:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1e-3, 1, 10])
@pytest.mark.parametrize("n_rows", [2, 3, 7, 40, 203])
@pytest.mark.parametrize("ratio", [0.05, 1, 20])
def test_attack_is_scikit_learns_logistic_regression(scale, n_rows, ratio):
    rng = np.random.default_rng(n_rows)
    forget = scale * rng.exponential(1, n_rows)
    unseen = scale * ratio * rng.exponential(1, n_rows)
    test_size = max(2, int(np.ceil(0.2 * n_rows)))
    # Its default solver stops early and is slow; this one reaches the same minimum.
    solver = {"solver": "newton-cholesky", "tol": 1e-7}
    expected = sklearn_attack(forget, unseen, test_size, seed=3, **solver)
    accuracy = membership_inference_accuracy(forget, unseen, random_state=3)
    assert accuracy == pytest.approx(expected, abs=1e-12)


def test_attack_agrees_with_scikit_learns_default_solver_and_test_size():
    rng = np.random.default_rng(0)
    forget, unseen = rng.exponential(0.3, 200), rng.exponential(1, 200)
    accuracy = membership_inference_accuracy(forget, unseen, n_splits=3, random_state=0)
    assert accuracy == pytest.approx(sklearn_attack(forget, unseen, None, 0, n_splits=3), abs=1e-12)


def test_attack_recognises_separated_losses_whichever_side_is_greater():
    low, high = np.linspace(0, 1, 60), np.linspace(5, 9, 80)
    assert membership_inference_accuracy(low, high, random_state=0) == 1
    assert membership_inference_accuracy(high, low, random_state=0) == 1
    assert forgetting_score(low, high, random_state=0) == 0.5


@pytest.mark.parametrize("scale", [1e-12, 1, 1e12])
def test_attack_survives_any_scale_of_losses(scale):
    low, high = np.linspace(0, 1, 60), np.linspace(5, 9, 80)
    assert membership_inference_accuracy(scale * low, scale * high, random_state=0) >= 0.9


def test_attack_on_equal_losses_is_a_coin():
    assert membership_inference_accuracy(np.ones(50), np.ones(70), random_state=0) == 0.5


def test_unbalanced_sides_do_not_invent_memory():
    rng = np.random.default_rng(0)
    forget, unseen = rng.exponential(1, (20, 450)), rng.exponential(1, (20, 900))
    ours = [
        membership_inference_accuracy(f, u, random_state=i)
        for i, (f, u) in enumerate(zip(forget, unseen))
    ]
    assert np.mean(ours) == pytest.approx(0.5, abs=0.02)
    assert max(ours) < 0.6
    assert sklearn_attack(forget[0], unseen[0], 0.1, seed=0) == pytest.approx(0.66, abs=0.02)


def test_the_larger_side_is_cut_by_a_random_choice():
    unseen = np.r_[np.zeros(100), np.full(100, 9.0)]  # a cut of the first or last 100 would tell
    accuracies = [
        membership_inference_accuracy(np.zeros(100), unseen, random_state=seed)
        for seed in range(10)
    ]
    assert np.mean(accuracies) == pytest.approx(0.75, abs=0.03)


def test_forgetting_score_is_the_distance_of_the_attack_from_a_coin():
    rng = np.random.default_rng(1)
    forget, unseen = rng.exponential(0.3, 150), rng.exponential(1, 90)
    accuracy = membership_inference_accuracy(forget, unseen, n_splits=4, random_state=5)
    assert forgetting_score(forget, unseen, n_splits=4, random_state=5) == abs(accuracy - 0.5)


def test_a_seed_repeats_and_leaves_the_global_generators_alone():
    rng = np.random.default_rng(2)
    forget, unseen = rng.exponential(0.7, 50), rng.exponential(1, 90)
    before, torch_before = np.random.get_state()[1:3], torch.get_rng_state()  # noqa: NPY002
    scores = [forgetting_score(forget, unseen, random_state=seed) for seed in (0, 0, 1, 2, 3)]
    after = np.random.get_state()[1:3]  # noqa: NPY002
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1] == after[1]
    assert torch.equal(torch_before, torch.get_rng_state())


@pytest.mark.parametrize("score", [membership_inference_accuracy, forgetting_score])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss_forget": []}, r"loss_forget must .* at least 2 rows; got .*\(0,\)"),
        ({"loss_forget": [1.0]}, r"loss_forget must .* at least 2 rows; got .*\(1,\)"),
        ({"loss_unseen": [1.0]}, "loss_unseen must .* at least 2 rows"),
        ({"loss_unseen": [[1.0, 2.0]]}, r"loss_unseen must .*\(1, 2\)"),
        ({"loss_unseen": 1.0}, "loss_unseen must"),
        ({"loss_unseen": [1.0, np.nan]}, "loss_unseen must be finite; got NaN or infinity in 1"),
        ({"loss_forget": [1.0, np.inf]}, "loss_forget must be finite"),
        ({"loss_forget": ["a", "b"]}, "loss_forget must be numbers"),
        ({"n_splits": 0}, "n_splits must be an integer at least 1; got 0"),
        ({"n_splits": 2.5}, "n_splits"),
    ],
)
def test_attack_refuses_bad_input(score, arguments, message):
    with pytest.raises(ValueError, match=message):
        score(**{"loss_forget": [1.0, 2.0], "loss_unseen": [1.0, 3.0], **arguments})


def test_forgetting_score_of_an_attack_below_one_half():
    # Too few rows for an attack: what it learns of most of them is wrong of the rest.
    for seed in range(50):
        a, b = np.random.default_rng(seed).normal(size=(2, 12))
        accuracy = membership_inference_accuracy(a, b, random_state=0)
        if accuracy < 0.45:
            break
    assert accuracy < 0.45
    assert forgetting_score(a, b, random_state=0) == pytest.approx(0.5 - accuracy)
