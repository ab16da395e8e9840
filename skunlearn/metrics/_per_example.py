"""Attacks and distances that know each row from many networks: functions of arrays of margins.

The margin of a row is its logit-scaled confidence phi = log p_y - log sum_{j != y} p_j, which is
minus the signal "logit" of `attack_signal`. Arrays of margins have a row for each network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit
from scipy.stats import entropy, norm
from sklearn.metrics import balanced_accuracy_score, roc_curve

from skunlearn._engine.validation import check_number, check_values
from skunlearn.metrics._attacks import membership_inference_auc, membership_inference_tpr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# With fewer models a variance for each row is too noisy (Carlini et al., arXiv 2112.03570).
_ENOUGH_FOR_A_VARIANCE = 64


@dataclass(frozen=True, eq=False)
class PerExampleAttack:
    """Result of `u_lira` or `rmia`: how well the attack does, and its signal for each row.

    Attributes
    ----------
    accuracy : float
        Mean of the shares of unlearned and of never seen rows told rightly, over all models. From 0
        to 1; 0.5 is ideal.
    auc : float
        Area under the ROC curve over all models and rows. From 0 to 1; 0.5 is ideal.
    tpr : float
        Share of unlearned rows recognised at a false positive rate of at most `max_fpr`, which is
        ideal.
    signal : ndarray of float64 of shape (n_models, n_rows)
        What the attack has to say of each row in each model, greater for what looks never seen.

    See Also
    --------
    u_lira : Gaussians of each row's margins.
    rmia : Ratios to the margins of other rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import u_lira
    >>> member = np.arange(16)[:, None] % 2 == np.arange(30) % 2
    >>> attack = u_lira(np.random.default_rng(0).normal(size=(16, 30)), member)
    >>> attack.signal.shape
    (16, 30)
    >>> attack.tpr < 0.1
    True
    """

    accuracy: float
    auc: float
    tpr: float
    signal: NDArray[np.float64] = field(repr=False)


def u_lira(margins: ArrayLike, member: ArrayLike, *, max_fpr: float = 0.01) -> PerExampleAttack:
    """Likelihood-ratio attack on unlearning, with an attacker of its own for each row.

    For each row, one Gaussian is fitted to its margins in the models that were trained on it and
    unlearned it, and another to those in the models that never saw it. Another model is then judged
    by which of the two its margin is likelier under. Ideal is an attack at chance
    level; both what is still remembered and what overshoots is found, row by row.

    Which question is asked depends on the models:

    - *unlearned or retrained*, the question of [1]_ and the stricter one, with
      ``u_lira(*margins.unlearned_or_retrained(forget))``, the margins being those of
      `klom_margins`. It finds whatever unlearning leaves behind, on any row;
    - *unlearned or never seen*, among models that have all unlearned something, with
      ``u_lira(shadow.margins, shadow.member)``, those of `shadow_margins`. It finds what tells one
      row's owner from another's.

    Models are judged two at a time, the first and the second, the third and the fourth and so on,
    by Gaussians fitted to all others.

    Parameters
    ----------
    margins : array-like of shape (n_models, n_rows)
        Margin of each row in each model *after* unlearning; see `attack_signal`, signal "logit",
        of which it is the negative.
    member : array-like of bool of shape (n_models, n_rows)
        True where the model was trained on the row and has unlearned it, False where it never saw
        it.
    max_fpr : float, default=0.01
        Greatest false positive rate of the TPR.

    Returns
    -------
    attack : PerExampleAttack
        With attributes `accuracy`, `auc` and `tpr`, over all models and rows, and `signal` of shape
        (n_models, n_rows), the log-likelihood under "never saw it" less that under "unlearned it".
        ``((attack.signal < 0) == member).mean(axis=0)`` is the accuracy on each row.

    Raises
    ------
    ValueError
        If the arrays do not fit, hold NaN or infinity, `member` is not boolean, or when two
        models are held out a row is left with fewer than two of a kind.

    See Also
    --------
    skunlearn.klom_margins : Trains, unlearns and retrains the models of the first question.
    skunlearn.shadow_margins : Trains and unlearns those of the second.
    rmia : An attack that needs fewer of them.

    Notes
    -----
    With fewer than 64 models, the variances are shared by all rows [2]_.

    Judge models in pairs of which one has unlearned each row and the other has never seen it, as
    `shadow_margins` makes them. Otherwise the two Gaussians are not fitted to equally many
    models, and the attack on models that remember nothing is off 0.5, below it where one model is
    held out alone.

    Rows and models repeat in the pooled numbers, so they are less certain than as many
    independent ones would be.

    References
    ----------
    .. [1] J. Hayes et al., "Inexact Unlearning Needs More Careful Evaluations to Avoid a False
       Sense of Privacy", arXiv 2403.01218.
    .. [2] N. Carlini et al., "Membership Inference Attacks From First Principles",
       arXiv 2112.03570.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import u_lira
    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(16)[:, None] % 2 == np.arange(30) % 2
    >>> forgotten = rng.normal(size=(16, 30))
    >>> 0.4 < u_lira(forgotten, member).accuracy < 0.6
    True
    >>> u_lira(forgotten + 3 * member, member).accuracy > 0.8
    True
    """
    margins, member = _check_models(margins, member, 2)
    check_number("max_fpr", max_fpr, 0, 1)

    def log_density(held, others, of_kind):
        n = of_kind.sum(axis=0)
        mean = np.where(of_kind, others, 0).sum(axis=0) / n
        squares = np.where(of_kind, (others - mean) ** 2, 0).sum(axis=0)
        if len(margins) < _ENOUGH_FOR_A_VARIANCE:
            variance = squares.sum() / (n - 1).sum()
        else:
            variance = squares / (n - 1)
        # Margins at the edge of the precision may all be equal.
        return norm.logpdf(held, mean, np.sqrt(np.maximum(variance, 1e-30)))

    signal = np.empty_like(margins)
    for pair, others in _pairs(len(margins)):
        held, rest, known = margins[pair], margins[others], member[others]
        signal[pair] = log_density(held, rest, ~known) - log_density(held, rest, known)
    return _judge(signal, member, signal < 0, max_fpr)


def rmia(
    margins: ArrayLike,
    member: ArrayLike,
    margins_population: ArrayLike,
    *,
    gamma: float = 2.0,
    max_fpr: float = 0.01,
) -> PerExampleAttack:
    """Robust membership inference on unlearning: each row against rows of the population.

    A row x is taken for one that the model has been trained on the more, the more population rows z
    there are with ``p(x | model) / p(x) >= gamma * p(z | model) / p(z)``, where p is the
    probability of the true class. This is the online form: ``p(x)`` is the mean over reference
    models, half of the weight with those that have unlearned the row and half with those that
    never saw it; ``p(z)`` is the mean over all of them, which never saw z.

    Each model is the target once. All others are its references but for its partner: the first and
    the second model, the third and the fourth and so on are partners.

    Parameters
    ----------
    margins : array-like of shape (n_models, n_rows)
        Margin of each row in each model *after* unlearning; see `attack_signal`, signal "logit",
        of which it is the negative.
    member : array-like of bool of shape (n_models, n_rows)
        True where the model was trained on the row and has unlearned it, False where it never saw
        it.
    margins_population : array-like of shape (n_models, n_population)
        Margins of other rows of the same kind, on which no model was ever trained.
    gamma : float, default=2
        How much more likely the model must have made x than z for x to dominate it; 2 in the paper.
        At least 1.
    max_fpr : float, default=0.01
        Greatest false positive rate of the TPR.

    Returns
    -------
    attack : PerExampleAttack
        With attributes `accuracy`, `auc` and `tpr`, over all models and rows, and `signal` of
        shape (n_models, n_rows), the share of population rows that the row does not dominate, from
        0 to 1. For the accuracy, the threshold that did best on the other models, partners left
        out, is used.

    Raises
    ------
    ValueError
        If the arrays do not fit, hold NaN or infinity, `member` is not boolean, or a row is left
        with no reference model of a kind.

    See Also
    --------
    skunlearn.shadow_margins : Trains and unlearns the models.
    u_lira : An attack that also finds overshoot; better where there are many models.

    Notes
    -----
    It asks whether the model makes a row more likely than others do. Rows that overshoot are less
    likely, and lead to an AUC below 0.5.

    The probability of the true class is ``1 / (1 + exp(-margin))``, with margins clipped to
    [-100, 100]. For rows with several labels each, whose margins are means over labels, it stands
    in for that of a typical label.

    References
    ----------
    .. [1] S. Zarifzadeh, P. Liu, R. Shokri, "Low-Cost High-Power Membership Inference Attacks",
       arXiv 2312.03262.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import rmia
    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(8)[:, None] % 2 == np.arange(50) % 2
    >>> forgotten, population = rng.normal(size=(8, 50)), rng.normal(size=(8, 100))
    >>> 0.4 < rmia(forgotten, member, population).auc < 0.6
    True
    >>> rmia(forgotten + 3 * member, member, population).auc > 0.8
    True
    """
    margins, member = _check_models(margins, member, 1)
    population = _check_margins("margins_population", margins_population)
    if len(population) != len(margins):
        raise ValueError(
            f"margins_population must be of the {len(margins)} models of margins; got "
            f"{len(population)}."
        )
    check_number("gamma", gamma, 1)
    check_number("max_fpr", max_fpr, 0, 1)
    p, p_population = (expit(np.clip(array, -100, 100)) for array in (margins, population))
    signal = np.empty_like(margins)
    for pair, others in _pairs(len(margins)):
        kinds = (member[others], ~member[others])
        p_x = sum(np.where(kind, p[others], 0).sum(axis=0) / kind.sum(axis=0) for kind in kinds) / 2
        ratios = p[pair] / p_x
        ratios_population = p_population[pair] / p_population[others].mean(axis=0)
        for model, x, z in zip(range(len(margins))[pair], ratios, ratios_population):
            signal[model] = 1 - np.searchsorted(np.sort(gamma * z), x, "right") / len(z)
    guess = np.empty_like(member)
    for pair, others in _pairs(len(margins)):
        fpr, tpr, thresholds = roc_curve(member[others].ravel(), -signal[others].ravel())
        guess[pair] = -signal[pair] >= thresholds[np.argmax(tpr - fpr)]
    return _judge(signal, member, guess, max_fpr)


def klom(
    margins_unlearned: ArrayLike,
    margins_retrained: ArrayLike,
    *,
    n_bins: int = 20,
    eps: float = 1e-5,
) -> NDArray[np.float64]:
    """KL divergence of margins: how far unlearned models are from retrained ones, for each row.

    Each value ranges from 0 to ``-log(eps)`` (11.5 by default), or a little more; smaller is
    better, 0 is ideal. It is the divergence *from* the retrained *to* the unlearned models,
    ``KL(unlearned || retrained)``: what unlearned models do and retrained ones never would is what
    counts.

    Parameters
    ----------
    margins_unlearned : array-like of shape (n_models, n_rows)
        Margin of each row in models trained on all rows and unlearned, from different seeds; see
        `attack_signal`, signal "logit", of which it is the negative.
    margins_retrained : array-like of shape (n_retrained, n_rows)
        Margin of each row in models trained on the retained rows alone, from different seeds.
    n_bins : int, default=20
        Bins of equal width from the least to the greatest margin of a row, both kinds together;
        20 in the paper. Fewer for fewer models.
    eps : float, default=1e-5
        Probability of a bin that no retrained model falls into, if an unlearned one does; what
        then sums up to more than 1 is scaled back.

    Returns
    -------
    divergence : ndarray of float64 of shape (n_rows,)
        Read it at percentiles over forget rows, retained rows and held-out rows apart, as by
        ``np.percentile(divergence[forget], [50, 95])``.

    Raises
    ------
    ValueError
        If the arrays do not fit or hold NaN or infinity, or a number is out of range.

    See Also
    --------
    skunlearn.klom_margins : Trains, unlearns and retrains the models.

    Notes
    -----
    Margins are first clipped to [-100, 100].

    It misleads with few models, for two sets of retrained ones are then far apart as well: with
    20, 50 and 100 models of each kind by 3.0, 0.9 and 0.3 on average, and with 5 bins by 0.4, 0.1
    and 0.05. Put the value beside that of two halves of the retrained models.

    References
    ----------
    .. [1] K. Georgiev et al., "Attribute-to-Delete: Machine Unlearning via Datamodel Matching",
       arXiv 2410.23232.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import klom
    >>> klom([[0.0, 9.0], [1.0, 9.0]], [[0.0, 0.0], [1.0, 1.0]], n_bins=2)
    array([ 0. , 11.5...])

    The second row's bins have nothing in common. How much that counts is up to `eps`:

    >>> klom([[0.0, 9.0], [1.0, 9.0]], [[0.0, 0.0], [1.0, 1.0]], n_bins=2, eps=0.01)
    array([0. , 4.6...])
    """
    arrays = [np.clip(each, -100, 100) for each in _check_two(margins_unlearned, margins_retrained)]
    check_number("n_bins", n_bins, 1, integer=True)
    check_number("eps", eps, 0, 1, low_open=True)

    def probabilities(*columns):
        edges = np.histogram_bin_edges(np.concatenate(columns), n_bins)
        return [np.histogram(column, edges)[0] / len(column) for column in columns]

    rows = [probabilities(*columns) for columns in zip(*(array.T for array in arrays))]
    p, q = np.moveaxis(np.array(rows), 1, 0)
    return entropy(p, np.where(p > 0, np.maximum(q, eps), q), axis=1)


def _check_margins(name, value):
    what = "numbers of shape (n_models, n_rows)"
    array = check_values(name, value, (2,), what)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be {what}; got {array.dtype}.")
    return array.astype(float)


def _check_two(first, second, first_name="margins_unlearned", second_name="margins_retrained"):
    """Margins of the same rows in two kinds of models."""
    arrays = _check_margins(first_name, first), _check_margins(second_name, second)
    if arrays[0].shape[1] != arrays[1].shape[1]:
        raise ValueError(
            f"{second_name} must have the {arrays[0].shape[1]} rows of {first_name}; got "
            f"{arrays[1].shape[1]}."
        )
    return arrays


def _check_models(margins, member, n_left):
    """Return margins and memberships, with `n_left` of each kind to fit on whoever is judged."""
    margins = _check_margins("margins", margins)
    member = np.asarray(member)
    if member.dtype != bool or member.shape != margins.shape:
        raise ValueError(
            f"member must be a boolean array of the shape of margins, {margins.shape}; got an "
            f"array of {member.dtype}, shape {member.shape}."
        )
    for pair, others in _pairs(len(margins)):
        counts = np.minimum(member[others].sum(axis=0), (~member[others]).sum(axis=0))
        if counts.min() < n_left:
            raise ValueError(
                f"member must leave each row {n_left} models that have unlearned it and {n_left} "
                f"that never saw it when models {list(range(len(margins))[pair])} are judged; row "
                f"{counts.argmin()} has {counts.min()} of a kind. Use more models."
            )
    return margins, member


def _pairs(n_models):
    """The models to judge, two at a time, and all others for each."""
    for first in range(0, n_models, 2):
        yield slice(first, first + 2), np.r_[:first, first + 2 : n_models]


def _judge(signal, member, guess, max_fpr):
    sides = signal[member], signal[~member]
    return PerExampleAttack(
        accuracy=float(balanced_accuracy_score(member.ravel(), guess.ravel())),
        auc=membership_inference_auc(*sides),
        tpr=membership_inference_tpr(*sides, max_fpr=max_fpr),
        signal=signal,
    )
