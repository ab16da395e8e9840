"""When NoMUS misleads: three ways of measuring, each beside the wrong one.

* ``attack``: the retrained network under an attack on as many unseen rows as forget rows, and on
  two and four times as many, where an attacker who always says "unseen" is right more often than
  not.
* ``unseen``: NoMUS with unseen rows of other people, and with unseen rows of the very people who
  are to be forgotten, of whom the original knows the rest.
* ``rows``: the retrained network, and the same with its answers to forget rows of a class dealt out
  among them anew: no mean of accuracies or losses can tell them apart.
"""

from functools import partial

import numpy as np
from options import FIRST_REPORTED, options
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from tables import Table, fill

from skunlearn import DLFD, FineTune, Retrain
from skunlearn.metrics import (
    average_gap,
    forgetting_score,
    membership_inference_accuracy,
    nomus_score,
    relative_jensen_shannon_distance,
    sample_log_loss,
    utility_score,
)

COLUMNS = ("domain", "part", "case", "method", "seed", "utility", "attack", "nomus", "gap")
COLUMNS += ("relative_js_distance",)
RATIOS = (1, 2, 4)


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        table = Table(args.results / f"misleading-{domain.name}.csv", COLUMNS)
        done = {int(row["seed"]) for row in table.rows()}
        n_splits = args.reporting_splits or domain.n_report
        seeds = range(FIRST_REPORTED, FIRST_REPORTED + n_splits)
        tasks = [(seed,) for seed in seeds if seed not in done]
        fill(table, args.n_jobs, partial(measure, args, domain), tasks)


def unbalanced_attack(forget, unseen, seed):
    """Accuracy of the same attack on sides of different sizes, which is what not to do."""
    losses = np.r_[forget, unseen][:, None]
    member = np.r_[np.ones(len(forget)), np.zeros(len(unseen))]
    splits = StratifiedShuffleSplit(40, test_size=0.2, random_state=seed)
    return float(cross_val_score(LogisticRegression(), losses, member, cv=splits).mean())


def dealt_anew(proba, y, seed):
    """Rows of probabilities, dealt out anew among the rows of each class."""
    rng, dealt = np.random.default_rng(seed), proba.copy()
    for label in np.unique(y):
        places = np.flatnonzero(y == label)
        dealt[places] = proba[rng.permutation(places)]
    return dealt


def measure(args, domain, seed):
    """The rows of one split."""
    X, y, people = domain.load(args.data)
    split = domain.masks(y, people, seed)
    # A quarter of the rows of those who are to be forgotten is not trained on.
    rng = np.random.default_rng(seed)
    left_out = split.forget & (rng.random(len(y)) < 0.25)
    trained_on = split.train & ~left_out
    train = X[trained_on], y[trained_on]
    forget = split.forget[trained_on]
    X_forget, y_forget = train[0][forget], train[1][forget]
    unseen = split.val | split.test
    sides = {"other people": (X[unseen], y[unseen]), "the same people": (X[left_out], y[left_out])}

    net = domain.net
    models = {
        "Original": FineTune(net, random_state=seed).fit(*train),
        "FineTune": FineTune(net, random_state=seed).fit(*train, forget=forget),
        "DLFD": DLFD(net, random_state=seed).fit(*train, forget=forget),
        "Retrain": Retrain(net, random_state=seed + 1000).fit(*train, forget=forget),
        "Retrain again": Retrain(net, random_state=seed + 2000).fit(*train, forget=forget),
    }
    classes = models["Original"].classes_

    def loss(proba, y):
        return sample_log_loss(y, proba, labels=classes)

    found = []

    def note(part, case, method, **figures):
        found.append(
            {
                "domain": domain.name,
                "part": part,
                "case": case,
                "method": method,
                "seed": seed,
                **figures,
            }
        )

    retrained = models["Retrain"].predict_proba(X_forget)
    again = models["Retrain again"].predict_proba(X_forget)
    X_other, y_other = sides["other people"]
    loss_other = loss(models["Retrain"].predict_proba(X_other), y_other)
    order = rng.permutation(len(loss_other))
    n_forget = min(len(y_forget), len(order) // max(RATIOS))
    loss_few = rng.permutation(loss(retrained, y_forget))[:n_forget]
    for ratio in RATIOS:
        accuracy = unbalanced_attack(loss_few, loss_other[order[: ratio * n_forget]], seed)
        note("attack", f"{ratio} unseen rows for each", "Retrain", attack=accuracy)

    n_rows = min(len(y_forget), *(len(labels) for _, labels in sides.values()))
    some = rng.permutation(len(y_forget))
    for case, (X_unseen, y_unseen) in sides.items():
        drawn = rng.permutation(len(y_unseen))
        X_unseen, y_unseen = X_unseen[drawn], y_unseen[drawn]
        for name, model in models.items():
            # As many rows a side in both cases: the score of pure noise falls with their number.
            losses = (
                loss(model.predict_proba(x[:n_rows]), t[:n_rows])
                for x, t in ((X_forget[some], y_forget[some]), (X_unseen, y_unseen))
            )
            score = forgetting_score(*losses, n_splits=40, random_state=seed)
            utility = utility_score(y_other, model.predict(X_other))
            nomus = nomus_score(utility, score)
            note("unseen", case, name, utility=utility, attack=0.5 + score, nomus=nomus)

    loss_unseen = loss_other
    utility = utility_score(y_other, models["Retrain"].predict(X_other))
    reference = None
    for case, proba in {
        "as they are": retrained,
        "dealt anew": dealt_anew(retrained, y_forget, seed),
    }.items():
        loss_forget = np.sort(loss(proba, y_forget))  # or the splits of the attack would differ
        attack = membership_inference_accuracy(
            loss_forget, loss_unseen, n_splits=40, random_state=seed
        )
        scores = {"forget": float((classes[proba.argmax(1)] == y_forget).mean()), "attack": attack}
        reference = reference or scores
        note(
            "rows",
            case,
            "Retrain",
            utility=utility,
            attack=attack,
            nomus=nomus_score(utility, abs(attack - 0.5)),
            gap=average_gap(scores, reference),
            relative_js_distance=relative_jensen_shannon_distance(proba, again, retrained),
        )
    return found


if __name__ == "__main__":
    main()
