"""Relearning time against a plain loop of torch, and that it leaves no trace."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skunlearn import SISA, FineTune, NegGrad, Retrain
from skunlearn.evaluation import relearning_time
from tests.networks import MLP, ConvNet, make_net


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 10)).astype(np.float32)
    return X, np.array(["no", "yes"])[rng.integers(2, size=120)], np.arange(120) < 30


@pytest.fixture(scope="module")
def retrained(data):
    X, y, forget = data
    return Retrain(make_net(max_epochs=20), random_state=0).fit(X, y, forget=forget)


def by_hand(model, X, y, lr, target, scoring, unit):
    """Full-batch descent with momentum, one batch an epoch, or `unit` rows a batch in order."""
    module = deepcopy(model.estimator_.module_)
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
    X, y = torch.as_tensor(X), torch.as_tensor(np.searchsorted(model.classes_, y))
    for n_batches in range(1000):
        module.eval()
        with torch.no_grad():
            output = module(X)
            score = {
                "accuracy": (output.argmax(1) == y).float().mean().item(),
                "neg_log_loss": -nn.functional.cross_entropy(output, y).item(),
            }[scoring]
        if score >= target - 1e-7:
            return n_batches
        module.train()
        start = n_batches * unit % len(X)
        batch = slice(start, start + unit)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(X[batch]), y[batch]).backward()
        optimizer.step()
    return None


@pytest.mark.parametrize(
    ("scoring", "target"), [("accuracy", 0.9), ("neg_log_loss", -0.3), ("accuracy", 1)]
)
@pytest.mark.parametrize("every", [None, 1, 2])
def test_time_is_that_of_a_plain_loop(data, retrained, scoring, target, every):
    X, y, forget = data
    model = deepcopy(retrained)
    model.estimator.set_params(batch_size=10, iterator_train__shuffle=False)
    params = {"target": target, "scoring": scoring}
    batches = by_hand(model, X[forget], y[forget], lr=0.02, unit=10, **params)
    time = relearning_time(
        model, X[forget], y[forget], lr=0.02, every=every, max_epochs=100, **params
    )
    step = every or 3
    assert batches > 6
    if scoring == "neg_log_loss":  # which rises steadily: no look comes too late to see it
        assert time == pytest.approx(-(-batches // step) * step / 3)
    elif every == 1:
        assert time == pytest.approx(batches / 3)
    else:
        assert time >= batches / 3
        assert time * 3 % step == pytest.approx(0)


def test_a_network_that_knows_the_rows_needs_no_time_and_a_retrained_one_longest(data, retrained):
    X, y, forget = data
    net = make_net(max_epochs=60)
    original = FineTune(net, random_state=0).fit(X, y)
    tuned = FineTune(FrozenEstimator(original.estimator_), max_epochs=2, lr=0.1, random_state=0)
    tuned.fit(X, y, forget=forget)
    target = -log_loss(y[forget], original.predict_proba(X[forget])) - 1e-6
    rate = {"target": target, "scoring": "neg_log_loss", "lr": 0.01, "max_epochs": 500}
    first = relearning_time(original, X[forget], y[forget], **rate)
    second = relearning_time(tuned, X[forget], y[forget], **rate)
    third = relearning_time(retrained, X[forget], y[forget], **rate)
    assert 0 == first < second < third < float("inf")


def test_a_target_that_is_not_reached_takes_for_ever(data, retrained):
    X, y, forget = data
    time = relearning_time(retrained, X[forget], y[forget], target=1.0, lr=1e-9, max_epochs=2)
    assert time == float("inf")


def test_the_end_of_the_training_is_looked_at_however_rarely_one_looks(data, retrained):
    X, y, forget = data
    params = {"target": 0.9, "lr": 0.1, "max_epochs": 40}
    time = relearning_time(retrained, X[forget], y[forget], every=1000, **params)
    assert time == 40


def test_it_leaves_no_trace(data):
    X, y, forget = data

    class Counting(Callback):
        n_epochs = 0

        def on_epoch_end(self, net, **kwargs):
            type(self).n_epochs += 1

    images = X[:, :9].reshape(-1, 1, 3, 3)
    net = make_net(ConvNet, callbacks=[Counting], max_epochs=2)
    model = NegGrad(net, random_state=0).fit(images, y, forget=forget)
    before, epochs = deepcopy(model.estimator_.module_.state_dict()), Counting.n_epochs
    attributes = set(vars(model)), set(vars(model.estimator_)), len(model.estimator_.history)
    mode = model.estimator_.module_.training
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    times = [
        relearning_time(model, images[forget], y[forget], target=0.99, max_epochs=30)
        for _ in range(2)
    ]
    assert times[0] == times[1] > 0
    after = model.estimator_.module_.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert Counting.n_epochs == epochs  # nor is a checkpoint of the user's overwritten
    assert model.estimator_.module_.training == mode
    assert all(p.grad is None for p in model.estimator_.module_.parameters())
    assert attributes == (
        set(vars(model)),
        set(vars(model.estimator_)),
        len(model.estimator_.history),
    )
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    held = pickle.dumps(NegGrad(make_net(ConvNet, max_epochs=1), random_state=0).fit(images, y))
    assert not any(row.tobytes() in held for row in images[forget])


def test_how_often_one_looks_makes_no_difference_to_the_training(data):
    X, y, forget = data

    class Noisy(MLP):
        def forward(self, X):
            return self.head(nn.functional.dropout(self.hidden(X), 0.3, self.training))

    model = Retrain(make_net(Noisy), random_state=0).fit(X, y, forget=forget)
    params = {"target": -0.3, "scoring": "neg_log_loss", "lr": 0.02, "max_epochs": 100}
    model.estimator.set_params(batch_size=10)
    fine = relearning_time(model, X[forget], y[forget], every=1, **params)
    coarse = relearning_time(model, X[forget], y[forget], **params)
    assert fine <= coarse < fine + 1
    assert relearning_time(model, X[forget], y[forget], every=1, random_state=1, **params) != fine


def test_several_labels_per_row(data):
    X, _, forget = data
    Y = (X[:, :3] > 0).astype(np.float32)
    net = make_net(criterion=nn.BCEWithLogitsLoss, max_epochs=1)
    model = Retrain(net, random_state=0).fit(X, Y, forget=forget)
    score = np.mean(model.predict(X[forget]) == Y[forget])
    assert relearning_time(model, X[forget], Y[forget], target=score) == 0
    assert relearning_time(model, X[forget], Y[forget], target=score + 0.05) > 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"target": 1.2}, "target must be a number at least -inf and at most 1; got 1.2"),
        ({"target": 0.5, "scoring": "neg_log_loss"}, "target must .* at most 0; got 0.5"),
        ({"scoring": "f1", "target": 0.5}, "scoring must be one of .* got 'f1'"),
        ({"max_epochs": 0}, "max_epochs must be an integer at least 1"),
        ({"every": 0}, "every must be an integer at least 1"),
        ({"lr": 0}, "lr must be a number greater than 0"),
        ({"lr": 1e30, "target": 1}, "relearning has diverged: .* smaller lr"),
    ],
)
def test_bad_parameters(data, retrained, params, message):
    X, y, forget = data
    with pytest.raises(ValueError, match=message):
        relearning_time(retrained, X[forget], y[forget], **{"target": 0.9, **params})


def test_what_cannot_relearn_is_refused(data):
    X, y, forget = data
    with pytest.raises(NotFittedError):
        relearning_time(FineTune(make_net()), X, y, target=0.9)
    net = make_net(max_epochs=1)
    for model in (
        SISA(net, n_shards=2, random_state=0).fit(X, y),
        make_net(max_epochs=1, module__n_features_in=10, module__n_classes=2).fit(
            X, forget.astype(np.int64)
        ),
    ):
        with pytest.raises(ValueError, match=f"holds one network.* got {type(model).__name__}"):
            relearning_time(model, X, y, target=0.9)


def test_of_a_pipeline_the_error_says_what_to_pass(data):
    X, y, _ = data
    pipeline = make_pipeline(StandardScaler(), FineTune(make_net(max_epochs=1), random_state=0))
    pipeline.fit(X, y)
    with pytest.raises(ValueError, match=r"pipeline\[-1\], pipeline\[:-1\]\.transform\(X\), y"):
        relearning_time(pipeline, X, y, target=0.1)
    assert relearning_time(pipeline[-1], pipeline[:-1].transform(X), y, target=0.1) == 0
