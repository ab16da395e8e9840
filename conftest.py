"""What all tests have in common, those in docstrings too."""

import random
import sys

import numpy as np
import pytest
import torch


def pytest_addoption(parser):
    """Add an option to run the tests from other draws."""
    parser.addoption(
        "--seed", type=int, default=0, help="what the global generators start from in every test"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(request):
    """Seed what a fixture draws, whichever test asks for it first."""
    _seed(request.config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """Seed what a test draws."""
    _seed(item.config)


def _seed(config):
    """Let no test draw what depends on the tests that ran before it in its process."""
    seed = config.getoption("seed")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, for it is what other libraries draw from
    torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def _closed_figures():
    """Close the figures that a test leaves open: of more than twenty, matplotlib warns."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
