"""Margins and losses far beyond what probabilities of single precision can hold."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from skunlearn import SISA, FineTune, compare_unlearners, klom_margins, unlearning_report
from skunlearn.callbacks import ForgettingMonitor
from skunlearn.inspection import LossDistributionDisplay
from skunlearn.metrics import (
    attack_signal,
    calibrated_signal,
    change_signal,
    forgetting_score,
    get_scorer,
    membership_inference_auc,
    overshoot,
    relative_mmd_test,
    sample_log_loss,
)
from tests.networks import make_net

# A column for each logit: margins of 200 to 400 nats, of either sign.
X = np.random.default_rng(0).permutation(np.linspace(-400, 400, 60)).astype(np.float32)[:, None]
X = np.c_[X, np.zeros_like(X)]
Y = np.random.default_rng(1).integers(2, size=60)
FORGET = np.arange(60) < 30
MARGINS = np.where(Y == 0, X[:, 0], -X[:, 0]).astype(float)
LOSSES = np.logaddexp(0, -MARGINS)


class Given(nn.Module):
    """A module that answers with its input, whatever it is trained on."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.features = nn.Identity()

    def forward(self, X):
        return self.features(X) * self.scale


class Log(Given):
    def forward(self, X):
        return torch.log_softmax(super().forward(X), dim=1)


class Sigmoid(Given):
    """One logit, of the second class."""

    def forward(self, X):
        return -super().forward(X)[:, 0]


class Softmax(Given):
    def forward(self, X):
        return torch.softmax(super().forward(X), dim=1)


def network(module=Given, kind=None, **params):
    net = make_net(module, lr=0.0, max_epochs=1, **{"classes": [0, 1], **params})
    if kind is not None:
        params = {"criterion": nn.CrossEntropyLoss, **params}
        net = kind(module, lr=0.0, max_epochs=1, train_split=None, verbose=0, **params)
    return net


def fitted(module=Given, kind=None, **params):
    return FineTune(network(module, kind, **params), random_state=0).fit(X, Y)


@pytest.fixture(scope="module")
def unlearner():
    return fitted()


def models():
    unlearner = fitted()
    net = unlearner.estimator_
    double = FunctionTransformer(lambda X: X[:, [0]] @ np.array([[1, 0]], np.float32))
    return {
        "unlearner": unlearner,
        "network": net,
        "frozen": FrozenEstimator(net),
        "pipeline": make_pipeline(double.fit(X), unlearner),
        "pipeline of a network": make_pipeline(double.fit(X), net),
        "ensemble": SISA(network(), n_shards=2, random_state=0).fit(X, Y),
        "log-softmax": fitted(Log, NeuralNet, criterion=nn.NLLLoss),
        "binary": fitted(Sigmoid, NeuralNetBinaryClassifier, criterion=nn.BCEWithLogitsLoss),
    }


@pytest.mark.parametrize("name", list(models()))
def test_scorers_see_losses_of_400_nats(name):
    model = models()[name]
    sides = LOSSES[FORGET], LOSSES[~FORGET]
    expected = {
        "neg_overshoot": -overshoot(*sides),
        "neg_auc_advantage": -abs(membership_inference_auc(*sides) - 0.5),
        "neg_forgetting_score": -forgetting_score(*sides, random_state=0),
    }
    assert expected["neg_overshoot"] < -5
    for scorer, value in expected.items():
        found = get_scorer(scorer)(model, X, Y, forget=FORGET)
        assert found == pytest.approx(value, rel=1e-5)
        bound = get_scorer(scorer, X_forget=X[FORGET], y_forget=Y[FORGET])
        assert bound(model, X[~FORGET], Y[~FORGET]) == pytest.approx(value, rel=1e-5)


class Columns(Given):
    """What skorch makes of a data frame: an argument for each column."""

    def forward(self, a, b):
        return super().forward(torch.cat([a, b], dim=1))


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # pandas' own
def test_a_network_is_given_a_data_frame_as_skorch_gives_it():
    frame = pd.DataFrame(X, columns=["a", "b"])
    net = network(Columns).fit(frame, Y)
    proba = net.predict_proba(frame)
    losses = sample_log_loss(Y, proba, labels=[0, 1])
    found = get_scorer("neg_overshoot")(net, frame, Y, forget=FORGET)
    assert found == pytest.approx(-overshoot(losses[FORGET], losses[~FORGET]), rel=1e-6)


def test_a_report_reads_a_data_frame_as_an_array_for_all_networks(unlearner):
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = FineTune(network(), random_state=0).fit(frame, Y)
    report = unlearning_report(
        model,
        frame,
        Y,
        forget=FORGET,
        X_unseen=frame[~FORGET] + np.float32([1, 0]),
        y_unseen=Y[~FORGET],
        original=unlearner.estimator_,
        n_resamples=2,
        feature_layer="features",
    )
    for quantiles in (report.losses["unlearned"], report.losses["original"]):
        assert quantiles["forget"][-1] > 300
    assert report.metrics["change_attack_auc"]["unlearned"].value == 0.5


def test_log_probabilities_are_exact_and_finite(unlearner):
    logs = unlearner.predict_log_proba(X)
    assert logs.shape == (60, 2)
    np.testing.assert_allclose(logs[:, 0] - logs[:, 1], X[:, 0], rtol=1e-6)
    assert (unlearner.predict_proba(X) == 0).any()
    np.testing.assert_allclose(np.exp(logs), unlearner.predict_proba(X), atol=1e-6)
    pipeline = make_pipeline(FunctionTransformer().fit(X), unlearner)
    np.testing.assert_array_equal(pipeline.predict_log_proba(X), logs)


def test_where_the_module_returns_probabilities_it_is_their_logarithm():
    unlearner = fitted(Softmax, criterion=nn.NLLLoss)
    logs, proba = unlearner.predict_log_proba(X), unlearner.predict_proba(X)
    assert np.isneginf(logs[proba == 0]).all()
    np.testing.assert_array_equal(np.exp(logs[proba > 0]), np.exp(np.log(proba[proba > 0])))
    # Of which nothing more is known: the loss ends at 87 nats, as before.
    found = get_scorer("neg_overshoot")(unlearner, X, Y, forget=FORGET)
    capped = sample_log_loss(Y, proba, labels=[0, 1])
    assert capped.max() < 88
    assert found == -overshoot(capped[FORGET], capped[~FORGET])


def test_a_nonlinearity_of_ones_own_is_what_answers():
    cool = fitted(predict_nonlinearity=lambda z: torch.softmax(z / 100, dim=1))
    np.testing.assert_allclose(
        np.exp(cool.predict_log_proba(X)), cool.predict_proba(X), rtol=1e-5, atol=1e-30
    )


def test_an_unlearner_with_answers_of_its_own_is_believed():
    class Smooth(FineTune):
        def _predict_proba(self, X):
            return 0.9 * super()._predict_proba(X) + 0.05

    class Smoother(FineTune):
        def predict_proba(self, X):
            return 0.9 * super().predict_proba(X) + 0.05

    for kind in (Smooth, Smoother):
        model = kind(network(), random_state=0).fit(X, Y)
        np.testing.assert_array_equal(model.predict_log_proba(X), np.log(model.predict_proba(X)))
        losses = sample_log_loss(Y, model.predict_proba(X), labels=[0, 1])
        assert get_scorer("neg_overshoot")(model, X, Y, forget=FORGET) == pytest.approx(
            -overshoot(losses[FORGET], losses[~FORGET]), rel=1e-6
        )


def test_functions_of_arrays_take_logarithms(unlearner):
    logs, labels = unlearner.predict_log_proba(X), [0, 1]
    np.testing.assert_allclose(sample_log_loss(Y, logs, labels=labels), LOSSES, rtol=1e-6)
    np.testing.assert_allclose(
        attack_signal(Y, logs, signal="logit", labels=labels), -MARGINS, rtol=1e-6
    )
    half = np.log(np.full((60, 2), 0.5))
    np.testing.assert_allclose(calibrated_signal(Y, logs, half, labels=labels), -MARGINS, rtol=1e-6)
    np.testing.assert_allclose(
        change_signal(Y, half, logs, signal="loss", labels=labels), np.log(2) - LOSSES, rtol=1e-6
    )
    mild = np.random.default_rng(0).dirichlet([1, 1, 1], 60)
    y = np.arange(60) % 3
    for signal in ("loss", "confidence", "entropy", "modified_entropy", "logit"):
        np.testing.assert_allclose(
            attack_signal(y, np.log(mild), signal=signal, labels=range(3)),
            attack_signal(y, mild, signal=signal, labels=range(3)),
        )
    others = np.roll(mild, 1, axis=0), np.roll(mild, 1, axis=1)
    np.testing.assert_allclose(
        change_signal(y, np.log(mild), np.log(others[0]), signal="distance", labels=range(3)),
        change_signal(y, mild, others[0], signal="distance", labels=range(3)),
    )
    np.testing.assert_allclose(
        relative_mmd_test(y, np.log(mild), *map(np.log, others), labels=range(3)),
        relative_mmd_test(y, mild, *others, labels=range(3)),
    )


def test_small_losses_keep_their_digits():
    logs = np.array([[0.0, -50.0, -60.0]])
    rest = np.exp(-50) + np.exp(-60)
    assert sample_log_loss([0], logs, labels=range(3)) == pytest.approx(rest, rel=1e-9, abs=0)
    assert attack_signal([0], logs, signal="logit", labels=range(3)) == pytest.approx(np.log(rest))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([[-1.0, -1.0]], "y_proba are logarithms, whose exponentials must sum to 1; got sums"),
        ([[-2.0, 1.0]], "must hold probabilities from 0 to 1"),
        ([[-np.inf, 0.0]], "must be finite"),
    ],
)
def test_logarithms_that_are_none_are_refused(answers, message):
    with pytest.raises(ValueError, match=message):
        sample_log_loss([0], answers, labels=[0, 1])


def test_other_classifiers_have_theirs_where_all_are_finite():
    rng = np.random.default_rng(0)
    rows = np.r_[rng.normal(0, 1, (30, 2)), rng.normal(40, 1, (30, 2))]
    y = np.repeat([0, 1], 30)
    model = GaussianNB().fit(rows, y)
    wrong = 1 - y
    losses = -model.predict_log_proba(rows)[np.arange(60), wrong]
    assert losses.max() > 500
    found = get_scorer("neg_overshoot")(model, rows, wrong, forget=FORGET)
    assert found == pytest.approx(-overshoot(losses[FORGET], losses[~FORGET]))


def test_report_and_its_quantiles_see_them(unlearner):
    report = unlearning_report(
        unlearner,
        X,
        Y,
        forget=FORGET,
        X_unseen=X[~FORGET] + np.float32([1, 0]),
        y_unseen=Y[~FORGET],
        original=fitted(module__scale=0.5),
        reference=fitted(module__scale=0.25),
        n_resamples=10,
        feature_layer="features",
    )
    assert report.losses["unlearned"]["forget"][-1] > 300
    unseen_margins = MARGINS[~FORGET] + np.where(Y[~FORGET] == 0, 1, -1)
    sides = MARGINS[FORGET], unseen_margins
    # Of margins that are scaled to a quarter, three quarters are left.
    assert report.metrics["calibrated_attack_auc"]["unlearned"].value == pytest.approx(
        membership_inference_auc(*(-0.75 * side for side in sides)), abs=1e-6
    )
    changes = [np.logaddexp(0, -side / 2) - np.logaddexp(0, -side) for side in sides]
    assert report.metrics["change_attack_auc"]["unlearned"].value == pytest.approx(
        membership_inference_auc(*changes), abs=0.01
    )
    assert report.metrics["utility"]["unlearned"].value == np.mean(unseen_margins > 0)


@pytest.mark.filterwarnings("ignore:FineTune has changed almost nothing")
def test_margins_of_many_networks_see_them():
    unlearned, retrained = klom_margins(
        FineTune(network(), lr=1e-30), X, Y, forget=FORGET, n_models=2, random_state=0
    )
    for margins in (*unlearned, *retrained):
        np.testing.assert_allclose(margins, MARGINS, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:FineTune has changed almost nothing")
def test_monitor_display_and_comparison_see_them(unlearner):
    rows = {"X_unseen": X[~FORGET], "y_unseen": Y[~FORGET]}
    expected = forgetting_score(LOSSES[FORGET], LOSSES[~FORGET], random_state=0)
    monitor = ForgettingMonitor(X[FORGET], Y[FORGET], **rows, random_state=0, classes=[0, 1])
    net = network(callbacks=[monitor]).fit(X, Y)
    assert net.history[-1, "forgetting_score"] == pytest.approx(expected)
    display = LossDistributionDisplay.from_estimator(unlearner, X, Y, forget=FORGET, **rows)
    assert max(map(np.max, display.losses["FineTune"].values())) == pytest.approx(LOSSES.max())
    record = compare_unlearners(
        [FineTune(network(), lr=1e-30)], X, Y, forget=FORGET, seeds=[0], feature_layer=None, **rows
    ).records[0]
    assert record["overshoot"] == pytest.approx(overshoot(LOSSES[FORGET], LOSSES[~FORGET]))
