"""
Distill: how near, and how much leaks
=====================================

How near ``Distill`` comes to the retrained network, and what an attack on each row still finds in
it. ``Distill`` trains a fresh network on what the original says of the retained rows. Two settings
matter. ``noise`` says how much of the start is fresh: 1 is a fresh network, 0 the original (which
is fine-tuning). ``max_epochs`` says how long it trains; the original was trained for 120.

In the plot, **lower left is better**. To the left, predictions on the forgotten people's rows are
as near to a retrained network's as those of a second retraining (distance 1). At the bottom, an
attack with many networks on each row (U-LiRA) cannot tell people who were forgotten from people who
were never seen. The grey box is the goal: distance 1.2 at most, AUC at most .03 above the retrained
network's. Hollow points have lost more than .05 of accuracy on retained rows.

On the speeches a fresh start is both nearest and not found: with 6 epochs the distance is .91 and
the AUC .50. Less noise leaks more, and is nearer with 3 epochs only (1.16 with noise of 1, 1.06
with .7, which has an AUC of .60).
"""

import matplotlib.pyplot as plt
import pandas as pd
from _tables import DOMAINS, STYLES, read, spread

dial = read("dial", [name for name in DOMAINS if name.endswith("-long")])
by = ["domain", "method", "noise", "epochs"]
near = dial[dial.part == "closeness"]
distance = near.groupby(by, dropna=False).relative_js_distance.mean()
kept = near.groupby(by, dropna=False).retain_accuracy.mean()
attack = dial[dial.part == "attack"].set_index(by)
points = attack.join(distance.rename("distance")).join(kept.rename("accuracy"))
points = points.reset_index()
points = points[points.domain.isin(near.domain)]
domains = list(points.domain.unique())
retrained = read("reported", domains)
retrained = retrained[retrained.method == "Retrain"].groupby("domain").retain_accuracy.mean()
chance = points[points.method == "Retrain"].set_index("domain").u_lira_auc
original = near[near.method == "Original"].groupby("domain").relative_js_distance.mean()

SHADES = ("0.7", "0.45", "0")  # the more epochs, the darker
DISTILL, SHORTENED = (STYLES[name]["marker"] for name in ("Distill", "Retrain (shortened)"))
figure, axes = plt.subplots(
    1,
    len(domains),
    figsize=(4.3 * max(len(domains), 1.6), 4.6),
    layout="constrained",
    squeeze=False,
)
for domain, ax in zip(domains, axes[0]):
    here = points[points.domain == domain]
    ax.fill_between([0.7, 1.2], 0.4, chance[domain] + 0.03, color="0.9", zorder=0)
    ax.text(0.71, chance[domain] + 0.026, "goal", fontsize=9, va="top")
    ax.axhline(chance[domain], color="0.4", lw=0.8)
    ax.axvline(1, color="0.4", lw=0.8)
    for epochs, colour in zip((3, 6, 12), SHADES):
        ours = here[(here.method == "Distill") & (here.epochs == epochs)].sort_values("noise")
        ax.plot(ours.distance, ours.u_lira_auc, "-", color=colour, lw=1.2)
        short = here[(here.method == "Retrain (shortened)") & (here.epochs == epochs)]
        for rows, marker in (ours, DISTILL), (short, SHORTENED):
            for row in rows.itertuples():
                full = row.accuracy >= retrained[domain] - 0.05
                face = colour if full else "white"
                ax.plot(row.distance, row.u_lira_auc, marker, color=colour, mfc=face, ms=7)
        ax.plot([], [], f"{DISTILL}-", color=colour, label=f"Distill, {epochs} epochs")
        if epochs == 3:  # the other lines go from .3 to 1 as well
            for row in ours[ours.noise.isin([0.3, 1])].itertuples():
                place, shift = (row.distance, row.u_lira_auc), (8, 0) if row.noise < 1 else (8, -9)
                label = {"textcoords": "offset points", "fontsize": 9}
                ax.annotate(f"noise {row.noise:g}", place, xytext=shift, **label)
    ax.plot([], [], SHORTENED, color="0.4", label="as many epochs from scratch")
    ax.set(
        title=DOMAINS[domain], xlabel="distance to the retrained network (1: a second retraining)"
    )
    ax.set(ylim=(0.45, None), xlim=(0.7, None))
axes[0, 0].set_ylabel("AUC of U-LiRA (.5: nothing is found)")
handles, labels = axes[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
plt.show()

# %%
# All points, with 95 % intervals of the AUC over people. The attack is on one reporting split, the
# distances are means over all of them ± standard deviations. (``dial-*.csv``)


def table(rows):
    """Settings with what they come to."""
    text = near.groupby(by, dropna=False).relative_js_distance.agg(spread)
    rows = rows.merge(text.rename("text").reset_index(), on=by)
    auc = [
        f"{row.u_lira_auc:.2f} ({row.u_lira_low:.2f} to {row.u_lira_high:.2f})"
        for row in rows.itertuples()
    ]
    return pd.DataFrame(
        {
            "domain": rows.domain.map(DOMAINS),
            "method": rows.method,
            "noise": rows.noise.map("{:g}".format).replace("nan", ""),
            "epochs": rows.epochs.map("{:.0f}".format),
            "distance": rows.text,
            "retain acc.": rows.accuracy.round(3),
            "U-LiRA AUC": auc,
        }
    ).set_index("domain")


table(points[points.method != "Retrain"].sort_values(["domain", "epochs", "method", "noise"]))

# %%
# The original's distance, and the retrained network's AUC:

pd.DataFrame({"original's distance": original, "AUC of Retrain": chance}).rename(DOMAINS).round(2)

# %%
# Distance and accuracy on retained rows by noise, on all domains that were measured, means over
# splits (of which there are few):

student = near[near.method == "Distill"].groupby(["domain", "epochs", "noise"])
figures = ["relative_js_distance", "retain_accuracy"]
numbers = student[figures].mean().round(2).rename(columns=dict(zip(figures, ("dist.", "acc."))))
numbers.unstack("noise").rename(index=DOMAINS)

# %%
# Why it works
# ------------
# The same student, at noise 1, with something else to imitate: the labels (a shorter training), the
# labels smoothed to the entropy that the original's outputs have on average, what the original says
# of another row of the same class, and a retrained network's outputs, which is the most that a
# teacher could give. Distances over the reporting splits.
#
# Plain labels are further than all four others, on all three. After 6 epochs smoothed labels do as
# well as the original's outputs: it is first of all that the targets are soft, and not what the
# original knows. After 12 its outputs are ahead on the faces and the heart beats (two splits each).
# Smoothed labels come from no network that has seen the rows to forget, so nothing can leak through
# them.

control = dial[dial.part == "control"]
ours = near[
    (near.method == "Retrain (shortened)") | ((near.method == "Distill") & (near.noise == 1))
]
both = pd.concat([ours, control])
both = both[both.domain.isin(control.domain)]
cells = both.groupby(["domain", "epochs", "method"]).relative_js_distance.agg(spread)
wide = cells.unstack("method").rename(index=DOMAINS)
NAMES = {"Distill": "original's outputs", "Retrain (shortened)": "labels"}
NAMES |= {"another row": "original's outputs of another row of the class"}
NAMES |= {
    "label smoothing": "smoothed labels",
    "retrained teacher": "a retrained network's outputs",
}
wide.reindex(columns=NAMES).rename(columns=NAMES)
