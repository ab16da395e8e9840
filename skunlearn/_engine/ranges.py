"""Rows that are made up: the range of their values, and whether they can be put in a batch."""

import numpy as np
import torch


def check_batch(name, rows, items, X):
    """Refuse batches whose rows cannot be put in a batch again, by the same ``collate_fn``."""
    pairs = [(x, y) for x, (_, y) in zip(X, items)]
    if len(X) != len(items) or rows.collate(pairs)[0].shape != X.shape:
        raise ValueError(
            f"{name} makes rows up and needs a collate_fn of estimator's iterator_train that pads "
            f"rows and stacks them on the first axis; got a batch of shape {tuple(X.shape)} for "
            f"{len(items)} rows, of which the first has shape {tuple(np.shape(items[0][0]))}. Move "
            "axes in the module, or in the data set."
        )


def value_range(read, items):
    """The limits of the values of some rows, for each feature by itself.

    The features are on the second axis, or on the last where the length of the second varies from
    batch to batch, as that of padded sequences does. If both vary, all values have one range.

    Parameters
    ----------
    read : callable
        Returns the values, a tensor, for a batch of a list of items.
    items : list of tuple
        Items of a data set.

    Returns
    -------
    low, high : torch.Tensor
        They broadcast against the values of any batch.
    """
    batch = read(items)
    sizes = [np.prod(np.shape(x)) if hasattr(x, "shape") else len(x) for x, _ in items]
    ends = [read([items[i]] * 2) for i in {int(np.argmin(sizes)), int(np.argmax(sizes))}]
    parts, shapes = [batch], {part.shape[1:] for part in (batch, *ends)}
    if len(shapes) > 1:  # each row by itself, for padding is no value of the data
        parts = [read([item] * 2) for item in items]
        shapes |= {part.shape[1:] for part in parts}
    fixed = [
        axis for axis in (1, -1) if batch.ndim > 1 and len({(0, *s)[axis] for s in shapes}) == 1
    ]
    keep = fixed[0] % batch.ndim if fixed else None
    others = [axis for axis in range(batch.ndim) if axis != keep]
    low = torch.stack([part.amin(others, True) for part in parts]).amin(0)
    return low, torch.stack([part.amax(others, True) for part in parts]).amax(0)
