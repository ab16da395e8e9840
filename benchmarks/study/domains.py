"""The domains of the study: rows, labels, whose rows they are, and a network for each.

A split is a draw of people. Real data is read from a folder of ``.npz`` files that the project does
not ship; ``README.md`` says what they hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from images import decode
from resnet import ResNet
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from skunlearn.datasets import make_identity_images
from skunlearn.model_selection import forget_split


class MissingDataError(Exception):
    """A file of the study's data is not there."""


class Dense(nn.Sequential):
    """Two hidden layers with batch normalisation, for embeddings and single beats."""

    def __init__(self, n_features_in, n_classes, width=128):
        super().__init__(
            nn.Linear(n_features_in, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, n_classes),
        )


class Convolutions(nn.Sequential):
    """Strided convolutions with batch normalisation, for images and spectrograms."""

    def __init__(self, n_classes, n_channels=1, widths=(8, 16, 32)):
        layers, before = [], n_channels
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * before, n_classes)]
        super().__init__(*layers)


class Annealing(Callback):
    """Lets the learning rate of a training fall to 0 on a cosine.

    Unlearning runs have a schedule of their own, which is left alone.
    """

    def on_train_begin(self, net, **kwargs):  # noqa: D102
        self.schedule_ = None
        self.left_alone_ = any(isinstance(callback, LRScheduler) for _, callback in net.callbacks_)

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):  # noqa: D102
        if self.schedule_ is None and not self.left_alone_:
            n_batches = net.max_epochs * -(-len(dataset_train) // net.batch_size)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR
            self.schedule_ = schedule(net.optimizer_, T_max=n_batches)

    def on_batch_end(self, net, training=False, **kwargs):  # noqa: D102
        if training and self.schedule_ is not None:
            self.schedule_.step()

    def on_train_end(self, net, **kwargs):  # noqa: D102
        self.schedule_ = None


def _net(module, lr, max_epochs, batch_size=64, **params):
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[Annealing],
        verbose=0,
        **params,
    )


def _read(folder, name):
    path = Path(folder or ".", f"{name}.npz")
    if not path.exists():
        raise MissingDataError(
            f"{path} is not there. Give the folder of the study's data with --data, or in the "
            "environment variable SKUNLEARN_STUDY_DATA; see benchmarks/study/README.md."
        )
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _speeches(folder):
    arrays = _read(folder, "convention_speeches")
    X = arrays["embedding"].astype(np.float32)
    # Unit vectors of 384 values are all small; this makes them of unit variance on average.
    return X * np.sqrt(X.shape[1], dtype=np.float32), arrays["party"], arrays["speaker"]


def _faces(folder):
    arrays = _read(folder, "cmu_faces")
    X = arrays["images"].astype(np.float32) / 255
    X = X.reshape(len(X), 1, 30, 2, 32, 2).mean(axis=(3, 5))  # half the size, for a quarter of time
    return X, arrays["eyes"], arrays["person"]


def _ecg(folder):
    arrays = _read(folder, "ecg_beats")
    kept = np.isin(arrays["beat_class"], ["N", "S", "V"])
    X = arrays["beats"][kept].astype(np.float32)
    return X, arrays["beat_class"][kept], arrays["patient"][kept]


def _digits(folder):
    arrays = _read(folder, "spoken_digits")
    some = slice(None, None, 2)  # half of each speaker's takes, for half of the time
    X = arrays["log_mel"][some].astype(np.float32)[:, None]
    return (X + 10) / 4, arrays["digit"][some].astype(int), arrays["speaker"][some]


def _cifar(folder):
    arrays = _read(folder, "cifar10_jpeg")
    some = np.random.default_rng(0).permutation(len(arrays["train_label"]))[:6000]
    X = decode(arrays, "train", some).astype(np.float32)
    X = X.reshape(len(X), 3, 16, 2, 16, 2).mean(axis=(3, 5))  # half the size, as the faces
    return X, arrays["train_label"][some].astype(int), np.arange(len(X))


def _identities(folder):
    images = make_identity_images(200, 12, image_size=24, n_channels=1, n_classes=4, random_state=0)
    return images.data, images.target, images.identity


def _smoke(folder):
    images = make_identity_images(24, 6, image_size=12, n_channels=1, n_classes=2, random_state=0)
    return images.data, images.target, images.identity


@dataclass(frozen=True)
class Domain:
    """What the study is run on.

    Attributes
    ----------
    name : str
        What it is called in the tables.
    load : callable
        From the folder of the data to rows, labels and people.
    net : skorch.NeuralNetClassifier
        The network, untrained.
    n_people : int
        How many people there are.
    sizes : dict
        How many of them are forgotten, held out for tuning and held out for reporting; all others
        are retained.
    n_report : int
        Splits that figures are reported on.
    stratify : bool
        Whether people are drawn by label, which is possible where each has one.
    n_trainings : int
        Trainings of each method on a reporting split, whose figures are averaged; more than one
        where splits are few.
    is_long : bool
        Whether training is so long that a tenth of it is a training, too.
    noise : tuple of float
        What `Distill` is tuned over.
    found : float
        How far the AUC of U-LiRA may be above the retrained network's.
    """

    name: str
    load: Callable
    net: NeuralNetClassifier
    n_people: int
    sizes: dict
    n_report: int
    stratify: bool = False
    n_trainings: int = 1
    is_long: bool = False
    noise: tuple = (0.7, 0.8, 0.9, 1.0)
    found: float = 0.03

    @property
    def caps(self):
        """Largest costs allowed; of a long training, more than these is a long training itself."""
        return (0.01, 0.03, 0.05, 0.1, 0.3) if self.is_long else (0.01, 0.03, 0.1, 0.3, 1.0)

    @property
    def attacked_caps(self):
        """Of these, the ones at which what was chosen is attacked row by row."""
        return (0.05, 0.1) if self.is_long else (0.1, 0.3)

    def measured_share(self, figure):
        """People whom a figure is measured on, for each who is retained."""
        measured = self.sizes["forget_size"]
        if figure != "relative_js_distance":  # which is about rows to forget alone
            measured += self.sizes["test_size"]
        return measured / (self.n_people - sum(self.sizes.values()))

    def split(self, seed, folder=None):
        """The rows of one draw of people.

        Returns
        -------
        train : tuple (X, y, forget)
            Rows that the original is trained on, and the mask of those to forget.
        val, test : tuple (X, y)
            Unseen people for tuning, and for reporting.
        """
        X, y, people = self.load(folder)
        split = self.masks(y, people, seed)
        train = X[split.train], y[split.train], split.forget[split.train]
        return train, (X[split.val], y[split.val]), (X[split.test], y[split.test])

    def masks(self, y, people, seed):
        """The `ForgetSplit` of one draw of people, for given labels and people of all rows."""
        stratify = y if self.stratify else None
        return forget_split(people, **self.sizes, stratify=stratify, random_state=seed)

    def longer(self, max_epochs):
        """The same with training long enough that retraining is what one would want to avoid."""
        net = type(self.net)(**{**self.net.get_params(deep=False), "max_epochs": max_epochs})
        return replace(self, name=f"{self.name}-long", net=net, is_long=True)


def _sizes(forget, val, test):
    return {"forget_size": forget, "val_size": val, "test_size": test}


_SHORT = [
    Domain("speeches", _speeches, _net(Dense, 0.02, 8), 180, _sizes(32, 35, 35), 10, stratify=True),
    Domain("faces", _faces, _net(Convolutions, 0.02, 12, 32), 20, _sizes(2, 3, 4), 10),
    Domain("ecg", _ecg, _net(Dense, 0.02, 20), 47, _sizes(4, 9, 5), 10),
    Domain(
        "identities", _identities, _net(Convolutions, 0.02, 20, 32), 200, _sizes(20, 40, 40), 10
    ),
    # Hard: a tenth of the training learns little. Every row is its own person.
    Domain(
        "cifar10-small",
        _cifar,
        _net(ResNet, 0.05, 30, module__widths=(16, 32, 64), module__n_blocks=1),
        6000,
        _sizes(600, 450, 450),
        3,
        noise=(0.3, 0.5, 0.7, 0.8, 0.9, 1.0),
        found=0.05,
    ),
    # Says nothing; it is there to see that everything runs.
    Domain("smoke", _smoke, _net(Convolutions, 0.05, 8, 16), 24, _sizes(4, 4, 4), 2),
    Domain("digits", _digits, _net(Convolutions, 0.02, 10), 6, _sizes(1, 1, 1), 6, n_trainings=2),
]
_LONG = {"speeches": 120, "faces": 120, "ecg": 120}

DOMAINS = {domain.name: domain for domain in _SHORT}
DOMAINS |= {
    longer.name: longer for longer in (DOMAINS[name].longer(n) for name, n in _LONG.items())
}
