"""The attacker with both networks, and what becomes of a class."""

import numpy as np
import pytest
from scipy.spatial.distance import euclidean
from sklearn.metrics import accuracy_score

from skunlearn.metrics import (
    change_signal,
    class_utility,
    membership_inference_auc,
    same_class,
    sample_log_loss,
)


def test_change_is_that_of_losses_and_of_probabilities():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=30)
    before, after = rng.dirichlet(np.ones(3), (2, 30))
    losses = [sample_log_loss(y, proba, labels=range(3)) for proba in (before, after)]
    found = change_signal(y, before, after, signal="loss", labels=range(3))
    np.testing.assert_allclose(found, losses[0] - losses[1])
    found = change_signal(y, before, after, signal="distance", labels=range(3))
    np.testing.assert_allclose(found, [-euclidean(a, b) for a, b in zip(before, after)])


def test_change_of_indicators():
    y, before, after = [[1, 0]], [[0.9, 0.2]], [[0.5, 0.2]]
    found = change_signal(y, before, after, signal="loss")
    assert found == pytest.approx([(np.log(0.5) - np.log(0.9)) / 2])
    assert change_signal(y, before, after, signal="distance") == pytest.approx([-0.4])


def test_change_finds_rows_that_one_network_hides():
    """Rows that were pushed to the losses of unseen ones, no further."""
    rng = np.random.default_rng(0)

    def proba(p):
        return np.column_stack([p, 1 - p])

    unseen, memorised = rng.uniform(0.3, 0.7, 200), rng.uniform(0.9, 1, 50)
    hidden = rng.uniform(0.3, 0.7, 50)
    y = np.zeros(50, int), np.zeros(200, int)
    after = [
        sample_log_loss(labels, proba(p), labels=[0, 1]) for labels, p in zip(y, (hidden, unseen))
    ]
    assert 0.4 < membership_inference_auc(*after) < 0.6
    noise = rng.uniform(-0.02, 0.02, 200)
    for signal in ("loss", "distance"):
        change = [
            change_signal(labels, proba(a), proba(b), signal=signal, labels=[0, 1])
            for labels, a, b in zip(y, (memorised, unseen), (hidden, unseen + noise))
        ]
        assert membership_inference_auc(*change) == 1


def test_change_refuses_what_does_not_fit():
    two, three = np.eye(2), np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"signal must be one of \['loss', 'distance'\]"):
        change_signal([0, 1], two, two, signal="logit", labels=[0, 1])
    with pytest.raises(ValueError, match="y_proba_before must hold probabilities"):
        change_signal([0, 1], 3 * two, two, signal="loss", labels=[0, 1])
    with pytest.raises(ValueError, match="labels must name the 3 columns of y_proba_after"):
        change_signal([0, 1], two, three, signal="loss", labels=[0, 1])


def test_utility_of_classes_kept_and_forgotten():
    y = np.array(["a", "b", "c", "a", "b", "c", "c", "a"])
    predicted = np.array(["a", "a", "a", "b", "b", "c", "b", "a"])
    found = class_utility(y, predicted, forgotten=["c"])
    assert found.kept == accuracy_score(y[y != "c"], predicted[y != "c"]) == 0.6
    assert found.forgotten == pytest.approx(1 / 3)
    kept, forgotten = class_utility(y, predicted, forgotten=["d"])
    assert (kept, np.isnan(forgotten)) == (0.5, True)
    assert np.isnan(class_utility(y, predicted, forgotten=list("abc")).kept)
    with pytest.raises(ValueError, match="y_pred must have the shape of y_true"):
        class_utility(y, predicted[:5], forgotten=["c"])
    with pytest.raises(ValueError, match="one class for each row"):
        class_utility(np.eye(2), np.eye(2), forgotten=[1])


def test_a_class_is_attacked_within_itself():
    """A network that has never seen a class fails on all its rows, to forget or unseen."""
    rng = np.random.default_rng(0)
    y_unseen, y_forget = np.repeat([0, 1, 2], 100), np.full(60, 2)
    loss = rng.exponential(size=300) + 5 * (y_unseen == 2)
    loss_forget = rng.exponential(size=60) + 5
    assert membership_inference_auc(loss_forget, loss) < 0.2
    rows = same_class(y_unseen, y_forget)
    assert rows.tolist() == (y_unseen == 2).tolist()
    assert 0.4 < membership_inference_auc(loss_forget, loss[rows]) < 0.6
    with pytest.raises(ValueError, match=r"of a class that is to be forgotten, \[3\]"):
        same_class(y_unseen, [3])
