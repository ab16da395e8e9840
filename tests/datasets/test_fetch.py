import os
from pathlib import Path

import numpy as np
import pytest

from skunlearn.datasets import _fetch, fetch_cmu_faces, fetch_spoken_digits

SHARED = Path(__file__).parents[3] / "shared" / "data"
CONVERTED = {fetch_cmu_faces: "cmu_faces.npz", fetch_spoken_digits: "spoken_digits.npz"}


def real(fetch, **kwargs):
    """Load the real data, and what an independent conversion of them gave where it is there."""
    archive = _fetch._FACES if fetch is fetch_cmu_faces else _fetch._DIGITS
    homes = [SHARED / "archives", Path(os.environ.get("SKUNLEARN_DATA", SHARED / "archives"))]
    home = next((home for home in homes if (home / archive.filename).exists()), None)
    if home is None:
        pytest.skip(f"{archive.filename} is neither in {homes[0]} nor in $SKUNLEARN_DATA")
    return fetch(data_home=home, download_if_missing=False, **kwargs)


def converted(fetch):
    path = SHARED / CONVERTED[fetch]
    if not path.exists():
        pytest.skip(f"no converted data at {path}")
    return np.load(path, allow_pickle=False)


@pytest.mark.parametrize(
    ("target", "column", "names"),
    [
        ("sunglasses", "eyes", ["open", "sunglasses"]),
        ("pose", "pose", ["left", "right", "straight", "up"]),
        ("expression", "expression", ["angry", "happy", "neutral", "sad"]),
    ],
)
def test_faces_equal_the_converted_ones(target, column, names):
    faces = real(fetch_cmu_faces, target=target)
    assert faces.data.shape == (624, 1, 60, 64)
    assert faces.data.dtype == np.float32
    assert faces.data.max() <= 1
    assert faces.target.dtype == np.int64
    assert faces.target_names == names
    assert len(set(faces.identity)) == 20
    assert "Licence" in faces.DESCR
    other = converted(fetch_cmu_faces)
    np.testing.assert_array_equal(np.rint(255 * faces.data[:, 0]), other["images"])
    np.testing.assert_array_equal(faces.identity, other["person"])
    np.testing.assert_array_equal(np.array(names)[faces.target], other[column])


def test_spoken_digits_equal_the_converted_ones():
    digits = real(fetch_spoken_digits)
    assert digits.data.shape == (3000, 1, 32, 33)
    assert digits.data.dtype == np.float32
    assert digits.target.dtype == np.int64
    assert digits.target_names == list("0123456789")
    np.testing.assert_array_equal(np.unique(digits.identity, return_counts=True)[1], [500] * 6)
    assert "CC BY-SA" in digits.DESCR
    other = converted(fetch_spoken_digits)
    # Half precision is what they were stored in: its steps at -16 to -32 are 2 ** -6.
    np.testing.assert_allclose(digits.data[:, 0], other["log_mel"], rtol=0, atol=2**-6)
    np.testing.assert_array_equal(digits.target, other["digit"])
    np.testing.assert_array_equal(digits.identity, other["speaker"])


@pytest.mark.parametrize("fetch", CONVERTED)
def test_return_x_y_of_real_data(fetch):
    X, y = real(fetch, return_X_y=True)
    assert len(X) == len(y)
    assert y.dtype == np.int64


def test_log_mel_of_silence_and_of_a_tone():
    time = np.arange(8000) / 8000
    waves = np.stack([np.zeros(8000), 0.5 * np.sin(2 * np.pi * 1000 * time)]).astype(np.float32)
    silence, tone = _fetch._log_mel(waves)
    np.testing.assert_allclose(silence, np.log(1e-8), rtol=1e-6)
    # 1000 Hz is 1000 mel on the HTK scale, 15.4 steps of 2146 / 33 mel from 0: between the peaks
    # of the bands 14 and 15, counted from 0.
    assert set(np.argsort(tone[:, 10])[-2:]) == {14, 15}
    # A sine of amplitude a has power a ** 2 / 4 in its frequency bin and, by the Hann window, a
    # quarter of that in both neighbours; overlapping triangles share it out whole.
    np.testing.assert_allclose(np.exp(tone[:, 10]).sum(), 1.5 * 0.5**2 / 4, rtol=1e-4)


@pytest.mark.parametrize("target", ["eyes", None, 1])
def test_invalid_target_is_named(target):
    with pytest.raises(ValueError, match=f"target must be .*'pose'.*got {target!r}"):
        fetch_cmu_faces(target=target)
