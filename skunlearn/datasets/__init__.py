"""Data sets in which every row belongs to someone, and the label is not that someone."""

from ._fetch import fetch_cmu_faces, fetch_spoken_digits
from ._generators import make_identity_images
from ._labelled import LabelledDataset

__all__ = ["LabelledDataset", "fetch_cmu_faces", "fetch_spoken_digits", "make_identity_images"]
