"""A report on a network that has unlearned: one object, which can be filed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skunlearn._engine.random import one_seed, preserve_modes
from skunlearn._engine.rows import take_rows
from skunlearn._engine.unwrap import innermost, network_of
from skunlearn._engine.validation import (
    check_forget,
    check_number,
    encode_labels,
    given_labels,
    warn,
)
from skunlearn.evaluation._description import digests_of, parameters_of, qualified_name, versions
from skunlearn.evaluation._figures import FEATURE_ROWS, Measure, Subject
from skunlearn.evaluation._report_text import MEANINGS, as_html, as_json, as_text, page, records
from skunlearn.features import FeatureExtractor

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

    from skunlearn._engine.typing import MaskLike, Predictor, RandomState, RowsLike
    from skunlearn.metrics import Interval


@dataclass(frozen=True, repr=False)
class UnlearningReport:
    """What `unlearning_report` returns. It holds numbers and names, and no rows.

    Attributes
    ----------
    date : str
        When it was made: UTC, as ISO 8601 has it.
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
    rows : dict of str to dict
        ``"count"`` and ``"sha256"`` of the sets ``"retain"``, ``"forget"`` and ``"unseen"``.
    settings : dict
        Parameters of the report itself.
    metrics : dict of str to dict of str to Interval
        ``metrics["utility"]["unlearned"]`` is a tuple ``(value, low, high)`` with these names.

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
    ...     unlearner, X[100:], y[100:], forget=forget, X_unseen=X[:100], y_unseen=y[:100]
    ... )
    >>> filed = json.loads(report.to_json())
    >>> filed["method"], filed["rows"]["forget"]["count"], len(filed["rows"]["forget"]["sha256"])
    ('skunlearn.methods.finetune.FineTune', 30, 64)
    """

    date: str
    method: str
    parameters: dict[str, Any]
    networks: dict[str, str]
    versions: dict[str, str]
    rows: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    metrics: dict[str, dict[str, Interval]]

    @property
    def table(self) -> Any:  # numpydoc ignore=RT01
        """Every metric of every network, one a row: a DataFrame, or a list of dicts.

        The columns are ``metric``, ``network``, ``value``, ``low``, ``high`` and ``meaning``. It is
        a list where pandas is not installed.
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
            Strict JSON: a metric that is infinite is ``null``.
        """
        return as_json(self, indent)

    def to_html(self) -> str:
        """A page of its own, to be filed or printed.

        Returns
        -------
        html : str
            A whole page, which needs no other file.
        """
        return page("Unlearning report", as_html(self))

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
        True for the rows that were to be forgotten; at least 2, and not all.
    X_unseen : array-like of shape (n_unseen, ...) or torch.utils.data.Dataset
        Rows that no network was trained, tuned or stopped on; at least 2.
    y_unseen : array-like of shape (n_unseen,) or (n_unseen, n_labels), default=None
        Their labels.
    original : estimator, default=None
        The network before it unlearned: a fitted estimator, or a skorch network, bare or in a
        :class:`~sklearn.frozen.FrozenEstimator`, with columns in the order of the unlearner's
        `classes_`. Adds a column, and the metrics of correlation collapse.
    reference : estimator, default=None
        The same for a network retrained without the forget rows. Adds a column, the metrics of
        closeness to it and the calibrated attack.
    reference_2 : estimator, default=None
        A network retrained once more, with another seed. Adds a column, which says how close two
        retrainings are, and it takes over the calibration.
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
    Each network predicts each row once, other estimators twice: their labels are those of their
    own `predict`. Global random generators are left as they were.

    The intervals are about the rows, not about another training with another seed, and each says
    in its attribute `method` how it was found: exact binomial ones for shares of rows, a score
    interval for the AUC, order statistics for the TPR, Fieller's for the relative distance, a
    jackknife over 20 groups of rows for CKA and scatter; see
    :func:`~skunlearn.metrics.membership_inference_report`. Those of the forgetting score, NoMUS,
    gap and tug of war are made of the bounds of their parts, and so wider than need be. Overshoot
    has a lower bound alone. Where there are too few rows for an interval its bounds are NaN and its
    attribute `reason` says why. Read the metrics beside the retrained network's own: that one has
    no forgetting score of 0 either.

    The features are those of at most 2000 unseen rows. Their metrics are left out where there are
    fewer than five, or not two unseen rows each of at least two classes, or where a network is not
    a single one.

    *Digests.* A set has one SHA-256, fed row by row, in order, with the row and then its label. An
    array of numbers is fed as ``f"{shape} True {n_bytes}\n"`` in UTF-8 followed by its values as
    float64 in C order, with 0.0 for -0.0; a string as ``f"() False {n_bytes}\n"`` followed by its
    UTF-8 bytes; a tuple or list as ``f"{len}\n"`` followed by its items; a mapping as a list of its
    sorted keys, each followed by its value. So the same rows in the same order have the same
    digest, whatever holds them, and whatever type their numbers have. The digest of few rows of
    which little is unknown can be found out by trying: a report is about persons as the rows are.
    Data sets that draw their rows at random have a new digest each time.

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
    ['metric', 'network', 'value', 'low', 'high', 'meaning']
    """
    check_number("n_splits", n_splits, 1, integer=True)
    check_number("n_resamples", n_resamples, 2, integer=True)
    check_number("confidence_level", confidence_level, 0, 1)
    models = _fitted_models(unlearner, original, reference, reference_2)
    y, y_unseen = given_labels("y", X, y), given_labels("y_unseen", X_unseen, y_unseen)
    mask = _check_sets(forget, X, y, y_unseen)
    classes = np.asarray(unlearner.classes_)
    codes = encode_labels(y, classes), encode_labels(y_unseen, classes, "y_unseen")
    seed = one_seed(random_state)
    nets = {name: network_of(model) for name, model in models.items()}
    with preserve_modes(*(net for net in nets.values() if net is not None)):
        subjects = {
            name: Subject(name, model, (X, X_unseen), codes, mask, classes)
            for name, model in models.items()
        }
        rows, features = _features(models, nets, X_unseen, len(y_unseen), feature_layer, seed)
        digests = _digests(X, y, mask, X_unseen, y_unseen)
    measure = Measure(n_splits, n_resamples, confidence_level, seed)
    return UnlearningReport(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        method=qualified_name(type(innermost(unlearner))),
        parameters=parameters_of(unlearner),
        networks={name: qualified_name(type(innermost(model))) for name, model in models.items()},
        versions=versions(),
        rows=digests,
        settings={
            "feature_layer": feature_layer,
            "n_splits": int(n_splits),
            "n_resamples": int(n_resamples),
            "confidence_level": float(confidence_level),
            "random_state": int(seed),
        },
        metrics=_by_metric(_measured(measure, subjects, features, codes[1][rows])),
    )


def _fitted_models(unlearner, original, reference, reference_2):
    """The estimators that were given, by their names in the report."""
    if reference is None and reference_2 is not None:
        raise ValueError(
            "reference_2 was given without reference; pass the first retraining there."
        )
    models = {
        "unlearned": unlearner,
        "original": original,
        "retrained": reference,
        "retrained_2": reference_2,
    }
    models = {name: model for name, model in models.items() if model is not None}
    for model in models.values():
        check_is_fitted(model)
    return models


def _check_sets(forget, X, y, y_unseen):
    """The forget mask, if all three sets have enough rows."""
    mask = check_forget(forget, len(y), X)
    n_forget = np.count_nonzero(mask)
    if n_forget < 2 or n_forget == len(mask) or len(y_unseen) < 2:
        raise ValueError(
            "forget must mark at least 2 rows and leave others, the retained ones, and X_unseen "
            f"must have at least 2 rows; got {n_forget} True of {len(mask)}, and {len(y_unseen)} "
            "unseen rows."
        )
    return mask


def _features(models, nets, X_unseen, n_unseen, layer, seed):
    """Positions of some unseen rows, and their features by network; none without an original."""
    rows = np.arange(n_unseen)
    if nets["unlearned"] is None or nets.get("original") is None:
        return rows, {}
    if n_unseen > FEATURE_ROWS:
        rows = check_random_state(seed).permutation(rows)[:FEATURE_ROWS]
    some = take_rows(X_unseen, rows)
    return rows, {
        name: FeatureExtractor(model, layer=layer).transform(some)
        for name, model in models.items()
        if nets[name] is not None
    }


def _digests(X, y, mask, X_unseen, y_unseen):
    """Count and SHA-256 of each set; warn of unseen rows that are in `X` as well."""
    digests, seen = digests_of(X, y, np.where(mask, "forget", "retain"))
    more, unseen = digests_of(X_unseen, y_unseen, np.full(len(y_unseen), "unseen"))
    known = set(seen)
    if n_known := sum(row in known for row in unseen):
        warn(
            f"X_unseen has {len(unseen)} rows, of which {n_known} are in X as well: an attack "
            "cannot tell them from rows that were trained on. Pass rows that no network has seen."
        )
    digests |= more
    return {name: digests[name] for name in ("retain", "forget", "unseen")}


def _measured(measure, subjects, features, y):
    """The metrics of each network, by its name; `y` are the labels of the features' rows."""
    metrics = {name: measure.own(subject) for name, subject in subjects.items()}
    first, second = subjects.get("retrained"), subjects.get("retrained_2")
    calibration = second or first
    for name, subject in subjects.items():
        if calibration is not None and subject is not calibration:
            metrics[name] |= measure.calibrated(subject, calibration)
        if first is not None and subject is not first:
            metrics[name] |= measure.closeness(subject, first, second)
    # Which is 1 whatever the two are.
    metrics.get("retrained_2", {}).pop("relative_js_distance", None)
    if features:
        for name, more in measure.collapse(features, y).items():
            metrics[name] |= more
    return metrics


def _by_metric(metrics):
    """The same by metric, in the order of the report."""
    return {
        metric: {name: own[metric] for name, own in metrics.items() if metric in own}
        for metric in MEANINGS
        if any(metric in own for own in metrics.values())
    }
