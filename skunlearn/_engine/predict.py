"""Outputs of a network for rows, without a trace: no generator is drawn from."""

import numpy as np
import torch
from scipy.special import expit
from skorch.utils import to_numpy
from torch.utils.data import DataLoader

from skunlearn._engine.outputs import is_multilabel, output_kind
from skunlearn._engine.rows import Rows, input_dtype


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
    rows = Rows(data, torch.zeros(len(data)), dtype=input_dtype(net, data))
    if is_multilabel(net):  # for which skorch guesses a nonlinearity that is meant for one label
        output = to_numpy(net.forward(rows))
        return output if output_kind(net) == "proba" else expit(output)
    proba = net.predict_proba(rows)
    told = net.predict_nonlinearity == "auto" and output_kind(net) == "log_proba"
    return np.exp(proba) if told else proba
