"""Peak memory of plain skorch training with 20,000 validation rows that are read lazily."""

from pathlib import Path

import torch
from skorch import NeuralNetClassifier
from skorch.helper import predefined_split
from torch import nn


class Images(torch.utils.data.Dataset):
    """Images of 3 x 64 x 64 pixels that are made when they are asked for."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.full((3, 64, 64), i % 7.0), i % 4


def peak():
    """The most memory that this process has held, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def fit(n_valid):
    """Train on few rows and validate on `n_valid`."""
    NeuralNetClassifier(
        nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 4)),
        criterion=nn.CrossEntropyLoss,
        train_split=predefined_split(Images(n_valid)),
        classes=[0, 1, 2, 3],
        batch_size=256,
        max_epochs=1,
        verbose=0,
    ).fit(Images(256), None)


fit(1_000)  # what is imported, and what torch keeps
before = peak()
fit(20_000)
print(f"{peak() - before} MiB; a batch is {256 * 3 * 64 * 64 * 4 // 2**20} MiB")
