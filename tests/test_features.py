"""Finding layers, reading their activations, adding to their output."""

import pytest
import torch
from torch import nn

from skunlearn.features import adding, constant_parameters, extract, feature_layer, reading

from .networks import ConvNet, make_net


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
    assert torch.equal(extract(net, X, layer), net.module_.stem(X).relu().detach())


def test_a_name_means_the_output_of_that_layer(net):
    layer = feature_layer(net, "stem", X)
    assert torch.equal(extract(net, X, layer), net.module_.stem(X).detach())


@pytest.mark.parametrize("name", ["steam", "", "stem.weight"])
def test_unknown_names_are_answered_with_those_that_exist(net, name):
    with pytest.raises(ValueError, match=r"feature_layer=.*is not a layer of HeadFirst.*'stem'"):
        feature_layer(net, name, X)


def test_reading_collects_each_pass_and_leaves_no_hook(net):
    with reading(net.module_.stem, False) as read:
        net.infer(X)
        net.infer(X + 1)
    assert len(read) == 2
    assert read[0].requires_grad
    net.infer(X)
    assert len(read) == 2


def test_adding_shifts_the_output_and_leaves_no_hook(net):
    before = net.infer(X)
    with adding(net.module_.head, torch.tensor([1.0, -2.0])):
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
    assert extract(net, sequences, (net.module_.lstm, False)).shape == (2, 5, 3)
    plain = net.infer(sequences)
    with adding(net.module_.lstm, torch.ones(2, 5, 3)):
        assert not torch.allclose(net.infer(sequences), plain)


def test_constant_parameters_get_back_their_gradients(net):
    net.module_.unused.weight.requires_grad_(False)
    with constant_parameters(net.module_):
        assert not any(p.requires_grad for p in net.module_.parameters())
    assert {name for name, p in net.module_.named_parameters() if not p.requires_grad} == {
        "unused.weight"
    }


def test_extracting_does_not_move_batch_norm():
    net = make_net(ConvNet, module__n_classes=2).initialize()
    images = torch.rand(4, 1, 5, 5)
    net.evaluation_step((images, None))
    before = net.module_.body[1].running_mean.clone()
    extract(net, images, feature_layer(net, "auto", images))
    assert torch.equal(before, net.module_.body[1].running_mean)
