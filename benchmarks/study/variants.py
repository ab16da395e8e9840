"""What else DLFD's idea might be good for where only a tenth of a retraining is allowed.

Two ways of starting it nearer to a network that never saw the rows, and four of telling it what to
say of them; each also without the synthesised rows, as its control. They are tried on the domains
with long training, and live here, not in the package.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import loguniform, uniform
from skorch.utils import to_device
from torch.nn import functional as F

from skunlearn import DLFD
from skunlearn._engine.fit import fit_network
from skunlearn._engine.fresh import fresh_network
from skunlearn._engine.predict import logits
from skunlearn._engine.run import cycle
from skunlearn.methods.last_layers import _start_last_layers, last_layers

_WITHOUT = {"perturb_steps": 0}


class _Variant(DLFD):
    """DLFD with one parameter more, `amount`, which says how far the start is changed."""

    amounts: ClassVar = None

    def __init__(
        self,
        estimator,
        *,
        amount=0.5,
        max_epochs=1,
        lr=None,
        perturb_steps=1,
        step_size=0.1,
        ce_weight_start=0.0,
        ce_weight_end=1.0,
        memory=None,
        random_state=None,
    ):
        super().__init__(
            estimator,
            max_epochs=max_epochs,
            lr=lr,
            perturb_steps=perturb_steps,
            step_size=step_size,
            ce_weight_start=ce_weight_start,
            ce_weight_end=ce_weight_end,
            memory=memory,
            random_state=random_state,
        )
        self.amount = amount

    def _search_space(self, common):
        pushing = super()._search_space(common) if self.perturb_steps else {}
        return {"amount": self.amounts} | pushing


class _Changed(_Variant):
    """DLFD that starts from a changed original."""

    def _change(self, net, fresh):
        """Change a copy of the original, with the help of what a training would start from."""
        raise NotImplementedError

    def _unlearn(self, request):
        net = self._copy(request.original)
        fresh = fresh_network(self._template, request.retain, len(self.classes_))
        self._change(net, fresh)
        return super()._unlearn(replace(request, original=net))


class AfterReset(_Changed):
    """DLFD after a fresh start of a share `amount` of the layers, from the output on, as in EUk."""

    amounts: ClassVar = [0.25, 0.5, 0.75, 1.0]

    def _change(self, net, fresh):
        _start_last_layers(net, last_layers(net.module_, self.amount), fresh)


class AfterShrinking(_Changed):
    """DLFD from the original's weights mixed with a share `amount` of fresh ones.

    After shrink and perturb, arXiv:1910.08475, with which warm starts are made to generalise.
    """

    amounts: ClassVar = uniform(0.1, 0.8)

    def _change(self, net, fresh):
        with torch.no_grad():
            for ours, new in zip(net.module_.parameters(), fresh.module_.parameters()):
                ours.lerp_(new, self.amount)


class _OnForgetRows(_Variant):
    """DLFD that adds a loss on a batch of forget rows to that of each batch of retained ones."""

    until: ClassVar = 1.0  # the share of the run that it is added in

    def _term(self, net, request):
        """What is added: a function of a network, its output for some forget rows, and these."""
        raise NotImplementedError

    def _train(self, net, request, phase, **settings):
        rows, step, n_epochs = phase
        term = self._term(net, request)
        numbered = request.forget.relabel(torch.arange(len(request.forget)))
        batches = cycle(net, numbered)

        def step_with_term(net, X, y, progress):
            loss, y_pred = step(net, X, y, progress)
            if progress <= self.until:
                X_forget, which = to_device(next(batches), net.device)
                loss = loss + term(net, net.infer(X_forget), X_forget, which)
            return loss, y_pred

        return super()._train(net, request, (rows, step_with_term, n_epochs), **settings)


class WithTargets(_OnForgetRows):
    """DLFD that also imitates, on the forget rows, a network trained from scratch for two epochs.

    `amount` is the weight of the divergence from that network's probabilities.
    """

    amounts: ClassVar = loguniform(0.1, 10)

    def _term(self, net, request):
        scratch = fit_network(self._template, request.retain, len(self.classes_), max_epochs=2)
        scratch._set_training(False)

        def divergence(net, output, X, which):
            return self.amount * _divergence(net, output, _probabilities(scratch, X))

        return divergence


class UnderCeiling(_OnForgetRows):
    """DLFD that also climbs the loss on forget rows, up to that on held-out ones.

    `amount` is the weight of the climb, which is that of `AdvancedNegGrad` with its ceiling.
    """

    amounts: ClassVar = loguniform(0.03, 1)

    def _term(self, net, request):
        short_of = _ShortOfCeiling(net, request)
        return lambda net, output, X, which: self.amount * short_of(net, output, which)


class Matched(_OnForgetRows):
    """DLFD that also imitates, on the forget rows, what the original says of held-out ones.

    Each forget row is matched with a held-out row of its class, so that all pairs together are the
    nearest in the original's probabilities (optimal assignment), before the run. The loss on forget
    rows is at the same time raised to that on held-out ones, and the last two fifths of the run are
    on retained rows alone. `amount` is the weight of the divergence.
    """

    amounts: ClassVar = loguniform(0.1, 10)
    until: ClassVar = 0.6

    def _term(self, net, request):
        net._set_training(False)
        ours, unseen = (
            torch.cat([_probabilities(net, X) for X, _ in net.get_iterator(rows)])
            for rows in (request.forget, request.val)
        )
        targets = torch.empty_like(ours)
        for label in request.forget.y.unique():
            here = request.forget.y == label
            pool = unseen[request.val.y == label]
            pool = pool.repeat(-(-int(here.sum()) // len(pool)), 1)  # as often as it takes
            targets[here] = pool[self._match(ours[here], pool)]
        short_of = _ShortOfCeiling(net, request)

        def climb_and_divergence(net, output, X, which):
            climb = 0.3 * short_of(net, output, which)
            return climb + self.amount * _divergence(net, output, targets[which])

        return climb_and_divergence

    def _match(self, ours, pool):
        return linear_sum_assignment(torch.cdist(ours, pool).square().numpy())[1]


class Drawn(Matched):
    """The control of `Matched`: each forget row gets a held-out row of its class by lot."""

    def _match(self, ours, pool):
        return torch.randperm(len(pool))[: len(ours)]


class _ShortOfCeiling:
    """How far the loss on forget rows is below that on held-out ones; 0 above it.

    Both are measured every 8 batches, on at most 128 rows; while the forget rows as a whole are
    above, nothing is added.
    """

    def __init__(self, net, request):
        self.n_batches, self.y = 0, request.forget.y
        self.looked_at = [
            to_device(rows.batch(torch.randperm(len(rows))[:128].numpy()), net.device)
            for rows in (request.forget, request.val)
        ]

    def __call__(self, net, output, which):
        if self.n_batches % 8 == 0:
            net._set_training(False)
            with torch.no_grad():
                self.loss, self.ceiling = (
                    net.get_loss(net.infer(X), y, X=X).item() for X, y in self.looked_at
                )
            net._set_training(True)
        self.n_batches += 1
        if self.loss >= self.ceiling:
            return 0.0
        return (self.ceiling - net.get_loss(output, self.y[which], training=True)).clamp(min=0)


def _probabilities(net, X):
    with torch.no_grad():
        return logits(net, net.infer(X)).softmax(1)


def _divergence(net, output, target):
    return F.kl_div(logits(net, output).log_softmax(1), target, reduction="batchmean")


def variants(net):
    """The variants by name, each followed by what is left of it without synthesised rows."""
    found = {}
    for name, cls in (
        ("reset", AfterReset),
        ("shrunk", AfterShrinking),
        ("targets", WithTargets),
        ("ceiling", UnderCeiling),
        ("matched", Matched),
        ("drawn", Drawn),
    ):
        found[f"DLFD ({name})"] = cls(net)
        found[f"FineTune ({name})"] = cls(net, **_WITHOUT)
    return found
