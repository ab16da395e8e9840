import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from skunlearn import FineTune, inspection
from tests.networks import make_net


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


@pytest.mark.parametrize(
    "name", ["FeatureDistributionDisplay", "LossDistributionDisplay", "TradeoffDisplay"]
)
def test_labels_are_taken_from_a_data_set_of_pairs(name):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(X[:40], y[:40])
    draw = getattr(inspection, name).from_estimator
    params = {"forget": np.arange(40) < 15, "random_state": 0}
    given = draw(model, X[:40], y[:40], X_unseen=X[40:], y_unseen=y[40:], **params)
    pairs = TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    seen, unseen = Subset(pairs, range(40)), Subset(pairs, range(40, 60))
    read = draw(model, seen, None, X_unseen=unseen, y_unseen=None, **params)
    for attribute in ("losses", "x", "y", "projections"):
        np.testing.assert_equal(getattr(read, attribute, 0), getattr(given, attribute, 0))
    with pytest.raises(ValueError, match="y_unseen must be given unless"):
        draw(model, seen, None, X_unseen=X[40:], y_unseen=None, **params)
