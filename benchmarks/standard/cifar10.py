"""CIFAR-10 and ResNet-18, a random tenth or one class to forget: all methods in one table.

Rows are written as they come. What there is no time for is named at the end, and the next call
goes on there.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from batches import SHIFT, DeviceBatches, moved
from domains import Annealing
from images import draw, few, read
from resnet import ResNet
from tables import COLUMNS, KEYS, REFERENCES, Table, run

from skunlearn import (
    DLFD,
    SCRUB,
    SSD,
    BadTeacher,
    Distill,
    FineTune,
    L1Sparse,
    Retrain,
    SalUn,
)

RESULTS = Path(__file__).parents[1] / "results"
SHARES = (0.05, 0.1)  # of the epochs of retraining
METHODS = {
    "Retrain (shortened)": Retrain,
    "Distill": Distill,
    "FineTune": FineTune,
    "L1Sparse": L1Sparse,
    "SCRUB": SCRUB,
    "SalUn": SalUn,
    "SSD": SSD,
    "BadTeacher": BadTeacher,
    "DLFD": DLFD,
}
REQUESTS = ("random", "class")
MADE_ON = ("epochs", "precision", "device")
MEASURED = (*KEYS, *MADE_ON, *COLUMNS[len(KEYS) :])
SPEEDS = (*MADE_ON[1:], "train_rows", "epoch_seconds", "plain_epoch_seconds", "ratio")


def options(args=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, help=".npz file of JPEG files, or the folder cifar-10-batches-py")
    add("--minutes", type=float, default=8, help="start no method after these (%(default)s)")
    add("--smoke", action="store_true", help="few rows and a small network, drawn without --data")
    add("--rows", type=int, default=2000, help="rows to train on with --smoke (%(default)s)")
    add("--epochs", type=int, default=20, help="of a training (%(default)s)")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    add("--seeds", type=int, nargs="+", default=[0], help="(%(default)s)")
    add("--precision", choices=("bf16", "float32"), help="by default bf16 on a GPU")
    add("--results", type=Path, help="folder of the tables (benchmarks/results, or build/smoke)")
    add("--cache", type=Path, help="folder of trained networks, by default in that of the tables")
    args = parser.parse_args(args)
    if args.data is None and not args.smoke:
        parser.error("--data is missing; --smoke runs without it")
    if args.results is None:
        args.results = Path("build", "smoke") if args.smoke else RESULTS
    args.cache = (args.cache or args.results / ".cache").absolute()
    args.name = "smoke" if args.smoke else "cifar10"
    is_gpu = torch.cuda.is_available()
    args.device = "cuda" if is_gpu else "cpu"
    args.device_name = torch.cuda.get_device_name() if is_gpu else "cpu"
    args.precision = args.precision or ("bf16" if is_gpu else "float32")
    return args


def network(args):
    """The network, untrained."""
    small = {"module__widths": (8, 16, 32), "module__n_blocks": 1} if args.smoke else {}
    return NeuralNetClassifier(
        ResNet,
        module__precision=args.precision,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__nesterov=True,
        optimizer__weight_decay=5e-4,
        lr=0.05 if args.smoke else 0.1,
        batch_size=64 if args.smoke else 256,
        max_epochs=args.epochs,
        iterator_train=DeviceBatches,
        iterator_train__device=args.device,
        iterator_train__augment=True,
        iterator_train__shuffle=True,
        iterator_valid=DeviceBatches,
        iterator_valid__device=args.device,
        iterator_valid__batch_size=1000,
        train_split=None,
        callbacks=[Annealing],
        device=args.device,
        verbose=0,
        **small,
    )


def unlearner(name, net, n_epochs):
    """A method with its default settings, but for the epochs, and the parameters that are set."""
    if name == "SSD":  # which does not train
        return SSD(net), {}
    params = {"max_epochs": n_epochs}
    if name == "Distill":  # rows are augmented by the loader, so the teacher is asked each time
        params["cache_teacher"] = False
    return METHODS[name](net, **params), params


def trials(name, args, net):
    """A method with as many epochs as each cap allows, as `tables.run` takes them."""
    if name == "SSD":
        return {(name, ""): unlearner(name, net, 0)}
    return {
        (name, f"{share:.0%}"): unlearner(name, net, max(1, round(share * args.epochs)))
        for share in SHARES
    }


def rows_of(request, data, seed):
    """The rows of a request, as `tables.run` takes them.

    Returns
    -------
    train : tuple (X, y, forget)
        All training rows, and the mask of those to forget.
    val, unseen : tuple (X, y)
        A fifth of the test rows, which methods may use, and the others.
    """
    (X, y), (X_test, y_test) = data
    rng = np.random.default_rng(seed)
    if request == "random":
        forget = np.zeros(len(y), dtype=bool)
        forget[rng.permutation(len(y))[: len(y) // 10]] = True
    else:
        forget = y == np.argsort(-np.bincount(y), kind="stable")[seed % 10]  # the largest first
    order = rng.permutation(len(y_test))
    val, unseen = np.split(order, [len(order) // 5])
    return (X, y, forget), (X_test[val], y_test[val]), (X_test[unseen], y_test[unseen])


def speed(args, net, X, y, n_epochs=3):
    """Seconds of an epoch of the network's training, and of a loop of plain torch, as a row."""
    longer = type(net)(**{**net.get_params(deep=False), "max_epochs": n_epochs + 1})
    history = FineTune(longer, random_state=0).fit(X, y).estimator_.history
    plain = plain_epochs(net, X, y, n_epochs + 1)
    # The first epoch of each warms up.
    ours, plain = (statistics.median(each[1:]) for each in (history[:, "dur"], plain))
    values = args.precision, args.device_name, len(y), ours, plain, ours / plain
    return dict(zip(SPEEDS, values))


def plain_epochs(net, X, y, n_epochs):
    """Seconds of each epoch of the same training, in plain torch."""
    params, device = net.get_params_for("module"), net.device
    X, y = torch.as_tensor(X).to(device), torch.as_tensor(y).to(device)
    module = ResNet(int(y.max()) + 1, **params).to(device)
    settings = net.get_params_for("optimizer") | {"lr": net.lr}
    optimizer = torch.optim.SGD(module.parameters(), **settings)
    n_batches = -(-len(y) // net.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs * n_batches)
    seconds = []
    for _ in range(n_epochs):
        start = time.perf_counter()
        order = torch.randperm(len(y), device=device)
        for which in order.split(net.batch_size):
            moves = torch.randint(2 * SHIFT + 1, (2, len(which)), device=device)
            mirrored = torch.randint(2, (len(which),), device=device)
            output = module(moved(X[which], *moves, mirrored).float())
            loss = nn.functional.cross_entropy(output, y[which])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def main(args=None):
    start, args = time.monotonic(), options(args)
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
        torch.backends.cudnn.benchmark = True  # batches are of one size, all but the last
    data = draw(args.rows) if args.data is None else read(args.data, args.cache)
    if args.smoke and args.data is not None:
        data = few(data, args.rows)
    net = network(args)
    measure_speed(args, net, *data[0])
    table = Table(args.results / f"standard-{args.name}.csv", MEASURED)
    made_on = dict(zip(MADE_ON, (args.epochs, args.precision, args.device_name)))
    tasks, left = missing(args, net, table), []
    for seed, request, name, wanted in tasks:
        domain = SimpleNamespace(name=f"{args.name}-{request}", net=net)
        if time.monotonic() - start > 60 * args.minutes:
            left.append(f"{domain.name}, seed {seed}: {name}")
            continue
        rows = run(domain, rows_of(request, data, seed), wanted, seed, args.cache)
        table.add([row | made_on for row in rows])
        print(domain.name, f"seed {seed}:", name, flush=True)
    if left:
        print("The time is over. The same command goes on with:", *left, sep="\n  ")


def measure_speed(args, net, X, y):
    """Write and print the seconds of an epoch, unless the table has them."""
    table = Table(args.results / f"standard-{args.name}-speed.csv", SPEEDS)
    key = args.precision, args.device_name, len(y)
    if all(tuple(row[name] for name in SPEEDS[:3]) != key for row in table.rows()):
        table.add([speed(args, net, X, y)])
    row = next(r for r in table.rows() if tuple(r[name] for name in SPEEDS[:3]) == key)
    print(
        f"An epoch takes {row['epoch_seconds']:.3g} s, of a plain loop "
        f"{row['plain_epoch_seconds']:.3g} s ({row['ratio']:.2f} times as long).",
        flush=True,
    )


def missing(args, net, table):
    """What is not in the table yet: (seed, request, method, trials), references with the first."""
    keys = ("domain", "method", "trial", "seed", "epochs", "precision", "device")
    done = {tuple(row[key] for key in keys) for row in table.rows()}
    tasks = []
    for seed in args.seeds:
        for request in REQUESTS:
            domain = f"{args.name}-{request}"
            references = {(name, ""): (None, {}) for name in REFERENCES}
            for name in args.methods:
                wanted = {
                    key: value
                    for key, value in (references | trials(name, args, net)).items()
                    if (domain, *key, seed, args.epochs, args.precision, args.device_name)
                    not in done
                }
                references = {}
                if wanted:
                    tasks.append((seed, request, name, wanted))
    return tasks


if __name__ == "__main__":
    main()
