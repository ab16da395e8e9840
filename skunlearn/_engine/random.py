"""What a run has to leave as it was: generators, modes, notes of an Accelerator."""

import contextlib
import random
import threading
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn

_SEEDING = threading.RLock()


@contextlib.contextmanager
def restore_accelerator(net):
    """Let an Accelerator keep no weights and no loaders that it is given inside the block.

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
def preserve_modes(*nets):
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
def preserve_rng(device):
    """Put the global generators of Python, numpy and torch back afterwards."""
    device = torch.device(device or "cpu")
    on_cpu = device.type == "cpu"
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(
            [] if on_cpu else [device], device_type="cuda" if on_cpu else device.type
        ):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextlib.contextmanager
def preserve_rng_and_modes(net):
    """Put the global generators, and the modes of a network's modules, back afterwards.

    For the midst of a training: if another thread were training, its draws would be put back.
    """
    with preserve_modes(net), preserve_rng(net.device):
        yield


@contextlib.contextmanager
def seeded(seed, device):
    """Seed every global generator, and put each back afterwards."""
    on_cpu = torch.device(device or "cpu").type == "cpu"
    # The generators are the process's: another thread that seeds them would mix into this run.
    with _SEEDING, preserve_rng(device):
        # torch.manual_seed would reseed accelerators too.
        (torch.default_generator.manual_seed if on_cpu else torch.manual_seed)(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield


def draw_seed(random_state):
    """An int to seed a call with."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def one_seed(random_state):
    """An int for several draws that have to be alike; an int is its own."""
    return random_state if isinstance(random_state, Integral) else draw_seed(random_state)
