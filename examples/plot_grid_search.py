"""
Search for hyperparameters on NoMUS
===================================

How fast should DLFD learn, and how far should it push the retained rows away from the forgotten
ones? A grid search over both on handwritten digits, with a fifth of the labels wrong so that there
is something to memorise. Each candidate is placed by what NoMUS is made of, utility and the
forgetting score, beside the original and the retrained network on the same folds.
"""

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_validate
from skorch import NeuralNetClassifier
from torch import nn

from skunlearn import DLFD, Retrain
from skunlearn.metrics import get_scorer
from skunlearn.model_selection import ForgetKFold

# %%
# The data, 900 rows of which 150 are to be forgotten, and a network that memorises its rows.

rng = np.random.default_rng(0)
X, y = load_digits(return_X_y=True)
X, y = (X[:900] / 16).astype(np.float32), y[:900]
wrong = np.arange(900) % 5 == 0
y[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
forget = rng.permutation(900) < 150


def network(n_features_in, n_classes):
    """Return a network with one hidden layer."""
    return nn.Sequential(nn.Linear(n_features_in, 128), nn.ReLU(), nn.Linear(128, n_classes))


net = NeuralNetClassifier(
    network,
    criterion=nn.CrossEntropyLoss,
    optimizer__momentum=0.9,
    lr=0.1,
    max_epochs=40,
    batch_size=64,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)

# %%
# Twenty candidates on three folds. Every training fold holds all forget rows, every test fold too,
# beside rows that were held out. The original of a fold is trained once and kept in a folder, which
# holds networks that remember the forget rows and goes when the search is over.
#
# Two references go through the same folds: a network retrained without the forget rows, and the
# original, which is an unlearner whose `fit` does not ask for the mask.

folds = ForgetKFold(3)
names = ("utility", "neg_forgetting_score", "nomus")
scoring = {name: get_scorer(name, n_splits=40) for name in names}

with TemporaryDirectory() as cache, sklearn.config_context(enable_metadata_routing=True):
    dlfd = DLFD(net, memory=cache, random_state=0)
    search = GridSearchCV(
        dlfd,
        {"lr": [0.03, 0.1, 0.3, 0.5, 1.0], "step_size": [0.05, 0.1, 0.2, 0.4]},
        cv=folds,
        scoring=scoring,
        refit="nomus",
    ).fit(X, y, forget=forget)
    references = {}
    for name, model in [
        ("Original", dlfd.set_fit_request(forget=False)),
        ("Retrain", Retrain(net, random_state=0)),
    ]:
        references[name] = cross_validate(
            model, X, y, cv=folds, scoring=scoring, params={"forget": forget}
        )

results = search.cv_results_
print(f"{'':32}{'utility':>9}{'forgetting':>12}{'NoMUS':>8}")
for name, scores in references.items():
    means = [scores[f"test_{key}"].mean() for key in names]
    print(f"{name:32}{means[0]:9.3f}{-means[1]:12.3f}{means[2]:8.3f}")
for i in np.argsort(results["rank_test_nomus"])[:5]:
    means = [results[f"mean_test_{key}"][i] for key in names]
    print(f"{results['params'][i]!s:32}{means[0]:9.3f}{-means[1]:12.3f}{means[2]:8.3f}")

# %%
# A candidate is a point: the colour is its learning rate, the size its step size. Along a grey line
# NoMUS is the same. At a slow rate, candidates stay near the original. The best candidates are
# about as far down as the retrained network: to get there is the aim, and what lies beyond is
# noise, on which a search over many candidates feeds: the best of twenty is ahead of the retrained
# network, which has forgotten these rows for certain. Numbers to report are measured on rows that
# the search has not seen.

figure, axes = plt.subplots(figsize=(7, 4.8), layout="constrained")
utility, forgetting = results["mean_test_utility"], -results["mean_test_neg_forgetting_score"]
rates, steps = (np.array(results[f"param_{name}"], dtype=float) for name in ("lr", "step_size"))
colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(np.unique(rates))))
for rate, color in zip(np.unique(rates), colors):
    some = rates == rate
    axes.scatter(
        utility[some], forgetting[some], 40 + 400 * steps[some], [color], label=f"lr = {rate:g}"
    )
best = search.best_index_
goal = references["Retrain"]["test_nomus"].mean()
assert results["mean_test_nomus"][best] > goal - 0.02  # ahead, or level
assert forgetting[best] < references["Original"]["test_neg_forgetting_score"].mean() * -1
slow = forgetting[rates == rates.min()].mean()
assert slow > forgetting[best]
axes.scatter(
    utility[best],
    forgetting[best],
    600,
    facecolors="none",
    edgecolors="black",
    linewidths=1.5,
    label="best NoMUS",
)
for (name, scores), marker in zip(references.items(), "X*"):
    axes.scatter(
        scores["test_utility"].mean(),
        -scores["test_neg_forgetting_score"].mean(),
        160,
        "#D55E00",
        marker=marker,
        label=name,
        zorder=3,
    )
axes.margins(0.12)
grid = np.meshgrid(np.linspace(*axes.get_xlim()), np.linspace(*axes.get_ylim()))
lines = axes.contour(*grid, (grid[0] + 1) / 2 - grid[1], 8, colors="0.75", linewidths=1, zorder=0)
axes.clabel(lines, fmt="%.2f", fontsize=8)
axes.set_xlabel("utility: accuracy on held-out rows")
axes.set_ylabel("forgetting score (0: the attack is at chance level)")
axes.set_title("Candidates of the grid, mean over three folds; lines of equal NoMUS")
for step in np.unique(steps)[[0, -1]]:
    axes.scatter([], [], 40 + 400 * step, "0.6", label=f"step_size = {step:g}")
axes.set_ylim(bottom=0)
axes.legend(
    loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, labelspacing=1, markerscale=0.6
)
plt.show()
