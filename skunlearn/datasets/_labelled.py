"""Pairs of rows and labels, out of data sets whose items are anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from typing import Any

    from skunlearn._engine.typing import SizedItems


class LabelledDataset(torch.utils.data.Dataset):
    """Pairs of rows and labels, out of a data set that yields dicts, longer tuples or bare rows.

    Unlearners, scorers and reports read data sets whose items are pairs ``(x, label)``. This one
    makes them of the items of another, such as a Hugging Face ``datasets.Dataset``, when they are
    asked for.

    Parameters
    ----------
    data : torch.utils.data.Dataset or sequence
        Yields an item for each row, and has a length.
    label : str, int or None, default="label"
        Which part of an item is its label: a key of a dict, or a position in a tuple. None is for
        rows to predict, of which no labels are known.
    inputs : str, int, list of str or None, default=None
        Which part of an item the network reads; a list of keys makes a dict of them, whose entries
        are the arguments of the module's ``forward``. None is a dict of all keys but the label, the
        first part of a tuple, or the whole of an item that is neither.

    Raises
    ------
    ValueError
        If an item has no such part, when it is asked for.

    See Also
    --------
    torch.utils.data.StackDataset : Pairs of rows and labels that are kept apart.

    Notes
    -----
    Lists of numbers, which Hugging Face yields unless told otherwise by ``with_format``, become
    tensors.

    To find out all labels, rows are read one by one. Where a column of them is at hand, passing it
    as `y` spares that.

    Examples
    --------
    >>> from skunlearn.datasets import LabelledDataset
    >>> rows = [
    ...     {"image": [0.5, 1.0], "person": "ann", "label": 3},
    ...     {"image": [0.0, 2.0], "person": "bob", "label": 4},
    ... ]
    >>> LabelledDataset(rows, inputs="image")[1]
    (tensor([0., 2.]), 4)
    >>> LabelledDataset(rows, inputs=["image"])[0]
    ({'image': tensor([0.5000, 1.0000])}, 3)
    >>> LabelledDataset([("row", "ann", 1)], label=2)[0]
    ('row', 1)
    """

    def __init__(
        self,
        data: SizedItems,
        label: str | int | None = "label",
        inputs: str | int | list[str] | None = None,
    ) -> None:
        self.data = data
        self.label = label
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        item = self.data[i]
        label = 0 if self.label is None else self._part(item, "label", self.label)
        if isinstance(self.inputs, list):
            return {key: _as_tensor(self._part(item, "inputs", key)) for key in self.inputs}, label
        if self.inputs is not None:
            return _as_tensor(self._part(item, "inputs", self.inputs)), label
        if isinstance(item, Mapping):
            return {key: _as_tensor(item[key]) for key in item if key != self.label}, label
        if isinstance(item, tuple):
            if self.label in (0, -len(item)):
                raise ValueError(
                    f"inputs must say which part of an item the network reads; got label=0 and a "
                    f"tuple of {len(item)} as an item."
                )
            return _as_tensor(item[0]), label
        return _as_tensor(item), label

    def _part(self, item, name, key):
        # Not item[key] of an array, which would be a part of a bare row.
        known = (
            list(item)
            if isinstance(item, Mapping)
            else range(-len(item), len(item))
            if isinstance(item, tuple | list)
            else ()
        )
        if key not in known:
            parts = f"the keys {known[:20]}" if isinstance(item, Mapping) else "positions"
            raise ValueError(
                f"{name} must be one of {parts} of an item; got {key!r}, and an item of type "
                f"{type(item).__name__}" + (f" and length {len(item)}." if known else ".")
            )
        return item[key]


def _as_tensor(value):
    """A tensor in place of a list of numbers, of which a data loader would make a list of them."""
    if isinstance(value, float):
        return torch.tensor(value)
    if isinstance(value, list) and len(value):
        try:
            is_numeric = np.asarray(value).dtype.kind in "biuf"
        except ValueError:  # of lists of different lengths
            return value
        # Lists of arrays are faster by way of NumPy, and lists of numbers are of torch's own dtype.
        return torch.tensor(value) if is_numeric else value
    return value
