"""Print, for each domain and cap on cost, what was reported: means, spreads, ranks, ties."""

from collections import defaultdict

import numpy as np
from methods import DEFAULT, GUARDED
from options import ROUNDING, options
from report import GUARD
from scipy.stats import t
from students import students
from tables import Table
from variants import variants

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
SUMMARY = ["domain", "cap", "method", "trial", "n_seeds", "kept", "forgot", "in_cap"]
ATTACK = 0.1  # how far the AUC of the calibrated attack may be from chance level, on average
SUMMARY += [f"{name}{kind}" for name in SHOWN for kind in ("", "_sd")]
SUMMARY += [f"{name}_rank" for name, greater in SHOWN.items() if greater is not None]


def paired(differences, measured_share, level=0.95):
    """Mean difference over splits, and half its interval by the corrected resampled t-test.

    The splits are draws of the same people, so that their figures are not independent, and the
    usual interval is too narrow: the variance of the mean is taken to be that of independent ones,
    and `measured_share` times the variance over splits more.

    Parameters
    ----------
    differences : array-like of shape (n_splits,)
        Of two methods, by split; those that are not finite are left out.
    measured_share : float
        Of the domain; people who are measured for each who is trained on.
    level : float
        Of the interval.

    Returns
    -------
    mean, half_width : float
        Half the width is nan for fewer than two splits.

    References
    ----------
    .. [1] Nadeau and Bengio. Inference for the Generalization Error. Machine Learning 52, 2003.
    """
    differences = np.asarray(differences, dtype=float)
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if n < 2:
        return (float(differences.mean()) if n else np.nan), np.nan
    error = differences.std(ddof=1) * np.sqrt(1 / n + measured_share)
    return float(differences.mean()), float(t.ppf((1 + level) / 2, n - 1) * error)


def is_better(ours, theirs, greater, measured_share):
    """Whether one method is better than another by more than their splits leave open.

    Parameters
    ----------
    ours, theirs : dict
        A figure by seed; those that both have are compared. What lies within the interval of the
        mean difference is a tie.
    greater : bool
        Whether greater is better.
    measured_share : float
        Of the domain.

    Returns
    -------
    better : bool
    """
    both = ours.keys() & theirs.keys()
    mean, half = paired([ours[seed] - theirs[seed] for seed in both], measured_share)
    return (mean if greater else -mean) > half


def guards(rows, retrained, cap):
    """Whether a method kept what it should, forgot, and cost no more than it may, as 0 and 1.

    Parameters
    ----------
    rows, retrained : dict
        The rows of a method, and of the retrained network, by seed.
    cap : float
        Largest cost allowed.

    Returns
    -------
    flags : dict
        `kept`, `forgot` and `in_cap`.
    """

    def mean(rows, name):
        return np.mean([row[name] for row in rows.values()])

    enough = mean(retrained, "retain_accuracy") - GUARD
    # Not how far the mean is: of .41, .82, .50, .36 and .81 that is .08.
    off = np.mean([abs(row["calibrated_attack_auc"] - 0.5) for row in rows.values()])
    costs = [row["cost"] for row in rows.values()]
    return {
        "kept": int(mean(rows, "retain_accuracy") >= enough),
        "forgot": int(off <= ATTACK),
        "in_cap": int(not np.max(costs) > ROUNDING * cap),  # an original has none
    }


def summarise(domain, choices, rows):
    """A row for each cap and method, with means, standard deviations over seeds, and ranks.

    A rank is 1 plus the number of methods that are better: ties share it. Ranked are methods that
    keep the retrained network's accuracy on retained rows, less `GUARD` (`kept`), and cost no more
    than the cap on any split (`in_cap`); not the references, the controls, the variants of DLFD,
    the students, and what was not tuned or was chosen by another rule.
    `forgot` says whether the AUC of the calibrated attack is off chance level by `ATTACK` at most,
    on average over splits.

    Parameters
    ----------
    domain : Domain
        The domain.
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
    summary, unranked = [], {DEFAULT, *variants(domain.net), *students(domain.net)}
    for cap in sorted({choice["cap"] for choice in choices}):
        shown = [("Original", ""), ("Retrain", ""), ("Retrain again", "")]
        chosen = [(choice["method"], choice["trial"]) for choice in choices if choice["cap"] == cap]
        shown = [key for key in shown + chosen if found[key]] if chosen else []
        entries = {
            key: dict(zip(SUMMARY, (domain.name, cap, *key, len(found[key])))) for key in shown
        }
        for key, entry in entries.items():
            entry |= guards(found[key], found["Retrain", ""], cap)
        ranked = [
            key
            for key in chosen
            if key in entries
            and entries[key]["kept"]
            and entries[key]["in_cap"]
            and ": " not in key[0]
            and key[0] not in unranked
            and not key[0].endswith(GUARDED)
        ]
        for key, entry in entries.items():
            for name, greater in SHOWN.items():
                values = {seed: row[name] for seed, row in found[key].items()}
                array = np.array(list(values.values()))
                entry[name] = float(array.mean())
                entry[f"{name}_sd"] = float(array.std(ddof=1)) if len(array) > 1 else np.nan
                if greater is None or key not in ranked:
                    continue
                others = [{s: row[name] for s, row in found[k].items()} for k in ranked if k != key]
                share = domain.measured_share(name)
                entry[f"{name}_rank"] = 1 + sum(
                    is_better(other, values, greater, share) for other in others
                )
            summary.append(entry)
    return summary


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        parts = [args.results / f"{part}-{domain.name}.csv" for part in ("chosen", "reported")]
        summary = summarise(domain, *(Table(path).rows() for path in parts))
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
