"""What a DLFD batch costs: against a floor, against the number of rows, and in memory.

`python benchmarks/bench_dlfd_batch.py`; every number is a ratio within one run, and is taken
from real runs of `unlearn`, whose batches a skorch callback times. After each of these batches
the callback times what it is compared with, so that both see the same machine.
"""

import argparse
import contextlib
import copy
import functools
import gc
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from skunlearn import DLFD, FineTune
from skunlearn.methods.dlfd import _CHECK_EVERY

N_CLASSES = 8
FACES = 13_000  # images of MUFAC, the faces of the paper (arXiv 2311.02240, and its repository)


# -- networks and rows -----------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.around = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, X):  # noqa: D102
        return torch.relu(self.body(X) + self.around(X))


class ResidualNetwork(nn.Sequential):
    """A small residual network for images of 32 × 32 × 3."""

    def __init__(self, width=16):
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Block(width, width, 1),
            Block(width, 2 * width, 2),
            Block(2 * width, 4 * width, 2),
            Block(4 * width, 8 * width, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8 * width, N_CLASSES),
        )


class WideNetwork(nn.Sequential):
    """A network that is little but weights, in layers of equal size."""

    def __init__(self, width, depth):
        layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
        super().__init__(nn.Linear(16, width), nn.ReLU(), *layers, nn.Linear(width, N_CLASSES))


class Images(torch.utils.data.Dataset):
    """As many rows as wanted, made of few images that are kept in memory."""

    def __init__(self, n):
        self.n = n
        self.pool = torch.rand(512, 3, 32, 32)

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.pool[i % len(self.pool)], 0  # unlearn is given the labels as an array


def make_net(module, batch_size, lr=1e-6, **params):
    """A network that counts as trained; one that stays as it is, at this learning rate."""
    torch.manual_seed(0)
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=lr,
        batch_size=batch_size,
        train_split=None,
        classes=list(range(N_CLASSES)),
        verbose=0,
        **params,
    ).initialize()


# -- DLFD as it runs -------------------------------------------------------------------------------


class EnoughBatchesError(Exception):
    """Ends a run that has been timed."""


class AfterBatch(Callback):
    """Call a function after each training batch, when the method's own callbacks are done."""

    def __init__(self, call):
        self.call = call

    def on_batch_end(self, net, training=False, **kwargs):  # noqa: D102
        if training:
            self.call(net)


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_batches(args, n_rows, n_stretches, beside=(), **settings):
    """Seconds per batch of DLFD, and of other functions timed in between.

    A batch of DLFD is timed from the end of one to the end of the next: with the loading of rows,
    the optimiser's step and callbacks. `beside` holds pairs: a function, and the number of batches
    between two calls of it. What comes back are medians over stretches of as many batches as lie
    between two forgetting checks, one check in each, after a first stretch to warm up.
    """
    unlearner = DLFD(None, random_state=0, **settings)
    n_batches = _CHECK_EVERY * (1 + n_stretches)
    own, others = [], [[] for _ in beside]
    start = None

    def after_batch(net):
        nonlocal start
        if "transport" not in net.history[-1]["batches"][-1]:
            raise RuntimeError("a batch was trained on as it is; its time says nothing")
        if start is not None:  # else this was the first batch, and with it the set-up
            own.append(time.perf_counter() - start)
            for times, (call, every) in zip(others, beside):
                if len(own) % every == 0:
                    times.append(seconds(call))
            if len(own) == n_batches:
                raise EnoughBatchesError
        start = time.perf_counter()

    net = make_net(
        ResidualNetwork,
        args.batch,
        module__width=args.width,
        callbacks=[AfterBatch(after_batch)],
        iterator_train__shuffle=True,
    )
    forget = np.arange(n_rows) < max(n_rows // 10 // args.batch, 1) * args.batch
    if n_rows - forget.sum() < (n_batches + 1) * args.batch:
        raise ValueError(f"{n_rows} rows do not make {n_batches + 1} batches in one epoch")
    # The network always says class 0, which is right for the rows to forget and wrong for unseen
    # ones. The forgetting score is thus at its highest, and no batch exempt from perturbation.
    net.module_[-1].bias.data[0] = 5
    y = np.where(forget, 0, np.arange(n_rows) % N_CLASSES)
    unlearner.estimator = FrozenEstimator(net)
    with contextlib.suppress(EnoughBatchesError):
        unlearner.unlearn(
            Images(n_rows), y, forget=forget, X_val=Images(args.unseen), y_val=np.ones(args.unseen)
        )

    def median(times):
        stretches = np.reshape(times, (1 + n_stretches, -1)).mean(axis=1)
        return float(np.median(stretches[1:]))

    return [median(times) for times in (own, *others)]


# -- what it is compared with ----------------------------------------------------------------------


def random_batch(n):
    return torch.rand(n, 3, 32, 32), torch.randint(N_CLASSES, (n,))


def passes(args, n):
    """`n` times a forward and a backward pass of a training step."""
    module = ResidualNetwork(args.width).train()
    X, y = random_batch(args.batch)

    def run():
        for _ in range(n):
            module.zero_grad()
            nn.functional.cross_entropy(module(X), y).backward()

    return run


def sinkhorn_unrolled(u, v, reg, n_iter):
    """Entropic transport in the log domain, every iteration kept for the backward pass."""
    u, v = nn.functional.normalize(u), nn.functional.normalize(v)
    cost = 1 - u @ v.T
    f, g = torch.zeros(len(u)), torch.zeros(len(v))
    for _ in range(n_iter):
        f = -reg * torch.logsumexp((g - cost) / reg, dim=1) - reg * math.log(len(u))
        g = -reg * torch.logsumexp((f[:, None] - cost) / reg, dim=0) - reg * math.log(len(v))
    plan = torch.exp((f[:, None] + g - cost) / reg)
    return (plan * cost).sum()


def published_way(args, n_attacked):
    """A batch in the way of the code published with the paper, written from its description.

    Three forward passes a step; transport between the logits of the unperturbed rows and those of
    the rows to forget; gradients of the parameters along with the one that is wanted; and after
    the batch the membership attack on all `n_attacked` rows, a third of them to forget. Loading of
    rows is not counted.
    """
    module = ResidualNetwork(args.width).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-6)
    X, y = random_batch(args.batch)
    X_forget, _ = random_batch(args.batch)
    attacked = [random_batch(n_attacked // 3), random_batch(2 * n_attacked // 3)]

    def batch():
        delta = torch.zeros_like(X, requires_grad=True)
        for _ in range(args.steps):
            far, plain, forget = module(X + delta), module(X), module(X_forget)
            distance = sinkhorn_unrolled(plain, forget, args.reg, args.sinkhorn_iter)
            gain = distance - nn.functional.cross_entropy(far, y)
            gain.backward()
            delta = (delta + 0.06 * delta.grad.sign()).detach()
            delta = ((X + delta).clamp(0, 1) - X).requires_grad_()
        optimizer.zero_grad()
        nn.functional.cross_entropy(module((X + delta).detach()), y).backward()
        optimizer.step()
        attack()

    @torch.no_grad()
    def attack():
        module.eval()
        losses = [
            torch.cat(
                [
                    nn.functional.cross_entropy(module(X), y, reduction="none")
                    for X, y in zip(X_all.split(args.batch), y_all.split(args.batch))
                ]
            )
            for X_all, y_all in attacked
        ]
        module.train()
        member = np.repeat([1, 0], [len(loss) for loss in losses])
        splits = StratifiedShuffleSplit(n_splits=10, random_state=0)
        cross_val_score(LogisticRegression(), torch.cat(losses)[:, None], member, cv=splits)

    return batch


# -- memory ----------------------------------------------------------------------------------------


def peak_memory():
    """The most memory that this process has held so far, in bytes; 0 where the system has no /proc.

    Not getrusage: on Linux a child's value starts at its parent's.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def wide_net(width, depth):
    return make_net(WideNetwork, 2, lr=0.1, module__width=width, module__depth=depth)


def two_copies_and_a_batch(width, depth):
    """Plain torch: an original, a copy of it, and the backward passes of a batch's two losses."""
    original = wide_net(width, depth).module_
    module = copy.deepcopy(original)
    for _ in range(2):
        nn.functional.cross_entropy(module(torch.rand(2, 16)), torch.zeros(2).long()).backward()
    return original


def unlearn(method, width, depth, **settings):
    """An unlearning run of a few batches."""
    net = wide_net(width, depth)
    X = np.random.RandomState(0).uniform(size=(12, 16)).astype(np.float32)
    y, forget = np.arange(12) % N_CLASSES, np.arange(12) < 4
    method(FrozenEstimator(net), max_epochs=1, **settings).unlearn(X, y, forget=forget)
    return net.module_


MEMORY = {
    "two copies and a batch": two_copies_and_a_batch,
    "FineTune": functools.partial(unlearn, FineTune),
    "DLFD": functools.partial(unlearn, DLFD, perturb_steps=5),
}


def copies_of_weights(name, width, depth):
    """Peak memory beyond the framework's in copies of the weights, the original's among them.

    Means something in a process of its own only.
    """
    MEMORY[name](4, 1)  # imports, and buffers that torch makes at first use
    framework = peak_memory()
    module = MEMORY[name](width, depth)
    return (peak_memory() - framework) / sum(4 * p.numel() for p in module.parameters())


def copies_in_a_process(name, width, depth):
    command = [sys.executable, __file__, "--memory-of", name, str(width), str(depth)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


# -- the table -------------------------------------------------------------------------------------


def row(what, value, target):
    print(f"{what:<64}{value:>8.2f}   {target}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="perturbation steps")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=8, help="channels of the first layer")
    parser.add_argument("--stretches", type=int, default=2, help="of ten batches, for medians")
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000, 20_000, 200_000])
    parser.add_argument("--repeats", type=int, default=2, help="of each number of rows")
    parser.add_argument("--unseen", type=int, default=900)
    parser.add_argument("--attacked", type=int, nargs="+", default=[1_350, 4_000, FACES])
    parser.add_argument("--reg", type=float, default=0.05)
    parser.add_argument("--sinkhorn-iter", type=int, default=100, help="of the published way")
    parser.add_argument("--widths", type=int, nargs="*", default=[1_450, 5_000])
    parser.add_argument("--depths", type=int, nargs="*", default=[12, 1])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    if args.memory_of:
        name, width, depth = args.memory_of
        print(copies_of_weights(name, int(width), int(depth)))
        return
    gc.disable()
    n_rows = sorted(args.rows)
    print(f"{args.threads} threads; DLFD, {args.steps} steps, batches of {args.batch}")

    # One pass for each step of the perturbation, the optimiser's step, and the clean term.
    n_passes = args.steps + 2
    floor = (passes(args, n_passes), 1)
    settings = {"perturb_steps": args.steps}
    published = [(published_way(args, n), _CHECK_EVERY) for n in args.attacked]
    for transport, beside in (("exact", [floor]), ("sinkhorn", [floor, *published])):
        own, least, *others = time_batches(
            args, n_rows[-1], args.stretches, beside, transport=transport, **settings
        )
        what = f"batch with {transport!r} ({1e3 * own:.0f} ms) over {n_passes} training passes"
        row(what, own / least, "at most 1.15")
    for n, other in zip(args.attacked, others):
        target = "at least 9" if n >= FACES else ""
        row(f"published way, attack on {n:,} rows, over that batch", other / own, target)

    ratios = {n: [] for n in n_rows}
    for _ in range(args.repeats):
        for n in n_rows:
            own, least = time_batches(args, n, 1, [(passes(args, 1), 1)])
            ratios[n].append(own / least)
    for n in n_rows[1:]:
        ratio = np.median(ratios[n]) / np.median(ratios[n_rows[0]])
        row(f"batch of a set of {n:,} rows over one of {n_rows[0]:,}", ratio, "1")

    for width, depth in zip(args.widths, args.depths):
        least, *others = (copies_in_a_process(name, width, depth) for name in MEMORY)
        what = f"copies of weights in {depth} layer(s): two, and a batch in plain torch"
        row(what, least, "")
        for name, copies in zip(list(MEMORY)[1:], others):
            row(f"peak memory of {name} over that", copies / least, "at most 1.05")


if __name__ == "__main__":
    main()
