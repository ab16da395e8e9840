"""SISA: an ensemble in which few models have seen a row."""

from skunlearn.methods.sisa._ensemble import SISA

__all__ = ["SISA"]
