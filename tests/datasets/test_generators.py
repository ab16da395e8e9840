import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skunlearn.datasets import make_identity_images


def linear_model():
    return make_pipeline(
        PCA(60, random_state=0), StandardScaler(), LogisticRegression(C=0.1, max_iter=300)
    )


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("image_size", [8, 33])
def test_shapes_types_and_range(n_channels, image_size):
    faces = make_identity_images(
        7, 5, image_size=image_size, n_channels=n_channels, n_classes=3, random_state=0
    )
    assert faces.data.shape == (35, n_channels, image_size, image_size)
    assert faces.data.dtype == np.float32
    assert faces.data.min() >= 0
    assert faces.data.max() <= 1
    assert faces.target.dtype == faces.clean_target.dtype == faces.identity.dtype == np.int64
    assert faces.target.shape == faces.clean_target.shape == (35,)
    assert set(faces.target) <= {0, 1, 2}
    np.testing.assert_array_equal(faces.identity, np.repeat(np.arange(7), 5))
    assert "35 images" in faces.DESCR


def test_same_seed_same_images_and_another_seed_others():
    first, again = (make_identity_images(6, 4, random_state=3) for _ in range(2))
    other = make_identity_images(6, 4, random_state=4)
    for name in ("data", "target", "clean_target", "identity"):
        np.testing.assert_array_equal(first[name], again[name])
    assert np.abs(first.data - other.data).mean() > 0.05


def test_random_state_instance_moves_on_from_call_to_call():
    rng = np.random.RandomState(3)
    first, second = (make_identity_images(6, 4, random_state=rng).data for _ in range(2))
    np.testing.assert_array_equal(first, make_identity_images(6, 4, random_state=3).data)
    assert not np.array_equal(first, second)


def test_global_random_state_is_untouched():
    before = np.random.get_state()  # noqa: NPY002
    make_identity_images(6, 4, random_state=0)
    np.testing.assert_equal(np.random.get_state(), before)  # noqa: NPY002


def test_return_x_y_gives_data_and_noisy_target():
    faces = make_identity_images(6, 4, label_noise=0.5, random_state=0)
    X, y = make_identity_images(6, 4, label_noise=0.5, random_state=0, return_X_y=True)
    np.testing.assert_array_equal(X, faces.data)
    np.testing.assert_array_equal(y, faces.target)


@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("label_noise", [0, 0.2, 1.0])
def test_label_noise_is_the_share_of_wrong_labels(label_noise, n_classes):
    faces = make_identity_images(
        50, 10, image_size=8, n_classes=n_classes, label_noise=label_noise, random_state=0
    )
    wrong = faces.target != faces.clean_target
    assert wrong.sum() == label_noise * 500
    assert set(faces.target) == set(range(n_classes))
    if label_noise == 1 and n_classes == 8:
        # Every other class is as likely a mistake as the next: 500 / 7 = 71 of each.
        shifts = np.bincount((faces.target - faces.clean_target) % 8, minlength=8)
        assert shifts[0] == 0
        assert shifts[1:].min() > 40


def test_label_noise_leaves_images_alone():
    noisy, clean = (
        make_identity_images(6, 4, label_noise=noise, random_state=0) for noise in (0.5, 0)
    )
    np.testing.assert_array_equal(noisy.clean_target, clean.target)
    # Pixel noise is drawn after the labels; what is drawn of the faces is the same.
    assert np.abs(noisy.data - clean.data).mean() < 0.05


def test_classes_are_balanced_and_are_not_the_identity():
    faces = make_identity_images(400, 12, image_size=8, n_classes=4, random_state=0)
    counts = np.bincount(faces.clean_target)
    assert counts.min() > 0.8 * 1200
    assert counts.max() < 1.2 * 1200
    classes = [len(set(faces.clean_target[faces.identity == person])) for person in range(400)]
    assert np.mean(np.array(classes) > 1) > 0.7


def test_images_of_a_person_differ():
    faces = make_identity_images(5, 6, random_state=0)
    for person in range(5):
        images = faces.data[faces.identity == person].reshape(6, -1)
        distances = np.abs(images[:, None] - images[None]).mean(axis=-1)
        assert distances[~np.eye(6, dtype=bool)].min() > 0.02


@pytest.mark.parametrize("seed", [0, 1])
def test_classes_can_be_learnt_for_unseen_people(seed):
    faces = make_identity_images(200, 10, image_size=24, n_classes=4, random_state=seed)
    X, seen = faces.data.reshape(2000, -1), faces.identity < 140
    model = linear_model().fit(X[seen], faces.target[seen])
    assert model.score(X[~seen], faces.clean_target[~seen]) > 0.4  # chance: 0.25


def test_people_can_be_recognised():
    faces = make_identity_images(40, 20, image_size=24, random_state=0)
    X, seen = faces.data.reshape(800, -1), np.arange(800) % 20 < 15
    model = linear_model().fit(X[seen], faces.identity[seen])
    assert model.score(X[~seen], faces.identity[~seen]) > 0.4  # chance: 0.025


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("n_identities", 0, "at least 1"),
        ("n_identities", 2.5, "integer"),
        ("images_per_identity", -1, "at least 1"),
        ("images_per_identity", True, "integer"),
        ("image_size", 7, "at least 8"),
        ("n_channels", 2, "1 or 3"),
        ("n_classes", 1, "at least 2"),
        ("label_noise", 1.1, r"\[0, 1\]"),
        ("label_noise", float("nan"), r"\[0, 1\]"),
        ("label_noise", "much", r"\[0, 1\]"),
    ],
)
def test_invalid_parameters_are_named(name, value, wanted):
    with pytest.raises(ValueError, match=f"{name}.*{wanted}.*got {value!r}"):
        make_identity_images(**{name: value})
