"""Time one forward and backward pass of each transport method over batch sizes and widths.

`python benchmarks/bench_transport.py`; milliseconds, median, with the ratio to "exact".
"""

import argparse
import time

import numpy as np
import torch

from skunlearn.transport import transport_distance


def features(n, d, rng, centres):
    """Rectified features of ten overlapping classes, as a network's last layer gives."""
    rows = centres[rng.randint(len(centres), size=n)] + rng.normal(size=(n, d))
    return torch.as_tensor(rows, dtype=torch.float32).relu()


def milliseconds(u, v, method, reg, repeats):
    seconds = []
    for _ in range(repeats + 2):
        u.grad = None
        start = time.perf_counter()
        transport_distance(u, v, method=method, reg=reg).backward()
        seconds.append(time.perf_counter() - start)
    return 1e3 * np.median(seconds[2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--dim", type=int, nargs="+", default=[16, 64, 512, 2048])
    parser.add_argument("--method", nargs="+", default=["exact", "sinkhorn", "sliced"])
    parser.add_argument("--reg", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()

    methods = ["exact", *(m for m in args.method if m != "exact")]
    print("batch   dim" + "".join(f"{m:>18}" for m in methods))
    for n in args.batch:
        for d in args.dim:
            rng = np.random.RandomState(0)
            centres = rng.normal(size=(10, d))
            u = features(n, d, rng, centres).requires_grad_()
            v = features(n, d, rng, centres)
            took = [milliseconds(u, v, m, args.reg, args.repeats) for m in methods]
            cells = "".join(f"{t:9.2f} ({t / took[0]:5.2f}×)" for t in took)
            print(f"{n:5d} {d:5d} {cells}", flush=True)


if __name__ == "__main__":
    main()
