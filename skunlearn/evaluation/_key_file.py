"""The file of a log's key: made for its owner alone, and destroyed."""

import os
import secrets

from skunlearn._engine.chain import sync_folder


def create_key(path):
    """Write 32 random bytes, as hexadecimal digits, to a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def destroy(path):
    """Overwrite a file, and delete it."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)
