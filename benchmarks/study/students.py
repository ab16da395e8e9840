"""What else a fresh student might imitate, and how else it might be trained.

Five that are tuned as the methods are, on the domains with long training, to see what brings a
student nearer without a weight of the original. They live here, not in the package.
"""

import torch
from scipy.optimize import brentq
from scipy.stats import loguniform
from skorch.utils import to_device
from torch.nn import functional as F

from skunlearn import Distill, Retrain
from skunlearn._engine.hooks import capture_output, feature_layer
from skunlearn._engine.predict import logits
from skunlearn._engine.rows import NumberedRows
from skunlearn.methods.distill import _outputs
from skunlearn.methods.distillation import divergence

BATCH_SIZES = [8, 16, 32, 64]  # that all five are tuned over
RISE = 0.3  # of a run, in which the rate of `Warmed` rises


class Told(Distill):
    """Distill whose student imitates other outputs than the original's."""

    def _targets(self, outputs, y):
        """What it imitates, for the original's logits of the retained rows and their labels."""
        raise NotImplementedError

    def _unlearn(self, request):
        net, rows = self._student(request), NumberedRows(request.retain)
        targets = self._targets(_outputs(request.original, request.retain), request.retain.y)

        def step(net, X, y, progress):
            y_pred = net.infer(X)
            return divergence(targets[rows.marks], logits(net, y_pred), self.temperature), y_pred

        return self._train(net, request, (rows, step, self.max_epochs))


class Smoothed(Told):
    """It imitates the labels, smoothed to the mean entropy of the original's softened outputs."""

    def _targets(self, outputs, y):
        hot = F.one_hot(y, outputs.shape[1]).to(outputs)

        def entropy(scores):
            log_p = (scores / self.temperature).log_softmax(1)
            return -(log_p.exp() * log_p).sum(1).mean().item()

        wanted = entropy(outputs)
        return hot * brentq(lambda score: entropy(score * hot) - wanted, 0, 1000)


class Warmed(Distill):
    """Distill whose rate rises over the first part of the run, so that a higher one can be kept.

    What rises is the weight of the loss, which for plain gradient descent is the same.
    """

    def _train(self, net, request, phase, **settings):
        rows, step, n_epochs = phase

        def rising(net, X, y, progress):
            loss, y_pred = step(net, X, y, progress)
            return min(progress / RISE, 1) * loss, y_pred

        return super()._train(net, request, (rows, rising, n_epochs), **settings)


class Featured(Distill):
    """Distill whose student imitates the original's features, too.

    They are the inputs of the last linear layer; `feature_weight` is that of their mean squared
    difference, over their mean variance.
    """

    def __init__(
        self,
        estimator,
        *,
        feature_weight=1.0,
        noise=1.0,
        temperature=2.0,
        max_epochs=None,
        lr=None,
        batch_size=None,
        memory=None,
        random_state=None,
    ):
        super().__init__(
            estimator,
            noise=noise,
            temperature=temperature,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            memory=memory,
            random_state=random_state,
        )
        self.feature_weight = feature_weight

    def _search_space(self, common):
        return super()._search_space(common) | {"feature_weight": loguniform(0.1, 10)}

    def _unlearn(self, request):
        net, rows = self._student(request), NumberedRows(request.retain)
        X = to_device(request.retain.batch(range(2))[0], net.device)
        ours, theirs = (feature_layer(one, "auto", X) for one in (net, request.original))
        with capture_output(*theirs) as read:
            outputs = _outputs(request.original, request.retain)
        features = torch.cat(read)
        variance = features.var(dim=0).mean()

        def step(net, X, y, progress):
            with capture_output(*ours) as read:
                y_pred = net.infer(X)
            apart = F.mse_loss(read[-1], features[rows.marks]) / variance
            loss = divergence(outputs[rows.marks], logits(net, y_pred), self.temperature)
            return loss + self.feature_weight * apart, y_pred

        return self._train(net, request, (rows, step, self.max_epochs))


class InBatches(Retrain):
    """Retrain with a batch size of its own, as the students have."""

    def __init__(
        self,
        estimator,
        *,
        max_epochs=None,
        lr=None,
        batch_size=None,
        memory=None,
        random_state=None,
    ):
        super().__init__(
            estimator, max_epochs=max_epochs, lr=lr, memory=memory, random_state=random_state
        )
        self.batch_size = batch_size


def students(net):
    """Those that are tuned, by name; none has a weight of the original in its start."""
    return {
        "Distill (fresh)": Distill(net),
        "Distill (features)": Featured(net),
        "Distill (warm-up)": Warmed(net),
        "Distill (smoothed labels)": Smoothed(net),
        "Retrain (short, batches)": InBatches(net),
    }
