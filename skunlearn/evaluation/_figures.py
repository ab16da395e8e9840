"""What is measured of a network that has unlearned: every metric, with its interval."""

import math

import numpy as np
from scipy.stats import binomtest, bootstrap, norm
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from skorch import NeuralNet

from skunlearn._engine.predict import predict_proba, predicted
from skunlearn._engine.statistics import SMALLEST_FLOOR, jensen_shannon_divergences, repeated_attack
from skunlearn._engine.unwrap import innermost
from skunlearn._engine.validation import as_dataset, encode_labels, is_lazy
from skunlearn.base import BaseUnlearner
from skunlearn.metrics import (
    Interval,
    attack_signal,
    average_gap,
    calibrated_signal,
    jensen_shannon_distance,
    linear_cka,
    linear_probe_score,
    membership_inference_report,
    nomus_score,
    overshoot,
    relative_jensen_shannon_distance,
    scatter_ratio,
    tug_of_war_score,
)

SIGNALS = ("loss", "confidence", "entropy", "modified_entropy")

FEATURE_ROWS = 2000  # unseen rows, at most, whose features are read


class Subject:
    """What one network says of the rows, with encoded labels."""

    def __init__(self, name, model, data, codes, mask, classes):
        self.multilabel = codes[0].ndim == 2
        probas, labels = [], []
        for part, y in zip(data, codes):
            proba = _proba(name, model, part, classes)
            if proba.shape != (len(y), len(classes)):
                raise ValueError(
                    f"the {name} network must give each of the {len(y)} rows a probability of each "
                    f"of the {len(classes)} classes; got an array of shape {proba.shape}."
                )
            probas.append(proba)
            labels.append(_to_labels(model, part, proba, classes))
        self.codes = {"retain": codes[0][~mask], "forget": codes[0][mask], "unseen": codes[1]}
        self.proba = {"retain": probas[0][~mask], "forget": probas[0][mask], "unseen": probas[1]}
        self.predicted = {
            "retain": labels[0][~mask],
            "forget": labels[0][mask],
            "unseen": labels[1],
        }
        self.right = {
            key: _mean_over_labels(self.predicted[key] == y) for key, y in self.codes.items()
        }

    def signals(self, signal):
        """A signal of the forget rows, and of the unseen ones."""
        return [
            attack_signal(self.codes[key], self.proba[key], signal=signal, labels=self._labels(key))
            for key in ("forget", "unseen")
        ]

    def calibrated(self, calibration_model):
        return [
            calibrated_signal(
                self.codes[key],
                self.proba[key],
                calibration_model.proba[key],
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
        """Figures of one network."""
        metrics = {
            name: self._share(subject.right[key])
            for name, key in (
                ("utility", "unseen"),
                ("retain_accuracy", "retain"),
                ("forget_accuracy", "forget"),
            )
        }
        for signal in SIGNALS:
            metrics |= self._attack(signal, subject.signals(signal))
        metrics["forgetting_score"] = forgetting = _distance(
            *(bound - 0.5 for bound in metrics["loss_attack_accuracy"])
        )
        utility = metrics["utility"]
        metrics["nomus"] = Interval(
            nomus_score(utility.value, forgetting.value),
            nomus_score(utility.low, forgetting.high),
            nomus_score(utility.high, forgetting.low),
        )
        losses = subject.signals("loss")
        metrics["overshoot"] = self._bootstrap(overshoot, *losses, vectorized=False)
        return metrics

    def calibrated(self, subject, calibration_model):
        """The attack that knows how hard each row is."""
        return self._attack("calibrated", subject.calibrated(calibration_model))

    def closeness(self, subject, first, second):
        """Figures of closeness to the first retrained network."""
        scores = [
            {key: float(right.mean()) for key, right in each.right.items()}
            for each in (subject, first)
        ]
        attacks = [self._guesses(each) for each in (subject, first)]
        differences = {
            key: self._difference([(subject.right[key], first.right[key], np.ones(len(right)))])
            for key, right in subject.right.items()
        }
        bounds = list(zip(*(_distance(*difference) for difference in differences.values())))
        tug_of_war = [float(np.prod(1 - np.array(values))) for values in bounds]
        (ours, guessed), (reference, _) = attacks
        attack = self._difference(list(zip(ours, reference, guessed)))
        bounds = list(zip(*(_distance(*each) for each in (*differences.values(), attack))))
        with_attack = [
            {**score, "attack": sum(map(np.sum, right)) / sum(map(np.sum, guessed))}
            for score, (right, _) in zip(scores, attacks)
        ]
        distances = [
            _mean_over_labels(
                np.sqrt(
                    jensen_shannon_divergences(
                        subject.multilabel,
                        y_proba=a.proba["forget"],
                        y_proba_reference=b.proba["forget"],
                    )
                )
            )
            for a, b in ((subject, first), (first, second))
            if b is not None
        ]
        probas = [each.proba["forget"] for each in (subject, first, second) if each is not None]
        same = subject.predicted["forget"] == first.predicted["forget"]
        metrics = {
            "gap": Interval(average_gap(*with_attack), *map(float, np.mean(bounds[1:], axis=1))),
            "tug_of_war": Interval(tug_of_war_score(*scores), tug_of_war[2], tug_of_war[1]),
            "agreement": self._share(_mean_over_labels(same)),
            "js_distance": self._bootstrap(np.mean, distances[0])._replace(
                value=jensen_shannon_distance(*probas[:2], multilabel=subject.multilabel)
            ),
        }
        if second is not None and distances[1].mean() >= SMALLEST_FLOOR:
            value = relative_jensen_shannon_distance(*probas, multilabel=subject.multilabel)
            metrics["relative_js_distance"] = Interval(value, *self._ratio(*distances))
        return metrics

    def collapse(self, features, y):
        """Figures of the features of unseen rows, by network."""
        _, place, counts = np.unique(y, axis=0, return_inverse=True, return_counts=True)
        if len(y) < 5 or np.count_nonzero(counts > 1) < 2:  # CKA takes 4, and one group is left out
            return {}
        # Groups in which the classes are spread, so that none is left out with a group.
        n_groups = min(20, len(y))
        order = np.lexsort((check_random_state(self.seed).permutation(len(y)), place.ravel()))
        group = np.empty(len(y), dtype=int)
        group[order] = np.arange(len(y)) % n_groups
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
                "linear_cka": self._jackknife(*parts[name], high=1),
                "scatter_ratio": self._jackknife(scatter_ratio(Z, y), scatter),
            }
            if rarest > 1:
                probe = linear_probe_score(Z, y, cv=int(min(5, rarest)), random_state=self.seed)
                n_right = round(probe * len(y))
                metrics[name]["linear_probe"] = self._binomial(n_right, len(y))._replace(
                    value=probe
                )
        self.original = features["original"], metrics["original"], parts["original"]
        whole, without = parts["original"]
        if whole > 0 and without.min() > 0:
            for name in parts.keys() - {"original"}:
                ours, ours_without = parts[name]
                metrics[name]["cka_ratio"] = self._jackknife(ours / whole, ours_without / without)
        return metrics

    def _attack(self, name, signals):
        report = membership_inference_report(
            *signals,
            n_splits=self.n_splits,
            n_resamples=self.n_resamples,
            confidence_level=self.level,
            random_state=self.seed,
        )
        return {f"{name}_attack_{metric}": interval for metric, interval in report.items()}

    def _guesses(self, subject):
        """How often the loss attack was right about each row, and asked: of each side an array."""
        losses = subject.signals("loss")
        right, row = repeated_attack(*losses, self.n_splits, check_random_state(self.seed))
        n = 2 * min(map(len, losses))
        return [
            np.bincount(row[chosen].ravel(), minlength=n).reshape(2, -1)
            for chosen in (right, np.ones_like(right))
        ]

    def _share(self, right):
        if np.isin(right, (0, 1)).all():
            return self._binomial(int(right.sum()), len(right))
        return self._bootstrap(np.mean, right)

    def _binomial(self, n_right, n):
        low, high = binomtest(n_right, n).proportion_ci(self.level)
        return Interval(n_right / n, float(low), float(high))

    def _bootstrap(self, statistic, *samples, **options):
        options = {"vectorized": True, **options}
        value = statistic(*samples, axis=0) if options["vectorized"] else statistic(*samples)
        low, high = bootstrap(
            samples,
            statistic,
            n_resamples=self.n_resamples,
            batch=10,  # which are in memory at a time
            confidence_level=self.level,
            method="percentile",
            random_state=np.random.RandomState(self.seed),
            **options,
        ).confidence_interval
        return Interval(float(value), float(low), float(high))

    def _ratio(self, above, below):
        """Bounds of the ratio of two means, over rows drawn for both alike."""
        rng = np.random.default_rng(self.seed)
        drawn = rng.integers(len(above), size=(self.n_resamples, len(above)))
        with np.errstate(divide="ignore", invalid="ignore"):  # of few rows, none may differ
            ratios = above[drawn].mean(axis=1) / below[drawn].mean(axis=1)
        tails = (1 - self.level) / 2
        ratios[np.isnan(ratios)] = np.inf
        low, high = np.quantile(ratios, [tails, 1 - tails], method="lower")
        return float(low), float(high)

    def _difference(self, sides):
        """Difference of the shares ``a / n`` and ``b / n``, over rows drawn for both alike."""
        rng = np.random.default_rng(self.seed)
        value = sum(np.sum([a, b, n], axis=1) for a, b, n in sides)
        drawn = 0
        for side in sides:
            kinds, counts = np.unique(np.column_stack(side), axis=0, return_counts=True)
            n_rows = counts.sum()
            drawn = drawn + rng.multinomial(n_rows, counts / n_rows, size=self.n_resamples) @ kinds
        drawn = drawn[drawn[:, 2] > 0]
        tails = (1 - self.level) / 2
        low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / drawn[:, 2], [tails, 1 - tails])
        return (value[0] - value[1]) / value[2], low, high

    def _jackknife(self, value, without, high=math.inf):
        n = len(without)
        if not (np.isfinite(value) and np.isfinite(without).all()):
            return Interval(float(value), float(value), float(value))
        error = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
        half = norm.ppf((1 + self.level) / 2) * error
        return Interval(float(value), max(float(value - half), 0.0), min(float(value + half), high))


def _distance(value, low, high):
    """The interval of an absolute value."""
    ends = abs(low), abs(high)
    nearest = 0.0 if low <= 0 <= high else min(ends)
    value = abs(value)
    return Interval(float(value), float(min(nearest, value)), float(max(*ends, value)))


def _mean_over_labels(values):
    values = values.astype(float)
    return values if values.ndim == 1 else values.mean(axis=1)


def _proba(name, model, X, classes):
    net = model.estimator if isinstance(model, FrozenEstimator) else model
    if isinstance(net, NeuralNet):
        return predict_proba(net, as_dataset(net, X if is_lazy(net, X) else np.asarray(X)))
    if not np.array_equal(net.classes_, classes):
        raise ValueError(
            f"the {name} network must have the classes of the unlearner, {classes.tolist()[:20]}; "
            f"got {np.asarray(net.classes_).tolist()[:20]}."
        )
    return np.asarray(net.predict_proba(X))


def _to_labels(model, X, proba, classes):
    inner = innermost(model)
    if isinstance(inner, BaseUnlearner):
        return inner._to_codes(proba)
    if isinstance(inner, NeuralNet):
        return predicted(inner, proba)
    # Whose rule may be any: a threshold, or votes.
    return encode_labels(np.asarray(model.predict(X)), classes, "what a network predicts")
