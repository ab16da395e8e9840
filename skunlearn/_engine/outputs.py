"""What the output of a network means: labels, several labels, logits."""

from functools import partial

import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

_INDICATOR_LOSSES = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.MultiLabelSoftMarginLoss,
)

_TAKE_LOGITS = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)


def is_multilabel(net):
    """Whether the criterion takes an indicator matrix: a column of 0 and 1 for each label."""
    criterion = net.criterion.func if isinstance(net.criterion, partial) else net.criterion
    criterion = criterion if isinstance(criterion, type) else type(criterion)
    return issubclass(criterion, _INDICATOR_LOSSES) and not isinstance(
        net, NeuralNetBinaryClassifier
    )


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


def predicted(net, proba):
    """The column that `net` predicts for each row of probabilities, or the row's indicators."""
    if is_multilabel(net):
        return (proba > 0.5).astype(int)
    if isinstance(net, NeuralNetBinaryClassifier):
        return (proba[:, 1] > net.threshold).astype(int)
    return proba.argmax(axis=1)
