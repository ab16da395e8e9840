"""Splitters that know which rows are to be forgotten, and helpers that make the mask.

It has over 500 lines because two thirds of them are docstrings.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.metrics.cluster import contingency_matrix
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples, check_consistent_length

from skunlearn._engine.data import Whole
from skunlearn._engine.validation import check_forget, check_groups, check_number

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from skunlearn._engine.typing import MaskLike, RandomState, RowsLike

__all__ = [
    "ForgetKFold",
    "ForgetShuffleSplit",
    "ForgetSplit",
    "Whole",
    "forget_mask",
    "forget_split",
]


class _ForgetSplitter(BaseCrossValidator):
    """A splitter that holds out retain rows only; subclasses say how to draw them.

    A subclass has `n_splits`, `forget` and `forget_in_test`, and two methods:
    ``_needed()`` returns how many rows or groups there have to be and what needs them, and
    ``_draw(n_rows, y, groups)`` yields, for each split, the positions of the kept and of the
    held-out ones among the `n_rows` rows that can be held out. `y` holds class labels or is
    None; `groups` may be None.
    """

    __metadata_request__split = {"forget": True, "groups": True}  # noqa: RUF012

    def split(
        self,
        X: RowsLike,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        forget: MaskLike | None = None,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Generate row indices of training and test parts.

        Parameters
        ----------
        X : array-like of n_samples rows
            Only its length is used.
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
            groups = check_groups(groups)
            check_consistent_length(X, groups)
            holdable &= ~np.isin(groups, groups[mask])
        rows = np.flatnonzero(holdable)
        n_units = len(rows) if groups is None else len(np.unique(groups[rows]))
        who, least = self._needed()
        if n_units < least:
            units = "retain rows" if groups is None else "groups without a forget row"
            raise ValueError(
                f"{who} needs at least {least} {units} to hold out; "
                f"got {n_units}, with {np.count_nonzero(mask)} of {n_samples} rows to forget."
            )
        if y is not None:
            check_consistent_length(X, y)
            y = np.asarray(y)[rows]
            y = y if _are_classes(y) else None
        groups = None if groups is None else groups[rows]
        for kept, held_out in self._draw(len(rows), y, groups):
            train, test = ~holdable, np.zeros(n_samples, dtype=bool)
            train[rows[kept]] = test[rows[held_out]] = True
            if self.forget_in_test:
                test |= mask
            yield np.flatnonzero(train), np.flatnonzero(test)

    def get_n_splits(
        self, X: object = None, y: object = None, groups: object = None, forget: object = None
    ) -> int:
        """Return the number of splits; no argument is used.

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
    ForgetShuffleSplit : Random splits, of any number and size.
    forget_mask : A mask from the names of people.
    Whole : Keeps `X_val` and `y_val` from being sliced with the folds.
    skunlearn.metrics.get_scorer : Scorers for these folds.
    sklearn.model_selection.StratifiedGroupKFold : Folds without forget rows.

    Notes
    -----
    The halving searches of scikit-learn, with ``resource="n_samples"``, draw rows of their own from
    each part, forget rows included: some of those under attack have then not been in training,
    which makes every candidate seem to forget, the more so the fewer rows there are. With a
    parameter as the resource, such as ``resource="max_epochs"``, folds stay as they are.
    They also score training parts, unless told ``return_train_score=False``; scorers that are bound
    to forget rows refuse those.

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
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: RandomState = None,
        forget: MaskLike | None = None,
        forget_in_test: bool = True,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.forget = forget
        self.forget_in_test = forget_in_test
        self._splitter(False, False)  # scikit-learn's splitters check these at construction

    def _needed(self):
        return f"n_splits={self.n_splits}", self.n_splits

    def _draw(self, n_rows, y, groups):
        if y is not None and np.unique(y, return_counts=True)[1].max() < self.n_splits:
            y = None
        splitter = self._splitter(y is not None, groups is not None)
        return splitter.split(np.zeros(n_rows), y, groups)

    def _splitter(self, stratified, grouped):
        kinds = {
            (False, False): KFold,
            (True, False): StratifiedKFold,
            (False, True): GroupKFold,
            (True, True): StratifiedGroupKFold,
        }
        kind = kinds[stratified, grouped]
        return kind(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)


class ForgetShuffleSplit(_ForgetSplitter):
    """Random splits of the retain rows, with every forget row in every split.

    The parts are those of `ForgetKFold`, but each split draws its own held-out rows: their number
    does not depend on the number of splits, and those of two splits may overlap.

    * train = retain rows that are not held out + **all** forget rows;
    * test = the held-out retain rows + **all** forget rows.

    Splits are stratified by y where y holds class labels, every class has at least two of the rows
    that can be held out, and both parts are large enough for one row of each class.

    With `groups` (people, speakers, patients), whole groups are drawn, and sizes are numbers or
    shares of groups; a group counts as of the class that most of its rows have. The retain rows of
    a group that also has forget rows are never held out: they stay in every training part.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits, at least 1.
    test_size : float or int, default=None
        How many of the retain rows (or groups without a forget row) are held out: a share between 0
        and 1, or a number. None is what `train_size` leaves, or 0.1 if that is None too.
    train_size : float or int, default=None
        How many of the same are kept for training; the others are in neither part. None is what
        `test_size` leaves.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws. The halving searches ask for an int.
    forget : array-like of bool of shape (n_samples,), default=None
        True for the rows to forget. With metadata routing, leave it None: `split`
        requests `forget`, and a search passes it on. Without routing, give it here.
    forget_in_test : bool, default=True
        Whether the test part holds the forget rows too. Set it to False for scorers that take
        every test row for unseen: those bound to forget rows, and scikit-learn's own.

    Raises
    ------
    ValueError
        If `n_splits` is less than 1. Sizes are checked by `split`, which knows of how many.

    See Also
    --------
    ForgetKFold : Every retain row held out once; its notes on halving searches hold here too.
    forget_split : One split of a whole data set by people, forget set included.
    sklearn.model_selection.GroupShuffleSplit : Splits without forget rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.model_selection import ForgetShuffleSplit
    >>> X = np.zeros((8, 2))
    >>> forget = np.arange(8) < 2
    >>> cv = ForgetShuffleSplit(2, test_size=2, random_state=0)
    >>> for train, test in cv.split(X, forget=forget):
    ...     print(train, test)
    [0 1 2 3 5 6] [0 1 4 7]
    [0 1 2 4 6 7] [0 1 3 5]
    """

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | None = None,
        train_size: float | None = None,
        random_state: RandomState = None,
        forget: MaskLike | None = None,
        forget_in_test: bool = True,
    ) -> None:
        check_number("n_splits", n_splits, 1, integer=True)
        self.n_splits = n_splits
        self.test_size = test_size
        self.train_size = train_size
        self.random_state = random_state
        self.forget = forget
        self.forget_in_test = forget_in_test

    def _needed(self):
        return type(self).__name__, 2

    def _draw(self, n_rows, y, groups):
        if groups is not None:
            person = np.unique(groups, return_inverse=True)[1]
            y = None if y is None else _class_of_each(person, y)
        n_units = n_rows if groups is None else person.max() + 1
        try:
            draws = _draw_units(
                n_units, y, self.n_splits, self.test_size, self.train_size, self.random_state
            )
        except ValueError as error:
            units = "retain rows" if groups is None else "groups without a forget row"
            raise ValueError(f"{n_units} {units} can be held out. {error}") from error
        for parts in draws:
            yield parts if groups is None else [np.isin(person, units) for units in parts]


def _draw_units(n_units, y, n_splits, test_size, train_size, random_state):
    """Pairs of positions, (kept, drawn), by classes if there are any and they are large enough."""
    sizes = {"test_size": test_size, "train_size": train_size}
    kept, drawn = next(ShuffleSplit(1, **sizes, random_state=0).split(np.zeros(n_units)))
    kind = ShuffleSplit
    if y is not None:
        counts = np.unique(y, return_counts=True)[1]
        if counts.min() > 1 and min(len(kept), len(drawn)) >= len(counts):
            kind = StratifiedShuffleSplit
    return kind(n_splits, **sizes, random_state=random_state).split(np.zeros(n_units), y)


def _class_of_each(person, y):
    """The most frequent label of each person, as a position among the labels."""
    counts = contingency_matrix(person, column_or_1d(y), sparse=True)
    return np.asarray(counts.argmax(axis=1)).ravel()


def _are_classes(y):
    return type_of_target(y) in ("binary", "multiclass")


def forget_mask(groups: ArrayLike, identities: Hashable | Iterable[Hashable]) -> NDArray[np.bool_]:
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
    forget_split : Draws the people, and those to hold out as well.

    Examples
    --------
    >>> from skunlearn.model_selection import forget_mask
    >>> forget_mask(["ann", "bob", "ann", "eve"], ["ann", "eve"])
    array([ True, False,  True,  True])
    """
    people = check_groups(groups).tolist()
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


class ForgetSplit(NamedTuple):
    """Result of `forget_split`: four masks of shape (n_samples,), of which each row is in one.

    Attributes
    ----------
    retain : ndarray of bool of shape (n_samples,)
        The rows to train on and to keep.
    forget : ndarray of bool of shape (n_samples,)
        The rows to train on and to forget.
    val : ndarray of bool of shape (n_samples,)
        Unseen rows for tuning.
    test : ndarray of bool of shape (n_samples,)
        Unseen rows for reporting.

    See Also
    --------
    forget_split : Draws the people of each part.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.model_selection import forget_split
    >>> people = np.repeat(np.arange(10), 5)
    >>> split = forget_split(people, random_state=0)
    >>> [int(rows.sum()) for rows in (split.train, *split)]
    [30, 25, 5, 10, 10]
    >>> mask = split.forget[split.train]  # as `fit` and `unlearn` take it, with X[split.train]
    """

    retain: NDArray[np.bool_]
    forget: NDArray[np.bool_]
    val: NDArray[np.bool_]
    test: NDArray[np.bool_]

    @property
    def train(self) -> NDArray[np.bool_]:  # numpydoc ignore=RT01
        """The rows to train on, `retain` and `forget` together."""
        return self.retain | self.forget


def forget_split(
    groups: ArrayLike,
    *,
    forget_size: float = 0.1,
    val_size: float = 0.2,
    test_size: float = 0.2,
    stratify: ArrayLike | None = None,
    random_state: RandomState = None,
) -> ForgetSplit:
    """Split a data set by people into rows to retain, to forget, for tuning and for reporting.

    Nobody is in two parts. The people for reporting are drawn first, then those for tuning, then
    those to forget: with the same seed, another `forget_size` leaves the unseen rows as they are.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        The person, or other group, of each row.
    forget_size, val_size, test_size : float or int, default=0.1, 0.2 and 0.2
        How many people are to be forgotten, held out for tuning and held out for reporting: a share
        of all people, below 1, or a number. A share is rounded, to at least one person; 0 is
        nobody, which `forget_size` must not be. All others are retained, at least one.
    stratify : array-like of shape (n_samples,), default=None
        Class labels to stratify by: each part has people of all classes in like proportions. A
        person counts as of the class that most of their rows have. A part that is too small for
        a person of each class is drawn from all people alike.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    Returns
    -------
    split : ForgetSplit
        A named tuple of four boolean masks of shape (n_samples,), `retain`, `forget`, `val` and
        `test`; ``split.train`` is the first two together.

    Raises
    ------
    ValueError
        If a size is neither a share nor a number of people, nobody is to be forgotten or nobody
        would be retained, `groups` is empty, not of one dimension or has missing values, or
        `stratify` does not hold a class label for each row.

    See Also
    --------
    forget_mask : The mask of people who are known by name.
    ForgetShuffleSplit : Repeated splits for a search, with a forget set that is given.
    sklearn.model_selection.train_test_split : Two parts, by rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.model_selection import forget_split
    >>> groups = np.repeat(["ann", "bob", "cat", "dan", "eve"], 2)
    >>> split = forget_split(groups, forget_size=1, random_state=0)
    >>> {name: groups[mask].tolist() for name, mask in split._asdict().items()}
    {'retain': ['bob', 'bob', 'dan', 'dan'], 'forget': ['eve', 'eve'],
     'val': ['ann', 'ann'], 'test': ['cat', 'cat']}

    The rows to fit on, and the mask that goes with them:

    >>> groups[split.train], split.forget[split.train]
    (array(['bob', 'bob', 'dan', 'dan', 'eve', 'eve'], dtype='<U3'),
     array([False, False, False, False,  True,  True]))
    """
    people, person = np.unique(check_groups(groups), return_inverse=True)
    sizes = {"test_size": test_size, "val_size": val_size, "forget_size": forget_size}
    counts = {name: _count_people(name, size, len(people)) for name, size in sizes.items()}
    if counts["forget_size"] == 0:
        raise ValueError(f"forget_size must be at least one person; got {forget_size!r}.")
    if sum(counts.values()) >= len(people):
        given = ", ".join(f"{name}={size!r}" for name, size in sizes.items())
        raise ValueError(
            f"{given} take {sum(counts.values())} of {len(people)} people and leave nobody to "
            "retain; use smaller sizes."
        )
    classes = None
    if stratify is not None:
        check_consistent_length(groups, stratify)
        stratify = np.asarray(stratify)
        if not _are_classes(stratify):
            raise ValueError(
                "stratify must hold one class label for each row; got values of kind "
                f"{type_of_target(stratify)!r}, shape {stratify.shape}."
            )
        classes = _class_of_each(person, stratify)
    rng = check_random_state(random_state)
    left, parts = np.arange(len(people)), {}
    for name, count in counts.items():
        drawn = np.array([], dtype=int)
        if count:
            strata = None if classes is None else classes[left]
            _, drawn = next(_draw_units(len(left), strata, 1, count, None, rng))
        parts[name] = np.isin(person, left[drawn])
        left = np.delete(left, drawn)
    return ForgetSplit(
        np.isin(person, left), parts["forget_size"], parts["val_size"], parts["test_size"]
    )


def _count_people(name, size, n_people):
    if isinstance(size, Integral) and not isinstance(size, bool) and size >= 0:
        return int(size)
    if isinstance(size, Real) and not isinstance(size, Integral) and 0 <= size < 1:
        return max(1, round(size * n_people)) if size else 0
    raise ValueError(
        f"{name} must be a number of people, or a share of them that is below 1; got {size!r}."
    )
