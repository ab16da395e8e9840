"""The file of a log's key: made for its owner alone, and destroyed."""

import os
import secrets

from skunlearn._engine.chain import sync_folder
from skunlearn._engine.files import write_new


def create_key(path):
    """Write 32 random bytes, as hexadecimal digits, to a file that only its owner may read."""
    write_new(path, secrets.token_hex(32).encode(), 0o600)
    sync_folder(path.parent)


def destroy(path):
    """Overwrite a file, and delete it."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)
