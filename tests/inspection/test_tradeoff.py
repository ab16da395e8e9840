import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from skunlearn.inspection import TradeoffDisplay
from skunlearn.metrics import get_scorer, nomus_score

TABLE = [
    {"method": "Original", "utility": 0.72, "forgetting_score": 0.21, "cost": 1.0},
    {"method": "DLFD", "utility": 0.60, "forgetting_score": 0.02, "cost": 0.1},
    {"method": "Retrain", "utility": 0.70, "forgetting_score": 0.01, "cost": 1.0},
    {"method": "DLFD", "utility": 0.66, "forgetting_score": 0.04, "cost": 0.2},
    {"method": "DLFD", "utility": 0.69, "forgetting_score": 0.03, "cost": 0.3},
]


def offsets(container):
    return np.column_stack(container.lines[0].get_data())


def by_index(table):
    return pd.DataFrame(table).set_index("method")


@pytest.mark.parametrize("make", [list, pd.DataFrame, by_index])
def test_rows_of_a_method_are_its_seeds(make):
    display = TradeoffDisplay.from_predictions(make(TABLE))
    assert display.methods == ["Original", "DLFD", "Retrain"]
    assert display.y == pytest.approx([0.72, 0.65, 0.70])
    assert display.x == pytest.approx([0.21, 0.03, 0.01])
    deviation = np.sqrt((0.05**2 + 0.01**2 + 0.04**2) / 2)
    expected = [[0.72, 0.72], [0.65 - deviation, 0.65 + deviation], [0.70, 0.70]]
    assert display.y_interval == pytest.approx(np.array(expected))
    assert display.x_interval[1] == pytest.approx([0.02, 0.04])
    assert offsets(display.points_["methods"]) == pytest.approx(np.array([[0.03, 0.65]]))
    horizontal, vertical = (bar.get_segments()[0] for bar in display.points_["methods"].lines[2])
    assert horizontal[:, 0] == pytest.approx([0.02, 0.04])
    assert vertical[:, 1] == pytest.approx([0.65 - deviation, 0.65 + deviation])


def test_a_forgetting_score_has_no_ticks_below_its_least_value():
    ax = TradeoffDisplay.from_predictions(TABLE).ax_
    assert min(ax.get_xlim()) < 0  # the points at 0 are whole
    assert min(ax.get_xticks()) >= 0
    assert len(ax.get_xticks()) > 2


@pytest.mark.parametrize("make_state", [lambda: None, lambda: np.random.RandomState(0)])
def test_all_networks_are_attacked_with_the_same_splits(make_state):
    X, y = load_iris(return_X_y=True)
    model = GaussianNB().fit(X, y)
    display = TradeoffDisplay.from_estimator(
        dict.fromkeys(map(str, range(20)), model),
        X[::2],
        y[::2],
        forget=np.arange(75) % 5 == 0,
        X_unseen=X[1::2],
        y_unseen=y[1::2],
        n_splits=1,
        random_state=make_state(),
    )
    assert len(set(display.x)) == 1


def test_original_and_retrained_have_markers_of_their_own():
    display = TradeoffDisplay.from_predictions(TABLE)
    markers = {kind: points.lines[0].get_marker() for kind, points in display.points_.items()}
    assert len(set(markers.values())) == 3
    assert offsets(display.points_["original"]) == pytest.approx(np.array([[0.21, 0.72]]))
    assert offsets(display.points_["retrained"]) == pytest.approx(np.array([[0.01, 0.70]]))
    display.plot(original="DLFD", retrained="none")
    assert offsets(display.points_["original"]) == pytest.approx(np.array([[0.03, 0.65]]))
    assert "retrained" not in display.points_


def test_up_and_right_is_better():
    left, right = TradeoffDisplay.from_predictions(TABLE).ax_.get_xlim()
    assert left > 0.21
    assert right <= 0


def test_iso_lines_join_points_of_one_nomus():
    display = TradeoffDisplay.from_predictions(TABLE)
    assert len(display.iso_lines_) > 2
    for level, line in display.iso_lines_.items():
        for forgetting, utility in zip(*line.get_data()):
            if 0 <= forgetting <= 0.5 and 0 <= utility <= 1:
                assert nomus_score(utility, forgetting) == pytest.approx(level)
    written = {text.get_text().strip() for text in display.ax_.texts}
    assert written & {f"NoMUS {level:.3g}" for level in display.iso_lines_}


def test_other_columns_have_no_iso_lines_and_no_turned_axis():
    display = TradeoffDisplay.from_predictions(TABLE, x="cost", y="forgetting_score")
    assert display.x == pytest.approx([1.0, 0.2, 1.0])
    assert display.iso_lines_ == {}
    left, right = display.ax_.get_xlim()
    assert left < right
    assert display.ax_.get_xlabel().startswith("cost")


def test_intervals_can_be_given():
    row = {"method": "a", "utility": 0.5, "forgetting_score": 0.1}
    row |= {"utility_low": 0.35, "utility_high": 0.6}
    display = TradeoffDisplay.from_predictions([row])
    assert display.y_interval.tolist() == [[0.35, 0.6]]
    assert display.x_interval.tolist() == [[0.1, 0.1]]
    vertical = display.points_["methods"].lines[2][1].get_segments()[0]
    assert vertical[:, 1] == pytest.approx([0.35, 0.6])


def test_a_point_outside_its_interval_has_a_bar_to_the_far_end():
    row = {"method": "a", "utility": 0.5, "forgetting_score": 0.01}
    row |= {"forgetting_score_low": 0.02, "forgetting_score_high": 0.08}
    display = TradeoffDisplay.from_predictions([row])
    horizontal = display.points_["methods"].lines[2][0].get_segments()[0]
    assert horizontal[:, 0] == pytest.approx([0.01, 0.08])


def test_labels_of_many_methods_stand_clear_of_each_other_and_of_the_points():
    rng = np.random.default_rng(1)
    table = [
        {
            "method": f"Method {i}" + " with a longer name" * (i % 5 == 0),
            "utility": 0.7 + 0.02 * rng.normal(),
            "forgetting_score": abs(0.02 * rng.normal()),
        }
        for i in range(16)
    ]
    display = TradeoffDisplay.from_predictions(table)
    display.figure_.canvas.draw()
    assert [label.get_text() for label in display.labels_] == [row["method"] for row in table]
    assert [label.xy for label in display.labels_] == pytest.approx(
        np.column_stack([display.x, display.y])
    )
    boxes = [text_box(label) for label in display.labels_]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    points = display.ax_.transData.transform(np.column_stack([display.x, display.y]))
    assert not any(box.contains(*point) for box in boxes for point in points)
    frame = display.ax_.get_window_extent()
    assert all(
        box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
        for box in boxes
    )


def text_box(label):
    # That of an annotation contains its arrow.
    from matplotlib.text import Text

    return Text.get_window_extent(label)


def test_estimators_are_measured_on_forget_and_unseen_rows():
    X, y = load_iris(return_X_y=True)
    unseen = np.arange(150) % 3 == 0
    forget = (np.arange(150) % 3 == 1)[~unseen]
    models = {
        "Original": KNeighborsClassifier(3).fit(X[~unseen], y[~unseen]),
        "Retrain": GaussianNB().fit(X[~unseen][~forget], y[~unseen][~forget]),
    }
    display = TradeoffDisplay.from_estimator(
        models,
        X[~unseen],
        y[~unseen],
        forget=forget,
        X_unseen=X[unseen],
        y_unseen=y[unseen],
        n_splits=7,
        random_state=0,
    )
    rows = np.concatenate([np.flatnonzero(~unseen)[forget], np.flatnonzero(unseen)])
    mask = np.arange(len(rows)) < forget.sum()
    for i, model in enumerate(models.values()):
        assert display.y[i] == model.score(X[unseen], y[unseen])
        scorer = get_scorer("neg_forgetting_score", n_splits=7, random_state=0)
        assert display.x[i] == -scorer(model, X[rows], y[rows], forget=mask)


def test_given_axes_and_their_scale_are_used():
    figure, axes = plt.subplots()
    axes.set_xscale("log")
    display = TradeoffDisplay.from_predictions(TABLE, x="cost", y="utility", ax=axes, ms=3)
    assert (display.ax_, display.figure_) == (axes, figure)
    assert plt.get_fignums() == [figure.number]
    assert axes.get_xscale() == "log"
    assert display.points_["methods"].lines[0].get_markersize() == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "table must have at least one row"),
        ([{"method": "a", "utility": 0.5}], "table must have the columns .*forgetting_score"),
        (
            [{"method": "a", "utility": np.nan, "forgetting_score": 0.1}],
            "column 'utility' of table, for 'a', must be finite",
        ),
    ],
)
def test_tables_that_cannot_be_drawn_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        TradeoffDisplay.from_predictions(table)
    assert plt.get_fignums() == []
