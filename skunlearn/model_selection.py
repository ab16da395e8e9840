"""Splitters that know which rows are to be forgotten, and helpers that make the mask."""

import numpy as np
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples, check_consistent_length

from skunlearn._validation import check_forget

__all__ = ["ForgetKFold", "forget_mask"]


class _ForgetSplitter(BaseCrossValidator):
    """A splitter that holds out retain rows only; subclasses say how to draw them.

    A subclass has `n_splits`, `forget` and `forget_in_test`, and a method
    ``_splitter(y, groups)`` that returns a scikit-learn splitter for the
    rows that can be held out; each of the two is None where it is not to be used.
    """

    __metadata_request__split = {"forget": True, "groups": True}  # noqa: RUF012

    def split(self, X, y=None, groups=None, forget=None):
        """Generate row indices of training and test parts.

        Parameters
        ----------
        X : array-like of n_samples rows
            Only its length is looked at.
        y : array-like of shape (n_samples,), default=None
            Class labels to stratify by.
        groups : array-like of shape (n_samples,), default=None
            The person, or other group, of each row.
        forget : array-like of bool of shape (n_samples,), default=None
            True for the rows to forget; may be given at construction instead.

        Yields
        ------
        train : ndarray of int
            Sorted indices of the training rows: the kept retain rows and all forget rows.
        test : ndarray of int
            Sorted indices of the held-out retain rows and, unless
            `forget_in_test` is False, all forget rows.

        Raises
        ------
        ValueError
            If there is no mask, two different ones, or one that is not boolean, not
            of length n_samples or nowhere True; or if too few rows or groups can be held out.
        """
        n_samples = _num_samples(X)
        mask = self._check_forget(forget, n_samples)
        holdable = ~mask
        if groups is not None:
            groups = _check_groups(groups)
            check_consistent_length(X, groups)
            holdable &= ~np.isin(groups, groups[mask])
        rows = np.flatnonzero(holdable)
        n_units = len(rows) if groups is None else len(np.unique(groups[rows]))
        if n_units < self.n_splits:
            units = "retain rows" if groups is None else "groups without a forget row"
            raise ValueError(
                f"n_splits={self.n_splits} needs at least {self.n_splits} {units} to hold out; "
                f"got {n_units}, with {np.count_nonzero(mask)} of {n_samples} rows to forget."
            )
        y = None if y is None else np.asarray(y)
        if y is not None:
            check_consistent_length(X, y)
            y = y[rows] if self._can_stratify(y[rows]) else None
        groups = None if groups is None else groups[rows]
        for _, held_out in self._splitter(y, groups).split(rows, y, groups):
            test = np.zeros(n_samples, dtype=bool)
            test[rows[held_out]] = True
            train = ~test
            if self.forget_in_test:
                test |= mask
            yield np.flatnonzero(train), np.flatnonzero(test)

    def get_n_splits(self, X=None, y=None, groups=None, forget=None):
        """Return the number of folds; no argument is looked at.

        Parameters
        ----------
        X, y, groups, forget : object, default=None
            Here because searches pass them.

        Returns
        -------
        n_splits : int
        """
        return self.n_splits

    def _check_forget(self, forget, n_samples):
        if forget is None and self.forget is None:
            raise ValueError(
                f"{type(self).__name__} needs to know the forget rows; got forget=None. Pass "
                "forget=mask to split, or at construction; in a search, inside "
                "sklearn.config_context(enable_metadata_routing=True), fit(X, y, forget=mask) "
                "passes it on."
            )
        masks = [check_forget(f, n_samples) for f in (forget, self.forget) if f is not None]
        if not np.array_equal(masks[0], masks[-1]):
            raise ValueError(
                "forget was given at construction and to split, and the two differ; give one."
            )
        if not masks[0].any():
            raise ValueError(
                "forget must be True for at least one row; got a mask that is False everywhere. "
                "Where there is nothing to forget, use scikit-learn's own splitters."
            )
        return masks[0]

    def _can_stratify(self, y):
        """Whether `y` holds classes of which one at least is large enough for each fold."""
        if type_of_target(y) not in ("binary", "multiclass"):
            return False
        return np.unique(y, return_counts=True)[1].max() >= self.n_splits


class ForgetKFold(_ForgetSplitter):
    """K folds of the retain rows, with every forget row in every fold.

    The rows to keep are split into `n_splits` folds. For each of them,

    * train = the other retain rows + **all** forget rows: what an unlearner is fitted on;
    * test = the held-out retain rows + **all** forget rows: the held-out rows are
      data the network has not seen, the forget rows are under attack.

    The forget mask tells a scorer of `skunlearn.metrics` which is which.

    Folds are stratified by y where y holds class labels and a class has at least
    `n_splits` of the rows that can be held out. As in scikit-learn, a class with
    fewer than that is warned about.

    With `groups` (people, speakers, patients), held-out rows come from groups of
    which no row is in training. Forget rows are always in training, so the retain rows
    of a group that also has forget rows can never be held out: they stay in every training
    part. The forget rows themselves are the one exception, being in both parts. Every
    other retain row is held out exactly once.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle the rows that can be held out before they are split.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling; only with ``shuffle=True``.
    forget : array-like of bool of shape (n_samples,), default=None
        True for the rows to forget. With metadata routing, leave it None: `split`
        requests `forget`, and a search passes it on. Without routing, give it here.
    forget_in_test : bool, default=True
        Whether the test part holds the forget rows too. Set it to False for scorers that take
        every test row for unseen: those bound to forget rows, and scikit-learn's own.

    Raises
    ------
    ValueError
        If `n_splits` is less than 2, or `random_state` is given without `shuffle`.

    See Also
    --------
    forget_mask : A mask from the names of people.
    skunlearn.metrics.get_scorer : Scorers for these folds.
    sklearn.model_selection.StratifiedGroupKFold : Folds without forget rows.

    References
    ----------
    .. [1] D. Choi, D. Na, "Distribution-Level Feature Distancing for Machine
       Unlearning", arXiv 2409.14747.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.model_selection import ForgetKFold
    >>> X = np.zeros((6, 2))
    >>> forget = np.array([True, False, False, False, False, True])
    >>> for train, test in ForgetKFold(2).split(X, forget=forget):
    ...     print(train, test)
    [0 3 4 5] [0 1 2 5]
    [0 1 2 5] [0 3 4 5]
    >>> next(ForgetKFold(2, forget=forget, forget_in_test=False).split(X))
    (array([0, 3, 4, 5]), array([1, 2]))
    """

    def __init__(
        self, n_splits=5, *, shuffle=False, random_state=None, forget=None, forget_in_test=True
    ):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.forget = forget
        self.forget_in_test = forget_in_test
        self._splitter(None, None)  # scikit-learn's splitters check these at construction

    def _splitter(self, y, groups):
        kinds = {
            (False, False): KFold,
            (True, False): StratifiedKFold,
            (False, True): GroupKFold,
            (True, True): StratifiedGroupKFold,
        }
        kind = kinds[y is not None, groups is not None]
        return kind(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)


def forget_mask(groups, identities):
    """Return the mask of the rows that belong to given people.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        The person, or other group, of each row.
    identities : scalar or iterable
        The people to forget, by their values in `groups`.

    Returns
    -------
    forget : ndarray of bool of shape (n_samples,)
        True for the rows of these people.

    Raises
    ------
    ValueError
        If `identities` is empty or names somebody who is not in `groups`, or if
        `groups` is empty, not of one dimension, or has missing values.

    See Also
    --------
    ForgetKFold : Takes the mask, and the groups too.

    Examples
    --------
    >>> from skunlearn.model_selection import forget_mask
    >>> forget_mask(["ann", "bob", "ann", "eve"], ["ann", "eve"])
    array([ True, False,  True,  True])
    """
    people = _check_groups(groups).tolist()
    wanted = {identities} if np.isscalar(identities) else set(identities)
    if not wanted:
        raise ValueError("identities must name at least one of groups; got none.")
    missing = sorted(wanted - set(people), key=str)
    if missing:
        raise ValueError(
            f"identities must occur in groups; got {missing[:10]}, which do not. "
            f"groups holds {len(set(people))} others, such as {people[0]!r}."
        )
    return np.array([who in wanted for who in people])


def _check_groups(groups):
    groups = np.asarray(groups)
    if groups.ndim != 1 or len(groups) == 0:
        raise ValueError(
            f"groups must have shape (n_samples,), with at least one row; got {groups.shape}."
        )
    if (groups != groups).any():
        raise ValueError("groups must name the group of every row; got missing values (NaN).")
    return groups
