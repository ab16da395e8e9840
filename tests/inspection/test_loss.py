import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB

from skunlearn.inspection import LossDistributionDisplay
from skunlearn.metrics import membership_inference_accuracy

RNG = np.random.default_rng(0)
LOSSES = {
    "retain": RNG.exponential(0.1, 30),
    "forget": RNG.exponential(0.1, 40),
    "unseen": RNG.exponential(1.0, 50),
}


def test_curves_are_the_share_of_rows_up_to_each_loss():
    display = LossDistributionDisplay.from_predictions({"net": LOSSES})
    assert list(display.lines_) == ["net"]
    for key, losses in LOSSES.items():
        x, y = display.lines_["net"][key].get_data()
        for at in (0.01, 0.1, 1.0):
            drawn = y[x <= at].max() if (x <= at).any() else 0
            assert drawn == pytest.approx(np.mean(losses <= at))
    assert display.axes_[0].get_xscale() == "log"


def test_losses_come_from_the_true_classes_of_the_three_sets():
    X, y = load_iris(return_X_y=True)
    unseen = np.arange(150) % 3 == 0
    forget = (np.arange(150) % 3 == 1)[~unseen]
    names = np.array(["b", "a", "c"])[y]
    model = GaussianNB().fit(X[~unseen], names[~unseen])
    display = LossDistributionDisplay.from_estimator(
        model,
        X[~unseen],
        names[~unseen],
        forget=forget,
        X_unseen=X[unseen],
        y_unseen=names[unseen],
        random_state=3,
    )

    def plain(X, y):
        proba = model.predict_proba(X)
        return [-np.log(p["abc".index(label)]) for p, label in zip(proba, y)]

    losses = display.losses["GaussianNB"]
    kept = ~unseen
    assert losses["retain"] == pytest.approx(plain(X[kept][~forget], names[kept][~forget]))
    assert losses["forget"] == pytest.approx(plain(X[kept][forget], names[kept][forget]))
    assert losses["unseen"] == pytest.approx(plain(X[unseen], names[unseen]))
    expected = membership_inference_accuracy(losses["forget"], losses["unseen"], random_state=3)
    assert display.mia_accuracy == {"GaussianNB": expected}
    assert display.axes_[0].get_title() == f"GaussianNB\nMIA accuracy {expected:.2f}"


@pytest.mark.parametrize("make_state", [lambda: None, lambda: np.random.RandomState(0)])
def test_all_networks_are_attacked_with_the_same_splits(make_state):
    rng = np.random.default_rng(0)
    losses = {"forget": rng.exponential(size=9), "unseen": rng.exponential(size=9)}
    display = LossDistributionDisplay.from_predictions(
        dict.fromkeys("abcde", losses), n_splits=2, random_state=make_state()
    )
    assert len(set(display.mia_accuracy.values())) == 1


def test_networks_share_the_limits_that_hold_all_losses():
    display = LossDistributionDisplay.from_predictions(
        {"a": {"forget": [1e-5, 1e-3]}, "b": {"forget": [0.1, 9.0], "unseen": [0.2, 0.3]}}
    )
    assert len(display.axes_) == 2
    limits = {axes.get_xlim() for axes in display.axes_}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low < 1e-5
    assert high > 9
    assert list(display.mia_accuracy) == ["b"]  # there is nothing to attack in the other
    assert display.axes_[0].get_title() == "a"


def test_losses_that_are_zero_are_drawn_at_the_left_end():
    display = LossDistributionDisplay.from_predictions({"forget": [0.0, 1e-12, 1.0]})
    x, y = display.lines_[""]["forget"].get_data()
    assert x.min() == 1e-7
    assert y[x <= 1e-7].max() == pytest.approx(2 / 3)


def test_no_retained_rows_are_no_curve():
    X, y = load_iris(return_X_y=True)
    model = GaussianNB().fit(X, y)
    display = LossDistributionDisplay.from_estimator(
        model, X, y, forget=np.ones(150, dtype=bool), X_unseen=X, y_unseen=y
    )
    assert list(display.lines_["GaussianNB"]) == ["forget", "unseen"]
    assert [text.get_text() for text in display.legend_.get_texts()] == [
        "forget (n = 150)",
        "unseen (n = 150)",
    ]


def test_given_axes_are_used_and_no_figure_made():
    figure, axes = plt.subplots(1, 2)
    display = LossDistributionDisplay.from_predictions(
        {"a": LOSSES, "b": LOSSES}, ax=axes, linewidth=7
    )
    assert display.axes_.tolist() == axes.tolist()
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert display.lines_["b"]["unseen"].get_linewidth() == 7
    assert display.plot(ax=axes, lw=2) is display
    assert display.lines_["b"]["unseen"].get_linewidth() == 2
    with pytest.raises(ValueError, match=r"ax must be 2 .* got 1"):
        display.plot(ax=axes[0])


def test_curves_differ_without_colour():
    display = LossDistributionDisplay.from_predictions(LOSSES)
    styles = [line.get_linestyle() for line in display.lines_[""].values()]
    assert len(set(styles)) == 3


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([1.0, 2.0], "losses must map sets .* got list"),
        ({}, "losses must map"),
        ({"train": [1.0]}, "losses must have sets out of .* got .'train'"),
        ({"net": {}}, "losses must have sets"),
        ({"forget": []}, "losses.'forget'. must be numbers"),
        ({"forget": [np.nan]}, "losses.'forget'. must be finite"),
        ({"net": {"forget": [0.5, -0.1]}}, "losses.'net'..'forget'. must .* got -0.1"),
    ],
)
def test_losses_that_cannot_be_drawn_are_refused(losses, message):
    with pytest.raises(ValueError, match=message):
        LossDistributionDisplay.from_predictions(losses)
    assert plt.get_fignums() == []


def test_a_mask_that_forgets_nothing_is_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="forget must mark at least one row"):
        LossDistributionDisplay.from_estimator(
            GaussianNB().fit(X, y), X, y, forget=np.zeros(150, bool), X_unseen=X, y_unseen=y
        )
    with pytest.raises(ValueError, match="estimator must name at least one"):
        LossDistributionDisplay.from_estimator(
            {}, X, y, forget=np.ones(150, bool), X_unseen=X, y_unseen=y
        )
