import numpy as np
import pytest
from matplotlib import pyplot as plt
from skorch.history import History

from skunlearn import DLFD
from skunlearn.inspection import UnlearningCurveDisplay
from tests.networks import make_net


def make_history(scores, batches=()):
    history = History()
    for epoch, score in enumerate(scores, 1):
        history.new_epoch()
        history.record("epoch", epoch)
        if score is not None:
            history.record("score", score)
        for value in batches:
            history.new_batch()
            history.record_batch("train_loss", 1.0)
            if value is not None:
                history.record_batch("forgetting_score", value)
    return history


def test_values_of_epochs():
    display = UnlearningCurveDisplay.from_history(make_history([0.3, None, 0.1]), "score")
    x, y = display.lines_["score"].get_data()
    assert x.tolist() == [1, 3]
    assert y.tolist() == [0.3, 0.1]
    assert display.bands_ == {}
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("epoch", "score")
    assert display.labels_ == []


@pytest.mark.parametrize(("x", "whole"), [([1, 2, 3], True), ([0.25, 0.5, 0.75], False)])
def test_epochs_have_ticks_at_whole_numbers(x, whole):
    display = UnlearningCurveDisplay.from_predictions(
        x, {"score": [0.3, 0.2, 0.1]}, x_name="epoch", y_name="score"
    )
    low, high = display.ax_.get_xlim()
    ticks = [tick for tick in display.ax_.get_xticks() if low <= tick <= high]
    assert len(ticks) > 1
    assert (np.mod(ticks, 1) == 0).all() == whole


def test_values_of_batches_are_counted_over_epochs_and_may_be_missing():
    history = make_history([0.0, 0.0], batches=[0.4, None, 0.2])
    display = UnlearningCurveDisplay.from_history(history, "forgetting_score")
    x, y = display.lines_["forgetting_score"].get_data()
    assert x.tolist() == [1, 3, 4, 6]
    assert y.tolist() == [0.4, 0.2, 0.4, 0.2]
    assert display.ax_.get_xlabel() == "batch"


def test_batches_of_validation_are_counted_apart():
    history = History()
    for epoch in range(2):
        history.new_epoch()
        for kind, value in (("train", 0.1), ("train", 0.2), ("valid", 0.9)):
            history.new_batch()
            history.record_batch(f"{kind}_loss", value + epoch)
            history.record_batch(f"{kind}_batch_size", 8)
    train = UnlearningCurveDisplay.from_history(history, "train_loss", level="batch")
    assert train.lines_["train_loss"].get_xdata().tolist() == [1, 2, 3, 4]
    assert train.lines_["train_loss"].get_ydata().tolist() == [0.1, 0.2, 1.1, 1.2]
    valid = UnlearningCurveDisplay.from_history(history, "valid_loss")
    assert valid.lines_["valid_loss"].get_xdata().tolist() == [1, 2]


def test_level_decides_where_a_key_is_in_both():
    history = make_history([0.3], batches=[0.5])
    history.record("train_loss", 8.0)
    by_epoch = UnlearningCurveDisplay.from_history(history, "train_loss")
    assert by_epoch.lines_["train_loss"].get_ydata().tolist() == [8.0]
    by_batch = UnlearningCurveDisplay.from_history(history, "train_loss", level="batch")
    assert by_batch.lines_["train_loss"].get_ydata().tolist() == [1.0]


def test_runs_are_a_mean_and_a_band_as_far_as_each_goes():
    runs = [make_history([0.2, 0.4, 0.9]), make_history([0.4, 0.8])]
    display = UnlearningCurveDisplay.from_history({"a": runs, "b": runs[1]}, "score")
    assert display.lines_["a"].get_ydata() == pytest.approx([0.3, 0.6, 0.9])
    assert list(display.bands_) == ["a"]
    corners = display.bands_["a"].get_paths()[0].vertices
    first = [np.sqrt(2) * 0.1, np.sqrt(2) * 0.2, 0]  # of two values: half the distance times √2
    for at, mean, deviation in zip((1, 2, 3), (0.3, 0.6, 0.9), first):
        heights = corners[corners[:, 0] == at, 1]
        assert [heights.min(), heights.max()] == pytest.approx([mean - deviation, mean + deviation])


def test_several_keys_and_names_are_several_lines():
    histories = {"a": make_history([0.1]), "b": make_history([0.2])}
    for history in histories.values():
        history.record("other", 1.0)
    display = UnlearningCurveDisplay.from_history(histories, ["score", "other"])
    assert list(display.lines_) == ["a, score", "a, other", "b, score", "b, other"]
    looks = {(line.get_color(), line.get_linestyle()) for line in display.lines_.values()}
    assert len(looks) == 4
    assert [label.get_text() for label in display.labels_] == list(display.lines_)


def test_names_at_the_ends_do_not_overlap():
    y = {f"method {i}": [0.1 * i, 0.5 + 0.001 * i] for i in range(8)}
    display = UnlearningCurveDisplay.from_predictions(
        [1, 2], y, x_name="x", y_name="y", references={"retrained": 0.5}
    )
    display.figure_.canvas.draw()
    heights = [label.get_position()[1] for label in display.labels_]
    ends = [label.xy[1] for label in display.labels_]
    assert ends == pytest.approx([values[-1] for values in y.values()] + [0.5])
    pixels = display.ax_.transData.transform([(0, end) for end in ends])[:, 1]
    placed = np.sort(pixels * 72 / display.figure_.dpi + heights)
    assert np.diff(placed).min() > 8
    assert display.references_["retrained"].get_ydata() == [0.5, 0.5]


def test_a_run_that_ends_early_is_led_on_to_its_name():
    histories = {"long": make_history([0.1, 0.2, 0.3]), "short": make_history([0.5, 0.6])}
    display = UnlearningCurveDisplay.from_history(histories, "score")
    (lead,) = [line for line in display.ax_.lines if line not in display.lines_.values()]
    assert lead.get_xdata().tolist() == [2, 3]
    assert lead.get_ydata().tolist() == [0.6, 0.6]


def test_an_unlearner_shows_its_last_run():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    forget = np.arange(60) < 12
    runs = [
        DLFD(make_net(), random_state=seed).fit(X, y, forget=forget, X_val=X[:20], y_val=y[:20])
        for seed in (0, 1)
    ]
    display = UnlearningCurveDisplay.from_estimator({"DLFD": runs}, "transport")
    expected = [
        [
            batch["transport"]
            for epoch in run.unlearning_history_
            for batch in epoch["batches"]
            if "transport" in batch
        ]
        for run in runs
    ]
    assert display.curves["DLFD"][1].tolist() == expected
    unused = DLFD(make_net()).fit(X, y)
    with pytest.raises(ValueError, match="has unlearned; got DLFD without unlearning_history_"):
        UnlearningCurveDisplay.from_estimator(unused, "transport")


def test_given_axes_are_used():
    figure, axes = plt.subplots()
    display = UnlearningCurveDisplay.from_predictions(
        [1, 2], [0.1, 0.2], x_name="rows forgotten (%)", y_name="utility", ax=axes, c="red"
    )
    assert (display.ax_, display.figure_) == (axes, figure)
    assert plt.get_fignums() == [figure.number]
    assert display.lines_[""].get_color() == "red"
    assert axes.get_xlabel() == "rows forgotten (%)"


@pytest.mark.parametrize(
    ("history", "keys", "level", "message"),
    [
        (
            make_history([0.1]),
            "loss",
            None,
            "got 'loss'. Recorded are .'epoch', 'score'. for epochs",
        ),
        (make_history([0.1]), "loss", "epoch", "each epoch; got 'loss'"),
        (make_history([0.1]), "score", "step", "level must be one of .* got 'step'"),
        (make_history([0.1]), [], None, "keys must name at least one"),
        ([], "score", None, "history must be a skorch History"),
        ([{"score": 1}], "score", None, r"history must be a skorch History.*\['dict'\]"),
    ],
)
def test_histories_that_cannot_be_drawn_are_refused(history, keys, level, message):
    with pytest.raises(ValueError, match=message):
        UnlearningCurveDisplay.from_history(history, keys, level=level)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0], "y must have a value for each of the 2 points of x; got 1"),
        ({"a": [1.0, np.nan]}, r"y\['a'\] must be finite"),
        (np.zeros((1, 1, 2)), "y must be numbers of shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        UnlearningCurveDisplay.from_predictions([1, 2], y, x_name="x", y_name="y")
