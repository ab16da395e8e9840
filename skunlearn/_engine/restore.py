"""What a run has to leave as it was: generators, modes, notes of an Accelerator."""

import contextlib
import random

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def released(net):
    """Let an Accelerator keep nothing of what it is given meanwhile: weights, or loaders of rows.

    It notes all that it has prepared, and is one and the same object for every copy of a network.
    """
    accelerator = getattr(net, "accelerator", None)
    names = ("_models", "_optimizers", "_schedulers", "_dataloaders")
    notes = [getattr(accelerator, name) for name in names if hasattr(accelerator, name)]
    lengths = [len(note) for note in notes]
    try:
        yield
    finally:
        for note, length in zip(notes, lengths):
            del note[length:]


@contextlib.contextmanager
def modes_kept(*nets):
    """Put all modules of some networks back into training or evaluation mode, as they were."""
    parts = [getattr(net, f"{name}_") for net in nets for name in (*net._modules, *net._criteria)]
    modules = [m for part in parts if isinstance(part, nn.Module) for m in part.modules()]
    modes = [m.training for m in modules]
    try:
        yield
    finally:
        for module, mode in zip(modules, modes):
            module.training = mode


@contextlib.contextmanager
def unnoticed(net):
    """Put global generators, and the modes of a network's modules, back afterwards.

    For the midst of a training: if another thread were training, its draws would be put back.
    """
    device = torch.device(net.device or "cpu")
    on_cpu = device.type == "cpu"
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with (
            modes_kept(net),
            torch.random.fork_rng(
                [] if on_cpu else [device], device_type="cuda" if on_cpu else device.type
            ),
        ):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
