"""Unlearning by training the rows to forget on other labels than their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.stats import loguniform
from skorch.utils import to_device
from torch.nn.functional import cross_entropy
from torch.utils.data import StackDataset

from skunlearn._engine.hooks import frozen_parameters, value_range
from skunlearn._engine.predict import logits
from skunlearn._engine.rows import JoinedRows, Rows, check_batch
from skunlearn._engine.validation import check_number, warn
from skunlearn.methods.base import NetworkUnlearner

if TYPE_CHECKING:
    from skorch import NeuralNet
    from torch import Tensor

    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState

_SAMPLE = 256  # rows of each kind that the range of values is read from


class RandomLabel(NetworkUnlearner):
    """Train the rows to forget on wrong labels, together with the retained rows on their own.

    Each epoch draws for every forget row one of the labels that are not its own, all equally
    likely, and passes over retained and forget rows in common batches.

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
    memory : str, joblib.Memory or None, default=None
        Where to cache trained originals; see :class:`~skunlearn.BaseUnlearner`.
    random_state : int, RandomState or None, default=None
        Seeds weights, batches and labels.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The fitted network.
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    unlearning_history_ : skorch.History
        The history of the last unlearning run. A score with ``on_train=True`` is taken with the
        wrong labels.

    See Also
    --------
    AMUN : Trains on wrong labels where the network itself gives them.
    NegGrad : Climbs the loss of the true label.

    Notes
    -----
    Drawn once for the run, the wrong labels would be memorised in a few epochs; drawn in every
    epoch, they lead to probabilities spread over the wrong classes. With two classes there is only
    one wrong label, which is memorised all the same: unless there are few epochs, the loss on the
    forget rows then runs far above that on unseen rows. Unseen rows that look like the forget rows
    lose accuracy with them. Held-out rows are not used.

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
    >>> from skunlearn import RandomLabel
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.1, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = RandomLabel(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.score(X, y) > 0.8
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain", "forget", "forget_labels"})
    multilabel: ClassVar[bool] = False

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
        phases = []
        for _ in range(net.max_epochs):
            forget = request.forget.relabel(draw_wrong(request.forget.y, len(self.classes_)))
            phases.append((request.retain.join(forget), None, 1))
        return self._train(net, request, *phases)


class AMUN(NetworkUnlearner):
    """Adversarial Machine Unlearning: train on adversarial examples of the rows to forget.

    Trains on the nearest adversarial example of each row to forget, with the wrong label that the
    original network predicts for it, together with the retained rows, where there are any. The
    decision boundary then moves next to the forget rows and hardly elsewhere.

    Adversarial examples are sought in evaluation mode by projected gradient ascent on the
    cross-entropy, within an L2 ball around the row: steps of a tenth of its radius, until the
    prediction is wrong; after `perturb_steps` of them the radius doubles, up to the range of the
    data. A row that the original gets wrong already is its own example.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    max_epochs : int, default=10
        Passes over the retained rows and the adversarial examples.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows in a batch; None for the network's own.
    radius : float, default=0.05
        L2 radius that the search starts with. Lengths are in units of the range of values in the
        data, separately for each position on the second axis (channels of images, columns of
        tables), or on the last where rows are of different lengths. A smaller one finds nearer
        examples and takes longer.
    perturb_steps : int, default=50
        Steps at each radius.
    include_forget : bool, default=False
        Whether to train on the forget rows with their own labels, too, as the publication does.
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

    Raises
    ------
    ValueError
        By `fit` and `unlearn`, if the input is not one floating-point array, which could be
        perturbed, or if no forget row has an adversarial example.

    Warns
    -----
    UserWarning
        If some forget rows have no adversarial example within the range of the data; they are left
        out.

    See Also
    --------
    RandomLabel : Trains the forget rows themselves on wrong labels.

    Notes
    -----
    A small change to a small part of the input space: it spares the accuracy on retained rows, and
    forgets slowly. With few epochs, or a learning rate well below that of the original's training,
    the forget rows stay as well known as they were. With `include_forget` they are rehearsed at the
    same time, and on the small noisy data that the defaults were chosen on they were hardly
    forgotten. Without retained rows the network sees nothing but wrong labels: use an epoch or
    two. Held-out rows are not used.

    **Published settings.** ``radius=0.04, perturb_steps=50, max_epochs=10, include_forget=True``.

    References
    ----------
    .. [1] Not All Wrong is Bad: Using Adversarial Examples for Unlearning. arXiv:2503.00917.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import AMUN
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.1, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = AMUN(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "forget", "forget_labels"})
    multilabel: ClassVar[bool] = False

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int = 10,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        radius: float = 0.05,
        perturb_steps: int = 50,
        include_forget: bool = False,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.radius = radius
        self.perturb_steps = perturb_steps
        self.include_forget = include_forget

    def _check_hyperparameters(self):
        check_number("radius", self.radius, 0, low_open=True)
        check_number("perturb_steps", self.perturb_steps, 1, integer=True)
        if not isinstance(self.include_forget, bool | np.bool_):
            raise ValueError(f"include_forget must be True or False; got {self.include_forget!r}.")

    def _search_space(self, common):
        # The search for examples may take longer than the training: a wide ball is sooner done.
        return {
            "radius": loguniform(0.02, 2),
            "perturb_steps": [10, 50],
            "include_forget": [False, True],
        }

    def _unlearn(self, request):
        net = self._copy(request.original)
        X, y = self._find_adversarial(net, request)
        parts = [request.retain, request.forget] if self.include_forget else [request.retain]
        # A data set of the user's own may yield arrays, which do not go in a batch with tensors.
        adversarial = Rows(StackDataset(X, y), y, collate=request.forget.collate)
        rows = JoinedRows(*(rows.cast(X[0].dtype) for rows in parts), adversarial)
        return self._train(net, request, (rows, None, net.max_epochs))

    def _find_adversarial(self, net, request):
        """The nearest adversarial examples of the forget rows, and the labels predicted for them.

        Parameters
        ----------
        net : skorch.NeuralNet
            The network to be trained, which still has the original's weights.
        request : Request
            The rows.

        Returns
        -------
        X : list of torch.Tensor
            The examples, each of its row's own length.
        y : torch.Tensor of shape (n_found,)
            Wrong labels.
        """
        items = [
            item
            for rows in (request.forget, request.retain)
            if len(rows)
            for item in rows.__getitems__(torch.randperm(len(rows))[:_SAMPLE].numpy())
        ]
        collate = request.forget.collate
        sample = collate(items)[0]
        if not (isinstance(sample, torch.Tensor) and sample.dtype.is_floating_point):
            kind = getattr(sample, "dtype", type(sample).__name__)
            raise ValueError(
                "AMUN perturbs the input and needs one that is a single floating-point array; got "
                f"{kind}. RandomLabel works with any input."
            )
        check_batch("AMUN", request.forget, items, sample)
        low, high = value_range(lambda some: to_device(collate(some)[0], net.device), items)
        lengths = {tuple(np.shape(x)) for x, _ in items}
        if len(lengths) == 1:
            batches = net.get_iterator(request.forget, training=False)
        else:  # rows of one length together, so that none is padded
            batches = _of_one_length(request.forget, max(net.batch_size, 1))
        X, y = [], []
        for X_batch, y_batch in batches:
            X_batch, y_batch = to_device((X_batch, y_batch.long()), net.device)
            X_batch, label = nearest_adversarial(
                net, X_batch, y_batch, low, high, self.radius, self.perturb_steps
            )
            X += X_batch[label != y_batch].cpu()
            y += label[label != y_batch].cpu()
        if not len(X):
            raise ValueError(
                f"AMUN found no adversarial example of any of the {len(request.forget)} rows to "
                "forget: within the range of the data the network's prediction does not change. "
                "RandomLabel works without."
            )
        if len(X) < len(request.forget):
            warn(
                f"AMUN found no adversarial example of {len(request.forget) - len(X)} of the "
                f"{len(request.forget)} rows to forget within the range of the data, and leaves "
                "them out. Try more perturb_steps.",
            )
        return X, torch.stack(y).to(request.forget.y.dtype)


def _of_one_length(rows, batch_size):
    """Batches of rows whose inputs have the same shape."""
    groups = {}
    for i in range(len(rows)):
        groups.setdefault(tuple(np.shape(rows[i][0])), []).append(i)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield rows.batch(group[start : start + batch_size])


def draw_wrong(y: Tensor, n_classes: int) -> Tensor:
    """Draw for each encoded label another one, all others equally likely.

    Parameters
    ----------
    y : torch.Tensor of shape (n_rows,)
        Labels from 0 to n_classes - 1, of any type.
    n_classes : int
        At least 2.

    Returns
    -------
    wrong : torch.Tensor of shape (n_rows,)
        Labels of the same type.
    """
    return (y + torch.randint(1, n_classes, y.shape)) % n_classes


def nearest_adversarial(
    net: NeuralNet, X: Tensor, y: Tensor, low: Tensor, high: Tensor, radius: float, n_steps: int
) -> tuple[Tensor, Tensor]:
    """Search for the nearest inputs that a network does not give the label of.

    Parameters
    ----------
    net : skorch.NeuralNet
        The network; its modules are in evaluation mode afterwards.
    X : torch.Tensor of shape (n_rows, ...)
        The inputs to start from.
    y : torch.Tensor of int64 of shape (n_rows,)
        Their encoded labels.
    low, high : torch.Tensor that broadcasts against `X`
        Limits of the values. Their distance is the unit of length; an input that lies outside
        may stay where it is.
    radius : float
        Radius of the first L2 ball that is searched. It doubles until it spans the limits.
    n_steps : int
        Steps, of a tenth of the radius each, before it doubles.

    Returns
    -------
    X_far : torch.Tensor of shape (n_rows, ...)
        The nearest inputs found.
    label : torch.Tensor of int64 of shape (n_rows,)
        What the network predicts for them; `y` where nothing was found.
    """
    unit = torch.where(high > low, high - low, 1)
    low, high = torch.minimum(low, X), torch.maximum(high, X)
    X_far, label = X.clone(), y.clone()
    todo = torch.arange(len(X), device=X.device)

    def norm(value):
        length = torch.linalg.vector_norm(value.flatten(1), dim=1)
        length = length.clamp_min(torch.finfo(value.dtype).tiny)
        return length.reshape(-1, *[1] * (value.ndim - 1))

    span = X[0].numel() ** 0.5
    radius = min(radius, span)
    net.module_.eval()
    with frozen_parameters(net.module_):
        while radius < 2 * span:
            for _ in range(n_steps):
                x = X_far[todo].requires_grad_()
                scores = logits(net, net.infer(x))
                (gradient,) = torch.autograd.grad(
                    cross_entropy(scores, y[todo], reduction="sum"), x
                )
                label[todo] = scores.argmax(dim=1)
                right = label[todo] == y[todo]
                todo = todo[right]
                if not len(todo):
                    return X_far, label
                gradient = unit * gradient[right]
                delta = (X_far[todo] - X[todo]) / unit + radius / 10 * gradient / norm(gradient)
                delta = delta * (radius / norm(delta)).clamp_max(1)
                x = X[todo] + unit * delta
                X_far[todo] = torch.maximum(torch.minimum(x, high[todo]), low[todo])
            radius *= 2
    return X_far, label
