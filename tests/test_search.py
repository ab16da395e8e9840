"""Searches over unlearning hyperparameters, as a user runs them."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skunlearn import DLFD, FineTune
from skunlearn.metrics import forgetting_score, get_scorer, nomus_score, sample_log_loss
from skunlearn.model_selection import ForgetKFold, ForgetShuffleSplit
from tests.networks import make_net

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


@pytest.fixture(params=["routed", "bound"])
def setting(request, problem):
    """Folds and scorers with metadata routing on, and the same folds and scorers without."""
    X, y, forget = problem
    routed = request.param == "routed"
    bound = {} if routed else {"X_forget": X[forget], "y_forget": y[forget]}
    cv = ForgetKFold(3) if routed else ForgetKFold(3, forget=forget, forget_in_test=False)
    with sklearn.config_context(enable_metadata_routing=routed):
        yield cv, {name: get_scorer(name, **bound) for name in NAMES}


def make_model(**params):
    return FineTune(make_net(max_epochs=2), random_state=0, **params)


class Watched(FineTune):
    """Notes the rows and the mask of each fit."""

    fits = []  # noqa: RUF012

    def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
        self.fits.append((X, forget))
        return super().fit(X, y, forget=forget, X_val=X_val, y_val=y_val)


@pytest.fixture
def watched():
    Watched.fits.clear()
    return Watched(make_net(max_epochs=1), random_state=0)


def fitted_rows(X):
    """For each fit that was watched, the positions in X of its rows, and its mask."""
    where = {row.tobytes(): i for i, row in enumerate(X)}
    return [(np.array([where[row.tobytes()] for row in rows]), mask) for rows, mask in Watched.fits]


def scores_by_hand(model, problem, train, test):
    X, y, forget = problem
    model.fit(X[train], y[train], forget=forget[train])
    unseen = np.setdiff1d(test, np.flatnonzero(forget))
    losses = [
        sample_log_loss(y[rows], model.predict_proba(X[rows]), labels=[0, 1])
        for rows in (np.flatnonzero(forget), unseen)
    ]
    forgetting = forgetting_score(*losses, random_state=0)
    utility = (model.predict(X[unseen]) == y[unseen]).mean()
    return utility, -forgetting, nomus_score(utility, forgetting)


def test_grid_search_by_routing_scores_what_it_should(problem, routing, tmp_path):
    X, y, forget = problem
    model = DLFD(make_net(), memory=str(tmp_path), random_state=0)
    cv = ForgetKFold(3)
    search = GridSearchCV(
        model,
        {"perturb_steps": [1, 2]},
        cv=cv,
        scoring={name: get_scorer(name) for name in NAMES},
        refit="nomus",
    ).fit(X, y, forget=forget)
    assert len(search.best_estimator_.unlearning_history_) == model.max_epochs

    params = search.cv_results_["params"][1]
    train, test = list(cv.split(X, y, forget=forget))[1]
    by_hand = clone(model).set_params(memory=None, **params)
    expected = scores_by_hand(by_hand, problem, train, test)
    results = [search.cv_results_[f"split1_test_{name}"][1] for name in NAMES]
    assert results == pytest.approx(expected)


GRID = {"lr": [0.02, 0.3], "batch_size": [8, 32]}
HALVING = {"resource": "max_epochs", "max_resources": 4, "factor": 2, "return_train_score": False}
SEARCHES = [
    (GridSearchCV, {}),
    (RandomizedSearchCV, {"n_iter": 2, "random_state": 0}),
    (HalvingGridSearchCV, HALVING),
    (HalvingRandomSearchCV, HALVING | {"n_candidates": 2, "random_state": 0}),
]


@pytest.mark.parametrize(("search", "params"), SEARCHES)
def test_every_search_scores_and_refits_as_by_hand(search, params, problem, setting):
    X, y, forget = problem
    cv, scorers = setting
    search = search(make_model(), GRID, cv=cv, scoring=scorers["nomus"], **params)
    search.fit(X, y, forget=forget)
    best = make_model(**search.best_params_)
    folds = ForgetKFold(3).split(X, y, forget=forget)
    expected = [scores_by_hand(clone(best), problem, *fold)[2] for fold in folds]
    assert search.best_score_ == pytest.approx(np.mean(expected))
    np.testing.assert_array_equal(
        search.predict_proba(X), best.fit(X, y, forget=forget).predict_proba(X)
    )
    assert len(search.best_estimator_.unlearning_history_) == best.max_epochs


def test_halving_over_epochs_trains_the_survivors_longer(problem, setting):
    X, y, forget = problem
    cv, scorers = setting
    search = HalvingGridSearchCV(make_model(), GRID, cv=cv, scoring=scorers["nomus"], **HALVING)
    search.fit(X, y, forget=forget)
    assert search.n_candidates_ == [4, 2, 1]
    assert search.n_resources_ == [1, 2, 4]
    assert search.best_params_["max_epochs"] == 4


def test_halving_over_epochs_keeps_every_fold_whole(problem, routing, watched):
    X, y, forget = problem
    HalvingGridSearchCV(
        watched, {"lr": [0.02, 0.3]}, cv=ForgetKFold(3), scoring=get_scorer("nomus"), **HALVING
    ).fit(X, y, forget=forget)
    *fits, refit = fitted_rows(X)
    folds = [train for train, _ in ForgetKFold(3).split(X, y, forget=forget)]
    assert len(fits) == 3 * (2 + 1)
    for i, (rows, mask) in enumerate(fits):
        np.testing.assert_array_equal(rows, folds[i % 3])
        np.testing.assert_array_equal(mask, forget[rows])
    np.testing.assert_array_equal(refit[0], np.arange(150))


def test_halving_over_rows_subsamples_mask_and_rows_alike(problem, routing, watched):
    X, y, forget = problem
    search = HalvingRandomSearchCV(
        watched,
        {"lr": [0.02, 0.3]},
        n_candidates=2,
        factor=2,
        min_resources=75,
        cv=ForgetShuffleSplit(2, test_size=0.3, random_state=0),
        scoring=get_scorer("nomus"),
        random_state=0,
        error_score="raise",
    ).fit(X, y, forget=forget)
    assert search.n_resources_ == [75, 150]
    fits = fitted_rows(X)
    for rows, mask in fits:
        np.testing.assert_array_equal(mask, forget[rows])
    # As the notes of ForgetKFold say, not every forget row is there before the last iteration.
    assert all(mask.sum() < forget.sum() for _, mask in fits[:4])
    assert all(mask.sum() == forget.sum() for _, mask in fits[4:])


def test_scores_of_one_scorer_are_those_of_several(problem, setting):
    X, y, forget = problem
    cv, scorers = setting

    def run(scoring):
        return cross_validate(make_model(), X, y, cv=cv, scoring=scoring, params={"forget": forget})

    several = run(scorers)
    folds = list(ForgetKFold(3).split(X, y, forget=forget))
    expected = [scores_by_hand(make_model(), problem, *fold) for fold in folds]
    np.testing.assert_allclose(np.transpose([several[f"test_{name}"] for name in NAMES]), expected)
    np.testing.assert_array_equal(run(scorers["nomus"])["test_score"], several["test_nomus"])


def test_search_in_two_processes_finds_what_one_finds(problem, setting):
    X, y, forget = problem
    cv, scorers = setting
    pipeline = make_pipeline(StandardScaler(), make_model())
    search = RandomizedSearchCV(
        pipeline,
        {"finetune__lr": [0.01, 0.1], "finetune__estimator__module__hidden": [4, 8]},
        n_iter=2,
        cv=cv,
        scoring=scorers,
        refit="nomus",
        random_state=0,
    )
    params = {
        "forget" if sklearn.get_config()["enable_metadata_routing"] else "finetune__forget": forget
    }
    one = clone(search).fit(X, y, **params)
    two = clone(search).set_params(n_jobs=2).fit(X, y, **params)
    assert two.best_params_ == one.best_params_
    assert two.best_score_ == max(two.cv_results_["mean_test_nomus"])
    for name in NAMES:
        key = f"mean_test_{name}"
        np.testing.assert_allclose(two.cv_results_[key], one.cv_results_[key])


def test_people_held_out_in_a_search_are_never_trained_on(problem, setting, watched):
    X, y, forget = problem
    cv, scorers = setting
    groups = np.arange(150) // 5 % 10
    forget = forget & (groups < 4)
    if not cv.forget_in_test:
        cv = ForgetShuffleSplit(2, random_state=0, forget=forget, forget_in_test=False)
    search = GridSearchCV(watched, {"lr": [0.02, 0.3]}, cv=cv, scoring=scorers["utility"])
    search.fit(X, y, forget=forget, groups=groups)
    *fits, _ = fitted_rows(X)
    assert len(fits) == 2 * search.n_splits_
    for rows, mask in fits:
        out = np.setdiff1d(np.arange(150), rows)
        assert len(out)
        assert not set(groups[out]) & set(groups[rows])
        assert mask.sum() == forget.sum()


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
