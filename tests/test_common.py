"""Every unlearner through scikit-learn's checks and through the contract that they all share."""

import pickle
import random
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch import NeuralNetBinaryClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, EpochScoring, LRScheduler, ProgressBar
from skorch.dataset import ValidSplit
from torch import nn

from skunlearn import SCRUB, SISA, EUk, FineTune, Retrain, all_unlearners
from skunlearn.metrics import get_scorer

from .networks import MLP, ConvNet, make_net

UNLEARNERS = dict(all_unlearners())


def each(condition=lambda unlearner: True):
    """Parametrise over the unlearners that meet a condition."""
    chosen = {name: cls for name, cls in UNLEARNERS.items() if condition(cls)}
    return pytest.mark.parametrize("unlearner", chosen.values(), ids=chosen.keys())


every_unlearner = each()
# The tests of SISA hold these for it, in the way in which they apply to several networks.
one_network = each(lambda unlearner: unlearner is not SISA)
approximate = each(lambda unlearner: "original" in unlearner.needs)
trained_in_a_run = each(lambda unlearner: "max_epochs" in unlearner(None).get_params(deep=False))
needing_retained = each(lambda unlearner: "retain" in unlearner.needs)


@parametrize_with_checks(
    [cls(make_net(max_epochs=20), random_state=0) for cls in UNLEARNERS.values()]
)
def test_scikit_learn_checks(estimator, check):
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


def networks(fitted):
    """The networks that a fitted unlearner answers with; a network answers itself."""
    if hasattr(fitted, "module_"):
        return [fitted]
    return fitted.estimators_ if hasattr(fitted, "estimators_") else [fitted.estimator_]


def weights(fitted):
    return {
        f"{i}.{name}": value.clone()
        for i, net in enumerate(networks(fitted))
        for name, value in net.module_.state_dict().items()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@every_unlearner
def test_fit_with_forget_is_fit_then_unlearn(unlearner, problem):
    X, y, forget = problem
    both = unlearner(make_net(), random_state=3).fit(X, y, forget=forget)
    steps = unlearner(make_net(), random_state=3).fit(X, y).unlearn(X, y, forget=forget)
    assert same(weights(both), weights(steps))


@every_unlearner
def test_unlearning_changes_the_network_and_repeats_bit_for_bit(unlearner, problem):
    X, y, forget = problem
    fitted = unlearner(make_net(), random_state=0).fit(X, y)
    before = weights(fitted)
    first = weights(fitted.unlearn(X, y, forget=forget))
    again = clone(fitted).fit(X, y, forget=forget)
    other = clone(fitted).set_params(random_state=1).fit(X, y, forget=forget)
    assert not same(before, first)
    assert same(first, weights(again))
    assert not same(first, weights(other))


@one_network
def test_plain_fit_is_plain_training(unlearner, problem):
    X, y, _ = problem
    fitted = unlearner(make_net(), random_state=0).fit(X, y)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = make_net(module__n_features_in=4, module__n_classes=3).fit(X, y)
    assert same(weights(fitted), weights(net))
    assert not hasattr(fitted, "unlearning_history_")
    assert fitted.score(X, y) > 0.8


@every_unlearner
def test_global_generators_are_left_as_they_were(unlearner, problem):
    X, y, forget = problem
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    unlearner(make_net(), random_state=0).fit(X, y, forget=forget, X_val=X[:20], y_val=y[:20])
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


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
    ],
)
@every_unlearner
def test_forget_must_be_a_mask(unlearner, problem, forget, message):
    X, y, _ = problem
    with pytest.raises(ValueError, match=message):
        unlearner(make_net(), random_state=0).fit(X, y, forget=forget)


@every_unlearner
def test_nothing_to_forget(unlearner, problem):
    X, y, forget = problem
    fitted = unlearner(make_net(), random_state=0)
    with pytest.warns(UserWarning, match="forget marks no row"):
        fitted.fit(X, y, forget=np.zeros_like(forget))
    with pytest.raises(ValueError, match="forget marks no row"):
        fitted.unlearn(X, y, forget=np.zeros_like(forget))


@needing_retained
def test_nothing_to_retain(unlearner, problem):
    X, y, forget = problem
    fitted = unlearner(make_net(), random_state=0).fit(X, y)
    before = weights(fitted)
    with pytest.raises(ValueError, match=f"{unlearner.__name__} needs retained rows"):
        fitted.unlearn(X, y, forget=np.ones_like(forget))
    assert same(before, weights(fitted))


@every_unlearner
def test_a_class_may_vanish_from_the_retained_rows(unlearner, problem):
    X, y, _ = problem
    fitted = unlearner(make_net(callbacks=[EpochScoring("accuracy")]), random_state=0)
    fitted.fit(X, y, forget=y == 2, X_val=X[:30], y_val=y[:30])
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.predict_proba(X).shape == (120, 3)


@approximate
def test_prefit_network_is_left_untouched(unlearner, problem, trained):
    X, y, forget = problem
    before = weights(trained)
    history = len(trained.history)
    unlearned = unlearner(FrozenEstimator(trained), random_state=0).unlearn(X, y, forget=forget)
    assert same(before, weights(trained))
    assert len(trained.history) == history
    assert not same(before, weights(unlearned))
    fitted = unlearner(FrozenEstimator(trained), random_state=0).fit(X, y)
    assert same(before, weights(fitted))
    assert fitted.estimator_.module_ is not trained.module_


@every_unlearner
def test_users_network_is_never_changed(unlearner, problem):
    X, y, forget = problem
    net = make_net(callbacks=[EpochScoring("accuracy", on_train=True)])
    before = set(vars(net))
    unlearner(net, random_state=0).fit(X, y, forget=forget)
    assert set(vars(net)) == before
    assert not net.initialized_


class StopAt(Callback):
    """Raise in the middle of an unlearning run, which is the second training."""

    def __init__(self, error):
        self.error = error

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if training and ARMED["on"] and len(net.history[-1]["batches"]) == 2:
            raise self.error


ARMED = {"on": False}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("from a callback")])
@trained_in_a_run
def test_interrupted_unlearning_leaves_the_estimator_as_it_was(unlearner, problem, error):
    X, y, forget = problem
    net = make_net(callbacks=[StopAt(error)], batch_size=5)
    fitted = unlearner(net, random_state=0).fit(X, y)
    before, proba = vars(fitted).copy(), fitted.predict_proba(X)
    ARMED["on"] = True
    try:
        with pytest.raises(type(error)):
            fitted.unlearn(X, y, forget=forget)
        with pytest.raises(type(error)):
            fitted.fit(X[:, :3], y)
    finally:
        ARMED["on"] = False
    assert vars(fitted) == before
    assert np.array_equal(proba, fitted.predict_proba(X))
    fitted.unlearn(X, y, forget=forget)


def chunks(tensors, n_bytes=32):
    """Byte strings long enough to be found only where the values are kept."""
    for tensor in tensors:
        raw = np.ascontiguousarray(tensor).tobytes()
        if len(raw) >= n_bytes:
            yield raw[:n_bytes]


@pytest.mark.parametrize("frozen", [True, False])
@one_network
def test_pickle_holds_no_forgotten_row_and_no_original_weight(unlearner, frozen, problem):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 12)).astype(np.float32)
    _, y, forget = problem
    net = make_net(callbacks=[LRScheduler(), ("acc", EpochScoring("accuracy", on_train=True))])
    original = FineTune(net, random_state=0).fit(X, y).estimator_
    old = dict(original.module_.named_parameters())
    if frozen:
        unlearned = unlearner(FrozenEstimator(original), random_state=1)
    else:
        unlearned = unlearner(net, random_state=0).fit(X, y)
    unlearned.unlearn(X, y, forget=forget, X_val=X[:20], y_val=y[:20])
    new = dict(unlearned.estimator_.module_.named_parameters())
    # What a method leaves alone by definition, such as the first layers, it may keep.
    old = [p.detach().numpy() for name, p in old.items() if not torch.equal(p, new[name])]
    assert any(chunk in pickle.dumps(original) for chunk in chunks(old))
    pickled = pickle.dumps(unlearned)
    assert not any(chunk in pickled for chunk in chunks(old))
    assert not any(chunk in pickled for chunk in chunks(X[forget]))
    again = pickle.loads(pickled)
    assert np.array_equal(again.predict_proba(X), unlearned.predict_proba(X))
    assert again.unlearn(X, y, forget=forget) is again


@approximate
def test_a_run_that_changes_nothing_warns(unlearner, problem, trained):
    X, y, forget = problem
    model = unlearner(FrozenEstimator(trained), random_state=0)
    if "lr" not in model.get_params() or unlearner is EUk:
        pytest.skip("does not depend on a learning rate alone")
    with pytest.warns(UserWarning, match="has changed almost nothing"):
        model.set_params(lr=1e-12).unlearn(X, y, forget=forget)


@every_unlearner
def test_requests_can_follow_one_another(unlearner, problem):
    X, y, forget = problem
    fitted = unlearner(make_net(), random_state=0).fit(X, y)
    fitted.unlearn(X, y, forget=forget)
    first = weights(fitted)
    later = np.arange((~forget).sum()) < 5
    fitted.unlearn(X[~forget], y[~forget], forget=later)
    assert not same(first, weights(fitted))


@trained_in_a_run
def test_an_unlearning_run_is_a_skorch_run(unlearner, problem, capsys):
    X, y, forget = problem
    seen = []

    class Watch(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            seen.append((net, training))

    net = make_net(
        callbacks=[
            ProgressBar(),
            Watch,
            LRScheduler("StepLR", step_size=1, gamma=0.5),
            EpochScoring("accuracy", name="unseen_acc", lower_is_better=False),
        ],
        train_split=None,
        max_epochs=2,
    )
    fitted = unlearner(net, random_state=0)
    fitted.fit(X, y, forget=forget, X_val=X[:20], y_val=y[:20])
    history = fitted.unlearning_history_
    assert history is fitted.estimator_.history
    assert {"train_loss", "dur"} <= set(history[-1])
    assert any(net is fitted.estimator_ and training for net, training in seen)
    assert type(fitted.estimator_).__mro__ == type(net).__mro__
    if unlearner is not Retrain:  # which trains as the original was trained
        assert {"valid_loss", "unseen_acc"} <= set(history[-1])


@trained_in_a_run
def test_networks_own_validation_split_is_used_without_held_out_rows(unlearner, problem):
    X, y, forget = problem
    net = make_net(train_split=ValidSplit(4, stratified=True))
    fitted = unlearner(net, random_state=0).fit(X, y, forget=forget)
    assert "valid_acc" in fitted.unlearning_history_[-1]


@every_unlearner
def test_inputs_of_many_kinds_give_the_same(unlearner, problem):
    X, y, forget = problem
    names = np.array(["ant", "bee", "cow"])
    expected = unlearner(make_net(), random_state=0).fit(X, y, forget=forget)
    kinds = {
        "strings": (X, names[y], forget),
        "float64": (X.astype(np.float64), y, forget),
        "tensors": (torch.as_tensor(X), torch.as_tensor(y), torch.as_tensor(forget)),
        "frame": (pd.DataFrame(X, columns=list("abcd")), pd.Series(y), pd.Series(forget)),
        "lists": (X.tolist(), y.tolist(), forget.tolist()),
    }
    for kind, (X_kind, y_kind, forget_kind) in kinds.items():
        fitted = unlearner(make_net(), random_state=0).fit(X_kind, y_kind, forget=forget_kind)
        assert np.array_equal(fitted.predict_proba(X_kind), expected.predict_proba(X)), kind
        predicted = fitted.predict(X_kind)
        assert (
            predicted == (names if kind == "strings" else np.arange(3))[expected.predict(X)]
        ).all()
    assert unlearner(make_net()).fit(kinds["frame"][0], y).feature_names_in_.tolist() == list(
        "abcd"
    )


@every_unlearner
def test_images_and_data_sets(unlearner, problem):
    _, y, forget = problem
    X = np.random.default_rng(0).random((120, 1, 6, 6)).astype(np.float16)
    net = make_net(ConvNet, max_epochs=2, batch_size=17)  # 120 = 7 * 17 + 1: a batch of one row
    fitted = unlearner(net, random_state=0).fit(X, y, forget=forget)
    assert fitted.predict(X).shape == (120,)
    data = torch.utils.data.TensorDataset(
        torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y)
    )
    lazily = unlearner(net, random_state=0).fit(data, forget=forget)
    assert np.array_equal(lazily.predict_proba(data), fitted.predict_proba(X))


@every_unlearner
def test_binary_network(unlearner, problem):
    X, y, forget = problem
    names = np.array(["no", "yes"])[(y > 0).astype(int)]

    def logit(n_features_in):
        return nn.Linear(n_features_in, 1)

    net = NeuralNetBinaryClassifier(logit, train_split=None, verbose=0, lr=0.5, max_epochs=20)
    fitted = unlearner(net, random_state=0).fit(X, names)
    assert fitted.score(X, names) > 0.8
    fitted.unlearn(X, names, forget=forget, X_val=X[:20], y_val=names[:20])
    assert fitted.predict_proba(X).shape == (120, 2)
    assert set(fitted.predict(X)) <= {"no", "yes"}


@every_unlearner
def test_parameters_reach_down_to_the_module(unlearner, problem):
    X, y, forget = problem
    model = unlearner(make_net(module__hidden=8), random_state=0)
    assert model.get_params()["estimator__module__hidden"] == 8
    model = clone(model).set_params(estimator__module__hidden=5, estimator__lr=0.05)
    model.fit(X, y, forget=forget)
    assert {net.module_.head.in_features for net in networks(model)} == {5}
    assert model.estimator.lr == 0.05


@every_unlearner
def test_in_a_pipeline(unlearner, problem):
    X, y, forget = problem
    pipe = make_pipeline(StandardScaler(), unlearner(make_net(), random_state=0))
    name = unlearner.__name__.lower()
    pipe.fit(X, y, **{f"{name}__forget": forget})
    assert hasattr(pipe[-1], "unlearning_history_")
    assert pipe.predict(X).shape == (120,)


@approximate
def test_memory_trains_the_original_once_and_changes_nothing(unlearner, problem, tmp_path):
    X, y, forget = problem
    trainings = []

    class Count(EpochScoring):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            trainings.append(len(X))
            super().on_train_begin(net, X, y, **kwargs)

    def fit(memory, **params):
        net = make_net(callbacks=[Count("accuracy", on_train=True)], **params)
        return unlearner(net, memory=memory, random_state=0).fit(X, y, forget=forget)

    plain = fit(None)
    originals = trainings.count(120)
    cached = [fit(str(tmp_path)) for _ in range(2)] + [fit(str(tmp_path), verbose=0)]
    assert trainings.count(120) == originals + 1
    for model in cached:
        assert same(weights(model), weights(plain))
    fit(str(tmp_path), max_epochs=3)
    assert trainings.count(120) == originals + 2


@every_unlearner
def test_bad_rows_and_networks_are_refused_and_nothing_is_lost(unlearner, problem):
    X, y, forget = problem
    fitted = unlearner(make_net(), random_state=0).fit(X, y)
    before = vars(fitted).copy()
    broken = X.copy()
    broken[3, 1] = np.nan
    infinite = X.copy()
    infinite[0, 0] = np.inf
    cases = [
        ({"X": broken, "y": y, "forget": forget}, "NaN"),
        ({"X": infinite, "y": y, "forget": forget}, "infinity"),
        ({"X": X[:0], "y": y[:0], "forget": forget[:0]}, "0 sample"),
        ({"X": X, "y": y[:-1], "forget": forget}, "inconsistent numbers of samples"),
        ({"X": X, "y": y, "forget": forget[:-1]}, "forget must be a boolean mask"),
        ({"X": X[:, :2], "y": y, "forget": forget}, "features"),
        ({"X": X, "y": y + 7, "forget": forget}, "labels that the network was not trained on"),
        ({"X": X, "y": y, "forget": forget, "X_val": X}, "y_val"),
        ({"X": X, "y": y, "forget": forget, "y_val": y}, "X_val"),
        ({"X": X, "y": y, "forget": forget, "X_val": X[:, :2], "y_val": y}, "features"),
        ({"X": X, "y": y, "forget": forget, "X_val": X, "y_val": y + 7}, "y_val holds labels"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            fitted.unlearn(**arguments)
        assert vars(fitted) == before
    with pytest.raises(ValueError, match="one class"):
        fitted.fit(X, np.zeros(120))
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(pd.DataFrame(broken), y)
    assert vars(fitted) == before
    assert fitted.predict(X).shape == (120,)


@every_unlearner
def test_unsuitable_estimators_are_refused(unlearner, problem):
    X, y, forget = problem
    cases = [
        (StandardScaler(), "must be a skorch network"),
        (NeuralNetRegressor(MLP), "must be a skorch network"),
        (make_net(criterion=nn.MSELoss), "regression loss"),
        (make_net(MLP(4, 3)), "module instance"),
        (make_net(module__n_classes=5), "5 columns, but y has 3 classes"),
    ]
    for net, message in cases:
        with pytest.raises(ValueError, match=message):
            unlearner(net).fit(X, y)
    with pytest.raises(NotFittedError):
        unlearner(make_net()).unlearn(X, y, forget=forget)
    with pytest.raises(NotFittedError):
        unlearner(make_net()).predict(X)
    with pytest.raises(NotFittedError):
        unlearner(FrozenEstimator(make_net())).unlearn(X, y, forget=forget)


@every_unlearner
def test_hyperparameters_are_checked_before_anything_is_trained(unlearner, problem):
    X, y, forget = problem
    for name, value in {"lr": 0, "max_epochs": 0, "batch_size": 1.5, "optimizer": "sgd"}.items():
        if name in unlearner(None).get_params(deep=False):
            with pytest.raises(ValueError, match=f"{name} must be"):
                unlearner(make_net(), **{name: value}).fit(X, y, forget=forget)


@approximate
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


@one_network
def test_module_instance_in_a_trained_network(unlearner, problem):
    X, y, forget = problem
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_net(MLP(4, 3)).fit(X, y)
    before = weights(net)
    model = unlearner(FrozenEstimator(net), random_state=0)
    if unlearner is Retrain:
        with pytest.raises(ValueError, match="module instance"):
            model.unlearn(X, y, forget=forget)
    else:
        model.unlearn(X, y, forget=forget)
        assert model.estimator_.module is model.estimator_.module_
        assert not same(before, weights(model))
    assert same(before, weights(net))


@pytest.fixture(scope="module")
def attributes(problem):
    """Rows with two attributes each, in place of one label."""
    X, _, forget = problem
    return X, np.stack([X[:, 0] > 0, X[:, 1] > 0.3], axis=1).astype(int), forget


@each(lambda unlearner: unlearner.multilabel)
def test_a_row_may_have_several_labels(unlearner, attributes):
    X, Y, forget = attributes
    net = make_net(criterion=nn.BCEWithLogitsLoss, max_epochs=20)
    fitted = unlearner(net, random_state=0).fit(X, Y)
    assert (fitted.predict(X) == Y).mean() > 0.9
    with torch.no_grad():
        outputs = [net.module_(torch.as_tensor(X)).sigmoid().numpy() for net in networks(fitted)]
    assert np.allclose(fitted.predict_proba(X), np.mean(outputs, axis=0), atol=1e-6)
    with warnings.catch_warnings():
        # The rows to forget may be so easy that a method rightly finds nothing to change.
        warnings.filterwarnings("ignore", message=".*has changed almost nothing")
        fitted.unlearn(X, Y, forget=forget, X_val=X[:20], y_val=Y[:20])
    assert fitted.predict(X).shape == (120, 2)
    scorer = get_scorer("nomus")
    assert 0 < scorer(fitted, X, Y, forget=forget) < 1


@each(lambda unlearner: not unlearner.multilabel)
def test_several_labels_are_refused_by_methods_that_need_one(unlearner, attributes):
    X, Y, _ = attributes
    with pytest.raises(ValueError, match="works with one label per row"):
        unlearner(make_net(criterion=nn.BCEWithLogitsLoss)).fit(X, Y)


@every_unlearner
def test_labels_must_suit_the_criterion(unlearner, attributes):
    X, Y, _ = attributes
    if unlearner.multilabel:
        with pytest.raises(ValueError, match=r"is an indicator matrix .* CrossEntropyLoss"):
            unlearner(make_net()).fit(X, Y)
    with pytest.raises(ValueError, match=r"is not an indicator matrix .* BCEWithLogitsLoss"):
        unlearner(make_net(criterion=nn.BCEWithLogitsLoss)).fit(X, Y[:, 0])
