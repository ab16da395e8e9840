"""Rows of different lengths, padded batch by batch or packed."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_sequence

from skunlearn import AMUN, DLFD, UNSIR
from skunlearn._engine.hooks import value_range
from skunlearn.base import Request
from tests.networks import make_net

LENGTHS = np.random.default_rng(0).integers(3, 12, size=64)


def sequences(seed=1):
    rng = np.random.default_rng(seed)
    # Two features of different ranges, of which the second is far from the padding.
    return [
        torch.as_tensor(rng.uniform([-1, 50], [1, 60], size=(n, 2)).astype("float32"))
        for n in LENGTHS
    ]


class Sequences(torch.utils.data.Dataset):
    def __init__(self):
        self.rows = sequences()
        self.targets = np.array([int(row[:, 0].mean() > 0) for row in self.rows])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], int(self.targets[i])


def pad(batch):
    rows, labels = zip(*batch)
    return pad_sequence(list(rows), batch_first=True), torch.as_tensor(labels)


def pad_channels_first(batch):
    X, y = pad(batch)
    return X.transpose(1, 2), y


def pack(batch):
    rows, labels = zip(*batch)
    return pack_sequence(list(rows), enforce_sorted=False), torch.as_tensor(labels)


class Reader(nn.Module):
    def __init__(self, n_classes, transpose=False):
        super().__init__()
        self.transpose = transpose
        self.step = nn.Linear(2, 4)
        self.rnn = nn.GRU(2, 8, batch_first=True)
        self.head = nn.Linear(8, n_classes)

    def forward(self, X):
        if isinstance(X, torch.Tensor):
            X = X.transpose(1, 2) if self.transpose else X
            self.step(X)
        return self.head(self.rnn(X)[1][-1])


class PackedNet(NeuralNetClassifier):
    """Counts rows by their labels: skorch's own cannot count those of packed sequences."""

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        for batch in iterator or ():
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            self.history.record_batch(prefix + "_loss", step["loss"].item())
            self.history.record_batch(prefix + "_batch_size", len(batch[1]))
            self.notify("on_batch_end", batch=batch, training=training, **step)


def reader(collate, **params):
    loaders = {f"iterator_{name}__collate_fn": collate for name in ("train", "valid")}
    net = make_net(Reader, module__n_classes=2, max_epochs=1, **loaders, **params)
    return PackedNet(**net.get_params(deep=False)) if collate is pack else net


FORGET = np.arange(64) < 12


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("collate", [pad, pad_channels_first])
@pytest.mark.parametrize("method", [DLFD, AMUN, UNSIR])
def test_rows_that_are_padded(method, collate):
    if collate is pad_channels_first and method is not DLFD:
        with pytest.raises(ValueError, match=f"{method.__name__} makes rows up.*collate_fn"):
            method(reader(collate, module__transpose=True), random_state=0).fit(
                Sequences(), forget=FORGET
            )
        return
    net = reader(collate, module__transpose=collate is pad_channels_first)
    unlearner = method(net, random_state=0, max_epochs=2).fit(Sequences(), forget=FORGET)
    assert np.isfinite(unlearner.predict_proba(Sequences())).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("collate", [pad, pack])
@pytest.mark.parametrize("clip", ["auto", None, (-3, 70)])
@pytest.mark.parametrize("perturb_at", ["input", "rnn"])
def test_dlfd_perturbs_padded_and_packed_rows(clip, collate, perturb_at):
    if perturb_at == "rnn":
        with pytest.raises(ValueError, match="perturb_at='rnn' must come before"):
            DLFD(reader(collate), perturb_at="rnn", clip=clip, random_state=0).fit(
                Sequences(), forget=FORGET
            )  # the head reads the last state, not the output
        return
    unlearner = DLFD(reader(collate), clip=clip, random_state=0)
    unlearner.fit(Sequences(), forget=FORGET)
    assert unlearner.unlearning_history_[0, "batches", 0, "transport"] > 0


@pytest.mark.parametrize(
    ("collate", "shape"), [(pad, (1, 1, 2)), (pad_channels_first, (1, 2, 1)), (pack, (1, 2))]
)
def test_ranges_are_those_of_each_feature_without_the_padding(collate, shape):
    items = [(row, 0) for row in sequences()]

    def read(some):
        X = collate(some)[0]
        return X if isinstance(X, torch.Tensor) else X.data

    low, high = value_range(read, items)
    steps = torch.cat(sequences())
    torch.testing.assert_close(low, steps.amin(0).reshape(shape))
    torch.testing.assert_close(high, steps.amax(0).reshape(shape))


def test_ranges_of_rows_of_one_length_are_those_of_the_second_axis():
    X = torch.arange(24.0).reshape(2, 3, 4)
    low, high = value_range(lambda some: torch.stack([x for x, _ in some]), [(x, 0) for x in X])
    assert low.flatten().tolist() == [0, 4, 8]
    assert high.flatten().tolist() == [15, 19, 23]
    assert low.shape == (1, 3, 1)


def test_images_of_different_sizes_have_a_range_for_each_channel_and_volumes_one():
    rows = [torch.full((3, n, n), float(n)) for n in (2, 4)]
    items = [(row, 0) for row in rows]

    def read(some):
        size = max(row.shape[1] for row, _ in some)
        return torch.stack(
            [nn.functional.pad(r, (0, size - r.shape[1], 0, size - r.shape[1])) for r, _ in some]
        )

    assert value_range(read, items)[0].shape == (1, 3, 1, 1)
    low, high = value_range(lambda some: read(some).transpose(1, 2), items)
    assert low.shape == (1, 1, 1, 1)
    assert (low.item(), high.item()) == (2, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adversarial_rows_keep_their_lengths():
    data = Sequences()
    net = AMUN(reader(pad, lr=0.01), random_state=0).fit(data).estimator_
    from skunlearn._engine.rows import rows_for

    unlearner = AMUN(FrozenEstimator(net), radius=0.5, perturb_steps=10, random_state=0)
    unlearner.classes_ = np.arange(2)
    rows = rows_for(net, net, data, data.targets)
    request = Request(net, rows.take(~FORGET), rows.take(FORGET), None, None)
    X, y = unlearner._find_adversarial(unlearner._copy(net), request)
    assert not Counter(map(len, X)) - Counter(LENGTHS[:12].tolist())
    assert len({len(x) for x in X}) > 1
    assert [net.predict(pad([(x, 0)])[0])[0] for x in X] == y.tolist()  # without padding
    low, high = torch.cat(data.rows).amin(0), torch.cat(data.rows).amax(0)
    assert all((x >= low - 1e-4).all() and (x <= high + 1e-4).all() for x in X)


@pytest.mark.parametrize("method", [AMUN, UNSIR])
def test_packed_rows_are_refused_by_name(method):
    unlearner = method(reader(pack), random_state=0)
    with pytest.raises(ValueError, match="PackedSequence"):
        unlearner.fit(Sequences(), forget=FORGET)


def test_features_of_each_step_are_refused_by_name():
    unlearner = DLFD(reader(pad), feature_layer="step", random_state=0)
    with pytest.raises(ValueError, match="feature_layer='step' must give all rows as many"):
        unlearner.fit(Sequences(), forget=FORGET)


def test_packed_batches_that_skorch_cannot_count_are_refused_by_name():
    net = NeuralNetClassifier(**reader(pack).get_params(deep=False))
    with pytest.raises(ValueError, match=r"PackedSequence.*pack_padded_sequence"):
        DLFD(net, random_state=0).fit(Sequences(), forget=FORGET)
