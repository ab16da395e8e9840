"""The contract of an unlearner, whatever it is that it unlearns."""

from __future__ import annotations

import contextlib
from abc import ABCMeta, abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from skunlearn._engine.build import parts_of, without_graphs
from skunlearn._engine.rows import Rows
from skunlearn._engine.validation import Given, given_labels, warn

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike
    from skorch.history import History
    from typing_extensions import Self

    from skunlearn._engine.typing import (
        Array,
        HeldOutLabels,
        HeldOutRows,
        MaskLike,
        Memory,
        Network,
        RandomState,
        RowsLike,
    )
    from skunlearn._engine.validation import Task

__all__ = ["BaseUnlearner", "Request", "Rows"]


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
    val : Rows or None
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
    ...         print(len(request.retain), len(request.forget), request.val)
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
    val: Rows | None
    valid: torch.utils.data.Dataset[Any] | None


class BaseUnlearner(ClassifierMixin, MetaEstimatorMixin, BaseEstimator, metaclass=ABCMeta):
    """Base class of every unlearner.

    It checks what is given, encodes labels, and keeps what was fitted if a call fails. What is
    trained and unlearned, and how, is for those that derive from it. A method of your own that
    turns one network into another derives from :class:`~skunlearn.NetworkUnlearner`.

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
    classes_ : ndarray of shape (n_classes,)
        The labels, in the order of the columns of `predict_proba`.
    n_features_in_ : int
        Size of the second axis of `X`, where `X` is an array.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, where `X` is a data frame.
    unlearning_history_ : skorch.History
        The history of the last request; absent until there is one.
    unlearning_cost_ : float
        Samples that the last request sent through networks, forwards and backwards; one that went
        forwards alone counts a third. What is only watched, as validation, does not count.

    See Also
    --------
    skunlearn.NetworkUnlearner : Unlearners of one network, in one training run.
    skunlearn.SISA : An ensemble.
    skunlearn.all_unlearners : The methods of the package.
    skunlearn.utils.estimator_checks.check_unlearner : Holds a method to this contract.

    Examples
    --------
    >>> from skunlearn import BaseUnlearner, all_unlearners
    >>> all(issubclass(method, BaseUnlearner) for _, method in all_unlearners())
    True
    """

    __metadata_request__fit: ClassVar = {"forget": True, "X_val": True, "y_val": True}

    #: What a method cannot work without, out of ``original``, ``retain``, ``forget`` (the rows),
    #: ``forget_labels`` and ``val``; what the error messages are made from.
    needs: ClassVar[frozenset[str]] = frozenset({"retain"})

    #: Whether the method also works where a row may have several labels (an indicator matrix).
    multilabel: ClassVar[bool] = True

    classes_: Array
    n_features_in_: int
    feature_names_in_: Array
    unlearning_history_: History
    unlearning_cost_: float

    def __init__(
        self, estimator: Network, *, memory: Memory = None, random_state: RandomState = None
    ) -> None:
        self.estimator = estimator
        self.memory = memory
        self.random_state = random_state

    # -- what a kind of unlearner implements -------------------------------------------------------

    @abstractmethod
    def _check_X(self, X: RowsLike) -> Any:
        """Return rows to predict, checked."""

    @abstractmethod
    def _carry_out(self, given: Given, needs: frozenset[str], reset: bool = False) -> Task:
        """Check what `fit` (with `reset`) or `unlearn` was given, do it, and return it checked.

        Hyperparameters and the estimator are checked first. If `reset`, or if there were none, it
        sets `classes_`. `fit` trains on all rows, and unlearns those that are marked.
        """

    @abstractmethod
    def _predict_proba(self, X: Any) -> Array:
        """Return the class probabilities of checked rows."""

    def _predict_log_proba(self, X: Any) -> Array | None:
        """Return logarithms of the probabilities of checked rows, if they are to be had exactly."""
        return None

    @abstractmethod
    def _to_codes(self, proba: Array) -> Array:
        """Return the code that probabilities decide for, or indicators of several labels."""

    @abstractmethod
    def _start_from(self, original: NeuralNet, X: Any, y: Array) -> None:
        """Make this, which is not fitted, ready to unlearn from an original of the same network."""

    @abstractmethod
    def _networks(self) -> list[Any]:
        """Return the fitted networks."""

    # -- what a user calls -------------------------------------------------------------------------

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: MaskLike | None = None,
        X_val: HeldOutRows = None,
        y_val: HeldOutLabels = None,
    ) -> Self:
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
        return self._fit(X, y, forget, X_val, y_val)

    def unlearn(
        self,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: MaskLike,
        X_val: HeldOutRows = None,
        y_val: HeldOutLabels = None,
    ) -> Self:
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
        return self._forget(X, y, forget, X_val, y_val)

    def predict_proba(self, X: RowsLike) -> Array:
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
        return self._predict_proba(self._check_X(X))

    def predict_log_proba(self, X: RowsLike) -> Array:
        """Class log-probabilities, exact where a probability has become 0 or 1.

        They are made from the network's own outputs, if these are logits. What measures losses and
        margins, such as scorers and reports, reads them.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            Rows.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`. Where a network returns probabilities, or a row may
            have several labels, this is the logarithm of `predict_proba`.
        """
        logs = self._log_proba(X)
        if logs is not None:
            return logs
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: RowsLike) -> Array:
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
        codes = self._to_codes(self.predict_proba(X))
        return codes if codes.ndim == 2 else self.classes_[codes]

    def score(
        self, X: RowsLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
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

    def search_space(self) -> dict[str, Any]:
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
        skunlearn.compare_unlearners : Compares unlearners, and searches over them.

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
        common = self._common_space()
        return common | self._search_space(common)

    def _log_proba(self, X):
        """Logarithms that say more than probabilities do, or None."""
        check_is_fitted(self)
        if type(self).predict_proba is not BaseUnlearner.predict_proba:
            return None  # of a subclass that predicts in its own way
        return self._predict_log_proba(self._check_X(X))

    # -- what a method may add to ------------------------------------------------------------------

    def _common_space(self) -> dict[str, Any]:
        """What methods of a kind have in common in their search spaces."""
        return {}

    def _search_space(self, common: dict[str, Any]) -> dict[str, Any]:
        """What a method adds to, or has in place of, the space that methods have in common."""
        return {}

    def _needs(self) -> frozenset[str]:
        """What this instance needs: `needs`, and what its hyperparameters add to it."""
        return self.needs

    # -- from a call to what is done ---------------------------------------------------------------

    def _fit(self, X, y, forget, X_val, y_val, groups=None):
        with self._all_or_nothing():
            given = Given(X, y, forget, X_val, y_val, groups)
            if hasattr(self, "_is_clone"):
                given.check_not_sliced(type(self).__name__)
            for name in ("unlearning_history_", "unlearning_cost_"):
                vars(self).pop(name, None)
            task = self._carry_out(given, self._needs(), reset=True)
            if forget is not None and not task.mask.any():
                warn(
                    "forget marks no row: this was a plain fit and nothing was unlearned. In a "
                    "search, use ForgetKFold, which keeps every forget row in every fold."
                )
        return self

    def _forget(self, X, y, forget, X_val, y_val, groups=None):
        with self._all_or_nothing():
            given = Given(X, y, forget, X_val, y_val, groups)
            self._carry_out(given, self._needs())
        return self

    # -- randomness and atomicity ------------------------------------------------------------------

    @contextlib.contextmanager
    def _all_or_nothing(self):
        before = vars(self).copy()
        try:
            yield
            vars(self).pop("_is_clone", None)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def __sklearn_clone__(self):
        # Searches and cross-validation fit clones: see Given.check_not_sliced.
        clone = super().__sklearn_clone__()
        clone._is_clone = True
        return clone

    def __deepcopy__(self, memo):
        # Unlike a pickle, a copy stays where the original is, and keeps its parameters.
        for net in [*self._networks(), getattr(self.estimator, "estimator", None)]:
            if isinstance(net, NeuralNet) and net.initialized_:
                memo.update(without_graphs(parts_of(net)))
        copy = type(self).__new__(type(self))
        vars(copy).update(deepcopy(vars(self), memo))
        return copy
