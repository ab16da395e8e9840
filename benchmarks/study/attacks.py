"""Attack each row after each method, at the settings that were chosen for it.

Two questions, each with many networks. Was a person forgotten, or never seen? Those to forget and
as many others are dealt into halves, and each network is trained on one half and forgets it
(U-LiRA, RMIA). Was the network unlearned, or retrained (U-LiRA on the rows to forget), and does it
do on each row what a retrained one does (KLoM)? Originals are
trained once for all methods. A row is written as soon as a method is done, and its networks'
margins as soon as each is: a run that was stopped goes on where it was.
"""

import warnings
from functools import partial

import numpy as np
import torch
from methods import DEFAULT, GUARDED, SHORTENED, make, tuned
from options import FIRST_REPORTED, options
from sklearn.metrics import roc_auc_score
from tables import Table, fill
from variants import variants

from skunlearn import SISA, Retrain, klom_margins, shadow_margins
from skunlearn.metrics import klom, rmia, u_lira

FIRST = ("Retrain (shortened)", "Distill", "FineTune", "L1Sparse", "SCRUB", "SalUn", "DLFD")
FIRST += ("DLFD (published)", "BadTeacher", "Retrain (tuned, short)")
N_BINS = 5  # of KLoM, which is far off with more, unless there are a hundred networks
COLUMNS = ("domain", "cap", "method", "trial", "seed", "n_models", "n_people", "n_rows")
COLUMNS += ("u_lira_accuracy", "u_lira_auc", "u_lira_low", "u_lira_high", "u_lira_tpr")
COLUMNS += ("rmia_auc", "rmia_low", "rmia_high", "n_klom_models")
COLUMNS += ("against_retrained_auc", "against_retrained_low", "against_retrained_high")
COLUMNS += ("klom_forget_50", "klom_forget_95", "klom_retain_50", "klom_retain_95", "params")


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        table = Table(args.results / f"attacks-{domain.name}.csv", COLUMNS)
        done = {(row["method"], row["trial"], int(row["seed"]), row["cap"]) for row in table.rows()}
        wanted = {("Retrain", ""): ({}, [1.0])}
        if domain.is_long and "SISA" in (args.methods or ["SISA"]):
            wanted["SISA", ""] = {}, [1.0]  # what it costs where people's rows are in all shards
        attacked_by_default = [name for name in tuned(domain) if name not in variants(domain.net)]
        attacked_by_default += [
            SHORTENED,
            DEFAULT,
            *(f"{name}{GUARDED}" for name in attacked_by_default),
        ]
        choices = Table(args.results / f"chosen-{domain.name}.csv").rows()
        for choice in sorted(choices, key=lambda choice: _turn(choice["method"])):
            name, cap = choice["method"], float(choice["cap"])
            is_wanted = ": " not in name and name in (args.methods or attacked_by_default)
            if cap in domain.attacked_caps and is_wanted:
                wanted.setdefault((name, choice["trial"]), (choice["params"], []))[1].append(cap)
        seeds = range(FIRST_REPORTED, FIRST_REPORTED + (args.reporting_splits or 1))
        tasks = []
        for seed in seeds:
            for (name, trial), (params, caps) in wanted.items():
                left = [cap for cap in caps if (name, trial, seed, cap) not in done]
                if left:
                    tasks.append((seed, name, trial, params, left))
        fill(table, args.n_jobs, partial(attacked, args, domain), tasks)


def _turn(name):
    return FIRST.index(name) if name in FIRST else len(FIRST)


def attacked(args, domain, seed, name, trial, params, caps):
    """The rows of a method at one setting, one for each cap; none if the setting is refused."""
    torch.set_num_threads(1)
    whole = {"Retrain": Retrain, "SISA": SISA}.get(name)
    unlearner = make(name, domain, params) if whole is None else whole(domain.net)
    try:
        found = membership(args, domain, seed, unlearner)
        if args.klom_models:
            found |= divergence(args, domain, seed, unlearner)
    except ValueError as error:  # an attack forgets more rows than the request that it was tuned on
        print(f"{domain.name} {name} {trial} is left out, for it is refused: {error}", flush=True)
        return []
    row = {"domain": domain.name, "method": name, "trial": trial, "seed": seed, "params": params}
    return [row | found | {"cap": cap} for cap in caps]


def membership(args, domain, seed, unlearner):
    """Figures of the attacks that tell people who were forgotten from people never seen.

    A network is trained on the retained people and on half of the candidates, who are the people
    to forget and those held out for tuning in other scripts; half of the people for reporting is
    handed to methods that want held-out rows, the other half is the population of RMIA. Intervals
    are of 95 %, by a bootstrap over candidates: of few people, they are too narrow.
    """
    X, y, people = domain.load(args.data)
    split = domain.masks(y, people, seed)
    used = split.train | split.val
    candidates = (split.forget | split.val)[used]
    held_out, population = _halves(split.test, people)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of methods that change nothing: the figures say so
        shadow = shadow_margins(
            unlearner.set_params(memory=str(args.cache / "networks")),
            X[used],
            y[used],
            forget=candidates,
            X_unseen=X[population],
            y_unseen=y[population],
            groups=people[used],
            X_val=X[held_out],
            y_val=y[held_out],
            n_models=args.models,
            folder=args.cache / "attacks",
            random_state=seed,
        )
    who = people[used][candidates]
    found = {"n_models": args.models, "n_people": len(np.unique(who)), "n_rows": len(who)}
    gaussian, ratios = u_lira(shadow.margins, shadow.member), rmia(*shadow)
    found |= {"u_lira_accuracy": gaussian.accuracy, "u_lira_tpr": gaussian.tpr}
    for kind, attack in {"u_lira": gaussian, "rmia": ratios}.items():
        low, high = interval(attack.signal, shadow.member, who)
        found |= {f"{kind}_auc": attack.auc, f"{kind}_low": low, f"{kind}_high": high}
    return found


def divergence(args, domain, seed, unlearner):
    """Figures of unlearned against retrained networks.

    They are U-LiRA's AUC on the rows to forget, with an interval over people, and percentiles of
    KLoM; for `Retrain` these are its noise floor, of as many networks.
    """
    X, y, people = domain.load(args.data)
    split = domain.masks(y, people, seed)
    held_out, _ = _halves(split.test, people)
    forget = split.forget[split.train]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        margins = klom_margins(
            unlearner.set_params(memory=str(args.cache / "networks")),
            X[split.train],
            y[split.train],
            forget=forget,
            X_val=X[held_out],
            y_val=y[held_out],
            n_models=args.klom_models,
            folder=args.cache / "attacks",
            random_state=seed,
        )
    values, found = klom(*margins, n_bins=N_BINS), {"n_klom_models": args.klom_models}
    against = margins.unlearned_or_retrained(forget)
    attack = u_lira(*against)
    low, high = interval(attack.signal, against[1], people[split.train][forget])
    for end, value in {"auc": attack.auc, "low": low, "high": high}.items():
        found[f"against_retrained_{end}"] = value
    for side, mask in {"forget": forget, "retain": ~forget}.items():
        for percentile in (50, 95):
            found[f"klom_{side}_{percentile}"] = float(np.percentile(values[mask], percentile))
    return found


def interval(signal, member, who, level=0.95, n_resamples=400):
    """An interval of the AUC over all networks and rows, by resampling people.

    Parameters
    ----------
    signal, member : ndarray of shape (n_models, n_rows)
        Of the attack; greater for what looks never seen.
    who : ndarray of shape (n_rows,)
        The person that each row is from.
    level : float
        Of the interval.
    n_resamples : int
        Draws of people, with replacement.

    Returns
    -------
    low, high : float
    """
    rng, names = np.random.default_rng(0), np.unique(who)
    places = [np.flatnonzero(who == name) for name in names]
    aucs = []
    for _ in range(n_resamples):
        drawn = np.concatenate([places[i] for i in rng.integers(len(names), size=len(names))])
        aucs.append(roc_auc_score(member[:, drawn].ravel(), -signal[:, drawn].ravel()))
    return tuple(np.quantile(aucs, [(1 - level) / 2, (1 + level) / 2]).tolist())


def _halves(mask, people):
    """The rows of a mask, dealt out by people."""
    one = mask & np.isin(people, np.unique(people[mask])[::2])
    return one, mask & ~one


if __name__ == "__main__":
    main()
