"""Networks trained from scratch, as skorch would."""

import numpy as np
from sklearn.base import clone

from skunlearn._engine.build import configure
from skunlearn._engine.fresh import check_apart, sizes_from_data
from skunlearn._engine.predict import count_columns, plain, predict_proba
from skunlearn._engine.random import preserve_rng
from skunlearn._engine.rows import cast_for
from skunlearn._engine.run import TrainingRun


def fit_network(
    template, rows, n_classes, *, name="the training", state=None, cost=None, **settings
):
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
    cost : Cost, default=None
        Counts the samples of the training.
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
    sizes = sizes_from_data(template, rows, n_classes)

    def build():
        net = configure(clone(template), settings)
        net.set_params(**sizes)
        net.initialize()
        return net

    net = build()
    with preserve_rng(net.device):
        check_apart(net, build())
    for part, values in (state or {}).items():
        plain(getattr(net, f"{part}_")).load_state_dict(values)
    rows = cast_for(net, rows)
    run = TrainingRun(net, name=name, cost=cost)
    with run.training(rows):
        n_columns = count_columns(net, rows)  # a callback may have made the module just now
        if n_columns != n_classes:
            one = " For one output and two classes, use skorch.NeuralNetBinaryClassifier."
            raise ValueError(
                f"estimator's module returns {n_columns} columns, but y has {n_classes} "
                "classes. Give the module as many outputs as there are classes, or pass "
                "classes= to the network if y lacks some of them."
                + (one if n_columns == 1 and n_classes == 2 and rows.y.ndim == 1 else "")
            )
        run.check_schedule(net.max_epochs * len(run.batches(rows)), net.max_epochs)
        net.check_data(rows, rows.y)
        kept, valid = split_rows(net, rows)
        run.train(kept, None, net.max_epochs, valid)
    net.classes_inferred_ = np.arange(n_classes)  # rows may lack some
    _check_converged(net, rows, name)
    return net


def split_rows(net, rows):
    """Rows to train on and rows of the validation, as the network's `train_split` says."""
    try:
        return net.get_split_datasets(rows, rows.y)
    except ValueError as error:
        raise ValueError(
            f"train_split of estimator cannot set validation rows aside from {len(rows)} training "
            f"rows: {error} Use fewer folds, a ValidSplit that is not stratified, or "
            "train_split=None; held-out rows (X_val) take the place of train_split in unlearn."
        ) from error


def _check_converged(net, rows, name):
    """Raise a ValueError if a training from scratch has ended in a network that says nothing."""
    losses = [[b["train_loss"] for b in e["batches"] if "train_loss" in b] for e in net.history]
    first, last = losses[0][0], np.mean(losses[-1])
    if last > 1000 * max(first, 1) or not np.isfinite(predict_proba(net, rows.take([0]))).all():
        raise ValueError(
            f"{name} has diverged: its loss went from {first:.3g} to {last:.3g}, and the network's "
            "output is of no use. Nothing was changed; use a smaller lr for estimator."
        )
