"""Unlearning with teachers: networks whose outputs the unlearned one imitates or contradicts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.stats import loguniform
from skorch.utils import to_device
from torch.nn.functional import kl_div, log_softmax

from skunlearn._engine.build import parts_of
from skunlearn._engine.fresh import fresh_network, reinitialised
from skunlearn._engine.predict import logits, plain
from skunlearn._engine.random import preserve_rng_and_modes
from skunlearn._engine.rows import MarkedRows
from skunlearn._engine.run import Cost, RunCallback
from skunlearn._engine.validation import check_number
from skunlearn.methods.base import NetworkUnlearner

if TYPE_CHECKING:
    from typing import Any

    from skorch import NeuralNet
    from torch import Tensor

    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState


class BadTeacher(NetworkUnlearner):
    """Imitate the original on the retained rows and an untrained network on the rows to forget.

    Each batch is drawn from retained and forget rows together. Its loss is the mean divergence
    ``KL(teacher || network)`` of softened outputs, times `temperature` squared. The teacher of a
    row is the original network if the row is retained, and a randomly initialised one if it is to
    be forgotten. No label is read.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    max_epochs : int, default=5
        Passes over all rows.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows in a batch; None for the network's own.
    temperature : float, default=1.0
        What logits are divided by before the divergence is taken; from 0.01 to 100.
    memory : str, joblib.Memory or None, default=None
        Where to cache trained originals; see :class:`~skunlearn.BaseUnlearner`.
    random_state : int, RandomState or None, default=None
        Seeds weights, those of the untrained network included, and batches.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The fitted network.
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    unlearning_history_ : skorch.History
        The history of the last unlearning run; its ``train_loss`` is the divergence.

    Raises
    ------
    ValueError
        By `fit` and `unlearn`, if the network was built on a module instance in which some layer
        cannot be re-initialised by a ``reset_parameters()`` of its own.

    See Also
    --------
    SCRUB : Moves away from the original on the forget rows, towards nothing in particular.
    RandomLabel : Trains the forget rows on wrong labels.

    Notes
    -----
    The untrained network starts as the module's class or function does. Where that start holds
    given weights, such as those of a pretrained base under adapters, or is sure of the rows to
    forget (the mean entropy of its answers is below half of the greatest), its answer is the same
    for all classes instead.

    An untrained network is about equally unsure of every row, and that is where the method leads:
    the forget rows end with flat probabilities, which a retrained network would not give to those
    that look like retained ones. Run long or with a high learning rate, their losses lie closer
    together than those of unseen rows and give them away. Early in the run unseen rows lose
    accuracy along with the forget rows, which later epochs repair: one epoch is not enough.
    Held-out rows are not used.

    **Published settings.** One epoch of Adam at 1e-4 in batches of 256, on the forget rows and a
    random 30 % of the retained ones: ``max_epochs=1, optimizer=torch.optim.Adam, lr=1e-4,
    batch_size=256``, and `unlearn` is given those rows alone. The divergence is averaged there over
    rows and classes, and not multiplied by the square of `temperature`; with SGD that is ``lr /
    (n_classes * temperature**2)`` here, while to Adam the scale makes no difference.

    References
    ----------
    .. [1] Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks using an Incompetent
       Teacher. arXiv:2205.08096.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import BadTeacher
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.1, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = BadTeacher(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain", "forget"})
    multilabel: ClassVar[bool] = False

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int = 5,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        temperature: float = 1.0,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.temperature = temperature

    def _check_hyperparameters(self):
        check_temperature(self.temperature)

    def _search_space(self, common):
        return {"temperature": [1.0, 2.0, 4.0]}

    def _unlearn(self, request):
        net = self._copy(request.original)
        untrained = self._untrained(request)

        def step(net, X, y, progress):
            y_pred = net.infer(X)
            taught = teacher_logits(request.original, X)
            to_forget = rows.marks.bool().unsqueeze(1).to(taught.device)
            unsure = torch.zeros_like(taught) if untrained is None else teacher_logits(untrained, X)
            expected = torch.where(to_forget, unsure, taught)
            return divergence(expected, logits(net, y_pred), self.temperature), y_pred

        rows = MarkedRows(request.retain, request.forget)
        return self._train(net, request, (rows, step, net.max_epochs))

    def _untrained(self, request):
        """A network like the original with random weights, or None if it is sure of its answers."""
        template, n_classes = self._template, len(self.classes_)
        net = fresh_network(template, request.retain, n_classes, request.original)
        if net is None:
            with self._cost.switched(request.original, on=False):
                net = reinitialised(template, request.original, n_classes)
        else:
            with preserve_rng_and_modes(net):
                other = fresh_network(template, request.retain, n_classes)
            if _given(net, other):
                return None
        self._cost.watch(net)
        return net if _is_unsure(net, request.forget) else None


def _given(net, other):
    """Whether two fresh networks have weights in common: those are no random start."""
    pairs = zip(plain(net.module_).parameters(), plain(other.module_).parameters())
    return any(a.ndim > 1 and len(a.unique()) > 1 and torch.equal(a, b) for a, b in pairs)


def _is_unsure(net, rows):
    """Whether the mean entropy of a network's answers is at least half of the greatest."""
    X, _ = rows.batch(np.arange(min(len(rows), 256)))
    proba = teacher_logits(net, to_device(X, net.device)).double().softmax(dim=1)
    return bool(torch.special.entr(proba).sum(dim=1).mean() >= np.log(proba.shape[1]) / 2)


class SCRUB(NetworkUnlearner):
    """Move away from the original on the rows to forget, and stay near it on the retained rows.

    In each of the first `ascent_epochs` epochs a pass over the forget rows maximises
    ``KL(original || network)``. In every epoch a pass over the retained rows follows, which
    minimises ``ce_weight * CE + kl_weight * KL(original || network)``. The divergence is that of
    softened outputs, times `temperature` squared.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    max_epochs : int, default=7
        Passes over the retained rows. The history has an entry for each pass over forget rows, too.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows in a batch; None for the network's own.
    forget_batch_size : int, default=None
        Rows in a batch of forget rows; None for as many as in one of retained rows.
    ascent_epochs : int, default=5
        Epochs, from the first, in which a pass over the forget rows precedes that over the retained
        ones.
    kl_weight : float, default=0.5
        Weight of the divergence on retained rows, the paper's alpha.
    ce_weight : float, default=1.0
        Weight of the loss of the retained labels, the paper's gamma.
    temperature : float, default=4.0
        What logits are divided by before the divergence is taken; from 0.01 to 100.
    restore_best : bool, default=False
        Return to the epoch whose error on the forget rows was nearest to the error that the last
        one makes on held-out rows of the same classes, which are weighted to the classes' shares of
        the forget rows (the last such epoch, if there are several). Needs `X_val`. The weights of
        every epoch lie in a temporary folder during the run.
    memory : str, joblib.Memory or None, default=None
        Where to cache trained originals; see :class:`~skunlearn.BaseUnlearner`.
    random_state : int, RandomState or None, default=None
        Seeds weights and batches.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The fitted network.
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    unlearning_history_ : skorch.History
        The history of the last unlearning run; the ``train_loss`` of a pass over forget rows is
        the negative divergence. With `restore_best`, passes over retained rows hold
        ``forget_error``, and every entry whether it was the one ``restored``.

    Raises
    ------
    ValueError
        By `fit` and `unlearn`, if `restore_best` is True and there are no held-out rows of the
        classes of the forget rows.

    See Also
    --------
    BadTeacher : Leads the forget rows towards an untrained network.
    NegGrad : Climbs the loss on the forget rows, without a teacher.

    Notes
    -----
    The divergence that is maximised has no upper bound. With many `ascent_epochs` or a high
    learning rate the loss on the forget rows runs far above that on unseen rows, which gives them
    away; `restore_best` is the remedy, and without held-out rows there is none but fewer epochs of
    ascent. The divergence is also stationary where the network still equals the original. Only
    dropout and batch normalisation, which the original runs in evaluation mode, move a network from
    there: one without either forgets nothing in the first pass and needs more of them.

    **Published settings.** 3 to 10 epochs, of which 2, 3 or 5 with ascent; a `kl_weight` of .001 to
    .5, a `ce_weight` of .99 or 1, a `temperature` of 2 or 4; on large data SGD with momentum .9 and
    weight decay 5e-4 at a learning rate of 5e-4, on small data Adam with weight decay .1. Batches
    of forget and of retained rows have sizes of their own: 16 and 32, 32 and 128, or 512 and 128.
    For example ``max_epochs=3, ascent_epochs=2, kl_weight=0.001, ce_weight=0.99, temperature=4,
    lr=5e-4, batch_size=128, forget_batch_size=512``. The rate is constant with
    ``LRScheduler(torch.optim.lr_scheduler.ConstantLR, factor=1)`` among the network's callbacks; a
    schedule counts passes, of which an epoch with ascent has two.

    References
    ----------
    .. [1] Towards Unbounded Machine Unlearning. arXiv:2302.09880.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import SCRUB
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.1, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = SCRUB(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain", "forget"})
    multilabel: ClassVar[bool] = False
    _remedy: ClassVar[str] = "Use a smaller ascent_epochs, or restore_best=True with X_val."

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int = 7,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        forget_batch_size: int | None = None,
        ascent_epochs: int = 5,
        kl_weight: float = 0.5,
        ce_weight: float = 1.0,
        temperature: float = 4.0,
        restore_best: bool = False,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.forget_batch_size = forget_batch_size
        self.ascent_epochs = ascent_epochs
        self.kl_weight = kl_weight
        self.ce_weight = ce_weight
        self.temperature = temperature
        self.restore_best = restore_best

    def _check_hyperparameters(self):
        if self.forget_batch_size is not None:
            check_number("forget_batch_size", self.forget_batch_size, 1, integer=True)
        check_number("ascent_epochs", self.ascent_epochs, 0, integer=True)
        check_number("kl_weight", self.kl_weight, 0)
        check_number("ce_weight", self.ce_weight, 0)
        check_temperature(self.temperature)
        if not isinstance(self.restore_best, bool | np.bool_):
            raise ValueError(f"restore_best must be True or False; got {self.restore_best!r}.")

    def _needs(self):
        return self.needs | {"val"} if self.restore_best else self.needs

    def _search_space(self, common):
        return {
            "ascent_epochs": [1, 2, 3, 5],
            "kl_weight": loguniform(0.001, 1),
            "temperature": [1.0, 2.0, 4.0],
        }

    def _unlearn(self, request):
        def distance(net, X, y_pred):
            expected = teacher_logits(request.original, X)
            return divergence(expected, logits(net, y_pred), self.temperature)

        def diverge_step(net, X, y, progress):
            y_pred = net.infer(X)
            return -distance(net, X, y_pred), y_pred

        def distill_step(net, X, y, progress):
            y_pred = net.infer(X)
            loss = self.ce_weight * net.get_loss(y_pred, y, X=X, training=True)
            return loss + self.kl_weight * distance(net, X, y_pred), y_pred

        net = self._copy(request.original)
        phases = []
        for epoch in range(net.max_epochs):
            if epoch < self.ascent_epochs:
                phases.append((request.forget, diverge_step, 1))
            phases.append((request.retain, distill_step, 1))
        sizes = {"forget_batch_size": self.forget_batch_size}
        if not self.restore_best:
            return self._train(net, request, *phases, **sizes)
        with tempfile.TemporaryDirectory() as folder:
            restore = _RestoreBest(request, Path(folder), len(self.classes_), self._cost)
            return restore.apply(self._train(net, request, *phases, callbacks=[restore], **sizes))


class _RestoreBest(RunCallback):
    """Keep the weights of every epoch that ends on retained rows, and choose among them.

    Parameters
    ----------
    request : Request
        The rows.
    folder : pathlib.Path
        Where the weights are kept.
    n_classes : int
        The number of classes.
    cost : Cost
        Counts the rows that go through the network.
    """

    def __init__(self, request, folder, n_classes, cost=None):
        wanted, held_out = (
            np.bincount(rows.y.long().numpy(), minlength=n_classes)
            for rows in (request.forget, request.val)
        )
        share = wanted / np.maximum(held_out, 1)
        self.weights = share[request.val.y.long().numpy()]
        if not self.weights.any():
            raise ValueError(
                "restore_best=True needs held-out rows of the same classes as the rows to forget, "
                f"but none of the {len(request.val)} rows of X_val is; pass some, or set "
                "restore_best=False."
            )
        self.request = request
        self.folder = folder
        self.cost = Cost() if cost is None else cost

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        if dataset_train is self.request.retain:
            net.history.record("forget_error", self._error(net, self.request.forget))
            torch.save(_states(net), self.folder / str(len(net.history)))

    def apply(self, net):
        """Load the weights of the best epoch into the trained network."""
        target = self._error(net, self.request.val, self.weights)
        errors = [epoch.get("forget_error", np.inf) for epoch in net.history]
        # The last of equals has been repaired longest.
        best = len(errors) - 1 - int(np.argmin(np.abs(np.subtract(errors, target))[::-1]))
        for i, epoch in enumerate(net.history):
            epoch["restored"] = i == best
        states = torch.load(self.folder / str(best + 1), map_location=net.device)
        for state, part in zip(states, _parts(net)):
            part.load_state_dict(state)
        return net

    def _error(self, net, rows, weights=None):
        with self.cost.switched(net, on=True):
            wrong = net.predict_proba(rows).argmax(axis=1) != rows.y.numpy()
        return float(np.average(wrong, weights=weights))


def _parts(net):
    return [part for kind in parts_of(net).values() for part in kind.values()]


def _states(net):
    return [part.state_dict() for part in _parts(net)]


def teacher_logits(teacher: NeuralNet, X: Any) -> Tensor:
    """A teacher's logits for a batch, in evaluation mode and without gradient.

    Parameters
    ----------
    teacher : skorch.NeuralNet
        The network. It is left in evaluation mode.
    X : tensor, or what else its module takes
        A batch of inputs, of n rows.

    Returns
    -------
    logits : torch.Tensor of shape (n, n_classes)
        See `skunlearn._engine.predict.logits`.
    """
    teacher._set_training(False)
    with torch.no_grad():  # not evaluation_step, of which an Accelerator may leave out rows
        return logits(teacher, teacher.infer(X))


def check_temperature(temperature: float) -> None:
    """Raise a ValueError for a temperature at which a divergence in float32 is but round-off.

    Parameters
    ----------
    temperature : float
        What logits are divided by.
    """
    check_number("temperature", temperature, 0.01, 100)


def divergence(expected: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """KL(expected || scores) of softened logits, the mean over rows, times temperature squared.

    Parameters
    ----------
    expected, scores : torch.Tensor of shape (n, n_classes)
        Logits of the teacher and of the student.
    temperature : float
        What logits are divided by.

    Returns
    -------
    divergence : torch.Tensor of shape ()
        In nats.
    """
    return temperature**2 * kl_div(
        log_softmax(scores / temperature, dim=1),
        log_softmax(expected / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
