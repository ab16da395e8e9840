"""Batches from arrays that lie on the device, whole: nothing is done for each row in Python."""

import weakref

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from skunlearn._engine.rows import MarkedRows, Rows, holds_array

SHIFT = 4  # pixels that an image is moved by, at most


class DeviceBatches(DataLoader):
    """A data loader that keeps arrays of rows on the device and cuts batches out of them.

    It takes what networks of skunlearn are trained on and predict. Rows that are not those of one
    array are loaded as torch does.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        The rows.
    device : str, default="cpu"
        Where the arrays are kept.
    augment : bool, default=False
        Whether to shift images at random, by up to 4 pixels each way, and to mirror half of them.
    **kwargs
        Of `torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset, *, device="cpu", augment=False, **kwargs):
        super().__init__(dataset, **kwargs)
        self.device = device
        self.augment = augment

    def __iter__(self):
        parts = getattr(self.dataset, "parts", [self.dataset])
        is_random = isinstance(self.sampler, RandomSampler)
        is_whole = (
            all(type(part) is Rows and holds_array(part.data) for part in parts)
            and all(part.data.X is parts[0].data.X for part in parts)
            and self.batch_size is not None  # None: there is a batch sampler
            and (is_random or isinstance(self.sampler, SequentialSampler))
        )
        if not is_whole and not self.augment:
            return super().__iter__()
        if not is_whole:
            raise ValueError(
                "augment=True needs rows of one array, with no sampler; got "
                f"{type(self.dataset).__name__} and {type(self.sampler).__name__}."
            )
        order = torch.arange(len(self.dataset))
        if is_random:
            order = torch.randperm(len(self.dataset), generator=self.generator)
        return self._cut(parts, order)

    def _cut(self, parts, order):
        """The batches of rows in an order; random numbers are drawn for all of them at once."""
        rows, device = self.dataset, self.device
        images = _KEPT.on(device, parts[0].data.X)
        index = torch.as_tensor(np.concatenate([part.index for part in parts])).to(device)
        y, marks = rows.y.to(device), None
        if isinstance(rows, MarkedRows):  # the run takes the marks off
            marks = torch.as_tensor(rows.part_of(np.arange(len(rows)))).to(device)
        moves = None
        if self.augment:
            moves = torch.stack(
                [*torch.randint(2 * SHIFT + 1, (2, len(order))), torch.randint(2, (len(order),))]
            ).to(device)
        order = order.to(device)
        for start in range(0, len(order), self.batch_size):
            here = slice(start, start + self.batch_size)
            which = order[here]
            if self.drop_last and len(which) < self.batch_size:
                return
            X = images[index[which]]
            if moves is not None:
                X = moved(X, *moves[:, here])
            batch = X.to(parts[0].dtype or X.dtype), y[which]
            yield batch if marks is None else (batch, marks[which])


def moved(X, down, right, mirrored):
    """Images that are each shifted, with black at the edges, and mirrored.

    Parameters
    ----------
    X : torch.Tensor of shape (n, n_channels, height, width)
        The images.
    down, right : torch.Tensor of int of shape (n,)
        Pixels that each is shifted by, from 0 to 8; 4 leaves it where it is.
    mirrored : torch.Tensor of int of shape (n,)
        1 for the images to mirror, 0 for the others.

    Returns
    -------
    X : torch.Tensor of shape (n, n_channels, height, width)
        Other images, in the channels-last format.
    """
    n, _, height, width = X.shape
    padded = pad(X, (SHIFT,) * 4).permute(0, 2, 3, 1)
    i, j = torch.arange(height, device=X.device), torch.arange(width, device=X.device)
    j = torch.where(mirrored[:, None] > 0, width - 1 - j, j)  # of each image
    i, j = i + 2 * SHIFT - down[:, None], j + 2 * SHIFT - right[:, None]
    image = torch.arange(n, device=X.device)[:, None, None]
    return padded[image, i[:, :, None], j[:, None, :]].permute(0, 3, 1, 2)


class _Kept:
    """Copies of arrays on another device, each for as long as its array is there."""

    def __init__(self):
        self.copies = {}

    def on(self, device, array):
        if torch.device(device).type == "cpu":
            return torch.as_tensor(array)  # which is no copy, and would keep the array
        key = id(array), str(device)
        if key not in self.copies:
            known = weakref.ref(array, lambda _: self.copies.pop(key, None))
            self.copies[key] = known, torch.as_tensor(array).to(device)
        return self.copies[key][1]


_KEPT = _Kept()
