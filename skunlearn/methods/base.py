"""Unlearners of one network: what every method but an ensemble derives from."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.stats import loguniform
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, check_memory
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch.utils.data import Subset

from skunlearn._engine.build import (
    assemble,
    copy_parts,
    parts_of,
    plain_parts,
    settings_of_copy,
)
from skunlearn._engine.cache import is_kept, train_once
from skunlearn._engine.finish import compare, finish
from skunlearn._engine.fit import fit_network, split_rows
from skunlearn._engine.fresh import check_fresh, restored
from skunlearn._engine.hashing import starting_point
from skunlearn._engine.predict import (
    behaviour,
    check_inputs,
    count_columns,
    predict_log_proba,
    predict_proba,
    predicted,
    view_of,
)
from skunlearn._engine.random import draw_seed, restore_accelerator, seeded
from skunlearn._engine.rows import first_rows, rows_for, shapes_of
from skunlearn._engine.run import CosineSchedule, Cost, TrainingRun
from skunlearn._engine.validation import (
    SETTINGS,
    as_dataset,
    check_network,
    check_network_data,
    check_network_X,
    check_row_shapes,
    check_settings,
    distinct_classes,
    is_multilabel,
    warn,
)
from skunlearn.base import BaseUnlearner, Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from skorch.callbacks import Callback

    from skunlearn._engine.rows import Rows
    from skunlearn._engine.typing import Network, Phase
    from skunlearn._engine.validation import Given, Task

_FEW = 256  # rows, at most, that are compared before and after a run
_EPOCHS = (1, 2, 3, 5, 10, 20, 30, 50, 100)


class NetworkUnlearner(BaseUnlearner):  # numpydoc ignore=PR02
    """Base class of unlearners that turn one network into another, in one training run.

    A subclass names its hyperparameters in ``__init__`` and implements one hook, :meth:`_unlearn`,
    which returns a network that has forgotten. Seeding, caching of the original, and the comparison
    of the networks before and after are done here.

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
    unlearning_cost_ : float
        Samples that the last request sent through networks, forwards and backwards; one that went
        forwards alone counts a third. What is only watched, as validation, does not count.

    See Also
    --------
    skunlearn.base.Request : What the hook is given.
    skunlearn.BaseUnlearner : What all unlearners have in common.
    skunlearn.utils.estimator_checks.check_unlearner : Holds a method to the contract.

    Examples
    --------
    A method of your own, gradient ascent on the rows to forget:

    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import NetworkUnlearner
    >>> class Ascent(NetworkUnlearner):
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

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain"})

    #: How much accuracy on retained rows a run of this method may cost without a warning.
    _usual_cost: ClassVar[float] = 0.2

    #: What to do about a run that costs more.
    _remedy: ClassVar[str] = "Use more epochs or another lr."

    @abstractmethod
    def _unlearn(self, request: Request) -> NeuralNet:
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

    # -- what methods use --------------------------------------------------------------------------

    def _copy(self, original: NeuralNet) -> NeuralNet:
        """A network with the original's weights, to be changed, set up for this method's run.

        Where the unlearner has `lr`, `optimizer`, `batch_size` or `max_epochs` and they are not
        None, they replace the network's own. Batches are shuffled unless the network says not.
        """
        return self._assemble(None, original)

    def _assemble(self, parts: dict[str, Any] | None, original: NeuralNet) -> NeuralNet:
        """What :meth:`_copy` makes, of the given modules and criteria or of the original's own."""
        template, settings, cost = self._template, self._settings(), self._cost
        if parts is None:
            with cost.switched(original, on=False):
                parts = copy_parts(plain_parts(original))
        settings = settings_of_copy(template, original) | settings
        if original.compile:
            settings["compile"] = False  # for the run: hooks of layers would not run
        net = assemble(template, parts, len(self.classes_), **settings)
        if hasattr(self, "_counter"):  # else nobody would let go of it
            cost.watch(net)
        return net

    @property
    def _cost(self) -> Cost:
        """What counts the samples of a run; outside of one, a counter that nobody reads."""
        return vars(self).get("_counter") or Cost()

    def _check_hyperparameters(self) -> None:
        """Raise a ValueError for a hyperparameter of the method's own that makes no sense.

        `lr`, `max_epochs`, `batch_size` and `optimizer` are checked without it.
        """

    def _settings(self) -> dict[str, Any]:
        given = {name: getattr(self, name, None) for name in SETTINGS}
        return {name: value for name, value in given.items() if value is not None}

    def _train(
        self,
        net: NeuralNet,
        request: Request,
        *phases: Phase,
        cosine: bool = True,
        callbacks: Sequence[Callback] = (),
        forget_batch_size: int | None = None,
    ) -> NeuralNet:
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
        forget_batch_size : int, default=None
            Rows in a batch in phases on ``request.forget``; None for as many as in the others.

        Returns
        -------
        net : skorch.NeuralNet
            The same network, trained.
        """
        name, callbacks = type(self).__name__, list(callbacks)
        run = TrainingRun(
            net,
            name=name,
            forget=request.forget,
            cost=self._cost,
            forget_batch_size=forget_batch_size,
        )
        n_steps = sum(n_epochs * len(run.batches(rows)) for rows, _, n_epochs in phases)
        has_schedule = any(isinstance(cb, LRScheduler) for _, cb in net.callbacks_)
        if cosine and not has_schedule and hasattr(net, "optimizer_"):
            callbacks.append(CosineSchedule(n_steps))
        users, module = net.callbacks_, net.module_
        net.callbacks_ = [(type(cb).__name__, cb.initialize()) for cb in callbacks] + users
        with run.training(request.retain):
            run.check_schedule(n_steps, sum(n_epochs for *_, n_epochs in phases))
            if net.module_ is not module:
                raise ValueError(
                    "a callback of estimator has replaced its module in on_train_begin, which "
                    "would undo its training; set the module's sizes with module__... instead."
                )
            for rows, step, n_epochs in phases:
                run.train(rows, step, n_epochs, request.valid)
        net.callbacks_ = users
        if hasattr(net, "optimizer_"):
            # Momentum and gradients were made from the forget rows, and a scheduler of the user's
            # still holds this optimiser.
            net.optimizer_.zero_grad(set_to_none=True)
            net.optimizer_.state.clear()
            net.initialize_optimizer()
        return net

    def _train_from_scratch(self, rows: Rows) -> NeuralNet:
        """Train a network on `rows` from fresh weights, with its own settings or this method's."""
        template = self._template
        check_fresh(template)
        name = f"{type(self).__name__}'s training"
        return fit_network(
            template, rows, len(self.classes_), name=name, cost=self._cost, **self._settings()
        )

    # -- the run -----------------------------------------------------------------------------------

    def _carry_out(self, given, needs, reset=False):
        template = self._template
        task = self._check_task(given, needs, reset)
        seed = draw_seed(self.random_state)
        with restore_accelerator(template):
            if reset:
                vars(self).pop("_best_accuracy", None)
                original = self._find_original(template, task, seed)
            else:
                original = getattr(self, "estimator_", template)
            if not task.mask.any():
                self.estimator_ = self._keep_original(template, original)
                return task
            with seeded(seed, template.device):
                rows = rows_for(template, original, task.data, task.codes)
                retain, forget = rows.take(~task.mask), rows.take(task.mask)
                valid = val = None if task.val is None else rows_for(template, original, *task.val)
                splits = val is None and "original" in self.needs and template.train_split
                if splits and len(retain):
                    kept, valid = split_rows(template, retain)
                    if isinstance(kept, Subset) and kept.dataset is retain:
                        retain = retain.take(kept.indices)
                if original is not None:
                    n_forget = _FEW if "original" in self.needs else 0
                    watched = first_rows(retain, _FEW), first_rows(forget, n_forget)
                    if val is not None:
                        shapes = shapes_of(val), shapes_of(rows)
                        if shapes[0] != shapes[1]:
                            check_inputs(original, val, *shapes)
                    before = behaviour(original, *watched)
                with Cost() as cost, contextlib.ExitStack() as counted:
                    self._counter = cost
                    if original is not None:
                        counted.enter_context(cost.switched(original, on=True))
                    net = self._unlearn(Request(original, retain, forget, val, valid))
                    cost.leave(net)
                del self._counter
                if original is not None:
                    self._best_accuracy = compare(
                        net,
                        before,
                        behaviour(net, *watched),
                        name=type(self).__name__,
                        best=getattr(self, "_best_accuracy", 0.0),
                        usual_cost=self._usual_cost,
                        remedy=self._remedy,
                    )
                finish(net, original, retain if len(retain) else forget)
        net.classes_inferred_ = self.classes_  # for a FrozenEstimator of it
        # Only now is the network replaced.
        self.estimator_ = net
        self.unlearning_history_ = net.history
        self.unlearning_cost_ = cost.samples
        return task

    def _find_original(self, template, task, seed):
        """The network to unlearn from, trained if need be; None if the method has no use for it."""
        if self._is_frozen():
            return template
        if "original" in self.needs or not task.mask.any():
            return self._fit_original(template, task, seed)
        return None

    def _keep_original(self, template, original):
        """What a plain fit ends in: the original, or a copy of one that was given."""
        net = original
        if self._is_frozen():
            net = assemble(template, copy_parts(parts_of(template)), len(self.classes_))
            net.history = deepcopy(template.history)
        net.classes_inferred_ = self.classes_
        return net

    def _fit_original(self, template, task, seed):
        """The network trained on every row, from the cache where there is one."""
        check_fresh(template)
        memory = check_memory(self.memory)
        if is_kept(memory) and self.random_state is None:
            memory = check_memory(None)
            warn(
                "memory is not used with random_state=None: every original is another one. "
                "Give random_state an integer.",
            )

        def train():
            with seeded(seed, template.device):
                rows = rows_for(template, None, task.data, task.codes)
                net = fit_network(
                    template, rows, len(self.classes_), name="the training of the original"
                )
            return parts_of(net), net.history

        content = template, task.data, task.codes, seed
        if is_kept(memory):
            with seeded(seed, template.device):
                content += (starting_point(template, task.data, len(self.classes_)),)
        parts, history = train_once(memory, content, train)
        return restored(template, parts, history, task.data, len(self.classes_))

    # -- the contract, for one network -------------------------------------------------------------

    @property
    def _template(self) -> Network:
        """What is in `estimator`, which may be frozen."""
        return self.estimator.estimator if self._is_frozen() else self.estimator

    def _is_frozen(self):
        return isinstance(self.estimator, FrozenEstimator)

    def _check_task(self, given: Given, needs: frozenset[str], reset: bool = False) -> Task:
        """Return what `fit` (with `reset`) or `unlearn` was given as a checked task.

        It checks hyperparameters and the estimator first. If `reset`, or if there were none, it
        sets `classes_`.
        """
        unlearns = not reset
        if unlearns and not hasattr(self, "estimator_"):
            if not self._is_frozen():
                raise NotFittedError(
                    f"This {type(self).__name__} is not fitted yet. Call fit first, or pass a "
                    "network that is trained already in a FrozenEstimator."
                )
            reset = True
        net = self._template
        self._check_hyperparameters()
        several = get_tags(self).classifier_tags.multi_label
        check_settings(self)
        check_network(net)
        if self._is_frozen():
            check_is_fitted(self.estimator)
        check_data = partial(check_network_data, self, net, several)
        task = given.check(self, check_data, needs, reset=reset, unlearns=unlearns)
        if task.val is not None:
            check_row_shapes(net, task.data, task.val[0])
        return task

    def __sklearn_tags__(self):
        tags, net = super().__sklearn_tags__(), self._template
        if isinstance(net, NeuralNet):
            tags.classifier_tags.multi_label = self.multilabel and is_multilabel(net)
        tags.input_tags.three_d_array = tags.input_tags.dict = True
        return tags

    def _check_X(self, X):
        return check_network_X(self, self.estimator_, X)

    def _check_classes(self, data, y):
        """The labels, in the order of the network's output columns."""
        template = self._template
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
        return distinct_classes(y)

    def _common_space(self):
        net, given, space = self._template, self.get_params(deep=False), {}
        check_network(net)
        if "lr" in given:
            lr = self.lr or net.lr
            space["lr"] = loguniform(lr / 10, lr * 10)
        if "max_epochs" in given:
            space["max_epochs"] = [n for n in _EPOCHS if n <= max(3, net.max_epochs / 3)]
        return space

    def _predict_proba(self, X):
        with restore_accelerator(self.estimator_):
            return predict_proba(self.estimator_, as_dataset(self.estimator_, X))

    def _predict_log_proba(self, X):
        if type(self)._predict_proba is not NetworkUnlearner._predict_proba:
            return None  # of a subclass that predicts in its own way
        with restore_accelerator(self.estimator_):
            return predict_log_proba(self.estimator_, as_dataset(self.estimator_, X))

    def _to_codes(self, proba):
        return predicted(self.estimator_, proba)

    def _start_from(self, original, X, y):
        self.set_params(estimator=FrozenEstimator(original))

    def _networks(self):
        return [self.estimator_] if hasattr(self, "estimator_") else []

    def __getstate__(self):
        # A pickle must not carry the original's weights to where the request should have effect.
        state = super().__getstate__()
        if self._is_frozen() and hasattr(self, "unlearning_history_"):
            state = {**state, "estimator": FrozenEstimator(self.estimator_)}
            state["_trained_with"] = {
                name: getattr(self._template, name) for name in self._settings()
            }
        return state

    def __setstate__(self, state):
        state = dict(state)
        settings = state.pop("_trained_with", None)
        super().__setstate__(state)
        if settings:  # on the same modules, which a pickle holds once
            self.estimator = FrozenEstimator(view_of(self.estimator_, **settings))
