"""Small networks that the tests share."""

import torch
from skorch import NeuralNetClassifier
from torch import nn


class MLP(nn.Module):
    """A network whose sizes are left to the data."""

    def __init__(self, n_features_in, n_classes, hidden=16):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(n_features_in, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, n_classes)

    def forward(self, X):
        return self.head(self.hidden(X))


class DoubleMLP(MLP):
    """The same in float64, for tests that compare the same rows in other batches.

    A kernel may round the rows of a batch of 16 otherwise than those of a batch of 4. In float64
    that is far below the tolerance with which scikit-learn compares other orders of the rows.
    """

    def __init__(self, n_features_in, n_classes):
        super().__init__(n_features_in, n_classes)
        self.double()


class ConvNet(nn.Module):
    """A convolutional network with batch normalisation."""

    def __init__(self, n_classes, n_channels=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.LazyLinear(n_classes)

    def forward(self, X):
        return self.head(self.body(X))


def make_net(module=MLP, **params):
    """A quiet network that learns small problems in a fraction of a second."""
    defaults = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "lr": 0.1,
        "max_epochs": 10,
        "batch_size": 16,
        "train_split": None,
        "iterator_train__shuffle": True,
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **(defaults | params))
