"""Checkpoints in a folder that a killed run leaves tidy, and that ensembles may share."""

import contextlib
import io
import json
import os
import re
import uuid
from pathlib import Path

import joblib
import torch

from skunlearn._engine.files import digest, write

_MANIFEST = "sisa-manifest.json"

_NAME = re.compile(r"sisa-([0-9a-f]{32})[-.].*")


class Run:
    """The files that one run writes, and that are there after it only if it has kept them.

    The manifest of a folder lists the files of all ensembles that keep theirs in it. What is not
    listed, and is of no run that is at work (each holds a lock, which the system lets go of when
    its process dies), was left by one that was killed.

    Parameters
    ----------
    folder : str, path or None
        Where to write; None keeps states in memory.
    """

    def __init__(self, folder):
        self.folder = None if folder is None else os.path.abspath(folder)

    def __enter__(self):
        self.written = set()
        if self.folder is None:
            return self
        os.makedirs(self.folder, exist_ok=True)
        self.name = f"sisa-{uuid.uuid4().hex}"
        self._lock = _lock(os.path.join(self.folder, f"{self.name}.lock"))
        self._lock.acquire()
        try:
            _sweep(self.folder)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, kind, *_):
        if self.folder is None:
            return
        if kind is not None:
            delete(self.written)
        self._release()

    def _release(self):
        self._lock.release()
        delete([self._lock.lock_file])

    def save(self, state, name):
        """Keep the state of a model; return it, or the path of the file it is in."""
        if state is None or self.folder is None:
            return state
        content, suffix = io.BytesIO(), ".pt" if isinstance(state, dict) else ".joblib"
        (torch.save if suffix == ".pt" else joblib.dump)(state, content)
        content = content.getvalue()
        path = Path(self.folder, f"{self.name}-{name}-{digest(content).hex()}{suffix}")
        self.written.add(str(path))
        write(path, content)
        return str(path)

    def keep(self, files, stale):
        """List these files from now on, and the stale ones no more."""
        for folder in {os.path.dirname(path) for path in {*files, *stale}}:
            if not os.path.isdir(folder):
                continue
            with _lock(os.path.join(folder, "sisa-manifest.lock")):
                before = _listed(folder)
                names = [
                    {os.path.basename(path) for path in paths if os.path.dirname(path) == folder}
                    for paths in (stale, files)
                ]
                after = before - names[0] | names[1]
                if after != before:
                    write(Path(folder, _MANIFEST), json.dumps(sorted(after), indent=0).encode())


def load(state):
    """A state as it was given to be kept, from its file if it is in one."""
    if not isinstance(state, str):
        return state
    content = Path(state).read_bytes()
    if state.endswith(".pt"):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return joblib.load(io.BytesIO(content))


def is_whole(state):
    """Whether a state can be loaded: its file is there, and is as it was written."""
    if not isinstance(state, str):
        return True
    path = Path(state)
    return path.is_file() and path.stem.endswith(digest(path.read_bytes()).hex())


def delete(paths):
    """Delete files, some of which may not be there any more."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def _lock(path, **kwargs):
    from filelock import FileLock  # here, as skorch does not import it

    return FileLock(path, **kwargs)


def _listed(folder):
    """Names in the manifest of a folder."""
    path = Path(folder, _MANIFEST)
    if not path.exists():
        return set()
    try:
        names = json.loads(path.read_bytes())
        if not isinstance(names, list):
            raise ValueError("it holds no list")
    except ValueError as error:
        raise ValueError(
            f"checkpoint_dir has a manifest that cannot be read, {path}: {error}. Without it, "
            "files of other ensembles cannot be told from those of runs that were killed. Restore "
            "it, or use another folder; delete this one when no ensemble needs it."
        ) from error
    return set(names)


def _sweep(folder):
    """Delete what killed runs have left."""
    from filelock import Timeout

    with _lock(os.path.join(folder, "sisa-manifest.lock")):
        listed, runs = _listed(folder), {}
        for entry in os.listdir(folder):
            match = _NAME.fullmatch(entry)
            if match and entry not in listed:
                runs.setdefault(match[1], []).append(os.path.join(folder, entry))
        for run, files in runs.items():
            lock = _lock(os.path.join(folder, f"sisa-{run}.lock"), timeout=0)
            with contextlib.suppress(Timeout):
                with lock:
                    delete(path for path in files if path != lock.lock_file)
                delete([lock.lock_file])
        for path in Path(folder).glob(f"{_MANIFEST}.*.tmp"):
            path.unlink()
