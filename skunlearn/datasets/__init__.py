"""Data sets in which every row belongs to someone, and the label is not that someone."""

from ._fetch import fetch_cmu_faces, fetch_spoken_digits
from ._generators import make_identity_images

__all__ = ["fetch_cmu_faces", "fetch_spoken_digits", "make_identity_images"]
