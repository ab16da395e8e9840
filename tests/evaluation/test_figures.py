"""Metrics of features, each measured once."""

import numpy as np

from skunlearn.evaluation._figures import Measure


def test_features_of_the_original_are_measured_once(monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=90)
    Z, other, third = (np.eye(3)[y] + rng.normal(size=(90, 3)) for _ in range(3))
    measured = []

    def probe(Z, y, **settings):
        measured.append(Z)
        return 0.5

    monkeypatch.setattr("skunlearn.evaluation._figures.linear_probe_score", probe)
    measure = Measure(n_splits=1, n_resamples=10, level=0.95, seed=0)
    first = measure.collapse({"original": Z, "a": other}, y)
    second = measure.collapse({"original": Z, "b": third}, y)
    assert [id(each) for each in measured] == [id(Z), id(other), id(third)]
    assert second["original"] is first["original"]
    fresh = Measure(n_splits=1, n_resamples=10, level=0.95, seed=0)
    another = measure.collapse({"original": third}, y)["original"]
    assert another["linear_cka"] == second["b"]["linear_cka"]
    assert second["b"] == fresh.collapse({"original": Z, "b": third}, y)["b"]
