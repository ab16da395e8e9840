"""The list of unlearners."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skunlearn import methods

if TYPE_CHECKING:
    from skunlearn.base import BaseUnlearner


def all_unlearners() -> list[tuple[str, type[BaseUnlearner]]]:
    """List every unlearner of the package, as :func:`~sklearn.utils.discovery.all_estimators` does.

    Returns
    -------
    unlearners : list of tuple (str, type)
        Names and classes, sorted by name.

    See Also
    --------
    skunlearn.BaseUnlearner : What all of them derive from.
    skunlearn.compare_unlearners : Runs them side by side.

    Examples
    --------
    >>> from skunlearn import all_unlearners
    >>> dict(all_unlearners())["DLFD"]
    <class 'skunlearn.methods.dlfd.DLFD'>
    """
    return sorted((name, getattr(methods, name)) for name in methods.__all__)
