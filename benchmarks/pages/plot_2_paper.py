"""
What the paper looked at
========================

The paper of DLFD looks at the share of rows to forget, at the number of epochs, and at what becomes
of it without one of its components. Here the same is done on two domains with many people, with
DLFD's default settings, on splits that nothing was tuned on, beside fine-tuning, a training from
scratch of half the length, and DLFD as published (no clean term, no statistics estimated anew).
"""

import matplotlib.pyplot as plt
from _tables import COLOURS, DOMAINS, Folded, read, spread

checks = read("checks")
checks[["part", "value"]] = checks.trial.fillna("").str.partition("=")[[0, 2]].to_numpy()
domains = list(dict.fromkeys(checks.domain))
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
        for (column, title), ax in zip(FIGURES.items(), row):
            for method, colour in zip(methods, COLOURS):
                stats = here[here.method == method].groupby("x")[column].agg(["mean", "std"])
                ax.errorbar(
                    stats.index,
                    stats["mean"],
                    stats["std"],
                    fmt="o-",
                    ms=3,
                    lw=1,
                    color=colour,
                    label=method,
                    elinewidth=0.6,
                )
            if column == "nomus":
                stats = here[here.method == "Retrain"].groupby("x")[column].mean()
                ax.plot(stats.index, stats, color="0.4", ls="--", lw=1, label="Retrain")
            if column == "relative_js_distance":
                ax.axhline(1, color="0.4", lw=0.8)
            ax.set(title=f"{DOMAINS[domain]}: {title}", **scale)
            ax.title.set_fontsize(9)
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    handles, labels = axes[0, 1].get_legend_handles_labels()
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
# Is one enough?

lines("epochs", "epochs of unlearning", METHODS[:3], xscale="log")
Folded("Figures", table("epochs", METHODS[:3]))

# %%
# Components
# ----------
# Each row leaves out one component. "No synthesised rows" trains on clean batches twice;
# "published" leaves out what this library adds.


def ablation(part):
    """Mean and standard deviation of each way, a column for each domain and figure."""
    rows = checks[checks.part == part]
    named = {"relative_js_distance": "distance", "nomus": "NoMUS", "retain_accuracy": "retain acc."}
    wide = rows.groupby(["value", "domain"], sort=False)[list(named)].agg(spread).unstack("domain")
    wide.columns = [f"{DOMAINS[domain]}: {named[name]}" for name, domain in wide.columns]
    return wide.rename_axis("DLFD with" if part == "statistics" else "DLFD, of its components")


ablation("component")

# %%
# Batch normalisation
# -------------------
# The synthesised rows pass through the normalisation layers, too. Their statistics may be kept as
# the run leaves them, estimated anew on clean batches afterwards (the default), or be the
# original's throughout.

ablation("statistics")
