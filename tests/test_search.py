"""Searches over unlearning hyperparameters, as a user runs them."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skunlearn import DLFD, FineTune
from skunlearn.metrics import forgetting_score, get_scorer, nomus_score, sample_log_loss
from skunlearn.model_selection import ForgetKFold

from .networks import make_net

NAMES = ("utility", "neg_forgetting_score", "nomus")


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4)).astype(np.float32)
    y = (X[:, 0] + 0.5 * rng.normal(size=150) > 0).astype(int)
    return X, y, np.arange(150) % 5 == 0


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_grid_search_by_routing_scores_what_it_should(problem, routing, tmp_path):
    X, y, forget = problem
    model = DLFD(make_net(), memory=str(tmp_path), random_state=0)
    cv = ForgetKFold(3)
    search = GridSearchCV(
        model,
        {"perturb_steps": [1, 2], "lr": [0.01, 0.1]},
        cv=cv,
        scoring={name: get_scorer(name) for name in NAMES},
        refit="nomus",
    ).fit(X, y, forget=forget)
    assert len(search.best_estimator_.unlearning_history_) == 1

    params = search.cv_results_["params"][3]
    train, test = list(cv.split(X, y, forget=forget))[1]
    by_hand = clone(model).set_params(memory=None, **params)
    by_hand.fit(X[train], y[train], forget=forget[train])
    unseen = np.setdiff1d(test, np.flatnonzero(forget))
    losses = [
        sample_log_loss(y[rows], by_hand.predict_proba(X[rows]), labels=[0, 1])
        for rows in (np.flatnonzero(forget), unseen)
    ]
    forgetting = forgetting_score(*losses, random_state=0)
    utility = (by_hand.predict(X[unseen]) == y[unseen]).mean()
    results = {name: search.cv_results_[f"split1_test_{name}"][3] for name in NAMES}
    assert results["utility"] == pytest.approx(utility)
    assert results["neg_forgetting_score"] == pytest.approx(-forgetting)
    assert results["nomus"] == pytest.approx(nomus_score(utility, forgetting))


def test_cross_validate_and_other_searches_by_routing(problem, routing):
    X, y, forget = problem
    scores = cross_validate(
        FineTune(make_net(max_epochs=2), random_state=0),
        X,
        y,
        cv=ForgetKFold(3),
        scoring={name: get_scorer(name) for name in NAMES},
        params={"forget": forget},
    )
    assert all(np.isfinite(scores[f"test_{name}"]).all() for name in NAMES)
    search = RandomizedSearchCV(
        make_pipeline(StandardScaler(), FineTune(make_net(max_epochs=2), random_state=0)),
        {"finetune__lr": [0.01, 0.1], "finetune__estimator__module__hidden": [4, 8]},
        n_iter=2,
        cv=ForgetKFold(3),
        scoring=get_scorer("nomus"),
        n_jobs=2,
        random_state=0,
    ).fit(X, y, forget=forget)
    assert 0 < search.best_score_ < 1


def test_grid_search_with_bound_scorers_needs_no_routing(problem):
    X, y, forget = problem
    bound = {name: get_scorer(name, X_forget=X[forget], y_forget=y[forget]) for name in NAMES}
    search = GridSearchCV(
        FineTune(make_net(max_epochs=2), random_state=0),
        {"lr": [0.01, 0.1]},
        cv=ForgetKFold(3, forget=forget, forget_in_test=False),
        scoring=bound,
        refit="nomus",
    ).fit(X, y, forget=forget)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = GridSearchCV(
            FineTune(make_net(max_epochs=2), random_state=0),
            {"lr": [0.01, 0.1]},
            cv=ForgetKFold(3),
            scoring={name: get_scorer(name) for name in NAMES},
            refit="nomus",
        ).fit(X, y, forget=forget)
    assert np.allclose(search.cv_results_["mean_test_nomus"], routed.cv_results_["mean_test_nomus"])


def test_a_fold_without_forget_rows_is_not_silent(problem):
    X, y, _ = problem
    forget = np.arange(150) >= 100  # all of them in the last fold of three
    with pytest.warns(UserWarning, match="forget marks no row"):
        cross_validate(
            FineTune(make_net(max_epochs=1), random_state=0),
            X,
            y,
            cv=KFold(3),
            params={"forget": forget},
        )
