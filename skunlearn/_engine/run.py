"""The training run: skorch's epochs and batches, with a step that a method may have of its own."""

import contextlib
import itertools
from collections.abc import Mapping

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.dataset import get_len
from skorch.utils import to_device
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import PackedSequence
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Subset, default_collate

from skunlearn._engine.build import attributes
from skunlearn._engine.predict import StackedRows, as_it_is, plain
from skunlearn._engine.random import preserve_rng
from skunlearn._engine.rows import MarkedBatch, MarkedRows, Rows


class Cost:
    """Counts samples: forwards and backwards as one, forwards alone as a third.

    It is itself the hook of each network that it watches, and lets go of all at the end of a
    ``with`` block.

    Attributes
    ----------
    samples : float
        The count so far.
    """

    def __init__(self):
        self.samples = 0.0
        self._handles = {}

    def __getstate__(self):
        # A copy of a watched network must not hold copies of all others that are watched.
        return vars(self) | {"_handles": {}}

    def __call__(self, module, args, kwargs):
        X = args or kwargs
        while isinstance(X, tuple | list | Mapping) and len(X):  # the rows of its first part
            if isinstance(X, PackedSequence):
                X = range(int(X.batch_sizes[0]))
            else:
                X = next(iter(X.values() if isinstance(X, Mapping) else X))
        n_rows = len(X)
        self.samples += n_rows * (1 if torch.is_grad_enabled() else 1 / 3)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        while self._handles:
            self._handles.popitem()[1].remove()

    def watch(self, net):
        """Count what goes through a network from now on."""
        if net.module_ not in self._handles:
            hook = net.module_.register_forward_pre_hook(self, with_kwargs=True)
            self._handles[net.module_] = hook

    @staticmethod
    def leave(net):
        """Take off a network what a copy of a watched one has of its hooks."""
        module = net.module_
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, Cost):
                del module._forward_pre_hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)

    @contextlib.contextmanager
    def switched(self, net, *, on):
        """Count what goes through a network, or not, inside the block.

        A copy made where it is off has no hook.
        """
        before = net.module_ in self._handles
        self._switch(net, on)
        try:
            yield
        finally:
            self._switch(net, before)

    def _switch(self, net, on):
        if on:
            self.watch(net)
        elif net.module_ in self._handles:
            self._handles.pop(net.module_).remove()


class TrainingRun:
    """One training of a skorch network, in place.

    Loaders, epochs, callbacks, history and optimiser are skorch's, which calls back for each batch.

    Parameters
    ----------
    net : skorch.NeuralNet
        The network, initialised.
    name : str, default="the training"
        What messages call the training.
    forget : Rows, default=None
        The rows to forget, of which no batch is left out, however short.
    cost : Cost, default=None
        Counts the samples that the steps send through the network.
    forget_batch_size : int, default=None
        Rows in a batch when it is `forget` that is trained on; None for as many as in any other.

    Attributes
    ----------
    step : callable or None
        ``step(net, X, y, progress)`` returns the loss of a batch and the network's output for it.
        None is skorch's own step: the criterion on the batch.
    progress : float
        How much of the current phase is done, from 0 to 1.
    """

    def __init__(self, net, *, name="the training", forget=None, cost=None, forget_batch_size=None):
        self.net = net
        self.name = name
        self.forget = forget
        self.forget_batch_size = forget_batch_size
        self.cost = Cost() if cost is None else cost
        self.step = self.rows = None
        self.progress = 0.0

    @contextlib.contextmanager
    def training(self, rows):
        """Tell callbacks of the beginning and the end, and let EarlyStopping bring it about.

        skorch's own `fit` takes every KeyboardInterrupt for a wish to stop early, and returns a
        network that is half trained. Here only EarlyStopping, which raises one, is understood so.
        """
        net = self.net
        with self.cost.switched(net, on=False):  # callbacks may pickle the network
            net.notify("on_train_begin", X=rows, y=rows.y)
            try:
                yield
            except KeyboardInterrupt:
                stopping = (cb for _, cb in net.callbacks_ if isinstance(cb, EarlyStopping))
                if not any(cb.misses_ == cb.patience for cb in stopping):
                    raise
            net.notify("on_train_end", X=rows, y=rows.y)

    def train(self, rows, step, n_epochs, valid=None):
        """Train on some rows, as skorch's ``fit_loop`` does.

        Parameters
        ----------
        rows : Rows
            What to train on.
        step : callable or None
            See `step`.
        n_epochs : int
            Passes over the rows.
        valid : torch.utils.data.Dataset, default=None
            Rows of the validation after each epoch.
        """
        net, self.step, self.rows = self.net, step, rows
        learnable(net)
        self._guards_forget = self._may_forget_one_row()
        loader = self.batches(rows)
        valid_loader = None if valid is None else net.get_iterator(valid, training=False)
        self._n_steps, self._n_done = n_epochs * len(loader), 0
        sets = {"dataset_train": rows, "dataset_valid": valid}
        own = {} if step is None else {"train_step_single": _Step(self)}
        with attributes(net, own):
            for _ in range(n_epochs):
                net.notify("on_epoch_begin", **sets)
                self._run_epoch(loader, "train", self.train_step)
                # The loader of held-out rows draws from the generator that shuffles the rows to
                # train on: to watch must not change what is watched.
                if valid_loader is not None:
                    with preserve_rng(net.device):
                        self._run_epoch(valid_loader, "valid", net.validation_step)
                net.notify("on_epoch_end", **sets)

    def batches(self, rows):
        """The training batches of `rows`."""
        if rows is not self.forget:
            return batches(self.net, rows)
        return batches(self.net, rows, whole=True, batch_size=self.forget_batch_size)

    def train_step(self, batch):
        """Train on a batch; a `ValueError` says so if the training has diverged."""
        net, self.progress = self.net, self._n_done / max(self._n_steps - 1, 1)
        self._is_reached = self.step is None
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.cost.switched(net, on=True))
            if self._guards_forget or get_len(batch[1]) == 1:
                stack.enter_context(one_row_statistics(net.module_))
            stack.enter_context(_sparse_gradients_told(net))
            result = net.train_step(batch)
        if not self._is_reached:
            raise ValueError(
                f"estimator's class, {type(net).__name__}, has a train_step that does not call "
                f"train_step_single, which is where {self.name} puts its step."
            )
        self._check_finite(result["loss"])
        self._n_done += 1
        return result

    def train_step_single(self, batch):
        """The loss of a batch by the method's step, and its gradient."""
        net, self._is_reached = self.net, True
        net._set_training(True)
        X, y = to_device(batch, net.device)
        self._check_order(y)
        loss, y_pred = self.step(net, X, y, self.progress)
        backward(net, loss)
        return {"loss": loss, "y_pred": y_pred}

    def check_schedule(self, n_steps, n_epochs):
        """Raise a ValueError for a schedule of the user's that ends before the training does."""
        for _, callback in self.net.callbacks_:
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
                    f"callbacks of estimator hold an LRScheduler with OneCycleLR for {total} "
                    f"steps, but this training takes {wanted}. Give it as many total_steps, or "
                    "leave it out for an unlearner: without a schedule of its own, the learning "
                    "rate of an unlearning run falls to 0 on a cosine."
                )

    def _run_epoch(self, loader, prefix, step):
        try:
            self.net.run_single_epoch(loader, prefix == "train", prefix, step)
        except ValueError as error:
            if str(error) != "Dataset does not have consistent lengths.":
                raise
            raise ValueError(
                "skorch cannot count the rows of a batch that collate_fn of estimator has made, as "
                "those of a PackedSequence. Let collate_fn pad the rows, and pack them in the "
                "module, with torch.nn.utils.rnn.pack_padded_sequence."
            ) from error

    def _may_forget_one_row(self):
        """Whether a step may send a single row to forget through the network."""
        if self.forget is None or not len(self.forget):
            return False
        size = self.forget_batch_size or _batch_size(self.net)
        is_free = hasattr(self.net, "iterator_train__batch_sampler")
        return is_free or len(self.forget) == 1 or size == 1 or len(self.forget) % size == 1

    def _check_order(self, y):
        """Refuse batches in which marks are not those of the rows any more."""
        labels = getattr(self.rows, "labels", None)
        if labels is None or torch.equal(labels.to(y), y):
            return
        raise ValueError(
            f"a train_step of estimator's class, {type(self.net).__name__}, or a callback has "
            f"changed the labels of a batch, or the order of its rows; {self.name} has to know "
            "which row is which. Let it leave both as they come from the loader."
        )

    def _check_finite(self, loss):
        if torch.isfinite(loss):
            return
        history = self.net.history
        if len(history) == len(history[-1]["batches"]) == 1:
            raise ValueError(
                f"the first loss of {self.name}, before any step, is {loss.item()}: the network "
                "that it starts from is broken (its own training may have diverged), or X holds "
                "values that are not numbers. Nothing was changed."
            )
        raise ValueError(
            f"{self.name} has diverged: the loss is {loss.item()} in epoch {len(history)}. Nothing "
            "was changed; use a smaller lr or fewer epochs, and make sure that the module returns "
            "what the criterion takes (NLLLoss takes probabilities in skorch)."
        )


class _Step:
    """A method's step in the place of skorch's; a pickle of the network in mid-run has skorch's."""

    def __init__(self, run):
        self.run = run

    def __call__(self, batch, **fit_params):
        return self.run.train_step_single(batch)

    def __reduce__(self):
        return getattr, (self.run.net, "train_step_single")


class RunCallback(Callback):
    """A callback of a method itself, which may hold rows or weights.

    A pickle that a user's callback makes of the network in mid-run has one that does nothing.
    """

    def __reduce_ex__(self, protocol):
        return Callback, ()


class CosineSchedule(RunCallback, LRScheduler):
    """Let the learning rate fall to 0 on a cosine over a run."""

    def __init__(self, n_steps):
        policy = torch.optim.lr_scheduler.CosineAnnealingLR
        super().__init__(policy, T_max=max(n_steps, 1), step_every="batch")


def learnable(net):
    """The parameters that training would change, in an order that copies share.

    A ValueError says so if there are none.
    """
    learnt = [weight for _, weight in net.get_all_learnable_params() if weight.requires_grad]
    if not learnt:
        raise ValueError(
            "estimator's module is frozen: there is nothing to train, since requires_grad is False "
            "for all of its parameters. Set it to True for those that shall be trained."
        )
    return learnt


def backward(net, loss):
    """Add the gradients of a loss to those that the optimiser will step along."""
    if hasattr(net, "accelerator"):
        net.accelerator.backward(loss)
    else:
        loss.backward()


def _batch_size(net):
    return getattr(net, "iterator_train__batch_size", net.batch_size)


def batches(net, rows, *, whole=False, batch_size=None):
    """The training batches of `rows`, as a new iterable at each call.

    If `whole`, no row is left out, even if the last batch is short. A `batch_size` replaces that of
    the network.
    """
    prefix, vary = "iterator_train__", {}
    for name in ("sampler", "batch_sampler"):
        factory = getattr(net, prefix + name, None)
        if factory is not None:
            vary[prefix + name] = factory(_sampled_labels(rows))
    drops = getattr(net, prefix + "drop_last", None)
    if batch_size is None:
        batch_size = _batch_size(net)
    elif prefix + "batch_sampler" in vary:
        raise ValueError(
            f"forget_batch_size={batch_size!r} cannot be kept: batches are made by the "
            "iterator_train__batch_sampler of estimator. Set it to None."
        )
    else:
        vary[prefix + "batch_size"] = batch_size
    # A user who drops the last, short batch relies on there being others. That is not so for
    # few rows, and each row to forget counts.
    if drops and (whole or len(rows) < batch_size):
        vary[prefix + "drop_last"] = False
    # Batch normalisation refuses to train on a batch of one row, and how many rows a fold or a
    # request leaves is not the user's to choose.
    elif (
        drops is None
        and batch_size > 1
        and len(rows) > 1
        and len(rows) % batch_size == 1
        and not whole
        and not {prefix + "sampler", prefix + "batch_sampler"} & set(vary)
        and any(isinstance(m, _BatchNorm) for m in net.module_.modules())
    ):
        vary[prefix + "drop_last"] = True
    with attributes(net, vary):
        loader = net.get_iterator(rows, training=True)
        is_plain = type(loader) is DataLoader and loader.collate_fn is default_collate
        if is_plain and type(rows) is Rows and rows.is_array:
            loader = net.get_iterator(StackedRows(rows), training=True)
            loader.collate_fn = as_it_is
    return _MarkedLoader(loader, rows) if isinstance(rows, MarkedRows) else loader


def cycle(net, rows, *, whole=False):
    """Training batches of `rows` without end."""
    return itertools.chain.from_iterable(batches(net, rows, whole=whole) for _ in itertools.count())


def renew_statistics(net, rows, n_batches):
    """Take the running statistics of batch normalisation from some training batches of `rows`."""
    some = itertools.islice(cycle(net, rows), n_batches)
    with one_row_statistics(net.module_):
        update_bn(([X] for X, _ in some), _Inference(net))


class _Inference(nn.Module):
    """A skorch network as a module, for torch's functions that call one."""

    def __init__(self, net):
        super().__init__()
        self.module = net.module_
        self.infer = net.infer

    def forward(self, X):
        return self.infer(X)


@contextlib.contextmanager
def _sparse_gradients_told(net):
    """Say which gradients are sparse where a training stops at them."""
    try:
        yield
    except RuntimeError as error:
        if "sparse" not in str(error).lower():
            raise
        kinds = {True: [], False: []}
        for name, parameter in net.get_all_learnable_params():
            if parameter.grad is not None:
                kinds[parameter.grad.is_sparse].append(name)
        raise ValueError(
            f"optimizer={type(net.optimizer_).__name__}, with its settings and the callbacks of "
            f"estimator, cannot train this module: the gradients of {kinds[True]} are sparse, "
            f"those of {kinds[False]} are dense. ({str(error).partition('. ')[0]}) "
            "torch.optim.SGD and Adagrad without weight_decay take both; any optimizer takes the "
            "gradients of an embedding with sparse=False."
        ) from error


def _sampled_labels(dataset):
    """The encoded labels that a factory of samplers is called with."""
    if isinstance(dataset, Subset):  # of what train_split leaves
        return _sampled_labels(dataset.dataset)[dataset.indices]
    y = np.asarray(dataset.y)
    return y.astype(np.int64) if y.ndim == 1 else y


@contextlib.contextmanager
def one_row_statistics(module):
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
            self.rows.marks, self.rows.labels = marks, torch.as_tensor(batch[1]).clone()
            yield batch
