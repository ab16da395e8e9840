"""Long runs: results that are on disk as soon as they are there, behind a progress bar."""

import os
import tempfile


def write(path, content):
    """Write bytes to a file that is there as a whole or not at all."""
    handle, temporary = tempfile.mkstemp(".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def shown(results, n_missing, n_total, unit):
    """The results, behind a progress bar if they take more than two seconds."""
    try:
        from tqdm.auto import tqdm  # which is optional
    except ImportError:
        return results
    name, done = f"{unit.title()}s", n_total - n_missing
    return tqdm(results, name, total=n_total, initial=done, unit=unit, delay=2, leave=False)
