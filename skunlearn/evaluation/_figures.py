"""Metrics of a network that has unlearned, each with its interval."""

import math

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from skorch import NeuralNet

from skunlearn._engine.intervals import (
    FEWEST_FEATURE_PEOPLE,
    FEWEST_FEATURES,
    absent,
    clopper_pearson,
    distance,
    of_auc,
    of_difference,
    of_difference_of_mmd,
    of_jackknife,
    of_mean,
    of_overshoot,
    of_ratio,
    people,
    too_few,
)
from skunlearn._engine.predict import log_proba, predict_proba, predicted
from skunlearn._engine.statistics import (
    SMALLEST_FLOOR,
    few_of,
    jensen_shannon_divergences,
    relative_mmd,
    repeated_attack,
    times_guessed,
    truth_first,
)
from skunlearn._engine.unwrap import innermost
from skunlearn._engine.validation import as_dataset, encode_labels, is_lazy, warn
from skunlearn.base import BaseUnlearner
from skunlearn.metrics import (
    Interval,
    attack_signal,
    calibrated_signal,
    change_signal,
    linear_cka,
    linear_probe_score,
    membership_inference_report,
    membership_inference_test,
    nomus_score,
    scatter_ratio,
)

SIGNALS = ("loss", "confidence", "entropy", "modified_entropy")

#: On which rows each of the accuracies is.
ACCURACIES = {"utility": "unseen", "retain_accuracy": "retain", "forget_accuracy": "forget"}

PARTS = "from the bounds of its parts"

#: The signals by which people are attacked as well, of whose rows there are groups.
OF_PEOPLE = ("loss", "calibrated", "change")

#: Why it is left out, without the names of the classes, which may be people's.
NO_NOMUS = "does not apply where a class is forgotten: it mixes the classes kept and forgotten"

MMD_ROWS = 1000  # forget rows, at most, of which all pairs are compared

FEATURE_ROWS = 2000  # unseen rows, at most, whose features are read


class Subject:
    """Predictions of one network for the rows, with their encoded labels and groups."""

    def __init__(self, name, model, data, codes, mask, classes, groups=(None, None)):
        self.multilabel = codes[0].ndim == 2
        model = model.estimator if isinstance(model, FrozenEstimator) else model
        probas, labels = [], []
        _check_classes(name, model, classes)
        logs = None
        if not self.multilabel:
            logs = log_proba(model, *(_as_read(model, part) for part in data))
        for i, (part, y) in enumerate(zip(data, codes)):
            proba = _proba(model, part) if logs is None else np.exp(logs[i])
            if proba.shape != (len(y), len(classes)):
                raise ValueError(
                    f"the {name} network must give each of the {len(y)} rows a probability of each "
                    f"of the {len(classes)} classes; got an array of shape {proba.shape}."
                )
            probas.append(proba)
            labels.append(_to_labels(model, part, proba, classes))
        self.codes = _by_set(codes, mask)
        self.proba = _by_set(probas, mask)
        # What margins and losses are made from: exact where a probability has become 0 or 1.
        self.answers = self.proba if logs is None else _by_set(logs, mask)
        self.predicted = _by_set(labels, mask)
        self.groups = _by_set(groups, mask)
        self.right = {
            key: _mean_over_labels(self.predicted[key] == y) for key, y in self.codes.items()
        }

    def sides(self):
        """Whose the forget rows are, and the unseen ones; None twice if that is not known."""
        return self.groups["forget"], self.groups["unseen"]

    def signals(self, signal):
        """A signal of the forget rows, and of the unseen ones."""
        return [
            attack_signal(
                self.codes[key], self.answers[key], signal=signal, labels=self._labels(key)
            )
            for key in ("forget", "unseen")
        ]

    def losses_of(self, key):
        """Losses of one set of rows."""
        codes, answers = self.codes[key], self.answers[key]
        return attack_signal(codes, answers, signal="loss", labels=self._labels(key))

    def changes(self, original, key):
        """By how much losses of one set of rows have risen from the original's, with a minus."""
        answers = original.answers[key], self.answers[key]
        return change_signal(self.codes[key], *answers, signal="loss", labels=self._labels(key))

    def calibrated(self, calibration_model):
        return [
            calibrated_signal(
                self.codes[key],
                self.answers[key],
                calibration_model.answers[key],
                labels=self._labels(key),
            )
            for key in ("forget", "unseen")
        ]

    def _labels(self, key):
        return None if self.multilabel else np.arange(self.proba[key].shape[1])


class Measure:
    """The metrics, each with its interval."""

    def __init__(self, n_splits, n_resamples, level, seed):
        self.n_splits = n_splits
        self.n_resamples = n_resamples
        self.level = level
        self.seed = seed
        self.original = (None,)  # its features, and what was measured of them

    def own(self, subject):
        """Metrics of one network."""
        metrics = {
            name: of_mean(subject.right[key], self.level, subject.groups[key])
            for name, key in ACCURACIES.items()
            if len(subject.right[key])
        }
        for signal in SIGNALS:
            metrics |= self._attack(signal, subject, subject.signals(signal))
        metrics["forgetting_score"] = distance(metrics["loss_attack_accuracy"], 0.5)
        metrics["nomus"] = self._nomus(metrics["utility"], metrics["forgetting_score"])
        rng = check_random_state(self.seed)
        losses = subject.signals("loss")
        metrics["overshoot"] = of_overshoot(
            *losses, self.level, self.n_resamples, rng, *subject.sides()
        )
        return metrics

    def _nomus(self, utility, forgetting):
        if math.isnan(forgetting.value):
            return absent(math.nan, forgetting.reason)
        value = nomus_score(utility.value, forgetting.value)
        if forgetting.reason or utility.reason:
            return absent(value, forgetting.reason or utility.reason)
        low = nomus_score(utility.low, forgetting.high)
        return Interval(value, low, nomus_score(utility.high, forgetting.low), PARTS)

    def calibrated(self, subject, calibration_model):
        """The attack that knows how hard each row is."""
        return self._attack("calibrated", subject, subject.calibrated(calibration_model))

    def change(self, subject, original):
        """What has changed from the original, for forget rows, and whether that finds them."""
        forget, unseen, retain = (
            subject.changes(original, key) if len(subject.codes[key]) else None
            for key in ("forget", "unseen", "retain")
        )
        groups = subject.groups["forget"]
        away = of_mean(_js_distances(subject, original), self.level, groups)
        metrics = {"js_distance_to_original": away}
        metrics |= self._attack("change", subject, (forget, unseen))
        if retain is not None:
            sides = forget, retain, self.level, groups, subject.groups["retain"]
            metrics["change_attack_auc_among_retained"] = of_auc(*sides)
        return metrics

    def rest(self, subject):
        """What a single threshold on forget rows does not see: both ends, and retained rows."""
        losses = {key: subject.losses_of(key) for key in subject.codes if len(subject.codes[key])}
        sides = subject.sides()
        if sides[0] is not None and len(np.intersect1d(*sides)):
            test = absent(math.nan, "groups_unseen names people of whom there are forget rows")
        else:
            found = membership_inference_test(
                losses["forget"],
                losses["unseen"],
                groups_forget=sides[0],
                groups_unseen=sides[1],
                random_state=self.seed,
            )
            how = "permutation test", "a p-value has none"
            test = Interval(found.pvalue, math.nan, math.nan, *how)
        metrics = {"two_sided_pvalue": test}
        if "retain" in losses:
            rows = losses["retain"], losses["unseen"]
            groups = subject.groups["retain"], subject.groups["unseen"]
            metrics["retained_attack_auc"] = of_auc(*rows, self.level, *groups)
        return metrics

    def of_classes(self, subject, classes):
        """What becomes of classes that are forgotten as a whole, and of the others."""
        unseen = subject.codes["unseen"]
        forgotten, metrics = np.isin(unseen, classes), {}
        for name, rows in (("kept", ~forgotten), ("forgotten", forgotten)):
            if rows.any():
                groups = subject.groups["unseen"]
                groups = None if groups is None else groups[rows]
                right = subject.right["unseen"][rows]
                metrics[f"utility_of_{name}_classes"] = of_mean(right, self.level, groups)
        if not forgotten.any():
            return metrics
        of_class = np.isin(subject.codes["forget"], classes)
        losses = subject.losses_of("forget")[of_class], subject.losses_of("unseen")[forgotten]
        return metrics | self._attack("class", subject, losses, (of_class, forgotten))

    def nearer(self, subject, first, original):
        """Whether the answers for forget rows are nearer to the retrained network's."""
        groups = subject.groups["forget"]
        codes, _ = people(groups, len(subject.codes["forget"]))
        rows = np.sort(few_of(len(codes), MMD_ROWS, check_random_state(self.seed)))
        codes, _ = people(codes[rows], len(rows))
        if reason := too_few([codes], groups, does="it takes"):
            return {"mmd_difference": absent(math.nan, reason)}
        truth = subject.codes["forget"][rows]
        probas = (
            truth_first(truth, each.proba["forget"][rows].astype(float))
            for each in (subject, first, original)
        )
        statistic = relative_mmd(*probas, codes)
        return {"mmd_difference": of_difference_of_mmd(*statistic, codes, self.level)}

    def differences(self, subject, first, level=None):
        """By how much the accuracies are above those of the first retrained network."""
        return {
            f"{name}_difference": of_difference(
                subject.right[key], first.right[key], level or self.level, subject.groups[key]
            )
            for name, key in ACCURACIES.items()
            if len(subject.right[key])
        }

    def closeness(self, subject, first, second):
        """Metrics of closeness to the first retrained network."""
        # What is made of four differences holds where all of them do.
        level = 1 - (1 - self.level) / 4
        differences = list(map(distance, self.differences(subject, first, level).values()))
        attack = distance(self.attack_difference(subject, first, level))
        distances = [
            _js_distances(a, b) for a, b in ((subject, first), (first, second)) if b is not None
        ]
        groups = subject.groups["forget"]
        same = subject.predicted["forget"] == first.predicted["forget"]
        metrics = {
            "gap": _combined(np.mean, [*differences, attack]),
            "tug_of_war": _combined(lambda each: np.prod(1 - np.array(each)), differences),
            "agreement": of_mean(_mean_over_labels(same), self.level, groups),
            "js_distance": of_mean(distances[0], self.level, groups),
        }
        if second is not None and distances[1].mean() >= SMALLEST_FLOOR:
            metrics["relative_js_distance"] = of_ratio(*distances, self.level, groups)
        if not len(subject.right["retain"]):  # of which both are made
            del metrics["gap"], metrics["tug_of_war"]
        return metrics

    def collapse(self, features, y, groups=None):
        """Metrics of the features of unseen rows, by network."""
        _, place, counts = np.unique(y, axis=0, return_inverse=True, return_counts=True)
        if len(y) < 5 or np.count_nonzero(counts > 1) < 2:  # CKA takes 4, and one group is left out
            return {}
        group, reason = self._parts_to_leave_out(place.ravel(), groups)
        n_groups = group.max() + 1
        labels = y.T if y.ndim == 2 else [y]
        rarest = min(
            np.unique(label, return_counts=True)[1].min()
            for label in labels
            if (label != label[0]).any()
        )
        metrics, parts = {}, {}
        for name, Z in features.items():
            if Z is self.original[0]:  # which is the same for every method
                metrics[name], parts[name] = self.original[1:]
                continue
            without = [
                (
                    linear_cka(Z[group != g], y[group != g]),
                    scatter_ratio(Z[group != g], y[group != g]),
                )
                for g in range(n_groups)
            ]
            cka, scatter = map(np.array, zip(*without))
            parts[name] = linear_cka(Z, y), cka
            metrics[name] = {
                "linear_cka": self._of_parts(*parts[name], reason, 1),
                "scatter_ratio": self._of_parts(scatter_ratio(Z, y), scatter, reason),
            }
            if rarest > 1:
                metrics[name]["linear_probe"] = self.probe(Z, y, int(min(5, rarest)), groups)
        self.original = features["original"], metrics["original"], parts["original"]
        whole, without = parts["original"]
        if whole > 0 and without.min() > 0:
            for name in parts.keys() - {"original"}:
                ours, ours_without = parts[name]
                ratio = ours / whole, ours_without / without
                metrics[name]["cka_ratio"] = self._of_parts(*ratio, reason)
        return metrics

    def probe(self, Z, y, cv, groups):
        """Accuracy of a linear classifier on features."""
        value = linear_probe_score(Z, y, cv=cv, random_state=self.seed)
        if groups is not None:
            return absent(value, "its rows are told apart one by one, whosever they are")
        # A probe that was trained on other rows would differ besides.
        bounds = clopper_pearson(value, 0.7 * len(y), (1 - self.level) / 2)
        return Interval(value, *bounds, "Clopper–Pearson at seven tenths of the rows")

    def _parts_to_leave_out(self, classes, groups):
        """A number for each row, of the part that it is left out with, and what is wrong with them.

        Rows of one person are left out together. Where rows are on their own, the classes are
        spread over the parts, so that none is left out with one.
        """
        rng, n = check_random_state(self.seed), len(classes)
        spread = np.empty(n, dtype=int)
        spread[np.lexsort((rng.permutation(n), classes))] = np.arange(n) % min(20, n)
        if n < FEWEST_FEATURES:
            return spread, f"{n} unseen rows: an interval takes {FEWEST_FEATURES}"
        if groups is None:
            return spread, ""
        codes, n_people = people(groups, n)
        if reason := too_few([codes], groups, FEWEST_FEATURE_PEOPLE):
            return spread, reason
        part = rng.permutation(n_people)[codes] % min(20, n_people)
        if any(len(np.unique(part[classes == name])) < 2 for name in np.unique(classes)):
            return spread, "a class is of too few groups to do without some"
        return part, ""

    def _attack(self, name, subject, signals, rows=(slice(None), slice(None))):
        forget, unseen = (
            None if side is None else side[chosen] for side, chosen in zip(subject.sides(), rows)
        )
        report = membership_inference_report(
            *signals,
            groups_forget=forget,
            groups_unseen=unseen,
            n_splits=self.n_splits,
            confidence_level=self.level,
            random_state=self.seed,
        )
        return {
            f"{name}_attack_{metric}": interval
            for metric, interval in report.items()
            if name in OF_PEOPLE or not metric.startswith("people_")
        }

    def attack_difference(self, subject, first, level):
        """By how much the loss attack is more accurate on one network than on the other."""
        attacks = []
        for each in (subject, first):
            losses = each.signals("loss")
            size = min(map(len, losses))
            if size < 2:
                return absent(math.nan, too_few(list(map(np.arange, map(len, losses))), None))
            rng = check_random_state(self.seed)
            right, rows, kept = repeated_attack(*losses, self.n_splits, rng)
            attacks.append(times_guessed(right, rows, size))
        (ours, guessed), (reference, _) = ([side.ravel() for side in sides] for sides in attacks)
        asked = guessed > 0
        shares = ours[asked] / guessed[asked], reference[asked] / guessed[asked]
        groups = None
        if subject.groups["forget"] is not None:
            sides = [side[positions] for side, positions in zip(subject.sides(), kept)]
            groups = np.concatenate(sides)[asked]
        return of_difference(*shares, level, groups, weights=guessed[asked])

    def _of_parts(self, value, without, reason, highest=math.inf):
        return (
            absent(value, reason) if reason else of_jackknife(value, without, self.level, highest)
        )


def forgotten_classes(codes, mask):
    """Codes of the classes of which nine rows in ten, or more, are to be forgotten."""
    if codes.ndim == 2 or mask.all():
        return np.array([], dtype=int)
    found, counts = np.unique(codes, return_counts=True)
    marked = np.array([np.count_nonzero(mask[codes == code]) for code in found])
    return found[marked >= 0.9 * counts]


def warn_of_classes(names, are_all_unseen):
    """Warn that classes, whose names these are, are forgotten, and say what to read."""
    others = "" if are_all_unseen else " and unseen rows of other classes,"
    text = (
        "forget marks (nearly) all rows of {}: attacks that compare them with unseen "
        f"rows{others} may find the class, not what is remembered. Read class_attack_auc, "
        "utility_of_kept_classes and utility_of_forgotten_classes; NoMUS does not apply."
    )
    listed = ", ".join(map(str, names[:10].tolist()))
    # What is filed is without the names of the classes, which may be people's.
    warn(text.format(f"the classes {listed}"), text.format(f"{len(names)} classes"))


def _combined(function, intervals):
    """A function of several numbers, which rises or falls in each, with its bounds."""
    values, lows, highs = zip(*intervals)
    reasons = [interval.reason for interval in intervals if interval.reason]
    if reasons:
        return absent(function(values), reasons[0])
    low, high = sorted((float(function(lows)), float(function(highs))))
    return Interval(float(function(values)), low, high, PARTS)


def _by_set(parts, mask):
    """Of what is known of the rows of `X` and of the unseen ones, that of each set."""
    seen, unseen = parts
    if seen is None:
        return dict.fromkeys(("retain", "forget", "unseen"))
    return {"retain": seen[~mask], "forget": seen[mask], "unseen": unseen}


def _js_distances(subject, other):
    """How far the answers of two networks are apart, for each forget row."""
    divergences = jensen_shannon_divergences(
        subject.multilabel,
        y_proba=subject.proba["forget"],
        y_proba_reference=other.proba["forget"],
    )
    return _mean_over_labels(np.sqrt(divergences))


def _mean_over_labels(values):
    values = values.astype(float)
    return values if values.ndim == 1 else values.mean(axis=1)


def _check_classes(name, model, classes):
    if not isinstance(model, NeuralNet) and not np.array_equal(model.classes_, classes):
        raise ValueError(
            f"the {name} network must have the classes of the unlearner, {classes.tolist()[:20]}; "
            f"got {np.asarray(model.classes_).tolist()[:20]}."
        )


def _proba(model, X):
    if isinstance(model, NeuralNet):
        return predict_proba(model, as_dataset(model, _as_read(model, X)))
    return np.asarray(model.predict_proba(X))


def _as_read(model, X):
    """Rows as an array for a network without an unlearner, which would check them."""
    return np.asarray(X) if isinstance(model, NeuralNet) and not is_lazy(model, X) else X


def _to_labels(model, X, proba, classes):
    inner = innermost(model)
    if isinstance(inner, BaseUnlearner):
        return inner._to_codes(proba)
    if isinstance(inner, NeuralNet):
        return predicted(inner, proba)
    # Whose rule may be any: a threshold, or votes.
    return encode_labels(np.asarray(model.predict(X)), classes, "what a network predicts")
