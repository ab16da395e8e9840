"""The benchmark runs; and what a batch reads does not depend on how many rows there are."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback

from skunlearn import DLFD
from tests.networks import make_net

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "bench_dlfd_batch.py"


@pytest.mark.filterwarnings("default")
def test_benchmark_prints_its_table(monkeypatch, capsys):
    tiny = (
        "--steps 1 --batch 4 --width 2 --stretches 1 --rows 120 240 --repeats 1 --unseen 20 "
        f"--attacked 60 --sinkhorn-iter 2 --widths --depths --threads {torch.get_num_threads()}"
    )
    monkeypatch.setattr("sys.argv", [str(BENCHMARK), *tiny.split()])
    monkeypatch.setattr("gc.disable", lambda: None)
    benchmark = runpy.run_path(str(BENCHMARK))
    benchmark["main"]()
    printed = capsys.readouterr().out
    for row in (
        "batch with 'exact'",
        "batch with 'sinkhorn'",
        "published way, attack on 60 rows",
        "batch of a set of 240 rows over one of 120",
    ):
        assert row in printed
    assert isinstance(benchmark["copies_in_a_process"]("DLFD", 64, 2), float)


@pytest.mark.filterwarnings("default")
def test_benchmark_of_an_epoch_prints_its_ratios(monkeypatch, capsys):
    path = BENCHMARK.with_name("bench_epoch.py")
    tiny = f"--rows 32 --batch 16 --epochs 1 --repeats 1 --threads {torch.get_num_threads()}"
    monkeypatch.setattr("sys.argv", [str(path), *tiny.split()])
    runpy.run_path(str(path))["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["MLP", "ResNet"]
    assert all(len(line.split()) == 6 for line in lines[2:])


def test_benchmark_of_intervals_writes_its_table(monkeypatch, capsys, tmp_path):
    path = BENCHMARK.with_name("bench_intervals.py")
    tiny = f"--simulations 4 --sizes 1 6 --results {tmp_path}"
    monkeypatch.setattr("sys.argv", [str(path), *tiny.split()])
    monkeypatch.setattr("sys.path", [*sys.path])
    benchmark = runpy.run_path(str(path))
    benchmark["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["least", "coverage", "1", "rows"]
    assert [line.split()[0] for line in lines[1:4]] == ["accuracy", "auc", "tpr"]
    made_with, head, *rows = (tmp_path / "coverage.csv").read_text().splitlines()
    assert made_with.startswith("# numpy ")
    assert tuple(head.split(",")) == benchmark["COLUMNS"]
    assert len(rows) > 100
    # The truth of the simulation, where it is known.
    truths = benchmark["truths"]("nothing")
    assert truths == {"auc": 0.5, "tpr": pytest.approx(0.05), "overshoot": 0}
    assert benchmark["truths"]("mixed")["overshoot"] == pytest.approx(
        1.5 - (2 * np.pi) ** -0.5, abs=0.01
    )


def test_the_table_of_coverage_is_that_of_the_page_and_holds():
    """The least of each size, from one clean run; where nothing holds, no interval is given."""
    text = BENCHMARK.with_name("results").joinpath("coverage.csv").read_text(encoding="utf-8")
    assert "-dirty" not in text.partition("\n")[0]
    rows = [row for row in csv.DictReader(text.splitlines()[1:]) if row["coverage"]]
    rows = [row for row in rows if not row["metric"].startswith("relative_mmd_")]
    few = [row for row in rows if float(row["given"]) * int(row["n"]) < 30]
    assert {(row["units"], row["forget"], row["told"]) for row in few} == {
        ("people", "6", "uneven")  # of whom few simulations have an interval
    }
    rows = [row for row in rows if row not in few]
    assert min(float(row["coverage"]) for row in rows) >= 0.93
    page = BENCHMARK.parents[1] / "docs" / "user_guide" / "measuring.rst"
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("rows or people to forget"))
    shown = [line[24:].split() for line in lines[start + 2 : lines.index("", start) - 1]]
    sizes = [("rows", n) for n in (1, 6, 12, 100, 1000)] + [("people", n) for n in (1, 6, 12, 100)]
    metrics = "auc tpr accuracy forgetting nomus overshoot difference gap tug_of_war agreement"
    metrics += " js_distance relative_js_distance mmd_difference linear_cka scatter_ratio cka_ratio"
    assert len(shown) == len(f"{metrics} linear_probe".split())
    for name, cells in zip(f"{metrics} linear_probe".split(), shown):
        for (units, n), cell in zip(sizes, cells, strict=True):
            found = [
                float(row["coverage"])
                for row in rows
                if (row["metric"], row["units"], int(row["forget"])) == (name, units, n)
            ]
            assert cell == ("–" if not found else f"{min(found):.3f}".removeprefix("0")), name


class CountingRows(torch.utils.data.Dataset):
    def __init__(self, n):
        self.X = torch.as_tensor(np.random.RandomState(0).normal(size=(n, 4)), dtype=torch.float32)
        self.n_read = 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.n_read += 1
        return self.X[i], 0  # unlearn is given the labels


class AfterBatch(Callback):
    def __init__(self, call):
        self.call = call

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.call()


class EnoughBatchesError(Exception):
    pass


def reads(n_rows, n_batches, batch_size=16):
    """Rows read up to the end of the first batch, and in each of those that follow."""
    data, unseen = CountingRows(n_rows), CountingRows(100)
    after = []

    def after_batch():
        after.append(data.n_read + unseen.n_read)
        if len(after) == n_batches:
            raise EnoughBatchesError

    net = make_net(
        batch_size=batch_size,
        callbacks=[AfterBatch(after_batch)],
        module__n_features_in=4,
        module__n_classes=2,
        classes=[0, 1],
    ).initialize()
    # Always class 0, right for the rows to forget and wrong for the unseen ones: the forgetting
    # score is at its highest, and no batch exempt from the perturbation.
    net.module_.head.bias.data[0] = 20
    unlearner = DLFD(FrozenEstimator(net), lr=1e-6, perturb_steps=2, random_state=0)
    forget = np.arange(n_rows) < n_rows // 4
    y = np.where(forget, 0, np.arange(n_rows) % 2)
    with pytest.raises(EnoughBatchesError):
        unlearner.unlearn(data, y, forget=forget, X_val=unseen, y_val=np.ones(100))
    return after[0], np.diff(after).tolist()


def test_reads_per_batch_do_not_depend_on_rows(monkeypatch):
    monkeypatch.setattr("skunlearn.methods.dlfd._CHECK_EVERY", 3)
    monkeypatch.setattr("skunlearn.methods.dlfd._CHECK_ROWS", 40)
    few_before, few = reads(1_280, n_batches=8)
    many_before, many = reads(6_400, n_batches=8)
    # Retained and forget rows; the forgetting score, measured every third batch, reads none.
    assert few == many == [16 + 16] * 7
    # Read up to the first batch: 256 rows of each kind, to compare the networks on; forget and
    # held-out rows for the score, 256 retained and 128 forget rows for layer and ranges, the batch.
    assert few_before == many_before <= 2 * 256 + 2 * 40 + 256 + 128 + 32 + 10
