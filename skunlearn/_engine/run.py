"""The training run: skorch's loop over rows, with a step of a method's own."""

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from sklearn.base import clone
from skorch.callbacks import EarlyStopping, LRScheduler
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import Subset

from skunlearn._engine.build import configure, plain, sizes_from_data
from skunlearn._engine.predict import count_columns, predict_proba
from skunlearn._engine.restore import unnoticed
from skunlearn._engine.rows import MarkedBatch, MarkedRows, cast_for


def batches(net, rows):
    """The training batches of `rows`, as an iterable made anew at each call."""
    return net.get_iterator(rows, training=True)


def cycle(net, rows):
    """Training batches of `rows` without end."""
    while True:
        yield from batches(net, rows)


class _Running:
    """Mixed into a network's class while it trains here."""

    _own_callbacks = ()
    _run_name = "the training"
    _forget = None

    def get_iterator(self, dataset, training=False):
        if not training:
            return super().get_iterator(dataset, training=False)
        prefix, vary = "iterator_train__", {}
        for name in ("sampler", "batch_sampler"):
            factory = getattr(self, prefix + name, None)
            if factory is not None:
                vary[prefix + name] = factory(_sampled_labels(dataset))
        drops = getattr(self, prefix + "drop_last", None)
        batch_size = getattr(self, prefix + "batch_size", self.batch_size)
        # A user who drops the last, short batch relies on there being others. That is not so for
        # few rows, and each row to forget counts.
        if drops and (dataset is self._forget or len(dataset) < batch_size):
            vary[prefix + "drop_last"] = False
        # Batch normalisation refuses to train on a batch of one row, and how many rows a fold or a
        # request leaves is not the user's to choose.
        elif (
            drops is None
            and batch_size > 1
            and len(dataset) > 1
            and len(dataset) % batch_size == 1
            and dataset is not self._forget
            and not {prefix + "sampler", prefix + "batch_sampler"} & set(vary)
            and any(isinstance(m, _BatchNorm) for m in self.module_.modules())
        ):
            vary[prefix + "drop_last"] = True
        with _attributes(self, vary):
            if not isinstance(dataset, MarkedRows):
                return super().get_iterator(dataset, training=True)
            return _MarkedLoader(super().get_iterator(dataset, training=True), dataset)

    def infer(self, x, **fit_params):
        if not (self.module_.training and count_rows(x) == 1):
            return super().infer(x, **fit_params)
        with _statistics_of_one_row(self.module_):
            return super().infer(x, **fit_params)

    def get_split_datasets(self, X, y=None, **fit_params):
        return split_rows(super().get_split_datasets, X, y, **fit_params)

    def train_step(self, batch, **fit_params):
        result = super().train_step(batch, **fit_params)
        if not torch.isfinite(result["loss"]):
            if len(self.history) == len(self.history[-1]["batches"]) == 1:
                raise ValueError(
                    f"the first loss of {self._run_name}, before any step, is "
                    f"{result['loss'].item()}: the network that it starts from is broken (its own "
                    "training may have diverged), or X holds values that are not numbers. Nothing "
                    "was changed."
                )
            raise ValueError(
                f"{self._run_name} has diverged: the loss is {result['loss'].item()} in epoch "
                f"{len(self.history)}. Nothing was changed; use a smaller lr or fewer epochs, and "
                "make sure that the module returns what the criterion takes (NLLLoss takes "
                "probabilities in skorch)."
            )
        return result

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        # The loader of held-out rows draws from the generator that shuffles the rows to train on:
        # to watch must not change what is watched.
        with contextlib.nullcontext() if training else unnoticed(self):
            try:
                super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            except ValueError as error:
                if str(error) != "Dataset does not have consistent lengths.":
                    raise
                raise ValueError(
                    "skorch cannot count the rows of a batch that collate_fn of estimator has "
                    "made, as those of a PackedSequence. Let collate_fn pad the rows, and pack "
                    "them in the module, with torch.nn.utils.rnn.pack_padded_sequence."
                ) from error

    def backward(self, loss):
        """Add the gradients of a loss to those that the optimiser will step along."""
        if hasattr(self, "accelerator"):
            self.accelerator.backward(loss)
        else:
            loss.backward()

    def __reduce_ex__(self, protocol):
        # A callback may pickle the network in mid-run: as what it was before, without the callbacks
        # of the method, which may hold rows or the original's weights.
        state = dict(self.__getstate__())
        state["callbacks_"] = [
            (name, cb) for name, cb in self.callbacks_ if cb not in self._own_callbacks
        ]
        return object.__new__, (type(self).__mro__[2],), state


def _sampled_labels(dataset):
    """The encoded labels that a factory of samplers is called with."""
    if isinstance(dataset, Subset):  # of what train_split leaves
        return _sampled_labels(dataset.dataset)[dataset.indices]
    y = np.asarray(dataset.y)
    return y.astype(np.int64) if y.ndim == 1 else y


@contextlib.contextmanager
def _attributes(net, values):
    """Set parameters of a network for a moment."""
    before = {name: vars(net)[name] for name in values if name in vars(net)}
    vars(net).update(values)
    try:
        yield
    finally:
        for name in values:
            del vars(net)[name]
        vars(net).update(before)


@contextlib.contextmanager
def _statistics_of_one_row(module):
    """Let batch normalisation use its running statistics where one value per channel comes in.

    In training mode torch refuses such an input, since one value has no variance.
    """

    def before(norm, args):
        if norm.training and args[0].numel() == args[0].shape[1]:
            norm.eval()
            stopped.append(norm)

    def after(norm, args, output):
        if norm in stopped:
            stopped.remove(norm)
            norm.train()

    stopped = []
    with contextlib.ExitStack() as stack:
        for norm in plain(module).modules():
            if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
                stack.callback(norm.register_forward_pre_hook(before).remove)
                stack.callback(norm.register_forward_hook(after).remove)
        yield


def count_rows(X):
    """The number of rows in a batch of inputs."""
    if isinstance(X, PackedSequence):
        return int(X.batch_sizes[0])
    if isinstance(X, Mapping):
        X = list(X.values())
    return count_rows(X[0]) if isinstance(X, tuple | list) and len(X) else len(X)


def split_rows(split, rows, y, **params):
    """What skorch's ``get_split_datasets`` returns; its errors name the parameter."""
    try:
        return split(rows, y, **params)
    except ValueError as error:
        raise ValueError(
            f"train_split of estimator cannot set validation rows aside from {len(rows)} training "
            f"rows: {error} Use fewer folds, a ValidSplit that is not stratified, or "
            "train_split=None; held-out rows (X_val) take the place of train_split in unlearn."
        ) from error


class _MarkedLoader:
    """A loader of `MarkedRows` that takes the marks off before anyone else sees the batch."""

    def __init__(self, loader, rows):
        self.loader = loader
        self.rows = rows
        inner = getattr(loader, "base_dataloader", loader)
        if not hasattr(inner, "collate_fn"):
            raise ValueError(
                f"iterator_train of estimator must be a torch.utils.data.DataLoader; got "
                f"{type(inner).__name__}, which has no collate_fn."
            )
        inner.collate_fn = MarkedBatch(inner.collate_fn)

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch, marks in self.loader:
            self.rows.marks = marks
            yield batch


@contextlib.contextmanager
def running(net, **methods):
    """Give `net` other methods for the time of a run; nothing of them stays behind."""
    plain = type(net)
    run = net.__class__ = type(plain.__name__, (_Running, plain), methods)
    try:
        yield net
    finally:
        net.__class__ = plain
        for (
            name
        ) in methods:  # whose closures hold the rows and the original until a class is collected
            delattr(run, name)


@contextlib.contextmanager
def training(net, X, y):
    """Tell callbacks of the beginning and the end of a training, and let EarlyStopping end it.

    skorch's own `fit` takes every KeyboardInterrupt for a wish to stop early, and returns a network
    that is half trained. Here only EarlyStopping, which raises one, is understood so.
    """
    net.notify("on_train_begin", X=X, y=y)
    try:
        yield
    except KeyboardInterrupt:
        stopping = (cb for _, cb in net.callbacks_ if isinstance(cb, EarlyStopping))
        if not any(cb.misses_ == cb.patience for cb in stopping):
            raise
    net.notify("on_train_end", X=X, y=y)


def fit_network(template, rows, n_classes, *, name="the training", state=None, **settings):
    """A clone of `template`, trained on `rows` as skorch would, from fresh weights.

    Parameters
    ----------
    template : skorch.NeuralNet
        Its settings.
    rows : Rows
        What to train on.
    n_classes : int
        How many columns its output has to have.
    name : str, default="the training"
        What to call the training in messages.
    state : dict of str to dict of str to torch.Tensor, default=None
        State dicts of modules and criteria, by name, to go on from.
    **settings : object
        Parameters that replace the template's.

    Returns
    -------
    net : skorch.NeuralNet
        The trained network.

    Raises
    ------
    ValueError
        If the training diverges, or the module has another number of outputs.
    """
    net = configure(clone(template), settings)
    net.set_params(**sizes_from_data(template, rows, n_classes))
    with running(net, _run_name=name):
        net.initialize()
        for part, values in (state or {}).items():
            plain(getattr(net, f"{part}_")).load_state_dict(values)
        rows = cast_for(net, rows)
        with training(net, rows, rows.y):
            n_columns = count_columns(net, rows)
            if n_columns != n_classes:
                raise ValueError(
                    f"estimator's module returns {n_columns} columns, but y has {n_classes} "
                    "classes. Give the module as many outputs as there are classes, or pass "
                    "classes= to the network if y lacks some of them."
                )
            check_schedule(net, net.max_epochs * len(batches(net, rows)), net.max_epochs)
            net.fit_loop(rows, rows.y)
    net.classes_inferred_ = np.arange(n_classes)  # rows may lack some
    _check_converged(net, rows, name)
    return net


def _check_converged(net, rows, name):
    """Raise a ValueError if a training from scratch has ended in a network that says nothing."""
    losses = [[b["train_loss"] for b in e["batches"] if "train_loss" in b] for e in net.history]
    first, last = losses[0][0], np.mean(losses[-1])
    if last > 1000 * max(first, 1) or not np.isfinite(predict_proba(net, rows.take([0]))).all():
        raise ValueError(
            f"{name} has diverged: its loss went from {first:.3g} to {last:.3g}, and the network's "
            "output is of no use. Nothing was changed; use a smaller lr for estimator."
        )


def check_schedule(net, n_steps, n_epochs):
    """Raise a ValueError for a schedule of the user's that ends before the training does."""
    for _, callback in net.callbacks_:
        policy = getattr(callback, "policy", None)
        if not isinstance(callback, LRScheduler) or "OneCycleLR" not in (
            policy,
            getattr(policy, "__name__", None),
        ):
            continue
        given = callback.kwargs
        total = given.get("total_steps") or given["epochs"] * given["steps_per_epoch"]
        wanted = n_steps if callback.step_every == "batch" else n_epochs
        if wanted > total:
            raise ValueError(
                f"callbacks of estimator hold an LRScheduler with OneCycleLR for {total} steps, "
                f"but this training takes {wanted}. "
                "Give it as many total_steps, or leave it out for an unlearner: without a schedule "
                "of its own, the learning rate of an unlearning run falls to 0 on a cosine."
            )
