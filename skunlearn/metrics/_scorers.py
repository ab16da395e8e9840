"""Scorers: what a search calls with an estimator, made from the functions of the other modules."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, overload

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import MetadataRequest
from skorch.utils import is_dataset

from skunlearn._engine.hashing import canonical_bytes
from skunlearn._engine.predict import log_proba
from skunlearn._engine.validation import check_forget, check_number, given_labels
from skunlearn.features import FeatureExtractor
from skunlearn.metrics._attacks import membership_inference_auc
from skunlearn.metrics._closeness import overshoot
from skunlearn.metrics._collapse import linear_cka
from skunlearn.metrics._scores import forgetting_score, nomus_score, sample_log_loss, utility_score

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from numpy.typing import ArrayLike

    from skunlearn._engine.typing import MaskLike, Predictor, RandomState, RowsLike

    ScorerName: TypeAlias = Literal[
        "utility",
        "neg_forgetting_score",
        "nomus",
        "neg_auc_advantage",
        "neg_overshoot",
        "linear_cka",
    ]


class _Rows:
    """The true labels of forget (True) or unseen (False) rows, and what an estimator answers."""

    def __init__(self, estimator, y, respond):
        self.labels = getattr(estimator, "classes_", None)
        self.y = y
        self.respond = respond

    def losses(self):
        """Of the forget rows, and of the unseen ones."""
        method = "predict_proba"
        if self.y[False].ndim == 1 and all(
            self.respond("log_proba", side) is not None for side in (True, False)
        ):
            method = "log_proba"
        return [
            sample_log_loss(self.y[side], self.respond(method, side), labels=self.labels)
            for side in (True, False)
        ]


def _utility(scorer, rows):
    # predict, not the argmax of predict_proba: the two differ for multilabel targets and for
    # classifiers with a threshold of their own, and NoMUS has to agree with utility.
    return utility_score(rows.y[False], rows.respond("predict", False))


def _neg_forgetting(scorer, rows):
    attack = {"n_splits": scorer.n_splits, "random_state": scorer.random_state}
    return -forgetting_score(*rows.losses(), **attack)


def _nomus(scorer, rows):
    utility = _utility(scorer, rows)
    return nomus_score(utility, -_neg_forgetting(scorer, rows), weight=scorer.weight)


def _neg_auc_advantage(scorer, rows):
    return -abs(membership_inference_auc(*rows.losses()) - 0.5)


def _neg_overshoot(scorer, rows):
    return -overshoot(*rows.losses())


def _linear_cka(scorer, rows):
    return linear_cka(rows.respond("features", False), rows.y[False])


_SCORES = {
    "linear_cka": _linear_cka,
    "neg_auc_advantage": _neg_auc_advantage,
    "neg_forgetting_score": _neg_forgetting,
    "neg_overshoot": _neg_overshoot,
    "nomus": _nomus,
    "utility": _utility,
}


class _Scorer(BaseEstimator):
    """What both kinds of scorer share."""

    def __init__(self, name, *, n_splits=10, random_state=0, weight=0.5):
        self.name = name
        self.n_splits = n_splits
        self.random_state = random_state
        self.weight = weight

    def get_metadata_routing(self):
        """Request `forget` for scoring, without a word from the user."""
        # A class attribute would do this for an estimator, but scikit-learn reads those of
        # existing methods only, and a scorer has no method score.
        requests = MetadataRequest(owner=self)
        requests.score.add_request(param="forget", alias=self._requests_forget)
        return requests

    def _accept_sample_weight(self):
        # Without routing, scikit-learn asks every scorer of a dict this when a search is given
        # sample weights.
        return False


class _RoutedScorer(_Scorer):
    """A scorer that is told by `forget` which rows of X are the forget rows."""

    _requests_forget = True

    def __call__(
        self,
        estimator: Predictor,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: MaskLike | None = None,
    ) -> float:
        """Score a fitted classifier on unseen and forget rows, told apart by `forget`."""
        if forget is None:
            raise ValueError(
                f"The scorer {self.name!r} needs to know the forget rows; got forget=None. Call it "
                "with forget=mask; in a search, inside "
                "sklearn.config_context(enable_metadata_routing=True), fit(X, y, forget=mask) or "
                "cross_validate(..., params={'forget': mask}) passes it on; without routing, use "
                f"get_scorer({self.name!r}, X_forget=..., y_forget=...)."
            )
        y = _check_y("y", X, y)
        mask = check_forget(forget, len(y))
        if not mask.any() or mask.all():
            raise ValueError(
                "forget must mark some of the rows to score and leave others, the unseen ones; "
                f"got {np.count_nonzero(mask)} True of {len(mask)}. ForgetKFold puts both into "
                "each test fold."
            )
        sides = {True: mask, False: ~mask}
        answer = cache(lambda method: _respond(estimator, method, X, y))

        def respond(method, side):
            response = answer(method)
            return None if response is None else response[sides[side]]

        rows = _Rows(estimator, {side: y[part] for side, part in sides.items()}, respond)
        return _SCORES[self.name](self, rows)

    def __repr__(self):
        return f"get_scorer({_arguments(self)})"


class _BoundScorer(_Scorer):
    """A scorer that carries the forget rows; every row it is given is unseen."""

    _requests_forget = False  # no error either, when a search passes a mask on to others

    def __init__(
        self,
        name,
        *,
        X_forget,
        y_forget,
        n_splits=10,
        random_state=0,
        weight=0.5,
    ):
        super().__init__(name, n_splits=n_splits, random_state=random_state, weight=weight)
        self.X_forget = X_forget
        self.y_forget = y_forget

    def __call__(
        self,
        estimator: Predictor,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: None = None,
    ) -> float:
        """Score a fitted classifier on X, all unseen, and on the bound forget rows."""
        if forget is not None:
            raise ValueError(
                "forget must not be passed to a scorer that is bound to forget rows; leave out "
                f"either forget=mask or X_forget and y_forget in {self!r}."
            )
        y, y_forget = _check_y("y", X, y), self.y_forget
        if _holds_every_row(X, self.X_forget):
            raise ValueError(
                "X must hold unseen rows only for a scorer that is bound to forget rows; got every "
                "row of X_forget among them. Use ForgetKFold(..., forget=mask, "
                "forget_in_test=False) and return_train_score=False, or the scorer without "
                "X_forget and forget=mask."
            )

        sides = {True: (self.X_forget, y_forget, "y_forget"), False: (X, y, "y")}
        rows = _Rows(
            estimator,
            {side: part[1] for side, part in sides.items()},
            cache(lambda method, side: _respond(estimator, method, *sides[side])),
        )
        return _SCORES[self.name](self, rows)

    def __repr__(self):
        bound = f"<{len(self.y_forget)} rows>"
        return f"get_scorer({_arguments(self)}, X_forget={bound}, y_forget={bound})"


def _arguments(scorer):
    named = ("n_splits", "random_state", "weight")
    return ", ".join([repr(scorer.name)] + [f"{name}={getattr(scorer, name)!r}" for name in named])


def _check_y(name, X, y):
    y = given_labels(name, X, y)
    if y.ndim == 0 or len(y) == 0:
        raise ValueError(f"{name} must hold a label for each row; got an array of shape {y.shape}.")
    return y


def _respond(estimator, method, X, y, name="y"):
    if method == "features":
        return FeatureExtractor(estimator).transform(X)
    if method == "log_proba":
        logs = log_proba(estimator, X)
        if logs is None:
            return None
        (response,) = logs
    else:
        response = np.asarray(getattr(estimator, method)(X))
    if response.shape[:1] != (len(y),):
        raise ValueError(
            f"{name} must have one label for each row of X; got {len(y)} labels, and {method} "
            f"answered with shape {response.shape}."
        )
    return response


def _holds_every_row(X, X_forget):
    """Whether all of `X_forget` occurs in X; False for what cannot be compared without loading."""
    arrays = []
    for data in (X, X_forget):
        if isinstance(data, np.ndarray) or hasattr(data, "to_numpy"):
            arrays.append(np.asarray(data))
        elif hasattr(data, "detach"):
            arrays.append(data.detach().cpu().numpy())
        else:
            return False
    rows, forget_rows = arrays
    if rows.dtype != forget_rows.dtype or rows.shape[1:] != forget_rows.shape[1:]:
        return False
    seen = set(map(canonical_bytes, rows))
    return all(canonical_bytes(row) in seen for row in forget_rows)


def get_scorer_names() -> list[str]:
    """Return the names that `get_scorer` knows.

    Returns
    -------
    names : list of str
        Sorted.

    See Also
    --------
    get_scorer : Make a scorer from a name.

    Examples
    --------
    >>> from skunlearn.metrics import get_scorer_names
    >>> get_scorer_names()
    ['linear_cka', 'neg_auc_advantage', 'neg_forgetting_score', 'neg_overshoot', 'nomus', 'utility']
    """
    return sorted(_SCORES)


@overload
def get_scorer(  # numpydoc ignore=GL08
    name: ScorerName,
    *,
    X_forget: None = None,
    y_forget: None = None,
    n_splits: int = 10,
    random_state: RandomState = 0,
    weight: float = 0.5,
) -> _RoutedScorer: ...


@overload
def get_scorer(  # numpydoc ignore=GL08
    name: ScorerName,
    *,
    X_forget: RowsLike,
    y_forget: ArrayLike | None = None,
    n_splits: int = 10,
    random_state: RandomState = 0,
    weight: float = 0.5,
) -> _BoundScorer: ...


def get_scorer(
    name: ScorerName,
    *,
    X_forget: RowsLike | None = None,
    y_forget: ArrayLike | None = None,
    n_splits: int = 10,
    random_state: RandomState = 0,
    weight: float = 0.5,
) -> _RoutedScorer | _BoundScorer:
    """Make a scorer for `cross_validate`, the searches, or a call of your own.

    A scorer works for every fitted classifier with `predict`, `predict_proba` and
    `classes_`, pipelines included (``"linear_cka"`` for networks and pipelines that end in one),
    and never returns a number without a forget set. Losses are made from `predict_log_proba`, or a
    network's logits, where all of these are finite, else from probabilities. It comes in two kinds:

    * without `X_forget`, it is called ``scorer(estimator, X, y, forget=mask)``: X holds
      unseen rows and forget rows, and the mask is True for the forget rows. It requests
      `forget` by metadata routing, so a search passes the mask on by itself.
    * bound to `X_forget` and `y_forget`, it is called ``scorer(estimator, X, y)``: every row
      of X is unseen. It works without metadata routing.

    Either is called without y where X is a data set that yields pairs of rows and labels.

    Parameters
    ----------
    name : {"utility", "neg_forgetting_score", "nomus", "neg_auc_advantage", "neg_overshoot", \
            "linear_cka"}
        Greater is better for all of them.

        - ``"utility"`` is `utility_score` on the unseen rows, from 0 to 1.
        - ``"neg_forgetting_score"`` is minus the `forgetting_score`, from -0.5 to 0.
        - ``"nomus"`` is the `nomus_score` of both, from 0 to 1.
        - ``"neg_auc_advantage"`` is minus the distance of `membership_inference_auc` of the losses
          from 0.5, from -0.5 to 0: no random splits, hence less noise than the forgetting score,
          but blind to memory and overshoot that cancel.
        - ``"neg_overshoot"`` is minus the `overshoot`, 0 or less, in nats. A network that
          forgot nothing has the best value: a guard beside other scorers, never the one to refit
          by.
        - ``"linear_cka"`` is `linear_cka` of the unseen rows at the input of the network's last
          linear layer, from 0 to 1: a guard too, against correlation collapse.
    X_forget : array-like or torch Dataset of n_forget rows, default=None
        The forget rows to bind, in a form the estimator can predict.
    y_forget : array-like of shape (n_forget,) or (n_forget, n_labels), default=None
        Their true labels; may be left out for a data set that yields pairs.
    n_splits : int, default=10
        Number of attacks the forgetting score averages; the scorers without one use neither
        it nor `random_state`.
    random_state : int, RandomState instance or None, default=0
        Seed of the attack. An int, so that the candidates of a search are compared under
        the same attack.
    weight : float, default=0.5
        Share of utility in ``"nomus"``; the other scorers do not use it.

    Returns
    -------
    scorer : callable
        It can be cloned and pickled. One bound to forget rows carries them into its pickle.

    Raises
    ------
    ValueError
        If the name is unknown, only one of `X_forget` and `y_forget` is given, or `n_splits`
        or `weight` is out of range. The scorer itself raises it when it is not given the forget
        rows, when `forget` is not a boolean mask with both True and False, when a bound
        scorer is given `forget`, or when all bound rows occur in the array,
        tensor or DataFrame X, which should be unseen.

    See Also
    --------
    skunlearn.model_selection.ForgetKFold : Splits whose test folds hold both kinds of rows.
    nomus_score : The function behind ``"nomus"``.
    correlation_collapse : CKA beside that of the original and of the retrained network.

    References
    ----------
    .. [1] D. Choi, D. Na, "Distribution-Level Feature Distancing for Machine
       Unlearning", arXiv 2409.14747.
    .. [2] D. Choi, D. Na, "Towards Machine Unlearning Benchmarks: Forgetting the
       Personal Identities in Facial Recognition Systems", arXiv 2311.02240.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skunlearn.metrics import get_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> forget = np.arange(150) % 5 == 0
    >>> unseen = np.arange(150) % 5 == 1
    >>> classifier = KNeighborsClassifier(1).fit(X[~unseen], y[~unseen])
    >>> rows = forget | unseen
    >>> scorer = get_scorer("utility")
    >>> round(scorer(classifier, X[rows], y[rows], forget=forget[rows]), 3)
    0.967
    >>> bound = get_scorer("utility", X_forget=X[forget], y_forget=y[forget])
    >>> round(bound(classifier, X[unseen], y[unseen]), 3)
    0.967
    >>> bound
    get_scorer('utility', n_splits=10, random_state=0, weight=0.5, X_forget=<30 rows>,
               y_forget=<30 rows>)
    """
    if name not in _SCORES:
        raise ValueError(f"name must be one of {get_scorer_names()}; got {name!r}.")
    check_number("n_splits", n_splits, 1, integer=True)
    check_number("weight", weight, 0, 1)
    attack = {"n_splits": n_splits, "random_state": random_state, "weight": weight}
    if X_forget is None and y_forget is None:
        return _RoutedScorer(name, **attack)
    if X_forget is None or (y_forget is None and not is_dataset(X_forget)):
        missing = "X_forget" if X_forget is None else "y_forget"
        raise ValueError(f"X_forget and y_forget must be given together; got None for {missing}.")
    y_forget = _check_y("y_forget", X_forget, y_forget)
    return _BoundScorer(name, X_forget=X_forget, y_forget=y_forget, **attack)
