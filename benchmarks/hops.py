"""Count how far a call goes through the package: files, functions, changes of file, and depth.

``python benchmarks/hops.py`` prints a line for each of four calls. Functions of the package are
taken in the order in which a call first enters them; a change of file is one that is in another
file than the one before. Depth counts the functions of the package that wait for each other.
Lambdas and comprehensions are part of the function that they are written in.
"""

import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
from skorch import NeuralNetClassifier
from torch import nn

import skunlearn
from skunlearn import DLFD, FineTune

PACKAGE = str(Path(skunlearn.__file__).parent)


def walk(call):
    """The functions that a call enters, in order, each with its file, and the greatest depth."""
    entered, waiting, depth = {}, 0, 0

    def watch(frame, event, _):
        nonlocal waiting, depth
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE) or code.co_name[:1] in "<":
            return
        if event == "call":
            entered.setdefault((code.co_filename, code.co_firstlineno))
            waiting += 1
            depth = max(depth, waiting)
        elif event == "return":
            waiting -= 1

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return [file for file, _ in entered], depth


def linear(n_features_in, n_classes):
    """A network."""
    return nn.Linear(n_features_in, n_classes)


def main():
    """Print the table."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype("float32")
    y, forget = (X[:, 0] > 0).astype(int), np.arange(120) < 30
    X_val = rng.normal(size=(60, 4)).astype("float32")
    held_out = {"X_val": X_val, "y_val": (X_val[:, 0] > 0).astype(int)}
    net = NeuralNetClassifier(
        linear, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1, max_epochs=2
    )
    tuned, dlfd = FineTune(net, random_state=0), DLFD(net, random_state=0).fit(X, y)
    calls = {
        "FineTune.fit": lambda: tuned.fit(X, y),
        "FineTune.unlearn": lambda: tuned.unlearn(X, y, forget=forget),
        "DLFD.unlearn with X_val": lambda: dlfd.unlearn(X, y, forget=forget, **held_out),
        "predict": lambda: tuned.predict(X),
    }
    print(f"skunlearn in {PACKAGE}")
    print(f"{'call':26}{'files':>7}{'functions':>11}{'changes of file':>17}{'depth':>7}")
    for name, call in calls.items():
        files, depth = walk(call)
        changes = sum(a != b for a, b in pairwise(files))
        print(f"{name:26}{len(set(files)):7}{len(files):11}{changes:17}{depth:7}")


if __name__ == "__main__":
    main()
