"""Unlearning by climbing the loss on the rows to forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from scipy.stats import loguniform
from skorch.utils import to_device

from skunlearn._engine.run import cycle
from skunlearn._engine.validation import check_number
from skunlearn.methods.base import NetworkUnlearner

if TYPE_CHECKING:
    from typing import Literal

    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState

_CHECK_EVERY = 8  # batches between two measurements of the held-out loss

_CHECK_ROWS = 128  # held-out rows that a measurement reads


class NegGrad(NetworkUnlearner):
    """Gradient ascent on the loss of the rows to forget.

    Retained rows are not used, so nothing holds back what the network knows of them. Run too long
    it diverges: the loss on the forget rows then lies far above that on unseen rows, which gives
    them away as surely as one far below.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    max_epochs : int, default=1
        Passes over the rows to forget.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows in a batch; None for the network's own.
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
        The history of the last unlearning run; its ``train_loss`` is the negative loss.

    See Also
    --------
    AdvancedNegGrad : Descends on retained rows at the same time.

    Notes
    -----
    **Published settings.** None: it is a baseline, which each publication tunes for its networks.

    References
    ----------
    .. [1] Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks.
       arXiv:1911.04933.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import NegGrad
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.1, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = NegGrad(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "forget", "forget_labels"})
    _remedy: ClassVar[str] = "Use a smaller lr or fewer epochs."

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int = 1,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size

    def _search_space(self, common):
        low, high = common["lr"].support()
        return {"lr": loguniform(low / 100, high / 10)}  # nothing holds the ascent back

    def _unlearn(self, request):
        def step(net, X, y, progress):
            y_pred = net.infer(X)
            return -net.get_loss(y_pred, y, X=X, training=True), y_pred

        net = self._copy(request.original)
        return self._train(net, request, (request.forget, step, net.max_epochs))


class AdvancedNegGrad(NetworkUnlearner):
    """Gradient ascent on the rows to forget, together with descent on the retained ones.

    Each batch of retained rows is paired with a batch of forget rows, and an optimiser step lowers
    ``CE(retain) - forget_weight * CE(forget)``. An epoch is a pass over the retained rows, in which
    the rows to forget come round as often as it takes.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    forget_weight : float, default=0.3
        Weight of the ascent, the alpha of [2]_, where it is 1; 0.05 / 0.95 is NegGrad+ of [1]_.
    loss_cap : None or "val", default=None
        ``"val"`` stops the ascent for a batch whose loss has reached the mean loss on held-out
        rows, ``forget_weight * max(0, CE(val) - CE(forget))`` taking the place of the second term;
        needs `X_val`. None sets no limit.
    max_epochs : int, default=3
        Passes over the retained rows.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows of each kind in a batch; None for the network's own.
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
        The history of the last unlearning run. Its batches hold
        ``val_loss`` where the cap was measured.

    Raises
    ------
    ValueError
        By `fit` and `unlearn`, if ``loss_cap="val"`` and there is no `X_val`.

    See Also
    --------
    NegGrad : Ascent alone.

    Notes
    -----
    Without a cap the run diverges if it is long or `forget_weight` large: the loss on the forget
    rows rises far above that on unseen rows, which gives them away as surely as one far below, and
    utility falls. With one, `forget_weight` can be larger (0.5 to 1) and the run longer. The cap
    ends the climb but does not pull back a loss that one large step has carried beyond it. It is
    measured in evaluation mode on at most 128 held-out rows, every 8 batches, whatever their
    number.

    **Published settings.** The code of NegGrad+ [1]_ minimises ``(1 - w) * CE(retain) - w *
    CE(forget)`` with w = .05 in two of its notebooks and .0001 in five, at a learning rate of .01
    (once 1e-4), for 5 to 10 epochs. That is ``forget_weight=w / (1 - w)`` here, at ``1 - w`` times
    the learning rate and ``1 / (1 - w)`` times the weight decay. Buffers of batch normalisation
    still differ: there retained rows go forwards before forget rows, here after them. The rate is
    constant there; here it is with ``LRScheduler(torch.optim.lr_scheduler.ConstantLR, factor=1)``
    among the network's callbacks.

    References
    ----------
    .. [1] Towards Unbounded Machine Unlearning. arXiv:2302.09880.
    .. [2] Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial
       Recognition Systems. arXiv:2311.02240.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import AdvancedNegGrad
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network,
    ...     criterion=nn.CrossEntropyLoss,
    ...     train_split=None,
    ...     verbose=0,
    ...     lr=0.5,
    ...     max_epochs=30,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = AdvancedNegGrad(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.predict(X[:3]).tolist()
    ['yes', 'no', 'no']
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain", "forget", "forget_labels"})
    _remedy: ClassVar[str] = "Use a smaller forget_weight, or loss_cap='val' with X_val."

    def __init__(
        self,
        estimator: Network,
        *,
        forget_weight: float = 0.3,
        loss_cap: Literal["val"] | None = None,
        max_epochs: int = 3,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.forget_weight = forget_weight
        self.loss_cap = loss_cap
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size

    def _check_hyperparameters(self):
        check_number("forget_weight", self.forget_weight, 0)
        if self.loss_cap not in (None, "val"):
            raise ValueError(f"loss_cap must be None or 'val'; got {self.loss_cap!r}.")

    def _needs(self):
        return self.needs | {"val"} if self.loss_cap else self.needs

    def _search_space(self, common):
        return {"forget_weight": loguniform(0.03, 1)}

    def _unlearn(self, request):
        net = self._copy(request.original)
        forget_batches = cycle(net, request.forget, whole=True)
        cap = None if self.loss_cap is None else _LossCap(request.val, net)

        def step(net, X, y, progress):
            if cap is not None:
                cap.update(net)
            X_forget, y_forget = to_device(next(forget_batches), net.device)
            y_pred = net.infer(X_forget)
            ascent = net.get_loss(y_pred, y_forget, X=X_forget, training=True)
            if cap is not None:
                ascent = ascent.clamp(max=cap.value)
            y_pred = net.infer(X)
            return net.get_loss(y_pred, y, X=X, training=True) - self.forget_weight * ascent, y_pred

        return self._train(net, request, (request.retain, step, net.max_epochs))


class _LossCap:
    """The loss of a network on a few held-out rows, measured every few batches."""

    def __init__(self, val, net):
        some = torch.randperm(len(val))[:_CHECK_ROWS].numpy()
        self.X, self.y = to_device(val.batch(some), net.device)
        self.n_batches = 0

    def update(self, net):
        if self.n_batches % _CHECK_EVERY == 0:
            net._set_training(False)
            with torch.no_grad():
                y_pred = net.infer(self.X)
                self.value = net.get_loss(y_pred, self.y, X=self.X).item()
            net.history.record_batch("val_loss", self.value)
            net._set_training(True)
        self.n_batches += 1
