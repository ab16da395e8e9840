"""Print, for each domain and cap on cost, what was reported: means, spreads, ranks, ties."""

from collections import defaultdict

import numpy as np
from options import options
from scipy.stats import t
from tables import Table

SHOWN = {  # and whether greater is better, which decides the ranks
    "nomus": True,
    "relative_js_distance": False,
    "gap": False,
    "utility": None,
    "retain_accuracy": None,
    "forget_accuracy": None,
    "calibrated_attack_auc": None,
    "cost": None,
    "seconds": None,
}
SUMMARY = ["domain", "cap", "method", "trial", "n_seeds"]
SUMMARY += [f"{name}{kind}" for name in SHOWN for kind in ("", "_sd")]
SUMMARY += [f"{name}_rank" for name, greater in SHOWN.items() if greater is not None]


def is_better(ours, theirs, greater, level=0.95):
    """Whether one method is better than another by more than their seeds leave open.

    Parameters
    ----------
    ours, theirs : dict
        A figure by seed.
    greater : bool
        Whether greater is better.
    level : float
        Of the interval of the mean difference over the seeds that both have, by Student's t. What
        lies within it is a tie.

    Returns
    -------
    better : bool
    """
    difference = np.array([ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()])
    difference = (difference if greater else -difference)[np.isfinite(difference)]
    n = len(difference)
    if n < 2:
        return False
    half = t.ppf((1 + level) / 2, n - 1) * difference.std(ddof=1) / np.sqrt(n)
    return bool(difference.mean() > half)


def summarise(domain, choices, rows):
    """A row for each cap and method, with means, standard deviations over seeds, and ranks.

    A rank is 1 plus the number of methods that are better: ties share it. The original, the
    references and the controls are not ranked.

    Parameters
    ----------
    domain : str
        The name of the domain.
    choices, rows : list of dict
        What was chosen, and what was reported.

    Returns
    -------
    summary : list of dict
    """
    found = defaultdict(dict)
    for row in rows:
        if not row["error"]:
            found[row["method"], row["trial"]][row["seed"]] = row
    summary = []
    for cap in sorted({choice["cap"] for choice in choices}):
        shown = [("Original", ""), ("Retrain", ""), ("Retrain again", "")]
        chosen = [(choice["method"], choice["trial"]) for choice in choices if choice["cap"] == cap]
        shown = [key for key in shown + chosen if found[key]] if chosen else []
        ranked = [key for key in shown if key in chosen and ": " not in key[0]]
        for key in shown:
            entry = dict(zip(SUMMARY, (domain, cap, *key, len(found[key]))))
            for name, greater in SHOWN.items():
                values = {seed: row[name] for seed, row in found[key].items()}
                array = np.array(list(values.values()))
                entry[name] = float(array.mean())
                entry[f"{name}_sd"] = float(array.std(ddof=1)) if len(array) > 1 else np.nan
                if greater is None or key not in ranked:
                    continue
                others = [{s: row[name] for s, row in found[k].items()} for k in ranked if k != key]
                entry[f"{name}_rank"] = 1 + sum(is_better(o, values, greater) for o in others)
            summary.append(entry)
    return summary


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        parts = [args.results / f"{part}-{domain.name}.csv" for part in ("chosen", "reported")]
        summary = summarise(domain.name, *(Table(path).rows() for path in parts))
        if not summary:
            print(f"{domain.name} is skipped: nothing is reported yet.")
            continue
        Table(args.results / f"summary-{domain.name}.csv", SUMMARY).replace(summary)
        for cap in sorted({entry["cap"] for entry in summary}):
            show(domain.name, cap, [entry for entry in summary if entry["cap"] == cap])


def show(domain, cap, entries):
    """Print the table of a cap, the closest to the retrained network first."""
    width = max(len(entry["method"]) for entry in entries)
    print(f"\n{domain}, at most {cap:.0%} of the cost of retraining; * no other method is better")
    print(" " * width + "".join(f"{name.replace('_', ' '):>22}" for name in SHOWN))
    references = [entry for entry in entries if entry["method"] in ("Original", "Retrain")]
    others = [e for e in entries if e not in references and e["method"] != "Retrain again"]
    for entry in references + sorted(others, key=lambda entry: entry["relative_js_distance"]):
        cells = [
            f"{entry[name]:.3f}±{entry[f'{name}_sd']:.3f}"
            + ("*" if entry.get(f"{name}_rank") == 1 else " ")
            for name in SHOWN
        ]
        print(f"{entry['method']:{width}}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
