"""Finding layers, reading their activations, adding to their output; the transformer."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import TensorDataset

from skunlearn import SISA, FineTune
from skunlearn._engine.hooks import (
    add_to_output,
    capture_output,
    feature_layer,
    forward_features,
    frozen_parameters,
)
from skunlearn.features import FeatureExtractor
from tests.networks import MLP, ConvNet, make_net


class HeadFirst(nn.Module):
    """Defines the layer that runs last before the one that runs first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.stem = nn.Linear(4, 3)
        self.unused = nn.Linear(5, 5)

    def forward(self, X):
        return self.head(self.stem(X).relu())


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_net(HeadFirst).initialize()


X = torch.arange(8.0).reshape(2, 4)


def test_auto_is_the_input_of_the_linear_layer_that_runs_last(net):
    layer = feature_layer(net, "auto", X)
    assert layer == (net.module_.head, True)
    assert torch.equal(forward_features(net, X, layer), net.module_.stem(X).relu().detach())


def test_a_name_means_the_output_of_that_layer(net):
    layer = feature_layer(net, "stem", X)
    assert torch.equal(forward_features(net, X, layer), net.module_.stem(X).detach())


@pytest.mark.parametrize("name", ["steam", "", "stem.weight"])
def test_unknown_names_are_answered_with_those_that_exist(net, name):
    with pytest.raises(ValueError, match=r"feature_layer=.*is not a layer of HeadFirst.*'stem'"):
        feature_layer(net, name, X)


def test_a_layer_that_does_not_run_is_named(net):
    with pytest.raises(ValueError, match="Linear is a layer that does not run in this network"):
        forward_features(net, X, (net.module_.unused, False))


def test_reading_collects_each_pass_and_leaves_no_hook(net):
    with capture_output(net.module_.stem, False) as read:
        net.infer(X)
        net.infer(X + 1)
    assert len(read) == 2
    assert read[0].requires_grad
    net.infer(X)
    assert len(read) == 2


def test_adding_shifts_the_output_and_leaves_no_hook(net):
    before = net.infer(X)
    with add_to_output(net.module_.head, torch.tensor([1.0, -2.0])):
        assert torch.allclose(net.infer(X), before + torch.tensor([1.0, -2.0]))
    assert torch.equal(net.infer(X), before)


def test_the_first_output_of_a_recurrent_layer_is_read_and_added_to():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 3, batch_first=True)
            self.head = nn.Linear(3, 2)

        def forward(self, X):
            return self.head(self.lstm(X)[0][:, -1])

    net = make_net(Recurrent).initialize()
    sequences = torch.ones(2, 5, 4)
    assert forward_features(net, sequences, (net.module_.lstm, False)).shape == (2, 5, 3)
    plain = net.infer(sequences)
    with add_to_output(net.module_.lstm, torch.ones(2, 5, 3)):
        assert not torch.allclose(net.infer(sequences), plain)


def test_constant_parameters_get_back_their_gradients(net):
    net.module_.unused.weight.requires_grad_(False)
    with frozen_parameters(net.module_):
        assert not any(p.requires_grad for p in net.module_.parameters())
    assert {name for name, p in net.module_.named_parameters() if not p.requires_grad} == {
        "unused.weight"
    }


def test_extracting_does_not_move_batch_norm():
    net = make_net(ConvNet, module__n_classes=2).initialize()
    images = torch.rand(4, 1, 5, 5)
    net.evaluation_step((images, None))
    before = net.module_.body[1].running_mean.clone()
    forward_features(net, images, feature_layer(net, "auto", images))
    assert torch.equal(before, net.module_.body[1].running_mean)


def test_what_comes_after_a_layer_in_place_does_not_change_what_is_read():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(4, 3)
            self.head = nn.Linear(3, 2)

        def forward(self, X):
            return self.head(nn.functional.relu_(self.stem(X)))

    net = make_net(InPlace).initialize()
    expected = net.module_.stem(X - 4).detach()
    assert (expected < 0).any()
    assert torch.equal(forward_features(net, X - 4, (net.module_.stem, False)), expected)


# FeatureExtractor.


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(75, 4))
    return X, np.where(X[:, 0] > 0, "yes", "no")


@pytest.fixture(scope="module")
def unlearner(rows):
    return FineTune(make_net(), random_state=0).fit(*rows)


def by_hand(module, X):
    """Features of an `MLP` in numpy."""
    weight, bias = (p.detach().numpy() for p in module.hidden[0].parameters())
    return np.maximum(np.asarray(X, np.float32) @ weight.T + bias, 0)


@pytest.mark.parametrize("batch_size", [None, 1, 7, 75, 1000])
def test_features_are_those_of_the_layer_whatever_the_batches(rows, unlearner, batch_size):
    X, _ = rows
    Z = FeatureExtractor(unlearner, batch_size=batch_size).transform(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z, by_hand(unlearner.estimator_.module_, X), rtol=1e-5, atol=1e-5)
    before = FeatureExtractor(unlearner, layer="hidden.0").transform(X)
    assert (before < 0).any()
    np.testing.assert_allclose(np.maximum(before, 0), Z, rtol=1e-5, atol=1e-5)


def test_batch_size_is_what_goes_through_the_network_at_a_time(rows, unlearner):
    sizes = []
    handle = unlearner.estimator_.module_.head.register_forward_hook(
        lambda module, args, output: sizes.append(len(output))
    )
    FeatureExtractor(unlearner, batch_size=30).transform(rows[0])
    handle.remove()
    assert sizes[-3:] == [30, 30, 15]
    assert sum(sizes[:-3]) <= 4  # to find the layer
    assert not hasattr(unlearner.estimator_, "iterator_valid__batch_size")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda unlearner: unlearner.estimator_,
        lambda unlearner: FrozenEstimator(unlearner.estimator_),
        FrozenEstimator,
        make_pipeline,
    ],
    ids=["net", "frozen net", "frozen unlearner", "pipeline"],
)
def test_every_kind_of_fitted_network_gives_the_same(rows, unlearner, wrap):
    X, _ = rows
    expected = FeatureExtractor(unlearner).transform(X)
    assert np.array_equal(FeatureExtractor(wrap(unlearner)).transform(X), expected)


def test_of_a_pipeline_it_reads_the_last_step_on_transformed_rows(rows):
    X, y = rows
    pipeline = make_pipeline(StandardScaler(), FineTune(make_net(), random_state=0)).fit(X + 9, y)
    expected = by_hand(pipeline[-1].estimator_.module_, StandardScaler().fit_transform(X + 9))
    for estimator in (pipeline, FrozenEstimator(pipeline)):
        Z = FeatureExtractor(estimator).transform(X + 9)
        np.testing.assert_allclose(Z, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.tolist(),
        lambda X: X.astype(np.float16).astype(np.float64),
        torch.tensor,
        lambda X: TensorDataset(torch.tensor(X, dtype=torch.float32), torch.zeros(len(X))),
        lambda X: SliceDataset(TensorDataset(torch.tensor(X, dtype=torch.float32))),
        lambda X: {"X": X.astype(np.float32)},
    ],
    ids=["list", "float64", "tensor", "dataset", "slice", "dict"],
)
def test_rows_are_taken_as_the_unlearners_take_them(rows, unlearner, convert):
    X, _ = rows
    expected = by_hand(unlearner.estimator_.module_, X)
    for estimator in (unlearner, unlearner.estimator_):
        Z = FeatureExtractor(estimator, batch_size=20).transform(convert(X))
        np.testing.assert_allclose(Z, expected, atol=0.01)


def test_frames_are_checked_by_the_names_of_their_columns(rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=list("abcd"))
    unlearner = FineTune(make_net(), random_state=0).fit(frame, y)
    Z = FeatureExtractor(unlearner).transform(frame)
    np.testing.assert_allclose(Z, by_hand(unlearner.estimator_.module_, X), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="feature names"):
        FeatureExtractor(unlearner).transform(frame[list("badc")])


def test_activations_of_a_convolution_are_flattened():
    images = np.random.default_rng(0).normal(size=(11, 1, 5, 5)).astype(np.float32)
    net = make_net(ConvNet, module__n_classes=2, batch_size=4).initialize()
    Z = FeatureExtractor(net, layer="body.0").fit_transform(images)
    conv = net.module_.body[0]
    expected = conv(torch.tensor(images)).detach().numpy()
    np.testing.assert_allclose(Z, expected.reshape(11, 8 * 25), rtol=1e-5, atol=1e-5)


def test_it_is_the_last_step_but_one_of_a_pipeline(rows, unlearner):
    X, y = rows
    probe = make_pipeline(FeatureExtractor(unlearner), LogisticRegression()).fit(X, y)
    features = by_hand(unlearner.estimator_.module_, X)
    expected = LogisticRegression().fit(features, y).predict_proba(features)
    np.testing.assert_allclose(probe.predict_proba(X), expected, atol=1e-4)


def test_fitting_trains_nothing_and_is_not_needed(rows, unlearner):
    X, _ = rows
    weights = pickle.dumps(unlearner.estimator_.module_.state_dict())
    extractor = FeatureExtractor(unlearner)
    check_is_fitted(extractor)
    unfitted = extractor.transform(X)
    assert np.array_equal(extractor.fit(X[:1]).transform(X), unfitted)
    assert pickle.dumps(unlearner.estimator_.module_.state_dict()) == weights


class Pooling(nn.Module):
    """Takes rows of any number of features."""

    def __init__(self, n_classes=2):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool1d(4)
        self.head = nn.Linear(4, n_classes)

    def forward(self, X):
        return self.head(self.pool(X[:, None])[:, 0])


@parametrize_with_checks(
    [
        FeatureExtractor(
            FrozenEstimator(
                make_net(Pooling, max_epochs=1).fit(
                    np.ones((4, 2), dtype=np.float32), np.arange(4) % 2
                )
            )
        )
    ],
    expected_failed_checks=lambda extractor: {
        "check_estimators_overwrite_params": "joblib hashes a skorch network and its copy apart"
    },
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_after_fit_rows_have_the_columns_that_fit_was_given(rows, unlearner):
    X, _ = rows
    extractor = FeatureExtractor(unlearner).fit(X)
    assert extractor.n_features_in_ == X.shape[1]
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(X.shape[1])])
    pipeline = make_pipeline(StandardScaler(), FineTune(make_net(max_epochs=1))).fit(frame, rows[1])
    assert FeatureExtractor(pipeline).fit(frame).feature_names_in_.tolist() == [*frame.columns]
    bare = FeatureExtractor(unlearner.estimator_).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        bare.transform(frame.rename(columns={"column 0": "another"}))
    bare.fit(X)
    assert not hasattr(bare, "feature_names_in_")
    narrow = FeatureExtractor(
        make_net(Pooling, max_epochs=1).fit(X.astype("f4"), np.arange(len(X)) % 2)
    ).fit(X)
    with pytest.raises(ValueError, match="features"):
        narrow.transform(X[:, 1:])


def test_tags_say_what_is_taken():
    for taker in (FeatureExtractor(make_net()), FineTune(make_net()), SISA(make_net())):
        tags = get_tags(taker)
        assert tags.input_tags.two_d_array
        assert tags.input_tags.three_d_array
        assert tags.input_tags.dict
    tags = get_tags(FeatureExtractor(make_net()))
    assert not tags.requires_fit
    assert tags.transformer_tags.preserves_dtype == ["float32"]
    assert not get_tags(SISA(LogisticRegression())).input_tags.dict


def test_a_clone_of_a_frozen_estimator_stays_fitted(rows, unlearner):
    X, y = rows
    extractor = FeatureExtractor(FrozenEstimator(unlearner))
    assert np.array_equal(clone(extractor).transform(X), extractor.transform(X))
    scores = cross_val_score(make_pipeline(extractor, LogisticRegression()), X, y, cv=3)
    assert scores.mean() > 0.8


@pytest.mark.parametrize(
    "unfitted", [FineTune(make_net()), make_net(), FrozenEstimator(make_net())]
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_a_network_that_is_not_fitted_is_refused(rows, unfitted, method):
    extractor = FeatureExtractor(unfitted)
    with pytest.raises(NotFittedError, match=r"estimator must be fitted.*FrozenEstimator"):
        getattr(extractor, method)(rows[0])
    assert not extractor.__sklearn_is_fitted__()


def test_a_clone_of_a_bare_unlearner_says_what_to_do(rows, unlearner):
    with pytest.raises(NotFittedError, match="cloned since"):
        clone(FeatureExtractor(unlearner)).transform(rows[0])


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    images = np.random.default_rng(0).normal(size=(11, 1, 5, 5)).astype(np.float32)
    net = make_net(ConvNet, module__n_classes=2, batch_size=4).initialize()
    net.infer(torch.tensor(images))
    net.module_.train(training)
    net.module_.body[1].train(not training)
    state = pickle.dumps(net.module_.state_dict())
    generator = torch.get_rng_state()
    FeatureExtractor(net, batch_size=3).fit(images).transform(images)
    assert net.module_.training is net.module_.head.training is training
    assert net.module_.body[1].training is not training
    assert pickle.dumps(net.module_.state_dict()) == state
    assert torch.equal(torch.get_rng_state(), generator)
    for module in net.module_.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_dropout_is_off(rows):
    class Dropping(MLP):
        def forward(self, X):
            return self.head(nn.functional.dropout(self.hidden(X), 0.5, self.training))

    net = make_net(Dropping, module__n_features_in=4, module__n_classes=2).initialize()
    net.module_.train()
    Z = FeatureExtractor(net).transform(rows[0])
    np.testing.assert_allclose(Z, by_hand(net.module_, rows[0]), rtol=1e-5, atol=1e-5)


def test_names_and_frames_come_out(rows, unlearner):
    X, _ = rows
    names = [f"featureextractor{i}" for i in range(16)]
    extractor = FeatureExtractor(unlearner)
    with pytest.raises(NotFittedError):
        extractor.get_feature_names_out()
    assert extractor.fit(X).get_feature_names_out().tolist() == names
    for frames in (
        FeatureExtractor(unlearner).set_output(transform="pandas"),
        FeatureExtractor(unlearner).set_output(transform="pandas").fit(X),
    ):
        frame = frames.transform(pd.DataFrame(X, index=np.arange(75) + 5))
        assert frame.columns.tolist() == names
        assert frame.index[0] == 5
        expected = by_hand(unlearner.estimator_.module_, X)
        np.testing.assert_allclose(frame, expected, rtol=1e-5, atol=1e-5)


def test_batches_are_collated_as_the_network_says(rows):
    def halve(pairs):
        X, y = torch.utils.data.default_collate(pairs)
        return X / 2, y

    net = make_net(
        module__n_features_in=4, module__n_classes=2, iterator_valid__collate_fn=halve
    ).initialize()
    Z = FeatureExtractor(net).transform(rows[0])
    np.testing.assert_allclose(Z, by_hand(net.module_, rows[0] / 2), rtol=1e-5, atol=1e-5)


class Summing(nn.Module):
    """Its layers give other than a row of numbers for each row."""

    def __init__(self):
        super().__init__()
        self.transposed = nn.Identity()
        self.varied = nn.Identity()
        self.head = nn.Linear(4, 2)

    def forward(self, X):
        self.transposed(X.T)
        self.varied(X[:, : 1 + int(X[0, 0] > 5)])
        return self.head(X)


@pytest.mark.parametrize(
    ("estimator", "settings", "X", "message"),
    [
        (make_net(Summing).initialize(), {"layer": "stem"}, np.ones((3, 4)), "layer='stem' is not"),
        (
            make_net(Summing).initialize(),
            {"layer": "transposed"},
            np.ones((3, 4)),
            r"got shape \(4",
        ),
        (
            make_net(Summing).initialize(),
            {"layer": "varied", "batch_size": 2},
            np.arange(20.0).reshape(5, 4),
            r"got shape \(2, 2\) for a batch of 2 rows, after 1 activations",
        ),
        (make_net(Summing).initialize(), {"batch_size": 0}, np.ones((3, 4)), "batch_size must be"),
        (
            make_net(nn.BatchNorm1d, module__num_features=4).initialize(),
            {},
            np.ones((3, 4)),
            "layer='auto' takes the input",
        ),
        (make_net(Summing).initialize(), {}, TensorDataset(torch.ones(0, 4)), "at least one row"),
        (LogisticRegression().fit([[0], [1]], [0, 1]), {}, [[0]], "estimator must be a .*Logistic"),
    ],
)
def test_what_cannot_be_read_is_refused(estimator, settings, X, message):
    with pytest.raises(ValueError, match=message):
        FeatureExtractor(estimator, **settings).transform(X)


def test_an_unlearner_of_several_networks_is_refused(rows):
    sisa = SISA(make_net(max_epochs=1), n_shards=2, random_state=0).fit(*rows)
    with pytest.raises(ValueError, match="ensemble of several, which have no layer in common"):
        FeatureExtractor(sisa).transform(rows[0])
