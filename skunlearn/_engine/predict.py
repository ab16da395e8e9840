"""Outputs of a network for rows, without a trace: no generator is drawn from."""

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.special import expit
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.utils import to_numpy
from torch import nn
from torch.utils.data import DataLoader

from skunlearn._engine.random import preserve_modes, preserve_rng
from skunlearn._engine.rows import Rows, input_dtype
from skunlearn._engine.unwrap import unwrap
from skunlearn._engine.validation import as_dataset, is_lazy, is_multilabel

_TAKE_LOGITS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)


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


def check_inputs(net, rows, shape, usual):
    """Raise a ValueError for held-out rows of another shape if a network does not take them."""
    try:
        with preserve_modes(net):
            count_columns(net, rows)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"X_val must have rows that the network takes. Those of X have shape {usual}, "
            f"those of X_val {shape}: {error}"
        ) from error


def view_of(net, **settings):
    """A network with other settings of skorch's, on the same modules."""
    view = object.__new__(type(net))
    vars(view).update(vars(net), **settings)
    return view


def without_global_rng(net, **settings):
    """The same network to predict with: its data loaders draw from no global generator.

    Otherwise a prediction would change what another thread, which is training, draws. The modules
    are the same objects; `settings` are skorch's and hold for this view alone.
    """
    if issubclass(getattr(net.iterator_valid, "func", net.iterator_valid), DataLoader):
        settings = {"iterator_valid__generator": torch.Generator(), **settings}
    return view_of(net, **settings)


def predict_proba(net, data):
    """Class probabilities for the rows of a data set."""
    net, rows = _to_predict_with(net, data)
    if is_multilabel(net):  # for which skorch guesses a nonlinearity that is meant for one label
        output = net.forward(rows)
        output = to_numpy(output[0] if isinstance(output, tuple) else output)
        return output if output_kind(net) == "proba" else expit(output)
    proba = net.predict_proba(rows)
    told = net.predict_nonlinearity == "auto" and output_kind(net) == "log_proba"
    return np.exp(proba) if told else proba


def predict_log_proba(net, data):
    """Logarithms of class probabilities, where the module returns logits or logarithms, or None."""
    is_usual = type(net).predict_proba.__module__.startswith("skorch.")
    if is_multilabel(net) or net.predict_nonlinearity != "auto" or not is_usual:
        return None
    criterion = plain(getattr(net, "criterion_", None))
    if isinstance(net, NeuralNetBinaryClassifier):
        is_exact = isinstance(criterion, nn.BCEWithLogitsLoss)
    elif isinstance(criterion, nn.NLLLoss):  # of which skorch's classifier takes the logarithm
        is_exact = not isinstance(net, NeuralNetClassifier)
    else:
        is_exact = isinstance(criterion, nn.CrossEntropyLoss)
    if not is_exact:
        return None
    net, rows = _to_predict_with(net, data, predict_nonlinearity=_log_proba)
    return net.predict_proba(rows)


def answers_of(net, data):
    """Class probabilities of rows, and what losses are made from: logarithms where they say more.

    Returns
    -------
    proba, answers : ndarray
        The same array twice where there are no logarithms.
    """
    answers = predict_log_proba(net, data)
    if answers is None:
        answers = proba = predict_proba(net, data)
        return proba, answers
    return np.exp(answers), answers


def _log_proba(output):
    """Log-softmax of logits, which does not change what is a log-softmax already."""
    output = output.double()
    if output.ndim == 1:
        return torch.stack([nn.functional.logsigmoid(-output), nn.functional.logsigmoid(output)], 1)
    return torch.log_softmax(output, dim=-1)


def log_proba(model, *sets):
    """Logarithms of class probabilities for sets of rows, or None where a model has none.

    Parameters
    ----------
    model : estimator
        A network, an unlearner, or another classifier with `predict_log_proba`; frozen, or at the
        end of a pipeline.
    *sets : array-like or torch.utils.data.Dataset
        The rows.

    Returns
    -------
    logs : list of ndarray, or None
        An array of float64 for each set; None too if one of them is not finite, as votes may be.
    """
    found = []
    for X in sets:
        inner, rows = unwrap(model, X)
        logs = None
        if isinstance(inner, NeuralNet):
            lazy = is_lazy(inner, rows)
            # Of frames and sparse matrices skorch may make what an array of them is not.
            if lazy or not (issparse(rows) or hasattr(rows, "iloc")):
                data = as_dataset(inner, rows if lazy else np.asarray(rows))
                logs = predict_log_proba(inner, data)
        elif hasattr(inner, "_log_proba"):
            logs = inner._log_proba(rows)
        elif hasattr(inner, "predict_log_proba"):
            with np.errstate(divide="ignore"):
                logs = inner.predict_log_proba(rows)
        if logs is None or np.ndim(logs) != 2 or not np.isfinite(logs).all():
            return None
        found.append(np.asarray(logs, dtype=float))
    return found


def _to_predict_with(net, data, **settings):
    """A view of a network, and the rows of a data set as it reads them, to predict."""
    rows = data
    if not isinstance(data, Rows):
        rows = Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data))
    given = net.get_params_for("iterator_valid")
    if (
        net.iterator_valid is DataLoader
        and "collate_fn" not in given
        and type(rows) is Rows
        and rows.is_array
    ):
        rows = StackedRows(rows)
        settings["iterator_valid__collate_fn"] = as_it_is
    return without_global_rng(net, **settings), rows


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


def behaviour(net, retain, forget):
    """How a network does on some rows: what is compared before and after a run.

    Parameters
    ----------
    net : skorch.NeuralNet
        The network.
    retain : Rows
        Retained rows; there may be none.
    forget : Rows
        Rows to forget; none if what is said of them does not matter.

    Returns
    -------
    kept : tuple (loss, accuracy, n_rows) or None
        Mean cross-entropy and accuracy of the probabilities of retained rows.
    proba : ndarray or None
        Probabilities of rows to forget.
    """
    kept = proba = None
    with preserve_rng(net.device):  # from which rows may draw
        if len(retain):
            losses, right = row_losses(net, retain)
            kept = float(losses.mean()), float(right.mean()), len(retain)
        if len(forget):
            proba = predict_proba(net, forget)
    return kept, proba


def row_losses(net, rows):
    """Cross-entropy of each row, and whether what is predicted is right, for each of its labels."""
    (proba, answers), codes = answers_of(net, rows), rows.y.numpy()
    right = predicted(net, proba) == codes
    if answers is not proba:
        return -np.take_along_axis(answers, codes.astype(int)[:, None], axis=1)[:, 0], right
    if codes.ndim == 1:
        proba = np.take_along_axis(proba, codes.astype(int)[:, None], axis=1)
    else:
        proba = np.where(codes > 0, proba, 1 - proba)
    tiny = np.finfo(proba.dtype).tiny
    return -np.log(np.maximum(proba, tiny)).mean(axis=1), right


class StackedRows(Rows):
    """Rows of an array that a loader is given as batches, which it need not collate.

    Row by row takes longer than a small network does. A batch is what ``default_collate`` makes.

    Parameters
    ----------
    rows : Rows
        The rows, of which `is_array` is true.
    """

    def __init__(self, rows):
        super().__init__(rows.data, rows.y, rows.index, rows.dtype, rows.collate)

    def __getitems__(self, which):
        x = torch.as_tensor(self.data.X[self.index[which]]).to(self.dtype)
        return [x, self.y[which]]


def as_it_is(batch):
    """Collate what is a batch already."""
    return batch


def plain(module):
    """A module without what ``torch.compile`` has wrapped it in, where hooks run too."""
    return getattr(module, "_orig_mod", module)
