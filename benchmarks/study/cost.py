"""Time unlearning against the number of rows and of features, and transport solvers.

`python benchmarks/study/cost.py` writes two tables, medians over repeats on one thread: seconds of
one epoch of DLFD, one of fine-tuning and of retraining, by rows and by features; milliseconds of
one forward and backward pass of each transport solver, by batch and by features. Seconds are this
machine's; what carries over is how they grow and how they compare.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from tables import Table
from torch import nn

from skunlearn import DLFD, FineTune, Retrain
from skunlearn.transport import METHODS, transport_distance

RUNS = ("part", "method", "rows", "features", "epochs", "seconds")
SOLVERS = ("method", "batch", "features", "reg", "milliseconds")
EPOCHS = 30  # of the original's training, and so of retraining


class Network(nn.Sequential):
    """One hidden layer, whose width is the number of features."""

    def __init__(self, n_features_in, n_classes, width=128):
        super().__init__(nn.Linear(n_features_in, width), nn.ReLU(), nn.Linear(width, n_classes))


def unlearning(part, n_rows, width, repeats):
    """Rows of a table: how long each method takes on so many rows with so many features."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 64)).astype(np.float32)
    y = X[:, :4].argmax(axis=1)
    forget = np.arange(n_rows) % 10 == 0
    held_out = {"X_val": X[-200:], "y_val": y[-200:]}  # for the dynamic stop
    net = NeuralNetClassifier(
        Network,
        module__width=width,
        criterion=nn.CrossEntropyLoss,
        lr=0.05,
        batch_size=64,
        max_epochs=1,  # the time of an epoch does not depend on how well the network is trained
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    original = FineTune(net, random_state=0).fit(X, y).estimator_
    one = {"max_epochs": 1, "random_state": 0}
    methods = {
        # The forgetting score is measured, as it is by default, but never ends the pushing.
        "DLFD": (DLFD(FrozenEstimator(original), **one, forgetting_threshold=1e-9), 1),
        "FineTune": (FineTune(FrozenEstimator(original), **one), 1),
        "Retrain": (Retrain(net, max_epochs=EPOCHS, random_state=0).fit(X, y), EPOCHS),
    }
    took = {name: [] for name in methods}
    for _ in range(repeats):  # in turn, so that a slow moment of the machine meets all of them
        for name, (unlearner, _) in methods.items():
            start = time.perf_counter()
            unlearner.unlearn(X, y, forget=forget, **held_out)
            took[name].append(time.perf_counter() - start)
    return [
        dict(zip(RUNS, (part, name, n_rows, width, methods[name][1], float(np.median(seconds)))))
        for name, seconds in took.items()
    ]


def features(n, d, rng, centres):
    """Rectified features of ten overlapping classes, as a network's last layer gives."""
    rows = centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, d))
    return torch.as_tensor(rows, dtype=torch.float32).relu()


def solvers(n, d, reg, repeats):
    """Rows of a table: how long each transport solver takes on a batch of so many features."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, d))
    u, v = features(n, d, rng, centres).requires_grad_(), features(n, d, rng, centres)
    took = {method: [] for method in METHODS}
    for _ in range(repeats + 1):  # the first one warms up
        for method, seconds in took.items():
            u.grad = None
            start = time.perf_counter()
            transport_distance(u, v, method=method, reg=reg).backward()
            seconds.append(time.perf_counter() - start)
    return [
        dict(zip(SOLVERS, (method, n, d, reg, 1e3 * float(np.median(seconds[1:])))))
        for method, seconds in took.items()
    ]


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=[500, 1000, 2000, 4000, 8000, 16000])
    add("--features", type=int, nargs="+", default=[16, 64, 256, 512, 1024, 2048])
    add("--batch", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    add("--reg", type=float, default=0.05)
    add("--repeats", type=int, default=5)
    add("--results", type=Path, default=Path(__file__).parents[1] / "results")
    args = parser.parse_args(args)
    torch.set_num_threads(1)

    runs = [row for n in args.rows for row in unlearning("rows", n, 128, args.repeats)]
    runs += [row for d in args.features for row in unlearning("features", 2000, d, args.repeats)]
    Table(args.results / "cost-unlearning.csv", RUNS).replace(runs)
    found = [
        row
        for n in args.batch
        for d in args.features
        for row in solvers(n, d, args.reg, 2 * args.repeats)
    ]
    Table(args.results / "cost-solvers.csv", SOLVERS).replace(found)


if __name__ == "__main__":
    main()
