"""Exact unlearning: networks that never saw the rows to forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from scipy.stats import loguniform

from skunlearn.methods.base import NetworkUnlearner

if TYPE_CHECKING:
    from skunlearn._engine.typing import Memory, Network, RandomState


class Retrain(NetworkUnlearner):
    """Train again from fresh weights, on the retained rows alone.

    The reference that every other method is compared with. With `max_epochs` set it is the shorter
    training from scratch, the baseline that approximate unlearning has to beat at equal cost.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network. Its module must be given as a class (or a function), never as an instance,
        whose weights could not be made fresh.
    max_epochs : int, default=None
        Epochs of the retraining; None for as many as the original's.
    lr : float, default=None
        Learning rate of the retraining; None for the original's.
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
        The history of the last retraining.

    See Also
    --------
    FineTune : Trains the original further instead of starting again.

    Notes
    -----
    ``fit(X, y, forget=mask)`` does not train the original, which retraining has no use for.

    **Published settings.** Those of the original's training, which is what None stands for.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import Retrain
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.1, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> forget = np.arange(200) < 20
    >>> unlearner = Retrain(net, random_state=0).fit(X, y, forget=forget)
    >>> unlearner.score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"retain"})

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int | None = None,
        lr: float | None = None,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr

    def _search_space(self, common):
        low, high = common["lr"].support()
        return {"lr": loguniform(low * 3, high)}  # a shorter training wants larger steps

    def _unlearn(self, request):
        return self._train_from_scratch(request.retain)
