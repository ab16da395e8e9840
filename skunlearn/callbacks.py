"""Callbacks for skorch that watch forgetting while it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.utils import check_random_state, column_or_1d
from skorch.callbacks import Callback
from skorch.utils import is_dataset
from torch.utils.data import StackDataset, default_collate

from skunlearn._engine.data import labels_of
from skunlearn._engine.predict import answers_of, count_columns, predicted
from skunlearn._engine.random import preserve_rng_and_modes
from skunlearn._engine.rows import Rows, input_dtype
from skunlearn._engine.statistics import few_of
from skunlearn._engine.validation import (
    as_dataset,
    check_number,
    encode_labels,
    is_lazy,
    is_multilabel,
)
from skunlearn.metrics import forgetting_score, nomus_score, sample_log_loss, utility_score

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike
    from skorch import NeuralNet

    from skunlearn._engine.typing import RandomState, RowsLike

_SMALLER_IS_BETTER = {"forgetting_score": True, "nomus": False, "utility": False}


class ForgettingMonitor(Callback):
    """Record forgetting score, NoMUS and utility while a network is trained or unlearned.

    A callback of the network, in skorch's sense. At the end of each epoch it writes to the history

    * ``forgetting_score``, from 0 to 0.5; smaller is better;
    * ``nomus``, from 0 to 1; greater is better;
    * ``utility``, the accuracy on the unseen rows, from 0 to 1; greater is better;
    * ``forgetting_score_best``, ``nomus_best`` and ``utility_best``: whether the epoch is better
      than every one before it. NaN never is, and is nothing to compare with.

    So ``Checkpoint(monitor="nomus_best", load_best=True)`` keeps the epoch with the greatest NoMUS,
    and ``EarlyStopping(monitor="forgetting_score")`` or ``EarlyStopping(monitor="nomus",
    lower_is_better=False)`` stops when there is no progress any more. Both go after the monitor in
    the list of callbacks. (`Checkpoint` takes the history back to the best epoch too, unless it has
    ``f_history=None``.)

    With `every`, the values go to the history of batches too, where
    ``ProgressBar(postfix_keys=["train_loss", "forgetting_score"])`` finds them, and an epoch has
    those that were measured last, which may be some batches old. Of several monitors, the last in
    the list has the last word.

    Parameters
    ----------
    X_forget : array-like or torch.utils.data.Dataset
        The rows to forget, in a form that the network's unlearner takes. At least 2.
    y_forget : array-like of shape (n_forget,) or (n_forget, n_labels), or None
        Their labels; None for a data set that yields pairs.
    X_unseen : array-like or torch.utils.data.Dataset
        Held-out rows, likewise. At least 2.
    y_unseen : array-like of shape (n_unseen,) or (n_unseen, n_labels), or None
        Their labels; None for a data set that yields pairs.
    classes : array-like of shape (n_classes,), default=None
        The label of each column of the network's output, as in the `classes_` of an unlearner. None
        takes the network's own parameter `classes`, or else the sorted labels of `y_forget` and
        `y_unseen`, if there are as many of them as columns.
    every : int, default=None
        Measure before the first batch of a run and before every `every`-th after it; each training
        batch then holds the values measured last. None measures at the end of each epoch.
    n_rows : int, default=200
        Rows of each kind, at most, that are used: the same ones each time, read at the
        beginning of a run. The cost of a measurement does not grow with the data.
    random_state : int, default=0
        Seeds the choice of rows and the attack.

    Attributes
    ----------
    scores_ : dict of str to float
        What was measured last: ``forgetting_score``, ``nomus`` and ``utility``. They are NaN where
        the network's probabilities are. An unlearner clones its callbacks: after
        `unlearn` they are not on the monitor that you made but on that in the network's
        `callbacks_`, ``dict(unlearner.estimator_.callbacks_)["ForgettingMonitor"].scores_``.

    Raises
    ------
    ValueError
        When a training begins: if a parameter is out of range, labels and rows do not fit, or a
        callback that monitors one of these values comes before this one.

    See Also
    --------
    skunlearn.metrics.forgetting_score : The score.
    skunlearn.metrics.nomus_score : Utility and forgetting in one number.

    Notes
    -----
    Watching changes nothing: the network is used in evaluation mode, and modes and global
    random generators are put back, so that a run ends in the same weights with and without it.

    A callback of the network is at work whenever the network is trained: in `fit` of an unlearner
    also while the original is, which a `Checkpoint` or `EarlyStopping` beside it would keep from
    learning the forget rows. To watch the unlearning alone, give the callbacks to a network that is
    trained already, as in the example.

    The values are noisy. With 200 rows of each kind the forgetting score of a network that has
    forgotten all is 0.03 on average, and the best of many epochs is better than it is: report
    metrics on other rows.

    The monitor is a parameter of the network and holds the rows that it was given, in pickles of
    the network or the unlearner too. ``net.set_params(callbacks=None).initialize_callbacks()``
    lets go of them after the run, for the unlearner's `estimator` and for its `estimator_`.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune
    >>> from skunlearn.callbacks import ForgettingMonitor
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 32), nn.ReLU(), nn.Linear(32, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1,
    ...     max_epochs=20, batch_size=10,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(300, 8)), rng.choice(["no", "yes"], 300)
    >>> X_val, y_val, X, y = X[:100], y[:100], X[100:], y[100:]
    >>> forget = np.arange(200) < 100
    >>> unlearner = FineTune(net, max_epochs=3, random_state=0).fit(X, y)
    >>> monitor = ForgettingMonitor(X[forget], y[forget], X_val, y_val)
    >>> unlearner.set_params(estimator__callbacks=[monitor]).unlearn(X, y, forget=forget)
    FineTune(...)
    >>> len(unlearner.unlearning_history_[:, "forgetting_score"])
    3
    """

    def __init__(
        self,
        X_forget: RowsLike,
        y_forget: ArrayLike | None,
        X_unseen: RowsLike,
        y_unseen: ArrayLike | None,
        *,
        classes: ArrayLike | None = None,
        every: int | None = None,
        n_rows: int = 200,
        random_state: RandomState = 0,
    ) -> None:
        self.X_forget = X_forget
        self.y_forget = y_forget
        self.X_unseen = X_unseen
        self.y_unseen = y_unseen
        self.classes = classes
        self.every = every
        self.n_rows = n_rows
        self.random_state = random_state

    #: What it does changes nothing of the training, so that a cached network is as good.
    only_scores = True

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        check_number("n_rows", self.n_rows, 2, integer=True)
        if self.every is not None:
            check_number("every", self.every, 1, integer=True)
        names = [name + end for name in _SMALLER_IS_BETTER for end in ("", "_best")]
        callbacks = [cb for _, cb in net.callbacks_]
        for cb in callbacks[: callbacks.index(self)]:
            if getattr(cb, "monitor", None) in names:
                raise ValueError(
                    f"callbacks must list ForgettingMonitor before {type(cb).__name__}("
                    f"monitor={cb.monitor!r}), which reads what it records; got them the other way "
                    "round."
                )
        self._rows = None
        self._n_batches = 0

    def on_epoch_begin(
        self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        if self._rows is None:  # not before other callbacks have set the module's sizes
            with preserve_rng_and_modes(net):
                self._rows = self._load(net)

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        if not training or self.every is None:
            return
        if self._n_batches % self.every == 0:
            self.scores_ = self._measure(net)
        self._n_batches += 1
        for name, value in self.scores_.items():
            net.history.record_batch(name, value)

    def on_epoch_end(
        self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        if self.every is None or not self._n_batches:
            self.scores_ = self._measure(net)
        for name, value in self.scores_.items():
            before = [epoch[name] for epoch in net.history[:-1] if name in epoch]
            sign = -1 if _SMALLER_IS_BETTER[name] else 1
            is_best = not np.isnan(value) and all(
                sign * value > sign * other for other in before if not np.isnan(other)
            )
            net.history.record(name, value)
            net.history.record(f"{name}_best", bool(is_best))

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self._rows = None

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    def _load(self, net):
        """The rows to measure, in memory, and their encoded labels: of each kind a pair."""
        given, labels = [], []
        for kind in ("forget", "unseen"):
            X, y = getattr(self, f"X_{kind}"), getattr(self, f"y_{kind}")
            if y is None and not is_dataset(X):
                raise ValueError(
                    f"y_{kind} must hold the labels of X_{kind}; got None, which is for data sets "
                    f"that yield pairs, beside {type(X).__name__}."
                )
            data = as_dataset(net, X if is_lazy(net, X) else np.asarray(X))
            y = np.asarray(labels_of(data) if y is None else y)
            y = y if is_multilabel(net) else column_or_1d(y)
            if len(y) != len(data) or len(y) < 2:
                raise ValueError(
                    f"X_{kind} must have at least 2 rows, and y_{kind} a label for each; got "
                    f"{len(data)} rows and {len(y)} labels."
                )
            given.append(data)
            labels.append(y)
        collate = net.get_params_for("iterator_valid").get("collate_fn", default_collate)
        read = [
            Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data), collate=collate)
            for data in given
        ]
        codes = self._encode(labels, net, count_columns(net, read[0]))
        rng = check_random_state(self.random_state)
        chosen = [
            few_of(len(rows), self.n_rows, rng)  # in their order, if all: as scorers read them
            for rows in read
        ]
        return [
            (StackDataset(*zip(*rows.__getitems__(which))), y[which])
            for rows, y, which in zip(read, codes, chosen)
        ]

    def _encode(self, labels, net, n_columns):
        if is_multilabel(net):
            classes = np.arange(n_columns)
        else:
            classes = self.classes if self.classes is not None else getattr(net, "classes", None)
            classes = np.unique(np.concatenate(labels)) if classes is None else np.asarray(classes)
        if len(classes) != n_columns:
            raise ValueError(
                f"classes must name the {n_columns} columns of the network's output, in their "
                f"order, as the classes_ of an unlearner do; got {classes.tolist()[:20]}"
                + (" as the labels of y_forget and y_unseen." if self.classes is None else ".")
            )
        return [
            encode_labels(y, classes, name) for y, name in zip(labels, ("y_forget", "y_unseen"))
        ]

    def _measure(self, net):
        with preserve_rng_and_modes(net):
            probas, answers = zip(*(answers_of(net, rows) for rows, _ in self._rows))
        if not all(np.isfinite(each).all() for each in answers):
            return dict.fromkeys(_SMALLER_IS_BETTER, float("nan"))
        losses = [
            sample_log_loss(y, each, labels=np.arange(each.shape[1]))
            for (_, y), each in zip(self._rows, answers)
        ]
        utility = utility_score(self._rows[1][1], predicted(net, probas[1]))
        forgetting = forgetting_score(*losses, random_state=self.random_state)
        return {
            "forgetting_score": forgetting,
            "nomus": nomus_score(utility, forgetting),
            "utility": utility,
        }
