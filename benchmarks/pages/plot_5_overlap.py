"""
Does overlap foretell failure?
==============================

Does the overlap of forget and retained features foretell how much a method forgets? Not reliably:
within a split, correlations go either way.

If the features of forget rows lie among those of retained rows, there is nothing to push apart; so
one might expect methods that work on features to do worse there. Rows to forget were chosen in four
ways: single rows, people at random, people of one class, people who are alike. The distance before
unlearning is the transport distance between forget and retained features of the original, over
that of as many retained rows to each other: single rows at random are at 1. Two domains were
measured, with four points a split: that is little to find a weak relation with.
"""

import matplotlib.pyplot as plt
from _tables import DOMAINS, read, spread, style
from scipy.stats import spearmanr

overlap = read("overlap")
overlap["apart"] = overlap.distance / overlap.floor
keys = ["domain", "seed", "trial"]
start = overlap[overlap.method == "Original"].set_index(keys).relative_js_distance
way = start.reindex(list(map(tuple, overlap[keys].to_numpy()))).to_numpy() - 1
overlap["left"] = (overlap.relative_js_distance - 1) / way
domains = list(dict.fromkeys(overlap.domain))
print("measured on", ", ".join(DOMAINS[name] for name in domains))
METHODS = ("DLFD", "FineTune", "EUk")
KINDS = list(dict.fromkeys(overlap.trial))

# %%
# Each point is a split and a way of choosing. Upwards is how much is left of the way from the
# original to the retrained network (1: nothing was forgotten; 0: as near as a second retraining).
# On the drawn faces this way is short, and the points scatter for that reason alone.

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
        colour = style(method)["color"]  # here the marker says how rows were chosen
        for kind, marker, face in zip(KINDS, "osv^", (colour, "white", colour, "white")):
            points = here[here.trial == kind]
            look = {"s": 22, "marker": marker, "edgecolor": colour, "facecolor": face}
            ax.scatter(points.apart, points.left, **look, linewidth=1)

        ax.set_title(f"{DOMAINS[domain]}: {method}", fontsize=9)
    row[0].set_ylabel("share of the way left")
for ax in axes[-1]:
    ax.set_xlabel("distance before unlearning")
for kind, marker, face in zip(KINDS, "osv^", ("0.3", "white", "0.3", "white")):
    look = {"marker": marker, "edgecolor": "0.3", "facecolor": face, "label": kind}
    axes[0, 0].scatter([], [], **look)
figure.legend(loc="outside lower center", ncols=4, frameon=False)
plt.show()

# %%
# Spearman's rank correlation of the distance before with what is left of the way, over the four
# ways of choosing within each split, as mean and standard deviation over splits. If overlap
# foretold failure it would be negative throughout: the further apart, the less is left.


def correlation(rows):
    """Rank correlation within one split."""
    return spearmanr(rows.apart, rows.left).statistic


within = overlap[overlap.method.isin(METHODS)].groupby(["domain", "method", "seed"])
found = within[["apart", "left"]].apply(correlation)
found.groupby(["domain", "method"]).agg(spread).unstack("method").rename(index=DOMAINS)
