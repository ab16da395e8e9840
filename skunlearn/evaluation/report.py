"""A report on a network that has unlearned: one object, which can be filed.

It has over 500 lines because two thirds of them are docstrings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_random_state

from skunlearn._engine.random import one_seed, preserve_modes
from skunlearn._engine.rows import take_rows
from skunlearn._engine.statistics import few_of
from skunlearn._engine.unwrap import innermost, network_of
from skunlearn._engine.validation import (
    encode_labels,
    warn,
)
from skunlearn.evaluation._criteria import (
    attackers_of,
    check_criteria,
    defaults,
    judge,
    left_out,
    verdict_line,
    without_values,
)
from skunlearn.evaluation._description import (
    digests_of,
    parameters_of,
    qualified_name,
    size_of,
    versions,
)
from skunlearn.evaluation._figures import (
    FEATURE_ROWS,
    NO_NOMUS,
    Measure,
    Subject,
    forgotten_classes,
    warn_of_classes,
)
from skunlearn.evaluation._report_arguments import as_rows, check_arguments
from skunlearn.evaluation._report_page import report_page
from skunlearn.evaluation._report_text import MEANINGS, as_html, as_json, as_text, records
from skunlearn.features import FeatureExtractor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    from numpy.typing import ArrayLike

    from skunlearn._engine.typing import MaskLike, Predictor, RandomState, RowsLike
    from skunlearn.metrics import Interval

SCHEMA = Path(__file__).with_name("report.schema.json")


@dataclass(frozen=True, repr=False)
class UnlearningReport:
    """Result of `unlearning_report`: metrics, settings and verdicts, but no rows.

    Attributes
    ----------
    date : str
        When it was made: UTC, as ISO 8601 has it.
    request : str or None
        The request that it is about, as `unlearning_report` was told.
    tester : str or None
        Who tested, likewise.
    method : str
        The unlearner's class.
    parameters : dict
        Its parameters by name, nested ones as dicts. Arrays, data sets and other objects stand as
        their type and size.
    networks : dict of str to str
        The class of each estimator that is compared: ``"unlearned"`` and, where given,
        ``"original"``, ``"retrained"`` and ``"retrained_2"``.
    versions : dict of str to str
        Of the interpreter and the libraries.
    size : dict
        ``"parameters"`` of the unlearned network, and ``"parameters_per_row"`` retained: the more
        there are, the more it can memorise.
    rows : dict of str to dict
        ``"count"`` of the sets ``"retain"``, ``"forget"`` and ``"unseen"``, and, with a key,
        ``"hmac_sha256"``; ``rows["forget"]["each"]`` are then those of the single rows.
    settings : dict
        Parameters of the report itself.
    attackers : dict of str to str
        What the attackers know, by the beginning of the names of the metrics.
    criteria : list of dict
        A verdict on each criterion: ``"met"`` if the whole interval is in the range from ``"low"``
        to ``"high"``, ``"not met"`` if it is outside, or else ``"cannot be told"``, and ``"why"``.
    not_measured : dict of str to str
        What was not measured, and why.
    losses : dict of str to dict of str to list of float
        Of each network, quantiles of the losses of forget rows and of unseen ones: as many as there
        are rows, and at most 21, to two digits.
    metrics : dict of str to dict of str to Interval
        ``metrics["utility"]["unlearned"]`` unpacks as ``value, low, high``, which are its names.

    See Also
    --------
    skunlearn.unlearning_report : Measures the networks.

    Examples
    --------
    >>> import json
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune, unlearning_report
    >>> def linear(n_features_in, n_classes):
    ...     return nn.Linear(n_features_in, n_classes)
    >>> net = NeuralNetClassifier(
    ...     linear, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.3
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(200, 4)), rng.choice(["no", "yes"], 200)
    >>> forget = np.arange(100) < 30
    >>> unlearner = FineTune(net, random_state=0).fit(X[100:], y[100:], forget=forget)
    >>> report = unlearning_report(
    ...     unlearner, X[100:], y[100:], forget=forget, X_unseen=X[:100], y_unseen=y[:100],
    ...     key=b"a secret of 16 bytes or more", tester="audit team",
    ... )
    >>> filed = json.loads(report.to_json())
    >>> filed["method"], filed["tester"], len(filed["rows"]["forget"]["each"])
    ('skunlearn.methods.finetune.FineTune', 'audit team', 30)
    >>> [(verdict["metric"], verdict["verdict"]) for verdict in report.criteria][1]
    ('calibrated_attack_auc', 'cannot be told')
    """

    date: str
    request: str | None
    tester: str | None
    method: str
    parameters: dict[str, Any]
    networks: dict[str, str]
    versions: dict[str, str]
    size: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    attackers: dict[str, str]
    criteria: list[dict[str, Any]]
    not_measured: dict[str, str]
    losses: dict[str, dict[str, list[float]]]
    metrics: dict[str, dict[str, Interval]]

    @property
    def table(self) -> Any:  # numpydoc ignore=RT01
        """Every metric of every network, one a row: a DataFrame, or a list of dicts.

        The columns are ``metric``, ``network``, ``value``, ``low``, ``high``, ``method`` of the
        interval, or the ``reason`` why there is none, and ``meaning``. It is a list where pandas is
        not installed.
        """
        rows = records(self)
        try:
            from pandas import DataFrame
        except ImportError:
            return rows
        return DataFrame(rows)

    def to_json(self, *, indent: int | None = 2) -> str:
        """Everything as JSON.

        Parameters
        ----------
        indent : int or None, default=2
            Spaces a level; None for a single line.

        Returns
        -------
        text : str
            Strict JSON, as `schema` says: a number that is infinite or missing is ``null``.
        """
        return as_json(self, indent)

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON Schema of what `to_json` returns.

        Returns
        -------
        schema : dict
            A schema of the draft 2020-12, which is in the package as a file as well.
        """
        return json.loads(SCHEMA.read_text(encoding="utf-8"))

    def verdict(self) -> str:
        """The criteria in one line: how many are met, not met, and cannot be told.

        Returns
        -------
        line : str
            It names those that are not met.
        """
        return verdict_line(self.criteria)

    def to_html(self) -> str:
        """A page of its own, to be filed or printed.

        Returns
        -------
        html : str
            A whole page, which needs no other file.
        """
        return report_page(self)

    def __repr__(self):
        return as_text(self)

    def _repr_html_(self):
        return as_html(self)


def unlearning_report(
    unlearner: Predictor,
    X: RowsLike,
    y: ArrayLike | None = None,
    *,
    forget: MaskLike,
    X_unseen: RowsLike,
    y_unseen: ArrayLike | None = None,
    original: Predictor | None = None,
    reference: Predictor | None = None,
    reference_2: Predictor | None = None,
    groups: ArrayLike | None = None,
    groups_unseen: ArrayLike | None = None,
    criteria: Mapping[str, tuple[float | None, float | None]] | None = None,
    request: str | None = None,
    tester: str | None = None,
    key: bytes | Literal["unkeyed"] | None = None,
    feature_layer: str = "auto",
    n_splits: int = 10,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = 0,
) -> UnlearningReport:
    r"""Say in one object how well a network has unlearned, beside the networks it should resemble.

    Parameters
    ----------
    unlearner : estimator
        A fitted unlearner, a pipeline that ends in one, or another classifier with `predict_proba`
        and `classes_`.
    X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
        The rows to forget together with the rows that were retained.
    y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
        Their labels; may be left out for a data set that yields pairs.
    forget : array-like of bool of shape (n_samples,)
        True for the rows that were to be forgotten; at least one. Without others, what is measured
        on retained rows is left out.
    X_unseen : array-like of shape (n_unseen, ...) or torch.utils.data.Dataset
        Rows that no network was trained, tuned or stopped on; at least one.
    y_unseen : array-like of shape (n_unseen,) or (n_unseen, n_labels), default=None
        Their labels.
    original : estimator, default=None
        The network before it unlearned: a fitted estimator, or a skorch network, bare or in a
        :class:`~sklearn.frozen.FrozenEstimator`, with columns in the order of the unlearner's
        `classes_`. Adds a column, the metrics of correlation collapse, and what an attacker who has
        both networks finds by what has changed.
    reference : estimator, default=None
        The same for a network retrained without the forget rows. Adds a column, the metrics of
        closeness to it and the calibrated attack.
    reference_2 : estimator, default=None
        A network retrained once more, with another seed. Adds a column, which says how close two
        retrainings are, and it takes over the calibration.
    groups, groups_unseen : array-like of shape (n_samples,) and (n_unseen,), default=None
        The person, or other group, of each row, both or neither. The intervals are then over
        people, and people are attacked too.
    criteria : dict of str to tuple of float, default=None
        The range ``(low, high)`` in which a metric of the unlearned network is to lie; None for one
        that is open. By default, an AUC of the attack on losses and of the calibrated attack (and
        of that on people, with groups) from 0.4 to 0.6, and accuracies on retained and on unseen
        rows within 0.05 of the retrained network's: the bounds of the study's guards, which ask for
        means over splits in place of intervals.
    request : str, default=None
        The request that it is about, for the report to name: a case number, not a person's name. A
        :class:`~skunlearn.evaluation.RequestLog` passes its own.
    tester : str, default=None
        Who tests, for the report to name.
    key : bytes, "unkeyed" or None, default=None
        With a secret key of 16 bytes or more, the report has keyed digests of the rows: whoever
        has the rows and the key can check that these were meant; to others the digests say nothing.
        ``"unkeyed"`` has plain SHA-256 digests, by which few rows, of which little is unknown, can
        be found out.
    feature_layer : str, default="auto"
        Name of the submodule whose output is the features; ``"auto"`` takes the input of the linear
        layer that runs last.
    n_splits : int, default=10
        Number of attacks whose accuracy is averaged.
    n_resamples : int, default=1000
        Number of bootstrap resamples, for the interval of overshoot.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=0
        Decides the attacks' splits and the resamples. An int gives the same numbers at each call.

    Returns
    -------
    report : UnlearningReport
        `print` it, display it in a notebook, or file it with ``report.to_json()``;
        ``report.table`` has a row for each metric of each network, and ``report.metrics`` the
        numbers by name.

    Raises
    ------
    NotFittedError
        If an estimator is not fitted.
    ValueError
        If a set of rows is too small, rows and labels do not fit, the networks do not have the same
        classes, or a number is out of its range.

    See Also
    --------
    skunlearn.metrics.membership_inference_report : The attacks.
    skunlearn.metrics.average_gap : Closeness to the retrained network.
    skunlearn.metrics.correlation_collapse : What has become of the features.
    skunlearn.evaluation.relearning_time : Another question, which takes training to answer.

    Notes
    -----
    Each network predicts each row once, other estimators two or three times: their labels are those
    of their own `predict`. Losses and margins are made from `predict_log_proba`, or a network's
    logits, where all of these are finite. Global random generators are left as they were.

    The intervals are about the rows, not about another training with another seed, and each says
    in its attribute `method` how it was found: exact binomial ones for shares of rows, a score
    interval for the AUC, order statistics for the TPR, Fieller's for the relative distance, a
    jackknife over 20 parts of at least 40 rows, and of 12 people, for CKA and scatter; see
    :func:`~skunlearn.metrics.membership_inference_report`. Those of the forgetting score, NoMUS,
    gap and tug of war are made of the bounds of their parts, and so wider than need be. Overshoot
    has a lower bound alone. Where there are too few rows for an interval its bounds are NaN and its
    attribute `reason` says why. Read the metrics beside the retrained network's own: that one has
    no forgetting score of 0 either.

    The features are those of at most 2000 unseen rows. Their metrics are left out where there are
    fewer than five, or not two unseen rows each of at least two classes, or where a network is not
    a single one.

    *A class.* Where nine rows in ten of a class, or all, are to be forgotten, a warning says so:
    the accuracy on unseen rows is given for the classes kept and for those forgotten, the attack
    within the class stands beside the others, and NoMUS is left out.

    *Digests.* A set has one HMAC-SHA256, or SHA-256, fed row by row, in order, with the row and
    then its label. A single row has one of its own, of the row alone. An array of numbers is fed as
    ``f"{shape} True {n_bytes}\n"`` in UTF-8 followed by its values as float64 in C order, with 0.0
    for -0.0, and, if float64 rounds integers, what it takes off each as float64; a string as
    ``f"() False {n_bytes}\n"`` followed by its UTF-8 bytes; a tuple or list as ``f"{len}\n"``
    followed by its items; a mapping as a list of its sorted keys, each followed by its value. So
    the same rows in the same order have the same digest, whatever holds them, and whatever type
    their numbers have. Data sets that draw their rows at random have a new digest each time.

    *What a report gives away.* Metrics of a few rows say something of these rows: whoever can query
    the network can check whether a row that they guess fits. Losses are rounded to two digits for
    that reason. File the report where the network is filed, not where everybody reads it.

    *Criteria* are judged by the interval, not by the value: a wide one, as of few rows, reaches out
    of the range, and the verdict is that it cannot be told.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import NegGrad, Retrain, unlearning_report
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 32), nn.ReLU(), nn.Linear(32, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.3,
    ...     max_epochs=30, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(300, 8)), rng.choice(["no", "yes"], 300)
    >>> X_test, y_test, X, y = X[:100], y[:100], X[100:], y[100:]
    >>> forget = np.arange(200) < 50
    >>> unlearner = NegGrad(net, random_state=0).fit(X, y, forget=forget)
    >>> retrained = Retrain(net, random_state=1).fit(X, y, forget=forget)
    >>> report = unlearning_report(
    ...     unlearner, X, y, forget=forget, X_unseen=X_test, y_unseen=y_test, reference=retrained
    ... )
    >>> report.rows["forget"]["count"]
    50
    >>> value, low, high = report.metrics["gap"]["unlearned"]
    >>> 0 <= low <= value <= high
    True
    >>> report.table.columns.tolist()
    ['metric', 'network', 'value', 'low', 'high', 'method', 'reason', 'meaning']
    >>> "4 stated criteria are met" in report.verdict()
    True
    """
    X, X_unseen = as_rows(X, "X"), as_rows(X_unseen, "X_unseen")
    models, (y, y_unseen), mask, groups = check_arguments(**locals())
    has_groups = groups[0] is not None
    classes = np.asarray(unlearner.classes_)
    codes = encode_labels(y, classes), encode_labels(y_unseen, classes, "y_unseen")
    seed = one_seed(random_state)
    nets = {name: network_of(model) for name, model in models.items()}
    with preserve_modes(*(net for net in nets.values() if net is not None)):
        subjects = {
            name: Subject(name, model, (X, X_unseen), codes, mask, classes, groups)
            for name, model in models.items()
        }
        rows, features = _features(models, nets, X_unseen, len(y_unseen), feature_layer, seed)
        digests = _digests(X, y, mask, X_unseen, y_unseen, key)
    measure = Measure(n_splits, n_resamples, confidence_level, seed)
    gone = forgotten_classes(codes[0], mask)
    ranges = check_criteria(criteria, MEANINGS)
    if ranges is None:
        ranges = defaults(has_groups, len(gone) > 0)
    metrics = _by_metric(_measured(measure, subjects, features, rows, gone))
    reasons = without_values(metrics) | _without_classes(metrics, classes[gone], codes[1], gone)
    n_retain = int(np.count_nonzero(~mask))
    return UnlearningReport(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        request=request,
        tester=tester,
        method=qualified_name(type(innermost(unlearner))),
        parameters=parameters_of(unlearner),
        networks={name: qualified_name(type(innermost(model))) for name, model in models.items()},
        versions=versions(),
        size=size_of(unlearner, n_retain),
        rows=digests,
        settings={
            "feature_layer": feature_layer,
            "n_splits": int(n_splits),
            "n_resamples": int(n_resamples),
            "confidence_level": float(confidence_level),
            "random_state": int(seed),
            "intervals_over": "people" if has_groups else "rows",
        },
        attackers=attackers_of(metrics),
        criteria=judge(ranges, metrics, reasons),
        not_measured=left_out(models, has_groups, n_retain, metrics) | reasons,
        losses={name: _loss_quantiles(subject) for name, subject in subjects.items()},
        metrics=metrics,
    )


def _without_classes(metrics, names, codes_unseen, gone):
    """Take out what a forgotten class makes meaningless; return the reason for each."""
    if not len(gone):
        return {}
    warn_of_classes(names, np.isin(codes_unseen, gone).all())
    reasons = {name: NO_NOMUS for name in ("nomus", "forgetting_score") if metrics.pop(name, None)}
    if "class_attack_auc" not in metrics:
        reasons["class_attack_auc"] = "X_unseen has no rows of the forgotten classes"
    return reasons


def _loss_quantiles(subject):
    """Losses of forget rows and unseen ones, as quantiles, too coarse to tell a row by."""
    return {
        key: [
            float(f"{loss:.2g}")
            for loss in np.quantile(losses, np.linspace(0, 1, min(21, len(losses))))
        ]
        for key, losses in zip(("forget", "unseen"), subject.signals("loss"))
    }


def _features(models, nets, X_unseen, n_unseen, layer, seed):
    """Positions of some unseen rows, and their features by network; none without an original."""
    if nets["unlearned"] is None or nets.get("original") is None:
        return np.arange(n_unseen), {}
    rows = few_of(n_unseen, FEATURE_ROWS, check_random_state(seed))
    some = take_rows(X_unseen, rows)
    return rows, {
        name: FeatureExtractor(model, layer=layer).transform(some)
        for name, model in models.items()
        if nets[name] is not None
    }


def _digests(X, y, mask, X_unseen, y_unseen, key):
    """Count and digest of each set; warn of unseen rows that are in `X` as well."""
    digests, seen = digests_of(X, y, np.where(mask, "forget", "retain"), key)
    more, unseen = digests_of(X_unseen, y_unseen, np.full(len(y_unseen), "unseen"), key)
    known = set(seen)
    if n_known := sum(row in known for row in unseen):
        warn(
            f"X_unseen has {len(unseen)} rows, of which {n_known} are in X as well: an attack "
            "cannot tell them from rows that were trained on. Pass rows that no network has seen."
        )
    if isinstance(key, bytes):
        digests["forget"]["each"] = [seen[i] for i in np.flatnonzero(mask)]
    digests |= more
    return {name: digests.get(name, {"count": 0}) for name in ("retain", "forget", "unseen")}


def _measured(measure, subjects, features, rows, gone):
    """The metrics of each network, by its name; `rows` are the unseen ones of the features."""
    metrics = {
        name: measure.own(subject) | measure.rest(subject) for name, subject in subjects.items()
    }
    if len(gone):
        for name, subject in subjects.items():
            metrics[name] |= measure.of_classes(subject, gone)
    first, second = subjects.get("retrained"), subjects.get("retrained_2")
    calibration, original = second or first, subjects.get("original")
    for name, subject in subjects.items():
        if calibration is not None and subject is not calibration:
            metrics[name] |= measure.calibrated(subject, calibration)
        if first is not None and subject is not first:
            metrics[name] |= measure.closeness(subject, first, second)
            metrics[name] |= measure.differences(subject, first)
        if original is not None and subject is not original:
            metrics[name] |= measure.change(subject, original)
            if first is not None and subject is not first:
                metrics[name] |= measure.nearer(subject, first, original)
    # Which is 1 whatever the two are.
    metrics.get("retrained_2", {}).pop("relative_js_distance", None)
    if features:
        unseen = next(iter(subjects.values()))
        y, groups = unseen.codes["unseen"][rows], unseen.groups["unseen"]
        groups = groups if groups is None else groups[rows]
        for name, more in measure.collapse(features, y, groups).items():
            metrics[name] |= more
    return metrics


def _by_metric(metrics):
    """The same by metric, in the order of the report."""
    return {
        metric: {name: own[metric] for name, own in metrics.items() if metric in own}
        for metric in MEANINGS
        if any(metric in own for own in metrics.values())
    }
