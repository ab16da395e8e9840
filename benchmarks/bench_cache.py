"""What `memory=` saves in a search, and what it costs: digests beside epochs.

Twelve candidates on three folds, with and without a cache, as a ratio; and the time of the digest
that finds an original again, beside that of one epoch of training on the same rows, which is the
least that it can save.
"""

import argparse
import os
import tempfile
import time

import joblib
import numpy as np
import sklearn
import torch
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from torch import nn

from skunlearn import DLFD
from skunlearn._engine.hashing import cache_key
from skunlearn.metrics import get_scorer
from skunlearn.model_selection import ForgetKFold


class MLP(nn.Module):
    """A network so small that a digest of its rows matters most."""

    def __init__(self, n_features_in, n_classes, hidden=32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features_in, hidden), nn.ReLU(), nn.Linear(hidden, n_classes)
        )

    def forward(self, X):
        """Unnormalised log-probabilities."""
        return self.layers(X)


def make_net(max_epochs):
    return NeuralNetClassifier(
        MLP,
        criterion=nn.CrossEntropyLoss,
        max_epochs=max_epochs,
        lr=0.1,
        batch_size=64,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )


def make_rows(n_rows, n_features=784):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    y = (X[:, :10]).argmax(axis=1)
    return X, y, np.arange(n_rows) % 10 == 0


def timed(call, *args, **kwargs):
    start = time.perf_counter()
    result = call(*args, **kwargs)
    return time.perf_counter() - start, result


def search(args, memory):
    X, y, forget = make_rows(args.rows)
    with sklearn.config_context(enable_metadata_routing=True):
        return GridSearchCV(
            DLFD(make_net(args.epochs), memory=memory, random_state=0),
            {"perturb_steps": [1, 2, 3], "lr": [0.002, 0.005, 0.01, 0.02]},
            cv=ForgetKFold(3),
            scoring=get_scorer("nomus"),
            refit=False,
            error_score="raise",
        ).fit(X, y, forget=forget)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--epochs", type=int, default=30, help="of the original")
    parser.add_argument("--digest-rows", type=int, default=32_000, help="of 3,136 bytes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    X, y, _ = make_rows(args.digest_rows)
    net = make_net(1)
    megabytes = X.nbytes / 1e6
    epoch, _ = timed(DLFD(net, random_state=0).fit, X, y)
    ours = min(timed(cache_key, net, X, y, 0)[0] for _ in range(3))
    joblibs = min(timed(joblib.hash, [X, y])[0] for _ in range(3))
    print(f"{args.threads} threads; {megabytes:.0f} MB of rows; an epoch of an MLP: {epoch:.2f} s")
    print(f"digest of network and rows over that epoch  {ours / epoch:6.3f}   ({ours:.3f} s)")
    print(f"joblib.hash of the rows over that epoch     {joblibs / epoch:6.3f}   ({joblibs:.3f} s)")
    del X, y

    plain, expected = timed(search, args, None)
    with tempfile.TemporaryDirectory() as folder:
        cached, found = timed(search, args, os.path.join(folder, "cache"))
    same = all(
        np.array_equal(
            expected.cv_results_[f"split{i}_test_score"], found.cv_results_[f"split{i}_test_score"]
        )
        for i in range(3)
    )
    print(
        f"search, 12 candidates x 3 folds, {args.rows:,} rows, originals of {args.epochs} epochs: "
        f"{plain:.1f} s without, {cached:.1f} s with a cache"
    )
    print(
        f"with over without                           {cached / plain:6.3f}   same scores: {same}"
    )


if __name__ == "__main__":
    main()
