"""Compare methods over all domains: p-values, ties that are equivalence, DLFD beside its controls.

It reads the tables alone, and takes seconds. ``comparisons.csv`` has a row for each domain, cap and
pair of methods, by distance to the retrained network; ``pooled.csv`` what DLFD does beyond each of
its controls, over the domains; ``goal.csv`` how far each method that was attacked row by row is
from what would be good enough.
"""

from collections import defaultdict

import numpy as np
from domains import DOMAINS
from methods import CONTROLS, DEFAULT, GUARDED, SHORTENED
from options import options
from scipy.stats import false_discovery_control, t
from students import students
from summarise import paired
from tables import Table

FIGURE = "relative_js_distance"
MARGIN = 0.2  # of the distance of two retrainings; what differs by less is the same for a user
PAIRS = ("domain", "cap", "ours", "theirs", "n_seeds", "mean", "half", "low", "high", "p")
PAIRS += ("p_adjusted", "verdict")
GOAL = ("domain", "cap", "method", "trial", "cost", FIGURE, f"{FIGURE}_sd", "n_seeds")
GOAL += ("retain_accuracy", "retain_lost", "n_models", "n_attacked", "u_lira_auc")
GOAL += ("u_lira_above", "u_lira_above_sd", "reached")
OF_STUDENTS = ("Distill (fresh)", "Retrain (short, batches)")  # what they are compared with
FAR, LOST = 1.2, 0.05  # at most: distance, accuracy on retained rows; AUC: `Domain.found`
POOLED = ("ours", "control", "n_domains", "mean", "half", "p")


def tested(differences, measured_share):
    """The p-value of a mean difference of 0, by the corrected resampled t-test of `paired`."""
    mean, half = paired(differences, measured_share)
    n = np.isfinite(np.asarray(differences, dtype=float)).sum()
    if n < 2 or not half:
        return np.nan
    error = half / t.ppf(0.975, n - 1)
    return float(2 * t.sf(abs(mean) / error, n - 1))


def verdict(mean, half, low, high, p_adjusted):
    """What a comparison says: "nearer", "further", "equivalent" or "open".

    Parameters
    ----------
    mean, half : float
        Of ours less theirs, and half of its 95 % interval.
    low, high : float
        Its 90 % interval, for two one-sided tests at 5 %: within `MARGIN` on both sides, the two
        are equivalent, whether or not one is nearer by less than that.
    p_adjusted : float
        After Benjamini and Hochberg.

    Returns
    -------
    verdict : str
    """
    if low > -MARGIN and high < MARGIN:
        return "equivalent"
    if p_adjusted <= 0.05:
        return "nearer" if mean < 0 else "further"
    return "open"


def compare(summaries, reports):
    """A row for each domain, cap and pair; p-values are adjusted over all with the same second.

    Parameters
    ----------
    summaries, reports : dict of str to list of dict
        Tables by domain.

    Returns
    -------
    rows : list of dict
    """
    rows = []
    for name, summary in summaries.items():
        share, values = DOMAINS[name].measured_share(FIGURE), _values(reports[name])
        for cap in sorted({entry["cap"] for entry in summary}):
            here = {entry["method"]: entry for entry in summary if entry["cap"] == cap}
            for ours, theirs in _pairs(here):
                a, b = (values[m, here[m]["trial"]] for m in (ours, theirs))
                found = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
                mean, half = paired(found, share)
                _, narrow = paired(found, share, level=0.9)
                row = name, cap, ours, theirs, len(found), mean, half, mean - narrow, mean + narrow
                rows.append(dict(zip(PAIRS, (*row, tested(found, share)))))
    for theirs in {row["theirs"] for row in rows}:
        family = [row for row in rows if row["theirs"] == theirs and np.isfinite(row["p"])]
        adjusted = false_discovery_control([row["p"] for row in family]) if family else []
        for row, p in zip(family, adjusted):
            row["p_adjusted"] = float(p)
    for row in rows:
        row.setdefault("p_adjusted", np.nan)
        row["verdict"] = verdict(
            *(row[name] for name in ("mean", "half", "low", "high", "p_adjusted"))
        )
    return rows


def _pairs(here):
    """Which methods of a cap are compared; the ranked ones, and controls with what they control."""
    ranked = [name for name, entry in here.items() if np.isfinite(entry["nomus_rank"])]
    yield from ((ours, "Original") for ours in ranked)
    if here.get(SHORTENED, {"kept": 0})["kept"]:
        yield from ((ours, SHORTENED) for ours in ranked if ours != SHORTENED)
    fresh = students(DOMAINS["smoke"].net)
    own = ["Distill", DEFAULT, f"Distill{GUARDED}", *fresh, f"Distill (fresh){GUARDED}"]
    own = [(ours, "Retrain (tuned, short)") for ours in own]
    own += [(ours, theirs) for theirs in OF_STUDENTS for ours in fresh if ours != theirs]
    for ours, theirs in [*own, *_controlled()]:
        if ours in here and theirs in here and here[ours]["kept"]:
            yield ours, theirs


def _controlled():
    return [
        (name, f"{name}: {control}")
        for name in ("DLFD", "DLFD (published)")
        for control in CONTROLS
    ]


def _values(rows):
    values = defaultdict(dict)
    for row in rows:
        if not row["error"]:
            values[row["method"], row["trial"]][row["seed"]] = row[FIGURE]
    return values


def pool(summaries, reports):
    """What DLFD does beyond each control, as a share of the way from original to retrained.

    Of each domain it is the mean over its caps and splits of the difference in distance, over that
    of the original from the retrained network; negative is in DLFD's favour. The interval of 95 %
    is Student's, over domains; a domain and its longer training are of the same rows, and count as
    one.

    Parameters
    ----------
    summaries, reports : dict of str to list of dict
        Tables by domain.

    Returns
    -------
    rows : list of dict
    """
    rows = []
    for ours, theirs in _controlled():
        of_rows = defaultdict(list)
        for name, summary in summaries.items():
            values, found = _values(reports[name]), {}
            for cap in sorted({entry["cap"] for entry in summary}):
                trial = {e["method"]: e["trial"] for e in summary if e["cap"] == cap}
                if ours in trial and theirs in trial:
                    a, b = (values[m, trial[m]] for m in (ours, theirs))
                    both = a.keys() & b.keys()  # a setting that is chosen at two caps counts once
                    found[trial[ours]] = np.mean([a[seed] - b[seed] for seed in both])
            way = np.mean(list(values["Original", ""].values())) - 1
            if found:
                of_rows[name.removesuffix("-long")].append(np.mean(list(found.values())) / way)
        shares = [float(np.mean(found)) for found in of_rows.values()]
        mean, half = paired(shares, 0)
        row = ours, theirs.partition(": ")[2], len(shares), mean, half, tested(shares, 0)
        rows.append(dict(zip(POOLED, row)))
    return rows


def goal(summary, attacks):
    """How far each method of a domain is from good enough, at each cap at which it was attacked.

    Good enough is a distance of at most `FAR`, an AUC of U-LiRA at most `Domain.found` above the
    retrained network's on the same splits, and an accuracy on retained rows of at most `LOST` below
    it.

    Parameters
    ----------
    summary, attacks : list of dict
        Tables of the domain.

    Returns
    -------
    rows : list of dict
    """
    aucs, rows = defaultdict(dict), []
    for row in attacks:
        aucs[row["method"], row["trial"], row["cap"]][row["seed"]] = row
    if not attacks:
        return rows
    chance, allowed = aucs["Retrain", "", 1.0], DOMAINS[summary[0]["domain"]].found
    (accuracy,) = {row["retain_accuracy"] for row in summary if row["method"] == "Retrain"}
    for row in summary:
        found = aucs.get((row["method"], row["trial"], row["cap"]))
        if found:
            ours = np.array([found[seed]["u_lira_auc"] for seed in found])
            above = ours - [chance[seed]["u_lira_auc"] for seed in found]  # on the same splits
            new = {
                "n_models": found[min(found)]["n_models"],
                "n_attacked": len(found),
                "u_lira_auc": float(ours.mean()),
                "u_lira_above": round(float(above.mean()), 6),
                "u_lira_above_sd": float(above.std(ddof=1)) if len(above) > 1 else "",
                "retain_lost": round(accuracy - row["retain_accuracy"], 6),
            }
            is_near, is_kept = row[FIGURE] <= FAR, new["retain_lost"] <= LOST
            new["reached"] = int(is_near and new["u_lira_above"] <= allowed and is_kept)
            rows.append(row | new)
    return [{name: row[name] for name in GOAL} for row in rows]


def main(args=None):
    args = options(__doc__, args)
    names = [domain.name for domain in args.domains]
    summaries, reports = (
        {name: Table(args.results / f"{part}-{name}.csv").rows() for name in names}
        for part in ("summary", "reported")
    )
    rows = compare(summaries, reports)
    Table(args.results / "comparisons.csv", PAIRS).replace(rows)
    pooled = pool(summaries, reports)
    Table(args.results / "pooled.csv", POOLED).replace(pooled)
    attacks = {name: Table(args.results / f"attacks-{name}.csv").rows() for name in names}
    goals = [row for name in names for row in goal(summaries[name], attacks[name])]
    Table(args.results / "goal.csv", GOAL).replace(goals)
    for theirs in sorted({row["theirs"] for row in rows}):
        verdicts = [row["verdict"] for row in rows if row["theirs"] == theirs]
        counts = {
            word: verdicts.count(word) for word in ("nearer", "further", "equivalent", "open")
        }
        print(f"{theirs}: {counts}")
    for row in pooled:
        print(f"{row['ours']} less {row['control']}: {row['mean']:+.3f} ± {row['half']:.3f}")


if __name__ == "__main__":
    main()
