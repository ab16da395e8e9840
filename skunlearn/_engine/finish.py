"""A network after its run: compared with what it was, free of rows, compiled as the original."""

from copy import deepcopy
from itertools import zip_longest

import numpy as np
import torch
from skorch.utils import to_device

from skunlearn._engine.build import (
    attributes_of,
    copy_parts,
    modules_of,
    plain_parts,
    tensors_of,
    without_graphs,
)
from skunlearn._engine.predict import plain, without_global_rng
from skunlearn._engine.random import preserve_rng_and_modes
from skunlearn._engine.validation import is_multilabel, warn


def compare(net, before, after, *, name, best, usual_cost, remedy):
    """Compare the behaviour of a network before and after a run.

    What the run has cost on retained rows is noted in its history.

    Parameters
    ----------
    net : skorch.NeuralNet
        The unlearned network.
    before, after : tuple (kept, proba)
        What `behaviour` returned.
    name : str
        What messages call the run.
    best : float
        The best accuracy on retained rows since the last fit.
    usual_cost : float
        How much of it a run may cost without a warning.
    remedy : str
        What to do about a run that costs more.

    Returns
    -------
    best : float
        The best accuracy, this run's start included.

    Raises
    ------
    ValueError
        If the network's probabilities are not numbers.

    Warns
    -----
    UserWarning
        If the run has changed almost nothing, or ruined the network.
    """
    (kept, proba), (kept_after, proba_after) = before, after
    if proba is not None:
        _check_changed(name, np.abs(proba_after - proba).max(), len(proba))
    if kept is None:
        return best
    (loss_before, accuracy_before, n_rows), (loss, accuracy, _) = kept, kept_after
    if not net.history:
        net.history.new_epoch()
    for key, value in [
        ("retain_loss_before", loss_before),
        ("retain_accuracy_before", accuracy_before),
        ("retain_loss_after", loss),
        ("retain_accuracy_after", accuracy),
    ]:
        net.history.record(key, value)
    # Many small requests may cost little each: what counts is the best since the last fit.
    best = max(accuracy_before, best)
    # A single row says nothing; a loss above that of a guess is as bad as wrong predictions.
    guess = np.log(2 if is_multilabel(net) else len(net.classes_inferred_))
    # Where a network is no better than a guess, its accuracy changes by chance.
    fell = loss_before < 0.95 * guess and best - accuracy > max(usual_cost, 2 / n_rows)
    if fell or (loss > 1.5 * guess > 1.5 * loss_before):
        warn(
            f"{name} has damaged the network: on {n_rows} retained rows the accuracy went from "
            f"{best:.2f} to {accuracy:.2f}, the loss from {loss_before:.2f} to {loss:.2f}. {remedy}"
        )
    return best


def _check_changed(name, moved, n_rows):
    """Warn of a run that did nothing to the rows that it was to forget."""
    if not np.isfinite(moved):
        raise ValueError(
            f"{name} has diverged: the network's probabilities are not numbers any more. Nothing "
            "was changed; use a smaller lr or fewer epochs."
        )
    if moved < 0.001:
        warn(
            f"{name} has changed almost nothing: no class probability of {n_rows} rows to forget "
            f"moved by more than {moved:.2g}. Use stronger settings, such as a larger learning "
            "rate or more epochs where it has them."
        )


def _same(first, second):
    return all(
        type(a) is type(b)
        and (torch.equal if isinstance(a, torch.Tensor) else np.array_equal)(a, b)
        for a, b in zip_longest(tensors_of(first), tensors_of(second))
    )


def _zeros(value):
    """Zeros in the place of each tensor and array, as a memo for `deepcopy`."""
    return {
        id(t): t.new_zeros(t.shape) if isinstance(t, torch.Tensor) else np.zeros_like(t)
        for t in tensors_of(value)
    }


def finish(net, original, rows):
    """Take out of a network what it keeps of `rows`; compile it where `original` is compiled."""
    drop_activations(net, rows)
    if original is not None:
        _compile_as(net, original)


def drop_activations(net, rows):
    """Zero what the modules of a network keep of the rows that went through them.

    That is each attribute, neither a parameter nor a buffer, that a pass over two of `rows` changes
    in a copy, unless the copy's output or loss depends on what it was before: then it is a state
    that the network needs, of which only the graph is dropped.
    """
    parts = plain_parts(net)
    kept = attributes_of(parts)
    if not kept:
        return

    def passed(drop, row=0):
        """What the given attributes are after passes that start without them, and the outputs."""
        copy, outputs = copy_parts(parts), []
        twins = dict(zip(map(id, modules_of(parts)), modules_of(copy)))
        for module, name in drop:
            value = vars(twins[id(module)])[name]
            vars(twins[id(module)])[name] = deepcopy(value, _zeros(value))
        view = without_global_rng(
            net, **{f"{n}_": part for kind in copy.values() for n, part in kind.items()}
        )
        with preserve_rng_and_modes(net):
            X, y = to_device(rows.batch([row, row]), net.device)
            for training in (True, False):  # a module may keep something in one of them alone
                view._set_training(training)
                y_pred = view.infer(X)
                loss = view.get_loss(y_pred, y, X=X, training=training)
                if loss.requires_grad:
                    loss.backward()  # hooks on gradients keep something too
                outputs += [loss, *tensors_of(y_pred)]
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
            memo = {id(t): t.detach() for t in tensors_of(value) if id(t) in graphs}
        if memo:
            vars(module)[name] = deepcopy(value, memo)


def _compile_as(net, original):
    """Compile the modules and criteria of `net` where those of `original` are, in the same way."""
    net.compile = original.compile
    for name in (*net._modules, *net._criteria):
        part, before = getattr(net, f"{name}_"), getattr(original, f"{name}_")
        if original.compile:
            part = net.torch_compile(plain(part), name=name)
        elif plain(before) is not before:
            part = type(before)(plain(part), before.dynamo_ctx)
        setattr(net, f"{name}_", part)
