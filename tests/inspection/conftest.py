import matplotlib
import pytest

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def same_settings():
    """Matplotlib's settings are as they were."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
