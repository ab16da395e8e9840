"""What else DLFD's idea might be good for where only a tenth of a retraining is allowed.

Three ways of starting it nearer to a network that never saw the rows, and each of them without the
synthesised rows, as its control. They are tried on the domains with long training, and live here,
not in the package.
"""

from copy import deepcopy
from typing import ClassVar

import torch
from scipy.stats import loguniform, uniform
from skorch.utils import to_device
from torch.nn import functional as F

from skunlearn import DLFD
from skunlearn._network import cycle, fit_network, logits, reinitialise
from skunlearn.finetune import _tail

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
            random_state=random_state,
        )
        self.amount = amount

    def _search_space(self, common):
        pushing = super()._search_space(common) if self.perturb_steps else {}
        return {"amount": self.amounts} | pushing


class AfterReset(_Variant):
    """DLFD after drawing a share `amount` of the layers anew, from the output on, as EU-k does."""

    amounts: ClassVar = [0.25, 0.5, 0.75, 1.0]

    def _copy(self, original):
        net = super()._copy(original)
        for name, layer in _tail(net.module_, self.amount):
            reinitialise(name, layer)
        return net


class AfterShrinking(_Variant):
    """DLFD from the original's weights mixed with a share `amount` of fresh ones.

    After shrink and perturb, arXiv:1910.08475, with which warm starts are made to generalise.
    """

    amounts: ClassVar = uniform(0.1, 0.8)

    def _copy(self, original):
        net = super()._copy(original)
        fresh = deepcopy(net.module_)
        for name, layer in fresh.named_modules():
            if any(True for _ in layer.parameters(recurse=False)):
                reinitialise(name, layer)
        with torch.no_grad():
            for ours, new in zip(net.module_.parameters(), fresh.parameters()):
                ours.lerp_(new, self.amount)
        return net


class WithTargets(_Variant):
    """DLFD that also imitates, on the forget rows, a network trained from scratch for two epochs.

    `amount` is the weight of the divergence from that network's probabilities.
    """

    amounts: ClassVar = loguniform(0.1, 10)

    def _train(self, net, request, phase, **settings):
        rows, step, n_epochs = phase
        scratch = fit_network(
            self._check_estimator(), request.retain, len(self.classes_), max_epochs=2
        )
        scratch._set_training(False)
        batches = cycle(net, request.forget)

        def step_with_targets(net, X, y, progress):
            loss, y_pred = step(net, X, y, progress)
            X_forget, _ = to_device(next(batches), net.device)
            with torch.no_grad():
                target = logits(scratch, scratch.infer(X_forget)).softmax(1)
            ours = logits(net, net.infer(X_forget)).log_softmax(1)
            return loss + self.amount * F.kl_div(ours, target, reduction="batchmean"), y_pred

        return super()._train(net, request, (rows, step_with_targets, n_epochs), **settings)


def variants(net):
    """The variants by name, each followed by what is left of it without synthesised rows."""
    found = {}
    for name, cls in (
        ("reset", AfterReset),
        ("shrunk", AfterShrinking),
        ("targets", WithTargets),
    ):
        found[f"DLFD ({name})"] = cls(net)
        found[f"FineTune ({name})"] = cls(net, **_WITHOUT)
    return found
