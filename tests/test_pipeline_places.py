"""Columns and codes keep their places when a pipeline forgets, or the request is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import GaussianRandomProjection

from skunlearn import FineTune, unlearn_pipeline
from tests.networks import make_net

CITIES = np.array(["Bonn", "Kyiv", "Oslo", "Rome"])
FORGET = np.arange(120) % 40 == 0  # three rows


# The network hardly matters here, and learns next to nothing.
pytestmark = pytest.mark.filterwarnings(
    "ignore:FineTune has changed almost nothing", "ignore:FineTune has damaged the network"
)


def make_problem(gone="Lima"):
    """Rows of which only those to forget have one city, in the midst of the alphabet."""
    rng = np.random.default_rng(0)
    city = rng.choice(CITIES, 120).astype(object)
    y = np.isin(city, ["Bonn", "Oslo"]).astype(int)
    city[FORGET] = gone
    frame = pd.DataFrame({"city": city, "age": rng.normal(50, 9, 120), "floor": np.arange(120) % 5})
    return frame, y


def dense(X):
    return X.toarray() if issparse(X) else np.asarray(X)


def fitted(head, X, y):
    net = make_net(max_epochs=1, lr=1e-3, optimizer__momentum=0)
    unlearner = FineTune(net, max_epochs=1, lr=0.05, random_state=0)
    return Pipeline(
        [("head", head), ("dense", FunctionTransformer(dense)), ("net", unlearner)]
    ).fit(X, y)


def holds(pipeline, *names):
    pickled = pickle.dumps(pipeline)
    return any(name.encode() in pickled for name in names)


def change(head, X, y, gone="Lima", forget=FORGET):
    """What the head makes of retained rows before and after, and the pipeline."""
    pipeline = fitted(head, X, y)
    left = np.flatnonzero(~forget)
    rows = X.iloc[left] if hasattr(X, "iloc") else [X[i] for i in left]
    before = dense(pipeline[0].transform(rows))
    unlearn_pipeline(pipeline, X, y, forget=forget)
    after = dense(pipeline[0].transform(rows))
    assert not holds(pipeline, gone, "_Again")
    return before, after, pipeline


ENCODERS = {
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9),
    "ordinal, error": OrdinalEncoder(),
    "ordinal, infrequent": OrdinalEncoder(min_frequency=5),
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "one-hot, error": OneHotEncoder(),
    "one-hot, dense": OneHotEncoder(sparse_output=False),
    "one-hot, infrequent": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5),
    "one-hot, first dropped": OneHotEncoder(drop="first"),
    "one-hot, one dropped": OneHotEncoder(drop=["Oslo"]),
}


@pytest.mark.parametrize("gone", ["Aachen", "Lima", "Zug"])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
def test_categories_that_stay_keep_their_places(encoder, gone):
    X, y = make_problem(gone)
    before, after, pipeline = change(encoder, X[["city"]], y, gone)
    assert np.array_equal(before, after)
    assert pipeline[0].get_params() == encoder.get_params()
    names = pipeline[0].categories_[0].tolist()
    assert [name for name in names if name in CITIES] == CITIES.tolist()
    assert len(names) == 5


@pytest.mark.parametrize("gone", ["Aachen", "Lima", "Zug"])
def test_a_category_that_is_gone_is_unknown_from_then_on(gone):
    X, y = make_problem(gone)
    frame = pd.DataFrame({"city": [gone, "Bonn", "Paris"]})
    *_, pipeline = change(ENCODERS["ordinal"], X[["city"]], y, gone)
    assert pipeline[0].transform(frame)[[0, 2], 0].tolist() == [9, 9]
    *_, pipeline = change(ENCODERS["one-hot"], X[["city"]], y, gone)
    assert pipeline[0].transform(frame).toarray().sum(axis=1).tolist() == [0, 1, 0]
    *_, pipeline = change(ENCODERS["ordinal, error"], X[["city"]], y, gone)
    with pytest.raises(ValueError, match="unknown categories"):
        pipeline[0].transform(frame[:1])


@pytest.mark.parametrize("dtype", [int, np.int8, float, np.float32, bool, object, "U4", "S4"])
@pytest.mark.parametrize("gone", [0, 2, 4, [0, 1], [3, 4], [1, 2]])
@pytest.mark.parametrize("kind", [OneHotEncoder, OrdinalEncoder])
def test_categories_of_every_type_keep_their_places(kind, gone, dtype):
    codes = np.arange(120) % 5
    forget = np.isin(codes, gone)
    if dtype is bool:
        codes, forget = forget.astype(int), forget
    values = codes.astype(object) if dtype is object else codes.astype(dtype)
    X, y = values[:, None], (np.arange(120) // 5) % 2
    before, after, pipeline = change(kind(), X, y, "no name", forget)
    assert np.array_equal(before, after)
    with pytest.raises(ValueError, match="unknown categories"):
        pipeline[0].transform(X[forget])
    pipeline[0].set_params(
        handle_unknown="ignore" if kind is OneHotEncoder else "use_encoded_value"
    )
    if kind is OrdinalEncoder:
        pipeline[0].set_params(unknown_value=-1)
    out = dense(pipeline[0].transform(X[forget]))
    assert (out == (-1 if kind is OrdinalEncoder else 0)).all()


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder(encoded_missing_value=7)])
@pytest.mark.parametrize("missing", [np.nan, None])
def test_a_missing_value_may_be_the_category_that_is_gone_or_that_stays(encoder, missing):
    X, y = make_problem()
    some = X[["city"]].astype(object)
    some.loc[~FORGET & (np.arange(120) % 7 == 0), "city"] = missing
    before, after, _ = change(encoder, some, y)
    assert np.array_equal(before, after, equal_nan=True)
    some = X[["city"]].astype(object)
    some.loc[FORGET, "city"] = missing
    before, after, _ = change(encoder, some, y)
    assert np.array_equal(before, after)


def test_a_second_request_goes_on_from_there():
    X, y = make_problem()
    X.loc[5, "city"] = "Mali"
    pipeline = fitted(OneHotEncoder(handle_unknown="ignore"), X[["city"]], y)
    left = np.flatnonzero(~FORGET)
    second = np.isin(np.arange(120), 5)
    rows = X[["city"]].iloc[left[left != 5]]
    before = dense(pipeline[0].transform(rows))
    unlearn_pipeline(pipeline, X[["city"]], y, forget=FORGET)
    unlearn_pipeline(pipeline, X[["city"]].iloc[left], y[left], forget=second[left])
    assert np.array_equal(before, dense(pipeline[0].transform(rows)))
    assert not holds(pipeline, "Lima", "Mali")


COMPOSED = {
    "columns": make_column_transformer(
        (OneHotEncoder(), ["city"]), (StandardScaler(), ["age"]), remainder="passthrough"
    ),
    "remainder": make_column_transformer(("drop", ["age"]), remainder=OrdinalEncoder()),
    "selected": make_column_transformer(
        (OneHotEncoder(), make_column_selector(dtype_exclude=np.number)),
        (OrdinalEncoder(), make_column_selector(dtype_include="datetime")),
        (StandardScaler(), make_column_selector(dtype_include=np.number)),
    ),
    "nested": ColumnTransformer(
        [
            (
                "city",
                make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
                ["city"],
            ),
            (
                "both",
                make_union(StandardScaler(), KBinsDiscretizer(3, strategy="uniform")),
                ["age"],
            ),
        ]
    ),
    "words": make_column_transformer((CountVectorizer(lowercase=False), "city"), n_jobs=2),
    "frames": make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["city"]), (StandardScaler(), ["age", "floor"])
    ).set_output(transform="pandas"),
}


@pytest.mark.parametrize("head", COMPOSED.values(), ids=COMPOSED.keys())
def test_categories_keep_their_places_within_other_estimators(head):
    X, y = make_problem()
    before, after, pipeline = change(head, X, y)
    assert before.shape == after.shape
    whole = [j for j in range(before.shape[1]) if (before[:, j] == np.rint(before[:, j])).all()]
    assert np.array_equal(before[:, whole], after[:, whole])
    assert np.allclose(before, after, atol=0.2)
    assert not np.array_equal(before, after) or len(whole) == before.shape[1]
    assert [type(t) for _, t, _ in pipeline[0].transformers] == [
        type(t) for _, t, _ in head.transformers
    ]
    assert pipeline.predict(X[~FORGET]).shape == (117,)


def test_frames_lose_the_names_of_what_is_gone_down_to_the_last_step():
    X, y = make_problem()
    head = make_pipeline(
        OneHotEncoder(sparse_output=False, handle_unknown="ignore"), StandardScaler()
    ).set_output(transform="pandas")
    net = FineTune(make_net(max_epochs=1), max_epochs=1, random_state=0)
    pipeline = make_pipeline(head, net).fit(X[["city"]], y)
    assert "city_Lima" in pipeline[-1].feature_names_in_
    unlearn_pipeline(pipeline, X[["city"]], y, forget=FORGET)
    assert not holds(pipeline, "Lima")
    assert pipeline[-1].feature_names_in_.tolist() == pipeline[:-1].get_feature_names_out().tolist()
    assert pipeline.predict(X[["city"]]).shape == (120,)


def test_what_stays_is_that_of_a_fit_on_the_retained_rows():
    X, y = make_problem()
    *_, pipeline = change(make_pipeline(OrdinalEncoder(), StandardScaler()), X[["city"]], y)
    kept = np.searchsorted(["Bonn", "Kyiv", "Lima", "Oslo", "Rome"], X.city[~FORGET])
    assert np.allclose(pipeline[0][1].mean_, kept.mean())


@pytest.mark.parametrize("kind", [CountVectorizer, TfidfVectorizer])
@pytest.mark.parametrize("params", [{}, {"min_df": 2}, {"max_features": 5}, {"analyzer": "char"}])
def test_words_that_stay_keep_their_places(kind, params):
    X, y = make_problem("quince")
    texts = [f"town {city} {floor}{floor}" for city, floor in zip(X.city, X.floor)]
    before, after, pipeline = change(kind(**params), texts, y, "quince")
    assert before.shape == after.shape
    if kind is CountVectorizer and "max_features" not in params:
        assert np.array_equal(before, after)
    else:
        assert np.array_equal(before != 0, after != 0)
    if kind is TfidfVectorizer:
        assert np.allclose(before, after, atol=0.05)
        plain = TfidfVectorizer(**params).fit([t for t, f in zip(texts, FORGET) if not f])
        for word in plain.vocabulary_.keys() & pipeline[0].vocabulary_.keys():
            idf = pipeline[0].idf_[pipeline[0].vocabulary_[word]]
            assert idf == plain.idf_[plain.vocabulary_[word]]
    if "analyzer" not in params:
        assert dense(pipeline[0].transform(["quince"])).sum() == 0


def test_keys_that_stay_keep_their_places():
    X, y = make_problem()
    rows = [{"city": city, "age": age} for city, age in zip(X.city, X.age)]
    before, after, pipeline = change(DictVectorizer(), rows, y)
    assert np.array_equal(before, after)
    assert dense(pipeline[0].transform([{"city": "Lima"}])).sum() == 0


class Codes(TransformerMixin, BaseEstimator):
    """Codes of a transformer of the user's, scaled or not."""

    def __init__(self, scaled=False):
        self.scaled = scaled

    def fit(self, X, y=None):
        self.names_ = sorted(set(np.ravel(X)))
        return self

    def transform(self, X):
        known = {name: i for i, name in enumerate(self.names_)}
        codes = np.array([[known.get(name, -1)] for name in np.ravel(X)])
        return codes / (len(self.names_) - 1) if self.scaled else codes


class Numbers(TransformerMixin, BaseEstimator):
    """The age and its square, in an order that depends on the rows."""

    def fit(self, X, y=None):
        self.order_ = [1, 0] if len(X) % 2 else [0, 1]
        return self

    def transform(self, X):
        X = np.asarray(X)
        return np.stack([X[:, 0], -(X[:, 0] ** 2)], axis=1)[:, self.order_]


class Standard(TransformerMixin, BaseEstimator):
    """A scaler of the user's."""

    def fit(self, X, y=None):
        self.mean_, self.std_ = np.mean(X, axis=0), np.std(X, axis=0)
        return self

    def transform(self, X):
        return ((X - self.mean_) / self.std_).astype(np.float32)


def refused(head, X, y, message):
    pipeline = fitted(head, X, y)
    before, steps = pickle.dumps(pipeline), list(pipeline.steps)
    with pytest.raises(ValueError, match=message):
        unlearn_pipeline(pipeline, X, y, forget=FORGET)
    assert pickle.dumps(pipeline) == before
    assert all(one is other for one, other in zip(steps, pipeline.steps))
    pipeline.steps[0] = ("head", FrozenEstimator(pipeline[0]))
    unlearn_pipeline(pipeline, X, y, forget=FORGET)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("gone", ["Aachen", "Lima"])
def test_codes_of_ones_own_that_move_are_refused(scaled, gone):
    X, y = make_problem(gone)
    refused(Codes(scaled), X[["city"]], y, "step 'head', a Codes, gives other codes or values")
    head = make_column_transformer((Codes(scaled), ["city"]), remainder="passthrough")
    refused(head, X, y, "step 'head__codes', a Codes, gives other codes")


@pytest.mark.parametrize(
    ("head", "columns", "message"),
    [
        (Numbers(), ["age"], "a Numbers, gives other codes or values than before in column 0"),
        (GaussianRandomProjection(2), ["age", "floor"], "a GaussianRandomProjection, gives other"),
        (VarianceThreshold(), ["flag", "age"], "a VarianceThreshold, chooses other columns"),
        (SelectKBest(k=1), ["flag", "age"], "a SelectKBest, chooses other columns"),
        (
            KBinsDiscretizer(4, strategy="uniform", encode="ordinal"),
            ["far"],
            "a KBins.*gives other",
        ),
        (
            KBinsDiscretizer(4, strategy="uniform", encode="ordinal"),
            ["near"],  # of which three rows in ten change their bin
            "a KBins.*gives other",
        ),
        (
            KBinsDiscretizer(40, strategy="quantile", quantile_method="linear", encode="ordinal"),
            ["flag"],
            "a KBinsDiscretizer, has other numbers of bins",
        ),
        (PCA(1), ["age", "far"], "a PCA, gives other codes or values"),
        (OneHotEncoder(min_frequency=26), ["floor"], "counts other categories as infrequent"),
        (SimpleImputer(), ["empty", "age"], r"gives rows of shape \(1,\), where it gave \(2,\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Bins whose width are too small")
@pytest.mark.filterwarnings("ignore:Feature.* constant", "ignore:invalid value")
@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_columns_that_move_are_refused(head, columns, message):
    X, y = make_problem()
    X["flag"] = FORGET + 0.0
    X["far"] = X.age + 1000 * FORGET
    X["near"] = np.where(FORGET, 1.2, np.linspace(0, 1, 120))
    X["empty"] = np.where(FORGET, 1, np.nan)
    y = np.where(FORGET, 1, y)
    X.loc[FORGET, "floor"] = 3
    refused(head, X[columns], y, message)


def test_a_flipped_component_is_refused():
    X, y = make_problem()

    class Flipped(PCA):
        def transform(self, X):
            return super().transform(X) * (1 if self.n_samples_ == 120 else -1)

    pipeline = fitted(Flipped(2), X[["age", "floor"]], y)
    with pytest.raises(ValueError, match="'head', a Flipped, gives other codes or values"):
        unlearn_pipeline(pipeline, X[["age", "floor"]], y, forget=FORGET)


def test_what_drifts_a_little_is_accepted():
    X, y = make_problem()
    heads = [
        (StandardScaler(), X[["age", "floor"]]),
        (Standard(), X[["age", "floor"]]),
        (VarianceThreshold(), X[["age", "floor"]]),
        (PCA(2), X[["age", "floor"]]),
        (KBinsDiscretizer(4, strategy="uniform"), X[["age"]]),
        (TargetEncoder(), X[["city"]]),
        (HashingVectorizer(n_features=2**4), X["city"]),
        (HashingVectorizer(n_features=2**18), X["city"]),
        (GaussianRandomProjection(2, random_state=0), X[["age", "floor"]]),
    ]
    for head, rows in heads:
        if getattr(head, "n_features", 0) == 2**18:
            head = make_pipeline(head, FunctionTransformer(lambda X: csr_array(X)[:, :8]))
            pipeline = Pipeline(
                [
                    ("head", head),
                    ("dense", FunctionTransformer(dense)),
                    ("net", FineTune(make_net())),
                ]
            ).fit(rows, y)
            unlearn_pipeline(pipeline, rows, y, forget=FORGET)
            continue
        before, after, _ = change(head, rows, y)
        assert np.allclose(before, after, atol=0.2 * before.std())


def test_rows_that_the_pipeline_was_not_fitted_on_are_refused():
    X, y = make_problem()
    pipeline = fitted(OneHotEncoder(handle_unknown="ignore"), X[["city"]], y)
    other = X[["city"]].replace("Rome", "Riga")
    with pytest.raises(ValueError, match=r"has categories that it did not have before.*Riga"):
        unlearn_pipeline(pipeline, other, y, forget=FORGET)


def test_a_failure_of_the_last_step_keeps_its_names():
    X, y = make_problem()
    head = OneHotEncoder(sparse_output=False).set_output(transform="pandas")
    pipeline = make_pipeline(head, FineTune(make_net(max_epochs=1), random_state=0))
    pipeline.fit(X[["city"]], y)
    names = pipeline[-1].feature_names_in_.tolist()
    with pytest.raises(ValueError, match="labels that the network was not trained on"):
        unlearn_pipeline(pipeline, X[["city"]], y + 5, forget=FORGET)
    assert pipeline[-1].feature_names_in_.tolist() == names


def test_dates_as_categories_are_refused_if_one_is_gone():
    _, y = make_problem()
    dates = np.where(FORGET, 3, np.arange(120) % 3).astype("datetime64[D]")[:, None]
    refused(OneHotEncoder(), dates, y, "a OneHotEncoder, loses a date or time")
