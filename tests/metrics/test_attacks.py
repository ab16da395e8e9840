import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve

from skunlearn._engine.statistics import _fit_logistic
from skunlearn.metrics import (
    attack_signal,
    calibrated_signal,
    membership_inference_accuracy,
    membership_inference_auc,
    membership_inference_report,
    membership_inference_tpr,
    sample_log_loss,
)

SIGNALS = ["loss", "confidence", "entropy", "modified_entropy", "logit"]


def by_hand(signal, p, y):
    """A signal of one row, term by term."""
    others = [q for j, q in enumerate(p) if j != y]
    if signal == "loss":
        return -np.log(p[y])
    if signal == "confidence":
        return -p[y]
    if signal == "entropy":
        return -sum(q * np.log(q) for q in p)
    if signal == "modified_entropy":
        return -(1 - p[y]) * np.log(p[y]) - sum(q * np.log(1 - q) for q in others)
    return -(np.log(p[y]) - np.log(sum(others)))


@pytest.mark.parametrize("signal", SIGNALS)
def test_signals_are_their_formulas_row_by_row(signal):
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet(np.ones(4), 50), rng.integers(4, size=50)
    expected = [by_hand(signal, p, k) for p, k in zip(proba, y)]
    found = attack_signal(np.array(list("dbca"))[y], proba, signal=signal, labels=list("dbca"))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("signal", SIGNALS)
def test_signals_of_indicators_are_means_over_two_class_problems(signal):
    rng = np.random.default_rng(0)
    proba, y = rng.uniform(size=(20, 3)), rng.integers(2, size=(20, 3))
    expected = [
        np.mean([by_hand(signal, [1 - p, p], k) for p, k in zip(*row)]) for row in zip(proba, y)
    ]
    np.testing.assert_allclose(attack_signal(y, proba, signal=signal), expected)


@pytest.mark.parametrize("signal", ["loss", "confidence", "modified_entropy", "logit"])
def test_signals_rise_as_the_true_class_loses(signal):
    p = np.linspace(1, 0, 11)
    proba = np.column_stack([p, (1 - p) / 2, (1 - p) / 2])
    found = attack_signal(np.zeros(11), proba, signal=signal, labels=range(3))
    assert (np.diff(found) > 0).all()


def test_modified_entropy_tells_certainly_wrong_from_certainly_right():
    proba = [[0.98, 0.01, 0.01], [0.98, 0.01, 0.01]]
    plain = attack_signal([0, 1], proba, signal="entropy", labels=range(3))
    modified = attack_signal([0, 1], proba, signal="modified_entropy", labels=range(3))
    assert plain[0] == pytest.approx(plain[1])
    assert modified[1] > 100 * modified[0]


def test_loss_is_the_sample_log_loss():
    rng = np.random.default_rng(0)
    for y, proba in [
        (rng.integers(3, size=20), rng.dirichlet(np.ones(3), 20).astype(np.float32)),
        (rng.integers(2, size=(20, 3)), rng.uniform(size=(20, 3))),
    ]:
        np.testing.assert_array_equal(
            attack_signal(y, proba, signal="loss", labels=range(3)),
            sample_log_loss(y, proba, labels=range(3)),
        )


def test_logit_is_that_of_the_logits_where_probabilities_are_close_to_one():
    torch.manual_seed(0)
    logits = 3 * torch.randn(200, 5, dtype=torch.float64)
    y = logits.argmax(1)
    logits[torch.arange(200), y] += torch.linspace(0, 15, 200)
    proba = logits.softmax(1).float().numpy()
    kept = proba.max(1) < 1 - 2e-7  # the rest is clipped
    others = logits.clone()
    others[torch.arange(200), y] = -torch.inf
    expected = (others.logsumexp(1) - logits[torch.arange(200), y]).numpy()
    found = attack_signal(y, proba, signal="logit", labels=range(5))
    assert expected[kept].min() < -14
    # One minus a probability in single precision would be off by a tenth and more there.
    np.testing.assert_allclose(found[kept], expected[kept], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_signals_are_finite_and_of_one_size_at_certainty(dtype):
    eps = float(np.finfo(dtype).eps)
    edge = np.log(eps) - np.log1p(-eps)
    proba = np.zeros((2, 100), dtype)
    proba[:, 0] = 1
    for signal in SIGNALS:
        assert np.isfinite(attack_signal([0, 1], proba, signal=signal, labels=range(100))).all()
    # A hundred classes clipped one by one would add up to a tenth in half precision.
    found = attack_signal([0, 1], proba, signal="logit", labels=range(100))
    np.testing.assert_allclose(found, [edge, -edge], rtol=1e-3)
    found = attack_signal([[1], [0]], np.array([[1], [1]], dtype), signal="logit")
    np.testing.assert_allclose(found, [edge, -edge], rtol=1e-3)


def test_signals_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"signal must be one of \['loss'.*got 'margin'"):
        attack_signal([0, 1], np.eye(2), signal="margin", labels=[0, 1])
    with pytest.raises(ValueError, match="y_proba must hold probabilities"):
        attack_signal([0, 1], 3 * np.eye(2), signal="entropy", labels=[0, 1])
    with pytest.raises(ValueError, match="labels must name the class of each column of y_proba,"):
        attack_signal([0, 1], np.eye(2), signal="loss")
    with pytest.raises(ValueError, match="y_proba_reference must hold probabilities"):
        calibrated_signal([0, 1], np.eye(2), 3 * np.eye(2), labels=[0, 1])
    with pytest.raises(ValueError, match="rows of y_proba_reference must sum to 1"):
        calibrated_signal([0, 1], np.eye(2), np.eye(2) / 2, labels=[0, 1])
    with pytest.raises(ValueError, match="labels must name the 3 columns of y_proba_reference"):
        calibrated_signal([0, 1], np.eye(2), np.eye(3)[:2], labels=[0, 1])


# -- calibration -----------------------------------------------------------------------------------


def test_calibrated_signal_is_the_difference_of_logit_signals():
    rng = np.random.default_rng(0)
    audited, reference = rng.dirichlet(np.ones(3), (2, 20))
    y = rng.integers(3, size=20)
    expected = [
        by_hand("logit", p, k) - by_hand("logit", q, k) for p, q, k in zip(audited, reference, y)
    ]
    np.testing.assert_allclose(calibrated_signal(y, audited, reference, labels=range(3)), expected)


def test_calibration_stays_honest_where_forget_rows_are_easier():
    rng = np.random.default_rng(0)
    n = 400
    ease = np.concatenate([rng.normal(2, 1, n), rng.normal(0, 1, n)])  # forget, unseen

    def network(remembers=0):
        """What a network with luck of its own makes of the rows, all of class 1."""
        phi = ease + rng.normal(0, 0.5, 2 * n)
        phi[:n] += remembers
        return np.column_stack([1 / (1 + np.exp(phi)), 1 / (1 + np.exp(-phi))])

    y, labels = np.ones(2 * n), [0, 1]
    reference = network()
    for remembers, is_seen in [(0, False), (2, True)]:
        audited = network(remembers)
        plain = attack_signal(y, audited, signal="loss", labels=labels)
        assert membership_inference_auc(plain[:n], plain[n:]) > 0.8  # either way
        calibrated = calibrated_signal(y, audited, reference, labels=labels)
        auc = membership_inference_auc(calibrated[:n], calibrated[n:])
        accuracy = membership_inference_accuracy(calibrated[:n], calibrated[n:], random_state=0)
        if is_seen:
            assert auc > 0.95
            assert accuracy > 0.85
        else:
            assert auc == pytest.approx(0.5, abs=0.05)
            assert accuracy == pytest.approx(0.5, abs=0.05)


# -- AUC and TPR -----------------------------------------------------------------------------------


@pytest.fixture(params=["continuous", "tied"])
def sides(request):
    rng = np.random.default_rng(0)
    forget, unseen = rng.exponential(0.5, 300), rng.exponential(1.0, 450)
    return (forget, unseen) if request.param == "continuous" else (forget.round(1), unseen.round(1))


def test_auc_is_that_of_scikit_learn_and_of_the_rank_test(sides):
    forget, unseen = sides
    y = np.repeat([1, 0], [len(forget), len(unseen)])
    found = membership_inference_auc(forget, unseen)
    assert found == pytest.approx(roc_auc_score(y, -np.concatenate(sides)), abs=1e-12)
    assert found == pytest.approx(
        mannwhitneyu(unseen, forget).statistic / (len(forget) * len(unseen)), abs=1e-12
    )
    assert found > 0.6  # and not its complement


def test_auc_is_below_one_half_for_overshoot():
    assert membership_inference_auc([5, 6, 7], [1, 2, 3]) == 0
    assert membership_inference_auc([1, 2, 3], [5, 6, 7]) == 1
    assert membership_inference_auc([1, 1], [1, 1]) == 0.5


@pytest.mark.parametrize("max_fpr", [0, 0.01, 0.05, 0.29, 0.5, 0.9999, 1])
def test_tpr_is_the_best_point_of_the_roc_curve_that_is_allowed(sides, max_fpr):
    y = np.repeat([1, 0], [len(side) for side in sides])
    fpr, tpr, _ = roc_curve(y, -np.concatenate(sides), drop_intermediate=False)
    expected = tpr[fpr <= max_fpr + 1e-12].max()
    found = membership_inference_tpr(*sides, max_fpr=max_fpr)
    assert found == pytest.approx(expected, abs=1e-12)


def test_tpr_counts_no_attack_that_ties_make_impossible():
    # Whoever takes the two forget rows at 1 also takes 2 of 100 unseen ones.
    forget, unseen = [0, 1, 1, 5], [1, 1] + 98 * [3]
    assert membership_inference_tpr(forget, unseen) == 0.25
    assert membership_inference_tpr(forget, unseen, max_fpr=0.02) == 0.75


def test_tpr_allows_no_mistake_with_fewer_than_100_unseen_rows():
    forget = np.arange(50)
    assert membership_inference_tpr(forget, np.r_[10, 100 : 100 + 98]) == 0.2
    assert membership_inference_tpr(forget, np.r_[10, 20, 100 : 100 + 98]) == 0.4


def test_tpr_allows_as_many_mistakes_as_the_rate_says():
    unseen = np.arange(100.0)  # of which 0.29 * 100 is 28.999999999999996
    assert membership_inference_tpr([28.5, 27], unseen, max_fpr=0.29) == 1
    assert membership_inference_tpr([28.5, 27], unseen, max_fpr=0.28) == 0.5


@pytest.mark.parametrize(
    "function",
    [membership_inference_auc, membership_inference_tpr, membership_inference_report],
)
@pytest.mark.parametrize(
    ("forget", "unseen", "message"),
    [
        ([1], [1, 2], "signal_forget must be numbers"),
        ([1, 2], [[1], [2]], "signal_unseen must be numbers"),
        ([1, 2], [1, np.nan], "signal_unseen must be finite"),
        (["a", "b"], [1, 2], "signal_forget must be numbers"),
    ],
)
def test_figures_refuse_what_is_not_a_signal(function, forget, unseen, message):
    with pytest.raises(ValueError, match=message):
        function(forget, unseen)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_fpr": 1.1},
        {"max_fpr": -0.1},
        {"n_resamples": 0},
        {"n_splits": 0},
        {"confidence_level": 95},
    ],
)
def test_report_refuses_numbers_out_of_range(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        membership_inference_report([1, 2, 3], [1, 2, 3], **bad)


# -- the report ------------------------------------------------------------------------------------


def test_report_has_the_values_of_the_functions(sides):
    report = membership_inference_report(
        *sides, max_fpr=0.05, n_splits=7, n_resamples=50, random_state=4
    )
    assert {name: interval.value for name, interval in report.items()} == {
        "accuracy": membership_inference_accuracy(*sides, n_splits=7, random_state=4),
        "auc": membership_inference_auc(*sides),
        "tpr": membership_inference_tpr(*sides, max_fpr=0.05),
    }
    assert all(low <= value <= high for value, low, high in report.values())
    assert report["auc"].low < report["auc"].value < report["auc"].high


def test_report_is_seeded_and_leaves_the_global_generator_alone(sides):
    before = np.random.mtrand._rand.get_state(legacy=False)["state"]["key"].tolist()
    one, other, third = (
        membership_inference_report(*sides, n_resamples=20, random_state=seed) for seed in (0, 0, 1)
    )
    assert one == other != third
    assert np.random.mtrand._rand.get_state(legacy=False)["state"]["key"].tolist() == before


def test_interval_of_the_auc_is_as_wide_as_its_textbook_standard_error():
    rng = np.random.default_rng(0)
    forget, unseen = rng.normal(0, 1, 300), rng.normal(0.5, 1, 500)
    # DeLong's: the variances of each row's share of the other side that it is told from.
    told = forget[:, None] < unseen
    error = np.sqrt(told.mean(1).var(ddof=1) / 300 + told.mean(0).var(ddof=1) / 500)
    value, low, high = membership_inference_report(forget, unseen, random_state=0)["auc"]
    assert high - value == pytest.approx(1.96 * error, rel=0.1)
    assert value - low == pytest.approx(1.96 * error, rel=0.1)
    _, lower, higher = membership_inference_report(
        forget, unseen, random_state=0, confidence_level=0.68
    )["auc"]
    assert higher - lower == pytest.approx(2 * error, rel=0.15)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    n_held = np.zeros(3)
    for seed in range(100):
        forget, unseen = rng.normal(size=(2, 200))
        report = membership_inference_report(forget, unseen, n_resamples=200, random_state=seed)
        n_held += [
            interval.low <= truth <= interval.high
            for interval, truth in zip(report.values(), (0.5, 0.5, 0.01))
        ]
    assert (n_held >= 80).all()
    assert n_held[1] >= 88


def test_copies_in_a_resample_do_not_inflate_the_accuracy():
    rng = np.random.default_rng(0)
    centres, inflated = [], []
    for seed in range(30):
        forget, unseen = rng.normal(size=(2, 60))
        report = membership_inference_report(
            forget, unseen, n_splits=5, n_resamples=100, random_state=seed
        )
        centres.append(report["accuracy"].low + report["accuracy"].high)
        # What is avoided: an attack on the resample that is tested on the rows it was trained on.
        x = np.concatenate([rng.choice(side, 60) for side in (forget, unseen)])
        y = np.repeat([1, 0], 60)
        weight, intercept = _fit_logistic(x[None], y[None], 1.0)
        inflated.append(np.mean((weight * x + intercept > 0) == y))
    assert np.mean(inflated) > 0.53
    assert np.mean(centres) / 2 < 0.51


def test_report_of_a_handful_of_rows_is_made_of_numbers():
    report = membership_inference_report([0.0, 1.0], [5.0, 6.0], random_state=0)
    assert np.isfinite([list(interval) for interval in report.values()]).all()
    assert report["auc"] == (1, 1, 1)
    # With one split, many a resample has none of the few rows that were guessed.
    report = membership_inference_report(np.arange(5), np.arange(50, 55), n_splits=1)
    assert report["accuracy"] == (1, 1, 1)
