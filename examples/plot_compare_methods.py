"""
Compare all methods
===================

Every method that this library has, on the same networks and rows, in one call: how to make the
comparison, and how to read it. No single number says how well a network has forgotten. Three have
to be read together: NoMUS, the distance to a network that was retrained without the rows, and the
cost. Beside all methods stands one that published tables lack: a shorter training from scratch.
"""

import matplotlib.pyplot as plt
import numpy as np
from skorch import NeuralNetClassifier
from torch import nn

from skunlearn import Retrain, all_unlearners, compare_unlearners
from skunlearn.datasets import make_identity_images
from skunlearn.model_selection import forget_split

# %%
# The data
# --------
# Drawn faces of 120 people, whose age is to be told, in four classes; a tenth of the labels is
# wrong. Sixteen people ask for their pictures to be forgotten. The people that the numbers are
# reported on (*unseen*), and those that methods may use (*val*), are others again.

faces = make_identity_images(
    120, 8, image_size=16, n_channels=1, n_classes=4, label_noise=0.1, random_state=0
)
split = forget_split(faces.identity, forget_size=16, val_size=16, test_size=48, random_state=0)
X = (2 * (faces.data - 0.5)).reshape(len(faces.data), -1)
y = faces.target
for name, rows in {"retain": split.retain, **split._asdict()}.items():
    print(f"{name:7} {rows.sum():4} pictures of {len(np.unique(faces.identity[rows])):3} people")

figure, axes = plt.subplots(4, 12, figsize=(8, 3), layout="constrained")
for age, line in enumerate(axes):
    line[0].set_ylabel(f"class {age}")
    for ax, picture in zip(line, faces.data[faces.clean_target == age][::7]):
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])

# %%
# The comparison
# --------------
# The network is passed untrained. For each seed, an original is trained, and two networks without
# the rows to forget, which are called *Retrain* and *Retrain again*; then each method starts from
# that original, with its default settings. The shorter trainings from scratch go by their number of
# epochs.
#
# Two seeds are the fewest that show a spread at all. In earnest take five or more, let every method
# be tuned by the same number of trials (a search may stand in an unlearner's place), and tune on
# other people than those that are reported on.


def network(n_features_in, n_classes):
    """Return a network with one hidden layer."""
    return nn.Sequential(nn.Linear(n_features_in, 128), nn.ReLU(), nn.Linear(128, n_classes))


net = NeuralNetClassifier(
    network,
    criterion=nn.CrossEntropyLoss,
    optimizer__momentum=0.9,
    lr=0.05,
    max_epochs=60,
    batch_size=64,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
methods = {name: method(net) for name, method in all_unlearners() if method is not Retrain}
for n in (30, 15, 8):
    methods[f"{n} epochs"] = Retrain(net, max_epochs=n)

comparison = compare_unlearners(
    methods,
    X[split.train],
    y[split.train],
    forget=split.forget[split.train],
    X_unseen=X[split.test],
    y_unseen=y[split.test],
    X_val=X[split.val],
    y_val=y[split.val],
    seeds=[0, 1],
    feature_layer=None,  # what follows spares this page some time
    n_splits=20,
)

# %%
# Its table has a row for each method and seed, and more columns than these. *Distance* is
# ``relative_js_distance``: how far a network's predictions for the rows to forget are from those of
# the retrained network, where 1 is as far as a second retraining. *Cost* is the share of the
# samples that retraining takes.

columns = {
    "utility": "utility",
    "retain_accuracy": "retain acc.",
    "forget_accuracy": "forget acc.",
    "nomus": "NoMUS",
    "relative_js_distance": "distance",
    "cost": "cost",
}
print(f"{'':16}" + "".join(f"{name:>14}" for name in columns.values()))
table = comparison.summary(list(columns))
for method, metrics in table.items():
    cells = (f"{mean:.2f} ± {std:.2f}" if std == std else "" for mean, std in metrics.values())
    print(f"{method:16}" + "".join(f"{cell:>14}" for cell in cells))

# %%
# First NoMUS
# -----------
# Utility against forgetting; up and right is better, and along a dotted line NoMUS is the same.
# Bars are the standard deviation over seeds. The methods in the cluster around the original have
# done next to nothing with their default settings: a network that has memorised its rows has
# hardly a gradient left on them. Others are on their way to the retrained network's NoMUS. The
# shorter trainings have reached it.

summary = {name: {key: mean for key, (mean, _) in row.items()} for name, row in table.items()}
for name in ("FineTune", "CFk"):
    assert summary[name]["forget_accuracy"] > 0.9
assert summary["30 epochs"]["nomus"] > summary["Retrain"]["nomus"] - 0.1
comparison.plot_tradeoff()

# %%
# Then the distance
# -----------------
# NoMUS against distance; up and left is better. SISA has the best NoMUS among the methods, SCRUB
# and Distill come next. Yet SISA's predictions for the rows to forget are about as far from
# the retrained network's as those of EUk, whose NoMUS is much lower, and those of the other two are
# further away. The table says what has happened: their accuracy on *retained* rows has come down. A
# network that has unlearnt everything cannot be attacked, and NoMUS, which does not use retained
# rows, calls that forgetting.
#
# All distances of a seed are divided by the distance between two retrainings, which differs from
# seed to seed. So here is the order within each seed, too:

for name in ("SISA", "SCRUB", "Distill"):
    assert summary[name]["nomus"] > summary["EUk"]["nomus"]
    assert summary[name]["relative_js_distance"] > summary["EUk"]["relative_js_distance"] - 0.3
    assert summary[name]["retain_accuracy"] < summary["EUk"]["retain_accuracy"]
comparison.plot_closeness()

for seed in (0, 1):
    rows = [row for row in comparison.records if row["seed"] == seed]
    rows = [row for row in rows if "Retrain" not in row["method"]]
    rows.sort(key=lambda row: row["relative_js_distance"])
    nearest = [f"{row['method']} {row['relative_js_distance']:.1f}" for row in rows[:7]]
    print(f"seed {seed}, nearest first: " + ", ".join(nearest))

# %%
# Methods that change their places from seed to seed are ties, as are those whose bars overlap. What
# both seeds say alike is that thirty epochs from scratch are nearer than any method.

for seed in (0, 1):
    rows = [row for row in comparison.records if row["seed"] == seed]
    distance = {row["method"]: row["relative_js_distance"] for row in rows}
    assert distance["30 epochs"] < min(distance["EUk"], distance["SISA"], distance["L1Sparse"])

# %%
# Then the cost
# -------------
# Distance against cost; down and left is better. The line joins the Pareto-optimal points: no
# other is both cheaper and nearer. From a quarter of retraining on, the shorter trainings are the
# front. They have their price, too: read their accuracy on retained rows. That leaves the cheap
# end, where on this data no method has come far from the original (dotted).

# sphinx_gallery_thumbnail_number = 4
comparison.plot_front()
plt.show()

# %%
# That is a verdict on default settings, for a small network whose training takes a second. Where
# training takes days, a quarter of it is a lot, and the cheap end is what matters. The comparison
# to make is the one on your own network: put the shorter trainings into it, and read all three.
