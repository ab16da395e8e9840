"""Names that have changed. How long an old one works is in CONTRIBUTING.md, under Deprecation."""

from skunlearn._engine.validation import warn


def renamed(old, given, new, value, *, since, until):
    """The value of a parameter under whichever of its names it was given; the old one warns.

    Parameters
    ----------
    old : str
        The name that it had.
    given : object
        What was given under that name, whose default is ``"deprecated"``.
    new : str
        The name that it has.
    value : object
        What was given under that name.
    since, until : str
        The release that renamed it, and the one in which the old name is gone.
    """
    if isinstance(given, str) and given == "deprecated":
        return value
    message = f"{old} was renamed to {new} in {since} and will be removed in {until}."
    warn(message, category=FutureWarning)
    return given
