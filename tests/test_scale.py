"""Many rows take no more memory than few."""

import runpy
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "bench_memory.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]


@pytest.mark.parametrize("source", ["lazy", "memmap"])
@pytest.mark.parametrize("name", ["FineTune", "DLFD", "NegGrad", "RandomLabel", "Retrain"])
def test_100_000_images_take_less_than_a_gibibyte(name, source):
    measure = runpy.run_path(str(BENCHMARK))["measure_in_a_process"]
    n_bytes, _ = measure(name, source, 100_000)
    assert n_bytes < 2**30


def test_ten_thousand_images_are_not_loaded_whole():
    measure = runpy.run_path(str(BENCHMARK))["measure_in_a_process"]
    n_bytes, _ = measure("FineTune", "lazy", 10_000)
    assert n_bytes < 10_000 * 3 * 64 * 64 * 4 / 2
