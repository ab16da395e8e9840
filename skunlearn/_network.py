"""Making, copying and training the skorch networks that unlearners work on."""

import contextlib
import inspect
import random
from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from itertools import zip_longest

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.utils import to_device, to_numpy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import Subset, default_collate

from ._data import MarkedBatch, MarkedRows, Rows, as_pair, input_dtype

SIZES = ("module__n_features_in", "module__n_classes", "module__input_shape")
_INDICATOR_LOSSES = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.MultiLabelSoftMarginLoss,
)
_TAKE_LOGITS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)


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
        with _sparse_gradients_told(self):
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
def released(net):
    """Let an Accelerator keep nothing of what it is given meanwhile: weights, or loaders of rows.

    It notes all that it has prepared, and is one and the same object for every copy of a network.
    """
    accelerator = getattr(net, "accelerator", None)
    names = ("_models", "_optimizers", "_schedulers", "_dataloaders")
    notes = [getattr(accelerator, name) for name in names if hasattr(accelerator, name)]
    lengths = [len(note) for note in notes]
    try:
        yield
    finally:
        for note, length in zip(notes, lengths):
            del note[length:]


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
                one = " For one output and two classes, use skorch.NeuralNetBinaryClassifier."
                raise ValueError(
                    f"estimator's module returns {n_columns} columns, but y has {n_classes} "
                    "classes. Give the module as many outputs as there are classes, or pass "
                    "classes= to the network if y lacks some of them."
                    + (one if n_columns == 1 and n_classes == 2 and rows.y.ndim == 1 else "")
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


def sizes_from_data(net, rows, n_classes):
    """Arguments that the module requires, the user left out, and the data can tell."""
    if isinstance(net.module, nn.Module):
        return {}
    shape = tuple(np.shape(rows[0][0]))
    known = dict(zip(SIZES, (shape[0] if shape else None, n_classes, shape)))
    wanted = {
        f"module__{name}"
        for name, parameter in inspect.signature(net.module).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    return {name: known[name] for name in SIZES if name in wanted and not hasattr(net, name)}


def trainable_instances(net):
    """Parameters of a network that hold modules with weights, where a class was asked for."""
    given = net.get_params(deep=False)
    if net.get_params_for("module"):
        given.pop("module")  # of which skorch then takes no more than the class
    return {
        name: value
        for name, value in given.items()
        if isinstance(value, nn.Module) and any(True for _ in value.parameters())
    }


def check_fresh(net):
    """Refuse module instances, for a clone starts from whatever weights they hold."""
    for name, value in trainable_instances(net).items():
        raise ValueError(
            f"estimator was built on a module instance, {name}={type(value).__name__}(...), so a "
            "clone of it starts from whatever weights the instance holds and cannot be trained "
            f"from scratch. Pass the module's class ({name}={type(value).__name__}), or a function "
            "that builds it; a network that is trained already goes in a FrozenEstimator."
        )


def check_samplers(net):
    """Refuse samplers of given rows: each run here has rows of its own."""
    loader = getattr(net.iterator_train, "keywords", {})
    given = {
        f"iterator_train__{name}": getattr(net, f"iterator_train__{name}", loader.get(name))
        for name in ("sampler", "batch_sampler")
    }
    for name, value in given.items():
        if value is not None and not callable(value):
            raise ValueError(
                f"{name} of estimator is a {type(value).__name__} made for certain rows, and an "
                "unlearning run has others: its weights would fall on the wrong ones. Pass a "
                "function that makes one of the encoded labels of the rows at hand, such as "
                f"{name}=lambda y: WeightedRandomSampler(1 / np.bincount(y)[y], len(y)). For a "
                f"network that is trained already, set net.{name}."
            )
    for name in ("sampler", "batch_sampler"):
        if getattr(net, f"iterator_valid__{name}", None) is not None:
            raise ValueError(
                f"iterator_valid__{name} of estimator must not be set: predictions would come in "
                "another order than their rows."
            )


def configure(net, settings):
    """Set parameters of a network that is not initialised yet, dropping those they contradict."""
    if "optimizer" in settings:  # optimizer__... were meant for the optimiser that is replaced
        for name in [name for name in vars(net) if name.startswith("optimizer__")]:
            delattr(net, name)
    for name, inner in [("lr", "optimizer__lr"), ("batch_size", "iterator_train__batch_size")]:
        if name in settings and hasattr(net, inner):
            delattr(net, inner)
    return net.set_params(**settings)


def reinitialise(name, layer):
    """Draw all parameters of one layer anew, its own way; a layer that has none is a ValueError."""
    reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
    if reset is not None:
        with torch.no_grad():
            for parameter in layer.parameters(recurse=False):
                parameter.fill_(torch.nan)  # to find those that reset() leaves out
            reset()
    own = layer.named_parameters(recurse=False)
    left = [name for name, p in own if reset is None or p.isnan().any()]
    if left:
        if isinstance(layer, ParametrizationList):  # known by the layer that it is a part of
            owner, _, tensor = name.partition(".parametrizations.")
            name, left = owner, [f"{tensor} ({kind})" for kind in left]
        raise ValueError(
            f"layer {name!r} of estimator's module, a {type(layer).__name__}, cannot be "
            f"re-initialised: it has no reset_parameters() that draws {left} anew. Give it one, or "
            "pass the module's class, or a function that builds it, in place of an instance."
        )


def check_no_adapter(module, name):
    """Refuse a layer of an adapter, which starts otherwise than layers of its class."""
    for outer, adapted in module.named_modules():
        if name.startswith(f"{outer}.") and getattr(adapted, "adapter_layer_names", ()):
            raise ValueError(
                f"layer {name!r} of estimator's module is part of an adapter, a "
                f"{type(adapted).__name__}, and a module instance does not tell how that started. "
                "Pass a function that builds the module in place of an instance."
            )


def fresh_network(template, rows, n_classes):
    """A network as a training of `template` on `rows` would start, or None if an instance hides it.

    It is not compiled, and its lazy layers have their sizes.
    """
    if trainable_instances(template):
        return None
    net = clone(template)
    net.set_params(**sizes_from_data(template, rows, n_classes), compile=False)
    net.initialize()
    count_columns(net, rows)
    return net


def plain(module):
    """A module without what ``torch.compile`` has wrapped it in, where hooks run too."""
    return getattr(module, "_orig_mod", module)


def parts_of(net):
    """The modules and criteria of a fitted network, by name; what skorch has compiled as it was."""
    unwrap = plain if net.compile else lambda part: part
    return {
        kind: {name: unwrap(getattr(net, f"{name}_")) for name in getattr(net, f"_{kind}")}
        for kind in ("modules", "criteria")
    }


def plain_parts(net):
    """The modules and criteria of a fitted network, by name, none of them compiled."""
    return {
        kind: {name: plain(part) for name, part in parts.items()}
        for kind, parts in parts_of(net).items()
    }


def compiled_as(net, original):
    """Compile the modules and criteria of `net` where those of `original` are, in the same way."""
    net.compile = original.compile
    for name in (*net._modules, *net._criteria):
        part, before = getattr(net, f"{name}_"), getattr(original, f"{name}_")
        if original.compile:
            part = net.torch_compile(plain(part), name=name)
        elif plain(before) is not before:
            part = type(before)(plain(part), before.dynamo_ctx)
        setattr(net, f"{name}_", part)
    return net


def _tensors(value):
    """The tensors and arrays in an attribute of a module, in containers too."""
    if isinstance(value, torch.Tensor | np.ndarray):
        yield value
    elif isinstance(value, Mapping | list | tuple | deque):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(inner)


def _same(first, second):
    return all(
        type(a) is type(b)
        and (torch.equal if isinstance(a, torch.Tensor) else np.array_equal)(a, b)
        for a, b in zip_longest(_tensors(first), _tensors(second))
    )


def _zeros(value):
    """Zeros in the place of each tensor and array, as a memo for `deepcopy`."""
    return {
        id(t): t.new_zeros(t.shape) if isinstance(t, torch.Tensor) else np.zeros_like(t)
        for t in _tensors(value)
    }


def _attributes_of(parts):
    """Where modules hold tensors that are neither parameters nor buffers: (module, name) pairs."""
    own = ("_modules", "_parameters", "_buffers")
    return [
        (module, name)
        for module in _modules(parts)
        for name, value in vars(module).items()
        if name not in own and any(True for _ in _tensors(value))
    ]


def without_graphs(parts):
    """A memo for `deepcopy` of modules that leaves out what a forward pass left there.

    torch refuses to copy a tensor that a graph hangs on, and one that a module keeps for a plot is
    made of the rows that went through it. The old `weight_norm` computes its own at each pass.
    """
    return {
        id(t): t.new_zeros(t.shape)
        for module, name in _attributes_of(parts)
        for t in _tensors(vars(module)[name])
        if isinstance(t, torch.Tensor) and not t.is_leaf
    }


def copy_parts(parts):
    """A deep copy of the modules and criteria of a network, without what has a graph."""
    return deepcopy(parts, without_graphs(parts))


def drop_activations(net, rows):
    """Zero what the modules of a network keep of the rows that went through them.

    That is each attribute, neither a parameter nor a buffer, that a pass over two of `rows` changes
    in a copy, unless the copy's output or loss depends on what it was before: then it is a state
    that the network needs, of which only the graph is dropped.
    """
    parts = plain_parts(net)
    kept = _attributes_of(parts)
    if not kept:
        return

    def passed(drop, row=0):
        """What the given attributes are after passes that start without them, and the outputs."""
        copy, outputs = copy_parts(parts), []
        twins = dict(zip(map(id, _modules(parts)), _modules(copy)))
        for module, name in drop:
            value = vars(twins[id(module)])[name]
            vars(twins[id(module)])[name] = deepcopy(value, _zeros(value))
        view = quiet(net, **{f"{n}_": part for kind in copy.values() for n, part in kind.items()})
        with unnoticed(net):
            X, y = to_device(rows.batch([row, row]), net.device)
            for training in (True, False):  # a module may keep something in one of them alone
                view._set_training(training)
                y_pred = view.infer(X)
                loss = view.get_loss(y_pred, y, X=X, training=training)
                if loss.requires_grad:
                    loss.backward()  # hooks on gradients keep something too
                outputs += [loss, *_tensors(y_pred)]
        return [vars(twins[id(m)]).get(name) for m, name in kept], outputs

    after, expected = passed([])
    others, _ = passed([], len(rows) - 1)  # the first row may be the one that is kept
    rewritten = [
        (module, name)
        for (module, name), *values in zip(kept, after, others)
        if not all(_same(vars(module)[name], value) for value in values)
        # The weight that an old weight_norm or spectral_norm computes of weight_g or weight_orig.
        and not {f"{name}_g", f"{name}_orig"} & set(module._parameters)
    ]

    def needless(drop):
        _, outputs = passed(drop)
        pairs = zip(outputs, expected)
        return all(torch.allclose(a, b, 1e-3, 1e-5, equal_nan=True) for a, b in pairs)

    if rewritten and not needless(rewritten):
        rewritten = [place for place in rewritten if needless([place])]
    graphs = without_graphs(parts)
    for module, name in kept:
        value = vars(module)[name]
        if (module, name) in rewritten:
            memo = _zeros(value)
        else:
            memo = {id(t): t.detach() for t in _tensors(value) if id(t) in graphs}
        if memo:
            vars(module)[name] = deepcopy(value, memo)


def _modules(parts):
    """All modules of a network's modules and criteria, in a fixed order."""
    parts = (part for kind in parts.values() for part in kind.values())
    return [m for part in parts if isinstance(part, nn.Module) for m in part.modules()]


def assemble(template, parts, n_classes, **settings):
    """An initialised network with the template's settings and the given modules and criteria."""
    # skorch trains an instance that it was given in place: the template's holds the original's
    # weights, and its successor is the part of the same name.
    module = getattr(template, "module_", nn.Module())
    names = {id(part): name for name, part in plain(module).named_modules()} | {id(module): ""}
    params = {
        name: plain(parts["modules"]["module"]).get_submodule(names[id(value)])
        if id(value) in names
        else value
        if isinstance(value, nn.Module)
        else clone(value, safe=False)
        for name, value in template.get_params(deep=False).items()
    }
    net = type(template)(**params)
    configure(net, settings)

    def adopt(kind):
        def initialize(self):
            for name, part in parts[kind].items():
                setattr(self, f"{name}_", part)
            return self

        return initialize

    with running(net, initialize_module=adopt("modules"), initialize_criterion=adopt("criteria")):
        net.initialize()
    net.classes_inferred_ = np.arange(n_classes)
    return net


def restored(template, parts, history, data, n_classes):
    """A network that was trained as a clone of `template` on `data`, from its parts."""
    net = assemble(template, parts, n_classes, **sizes_from_data(template, data, n_classes))
    net.history = history
    return net


def is_multilabel(net):
    """Whether the criterion takes an indicator matrix: a column of 0 and 1 for each label."""
    criterion = net.criterion.func if isinstance(net.criterion, partial) else net.criterion
    criterion = criterion if isinstance(criterion, type) else type(criterion)
    return issubclass(criterion, _INDICATOR_LOSSES) and not isinstance(
        net, NeuralNetBinaryClassifier
    )


def rows_for(template, original, data, codes):
    """Rows with the target type the criterion takes, and the input type the network takes."""
    takes_float = isinstance(template, NeuralNetBinaryClassifier) or is_multilabel(template)
    y_type = torch.float32 if takes_float else torch.int64
    dtype = None if original is None else input_dtype(original, data)
    collate = template.get_params_for("iterator_train").get("collate_fn", default_collate)
    rows = Rows(data, torch.as_tensor(codes, dtype=y_type), dtype=dtype, collate=collate)
    return rows if original is None else cast_for(original, rows)


def cast_for(net, rows):
    """The same rows, their inputs and floating-point targets of the types that `net` takes."""
    floats = (p.dtype for p in net.module_.parameters() if p.dtype.is_floating_point)
    if rows.y.is_floating_point():
        rows = rows.relabel(rows.y.to(next(floats, torch.get_default_dtype())))
    return rows.cast(input_dtype(net, rows.data))


def count_columns(net, rows):
    """The number of classes that a network tells apart, from its output for one row.

    A `ValueError` names what is wrong with an output that the criterion was not made for.
    """
    kind, criterion = output_kind(net), plain(net.criterion_)
    # Not predict_proba: a data loader draws from the generator that the training starts from.
    output = net.evaluation_step((rows.batch([0, 0])[0], None))
    name, got = type(criterion).__name__, type(output).__name__
    if isinstance(output, tuple):
        as_skorch = type(net).get_loss in (NeuralNet.get_loss, NeuralNetClassifier.get_loss)
        if as_skorch and type(criterion).__module__.startswith("torch.nn."):
            raise ValueError(
                f"estimator's module returns a tuple of {len(output)}, and criterion={name} takes "
                "one tensor. Let the module return the first alone, or derive a class from "
                f"{type(net).__name__} whose get_loss takes y_pred[0]."
            )
        output, *_ = output
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            "estimator's module must return a tensor, or a tuple that begins with one; got "
            f"{got}. Wrap it in a module that returns the logits alone."
        )
    if kind == "other":
        output = net.predict_nonlinearity(output)
    elif kind == "log_proba" and (abs(output.exp().sum(dim=-1) - 1) > 0.01).any():
        raise ValueError(
            f"criterion={name} takes log-probabilities in a {type(net).__name__}, but "
            f"estimator's module returns values from {output.min():.3g} to {output.max():.3g}, "
            "whose exponentials do not sum to 1. End it with log_softmax; or use "
            "skorch.NeuralNetClassifier, and end it with softmax."
        )
    elif kind == "proba" and ((output < -0.01) | (output > 1.01)).any():
        wants = f"criterion={name} takes probabilities in a {type(net).__name__}"
        if not isinstance(criterion, nn.BCELoss | nn.NLLLoss):
            wants = "predict_nonlinearity=None is for a module that returns probabilities"
        raise ValueError(
            f"{wants}, but estimator's module returns values from {output.min():.3g} to "
            f"{output.max():.3g}. End it with a softmax (for BCELoss, a sigmoid), or use "
            "CrossEntropyLoss (BCEWithLogitsLoss), which takes logits."
        )
    if output.ndim == 1:
        return 2 if isinstance(net, NeuralNetBinaryClassifier) else 1
    return output.shape[1]


def check_inputs(net, rows, others):
    """Raise a ValueError for held-out rows of another shape that the network does not take."""
    shapes = [_shapes(part[0][0]) for part in (rows, others)]
    if shapes[0] == shapes[1]:
        return
    try:
        with modes_kept(net):
            count_columns(net, rows)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"X_val must have rows that the network takes. Those of X have shape {shapes[1]}, "
            f"those of X_val {shapes[0]}: {error}"
        ) from error


def check_row_shapes(net, data, held_out):
    """Refuse held-out rows with another first axis than rows that are stacked as they are."""
    if "collate_fn" in net.get_params_for("iterator_train"):  # which may pad them
        return
    shapes = [tuple(getattr(as_pair(part[0])[0], "shape", ())) for part in (held_out, data)]
    if all(shapes) and (shapes[0][0] != shapes[1][0] or len(shapes[0]) != len(shapes[1])):
        raise ValueError(
            f"X_val must have rows of the shape of those of X, {shapes[1]}; got {shapes[0]}."
        )


def _shapes(row):
    """The shape of an input, or those of its parts."""
    if isinstance(row, Mapping):
        return {key: _shapes(part) for key, part in row.items()}
    return list(map(_shapes, row)) if isinstance(row, tuple | list) else tuple(np.shape(row))


def output_kind(net):
    """What the module returns: "logits", "log_proba", "proba", or "other" for the user to say."""
    criterion = plain(net.criterion_)
    if isinstance(net, NeuralNetBinaryClassifier) and isinstance(
        criterion, nn.CrossEntropyLoss | nn.NLLLoss
    ):
        raise ValueError(
            f"criterion={type(criterion).__name__} takes an output for each class, and a "
            "NeuralNetBinaryClassifier has one for both. Use torch.nn.BCEWithLogitsLoss, or "
            "skorch.NeuralNetClassifier and a module with two outputs."
        )
    if isinstance(criterion, _TAKE_LOGITS):
        return "logits"
    if isinstance(criterion, nn.BCELoss):
        return "proba"
    if isinstance(criterion, nn.NLLLoss):  # of which skorch's classifier takes the logarithm itself
        return "proba" if isinstance(net, NeuralNetClassifier) else "log_proba"
    if net.predict_nonlinearity == "auto":
        raise ValueError(
            f"criterion={type(criterion).__name__} does not say whether the module returns logits "
            "or probabilities. Tell the network by predict_nonlinearity, a function from the "
            "module's output to probabilities, such as functools.partial(torch.softmax, dim=-1), "
            "or None if the output is probabilities already."
        )
    return "proba" if net.predict_nonlinearity is None else "other"


def logits(net, output):
    """Unnormalised log-probabilities of each class, whatever the criterion takes as its input."""
    output = output[0] if isinstance(output, tuple) else output
    kind = output_kind(net)
    if kind == "other":
        output, kind = net.predict_nonlinearity(output), "proba"
    if kind == "proba":
        eps = torch.finfo(output.dtype).eps
        output = output.logit(eps) if output.ndim == 1 else (output + eps).log()
    if output.ndim == 1:
        return torch.stack([torch.zeros_like(output), output], dim=1)
    return output


def quiet(net, **settings):
    """The same network to look at rows with: its data loaders draw from no global generator.

    Otherwise a prediction would change what another thread, which is training, draws. The modules
    are the same objects; `settings` are skorch's and hold for this view alone.
    """

    def same(**attributes):
        view = object.__new__(type(net))
        vars(view).update(vars(net), **attributes)
        return view

    inner = same(**settings)  # not the outer one, which would be a cycle for the garbage collector

    def get_iterator(dataset, training=False):
        loader = inner.get_iterator(dataset, training=training)
        getattr(loader, "base_dataloader", loader).generator = torch.Generator()
        return loader

    return same(**settings, get_iterator=get_iterator)


def predict_proba(net, data):
    """Class probabilities for the rows of a data set."""
    net = quiet(net)
    rows = Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data))
    if is_multilabel(net):  # for which skorch guesses a nonlinearity that is meant for one label
        output = net.forward(rows)
        output = to_numpy(output[0] if isinstance(output, tuple) else output)
        return output if output_kind(net) == "proba" else expit(output)
    proba = net.predict_proba(rows)
    told = net.predict_nonlinearity == "auto" and output_kind(net) == "log_proba"
    return np.exp(proba) if told else proba


def predicted(net, proba):
    """The column that `net` predicts for each row of probabilities, or the row's indicators."""
    if is_multilabel(net):
        return (proba > 0.5).astype(int)
    if isinstance(net, NeuralNetBinaryClassifier):
        return (proba[:, 1] > net.threshold).astype(int)
    return proba.argmax(axis=1)


@contextlib.contextmanager
def modes_kept(*nets):
    """Put all modules of some networks back into training or evaluation mode, as they were."""
    parts = [getattr(net, f"{name}_") for net in nets for name in (*net._modules, *net._criteria)]
    modules = [m for part in parts if isinstance(part, nn.Module) for m in part.modules()]
    modes = [m.training for m in modules]
    try:
        yield
    finally:
        for module, mode in zip(modules, modes):
            module.training = mode


@contextlib.contextmanager
def unnoticed(net):
    """Put global generators, and the modes of a network's modules, back afterwards.

    For the midst of a training: if another thread were training, its draws would be put back.
    """
    device = torch.device(net.device or "cpu")
    on_cpu = device.type == "cpu"
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with (
            modes_kept(net),
            torch.random.fork_rng(
                [] if on_cpu else [device], device_type="cuda" if on_cpu else device.type
            ),
        ):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
