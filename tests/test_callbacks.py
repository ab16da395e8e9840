"""The monitor measures what the metrics measure, when it is asked to, on the rows it is given."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from skunlearn.callbacks import ForgettingMonitor
from skunlearn.metrics import forgetting_score

from .networks import MLP, make_net


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)).astype(np.float32)
    return X, (rng.random(90) < 0.5).astype(np.int64)


def dataset(X, y):
    return TensorDataset(torch.as_tensor(X), torch.as_tensor(y))


def test_score_is_the_forgetting_score_of_the_losses(data):
    X, y = data
    torch.manual_seed(0)
    forget, unseen = dataset(X[:40], y[:40]), dataset(X[50:], y[50:])
    monitor = ForgettingMonitor(forget, unseen, every=3, random_state=1)
    net = make_net(
        MLP, module__n_features_in=4, module__n_classes=2, callbacks=[monitor], max_epochs=30
    ).fit(X[:50], y[:50])
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(net.module_(X), y, reduction="none").numpy()
            for X, y in (forget.tensors, unseen.tensors)
        ]
    monitor.on_train_begin(net)
    monitor.on_batch_begin(net, training=True)
    rng = np.random.RandomState(1)
    by_hand = forgetting_score(*(loss[rng.permutation(40)] for loss in losses), random_state=1)
    assert monitor.score_ == pytest.approx(by_hand)
    assert by_hand > 0


def test_it_is_recorded_every_few_training_batches(data):
    X, y = data
    monitor = ForgettingMonitor(dataset(X[:40], y[:40]), dataset(X[50:], y[50:]), every=2)
    net = make_net(
        MLP,
        module__n_features_in=4,
        module__n_classes=2,
        callbacks=[monitor],
        max_epochs=1,
        batch_size=10,
    ).fit(X[:50], y[:50])
    recorded = ["forgetting_score" in batch for batch in net.history[0]["batches"]]
    assert recorded == [True, False, True, False, True]
    assert not hasattr(monitor, "_rows")
