"""Versions of an installation."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = ("skunlearn", "numpy", "scipy", "scikit-learn", "skorch", "torch", "POT", "joblib")
_LIBRARIES += ("filelock", "accelerate", "distributed", "matplotlib", "pandas", "peft", "pooch")
_LIBRARIES += ("tqdm", "transformers")


def show_versions() -> None:
    """Print the versions of Python, the system and the libraries, for a bug report.

    See Also
    --------
    sklearn.show_versions : The same for scikit-learn, with its threads.

    Examples
    --------
    >>> from skunlearn import show_versions
    >>> show_versions()  # doctest: +SKIP
    """
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    for name, number in versions.items():
        print(f"{name + ':':14}{number}")
