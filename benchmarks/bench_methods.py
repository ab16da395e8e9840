"""Time every method at its defaults, beside retraining, into `results/seconds-methods.csv`.

Seconds are this machine's, on one thread; what carries over is the share of retraining.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skunlearn import FineTune, Retrain, all_unlearners

sys.path.append(str(Path(__file__).with_name("study")))
from tables import Table

COLUMNS = ("method", "rows", "epochs", "seconds", "share")


def network(n_features_in, n_classes):
    """One hidden layer of 128 units."""
    return nn.Sequential(nn.Linear(n_features_in, 128), nn.ReLU(), nn.Linear(128, n_classes))


def measure(n_rows, n_epochs, repeats):
    """Rows of the table: the median of some runs of each method."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 64)).astype(np.float32)
    y = X[:, :4].argmax(axis=1)
    forget = np.arange(n_rows) % 10 == 0
    held_out = {
        "X_val": X[-200:],
        "y_val": y[-200:],
    }  # what the methods are for is not measured here
    net = NeuralNetClassifier(
        network,
        criterion=nn.CrossEntropyLoss,
        lr=0.05,
        batch_size=64,
        max_epochs=n_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    trained = FrozenEstimator(FineTune(net, random_state=0).fit(X, y).estimator_)
    methods = {"Retrain": Retrain(net, random_state=0)}
    for name, method in all_unlearners():
        if "original" in method.needs:
            methods[name] = method(trained, random_state=0)
    took = {name: [] for name in methods}
    for _ in range(repeats):  # in turn, so that a slow moment of the machine meets all of them
        for name, unlearner in methods.items():
            run = unlearner.fit if name == "Retrain" else unlearner.unlearn
            start = time.perf_counter()
            run(X, y, forget=forget, **held_out)
            took[name].append(time.perf_counter() - start)
    seconds = {name: float(np.median(values)) for name, values in took.items()}
    return [
        dict(zip(COLUMNS, (name, n_rows, n_epochs, value, value / seconds["Retrain"])))
        for name, value in seconds.items()
    ]


def main(args=None):
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args(args)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how well the methods do
        rows = measure(args.rows, args.epochs, args.repeats)
    Table(args.results / "seconds-methods.csv", COLUMNS).replace(rows)


if __name__ == "__main__":
    main()
