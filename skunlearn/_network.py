"""Making, copying and training the skorch networks that unlearners work on."""

import contextlib
import inspect
import random
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import clone
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from skorch.utils import to_numpy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import default_collate

from ._data import Rows, input_dtype

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

    def get_iterator(self, dataset, training=False):
        # Batch normalisation refuses to train on a batch of one row, and how many rows a fold or a
        # request leaves is not the user's to choose.
        batch_size = getattr(self, "iterator_train__batch_size", self.batch_size)
        lonely = (
            training
            and batch_size > 1
            and len(dataset) % batch_size == 1
            and len(dataset) > 1
            and not hasattr(self, "iterator_train__drop_last")
            and any(isinstance(m, _BatchNorm) for m in self.module_.modules())
        )
        if not lonely:
            return super().get_iterator(dataset, training=training)
        self.iterator_train__drop_last = True
        try:
            return super().get_iterator(dataset, training=training)
        finally:
            del self.iterator_train__drop_last

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        # The loader of held-out rows draws from the generator that shuffles the rows to train on:
        # to watch must not change what is watched.
        with contextlib.nullcontext() if training else unnoticed(self):
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

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


def fit_network(template, rows, n_classes, **settings):
    """A clone of `template`, trained on `rows` as skorch would, from fresh weights."""
    net = configure(clone(template), settings)
    net.set_params(**sizes_from_data(template, rows, n_classes))
    with running(net):
        net.initialize()
        rows = cast_for(net, rows)
        with training(net, rows, rows.y):
            n_columns = count_columns(net, rows)
            if n_columns != n_classes:
                raise ValueError(
                    f"estimator's module returns {n_columns} columns, but y has {n_classes} "
                    "classes. Give the module as many outputs as there are classes, or pass "
                    "classes= to the network if y lacks some of them."
                )
            net.fit_loop(rows, rows.y)
    net.classes_inferred_ = np.arange(n_classes)  # rows may lack some
    return net


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
        raise ValueError(
            f"layer {name!r} of estimator's module, a {type(layer).__name__}, cannot be "
            f"re-initialised: it has no reset_parameters() that draws {left} anew. Give it one, or "
            "pass the module's class in place of an instance."
        )


def parts_of(net):
    """The modules and criteria of a fitted network, by name."""
    return {
        kind: {name: getattr(net, f"{name}_") for name in getattr(net, f"_{kind}")}
        for kind in ("modules", "criteria")
    }


def _drop(value, memo):
    # Not a closure: one that calls itself is a cycle, which would keep the memo and the original.
    if isinstance(value, torch.Tensor):
        if not value.is_leaf:
            memo[id(value)] = value.new_zeros(value.shape)
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            _drop(inner, memo)


def copy_parts(parts):
    """A deep copy of the modules and criteria of a network, without what a forward pass left there.

    torch refuses to copy a tensor that a graph hangs on, and one that a module keeps for a plot is
    made of the rows that went through it. The old `weight_norm` computes its own at each pass.
    """
    memo = {}
    for kind in parts.values():
        for part in kind.values():
            for module in part.modules() if isinstance(part, nn.Module) else ():
                for name, value in vars(module).items():
                    if name != "_modules":
                        _drop(value, memo)
    return deepcopy(parts, memo)


def assemble(template, parts, n_classes, **settings):
    """An initialised network with the template's settings and the given modules and criteria."""
    # skorch trains an instance that it was given in place: the template's holds the original's
    # weights, and its successor is the part of the same name.
    names = {
        id(module): name
        for name, module in getattr(template, "module_", nn.Module()).named_modules()
    }
    params = {
        name: parts["modules"]["module"].get_submodule(names[id(value)])
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
    """The number of classes that a network tells apart, from its output for one row."""
    output_kind(net)
    # Not predict_proba: a data loader draws from the generator that the training starts from.
    output = net.evaluation_step((rows.batch([0, 0])[0], None))
    output = output[0] if isinstance(output, tuple) else output
    return output.shape[1] if output.ndim > 1 else 2


def output_kind(net):
    """What the module returns: "logits", "log_proba", "proba", or "other" for the user to say."""
    criterion = getattr(net.criterion_, "_orig_mod", net.criterion_)  # of a compiled one
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
        output = to_numpy(net.forward(rows))
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
