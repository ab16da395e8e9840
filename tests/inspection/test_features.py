import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA, TruncatedSVD

from skunlearn import FineTune
from skunlearn.features import FeatureExtractor
from skunlearn.inspection import FeatureDistributionDisplay
from tests.networks import make_net

RNG = np.random.default_rng(0)
Y = {key: RNG.integers(0, 3, n) for key, n in (("retain", 60), ("forget", 12), ("unseen", 30))}
FEATURES = {key: RNG.normal(size=(len(y), 6)) + 4 * np.eye(6)[y] for key, y in Y.items()}


def stacked(display, name=""):
    return np.concatenate(list(display.projections[name].values()))


def test_points_are_the_principal_components_by_set_and_class():
    display = FeatureDistributionDisplay.from_predictions(FEATURES, Y)
    everything = np.concatenate(list(FEATURES.values()))
    centred = everything - everything.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:2].T
    expected *= np.sign((stacked(display) * expected).sum(axis=0))  # the signs are free
    assert stacked(display) == pytest.approx(expected)
    start = len(Y["retain"])
    forget = expected[start : start + len(Y["forget"])]
    for label in range(3):
        drawn = display.points_[""]["forget"][label].get_offsets()
        assert np.asarray(drawn) == pytest.approx(forget[Y["forget"] == label])
    assert display.axes_.shape == (1, 3)


def test_classes_differ_without_colour():
    display = FeatureDistributionDisplay.from_predictions(FEATURES, Y)
    shapes = {
        points.get_paths()[0].vertices.tobytes()
        for points in display.points_[""]["retain"].values()
    }
    assert len(shapes) == 3
    assert [text.get_text() for text in display.legend_.get_texts()] == ["0", "1", "2"]


def test_each_network_has_its_own_projection_unless_it_is_shared():
    other = {key: 0.1 * Z[:, ::-1] + RNG.normal(size=6) for key, Z in FEATURES.items()}
    networks = {"a": FEATURES, "b": other}
    own = FeatureDistributionDisplay.from_predictions(networks, Y)
    alone = FeatureDistributionDisplay.from_predictions(other, Y)
    assert abs(stacked(own, "b")) == pytest.approx(abs(stacked(alone)))
    shared = FeatureDistributionDisplay.from_predictions(networks, Y, shared=True)
    pca = PCA(2).fit(np.concatenate(list(FEATURES.values())))
    assert stacked(shared, "b") == pytest.approx(pca.transform(np.concatenate([*other.values()])))
    assert len({axes.get_xlim() for axes in shared.axes_.flat}) == 1
    assert len({axes.get_xlim() for axes in own.axes_.flat}) == 2
    assert "%" in shared.axes_[0, 0].get_xlabel()
    assert "%" not in shared.axes_[1, 0].get_xlabel()  # it is not the variance of that network


def test_networks_are_mirrored_to_look_alike():
    mirrored = {key: -Z for key, Z in FEATURES.items()}
    display = FeatureDistributionDisplay.from_predictions({"a": FEATURES, "b": mirrored}, Y)
    assert stacked(display, "b") == pytest.approx(stacked(display, "a"))


def test_limits_hold_every_point_at_one_scale():
    display = FeatureDistributionDisplay.from_predictions(FEATURES, Y)
    points = stacked(display)
    for axes in display.axes_.flat:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert right - left == pytest.approx(top - bottom)
        assert ((points > (left, bottom)) & (points < (right, top))).all()


def test_no_more_rows_than_asked_for_are_drawn_and_the_seed_repeats_them():
    def draw(seed):
        return FeatureDistributionDisplay.from_predictions(
            FEATURES, Y, n_rows=10, random_state=seed
        )

    first, again, other = draw(0), draw(0), draw(1)
    assert [len(y) for y in first.y.values()] == [10, 10, 10]
    assert stacked(first).tolist() == stacked(again).tolist()
    assert stacked(first).tolist() != stacked(other).tolist()


def test_rows_keep_their_labels_when_few_are_drawn():
    # One feature is the class: after any choice of rows it must still be.
    features = {key: np.column_stack([y, 0.01 * y**2]) for key, y in Y.items()}
    display = FeatureDistributionDisplay.from_predictions(
        features, Y, projection=TruncatedSVD(2), n_rows=11, random_state=0
    )
    for key, y in display.y.items():
        drawn = abs(display.projections[""][key][:, 0])
        assert np.corrcoef(drawn, y)[0, 1] > 0.99
    assert display.axes_[0, 0].get_xlabel().startswith("TruncatedSVD 1")


def test_networks_are_read_at_the_layer():
    X = RNG.normal(size=(80, 5)).astype(np.float32)
    y = np.where(X[:, 0] > 0, "yes", "no")
    forget = np.arange(60) % 7 == 3
    unlearner = FineTune(make_net(), random_state=0).fit(X[:60], y[:60])
    display = FeatureDistributionDisplay.from_estimator(
        unlearner,
        X[:60],
        y[:60],
        forget=forget,
        X_unseen=X[60:],
        y_unseen=y[60:],
        layer="hidden.0",
        random_state=0,
    )
    hidden = FeatureExtractor(unlearner, layer="hidden.0")
    parts = [X[:60][~forget], X[:60][forget], X[60:]]
    expected = PCA(2).fit_transform(np.concatenate([hidden.transform(part) for part in parts]))
    assert abs(stacked(display, "FineTune")) == pytest.approx(abs(expected), rel=1e-2, abs=1e-3)
    assert display.y["retain"].tolist() == y[:60][~forget].tolist()
    assert display.y["forget"].tolist() == y[:60][forget].tolist()
    assert list(display.points_["FineTune"]["unseen"]) == ["no", "yes"]


def test_tsne_is_seeded():
    def draw(seed):
        display = FeatureDistributionDisplay.from_predictions(
            FEATURES, Y, projection="tsne", random_state=seed
        )
        return stacked(display)

    assert draw(0).tolist() == draw(0).tolist()


def test_many_classes_leave_colours_to_those_that_are_forgotten():
    y = {"retain": np.repeat(np.arange(50), 4), "forget": np.arange(20, 30)}
    features = {key: RNG.normal(size=(len(value), 4)) for key, value in y.items()}
    display = FeatureDistributionDisplay.from_predictions(features, y)
    assert list(display.points_[""]["forget"]) == list(range(20, 30))
    assert list(display.points_[""]["retain"]) == ["other", *range(20, 30)]
    assert len(display.points_[""]["retain"]["other"].get_offsets()) == 4 * 40
    looks = {
        (tuple(p.get_facecolor()[0]), p.get_paths()[0].vertices.tobytes())
        for p in display.points_[""]["retain"].values()
    }
    assert len(looks) == 11


@pytest.mark.parametrize("n_classes", [3, 14])
def test_a_class_that_is_called_other_is_a_class(n_classes):
    y = np.array(["other", "other", *(f"class {i}" for i in range(n_classes - 1))])
    features = {"forget": RNG.normal(size=(len(y), 4))}
    display = FeatureDistributionDisplay.from_predictions(features, {"forget": y})
    sizes = {name: len(p.get_offsets()) for name, p in display.points_[""]["forget"].items()}
    assert sizes["other"] == 2
    assert sizes.get("others", 0) == max(n_classes - 10, 0)


def test_one_class_and_one_set():
    display = FeatureDistributionDisplay.from_predictions(
        {"forget": FEATURES["forget"]}, {"forget": ["cat"] * 12}
    )
    assert display.axes_.shape == (1, 1)
    assert list(display.points_[""]["forget"]) == ["cat"]


def test_given_axes_are_used():
    figure, axes = plt.subplots(1, 3)
    display = FeatureDistributionDisplay.from_predictions(FEATURES, Y, ax=axes, lw=2)
    assert display.axes_.tolist() == [axes.tolist()]
    assert plt.get_fignums() == [figure.number]
    assert display.points_[""]["retain"][0].get_linewidth() == [2]
    with pytest.raises(ValueError, match=r"ax must be 3 .* got 1"):
        display.plot(ax=axes[0])


def test_umap_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="pip install umap-learn"):
        FeatureDistributionDisplay.from_predictions(FEATURES, Y, projection="umap")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projection": "lda"}, r"projection must be one of \['pca', .* got 'lda'"),
        ({"projection": PCA(3)}, r"projection must return 2 columns; got shape \(102, 3\)"),
        ({"projection": "tsne", "shared": True}, "shared=True needs a projection"),
        ({"n_rows": 1}, "n_rows must be an integer at least 2"),
        ({"y": {"forget": Y["forget"]}}, r"y must map the sets of features, \['retain', 'forget'"),
        ({"y": Y | {"forget": [0]}}, "features.* must have a row for each label in y"),
        ({"y": Y | {"forget": np.eye(12)}}, r"y\['forget'\] must be labels of shape"),
        (
            {"features": FEATURES | {"forget": np.ones(12)}},
            r"features\['forget'\] must be features",
        ),
        (
            {"features": {"a": FEATURES, "b": {k: z[:, :3] for k, z in FEATURES.items()}}}
            | {"shared": True},
            "shared=True needs as many features of each network; got 3 of 'b' and 6",
        ),
    ],
)
def test_features_that_cannot_be_drawn_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FeatureDistributionDisplay.from_predictions(**({"features": FEATURES, "y": Y} | change))
    assert plt.get_fignums() == []
