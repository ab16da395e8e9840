"""Warnings that point at the line of the user's that they are about."""

import inspect
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])


def warn(message):
    """Warn with a UserWarning, of the first call from outside the package."""
    frame, level = inspect.currentframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
