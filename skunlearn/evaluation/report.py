"""One call, one object: all that is to be said of a network that has unlearned, fit to be filed."""

from __future__ import annotations

import functools
import hashlib
import html
import json
import platform
import warnings
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from numbers import Integral
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skunlearn._engine.files import nan_to_none
from skunlearn._engine.hashing import canonical_bytes, each_row
from skunlearn._engine.random import preserve_modes
from skunlearn._engine.rows import take_rows
from skunlearn._engine.validation import check_forget, check_number, encode_labels, given_labels
from skunlearn.evaluation._figures import (
    FEATURE_ROWS,
    SIGNALS,
    Measure,
    Subject,
    innermost,
    network_of,
)
from skunlearn.features import FeatureExtractor

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

    from skunlearn._engine.typing import MaskLike, Predictor, RandomState, RowsLike
    from skunlearn.metrics import Interval

_LIBRARIES = ("skunlearn", "numpy", "scipy", "scikit-learn", "skorch", "torch", "POT")

_WORDS = {"auc": "AUC", "cka": "CKA", "js": "JS", "nomus": "NoMUS", "tpr": "TPR"}

_FIGURES = {
    "utility": "accuracy on unseen rows; greater is better",
    "retain_accuracy": "accuracy on retained rows; ideal as retrained",
    "forget_accuracy": "accuracy on forget rows; ideal as retrained",
    "forgetting_score": "distance of the loss attack's accuracy from 0.5; ideal 0, on average",
    "nomus": "(utility + 1) / 2 - forgetting score; greater is better; blind to retained rows",
    "overshoot": "how far forget losses lie above unseen ones, in nats; ideal as retrained",
    **{
        f"{signal}_attack_{figure}": text
        for signal in (*SIGNALS, "calibrated")
        for figure, text in (
            ("accuracy", "share of forget and unseen rows told apart; ideal 0.5"),
            ("auc", "chance that a forget row looks more familiar than an unseen one; ideal 0.5"),
            ("tpr", "share of forget rows recognised at 1 % false alarms; ideal 0.01"),
        )
    },
    "gap": "mean difference of three accuracies and the loss attack's from retrained; ideal 0",
    "tug_of_war": "product of 1 - difference of three accuracies from retrained; ideal 1",
    "agreement": "share of forget rows predicted as by retrained; greater is better",
    "js_distance": "distance of predictions on forget rows to retrained; smaller is better",
    "relative_js_distance": "that distance over the one between two retrainings; ideal 1",
    "linear_cka": "alignment of features and labels of unseen rows; ideal as retrained",
    "linear_probe": "accuracy of a linear classifier on these features; ideal as retrained",
    "scatter_ratio": "scatter of these features between over within classes; ideal as retrained",
    "cka_kept": "linear CKA over the original's; below 0.8 the correlation has collapsed",
}


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
    figures : dict of str to dict of str to Interval
        ``figures["utility"]["unlearned"]`` is a tuple ``(value, low, high)`` with these names.

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
    figures: dict[str, dict[str, Interval]]

    @property
    def table(self) -> Any:  # numpydoc ignore=RT01
        """Every figure of every network, one a row: a DataFrame, or a list of dicts.

        The columns are ``figure``, ``network``, ``value``, ``low``, ``high`` and ``meaning``. It is
        a list where pandas is not installed.
        """
        records = [
            {"figure": name, "network": network, **interval._asdict(), "meaning": _FIGURES[name]}
            for name, intervals in self.figures.items()
            for network, interval in intervals.items()
        ]
        try:
            from pandas import DataFrame
        except ImportError:
            return records
        return DataFrame(records)

    def to_json(self, *, indent: int | None = 2) -> str:
        """Everything as JSON.

        Parameters
        ----------
        indent : int or None, default=2
            Spaces a level; None for a single line.

        Returns
        -------
        text : str
            Strict JSON: a figure that is infinite is ``null``.
        """
        content = {"report": type(self).__name__, **asdict(self)}
        content["figures"] = {
            name: {
                "meaning": _FIGURES[name],
                **{network: interval._asdict() for network, interval in intervals.items()},
            }
            for name, intervals in self.figures.items()
        }
        return json.dumps(nan_to_none(content), indent=indent, allow_nan=False, ensure_ascii=False)

    def _cells(self):
        """The figures as text: a header and a line for each."""
        yield "", *(name.replace("_", " ") for name in self.networks)
        for name, intervals in self.figures.items():
            cells = (
                "{:.3f} [{:.3f}, {:.3f}]".format(*intervals[network])
                if network in intervals
                else "-"
                for network in self.networks
            )
            yield " ".join(_WORDS.get(word, word) for word in name.split("_")), *cells

    def _facts(self):
        """What else is to be said at the top, by name."""
        level = self.settings["confidence_level"]
        return {
            "method": self.method,
            "date": self.date,
            **{
                f"{name} rows": f"{value['count']}, sha256 {value['sha256']}"
                for name, value in self.rows.items()
            },
            "versions": ", ".join(f"{name} {number}" for name, number in self.versions.items()),
            "figures": f"with nominal {level:.0%} confidence intervals over rows",
        }

    def __repr__(self):
        lines = [type(self).__name__]
        for name, value in self._facts().items():
            lines += wrap(value, 100, initial_indent=f"  {name:13}", subsequent_indent=15 * " ")
        lines.append("")
        for name, *cells in self._cells():
            lines.append(f"  {name:33}" + "".join(f"{cell:>24}" for cell in cells))
        return "\n".join(lines)

    def _repr_html_(self):
        cell = "padding:2px 10px;text-align:{}"
        (_, *networks), *lines = self._cells()
        facts = "".join(
            f'<tr><th style="{cell.format("left")}">{html.escape(name)}</th>'
            f'<td style="{cell.format("left")};overflow-wrap:anywhere">{html.escape(value)}</td>'
            "</tr>"
            for name, value in self._facts().items()
        )
        heads = "".join(
            f'<th scope="col" style="{cell.format("right")}">{html.escape(name)}</th>'
            for name in networks
        )
        figures = "".join(
            f'<tr><th scope="row" style="{cell.format("left")};font-weight:normal">'
            f"{html.escape(name)}</th>"
            + "".join(
                f'<td style="{cell.format("right")};white-space:nowrap;'
                f'font-variant-numeric:tabular-nums">{html.escape(text)}</td>'
                for text in cells
            )
            + f'<td style="{cell.format("left")};opacity:0.7"><small>{html.escape(_FIGURES[key])}'
            "</small></td></tr>"
            for key, (name, *cells) in zip(self.figures, lines)
        )
        parameters = html.escape(json.dumps(nan_to_none(self.parameters), indent=2, default=str))
        return (
            f"<div><h4>Unlearning report</h4><table>{facts}</table>"
            f"<table><thead><tr><th></th>{heads}<th></th></tr></thead><tbody>{figures}</tbody></table>"
            f"<details><summary>Parameters</summary><pre>{parameters}</pre></details></div>"
        )


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
        `classes_`. Adds a column, and the figures of correlation collapse.
    reference : estimator, default=None
        The same for a network retrained without the forget rows. Adds a column, the figures of
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
        Number of bootstrap resamples, in which most of the time goes.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=0
        Decides the attacks' splits and the resamples. An int gives the same figures at each call.

    Returns
    -------
    report : UnlearningReport
        `print` it, display it in a notebook, or file it with ``report.to_json()``;
        ``report.table`` has a row for each figure of each network, and ``report.figures`` the
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

    The intervals are about the rows, not about another training with another seed: exact binomial
    ones for shares of rows, percentile bootstrap for attacks and distances, a jackknife over 20
    groups of rows for CKA and scatter. Those of the forgetting score, NoMUS, gap and tug of war
    are made of the bounds of their parts, and so wider than need be. The nominal 95 % of an
    attack's accuracy are less, see :func:`~skunlearn.metrics.membership_inference_report`. Read the
    figures beside the retrained network's own: that one has no forgetting score of 0 either.

    The features are those of at most 2000 unseen rows. Their figures are left out where there are
    fewer than five, or not two unseen rows each of at least two classes, or where a network is not
    a single one.

    *Digests.* A set has one SHA-256, fed row by row, in order, with the row and then its label.
    Numbers are fed as ``f"{shape} True {n_bytes}\n"`` in UTF-8 followed by their bytes as float64
    in C order, a string as ``f"() False {n_bytes}\n"`` followed by its UTF-8 bytes; a tuple, a list
    or an array of strings as its length, ``f"{length}\n"``, and its items; a mapping as the list of
    its sorted keys, each followed by its value. So the same rows in the same order have the same
    digest, whatever holds them. The digest of few rows of which little is
    unknown can be found out by trying: a report is about persons as the rows are. Data sets that
    draw their rows at random have a new digest each time.

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
    >>> value, low, high = report.figures["gap"]["unlearned"]
    >>> 0 <= low <= value <= high
    True
    >>> report.table.columns.tolist()
    ['figure', 'network', 'value', 'low', 'high', 'meaning']
    """
    check_number("n_splits", n_splits, 1, integer=True)
    check_number("n_resamples", n_resamples, 2, integer=True)
    check_number("confidence_level", confidence_level, 0, 1)
    if reference is None and reference_2 is not None:
        raise ValueError(
            "reference_2 was given without reference; pass the first retraining there."
        )
    if not isinstance(random_state, Integral):
        random_state = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    models = {
        "unlearned": unlearner,
        "original": original,
        "retrained": reference,
        "retrained_2": reference_2,
    }
    models = {name: model for name, model in models.items() if model is not None}
    for model in models.values():
        check_is_fitted(model)
    classes = np.asarray(unlearner.classes_)
    y, y_unseen = given_labels("y", X, y), given_labels("y_unseen", X_unseen, y_unseen)
    mask = check_forget(forget, len(y), X)
    n_forget = np.count_nonzero(mask)
    if n_forget < 2 or n_forget == len(mask) or len(y_unseen) < 2:
        raise ValueError(
            "forget must mark at least 2 rows and leave others, the retained ones, and X_unseen "
            f"must have at least 2 rows; got {n_forget} True of {len(mask)}, and {len(y_unseen)} "
            "unseen rows."
        )
    codes = encode_labels(y, classes), encode_labels(y_unseen, classes, "y_unseen")
    nets = [network_of(model) for model in models.values()]
    with preserve_modes(*(net for net in nets if net is not None)):
        subjects = {
            name: Subject(name, model, (X, X_unseen), codes, mask, classes)
            for name, model in models.items()
        }
        features = {}
        if original is not None and nets[0] is not None and nets[1] is not None:
            rows = np.arange(len(y_unseen))
            if len(rows) > FEATURE_ROWS:
                rows = check_random_state(random_state).permutation(rows)[:FEATURE_ROWS]
            some = take_rows(X_unseen, rows)
            features = {
                name: FeatureExtractor(model, layer=feature_layer).transform(some)
                for (name, model), net in zip(models.items(), nets)
                if net is not None
            }
        digests, seen = _digests(X, y, np.where(mask, "forget", "retain"))
        more, unseen = _digests(X_unseen, y_unseen, np.full(len(y_unseen), "unseen"))
    digests |= more
    known = set(seen)
    if n_known := sum(row in known for row in unseen):
        warnings.warn(
            f"X_unseen has {len(unseen)} rows, of which {n_known} are in X as well: an attack "
            "cannot tell them from rows that were trained on. Pass rows that no network has seen.",
            UserWarning,
            stacklevel=2,
        )
    measure = Measure(n_splits, n_resamples, confidence_level, random_state)
    found = {name: measure.own(subject) for name, subject in subjects.items()}
    first, second = subjects.get("retrained"), subjects.get("retrained_2")
    for name, subject in subjects.items():
        judge = second or first
        if judge is not None and subject is not judge:
            found[name] |= measure.calibrated(subject, judge)
        if first is not None and subject is not first:
            found[name] |= measure.closeness(subject, first, second)
    # Which is 1 whatever the two are.
    found.get("retrained_2", {}).pop("relative_js_distance", None)
    if features:
        for name, more in measure.collapse(features, codes[1][rows]).items():
            found[name] |= more
    return UnlearningReport(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        method=_name(type(innermost(unlearner))),
        parameters=_parameters(unlearner),
        networks={name: _name(type(innermost(model))) for name, model in models.items()},
        versions=_versions(),
        rows={name: digests[name] for name in ("retain", "forget", "unseen")},
        settings={
            "feature_layer": feature_layer,
            "n_splits": int(n_splits),
            "n_resamples": int(n_resamples),
            "confidence_level": float(confidence_level),
            "random_state": int(random_state),
        },
        figures={
            figure: {name: own[figure] for name, own in found.items() if figure in own}
            for figure in _FIGURES
            if any(figure in own for own in found.values())
        },
    )


# -- what is said of it ------------------------------------------------------------------------


def _digests(X, y, names):
    """Count and SHA-256 of the sets by their `names`, and SHA-256 of each row without its label."""
    digests = {name: hashlib.sha256() for name in np.unique(names).tolist()}
    single = []
    for name, row, label in zip(names.tolist(), each_row(X), y, strict=True):
        content = canonical_bytes(row)
        digests[name].update(content + canonical_bytes(label))
        single.append(hashlib.sha256(content).digest())
    return {
        name: {"count": names.tolist().count(name), "sha256": digest.hexdigest()}
        for name, digest in digests.items()
    }, single


def _versions():
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def _name(kind):
    return f"{kind.__module__}.{kind.__qualname__}"


def _parameters(estimator):
    """The parameters of an estimator, network or callback, without the contents of any rows."""
    return {
        name: _size(value) if name[:2] in ("X", "X_", "y", "y_") else _described(value)
        for name, value in sorted(estimator.get_params(deep=False).items())
        if name != "_params_to_validate"
    }


def _described(value):
    """A parameter as JSON can hold it; of what may be rows there is no more than type and size."""
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and len(value) <= 200:
        return value
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return _name(value)
    if isinstance(value, functools.partial):
        return {"partial": _described(value.func), **_described(value.keywords)}
    if hasattr(value, "get_params"):
        return {"class": _name(type(value)), **_parameters(value)}
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, tuple | list) and (len(value) <= 3 or all(map(_is_part, value))):
        return [_described(item) for item in value]
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    return _size(value)


def _is_part(value):
    """Whether it is a class, estimator or callback, or one with its name: not a row or label."""
    value = value[-1] if isinstance(value, tuple) and len(value) == 2 else value
    return isinstance(value, type) or hasattr(value, "get_params")


def _size(value):
    """The type of an object, and how large it is."""
    if value is None:
        return None
    if hasattr(value, "shape"):
        return f"{_name(type(value))} of shape {tuple(value.shape)}"
    size = f" of length {len(value)}" if hasattr(value, "__len__") else ""
    return _name(type(value)) + size
