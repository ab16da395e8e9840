"""
What it costs
=============

How the seconds of DLFD and of fine-tuning grow with rows and with features, beside retraining, and
which transport solver is the fastest. Time grows in proportion to rows, and little with features.

The network is small, on one thread, and the seconds are those of one machine. What carries over is
how they grow: the slopes.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _tables import RESULTS, Folded, style

runs = pd.read_csv(RESULTS / "cost-unlearning.csv", comment="#")
solvers = pd.read_csv(RESULTS / "cost-solvers.csv", comment="#")

# %%
# Rows and features
# -----------------
# One epoch of DLFD with its defaults, one of fine-tuning, and a retraining of thirty epochs. A
# slope of 1 on logarithmic axes is time in proportion. It is fitted to the larger half of the
# sizes, where what a run takes to set up no longer matters.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained", sharey=True)
slopes, ratios = {}, {}
for part, ax in zip(("rows", "features"), axes):
    here = runs[runs.part == part]
    wide = here.pivot(index=part, columns="method", values="seconds")
    for method in ("DLFD", "FineTune", "Retrain"):
        larger = wide[method].iloc[len(wide) // 2 :]
        slope = np.polyfit(np.log(larger.index), np.log(larger), 1)[0]
        slopes[method, part] = slope
        epochs = here.epochs[here.method == method].iloc[0]
        label = f"{method}, {epochs} epoch{'' if epochs == 1 else 's'} (slope {slope:.2f})"
        line = {"linestyle": "-", "ms": 5, "lw": 1, "label": label}
        ax.loglog(wide.index, wide[method], **line, **style(method))
    ratios[part] = wide.DLFD / wide.Retrain, wide.DLFD / wide.FineTune
    ax.set(xlabel={"rows": "rows", "features": "features at the last layer"}[part])
    ax.legend(fontsize=8, frameon=False)
axes[0].set_ylabel("seconds")
plt.show()

for part, (of_retraining, of_epoch) in ratios.items():
    print(
        f"by {part}: an epoch of DLFD takes {of_epoch.min():.1f} to {of_epoch.max():.1f} times one "
        f"of fine-tuning, and {of_retraining.min():.0%} to {of_retraining.max():.0%} of retraining"
    )

# %%
# Solvers
# -------
# A forward and backward pass of each solver, in milliseconds.

methods = list(dict.fromkeys(solvers.method))
dims = sorted(solvers.features.unique())
figure, axes = plt.subplots(1, len(methods), figsize=(8, 3.2), layout="constrained", sharey=True)
for ax, method in zip(axes, methods):
    wide = solvers[solvers.method == method].pivot(
        index="batch", columns="features", values="milliseconds"
    )
    image = ax.imshow(np.log10(wide), cmap="viridis", vmin=-1, vmax=2, aspect="auto")
    for (i, j), value in np.ndenumerate(wide.to_numpy()):
        ax.text(
            j,
            i,
            f"{value:.1f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if np.log10(value) < 0.7 else "black",
        )
    ax.set_xticks(range(len(dims)), dims, fontsize=7)
    ax.set_yticks(range(len(wide)), wide.index)
    ax.set(title=method, xlabel="features")
axes[0].set_ylabel("rows of a batch")
plt.show()

fastest = solvers.loc[solvers.groupby(["batch", "features"]).milliseconds.idxmin()]
table = fastest.pivot(index="batch", columns="features", values="method")
Folded("The fastest solver, by batch and features", table)
