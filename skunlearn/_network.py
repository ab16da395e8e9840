"""Making, copying and training the skorch networks that unlearners work on."""

import contextlib
import copyreg
import inspect

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import clone
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import (
    BatchScoring,
    EpochScoring,
    EpochTimer,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)
from skorch.utils import to_numpy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._data import Rows, input_dtype

_INDICATOR_LOSSES = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.MultiLabelSoftMarginLoss,
)
_WATCHING_CALLBACKS = (
    BatchScoring,
    EpochScoring,
    EpochTimer,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)


def batches(net, rows):
    """The training batches of `rows`, as an iterable made anew at each call."""
    return net.get_iterator(rows, training=True)


def cycle(net, rows):
    """Training batches of `rows` without end."""
    while True:
        yield from batches(net, rows)


class _Running:
    """Mixed into a network's class while it trains here."""

    def get_iterator(self, dataset, training=False):
        # Batch normalisation refuses to train on a batch of one row, and how many rows a fold or a
        # request leaves is not the user's to choose.
        lonely = (
            training
            and self.batch_size > 1
            and len(dataset) % self.batch_size == 1
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

    def backward(self, loss):
        """Add the gradients of a loss to those that the optimiser will step along."""
        if hasattr(self, "accelerator"):
            self.accelerator.backward(loss)
        else:
            loss.backward()

    def __reduce_ex__(self, protocol):
        # A callback may pickle the network in mid-run: as what it was before.
        return copyreg.__newobj__, (type(self).__mro__[2],), self.__getstate__()


@contextlib.contextmanager
def running(net, **methods):
    """Give `net` other methods for the time of a run; nothing of them stays behind."""
    plain = type(net)
    net.__class__ = type(plain.__name__, (_Running, plain), methods)
    try:
        yield net
    finally:
        net.__class__ = plain


def fit_network(template, rows, n_classes, **settings):
    """A clone of `template`, trained on `rows` as skorch would, from fresh weights."""
    net = configure(clone(template), settings)
    net.set_params(**sizes_from_data(template, rows, n_classes))
    with running(net):
        net.initialize()
        rows = Rows(rows.data, rows.y, rows.index, input_dtype(net, rows.data))
        n_columns = count_columns(net, rows)
        if n_columns != n_classes:
            raise ValueError(
                f"estimator's module returns {n_columns} columns, but y has {n_classes} classes. "
                "Give the module as many outputs as there are classes, or pass classes= to the "
                "network if y lacks some of them."
            )
        # Not net.fit: it takes a KeyboardInterrupt for a wish to stop early and returns.
        net.notify("on_train_begin", X=rows, y=rows.y)
        net.fit_loop(rows, rows.y)
        net.notify("on_train_end", X=rows, y=rows.y)
    net.classes_inferred_ = np.arange(n_classes)  # rows may lack some
    return net


def cache_key(net):
    """What a trained original depends on besides rows and seed."""
    params = net.get_params(deep=False)
    params.pop("verbose")
    if isinstance(params["callbacks"], list):
        params["callbacks"] = [
            cb
            for cb in params["callbacks"]
            if not isinstance(cb[1] if isinstance(cb, tuple) else cb, _WATCHING_CALLBACKS)
        ]
    return type(net), sorted(params.items(), key=lambda item: item[0])


def sizes_from_data(net, rows, n_classes):
    """Arguments that the module requires, the user left out, and the data can tell."""
    if isinstance(net.module, nn.Module):
        return {}
    shape = tuple(np.shape(rows[0][0]))
    known = {"n_classes": n_classes, "input_shape": shape}
    if shape:
        known["n_features_in"] = shape[0]
    return {
        f"module__{name}": known[name]
        for name, parameter in inspect.signature(net.module).parameters.items()
        if name in known
        and parameter.default is inspect.Parameter.empty
        and not hasattr(net, f"module__{name}")
    }


def check_fresh(net):
    """Refuse a module instance, whose clone starts from whatever weights the instance holds."""
    if isinstance(net.module, nn.Module) and not net.get_params_for("module"):
        raise ValueError(
            "estimator was built on a module instance, "
            f"{type(net.module).__name__}(...), so a clone of it starts from whatever weights the "
            "instance holds and cannot be trained from scratch. Pass the module's class "
            f"(module={type(net.module).__name__}, module__...=...), or a function that builds it; "
            "a network that is trained already goes in a FrozenEstimator."
        )


def configure(net, settings):
    """Set parameters of a network that is not initialised yet, dropping those they contradict."""
    if "optimizer" in settings:  # optimizer__... were meant for the optimiser that is replaced
        for name in [name for name in vars(net) if name.startswith("optimizer__")]:
            delattr(net, name)
    if "lr" in settings and hasattr(net, "optimizer__lr"):
        del net.optimizer__lr
    return net.set_params(**settings)


def parts_of(net):
    """The modules and criteria of a fitted network, by name."""
    return {
        kind: {name: getattr(net, f"{name}_") for name in getattr(net, f"_{kind}")}
        for kind in ("modules", "criteria")
    }


def assemble(template, parts, n_classes, **settings):
    """An initialised network with the template's settings and the given modules and criteria."""
    net = type(template)(
        **{
            name: value if isinstance(value, nn.Module) else clone(value, safe=False)
            for name, value in template.get_params(deep=False).items()
        }
    )
    if isinstance(net.module, nn.Module):
        # The template's instance holds the original's weights; skorch guards plain assignment.
        vars(net)["module"] = parts["modules"]["module"]
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


def is_multilabel(net):
    """Whether the criterion takes an indicator matrix: a column of 0 and 1 for each label."""
    criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
    return issubclass(criterion, _INDICATOR_LOSSES) and not isinstance(
        net, NeuralNetBinaryClassifier
    )


def rows_for(template, original, data, codes):
    """Rows with the target type the criterion takes, and the input type the network takes."""
    takes_float = isinstance(template, NeuralNetBinaryClassifier) or is_multilabel(template)
    y_type = torch.float32 if takes_float else torch.int64
    dtype = None if original is None else input_dtype(original, data)
    return Rows(data, torch.as_tensor(codes, dtype=y_type), dtype=dtype)


def count_columns(net, rows):
    """The number of classes that a network tells apart, from its output for one row."""
    # Not predict_proba: a data loader draws from the generator that the training starts from.
    output = net.evaluation_step((rows.batch([0])[0], None))
    output = output[0] if isinstance(output, tuple) else output
    return output.shape[1] if output.ndim > 1 else 2


def logits(net, output):
    """Unnormalised log-probabilities of each class, whatever the criterion takes as its input."""
    output = output[0] if isinstance(output, tuple) else output
    if isinstance(net.criterion_, nn.NLLLoss):  # with which skorch's modules return probabilities
        return (output + torch.finfo(output.dtype).eps).log()
    if output.ndim == 1:
        return torch.stack([torch.zeros_like(output), output], dim=1)
    return output


def predict_proba(net, data):
    """Class probabilities for the rows of a data set."""
    rows = Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data))
    if is_multilabel(net):  # for which skorch guesses a nonlinearity that is meant for one label
        output = to_numpy(net.forward(rows))
        return output if isinstance(net.criterion_, nn.BCELoss) else expit(output)
    return net.predict_proba(rows)
