"""What an item of a data set is, where labels come from, and what else is refused as X or y."""

import io
import pickle

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
)

from skunlearn import SISA, FineTune, NegGrad, Retrain, unlearning_report
from skunlearn._engine.data import labels_of
from skunlearn.datasets import LabelledDataset
from skunlearn.evaluation import compare_unlearners, shadow_margins
from skunlearn.features import FeatureExtractor
from skunlearn.inspection import LossDistributionDisplay
from skunlearn.metrics import get_scorer, get_scorer_names
from skunlearn.model_selection import ForgetKFold, ForgetShuffleSplit, Whole
from tests.networks import MLP, make_net

N = 120
FORGET = np.arange(N) < 20


@pytest.fixture
def rows():
    X = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


class Items(torch.utils.data.Dataset):
    """Items of any kind, which are counted as they are read."""

    def __init__(self, items):
        self.items = items
        self.n_read = 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.n_read += 1
        return self.items[i]


def pairs(X, y):
    return Items(list(zip(X, y)))


class ByName(nn.Module):
    """Its input comes by name, as a dict's does."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, pixels):
        return self.body(pixels)


# -- what an item is -------------------------------------------------------------------------------

WRONG = {
    "triple": (
        lambda X, y: Items([(x, 7, label) for x, label in zip(X, y)]),
        r"got a tuple of 3\..*LabelledDataset\({name}, label=2, inputs=0\)",
    ),
    "list of three": (
        lambda X, y: Items([[x, 7, label] for x, label in zip(X, y)]),
        r"got a list of 3\..*LabelledDataset",
    ),
    "three tensors": (
        lambda X, y: TensorDataset(*map(torch.as_tensor, (X, y, y))),
        r"got a tuple of 3\.",
    ),
    "one tensor": (lambda X, y: TensorDataset(torch.as_tensor(X)), r"got a bare row, tuple"),
    "dict": (
        lambda X, y: Items([{"pixels": x, "label": label} for x, label in zip(X, y)]),
        r"a dict with the keys \['pixels', 'label'\]\..*LabelledDataset\({name}, label='...'\)",
    ),
    "bare array": (
        lambda X, y: Items(list(X)),
        r"got a bare row, ndarray of shape \(4,\)\..*StackDataset\({name}, y\)",
    ),
    "bare tensor of two": (
        lambda X, y: Items(list(torch.as_tensor(X[:, :2]))),
        r"got a bare row, Tensor of shape \(2,\)",
    ),
    "part of triples": (
        lambda X, y: Subset(TensorDataset(*map(torch.as_tensor, (X, y, y))), range(N)),
        r"got a tuple of 3\.",
    ),
    "library's dicts": (
        lambda X, y: Columns({"pixels": X, "label": y}),
        r"a dict with the keys \['pixels', 'label'\]\..*LabelledDataset\({name}, label='...'\)",
    ),
}


class Columns:
    """As Hugging Face has it: no data set of torch's, and its items are dicts of lists."""

    def __init__(self, columns):
        self.columns = columns
        self.column_names = list(columns)
        self.shape = (len(self), len(columns))

    def __len__(self):
        return len(self.columns["label"])

    def __getitem__(self, i):
        return {name: np.asarray(column[i]).tolist() for name, column in self.columns.items()}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("with_y", [False, True])
@pytest.mark.parametrize("unlearner", [FineTune, SISA])
def test_items_that_are_not_pairs_are_refused(unlearner, with_y, kind, rows):
    X, y = rows
    make, message = WRONG[kind]
    data, labels = make(X, y), y if with_y else None
    model = unlearner(make_net(max_epochs=1), random_state=0)
    wrong = "X must yield pairs.* " + message.format(name="X")
    with pytest.raises(ValueError, match=wrong):
        model.fit(data, labels)
    model.fit(X, y)
    with pytest.raises(ValueError, match=wrong):
        model.unlearn(data, labels, forget=FORGET)
    with pytest.raises(
        ValueError, match=r"X_val must yield pairs.* " + message.format(name="X_val")
    ):
        model.unlearn(X, y, forget=FORGET, X_val=data, y_val=labels)
    for ask in (model.predict, model.predict_proba, lambda data: model.score(data, labels)):
        with pytest.raises(ValueError, match=wrong):
            ask(data)


@pytest.mark.parametrize("kind", set(WRONG) - {"library's dicts"})
def test_items_that_are_not_pairs_are_refused_by_scorers_and_reports(kind, rows):
    X, y = rows
    make, message = WRONG[kind]
    data, name = make(X, y), "X"
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y)
    for labels in (None, y):
        for call in (
            lambda: get_scorer("nomus")(model, data, labels, forget=FORGET),  # noqa: B023
            lambda: FeatureExtractor(model).fit_transform(data),
            lambda: unlearning_report(
                model,
                data,
                labels,  # noqa: B023
                forget=FORGET,
                X_unseen=X,
                y_unseen=y,
            ),
            lambda: compare_unlearners(
                [FineTune(make_net(max_epochs=1))],
                data,
                labels,  # noqa: B023
                forget=FORGET,
                X_unseen=X,
                y_unseen=y,
                seeds=[0],
            ),
        ):
            with pytest.raises(ValueError, match=message.format(name=name)):
                call()


def test_slices_of_bare_rows_are_refused(rows):
    X, y = rows
    with pytest.raises(ValueError, match=r"the data set of X must yield pairs.* got a bare row"):
        FineTune(make_net(max_epochs=1)).fit(SliceDataset(Items(list(X))), y)


PAIRS = {
    "tuples": pairs,
    "lists": lambda X, y: Items([[x, label] for x, label in zip(X, y)]),
    "labels in tensors": lambda X, y: Items([(x, torch.tensor(label)) for x, label in zip(X, y)]),
    "labels that need gradients": lambda X, y: Items(
        [(x, torch.tensor(float(label), requires_grad=True)) for x, label in zip(X, y)]
    ),
    "numpy's numbers": lambda X, y: Items([(x, np.int8(label)) for x, label in zip(X, y)]),
    "names": lambda X, y: Items([(x, ["no", "yes"][label]) for x, label in zip(X, y)]),
    "tensors": lambda X, y: TensorDataset(torch.as_tensor(X), torch.as_tensor(y)),
    "stack": lambda X, y: StackDataset(X, y),
    "skorch's": Dataset,
    "part": lambda X, y: Subset(pairs(np.r_[X, X], np.r_[y, 1 - y]), range(N)),
    "parts joined": lambda X, y: ConcatDataset(
        [
            pairs(X[:50], y[:50]),
            StackDataset(X[50:], y[50:]),
        ]
    ),
    "longer tuples, sliced": lambda X, y: LabelledDataset(
        Items([(x, 7, label) for x, label in zip(X, y)]), label=2
    ),
    "dicts, one key": lambda X, y: LabelledDataset(
        Items([{"a": x, "b": 3, "label": label} for x, label in zip(X, y)]), inputs="a"
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("unlearner", [FineTune, SISA])
def test_every_data_set_of_pairs_gives_what_arrays_give(unlearner, kind, rows):
    X, y = rows
    data = PAIRS[kind](X, y)
    if kind == "names":
        y = np.array(["no", "yes"])[y]
    model = unlearner(make_net(max_epochs=2), random_state=0)
    expected = clone(model).fit(X, y, forget=FORGET, X_val=X[:30], y_val=y[:30])
    model.fit(data, forget=FORGET, X_val=Subset(data, range(30)))
    assert model.classes_.tolist() == expected.classes_.tolist()
    np.testing.assert_array_equal(model.predict_proba(data), expected.predict_proba(X))
    assert model.score(data) == expected.score(X, y) > 0.5


def test_labels_of_joined_and_cut_data_sets_are_read_without_their_rows(rows):
    X, y = rows
    data = Items([(x, None) for x in X])
    stacked = StackDataset(data, y)
    assert labels_of(ConcatDataset([Subset(stacked, [3, 1]), stacked])).tolist() == [
        y[3],
        y[1],
        *y,
    ]
    assert data.n_read == 0


def test_of_a_part_no_more_rows_are_read_than_it_has(rows):
    data = pairs(*rows)
    assert labels_of(Subset(data, [5, 7])).tolist() == rows[1][[5, 7]].tolist()
    assert data.n_read == 2


def test_a_part_that_transforms_its_labels_yields_its_own(rows):
    class Shifted(Subset):
        def __getitem__(self, i):
            x, label = super().__getitem__(i)
            return x, label + 10

        __getitems__ = None

    y = rows[1]
    assert labels_of(Shifted(TensorDataset(*map(torch.as_tensor, rows)), [0, 1])).tolist() == (
        (y[:2] + 10).tolist()
    )


@pytest.mark.parametrize(
    "unlabelled", [Dataset, lambda X: LabelledDataset(list(X), label=None)], ids=["skorch", "own"]
)
def test_rows_without_labels_need_them_for_training_alone(unlabelled, rows):
    X, y = rows
    model = FineTune(make_net(max_epochs=1), random_state=0)
    with pytest.raises(ValueError, match=r"X holds no labels.* pass them as y"):
        model.fit(unlabelled(X))
    model.fit(unlabelled(X), y)
    for ask in (model.score, lambda X: get_scorer("utility")(model, X, forget=FORGET)):
        with pytest.raises(ValueError, match=r"X holds no labels.* pass them as y"):
            ask(unlabelled(X))
    with pytest.raises(ValueError, match=r"X_val holds no labels.* pass them as y_val"):
        model.unlearn(X, y, forget=FORGET, X_val=unlabelled(X))
    np.testing.assert_array_equal(model.predict(unlabelled(X)), model.predict(X))


# -- labels inside dicts ---------------------------------------------------------------------------


@pytest.fixture
def faces(rows):
    """Rows as a library of data sets has them, and the same as pairs."""
    X, y = rows
    columns = Columns({"pixels": X, "label": np.array(["no", "yes"])[y]})
    return columns, LabelledDataset(columns)


@pytest.mark.parametrize("unlearner", [FineTune, NegGrad, Retrain, SISA])
def test_labels_inside_dicts_give_what_arrays_give(unlearner, faces, rows):
    X, y = rows[0], np.array(["no", "yes"])[rows[1]]
    _, data = faces
    net = make_net(ByName, max_epochs=3)
    expected = unlearner(net, random_state=0).fit(X, y).unlearn(X, y, forget=FORGET)
    model = unlearner(net, random_state=0).fit(data).unlearn(data, forget=FORGET)
    if unlearner is SISA:  # to which rows of other keys are other rows, dealt out in another way
        assert model.score(data) > 0.5
    else:
        np.testing.assert_array_equal(model.predict_proba(data), expected.predict_proba(X))
        assert model.score(data) == expected.score(X, y)
    unseen = Subset(data, range(40, 80))
    assert unlearner(net, random_state=0).fit(data, forget=FORGET, X_val=unseen).score(data) > 0.5


def test_labels_inside_dicts_are_scored_reported_and_compared(faces, rows):
    X, y = rows[0], np.array(["no", "yes"])[rows[1]]
    _, data = faces
    net = make_net(ByName, max_epochs=3)
    model = FineTune(net, random_state=0).fit(X, y, forget=FORGET)
    kept, unseen = Subset(data, range(80)), Subset(data, range(80, N))
    with_labels = {"forget": FORGET[:80], "X_unseen": X[80:], "y_unseen": y[80:]}
    without = with_labels | {"X_unseen": unseen, "y_unseen": None}
    for name in get_scorer_names():
        expected = get_scorer(name)(model, X, y, forget=FORGET)
        assert get_scorer(name)(model, data, forget=FORGET) == pytest.approx(expected, abs=1e-6)
        bound = get_scorer(name, X_forget=Subset(data, range(20)))
        assert bound(model, unseen) == pytest.approx(
            get_scorer(name, X_forget=X[:20], y_forget=y[:20])(model, X[80:], y[80:]), abs=1e-6
        )
    small = {"n_resamples": 10}
    report = unlearning_report(model, kept, **without, original=model, **small)
    expected = unlearning_report(model, X[:80], y[:80], **with_labels, original=model, **small)
    assert report.metrics["utility"] == expected.metrics["utility"]
    few = {"seeds": [0], "n_splits": 2}
    found = compare_unlearners([FineTune(net)], kept, **without, X_val=unseen, **few)
    by_arrays = compare_unlearners(
        [FineTune(net)], X[:80], y[:80], **with_labels, X_val=X[80:], y_val=y[80:], **few
    )
    assert [row["utility"] for row in found.records] == [
        row["utility"] for row in by_arrays.records
    ]


def test_labels_inside_dicts_are_drawn(faces):
    pytest.importorskip("matplotlib")
    _, data = faces
    model = FineTune(make_net(ByName, max_epochs=1), random_state=0).fit(data)
    display = LossDistributionDisplay.from_estimator(
        model, data, None, forget=FORGET, X_unseen=Subset(data, range(10)), y_unseen=None
    )
    assert list(display.lines_["FineTune"]) == ["retain", "forget", "unseen"]


def test_labels_inside_dicts_go_through_a_search(faces, rows):
    X, y = rows[0], np.array(["no", "yes"])[rows[1]]
    _, data = faces
    search = GridSearchCV(
        FineTune(make_net(ByName, max_epochs=2), random_state=0),
        {"lr": [0.01, 0.1]},
        cv=ForgetKFold(2),
        scoring=get_scorer("nomus"),
    )
    with sklearn.config_context(enable_metadata_routing=True):
        lazy = clone(search).fit(SliceDataset(data), SliceDataset(data, 1), forget=FORGET)
        expected = search.fit(X, y, forget=FORGET)
    assert lazy.cv_results_["mean_test_score"] == pytest.approx(
        expected.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize("splitter", [ForgetKFold(3), ForgetShuffleSplit(2, random_state=0)])
def test_splitters_take_data_sets(splitter, faces, rows):
    _, data = faces
    for ours, expected in zip(
        splitter.split(data, forget=FORGET), splitter.split(rows[0], forget=FORGET)
    ):
        for part, same in zip(ours, expected):
            np.testing.assert_array_equal(part, same)


def test_a_labelled_data_set_yields_what_it_is_told():
    item = {"a": [1.0, 2.0], "b": [[1], [2]], "c": 0.5, "d": [[1], [2, 3]], "label": "x"}
    x, label = LabelledDataset([item])[0]
    assert label == "x"
    assert list(x) == ["a", "b", "c", "d"]
    assert x["a"].dtype == x["c"].dtype == torch.float32
    assert x["b"].tolist() == [[1], [2]]
    assert x["d"] == [[1], [2, 3]]
    assert LabelledDataset([item], label="a", inputs="b")[0][1] == [1.0, 2.0]
    assert list(LabelledDataset([item], inputs=["c", "a"])[0][0]) == ["c", "a"]
    assert LabelledDataset([("x", "y", "z")], label=-1)[0] == ("x", "z")
    assert LabelledDataset([("x", "y", "z")], label=0, inputs=1)[0] == ("y", "x")
    assert LabelledDataset([("x", "y")], label=None)[0] == ("x", 0)
    assert LabelledDataset(["x"], label=None)[0] == ("x", 0)
    for wrong, message in [
        (LabelledDataset([item], label="y"), r"label must be one of the keys \['a', .*got 'y'"),
        (LabelledDataset([item], inputs="y"), r"inputs must be one of the keys \['a', .*got 'y'"),
        (LabelledDataset([("x", "y")], label=2), r"label must be one of positions .*length 2"),
        (LabelledDataset([("x", "y")], label=0), r"inputs must say which part"),
        (LabelledDataset([np.ones(3)], label=1), r"label must be one of positions .*ndarray"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong[0]


# -- scores without labels -------------------------------------------------------------------------


@pytest.mark.parametrize("name", get_scorer_names())
def test_scorers_find_labels_in_the_data_set(name, rows):
    X, y = rows
    model = FineTune(make_net(max_epochs=2), random_state=0).fit(X, y)
    expected = get_scorer(name)(model, X, y, forget=FORGET)
    assert get_scorer(name)(model, pairs(X, y), forget=FORGET) == pytest.approx(expected, abs=1e-6)
    bound = get_scorer(name, X_forget=pairs(X[:20], y[:20]))
    expected = get_scorer(name, X_forget=X[:20], y_forget=y[:20])(model, X[20:], y[20:])
    assert bound(model, pairs(X[20:], y[20:])) == pytest.approx(expected, abs=1e-6)
    assert clone(bound)(model, pairs(X[20:], y[20:])) == pytest.approx(expected, abs=1e-6)


def test_a_score_of_arrays_needs_labels(rows):
    X, y = rows
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="y must be given unless X is a data set of pairs"):
        model.score(X)
    with pytest.raises(ValueError, match="X_forget and y_forget must be given together"):
        get_scorer("nomus", X_forget=X)


# -- held-out rows in a search ---------------------------------------------------------------------


class Noting(FineTune):
    """Notes the held-out rows of each fit."""

    seen = []  # noqa: RUF012

    def _unlearn(self, request):
        self.seen.append(len(request.val))
        return super()._unlearn(request)


@pytest.fixture(params=["routed", "not routed"])
def setting(request):
    routed = request.param == "routed"
    Noting.seen.clear()
    with sklearn.config_context(enable_metadata_routing=routed):
        yield routed


KINDS = {
    "arrays": lambda X, y: (X, y),
    "lists": lambda X, y: (X.tolist(), y.tolist()),
    "tensors": lambda X, y: (torch.as_tensor(X), torch.as_tensor(y)),
    "a data set": lambda X, y: (pairs(X, y), None),
    "a data set and labels": lambda X, y: (pairs(X, -y), y),
    "slices": lambda X, y: (SliceDataset(pairs(X, y)), SliceDataset(pairs(X, y), 1)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splitter", [ForgetKFold, KFold])
def test_as_many_held_out_rows_as_rows_are_never_sliced(splitter, kind, setting, rows):
    X, y = rows
    rng = np.random.default_rng(1)
    forget = np.arange(N) % 6 == 0
    X_val = rng.normal(size=X.shape).astype(np.float32)
    X_val, y_val = KINDS[kind](X_val, (X_val[:, 0] > 0).astype(int))
    model = Noting(make_net(max_epochs=1), random_state=0)
    cv = KFold(3)
    if splitter is ForgetKFold:
        cv = ForgetKFold(3, forget=None if setting else forget)
    search = GridSearchCV(model, {"lr": [0.01, 0.1]}, cv=cv, scoring="accuracy")
    if setting:
        search.set_params(scoring=get_scorer("utility") if splitter is ForgetKFold else "accuracy")
    search.set_params(error_score="raise")
    given = {"forget": forget, "X_val": X_val}
    whole = {"forget": forget, "X_val": Whole(X_val)}
    if y_val is not None:
        given["y_val"], whole["y_val"] = y_val, Whole(y_val)
    with pytest.raises(ValueError, match=r"(?s)as many rows as X.*Whole\(X_val\)"):
        clone(search).fit(X, y, **given)
    clone(search).fit(X, y, **whole)
    assert Noting.seen == [N] * 7
    # Any other number of them is passed on as it is.
    Noting.seen.clear()
    few = {name: some_of(rows) if "_val" in name else rows for name, rows in given.items()}
    clone(search).fit(X, y, **few)
    assert Noting.seen == [N - 3] * 7


def some_of(rows):
    return Subset(rows, range(N - 3)) if isinstance(rows, torch.utils.data.Dataset) else rows[:-3]


@pytest.mark.parametrize("search", ["cross_validate", "cross_val_predict", "random", "pipeline"])
@pytest.mark.parametrize("unlearner", [FineTune, SISA])
def test_no_search_slices_held_out_rows(unlearner, search, rows):
    X, y = rows
    forget = np.arange(N) % 6 == 0
    model = unlearner(make_net(max_epochs=1), random_state=0)
    prefix = ""
    if search == "pipeline":
        prefix = unlearner.__name__.lower() + "__"
        model = make_pipeline(StandardScaler(), model)
    given = {f"{prefix}forget": forget, f"{prefix}X_val": X[::-1], f"{prefix}y_val": y[::-1]}
    run = {
        "cross_validate": lambda params: cross_validate(
            model, X, y, cv=3, params=params, error_score="raise"
        ),
        "cross_val_predict": lambda params: cross_val_predict(model, X, y, cv=3, params=params),
        "random": lambda params: RandomizedSearchCV(
            model, {"random_state": [0, 1]}, n_iter=1, cv=3, error_score="raise"
        ).fit(X, y, **params),
        "pipeline": lambda params: GridSearchCV(
            model, {f"{prefix}random_state": [0]}, cv=3, error_score="raise"
        ).fit(X, y, **params),
    }[search]
    with pytest.raises(ValueError, match="as many rows as X"):
        run(given)
    run({name: Whole(value) if "_val" in name else value for name, value in given.items()})


def test_whole_rows_with_labels_that_are_not_are_refused(rows):
    X, y = rows
    params = {"X_val": Whole(X), "y_val": y}
    with pytest.raises(ValueError, match=r"X_val or y_val .*inconsistent numbers of samples"):
        cross_validate(
            FineTune(make_net(max_epochs=1)), X, y, cv=2, params=params, error_score="raise"
        )


def test_as_many_held_out_rows_as_rows_are_fine_outside_a_search(rows):
    X, y = rows
    model = FineTune(make_net(max_epochs=1), random_state=0)
    model.fit(X, y, forget=FORGET, X_val=X, y_val=y).unlearn(X, y, forget=FORGET, X_val=X, y_val=y)
    copy = clone(model).fit(X, y)
    copy.unlearn(X, y, forget=FORGET, X_val=X, y_val=y)
    assert "valid_loss" in copy.unlearning_history_[-1]
    copy.fit(X, y, forget=FORGET, X_val=Whole(X), y_val=Whole(y))
    assert "valid_loss" in copy.unlearning_history_[-1]
    # The models of `shadow` are clones too, and are given the held-out rows as they are.
    shadow_margins(
        FineTune(make_net(max_epochs=1)),
        X,
        y,
        forget=FORGET,
        X_val=X[:70],
        y_val=y[:70],
        n_models=4,
        random_state=0,
    )


def test_a_mask_in_a_list_is_sliced_with_the_rows(rows):
    X, y = rows
    forget = np.arange(N) % 6 == 0
    scores = [
        cross_validate(
            FineTune(make_net(max_epochs=1), random_state=0), X, y, cv=3, params={"forget": mask}
        )["test_score"].tolist()
        for mask in (forget, forget.tolist())
    ]
    assert scores[0] == scores[1]


# -- a network carries its labels ------------------------------------------------------------------


def joblib_copy(obj):
    buffer = io.BytesIO()
    joblib.dump(obj, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize(
    "labels", [["ant", "bee"], [10, 20], [1, 2], [-1, 1], [False, True], [0.5, 1.5]]
)
@pytest.mark.parametrize(
    "copy", [lambda net: net, joblib_copy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_a_fitted_network_carries_its_labels(labels, copy, rows):
    X, y = rows
    y = np.array(labels)[y]
    if y.dtype == float:
        y = np.array(["x", "y"])[(y > 1).astype(int)].astype(object)
    trained = FineTune(make_net(), random_state=0).fit(X, y)
    for model in (trained, FineTune(make_net(), random_state=0).fit(X, y, forget=FORGET)):
        net = copy(model.estimator_)
        frozen = NegGrad(FrozenEstimator(net), random_state=0).unlearn(X, y, forget=FORGET)
        assert frozen.classes_.tolist() == model.classes_.tolist()
        assert set(frozen.predict(X)) <= set(y)
        again = FineTune(FrozenEstimator(frozen.estimator_)).fit(X, y)
        np.testing.assert_array_equal(again.predict(X), frozen.predict(X))
        assert again.score(X, y) == frozen.score(X, y)


def test_a_network_from_the_cache_or_a_shard_carries_its_labels(rows, tmp_path):
    X, y = rows[0], np.array(["ant", "bee"])[rows[1]]
    for _ in range(2):
        model = FineTune(make_net(), memory=str(tmp_path), random_state=0).fit(X, y)
    ensemble = SISA(make_net(), n_shards=2, random_state=0).fit(X, y)
    ensemble.unlearn(X, y, forget=FORGET)
    for net in (model.estimator_, *ensemble.estimators_):
        frozen = FineTune(FrozenEstimator(net)).fit(X, y)
        assert frozen.classes_.tolist() == ["ant", "bee"]
        assert frozen.score(X, y) > 0.8


def test_labels_in_an_order_of_the_users_own_are_carried(rows):
    X, y = rows
    model = FineTune(make_net(classes=[1, 0]), random_state=0).fit(X, y)
    frozen = FineTune(FrozenEstimator(model.estimator_)).fit(X, y)
    assert frozen.classes_.tolist() == [1, 0]
    np.testing.assert_array_equal(frozen.predict(X), model.predict(X))


@pytest.mark.parametrize("n_outputs", [2, 5])
def test_a_network_trained_outside_has_its_columns_for_labels(n_outputs, rows):
    X, y = rows
    y = y + n_outputs - 2
    net = make_net(MLP, module__n_features_in=4, module__n_classes=n_outputs).fit(X, y)
    model = FineTune(FrozenEstimator(net)).fit(X, y)
    assert model.classes_.tolist() == list(range(n_outputs))
    assert model.score(X, y) > 0.8


def test_a_network_that_is_trained_outside_again_loses_the_labels(rows):
    X, y = rows
    net = FineTune(make_net(), random_state=0).fit(X, np.array(["ant", "bee"])[y]).estimator_
    net.partial_fit(X, y)
    assert FineTune(FrozenEstimator(net)).fit(X, y).classes_.tolist() == [0, 1]


def test_names_that_the_user_sets_take_the_place_of_those_carried(rows):
    X, y = rows
    net = FineTune(make_net(), random_state=0).fit(X, np.array(["ant", "bee"])[y]).estimator_
    model = FineTune(FrozenEstimator(net.set_params(classes=["a", "b"])))
    assert model.fit(X, np.array(["a", "b"])[y]).classes_.tolist() == ["a", "b"]


# -- words -----------------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(np.eye(4, dtype=np.float32), [0, 1, 0, 1])


class NoLength(torch.utils.data.Dataset):
    def __getitem__(self, i):
        return np.zeros(4, np.float32), 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda X, y: DataLoader(pairs(X, y)),
            r"got a DataLoader\. Pass its data set, {0}.dataset",
        ),
        (lambda X, y: Stream(), r"got Stream, an IterableDataset.*StackDataset\(\*zip\(\*{0}\)\)"),
        (lambda X, y: NoLength(), r"got NoLength, .* has no length"),
        (lambda X, y: list(zip(X, y)), r"got a list of pairs\..*StackDataset\(\*zip\(\*{0}\)\)"),
    ],
    ids=["loader", "stream", "no length", "list"],
)
@pytest.mark.parametrize("unlearner", [FineTune, SISA])
def test_what_cannot_be_cut_is_refused_wherever_rows_are_taken(unlearner, make, message, rows):
    X, y = rows
    data = make(X, y)
    model = unlearner(make_net(max_epochs=1), random_state=0).fit(X, y)
    for labels in (None, y):
        with pytest.raises(ValueError, match=message.format("X")):
            clone(model).fit(data, labels)
        with pytest.raises(ValueError, match=message.format("X")):
            model.unlearn(data, labels, forget=FORGET)
        with pytest.raises(ValueError, match=message.format("X_val")):
            model.unlearn(X, y, forget=FORGET, X_val=data, y_val=labels)
        with pytest.raises(ValueError, match=message.format("X")):
            model.score(data, labels)
        with pytest.raises(ValueError, match=message.format("X")):
            get_scorer("utility")(model, data, labels, forget=FORGET)
    for ask in (model.predict, model.predict_proba):
        with pytest.raises(ValueError, match=message.format("X")):
            ask(data)
    with pytest.raises(ValueError, match=message.format("X_unseen")):
        unlearning_report(model, X, y, forget=FORGET, X_unseen=data)
    with pytest.raises(ValueError, match=message.format("X")):
        unlearning_report(model, data, y, forget=FORGET, X_unseen=X, y_unseen=y)


def test_the_way_out_of_a_stream_works():
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(StackDataset(*zip(*Stream())))
    assert model.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["y", "y_val"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: np.eye(2, dtype=int)[y], r"{0} is an indicator .*pass {0}\.argmax\(axis=1\)"),
        (lambda y: np.eye(2)[y], r"{0} is an indicator .*pass {0}\.argmax\(axis=1\)"),
        (lambda y: torch.eye(2)[y], r"{0} is an indicator .*pass {0}\.argmax\(axis=1\)"),
        (lambda y: np.c_[y, y], r"{0} is an indicator .*Use torch.nn.BCEWithLogitsLoss"),
        (lambda y: y + 0.5, r"{0}: Unknown label type: continuous"),
        (lambda y: np.c_[y, 1 - y] * 0.9, r"{0}: Unknown label type: .*argmax"),
        (lambda y: np.where(y, "a", None), r"{0} must hold the label of every row.* missing"),
        (lambda y: np.where(y, 1, np.nan), r"{0}.*(missing|contains NaN)"),
    ],
    ids=["one-hot", "floats", "tensor", "several", "numbers", "shares", "None", "NaN"],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_labels_of_another_kind_are_refused_by_name(lazy, labels, message, name, rows):
    X, y = rows
    wrong = labels(y)
    given = pairs(X, y) if lazy else X
    model = FineTune(make_net(max_epochs=1), random_state=0)
    arguments = {"X": given, "y": wrong}
    if name == "y_val":
        arguments = {"X": X, "y": y, "X_val": given, "y_val": wrong}
    with pytest.raises(ValueError, match=f"(?s){message.format(name)}"):
        model.fit(**arguments)
    if isinstance(wrong, np.ndarray) and lazy and name == "y":
        with pytest.raises(ValueError, match=f"(?s){message.format(name)}"):
            model.fit(pairs(X, wrong))


def test_the_way_out_of_one_hot_labels_works_with_names(rows):
    X, y = rows
    net = make_net(max_epochs=1, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"pass np.asarray\(net.classes\)\[y.argmax\(axis=1\)\]"):
        FineTune(net).fit(X, np.eye(2)[y])
    FineTune(net).fit(X, np.asarray(net.classes)[np.eye(2)[y].argmax(axis=1)])


@pytest.mark.parametrize("criterion", [nn.BCEWithLogitsLoss, nn.BCELoss])
@pytest.mark.parametrize("labels", [lambda y: y, lambda y: y[:, None], lambda y: 1.0 * y])
def test_one_label_a_row_with_a_criterion_for_several_is_told_the_ways(criterion, labels, rows):
    X, y = rows
    net = make_net(max_epochs=1, criterion=criterion)
    with pytest.raises(
        ValueError,
        match=r"(?s)y has one label per row.*CrossEntropyLoss.*NeuralNetBinaryClassifier.*several",
    ):
        FineTune(net).fit(X, labels(y))


def test_the_ways_for_one_label_a_row_work(rows):
    X, y = rows
    one = NeuralNetBinaryClassifier(
        lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), train_split=None, verbose=0, lr=0.3
    )
    assert FineTune(one, random_state=0).fit(X, y).score(X, y) > 0.8
    two = make_net(criterion=nn.BCEWithLogitsLoss)
    assert FineTune(two, random_state=0).fit(X, np.c_[1 - y, y]).predict(X).shape == (N, 2)


def test_a_column_of_labels_is_a_list_of_them(rows):
    X, y = rows
    model = FineTune(make_net(max_epochs=1), random_state=0)
    expected = clone(model).fit(X, y).predict_proba(X)
    with pytest.warns(sklearn.exceptions.DataConversionWarning):
        model.fit(X, y[:, None])
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    with pytest.warns(sklearn.exceptions.DataConversionWarning):
        model.fit(pairs(X, y[:, None]))
    np.testing.assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize("lazy", [False, True])
def test_labels_of_pandas(lazy, rows):
    pandas = pytest.importorskip("pandas")
    X, y = rows
    given = pairs(X, -y) if lazy else X
    model = FineTune(make_net(max_epochs=1), random_state=0)
    expected = clone(model).fit(X, y).predict_proba(X)
    for labels in (pandas.Series(y), pandas.Series(y, dtype="Int64"), pandas.Series(y > 0)):
        model.fit(given, labels)
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        assert model.score(given, labels) == model.score(X, labels.to_numpy())
    with pytest.raises(ValueError, match=r"(?s)y is an indicator .*pass y\.argmax\(axis=1\)"):
        model.fit(given, pandas.DataFrame(np.eye(2)[y]))
    for missing in (pandas.Series([pandas.NA, *y[1:]], dtype="Int64"), [None, *"ab" * 60][:N]):
        with pytest.raises(ValueError, match=r"y .*(missing|NaN)"):
            model.fit(given, missing)


def test_no_rows_and_other_columns_are_refused_by_name(rows):
    X, y = rows
    model = FineTune(make_net(max_epochs=1), random_state=0)
    for nothing in (X[:0], pairs(X[:0], y[:0])):
        with pytest.raises(ValueError, match=r"0 sample|at least one row"):
            model.fit(nothing, y[:0])
    with pytest.raises(ValueError, match=r"X_val .*: X has 3 features.* expecting 4"):
        model.fit(X, y, X_val=X[:, :3], y_val=y)
    with pytest.raises(ValueError, match=r"X_val .*0 sample"):
        model.fit(X, y, X_val=X[:0], y_val=y[:0])
    with pytest.raises(
        ValueError, match="y_val must have a label for each of the 120 rows of X_val"
    ):
        model.fit(X, y, X_val=pairs(X, y), y_val=y[:5])


def test_tensors_may_be_part_of_a_graph(rows):
    X, y = rows
    model = FineTune(make_net(max_epochs=1), random_state=0)
    expected = clone(model).fit(X, y, forget=FORGET, X_val=X[:9], y_val=y[:9]).predict_proba(X)
    X, y = torch.as_tensor(X).requires_grad_(), torch.as_tensor(y)
    model.fit(X, y, forget=FORGET, X_val=X[:9], y_val=y[:9])
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    assert model.score(X, y.double().requires_grad_()) > 0.3


def test_labels_that_are_given_come_before_those_of_the_data_set(rows):
    X, y = rows
    model = NeuralNetClassifier(
        nn.Linear, module__in_features=4, module__out_features=2, train_split=None, verbose=0
    )
    model = FineTune(model.set_params(criterion=nn.CrossEntropyLoss, lr=1.0), random_state=0)
    assert model.fit(pairs(X, 1 - y), y).score(X, y) > 0.8


@pytest.mark.parametrize("kind", ["lazy", "lazy rows", "lazy X", "lazy dict"])
@pytest.mark.parametrize("cls", [FineTune, Retrain, SISA])
def test_held_out_rows_of_another_width_are_refused(rows, kind, cls):
    X, y = rows
    net = make_net(max_epochs=1)
    given, held_out = X, pairs(X[:, :3], y)
    message = r"X_val must have rows of the shape of those of X, \(4,\); got \(3,\)"
    if kind == "lazy rows":
        given = pairs(X, y)
    elif kind == "lazy X":
        given, held_out = pairs(X, y), X[:, :3]
    elif kind == "lazy dict":
        if cls is not FineTune:
            return  # the others read no held-out rows
        net.set_params(module=OfDict, module__n_features_in=4)
        given, held_out = {"x": X}, {"x": X[:, :3]}
        message = r"X_val must have rows that .*'x': \(4,\).*'x': \(3,\).*cannot be multiplied"
    model = cls(net, random_state=0).fit(given, y)
    before = model.predict_proba(given)
    with pytest.raises(ValueError, match=message):
        model.unlearn(given, y, forget=FORGET, X_val=held_out, y_val=y)
    with pytest.raises(ValueError, match=message):
        model.fit(given, y, forget=FORGET, X_val=held_out, y_val=y)
    assert np.array_equal(model.predict_proba(given), before)


class OfDict(MLP):
    def forward(self, x):
        return super().forward(x)


class OfSteps(nn.Module):
    """Reads sequences of any length, whose steps have four values each."""

    def __init__(self, n_classes):
        super().__init__()
        self.head = nn.Linear(4, n_classes)

    def forward(self, X):
        return self.head(X.mean(dim=1))


def test_held_out_rows_of_another_shape_are_what_the_network_says(rows):
    _, y = rows
    X = np.random.default_rng(0).normal(size=(N, 5, 4)).astype(np.float32)
    model = FineTune(make_net(OfSteps, max_epochs=1), lr=0.5, random_state=0).fit(pairs(X, y))
    with pytest.raises(ValueError, match=r"shape \(5, 4\), those of X_val \(5, 3\): mat1 and mat2"):
        model.unlearn(pairs(X, y), forget=FORGET, X_val=pairs(X[:, :, :3], y))
    with pytest.raises(ValueError, match=r"shape \(5, 4\), those of X_val \(5, 3\): mat1 and mat2"):
        model.unlearn(X, y, forget=FORGET, X_val=X[:, :, :3], y_val=y)
    with pytest.raises(ValueError, match=r"of those of X, \(5, 4\); got \(3, 4\)"):
        model.unlearn(pairs(X, y), forget=FORGET, X_val=pairs(X[:, :3], y))

    def as_they_are(items):  # of one length, if not of that of others
        return torch.utils.data.default_collate(items)

    net = make_net(OfSteps, max_epochs=1, iterator_train__collate_fn=as_they_are)
    model = FineTune(net, lr=0.5, random_state=0).fit(pairs(X, y))
    model.unlearn(pairs(X, y), forget=FORGET, X_val=pairs(X[:, :3], y))
    assert len(model.unlearning_history_[:, "valid_loss"]) == 5
