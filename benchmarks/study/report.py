"""Choose each method's settings at each cap on cost, and run them on the reporting splits.

Settings are chosen from the tuning table alone. Rows are written as they come; a run that was
stopped goes on where it was.
"""

from collections import defaultdict
from functools import partial

import numpy as np
from methods import CONTROLS, DEFAULT, GUARDED, SHORTENED, make, tuned
from options import FIRST_REPORTED, ROUNDING, options, splits
from tables import REFERENCES, Table, fill, run

CHOICE = ("domain", "method", "cap", "trial", "tuned", "cost", "params", "n_within", "kept")
GUARD = 0.05  # how much accuracy on retained rows a setting may lose against the retrained network
HIGHER_IS_BETTER = {"nomus", "utility", "balanced_utility", "retain_accuracy", "tug_of_war"}


def choose(domain, rows, objective):
    """What is run at each cap: of each method the setting that did best within it.

    Settings that keep the retrained network's accuracy on retained rows, less `GUARD`, go first.

    Parameters
    ----------
    domain : Domain
        The domain of the rows.
    rows : list of dict
        The tuning table. A setting that failed on a split is not chosen.
    objective : str
        The figure whose mean over splits decides.

    Returns
    -------
    choices : list of dict
        A row for each method and cap; methods without a setting within a cap have none. A setting
        is within a cap if it is on every tuning split; `n_within` is how many of them are.
    """
    choices = [found[0] for found in in_turn(domain, rows, objective).values()]
    for choice in list(choices):
        if choice["method"] in ("DLFD", "DLFD (published)"):
            for control in CONTROLS:
                choices.append(choice | {"method": f"{choice['method']}: {control}"})
    for cap in domain.caps:
        n_epochs = int(cap * domain.net.max_epochs + 1e-9)
        if cap == 1:  # which is a retraining
            n_epochs //= 2
        if n_epochs:
            choice = SHORTENED, cap, str(n_epochs), np.nan, n_epochs / domain.net.max_epochs
            choices.append(dict(zip(CHOICE, (domain.name, *choice, {"max_epochs": n_epochs}))))
    if domain.is_long:  # a twentieth of the epochs, and a third of one: a little more than 5 %
        choices.append(dict(zip(CHOICE, (domain.name, DEFAULT, 0.1, "", np.nan, np.nan, {}))))
    return choices


def in_turn(domain, rows, objective):
    """The settings of each method within each cap, the one to choose first.

    Parameters
    ----------
    domain, rows, objective
        As for `choose`.

    Returns
    -------
    settings : dict of tuple (method, cap) to list of dict
        Rows as `choose` returns.
    """
    trials, retrained = defaultdict(list), []
    for row in rows:
        if row["method"] not in REFERENCES:
            trials[row["method"], row["trial"]].append(row)
        elif row["method"] == "Retrain":
            retrained.append(row["retain_accuracy"])
    enough = np.mean(retrained) - GUARD
    n_splits = max(map(len, trials.values()))
    sign = -1 if objective in HIGHER_IS_BETTER else 1
    within = defaultdict(list)
    for (method, trial), found in trials.items():
        if len(found) < n_splits or any(row["error"] for row in found):
            continue
        cost = max(row["cost"] for row in found)
        score = np.mean([row[objective] for row in found])
        if not np.isfinite(score):
            continue
        kept = int(np.mean([row["retain_accuracy"] for row in found]) >= enough)
        for cap in domain.caps:
            if cost > ROUNDING * cap:
                continue
            choice = method, cap, trial, float(score), float(cost), found[0]["params"]
            within[method, cap].append(dict(zip(CHOICE, (domain.name, *choice))) | {"kept": kept})
    return {
        key: sorted(
            (choice | {"n_within": len(found)} for choice in found),
            key=lambda choice: (not choice["kept"], sign * choice["tuned"]),
        )
        for key, found in within.items()
    }


def guarded(args, domain):
    """What `guard.py` has chosen by closeness and leakage together, if it was run."""
    return [
        {name: row[name] for name in CHOICE} | {"method": f"{row['method']}{GUARDED}"}
        for row in Table(args.results / f"guard-{domain.name}.csv").rows()
        if row["passed"]
    ]


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        tried = Table(args.results / f"tuning-{domain.name}.csv").rows()
        missing = tuned(domain).keys() - {row["method"] for row in tried}
        if missing and not args.methods:
            print(f"{domain.name} is skipped: {sorted(missing)} are not tuned yet.")
            continue
        choices = choose(domain, tried, args.objective) + guarded(args, domain)
        Table(args.results / f"chosen-{domain.name}.csv", CHOICE).replace(choices)
        table = Table(args.results / f"reported-{domain.name}.csv")
        done = {(row["method"], int(row["seed"]), row["trial"]) for row in table.rows()}
        wanted = {(name, ""): None for name in REFERENCES}
        wanted |= {(choice["method"], choice["trial"]): choice["params"] for choice in choices}
        n_splits = args.reporting_splits or domain.n_report
        tasks = []
        for seed in range(FIRST_REPORTED, FIRST_REPORTED + n_splits):
            left = {
                key: params for key, params in wanted.items() if (key[0], seed, key[1]) not in done
            }
            if left:
                tasks.append((seed, left))
        fill(table, args.n_jobs, partial(report, args, domain), tasks)


def report(args, domain, seed, wanted):
    """The rows of methods at their settings on a reporting split; of references, without."""
    rows = splits(args, domain, seed)  # methods may use the people for tuning
    made = {
        key: (None, {}) if params is None else (make(key[0], domain, params), params)
        for key, params in wanted.items()
    }
    return run(domain, rows, made, seed, args.cache, n_trainings=domain.n_trainings)


if __name__ == "__main__":
    main()
