"""Outputs of a network for rows, without a trace: no generator is drawn from."""

import numpy as np
import torch
from scipy.special import expit
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.utils import to_numpy
from torch import nn
from torch.utils.data import DataLoader

from skunlearn._engine.rows import Rows, input_dtype
from skunlearn._engine.validation import is_multilabel

_TAKE_LOGITS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)


def count_columns(net, rows):
    """The number of classes that a network tells apart, from its output for one row."""
    output_kind(net)
    # Not predict_proba: a data loader draws from the generator that the training starts from.
    output = net.evaluation_step((rows.batch([0, 0])[0], None))
    output = output[0] if isinstance(output, tuple) else output
    return output.shape[1] if output.ndim > 1 else 2


def without_global_rng(net, **settings):
    """The same network to predict with: its data loaders draw from no global generator.

    Otherwise a prediction would change what another thread, which is training, draws. The modules
    are the same objects; `settings` are skorch's and hold for this view alone.
    """
    if issubclass(getattr(net.iterator_valid, "func", net.iterator_valid), DataLoader):
        settings = {"iterator_valid__generator": torch.Generator(), **settings}
    view = object.__new__(type(net))
    vars(view).update(vars(net), **settings)
    return view


def predict_proba(net, data):
    """Class probabilities for the rows of a data set."""
    net = without_global_rng(net)
    rows = data
    if not isinstance(data, Rows):
        rows = Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data))
    if is_multilabel(net):  # for which skorch guesses a nonlinearity that is meant for one label
        output = to_numpy(net.forward(rows))
        return output if output_kind(net) == "proba" else expit(output)
    proba = net.predict_proba(rows)
    told = net.predict_nonlinearity == "auto" and output_kind(net) == "log_proba"
    return np.exp(proba) if told else proba


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
        alone = output.ndim == 1 or is_multilabel(net)  # a column is a label of its own
        output = output.logit(eps) if alone else (output + eps).log()
    if output.ndim == 1:
        return torch.stack([torch.zeros_like(output), output], dim=1)
    return output


def predicted(net, proba):
    """The column that `net` predicts for each row of probabilities, or the row's indicators."""
    if is_multilabel(net):
        return (proba > 0.5).astype(int)
    if isinstance(net, NeuralNetBinaryClassifier):
        return (proba[:, 1] > net.threshold).astype(int)
    return proba.argmax(axis=1)


def loss_and_accuracy(net, rows):
    """Mean cross-entropy and accuracy of a network's probabilities."""
    proba, codes = predict_proba(net, rows), rows.y.numpy()
    right = predicted(net, proba) == codes
    if codes.ndim == 1:
        proba = np.take_along_axis(proba, codes.astype(int)[:, None], axis=1)
    else:
        proba = np.where(codes > 0, proba, 1 - proba)
    tiny = np.finfo(proba.dtype).tiny
    return float(-np.log(np.maximum(proba, tiny)).mean()), float(right.mean())
