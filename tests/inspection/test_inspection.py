import subprocess
import sys

import pytest

from skunlearn import inspection


def test_importing_it_does_not_import_matplotlib():
    code = "import sys, skunlearn.inspection; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    calls = {
        "LossDistributionDisplay": ({"forget": [1.0]},),
        "FeatureDistributionDisplay": ({"forget": [[1.0, 2.0]]}, {"forget": [0]}),
        "TradeoffDisplay": ([{"method": "a", "utility": 0.5, "forgetting_score": 0.1}],),
    }
    for name, arguments in calls.items():
        with pytest.raises(ImportError, match=f"{name}.from_predictions requires matplotlib"):
            getattr(inspection, name).from_predictions(*arguments)
    with pytest.raises(ImportError, match=r"from_predictions requires matplotlib"):
        inspection.UnlearningCurveDisplay.from_predictions([1], [1], x_name="a", y_name="b")


@pytest.mark.parametrize("name", inspection.__all__)
def test_displays_follow_the_conventions(name):
    display = getattr(inspection, name)
    for method in ("from_estimator", "from_predictions", "plot"):
        assert callable(getattr(display, method))
        assert "Returns\n" in getattr(display, method).__doc__
