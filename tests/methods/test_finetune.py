"""Methods that train on the retained rows, against arithmetic and plain torch."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn

from skunlearn import BadTeacher, CFk, EUk, FineTune, L1Sparse
from tests.networks import make_net

CLASSES = [0, 1]


def prefit(module, *args, **params):
    """A network that counts as trained, with the weights that `module` starts with."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_net(partial(module, *args), **params).initialize()


def two_weights(a, b, **params):
    """Scores (a * x, b * x) of two classes, trained by plain SGD."""
    defaults = {"optimizer__momentum": 0.0, "lr": 1.0, "batch_size": 100}
    net = prefit(nn.Linear, 1, 2, False, **(defaults | params))
    with torch.no_grad():
        net.module_.weight.copy_(torch.tensor([[a], [b]]))
    return net


def column(*values):
    return np.array(values, dtype=np.float32)[:, None]


def weights_of(unlearner):
    return unlearner.estimator_.module_.weight.detach().numpy().ravel()


def state(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


# -- FineTune --------------------------------------------------------------------------------------


def test_fine_tune_step_is_sgd_on_the_retained_rows():
    # At zero weights p = (1/2, 1/2), so the gradient of CE is mean((1/2 - [y == c]) * x).
    X, y = column(1, 3, 8), np.array([0, 1, 1])
    forget = np.array([False, False, True])
    model = FineTune(FrozenEstimator(two_weights(0.0, 0.0)), max_epochs=1, random_state=0)
    model.unlearn(X, y, forget=forget)
    # Retained: ((-1/2) * 1 + (1/2) * 3) / 2 = 1/2 for class 0. With the forget row: 5/3.
    assert weights_of(model) == pytest.approx([-0.5, 0.5])


class CountReads(torch.utils.data.Dataset):
    """Pairs that remember which rows were read."""

    def __init__(self, X, y):
        self.X, self.y, self.reads = X, y, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.reads.append(i)
        return self.X[i], self.y[i]


class ReadsOfTheRun(Callback):
    """Keep what was read between the start and the end of an unlearning run."""

    def __init__(self, data):
        self.data = data

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.data.reads.clear()

    def on_train_end(self, net, X=None, y=None, **kwargs):
        self.data.run = list(self.data.reads)


@pytest.mark.parametrize("unlearner", [FineTune, CFk, EUk, L1Sparse])
def test_run_reads_retained_rows_once_an_epoch_and_no_forget_row(unlearner):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4)).astype(np.float32)
    data = CountReads(X, (X[:, 0] > 0).astype(np.int64))
    forget = np.arange(40) % 5 == 0
    net = prefit(nn.Linear, 4, 2)
    net.callbacks = [ReadsOfTheRun(data)]
    # scikit-learn clones callbacks, and a clone of the data would count for itself.
    data.__class__.__sklearn_clone__ = lambda self: self
    model = unlearner(FrozenEstimator(net), max_epochs=3, random_state=0)
    model.unlearn(data, data.y, forget=forget)
    assert sorted(data.run) == sorted(np.flatnonzero(~forget).tolist() * 3)


# -- L1Sparse --------------------------------------------------------------------------------------


def test_l1_penalty_fades_linearly_to_nothing():
    # Rows of zeros have no cross-entropy gradient, so that only the penalty moves the weights: by
    # lr_t * weight_t towards 0: lr_t = (1, 3/4, 1/4) on the cosine, weight_t = 0.1 * (1, 1/2, 0).
    X, y = column(0, 0, 0, 1), np.array([0, 1, 1, 0])
    forget = np.array([False, False, False, True])
    net = two_weights(1.0, -2.0, batch_size=1)
    model = L1Sparse(FrozenEstimator(net), l1_weight=0.1, max_epochs=1, random_state=0)
    model.unlearn(X, y, forget=forget)
    moved = 0.1 * (1 + 0.75 * 0.5)  # a constant penalty would move them by 0.1 * 2
    assert weights_of(model) == pytest.approx([1 - moved, -2 + moved])


def test_l1_step_is_cross_entropy_plus_the_sum_of_absolute_weights():
    X, y = column(1, 3, 8), np.array([0, 1, 1])
    forget = np.array([False, False, True])
    model = L1Sparse(
        FrozenEstimator(two_weights(1.0, -2.0)), l1_weight=0.1, max_epochs=1, random_state=0
    )
    model.unlearn(X, y, forget=forget)
    w = torch.tensor([[1.0], [-2.0]], requires_grad=True)
    scores = torch.as_tensor(X[:2]) @ w.T
    nn.functional.cross_entropy(scores, torch.as_tensor(y[:2])).backward()
    # A mean in place of the sum would halve the penalty, a squared norm would give 0.2 * w.
    expected = w.detach() - (w.grad + 0.1 * torch.tensor([[1.0], [-1.0]]))
    assert weights_of(model) == pytest.approx(expected.numpy().ravel(), rel=1e-5)


def test_l1_without_weight_is_fine_tuning():
    X, y = column(*np.linspace(-2, 2, 20)), np.arange(20) % 2
    forget = np.arange(20) < 4
    runs = [
        unlearner(FrozenEstimator(two_weights(0.0, 0.0)), random_state=0, **params)
        for unlearner, params in ((FineTune, {}), (L1Sparse, {"l1_weight": 0}))
    ]
    for run in runs:
        run.unlearn(X, y, forget=forget)
    assert weights_of(runs[0]).tolist() == weights_of(runs[1]).tolist()


# -- CFk and EUk -----------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a shortcut, as torchvision's BasicBlock."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = nn.Sequential(
            nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
        )

    def forward(self, X):
        out = self.bn2(self.conv2(self.bn1(self.conv1(X)).relu()))
        return (out + self.downsample(X)).relu()


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4, 4))
        self.layer2 = nn.Sequential(Block(4, 8))
        self.fc = nn.Linear(8, 2)

    def forward(self, X):
        X = self.layer2(self.layer1(self.bn1(self.conv1(X)).relu()))
        return self.fc(X.mean((2, 3)))


class LSTMClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, X):
        return self.head(self.lstm(self.embedding(X))[0][:, -1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        return self.head(self.encoder(self.embedding(X)).mean(1))


RESNET_TAIL = ["fc", "layer2.0.downsample.1", "layer2.0.downsample.0", "layer2.0.bn2"]
LSTM_TAIL = ["head", "lstm", "embedding"]
TRANSFORMER_TAIL = [
    "head",
    "encoder.layers.1.norm2",
    "encoder.layers.1.norm1",
    "encoder.layers.1.linear2",
    "encoder.layers.1.linear1",
    "encoder.layers.1.self_attn.out_proj",
    "encoder.layers.1.self_attn",
    "encoder.layers.0.norm2",
]
NETWORKS = {  # the module, its number of layers, and names of layers from the output on
    "resnet": (ResNet, 2 + 2 * 6 + 1, RESNET_TAIL),
    "lstm": (LSTMClassifier, 3, LSTM_TAIL),
    "transformer": (Transformer, 1 + 2 * 6 + 1, TRANSFORMER_TAIL),
}

last_layers = pytest.mark.parametrize("unlearner", [CFk, EUk])
nested = pytest.mark.parametrize("name", list(NETWORKS))


def rows_of(name):
    rng = np.random.default_rng(0)
    if name == "resnet":
        X = rng.normal(size=(48, 1, 5, 5)).astype(np.float32)
    else:
        X = rng.integers(0, 11, size=(48, 7))
    return X, np.arange(48) % 2, np.arange(48) % 6 == 0


def owned_by(net, layers):
    """Names of the state that the given layers own themselves."""
    modules = dict(net.module_.named_modules())
    return {
        f"{layer}.{name}"
        for layer in layers
        for name, _ in [
            *modules[layer].named_parameters(recurse=False),
            *modules[layer].named_buffers(recurse=False),
        ]
    }


def trained_network(name, **params):
    """A network whose weights and statistics are not those it was born with."""
    X, y, _ = rows_of(name)
    net = prefit(NETWORKS[name][0], optimizer__weight_decay=0.1, **params)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return net.partial_fit(X, y)


@pytest.mark.parametrize(
    ("name", "k"), [(name, k) for name in NETWORKS for k in range(1, len(NETWORKS[name][2]) + 1)]
)
@last_layers
def test_only_the_last_k_layers_change(unlearner, name, k):
    X, y, forget = rows_of(name)
    tail = NETWORKS[name][2]
    net = trained_network(name)
    before = state(net)
    model = unlearner(FrozenEstimator(net), k=k, max_epochs=2, random_state=0)
    after = model.unlearn(X, y, forget=forget).estimator_
    # Weight decay and momentum are on: a frozen weight that has a gradient of 0 would move. Every
    # statistic of batch normalisation outside the tail would move in training mode.
    assert changed(before, state(after)) == owned_by(net, tail[:k])
    assert all(p.requires_grad for p in after.module_.parameters())
    assert not after.optimizer_.state


@nested
@last_layers
def test_k_is_checked_against_the_network(unlearner, name):
    X, y, forget = rows_of(name)
    module, n_layers, _ = NETWORKS[name]
    frozen = FrozenEstimator(prefit(module))
    unlearner(frozen, k=n_layers, max_epochs=1, random_state=0).unlearn(X, y, forget=forget)
    message = f"k must be at most {n_layers}, the number of layers of {module.__name__}"
    with pytest.raises(ValueError, match=message):
        unlearner(frozen, k=n_layers + 1).unlearn(X, y, forget=forget)


@last_layers
@pytest.mark.parametrize(("share", "k"), [(0.01, 1), (0.5, 7), (0.51, 8), (1.0, 14)])
def test_a_share_of_the_layers_is_rounded_up(unlearner, share, k):
    X, y, forget = rows_of("transformer")
    frozen = FrozenEstimator(prefit(Transformer))
    runs = [
        unlearner(frozen, k=value, max_epochs=1, random_state=0).unlearn(X, y, forget=forget)
        for value in (share, k)
    ]
    assert not changed(*(state(run.estimator_) for run in runs))


@last_layers
@pytest.mark.parametrize("k", [0, -1, 0.0, 1.5, True, "2", None])
def test_k_must_be_a_number_or_a_share_of_layers(unlearner, k):
    X, y, forget = rows_of("lstm")
    with pytest.raises(ValueError, match="k must be"):
        unlearner(FrozenEstimator(prefit(LSTMClassifier)), k=k).unlearn(X, y, forget=forget)


def test_l1_weight_must_not_be_negative():
    X, y = column(1, 2, 3), np.array([0, 1, 1])
    with pytest.raises(ValueError, match="l1_weight must be"):
        L1Sparse(FrozenEstimator(two_weights(0, 0)), l1_weight=-1).unlearn(X, y, forget=y == 0)


@last_layers
def test_layers_that_the_user_froze_stay_frozen_and_do_not_count(unlearner):
    X, y, forget = rows_of("lstm")
    net = prefit(LSTMClassifier)
    net.module_.lstm.requires_grad_(False)
    before = state(net)
    model = unlearner(FrozenEstimator(net), k=2, max_epochs=1, random_state=0)
    after = model.unlearn(X, y, forget=forget).estimator_
    assert changed(before, state(after)) == owned_by(net, ["head", "embedding"])
    kept = {name for name, p in after.module_.named_parameters() if not p.requires_grad}
    assert kept == owned_by(net, ["lstm"])
    with pytest.raises(ValueError, match="k must be at most 2"):
        model.set_params(k=3).unlearn(X, y, forget=forget)


def test_cfk_step_is_sgd_on_the_last_layer():
    X, y, forget = rows_of("lstm")
    net = prefit(LSTMClassifier, batch_size=100, lr=0.5)
    model = CFk(FrozenEstimator(net), k=1, max_epochs=1, random_state=0)
    model.unlearn(X, y, forget=forget)
    plain = copy.deepcopy(net.module_)
    scores = plain(torch.as_tensor(X[~forget]))
    nn.functional.cross_entropy(scores, torch.as_tensor(y[~forget])).backward()
    expected = plain.head.weight - 0.5 * plain.head.weight.grad
    assert torch.allclose(model.estimator_.module_.head.weight, expected, atol=1e-6)


def test_schedule_is_stepped_once_a_batch():
    X, y, forget = rows_of("lstm")
    net = prefit(LSTMClassifier, batch_size=10, lr=0.4)
    rates = []

    class Watch(Callback):
        def on_batch_begin(self, net, training=False, **kwargs):
            if training:
                rates.append(net.optimizer_.param_groups[0]["lr"])

    net.callbacks = [Watch]
    CFk(FrozenEstimator(net), max_epochs=1, random_state=0).unlearn(X, y, forget=forget)
    # 40 retained rows in batches of 10; stepped twice, the rate would be back up at the end.
    assert rates == pytest.approx([0.2 * (1 + np.cos(np.pi * t / 4)) for t in range(4)])


# A learning rate that moves nothing shows the weights that training starts from.


def reinitialised(name, k, net=None):
    X, y, forget = rows_of(name)
    net = trained_network(name) if net is None else net
    model = EUk(FrozenEstimator(net), k=k, lr=1e-12, max_epochs=1, random_state=0)
    model.set_params(optimizer=torch.optim.SGD).unlearn(X, y, forget=forget)
    return net.module_, model.estimator_.module_


def test_euk_draws_nested_layers_anew():
    old, new = reinitialised("transformer", 7)
    attention = new.encoder.layers[1].self_attn
    assert not torch.allclose(
        attention.in_proj_weight, old.encoder.layers[1].self_attn.in_proj_weight
    )
    # What MultiheadAttention and LayerNorm are born with; Linear alone would draw the bias.
    for tensor, value in [
        (attention.in_proj_bias, 0),
        (attention.out_proj.bias, 0),
        (new.encoder.layers[1].norm2.weight, 1),
        (new.encoder.layers[1].norm2.bias, 0),
    ]:
        assert torch.allclose(tensor, torch.full_like(tensor, value), atol=1e-6)
    assert attention.in_proj_weight.abs().max() <= (6 / (8 + 24)) ** 0.5
    assert torch.equal(
        new.encoder.layers[0].self_attn.in_proj_weight,
        old.encoder.layers[0].self_attn.in_proj_weight,
    )


def test_euk_draws_a_recurrent_layer_anew():
    old, new = reinitialised("lstm", 2)
    bound = 1 / 5**0.5
    for name, parameter in new.lstm.named_parameters():
        assert parameter.abs().max() <= bound
        assert not torch.allclose(parameter, dict(old.lstm.named_parameters())[name])
    assert torch.equal(new.embedding.weight, old.embedding.weight)


@pytest.mark.parametrize("affine", [True, False])
def test_euk_estimates_statistics_of_new_layers_anew(affine):
    net = prefit(ResNet, batch_size=100)
    if not affine:  # then the module owns no parameter: it belongs to the layers around it
        net.module_.layer2[0].downsample[1] = nn.BatchNorm2d(8, affine=False)
    module = net.module_
    with torch.no_grad():
        module.layer2[0].downsample[1].running_mean.fill_(1e6)
        module.layer1[0].bn1.running_mean.fill_(1e6)
    _, new = reinitialised("resnet", 4, net)
    assert new.layer2[0].downsample[1].num_batches_tracked == 1
    assert new.layer2[0].downsample[1].running_mean.abs().max() < 10
    assert new.layer1[0].bn1.running_mean.unique().tolist() == [1e6]


class Scale(nn.Module):
    """A layer of the user's own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.bias = nn.Parameter(torch.ones(3))

    def forward(self, X):
        return X * self.weight + self.bias


class Forgetful(Scale):
    """Its reset leaves out a parameter."""

    def reset_parameters(self):
        nn.init.ones_(self.weight)


class Replacing(Scale):
    """Its reset makes new parameters."""

    def reset_parameters(self):
        self.weight = nn.Parameter(torch.full((3,), 2.0))
        self.bias = nn.Parameter(torch.zeros(3))


def scaled(layer):
    return nn.Sequential(nn.Linear(1, 3), layer(), nn.Linear(3, 2))


@pytest.mark.parametrize(("layer", "names"), [(Scale, "'weight', 'bias'"), (Forgetful, "'bias'")])
def test_euk_refuses_a_layer_that_it_cannot_reinitialise(layer, names):
    X, y = column(*range(8)), np.arange(8) % 2
    frozen = FrozenEstimator(make_net(scaled(layer)).initialize())
    EUk(frozen, k=1, random_state=0).unlearn(X, y, forget=np.arange(8) < 2)
    message = rf"layer '1' of .* a {layer.__name__}, cannot be .* draws \[{names}\]"
    with pytest.raises(ValueError, match=message):
        EUk(frozen, k=2).unlearn(X, y, forget=np.arange(8) < 2)
    CFk(frozen, k=2, random_state=0).unlearn(X, y, forget=np.arange(8) < 2)


class Averaging(Scale):
    """Its reset draws its weights again, and leaves out what it has averaged."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def reset_parameters(self):
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, X):
        if self.training:
            self.mean.lerp_(X.detach().mean(dim=0), 0.1)
        return super().forward(X - self.mean)


def test_euk_refuses_a_layer_whose_reset_leaves_out_a_buffer():
    X, y = column(*range(8)) / 8, np.arange(8) % 2
    net = make_net(scaled(Averaging)).initialize()
    net.module_[1].mean += 0.5
    frozen = FrozenEstimator(net)
    with pytest.raises(ValueError, match=r"layer '1' of .* draws \['mean'\] again"):
        EUk(frozen, k=2).unlearn(X, y, forget=np.arange(8) < 2)
    EUk(make_net(lambda: scaled(Averaging)), k=2, random_state=0).fit(X, y, forget=np.arange(8) < 2)
    # What an untrained teacher answers does not depend on what it has averaged.
    BadTeacher(frozen, random_state=0).unlearn(X, y, forget=np.arange(8) < 2)


class Keeping(Replacing):
    """It keeps what went through it."""

    def forward(self, X):
        self.kept = {"last": X.detach()}
        return super().forward(X)


def test_euk_starts_a_layer_again_that_keeps_its_last_input():
    X, y = column(*range(8)) / 8, np.arange(8) % 2
    net = make_net(scaled(Keeping)).initialize()
    net.predict(X)
    model = EUk(FrozenEstimator(net), k=2, random_state=0).unlearn(X, y, forget=np.arange(8) < 2)
    assert not model.estimator_.module_[1].kept["last"].any()


def test_euk_trains_parameters_that_a_reset_has_made():
    X, y = column(*range(8)) / 8, np.arange(8) % 2
    net = make_net(scaled(Replacing)).initialize()
    model = EUk(FrozenEstimator(net), k=2, random_state=0).unlearn(X, y, forget=np.arange(8) < 2)
    assert model.estimator_.module_[1].weight.tolist() != [2, 2, 2]


def test_a_norm_without_weights_starts_again_in_an_instance():
    X = np.random.default_rng(0).normal(3, 2, size=(40, 4)).astype(np.float32)
    y, forget = (X[:, 0] > 3).astype(int), np.arange(40) < 8
    module = nn.Sequential(
        nn.Linear(4, 8), nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 2)
    )
    net = make_net(module, max_epochs=5, batch_size=8).fit(X, y)
    assert net.module_[2].num_batches_tracked == 25
    model = EUk(FrozenEstimator(net), k=2, max_epochs=2, random_state=0)
    model.unlearn(X, y, forget=forget)
    assert model.estimator_.module_[2].num_batches_tracked == 2 * 4
