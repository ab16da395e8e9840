"""Unlearning by training on the retained rows."""

from typing import ClassVar

from .base import BaseUnlearner


class FineTune(BaseUnlearner):
    """Go on training on the retained rows, and let what is not rehearsed fade.

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
        Where to cache trained originals; see :class:`~skunlearn.base.BaseUnlearner`.
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
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = FineTune(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.predict(X[:3]).tolist()
    ['yes', 'no', 'yes']
    """

    needs: ClassVar[frozenset] = frozenset({"original", "retain"})

    def __init__(
        self,
        estimator,
        *,
        max_epochs=5,
        lr=None,
        optimizer=None,
        batch_size=None,
        memory=None,
        random_state=None,
    ):
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size

    def _unlearn(self, request):
        net = self._copy(request.original)
        return self._train(net, request, (request.retain, None, net.max_epochs))
