"""Keeping trained originals, and training each of them once."""

import contextlib
import io
import pickle
from pathlib import Path

import joblib

from skunlearn._engine.files import digest
from skunlearn._engine.hashing import _cache_inputs, _Hasher

_DIGEST = 32  # bytes


def train_once(memory, content, train):
    """Return what ``train()`` returns, from the cache where it is kept.

    Parameters
    ----------
    memory : joblib.Memory or object with a method `cache`
        Where results are kept. A process that finds another at work on the same one waits for it,
        if the memory is a folder.
    content : tuple
        What the result depends on: the network or other estimator, followed by anything else.
    train : callable
        Called without arguments; its result must be picklable.

    Returns
    -------
    result : object
        What ``train()`` returned, now or earlier.

    Raises
    ------
    ValueError
        If the result cannot be pickled.
    """
    if not is_kept(memory):
        return train()
    hasher = _Hasher()
    key = hasher.hash(_cache_inputs(*content))

    def keep():
        result = train()
        try:
            content = _dumps(result, hasher.referenced)
            return digest(content, key.encode(), _DIGEST) + content
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"memory cannot keep this network, for it cannot be pickled: {error}. Use "
                "memory=None, or define its classes where they can be imported from."
            ) from error

    def read():
        """What is kept, or None if it is not as it was written."""
        entry = cached(key, keep)
        if not isinstance(entry, bytes):
            return None
        noted, content = entry[:_DIGEST], entry[_DIGEST:]
        return content if noted == digest(content, key.encode(), _DIGEST) else None

    cached, lock = memory.cache(_kept, ignore=["train"]), contextlib.nullcontext()
    is_folder = isinstance(memory, joblib.Memory) and memory.backend == "local"
    # What is kept already is read without a lock, and may lie where nothing can be written.
    kept = None
    if is_folder and cached.check_call_in_cache(key, keep):
        kept = read()
    if is_folder and kept is None:
        # In a folder of its own: Memory.clear() removes folders and leaves single files. The
        # system lets go of the lock when its holder dies; the empty file that stays locks nobody.
        locks = Path(memory.store_backend.location, "locks")
        locks.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock  # here, as skorch does not import it

        lock = FileLock(locks / key)
    if kept is None:
        with lock:
            kept = read()
            if kept is None:
                if hasattr(cached, "call_and_shelve"):
                    cached.call_and_shelve(key, keep).clear()
                    kept = read()
                else:
                    kept = keep()[_DIGEST:]
    return _loads(kept, hasher.referenced)


def is_kept(memory):
    """Whether a memory keeps anything: joblib's does nothing without a location."""
    return getattr(memory, "location", memory) is not None


def _kept(key, train):
    """Train an original; cached by its key alone."""
    return train()


def _dumps(obj, referenced):
    """Pickle `obj`; classes and functions in `referenced` stand as their place there.

    A worker process cannot look up by name those of the user's script or notebook.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.places = {id(known): place for place, known in enumerate(referenced)}
    pickler.dump(obj)
    return buffer.getvalue()


def _loads(kept, referenced):
    unpickler = _Unpickler(io.BytesIO(kept))
    unpickler.referenced = referenced
    return unpickler.load()


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return self.places.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, place):
        return self.referenced[place]
