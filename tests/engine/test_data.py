"""Rows are read lazily, in the network's dtype, with the labels of their own view."""

import numpy as np
import pytest
import torch
from skorch.dataset import Dataset
from torch import nn

from skunlearn._engine.rows import Rows, input_dtype
from skunlearn._engine.validation import encode_labels
from tests.networks import MLP, make_net


class Counting(torch.utils.data.Dataset):
    def __init__(self, n):
        self.n = n
        self.read = []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        return np.full(2, i, dtype=np.float64), -1


def test_rows_are_read_only_when_asked_for():
    data = Counting(10)
    rows = Rows(data, torch.arange(10)).take(np.arange(10) % 2 == 1).take([0, 3])
    assert data.read == []
    assert rows[1] == (pytest.approx([7, 7]), 7)
    assert data.read == [7]
    assert rows.batch()[1].tolist() == [1, 7]


def test_relabelled_rows_keep_their_inputs():
    rows = Rows(Counting(4), torch.arange(4)).take([2, 3]).relabel(torch.tensor([8, 9]))
    X, y = rows.batch()
    assert X[:, 0].tolist() == [2, 3]
    assert y.tolist() == [8, 9]


def test_arrays_are_cast_to_the_networks_dtype():
    net = make_net(MLP, module__n_features_in=2, module__n_classes=2).initialize()
    for dtype in (np.float16, np.float64, np.int64, np.uint8):
        assert input_dtype(net, Dataset(np.ones((3, 2), dtype))) is torch.float32
    net.module_.double()
    assert input_dtype(net, Dataset(np.ones((3, 2)))) is torch.float64
    assert input_dtype(net, Counting(3)) is None


def test_token_ids_stay_integers():
    net = make_net(lambda: nn.EmbeddingBag(5, 2)).initialize()
    assert input_dtype(net, Dataset(np.ones((3, 2), dtype=np.int64))) is None


def test_read_only_rows_do_not_warn():
    X = np.ones((3, 2))
    X.flags.writeable = False
    rows = Rows(Dataset(X), torch.zeros(3), dtype=torch.float32)
    assert rows[0][0].dtype is torch.float32


def test_labels_are_positions_in_the_classes_in_any_order():
    classes = np.array(["dog", "ant", "cow"])
    assert encode_labels(np.array(["cow", "dog", "ant"]), classes).tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match=r"y_val holds labels .*\['bee', 'zebu'\]"):
        encode_labels(np.array(["bee", "ant", "zebu"]), classes, "y_val")
