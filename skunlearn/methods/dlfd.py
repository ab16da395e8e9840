"""Distribution-Level Feature Distancing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.utils import check_random_state
from skorch.utils import to_device
from torch.utils.data import StackDataset

from skunlearn._engine.hooks import (
    Place,
    capture_output,
    check_alike,
    feature_layer,
    forward_features,
    frozen_parameters,
    value_range,
)
from skunlearn._engine.predict import row_losses
from skunlearn._engine.random import preserve_rng
from skunlearn._engine.rows import Rows
from skunlearn._engine.run import backward, cycle, renew_statistics
from skunlearn._engine.statistics import repeated_attack
from skunlearn._engine.validation import check_number, warn
from skunlearn.methods.base import NetworkUnlearner
from skunlearn.transport import METHODS, transport_distance

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from torch import Tensor

    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState

_SAMPLE = 256  # rows of each kind, at most, that are read before the run

_FEWEST = 20  # rows of each kind below which a forgetting score says nothing

# Batches between two measurements of the forgetting score, and rows of each kind that one reads.
# The released code attacks all rows after every batch, which takes longer than the training.
_CHECK_EVERY = 10
_CHECK_ROWS = 200


class DLFD(NetworkUnlearner):
    """Distribution-Level Feature Distancing: train on rows pushed away from the forget features.

    For each batch of retained rows, synthesises rows whose feature distribution is far, in
    optimal-transport distance, from that of a batch of forget rows, and trains on them:

    1. ``x* = x + delta``, where `perturb_steps` signed gradient steps on `delta` raise
       ``ot_weight * OT(features(x*), features(x_forget)) - lambda * CE(x*, y)``;
    2. one optimiser step on ``CE(x*, y) + clean_weight * CE(x, y)``.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    max_epochs : int, default=5
        Passes over the retained rows.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows of each kind in a batch; None for the network's own.
    perturb_steps : int, default=1
        Signed gradient steps a batch. 0 leaves the rows as they are.
    step_size : float, default=0.1
        Size of such a step, as a share of the range between the clip limits.
    perturb_at : str, default="input"
        Where the perturbation is added: to the input, or to the output of the submodule of this
        name, for inputs that cannot be perturbed, such as token ids.
    clip : "auto", None or tuple (low, high), default="auto"
        Limits of the perturbed values. ``"auto"`` takes the range of retained rows, separately for
        each position on the second axis (channels of images, columns of tables), or on the last
        where rows are of different lengths (sequences that are padded batch by batch). With None
        nothing is clipped and steps are in units of that same range.
    transport : {"sinkhorn", "exact", "sliced"} or callable, default="sinkhorn"
        See :func:`~skunlearn.transport.transport_distance`.
    reg : float, default=0.05
        Entropic regularisation of ``"sinkhorn"``, in units of the cost, which lies in [0, 2].
    ot_weight : float, default=1.0
        Weight of the transport distance. A negative weight moves towards the forget features.
    ce_weight_start, ce_weight_end : float, default=0.0 and 1.0
        Weight lambda of the retained labels' loss, at the first and at the last batch of the run;
        linear in between (classification-loss preservation).
    feature_layer : str, default="auto"
        Name of the submodule whose output is the features; ``"auto"`` takes the input of the linear
        layer that runs last.
    clean_weight : float, default=1.0
        Weight of the loss on the unperturbed batch. 0 is the published method.
    bn_batches : int, default=10
        Clean batches from which batch-normalisation statistics are re-estimated after the run. 0
        keeps those of the run, as published.
    forgetting_threshold : float, default=0.05
        While the forgetting score is below this, batches are trained on as they are (dynamic
        forgetting). Needs at least 20 rows to forget and as many held-out ones: with fewer, or
        without `X_val`, no batch is exempt. 0 turns it off.
    memory : str, joblib.Memory or None, default=None
        Where to cache trained originals; see :class:`~skunlearn.BaseUnlearner`.
    random_state : int, RandomState or None, default=None
        Seeds weights, batches and projections.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The fitted network.
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    unlearning_history_ : skorch.History
        The history of the last unlearning run. Its batches hold ``transport`` (the distance at the
        last perturbation step) and ``forgetting_score`` (as measured last, of at most 200 rows of
        each kind), where `X_val` was given.

    Warns
    -----
    UserWarning
        If forget and retained features cannot be told apart.

    See Also
    --------
    FineTune : The same without synthesised rows.
    Retrain : The exact alternative.
    skunlearn.callbacks.ForgettingMonitor : Watches the run by rows of the user's choice.

    Notes
    -----
    The clean term and the re-estimated statistics are this library's additions: without them the
    network is trained on nothing but rows off the data's distribution. The perturbation is computed
    in evaluation mode, which leaves batch-normalisation statistics alone.

    The defaults are those that did best on average over three data sets, two of them with long
    training as well, at the network's own learning rate (``benchmarks/study/defaults.py``). Five
    times that rate forgot more on all and cost two of the five .34 and .08 of their accuracy on
    retained rows: `lr` is what to search over first. With `perturb_steps` 0 the run is fine-tuning.

    **Published settings.** One epoch on the perturbed rows alone: ``max_epochs=1, clean_weight=0,
    bn_batches=0, clip=(0, 1)``. To forget ages ``perturb_steps=15, step_size=0.4, ot_weight=3,
    ce_weight_start=0, ce_weight_end=1, forgetting_threshold=0.15, lr=0.008``; to forget emotions
    ``perturb_steps=20, step_size=2.0, ot_weight=7, ce_weight_start=0.5, ce_weight_end=1,
    forgetting_threshold=0.23, lr=0.006``. These do not reproduce the released code, whose transport
    term is computed from the unperturbed rows and so has no gradient; it also takes logits as
    features, clips the inputs but not the perturbation that it adds up, attacks all rows after
    every batch, and picks its checkpoint on the rows that it reports on.

    References
    ----------
    .. [1] Distribution-Level Feature Distancing for Machine Unlearning: Towards a Better Trade-off
       Between Model Utility and Forgetting. arXiv:2409.14747.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import DLFD
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
    >>> unlearner = DLFD(net, random_state=0).fit(X, y)
    >>> unlearner.unlearn(X, y, forget=forget).score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain", "forget"})
    _remedy: ClassVar[str] = "Use a smaller lr or step_size, or more epochs."

    def __init__(
        self,
        estimator: Network,
        *,
        max_epochs: int = 5,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        perturb_steps: int = 1,
        step_size: float = 0.1,
        perturb_at: str = "input",
        clip: Literal["auto"] | tuple[float, float] | None = "auto",
        transport: Literal["sinkhorn", "exact", "sliced"]
        | Callable[[Tensor, Tensor], Tensor] = "sinkhorn",
        reg: float = 0.05,
        ot_weight: float = 1.0,
        ce_weight_start: float = 0.0,
        ce_weight_end: float = 1.0,
        feature_layer: str = "auto",
        clean_weight: float = 1.0,
        bn_batches: int = 10,
        forgetting_threshold: float = 0.05,
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.perturb_steps = perturb_steps
        self.step_size = step_size
        self.perturb_at = perturb_at
        self.clip = clip
        self.transport = transport
        self.reg = reg
        self.ot_weight = ot_weight
        self.ce_weight_start = ce_weight_start
        self.ce_weight_end = ce_weight_end
        self.feature_layer = feature_layer
        self.clean_weight = clean_weight
        self.bn_batches = bn_batches
        self.forgetting_threshold = forgetting_threshold

    def _check_hyperparameters(self):
        check_number("perturb_steps", self.perturb_steps, 0, integer=True)
        check_number("step_size", self.step_size, 0, low_open=True)
        check_number("reg", self.reg, 0, low_open=True)
        check_number("ot_weight", self.ot_weight, -float("inf"))
        check_number("ce_weight_start", self.ce_weight_start, 0)
        check_number("ce_weight_end", self.ce_weight_end, 0)
        check_number("clean_weight", self.clean_weight, 0)
        check_number("bn_batches", self.bn_batches, 0, integer=True)
        check_number("forgetting_threshold", self.forgetting_threshold, 0, 0.5)
        if not callable(self.transport) and self.transport not in METHODS:
            raise ValueError(
                f"transport must be one of {METHODS} or a callable; got {self.transport!r}."
            )
        pair = isinstance(self.clip, tuple | list) and len(self.clip) == 2
        if self.clip not in ("auto", None) and not (pair and self.clip[0] < self.clip[1]):
            raise ValueError(
                f"clip must be 'auto', None or a pair (low, high), low < high; got {self.clip!r}."
            )

    def _search_space(self, common):
        return {
            "perturb_steps": [1, 3],
            "step_size": loguniform(0.005, 0.2),
            "ce_weight_start": [0.0, 1.0],
            "ce_weight_end": loguniform(0.3, 10),
        }

    def _unlearn(self, request):
        net = self._copy(request.original)
        forget_batches, score = cycle(net, request.forget, whole=True), None
        n_rows = min(len(request.forget), len(request.val or ()))
        if self.forgetting_threshold and n_rows >= _FEWEST:
            score = _ForgettingScore(request)
        perturbation = _Perturbation(self, net, request)

        def step(net, X, y, progress):
            forgotten = score is not None and score.of(net) < self.forgetting_threshold
            if forgotten or not self.perturb_steps:
                y_pred = net.infer(X)
                loss = net.get_loss(y_pred, y, X=X, training=True)
                # Unperturbed, both terms are one.
                return loss if forgotten else (1 + self.clean_weight) * loss, y_pred
            X_forget, _ = to_device(next(forget_batches), net.device)
            span = self.ce_weight_end - self.ce_weight_start
            delta = perturbation.find(X, y, X_forget, self.ce_weight_start + progress * span)
            net._set_training(True)
            with perturbation.place.added(X, delta) as X_far:
                y_pred = net.infer(X_far)
            loss = net.get_loss(y_pred, y, X=X, training=True)
            if self.clean_weight:
                backward(net, loss)  # now, so that only one pass is in memory at a time
                y_pred = net.infer(X)
                clean = net.get_loss(y_pred, y, X=X, training=True)
                loss = loss.detach() + self.clean_weight * clean
            return loss, y_pred

        self._train(net, request, (request.retain, step, net.max_epochs))
        if self.bn_batches:
            renew_statistics(net, request.retain, self.bn_batches)
        return net


class _ForgettingScore:
    """The forgetting score of a network on a few rows, measured every few batches.

    Parameters
    ----------
    request : Request
        Where the rows to forget and the held-out ones are.
    """

    def __init__(self, request):
        rng = check_random_state(0)
        with preserve_rng(request.original.device):  # from which rows may draw
            self.sides = [_few(rows, rng) for rows in (request.forget, request.val)]
        self.n_batches = 0

    def of(self, net):
        """The score that was measured last, noted in the history."""
        if self.n_batches % _CHECK_EVERY == 0:
            with preserve_rng(net.device):  # as if nobody watched
                losses = [row_losses(net, rows)[0] for rows in self.sides]
            net._set_training(True)
            self.value = float("nan")  # where the run has diverged, which its next loss will tell
            if all(np.isfinite(side).all() for side in losses):
                right, *_ = repeated_attack(*losses, 10, check_random_state(0))
                self.value = abs(float(right.mean()) - 0.5)
        self.n_batches += 1
        net.history.record_batch("forgetting_score", self.value)
        net.history.record("forgetting_score", self.value)
        return self.value


def _few(rows, rng):
    """A few rows, drawn at random, in memory."""
    if len(rows) > _CHECK_ROWS:
        rows = rows.take(rng.permutation(len(rows))[:_CHECK_ROWS])
    if rows.is_array:
        return rows
    read = StackDataset(*zip(*rows.__getitems__(range(len(rows)))))
    return Rows(read, rows.y, collate=rows.collate)


class _Perturbation:
    """How retained rows are pushed away from the forget features of a network.

    Parameters
    ----------
    params : DLFD
        Where the hyperparameters are.
    net : skorch.NeuralNet
        The network; it changes as it is trained.
    request : Request
        Where the ranges of values are read from, on a few rows.
    """

    def __init__(self, params, net, request):
        self.params = params
        self.net = net
        net._set_training(False)
        n_rows = min(_SAMPLE, 2 * net.batch_size) if net.batch_size > 0 else _SAMPLE
        items = _sample(request.retain, n_rows)
        X = to_device(request.retain.collate(items)[0], net.device)
        self.layer = feature_layer(net, params.feature_layer, X)
        self.place = Place(net, params.perturb_at)
        values = self.place.values(X)
        two = to_device(request.retain.collate([items[0]] * 2)[0], net.device)
        self.place.check_reaches(self.layer, params.feature_layer, two)
        if params.clip in ("auto", None):
            self.low, self.high = value_range(
                lambda some: self.place.values(
                    to_device(request.retain.collate(some)[0], net.device)
                ),
                items,
            )
        else:
            self.low, self.high = torch.tensor(params.clip).to(values)
        self.unit = params.step_size * (self.high - self.low)
        if not (params.perturb_steps and params.ot_weight):
            return
        # Whether transport has a direction to push in.
        retain = forward_features(net, X, self.layer)
        if len(retain) < 2:
            return
        first, second = retain.chunk(2)
        X_forget = request.forget.collate(_sample(request.forget, n_rows))[0]
        forget = forward_features(net, to_device(X_forget, net.device), self.layer)
        check_alike(forget, retain, params.feature_layer, net)
        apart = float(transport_distance(forget, retain, method="exact"))
        spread = float(transport_distance(second, first, method="exact"))
        if apart <= max(0.1 * spread, 1e-5):
            warn(
                "Forget and retained features cannot be told apart: the transport distance "
                f"between {len(forget)} forget and {len(retain)} retained rows is {apart:.3g}, "
                f"between {len(second)} and {len(first)} retained rows {spread:.3g}. DLFD pushes "
                "along this distance and will do little more than fine-tune; try another "
                "feature_layer, or make sure that the rows to forget are not still among those "
                "to retain.",
            )

    def find(self, X, y, X_forget, ce_weight):
        """The perturbation of a batch of retained rows, without gradient."""
        params, net = self.params, self.net
        z_forget = forward_features(net, X_forget, self.layer)
        values = self.place.values(X)
        if not torch.isfinite(z_forget).all():
            raise ValueError(
                "DLFD has diverged: the network's features are not finite any more. Nothing was "
                "changed; use a smaller lr."
            )
        # A row that lies outside the limits already is not pulled in.
        low, high = torch.minimum(self.low, values), torch.maximum(self.high, values)
        delta = torch.zeros_like(values)
        net._set_training(False)
        with frozen_parameters(net.module_):
            for _ in range(params.perturb_steps):
                delta.requires_grad_()
                with (
                    self.place.added(X, delta) as X_far,
                    capture_output(*self.layer) as read,
                ):
                    y_pred = net.infer(X_far)
                check_alike(z_forget, read[-1], params.feature_layer, net)
                distance = transport_distance(
                    read[-1],
                    z_forget,
                    method=params.transport,
                    reg=params.reg,
                )
                loss = net.get_loss(y_pred, y, X=X)
                gain = params.ot_weight * distance - ce_weight * loss
                (gradient,) = torch.autograd.grad(gain, delta)
                with torch.no_grad():
                    delta = delta + self.unit * gradient.sign()
                    if params.clip is not None:
                        delta = (values + delta).clamp(low, high) - values
        net.history.record_batch("transport", distance.item())
        return delta


def _sample(rows, n):
    """At most `n` items, drawn at random."""
    return rows.__getitems__(torch.randperm(len(rows))[:n].numpy())
