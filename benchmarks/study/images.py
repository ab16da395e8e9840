"""CIFAR-10 from a file or a folder, and drawn images where there is none."""

import hashlib
import pickle
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np

from skunlearn.datasets import make_identity_images


def read(path, cache):
    """Read CIFAR-10.

    Parameters
    ----------
    path : Path
        An ``.npz`` file of JPEG files, or the folder ``cifar-10-batches-py`` of
        `torchvision.datasets`.
    cache : Path
        Folder for the decoded images.

    Returns
    -------
    train, test : tuple (X, y)
        Images of shape (n, 3, 32, 32), uint8, and labels, int64.
    """
    path = Path(path)
    if path.is_dir():
        return _read_batches(path)
    if not path.exists():
        raise ValueError(
            f"data must be an .npz file or the folder cifar-10-batches-py; {path} is not there. "
            "torchvision.datasets.CIFAR10(folder, download=True) makes the latter in a folder."
        )
    digest = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()[:12]
    decoded = cache / f"decoded-{digest}.npz"
    if not decoded.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with np.load(path, allow_pickle=False) as arrays:
            found = {part: decode(arrays, part) for part in ("train", "test")}
            found |= {f"{part}_label": arrays[f"{part}_label"] for part in ("train", "test")}
        unfinished = decoded.with_suffix(".unfinished.npz")
        np.savez(unfinished, **found)
        unfinished.replace(decoded)
    with np.load(decoded) as arrays:
        return tuple((arrays[p], arrays[f"{p}_label"].astype(np.int64)) for p in ("train", "test"))


def decode(arrays, part, which=slice(None)):
    """Images of one part, by default all, from its JPEG files one after the other."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("JPEG files need pillow: pip install pillow") from error
    content, offset = arrays[f"{part}_jpeg"], arrays[f"{part}_offset"]
    images = [
        np.asarray(Image.open(BytesIO(content[low:high].tobytes())).convert("RGB"))
        for low, high in np.array(list(pairwise(offset)))[which]
    ]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def _read_batches(folder):
    """The pickled batches of `torchvision.datasets`."""
    parts = []
    for names in ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]):
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise ValueError(
                f"data must be the folder cifar-10-batches-py; {folder} has no {missing}."
            )
        batches = [pickle.loads((folder / name).read_bytes(), encoding="bytes") for name in names]
        X = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        parts.append((X, np.concatenate([batch[b"labels"] for batch in batches]).astype(np.int64)))
    return tuple(parts)


def draw(n_rows):
    """Drawn images of 16 x 16 pixels in ten classes: as many as asked for, and a quarter more."""
    n_test = n_rows // 4
    images = make_identity_images(
        -(-(n_rows + n_test) // 10), 10, image_size=16, n_classes=10, random_state=0
    )
    X, y = (255 * images.data).astype(np.uint8), images.target
    return (X[:n_rows], y[:n_rows]), (X[n_rows : n_rows + n_test], y[n_rows : n_rows + n_test])


def few(data, n_rows):
    """Some images at half the size: as many as asked for, and a quarter more for the test."""
    rng, parts = np.random.default_rng(0), []
    for (X, y), n in zip(data, (n_rows, n_rows // 4)):
        kept = rng.permutation(len(X))[:n]
        parts.append((np.ascontiguousarray(X[kept][:, :, ::2, ::2]), y[kept]))
    return tuple(parts)
