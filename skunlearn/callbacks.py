"""skorch callbacks that watch forgetting while it happens."""

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch.callbacks import Callback
from torch.utils.data import StackDataset

from ._network import predict_proba
from .metrics import forgetting_score, sample_log_loss


class ForgettingMonitor(Callback):
    """Record the forgetting score during training.

    The score is measured before the first batch and before every `every`-th after it, on at most
    `n_rows` forget rows and as many unseen ones, the same each time: its cost does not grow with
    the data.
    It is recorded in the batch history as ``forgetting_score``.

    Parameters
    ----------
    forget, unseen : torch.utils.data.Dataset
        The rows to forget and held-out rows, as pairs of an input and an encoded label.
    every : int, default=10
        Batches between two measurements.
    n_rows : int, default=200
        Rows of each kind that are looked at.
    random_state : int, default=0
        Seeds the choice of rows and the attack.

    Attributes
    ----------
    score_ : float
        The last score measured, in [0, 0.5].
    """

    def __init__(self, forget, unseen, every=10, n_rows=200, random_state=0):
        self.forget = forget
        self.unseen = unseen
        self.every = every
        self.n_rows = n_rows
        self.random_state = random_state

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        rng = check_random_state(self.random_state)
        n = min(self.n_rows, len(self.forget), len(self.unseen))
        self._rows = [
            StackDataset(*zip(*(rows[i] for i in rng.permutation(len(rows))[:n])))
            for rows in (self.forget, self.unseen)
        ]
        self._n_batches = 0

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training and self._n_batches % self.every == 0:
            self.score_ = self._measure(net)
            net.history.record_batch("forgetting_score", self.score_)
        self._n_batches += training

    def on_train_end(self, net, X=None, y=None, **kwargs):
        del self._rows

    def __getstate__(self):
        # A network that is pickled in mid-run, as Checkpoint does, must not take rows along.
        rows = ("forget", "unseen", "_rows")
        return {name: value for name, value in vars(self).items() if name not in rows}

    def _measure(self, net):
        losses = []
        for rows in self._rows:
            proba = predict_proba(net, rows)
            y = torch.stack(rows.datasets[1]).long().numpy()
            losses.append(sample_log_loss(y, proba, labels=np.arange(proba.shape[1])))
        return forgetting_score(*losses, random_state=self.random_state)
