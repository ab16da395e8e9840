"""Unlearning by training on the retained rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from scipy.stats import loguniform

from skunlearn._engine.validation import check_number
from skunlearn.methods.base import NetworkUnlearner

if TYPE_CHECKING:
    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState


class FineTune(NetworkUnlearner):
    """Fine-tune on the retained rows.

    The network goes on training without the rows to forget, and forgets what no longer occurs.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    max_epochs : int, default=5
        Passes over the retained rows.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own. A small one forgets nothing: search up to the original's and beyond.
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
        The history of the last unlearning run.

    See Also
    --------
    Retrain : Starts from fresh weights instead.

    Notes
    -----
    Its defaults hardly lower the forgetting score in ``examples/plot_forget_digits.py``: a
    network that was trained to the end fits the retained rows already, so that there is no gradient
    left to move it at the learning rate it ended with.

    **Published settings.** None: it is a baseline, which each publication tunes for its networks.

    References
    ----------
    .. [1] Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks.
       arXiv:1911.04933, where it is a baseline.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.1, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = FineTune(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain"})

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int = 5,
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

    def _unlearn(self, request):
        net = self._copy(request.original)
        return self._train(net, request, (request.retain, None, net.max_epochs))


class L1Sparse(NetworkUnlearner):
    """Fine-tune on the retained rows under an L1 penalty that fades.

    Minimises ``CE(retain) + weight_t * ||parameters||_1``, where ``weight_t`` falls linearly from
    `l1_weight` at the first batch to 0 at the last. The penalty removes the weights that the
    retained rows do not hold in place; what is left of the run repairs the rest.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    l1_weight : float, default=0.015
        Weight of the sum of the absolute values of all parameters at the start, the paper's gamma.
        0 is :class:`FineTune`.
    max_epochs : int, default=5
        Passes over the retained rows.
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
        The history of the last unlearning run.

    See Also
    --------
    FineTune : The same without a penalty.

    Notes
    -----
    Each step moves every weight by the learning rate times ``weight_t``, however large the network
    is. The default did best on a small network whose weights are of the order of 0.1; the paper's
    5e-4 is meant for large networks with small weights and long runs, and on small ones does no
    more than :class:`FineTune`. Search over orders of magnitude.

    The method fails where `l1_weight` is too small to move anything, and where it is so large that
    the accuracy on retained rows does not recover. Held-out rows are not used.

    **Published settings.** ``l1_weight=5e-4, lr=0.01, max_epochs=10``. There the penalty falls
    after each epoch, here after each batch.

    References
    ----------
    .. [1] Model Sparsity Can Simplify Machine Unlearning. arXiv:2304.04934.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import L1Sparse
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
    >>> unlearner = L1Sparse(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.predict(X[:3]).tolist()
    ['yes', 'no', 'no']
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain"})

    def __init__(
        self,
        estimator: Network,
        *,
        l1_weight: float = 0.015,
        max_epochs: int = 5,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.l1_weight = l1_weight
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size

    def _check_hyperparameters(self):
        check_number("l1_weight", self.l1_weight, 0)

    def _search_space(self, common):
        return {"l1_weight": loguniform(1e-5, 0.1)}

    def _unlearn(self, request):
        def step(net, X, y, progress):
            y_pred = net.infer(X)
            norm = sum(p.abs().sum() for p in net.module_.parameters())
            loss = net.get_loss(y_pred, y, X=X, training=True)
            return loss + self.l1_weight * (1 - progress) * norm, y_pred

        net = self._copy(request.original)
        return self._train(net, request, (request.retain, step, net.max_epochs))
