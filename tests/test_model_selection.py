import copy
import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    check_cv,
    cross_validate,
)
from sklearn.utils.metadata_routing import get_routing_for_object

from skunlearn._engine.validation import check_forget
from skunlearn.model_selection import ForgetKFold, ForgetShuffleSplit, forget_mask, forget_split


def rows(draw, strategy, n_samples):
    return np.array(draw(st.lists(strategy, min_size=n_samples, max_size=n_samples)))


@st.composite
def problems(draw):
    n_samples = draw(st.integers(6, 60))
    forget = rows(draw, st.booleans(), n_samples)
    forget[draw(st.integers(0, n_samples - 1))] = True
    y = draw(st.sampled_from([None, st.integers(0, 3), st.sampled_from("abc"), st.floats(0, 1)]))
    y = None if y is None else rows(draw, y, n_samples)
    groups = rows(draw, st.integers(0, 12), n_samples) if draw(st.booleans()) else None
    holdable = ~forget
    if groups is not None:
        holdable &= ~np.array([g in set(groups[forget]) for g in groups])
    return forget, y, groups, holdable


@st.composite
def k_folds(draw):
    shuffle = draw(st.booleans())
    seed = draw(st.integers(0, 9)) if shuffle else None
    return ForgetKFold, {
        "n_splits": draw(st.integers(2, 4)),
        "shuffle": shuffle,
        "random_state": seed,
    }


@st.composite
def shuffle_splits(draw):
    sizes = st.sampled_from([None, 0.1, 0.4, 1, 2])
    return ForgetShuffleSplit, {
        "n_splits": draw(st.integers(1, 4)),
        "test_size": draw(sizes),
        "train_size": draw(sizes),
        "random_state": draw(st.integers(0, 9)),
    }


def sizes_are_possible(params, units):
    try:
        next(ShuffleSplit(**params).split(units))
    except ValueError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(problems(), k_folds() | shuffle_splits())
@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
def test_split_invariants(problem, splitter):
    forget, y, groups, holdable = problem
    kind, params = splitter
    n_samples = len(forget)
    units = np.flatnonzero(holdable) if groups is None else np.unique(groups[holdable])
    X = np.zeros((n_samples, 1))
    cv = kind(**params)
    least = params["n_splits"] if kind is ForgetKFold else 2
    if len(units) < least:
        with pytest.raises(ValueError, match=f"needs at least {least} .* got {len(units)}"):
            next(cv.split(X, y, groups, forget))
        return
    if kind is ForgetShuffleSplit and not sizes_are_possible(params, units):
        with pytest.raises(ValueError, match=f"^{len(units)} .* can be held out"):
            next(cv.split(X, y, groups, forget))
        return
    splits = list(cv.split(X, y, groups, forget))
    assert len(splits) == cv.get_n_splits(X, y, groups, forget) == params["n_splits"]
    without = kind(**params, forget=forget, forget_in_test=False).split(X, y, groups)
    members = set(np.flatnonzero(forget))
    held_out = np.zeros(n_samples, dtype=int)
    for (train, test), (train_without, test_without) in zip(splits, without, strict=True):
        for part in (train, test):
            np.testing.assert_array_equal(part, np.unique(part))
            assert members <= set(part)
        unseen = np.setdiff1d(test, np.flatnonzero(forget))
        assert len(unseen) > 0
        assert not set(unseen) & set(train)
        assert set(np.flatnonzero(~holdable)) <= set(train)
        if params.get("train_size") is None:
            assert len(unseen) + len(train) == n_samples
        else:
            assert set(train) > set(np.flatnonzero(~holdable))
        if groups is not None:
            assert not set(groups[unseen]) & set(groups[train])
        held_out[unseen] += 1
        np.testing.assert_array_equal(train, train_without)
        np.testing.assert_array_equal(unseen, test_without)
    assert not held_out[~holdable].any()
    if kind is ForgetKFold:
        assert (held_out[holdable] == 1).all()


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    st.integers(4, 30),
    st.integers(1, 4),
    st.sampled_from([0, 1, 0.1, 0.3]),
    st.sampled_from([0, 1, 0.2]),
    st.integers(0, 9),
)
def test_forget_split_invariants(data, n_people, forget_size, val_size, test_size, seed):
    groups = np.concatenate([np.arange(n_people), rows(data.draw, st.integers(0, n_people - 1), 9)])
    y = rows(data.draw, st.integers(0, 3), len(groups)) if data.draw(st.booleans()) else None

    def count(size):
        return size if size in (0, 1) else max(1, round(size * n_people))

    def run():
        return forget_split(
            groups,
            forget_size=forget_size,
            val_size=val_size,
            test_size=test_size,
            stratify=y,
            random_state=seed,
        )

    if forget_size + count(val_size) + count(test_size) >= n_people:
        with pytest.raises(ValueError, match="leave nobody to retain"):
            run()
        return
    split = run()
    np.testing.assert_array_equal(np.sum(split, axis=0), 1)  # each row in one part
    people = [set(groups[mask]) for mask in split]
    assert sum(map(len, people)) == n_people  # and each person
    assert [len(who) for who in people[1:]] == [forget_size, count(val_size), count(test_size)]
    np.testing.assert_array_equal(split.train, split.retain | split.forget)
    np.testing.assert_array_equal(split, run())


def test_folds_are_stratified_by_class():
    y = np.repeat(["a", "b"], [40, 20])
    forget = np.arange(60) % 4 == 0  # leaves 30 of a, 15 of b
    for _, test in ForgetKFold(5).split(np.zeros(60), y, forget=forget):
        unseen = test[~forget[test]]
        assert np.unique(y[unseen], return_counts=True)[1].tolist() == [6, 3]


def test_random_splits_are_stratified_by_class():
    y = np.repeat(["a", "b"], [40, 20])
    forget = np.arange(60) % 4 == 0  # leaves 30 of a, 15 of b
    cv = ForgetShuffleSplit(5, test_size=9, train_size=12, random_state=0)
    for train, test in cv.split(y, y, forget=forget):
        for part, counts in ((train, [8, 4]), (test, [6, 3])):
            retained = part[~forget[part]]
            assert np.unique(y[retained], return_counts=True)[1].tolist() == counts


def test_random_splits_of_people_are_stratified_by_their_usual_class():
    groups = np.arange(160) // 4
    y = np.array(["a", "b", "c", "c"])[groups % 4]
    y[::4] = "a"  # one row in four of each person
    forget = groups < 8
    cv = ForgetShuffleSplit(5, test_size=0.25, random_state=0)
    for _, test in cv.split(y, y, groups, forget):
        people = np.unique(groups[test[~forget[test]]])
        usual = np.array(["a", "b", "c", "c"])[people % 4]
        assert np.unique(usual, return_counts=True)[1].tolist() == [2, 2, 4]


@pytest.mark.parametrize(
    "y", [np.r_[np.zeros(19, int), 1], np.arange(20) // 5, np.linspace(0, 1, 20), np.eye(20)]
)
def test_labels_that_allow_no_strata_leave_random_splits_plain(y):
    y, forget = np.concatenate([y[:1], y]), np.arange(21) == 0
    cv = ForgetShuffleSplit(2, test_size=3, random_state=0)
    plain = ShuffleSplit(2, test_size=3, random_state=0).split(np.zeros(20))
    for (_, test), (_, expected) in zip(cv.split(y, y, forget=forget), plain, strict=True):
        np.testing.assert_array_equal(test[1:], np.sort(expected) + 1)


@pytest.mark.parametrize("size", [{"test_size": 0.3}, {"test_size": 2, "train_size": 3}])
def test_random_splits_of_people_are_those_of_scikit_learn(size):
    groups = np.random.RandomState(0).randint(12, size=80)
    forget = groups < 3
    retain = np.flatnonzero(~forget)
    theirs = GroupShuffleSplit(4, **size, random_state=5).split(retain, groups=groups[retain])
    ours = ForgetShuffleSplit(4, **size, random_state=5).split(groups, None, groups, forget)
    for (kept, expected), (train, test) in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(test[~forget[test]], retain[expected])
        np.testing.assert_array_equal(train[~forget[train]], retain[kept])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"test_size": 5}, r"^4 retain rows can be held out. test_size=5 should be"),
        ({"test_size": 1.5}, "test_size=1.5 should be"),
        ({"test_size": 2, "train_size": 3}, "sum of train_size and test_size = 5"),
        ({"test_size": 0.9}, "train set will be empty"),
    ],
)
def test_sizes_that_cannot_be_drawn_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        next(ForgetShuffleSplit(**sizes).split(np.zeros(6), forget=np.arange(6) < 2))


def test_random_splits_repeat_only_with_a_seed():
    def draw(cv):
        return [tuple(test) for _, test in cv.split(np.zeros(60), forget=np.arange(60) < 9)]

    assert draw(ForgetShuffleSplit(3, random_state=1)) == draw(
        ForgetShuffleSplit(3, random_state=1)
    )
    drawn = draw(ForgetShuffleSplit(3, random_state=1)) + draw(
        ForgetShuffleSplit(3, random_state=2)
    )
    assert len(set(drawn)) == 6


def test_folds_of_people_are_stratified_too():
    groups = np.arange(80) // 4
    y = np.where(groups % 2, "a", "b")
    for _, test in ForgetKFold(4).split(y, y, groups, forget=groups < 4):
        unseen = test[groups[test] >= 4]
        assert np.unique(y[unseen], return_counts=True)[1].tolist() == [8, 8]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("stratified", [False, True])
def test_held_out_rows_are_those_of_scikit_learn_on_the_retain_rows(shuffle, stratified):
    rng = np.random.RandomState(0)
    y = rng.randint(3, size=50) if stratified else None
    forget = rng.rand(50) < 0.3
    retain = np.flatnonzero(~forget)
    seed = 7 if shuffle else None
    kind = StratifiedKFold if stratified else KFold
    theirs = kind(3, shuffle=shuffle, random_state=seed).split(
        retain, y[retain] if stratified else None
    )
    ours = ForgetKFold(3, shuffle=shuffle, random_state=seed).split(retain_x(50), y, forget=forget)
    for (_, expected), (_, test) in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(test[~forget[test]], retain[expected])


def retain_x(n):
    return [[0.0]] * n


def test_a_persons_other_rows_stay_in_training_when_some_are_forgotten():
    groups = np.array(list("aabbccdd"))
    forget = np.array([True] + [False] * 7)
    folds = list(ForgetKFold(3).split(groups, groups=groups, forget=forget))
    for train, test in folds:
        assert {0, 1} <= set(train)
        assert 1 not in test
    assert sorted(np.concatenate([test for _, test in folds])) == [0, 0, 0, 2, 3, 4, 5, 6, 7]


def test_labels_that_allow_no_strata_are_not_stratified():
    forget = np.arange(6) == 5
    for y in (np.arange(6), np.linspace(0, 1, 6), np.eye(6, dtype=int)):
        folds = list(ForgetKFold(3).split(y, y, forget=forget))
        expected = list(ForgetKFold(3).split(y, forget=forget))
        for fold, plain in zip(folds, expected):
            np.testing.assert_array_equal(np.concatenate(fold), np.concatenate(plain))


def test_a_class_too_small_for_the_folds_is_warned_about():
    y = np.repeat([0, 1], [9, 1])
    forget = np.arange(10) == 0
    with pytest.warns(UserWarning, match="least populated class"):
        list(ForgetKFold(3).split(y, y, forget=forget))


@pytest.mark.parametrize(
    "convert", [list, pd.Series, torch.tensor, lambda m: pd.Series(m, dtype="boolean")]
)
def test_mask_may_be_any_kind_of_booleans(convert):
    forget = np.array([True, False, False, True, False, False])
    expected = list(ForgetKFold(2).split(forget, forget=forget))
    for cv, mask in (
        (ForgetKFold(2), convert(forget)),
        (ForgetKFold(2, forget=convert(forget)), None),
        (ForgetKFold(2, forget=convert(forget)), forget),
    ):
        for fold, plain in zip(cv.split(forget, forget=mask), expected, strict=True):
            np.testing.assert_array_equal(np.concatenate(fold), np.concatenate(plain))


@pytest.mark.parametrize(
    ("forget", "message"),
    [
        (None, "needs to know the forget rows.*enable_metadata_routing"),
        ([0, 2], r"int64, shape \(2,\); turn row indices into a mask with mask = np.zeros\(6, "),
        (np.array([1, 0, 0, 0, 0, 1]), "int64"),
        (np.array([1.0, 0, 0, 0, 0, 1]), "float64"),
        ([True, False], r"shape \(6,\).*shape \(2,\)"),
        (np.ones((6, 1), bool), r"shape \(6, 1\)"),
        (["a"] * 6, "forget must be a boolean mask"),
        ([True, None, False, False, False, False], "object"),
        (pd.Series([True, None] + [False] * 4, dtype="boolean"), "missing values at rows"),
        (True, "got True"),
        ("ann", "got 'ann'"),
        ([[True], [False, True]], "forget must be a boolean mask"),
        (np.zeros(6, bool), "forget must be True for at least one row"),
        (np.ones(6, bool), "n_splits=2 needs at least 2 retain rows to hold out; got 0"),
        (np.arange(6) > 0, "n_splits=2 needs at least 2 retain rows to hold out; got 1"),
    ],
)
def test_a_mask_that_cannot_work_is_refused(forget, message):
    for cv, mask in ((ForgetKFold(2), forget), (ForgetKFold(2, forget=forget), None)):
        with pytest.raises(ValueError, match=message):
            next(cv.split(np.zeros(6), forget=mask))
    message = message.replace("n_splits=2", "ForgetShuffleSplit")
    with pytest.raises(ValueError, match=message):
        next(ForgetShuffleSplit(2).split(np.zeros(6), forget=forget))


def test_two_different_masks_are_refused():
    cv = ForgetKFold(2, forget=np.arange(6) < 2)
    with pytest.raises(ValueError, match="the two differ"):
        next(cv.split(np.zeros(6), forget=np.arange(6) < 3))


def test_too_few_people_to_hold_out_are_counted():
    groups = np.repeat(["a", "b", "c"], 3)
    with pytest.raises(ValueError, match=r"at least 3 groups without a forget row.*got 2"):
        next(ForgetKFold(3).split(groups, groups=groups, forget=groups == "a"))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros((6, 2)), "groups must have shape"),
        ([0.0, 1, 2, np.nan, 4, 5], "groups must name the group of every row"),
        ([0, 1], "inconsistent numbers of samples"),
    ],
)
def test_bad_groups_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        next(ForgetKFold(2).split(np.zeros(6), groups=groups, forget=np.arange(6) < 2))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        next(ForgetKFold(2).split(np.zeros(6), [0, 1], forget=np.arange(6) < 2))


@pytest.mark.parametrize("arguments", [{"n_splits": 1}, {"n_splits": 2.5}, {"random_state": 0}])
def test_construction_refuses_what_scikit_learn_refuses(arguments):
    with pytest.raises(ValueError):
        ForgetKFold(**arguments)


@pytest.mark.parametrize("n_splits", [0, 2.5, True])
def test_random_splits_of_no_number_are_refused(n_splits):
    with pytest.raises(ValueError, match="n_splits must be an integer"):
        ForgetShuffleSplit(n_splits)


@pytest.mark.parametrize("kind", [ForgetKFold, ForgetShuffleSplit])
def test_mask_and_groups_are_requested_by_default(kind):
    with sklearn.config_context(enable_metadata_routing=True):
        requests = get_routing_for_object(kind()).split.requests
    assert requests == {"forget": True, "groups": True}


@pytest.mark.parametrize(
    "cv",
    [
        ForgetKFold(3, shuffle=True, random_state=0, forget=np.arange(30) < 5),
        ForgetShuffleSplit(4, test_size=3, random_state=0, forget=np.arange(30) < 5),
    ],
)
def test_splitters_are_copied_pickled_and_checked_as_scikit_learns_are(cv):
    X = np.zeros((30, 2))
    given = inspect.signature(type(cv)).parameters
    assert vars(cv).keys() == set(given)  # stored by the names that they are given by
    assert check_cv(cv) is cv
    assert cv.get_n_splits(X) == len(list(cv.split(X))) == cv.n_splits
    first = list(cv.split(X))
    for other in (clone(cv, safe=False), copy.deepcopy(cv), pickle.loads(pickle.dumps(cv))):
        assert repr(other) == repr(cv)
        for parts, others in zip(first, other.split(X.tolist()), strict=True):
            for rows, other_rows in zip(parts, others, strict=True):
                assert np.array_equal(rows, other_rows)


@pytest.mark.parametrize("kind", [ForgetKFold, ForgetShuffleSplit])
def test_requests_of_a_splitter_can_be_set_and_are_copied(kind):
    with sklearn.config_context(enable_metadata_routing=True):
        cv = kind().set_split_request(groups=False)
        for each in (cv, copy.deepcopy(cv), pickle.loads(pickle.dumps(cv))):
            assert get_routing_for_object(each).split.requests == {"forget": True, "groups": False}


def test_repr_reads_like_scikit_learns():
    assert " ".join(repr(ForgetKFold(3, shuffle=True, random_state=0)).split()) == (
        "ForgetKFold(forget=None, forget_in_test=True, n_splits=3, random_state=0, shuffle=True)"
    )


def test_splitting_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    cv = ForgetKFold(3, shuffle=True, random_state=0)
    first, second = (list(cv.split(np.zeros(30), forget=np.arange(30) < 5)) for _ in range(2))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    for one, other in zip(first, second):
        np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))


def test_construction_with_a_mask_serves_searches_without_routing():
    X, y = np.zeros((30, 1)), np.arange(30) % 2
    cv = ForgetKFold(3, forget=np.arange(30) < 6)
    result = cross_validate(DummyClassifier(), X, y, cv=cv, return_indices=True)
    assert all(set(range(6)) <= set(rows) for rows in result["indices"]["train"])
    assert all(set(range(6)) <= set(rows) for rows in result["indices"]["test"])


@pytest.mark.parametrize("identities", [["ann", "eve"], {"ann", "eve"}, np.array(["ann", "eve"])])
def test_forget_mask_marks_the_rows_of_the_people(identities):
    groups = pd.Series(["ann", "bob", "ann", "eve", "zoe"])
    mask = forget_mask(groups, identities)
    assert mask.tolist() == [True, False, True, True, False]
    assert check_forget(mask, 5) is mask


def test_forget_mask_takes_one_person():
    assert forget_mask(["ann", "bob"], "bob").tolist() == [False, True]
    assert forget_mask(np.array([3, 4, 3]), 3).tolist() == [True, False, True]
    assert forget_mask(np.array([3, 4, 3]), np.array([4, 4])).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("groups", "identities", "message"),
    [
        (["ann", "bob"], ["bob", "eve"], r"identities must occur in groups; got \['eve'\]"),
        ([1, 2], ["1"], r"got \['1'\]"),
        ([1, 2], [], "identities must name at least one"),
        ([], ["ann"], "groups must have shape"),
        ([[1, 2]], [1], r"groups must have shape .* got \(1, 2\)"),
        ([1.0, np.nan], [1], "groups must name the group of every row"),
    ],
)
def test_forget_mask_refuses_people_who_are_not_there(groups, identities, message):
    with pytest.raises(ValueError, match=message):
        forget_mask(groups, identities)


PEOPLE = np.repeat(np.arange(40), 3)


def test_parts_of_a_data_set_hold_people_of_all_classes():
    y = np.where(PEOPLE % 4, "a", "b")
    y[::3] = "c"  # nobody's most frequent class
    split = forget_split(PEOPLE, forget_size=4, stratify=y, random_state=0)
    counts = [np.sum(np.unique(PEOPLE[mask]) % 4 == 0) for mask in split]
    assert counts == [5, 1, 2, 2]  # of 20, 4, 8 and 8 people


def test_more_people_to_forget_leave_the_unseen_rows_as_they_are():
    few, many = (forget_split(PEOPLE, forget_size=n, random_state=0) for n in (1, 20))
    np.testing.assert_array_equal(few.val, many.val)
    np.testing.assert_array_equal(few.test, many.test)
    assert forget_split(PEOPLE, random_state=1).test.tolist() != few.test.tolist()


def test_one_person_too_few_for_the_classes_is_still_drawn():
    split = forget_split(PEOPLE, forget_size=1, stratify=PEOPLE % 4, random_state=0)
    assert split.forget.sum() == 3


def test_split_does_not_depend_on_the_order_of_rows():
    names = np.array([f"p{who:02}" for who in PEOPLE])
    shuffled = np.random.RandomState(0).permutation(120)
    split = forget_split(names, random_state=0)
    again = forget_split(names[shuffled], random_state=0)
    np.testing.assert_array_equal(np.array(split)[:, shuffled], again)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"forget_size": 0}, "forget_size must be at least one person; got 0"),
        ({"forget_size": 0.0}, "forget_size must be at least one person; got 0.0"),
        ({"forget_size": 1.0}, "forget_size must be a number of people.*got 1.0"),
        ({"val_size": -1}, "val_size must be .*got -1"),
        ({"test_size": True}, "test_size must be .*got True"),
        ({"test_size": None}, "test_size must be .*got None"),
        ({"val_size": float("nan")}, "val_size must be .*got nan"),
        ({"forget_size": 24}, "take 40 of 40 people and leave nobody to retain"),
        ({"stratify": [0, 1]}, "inconsistent numbers of samples"),
        ({"stratify": np.linspace(0, 1, 120)}, "one class label for each row; got .*continuous"),
        ({"stratify": np.eye(120)}, "one class label for each row; got .*multilabel"),
        ({"groups": []}, "groups must have shape"),
        ({"groups": np.where(PEOPLE == 3, np.nan, PEOPLE)}, "missing values"),
        ({"groups": np.where(PEOPLE == 3, None, PEOPLE)}, "missing values"),
        ({"groups": pd.Series(PEOPLE).where(PEOPLE != 3).astype("Int64")}, "missing values"),
        ({"groups": np.where(PEOPLE == 3, pd.NA, PEOPLE)}, "missing values"),
    ],
)
def test_a_split_that_cannot_work_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        forget_split(**({"groups": PEOPLE} | params))
