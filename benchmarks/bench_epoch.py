"""An epoch of `FineTune` over skorch's own and over a plain loop of torch, in one run.

``python benchmarks/bench_epoch.py`` prints, for a small multilayer perceptron and a small residual
network, the ratios of median times. The three take turns, so that what else the machine does falls
on all of them alike. What a run does once (copies, checks, the comparison at its end) is taken off
by the difference of a long run and a short one.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skunlearn import FineTune


class MLP(nn.Module):
    """Two layers, on rows of 64 features."""

    shape = (64,)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, X):
        """Logits of ten classes."""
        return self.layers(X)


class ResNet(nn.Module):
    """Two residual blocks, on images of 16 x 16 pixels."""

    shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
            for _ in range(2)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, X):
        """Logits of ten classes."""
        X = self.stem(X)
        for block in self.blocks:
            X = X + block(X)
        return self.head(X.mean((2, 3)))


def make_net(module, n_epochs, batch_size):
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer__momentum=0.9,
        lr=1e-3,
        max_epochs=n_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        classes=list(range(10)),
    )


def run_plain(module, X, y, n_epochs, batch_size):
    """Shuffled epochs of SGD, with the rows of a batch taken from a tensor at once."""
    net, X, y = module(), torch.as_tensor(X), torch.as_tensor(y)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    for _ in range(n_epochs):
        for batch in torch.randperm(len(X)).split(batch_size):
            optimizer.zero_grad()
            criterion(net(X[batch]), y[batch]).backward()
            optimizer.step()


def run_skorch(module, X, y, n_epochs, batch_size):
    make_net(module, n_epochs, batch_size).fit(X, y)


def run_finetune(module, X, y, n_epochs, batch_size):
    n_more = batch_size  # rows to forget, of which an epoch has none
    rows = np.concatenate([X, X[:n_more]]), np.concatenate([y, y[:n_more]])
    net = FrozenEstimator(make_net(module, 1, batch_size).initialize())
    forget = np.arange(len(rows[0])) >= len(X)
    FineTune(net, max_epochs=n_epochs, random_state=0).unlearn(*rows, forget=forget)


RUNS = {"plain torch": run_plain, "skorch": run_skorch, "FineTune": run_finetune}


def seconds_per_epoch(module, n_rows, batch_size, n_epochs, n_repeats):
    """Median over repeats of the time of an epoch, by what runs it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, *module.shape)).astype(np.float32)
    y = rng.integers(10, size=n_rows)
    times = {name: [] for name in RUNS}
    for _ in range(n_repeats + 1):  # the first one warms up
        for name, run in RUNS.items():
            ends = [time.perf_counter()]
            for n in (1, 1 + n_epochs):
                run(module, X, y, n, batch_size)
                ends.append(time.perf_counter())
            short, long = np.diff(ends)
            times[name].append((long - short) / n_epochs)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    print(f"{'':8}{'ms an epoch':>34}{'FineTune over':>28}")
    print(f"{'':8}" + "".join(f"{name:>14}" for name in (*RUNS, "skorch", "plain torch")))
    for module in (MLP, ResNet):
        found = seconds_per_epoch(module, args.rows, args.batch, args.epochs, args.repeats)
        cells = [f"{1000 * found[name]:14.1f}" for name in RUNS]
        cells += [f"{found['FineTune'] / found[name]:14.2f}" for name in ("skorch", "plain torch")]
        print(f"{module.__name__:8}" + "".join(cells))


if __name__ == "__main__":
    main()
