"""Long runs: results that are on disk as soon as they are there, behind a progress bar."""

import errno
import hashlib
import json
import math
import os
import uuid
import warnings


def digest(content, key=b"", size=16):
    """A digest of bytes, `size` bytes long, to see that they are as they were; BLAKE2b."""
    return hashlib.blake2b(content, digest_size=size, key=key).digest()


def write(path, content):
    """Write bytes to a file that is there as a whole or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a new name may be on disk before what it names
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_new(path, content, mode=0o666):
    """Write bytes to a new file, as a whole or not at all; FileExistsError if it is there."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # which never replaces, as os.replace does
        except OSError:
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            os.replace(temporary, path)  # the file system has no links
    finally:
        temporary.unlink(missing_ok=True)


def read_row(path):
    """A row that `write_row` wrote; None, with a warning, if it is not as it was written."""
    try:
        row = json.loads(path.read_bytes())
        noted = row.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError):
        return warn_of_file(path)
    if noted == _row_digest(row):
        return row
    return warn_of_file(path)


def write_row(path, row):
    """Write a dict as JSON, with a digest of it."""
    content = row | {"digest": _row_digest(row)}
    write(path, json.dumps(content, indent=2, allow_nan=False).encode())


def warn_of_file(path):
    """Warn that a file of results cannot be used."""
    warnings.warn(
        f"{path} is damaged, or was written by another version; it is not used, and its run is "
        "repeated.",
        UserWarning,
        stacklevel=4,
    )


def _row_digest(row):
    return digest(json.dumps(row).encode()).hex()


def progress_bar(results, n_missing, n_total, unit):
    """The results, behind a progress bar if they take more than two seconds."""
    try:
        from tqdm.auto import tqdm  # which is optional
    except ImportError:
        return results
    name, done = f"{unit.title()}s", n_total - n_missing
    return tqdm(results, name, total=n_total, initial=done, unit=unit, delay=2, leave=False)


def nan_to_none(value):
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
