"""Data sets in which every row belongs to someone, and the label is not that someone."""

from skunlearn.datasets._fetch import fetch_cmu_faces, fetch_spoken_digits
from skunlearn.datasets._generators import make_identity_images
from skunlearn.datasets._labelled import LabelledDataset

__all__ = ["LabelledDataset", "fetch_cmu_faces", "fetch_spoken_digits", "make_identity_images"]
