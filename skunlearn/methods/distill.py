"""Distillation of the original, on the retained rows, into a network with fresh weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from skorch.utils import to_device
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from skunlearn._engine.build import plain_parts
from skunlearn._engine.fresh import (
    check_no_adapter,
    fresh_network,
    instances,
    reinitialised,
    start_again,
)
from skunlearn._engine.predict import logits
from skunlearn._engine.rows import NumberedRows, is_static
from skunlearn._engine.validation import check_number, is_multilabel
from skunlearn.methods.base import NetworkUnlearner
from skunlearn.methods.distillation import check_temperature, divergence, teacher_logits

if TYPE_CHECKING:
    from typing import Literal

    from torch import Tensor

    from skunlearn._engine.typing import Memory, Network, Optimizer, RandomState


class Distill(NetworkUnlearner):
    """Distil the original into a fresh network, on the retained rows alone.

    The student starts as a retraining would, or, with less `noise`, between that and the original.
    It is trained to imitate the outputs [2]_ of the original on the retained rows. Soft targets are
    learnt in fewer epochs than labels at the same learning rate. No row to forget is trained on,
    and the original is not asked for any. It is the second and third step of UNDO [1]_.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to unlearn.
    noise : float, default=1.0
        How much of the student's start is fresh: ``(1 - noise) * original + noise * fresh``, for
        weights and buffers; integers are fresh. At 1 nothing is in it that the original has learnt,
        at 0 it is a copy of the original.
    temperature : float, default=2.0
        What logits are divided by before the divergence is taken, which is multiplied by its
        square; from 0.01 to 100.
    ce_weight : float, default=0.0
        Weight of the criterion on the rows' own labels, which are not read at 0.
    max_epochs : int, default=None
        Passes over the retained rows; None for a twentieth of the network's own, at least 3 where
        the network itself takes as many.
    lr : float, default=None
        Learning rate at the start of the run, from where it falls to 0 on a cosine; None for the
        network's own.
    optimizer : type, default=None
        Class of the optimiser (or a ``functools.partial`` of one); None for the network's own.
    batch_size : int, default=None
        Rows in a batch; None for the network's own.
    cache_teacher : "auto" or bool, default="auto"
        Whether the original is asked once for each row, before the run, or for each batch of it.
        "auto" asks once where rows are arrays, and each time where a data set, a loader, a
        ``collate_fn``, a callback or a class of the user's own may augment them. Outputs that are
        kept take as many floats as there are rows times classes, on the network's device.
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
        The history of the last unlearning run; its ``train_loss`` is the divergence.
    unlearning_cost_ : float
        Samples that the last run sent through networks.

    Raises
    ------
    ValueError
        By `fit` and `unlearn`, if the network was built on a module or criterion instance in which
        some layer cannot be re-initialised by a ``reset_parameters()`` of its own; or if the
        networks that its module's class or function builds have weights in common.

    See Also
    --------
    Retrain : Starts from the same weights, and learns the labels.
    FineTune : Starts from the original's weights.

    Notes
    -----
    The divergence of a batch is the mean over rows of ``KL(teacher || student)`` of softened
    probabilities, times the square of `temperature`; where a row may have several labels, the sum
    over them of the divergences of their Bernoulli distributions. ``n`` epochs cost ``n + 1/3``
    passes over the retained rows, or ``n * 4/3`` where the teacher is asked for each batch.

    What a module's class or function makes is a fresh start, a pretrained base that it loads
    included. An instance does not tell how it started: its layers are re-initialised one by one.
    Buffers, and tensors in other attributes, count as learnt and have to be made again by the
    layer's ``reset_parameters()``, apart from masks (of 0, 1 and infinity). Layers that are frozen
    belong to the start and stay as they are, with all that they hold, the running statistics of
    batch normalisation included.

    In the project's study (long trainings of small networks) a student of a twentieth of the
    original's epochs was nearer on average than as many epochs on labels, by less than the splits
    settle, and as near as as many on smoothed labels, through which nothing leaks. Where so few
    epochs do not learn the task, the student is far from a retrained network too; then more
    epochs, a higher `lr` or less noise are needed. The student learns the outputs of a network that
    has seen the rows to forget, so something of them may leak: the more, the smaller the noise and
    the longer the run. Attacks on each row with many models show it
    (:func:`~skunlearn.shadow_margins`); the attack on losses and closeness do not. Held-out rows
    are not used.

    **Published settings.** UNDO unlearns the teacher before, which is
    ``Distill(FrozenEstimator(unlearned.estimator_))`` with another unlearner that has forgotten the
    rows. It moves weight matrices towards Xavier noise of a tenth of the usual size (its beta, 0.1)
    by a share (its alpha, here `noise`) and leaves vectors where they are; here every weight moves
    towards a fresh start of the network. It was published for language models, whose numbers of
    steps say nothing about other networks.

    References
    ----------
    .. [1] Distillation Robustifies Unlearning. arXiv:2506.06278.
    .. [2] Distilling the Knowledge in a Neural Network. arXiv:1503.02531.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import Distill
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ...     lr=0.5, batch_size=20, max_epochs=30,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> unlearner = Distill(net, random_state=0).fit(X, y, forget=np.arange(200) < 20)
    >>> unlearner.score(X, y) > 0.9
    True
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain"})
    _remedy: ClassVar[str] = "Use more epochs, a higher lr, or less noise."

    def __init__(
        self,
        estimator: Network,
        *,
        noise: float = 1.0,
        temperature: float = 2.0,
        ce_weight: float = 0.0,
        max_epochs: int | None = None,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        cache_teacher: Literal["auto"] | bool = "auto",
        memory: Memory = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(estimator, memory=memory, random_state=random_state)
        self.noise = noise
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.cache_teacher = cache_teacher

    def _check_hyperparameters(self):
        check_number("noise", self.noise, 0, 1)
        check_temperature(self.temperature)
        check_number("ce_weight", self.ce_weight, 0)
        if self.cache_teacher != "auto" and not isinstance(self.cache_teacher, bool | np.bool_):
            raise ValueError(
                f"cache_teacher must be 'auto', True or False; got {self.cache_teacher!r}."
            )

    def _search_space(self, common):
        # Not noise: what a search goes by does not see that less of it leaks.
        return {"temperature": [1.0, 2.0, 4.0]}

    def _unlearn(self, request):
        net = self._student(request)
        n_epochs = net.max_epochs
        if self.max_epochs is None:
            n_epochs = min(n_epochs, max(3, math.ceil(n_epochs / 20)))
        rows, known = request.retain, None
        is_cached = is_static(net, rows) if self.cache_teacher == "auto" else self.cache_teacher
        if is_cached:
            rows, known = NumberedRows(rows), _outputs(request.original, rows)

        def step(net, X, y, progress):
            y_pred = net.infer(X)
            expected = teacher_logits(request.original, X) if known is None else known[rows.marks]
            loss = self._divergence(net, expected, logits(net, y_pred))
            if self.ce_weight:
                loss = loss + self.ce_weight * net.get_loss(y_pred, y, X=X, training=True)
            return loss, y_pred

        return self._train(net, request, (rows, step, n_epochs))

    def _student(self, request):
        """The student as it starts."""
        if not self.noise:
            return self._copy(request.original)
        template, n_classes = self._template, len(self.classes_)
        fresh = fresh_network(template, request.retain, n_classes, request.original)
        if fresh is None:
            for name, layer in request.original.module_.named_modules():
                if any(p.requires_grad for p in layer.parameters(recurse=False)):
                    check_no_adapter(request.original.module_, name)
            with self._cost.switched(request.original, on=False):
                fresh = reinitialised(
                    template, request.original, n_classes, student_of=request.retain
                )
        elif template.initialized_:  # and so has trained the instances that it was given
            start_again(fresh, instances(fresh))
        parts = plain_parts(fresh)
        if self.noise < 1:
            for kind, originals in plain_parts(request.original).items():
                for name, original in originals.items():
                    if isinstance(original, torch.nn.Module):
                        _mix(parts[kind][name], original, self.noise)
        return self._assemble(parts, request.original)

    def _divergence(self, net, expected, scores):
        if is_multilabel(net):
            return bernoulli_divergence(expected, scores, self.temperature)
        return divergence(expected, scores, self.temperature)


def bernoulli_divergence(expected: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Sum over labels of KL(expected || scores) of softened logits, as `divergence` otherwise.

    Parameters
    ----------
    expected, scores : torch.Tensor of shape (n, n_labels)
        Logits of the teacher and of the student.
    temperature : float
        What logits are divided by.

    Returns
    -------
    divergence : torch.Tensor of shape ()
        In nats.
    """
    expected, scores = expected / temperature, scores / temperature
    target = expected.sigmoid()
    entropy = -(target * logsigmoid(expected) + (1 - target) * logsigmoid(-expected))
    cross = binary_cross_entropy_with_logits(scores, target, reduction="none")
    return temperature**2 * (cross - entropy).sum(dim=1).mean()


@torch.no_grad()
def _mix(module, original, noise):
    """Move the weights and buffers of a fresh module towards the original's, in place."""
    own, theirs = _tensors(module), _tensors(original)
    other = [
        name
        for name in own.keys() | theirs.keys()
        if name not in own or name not in theirs or own[name].shape != theirs[name].shape
    ]
    if other:
        raise ValueError(
            f"noise={noise!r} mixes the original with a fresh network, and what estimator's module "
            f"starts with has not the same weights and buffers: {sorted(other)} are in one of them "
            "alone, or have another shape. Use noise=1, or a module that is built as it was."
        )
    mixed = {
        name: torch.where(value == known, value, value.lerp(known, 1 - noise))
        for name, value in own.items()
        # Counts have no middle, nor have sparse tensors. Masks are infinite where they are equal.
        if (value.is_floating_point() or value.is_complex()) and value.layout == torch.strided
        for known in [theirs[name].to(value)]
    }
    for name, value in mixed.items():  # only now: weights that are tied have several names
        own[name].copy_(value)


def _tensors(module):
    """The parameters and buffers of a module, by all of their names."""
    named = module.named_parameters, module.named_buffers
    return {k: v for found in named for k, v in found(remove_duplicate=False)}


def _outputs(net, rows):
    """The logits of a network for all rows, in their order."""
    size = net.batch_size if net.batch_size > 0 else len(rows)
    parts = range(0, len(rows), max(size, 1))
    batches = (rows.batch(range(i, min(i + size, len(rows)))) for i in parts)
    return torch.cat([teacher_logits(net, to_device(X, net.device)) for X, _ in batches])
