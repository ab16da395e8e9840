"""How often the intervals of `membership_inference_report` hold the truth, and not 95 times in 100.

`python benchmarks/bench_intervals.py`; losses of both sides come from one distribution, so that
there is nothing to tell: accuracy and AUC are 0.5, and the TPR at 1 % false positives is 0.01.
"""

import argparse

import numpy as np

from skunlearn.metrics import membership_inference_report

TRUTH = {"accuracy": 0.5, "auc": 0.5, "tpr": 0.01}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 100, 500])
    args = parser.parse_args()
    print("rows a side" + "".join(f"{name:>10}" for name in TRUTH))
    for n in args.sizes:
        held = []
        for seed in range(args.simulations):
            losses = np.random.default_rng(seed).exponential(size=(2, n))
            report = membership_inference_report(*losses, random_state=seed)
            held.append([report[name].low <= TRUTH[name] <= report[name].high for name in TRUTH])
        print(
            f"{n:>11}" + "".join(f"{share:>10.2f}" for share in np.mean(held, axis=0)), flush=True
        )


if __name__ == "__main__":
    main()
