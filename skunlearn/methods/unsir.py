"""Unlearning by training on noise that stands for the classes to forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from scipy.stats import loguniform
from skorch.dataset import Dataset

from skunlearn._engine.hooks import frozen_parameters
from skunlearn._engine.rows import JoinedRows, Rows, check_batch
from skunlearn._engine.validation import check_number
from skunlearn.methods.base import NetworkUnlearner

if TYPE_CHECKING:
    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState

# The paper's settings of the noise's own training.
_NOISE_LR = 0.1
_NOISE_PENALTY = 0.1


class UNSIR(NetworkUnlearner):
    """Impair the network by training on noise that has a high loss, then repair it.

    1. For each class among the forget rows, learn a batch of noise rows ``n``: by Adam, from
       standard normal noise, minimise ``-loss(n, class) + 0.1 * ||n||**2``, averaged over the
       batch.
    2. Impair: one epoch on the retained rows and the noise rows, labelled with their classes.
    3. Repair: the remaining epochs on the retained rows alone.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn. Its input must be one floating-point array.
    max_epochs : int, default=3
        Passes over the retained rows: the first impairs, the others repair.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows in a batch; None for the network's own.
    noise_rows : int, default=32
        Noise rows learnt for each class among the forget rows. All are held in memory.
    noise_ratio : float, default=0.05
        Noise rows in the impairing epoch for each retained row, drawn with replacement from those
        learnt. A large one destroys more than an epoch or two can repair.
    noise_steps : int, default=40
        Steps of Adam on the noise.
    memory : str, joblib.Memory or None, default=None
        Where to cache trained originals; see :class:`~skunlearn.BaseUnlearner`.
    random_state : int, RandomState or None, default=None
        Seeds weights, batches and noise.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The fitted network.
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    unlearning_history_ : skorch.History
        The history of the last unlearning run; the ``train_loss`` of its first epoch includes the
        noise.

    See Also
    --------
    FineTune : Repairs without having impaired.

    Notes
    -----
    It reads nothing of the forget rows but their labels, and was made to forget whole classes. Of
    rows that share their classes with retained ones it removes what the impairing epoch destroys
    and the repair does not bring back, at the expense of accuracy on retained rows (with the
    defaults, from .99 to .81 on scikit-learn's digits with 20 % wrong labels; more epochs bring
    back more of both). Held-out rows are not used.

    **Published settings.** 256 noise rows, 40 steps on them, one epoch to impair with Adam at .02
    and one to repair at .01: ``noise_rows=256, noise_steps=40, max_epochs=2, lr=0.02,
    optimizer=torch.optim.Adam``, and an `LRScheduler` with ``"StepLR"`` that halves the rate after
    the first epoch among the network's callbacks. There noise is learnt in training mode, here in
    evaluation mode, and a few retained rows of each class are taken where this takes them all.

    References
    ----------
    .. [1] Fast Yet Effective Machine Unlearning. arXiv:2111.08947.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import UNSIR
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network,
    ...     criterion=nn.CrossEntropyLoss,
    ...     lr=0.5,
    ...     max_epochs=30,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = UNSIR(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.predict(X[:3]).tolist()
    ['yes', 'no', 'no']
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain", "forget_labels"})
    multilabel: ClassVar[bool] = False
    _usual_cost: ClassVar[float] = 0.4
    _remedy: ClassVar[str] = "Use a smaller noise_ratio, or more epochs to repair."

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int = 3,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        noise_rows: int = 32,
        noise_ratio: float = 0.05,
        noise_steps: int = 40,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.noise_rows = noise_rows
        self.noise_ratio = noise_ratio
        self.noise_steps = noise_steps

    def _check_hyperparameters(self):
        check_number("noise_rows", self.noise_rows, 1, integer=True)
        check_number("noise_ratio", self.noise_ratio, 0, low_open=True)
        check_number("noise_steps", self.noise_steps, 0, integer=True)

    def _search_space(self, common):
        return {"noise_ratio": loguniform(0.01, 0.5)}

    def _unlearn(self, request):
        net = self._copy(request.original)
        noise = self._learn_noise(net, request)
        n_drawn = max(1, round(self.noise_ratio * len(request.retain)))
        drawn = noise.take(torch.randint(len(noise), (n_drawn,)).numpy())
        # A data set of the user's own may yield NumPy rows, which do not batch with tensors.
        retain = request.retain.cast(noise.data.X.dtype)
        return self._train(
            net,
            request,
            (JoinedRows(retain, drawn), None, 1),
            (request.retain, None, net.max_epochs - 1),
        )

    def _learn_noise(self, net, request):
        """Noise rows of each class among the forget rows, as a data set of pairs."""
        n_rows = min(len(request.retain), self.noise_rows)  # which may be padded to one length
        items = request.retain.__getitems__(range(n_rows))
        X, _ = request.retain.collate(items)
        if not (isinstance(X, torch.Tensor) and X.dtype.is_floating_point):
            raise ValueError(
                "UNSIR learns noise in the place of rows, which needs an input that is one "
                f"floating-point array; got {getattr(X, 'dtype', type(X).__name__)}. For other "
                "inputs, such as token ids, take a method that makes up no rows, such as FineTune."
            )
        check_batch("UNSIR", request.retain, items, X)
        device = net.device or "cpu"
        labels = request.forget.y.unique().repeat_interleave(self.noise_rows)
        noise = torch.randn(len(labels), *X.shape[1:], dtype=X.dtype, device=device)
        net._set_training(False)
        with frozen_parameters(net.module_):
            for n, y in zip(noise.split(self.noise_rows), labels.to(device).split(self.noise_rows)):
                adam = torch.optim.Adam([n.requires_grad_()], lr=_NOISE_LR)
                for _ in range(self.noise_steps):
                    adam.zero_grad()
                    penalty = _NOISE_PENALTY * n.flatten(1).square().sum(1).mean()
                    (penalty - net.get_loss(net.infer(n), y, X=n)).backward()
                    adam.step()
        return Rows(Dataset(noise.detach().cpu()), labels)
