import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate
from sklearn.utils.metadata_routing import get_routing_for_object

from skunlearn._validation import check_forget
from skunlearn.model_selection import ForgetKFold, forget_mask


@st.composite
def problems(draw):
    n_samples = draw(st.integers(6, 60))
    n_splits = draw(st.integers(2, 4))

    def rows(strategy):
        return np.array(draw(st.lists(strategy, min_size=n_samples, max_size=n_samples)))

    forget = rows(st.booleans())
    forget[draw(st.integers(0, n_samples - 1))] = True
    y = draw(st.sampled_from([None, "classes", "numbers"]))
    y = {"classes": rows(st.integers(0, 3)), "numbers": rows(st.floats(0, 1)), None: None}[y]
    groups = rows(st.integers(0, 12)) if draw(st.booleans()) else None
    shuffle = draw(st.booleans())
    seed = draw(st.integers(0, 9)) if shuffle else None
    return n_splits, shuffle, seed, forget, y, groups


@settings(max_examples=300, deadline=None)
@given(problems())
def test_fold_invariants(problem):
    n_splits, shuffle, seed, forget, y, groups = problem
    holdable = ~forget
    if groups is not None:
        holdable &= ~np.array([g in set(groups[forget]) for g in groups])
    units = np.flatnonzero(holdable) if groups is None else np.unique(groups[holdable])
    cv = ForgetKFold(n_splits, shuffle=shuffle, random_state=seed)
    X = np.zeros((len(forget), 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        if len(units) < n_splits:
            with pytest.raises(ValueError, match="n_splits"):
                list(cv.split(X, y, groups, forget))
            return
        folds = list(cv.split(X, y, groups, forget))
        without = list(
            ForgetKFold(
                n_splits, shuffle=shuffle, random_state=seed, forget=forget, forget_in_test=False
            ).split(X, y, groups)
        )
    assert len(folds) == cv.get_n_splits(X, y, groups, forget) == n_splits
    held_out = np.zeros(len(forget), dtype=int)
    for (train, test), (train_without, test_without) in zip(folds, without):
        assert set(np.flatnonzero(forget)) <= set(train)
        assert set(np.flatnonzero(forget)) <= set(test)
        unseen = np.setdiff1d(test, np.flatnonzero(forget))
        assert len(unseen) > 0
        assert not set(unseen) & set(train)
        assert set(unseen) | set(train) == set(range(len(forget)))
        for part in (train, test):
            np.testing.assert_array_equal(part, np.unique(part))
        if groups is not None:
            assert not set(groups[unseen]) & set(groups[train])
        held_out[unseen] += 1
        np.testing.assert_array_equal(train, train_without)
        np.testing.assert_array_equal(unseen, test_without)
    np.testing.assert_array_equal(held_out, holdable.astype(int))


def test_folds_are_stratified_by_class():
    y = np.repeat(["a", "b"], [40, 20])
    forget = np.arange(60) % 4 == 0  # leaves 30 of a, 15 of b
    for _, test in ForgetKFold(5).split(np.zeros(60), y, forget=forget):
        unseen = test[~forget[test]]
        assert np.unique(y[unseen], return_counts=True)[1].tolist() == [6, 3]


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


def test_mask_and_groups_are_requested_by_default():
    with sklearn.config_context(enable_metadata_routing=True):
        requests = get_routing_for_object(ForgetKFold()).split.requests
    assert requests == {"forget": True, "groups": True}


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
