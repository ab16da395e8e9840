"""How soon a network learns again what it has unlearned."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from skunlearn._engine.build import assemble, copy_parts, parts_of, settings_of_copy
from skunlearn._engine.predict import answers_of, predicted
from skunlearn._engine.random import draw_seed, preserve_rng_and_modes, restore_accelerator, seeded
from skunlearn._engine.rows import rows_for
from skunlearn._engine.run import TrainingRun
from skunlearn._engine.unwrap import innermost
from skunlearn._engine.validation import check_network_data, check_number, encode_labels, unwrapped
from skunlearn.base import BaseUnlearner
from skunlearn.methods.base import NetworkUnlearner
from skunlearn.metrics import sample_log_loss, utility_score

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike

    from skunlearn._engine.typing import RandomState, RowsLike

_SCORINGS = ("accuracy", "neg_log_loss")


def relearning_time(
    unlearner: BaseUnlearner,
    X: RowsLike,
    y: ArrayLike | None = None,
    *,
    target: float,
    scoring: Literal["accuracy", "neg_log_loss"] = "accuracy",
    max_epochs: int = 20,
    every: int | None = None,
    lr: float | None = None,
    random_state: RandomState = 0,
) -> float:
    """Count epochs on the forget rows until a network is as good on them as it once was.

    Ranges from 0 to `max_epochs`, or is infinite. Neither smaller nor greater is better: ideal is
    the time that a network retrained without the rows takes to learn them. A shorter time means
    that something of them is left; a much longer one, that the network has been spoilt for them,
    which tells on them too.

    Parameters
    ----------
    unlearner : BaseUnlearner
        A fitted unlearner that holds one network. A copy of it is trained: nothing of it changes.
    X : array-like of n_forget rows or torch.utils.data.Dataset
        The forget rows.
    y : array-like of shape (n_forget,) or (n_forget, n_labels), default=None
        Their labels; may be left out for a data set that yields pairs.
    target : float
        The score to reach on `X`, such as the original network's own, or a little less.
    scoring : {"accuracy", "neg_log_loss"}, default="accuracy"
        What is to reach `target`, greater being better: accuracy, from 0 to 1, or minus the mean
        cross-entropy, at most 0.
    max_epochs : int, default=20
        Passes over `X` after which to give up.
    every : int, default=None
        Batches between two measurements of the score, each of which costs a prediction for all of
        `X`. None measures after each epoch. It is always measured before the training and after it.
    lr : float, default=None
        Learning rate; None for the network's own. It stays constant.
    random_state : int, RandomState instance or None, default=0
        Seeds batches and whatever the network draws. An int gives the same time at each call.

    Returns
    -------
    epochs : float
        0 if the target is reached without training; a whole number unless `every` is given;
        ``inf`` if it is not reached within `max_epochs`.

    Raises
    ------
    NotFittedError
        If the unlearner is not fitted.
    ValueError
        If `unlearner` does not hold one skorch network, a parameter is out of range, `X` and `y`
        are not what the network was fitted on, or the training diverges.

    See Also
    --------
    skunlearn.metrics.forgetting_score : What an attacker sees without training anything.

    Notes
    -----
    The network is trained by skorch with its own criterion, optimiser and batch size, not the
    method's, so that the times of several unlearners can be compared; its callbacks, schedulers
    of the learning rate among them, are left out.

    The number misleads where the learning rate is so high that any network learns the rows in one
    epoch: lower `lr`, or set `every`. The score is not the same as privacy: a network that treats
    the rows conspicuously badly may take long to learn them again.

    Divided by the time of the retrained network it is the anamnesis index [1]_, whose target is an
    accuracy within a few per cent of the original's and which counts batches.

    References
    ----------
    .. [1] V. S. Chundawat, A. K. Tarun, M. Mandal, M. Kankanhalli, "Zero-Shot Machine Unlearning",
       arXiv 2201.05629.
    .. [2] A. K. Tarun, V. S. Chundawat, M. Mandal, M. Kankanhalli, "Fast Yet Effective Machine
       Unlearning", arXiv 2111.08947.
    .. [3] A. Golatkar, A. Achille, S. Soatto, "Eternal Sunshine of the Spotless Net: Selective
       Forgetting in Deep Networks", arXiv 1911.04933.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune, Retrain
    >>> from skunlearn.evaluation import relearning_time
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 64), nn.ReLU(), nn.Linear(64, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.2,
    ...     max_epochs=50, batch_size=10,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(100, 20)), rng.integers(2, size=100)
    >>> forget = np.arange(100) < 20
    >>> tuned = FineTune(net, max_epochs=1, random_state=0).fit(X, y, forget=forget)
    >>> retrained = Retrain(net, random_state=0).fit(X, y, forget=forget)
    >>> times = [
    ...     relearning_time(model, X[forget], y[forget], target=0.95, lr=0.05)
    ...     for model in (tuned, retrained)
    ... ]
    >>> times[0] < times[1]
    True
    """
    if scoring not in _SCORINGS:
        raise ValueError(f"scoring must be one of {_SCORINGS}; got {scoring!r}.")
    check_number("target", target, -np.inf, 1 if scoring == "accuracy" else 0)
    check_number("max_epochs", max_epochs, 1, integer=True)
    if every is not None:
        check_number("every", every, 1, integer=True)
    if lr is not None:
        check_number("lr", lr, 0, low_open=True)
    check_is_fitted(unlearner)
    if not isinstance(unlearner, NetworkUnlearner):
        why = "must be an unlearner of this package that holds one network, as its estimator_"
        way = ""
        if isinstance(unlearner, BaseUnlearner):
            way = (
                " A model of an ensemble relearns rows that others have seen: that says nothing of "
                "the ensemble."
            )
        elif hasattr(unlearner, "steps"):
            way = (
                " Pass the last step, and rows as the other steps transform them: "
                "relearning_time(pipeline[-1], pipeline[:-1].transform(X), y, ...)."
            )
        raise ValueError(f"unlearner {why}; got {type(unlearner).__name__}.{way}")
    net = unlearner.estimator_
    template = innermost(unlearner.estimator)
    several = get_tags(unlearner).classifier_tags.multi_label
    X, y = unwrapped(X), unwrapped(y)
    data, y = check_network_data(unlearner, template, several, X, y, "X", "y", False)
    rows = rows_for(template, net, data, encode_labels(y, unlearner.classes_))
    settings = settings_of_copy(template, net)
    if lr is not None:
        settings["lr"] = lr
    with seeded(draw_seed(random_state), template.device), restore_accelerator(template):
        parts = copy_parts(parts_of(net))
        learner = assemble(template, parts, len(unlearner.classes_), **settings)
        run = TrainingRun(learner, name="relearning")
        per_epoch = len(run.batches(rows))
        evaluator = _Evaluator(rows, target, scoring, every or per_epoch)
        learner.callbacks_ = [("evaluator", evaluator)]
        with contextlib.suppress(_Reached), run.training(rows):
            run.train(rows, None, max_epochs)
            evaluator.evaluate(learner)  # `every` need not divide the number of batches
            return float("inf")
    return evaluator.n_batches / per_epoch


class _Reached(Exception):
    """The target is reached, which is how a callback ends a training."""


class _Evaluator(Callback):
    """Score before the training and after every few batches of it."""

    def __init__(self, rows, target, scoring, every):
        self.rows = rows
        self.target = target
        self.scoring = scoring
        self.every = every
        self.n_batches = 0

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Score before any training."""
        self.evaluate(net)

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Score if it is time to."""
        self.n_batches += 1
        if self.n_batches % self.every == 0:
            self.evaluate(net)

    def evaluate(self, net):
        """End the training if the target is reached."""
        with preserve_rng_and_modes(net):  # or the times would depend on how often one scores
            proba, answers = answers_of(net, self.rows)
        if not np.isfinite(proba).all():
            raise ValueError(
                f"lr={net.lr} is too high: after {self.n_batches} batches the network's "
                "probabilities are not numbers any more. Use a smaller one."
            )
        y = self.rows.y.numpy()
        if self.scoring == "accuracy":
            score = utility_score(y, predicted(net, proba))
        else:
            score = -sample_log_loss(y, answers, labels=np.arange(proba.shape[1])).mean()
        if score >= self.target:
            raise _Reached
