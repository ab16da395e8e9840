"""What all tests have in common, those in docstrings too."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _closed_figures():
    """Close the figures that a test leaves open: of more than twenty, matplotlib warns."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
