"""
Does overlap foretell failure?
==============================

If the features of forget rows lie among those of retained rows, there is nothing to push apart; so
one might expect methods that work on features to do worse there. Rows to forget were chosen in four
ways that differ in this: single rows, people at random, people of one class, people who are alike.
Before unlearning, the transport distance between forget and retained features of an original was
measured, over the distance of as many retained rows to each other: 1 is full overlap.
"""

import matplotlib.pyplot as plt
import pandas as pd
from _tables import COLOURS, DOMAINS, read
from scipy.stats import spearmanr

overlap = read("overlap")
overlap["apart"] = overlap.distance / overlap.floor
overlap["kind"] = overlap.trial.where(overlap.trial.notna())
overlap["kind"] = overlap.groupby(["domain", "seed", "distance"]).kind.transform("first")
domains = list(dict.fromkeys(overlap.domain))
METHODS = ("DLFD", "FineTune", "EUk")
KINDS = list(dict.fromkeys(overlap.kind.dropna()))

# %%
# Each point is a split and a way of choosing. The distance to the retrained network, over that of
# two retrainings, is what was reached: lower is better.

figure, axes = plt.subplots(
    len(domains),
    3,
    figsize=(8, 2.7 * len(domains)),
    layout="constrained",
    sharey="row",
    squeeze=False,
)
for domain, row in zip(domains, axes):
    for method, ax in zip(METHODS, row):
        here = overlap[(overlap.domain == domain) & (overlap.method == method)]
        for kind, colour, marker in zip(KINDS, COLOURS, "osv^"):
            points = here[here.kind == kind]
            ax.scatter(
                points.apart,
                points.relative_js_distance,
                s=18,
                color=colour,
                marker=marker,
                label=kind,
            )
        ax.set_title(f"{DOMAINS[domain]}: {method}", fontsize=9)
    row[0].set_ylabel("distance reached")
for ax in axes[-1]:
    ax.set_xlabel("distance before")
handles, labels = axes[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
plt.show()

# %%
# Spearman's rank correlation of the distance before with what was reached. If overlap foretold
# failure, it would be negative throughout: the further apart, the nearer to the retrained network.

rows = []
for domain in domains:
    for method in (*METHODS, "Original"):
        here = overlap[(overlap.domain == domain) & (overlap.method == method)]
        for figure_name, column in {
            "distance": "relative_js_distance",
            "gap": "gap",
            "NoMUS": "nomus",
        }.items():
            result = spearmanr(here.apart, here[column], nan_policy="omit")
            rows.append(
                {
                    "domain": DOMAINS[domain],
                    "method": method,
                    "with": figure_name,
                    "correlation": f"{result.statistic:.2f} (p = {result.pvalue:.2f})",
                }
            )
pd.DataFrame(rows).pivot(index=["domain", "method"], columns="with", values="correlation")
