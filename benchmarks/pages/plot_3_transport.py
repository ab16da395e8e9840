"""
Is it the transport?
====================

Does DLFD forget because of the direction in which it pushes? No: pushing in a random direction does
the same, pooled over the data. Whether pushing helps at all is open.

DLFD pushes retained rows away from the forget features, in transport distance, and trains on them.
If it forgets because of that direction, it does worse without it. There are three controls: **no
perturbation** at all, **random signs** (the gradient at each feature keeps its size and gets a
random sign), and **reversed** (towards the forget features). They run at the settings that were
chosen for DLFD, which favours DLFD.
"""

import matplotlib.pyplot as plt
import pandas as pd
from _tables import DOMAINS, STUDIED, over_domains, paired, read, style

METHODS = ("DLFD", "DLFD (published)")
CONTROLS = ("no perturbation", "random signs", "reversed")
FIGURES = {"relative_js_distance": "distance", "nomus": "NoMUS", "gap": "gap"}

reported = read("reported").set_index(["domain", "method", "trial", "seed"]).sort_index()
chosen = read("chosen")


def against(control, method):
    """Differences between a method and a control of it, by domain and setting, over the splits."""
    rows = []
    for (domain, trial), _ in chosen[chosen.method == method].groupby(["domain", "trial"]):
        if (domain, f"{method}: {control}", trial) not in reported.index:
            continue
        ours = reported.loc[domain, method, trial]
        theirs = reported.loc[domain, f"{method}: {control}", trial]
        row = {"domain": domain, "method": method, "trial": trial, "control": control}
        row["cost"] = ours.cost.mean()
        for figure, name in FIGURES.items():
            share = STUDIED[domain].measured_share(figure)
            row[name], row[f"{name} ±"] = paired(ours[figure] - theirs[figure], share)
        rows.append(row)
    return pd.DataFrame(rows)


differences = pd.concat(
    [against(control, method) for method in METHODS for control in CONTROLS], ignore_index=True
)

# %%
# DLFD minus its controls
# -----------------------
# Each dot is a setting that was chosen at some cap on a domain, with the 95 % interval of the mean
# difference over its reporting splits (corrected resampled t-test). To the left of 0, DLFD is
# nearer to the retrained network than its control.

differences["rank"] = differences.domain.map(list(DOMAINS).index)
order = differences.sort_values(["method", "rank", "cost"])
places = order.drop_duplicates(["method", "domain", "trial"])
y_of = {key: -i for i, key in enumerate(zip(places.method, places.domain, places.trial))}
figure, axes = plt.subplots(
    1, 3, figsize=(8, 1.2 + 0.24 * len(places)), layout="constrained", sharey=True, sharex=True
)
for ax, control in zip(axes, CONTROLS):
    for method in METHODS:
        here = differences[(differences.control == control) & (differences.method == method)]
        y = [y_of[key] for key in zip(here.method, here.domain, here.trial)]
        ends = {"xerr": here["distance ±"], "linestyle": "", "ms": 4, "lw": 1}
        ax.errorbar(here.distance, y, **ends, elinewidth=1, label=method, **style(method))
    ax.axvline(0, color="0.4", lw=0.8)
    ax.set(title=control, xlabel="difference in distance")
axes[0].set_yticks(
    list(y_of.values()),
    [
        f"{DOMAINS[domain]} ({cost:.0%})" + ", published" * (method != "DLFD")
        for method, domain, cost in zip(places.method, places.domain, places.cost)
    ],
    fontsize=8,
)
plt.show()

# %%
# Counted: settings in which DLFD is better than its control by more than the interval, in which it
# is worse, and the rest, which are ties.

counts = {}
for figure, sign in {"distance": -1, "NoMUS": 1, "gap": -1}.items():
    for (method, control), rows in differences.groupby(["method", "control"]):
        gain, half = sign * rows[figure], rows[f"{figure} ±"]
        better, worse = (gain > half).sum(), (-gain > half).sum()
        counts[method, control, figure] = {
            "better": better,
            "worse": worse,
            "tie": len(rows) - better - worse,
            "mean difference": round(rows[figure].mean(), 3),
        }
pd.DataFrame.from_dict(counts, orient="index").rename_axis(["method", "against", "by"])

# %%
# Pooled over domains
# -------------------
# The same differences in distance as a share of the way from the original to the retrained network,
# averaged over the settings of a domain and its longer training, with the 95 % interval over
# domains (``pooled.csv``). Negative is in DLFD's favour. An interval that is narrow and holds 0
# says that the control does the same; a wide one leaves it open.

pooled = over_domains("pooled").set_index(["ours", "control"])
text = [f"{row['mean']:+.2f} ± {row.half:.2f}" for _, row in pooled.iterrows()]
pooled.assign(share=text)[["n_domains", "share"]].rename_axis(["method", "against"])
