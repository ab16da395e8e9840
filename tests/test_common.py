"""Every unlearner through scikit-learn's checks and the package's own, and what is ours alone."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch import NeuralNetRegressor
from torch import nn

from skunlearn import SCRUB, AdvancedNegGrad, Distill, EUk, FineTune, Retrain, all_unlearners
from skunlearn.metrics import forgetting_score, get_scorer, nomus_score, sample_log_loss
from skunlearn.utils.estimator_checks import parametrize_with_unlearning_checks
from tests.networks import MLP, DoubleMLP, make_net

UNLEARNERS = dict(all_unlearners())


def each(condition):
    """Parametrise over the unlearners that meet a condition."""
    chosen = {name: cls for name, cls in UNLEARNERS.items() if condition(cls)}
    return pytest.mark.parametrize("unlearner", chosen.values(), ids=chosen.keys())


approximate = each(lambda unlearner: "original" in unlearner.needs)


@parametrize_with_checks(
    [cls(make_net(DoubleMLP, max_epochs=20), random_state=0) for cls in UNLEARNERS.values()]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_unlearning_checks(
    [cls(None) for cls in UNLEARNERS.values()] + [AdvancedNegGrad(None, loss_cap="val")]
)
def test_unlearning_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    return X, y, np.arange(120) % 8 == 0


@pytest.fixture(scope="module")
def trained(problem):
    X, y, _ = problem
    return FineTune(make_net(), random_state=0).fit(X, y).estimator_


def weights(fitted):
    net = getattr(fitted, "estimator_", fitted)
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_plain_fit_is_plain_training(problem):
    X, y, _ = problem
    fitted = FineTune(make_net(), random_state=0).fit(X, y)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = make_net(module__n_features_in=4, module__n_classes=3).fit(X, y)
    assert same(weights(fitted), weights(net))
    assert fitted.score(X, y) > 0.8


@approximate
def test_a_run_that_changes_nothing_warns(unlearner, problem, trained):
    X, y, forget = problem
    model = unlearner(FrozenEstimator(trained), random_state=0)
    if "lr" not in model.get_params() or unlearner in (EUk, Distill):
        pytest.skip("does not depend on a learning rate alone")
    with pytest.warns(UserWarning, match="has changed almost nothing"):
        model.set_params(lr=1e-12).unlearn(X, y, forget=forget)


@approximate
@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_run_settings_replace_the_networks_own(unlearner, problem, trained):
    X, y, forget = problem
    names = ("lr", "optimizer", "batch_size", "max_epochs")
    if not set(names) <= set(unlearner(None).get_params(deep=False)):
        pytest.skip("has no training run to set up")
    model = unlearner(
        FrozenEstimator(trained),
        lr=0.003,
        optimizer=partial(torch.optim.Adam, betas=(0.5, 0.9)),
        batch_size=30,
        max_epochs=2,
        random_state=0,
    ).unlearn(X, y, forget=forget)
    net = model.estimator_
    assert isinstance(net.optimizer_, torch.optim.Adam)
    assert net.optimizer_.param_groups[0]["lr"] == 0.003
    assert net.optimizer_.param_groups[0]["betas"] == (0.5, 0.9)
    assert len(model.unlearning_history_) == (4 if unlearner is SCRUB else 2)  # F and R in turn
    assert max(model.unlearning_history_[0, "batches", :, "train_batch_size"]) <= 30
    assert trained.optimizer is torch.optim.SGD


def test_retraining_refuses_a_module_instance(problem):
    X, y, forget = problem
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_net(MLP(4, 3)).fit(X, y)
    with pytest.raises(ValueError, match="module instance"):
        Retrain(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=forget)


@each(lambda unlearner: unlearner.multilabel)
def test_scorers_know_rows_with_several_labels(unlearner, problem):
    X, _, forget = problem
    Y = np.stack([X[:, 0] > 0, X[:, 1] > 0.3], axis=1).astype(int)
    fitted = unlearner(make_net(criterion=nn.BCEWithLogitsLoss), random_state=0).fit(X, Y)
    unseen = ~forget
    losses = [sample_log_loss(Y[rows], fitted.predict_proba(X[rows])) for rows in (forget, unseen)]
    utility = (fitted.predict(X[unseen]) == Y[unseen]).mean()
    expected = nomus_score(utility, forgetting_score(*losses, random_state=0))
    assert get_scorer("nomus")(fitted, X, Y, forget=forget) == pytest.approx(expected, abs=1e-3)


# -- what BaseUnlearner says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forget", "message"),
    [
        (np.array([0, 5, 7]), "boolean mask"),
        (np.arange(120), "boolean mask"),
        (np.zeros(119, dtype=bool), r"shape \(120,\)"),
        (np.zeros((120, 1), dtype=bool), r"shape \(120,\)"),
        (np.ones(120), "boolean"),
        (["yes"] * 120, "boolean"),
        (True, "boolean mask"),
        (np.zeros(120, dtype=bool), "forget marks no row"),
        (np.ones(120, dtype=bool), "FineTune needs retained rows"),
    ],
)
def test_what_is_said_of_a_mask(problem, trained, forget, message):
    X, y, _ = problem
    with pytest.raises(ValueError, match=message):
        FineTune(FrozenEstimator(trained)).unlearn(X, y, forget=forget)


def test_what_is_said_of_rows(problem, trained):
    X, y, forget = problem
    fitted = FineTune(FrozenEstimator(trained)).fit(X, y)
    cases = [
        ({"X": X[:0], "y": y[:0], "forget": forget[:0]}, "0 sample"),
        ({"y": y[:-1]}, "inconsistent numbers of samples"),
        ({"y": y + 7}, "labels that the network was not trained on"),
        ({"X_val": X}, "X_val was given without y_val"),
        ({"y_val": y}, "y_val was given without X_val"),
        ({"X_val": X, "y_val": y + 7}, "y_val holds labels"),
        ({"y": np.stack([y > 0, y > 1], axis=1)}, r"indicator matrix .* CrossEntropyLoss"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            fitted.unlearn(**{"X": X, "y": y, "forget": forget} | arguments)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (StandardScaler(), "must be a skorch network"),
        (NeuralNetRegressor(MLP), "must be a skorch network"),
        (make_net(criterion=nn.MSELoss), "regression loss"),
        (make_net(MLP(4, 3)), "module instance"),
        (make_net(module__n_classes=5), "5 columns, but y has 3 classes"),
        (make_net(criterion=nn.BCEWithLogitsLoss), r"is not an indicator matrix .* BCEWithLogits"),
    ],
)
def test_what_is_said_of_estimators(problem, net, message):
    X, y, _ = problem
    with pytest.raises(ValueError, match=message):
        FineTune(net).fit(X, y)
