"""Checks of the contract of an unlearner, for those who write one; the package's own pass them.

Every check is a function ``check_<behaviour>(name, unlearner)`` that raises an `AssertionError`
saying what was promised, or lets through the error that the unlearner has raised.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from skunlearn.base import BaseUnlearner
from skunlearn.utils.estimator_checks import _fitting, _hyperparameters, _inputs, _left_alone, _mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pytest

__all__ = ["check_unlearner", "parametrize_with_unlearning_checks"]

_CHECKS = {
    name: check
    for theme in (_hyperparameters, _mask, _fitting, _left_alone, _inputs)
    for name, check in vars(theme).items()
    if name.startswith("check_")
}


def parametrize_with_unlearning_checks(
    estimators: Iterable[BaseUnlearner],
    *,
    expected_failed_checks: Callable[[BaseUnlearner], Mapping[str, str]] | None = None,
) -> pytest.MarkDecorator:
    """Decorate a pytest test so that it runs every check on every unlearner.

    The ids name the unlearner and the check, so that ``pytest -k`` chooses among them.

    Parameters
    ----------
    estimators : list of BaseUnlearner
        The unlearners, as instances. Each is cloned, and its `estimator` replaced by small networks
        of the checks' own, so that None will do: their hyperparameters must suit 120 rows of 8
        features, or of 6x6 pixels, and a network whose layers are called ``hidden`` and ``head``.
        `memory` and `random_state` are replaced too.
    expected_failed_checks : callable, default=None
        Takes an unlearner and returns a dict from the names of the checks that it is known to fail
        to the reasons. These are marked ``xfail``.

    Returns
    -------
    decorator : `pytest.mark.parametrize`
        For a test with the arguments ``estimator`` and ``check``.

    Raises
    ------
    TypeError
        If one of `estimators` is not an instance of :class:`~skunlearn.BaseUnlearner`.

    See Also
    --------
    check_unlearner : The same without pytest.
    sklearn.utils.estimator_checks.parametrize_with_checks : What any classifier is held to; an
        unlearner with a network that learns small problems passes these too.

    Notes
    -----
    The checks are of what an unlearner promises to its user: which arguments it takes, what it
    leaves alone, what it repeats and what it does not keep. They do not measure how well it
    forgets; that is what :mod:`skunlearn.metrics` is for.

    Examples
    --------
    An unlearner of one's own, and all that its tests need:

    >>> from typing import ClassVar
    >>> import torch
    >>> from skunlearn import NetworkUnlearner
    >>> from skunlearn.utils.estimator_checks import parametrize_with_unlearning_checks
    >>> class Blur(NetworkUnlearner):
    ...     '''Blur the weights with noise, then train on the retained rows.'''
    ...
    ...     needs: ClassVar = frozenset({"original", "retain"})
    ...
    ...     def __init__(
    ...         self, estimator, *, noise=0.1, max_epochs=1, memory=None, random_state=None
    ...     ):
    ...         super().__init__(estimator, memory=memory, random_state=random_state)
    ...         self.noise = noise
    ...         self.max_epochs = max_epochs
    ...
    ...     def _check_hyperparameters(self):
    ...         if not self.noise >= 0:
    ...             raise ValueError(f"noise must be at least 0; got {self.noise!r}.")
    ...
    ...     def _unlearn(self, request):
    ...         net = self._copy(request.original)
    ...         with torch.no_grad():
    ...             for parameter in net.module_.parameters():
    ...                 parameter += self.noise * torch.randn_like(parameter)
    ...         return self._train(net, request, (request.retain, None, net.max_epochs))
    >>> @parametrize_with_unlearning_checks([Blur(None)])
    ... def test_blur_keeps_the_contract(estimator, check):
    ...     check(estimator)
    """
    import pytest

    expected = expected_failed_checks or (lambda unlearner: {})
    params = []
    for unlearner in estimators:
        for check in _checks_of(unlearner):
            reason = expected(unlearner).get(check.func.__name__)
            marks = () if reason is None else pytest.mark.xfail(reason=reason)
            name = _describe(unlearner) + "-" + check.func.__name__
            params.append(pytest.param(unlearner, check, marks=marks, id=name))
    return pytest.mark.parametrize(("estimator", "check"), params)


def check_unlearner(estimator: BaseUnlearner) -> None:
    """Run every check on an unlearner.

    Parameters
    ----------
    estimator : BaseUnlearner
        The unlearner, as an instance; it is not changed. Its `estimator` may be None: see
        :func:`parametrize_with_unlearning_checks`.

    Raises
    ------
    TypeError
        If `estimator` is not an instance of :class:`~skunlearn.BaseUnlearner`.
    AssertionError
        At the first check that fails, saying what an unlearner promises. An error that the
        unlearner raises where it should work is let through.

    See Also
    --------
    parametrize_with_unlearning_checks : Each check as a test of its own.
    sklearn.utils.estimator_checks.check_estimator : What any classifier is held to.

    Examples
    --------
    >>> from skunlearn import FineTune
    >>> from skunlearn.utils.estimator_checks import check_unlearner
    >>> check_unlearner(FineTune(None, max_epochs=2))
    """
    for check in _checks_of(estimator):
        check(estimator)


def _checks_of(unlearner):
    """The checks that apply to an unlearner, each awaiting it."""
    if not isinstance(unlearner, BaseUnlearner):
        raise TypeError(
            f"estimators must be instances of BaseUnlearner, such as FineTune(None); got "
            f"{unlearner!r}."
        )
    for check in _CHECKS.values():
        if check.applies(unlearner):
            yield functools.partial(check, type(unlearner).__name__)


def _describe(unlearner):
    """The unlearner with the hyperparameters that are not the default ones, on one line."""
    plain = {"estimator": None, "memory": None, "random_state": None}
    params = {name: plain.get(name, value) for name, value in unlearner.get_params(False).items()}
    return re.sub(r"estimator=None,|,?\s*estimator=None|\s", "", repr(type(unlearner)(**params)))
