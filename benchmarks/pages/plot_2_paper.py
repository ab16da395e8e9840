"""
What the paper examined
========================

What the paper of DLFD varies, measured again: the share of rows to forget, the number of epochs,
and which components are left out. As published (one epoch, six steps of .05, no clean term, no
statistics re-estimated), DLFD loses accuracy on retained rows; with what this library adds it keeps
the accuracy.

Measured on two domains with many people, beside fine-tuning, EU-k, and a training from scratch of
half the length, all with default settings. Those of DLFD were chosen on other draws of these and
other people, which favours it here. On the speeches, which are trained for eight epochs, the five
epochs of DLFD cost more than retraining; costs are in the tables.
"""

import matplotlib.pyplot as plt
from _tables import DOMAINS, Folded, read, spread, style

checks = read("checks")
checks[["part", "value"]] = checks.trial.str.partition("=")[[0, 2]].to_numpy()
domains = list(dict.fromkeys(checks.domain))
for name, n_splits in checks.groupby("domain").seed.nunique().items():
    print(f"{DOMAINS[name]}: {n_splits} splits")
FIGURES = {
    "relative_js_distance": "distance to retrained",
    "nomus": "NoMUS",
    "retain_accuracy": "retain accuracy",
}
METHODS = ("DLFD", "DLFD (published)", "FineTune", "EUk", "Retrain (shortened)", "Original")


def lines(part, xlabel, methods, **scale):
    """Draw each figure against what is varied, a row of axes for each domain."""
    figure, axes = plt.subplots(
        len(domains), 3, figsize=(8, 2.6 * len(domains)), layout="constrained", squeeze=False
    )
    rows = checks[checks.part == part].assign(x=lambda frame: frame.value.astype(float))
    for domain, row in zip(domains, axes):
        here = rows[rows.domain == domain]
        same = checks[(checks.domain == domain) & (checks.trial == "")]  # references of all epochs
        for (column, title), ax in zip(FIGURES.items(), row):
            for method in methods:
                stats = here[here.method == method].groupby("x")[column].agg(["mean", "std"])
                ax.errorbar(
                    stats.index,
                    stats["mean"],
                    stats["std"],
                    linestyle="-",
                    ms=4,
                    lw=1,
                    label=method,
                    elinewidth=0.6,
                    **style(method),
                )
            retrained = here[here.method == "Retrain"].groupby("x")[column].mean()
            if not len(retrained):
                level = same[same.method == "Retrain"][column].mean()
                ax.axhline(level, color="0.4", ls="--", lw=1, label="Retrain")
            else:
                ax.plot(retrained.index, retrained, color="0.4", ls="--", lw=1, label="Retrain")
            ax.set(title=f"{DOMAINS[domain]}: {title}", **scale)
            ax.title.set_fontsize(9)
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    plt.show()


def table(part, methods):
    """Mean and standard deviation over splits, by method and value."""
    rows = checks[(checks.part == part) & checks.method.isin(methods)]
    cells = rows.groupby(["domain", "method", "value"], sort=False)[[*FIGURES, "gap", "cost"]]
    return cells.agg(spread).rename(columns=FIGURES)


# %%
# Share of people forgotten
# -------------------------
# From one in a hundred to half of those who were trained on.

lines("share", "share of people forgotten", METHODS, xscale="log")
Folded("Figures", table("share", METHODS))

# %%
# Number of epochs
# ----------------
# Is one enough? An epoch of DLFD costs about three of fine-tuning; the costs are in the table.

lines("epochs", "epochs of unlearning", METHODS[:3], xscale="log")
Folded("Figures", table("epochs", METHODS[:3]))

# %%
# Components
# ----------
# Below DLFD with all components each row leaves out one. "No synthesised rows" trains on clean
# batches, with twice the weight; "published" leaves out what this library adds, takes six steps of
# .05, and runs for one epoch in place of five.


def ablation(part, defaults):
    """Mean and standard deviation of each way, a column for each domain and figure."""
    rows = checks[(checks.part == part) | checks.trial.isin(["", "defaults"])]
    rows = rows[rows.method != "Retrain again"]
    way = rows.value.where(rows.part == part, rows.method).where(rows.trial != "defaults", defaults)
    named = {"relative_js_distance": "distance", "nomus": "NoMUS", "retain_accuracy": "retain acc."}
    grouped = rows.assign(way=way).groupby(["way", "domain"], sort=False)[list(named)]
    wide = grouped.agg(spread).unstack("domain")
    wide.columns = [f"{DOMAINS[domain]}: {named[name]}" for name, domain in wide.columns]
    return wide.rename_axis("")


ablation("component", "DLFD, all components")

# %%
# Batch normalisation
# -------------------
# The synthesised rows pass through the normalisation layers, too. Their statistics may be kept as
# the run leaves them, re-estimated on clean batches afterwards (the default), or be the
# original's throughout.

ablation("statistics", "re-estimated")
