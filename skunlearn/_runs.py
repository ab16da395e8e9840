"""Long runs: results that are on disk as soon as they are there, behind a progress bar."""

import math
import os
import uuid


def write(path, content):
    """Write bytes to a file that is there as a whole or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def shown(results, n_missing, n_total, unit):
    """The results, behind a progress bar if they take more than two seconds."""
    try:
        from tqdm.auto import tqdm  # which is optional
    except ImportError:
        return results
    name, done = f"{unit.title()}s", n_total - n_missing
    return tqdm(results, name, total=n_total, initial=done, unit=unit, delay=2, leave=False)


def finite(value):
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
