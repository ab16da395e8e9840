import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve

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
    logits[torch.arange(200), y] += torch.linspace(-70, 70, 200)
    proba = logits.softmax(1).float().numpy()
    others = logits.clone()
    others[torch.arange(200), y] = -torch.inf
    expected = (others.logsumexp(1) - logits[torch.arange(200), y]).numpy()
    found = attack_signal(y, proba, signal="logit", labels=range(5))
    assert expected.min() < -60
    assert expected.max() > 60
    # One minus a probability in single precision ends at 16, and is off by a tenth before.
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_signals_are_finite_and_of_one_size_at_certainty(dtype):
    eps = float(np.finfo(dtype).eps)
    edge = np.log(max(float(np.finfo(dtype).tiny), float(np.finfo(np.float32).tiny)))
    proba = np.zeros((2, 100), dtype)
    proba[:, 0] = 1
    for signal in SIGNALS:
        assert np.isfinite(attack_signal([0, 1], proba, signal=signal, labels=range(100))).all()
    # Of a hundred classes clipped one by one, the rest would add up to a hundred times as much.
    found = attack_signal([0, 1], proba, signal="logit", labels=range(100))
    np.testing.assert_allclose(found, [edge, -edge], rtol=1e-3)
    found = attack_signal([[1], [0]], np.array([[1], [1]], dtype), signal="logit")
    np.testing.assert_allclose(found, [np.log(eps), -np.log(eps)], rtol=1e-3)
    found = attack_signal([[0], [1]], np.array([[0], [0]], dtype), signal="logit")
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
        ([], [1, 2], "signal_forget must be numbers"),
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
        {"n_splits": 0},
        {"confidence_level": 95},
        {"confidence_level": 1.0},
        {"confidence_level": 0},
    ],
)
def test_report_refuses_numbers_out_of_range(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        membership_inference_report([1, 2, 3], [1, 2, 3], **bad)


# -- the report ------------------------------------------------------------------------------------


def test_report_has_the_values_of_the_functions(sides):
    report = membership_inference_report(*sides, max_fpr=0.05, n_splits=7, random_state=4)
    assert {name: interval.value for name, interval in report.items()} == {
        "accuracy": membership_inference_accuracy(*sides, n_splits=7, random_state=4),
        "auc": membership_inference_auc(*sides),
        "tpr": membership_inference_tpr(*sides, max_fpr=0.05),
    }
    assert all(low <= value <= high for value, low, high in report.values())
    assert report["auc"].low < report["auc"].value < report["auc"].high


def test_report_is_seeded_and_leaves_the_global_generator_alone(sides):
    before = np.random.mtrand._rand.get_state(legacy=False)["state"]["key"].tolist()
    one, other, *more = (
        membership_inference_report(*sides, random_state=seed) for seed in (0, 0, 1, 2, 3)
    )
    assert one == other
    assert any(another != one for another in more)
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


def test_accuracy_of_two_rows_a_side_has_no_bounds():
    report = membership_inference_report([0.0, 1.0], [5.0, 6.0], random_state=0)
    assert report["accuracy"].value == report["auc"].value == 1
    for name in ("accuracy", "auc"):
        assert np.isnan(report[name][1:]).all()
        reason = "2 forget rows and 2 unseen rows: an interval takes 6 of each"
        assert report[name].reason == reason
        assert not report[name].method


def test_one_row_is_reported():
    report = membership_inference_report([0.5], np.arange(200.0), random_state=0)
    assert np.isnan(report["accuracy"]).all()
    assert report["accuracy"].reason == (
        "1 forget row and 200 unseen rows: to be trained, an attack takes 2 of each"
    )
    assert report["auc"].value == pytest.approx(199 / 200)
    assert report["auc"].reason.startswith("1 forget row and 200 unseen rows")
    # Below the third of 200 unseen rows: of one row, nothing can be said but that it is so.
    value, low, high = report["tpr"]
    assert value == 1
    assert low == 0
    assert high == 1


def test_groups_are_given_for_both_sides_and_for_every_row():
    with pytest.raises(ValueError, match=r"given together; got groups_unseen=None"):
        membership_inference_report([1, 2], [1, 2], groups_forget=[0, 1])
    with pytest.raises(ValueError, match="groups_unseen must name the group of each of the 3"):
        membership_inference_report([1, 2], [1, 2, 3], groups_forget=[0, 1], groups_unseen=[2, 3])


def test_copies_of_a_row_tell_nothing_new(sides):
    forget, unseen = sides[0][:30], sides[1][:40]
    alone = membership_inference_report(forget, unseen, random_state=0)
    forget_people, unseen_people = np.arange(30).repeat(8), np.arange(30, 70).repeat(8)
    copied = membership_inference_report(
        forget.repeat(8),
        unseen.repeat(8),
        groups_forget=forget_people,
        groups_unseen=unseen_people,
        random_state=0,
    )
    assert tuple(copied["auc"]) == pytest.approx(tuple(alone["auc"]))
    assert copied["tpr"].low == pytest.approx(alone["tpr"].low, abs=0.02)
    assert copied["tpr"].high == pytest.approx(alone["tpr"].high, abs=0.02)
    width = copied["accuracy"].high - copied["accuracy"].low
    assert width > 0.7 * (alone["accuracy"].high - alone["accuracy"].low)
    for name in ("accuracy", "auc", "tpr"):
        assert copied[f"people_{name}"] == alone[name]


def test_people_are_attacked_by_the_mean_of_their_rows():
    forget, unseen = [0.0, 4.0, 1.0, 1.0], [0.5, 0.7, 3.0, 3.0, 3.0]
    report = membership_inference_report(
        forget, unseen, groups_forget=list("abcb"), groups_unseen=list("xxyyz"), random_state=0
    )
    means = [0.0, 2.5, 1.0], [0.6, 3.0, 3.0]
    for name in ("auc", "tpr"):
        function = {"auc": membership_inference_auc, "tpr": membership_inference_tpr}[name]
        assert report[f"people_{name}"].value == function(*means)
    assert report["auc"].reason == (
        "3 forget groups and 3 unseen groups: an interval takes 6 of each"
    )
