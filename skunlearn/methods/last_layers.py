"""Unlearning by training the last layers on the retained rows."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm

from skunlearn._engine.finish import drop_activations
from skunlearn._engine.fresh import check_no_adapter, fresh_network, reinitialise
from skunlearn._engine.hooks import frozen_parameters
from skunlearn._engine.predict import plain
from skunlearn._engine.validation import check_number
from skunlearn.methods.base import NetworkUnlearner

if TYPE_CHECKING:
    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState


class CFk(NetworkUnlearner):
    """Catastrophic forgetting of the last layers: fine-tune them, freeze everything else.

    Trains the last `k` layers on the retained rows. Layers before them keep the original's weights
    and batch-normalisation statistics, bit for bit.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    k : int or float, default=0.5
        How many layers from the output are trained: their number, or, as a float in (0, 1], a share
        of the layers, rounded up. A layer is a module that itself owns trainable parameters,
        wherever it is nested, in the order of `named_modules`.
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
    EUk : Starts those layers from fresh weights.
    FineTune : Trains all layers.

    Notes
    -----
    Convolutional, linear, recurrent, embedding and normalisation layers count as one each;
    :class:`torch.nn.MultiheadAttention` as two, its input and its output projection, and each
    adapter of LoRA as two. Weight and spectral normalisation belong to their layer. What the user
    has frozen does not count and stays frozen.

    The method fails where the frozen layers, or a training loss that is near 0 already, leave
    nothing to forget with: on a network that fits every retained row, it hardly lowers the
    forgetting score, and in some runs does not lower it at all, like :class:`FineTune` but cheaper.
    :class:`EUk` does. Held-out rows are not used.

    **Published settings.** The last 10 and 50 convolutional and linear layers of a ResNet-110; 30
    and 62 epochs in which the learning rate falls from .1 to .005, with warm restarts. Here
    normalisation layers count, one to each convolution: ``k=19`` and ``k=99``. Warm restarts are an
    `LRScheduler` with ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`` and
    ``eta_min=0.005`` among the network's callbacks, beside ``lr=0.1``.

    References
    ----------
    .. [1] Towards Adversarial Evaluations for Inexact Machine Unlearning. arXiv:2201.06640.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import CFk
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
    >>> unlearner = CFk(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.predict(X[:3]).tolist()
    ['yes', 'no', 'no']
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain"})

    def __init__(
        self,
        estimator: Network,
        *,
        k: float = 0.5,
        max_epochs: int = 5,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.k = k
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size

    def _check_hyperparameters(self):
        k = self.k
        if isinstance(k, numbers.Integral) and not isinstance(k, bool):
            check_number("k", k, 1, integer=True)
        elif not (isinstance(k, numbers.Real) and 0 < k <= 1) or isinstance(k, bool):
            raise ValueError(
                "k must be a number of layers, an integer of at least 1, or a share of them, a "
                f"float greater than 0 and at most 1; got {k!r}."
            )

    def _search_space(self, common):
        return {"k": [0.25, 0.5, 0.75]}

    def _unlearn(self, request):
        net = self._copy(request.original)
        return self._train_last_layers(net, request, last_layers(net.module_, self.k))

    def _train_last_layers(self, net, request, last):
        """Train the layers in `last` on the retained rows and nothing else."""
        layers = [layer for _, layer in last]
        others = [m for m in net.module_.modules() if m not in layers]
        trained = {p for layer in layers for p in layer.parameters(recurse=False)}
        frozen = [p for _, p in net.get_all_learnable_params() if p not in trained]
        norms = [m for m in others if _has_statistics(m)]

        def step(net, X, y, progress):
            for norm in norms:  # skorch has just put the whole module in training mode
                norm.eval()
            y_pred = net.infer(X)
            return net.get_loss(y_pred, y, X=X, training=True), y_pred

        with frozen_parameters(nn.ParameterList(frozen)):
            return self._train(net, request, (request.retain, step, net.max_epochs))


class EUk(CFk):
    """Exact unlearning of the last layers: re-initialise and train them, freeze everything else.

    Re-initialises the last `k` layers and trains them on the retained rows. These layers never saw
    the rows to forget. The layers before them keep the original's weights and batch-normalisation
    statistics, bit for bit, and so what they remember.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    k : int or float, default=0.5
        How many layers from the output are re-initialised: their number, or, as a float in (0, 1],
        a share of the layers, rounded up. A layer is a module that itself owns trainable
        parameters, wherever it is nested, in the order of `named_modules`.
    max_epochs : int, default=10
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

    Raises
    ------
    ValueError
        By `fit` and `unlearn`, if `k` is larger than the number of layers, or reaches one of a
        module instance that cannot be re-initialised.

    See Also
    --------
    CFk : Goes on training those layers instead.
    Retrain : Starts all layers from fresh weights.

    Notes
    -----
    Layers count as in :class:`CFk`. They start as they do in a network that the module's class or
    function makes: pretrained layers at their pretrained weights, adapters as adapters start. Where
    the network was built on a module instance, nothing tells how that started: its layers are
    re-initialised by their own ``reset_parameters()`` (or ``_reset_parameters()``), which torch's
    layers have, and what a module does to their weights afterwards is not repeated.

    The method fails where `k` is so small that the frozen layers still tell forget rows from unseen
    ones, or where so few epochs follow that the new layers underfit: the forgetting score is then
    low because nothing fits. Watch the accuracy on retained rows. Held-out rows are not used.

    **Published settings.** As for :class:`CFk`. The authors' code draws the re-initialised weights
    from Kaiming's normal distribution and leaves the normalisation layers among them as they are;
    here all layers start as the module starts them.

    References
    ----------
    .. [1] Towards Adversarial Evaluations for Inexact Machine Unlearning. arXiv:2201.06640.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import EUk
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
    >>> unlearner = EUk(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.predict(X[:3]).tolist()
    ['yes', 'no', 'no']
    """

    _usual_cost: ClassVar[float] = 0.4
    _remedy: ClassVar[str] = "Use more epochs or a smaller k."

    def __init__(
        self,
        estimator: Network,
        *,
        k: float = 0.5,
        max_epochs: int = 10,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            estimator,
            k=k,
            max_epochs=max_epochs,
            lr=lr,
            optimizer=optimizer,
            batch_size=batch_size,
            memory=memory,
            random_state=random_state,
        )

    def _unlearn(self, request):
        net = self._copy(request.original)
        last = last_layers(net.module_, self.k)
        n_classes = len(self.classes_)
        fresh = fresh_network(self._template, request.retain, n_classes, request.original)
        if fresh is None:
            drop_activations(net, request.retain)
        _start_last_layers(net, last, fresh)
        return self._train_last_layers(net, request, last)


def _is_trainable(layer):
    return any(p.requires_grad for p in layer.parameters(recurse=False))


def _has_statistics(module):
    """Whether a forward pass in training mode changes what a module computes."""
    hooks = module._forward_pre_hooks.values()  # of the old spectral_norm
    return isinstance(module, _NormBase | parametrize.ParametrizationList) or any(
        isinstance(hook, SpectralNorm) for hook in hooks
    )


def _is_layer(layer):
    """Whether a module counts: weights that are parametrized are those of the layer they are in."""
    if isinstance(layer, parametrize.ParametrizationList):
        return False
    parts = layer.parametrizations.values() if parametrize.is_parametrized(layer) else ()
    return any(_is_trainable(part) for part in (layer, *parts))


def _start_last_layers(net, last, fresh):
    """Give the last layers what they start with in a fresh network, where there is one.

    Parameters
    ----------
    net : skorch.NeuralNet
        The network to change.
    last : list of tuple (str, torch.nn.Module)
        Its last layers, as `last_layers` returns them.
    fresh : skorch.NeuralNet or None
        The fresh network; None re-initialises layer by layer.
    """
    starts = {} if fresh is None else dict(plain(fresh.module_).named_modules())
    # From the output, so that a module that also sets its children's weights has the last word.
    for name, layer in reversed(last):
        if _start_again(layer, starts.get(name)):
            continue
        if _is_trainable(layer):
            check_no_adapter(net.module_, name)
            reinitialise(name, layer)
        elif isinstance(layer, _NormBase):
            layer.reset_running_stats()
    net.initialize_optimizer()  # a layer may have made itself new parameters


@torch.no_grad()
def _start_again(layer, start):
    """Give a layer what it starts with in a fresh network; False if it is not the same there."""
    if start is None:
        return False
    own = {n: p for n, p in layer.named_parameters(recurse=False) if p.requires_grad}
    own |= dict(layer.named_buffers(recurse=False))
    theirs = dict(start.named_parameters(recurse=False)) | dict(start.named_buffers(recurse=False))
    if any(n not in theirs or theirs[n].shape != value.shape for n, value in own.items()):
        return False
    for n, value in own.items():
        value.copy_(theirs[n])
    return True


def last_layers(module: nn.Module, k: float) -> list[tuple[str, nn.Module]]:
    """The submodules from the `k`-th layer from the output on.

    Parameters
    ----------
    module : torch.nn.Module
        The network's module.
    k : int or float
        How many layers, or which share of them, as in `CFk`.

    Returns
    -------
    last : list of tuple (str, torch.nn.Module)
        Their names and themselves, in the order of `named_modules`.
    """
    named = list(module.named_modules())
    starts = [i for i, (_, layer) in enumerate(named) if _is_layer(layer)]
    n_layers = k if isinstance(k, numbers.Integral) else math.ceil(k * len(starts))
    if not 1 <= n_layers <= len(starts):
        raise ValueError(
            f"k must be at most {len(starts)}, the number of layers of {type(module).__name__} "
            f"that own trainable parameters; got {k!r}."
        )
    return named[starts[-n_layers] :]
