"""Transformers fitted again on fewer rows, whose columns and codes keep their places."""

from collections.abc import Mapping
from copy import copy, deepcopy
from itertools import count

import numpy as np
from scipy.sparse import csc_array, issparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

# Each of their columns belongs to one input column, category or word and goes up with it, whatever
# rows they were fitted on; a change of its values is what the rows to forget had in them.
_KEEP_PLACES = (
    CountVectorizer,
    DictVectorizer,
    KNNImputer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SimpleImputer,
    StandardScaler,
    TargetEncoder,
    TfidfTransformer,
)

_ROWS, _VALUES = 256, 10_000_000


def refit(fitted, X, y):
    """Fit the steps of a pipeline again, on fewer of the rows that it was fitted on.

    Parameters
    ----------
    fitted : sklearn.pipeline.Pipeline
        Fitted transformers. They are not changed.
    X, y : array-like
        The rows to fit on.

    Returns
    -------
    transform : callable
        Transforms rows as the new pipeline does, but still knows a category that only the other
        rows had by the place it has had.
    new : sklearn.pipeline.Pipeline
        The new pipeline, in which nothing of the other rows is left.

    Raises
    ------
    ValueError
        If columns or codes of a transformer would change their places.
    """
    wrapped = _wrapped(fitted, "").fit(X, y)
    return wrapped.transform, _unwrapped(wrapped, fitted)


def _wrapped(old, path):
    """The same composition, not fitted, of transformers that are fitted again as `_Again` is."""
    if old is None or isinstance(old, str | FrozenEstimator):
        return old

    if isinstance(old, Pipeline):
        new = copy(old)
        new.steps = [(name, _wrapped(step, f"{path}{name}__")) for name, step in old.steps]
        new.memory = None
    elif isinstance(old, FeatureUnion):
        new = copy(old)
        new.transformer_list = [
            (name, _wrapped(step, f"{path}{name}__")) for name, step in old.transformer_list
        ]
    elif isinstance(old, ColumnTransformer):
        new = clone(old)
        known = old.named_transformers_
        new.transformers = [
            (
                name,
                _wrapped(step if isinstance(step, str) else known[name], f"{path}{name}__"),
                which,
            )
            for name, step, which in old.transformers
        ]
        if not isinstance(old.remainder, str):
            step = known.get("remainder", old.remainder)
            new.remainder = _wrapped(step, f"{path}remainder__")
    else:
        new = _Again(old, path.removesuffix("__"))
    return new


def _unwrapped(new, old):
    """The composition in which each transformer is the one that was fitted again."""
    if isinstance(new, _Again):
        return getattr(new, "final_", None) or clone(new.old)  # not fitted, if it has no columns
    if new is None or isinstance(new, str | FrozenEstimator):
        return new
    new = copy(new)
    if isinstance(new, Pipeline):
        new.steps = [
            (name, _unwrapped(step, before))
            for (name, step), (_, before) in zip(new.steps, old.steps)
        ]
        new.memory = old.memory
    elif isinstance(new, FeatureUnion):
        new.transformer_list = [
            (name, _unwrapped(step, before))
            for (name, step), (_, before) in zip(new.transformer_list, old.transformer_list)
        ]
    elif isinstance(new, ColumnTransformer):
        before = old.named_transformers_
        new.transformers_ = [
            (name, _unwrapped(step, before[name]), columns)
            for name, step, columns in new.transformers_
        ]
        plain = clone(old)
        new.transformers, new.remainder = plain.transformers, plain.remainder
        new._remainder = (*new._remainder[:1], plain.remainder, *new._remainder[2:])
        new.sparse_output_ = old.sparse_output_
    return new


class _Again(TransformerMixin, BaseEstimator):
    """Fits a transformer again, with what it knew in the places where it was, or refuses.

    Until the request is done, rows to forget are transformed by `known_`, which has their
    categories still; `final_` has not.
    """

    def __init__(self, old, path):
        self.old = old
        self.path = path

    def __sklearn_clone__(self):
        return self

    def fit(self, X, y=None):
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X, y=None):
        old = self.old
        names = getattr(old, "feature_names_in_", None)
        if len(getattr(X, "columns", ())) != getattr(old, "n_features_in_", 0):
            names = None
        new = clone(old)
        if hasattr(new, "fit_transform"):
            out = new.fit_transform(X, y)
        else:
            out = new.fit(X, y).transform(X)
        self.known_ = self.final_ = new
        if isinstance(new, OneHotEncoder | OrdinalEncoder):
            self.known_, self.final_ = _with_places_of_categories(old, new, self._refuse)
        elif isinstance(new, CountVectorizer | DictVectorizer):
            self.known_, self.final_ = _with_places_of_words(old, new, X)
        if self.final_ is not new:
            out = self.final_.transform(X)
            self.columns_ = getattr(out, "columns", None)
        self._compare(X, out, names)
        return out

    def transform(self, X):
        out = self.known_.transform(X)
        if getattr(self, "columns_", None) is not None:  # names that the next steps were fitted on
            out.columns = self.columns_
        return out

    def _compare(self, X, out, names):
        """Refuse columns or codes that are not where they were."""
        old, new = self.old, self.final_
        if isinstance(new, SelectorMixin):
            if not np.array_equal(old.get_support(), new.get_support()):
                self._refuse("chooses other columns than before")
            return
        width = getattr(out, "shape", (0, 1))[1:]
        n = _num_samples(X)
        n_rows = min(n, max(_ROWS, _VALUES // max(1, int(np.prod(width)))))
        rows = np.linspace(0, n - 1, n_rows).astype(int)
        some = _safe_indexing(X, rows)
        after = new.transform(some)
        if names is not None:  # the step before may have other names for the same columns
            some = copy(some)
            some.columns = names
        before = old.transform(some)
        if isinstance(before, Mapping):
            if before.keys() != after.keys():
                self._refuse("has other keys in its output than before")
            pairs = [(before[key], after[key]) for key in before]
        else:
            pairs = [(before, after)]
        for before, after in pairs:
            self._compare_arrays(before, after)

    def _compare_arrays(self, before, after):
        shapes = [x.shape if hasattr(x, "shape") else np.shape(x) for x in (before, after)]
        if shapes[0][1:] != shapes[1][1:]:
            self._refuse(f"gives rows of shape {shapes[1][1:]}, where it gave {shapes[0][1:]}")
        if isinstance(self.final_, _KEEP_PLACES):
            return
        if issparse(before) or issparse(after):
            before, after = csc_array(before), csc_array(after)
            differs = np.unique((before != after).nonzero()[1])
            columns = ((j, before[:, [j]].toarray(), after[:, [j]].toarray()) for j in differs)
        else:
            before, after = (np.asarray(x).reshape(shapes[0][0], -1) for x in (before, after))
            columns = ((j, before[:, j], after[:, j]) for j in range(before.shape[1]))
        bins = isinstance(self.final_, KBinsDiscretizer)
        if bins and not np.array_equal(self.old.n_bins_, self.final_.n_bins_):
            self._refuse("has other numbers of bins than before")
        for j, a, b in columns:
            a, b = (np.asarray(np.ravel(x).tolist()) for x in (a, b))  # of objects, maybe
            moved = _moved(a, b)
            if bins and np.mean(moved) <= 0.1:  # edges have moved, bins keep their order
                continue
            if moved.any() and not (_is_numeric(a) and _is_numeric(b) and _is_drift(a, b)):
                self._refuse(
                    f"gives other codes or values than before in column {j} for "
                    f"{np.count_nonzero(moved)} of {len(a)} rows that stay"
                )

    def _refuse(self, reason):
        kind = type(self.old).__name__
        raise ValueError(
            f"pipeline's step {self.path!r}, a {kind}, {reason} when it is fitted "
            "without the rows to forget, but the network reads columns and codes by place. Nothing "
            "was changed. Keep the "
            f"step as it is, with what it holds of the rows to forget, as FrozenEstimator({kind}); "
            "give it fixed categories, a fixed vocabulary or a random_state, where it has them; or "
            "fit the pipeline again on the rows to retain."
        )


# -- places ------------------------------------------------------------------------------------


def _with_places_of_categories(old, new, refuse):
    """The old encoder, and the same without the names of categories that the new one lacks."""
    gone = []
    for before, after in zip(old.categories_, new.categories_, strict=True):
        left, was = _known(after), _known(before)
        if left - was:
            refuse(
                f"has categories that it did not have before, such as {next(iter(left - was))!r}"
            )
        gone.append(np.array([_same(c) not in left for c in before], dtype=bool))
        if gone[-1].any() and before.dtype.kind in "mM":
            refuse("loses a date or time, in whose place no other can be put,")
    if getattr(old, "_infrequent_enabled", False):
        groups = zip(old.infrequent_categories_, new.infrequent_categories_, new.categories_)
        for before, after, left in groups:
            before, after = (_known(() if group is None else group) for group in (before, after))
            if before & _known(left) != after:
                refuse("counts other categories as infrequent than before")
    if not any(mask.any() for mask in gone):
        return new, new
    final = deepcopy(old)
    final.categories_ = [
        _without(categories, mask) if mask.any() else categories
        for categories, mask in zip(final.categories_, gone)
    ]
    for i, mask in enumerate(gone):
        if mask[-1] and i in getattr(final, "_missing_indices", {}):
            del final._missing_indices[i]
    return old, final


def _same(value):
    """A value that equals itself."""
    return "nan" if isinstance(value, float | np.floating) and np.isnan(value) else (value,)


def _known(values):
    return set(map(_same, values))


def _without(categories, gone):
    """Categories with values in place of those that are gone that no row has."""
    if categories.dtype.kind in "biuf":
        values = categories.astype(np.float64)
        left = values[~gone & ~np.isnan(values)]
        if len(left) == 0:
            left = np.zeros(1)
        previous = left[0]
        first = int(np.flatnonzero(~gone)[0]) if (~gone).any() else len(gone)
        for i in range(first - 1, -1, -1):
            values[i] = previous = np.nextafter(previous, -np.inf)
        for i in range(first, len(values)):
            values[i] = previous = np.nextafter(previous, np.inf) if gone[i] else values[i]
        return values
    values, taken = list(categories), _known(categories)
    names = _placeholders(lambda name: _same(name) in taken)
    is_bytes = categories.dtype.kind == "S"
    for i in np.flatnonzero(gone):
        name = next(names)
        values[i] = name.encode() if is_bytes else name
    return np.array(values) if is_bytes else np.array(values, dtype=object)


def _placeholders(is_taken):
    return (name for name in map("<forgotten {}>".format, count()) if not is_taken(name))


def _with_places_of_words(old, new, X):
    """The new vectoriser with the words that it shares with the old one in their old places.

    The first of the two returned also has the words that no row of `X` has.
    """
    before, after = old.vocabulary_, new.vocabulary_
    n_rows = np.asarray((old.transform(X) != 0).sum(axis=0)).ravel()
    names = _placeholders(before.__contains__)

    def variant(is_left):
        words = {word if is_left(word) else next(names): i for word, i in before.items()}
        out = deepcopy(new)
        out.vocabulary_ = words
        if isinstance(out, DictVectorizer):
            out.feature_names_ = sorted(words, key=words.get)
        if isinstance(out, TfidfVectorizer):
            if out.use_idf:
                idf = np.ones(len(words))
                for word in words.keys() & before.keys():
                    idf[words[word]] = (
                        new.idf_[after[word]] if word in after else old.idf_[before[word]]
                    )
                out.idf_ = idf
            out._tfidf.n_features_in_ = len(words)
        return out

    return variant(lambda w: w in after or n_rows[before[w]] == 0), variant(after.__contains__)


# -- drift -------------------------------------------------------------------------------------


def _is_numeric(values):
    return values.dtype.kind in "biufc"


def _is_whole(values):
    return (values == np.rint(values)).all()


def _moved(a, b):
    """Which values of a column are others than before."""
    if not (_is_numeric(a) and _is_numeric(b)):
        return np.array([_same(p) != _same(q) for p, q in zip(a, b)])
    known = ~np.isnan(a)
    tolerance = 0 if _is_whole(a[known]) else 1e-4
    return ~np.isclose(a, b, rtol=tolerance, atol=tolerance / 1000, equal_nan=True)


def _is_drift(a, b):
    """Whether a column of measurements has moved a little, and no code has become another."""
    missing = np.isnan(a)
    a, b = a[~missing].astype(float), b[~missing].astype(float)
    if np.isnan(b).any() or (_is_whole(a) and _is_whole(b)):
        return False
    if np.sqrt(np.mean((a - b) ** 2)) > 0.5 * (a.std() or abs(a[0])):
        return False
    values, place = np.unique(a, return_inverse=True)
    if 4 * len(values) > len(a):
        return True
    # Few values, such as scaled codes: none may go a quarter of the way to the next one.
    gaps = np.concatenate([[np.inf], np.diff(values), [np.inf]])
    return bool((np.abs(b - a) <= np.minimum(gaps[1:], gaps[:-1])[place] / 4).all())
