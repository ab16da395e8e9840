"""Look for default settings of DLFD: one grid for all domains, on the tuning splits alone.

Printed, for each setting, is how much of the way from the original to the retrained network is
left, in distance on forget rows (1: nothing was forgotten, 0: as near as a second retraining), as a
mean over domains (and the largest), and the accuracy that is lost on retained rows. Rows are
written as they come; a run that was stopped goes on where it was.
"""

from collections import defaultdict
from functools import partial

import numpy as np
from options import options, splits
from sklearn.model_selection import ParameterGrid
from tables import REFERENCES, Table, fill, run

from skunlearn import DLFD

GRID = {
    "lr": [1.0, 5.0],  # times the network's own
    "max_epochs": [1, 3, 5],
    "ce_weight_start": [0.0, 1.0],
    "step": [(1, 0.1), (1, 0.2), (3, 0.1)],  # perturb_steps, step_size
}


def setting(net, params):
    """DLFD as a point of the grid says."""
    steps, size = params["step"]
    return DLFD(
        net,
        lr=params["lr"] * net.lr,
        max_epochs=params["max_epochs"],
        ce_weight_start=params["ce_weight_start"],
        perturb_steps=steps,
        step_size=size,
    )


def main(args=None):
    args = options(__doc__, args)
    grid = {str(i): params for i, params in enumerate(ParameterGrid(GRID))}
    found = []
    for domain in args.domains:
        table = Table(args.results / f"defaults-{domain.name}.csv")
        done = {(row["method"], int(row["seed"]), row["trial"]) for row in table.rows()}
        tasks = []
        for seed in range(args.tuning_splits):
            wanted = {(name, ""): (None, {}) for name in REFERENCES}
            wanted |= {("DLFD", i): (setting(domain.net, p), p) for i, p in grid.items()}
            left = {
                key: value for key, value in wanted.items() if (key[0], seed, key[1]) not in done
            }
            if left:
                tasks.append((seed, left))
        fill(table, args.n_jobs, partial(try_out, args, domain), tasks)
        found += table.rows()
    show(found, grid)


def try_out(args, domain, seed, wanted):
    """The rows of one tuning split."""
    train, val, test = splits(args, domain, seed)  # figures are on the people for tuning
    return run(domain, (train, test, val), wanted, seed, args.cache, feature_layer=None)


def left_over(rows):
    """By setting: what is left of the way, the loss of retain accuracy, and the cost, by domain."""
    splits_of = defaultdict(list)
    for row in rows:
        splits_of[row["domain"], row["trial"] or row["method"]].append(row)
    failed = {key[1] for key, each in splits_of.items() if any(row["error"] for row in each)}
    figures = {
        key: {
            name: np.mean([row[name] for row in each])
            for name in ("relative_js_distance", "retain_accuracy", "cost", "nomus")
        }
        for key, each in splits_of.items()
    }
    found = defaultdict(dict)
    for (domain, key), values in figures.items():
        if key not in REFERENCES and key not in failed:
            original, retrained = figures[domain, "Original"], figures[domain, "Retrain"]
            way = original["relative_js_distance"] - 1
            found[key][domain] = (
                (values["relative_js_distance"] - 1) / way,
                retrained["retain_accuracy"] - values["retain_accuracy"],
                values["cost"],
                values["nomus"] - retrained["nomus"],
            )
    return found


def show(rows, grid):
    """Print the settings, those first that leave least of the way."""
    table = {key: np.array(list(each.values())) for key, each in left_over(rows).items()}
    print("left of the way   lost of retain acc.   cost   NoMUS - Retrain's   setting")
    for key in sorted(table, key=lambda key: table[key][:, 0].mean()):
        way, lost, cost, nomus = table[key].T
        print(
            f"{way.mean():8.2f} ({way.max():4.2f}) {lost.mean():12.3f} ({lost.max():5.3f})"
            f"{cost.mean():10.2f} {nomus.mean():12.3f}           {grid[key]}"
        )


if __name__ == "__main__":
    main()
