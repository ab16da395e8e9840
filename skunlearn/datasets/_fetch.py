"""Loaders of real data with identities, from public archives."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, overload

import numpy as np
from sklearn.utils import Bunch

from skunlearn.datasets._archives import Archive, load_members

if TYPE_CHECKING:
    from typing import Literal

    from skunlearn._engine.typing import Array, Folder

_FACES = Archive(
    filename="CMUFaceImages-f4a6b37f86809e79d1975fba10b5b248f3e24b10.zip",
    url="https://github.com/LuisVereau/CMUFaceImages/archive/"
    "f4a6b37f86809e79d1975fba10b5b248f3e24b10.zip",
    # The images of half size; a name that goes on with ".bad" is a faulty image.
    members=r"faces/(?P<person>\w+)/(?P=person)_(?P<pose>left|right|straight|up)"
    r"_(?P<expression>angry|happy|neutral|sad)_(?P<sunglasses>open|sunglasses)_2\.pgm",
    sha256="3273ff17ec5ea4d63d845fa67f9206ea246c4824906500372483b44043c6fea6",
)

_DIGITS = Archive(
    filename="free-spoken-digit-dataset-26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip",
    url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/"
    "26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip",
    members=r"recordings/(?P<digit>\d)_(?P<speaker>[a-z]+)_\d+\.wav",
    sha256="baa3a6dcf4da47fb3075bec71a8cefb512022cb9ae030a79a31b315f37bc67af",
)

_FACES_DESCR = """\
CMU Face Images
---------------
624 grey images of 60 x 64 pixels: 20 people (28 to 32 images each) in every combination of
4 poses, 4 expressions and with or without sunglasses; 16 faulty images are left out. Pixels
are scaled to [0, 1] by the largest value that each file declares. Expression can hardly be
read from the pixels: a network that fits it memorises.

Target: sunglasses (open, sunglasses), pose (left, right, straight, up) or expression (angry,
happy, neutral, sad). Identity: the person.

Source: T. Mitchell, CMU Face Images, UCI Machine Learning Repository, 1999,
https://archive.ics.uci.edu/ml/datasets/cmu+face+images; the copy at
https://github.com/LuisVereau/CMUFaceImages, commit f4a6b37, images of half size.
Licence: free of charge for any educational purpose, provided attribution is given (the terms of
the UCI KDD Archive, http://kdd.ics.uci.edu/databases/faces/faces.data.html).
"""

_DIGITS_DESCR = """\
Free Spoken Digit Dataset
-------------------------
3000 recordings of the digits 0 to 9 in English by 6 speakers, 50 takes of each digit and
speaker, as log-mel spectrograms: the first second at 8 kHz (padded with silence), 33 windows of
256 samples, 32 mel bands up to 4 kHz, natural logarithm of power + 1e-8.

Target: the digit. Identity: the speaker.

Source: Z. Jackson et al., https://github.com/Jakobovski/free-spoken-digit-dataset, commit
26eb9aa. Licence: CC BY-SA 4.0 (attribution, share alike).
"""


@overload
def fetch_cmu_faces(  # numpydoc ignore=GL08
    *,
    target: Literal["sunglasses", "pose", "expression"] = "sunglasses",
    data_home: Folder | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[False] = False,
) -> Bunch: ...


@overload
def fetch_cmu_faces(  # numpydoc ignore=GL08
    *,
    target: Literal["sunglasses", "pose", "expression"] = "sunglasses",
    data_home: Folder | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[True],
) -> tuple[Array, Array]: ...


def fetch_cmu_faces(
    *,
    target: Literal["sunglasses", "pose", "expression"] = "sunglasses",
    data_home: Folder | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[Array, Array]:
    """Load the CMU face images: 20 people, each in many poses.

    Parameters
    ----------
    target : {"sunglasses", "pose", "expression"}, default="sunglasses"
        What is to be predicted: 2, 4 or 4 classes. Expression cannot be learnt from the pixels,
        only memorised.
    data_home : str or path-like, default=None
        Folder of the archive. None for the environment variable ``SKUNLEARN_DATA``, else
        ``~/skunlearn_data``. A folder which holds the archive needs no network.
    download_if_missing : bool, default=True
        Whether to download the archive when it is not there; needs ``skunlearn[data]``.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` alone.

    Returns
    -------
    sklearn.utils.Bunch or tuple of (data, target)
        With the attributes

        data : ndarray of shape (624, 1, 60, 64), float32
            Grey images in [0, 1], channel first.
        target : ndarray of shape (624,), int64
            Index into `target_names`.
        target_names : list of str
            Names of the classes.
        identity : ndarray of shape (624,), str
            The person.
        DESCR : str
            Description, source and licence.

    Raises
    ------
    OSError
        If the archive is absent and not to be downloaded, the download fails, or the archive
        does not hold the expected images.
    ImportError
        If pooch is needed and missing.
    ValueError
        If `target` is none of the names above.

    See Also
    --------
    fetch_spoken_digits : Recordings of few speakers.
    make_identity_images : Generated faces of any number of people.

    References
    ----------
    .. [1] T. Mitchell, "CMU Face Images", UCI Machine Learning Repository, 1999,
       https://archive.ics.uci.edu/ml/datasets/cmu+face+images.

    Examples
    --------
    >>> from skunlearn.datasets import fetch_cmu_faces
    >>> faces = fetch_cmu_faces(target="pose")  # doctest: +SKIP
    >>> faces.data.shape, faces.target_names  # doctest: +SKIP
    ((624, 1, 60, 64), ['left', 'right', 'straight', 'up'])
    """
    if target not in ("sunglasses", "pose", "expression"):
        raise ValueError(f"target must be 'sunglasses', 'pose' or 'expression', got {target!r}.")
    members = load_members(_FACES, data_home=data_home, download_if_missing=download_if_missing)
    return _bunch(
        np.stack([_read_pgm(content) for _, content in members])[:, None],
        labels=[name[target] for name, _ in members],
        identity=[name["person"] for name, _ in members],
        descr=_FACES_DESCR,
        return_X_y=return_X_y,
    )


@overload
def fetch_spoken_digits(  # numpydoc ignore=GL08
    *,
    data_home: Folder | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[False] = False,
) -> Bunch: ...


@overload
def fetch_spoken_digits(  # numpydoc ignore=GL08
    *,
    data_home: Folder | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[True],
) -> tuple[Array, Array]: ...


def fetch_spoken_digits(
    *, data_home: Folder | None = None, download_if_missing: bool = True, return_X_y: bool = False
) -> Bunch | tuple[Array, Array]:
    """Load the free spoken digits: 6 speakers, 500 recordings each, as log-mel spectrograms.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the archive. None for the environment variable ``SKUNLEARN_DATA``, else
        ``~/skunlearn_data``. A folder which holds the archive needs no network.
    download_if_missing : bool, default=True
        Whether to download the archive (16 MB) when it is not there; needs ``skunlearn[data]``.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` alone.

    Returns
    -------
    sklearn.utils.Bunch or tuple of (data, target)
        With the attributes

        data : ndarray of shape (3000, 1, 32, 33), float32
            Natural logarithm of power in 32 mel bands and 33 windows of 32 ms, channel first;
            silence is log(1e-8) = -18.4.
        target : ndarray of shape (3000,), int64
            The digit.
        target_names : list of str
            Names of the classes, "0" to "9".
        identity : ndarray of shape (3000,), str
            The speaker.
        DESCR : str
            Description, source and licence.

    Raises
    ------
    OSError
        If the archive is absent and not to be downloaded, the download fails, or the archive
        does not hold the expected recordings.
    ImportError
        If pooch is needed and missing.

    See Also
    --------
    fetch_cmu_faces : Images of 20 people.
    make_identity_images : Generated faces of any number of people.

    References
    ----------
    .. [1] Z. Jackson et al., "Free Spoken Digit Dataset",
       https://github.com/Jakobovski/free-spoken-digit-dataset.

    Examples
    --------
    >>> from skunlearn.datasets import fetch_spoken_digits
    >>> digits = fetch_spoken_digits()  # doctest: +SKIP
    >>> digits.data.shape, sorted(set(digits.identity))[:2]  # doctest: +SKIP
    ((3000, 1, 32, 33), ['george', 'jackson'])
    """
    # Imported here because scipy.io is slow to import and nothing else needs it.
    from scipy.io import wavfile

    members = load_members(_DIGITS, data_home=data_home, download_if_missing=download_if_missing)
    # A recording of 16-bit samples at 8 kHz, which the verified digest guarantees.
    waves = np.zeros((len(members), 8000), dtype=np.float32)
    for wave, (_, content) in zip(waves, members):
        samples = wavfile.read(BytesIO(content))[1][:8000]
        wave[: len(samples)] = samples / 32768
    return _bunch(
        _log_mel(waves)[:, None],
        labels=[name["digit"] for name, _ in members],
        identity=[name["speaker"] for name, _ in members],
        descr=_DIGITS_DESCR,
        return_X_y=return_X_y,
    )


def _read_pgm(content):
    # Pillow decodes files whose largest value is not 255 in pure Python, a hundred times slower.
    _, size, largest, pixels = content.split(b"\n", 3)
    width, height = map(int, size.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width) / np.float32(largest)


def _log_mel(waves, *, rate=8000, width=256, n_bands=32):
    """Log power in mel bands (n, n_bands, n_windows) of waves (n, n_samples).

    Windows follow each other without overlap, the first centred on the first sample; triangles
    between whole frequency bins, equally spaced on the HTK mel scale.
    """
    n, n_samples = waves.shape
    n_windows = 1 + -(-n_samples // width)
    padded = np.zeros((n, n_windows * width), dtype=np.float32)
    padded[:, width // 2 : width // 2 + n_samples] = waves
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)).astype(np.float32)
    spectrum = np.fft.rfft(padded.reshape(n, n_windows, width) * (window / window.sum()))
    power = spectrum.real**2 + spectrum.imag**2

    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), n_bands + 2)
    edges = np.floor((width + 1) * 700 * (10 ** (mel / 2595) - 1) / rate)
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.arange(width // 2 + 1)
    rising = (bins - low) / np.maximum(peak - low, 1)
    falling = (high - bins) / np.maximum(high - peak, 1)
    bank = np.clip(np.minimum(rising, falling), 0, None)
    return np.log(np.swapaxes(power @ bank.T, 1, 2) + 1e-8).astype(np.float32)


def _bunch(data, *, labels, identity, descr, return_X_y):
    names, target = np.unique(labels, return_inverse=True)
    target = target.astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=names.tolist(),
        identity=np.array(identity),
        DESCR=descr,
    )
