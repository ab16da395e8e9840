"""Tools for those who write and report on unlearners."""

from importlib import import_module
from typing import TYPE_CHECKING

from skunlearn.utils._discovery import all_unlearners
from skunlearn.utils._show_versions import show_versions

__all__ = ["all_unlearners", "show_versions"]

if TYPE_CHECKING:
    from skunlearn.utils import estimator_checks as estimator_checks
else:

    def __getattr__(name):
        if name == "estimator_checks":  # which loads what only checks need
            return import_module("skunlearn.utils.estimator_checks")
        raise AttributeError(f"module 'skunlearn.utils' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "estimator_checks"})
