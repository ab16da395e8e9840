"""How often the intervals of reports hold the truth, where 95 in 100 are named.

`python benchmarks/bench_intervals.py` takes a quarter of an hour on one core and writes
``results/coverage.csv``; it prints the least coverage by size. Signals of both sides are normal.
There is nothing to tell ("nothing"), or forget rows lie two standard deviations below unseen ones
("much"), or half of them three below and half three above ("mixed", of which those below are
remembered). Of people, each has ten rows with a correlation of 0.3, and half of the people are
three above and half below; "shared" are people with rows on either side, "uneven" ones have one to
fifty rows, ten on average, and of "one" there are sixty rows, and of all others two. Distances of
predictions are of beta distributions, even ("nothing") and with most rows near 0 ("mixed").
Networks answer with three classes; the unlearned one is as far from the retrained one as another
retraining is ("nothing"), or surer of the forget rows ("much"). Features of unseen rows are normal
around the centres of three classes, which lie on one point ("nothing"), near to each other
("mixed") or far from each other ("much"). The test of which network is nearer has rows of its own:
its level, where both are as far, and its power.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.special import softmax
from scipy.stats import norm

from skunlearn._engine import intervals
from skunlearn._engine.statistics import relative_mmd, truth_first
from skunlearn.evaluation._figures import Measure, Subject
from skunlearn.metrics import membership_inference_report, nomus_score, relative_mmd_test

RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(Path(__file__).parent / "study"))
from tables import Table  # noqa: E402

COLUMNS = ("metric", "units", "forget", "unseen", "told", "given", "coverage", "width", "n")
SHIFTS = {"nothing": (0, 0), "much": (2, 2), "mixed": (-3, 3)}  # of either half, downwards
MAX_FPR, LEVEL, EACH, CORRELATION = 0.05, 0.95, 10, 0.3
BETAS = {"nothing": (2, 8), "mixed": (0.1, 2)}
CENTRES = {"nothing": 0.0, "mixed": 0.7, "much": 2.0}  # of classes, in standard deviations
N_CLASSES, N_FEATURES, NOISE = 3, 5, 0.5
SURER = {"nothing": 0.0, "much": 2.0}  # by how many logits, of the forget rows


def truths(told):
    """The AUC, the TPR and the overshoot of the population; accuracy where that is known."""
    halves = SHIFTS[told]
    auc = np.mean([norm.cdf(shift / np.sqrt(2)) for shift in halves])
    tpr = np.mean([norm.cdf(norm.ppf(MAX_FPR) + shift) for shift in halves])
    q = (np.arange(20000) + 0.5) / 20000
    x = np.linspace(-9, 9, 20001)
    forget = np.interp(q, np.mean([norm.cdf(x + shift) for shift in halves], axis=0), x)
    overshoot = np.maximum(forget - norm.ppf(q), 0).mean()
    return {"auc": auc, "tpr": tpr, "overshoot": 0.0 if told != "mixed" else overshoot}


def signals(rng, n, groups):
    """Normal signals of `n` rows, or of ten rows each of `n` people."""
    if not groups:
        return rng.normal(size=n)
    own = rng.normal(size=n * EACH)
    person = np.repeat(rng.normal(size=n), EACH)
    return np.sqrt(CORRELATION) * person + np.sqrt(1 - CORRELATION) * own


def attacked(rng, n, m, told, groups, n_simulations, n_trained):
    """Intervals of the attack, of what is made of it, and of overshoot, by metric.

    Attacks are trained, and losses resampled, in the first `n_trained` of the simulations.
    """
    found = {name: [] for name in ("accuracy", "auc", "tpr", "forgetting", "nomus", "overshoot")}
    people = {}
    if groups:
        people["groups_forget"] = np.repeat(np.arange(n), EACH)
        people["groups_unseen"] = np.repeat(n + np.arange(m), EACH)
    for seed in range(n_simulations):
        forget, unseen = signals(rng, n, groups), signals(rng, m, groups)
        # Which half a row, or person, is in is chance.
        shift = rng.choice(SHIFTS[told], n)
        forget -= np.repeat(shift, EACH) if groups else shift
        found["auc"].append(intervals.of_auc(forget, unseen, LEVEL, *people.values()))
        found["tpr"].append(intervals.of_tpr(forget, unseen, MAX_FPR, LEVEL, *people.values()))
        if seed >= n_trained:
            continue
        report = membership_inference_report(forget, unseen, **people, random_state=seed)
        found["accuracy"].append(report["accuracy"])
        # Rows that are predicted right, three of four.
        right = (signals(rng, m, groups) < norm.ppf(0.75)).astype(float)
        utility = intervals.of_mean(right, LEVEL, people.get("groups_unseen"))
        forgetting = intervals.distance(report["accuracy"], 0.5)
        found["forgetting"].append(forgetting)
        if np.isfinite(forgetting.low):
            low = nomus_score(utility.low, forgetting.high)
            high = nomus_score(utility.high, forgetting.low)
            found["nomus"].append(intervals.Interval(0, low, high))
        if seed < n_trained // 3:
            settings = 200, np.random.RandomState(seed)
            found["overshoot"].append(
                intervals.of_overshoot(forget, unseen, LEVEL, *settings, *people.values())
            )
    return found


def attack_rows(rng, n, m, told, groups, n_simulations, n_trained):
    """Rows of the table for the attacks on one kind of data."""
    found = attacked(rng, n, m, told, groups, n_simulations, n_trained)
    truth = truths(told)
    # What an attack of this kind, trained on so many rows, is expected to do.
    expected = np.nanmean([i.value for i in found["accuracy"]]) if min(n, m) > 1 else np.nan
    truth["accuracy"] = 0.5 if told == "nothing" else expected
    truth["forgetting"] = abs(truth["accuracy"] - 0.5)
    truth["nomus"] = 0.375 + 0.5 - truth["forgetting"]
    cell = {"units": "people" if groups else "rows", "forget": n, "unseen": m, "told": told}
    return [cell | covered(name, found[name], truth[name]) for name in found]


def covered(name, found, truth):
    """How many intervals were given, and what share of those holds the truth."""
    bounds = np.array([(each.low, each.high) for each in found]).reshape(-1, 2)
    given = bounds[~np.isnan(bounds[:, 0])]
    row = {"metric": name, "given": len(given) / max(len(found), 1), "n": len(found)}
    if len(given):
        row["coverage"] = np.mean((given[:, 0] <= truth + 1e-12) & (truth - 1e-12 <= given[:, 1]))
        row["width"] = np.median(given[:, 1] - given[:, 0])
    return row


def closeness_rows(rng, n, told, groups, n_simulations):
    """Rows of the table for what is close to a retrained network, over `n` forget rows."""
    found = {"difference": [], "js_distance": [], "relative_js_distance": []}
    people = np.repeat(np.arange(n), EACH) if groups else None
    a, b = BETAS[told]

    def draw():
        if not groups:
            return rng.beta(a, b, n)
        # A person's rows are alike: a mean of what is the person's and what is the row's.
        own = rng.beta(a, b, n * EACH)
        return (np.repeat(rng.beta(a, b, n), EACH) + own) / 2

    share = 0.9 if told == "nothing" else 0.6
    for _ in range(n_simulations):
        first, second = (signals(rng, n, groups) for _ in range(2))
        right = [part < norm.ppf(p) for part, p in ((first, 0.9), (second, share))]
        found["difference"].append(intervals.of_difference(*right, LEVEL, people))
        found["js_distance"].append(intervals.of_mean(draw(), LEVEL, people))
        above, below = draw(), draw()
        found["relative_js_distance"].append(
            intervals.of_ratio((above + below) / 2, below, LEVEL, people)
        )
    truth = {"difference": 0.9 - share, "js_distance": a / (a + b), "relative_js_distance": 1}
    cell = {"units": "people" if groups else "rows", "forget": n, "told": told}
    return [cell | covered(name, found[name], truth[name]) for name in found]


def nearer_rows(rng, n, groups, n_simulations):
    """How often the relative test names a network: rightly, and where both are as far."""
    directions = {
        "level": ([0, 1, 0], [0, 0, 1]),
        "power": ([0, 0, 0], [1.5, 0, 0]),
    }
    people = np.repeat(np.arange(n), EACH) if groups else None
    rows = []
    for name, (first, second) in directions.items():
        named, statistics = [], []
        for _ in range(n_simulations):
            base = np.column_stack([signals(rng, n, groups) for _ in range(3)]) * 1.5
            ours, *others = (
                softmax(base + rng.normal(0, 0.7, base.shape) + way, axis=1)
                for way in ([0, 0, 0], first, second)
            )
            truth = np.zeros(len(ours), dtype=int)
            test = relative_mmd_test(truth, ours, *others, labels=range(3), groups=people)
            named.append(test.pvalue <= 1 - LEVEL and (name == "level" or test.statistic > 0))
            samples = (truth_first(truth, proba) for proba in (ours, *others))
            codes, _ = intervals.people(people, len(ours))
            statistics.append((*relative_mmd(*samples, codes), codes))
        row = {"metric": f"relative_mmd_{name}", "units": "people" if groups else "rows"}
        rows.append(row | {"forget": n, "coverage": np.mean(named), "given": 1, "n": len(named)})
        # The statistic has no bias.
        value = np.mean([statistic for statistic, *_ in statistics]) if name == "power" else 0.0
        found = [intervals.of_difference_of_mmd(*each, LEVEL) for each in statistics]
        row = {"units": row["units"], "forget": n, "told": "much" if name == "power" else "nothing"}
        rows.append(row | covered("mmd_difference", found, value))
    return rows


class Answers:
    """A network whose answers are the rows that it is given: logarithms of probabilities."""

    classes_ = np.arange(N_CLASSES)

    def __init__(self, which):
        self.which = which

    def predict_proba(self, X):
        """One of the networks' probabilities."""
        return X[:, self.which]

    def predict(self, X):
        """The class that it is surest of."""
        return self.predict_proba(X).argmax(axis=1)


class Watched(Measure):
    """The metrics, of which the attack's is kept, and no probe of people is trained."""

    def attack_difference(self, subject, first, level):
        """By how much the attack is more accurate on one network."""
        self.attack = super().attack_difference(subject, first, level)
        return self.attack

    def probe(self, Z, y, cv, groups):
        """Accuracy of a linear classifier; of people there is no interval."""
        missing = intervals.absent(np.nan, "no interval")
        return missing if groups is not None else super().probe(Z, y, cv, groups)


def answers(rng, n_units, told, groups, surer):
    """Answers of an unlearned network and of two retrained ones, the true classes and the people.

    Some rows are hard for all networks; `surer` of them the first knows better than that.
    """
    n = n_units * (EACH if groups else 1)
    codes = rng.integers(N_CLASSES, size=n)
    hard = signals(rng, n_units, groups)
    truth = np.eye(N_CLASSES)[codes]
    base = truth * (1 + hard)[:, None]
    logits = np.stack([base + rng.normal(0, 0.7, base.shape) for _ in range(3)], axis=1)
    logits[:surer, 0] += SURER[told] * truth[:surer]
    return softmax(logits, axis=2), codes


def network_rows(rng, n, told, groups, n_simulations):
    """Rows of the table for the metrics that are made of several, beside retrained networks.

    There are as many rows to retain as to forget, and as many unseen ones.
    """
    names = "gap", "tug_of_war", "agreement"
    size = n * (EACH if groups else 1)

    def networks(n):
        size = n * (EACH if groups else 1)
        (X, y), (X_unseen, y_unseen) = (
            answers(rng, k * n, told, groups, surer) for k, surer in ((2, size), (1, 0))
        )
        people = (None, None)
        if groups:
            people = np.repeat(np.arange(2 * n), EACH), np.repeat(2 * n + np.arange(n), EACH)
        mask = np.arange(2 * size) < size
        data = (X, X_unseen), (y, y_unseen), mask, np.arange(N_CLASSES), people
        return [Subject(f"{i}", Answers(i), *data) for i in range(3)]

    found = {name: [] for name in names}
    attacks = []
    for seed in range(n_simulations):
        measure = Watched(10, 2, LEVEL, seed)
        metrics = measure.closeness(*networks(n))
        for name in names:
            found[name].append(metrics[name])
        attacks.append(measure.attack.value)
    # Accuracies are those of many rows; the attack is what one on so few is expected to do.
    ours, retrained, _ = networks(100_000 // (EACH if groups else 1))
    gaps = [abs(ours.right[key].mean() - retrained.right[key].mean()) for key in ours.right]
    truth = {
        "gap": np.mean([*gaps, abs(np.nanmean(attacks))]) if size > 1 else np.nan,
        "tug_of_war": np.prod(1 - np.array(gaps)),
        "agreement": np.mean(ours.predicted["forget"] == retrained.predicted["forget"]),
    }
    cell = {"units": "people" if groups else "rows", "forget": n, "told": told}
    return [cell | covered(name, found[name], truth[name]) for name in names]


def feature_truths(centre):
    """Linear CKA and scatter ratio of the population of features with centres so far apart."""
    labels = np.eye(N_CLASSES) / N_CLASSES - 1 / N_CLASSES**2
    centres = centre * np.eye(N_CLASSES, N_FEATURES)
    between, within = centres.T @ labels @ centres, (1 + NOISE**2) * np.eye(N_FEATURES)
    norms = [np.sum(part**2) for part in (centres.T @ labels, between + within, labels)]
    return norms[0] / np.sqrt(norms[1] * norms[2]), np.trace(between) / np.trace(within)


def feature_rows(rng, n, groups, n_simulations):
    """Rows of the table for features of `n` unseen rows, or people of one class each."""
    names = "linear_cka", "scatter_ratio", "cka_ratio", "linear_probe"
    found = {told: {name: [] for name in names} for told in CENTRES}
    people = np.repeat(np.arange(n), EACH) if groups else None
    for seed in range(n_simulations):
        codes = rng.integers(N_CLASSES, size=n)
        codes = np.repeat(codes, EACH) if groups else codes
        row = np.stack([signals(rng, n, groups) for _ in range(N_FEATURES)], axis=1)
        features = {
            name: centre * np.eye(N_CLASSES, N_FEATURES)[codes]
            + row
            + rng.normal(0, NOISE, row.shape)
            for name, centre in {"original": CENTRES["much"], **CENTRES}.items()
        }
        metrics = Watched(2, 2, LEVEL, seed).collapse(features, codes, people)
        missing = intervals.absent(np.nan, "too few")
        for told in CENTRES:
            for name in names:
                found[told][name].append(metrics.get(told, {}).get(name, missing))
    for told, centre in CENTRES.items():
        cka, scatter = feature_truths(centre)
        truth = {"linear_cka": cka, "scatter_ratio": scatter}
        truth["cka_ratio"] = cka / feature_truths(CENTRES["much"])[0]
        # What a probe that is trained on so many rows is expected to do.
        probes = [each.value for each in found[told]["linear_probe"] if not np.isnan(each.value)]
        truth["linear_probe"] = np.mean(probes) if probes else np.nan
        cell = {"units": "people" if groups else "rows", "unseen": n, "forget": n, "told": told}
        yield from (cell | covered(name, found[told][name], truth[name]) for name in names)


def shared_rows(rng, n, n_simulations):
    """A row of the table for the AUC where the same people have rows on both sides."""
    found = []
    for _ in range(n_simulations):
        rows = signals(rng, n, True).reshape(n, EACH)
        sides = [part.ravel() for part in np.split(rows, 2, axis=1)]
        people = np.repeat(np.arange(n), EACH // 2)
        found.append(intervals.of_auc(*sides, LEVEL, people, people))
    cell = {"units": "people", "forget": n, "unseen": n, "told": "shared"}
    return cell | covered("auc", found, 0.5)


def uneven_rows(rng, n, told, n_simulations):
    """Rows of the table for people of whom there are unequally many rows, and nothing to tell."""
    found = {name: [] for name in ("auc", "tpr", "difference", "js_distance")}
    found["relative_js_distance"] = []
    for _ in range(n_simulations):
        sides, people = [], []
        for k in (n, max(n, 40)):
            sizes = np.minimum(rng.geometric(0.1, k), 50)
            if told == "one":
                sizes = np.r_[60, np.full(k - 1, 2)]
            codes = np.repeat(np.arange(k), sizes)
            own = rng.normal(size=(2, len(codes))), rng.normal(size=(2, k))[:, codes]
            sides.append(np.sqrt(1 - CORRELATION) * own[0] + np.sqrt(CORRELATION) * own[1])
            people.append(codes)
        (forget, again), (unseen, _) = sides
        both = people[0], len(people[0]) + people[1]
        found["auc"].append(intervals.of_auc(forget, unseen, LEVEL, *both))
        found["tpr"].append(intervals.of_tpr(forget, unseen, MAX_FPR, LEVEL, *both))
        right = [part < norm.ppf(p) for part, p in ((forget, 0.9), (again, 0.6))]
        found["difference"].append(intervals.of_difference(*right, LEVEL, people[0]))
        above, below = norm.cdf(forget) ** 3, norm.cdf(again) ** 3
        found["js_distance"].append(intervals.of_mean(above, LEVEL, people[0]))
        ratio = intervals.of_ratio((above + below) / 2, below, LEVEL, people[0])
        found["relative_js_distance"].append(ratio)
    truth = {"auc": 0.5, "tpr": MAX_FPR, "difference": 0.3, "js_distance": 0.25}
    truth["relative_js_distance"] = 1
    cell = {"units": "people", "forget": n, "told": told}
    return [cell | covered(name, found[name], truth[name]) for name in found]


def simulate(n_simulations, sizes):
    """All rows of the table."""
    for n in sizes:
        for groups in (False, True):
            if groups and n > 100:
                continue  # ten thousand rows
            many = n * (EACH if groups else 1) >= 1000
            fewer = n_simulations // 5 if many else n_simulations
            for m in (n, 100 if n >= 1000 else 40 if groups else 1000):
                for told in SHIFTS:
                    rng = np.random.default_rng([n, m, groups, *map(ord, told)])
                    yield from attack_rows(rng, n, m, told, groups, n_simulations, fewer)
            rng = np.random.default_rng([n, groups, 1])
            yield from feature_rows(rng, n, groups, n_simulations // 2)
            for told in SURER:
                rng = np.random.default_rng([n, groups, 2, *map(ord, told)])
                yield from network_rows(rng, n, told, groups, n_simulations // 2)
            if groups:
                yield shared_rows(np.random.default_rng([n, 3]), n, n_simulations)
                for told in ("uneven", "one"):
                    rng = np.random.default_rng([n, *map(ord, told)])
                    yield from uneven_rows(rng, n, told, n_simulations)
            for told in BETAS:
                rng = np.random.default_rng([n, groups, *map(ord, told)])
                yield from closeness_rows(rng, n, told, groups, 5 * n_simulations)
            if n >= intervals.FEWEST and n < 1000:
                rng = np.random.default_rng([n, groups])
                yield from nearer_rows(rng, n, groups, max(fewer // 2, 1))


def main():
    """Simulate, write the table and print the least coverage of each metric by size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=600)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 6, 12, 100, 1000])
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = []
    for row in simulate(args.simulations, args.sizes):
        rows.append(row)
        print({key: row.get(key) for key in COLUMNS}, file=sys.stderr, flush=True)
    Table(args.results / "coverage.csv", COLUMNS).replace(rows)
    heads = [(units, n) for units in ("rows", "people") for n in args.sizes]
    print(f"{'least coverage':22}" + "".join(f"{n:>7} {units:6}" for units, n in heads))
    for name in dict.fromkeys(row["metric"] for row in rows):
        cells = []
        for head in heads:
            shares = [
                row["coverage"]
                for row in rows
                if (row["units"], row["forget"]) == head
                and row["metric"] == name
                and "coverage" in row
            ]
            pick = max if name.endswith("level") else min
            cells.append(f"{pick(shares):.3f}" if shares else "-")
        print(f"{name:22}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
