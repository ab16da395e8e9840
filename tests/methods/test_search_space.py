"""Search spaces: about the network at hand, and made of values that every method takes."""

import numpy as np
import pytest
import sklearn
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV

from skunlearn import DLFD, SISA, SSD, EUk, FineTune, NegGrad, Retrain, all_unlearners
from skunlearn.metrics import get_scorer
from skunlearn.model_selection import ForgetKFold
from tests.networks import make_net

UNLEARNERS = dict(all_unlearners())
every_unlearner = pytest.mark.parametrize("unlearner", UNLEARNERS.values(), ids=UNLEARNERS.keys())
trained = pytest.mark.parametrize(
    "unlearner",
    [cls for cls in UNLEARNERS.values() if "lr" in cls(None).get_params(deep=False)],
    ids=lambda cls: cls.__name__,
)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(96, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5), np.arange(96) % 8 == 0


@pytest.fixture(scope="module")
def original(problem):
    return FineTune(make_net(max_epochs=4), random_state=0).fit(*problem[:2]).estimator_


@every_unlearner
def test_names_parameters_of_the_method(unlearner):
    space = unlearner(make_net()).search_space()
    assert space
    assert space.keys() <= unlearner(None).get_params(deep=False).keys()


@every_unlearner
@pytest.mark.filterwarnings("ignore:.*changed almost nothing", "ignore:AMUN found no adversarial")
@pytest.mark.filterwarnings("ignore:.*has damaged")
def test_what_is_drawn_from_it_runs(unlearner, problem, original):
    X, y, forget = problem
    space = unlearner(original).search_space()
    if unlearner is not Retrain and "max_epochs" in space:
        space["max_epochs"] = [1]
    for trial in ParameterSampler(space, 4, random_state=1):
        if unlearner is SISA:
            model = unlearner(make_net(max_epochs=4), **trial, random_state=0).fit(X, y)
        else:
            model = unlearner(FrozenEstimator(original), **trial, random_state=0)
        if unlearner is SSD and trial["threshold"] * forget.mean() >= 1:  # which it refuses
            continue
        model.unlearn(X, y, forget=forget)
        assert np.isfinite(model.predict_proba(X)).all()


@trained
def test_learning_rates_scale_with_those_of_the_network(unlearner):
    (low, high), (low_10, high_10) = (
        unlearner(make_net(lr=lr)).search_space()["lr"].support() for lr in (0.01, 0.1)
    )
    assert (low_10, high_10) == (pytest.approx(10 * low), pytest.approx(10 * high))
    assert low < 0.01 <= high
    drawn = unlearner(make_net(lr=0.01)).search_space()["lr"].rvs(400, random_state=0)
    # As many below the middle of the logarithms as above.
    assert np.mean(drawn < np.sqrt(low * high)) == pytest.approx(0.5, abs=0.1)


def test_a_learning_rate_of_the_method_comes_before_that_of_the_network():
    net = make_net(lr=0.01)
    assert FineTune(net, lr=3.0).search_space()["lr"].support() == pytest.approx((0.3, 30))
    assert FineTune(net).search_space()["lr"].support() == pytest.approx((0.001, 0.1))


@trained
def test_epochs_stay_below_a_third_of_the_networks(unlearner):
    for n_epochs, longest in ((2, 3), (12, 3), (30, 10), (120, 30)):
        epochs = unlearner(make_net(max_epochs=n_epochs)).search_space()["max_epochs"]
        assert (epochs[0], epochs[-1]) == (1, longest)


def test_ascent_alone_takes_small_steps():
    low, high = NegGrad(make_net(lr=1.0)).search_space()["lr"].support()
    assert high <= 1
    assert low < FineTune(make_net(lr=1.0)).search_space()["lr"].support()[0]


def test_published_recipe_stays_that_in_a_search():
    space = DLFD(make_net()).search_space()
    assert not {"clean_weight", "bn_batches"} & space.keys()


def test_a_frozen_network_is_searched_over_like_a_fresh_one(original):
    spaces = [EUk(net).search_space() for net in (original, FrozenEstimator(original))]
    assert spaces[0].keys() == spaces[1].keys()
    assert spaces[0]["lr"].support() == spaces[1]["lr"].support()


def test_needs_a_network():
    with pytest.raises(ValueError, match="skorch network"):
        FineTune("net").search_space()


def test_a_search_starts_from_it(problem, tmp_path):
    X, y, forget = problem
    unlearner = FineTune(make_net(max_epochs=3), memory=str(tmp_path), random_state=0)
    search = RandomizedSearchCV(
        unlearner,
        unlearner.search_space(),
        n_iter=3,
        cv=ForgetKFold(2),
        scoring=get_scorer("utility"),
        random_state=0,
    )
    with sklearn.config_context(enable_metadata_routing=True):
        search.fit(X, y, forget=forget)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(set(search.cv_results_["param_lr"])) == 3
