"""How near Distill comes, and what leaks, by `noise` and by epochs; and why it works, by controls.

There are rows of three kinds (``part``). ``closeness``: a setting on a reporting split, as in the
other tables. ``attack``: a setting under the attacks of `attacks.py`. ``control``: the same student
on a reporting split with something else to imitate; ``attacked control``: one of those under the
attacks.

* ``label smoothing``: the label, with as much entropy as the original's outputs have on average;
* ``another row``: what the original says of another row of the same class;
* ``another class``: what it says of a row of another class of which it is as sure, with the two
  labels exchanged;
* ``retrained teacher``: a retrained network's outputs, which is what there is to gain at best;
* ``temperature 1`` and ``4``: the original's outputs, softened less and more;
* ``unlearned teacher``: the outputs of the original after another unlearner, which is UNDO whole;
* ``pushed rows``: the original's outputs of the rows and of the same rows pushed away from the
  features of those to forget, as DLFD pushes them; with ``random signs`` and ``reversed``, the
  controls of that.

A shorter training of as many epochs is the control with labels. `FineTune`, at the training's own
rate, is what the dial ends in. Rows are written as they come; a
run that was stopped goes on where it was.
"""

from dataclasses import replace
from functools import partial
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from attacks import membership
from methods import CONTROLS as OF_DLFD
from methods import SHORTENED
from options import FIRST_REPORTED, options, splits
from skorch.utils import to_device
from students import Smoothed, Told
from tables import Table, fill, run

from skunlearn import DLFD, AdvancedNegGrad, Distill, FineTune, Retrain
from skunlearn._engine.fit import fit_network
from skunlearn._engine.predict import logits
from skunlearn._engine.rows import NumberedRows
from skunlearn._engine.run import cycle
from skunlearn.methods.distill import _outputs
from skunlearn.methods.distillation import divergence, teacher_logits
from skunlearn.methods.dlfd import _Perturbation

EPOCHS = (6, 3, 12)
NOISE = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
FIGURES = ("relative_js_distance", "retain_accuracy", "forget_accuracy", "utility", "cost")
ATTACK = ("n_models", "u_lira_auc", "u_lira_low", "u_lira_high", "rmia_auc")
COLUMNS = ("domain", "part", "method", "noise", "epochs", "seed", *FIGURES, *ATTACK)


class Exchanged(Told):
    """It imitates what the original says of other rows of the same class."""

    def _targets(self, outputs, y):
        exchanged = torch.empty_like(outputs)
        for label in y.unique():
            here = torch.nonzero(y == label)[:, 0]
            exchanged[here] = outputs[here[torch.randperm(len(here))]]
        return exchanged


class ExchangedAcross(Told):
    """It imitates what the original says of rows of other classes, of which it is as sure.

    The labels of the two rows change places in it, so that the right one is the likeliest.
    """

    def _targets(self, outputs, y):
        here = torch.arange(len(y))
        sure = outputs.softmax(1)[here, y]
        exchanged = outputs.clone()
        for label in y.unique():
            ours, others = torch.nonzero(y == label)[:, 0], torch.nonzero(y != label)[:, 0]
            nearest = torch.cdist(sure[ours, None], sure[others, None]).argmin(1)
            theirs = others[nearest]
            exchanged[ours] = outputs[theirs]
            exchanged[ours, label] = outputs[theirs, y[theirs]]
            exchanged[ours, y[theirs]] = outputs[theirs, label]
        return exchanged


class ByRetrained(Distill):
    """Its teacher is a retrained network; with noise of 1, nothing of the original is left."""

    def _unlearn(self, request):
        template = self._template
        retrained = fit_network(template, request.retain, len(self.classes_))
        retrained._set_training(False)
        return super()._unlearn(replace(request, original=retrained))


class ByUnlearned(Distill):
    """Its teacher has unlearned the rows first; what is left of the original's weights is its."""

    def _unlearn(self, request):
        first = AdvancedNegGrad(self._template, loss_cap="val")
        first.classes_, first._counter = self.classes_, self._cost
        return super()._unlearn(replace(request, original=first._unlearn(request)))


class Pushed(Distill):
    """It imitates the original on each row twice: as it is, and pushed as DLFD would push it."""

    how: ClassVar[dict] = {}

    def _unlearn(self, request):
        net, rows = self._student(request), NumberedRows(request.retain)
        known = _outputs(request.original, request.retain)
        params, pusher = DLFD(self._template, **self.how), self._copy(request.original)
        pusher.history.new_epoch()  # where it records the distance
        pusher.history.new_batch()
        perturbation = _Perturbation(params, pusher, request)
        forget = cycle(pusher, request.forget, whole=True)

        def step(net, X, y, progress):
            ce_weight = params.ce_weight_start
            ce_weight += progress * (params.ce_weight_end - params.ce_weight_start)
            X_forget, _ = to_device(next(forget), net.device)
            X_far = X + perturbation.find(X, y, X_forget, ce_weight)
            said = torch.cat([known[rows.marks], teacher_logits(request.original, X_far)])
            y_pred = net.infer(torch.cat([X, X_far]))
            return divergence(said, logits(net, y_pred), self.temperature), y_pred[: len(X)]

        return self._train(net, request, (rows, step, self.max_epochs))


class PushedAtRandom(Pushed):
    """Its rows are pushed by gradients with random signs."""

    how: ClassVar[dict] = OF_DLFD["random signs"]


class PushedBack(Pushed):
    """Its rows are pushed towards the features of the rows to forget."""

    how: ClassVar[dict] = OF_DLFD["reversed"]


CONTROLS = {
    "label smoothing": partial(Smoothed, noise=1.0),
    "another row": partial(Exchanged, noise=1.0),
    "another class": partial(ExchangedAcross, noise=1.0),
    "retrained teacher": partial(ByRetrained, noise=1.0),
    "temperature 1": partial(Distill, noise=1.0, temperature=1.0),
    "temperature 4": partial(Distill, noise=1.0, temperature=4.0),
    "unlearned teacher": partial(ByUnlearned, noise=1.0),
    "unlearned teacher, less noise": partial(ByUnlearned, noise=0.5),
    "pushed rows": partial(Pushed, noise=1.0),
    "pushed rows: random signs": partial(PushedAtRandom, noise=1.0),
    "pushed rows: reversed": partial(PushedBack, noise=1.0),
}


def settings(net):
    """Unlearners by part, method, noise and epochs."""
    found = {}
    for n in EPOCHS:
        for noise in NOISE:
            found["Distill", noise, n] = Distill(net, noise=noise, max_epochs=n)
        found[SHORTENED, None, n] = Retrain(net, max_epochs=n)
        found["FineTune", None, n] = FineTune(net, max_epochs=n)
    return found


def controls(net):
    """The student of `settings` with something else to imitate."""
    return {
        (name, make.keywords["noise"], n): make(net, max_epochs=n)
        for n, (name, make) in product(EPOCHS, CONTROLS.items())
    }


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        table = Table(args.results / f"dial-{domain.name}.csv", COLUMNS)
        done = {_key(row) for row in table.rows()}
        n_splits = args.reporting_splits or domain.n_report
        seeds = range(FIRST_REPORTED, FIRST_REPORTED + n_splits)
        of_part = {"closeness": settings(domain.net), "control": controls(domain.net)}
        of_part["attack"] = of_part["closeness"] | {("Retrain", None, None): Retrain(domain.net)}
        of_part["attacked control"] = {
            key: unlearner for key, unlearner in of_part["control"].items() if key[2] == EPOCHS[0]
        }
        tasks = []
        for part in args.methods or of_part:
            for seed in seeds if "attack" not in part else [FIRST_REPORTED]:
                left = {
                    key: unlearner
                    for key, unlearner in of_part[part].items()
                    if (part, seed, *key) not in done
                    and (not args.epochs or key[2] in (None, *args.epochs))
                }
                if "attack" in part:
                    tasks += [(part, seed, {key: unlearner}) for key, unlearner in left.items()]
                elif left:
                    tasks.append((part, seed, left))
        fill(table, args.n_jobs, partial(measured, args, domain), tasks)


def _key(row):
    numbers = (None if np.isnan(row[name]) else row[name] for name in ("noise", "epochs"))
    return row["part"], int(row["seed"]), row["method"], *numbers


def measured(args, domain, part, seed, left):
    """The rows of settings on a split, or of one under the attacks."""
    if "attack" in part:
        ((key, unlearner),) = left.items()
        found = {key: membership(args, domain, seed, unlearner)}
    else:
        named = {(name, f"{noise} {n}"): (left[name, noise, n], {}) for name, noise, n in left}
        named[("Original", "")] = None, {}
        rows = run(domain, splits(args, domain, seed), named, seed, args.cache)
        by_name = {(row["method"], row["trial"]): row for row in rows}
        found = {(name, noise, n): by_name[name, f"{noise} {n}"] for name, noise, n in left}
        if part == "closeness":
            found["Original", None, None] = by_name["Original", ""]
    made = []
    for (name, noise, n), figures in found.items():
        row = {"domain": domain.name, "part": part, "method": name, "noise": noise, "epochs": n}
        row |= {column: figures.get(column) for column in (*FIGURES, *ATTACK)}
        made.append(row | {"seed": seed})
    return made


if __name__ == "__main__":
    main()
