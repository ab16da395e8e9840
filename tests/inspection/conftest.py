import matplotlib
import pytest

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def closed_figures():
    """No figures are left for the next test, and matplotlib's settings are as they were."""
    from matplotlib import pyplot as plt

    plt.close("all")
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")
