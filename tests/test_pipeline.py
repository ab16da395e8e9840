"""A pipeline forgets as a whole, or not at all."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skunlearn import DLFD, FineTune, unlearn_pipeline
from skunlearn.metrics import get_scorer
from skunlearn.model_selection import ForgetKFold, Whole
from tests.networks import make_net


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, size=(100, 4))
    y = (X[:, 0] > 3).astype(int)
    forget = np.arange(100) < 20
    X[forget, 1] += 50  # the scaler would remember
    return X, y, forget


def fitted(X, y):
    return make_pipeline(StandardScaler(), FineTune(make_net(), random_state=0)).fit(X, y)


def test_transformers_are_those_of_the_retained_rows(problem):
    X, y, forget = problem
    pipeline = fitted(X, y)
    original, old = pipeline[-1].estimator_, pipeline[0].mean_
    assert unlearn_pipeline(pipeline, X, y, forget=forget) is pipeline
    assert np.allclose(pipeline[0].mean_, X[~forget].mean(axis=0))
    assert pipeline[-1].estimator_ is not original
    assert len(pipeline[-1].unlearning_history_) == 5
    assert pipeline.score(X[~forget], y[~forget]) > 0.9
    assert old.tobytes() not in pickle.dumps(pipeline)


def test_the_last_step_gets_rows_and_held_out_rows_transformed(problem, monkeypatch):
    X, y, forget = problem
    pipeline = fitted(X, y)
    given = {}
    monkeypatch.setattr(
        FineTune, "unlearn", lambda self, X, y, **kwargs: given.update(kwargs, X=X, y=y)
    )
    unlearn_pipeline(pipeline, X, y, forget=forget, X_val=X[:7], y_val=y[:7])
    scaler = StandardScaler().fit(X[~forget])
    assert np.allclose(given["X"], scaler.transform(X))
    assert np.allclose(given["X_val"], scaler.transform(X[:7]))
    assert given["y_val"].tolist() == y[:7].tolist()


@pytest.mark.parametrize("head", [[], [StandardScaler()], [StandardScaler(), StandardScaler()]])
def test_held_out_rows_may_come_whole(problem, head):
    X, y, _ = problem
    forget, probas = np.arange(100) >= 80, []
    for wrap in (np.asarray, Whole, lambda rows: Whole(Whole(rows))):
        pipeline = make_pipeline(*head, FineTune(make_net(), lr=0.5, random_state=0)).fit(X, y)
        held_out = {"X_val": wrap(X[:7]), "y_val": wrap(y[:7])}
        unlearn_pipeline(pipeline, X, y, forget=forget, **held_out)
        assert len(pipeline[-1].unlearning_history_[:, "valid_loss"]) == 5
        probas.append(pipeline.predict_proba(X))
    assert np.array_equal(probas[0], probas[1])
    assert np.array_equal(probas[0], probas[2])


def test_fit_transforms_held_out_rows_on_their_way_to_the_last_step(problem, monkeypatch):
    X, y, forget = problem
    given, fit = {}, FineTune.fit

    def watched(self, X, y=None, **kwargs):
        given.update(kwargs, X=X)
        return fit(self, X, y, **kwargs)

    monkeypatch.setattr(FineTune, "fit", watched)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            StandardScaler(),
            FineTune(make_net(), random_state=0).set_fit_request(
                forget=True, X_val=True, y_val=True
            ),
            transform_input=["X_val"],
        ).fit(X[40:], y[40:], forget=forget[40:] | (y[40:] == 1), X_val=X[:40], y_val=y[:40])
    assert np.allclose(given["X"], pipeline[0].transform(X[40:]))
    assert np.allclose(given["X_val"], pipeline[0].transform(X[:40]))
    assert "valid_loss" in pipeline[-1].unlearning_history_[0]


def test_a_search_reaches_every_parameter_through_a_pipeline(problem):
    X, y, forget = problem
    search = GridSearchCV(
        make_pipeline(StandardScaler(), DLFD(make_net(max_epochs=3), random_state=0)),
        {"dlfd__lr": [0.01, 0.1], "dlfd__estimator__module__hidden": [4, 8]},
        cv=ForgetKFold(2),
        scoring=get_scorer("nomus"),
    )
    with sklearn.config_context(enable_metadata_routing=True):
        search.fit(X, y, forget=forget)
    best = search.best_estimator_[-1]
    assert best.estimator_.module_.head.in_features == best.estimator.module__hidden
    assert best.unlearning_history_
    assert len(set(search.cv_results_["mean_test_score"])) > 1


def test_a_failure_leaves_the_pipeline_as_it_was(problem):
    X, y, forget = problem
    pipeline = fitted(X, y)
    steps, proba = list(pipeline.steps), pipeline.predict_proba(X)
    with pytest.raises(ValueError, match="labels that the network was not trained on"):
        unlearn_pipeline(pipeline, X, y + 5, forget=forget)
    with pytest.raises(ValueError, match="none to fit the pipeline's transformers on"):
        unlearn_pipeline(pipeline, X, y, forget=np.ones(100, dtype=bool))
    assert pipeline.steps == steps
    assert np.array_equal(proba, pipeline.predict_proba(X))


def test_the_last_step_must_unlearn(problem):
    X, y, forget = problem
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="must be an unlearner; got LogisticRegression"):
        unlearn_pipeline(pipeline, X, y, forget=forget)


def test_a_pipeline_of_one_step(problem):
    X, y, forget = problem
    pipeline = make_pipeline(FineTune(make_net(lr=0.01), random_state=0)).fit(X, y)
    unlearn_pipeline(pipeline, X, y, forget=forget)
    assert len(pipeline[-1].unlearning_history_) == 5


def test_inside_scikit_learns_meta_estimators(problem):
    X, y, _ = problem
    calibrated = CalibratedClassifierCV(fitted(X, y), cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (100, 2)
    voting = VotingClassifier(
        [("net", fitted(X, y)), ("linear", LogisticRegression())], voting="soft"
    ).fit(X, y)
    assert voting.score(X, y) > 0.9


def test_meta_estimators_pass_the_mask_on(problem):
    X, y, forget = problem
    model = FineTune(make_net(), random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        calibrated = CalibratedClassifierCV(model, cv=ForgetKFold(2)).fit(X, y, forget=forget)
        voting = VotingClassifier([("net", model), ("linear", LogisticRegression())]).fit(
            X, y, forget=forget
        )
    inner = [fold.estimator for fold in calibrated.calibrated_classifiers_]
    assert len(inner) == 2
    for unlearner in [*inner, voting.estimators_[0]]:
        assert len(unlearner.unlearning_history_) == 5


def test_frames_from_an_upstream_transformer(problem):
    X, y, forget = problem
    frame = pd.DataFrame(X, columns=list("abcd"))
    pipeline = make_pipeline(
        StandardScaler().set_output(transform="pandas"), FineTune(make_net(), random_state=0)
    ).fit(frame, y)
    unlearn_pipeline(pipeline, frame, y, forget=forget)
    assert pipeline[-1].feature_names_in_.tolist() == list("abcd")
    assert np.array_equal(
        pipeline.predict(frame), unlearn_pipeline(fitted(X, y), X, y, forget=forget).predict(X)
    )
