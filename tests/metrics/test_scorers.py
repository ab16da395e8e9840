import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedShuffleSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDataset

from skunlearn import FineTune
from skunlearn.metrics import get_scorer, get_scorer_names, linear_cka
from skunlearn.model_selection import ForgetKFold
from tests.networks import make_net

NAMES = ["neg_auc_advantage", "neg_forgetting_score", "neg_overshoot", "nomus", "utility"]


class ForgetfulNeighbors(ClassifierMixin, BaseEstimator):
    """Nearest neighbours trained on every row, with votes by distance, so that it memorises."""

    __metadata_request__fit = {"forget": True}  # noqa: RUF012

    def __init__(self, n_neighbors=3, keep_forget=True):
        self.n_neighbors = n_neighbors
        self.keep_forget = keep_forget

    def fit(self, X, y, forget=None):
        assert forget is None or (len(forget) == len(X) and np.any(forget))
        rows = slice(None) if forget is None or self.keep_forget else ~np.asarray(forget)
        self.model_ = KNeighborsClassifier(self.n_neighbors, weights="distance")
        self.model_.fit(np.asarray(X)[rows], np.asarray(y)[rows])
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(as_array(X))

    def predict_proba(self, X):
        return self.model_.predict_proba(as_array(X))


def as_array(X):
    if isinstance(X, torch.utils.data.Dataset) and not isinstance(X, SliceDataset):
        return np.stack([np.asarray(row[0]) for row in X])
    return np.asarray(X)


def attack(loss_forget, loss_unseen, seed=0, n_splits=10):
    """The attack on two sides of one size, by scikit-learn alone."""
    x = np.concatenate([loss_forget, loss_unseen])[:, None]
    y = np.repeat([1, 0], [len(loss_forget), len(loss_unseen)])
    cv = StratifiedShuffleSplit(n_splits, random_state=seed)
    attacker = LogisticRegression(solver="newton-cholesky", tol=1e-7)
    return cross_val_score(attacker, x, y, cv=cv).mean()


def signals(loss_forget, loss_unseen):
    """The scores that need no attacker, for two sides of one size."""
    members = np.repeat([1, 0], [len(loss_forget), len(loss_unseen)])
    auc = roc_auc_score(members, -np.concatenate([loss_forget, loss_unseen]))
    above = np.maximum(np.sort(loss_forget) - np.sort(loss_unseen), 0)
    return {"neg_auc_advantage": -abs(auc - 0.5), "neg_overshoot": -above.mean()}


@pytest.fixture(scope="module")
def data():
    rng = np.random.RandomState(0)
    X, y = load_digits(return_X_y=True)
    X, y = X[:500] + rng.normal(0, 3, (500, 64)), y[:500].copy()
    noisy = rng.rand(500) < 0.2
    y[noisy] = rng.randint(10, size=noisy.sum())
    forget = np.zeros(500, dtype=bool)
    forget[rng.choice(500, 80, replace=False)] = True
    return X, np.array(list("abcdefghij"))[y], forget


@pytest.fixture(scope="module")
def scene(data):
    """A fitted classifier, the rows to score (80 forget, 80 unseen, mixed), and the numbers."""
    X, y, forget = data
    unseen = np.zeros(500, dtype=bool)
    unseen[np.flatnonzero(~forget)[:80]] = True
    classifier = ForgetfulNeighbors().fit(X[~unseen], y[~unseen], forget[~unseen])
    proba = classifier.predict_proba(X)
    p_true = proba[np.arange(500), np.searchsorted(classifier.classes_, y)]
    loss = -np.log(np.clip(p_true, np.finfo(np.float32).tiny, 1))
    utility = accuracy_score(y[unseen], classifier.predict(X[unseen]))
    forgetting = abs(attack(loss[forget], loss[unseen]) - 0.5)
    numbers = {
        "utility": utility,
        "neg_forgetting_score": -forgetting,
        "nomus": 0.5 * utility + 0.5 * (1 - 2 * forgetting),
        **signals(loss[forget], loss[unseen]),
    }
    rows = forget | unseen
    return classifier, X[rows], y[rows], forget[rows], numbers


def test_names_are_those_that_get_scorer_takes():
    names = sorted([*NAMES, "linear_cka"])
    assert get_scorer_names() == names
    assert [get_scorer(name).name for name in names] == names


@pytest.mark.parametrize("name", NAMES)
def test_scorers_agree_with_scikit_learn_alone(scene, name):
    classifier, X, y, forget, numbers = scene
    assert 0.05 < numbers["utility"] < 0.95
    assert -0.45 < numbers["neg_forgetting_score"] < -0.1
    assert -0.45 < numbers["neg_auc_advantage"] < -0.1
    assert get_scorer(name)(classifier, X, y, forget=forget) == pytest.approx(numbers[name])
    bound = get_scorer(name, X_forget=X[forget], y_forget=y[forget])
    assert bound(classifier, X[~forget], y[~forget]) == pytest.approx(numbers[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.tolist(),
        pd.DataFrame,
        torch.tensor,
        lambda X: torch.utils.data.TensorDataset(torch.tensor(X)),
        lambda X: SliceDataset(torch.utils.data.TensorDataset(torch.tensor(X)), idx=0),
    ],
    ids=["list", "frame", "tensor", "dataset", "slice"],
)
def test_scorers_take_every_kind_of_rows(scene, name, convert):
    classifier, X, y, forget, numbers = scene
    score = get_scorer(name)(classifier, convert(X), list(y), forget=list(forget))
    assert score == pytest.approx(numbers[name])
    bound = get_scorer(name, X_forget=convert(X[forget]), y_forget=pd.Series(y[forget]))
    assert bound(classifier, convert(X[~forget]), y[~forget]) == pytest.approx(numbers[name])


@pytest.mark.parametrize("name", NAMES)
def test_scorers_work_for_other_classifiers_and_pipelines(data, name):
    X, y, forget = data
    for classifier in (GaussianNB(), make_pipeline(StandardScaler(), ForgetfulNeighbors())):
        score = get_scorer(name)(classifier.fit(X, y), X, y, forget=forget)
        assert np.isfinite(score)


def test_nomus_agrees_with_utility_where_predict_is_not_the_likeliest_class(data):
    X, y, forget = data
    y = (y > "e").astype(int)
    classifier = FixedThresholdClassifier(GaussianNB(), threshold=0.999).fit(X, y)
    scores = {name: get_scorer(name)(classifier, X, y, forget=forget) for name in NAMES}
    assert scores["utility"] == accuracy_score(y[~forget], classifier.predict(X[~forget]))
    assert scores["utility"] != accuracy_score(
        y[~forget], classifier.estimator_.predict(X[~forget])
    )
    expected = (scores["utility"] + 1 + 2 * scores["neg_forgetting_score"]) / 2
    assert scores["nomus"] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", NAMES)
def test_scorers_take_multilabel_indicators(name):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(200, 5))
    y = (X[:, :3] + rng.normal(size=(200, 3)) > 0).astype(int)
    classifier = MLPClassifier((30,), max_iter=50, random_state=0).fit(X[:140], y[:140])
    X, y, forget = X[80:], y[80:], np.arange(120) < 60
    proba = classifier.predict_proba(X)
    loss = -np.mean(y * np.log(proba) + (1 - y) * np.log(1 - proba), axis=1)
    utility = np.mean(y[60:] == (proba[60:] > 0.5))
    forgetting = abs(attack(loss[:60], loss[60:]) - 0.5)
    expected = {
        "utility": utility,
        "neg_forgetting_score": -forgetting,
        "nomus": utility / 2 + (1 - 2 * forgetting) / 2,
        **signals(loss[:60], loss[60:]),
    }
    assert get_scorer(name)(classifier, X, y, forget=forget) == pytest.approx(expected[name])


def test_weight_and_n_splits_reach_the_formulas(scene):
    classifier, X, y, forget, numbers = scene
    only_utility = get_scorer("nomus", weight=1)
    assert only_utility(classifier, X, y, forget=forget) == numbers["utility"]
    one = get_scorer("neg_forgetting_score", n_splits=1, random_state=4)
    p_true = (classifier.predict_proba(X) * (y[:, None] == classifier.classes_)).sum(1)
    loss = -np.log(np.clip(p_true, np.finfo(np.float32).tiny, 1))
    expected = -abs(attack(loss[forget], loss[~forget], seed=4, n_splits=1) - 0.5)
    assert one(classifier, X, y, forget=forget) == pytest.approx(expected)


def test_scorers_repeat_by_default(scene):
    classifier, X, y, forget, _ = scene
    scores = {get_scorer("nomus")(classifier, X, y, forget=forget) for _ in range(3)}
    assert len(scores) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget": None}, "needs to know the forget rows.*enable_metadata_routing.*X_forget"),
        ({"forget": np.array([0, 5])}, "forget must be a boolean mask.*int64.*indices"),
        ({"forget": np.ones(160)}, "forget must be a boolean mask.*float64"),
        ({"forget": np.ones(159, bool)}, r"forget must be .*\(160,\).*\(159,\)"),
        ({"forget": np.ones(160, bool)}, "forget must mark some .* 160 True of 160"),
        ({"forget": np.zeros(160, bool)}, "forget must mark some .* 0 True of 160"),
        ({"y": None}, "y must be given unless X is a data set"),
        ({"y": []}, "y must hold a label"),
        ({"X": np.zeros((7, 64))}, "y must have one label for each row of X; got 160"),
    ],
)
def test_no_number_without_a_valid_forget_set(scene, name, change, message):
    classifier, X, y, forget, _ = scene
    arguments = {"X": X, "y": y, "forget": forget, **change}
    with pytest.raises(ValueError, match=message):
        get_scorer(name)(classifier, **arguments)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"utility"}))
def test_a_class_the_classifier_does_not_know_is_named(scene, name):
    classifier, X, y, forget, _ = scene
    with pytest.raises(ValueError, match=r"y_true .* not among labels: \['z'\]"):
        get_scorer(name)(classifier, X, np.r_[y[:-1], ["z"]], forget=forget)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "accuracy"}, r"name must be one of \['linear_.*; got 'accuracy'"),
        ({"X_forget": [[1]]}, "given together; got None for y_forget"),
        ({"y_forget": [1]}, "given together; got None for X_forget"),
        ({"X_forget": [[1]], "y_forget": []}, "y_forget must hold a label"),
        ({"n_splits": 0}, "n_splits must"),
        ({"weight": 2}, "weight must"),
    ],
)
def test_get_scorer_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        get_scorer(**{"name": "nomus", **arguments})


@pytest.mark.parametrize("name", NAMES)
def test_bound_scorer_refuses_a_mask(scene, name):
    classifier, X, y, forget, _ = scene
    bound = get_scorer(name, X_forget=X[forget], y_forget=y[forget])
    with pytest.raises(ValueError, match="forget must not be passed to a scorer that is bound"):
        bound(classifier, X, y, forget=forget)


@pytest.mark.parametrize("convert", [np.asarray, pd.DataFrame, torch.tensor])
@pytest.mark.parametrize("name", NAMES)
def test_bound_scorer_refuses_its_own_rows_as_unseen(scene, name, convert):
    classifier, X, y, forget, _ = scene
    bound = get_scorer(name, X_forget=convert(X[forget]), y_forget=y[forget])
    with pytest.raises(ValueError, match=r"X must hold unseen rows only.*forget_in_test=False"):
        bound(classifier, convert(X), y)


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_scorers_survive_clone_and_pickle(scene, name, bound):
    classifier, X, y, forget, numbers = scene
    rows = {"X_forget": X[forget], "y_forget": y[forget]} if bound else {}
    scorer = get_scorer(name, **rows)
    arguments = (X[~forget], y[~forget]) if bound else (X, y)
    mask = {} if bound else {"forget": forget}
    for copy in (clone(scorer), pickle.loads(pickle.dumps(scorer))):
        assert copy(classifier, *arguments, **mask) == pytest.approx(numbers[name])
        assert repr(copy) == repr(scorer)


def test_repr_says_how_to_make_the_scorer(scene):
    _, X, y, forget, _ = scene
    assert repr(get_scorer("nomus")) == (
        "get_scorer('nomus', n_splits=10, random_state=0, weight=0.5)"
    )
    bound = get_scorer("utility", n_splits=3, X_forget=X[forget], y_forget=y[forget])
    assert repr(bound) == (
        "get_scorer('utility', n_splits=3, random_state=0, weight=0.5, "
        "X_forget=<80 rows>, y_forget=<80 rows>)"
    )


def test_losses_above_and_below_those_of_unseen_rows_are_told_apart_by_hand():
    class Fixed(ClassifierMixin, BaseEstimator):
        classes_ = np.array([0, 1])

        def predict_proba(self, X):
            return np.exp(-np.c_[X, -np.log(-np.expm1(-X))])

    X, y, forget = np.array([[1.0], [2], [3], [4], [5]]), np.zeros(5, int), np.arange(5) < 2
    for shift, auc, overshoot in [(0, 1, 0), (3.5, 1 / 6, 1), (5, 0, 2.5)]:
        losses = X + shift * forget[:, None]
        scores = {
            name: get_scorer(name)(Fixed(), losses, y, forget=forget)
            for name in ("neg_auc_advantage", "neg_overshoot")
        }
        assert scores["neg_auc_advantage"] == pytest.approx(-abs(auc - 0.5))
        assert scores["neg_overshoot"] == pytest.approx(-overshoot, abs=1e-9)


# CKA, which needs a network.


@pytest.fixture(scope="module")
def network(data):
    X, y, forget = data
    unseen = ~forget & (np.arange(500) < 150)
    unlearner = FineTune(make_net(max_epochs=5, lr=0.02), random_state=0)
    unlearner.fit(X[~unseen], y[~unseen], forget=forget[~unseen])
    rows = forget | unseen
    return unlearner, X[rows], y[rows], forget[rows]


@pytest.mark.parametrize("form", [lambda X: X, lambda X: torch.tensor(X).float(), pd.DataFrame])
def test_cka_is_that_of_the_unseen_rows_at_the_last_layer(network, form):
    unlearner, X, y, forget = network
    Z = unlearner.estimator_.module_.hidden(torch.tensor(X[~forget]).float()).detach().numpy()
    expected = linear_cka(Z, y[~forget])
    assert 0.1 < expected < 0.9
    routed = get_scorer("linear_cka")(unlearner, form(X), y, forget=forget)
    assert routed == pytest.approx(expected, rel=1e-4)
    bound = get_scorer("linear_cka", X_forget=form(X[forget]), y_forget=y[forget])
    assert bound(unlearner, form(X[~forget]), y[~forget]) == pytest.approx(expected, rel=1e-4)


def test_cka_of_what_is_no_network_is_refused(scene):
    classifier, X, y, forget, _ = scene
    with pytest.raises(ValueError, match=r"estimator must be a fitted skorch network.*Neighbors"):
        get_scorer("linear_cka")(classifier, X, y, forget=forget)
    with pytest.raises(ValueError, match="needs to know the forget rows"):
        get_scorer("linear_cka")(classifier, X, y)


# Searches.


def scorings():
    return {name: get_scorer(name) for name in NAMES}


def by_hand(estimator, data, cv):
    """The scores of each fold, without cross_validate."""
    X, y, forget = data
    scores = {name: [] for name in NAMES}
    for train, test in cv.split(X, y, forget=forget):
        fitted = clone(estimator).fit(X[train], y[train], forget=forget[train])
        for name in NAMES:
            score = get_scorer(name)(fitted, X[test], y[test], forget=forget[test])
            scores[name].append(score)
    return scores


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_cross_validate_routes_the_mask_to_fit_split_and_scorers(data):
    X, y, forget = data
    expected = by_hand(ForgetfulNeighbors(), data, ForgetKFold(3))
    together = cross_validate(
        ForgetfulNeighbors(),
        X,
        y,
        cv=ForgetKFold(3),
        scoring=scorings(),
        params={"forget": forget},
        error_score="raise",
    )
    for name in NAMES:
        np.testing.assert_allclose(together[f"test_{name}"], expected[name])
        alone = cross_val_score(
            ForgetfulNeighbors(),
            X,
            y,
            cv=ForgetKFold(3),
            scoring=get_scorer(name),
            params={"forget": forget},
            error_score="raise",
        )
        np.testing.assert_allclose(alone, expected[name])


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("kind", ["grid", "random"])
def test_searches_route_the_mask_without_any_request(data, kind, n_jobs):
    X, y, forget = data
    settings = {
        "cv": ForgetKFold(3),
        "scoring": scorings(),
        "refit": "nomus",
        "n_jobs": n_jobs,
        "error_score": "raise",
    }
    grid = {"keep_forget": [True, False], "n_neighbors": [1, 5]}
    if kind == "grid":
        search = GridSearchCV(ForgetfulNeighbors(), grid, **settings)
    else:
        search = RandomizedSearchCV(
            ForgetfulNeighbors(), grid, n_iter=3, random_state=0, **settings
        )
    search.fit(X, y, forget=forget)
    for i, candidate in enumerate(search.cv_results_["params"]):
        expected = by_hand(ForgetfulNeighbors(**candidate), data, ForgetKFold(3))
        for name in NAMES:
            found = [search.cv_results_[f"split{fold}_test_{name}"][i] for fold in range(3)]
            np.testing.assert_allclose(found, expected[name])
    # Forgetting the rows must pay: the model that keeps them is recognised.
    assert search.best_params_["keep_forget"] is False
    assert hasattr(search.best_estimator_, "model_")


@pytest.mark.usefixtures("routing")
def test_search_with_one_scorer_scores_by_it(data):
    X, y, forget = data
    search = GridSearchCV(
        ForgetfulNeighbors(),
        {"n_neighbors": [1, 5]},
        cv=ForgetKFold(3),
        scoring=get_scorer("neg_forgetting_score"),
        error_score="raise",
    ).fit(X, pd.Series(y), forget=pd.Series(forget))
    expected = by_hand(ForgetfulNeighbors(n_neighbors=5), data, ForgetKFold(3))
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"][1], np.mean(expected["neg_forgetting_score"])
    )
    assert search.score(X, y, forget=forget) <= 0


@pytest.mark.usefixtures("routing")
def test_groups_are_routed_beside_the_mask(data):
    X, y, _ = data
    groups = np.arange(500) // 10
    search = GridSearchCV(
        ForgetfulNeighbors(),
        {"n_neighbors": [1, 5]},
        cv=ForgetKFold(3),
        scoring=get_scorer("nomus"),
        error_score="raise",
    )
    few = groups < 8  # the people to forget
    search.fit(X, y, forget=few, groups=groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.usefixtures("routing")
def test_search_over_a_pipeline_that_asks_for_the_mask(data):
    X, y, forget = data
    search = GridSearchCV(
        make_pipeline(StandardScaler(), ForgetfulNeighbors()),
        {"forgetfulneighbors__n_neighbors": [1, 5]},
        cv=ForgetKFold(3),
        scoring=scorings(),
        refit="nomus",
        error_score="raise",
    ).fit(X, y, forget=forget)
    assert np.isfinite(search.cv_results_["mean_test_nomus"]).all()


@pytest.mark.usefixtures("routing")
def test_a_bound_scorer_leaves_a_routed_mask_to_the_others(data):
    X, y, forget = data
    scoring = {
        "routed": get_scorer("utility"),
        "bound": get_scorer("utility", X_forget=X[forget], y_forget=y[forget]),
    }
    arguments = {"params": {"forget": forget}, "error_score": "raise"}
    routed = cross_val_score(
        ForgetfulNeighbors(), X, y, cv=ForgetKFold(3), scoring=scoring["routed"], **arguments
    )
    cv = ForgetKFold(3, forget_in_test=False)
    bound = cross_val_score(
        ForgetfulNeighbors(), X, y, cv=cv, scoring=scoring["bound"], **arguments
    )
    np.testing.assert_allclose(bound, routed)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bound_scorers_search_without_routing_and_find_the_same_utility(data, n_jobs):
    X, y, forget = data
    search = GridSearchCV(
        ForgetfulNeighbors(),
        {"n_neighbors": [1, 5]},
        cv=ForgetKFold(3, forget=forget, forget_in_test=False),
        scoring={name: get_scorer(name, X_forget=X[forget], y_forget=y[forget]) for name in NAMES},
        refit="nomus",
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X, y, forget=forget)
    for i, candidate in enumerate(search.cv_results_["params"]):
        expected = by_hand(ForgetfulNeighbors(**candidate), data, ForgetKFold(3))
        for name in NAMES:
            found = [search.cv_results_[f"split{fold}_test_{name}"][i] for fold in range(3)]
            np.testing.assert_allclose(found, expected[name])


def test_bound_scorer_serves_plain_cross_validation(data):
    X, y, forget = data
    scorer = get_scorer("nomus", X_forget=X[forget], y_forget=y[forget])
    scores = cross_val_score(
        GaussianNB(), X[~forget], y[~forget], cv=KFold(3), scoring=scorer, error_score="raise"
    )
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.filterwarnings("ignore:The scoring .* does not support sample_weight:UserWarning")
def test_bound_scorers_stand_a_search_with_sample_weights(data):
    X, y, forget = data
    scoring = {name: get_scorer(name, X_forget=X[forget], y_forget=y[forget]) for name in NAMES}
    search = GridSearchCV(
        GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}, cv=2, scoring=scoring, refit="nomus"
    )
    search.fit(X[~forget], y[~forget], sample_weight=np.ones((~forget).sum()))
    assert np.isfinite(search.cv_results_["mean_test_nomus"]).all()


@pytest.mark.usefixtures("routing")
def test_a_search_over_a_pipeline_has_cka_among_its_scores(data):
    X, y, forget = data
    search = GridSearchCV(
        make_pipeline(StandardScaler(), FineTune(make_net(max_epochs=3), random_state=0)),
        {"finetune__lr": [0.01, 0.05]},
        cv=ForgetKFold(2),
        scoring={name: get_scorer(name) for name in get_scorer_names()},
        refit="nomus",
        error_score="raise",
    ).fit(X, y, forget=forget)
    fitted, cka = search.best_estimator_, get_scorer("linear_cka")
    hidden = fitted[-1].estimator_.module_.hidden
    Z = hidden(torch.tensor(fitted[0].transform(X[~forget])).float()).detach().numpy()
    assert cka(fitted, X, y, forget=forget) == pytest.approx(linear_cka(Z, y[~forget]), rel=1e-4)
    found = search.cv_results_["mean_test_linear_cka"]
    assert ((found > 0.1) & (found < 1)).all()


def test_routed_scorer_without_routing_raises_rather_than_scores(data):
    X, y, _ = data
    with pytest.raises(ValueError, match="needs to know the forget rows"):
        cross_val_score(
            GaussianNB(), X, y, cv=3, scoring=get_scorer("utility"), error_score="raise"
        )
