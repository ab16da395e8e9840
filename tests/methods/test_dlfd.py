"""DLFD does what the paper describes, and each part of it can be told from its usual mistake."""

from copy import deepcopy

import numpy as np
import ot
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics.pairwise import cosine_distances
from torch import nn

from skunlearn import DLFD, FineTune
from skunlearn._engine.hooks import feature_layer, forward_features
from skunlearn._engine.rows import Rows
from skunlearn.base import Request
from skunlearn.methods import dlfd as module
from skunlearn.methods.dlfd import _Perturbation
from skunlearn.metrics import forgetting_score, sample_log_loss
from skunlearn.transport import transport_distance
from tests.networks import ConvNet, make_net


@pytest.fixture(scope="module")
def images():
    """Images of two shapes, the rows to forget brighter than those to retain."""
    rng = np.random.default_rng(0)
    X = rng.random((160, 1, 6, 6)).astype(np.float32) * 0.5
    y = np.arange(160) % 2
    X[y == 1, :, :3] += 0.3
    forget = np.arange(160) >= 128
    X[forget, :, :, 4:] += 0.2
    y[::6] = 1 - y[::6]  # wrong labels keep the losses away from zero
    return X, y, forget


@pytest.fixture(scope="module")
def trained(images):
    X, y, _ = images
    return FineTune(make_net(ConvNet, max_epochs=4), random_state=0).fit(X, y).estimator_


@pytest.fixture
def request_(images, trained):
    X, y, forget = images
    rows = Rows(trained.get_dataset(X), torch.as_tensor(y))
    return Request(trained, rows.take(~forget), rows.take(forget), None, None)


def perturbation(request, **params):
    params = {"perturb_steps": 3, "step_size": 0.02} | params
    unlearner = DLFD(FrozenEstimator(request.original), **params)
    unlearner.classes_ = np.arange(2)
    net = unlearner._copy(request.original)
    net.history.new_epoch()
    net.history.new_batch()
    return _Perturbation(unlearner, net, request), net


def distance_to_forget(net, X, X_forget):
    layer = feature_layer(net, "auto", X)
    return transport_distance(
        forward_features(net, X, layer), forward_features(net, X_forget, layer), method="exact"
    )


def test_the_transport_term_has_a_gradient(request_):
    found, _ = perturbation(request_)
    X, y = request_.retain.batch(range(16))
    X_forget, _ = request_.forget.batch(range(16))
    # Without the classification term, only the gradient of transport can move a row.
    delta = found.find(X, y, X_forget, ce_weight=0.0)
    assert (delta != 0).float().mean() > 0.5
    # The usual mistake computes the term from the unperturbed batch, and nothing moves.
    found.params.transport = lambda u, v: transport_distance(u.detach(), v) + 0 * u.sum()
    assert (found.find(X, y, X_forget, ce_weight=0.0) == 0).all()


@pytest.mark.parametrize("transport", ["sinkhorn", "exact", "sliced"])
def test_steps_move_away_from_the_forget_features(request_, transport):
    X, y = request_.retain.batch(range(32))
    X_forget, _ = request_.forget.batch(range(32))
    reached = [distance_to_forget(perturbation(request_)[1], X, X_forget).item()]
    for steps in (1, 4):
        found, net = perturbation(request_, perturb_steps=steps, transport=transport)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            delta = found.find(X, y, X_forget, ce_weight=0.0)
        reached.append(distance_to_forget(net, X + delta, X_forget).item())
    assert reached[0] < reached[1] < reached[2]


def test_a_negative_weight_moves_towards_the_forget_features(request_):
    X, y = request_.retain.batch(range(32))
    X_forget, _ = request_.forget.batch(range(32))
    found, net = perturbation(request_, ot_weight=-1.0)
    delta = found.find(X, y, X_forget, ce_weight=0.0)
    assert distance_to_forget(net, X + delta, X_forget) < distance_to_forget(net, X, X_forget)


def test_the_classification_weight_holds_back_the_loss_of_the_retained_labels(request_):
    X, y = request_.retain.batch(range(64))
    X_forget, _ = request_.forget.batch(range(32))
    losses, distances = [], []
    for ce_weight in (0.0, 0.3, 10.0):
        found, net = perturbation(request_, perturb_steps=5)
        delta = found.find(X, y, X_forget, ce_weight)
        with torch.no_grad():
            losses.append(net.get_loss(net.infer(X + delta), y).item())
        distances.append(distance_to_forget(net, X + delta, X_forget).item())
    assert losses[0] > losses[1] > losses[2]
    assert distances[0] > distances[2]


def test_one_step_is_the_sign_of_the_gradient_by_hand(request_):
    X, y = request_.retain.batch(range(16))
    X_forget, _ = request_.forget.batch(range(8))
    found, net = perturbation(request_, perturb_steps=1, transport="exact", clip=None, reg=0.1)
    delta = found.find(X, y, X_forget, ce_weight=0.5)
    net.module_.eval()
    leaf = X.clone().requires_grad_()
    features = net.module_.body(leaf)
    away = transport_distance(features, net.module_.body(X_forget).detach(), method="exact")
    loss = nn.functional.cross_entropy(net.module_.head(features), y)
    (away - 0.5 * loss).backward()
    span = found.high - found.low
    assert torch.allclose(delta, 0.02 * span * leaf.grad.sign())


def test_step_size_and_clip_are_in_units_of_the_data(images, trained):
    X, y, forget = images
    data = (X * 200 - 50).astype(np.float32)  # nowhere near [0, 1]
    rows = Rows(trained.get_dataset(data), torch.as_tensor(y))
    request = Request(trained, rows.take(~forget), rows.take(forget), None, None)
    found, _ = perturbation(request, perturb_steps=4, step_size=0.05)
    X_batch, y_batch = request.retain.batch(range(32))
    far = X_batch + found.find(X_batch, y_batch, request.forget.batch(range(16))[0], 0.0)
    span = found.high - found.low
    assert (X_batch - far).abs().max() > 1
    assert (X_batch - far).abs().max() <= 4 * 0.05 * span.max() * (1 + 1e-5)
    assert far.min() >= min(found.low.min(), X_batch.min()) - 1e-3
    assert far.max() <= max(found.high.max(), X_batch.max()) + 1e-3
    assert found.low.min() < -40


def test_parameters_have_no_gradient_while_rows_are_perturbed(request_):
    found, net = perturbation(request_)
    flags = []
    handle = net.module_.head.register_forward_hook(
        lambda module, args, output: flags.append(module.weight.requires_grad)
    )
    X, y = request_.retain.batch(range(8))
    found.find(X, y, request_.forget.batch(range(8))[0], 0.5)
    handle.remove()
    assert len(flags) == 1 + 3  # forget features once, and once a step
    assert not any(flags[1:])
    assert all(p.requires_grad and p.grad is None for p in net.module_.parameters())


def test_perturbing_leaves_batch_norm_statistics_alone(request_):
    found, net = perturbation(request_)
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    X, y = request_.retain.batch(range(8))
    found.find(X, y, request_.forget.batch(range(8))[0], 0.5)
    assert all(torch.equal(v, net.module_.state_dict()[k]) for k, v in before.items())


def test_classification_weight_runs_from_start_to_end(images, trained, monkeypatch):
    X, y, forget = images
    used = []
    find = _Perturbation.find

    def spy(self, X, y, X_forget, ce_weight):
        used.append(ce_weight)
        return find(self, X, y, X_forget, ce_weight)

    monkeypatch.setattr(_Perturbation, "find", spy)
    DLFD(
        FrozenEstimator(trained),
        max_epochs=2,
        batch_size=32,
        ce_weight_start=0.2,
        ce_weight_end=0.9,
        random_state=0,
    ).unlearn(X, y, forget=forget)
    assert np.allclose(used, np.linspace(0.2, 0.9, 2 * 128 // 32))


def test_forget_features_of_a_batch_are_computed_once(images, trained, monkeypatch):
    X, y, forget = images
    calls = []
    monkeypatch.setattr(
        module, "forward_features", lambda *args: calls.append(args) or forward_features(*args)
    )
    params = {"max_epochs": 1, "batch_size": 32, "perturb_steps": 5, "random_state": 0}
    DLFD(FrozenEstimator(trained), **params).unlearn(X, y, forget=forget)
    assert len(calls) == 2 + 128 // 32  # two before the run, to see whether they are apart


def test_below_the_threshold_a_step_is_a_plain_one(images, trained):
    X, y, forget = images
    params = {"max_epochs": 1, "batch_size": 128, "bn_batches": 0, "lr": 0.1, "random_state": 0}
    held_out = {"X_val": X[:100], "y_val": y[:100]}
    runs = {
        threshold: DLFD(FrozenEstimator(trained), forgetting_threshold=threshold, **params).unlearn(
            X, y, forget=forget, **held_out
        )
        for threshold in (0.0, 0.5)
    }
    by_hand = deepcopy(trained.module_).train()
    nn.functional.cross_entropy(
        by_hand(torch.as_tensor(X[~forget])), torch.as_tensor(y[~forget])
    ).backward()
    expected = {name: p - 0.1 * p.grad for name, p in by_hand.named_parameters()}
    reached = {t: dict(run.estimator_.module_.named_parameters()) for t, run in runs.items()}
    assert all(torch.allclose(p, reached[0.5][name], atol=1e-5) for name, p in expected.items())
    assert not all(torch.allclose(p, reached[0.0][name], atol=1e-4) for name, p in expected.items())
    assert "transport" not in runs[0.5].unlearning_history_[0]["batches"][0]
    assert "transport" in runs[0.0].unlearning_history_[0]["batches"][0]


def test_the_score_is_checked_every_few_batches_on_few_rows(images, trained, monkeypatch):
    X, y, forget = images
    monkeypatch.setattr(module, "_CHECK_EVERY", 4)
    monkeypatch.setattr(module, "_CHECK_ROWS", 20)
    sizes = []
    trained_predict = type(trained).predict_proba

    class Counting(type(trained)):
        def predict_proba(self, X):
            sizes.append(len(X))
            return trained_predict(self, X)

    original = trained.__class__
    trained.__class__ = Counting
    try:
        DLFD(
            FrozenEstimator(trained),
            max_epochs=1,
            batch_size=16,
            forgetting_threshold=0.01,
            random_state=0,
        ).unlearn(X, y, forget=forget, X_val=X[:50], y_val=y[:50])
    finally:
        trained.__class__ = original
    # Twice, on both kinds; the network's own validation; before and after it all, a few rows.
    assert sizes == [128, 32] + [20, 20] * 2 + [50] + [128, 32]


def test_the_score_is_the_forgetting_score_of_forget_and_held_out_rows(images):
    X, y, forget = images
    rng = np.random.default_rng(1)
    X_val, y_val = rng.random((40, 1, 6, 6)).astype(np.float32), rng.integers(2, size=40)
    # Trained on the forget rows alone: they are told from held-out rows, not from retained ones.
    net = make_net(ConvNet, max_epochs=30, lr=0.1)
    trained = FineTune(net, random_state=0).fit(X[forget], y[forget]).estimator_
    model = DLFD(FrozenEstimator(trained), max_epochs=1, batch_size=64, random_state=0)
    model.unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)
    sides = (X[forget], y[forget]), (X_val, y_val)
    losses = [sample_log_loss(b, trained.predict_proba(a), labels=[0, 1]) for a, b in sides]
    expected = forgetting_score(*losses, random_state=0)
    assert expected > 0.2
    history = model.unlearning_history_
    # A guess or two may turn over where the losses are rounded otherwise.
    assert history[0, "batches", 0, "forgetting_score"] == pytest.approx(expected, abs=0.04)
    assert history[0, "forgetting_score"] == history[0, "batches", 1, "forgetting_score"]


def test_batch_norm_statistics_are_those_of_clean_rows(images, trained):
    X, y, forget = images
    params = {"batch_size": 128, "random_state": 0, "step_size": 0.5, "perturb_steps": 2}
    kept = DLFD(FrozenEstimator(trained), bn_batches=0, **params).unlearn(X, y, forget=forget)
    unlearned = DLFD(FrozenEstimator(trained), bn_batches=1, **params).unlearn(X, y, forget=forget)
    conv, norm = unlearned.estimator_.module_.body[:2]
    with torch.no_grad():
        clean = conv(torch.as_tensor(X[~forget])).mean(dim=(0, 2, 3))
    assert torch.allclose(norm.running_mean, clean, atol=1e-5)
    assert not torch.allclose(kept.estimator_.module_.body[1].running_mean, clean, atol=1e-3)
    assert norm.momentum == 0.1


class Tokens(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, n_classes)

    def forward(self, X):
        return self.head(self.embedding(X).mean(dim=1).tanh())


def test_token_ids_are_perturbed_at_a_layer():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 10, size=(120, 5))
    y = (X[:, 0] > 4).astype(int)
    forget = np.arange(120) < 20
    model = DLFD(make_net(Tokens), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"perturb_at='input'.*torch.int64.*'embedding', 'head'"):
        model.unlearn(X, y, forget=forget)
    model.set_params(perturb_at="embedding").unlearn(X, y, forget=forget)
    assert model.unlearning_history_[0, "batches", 0, "transport"] > 0
    model.set_params(perturb_at="embedding", feature_layer="embedding")
    model.unlearn(X, y, forget=forget)
    assert model.predict(X).shape == (120,)


class Convolutional(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, n_classes, 3)

    def forward(self, X):
        return self.conv(X).mean(dim=(2, 3))


def test_no_linear_layer(images):
    X, y, forget = images
    model = DLFD(make_net(Convolutional, max_epochs=1), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"feature_layer='auto'.*no torch.nn.Linear.*'conv'"):
        model.unlearn(X, y, forget=forget)
    model.set_params(feature_layer="conv").unlearn(X, y, forget=forget)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"feature_layer": "body.7"}, r"feature_layer='body.7' is not a layer.*'body.0'"),
        ({"perturb_at": "stem"}, r"perturb_at='stem' is not a layer.*'body.0'"),
        ({"transport": "emd"}, r"transport must be one of .*'sinkhorn'.*'emd'"),
        ({"clip": (1, 0)}, "clip must be 'auto', None or a pair"),
        ({"clip": "data"}, "clip must be 'auto', None or a pair"),
        ({"perturb_steps": -1}, "perturb_steps must be an integer at least 0"),
        ({"perturb_steps": 1.5}, "perturb_steps must be an integer"),
        ({"step_size": 0}, "step_size must be a number greater than 0"),
        ({"reg": 0}, "reg must be a number greater than 0"),
        ({"ce_weight_end": -1}, "ce_weight_end must be a number at least 0"),
        ({"clean_weight": np.nan}, "clean_weight must be a number"),
        ({"forgetting_threshold": 0.7}, "at most 0.5"),
        ({"bn_batches": None}, "bn_batches must be an integer"),
    ],
)
def test_bad_hyperparameters(images, trained, params, message):
    X, y, forget = images
    with pytest.raises(ValueError, match=message):
        DLFD(FrozenEstimator(trained), **params).unlearn(X, y, forget=forget)


def test_features_that_cannot_be_told_apart_warn(images, trained):
    X, y, forget = images
    X_twice = np.concatenate([X[forget], X[forget]])
    y_twice = np.concatenate([y[forget], y[forget]])
    copies = np.arange(64) < 32
    model = DLFD(FrozenEstimator(trained), random_state=0)
    with pytest.warns(UserWarning, match="32 forget and 32 retained rows is"):
        model.unlearn(X_twice, y_twice, forget=copies)


@pytest.mark.filterwarnings("ignore:DLFD has damaged")
def test_collapsed_features_warn(images):
    X, y, forget = images

    class Collapsed(ConvNet):
        def forward(self, X):
            return self.head(torch.ones_like(self.body(X)) + 0 * self.body(X))

    net = make_net(Collapsed, max_epochs=1)
    model = DLFD(net, max_epochs=1, lr=0.5, random_state=0).fit(X, y)
    with pytest.warns(UserWarning, match="cannot be told apart"):
        model.unlearn(X, y, forget=forget)


def test_memory_of_a_run_does_not_keep_rows(images, trained):
    X, y, forget = images
    model = DLFD(FrozenEstimator(trained), random_state=0)
    model.unlearn(X, y, forget=forget, X_val=X[:50], y_val=y[:50])
    names = [name for name, _ in model.estimator_.callbacks_]
    assert "ForgettingMonitor" not in names
    assert not any(
        hasattr(m, "_forward_hooks") and m._forward_hooks
        for m in model.estimator_.module_.modules()
    )


def test_without_steps_a_batch_goes_through_once_and_counts_as_both_terms(images, trained):
    X, y, forget = images
    net = make_net(ConvNet, max_epochs=4, iterator_train__shuffle=False)
    trained = FineTune(net, random_state=0).fit(X, y).estimator_
    frozen = FrozenEstimator(trained)
    plain = {"max_epochs": 1, "bn_batches": 0, "optimizer": torch.optim.SGD, "random_state": 0}
    n_seen, infer = [], type(trained).infer

    def counting(self, x, **params):
        n_seen.append(len(x))
        return infer(self, x, **params)

    unlearner = DLFD(frozen, perturb_steps=0, clean_weight=1.0, lr=0.01, **plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trained), "infer", counting)
        unlearner.unlearn(X, y, forget=forget)
    n_before_and_after = sum(n_seen) - 128
    assert (
        n_before_and_after - 2 * 128 < 128
    )  # to find the layer, and what has changed at what cost
    twice = FineTune(frozen, max_epochs=1, lr=0.02, optimizer=torch.optim.SGD, random_state=0)
    twice.unlearn(X, y, forget=forget)
    pairs = zip(unlearner.estimator_.module_.parameters(), twice.estimator_.module_.parameters())
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


class Recording(ConvNet):
    """Keeps the rows of the passes in training mode."""

    seen: list = []  # noqa: RUF012

    def forward(self, X):
        if self.training:
            self.seen.append(X.detach().clone())
        return super().forward(X)


@pytest.fixture(scope="module")
def recording(images):
    X, y, _ = images
    net = make_net(Recording, max_epochs=4, iterator_train__shuffle=False)
    return FineTune(net, random_state=0).fit(X, y).estimator_


def first_step(net, X, y, forget, **params):
    """The first two batches of a run in one batch an epoch, and the unlearner."""
    params = {"max_epochs": 1, "batch_size": 200, "bn_batches": 0, "lr": 0.1} | params
    model = DLFD(FrozenEstimator(net), random_state=0, **params)
    Recording.seen.clear()
    model.unlearn(X, y, forget=forget)
    return *Recording.seen[:2], model


@pytest.mark.parametrize("clean_weight", [0.5, 3.0])
def test_a_step_is_on_the_perturbed_and_the_clean_rows(images, recording, clean_weight):
    X, y, forget = images
    far, clean, model = first_step(
        recording, X, y, forget, clean_weight=clean_weight, step_size=0.3
    )
    rows, labels = torch.as_tensor(X[~forget]), torch.as_tensor(y[~forget])
    assert torch.equal(clean, rows)
    assert (far - rows).abs().mean() > 0.1
    hand, ce = deepcopy(recording.module_).train(), nn.functional.cross_entropy
    # Momentum and weight decay are those of the network: none matters to a first step.
    (ce(hand(far), labels) + clean_weight * ce(hand(rows), labels)).backward()
    for (name, p), q in zip(hand.named_parameters(), model.estimator_.module_.parameters()):
        assert torch.allclose(p - 0.1 * p.grad, q, atol=1e-5), name


def test_rows_are_pushed_away_from_the_forget_rows(images, trained):
    X, y, forget = images
    seen = []

    def distance(u, v):
        seen.append(v.flatten(1))
        return transport_distance(u, v)

    # One batch, so that all features are those of the original network.
    model = DLFD(FrozenEstimator(trained), max_epochs=1, batch_size=200, transport=distance)
    model.unlearn(X, y, forget=forget)
    layer = feature_layer(trained, "auto", torch.as_tensor(X))
    of_forget, of_retain = (
        forward_features(trained, torch.as_tensor(X[mask]), layer).flatten(1)
        for mask in (forget, ~forget)
    )
    (features,) = seen

    def nearest(a, b):
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").amin(1)

    assert nearest(of_forget, features).max() < 1e-3  # all of them, and no others
    assert nearest(features, of_forget).max() < 1e-3
    assert nearest(of_retain, features).min() > 5e-2


def test_steps_and_limits_are_of_each_column():
    rng = np.random.default_rng(0)
    X = (rng.random((80, 2)) * [1.0, 1000.0]).astype(np.float32)
    y, forget = np.arange(80) % 2, np.arange(80) < 20

    class Plain(Recording):
        def __init__(self):
            nn.Module.__init__(self)
            self.hidden = nn.Linear(2, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, X):
            if self.training:
                self.seen.append(X.detach().clone())
            return self.head(self.hidden(X / torch.tensor([1.0, 1000.0])).tanh())

    net = make_net(Plain, iterator_train__shuffle=False)
    net = FineTune(net, random_state=0).fit(X, y).estimator_
    spans = np.ptp(X[~forget], axis=0)
    far, _, _ = first_step(net, X, y, forget, step_size=0.05, clip=None)
    steps = (far.numpy() - X[~forget]) / spans
    assert np.allclose(np.abs(steps), 0.05, atol=1e-4)
    far, _, _ = first_step(net, X, y, forget, step_size=0.05, perturb_steps=30)
    low, high = X[~forget].min(0), X[~forget].max(0)
    assert np.allclose(far.amin(0), low, rtol=1e-4, atol=1e-4 * spans)
    assert np.allclose(far.amax(0), high, rtol=1e-4, atol=1e-4 * spans)


def test_limits_of_the_user(images, recording):
    X, y, forget = images
    rows = torch.as_tensor(X[~forget])
    far, _, _ = first_step(recording, X, y, forget, clip=(-1.0, 3.0), step_size=0.1)
    moved = (far - rows).abs()
    assert torch.allclose(moved[moved > 1e-4], torch.tensor(0.4), atol=1e-5)  # of a span of 4
    far, _, _ = first_step(
        recording, X, y, forget, clip=(-1.0, 3.0), step_size=0.1, perturb_steps=20
    )
    assert (float(far.min()), float(far.max())) == pytest.approx((-1.0, 3.0), abs=1e-5)


def test_rows_beyond_the_limits_are_not_pulled_in(images, recording):
    X, y, forget = images
    rows = torch.as_tensor(X[~forget])
    far, _, _ = first_step(recording, X, y, forget, clip=(0.2, 0.3), step_size=1e-3)
    assert ((rows < 0.1) | (rows > 0.4)).any()
    assert (far - rows).abs().max() <= 1e-3 * 0.1 + 1e-6


@pytest.mark.parametrize("reg", [0.02, 0.7])
def test_reg_is_that_of_the_transport(images, trained, reg):
    X, y, forget = images
    model = DLFD(FrozenEstimator(trained), max_epochs=1, batch_size=200, reg=reg, random_state=0)
    model.unlearn(X, y, forget=forget)
    layer = feature_layer(trained, "auto", torch.as_tensor(X))
    u, v = (
        forward_features(trained, torch.as_tensor(X[mask]), layer).flatten(1).numpy().astype(float)
        for mask in (~forget, forget)
    )
    right = ot.solve(cosine_distances(u, v), reg=reg, tol=1e-12, max_iter=100000).value_linear
    found = model.unlearning_history_[0, "batches", 0, "transport"]
    assert found == pytest.approx(right, rel=0.02)


def test_as_many_clean_batches_as_asked_for(images, trained):
    X, y, forget = images
    model = DLFD(
        FrozenEstimator(trained), max_epochs=1, batch_size=16, bn_batches=3, random_state=0
    )
    norm = model.unlearn(X, y, forget=forget).estimator_.module_.body[1]
    assert norm.num_batches_tracked == 3


class Drawn(torch.utils.data.Dataset):
    """Rows that are drawn whenever they are read, as augmented ones are."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return torch.as_tensor(self.X[i]) + 0.01 * torch.rand(1), int(self.y[i])


def test_to_watch_does_not_change_what_is_drawn(images, trained):
    X, y, forget = images
    data, params = Drawn(X, y), {"max_epochs": 1, "batch_size": 64, "bn_batches": 0}
    held_out = {"X_val": Drawn(X[:60], y[:60]), "y_val": y[:60]}
    runs = [
        DLFD(FrozenEstimator(trained), forgetting_threshold=at, random_state=0, **params).unlearn(
            data, y, forget=forget, **held_out
        )
        for at in (0.0, 1e-9)  # never measured; measured, and never below
    ]
    assert "forgetting_score" in runs[1].unlearning_history_[0]
    assert "forgetting_score" not in runs[0].unlearning_history_[0]
    first, second = (run.estimator_.module_.parameters() for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
