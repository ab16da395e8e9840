"""The monitor measures what the metrics measure, and nobody notices that it does."""

import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, PrintLog, ProgressBar
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from skunlearn import DLFD, FineTune
from skunlearn.callbacks import ForgettingMonitor
from skunlearn.metrics import forgetting_score, get_scorer
from tests.networks import MLP, make_net


@pytest.fixture
def data():
    torch.manual_seed(0)  # of the networks that are no unlearner's
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)).astype(np.float32)
    return X, (rng.random(90) < 0.5).astype(np.int64)


SIZES = {"module__n_features_in": 4, "module__n_classes": 2}
NAMES = ["forgetting_score", "nomus", "utility"]


class Noisy(MLP):
    """An MLP that draws from the generator in each step of its training."""

    def forward(self, X):
        return self.head(nn.functional.dropout(self.hidden(X), 0.5, self.training))


class Weights(Callback):
    """Note the network's weights at the end of each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.noted_ = []

    def on_epoch_end(self, net, **kwargs):
        self.noted_.append([p.detach().clone() for p in net.module_.parameters()])


class NotedBar(ProgressBar):
    """Note what the bar says, which is on screen for too short a time here."""

    noted = ""

    def on_batch_end(self, net, **kwargs):
        super().on_batch_end(net, **kwargs)
        self.noted += self.pbar_.postfix


def watch(X, y, **params):
    """A monitor of rows 0 to 39 against the unseen rows 50 to 89."""
    return ForgettingMonitor(X[:40], y[:40], X[50:], y[50:], **params)


def losses_by_hand(module, X, y):
    with torch.no_grad():
        return nn.functional.cross_entropy(
            module(torch.as_tensor(X)), torch.as_tensor(y), reduction="none"
        ).numpy()


def same(first, second):
    return all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


def test_epochs_hold_what_the_metrics_say_of_the_network(data):
    X, y = data
    net = make_net(callbacks=[watch(X, y, random_state=1)], max_epochs=30, **SIZES).fit(
        X[:50], y[:50]
    )
    forget, unseen = (
        losses_by_hand(net.module_, X[part], y[part]) for part in (slice(40), slice(50, 90))
    )
    last = net.history[-1]
    by_hand = forgetting_score(forget, unseen, random_state=1)
    assert by_hand > 0
    assert last["forgetting_score"] == pytest.approx(by_hand)
    right = accuracy_score(y[50:], net.predict(X[50:]))
    assert last["utility"] == pytest.approx(right)
    assert last["nomus"] == pytest.approx(right / 2 + 0.5 - by_hand)
    assert dict(net.callbacks_)["ForgettingMonitor"].scores_ == {k: last[k] for k in NAMES}
    assert "nomus" not in last["batches"][0]


def test_of_many_rows_it_looks_at_some_of_each_kind(data):
    X, y = data
    monitor = ForgettingMonitor(X[:20], y[:20], X[20:], y[20:], n_rows=30, random_state=2)
    net = make_net(callbacks=[monitor], max_epochs=5, **SIZES).fit(X[:20], y[:20])
    chosen = np.random.RandomState(2).permutation(70)[:30] + 20
    right = accuracy_score(y[chosen], net.predict(X[chosen]))
    assert net.history[-1, "utility"] == pytest.approx(right)
    losses = (
        losses_by_hand(net.module_, X[:20], y[:20]),
        losses_by_hand(net.module_, X[chosen], y[chosen]),
    )
    assert net.history[-1, "forgetting_score"] == pytest.approx(
        forgetting_score(*losses, random_state=2)
    )


def test_of_few_rows_it_says_what_the_scorers_say(data):
    X, codes = data
    y = np.array(["yes", "no"])[codes]
    monitor = watch(X, y)
    model = FineTune(make_net(callbacks=[monitor], max_epochs=5), random_state=0)
    model.fit(X[:50], y[:50])
    scorer = get_scorer("nomus", X_forget=X[:40], y_forget=y[:40])
    nomus = scorer(model, X[50:], y[50:])
    assert model.estimator_.history[-1, "nomus"] == pytest.approx(nomus)


def test_best_is_the_smallest_forgetting_score_and_the_greatest_nomus_so_far(data):
    X, y = data
    net = make_net(callbacks=[watch(X, y)], max_epochs=12, lr=0.5, **SIZES).fit(X[:50], y[:50])
    net.partial_fit(X[:50], y[:50])  # which goes on where the history ends
    assert len(net.history) == 24
    for name, better in [("forgetting_score", min), ("nomus", max), ("utility", max)]:
        values = net.history[:, name]
        first = [i for i, v in enumerate(values) if v == better(values[: i + 1])]
        first = [i for i in first if values.index(values[i]) == i]
        assert [i for i, flag in enumerate(net.history[:, f"{name}_best"]) if flag] == first
        assert 1 <= len(first) < 24


def test_nan_is_never_the_best_nor_what_others_must_beat(data):
    X, y = data
    nan = float("nan")
    monitor, values = watch(X, y), iter([nan, 0.4, 0.3, nan, 0.2])
    monitor._measure = lambda net: dict.fromkeys(NAMES, next(values))
    history = make_net(callbacks=[monitor], max_epochs=5, **SIZES).fit(X, y).history
    assert history[:, "nomus_best"] == [False, True, False, False, False]
    assert history[:, "forgetting_score_best"] == [False, True, True, False, True]


def test_batches_hold_what_was_measured_last(data):
    X, y = data
    net = make_net(callbacks=[watch(X, y, every=2)], max_epochs=2, batch_size=10, lr=0.5, **SIZES)
    measured = []
    monitor = net.callbacks[0]
    measure = monitor._measure
    monitor._measure = lambda net: measured.append(measure(net)) or measured[-1]
    net.fit(X[:50], y[:50])
    batches = [batch for epoch in net.history for batch in epoch["batches"]]
    assert len(measured) == 5
    values = [measured[i]["nomus"] for i in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)]
    assert [batch["nomus"] for batch in batches] == values
    assert len(set(values)) > 1
    assert [epoch["nomus"] for epoch in net.history] == [values[4], values[9]]


def test_of_batches_too_the_best_epoch_can_be_kept(data, tmp_path):
    X, y = data
    callbacks = [
        watch(X, y, every=2),
        Checkpoint(monitor="nomus_best", dirname=str(tmp_path), f_history=None),
        EarlyStopping(monitor="nomus", lower_is_better=False, patience=30),
    ]
    net = make_net(callbacks=callbacks, max_epochs=4, batch_size=10, lr=0.5, **SIZES)
    history = net.fit(X[:50], y[:50]).history
    last = [epoch["batches"][-1]["nomus"] for epoch in history]
    assert history[:, "nomus"] == last
    best = [value > max(last[:i], default=-1) for i, value in enumerate(last)]
    assert history[:, "event_cp"] == history[:, "nomus_best"] == best


def test_scores_are_those_of_the_monitor_in_the_network(data):
    X, y = data
    monitor = watch(X, y, every=2)
    model = FineTune(make_net(callbacks=[monitor], max_epochs=1), random_state=0).fit(X, y)
    model.unlearn(X, y, forget=np.arange(90) < 40)
    scores = dict(model.estimator_.callbacks_)["ForgettingMonitor"].scores_
    assert scores == {name: model.unlearning_history_[-1, name] for name in NAMES}
    assert not hasattr(monitor, "scores_")


@pytest.mark.parametrize("every", [None, 1])
def test_a_run_ends_in_the_same_weights_with_and_without_it(data, every):
    X, y = data
    forget = np.arange(50) < 10

    class Drawing(Dataset):
        """Rows that come with noise from each global generator."""

        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, i):
            noise = np.random.normal() + random.random() + torch.rand(()).item()  # noqa: NPY002
            return self.rows[i] + np.float32(0.1 * noise), int(y[i])

    ends = {}
    for callbacks in ([], [watch(X, y, every=every)]):
        callbacks = callbacks and [
            ForgettingMonitor(Drawing(X[:40]), None, X[50:], y[50:], every=every)
        ]
        net = make_net(Noisy, callbacks=callbacks, max_epochs=2, **SIZES)
        model = FineTune(net, max_epochs=2, random_state=0).fit(Drawing(X[:50]))
        trained = [p.clone() for p in model.estimator_.module_.parameters()]
        model.unlearn(Drawing(X[:50]), forget=forget)
        ends[len(callbacks)] = trained + list(model.estimator_.module_.parameters())
        assert ("utility" in model.unlearning_history_[0]) == bool(callbacks)
    assert same(ends[0], ends[1])


def test_modes_and_generators_are_put_back(data):
    X, y = data
    monitor = watch(X, y)
    net = make_net(Noisy, callbacks=[monitor], max_epochs=1, **SIZES).fit(X[:50], y[:50])
    net.module_.train()
    net.module_.head.eval()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    monitor.on_train_begin(net)
    monitor.on_epoch_begin(net)
    monitor.on_epoch_end(net)
    assert net.module_.training
    assert net.module_.hidden[0].training
    assert not net.module_.head.training
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_cost_does_not_grow_with_the_rows(data):
    X, y = data

    class Counting(TensorDataset):
        read = 0

        def __getitem__(self, i):
            type(self).read += 1
            return super().__getitem__(i)

    sets = [Counting(torch.randn(n, 4), torch.arange(n) % 2) for n in (5000, 7000)]
    monitor = ForgettingMonitor(sets[0], None, sets[1], None, n_rows=30)
    seen = []
    net = make_net(callbacks=[monitor], max_epochs=3, **SIZES)
    predict = type(net).predict_proba
    net.__class__ = type(
        "Net",
        (type(net),),
        {"predict_proba": lambda self, X: seen.append(len(X)) or predict(self, X)},
    )
    net.callbacks = [monitor]
    net.fit(X, y)
    assert seen == [30] * 6
    assert Counting.read <= 72  # once, however many measurements there are


@pytest.mark.parametrize("as_frame", [False, True])
def test_raw_rows_and_labels_of_the_user_are_encoded_as_the_unlearner_does(data, as_frame):
    X, codes = data
    y = np.array(["yes", "no"])[codes]  # in the reverse order of the codes
    X_given = pd.DataFrame(X.astype(float), columns=list("abcd")) if as_frame else X.astype(float)
    y_given = pd.Series(y) if as_frame else y
    monitor = ForgettingMonitor(X_given[:40], y_given[:40], X_given[50:], y_given[50:])
    model = FineTune(make_net(callbacks=[monitor], max_epochs=5), random_state=0)
    model.fit(X_given[:50], y_given[:50])
    assert model.estimator_.history[-1, "utility"] == model.score(X_given[50:], y[50:])
    model.unlearn(X_given[:50], y_given[:50], forget=np.arange(50) < 10)
    assert model.unlearning_history_[-1, "utility"] == model.score(X_given[50:], y[50:])


def test_classes_of_the_columns_may_be_told(data):
    X, codes = data
    y = codes + 5
    net = make_net(max_epochs=5, module__n_classes=3, module__n_features_in=4)
    model = FineTune(net, random_state=0).fit(X[:50], np.r_[y[:49], 7])
    sets = X[:40], y[:40], X[50:], y[50:]
    # Two of three labels occur: as the first two columns or the last two would make another score.
    with pytest.raises(ValueError, match=r"classes must name the 3 columns .* got \[5, 6\] as the"):
        model.set_params(estimator__callbacks=[ForgettingMonitor(*sets)]).unlearn(
            X[:50], np.r_[y[:49], 7], forget=np.arange(50) < 10
        )
    monitor = ForgettingMonitor(*sets, classes=[5, 6, 7])
    model.set_params(estimator__callbacks=[monitor]).unlearn(
        X[:50], np.r_[y[:49], 7], forget=np.arange(50) < 10
    )
    assert model.unlearning_history_[-1, "utility"] == model.score(X[50:], y[50:])
    # The network's own parameter says as much.
    named = make_net(classes=[6, 5], max_epochs=5, callbacks=[ForgettingMonitor(*sets)])
    model = FineTune(named, random_state=0).fit(X[:50], y[:50])
    assert model.estimator_.history[-1, "utility"] == model.score(X[50:], y[50:])


def test_a_binary_network_decides_by_its_threshold(data):
    X, y = data

    class Single(nn.Module):
        def __init__(self, n_features_in):
            super().__init__()
            self.linear = nn.Linear(n_features_in, 1)

        def forward(self, X):
            return self.linear(X).squeeze(-1)

    net = NeuralNetBinaryClassifier(
        Single, threshold=0.8, train_split=None, verbose=0, callbacks=[watch(X, y)]
    )
    model = FineTune(net, random_state=0).fit(X[:50], y[:50])
    utility = model.estimator_.history[-1, "utility"]
    assert utility == model.score(X[50:], y[50:])
    assert utility != accuracy_score(y[50:], model.predict_proba(X[50:]).argmax(axis=1))


def test_several_labels_per_row(data):
    X, y = data
    Y = np.column_stack([y, X[:, 0] > 0, X[:, 1] > 0]).astype(np.float32)
    net = make_net(criterion=nn.BCEWithLogitsLoss, callbacks=[watch(X, Y)])
    model = FineTune(net, random_state=0).fit(X[:50], Y[:50])
    by_hand = np.mean(model.predict(X[50:]) == Y[50:])
    assert model.estimator_.history[-1, "utility"] == pytest.approx(by_hand)


def test_checkpoint_early_stopping_and_progress_bar_work_with_it(data, tmp_path, capsys):
    X, y = data
    trained = make_net(max_epochs=40, **SIZES).fit(X[:50], y[:50])
    weights = Weights()
    trained.set_params(
        verbose=1,
        callbacks=[
            watch(X, y),
            ("batches", watch(X, y, every=1)),
            ("weights", weights),
            Checkpoint(monitor="nomus_best", dirname=str(tmp_path), load_best=True),
            EarlyStopping(monitor="nomus", lower_is_better=False, patience=3, threshold=0),
            ("bar", NotedBar(postfix_keys=["train_loss", "forgetting_score"])),
        ],
    )
    model = FineTune(FrozenEstimator(trained), lr=0.05, max_epochs=60, random_state=0)
    model.unlearn(X[:50], y[:50], forget=np.arange(50) < 40)
    history = model.unlearning_history_
    nomus = history[:, "nomus"]
    best = int(np.argmax(nomus))
    noted = dict(model.estimator_.callbacks_)["weights"].noted_
    assert len(noted) == best + 4 < 60
    assert len(history) == best + 1  # what Checkpoint has saved with the best epoch
    assert same(noted[best], model.estimator_.module_.parameters())
    assert not same(noted[-1], model.estimator_.module_.parameters())
    assert history[:, "event_cp"] == history[:, "nomus_best"]
    bar = dict(model.estimator_.callbacks_)["bar"]
    assert bar.noted.count("forgetting_score=") == len(noted)
    assert "nomus" in capsys.readouterr().out  # a column of the PrintLog
    assert isinstance(model.estimator_.callbacks_[-1][1], PrintLog)


def test_an_original_that_was_trained_with_it_can_be_watched_by_dlfd_too(data, monkeypatch):
    X, y = data
    monkeypatch.setattr("skunlearn.methods.dlfd._CHECK_EVERY", 3)
    net = make_net(callbacks=[watch(X, y)], max_epochs=3, batch_size=10)
    model = DLFD(net, max_epochs=2, forgetting_threshold=0.2, random_state=0)
    model.fit(X[:50], y[:50], forget=np.arange(50) < 30, X_val=X[50:], y_val=y[50:])
    history = model.unlearning_history_
    assert len(history[:, "nomus"]) == 2
    assert history[-1, "utility"] == model.score(X[50:], y[50:])
    training = [batch for batch in history[0]["batches"] if "train_loss" in batch]
    assert len(training) == 2
    assert all("forgetting_score" in batch for batch in training)


@pytest.mark.parametrize(
    "reader", [Checkpoint(monitor="nomus_best"), EarlyStopping(monitor="forgetting_score")]
)
def test_callbacks_that_read_its_values_must_come_after_it(data, reader):
    X, y = data
    net = make_net(callbacks=[reader, watch(X, y)], **SIZES)
    with pytest.raises(ValueError, match=f"ForgettingMonitor before {type(reader).__name__}"):
        net.fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_rows": 1}, "n_rows must be an integer at least 2; got 1"),
        ({"every": 0}, "every must be an integer at least 1; got 0"),
        ({"classes": [0, 1, 2]}, r"classes must name the 2 columns .* got \[0, 1, 2\]\."),
        ({"classes": [0, 7]}, "y_forget holds labels"),
        ({"y_forget": None}, "y_forget must hold the labels of X_forget; got None"),
        ({"y_unseen": [0, 1]}, "y_unseen a label for each; got 40 rows and 2 labels"),
        ({"X_forget": np.zeros((1, 4)), "y_forget": [0]}, "X_forget must have at least 2 rows"),
    ],
)
def test_bad_parameters_are_named_when_training_begins(data, params, message):
    X, y = data
    monitor = watch(X, y)
    vars(monitor).update(params)
    with pytest.raises(ValueError, match=message):
        make_net(callbacks=[monitor], max_epochs=1, **SIZES).fit(X, y)


def test_a_network_that_diverges_is_recorded_as_nan(data):
    X, y = data
    net = make_net(
        callbacks=[watch(X, y)], lr=1e30, max_epochs=2, optimizer__momentum=0, **SIZES
    ).fit(X, y)
    assert np.isnan(net.history[-1, "nomus"])
    assert not net.history[-1, "nomus_best"]


def test_it_can_be_cloned_and_lets_go_of_what_it_has_read(data):
    X, y = data
    net = make_net(callbacks=[watch(X, y, every=7, n_rows=20)], max_epochs=1, **SIZES)
    copy = clone(net).fit(X, y)
    monitor = dict(copy.callbacks_)["ForgettingMonitor"]
    assert (monitor.every, monitor.n_rows) == (7, 20)
    assert monitor._rows is None
    # A copy of a network at work, in another process for one, can go on.
    monitor._rows = [(X, y)]
    assert not hasattr(pickle.loads(pickle.dumps(monitor)), "_rows")


def test_rows_can_be_let_go_of_after_a_run():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 8)).astype(np.float32), np.arange(90) % 2
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(X[:50], y[:50])
    model.set_params(estimator__callbacks=[watch(X, y)])
    model.unlearn(X[:50], y[:50], forget=np.arange(50) < 40)
    held = pickle.dumps(model)
    assert all(row.tobytes() in held for row in X[:40])
    expected = model.predict_proba(X)
    for net in (model.estimator, model.estimator_):
        net.set_params(callbacks=None).initialize_callbacks()
    held = pickle.dumps(model)
    assert not any(row.tobytes() in held for row in X)
    np.testing.assert_array_equal(pickle.loads(held).predict_proba(X), expected)
