"""Tools for those who write and report on unlearners."""

from skunlearn.utils._discovery import all_unlearners
from skunlearn.utils._show_versions import show_versions

__all__ = ["all_unlearners", "show_versions"]
