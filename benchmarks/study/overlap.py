"""Ask whether the overlap of forget and retained features foretells what unlearning reaches.

Rows to forget are chosen in ways that differ in how much they look like the rest: single rows at
random, people at random, people of one class, people who are alike. Before unlearning, the
transport distance of forget and retained features of an original is measured, beside that of as
many retained rows to each other; then methods unlearn with their defaults.
"""

from functools import partial
from itertools import product

import numpy as np
from options import FIRST_REPORTED, options
from sklearn.metrics import pairwise_distances
from tables import FIGURES, REFERENCES, Table, fill, run

from skunlearn import DLFD, EUk, FineTune
from skunlearn.features import FeatureExtractor
from skunlearn.metrics import feature_transport_distance

KINDS = ("rows", "people", "people of a class", "people alike")
COLUMNS = ("domain", "method", "seed", "trial", "distance", "floor", *FIGURES, "params", "error")


def rows_to_forget(kind, X, y, people, n_people, seed):
    """A mask over training rows, of about as many rows for each kind."""
    rng = np.random.default_rng(seed)
    names = np.unique(people)
    drawn = rng.permutation(names)
    n_rows = round(len(X) * n_people / len(names))
    if kind == "rows":
        return rng.permutation(len(X)) < n_rows
    if kind == "people of a class":
        label = y[people == drawn[0]][0]
        drawn = sorted(drawn, key=lambda who: -np.mean(y[people == who] == label))
    if kind == "people alike":
        means = [X[people == who].reshape(np.sum(people == who), -1).mean(axis=0) for who in drawn]
        drawn = drawn[np.argsort(pairwise_distances(means[:1], means)[0], kind="stable")]
    return np.isin(people, drawn[:n_people])


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        table = Table(args.results / f"overlap-{domain.name}.csv", COLUMNS)
        done = {(int(row["seed"]), row["trial"]) for row in table.rows()}
        n_splits = args.reporting_splits or domain.n_report
        seeds = range(FIRST_REPORTED, FIRST_REPORTED + n_splits)
        tasks = [task for task in product(seeds, KINDS) if task not in done]
        fill(table, args.n_jobs, partial(look, args, domain), tasks)


def look(args, domain, seed, kind):
    """The rows of one way of choosing whom to forget, on one split."""
    X, y, people = domain.load(args.data)
    split = domain.masks(y, people, seed)
    train = split.train
    n_people = domain.sizes["forget_size"]
    forget = rows_to_forget(kind, X[train], y[train], people[train], n_people, seed)
    rows = (
        (X[train], y[train], forget),
        (X[split.val], y[split.val]),
        (X[split.test], y[split.test]),
    )

    # An original of its own, by whose features the sets are compared before anything is forgotten.
    original = FineTune(domain.net, memory=str(args.cache / "networks"), random_state=seed)
    original.fit(X[train], y[train])
    Z = FeatureExtractor(original).transform(X[train])
    rng = np.random.default_rng(seed)
    retained = rng.permutation(np.flatnonzero(~forget))
    n = min(forget.sum(), len(retained) // 2, 500)  # as many on each side, or they do not compare
    some = rng.permutation(np.flatnonzero(forget))[:n]
    before = {
        "distance": feature_transport_distance(Z[some], Z[retained[:n]]),
        "floor": feature_transport_distance(Z[retained[n : 2 * n]], Z[retained[:n]]),
    }
    net = domain.net
    made = {(name, kind): (None, {}) for name in REFERENCES}
    for name, unlearner in {"DLFD": DLFD(net), "FineTune": FineTune(net), "EUk": EUk(net)}.items():
        made[name, kind] = unlearner, {}
    return [row | before for row in run(domain, rows, made, seed, args.cache, feature_layer=None)]


if __name__ == "__main__":
    main()
