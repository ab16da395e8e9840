"""Correlation collapse: whether a network's features still tell the classes apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold, check_cv, cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from skunlearn._engine.random import one_seed
from skunlearn._engine.statistics import few_of
from skunlearn._engine.validation import check_number, check_values
from skunlearn.metrics._scores import _check_labels
from skunlearn.transport import transport_distance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike
    from sklearn.model_selection import BaseCrossValidator

    from skunlearn._engine.typing import Array, RandomState

_ALARM = 0.8  # share of the original's CKA below which a collapse is reported


def _check_features(name, value):
    Z = check_values(name, value, (2,), "features of shape (n_samples, n_features)")
    if Z.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers; got {Z.dtype}.")
    return Z.astype(float)


def _check_labelled(Z, y, name="Z"):
    """Return features, and labels that are not all the same, of as many rows."""
    Z, y = _check_features(name, Z), _check_labels("y", y)
    if len(y) != len(Z):
        raise ValueError(
            f"{name} must have one row for each of the {len(y)} labels in y; got shape {Z.shape}."
        )
    if (y == y[0]).all():
        raise ValueError("y must hold at least two classes; all of its rows are the same.")
    return Z, y


def _indicator(y):
    """Return an indicator matrix, with a column for each class where `y` holds classes."""
    return (y if y.ndim == 2 else y[:, None] == np.unique(y)).astype(float)


def _centred(Z):
    Z = Z - Z[0]  # so that a constant column becomes exactly 0, and not rounding noise
    return Z - Z.mean(axis=0)


def _hsic(A, B):
    """Return n(n - 3) times the unbiased HSIC of centred features, or 0 if it is not above that."""
    n = len(A)
    if A.shape[1] * B.shape[1] <= n * n:
        products = ((A.T @ B) ** 2).sum()
    else:
        products = ((A @ A.T) * (B @ B.T)).sum()
    a, b = (A**2).sum(axis=1), (B**2).sum(axis=1)
    # The rows of a centred kernel sum to 0, so without its diagonal to the diagonal's negative.
    hsic = products - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))
    return hsic if hsic > 1e-12 * products else 0.0  # below it, rounding noise


def _folds(cv, random_state):
    """Return a splitter that gives the same folds at each call."""
    if not isinstance(cv, Integral):
        return check_cv(cv)
    check_number("cv", cv, 2, integer=True)
    return StratifiedKFold(cv, shuffle=True, random_state=one_seed(random_state))


def linear_probe_score(
    Z: ArrayLike,
    y: ArrayLike,
    *,
    cv: int | BaseCrossValidator | Iterable[tuple[Array, Array]] = 5,
    random_state: RandomState = None,
) -> float:
    """Accuracy with which a linear classifier reads the labels off the features.

    Ranges from 0 to 1; greater is better. Ideal is the retrained network's own value.

    The classifier is a multinomial logistic regression, scikit-learn's with its default penalty, on
    standardised features; the accuracy is the mean over the folds of a cross-validation.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_features)
        Features, preferably of rows that the network has not seen, as
        :class:`~skunlearn.features.FeatureExtractor` reads them.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels, or a multilabel indicator matrix.
    cv : int, cross-validation splitter or iterable of splits, default=5
        Number of stratified folds, shuffled; or how to split, as
        :func:`~sklearn.model_selection.cross_val_score` takes it, which keeps the rows of a person
        together.
    random_state : int, RandomState instance or None, default=None
        Shuffles the folds if `cv` is a number. Pass an int for repeatable numbers.

    Returns
    -------
    score : float
        For indicator matrices the mean of the scores of the labels, each judged on its own; those
        that all rows or none have are left out.

    Raises
    ------
    ValueError
        If the numbers of rows differ, an array holds NaN or infinity, there is only one class, or
        fewer rows of each class than folds.

    See Also
    --------
    linear_cka : Sees a collapse earlier.

    Notes
    -----
    A probe understates a collapse: it finds whatever is left of the labels in the features, in
    however small a part of them. At chance, the score is the share of the most frequent class.

    References
    ----------
    .. [1] G. Alain, Y. Bengio, "Understanding Intermediate Layers Using Linear Classifier Probes",
       arXiv 1610.01644.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import linear_probe_score
    >>> Z = np.random.default_rng(0).normal(size=(100, 3))
    >>> linear_probe_score(Z, Z[:, 1] > 0, random_state=0) > 0.9
    True
    """
    from sklearn.linear_model import LogisticRegression  # not loaded by skorch
    from sklearn.pipeline import make_pipeline

    Z, y = _check_labelled(Z, y)
    cv = _folds(cv, random_state)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    targets = [y] if y.ndim == 1 else [label for label in y.T if label.any() and not label.all()]
    scores = [cross_val_score(probe, Z, t, cv=cv, error_score="raise") for t in targets]
    return float(np.mean(scores))


def linear_cka(Z: ArrayLike, y: ArrayLike) -> float:
    """Debiased centred kernel alignment of features and labels: how much variation they share.

    Ranges from 0 to 1, about 0 for features that know nothing; greater is better. Ideal is the
    retrained network's own value; a fall below 0.8 of the original's is a fair alarm of a collapse.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_features)
        Features of at least 4 rows, preferably such that the network has not seen.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels, of which the one-hot indicators are taken, or a multilabel indicator matrix.

    Returns
    -------
    cka : float
        ``HSIC(Z, Y) / sqrt(HSIC(Z, Z) HSIC(Y, Y))`` with linear kernels and the unbiased estimate
        of HSIC [2]_, clipped to [0, 1]. Features that are constant have nothing in common with the
        labels: 0.

    Raises
    ------
    ValueError
        If the numbers of rows differ, there are fewer than 4, an array holds NaN or infinity, or
        there is only one class.

    See Also
    --------
    correlation_collapse : This and other measures, before and after unlearning.
    linear_probe_score : What a classifier can make of the features.

    Notes
    -----
    It does not change with shifts, rotations and a common scale of the features. The biased
    estimate, ``||Z'Y||² / (||Z'Z|| ||Y'Y||)`` of centred columns [1]_, lies far above 0 for
    features that know nothing if there are few rows and many features, and hides a collapse there;
    this one does not [3]_. The cost is that of a product of Z with itself, on the side on which it
    is smaller.

    References
    ----------
    .. [1] S. Kornblith et al., "Similarity of Neural Network Representations Revisited",
       arXiv 1905.00414.
    .. [2] L. Song et al., "Feature Selection via Dependence Maximization", J. Mach. Learn. Res. 13,
       2012.
    .. [3] T. Nguyen, M. Raghu, S. Kornblith, "Do Wide and Deep Networks Learn the Same Things?",
       arXiv 2010.15327.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import linear_cka
    >>> y = np.repeat(["a", "b", "c"], 20)
    >>> Z = (y[:, None] == ["a", "b", "c"]) * 4.0
    >>> round(linear_cka(Z, y), 6)
    1.0
    >>> noise = np.random.default_rng(0).normal(size=(60, 500))
    >>> linear_cka(noise, y) < 0.1
    True
    """
    Z, y = _check_labelled(Z, y)
    if len(Z) < 4:
        raise ValueError(f"Z must have at least 4 rows; got {len(Z)}.")
    Z, Y = _centred(Z), _centred(_indicator(y))
    own = _hsic(Z, Z) * _hsic(Y, Y)
    return float(min(_hsic(Z, Y) / math.sqrt(own), 1)) if own else 0.0


def scatter_ratio(Z: ArrayLike, y: ArrayLike) -> float:
    """Scatter of the features between classes over that within classes.

    0 or greater, infinite where each class is a single point; greater is better. Ideal is the
    retrained network's own value.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_features)
        Features, preferably of rows that the network has not seen.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels, or a multilabel indicator matrix.

    Returns
    -------
    ratio : float
        Trace of the scatter of the class means over the trace of the scatter around them. For
        indicator matrices, a least-squares fit of the features on the labels takes the place of the
        class means. Features that are constant: 0.

    Raises
    ------
    ValueError
        If the numbers of rows differ, an array holds NaN or infinity, or there is only one class.

    See Also
    --------
    linear_cka : Ranges from 0 to 1.

    Notes
    -----
    It does not change with shifts, rotations and a common scale of the features, but with the scale
    of each. It rises when features shrink within their classes, as they do while a network is
    trained on and on, so a rise is no proof that nothing was lost; nor does it see that two classes
    were merged while others moved away.

    Examples
    --------
    >>> from skunlearn.metrics import scatter_ratio
    >>> round(scatter_ratio([[0.0], [2.0], [10.0], [12.0]], ["a", "a", "b", "b"]), 6)
    25.0
    """
    Z, y = _check_labelled(Z, y)
    Z, Y = _centred(Z), _centred(_indicator(y))
    means = Y @ np.linalg.lstsq(Y, Z, rcond=None)[0]
    between, within = (means**2).sum(), ((Z - means) ** 2).sum()
    # What rounding leaves of a class that is a single point.
    if within <= np.finfo(float).eps * between:
        return math.inf if between else 0.0
    return float(between / within)


@dataclass(frozen=True, repr=False)
class CorrelationCollapse:
    """Result of `correlation_collapse`: measures of the features of each network.

    Attributes
    ----------
    original, unlearned : dict of str to float
        ``"linear_probe"``, ``"linear_cka"`` and ``"scatter_ratio"`` of each network's features.
    retrained : dict of str to float, or None
        The same of the retrained network, if there was one.

    See Also
    --------
    correlation_collapse : Measures the features of networks.

    Examples
    --------
    >>> from skunlearn.metrics import CorrelationCollapse
    >>> before = {"linear_probe": 0.9, "linear_cka": 0.6, "scatter_ratio": 2.0}
    >>> after = {"linear_probe": 0.9, "linear_cka": 0.3, "scatter_ratio": 0.5}
    >>> collapse = CorrelationCollapse(before, after)
    >>> collapse.ratio
    {'linear_probe': 1.0, 'linear_cka': 0.5, 'scatter_ratio': 0.25}
    >>> collapse.collapsed
    True
    """

    original: dict[str, float]
    unlearned: dict[str, float]
    retrained: dict[str, float] | None = None

    @property
    def ratio(self) -> dict[str, float]:  # numpydoc ignore=RT01
        """Share of each of the original's numbers that the unlearned network has, a dict."""
        return self._share(self.unlearned)

    @property
    def collapsed(self) -> bool:  # numpydoc ignore=RT01
        """Whether CKA has fallen below 0.8 of the original's; False if that one is 0."""
        return self.ratio["linear_cka"] < _ALARM

    @property
    def table(self) -> dict[str, dict[str, float]]:  # numpydoc ignore=RT01
        """All numbers, a dict of dicts: ``pandas.DataFrame(table)`` has a row for each measure."""
        columns = {"original": self.original, "unlearned": self.unlearned, "ratio": self.ratio}
        if self.retrained is not None:
            columns |= {"retrained": self.retrained, "ratio_retrained": self._share(self.retrained)}
        return columns

    def _share(self, values):
        return {
            name: values[name] / value if value else math.nan
            for name, value in self.original.items()
        }

    def __repr__(self):
        table = self.table
        verdict = "collapsed" if self.collapsed else "no collapse"
        cka = self.ratio["linear_cka"]
        lines = [
            f"CorrelationCollapse: {verdict} ({cka:.0%} of the original's CKA)",
            " " * 14 + "".join(f"{column.replace('_', ' '):>16}" for column in table),
        ]
        for name in self.original:
            cells = (f"{column[name]:>16.3f}" for column in table.values())
            lines.append(f"{name.replace('_', ' '):14}" + "".join(cells))
        return "\n".join(lines)


def correlation_collapse(
    Z_original: ArrayLike,
    Z_unlearned: ArrayLike,
    y: ArrayLike,
    *,
    Z_retrained: ArrayLike | None = None,
    cv: int | BaseCrossValidator | Iterable[tuple[Array, Array]] = 5,
    random_state: RandomState = None,
) -> CorrelationCollapse:
    """How much of the correlation between features and labels was lost in unlearning.

    Unlearning that pushes a network too far takes from its features what they had in common with
    the labels, of all rows and not of the forgotten ones alone: correlation collapse.

    Parameters
    ----------
    Z_original : array-like of shape (n_samples, n_features)
        Features of unseen rows at a layer of the original network, as
        :class:`~skunlearn.features.FeatureExtractor` reads them. On rows that the original was
        trained on, its numbers are too good for any other network to keep.
    Z_unlearned : array-like of shape (n_samples, n_features)
        Features of the same rows at the same layer of the unlearned network.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels of the rows, or a multilabel indicator matrix.
    Z_retrained : array-like of shape (n_samples, n_features), default=None
        Features of the same rows at the same layer of the retrained network, which shows what is
        lost by not having the rows.
    cv : int, cross-validation splitter or iterable of splits, default=5
        Folds of `linear_probe_score`.
    random_state : int, RandomState instance or None, default=None
        Shuffles the folds if `cv` is a number, for all networks alike. Pass an int for repeatable
        numbers.

    Returns
    -------
    result : CorrelationCollapse
        `linear_probe_score`, `linear_cka` and `scatter_ratio` of each network (greater is better)
        in ``original``, ``unlearned`` and ``retrained``; ``ratio``, the unlearned network's over
        the original's (1 if nothing was lost, and above it if something was gained; NaN where the
        original has nothing); ``collapsed``, whether that of CKA is below 0.8; ``table``.

    Raises
    ------
    ValueError
        As in the three functions.

    See Also
    --------
    linear_cka : The measure that sees a collapse best.
    feature_transport_distance : Whether features of two sets of rows are alike.

    References
    ----------
    .. [1] D. Choi, D. Na, "Distribution-Level Feature Distancing for Machine Unlearning",
       arXiv 2409.14747, who name the collapse.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import correlation_collapse
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=200)
    >>> Z = np.eye(3)[y] + rng.normal(scale=0.3, size=(200, 3))
    >>> Z_unlearned = Z + rng.normal(size=(200, 3))
    >>> correlation_collapse(Z, Z_unlearned, y, Z_retrained=Z + 1, random_state=0)
    CorrelationCollapse: collapsed (28% of the original's CKA)
                          original       unlearned           ratio       retrained ratio retrained
    linear probe             0.995           0.640           0.643           0.995           1.000
    linear cka               0.784           0.223           0.284           0.784           1.000
    scatter ratio            2.552           0.236           0.092           2.552           1.000
    """
    cv = _folds(cv, random_state)  # for all networks alike
    features = {"Z_original": Z_original, "Z_unlearned": Z_unlearned, "Z_retrained": Z_retrained}
    if Z_retrained is None:
        del features["Z_retrained"]
    for name, Z in features.items():  # all of them, before anything is computed
        features[name], y = _check_labelled(Z, y, name)
    measures = [
        {
            "linear_probe": linear_probe_score(Z, y, cv=cv),
            "linear_cka": linear_cka(Z, y),
            "scatter_ratio": scatter_ratio(Z, y),
        }
        for Z in features.values()
    ]
    return CorrelationCollapse(*measures)


def feature_transport_distance(
    Z_1: ArrayLike, Z_2: ArrayLike, *, n_rows: int = 1000, random_state: RandomState = None
) -> float:
    """Optimal-transport distance between two sets of features, with ground cost 1 − cosine.

    Ranges from 0 to 2, to 1 for features that are not negative, as after a ReLU. What is ideal
    depends on the sets: between forget and unseen rows, the retrained network's own value.

    Parameters
    ----------
    Z_1 : array-like of shape (n_samples_1, n_features)
        Features of one set of rows (retained, forget or unseen), or of one network.
    Z_2 : array-like of shape (n_samples_2, n_features)
        Features of the other, as many for each row.
    n_rows : int, default=1000
        Rows of each set that are read, drawn at random if there are more. Time grows with a
        power between 2 and 3 of it.
    random_state : int, RandomState instance or None, default=None
        Draws the rows. Pass an int for repeatable numbers.

    Returns
    -------
    distance : float
        The exact distance, without regularisation.

    Raises
    ------
    ValueError
        If the numbers of features differ, an array is empty or holds NaN or infinity, or `n_rows`
        is not a positive integer.

    See Also
    --------
    skunlearn.transport.transport_distance : The same for torch tensors, with a gradient.

    Notes
    -----
    The distance of two samples of one distribution is above 0, by more the fewer the rows and the
    more the features. So compare distances of equally many rows, and have the distance of two
    halves of one set beside them as the floor.

    References
    ----------
    .. [1] R. Flamary et al., "POT: Python Optimal Transport", Journal of Machine Learning Research
       22(78), 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import feature_transport_distance
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal([3, 0, 0], 1, size=(200, 3))
    >>> floor = feature_transport_distance(Z[::2], Z[1::2])
    >>> 0 < floor < feature_transport_distance(Z[::2], Z[1::2, ::-1]) / 5
    True
    """
    check_number("n_rows", n_rows, 1, integer=True)
    rng = check_random_state(random_state)
    sides = []
    for name, value in (("Z_1", Z_1), ("Z_2", Z_2)):
        Z = _check_features(name, value)
        sides.append(torch.from_numpy(Z[few_of(len(Z), n_rows, rng)]))
    if sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(
            f"Z_2 must have as many features as Z_1, {sides[0].shape[1]}; got {sides[1].shape[1]}."
        )
    return float(transport_distance(*sides, method="exact"))
