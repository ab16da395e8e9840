"""What an unlearning run costs: the samples that go through networks."""

import contextlib

import torch

from skunlearn._engine.rows import count_rows


class Cost:
    """Counts samples: forwards and backwards as one, forwards alone as a third.

    Attributes
    ----------
    samples : float
        The count so far.
    """

    def __init__(self):
        self.samples = 0.0
        self._handles = {}

    def watch(self, net):
        """Count what goes through a network from now on."""
        module = net.module_
        if module not in self._handles:
            hook = module.register_forward_pre_hook(self._count, with_kwargs=True)
            self._handles[module] = hook

    def close(self):
        """Stop counting; return the count."""
        while self._handles:
            self._handles.popitem()[1].remove()
        return self.samples

    @contextlib.contextmanager
    def counting(self, net):
        """Count what goes through a network meanwhile, and no longer."""
        self.watch(net)
        try:
            yield
        finally:
            self._unwatch(net.module_)

    @contextlib.contextmanager
    def unwatched(self, net):
        """Leave a network alone meanwhile, as for copying it: a hook would be copied, too."""
        was_watched = self._unwatch(net.module_)
        try:
            yield
        finally:
            if was_watched:
                self.watch(net)

    def _unwatch(self, module):
        handle = self._handles.pop(module, None)
        if handle is not None:
            handle.remove()
        return handle is not None

    def _count(self, module, args, kwargs):
        n_rows = count_rows(args[0] if args else kwargs)
        self.samples += n_rows * (1 if torch.is_grad_enabled() else 1 / 3)
