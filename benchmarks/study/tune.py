"""Try every method with the same number of settings on the tuning splits of a domain.

Rows are written as they come; a run that was stopped goes on where it was. A setting that failed on
a split, or cost more than any cap allows, is chosen at none and is not tried on the next ones.
"""

from functools import partial

from methods import draw_trials, make, tuned
from options import ROUNDING, options, splits
from tables import REFERENCES, Table, fill, run


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        table = Table(args.results / f"tuning-{domain.name}.csv")
        for seed in range(args.tuning_splits):
            tried = table.rows()
            left_out = {(row["method"], row["trial"]) for row in tried if row["seed"] == seed}
            left_out |= {
                (row["method"], row["trial"])
                for row in tried
                if row["error"] or row["cost"] > ROUNDING * domain.caps[-1]
            }
            tasks = []
            if not {(name, "") for name in REFERENCES} <= left_out:
                tasks.append((seed, None, {}))
            for method in args.methods or tuned(domain):
                trials = {
                    trial: params
                    for trial, params in draw_trials(method, domain, args.trials).items()
                    if (method, trial) not in left_out
                }
                if trials:
                    tasks.append((seed, method, trials))
            fill(table, args.n_jobs, partial(try_out, args, domain), tasks)


def try_out(args, domain, seed, method, trials):
    """The rows of a method on a tuning split, or of the references."""
    train, val, test = splits(args, domain, seed)
    # Figures are on the people for tuning. Methods that want unseen rows get those that a
    # reporting split would report on: those people are never both in the same split.
    rows = train, test, val
    settings = {"feature_layer": None, "cache": args.cache}
    made = {(method, t): (make(method, domain, params), params) for t, params in trials.items()}
    if method is None:
        made = {(name, ""): (None, {}) for name in REFERENCES}
    return run(domain, rows, made, seed, **settings)


if __name__ == "__main__":
    main()
