"""Peak memory of training and unlearning on many rows that are never all loaded.

`python benchmarks/bench_memory.py`; each row of the table is a process of its own, and its number
is memory beyond what the process held with the framework imported and warmed up.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

import skunlearn

SHAPE = (3, 64, 64)
N_CLASSES = 4


class Images(torch.utils.data.Dataset):
    """Images that are made of their index when they are asked for."""

    def __init__(self, n):
        self.n = n
        self.pattern = torch.rand(N_CLASSES, *SHAPE, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.pattern[i % N_CLASSES] + (i % 97) / 97, 0  # the labels are given as an array


def memory_map(folder, n):
    """As many images of bytes in a file, which takes no room on the disk."""
    path = Path(folder) / "images"
    images = np.memmap(path, np.uint8, "w+", shape=(n, *SHAPE))
    images[:N_CLASSES] = np.random.RandomState(0).randint(256, size=(N_CLASSES, *SHAPE))
    images.flush()
    return np.memmap(path, np.uint8, "r", shape=(n, *SHAPE))


def make_net():
    """A network that is small enough for an epoch to take seconds."""

    def module():
        return nn.Sequential(
            nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, N_CLASSES)
        )

    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        max_epochs=1,
        lr=1e-3,
        batch_size=256,
        iterator_train__shuffle=True,
        verbose=0,
    )


def held(field):
    """Memory of this process in bytes: VmHWM, its peak, or RssAnon, without mapped files.

    Not getrusage: on Linux a child's value starts at its parent's.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


class Watch(threading.Thread):
    """The most that RssAnon has been; the pages of a file that are mapped are the system's."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = self.start_value = held("RssAnon")
        self.start()

    def run(self):  # noqa: D102
        while True:
            self.peak = max(self.peak, held("RssAnon"))
            time.sleep(0.005)


def measure(name, source, n_rows):
    """Bytes beyond the framework's in `fit`, `unlearn` and `predict_proba`, and the seconds."""
    method = getattr(skunlearn, name)

    def run(X, n):
        y, forget = np.arange(n) % N_CLASSES, np.arange(n) % 10 == 0
        model = method(make_net(), random_state=0).fit(X, y)
        model.unlearn(X, y, forget=forget, X_val=Images(1_000), y_val=y[:1_000])
        assert model.predict_proba(X).shape == (n, N_CLASSES)

    with tempfile.TemporaryDirectory() as folder:
        run(Images(1_000), 1_000)  # imports, and buffers that torch makes at first use
        X = Images(n_rows) if source == "lazy" else memory_map(folder, n_rows)
        before, watch, start = held("VmHWM"), Watch(), time.perf_counter()
        run(X, n_rows)
        seconds = time.perf_counter() - start
        watched = watch.peak - watch.start_value
        return (held("VmHWM") - before if source == "lazy" else watched), seconds


def measure_in_a_process(name, source, n_rows):
    """The same, of a process that does nothing else."""
    command = [sys.executable, __file__, "--one", name, source, str(n_rows)]
    # What is freed goes back. With its default threshold, glibc 2.36 has been seen not to use
    # freed batches again: 4.9 GB in place of 19 MB where X_val had 100,000 rows too.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    n_bytes, seconds = done.stdout.split()
    return int(n_bytes), float(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--methods", nargs="+", default=[n for n, _ in skunlearn.all_unlearners()])
    parser.add_argument("--sources", nargs="+", default=["lazy", "memmap"])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, source, n_rows = args.one
        print(*measure(name, source, int(n_rows)))
        return
    whole = 4 * args.rows * np.prod(SHAPE) / 2**20
    print(f"{args.rows:,} rows of {SHAPE}, {whole:,.0f} MiB as floats; MiB beyond the framework's")
    for source in args.sources:
        for name in args.methods:
            n_bytes, seconds = measure_in_a_process(name, source, args.rows)
            print(f"{name:<18}{source:<8}{n_bytes / 2**20:>8.0f} MiB{seconds:>8.0f} s", flush=True)


if __name__ == "__main__":
    main()
