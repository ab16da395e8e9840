"""
The cheap end, and what to use
==============================

What to use where a tenth of a long training, or less, can be spent. Where a shorter training from
scratch is long enough, it is hard to beat; ``Distill`` ties with it, and so does a training on
smoothed labels.

First comes what the tables recommend; then variants of DLFD for the cheap end, ``Distill`` beside
as many epochs from scratch, what brings a fresh student nearer, and how DLFD's defaults were
chosen.
"""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _tables import (
    DOMAINS,
    NOT_RANKED,
    STUDENTS,
    VARIANTS,
    Folded,
    Stacked,
    against,
    attacked,
    left_over,
    over_domains,
    read,
    style,
)

from skunlearn import all_unlearners

summary = read("summary")

# %%
# What to use
# -----------
# For each domain and cap, and for what is at hand, the nearest three of the methods that
#
# * pass on the reporting splits (:ref:`at more length <pass>`): they keep the retrained network's
#   accuracy on retained rows, less .05; the mean over splits of \|AUC − .5\| of the calibrated
#   attack is at most .1; no split costs more than the cap; they are nearer than the original on
#   average; and
# * are nearer than the original by more than the 95 % interval, too.
#
# Distances are in brackets; read neighbours as ties. A cell is empty where no method has a setting
# within the cap. The first column is the original's distance: where it is near 1, there is little
# to gain that could be measured. What a method needs is what its class says in ``needs``. Controls
# and variants are left out.

NEEDS = {name: cls.needs for name, cls in all_unlearners()}
HELD_OUT = {"AdvancedNegGrad (ceiling)", "SCRUB (rewind)", "DLFD", "DLFD (published)"}


def needs(method):
    """What a method of the tables needs."""
    return NEEDS[method.split(" (")[0]]


SITUATIONS = {
    "retained rows at hand": lambda name: True,
    "… and one goes on from the original": lambda name: "original" in needs(name),
    "… without held-out rows": lambda name: "original" in needs(name) and name not in HELD_OUT,
    "no retained rows at hand": lambda name: name == "NegGrad",  # AMUN had them here
}
methods = summary[~summary.method.isin(NOT_RANKED) & ~summary.method.str.contains(": ")]
asked = methods.groupby(["domain", "cap"]).size().index
gained = against([(name, "Original") for name in methods.method.unique()])
gained = gained[gained["mean"] < -gained.half].rename(columns={"ours": "method"})
methods = methods.merge(gained[["domain", "cap", "method"]])
original = summary[summary.method == "Original"].groupby("domain").relative_js_distance.mean()


def nearest(fits, guards):
    """The three nearest methods that fit a situation, by domain and cap, as text."""
    here = methods[methods.method.map(fits) & methods[guards].all(axis=1)]
    here = here.sort_values("relative_js_distance")
    text = here.method + [f" ({distance:.2f})" for distance in here.relative_js_distance]
    cells = text.groupby([here.domain, here.cap]).agg(lambda names: ", ".join(names[:3]))
    table = cells.reindex(asked, fill_value="none").unstack("cap", fill_value="")
    table = table.rename(index=DOMAINS, columns="≤ {:.0%}".format)
    table.insert(0, "original", original.rename(DOMAINS).map("{:.2f}".format))
    return table.reindex([name for name in DOMAINS.values() if name in table.index])


Stacked(
    *(
        Folded(situation, nearest(fits, ["kept", "forgot", "in_cap"]), shown=True)
        for situation, fits in SITUATIONS.items()
    )
)

# %%
# The same without the attack: what keeps its accuracy, whether or not the attack still finds the
# rows.

Stacked(
    *(
        Folded(situation, nearest(fits, ["kept", "in_cap"]))
        for situation, fits in SITUATIONS.items()
    )
)

# %%
# Variants for the cheap end
# --------------------------
# DLFD starts from the original's weights, which know the forget rows, and says nothing of what the
# network is to answer for them. Two ways of starting nearer to a network that never saw them, and
# three of saying more, were tried on the domains with long training, each tuned with as many
# settings as every method, and each beside itself without the synthesised rows (named
# ``FineTune``):
#
# * **reset**: the last layers (a quarter of them to all) are re-initialised first, as EU-k does;
# * **shrunk**: the original's weights are mixed with fresh ones first (10 to 90 %), after shrink
#   and perturb (arXiv 1910.08475);
# * **targets**: forget rows are also trained towards the probabilities that a network trained from
#   scratch for two epochs gives them;
# * **ceiling**: the loss on forget rows is also climbed, until it is that on held-out rows;
# * **matched**: forget rows are also trained towards what the original says of held-out rows, which
#   are dealt out to them by optimal transport, class by class, and climb to a ceiling; the last two
#   fifths of the run are on retained rows alone. Its control is **drawn**: dealt out by lot.
#
# Distance is that of predictions on forget rows to the retrained network, over that of two
# retrainings; bars are standard deviations over reporting splits. The dotted line is the original.

long = [name for name in DOMAINS if name.endswith("-long") and name in set(summary.domain)]
SHOWN = ["Distill", "Retrain (tuned, short)", "Retrain (shortened)", *VARIANTS]
SHOWN += ["DLFD", "FineTune", "EUk"]
CAPS = (0.01, 0.03, 0.05, 0.1, 0.3)
figure, axes = plt.subplots(
    len(long),
    len(CAPS),
    figsize=(8, 4.6 * len(long)),
    layout="constrained",
    sharey=True,
    sharex="row",
    squeeze=False,
)
for domain, row in zip(long, axes):
    for cap, ax in zip(CAPS, row):
        here = summary[(summary.domain == domain) & (summary.cap == cap)].set_index("method")
        for i, name in enumerate(SHOWN):
            if name in here.index:
                entry = here.loc[name]
                ax.errorbar(
                    entry.relative_js_distance,
                    -i,
                    xerr=entry.relative_js_distance_sd,
                    linestyle="",
                    ms=5,
                    elinewidth=1,
                    **style(name),
                )
        ax.axvline(1, color="0.4", lw=0.8)
        ax.axvline(here.relative_js_distance["Original"], color="0.4", lw=1, ls=":")
        ax.set_title(f"{DOMAINS[domain]}\n≤ {cap:.0%}", fontsize=8)
    row[0].set_yticks([-i for i in range(len(SHOWN))], SHOWN, fontsize=8)
figure.supxlabel("distance to the retrained network")
plt.show()

# %%
# Distill, and as many epochs from scratch
# ----------------------------------------
# ``Distill`` is no variant of DLFD: it trains a fresh network on what the original says of the
# retained rows. Its distance less that of others at the same cap, with the 95 % interval, and what
# that comes to after Benjamini and Hochberg (``comparisons.csv``; *equivalent*: within .2). The
# first of them is not tuned: as many epochs as the cap allows, at the network's own rate. The
# second is tuned with as many settings as Distill. What may leak from a student is another
# question, which :doc:`plot_9_attacks` and :doc:`plot_8_dial` ask.

beside = over_domains("comparisons")
beside = beside[beside.ours == "Distill"]
cells = [f"{row['mean']:+.2f} ± {row.half:.2f} {row.verdict}" for _, row in beside.iterrows()]
places = beside.domain.map(DOMAINS) + beside.cap.map(", ≤ {:.0%}".format)
beside = beside.assign(text=cells, place=places)
wide = beside.pivot(index="place", columns="theirs", values="text").fillna("")
wide.reindex(index=beside.place.unique()).rename_axis("", columns="Distill against")

# %%
# What brings a fresh student nearer
# ----------------------------------
# Four students with a `noise` of 1, and a shorter training with the labels, each tuned with as many
# settings as every method, over batch sizes of 8 to 64 as well: plain (*fresh*), one that imitates
# the original's features as well as its outputs (*features*), one whose rate rises first, so that a
# higher one can be kept (*warm-up*), one that imitates *smoothed labels* and no network, and the
# labels themselves (``Retrain (short, batches)``). *Guarded* is chosen by distance and an attack on
# each row together. Distances with, in brackets, the accuracy on retained rows and the AUC of
# U-LiRA (32 networks; one split, of the faces the mean of five).
#
# At 5 % all that imitate soft targets are nearer on average than the labels, on all three. On the
# speeches the difference is small (equivalent), on the faces the splits do not settle it (features
# and warm-up have lost more than .05 of accuracy there), and on the heart beats all of them have
# lost that. Smoothed labels are as near as the original's outputs; features and a rising rate add
# nothing that the splits could tell. On the faces batches of 8 were chosen in place of the
# network's 32; whether they help is open.

attacks = attacked(long)
keys = ["domain", "cap", "method"]
compared = [
    "Distill",
    "Distill (guarded)",
    "Distill (default)",
    *STUDENTS,
    "Distill (fresh) (guarded)",
]
compared += ["Retrain (tuned, short)", "Retrain (shortened)"]
near = summary.merge(attacks[[*keys, "u_lira_auc"]], "left", keys)
near = near[near.domain.isin(long) & near.cap.isin([0.03, 0.05, 0.1])]
near = near[near.method.isin(compared)]
distances = zip(near.relative_js_distance, near.relative_js_distance_sd)
near["text"] = [f"{mean:.2f} ± {sd:.2f}" for mean, sd in distances]
near["text"] += near.retain_accuracy.map(" ({:.2f}".format)
near["text"] += near.u_lira_auc.map(", {:.2f})".format).replace(", nan)", ")")
near["cap"] = near.cap.map("≤ {:.0%}".format)
wide = near.pivot(index=["domain", "method"], columns="cap", values="text").fillna("")
wide = wide[["≤ 3%", "≤ 5%", "≤ 10%"]].reindex(long, level=0).reindex(compared, level=1)
wide.rename(index=DOMAINS)

# %%
# Each student less the plain one, and less a shorter training with the labels, with the 95 %
# interval and what that comes to after Benjamini and Hochberg (``comparisons.csv``):

beside = over_domains("comparisons")
beside = beside[beside.ours.isin(STUDENTS) & (beside.theirs != "Original")]
cells = [f"{row['mean']:+.2f} ± {row.half:.2f} {row.verdict}" for _, row in beside.iterrows()]
places = beside.domain.map(DOMAINS) + beside.cap.map(", ≤ {:.0%}".format)
beside = beside.assign(text=cells, place=places)
wide = beside.pivot(index=["ours", "place"], columns="theirs", values="text").fillna("")
wide.reindex(STUDENTS, level=0).rename_axis(["", ""], columns="less")

# %%
# Settings of the variants
# ------------------------
# **Reset** with all layers re-initialised, and **shrunk** with most of each weight fresh, are
# close to a training from scratch. The settings that were chosen:

chosen = read("chosen", long)
amounts = chosen[chosen.method.isin(VARIANTS)].copy()
amounts["amount"] = [json.loads(params)["amount"] for params in amounts.params]
amounts.pivot(index=["domain", "method"], columns="cap", values="amount").rename(index=DOMAINS)

# %%
# Does pushing add anything to a start? The difference in distance between each variant of DLFD and
# the same without synthesised rows, with the 95 % interval of its mean over the reporting splits
# (corrected resampled t-test); negative is in DLFD's favour, and a star marks what is no tie. Both
# were tuned apart.


def differences(pairs):
    """Differences in distance, domains and methods by caps."""
    table = against(pairs, domains=long)
    wide = table.pivot(index=["domain", "ours"], columns="cap", values="text").fillna("")
    wide = wide.reindex(long, level=0).rename(index=DOMAINS, columns="≤ {:.0%}".format)
    return wide.rename_axis(["", ""], columns=None)


differences(
    [(name, name.replace("DLFD", "FineTune")) for name in VARIANTS if name.startswith("DLFD")]
)

# %%
# Does transport add anything to matching? The same for **matched** against **drawn**:

differences([(name, name.replace("matched", "drawn")) for name in VARIANTS if "matched" in name])

# %%
# Are they better than what a user has anyway? The same for all of them against a shorter training
# from scratch, of as many epochs as the cap allows, and against the original:

differences([(name, "Retrain (shortened)") for name in VARIANTS])

# %%
differences([(name, "Original") for name in VARIANTS])

# %%
# Defaults
# --------
# One grid of settings for all domains, on the tuning splits alone: how much is left of the way from
# the original to the retrained network, in distance on forget rows (1: nothing was forgotten; 0: as
# near as a second retraining), and what it costs in accuracy on retained rows. ``lr`` is in units
# of the network's own learning rate.

tried = read("defaults")
settings = tried.drop_duplicates("trial").set_index("trial").params
rows = {}
for trial, by_domain in left_over(tried.to_dict("records")).items():
    left, lost, cost, _ = np.transpose(list(by_domain.values()))
    rows[settings[trial]] = {
        "left of the way": left.mean(),
        "left, at most": left.max(),
        "lost of retain acc.": lost.mean(),
        "lost, at most": lost.max(),
        "cost": cost.mean(),
    }
table = pd.DataFrame(rows).T.sort_values("left of the way").round(3)
Folded("All settings, the best first", table)
