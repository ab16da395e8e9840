"""The list of unlearners."""

import inspect


def all_unlearners():
    """List every unlearner of the package, as :func:`sklearn.utils.all_estimators` does.

    Returns
    -------
    unlearners : list of tuple (str, type)
        Names and classes, sorted by name.

    See Also
    --------
    BaseUnlearner : What all of them derive from.
    skunlearn.evaluation.compare_unlearners : Runs them side by side.

    Examples
    --------
    >>> from skunlearn import all_unlearners
    >>> dict(all_unlearners())["DLFD"]
    <class 'skunlearn.dlfd.DLFD'>
    """
    import skunlearn  # not before it has its names

    classes = ((name, getattr(skunlearn, name)) for name in skunlearn.__all__)
    return sorted(
        (name, cls)
        for name, cls in classes
        if inspect.isclass(cls)
        and issubclass(cls, skunlearn.BaseUnlearner)
        and not inspect.isabstract(cls)
    )
