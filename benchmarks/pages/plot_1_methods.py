"""
Which method, at which cost
===========================

How near each method comes to the retrained network, for what it costs, on eight sets of data. Where
training is long, a shorter training from scratch is the method to beat, and ``Distill`` comes
closest to it. Where training is short, it depends on the data.

For each cap on cost a method has the settings that came nearest to the retrained network on the
tuning splits. What is shown was measured on other splits. **Cost** is the number of samples that go
through the network, as a share of those that retraining takes. **Distance** is how far the
predictions on forget rows are from the retrained network's, over how far those of two retrainings
are from each other: 1 is as near as training again comes.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _tables import (
    DOMAINS,
    NOT_RANKED,
    REFERENCES,
    Folded,
    Stacked,
    against,
    over_domains,
    read,
    style,
)

from skunlearn.evaluation import pareto_front

summary = read("summary")
domains = [name for name in DOMAINS if name in set(summary.domain)]
within = read("chosen")[["domain", "cap", "method", "n_within"]]
summary = summary.merge(within, "left", ["domain", "cap", "method"])
# The controls and the variants have pages of their own.
ranked = ~summary.method.isin(NOT_RANKED) & ~summary.method.str.contains(": ")
methods = summary[ranked]
names = methods.method.unique()
more = sorted(name for name in names if "(" in name)
print(f"{len(names) - len(more)} methods, and {', '.join(more)}")
print(f"on {'; '.join(map(DOMAINS.get, domains))}")

# %%
# Nearest for its cost
# --------------------
# What lies on the lower left edge is nearest to the retrained network for its cost. The dotted line
# is the original, which costs nothing and has forgotten nothing. Grey points are all other methods;
# bars are standard deviations over splits. Hollow points have lost more than .05 of accuracy on
# retained rows, and have no part in the front (grey line).

short = {
    "Retrain (tuned, short)": "shorter training, tuned",
    "Retrain (shortened)": "shorter training",
}
shown = ["Retrain (tuned, short)", "Retrain (shortened)", "DLFD", "DLFD (published)", "EUk"]
shown += ["FineTune", "Distill"]
n_rows = -(-len(domains) // 2)
figure, axes = plt.subplots(n_rows, 2, figsize=(8, 3 * n_rows), layout="constrained", squeeze=False)
for ax, name in zip(axes.flat, domains):
    here = summary[summary.domain == name].drop_duplicates(["method", "trial"])
    points = here[here.method.isin(methods.method)]
    others = points[~points.method.isin(shown)]
    for kept, face in (1, "0.75"), (0, "white"):
        rows = others[others.kept == kept]
        ax.scatter(
            rows.cost, rows.relative_js_distance, s=12, edgecolor="0.75", facecolor=face, zorder=1
        )
    for method in shown:
        ours = points[points.method == method].sort_values("cost")
        ax.errorbar(
            ours.cost,
            ours.relative_js_distance,
            ours.relative_js_distance_sd,
            linestyle="-",
            markersize=5,
            linewidth=1,
            label=short.get(method, method),
            **style(method),
        )
        lost = ours[ours.kept == 0]
        hollow = {"linestyle": "", "ms": 5, "mfc": "white", "zorder": 3}
        ax.plot(lost.cost, lost.relative_js_distance, **hollow, **style(method))
    kept = points[points.kept == 1]
    front = kept.iloc[pareto_front(kept.cost, kept.relative_js_distance)]
    ax.plot(front.cost, front.relative_js_distance, color="0.6", drawstyle="steps-post", zorder=0)
    ax.axhline(
        here.relative_js_distance[here.method == "Original"].mean(), color="0.4", ls=":", lw=1
    )
    ax.axhline(1, color="0.4", lw=0.8)
    ax.set(title=DOMAINS[name], xscale="log", xlim=(0.004, 1.3))
    ax.set_xticks([0.01, 0.1, 1], ["1 %", "10 %", "100 %"])
for ax in axes.flat[len(domains) :]:
    ax.set_axis_off()
for ax in axes[:, 0]:
    ax.set_ylabel("distance to retrained")
for ax in axes[-1]:
    ax.set_xlabel("cost, as a share of retraining")
handles, labels = axes.flat[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
plt.show()

# %%
# How to read the tables
# ----------------------
# Distance 1 is no optimum: a network that fits less, and is less sure of its answers, can be nearer
# to one retrained network than another is. Two more numbers stand beside it: **NoMUS**, which joins
# utility and the attack, and the **gap**, the mean difference of accuracies and attack to the
# retrained network's.
#
# Two guards belong to them. **Kept**: the accuracy on retained rows is the retrained network's,
# less .05 at most. (A network that has lost everything has nothing to give away.) **Forgot**: the
# mean over splits of \|AUC − .5\| of the calibrated attack is at most .1. Only methods that have
# kept are ranked. To **pass** (:ref:`at more length <pass>`) is to have kept and forgotten, within
# the cap on cost on all splits, and to be nearer than the original on average.
#
# The tables count methods by name: a method with two rows was run in two versions
# (``AdvancedNegGrad`` with a ceiling on the loss, ``SCRUB`` with rewinding, ``DLFD`` as it was
# published), and two are shorter trainings. Of the library's seventeen, ``Retrain`` is the
# reference, and ``SISA`` was not run.
#
# The networks are small, with at most 67,000 parameters; larger ones may rank the methods
# otherwise.

# %%
# Ranks
# -----
# A rank is one plus the number of methods that are better by more than their 95 % interval: that of
# the mean difference, by the corrected resampled t-test, since splits are draws of the same people.
# They are not corrected for how many there are (the p-values below are). Ties share a rank, and a
# method whose figures scatter widely has a better one than its mean deserves. Below, for each cap,
# the rank by distance in each domain. A dash is a method that no setting brings under the cap,
# "lost" one that has lost accuracy on retained rows, and "expensive" one that cost more than the
# cap on some reporting split.


def ranks(cap):
    """Methods by domains, those that are best over the domains first."""
    here = methods[methods.cap == cap].set_index(["method", "domain"])
    rank = here.relative_js_distance_rank
    text = rank.map("{:.0f}".format).where(rank.notna(), "expensive").where(here.kept == 1, "lost")
    table = text.unstack("domain", fill_value="–")
    order = rank.unstack("domain").fillna(rank.max() + 1).mean(axis=1).sort_values().index
    return table.loc[order, [name for name in domains if name in table]].rename(columns=DOMAINS)


caps = sorted(methods.cap.unique())
Stacked(*(Folded(f"At most {cap:.0%} of retraining", ranks(cap), cap == 0.1) for cap in caps))

# %%
# How often a method is best, or tied with the best, by each of the three numbers:

best = {
    name: (methods[f"{column}_rank"] == 1).groupby([methods.cap, methods.method]).sum()
    for name, column in {
        "distance": "relative_js_distance",
        "NoMUS": "nomus",
        "gap": "gap",
    }.items()
}
n_domains = methods.groupby("cap").domain.nunique()
rows = best["distance"].to_frame("distance").assign(NoMUS=best["NoMUS"], gap=best["gap"])


def most_often(cap):
    """The methods that are in the first place most often."""
    table = rows.loc[cap].sort_values("distance", ascending=False)
    table.index.name = f"of {n_domains[cap]} domains"
    return table


Stacked(*(Folded(f"At most {cap:.0%} of retraining", most_often(cap)) for cap in caps))

# %%
# Nearer, further, the same, or open
# ----------------------------------
# Ranked methods against the original, and against a shorter training of as many epochs as the cap
# allows, where that keeps its accuracy; over all domains and caps (``comparisons.csv``). *Nearer*
# and *further* have p-values of at most .05 after Benjamini and Hochberg, over all comparisons of
# the table's half; *equivalent* are two whose difference is within .2 of the distance of two
# retrainings, by two one-sided tests at 5 %; of the *open* ones the splits say neither.

compared = over_domains("comparisons")
halves = [compared[compared.theirs == theirs] for theirs in ("Original", "Retrain (shortened)")]
Stacked(
    *(
        Folded(f"against {half.theirs.iloc[0]}", pd.crosstab(half.ours, half.verdict), True)
        for half in halves
    )
)

# %%
# DLFD against others
# -------------------
# DLFD's distance less that of another method at the same cap, with the 95 % interval of the mean
# difference; negative is in DLFD's favour, and a star marks what is no tie. Pairs of which one has
# lost accuracy on retained rows are in brackets.

OTHERS = ("FineTune", "EUk", "Retrain (shortened)", "DLFD (published)", "Original")
compared = against([("DLFD", name) for name in OTHERS])
compared["text"] = compared.text.where(compared.kept, "(" + compared.text + ")")
compared["place"] = compared.domain.map(DOMAINS) + compared.cap.map(", ≤ {:.0%}".format)
wide = compared.pivot(index="place", columns="theirs", values="text")
wide.reindex(index=compared.place.unique(), columns=OTHERS).fillna("").rename_axis(
    "", columns="DLFD against"
)

# %%
# Counted, without those in brackets:

fair = compared[compared.kept]
counts = {
    "nearer": fair["mean"] < -fair.half,
    "further": fair["mean"] > fair.half,
    "tie": fair["mean"].abs() <= fair.half,
}
pd.DataFrame(counts).groupby(fair.theirs).sum().reindex(OTHERS).rename_axis("DLFD against")

# %%
# All figures
# -----------
# Mean and standard deviation over the reporting splits. The references stand above the methods. The
# last columns are the number of reporting splits, how many of the settings that were tried were
# within the cap (all methods had as many tries, but of an expensive one fewer counted), and what a
# method fails to pass on: *lost* accuracy, *found* by the attack, *expensive*, or *no nearer* than
# the original on average.

columns = {
    "relative_js_distance": "distance",
    "nomus": "NoMUS",
    "gap": "gap",
    "utility": "utility",
    "retain_accuracy": "retain acc.",
    "forget_accuracy": "forget acc.",
    "calibrated_attack_auc": "calibrated AUC",
    "cost": "cost",
}


def all_figures(domain, cap):
    """The whole table of a domain and a cap."""
    here = summary[(summary.domain == domain) & (summary.cap == cap)]
    first = here.method.isin(REFERENCES)
    here = here.assign(first=~first).sort_values(["first", "relative_js_distance"])
    table = here.set_index("method")[list(columns)].copy()
    for column in columns:
        sd = here.set_index("method")[f"{column}_sd"]
        table[column] = [
            "" if np.isnan(m) else f"{m:.2f}" + ("" if np.isnan(s) else f" ± {s:.2f}")
            for m, s in zip(table[column], sd)
        ]
    counts = here.set_index("method")[["n_seeds", "n_within"]]
    table["splits"] = counts.n_seeds
    table["settings"] = ["" if np.isnan(n) else f"{n:.0f}" for n in counts.n_within]
    failed = {"kept": "lost", "forgot": "found", "in_cap": "expensive", "nearer": "no nearer"}
    original = here.relative_js_distance[here.method == "Original"].mean()
    nearer = (here.relative_js_distance < original) | (here.method == "Original")
    here = here.assign(nearer=nearer)
    table["failed"] = [
        ", ".join(word for flag, word in failed.items() if not row[flag])
        for row in here.to_dict("records")
    ]
    return table.rename(columns=columns)


Stacked(
    *(
        Folded(f"{DOMAINS[name]}, at most {cap:.0%} of retraining", all_figures(name, cap))
        for name in domains
        for cap in sorted(summary.cap[summary.domain == name].unique())
    )
)
