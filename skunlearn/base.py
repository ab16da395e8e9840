"""The contract of an unlearner, and the unlearning run: skorch's training loop on a copy of it."""

import contextlib
import random
import threading
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _num_samples, check_is_fitted, check_memory, validate_data
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from skorch.utils import is_dataset, to_device
from torch import nn
from torch.utils.data import Subset

from ._cache import starting_point, train_once
from ._data import (
    Rows,
    Whole,
    as_dataset,
    as_pair,
    encode_labels,
    given_labels,
    is_lazy,
    labels_of,
    unwrapped,
)
from ._network import (
    SIZES,
    assemble,
    batches,
    check_fresh,
    check_inputs,
    check_row_shapes,
    check_samplers,
    check_schedule,
    compiled_as,
    copy_parts,
    count_columns,
    drop_activations,
    fit_network,
    is_multilabel,
    parts_of,
    plain_parts,
    predict_proba,
    predicted,
    released,
    restored,
    rows_for,
    running,
    split_rows,
    training,
    without_graphs,
)
from ._validation import check_forget, check_number

_REGRESSION_LOSSES = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.PoissonNLLLoss,
    nn.GaussianNLLLoss,
)


_EPOCHS = (1, 2, 3, 5, 10, 20, 30, 50, 100)

_FEW = 256  # rows, at most, that are compared before and after a run

_SEEDING = threading.RLock()


def _loss_and_accuracy(net, rows):
    """Mean cross-entropy and accuracy of a network's probabilities."""
    proba, codes = predict_proba(net, rows), rows.y.numpy()
    right = predicted(net, proba) == codes
    if codes.ndim == 1:
        proba = np.take_along_axis(proba, codes.astype(int)[:, None], axis=1)
    else:
        proba = np.where(codes > 0, proba, 1 - proba)
    tiny = np.finfo(proba.dtype).tiny
    return float(-np.log(np.maximum(proba, tiny)).mean()), float(right.mean())


@dataclass(frozen=True)
class Request:
    """What a method is given to unlearn: the network as it is, and the rows.

    Attributes
    ----------
    original : skorch.NeuralNet
        The trained network. It is never changed; a method may use it as a teacher.
        None for a method that trains from scratch.
    retain, forget : Rows
        The rows to keep and the rows to forget, with encoded labels.
    unseen : Rows or None
        Held-out rows (`X_val`), if the user gave any.
    valid : torch.utils.data.Dataset or None
        What the validation step of the run reads: the held-out rows if there are any, else the rows
        that the network's own `train_split` sets aside from the retained ones.

    See Also
    --------
    skunlearn.BaseUnlearner : Its hook is given a request.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune
    >>> class Telling(FineTune):
    ...     def _unlearn(self, request):
    ...         print(len(request.retain), len(request.forget), request.unseen)
    ...         return super()._unlearn(request)
    >>> def linear(n_features_in, n_classes):
    ...     return nn.Linear(n_features_in, n_classes)
    >>> net = NeuralNetClassifier(
    ...     linear, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> unlearner = Telling(net).fit(X, X[:, 0] > 0, forget=np.arange(50) < 10)
    40 10 None
    """

    original: NeuralNet | None
    retain: Rows
    forget: Rows
    unseen: Rows | None
    valid: torch.utils.data.Dataset | None


class BaseUnlearner(ClassifierMixin, MetaEstimatorMixin, BaseEstimator, metaclass=ABCMeta):
    """Base class of every unlearner.

    A subclass names its hyperparameters in ``__init__`` and implements one hook,
    :meth:`_unlearn`, which turns a network into one that has forgotten. Validation, label encoding,
    seeding, caching of the original, and the swap that happens only when the run has succeeded are
    done here.

    Parameters
    ----------
    estimator : skorch.NeuralNet or FrozenEstimator
        The network to train and unlearn. Wrapped in :class:`sklearn.frozen.FrozenEstimator`, it is
        taken as trained already and never trained again.
    memory : str, joblib.Memory or None, default=None
        Where to keep trained originals, so that each is trained once per network, rows and seed.
        The folder then holds networks that remember the rows to forget;
        ``joblib.Memory("folder").clear()`` removes all of them. They are pickles, which can run
        any code when they are loaded: use a folder that nobody else writes to. Classes and
        functions count with their code, and a data set that reads its rows when asked counts with
        its attributes only (such as file names): clear the folder after changing the files.
    random_state : int, RandomState or None, default=None
        Seeds initial weights, batches and everything a method draws. An int makes `fit` and
        `unlearn` repeatable on one machine. The global generators are left as they were.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The fitted network.
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    n_features_in_ : int
        Size of the second axis of `X`, where `X` is an array.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, where `X` is a data frame.
    unlearning_history_ : skorch.History
        The history of the last unlearning run; absent until there is one.

    See Also
    --------
    skunlearn.base.Request : What the hook is given.
    skunlearn.all_unlearners : The methods of the package.
    skunlearn.utils.estimator_checks.check_unlearner : Holds a method to this contract.

    Examples
    --------
    A method of your own, gradient ascent on the rows to forget:

    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import BaseUnlearner
    >>> class Ascent(BaseUnlearner):
    ...     needs = frozenset({"original", "forget", "forget_labels"})
    ...
    ...     def _unlearn(self, request):
    ...         def step(net, X, y, progress):
    ...             y_pred = net.infer(X)
    ...             return -net.get_loss(y_pred, y), y_pred
    ...
    ...         net = self._copy(request.original)
    ...         return self._train(net, request, (request.forget, step, 1))
    >>> def linear(n_features_in, n_classes):
    ...     return nn.Linear(n_features_in, n_classes)
    >>> net = NeuralNetClassifier(
    ...     linear, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> unlearner = Ascent(net, random_state=0).fit(X, X[:, 0] > 0, forget=np.arange(50) < 10)
    >>> unlearner.predict(X).shape
    (50,)
    """

    __metadata_request__fit: ClassVar = {"forget": True, "X_val": True, "y_val": True}

    #: What a method cannot work without, out of ``original``, ``retain``, ``forget`` (the rows),
    #: ``forget_labels`` and ``unseen``; what the error messages are made from.
    needs: ClassVar[frozenset] = frozenset({"original", "retain"})

    #: Whether the method also works where a row may have several labels (an indicator matrix).
    multilabel: ClassVar[bool] = True

    #: How much accuracy on retained rows a run of this method may cost without a warning.
    _usual_cost: ClassVar[float] = 0.2

    #: What to do about a run that costs more.
    _remedy: ClassVar[str] = "Use more epochs or another lr."

    def __init__(self, estimator, *, memory=None, random_state=None):
        self.estimator = estimator
        self.memory = memory
        self.random_state = random_state

    # -- what a method implements ------------------------------------------------------------------

    @abstractmethod
    def _unlearn(self, request):
        """Return a fitted network that has forgotten ``request.forget``.

        Parameters
        ----------
        request : Request
            The original network and the rows. None of it may be changed.

        Returns
        -------
        net : skorch.NeuralNet
            Most methods return ``self._train(self._copy(request.original), request, ...)``.
        """

    # -- what a user calls -------------------------------------------------------------------------

    def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
        """Train a clone of the network on all rows, then unlearn those that `forget` marks.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            Training rows; images and sequences keep their shape.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or an indicator matrix if the criterion takes one (such as
            ``torch.nn.BCEWithLogitsLoss``). May be left out if `X` is a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,), default=None
            True for the rows to forget. None is a plain fit.
        X_val : array-like, default=None
            Held-out ("unseen") rows, which the network is not trained on. In a search, as many of
            them as there are rows have to come in a :class:`~skunlearn.model_selection.Whole`.
        y_val : array-like, default=None
            Their labels.

        Returns
        -------
        self : object
            The fitted unlearner.

        Raises
        ------
        ValueError
            If an argument is not as described; what was fitted before is kept.
        """
        with self._all_or_nothing():
            self._check_hyperparameters()
            template = self._check_estimator()
            self._check_not_sliced(X, X_val)
            data, y, mask, val = self._check_rows(X, y, forget, X_val, y_val, reset=True)
            self.classes_ = self._check_classes(template, data, y)
            codes = encode_labels(y, self.classes_)
            seed = self._draw_seed()
            unlearns = mask is not None and mask.any()
            if unlearns:
                self._check_needs(mask, val)
            original = None
            if self._is_frozen():
                original = template
                if not unlearns:
                    parts = copy_parts(parts_of(template))
                    original = assemble(template, parts, len(self.classes_))
                    original.history = deepcopy(template.history)
            elif "original" in self.needs or not unlearns:
                original = self._fit_original(template, data, codes, seed)
            for name in ("unlearning_history_", "_best_accuracy"):
                vars(self).pop(name, None)
            if unlearns:
                self._run(template, original, data, codes, mask, val, seed)
            else:
                self.estimator_ = original
                if mask is not None:
                    warnings.warn(
                        "forget marks no row: this was a plain fit and nothing was unlearned. In a "
                        "search, use ForgetKFold, which keeps every forget row in every fold.",
                        UserWarning,
                        stacklevel=2,
                    )
        return self

    def unlearn(self, X, y=None, *, forget, X_val=None, y_val=None):
        """Make the fitted network forget the rows that `forget` marks.

        Can be called again for the next request, with the rows that are left: a row that was
        forgotten earlier, and is in `X` without a mark, is a row to retain and is learnt again. If
        `unlearn` fails or is interrupted, the estimator stays as it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            The rows to forget together with the rows to retain.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or an indicator matrix if the criterion takes one (such as
            ``torch.nn.BCEWithLogitsLoss``). May be left out if `X` is a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,)
            True for the rows to forget; at least one.
        X_val : array-like, default=None
            Held-out ("unseen") rows, which the network was not trained on.
        y_val : array-like, default=None
            Their labels.

        Returns
        -------
        self : object
            The unlearner, with the unlearned network.

        Raises
        ------
        NotFittedError
            If `fit` was not called and `estimator` is not a fitted network in a `FrozenEstimator`.
        ValueError
            If an argument is not as described.
        """
        with self._all_or_nothing():
            self._check_hyperparameters()
            template = self._check_estimator()
            first = not hasattr(self, "estimator_")
            if first and not self._is_frozen():
                raise NotFittedError(
                    f"This {type(self).__name__} is not fitted yet. Call fit first, or pass a "
                    "network that is trained already in a FrozenEstimator."
                )
            data, y, mask, val = self._check_rows(X, y, forget, X_val, y_val, reset=first)
            if mask is None or not mask.any():
                raise ValueError(
                    "forget marks no row: nothing to unlearn. Pass a boolean mask of shape "
                    f"({len(data)},) that is True for the rows to forget."
                )
            self._check_needs(mask, val)
            if first:
                self.classes_ = self._check_classes(template, data, y)
            codes = encode_labels(y, self.classes_)
            original = template if first else self.estimator_
            self._run(template, original, data, codes, mask, val, self._draw_seed())
        return self

    def predict_proba(self, X):
        """Class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`. They sum to 1, unless a row may have several labels.
        """
        check_is_fitted(self)
        with released(self.estimator_):
            return predict_proba(self.estimator_, as_dataset(self.estimator_, self._check_X(X)))

    def predict(self, X):
        """Predicted labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The most probable label of each row; the indicators of those with a probability above
            0.5, for a network with several labels per row.
        """
        proba = self.predict_proba(X)
        codes = predicted(self.estimator_, proba)
        return codes if codes.ndim == 2 else self.classes_[codes]

    def score(self, X, y=None, sample_weight=None):
        """Accuracy: the share of rows whose labels are predicted.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Their labels. May be left out if `X` is a data set that yields pairs.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            Between 0 and 1. Where a row may have several labels, all of them have to be right.
        """
        return super().score(X, given_labels("y", X, y), sample_weight)

    def search_space(self):
        """Where a search over the parameters of this unlearner starts.

        The space is about the network at hand. Learning rates are log-uniform, for most methods
        from a tenth of `lr`, or else of the network's own, to ten times as much. Epochs run from 1
        to a third of the network's `max_epochs` (3 at least), evenly on a logarithmic scale: what
        takes longer has a shorter training from scratch to compete with. What belongs to the method
        itself runs over what its publication and its users have found to matter.

        Returns
        -------
        space : dict of str to list or scipy.stats distribution
            What :class:`~sklearn.model_selection.RandomizedSearchCV` and
            :class:`~sklearn.model_selection.ParameterSampler` take as ``param_distributions``.

        See Also
        --------
        skunlearn.benchmark.compare_unlearners : Compares unlearners, and searches over them.

        Notes
        -----
        Give every method of a comparison the same number of trials. No parameter that needs
        held-out rows is in it. A few settings may be refused for the rows at hand, or diverge; a
        search marks them with its ``error_score``.

        Examples
        --------
        >>> from skorch import NeuralNetClassifier
        >>> from sklearn.model_selection import ParameterSampler
        >>> from torch import nn
        >>> from skunlearn import EUk
        >>> net = NeuralNetClassifier(
        ...     nn.Linear, criterion=nn.CrossEntropyLoss, lr=0.1, max_epochs=30
        ... )
        >>> space = EUk(net).search_space()
        >>> space["k"], space["max_epochs"]
        ([0.25, 0.5, 0.75], [1, 2, 3, 5, 10])
        >>> [trial["max_epochs"] for trial in ParameterSampler(space, 3, random_state=0)]
        [1, 3, 1]
        """
        net, given, space = self._check_estimator(), self.get_params(deep=False), {}
        if "lr" in given:
            lr = self.lr or net.lr
            space["lr"] = loguniform(lr / 10, lr * 10)
        if "max_epochs" in given:
            space["max_epochs"] = [n for n in _EPOCHS if n <= max(3, net.max_epochs / 3)]
        return space | self._search_space(space)

    # -- what methods use --------------------------------------------------------------------------

    def _search_space(self, common):
        """What a method adds to, or has in place of, the space that methods have in common."""
        return {}

    def _copy(self, original):
        """A network with the original's weights, to be changed, set up for this method's run.

        Where the unlearner has `lr`, `optimizer`, `batch_size` or `max_epochs` and they are not
        None, they replace the network's own. Batches are shuffled unless the network says not.
        """
        template = self._check_estimator()
        settings = self._settings()
        ways = ("shuffle", "sampler", "batch_sampler")
        if not any(hasattr(template, f"iterator_train__{way}") for way in ways):
            settings["iterator_train__shuffle"] = True
        for name in SIZES:  # which the data has set, if the user has not
            if hasattr(original, name):
                settings[name] = getattr(original, name)
        if original.compile:
            settings["compile"] = False  # for the run: hooks of layers would not run
        parts = copy_parts(plain_parts(original))
        return assemble(template, parts, len(self.classes_), **settings)

    def _check_hyperparameters(self):
        """Raise a ValueError for a hyperparameter that makes no sense; extended by methods."""
        given = self._settings()
        if "lr" in given:
            check_number("lr", self.lr, 0, low_open=True)
        if "max_epochs" in given:
            check_number("max_epochs", self.max_epochs, 1, integer=True)
        if "batch_size" in given:
            check_number("batch_size", self.batch_size, 1, integer=True)
        if "optimizer" in given and not callable(self.optimizer):
            raise ValueError(
                "optimizer must be a torch.optim class (or functools.partial of one) or None for "
                f"the network's own; got {self.optimizer!r}."
            )

    def _settings(self):
        names = ("lr", "optimizer", "batch_size", "max_epochs")
        given = {name: getattr(self, name, None) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def _train(self, net, request, *phases, cosine=True, callbacks=()):
        """Run skorch's training loop on `net`, with steps of the method's own.

        Parameters
        ----------
        net : skorch.NeuralNet
            What :meth:`_copy` returned.
        request : Request
            Where the validation rows come from.
        *phases : tuple (rows, step, n_epochs)
            Trained one after the other in a single run. ``step(net, X, y, progress)`` returns the
            loss of a batch and the network's output for it; `progress` rises from 0 to 1 over the
            phase. A step of None is the plain one: the criterion on the batch.
        cosine : bool, default=True
            Let the learning rate fall to 0 on a cosine over the run, unless the network has an
            `LRScheduler` of its own.
        callbacks : sequence of skorch.callbacks.Callback
            Callbacks of the method itself, for this run only.

        Returns
        -------
        net : skorch.NeuralNet
            The same network, trained.
        """
        step, done, total, stepped = None, 0, 1, False
        callbacks = list(callbacks)
        name = type(self).__name__

        def train_step(self, batch, **fit_params):
            nonlocal done, stepped
            stepped = False
            result = super(type(self), self).train_step(batch, **fit_params)
            if not stepped:
                raise ValueError(
                    f"estimator's class, {type(self).__name__}, has a train_step that does not "
                    f"call train_step_single, which is where {name} puts its step."
                )
            done += 1
            return result

        def train_step_single(self, batch, **fit_params):
            nonlocal stepped
            stepped = True
            if step is None:
                return super(type(self), self).train_step_single(batch, **fit_params)
            self._set_training(True)
            X, y = to_device(batch, self.device)
            loss, y_pred = step(self, X, y, done / max(total - 1, 1))
            self.backward(loss)
            return {"loss": loss, "y_pred": y_pred}

        with running(
            net,
            train_step=train_step,
            train_step_single=train_step_single,
            # The rows were checked and split before the run; a class may have no retained row left.
            check_data=lambda self, X, y=None: None,
            _own_callbacks=callbacks,
            _run_name=name,
            _forget=request.forget,
            get_split_datasets=lambda self, X, y=None, **kwargs: (X, request.valid),
        ):
            totals = [n_epochs * len(batches(net, rows)) for rows, _, n_epochs in phases]
            has_schedule = any(isinstance(cb, LRScheduler) for _, cb in net.callbacks_)
            if cosine and not has_schedule and hasattr(net, "optimizer_"):
                schedule = torch.optim.lr_scheduler.CosineAnnealingLR
                callbacks.append(
                    LRScheduler(schedule, T_max=max(sum(totals), 1), step_every="batch")
                )
            users, module = net.callbacks_, net.module_
            net.callbacks_ = [(type(cb).__name__, cb.initialize()) for cb in callbacks] + users
            with training(net, request.retain, request.retain.y):
                check_schedule(net, sum(totals), sum(n_epochs for *_, n_epochs in phases))
                if net.module_ is not module:
                    raise ValueError(
                        "a callback of estimator has made its module anew in on_train_begin, which "
                        "would undo its training; set the module's sizes with module__... instead."
                    )
                for (rows, step, n_epochs), total in zip(phases, totals):  # noqa: B007
                    done = 0
                    net.fit_loop(rows, epochs=n_epochs)
            net.callbacks_ = users
        if hasattr(net, "optimizer_"):
            # Momentum and gradients were made from the forget rows, and a scheduler of the user's
            # still holds this optimiser.
            net.optimizer_.zero_grad(set_to_none=True)
            net.optimizer_.state.clear()
            net.initialize_optimizer()
        return net

    def _train_from_scratch(self, rows):
        """Train a network on `rows` from fresh weights, with its own settings or this method's."""
        template = self._check_estimator()
        check_fresh(template)
        name = f"{type(self).__name__}'s training"
        return fit_network(template, rows, len(self.classes_), name=name, **self._settings())

    # -- the run -----------------------------------------------------------------------------------

    def _run(self, template, original, data, codes, mask, val, seed):
        """Unlearn, and only then replace the network."""
        rows = rows_for(template, original, data, codes)
        retain, forget = rows.take(~mask), rows.take(mask)
        unseen = None
        if val is not None:
            unseen = rows_for(
                template, original, val[0], encode_labels(val[1], self.classes_, "y_val")
            )
            if original is not None:
                check_inputs(original, unseen, rows)
        with self._seeded(seed, template):
            valid = unseen
            if valid is None and "original" in self.needs and template.train_split and len(retain):
                kept, valid = split_rows(template.get_split_datasets, retain, retain.y)
                if isinstance(kept, Subset) and kept.dataset is retain:
                    retain = retain.take(kept.indices)
            net = self._unlearn(Request(original, retain, forget, unseen, valid))
            if original is not None:
                compiled_as(net, original)
                self._compare(original, net, retain, forget)
            drop_activations(net, retain if len(retain) else forget)
        self.estimator_ = net
        self.unlearning_history_ = net.history

    def _compare(self, original, net, retain, forget):
        """Compare the networks before and after a run, on a few rows."""
        if "original" in self.needs:
            self._check_changed(original, net, forget)
        if len(retain):
            self._check_kept(original, net, retain)

    def _check_changed(self, original, net, forget):
        """Warn of a run that did nothing, on a few of the rows that it was to forget."""
        few = forget.take(np.arange(min(len(forget), _FEW)))
        moved = np.abs(predict_proba(net, few) - predict_proba(original, few)).max()
        if not np.isfinite(moved):
            raise ValueError(
                f"{type(self).__name__} has diverged: the network's probabilities are not numbers "
                "any more. Nothing was changed; use a smaller lr or fewer epochs."
            )
        if moved < 0.001:
            warnings.warn(
                f"{type(self).__name__} has changed almost nothing: no class probability of "
                f"{len(few)} rows to forget moved by more than {moved:.2g}. Use stronger "
                "settings, such as a larger learning rate or more epochs where it has them.",
                UserWarning,
                stacklevel=5,
            )

    def _check_kept(self, original, net, retain):
        """Note what the run has cost, on a few retained rows, and warn if it has ruined them."""
        few = retain.take(np.arange(min(len(retain), _FEW)))
        (loss, accuracy), (loss_before, accuracy_before) = (
            _loss_and_accuracy(model, few) for model in (net, original)
        )
        if not net.history:
            net.history.new_epoch()
        for name, value in [
            ("retain_loss_before", loss_before),
            ("retain_accuracy_before", accuracy_before),
            ("retain_loss_after", loss),
            ("retain_accuracy_after", accuracy),
        ]:
            net.history.record(name, value)
        # Many small requests may cost little each: what counts is the best since the last fit.
        self._best_accuracy = max(accuracy_before, getattr(self, "_best_accuracy", 0.0))
        # A single row says nothing; a loss above that of a guess is as bad as wrong predictions.
        guess = np.log(2 if is_multilabel(net) else len(self.classes_))
        # Where a network is no better than a guess, its accuracy changes by chance.
        fell = loss_before < 0.95 * guess and (
            self._best_accuracy - accuracy > max(self._usual_cost, 2 / len(few))
        )
        if fell or (loss > 1.5 * guess > 1.5 * loss_before):
            warnings.warn(
                f"{type(self).__name__} has damaged the network: on {len(few)} retained rows the "
                f"accuracy went from {self._best_accuracy:.2f} to {accuracy:.2f}, the loss from "
                f"{loss_before:.2f} to {loss:.2f}. {self._remedy}",
                UserWarning,
                stacklevel=5,
            )

    def _fit_original(self, template, data, codes, seed):
        """The network trained on every row, from the cache where there is one."""
        check_fresh(template)
        memory = check_memory(self.memory)
        if getattr(memory, "location", memory) is not None and self.random_state is None:
            memory = check_memory(None)
            warnings.warn(
                "memory is not used with random_state=None: every original is another one. "
                "Give random_state an integer.",
                UserWarning,
                stacklevel=3,
            )

        def train():
            with self._seeded(seed, template):
                rows = rows_for(template, None, data, codes)
                net = fit_network(
                    template, rows, len(self.classes_), name="the training of the original"
                )
            return parts_of(net), net.history

        content = template, data, codes, seed
        if getattr(memory, "location", memory) is not None:
            with self._seeded(seed, template):
                content += (starting_point(template, data, len(self.classes_)),)
        parts, history = train_once(memory, content, train)
        return restored(template, parts, history, data, len(self.classes_))

    # -- checks ------------------------------------------------------------------------------------

    def _is_frozen(self):
        return isinstance(self.estimator, FrozenEstimator)

    def _check_estimator(self):
        """The network that `estimator` is or holds."""
        net = self.estimator.estimator if self._is_frozen() else self.estimator
        if not isinstance(net, NeuralNet) or isinstance(net, NeuralNetRegressor):
            raise ValueError(
                "estimator must be a skorch network that classifies, such as "
                f"skorch.NeuralNetClassifier, or one in a FrozenEstimator; got {net!r}."
            )
        criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
        if issubclass(criterion, _REGRESSION_LOSSES):
            raise ValueError(
                f"estimator has the criterion {criterion.__name__}, which is a regression loss; "
                "use a classification loss, such as torch.nn.CrossEntropyLoss."
            )
        check_samplers(net)
        if self._is_frozen():
            check_is_fitted(self.estimator)
        return net

    def _check_X(self, X, reset=False):
        X = unwrapped(X)
        if is_lazy(self.estimator_, X):
            return X
        return validate_data(self, X, reset=reset, allow_nd=True)

    def _check_rows(self, X, y, forget, X_val, y_val, reset):
        """Validated rows as a data set, labels, mask, and held-out rows as a pair."""
        net = self._check_estimator()

        def check(X, y, reset, x_name, y_name):
            X, y = unwrapped(X), unwrapped(y)
            if is_lazy(net, X, x_name):
                if reset:
                    for name in ("n_features_in_", "feature_names_in_"):
                        vars(self).pop(name, None)
                data = as_dataset(net, X)
                if not len(data):
                    raise ValueError(f"{x_name} must hold at least one row; got none.")
                as_pair(data[0], x_name)
                if y is None:
                    if not is_dataset(X):
                        raise ValueError(f"{y_name} must be given unless {x_name} yields pairs.")
                    y = labels_of(data, x_name)
                y = np.asarray(y)
                if y.shape[:1] != (len(data),):
                    raise ValueError(
                        f"{y_name} must have a label for each of the {len(data)} rows of {x_name}; "
                        f"got shape {y.shape}."
                    )
            else:
                X, y = validate_data(self, X, y, reset=reset, allow_nd=True, multi_output=True)
                data = as_dataset(net, X)
            self._check_targets(net, y, y_name)
            return data, y if is_multilabel(net) else column_or_1d(y, warn=True)

        data, y = check(X, y, reset, "X", "y")
        mask = None if forget is None else check_forget(forget, len(data), X)
        X_val, y_val = unwrapped(X_val), unwrapped(y_val)
        if X_val is None:
            if y_val is not None:
                raise ValueError("y_val was given without X_val; pass the rows it belongs to.")
            return data, y, mask, None
        if y_val is None and not is_dataset(X_val):
            is_lazy(net, X_val, "X_val")
            raise ValueError("X_val was given without y_val; pass the labels of the held-out rows.")
        try:
            val = check(X_val, y_val, False, "X_val", "y_val")
            check_row_shapes(net, data, val[0])
            return data, y, mask, val
        except ValueError as error:
            if "_val" in str(error):
                raise
            raise ValueError(f"X_val or y_val is not as it should be: {error}") from error

    def _check_not_sliced(self, X, X_val):
        """Refuse held-out rows that scikit-learn may have sliced with the folds of a search."""
        if X_val is None or isinstance(X_val, Whole) or not hasattr(self, "_is_clone"):
            return
        n, n_val = (
            _num_samples(next(iter(rows.values())) if isinstance(rows, Mapping) else rows)
            for rows in (X, X_val)
        )
        if n == n_val:
            raise ValueError(
                f"X_val has as many rows as X, {n}, and this {type(self).__name__} is a clone, as "
                "searches and cross-validation make them. scikit-learn slices with the folds "
                "whatever has as many rows as X, so that these may be a part of the held-out rows "
                "alone. Pass X_val=skunlearn.model_selection.Whole(X_val) and "
                "y_val=skunlearn.model_selection.Whole(y_val), which nothing slices."
            )

    def _check_needs(self, mask, val):
        """Raise a ValueError for what the method cannot work without and was not given."""
        needs = self._needs()
        if "retain" in needs and mask.all():
            raise ValueError(
                f"{type(self).__name__} needs retained rows, but forget is True for all "
                f"{len(mask)} rows of X; pass the rows to retain along with those to forget."
            )
        if "unseen" in needs and val is None:
            raise ValueError(
                f"{type(self).__name__}, as it is set up, needs held-out rows; pass them as X_val "
                "and y_val."
            )

    def _needs(self):
        """What this instance needs: `needs`, and what its hyperparameters add to it."""
        return self.needs

    def _check_targets(self, net, y, y_name):
        """Raise a ValueError for labels of a kind that the criterion does not take."""
        # Of what is missing, NaN is not equal to itself, and pandas' NA has no truth value.
        if y.dtype.kind in "fO" and any(
            value is None or type(value).__name__ == "NAType" or value != value for value in y.flat
        ):
            raise ValueError(f"{y_name} must hold the label of every row; got missing values.")
        try:
            check_classification_targets(y)
            given, taken = type_of_target(y) == "multilabel-indicator", is_multilabel(net)
        except ValueError as error:
            raise ValueError(
                f"{y_name}: {error} Pass one class for each row, such as the argmax of shares of "
                "several, or an indicator matrix of 0 and 1."
            ) from error
        name = getattr(net.criterion, "__name__", type(net.criterion).__name__)
        one_hot = given and (y.sum(axis=1) == 1).all()
        if given and not (taken and self.multilabel):
            way = f"{y_name}.argmax(axis=1)"
            if hasattr(net, "classes") and net.classes is not None:
                way = f"np.asarray(net.classes)[{way}]"
            several = f"the criterion of estimator, {name}, takes"
            remedy = "Use torch.nn.BCEWithLogitsLoss."
            if taken:
                several = f"{type(self).__name__} works with"
                remedy = "Use a method whose attribute multilabel is True, such as DLFD."
            elif isinstance(net, NeuralNetBinaryClassifier):
                several = "a NeuralNetBinaryClassifier takes"
                remedy = "Use skorch.NeuralNetClassifier with torch.nn.BCEWithLogitsLoss."
            raise ValueError(
                f"{y_name} is an indicator matrix of 0 and 1, of shape {y.shape}, but {several} "
                f"one label per row. {f'It is one-hot: pass {way}.' if one_hot else remedy}"
            )
        if taken and not given:
            raise ValueError(
                f"{y_name} has one label per row, shape {y.shape}, and is not an indicator matrix "
                f"of 0 and 1, which the criterion of estimator, {name}, takes. For one label per "
                "row, use torch.nn.CrossEntropyLoss and a module with an output for each class, or "
                "for two classes skorch.NeuralNetBinaryClassifier and a module with one output. "
                f"For several labels per row, pass {y_name} of shape (n_samples, n_labels)."
            )

    def _check_classes(self, template, data, y):
        """The labels, in the order of the network's output columns."""
        if y.ndim == 2:
            return np.arange(y.shape[1])
        classes = np.asarray(getattr(template, "classes", None))
        if classes.ndim and not (self._is_frozen() and classes.dtype.kind in "iufb"):
            return classes
        if self._is_frozen():
            n_columns = count_columns(
                template, rows_for(template, template, data, np.zeros(len(data)))
            )
            # skorch trains on numbers as they are: those of a network trained outside are columns,
            # whatever its parameter classes says. Names it says are those of the columns. It notes
            # the numbers, sorted: where there is one for each column, all of them are columns, and
            # anything else was noted here, by an unlearner.
            noted = np.asarray(getattr(template, "classes_inferred_", None))
            return noted if noted.shape == (n_columns,) else np.arange(n_columns)
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(
                f"y has one class, {classes.tolist()}; a classifier needs at least two."
            )
        return classes

    # -- randomness and atomicity ------------------------------------------------------------------

    def _draw_seed(self):
        return check_random_state(self.random_state).randint(np.iinfo(np.int32).max)

    @contextlib.contextmanager
    def _seeded(self, seed, net):
        """Seed every global generator, and put each back afterwards."""
        device = torch.device(net.device or "cpu")
        on_cpu = device.type == "cpu"
        # The generators are the process's: another thread that seeds them would mix into this run.
        with _SEEDING:
            numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
            try:
                with torch.random.fork_rng(
                    [] if on_cpu else [device], device_type="cuda" if on_cpu else device.type
                ):
                    # torch.manual_seed would reseed accelerators too.
                    (torch.default_generator.manual_seed if on_cpu else torch.manual_seed)(seed)
                    np.random.seed(seed)  # noqa: NPY002
                    random.seed(seed)
                    yield
            finally:
                np.random.set_state(numpy_state)  # noqa: NPY002
                random.setstate(python_state)

    @contextlib.contextmanager
    def _all_or_nothing(self):
        before = vars(self).copy()
        net = self.estimator.estimator if self._is_frozen() else self.estimator
        try:
            with released(net):
                yield
            for net in getattr(self, "estimators_", [getattr(self, "estimator_", None)]):
                if isinstance(net, NeuralNet):
                    net.classes_inferred_ = self.classes_  # for a FrozenEstimator of it
            vars(self).pop("_is_clone", None)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        net = self.estimator.estimator if self._is_frozen() else self.estimator
        tags.classifier_tags.multi_label = (
            self.multilabel and isinstance(net, NeuralNet) and is_multilabel(net)
        )
        return tags

    def __sklearn_clone__(self):
        # Searches and cross-validation fit clones: see _check_not_sliced.
        clone = super().__sklearn_clone__()
        clone._is_clone = True
        return clone

    def __deepcopy__(self, memo):
        # Unlike a pickle, a copy stays where the original is, and keeps its parameters.
        own = [getattr(self, "estimator_", None), *getattr(self, "estimators_", [])]
        for net in [*own, getattr(self.estimator, "estimator", None)]:
            if isinstance(net, NeuralNet) and net.initialized_:
                memo.update(without_graphs(parts_of(net)))
        copy = type(self).__new__(type(self))
        vars(copy).update(deepcopy(vars(self), memo))
        return copy

    def __getstate__(self):
        # A pickle must not carry the original's weights to where the request should have effect.
        state = super().__getstate__()
        if self._is_frozen() and hasattr(self, "unlearning_history_"):
            state = {**state, "estimator": FrozenEstimator(self.estimator_)}
        return state
