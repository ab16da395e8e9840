import numpy as np
import ot
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from torch import nn

from skunlearn import DLFD, NegGrad, Retrain
from skunlearn.features import FeatureExtractor
from skunlearn.metrics import (
    CorrelationCollapse,
    correlation_collapse,
    feature_transport_distance,
    linear_cka,
    linear_probe_score,
    scatter_ratio,
)
from tests.networks import MLP, make_net


@pytest.fixture(scope="module")
def problem():
    Z, y = make_classification(
        150, 8, n_informative=4, n_classes=3, class_sep=0.8, random_state=0, shuffle=False
    )
    return 5 + Z, np.array(["b", "c", "a"])[y]


def gram_hsic(K, L):
    """Unbiased HSIC, summed over pairs, triples and quadruples of different rows."""
    n = len(K)
    rows = range(n)
    pairs = sum(K[i, j] * L[i, j] for i in rows for j in rows if i != j)
    triples = sum(
        K[i, j] * L[i, q] for i in rows for j in rows for q in rows if len({i, j, q}) == 3
    )
    # Sums over quadruples: those over two pairs, less the ones that share one row or both.
    K, L = (kernel - np.diag(np.diag(kernel)) for kernel in (K, L))
    quadruples = K.sum() * L.sum() - 4 * triples - 2 * pairs
    return (
        pairs / (n * (n - 1))
        - 2 * triples / (n * (n - 1) * (n - 2))
        + quadruples / (n * (n - 1) * (n - 2) * (n - 3))
    )


def gram_cka(Z, Y):
    """Debiased CKA of kernels over pairs of rows."""
    K, L = Z @ Z.T, Y @ Y.T
    return gram_hsic(K, L) / np.sqrt(gram_hsic(K, K) * gram_hsic(L, L))


@pytest.mark.parametrize("n_rows", [50, 6])  # fewer rows than features, too
def test_cka_is_that_of_the_kernels(problem, n_rows):
    Z, y = (rows[:: 150 // n_rows] for rows in problem)
    expected = gram_cka(Z, LabelBinarizer().fit_transform(y))
    assert linear_cka(Z, y) == pytest.approx(expected, rel=1e-9)
    assert 0.05 < expected < 0.9


def test_cka_of_many_rows_and_few_features_is_the_biased_one():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=5000)
    Y = np.eye(3)[y]
    Z = Y + rng.normal(size=(5000, 3))
    K, L = (A - A.mean(axis=0) for A in (Z, Y))
    norms = [np.linalg.norm(product) for product in (K.T @ L, K.T @ K, L.T @ L)]
    expected = norms[0] ** 2 / (norms[1] * norms[2])
    assert linear_cka(Z, y) == pytest.approx(expected, abs=2e-3)
    assert 0.1 < expected < 0.9


def test_cka_tells_noise_from_features_with_few_rows():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 8
    noise = rng.normal(size=(20, 60, 512))
    Z = noise[0] + 2 * rng.normal(size=(8, 512))[y] / 3
    values = [linear_cka(each, y) for each in noise]
    assert max(values) < 0.2 * linear_cka(Z, y)
    assert min(values) == 0  # half of them would lie below


def test_cka_of_two_classes_and_of_indicators_counts_every_column(problem):
    Z, y = (rows[::3] for rows in problem)
    two = (y == "a").astype(int)
    assert linear_cka(Z, two) == pytest.approx(gram_cka(Z, np.c_[two, 1 - two]))
    indicators = np.c_[two, y == "b", Z[:, 0] > 5].astype(int)
    assert linear_cka(Z, indicators) == pytest.approx(gram_cka(Z, indicators))


def test_cka_does_not_change_with_shift_scale_and_rotation(problem):
    Z, y = problem
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    for scale in (1e-20, 1, 1e20):
        assert linear_cka(scale * (Z @ rotation + 7), y) == pytest.approx(linear_cka(Z, y))
    assert linear_cka(Z * np.arange(1, 9), y) != pytest.approx(linear_cka(Z, y))


def test_cka_reaches_its_bounds():
    y = np.repeat([0, 1, 2], 4)
    assert linear_cka(np.eye(3)[y] * 3 + 1, y) == pytest.approx(1)
    assert linear_cka(np.tile(np.eye(4), (3, 1)), y) == 0
    assert linear_cka(np.full((12, 3), 0.1), y) == 0  # whose mean is not 0.1
    assert linear_cka(np.eye(12), y) == 0  # all pairs of rows alike
    assert linear_cka(np.eye(3)[y], np.arange(12)) == 0


def test_cka_needs_four_rows():
    with pytest.raises(ValueError, match="Z must have at least 4 rows; got 3"):
        linear_cka(np.eye(3), [0, 0, 1])
    assert linear_cka([[0.0], [0.1], [1.0], [1.1]], [0, 0, 1, 1]) > 0.9


def test_probe_is_a_cross_validated_logistic_regression(problem):
    Z, y = problem
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    expected = cross_val_score(probe, Z, y, cv=folds).mean()
    assert linear_probe_score(Z, y, cv=4, random_state=3) == pytest.approx(expected)
    assert 0.4 < expected < 0.95


def test_probe_standardises(problem):
    Z, y = problem
    scaled = Z * 10.0 ** np.arange(-4, 4)
    expected = linear_probe_score(Z, y, random_state=0)
    assert linear_probe_score(scaled, y, random_state=0) == pytest.approx(expected, abs=0.01)


def test_probe_keeps_people_together_where_asked():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(20), 8)
    y = rng.permutation(np.arange(20) % 2)[person]  # nothing of it is in the features, ...
    Z = rng.normal(size=(20, 30))[person] + 0.1 * rng.normal(size=(160, 30))
    assert linear_probe_score(Z, y, random_state=0) > 0.95  # ... which have memorised people
    splits = GroupKFold(5).split(Z, y, person)  # an iterable that can be used once
    indicators = np.c_[y, 1 - y]
    assert linear_probe_score(Z, indicators, cv=splits) < 0.75


def test_probe_of_indicators_is_the_mean_over_labels(problem):
    Z, y = problem
    columns = [(y == "a").astype(int), (Z[:, 0] > 5).astype(int)]
    expected = np.mean([linear_probe_score(Z, column, cv=3, random_state=0) for column in columns])
    constant = np.zeros(150, dtype=int)
    Y = np.stack([*columns, constant], axis=1)
    assert linear_probe_score(Z, Y, cv=3, random_state=0) == pytest.approx(expected)


def test_scatter_ratio_is_that_of_class_means_in_a_loop(problem):
    Z, y = problem
    between = within = 0
    for label in np.unique(y):
        members = Z[y == label]
        between += len(members) * ((members.mean(axis=0) - Z.mean(axis=0)) ** 2).sum()
        within += ((members - members.mean(axis=0)) ** 2).sum()
    assert scatter_ratio(Z, y) == pytest.approx(between / within)
    assert scatter_ratio(1e-6 * Z + 1, y) == pytest.approx(between / within, rel=1e-6)


def test_scatter_ratio_of_one_label_is_that_of_its_two_classes(problem):
    Z, y = problem
    assert scatter_ratio(Z, (y == "a")[:, None]) == pytest.approx(scatter_ratio(Z, y == "a"))


def test_scatter_ratio_rises_as_classes_shrink_and_is_infinite_at_points(problem):
    Z, y = problem
    codes = np.unique(y, return_inverse=True)[1]
    means = np.stack([Z[codes == c].mean(axis=0) for c in range(3)])[codes]
    assert scatter_ratio(means + (Z - means) / 2, y) == pytest.approx(4 * scatter_ratio(Z, y))
    assert scatter_ratio(means, y) == np.inf
    assert scatter_ratio(np.full((150, 2), 0.1), y) == 0


@pytest.mark.parametrize("measure", [linear_probe_score, linear_cka, scatter_ratio])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Z": np.zeros(150)}, "Z must be features of shape"),
        ({"Z": np.zeros((149, 2))}, r"Z must have one row for each of the 150 labels.*\(149, 2\)"),
        ({"Z": np.full((150, 2), np.nan)}, "Z must be finite"),
        ({"Z": np.full((150, 2), "a")}, "Z must be numbers"),
        ({"y": np.zeros(150)}, "y must hold at least two classes"),
        ({"y": np.ones((150, 2))}, "y must hold at least two classes"),
        ({"y": np.linspace(0, 1, 150)}, "y must hold class labels"),
    ],
)
def test_measures_refuse_bad_input(problem, measure, change, message):
    Z, y = problem
    with pytest.raises(ValueError, match=message):
        measure(**{"Z": Z, "y": y, **change})


@pytest.mark.parametrize("cv", [1, 0])
def test_probe_refuses_less_than_two_folds(problem, cv):
    with pytest.raises(ValueError, match="cv must be an integer at least 2"):
        linear_probe_score(*problem, cv=cv)


def test_summary_holds_the_measures_of_each_network(problem):
    Z, y = problem
    noise = np.random.default_rng(0).normal(size=Z.shape)
    result = correlation_collapse(Z, Z + 3 * noise, y, Z_retrained=Z + noise, random_state=2)
    for features, values in (
        (Z, result.original),
        (Z + 3 * noise, result.unlearned),
        (Z + noise, result.retrained),
    ):
        assert values == {
            "linear_probe": linear_probe_score(features, y, random_state=2),
            "linear_cka": linear_cka(features, y),
            "scatter_ratio": scatter_ratio(features, y),
        }
    share = result.unlearned["linear_cka"] / result.original["linear_cka"]
    assert result.ratio["linear_cka"] == share
    frame = pd.DataFrame(result.table)
    assert frame.loc["linear_cka", "ratio"] == share
    assert list(frame) == ["original", "unlearned", "ratio", "retrained", "ratio_retrained"]
    lines = repr(result).splitlines()
    assert lines[0] == f"CorrelationCollapse: collapsed ({share:.0%} of the original's CKA)"
    assert lines[1].split()[:3] == ["original", "unlearned", "ratio"]
    assert lines[3].split()[:3] == ["linear", "cka", f"{result.original['linear_cka']:.3f}"]
    alone = correlation_collapse(Z, Z + 3 * noise, y, random_state=2)
    assert alone.retrained is None
    assert alone.unlearned == result.unlearned
    assert "retrained" not in repr(alone)


def test_one_set_of_folds_for_all_networks(problem):
    Z, y = problem
    for random_state in (None, np.random.RandomState(0)):
        result = correlation_collapse(Z, Z.copy(), y, Z_retrained=Z, random_state=random_state)
        assert result.ratio == {"linear_probe": 1, "linear_cka": 1, "scatter_ratio": 1}
        assert result.retrained == result.original
    splits = StratifiedKFold(3).split(Z, y)
    assert correlation_collapse(Z, Z, y, cv=splits).ratio["linear_probe"] == 1


@pytest.mark.parametrize(("cka", "collapsed"), [(0.41, False), (0.39, True), (0.9, False)])
def test_the_alarm_is_at_eight_tenths_of_the_originals_cka(cka, collapsed):
    original = {"linear_probe": 0.5, "linear_cka": 0.5, "scatter_ratio": 0.0}
    result = CorrelationCollapse(original, {**original, "linear_cka": cka})
    assert result.collapsed is collapsed
    assert np.isnan(result.ratio["scatter_ratio"])
    assert ("no collapse" in repr(result)) is not collapsed


def test_no_alarm_where_the_original_has_nothing_to_lose():
    nothing = {"linear_probe": 0.5, "linear_cka": 0.0, "scatter_ratio": 0.0}
    result = CorrelationCollapse(nothing, nothing)
    assert np.isnan(result.ratio["linear_cka"])
    assert not result.collapsed
    assert "no collapse" in repr(result)


@pytest.mark.parametrize("name", ["Z_original", "Z_unlearned", "Z_retrained"])
def test_summary_names_what_does_not_fit(problem, name):
    Z, y = problem
    features = {"Z_original": Z, "Z_unlearned": Z, "Z_retrained": Z, name: Z[1:]}
    with pytest.raises(ValueError, match=f"{name} must have one row for each"):
        correlation_collapse(y=y, **features)


# Distances between sets of features.


def test_transport_distance_is_pots(problem):
    Z, y = problem
    u, v = Z[y == "a"], Z[y == "b"][:30]
    expected = ot.emd2([], [], pairwise_distances(u, v, metric="cosine"))
    assert feature_transport_distance(u, v) == pytest.approx(expected)
    assert feature_transport_distance(u.astype(np.float32), v) == pytest.approx(expected, rel=1e-5)
    assert feature_transport_distance(u, u) == pytest.approx(0, abs=1e-12)
    assert expected > 1e-3


def test_transport_distance_looks_at_a_seeded_choice_of_rows(problem):
    Z, _ = problem
    u, v = Z[:90], Z[90:]
    first, again, other = (
        feature_transport_distance(u, v, n_rows=20, random_state=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
    whole = feature_transport_distance(u, v)
    assert whole == feature_transport_distance(u, v, n_rows=90, random_state=5)
    # The usual mistake of the first rows only, which are of one class here.
    half = [feature_transport_distance(u, Z[:90], n_rows=45, random_state=i) for i in range(5)]
    assert max(half) < feature_transport_distance(u[:45], u[45:])


def test_transport_distance_of_one_distribution_shrinks_with_rows():
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(400, 5)), rng.normal(size=(400, 5))
    few, many = (feature_transport_distance(u, v, n_rows=n, random_state=0) for n in (20, 400))
    assert few > 2 * many > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Z_1": np.ones(3)}, "Z_1 must be features of shape"),
        ({"Z_2": np.full((3, 2), np.inf)}, "Z_2 must be finite"),
        ({"Z_2": np.ones((3, 4))}, "Z_2 must have as many features as Z_1, 2; got 4"),
        ({"n_rows": 0}, "n_rows must be an integer at least 1"),
    ],
)
def test_transport_distance_refuses_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        feature_transport_distance(**{"Z_1": np.ones((3, 2)), "Z_2": np.ones((3, 2)), **change})


def test_global_generators_are_left_alone(problem):
    Z, y = problem
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    correlation_collapse(Z, Z, y, random_state=0)
    feature_transport_distance(Z, Z, n_rows=9, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


# The collapse itself.


class Deep(MLP):
    """Has layers for a collapse to take place in."""

    def __init__(self, n_features_in, n_classes):
        super().__init__(n_features_in, n_classes, hidden=64)
        self.hidden = nn.Sequential(self.hidden, nn.Linear(64, 64), nn.ReLU())


@pytest.mark.filterwarnings("ignore:NegGrad has damaged the network")
def test_negative_gradient_run_long_collapses_and_others_do_not():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X_test, y_test = X[900:], y[900:]
    X, y, forget = X[:900], y[:900], np.arange(900) < 90
    net = make_net(Deep, optimizer__weight_decay=5e-4, batch_size=64, lr=0.05)
    original = Retrain(net, random_state=0).fit(X, y)
    trained = FrozenEstimator(original.estimator_)
    request = {"X": X, "y": y, "forget": forget, "X_val": X_test, "y_val": y_test}
    models = {
        "original": original,
        "long": NegGrad(trained, max_epochs=6, random_state=0).unlearn(**request),
        "short": NegGrad(trained, max_epochs=1, random_state=0).unlearn(**request),
        "restored": DLFD(trained, random_state=0).unlearn(**request),
        "retrained": Retrain(net, random_state=1).fit(**request),
    }
    Z = {name: FeatureExtractor(model).transform(X_test) for name, model in models.items()}
    collapse = {
        name: correlation_collapse(Z["original"], Z[name], y_test, random_state=0) for name in Z
    }
    # At six seeds, the long run kept 0.09 to 0.63 of the CKA, the others 0.88 and more.
    assert collapse["long"].collapsed
    ratio = collapse["long"].ratio
    assert ratio["linear_cka"] < ratio["linear_probe"] - 0.2  # which understates it
    for name in ("short", "restored", "retrained"):
        assert not collapse[name].collapsed
