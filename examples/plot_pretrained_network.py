"""
A network that was trained elsewhere
====================================

Networks come from somewhere: from a script of somebody's own, from a file of weights, or with a
backbone that has been pretrained on other data. Here one is trained in plain torch, far from this
library, and then made to forget a batch of rows that turned out to be poisoned. The network that is
handed in stays as it was: what forgets is a copy.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skunlearn import DLFD, EUk, FineTune, RandomLabel, Retrain

# %%
# Elsewhere
# ---------
# A backbone is pretrained to tell the digits 0 to 4 apart. Then it gets a new last layer, and is
# fine-tuned on 400 pictures of the digits 5 to 9. Every seventh of these has a wrong label, which
# is not known yet. Nothing of this knows of unlearning.

rng = np.random.default_rng(0)
X, digit = load_digits(return_X_y=True)
X = (X / 16).reshape(-1, 1, 8, 8).astype(np.float32)
truth = digit % 5  # the network's columns: 0 to 4, and in the second task 5 to 9
first, second = np.flatnonzero(digit < 5), rng.permutation(np.flatnonzero(digit >= 5))
rows, val, test = second[:400], second[400:500], second[500:]

forget = np.arange(len(rows)) % 7 == 0
poison = rows[forget]
y = truth.copy()
y[poison] = (truth[poison] + rng.integers(1, 5, len(poison))) % 5


def backbone(width=16):
    """Return two convolutions with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Flatten(),
    )


class Classifier(nn.Module):
    """A backbone and a linear layer."""

    def __init__(self, n_classes=5):
        super().__init__()
        self.body = backbone()
        self.head = nn.Linear(32 * 4 * 4, n_classes)

    def forward(self, images):
        """Return the logits of a batch of images."""
        return self.head(self.body(images))


def train(model, rows, n_epochs, generator):
    """Train a module in place, by a loop such as everybody has written once."""
    images, labels = torch.as_tensor(X[rows]), torch.as_tensor(y[rows])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.train()
    for _ in range(n_epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


generator = torch.Generator().manual_seed(0)
with torch.random.fork_rng():  # the global generator goes back to where it was
    torch.manual_seed(0)
    pretrained = train(Classifier(), first, 10, generator)
    model = Classifier()
model.body.load_state_dict(pretrained.body.state_dict())
train(model, rows, 40, generator)
before = {name: value.clone() for name, value in model.state_dict().items()}

# %%
# Into skorch, and unlearn
# ------------------------
# skorch's network takes the module as it is. ``initialize`` sets it up without any training; then
# it predicts. What it says of optimiser, learning rate and size of batches is what unlearning
# starts from, so these should be those of the training. In a ``FrozenEstimator`` it is never
# trained again.

settings = {
    "criterion": nn.CrossEntropyLoss,
    "optimizer": torch.optim.SGD,
    "optimizer__momentum": 0.9,
    "lr": 0.05,
    "max_epochs": 40,
    "batch_size": 32,
    "iterator_train__shuffle": True,
    "train_split": None,
    "verbose": 0,
}
net = NeuralNetClassifier(model, **settings).initialize()
trained = FrozenEstimator(net)

methods = {
    "DLFD": DLFD(trained, random_state=0),
    "DLFD, stronger": DLFD(trained, step_size=0.2, max_epochs=4, lr=0.1, random_state=0),
    "FineTune, alike": FineTune(trained, max_epochs=4, lr=0.1, random_state=0),
    "EUk": EUk(trained, random_state=0),
    "RandomLabel": RandomLabel(trained, random_state=0),
}
models = {"Original": net}
for name, unlearner in methods.items():
    models[name] = unlearner.unlearn(X[rows], y[rows], forget=forget, X_val=X[val], y_val=y[val])

same = all(torch.equal(before[name], value) for name, value in model.state_dict().items())
print(f"the module that was handed in is as it was: {same}")

# %%
# Retraining wants to know how the network came about
# ---------------------------------------------------
# A trained module cannot be trained from scratch: a copy of it starts from the weights that it has,
# poison included. `Retrain` says so.

try:
    Retrain(net).fit(X[rows], y[rows], forget=forget)
except ValueError as error:
    print(fill(str(error), 90))

# %%
# A function that builds the module says where it starts. Here that is the pretrained backbone,
# which has never seen the rows to forget, with a new last layer.


def untrained():
    """Return the network as it was before it was fine-tuned."""
    model = Classifier()
    model.body.load_state_dict(pretrained.body.state_dict())
    return model


retrain = Retrain(NeuralNetClassifier(untrained, **settings), random_state=0)
models["Retrain"] = retrain.fit(X[rows], y[rows], forget=forget)

# %%
# What became of the poison
# -------------------------
# How often a network repeats the wrong labels, and how often it finds the right ones in their
# place:

print(f"{'accuracy':18}{'retained':>10}{'unseen':>8}{'poison: wrong label':>22}{'right label':>13}")
kept, repeated = rows[~forget], {}
for name, network in models.items():
    metrics = [
        network.score(X[some], labels[some])
        for some, labels in [(kept, y), (test, y), (poison, y), (poison, truth)]
    ]
    repeated[name] = metrics[2]
    print("{:18}{:10.2f}{:8.2f}{:22.2f}{:13.2f}".format(name, *metrics))

assert min(repeated["Original"], repeated["DLFD"], repeated["FineTune, alike"]) > 0.75
assert max(repeated[name] for name in ("Retrain", "DLFD, stronger", "EUk", "RandomLabel")) < 0.5

# %%
# Ten of the poisoned pictures, and what each network says of them: orange is the wrong label that
# it was taught, blue the right one, grey a third.
#
# As it comes, DLFD hardly touches the poison. Stronger, it is close to the retrained network; its
# settings were picked by hand on these rows, so this is an illustration and no comparison. FineTune
# with the same rate and epochs leaves everything as it was, so that here it is the perturbation
# that forgets. EUk, which re-initialises the last half of the layers, and RandomLabel do so as they
# come.
#
# NoMUS has no say here. Its attack compares with unseen rows, which have to be like the rows to
# forget in all but having been trained on; but there are no unseen rows with wrong labels, and
# whoever has forgotten the poison has, rightly, a higher loss on it than on anything else.

few = poison[:10]
lines = {"label in the data": y[few]}
lines |= {name: network.predict(X[few]) for name, network in models.items()}
said = np.array(list(lines.values()))
kind = np.select([said == y[few], said == truth[few]], [0, 2], 1)
colors = ListedColormap(["#E69F00", "0.85", "#56B4E9"])

figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(7.5, 4.6), height_ratios=[1, 4.4], layout="constrained"
)
strip = np.hstack(np.pad(X[few, 0], [(0, 0), (1, 1), (1, 1)]))
top.imshow(strip, cmap="gray_r", aspect="auto")
top.set_axis_off()
bottom.imshow(kind, cmap=colors, vmin=0, vmax=2, aspect="auto")
for (i, j), column in np.ndenumerate(said):
    bottom.text(j, i, column + 5, ha="center", va="center")
bottom.set_yticks(range(len(lines)), lines)
bottom.set_xticks(np.arange(11) - 0.5, [], minor=False)
bottom.set_yticks(np.arange(len(lines) + 1) - 0.5, minor=True)
bottom.grid(axis="x", color="white", linewidth=2)
bottom.grid(axis="y", which="minor", color="white", linewidth=2)
bottom.tick_params(which="both", length=0)
bottom.spines[:].set_visible(False)
meaning = ["the wrong label it was taught", "another", "the right one"]
patches = [Patch(facecolor=colors(i), label=text) for i, text in enumerate(meaning)]
figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
plt.show()

# %%
# Away again
# ----------
# The weights leave as they came, here by skorch's ``save_params``: in the format of safetensors if
# that package is installed, or else in torch's. Nothing else is in the file. The module before
# unlearning, and files of it, are yours to delete.

safe = find_spec("safetensors") is not None
copy = NeuralNetClassifier(Classifier, **settings).initialize()
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "weights"
    models["DLFD, stronger"].estimator_.save_params(f_params=path, use_safetensors=safe)
    copy.load_params(f_params=path, use_safetensors=safe)
    print(f"safetensors: {safe}; {path.stat().st_size // 1024} KiB")
same = np.array_equal(copy.predict(X[test]), models["DLFD, stronger"].predict(X[test]))
print(f"the network that was loaded predicts the same: {same}")
