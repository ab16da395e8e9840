"""Verdicts on each forget row, from the margins of many networks: functions of arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from skunlearn._engine.validation import check_number, check_values
from skunlearn.metrics._per_example import _check_two

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def unlearning_epsilon(
    margins_unlearned: ArrayLike,
    margins_retrained: ArrayLike,
    *,
    delta: float = 0.0,
) -> NDArray[np.float64]:
    """How surely each row tells unlearned networks from retrained ones: the ε of unlearning.

    0 or greater; smaller is better, 0 is ideal. A method is (ε, δ)-unlearning if no attack has
    rates of error that add up to less than ε and δ allow. This is the least ε that the attacks
    tried here leave possible, row by row.

    Parameters
    ----------
    margins_unlearned : array-like of shape (n_models, n_rows)
        Margin of each row in models trained on all rows and unlearned, from different seeds; see
        `attack_signal`, signal "logit", of which it is the negative.
    margins_retrained : array-like of shape (n_retrained, n_rows)
        Margin of each row in models trained on the retained rows alone, from different seeds.
    delta : float, default=0
        The δ, from 0 to 1.

    Returns
    -------
    epsilon : ndarray of float64 of shape (n_rows,)
        Infinity if an attack errs in none of the models. The score of the challenge is
        ``np.mean(2.0 ** -np.minimum(epsilon // 0.5, 12))``, of which 1 is best.

    Raises
    ------
    ValueError
        If the arrays do not fit or hold NaN or infinity, or `delta` is out of range.

    See Also
    --------
    skunlearn.klom_margins : Trains the models; ``unlearning_epsilon(*margins)``.
    klom : A distance in place of an attack.
    worst_rows : The mean over the rows that fare worst.

    Notes
    -----
    The attacks are all thresholds of the margin, either way round, and of the likelihood
    ratio of two Gaussians, which sees unlearned margins on both sides of the retrained ones. With
    the rates FPR and FNR, ε is ``max(log((1 - delta - FPR) / FNR), log((1 - delta - FNR) /
    FPR))``, and the greatest over attacks counts. Attacks with one rate of 0 are left out, as in
    the challenge, for their ε would be infinite by the finite number of models alone.

    The attacks are tried on the models that they are fitted to, so that two sets of retrained
    models are above 0 as well, the more so for few models: put the value beside that of two halves
    of the retrained models. The challenge had 512 models of each kind.

    References
    ----------
    .. [1] E. Triantafillou et al., "Are We Making Progress in Unlearning? Findings from the First
       NeurIPS Unlearning Competition", arXiv 2406.09073.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import unlearning_epsilon
    >>> unlearned = np.array([[1.0, 9.0], [2.0, 8.0], [4.0, 9.0], [6.0, 8.0]])
    >>> retrained = np.array([[3.0, 1.0], [5.0, 2.0], [7.0, 1.0], [8.0, 2.0]])
    >>> unlearning_epsilon(unlearned, retrained)  # at a threshold of 4.5, log(0.75 / 0.25)
    array([1.098...,       inf])
    >>> unlearning_epsilon(unlearned, retrained, delta=0.25)  # log((0.75 - 0.25) / 0.25)
    array([0.693...,       inf])
    """
    unlearned, retrained = _check_two(margins_unlearned, margins_retrained)
    check_number("delta", delta, 0, 1)
    means = [array.mean(axis=0) for array in (unlearned, retrained)]
    spreads = [np.maximum(array.std(axis=0), 1e-15) for array in (unlearned, retrained)]
    scores = [(unlearned, retrained), (-unlearned, -retrained)]
    scores.append(
        tuple(
            norm.logpdf(array, means[0], spreads[0]) - norm.logpdf(array, means[1], spreads[1])
            for array in (unlearned, retrained)
        )
    )
    return np.max([_epsilon(*score, delta) for score in scores], axis=0)


def _epsilon(positive, negative, delta):
    """The greatest ε of attacks that name what is above a threshold, for each row."""
    n, m = len(positive), len(negative)
    pooled = np.concatenate([positive, negative])
    order = np.argsort(-pooled, axis=0, kind="stable")
    ordered = np.take_along_axis(pooled, order, axis=0)
    named = np.cumsum(order < n, axis=0)
    fnr = 1 - named / n
    fpr = (np.arange(1, n + m + 1)[:, None] - named) / m
    # Between two equal values there is no threshold.
    possible = np.append(ordered[:-1] > ordered[1:], np.zeros((1, ordered.shape[1]), bool), axis=0)
    none_wrong = possible & (fnr * n < 0.5) & (fpr * m < 0.5)
    usable = possible & (fnr * n > 0.5) & (fpr * m > 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = [
            np.log(np.maximum(1 - delta - a, 0)) - np.log(b) for a, b in ((fpr, fnr), (fnr, fpr))
        ]
    epsilon = np.where(usable, np.maximum(*both), 0).max(axis=0)
    return np.where(none_wrong.any(axis=0), math.inf, np.maximum(epsilon, 0))


def memorisation(margins_original: ArrayLike, margins_retrained: ArrayLike) -> NDArray[np.float64]:
    """How much of a row is known only by networks that were trained on it.

    Each value ranges from -1 to 1; 0 for a row that is as likely without having been trained on,
    1 for one that is memorised and nothing else. Rows with great values are hard to forget, and
    easy ones need no forgetting: a method should be judged on each kind apart.

    Parameters
    ----------
    margins_original : array-like of shape (n_models, n_rows)
        Margin of each row in models trained on all rows; see `attack_signal`, signal "logit", of
        which it is the negative. One model will do, if need be.
    margins_retrained : array-like of shape (n_retrained, n_rows)
        The same in models that were trained without the row.

    Returns
    -------
    memorisation : ndarray of float64 of shape (n_rows,)
        The mean probability of the true class in the original models, less that in the retrained
        ones. Split forget rows at its quantiles, as by
        ``memorisation > np.median(memorisation)``.

    Raises
    ------
    ValueError
        If the arrays do not fit or hold NaN or infinity.

    See Also
    --------
    skunlearn.model_selection.forget_split : Chooses rows to forget.
    worst_rows : The mean over the rows that fare worst.

    Notes
    -----
    Feldman and Zhang count how often the class is right; the probability is less coarse with few
    models. It is ``1 / (1 + exp(-margin))``.

    References
    ----------
    .. [1] V. Feldman, C. Zhang, "What Neural Networks Memorize and Why: Discovering the Long Tail
       via Influence Estimation", arXiv 2008.03703.
    .. [2] K. Zhao et al., "What Makes Unlearning Hard and What to Do About It",
       arXiv 2406.01257.

    Examples
    --------
    >>> from skunlearn.metrics import memorisation
    >>> memorisation([[5.0, 5.0], [5.0, 5.0]], [[5.0, -5.0], [5.0, -5.0]])
    array([0.   , 0.98...])
    """
    original, retrained = _check_two(
        margins_original, margins_retrained, "margins_original", "margins_retrained"
    )
    return expit(original).mean(axis=0) - expit(retrained).mean(axis=0)


def worst_rows(values: ArrayLike, *, share: float = 0.1) -> float:
    """Mean over the rows that fare worst: the greatest values.

    An average over rows hides the few that are still known: it is those who will complain.

    Parameters
    ----------
    values : array-like of shape (n_rows,)
        A number for each forget row, such as `klom` or `unlearning_epsilon`, of which small is
        good.
    share : float, default=0.1
        Which share of the rows; at least one is taken.

    Returns
    -------
    mean : float
        Infinity if one of them is.

    Raises
    ------
    ValueError
        If `values` is empty, not of one dimension or holds NaN, or `share` is not above 0 and at
        most 1.

    See Also
    --------
    unlearning_epsilon : How surely each row is told.
    klom : How far its margins are from those of retrained networks.

    References
    ----------
    .. [1] E. Triantafillou et al., "Are We Making Progress in Unlearning? Findings from the First
       NeurIPS Unlearning Competition", arXiv 2406.09073.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import worst_rows
    >>> worst_rows(np.arange(20))
    18.5
    """
    check_number("share", share, 0, 1, low_open=True)
    array = np.asarray(values, dtype=float)
    check_values("values", np.where(np.isinf(array), 0, array), (1,), "numbers of shape (n_rows,)")
    n = math.ceil(share * len(array) - 1e-9)
    return float(np.sort(array)[-n:].mean())
