"""The standard benchmark: its batches, its data, its table, and that it goes on where it was."""

import csv
import importlib
import pickle
import sys
import warnings
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.dataset import Dataset
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from skunlearn import compare_unlearners
from skunlearn._engine.rows import JoinedRows, MarkedRows, NumberedRows, Rows
from skunlearn._engine.run import batches

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = ("cifar10", "batches", "images", "resnet", "tables", "domains")
FEW = ["--smoke", "--rows", "100", "--epochs", "2"]
REFERENCES = ["Original", "Retrain", "Retrain again"]


@pytest.fixture(scope="module")
def standard():
    before = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS / "standard"))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path[:] = before
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def command(standard, tmp_path_factory):
    """A run of two methods that is as small as can be; returns its arguments."""
    folder = tmp_path_factory.mktemp("standard")
    command = [*FEW, "--results", str(folder), "--methods", "FineTune", "Distill"]
    standard.cifar10.main(command)
    return command


def read(command, name="standard-smoke"):
    with Path(command[command.index("--results") + 1], f"{name}.csv").open(newline="") as file:
        assert file.readline().startswith("# numpy ")
        return list(csv.DictReader(file))


def test_table_has_a_row_for_each_method_and_cap_of_each_request(command, standard):
    rows = read(command)
    assert list(rows[0]) == list(standard.cifar10.MEASURED)
    methods = [(method, trial) for method in ("FineTune", "Distill") for trial in ("5%", "10%")]
    expected = [(name, "") for name in REFERENCES] + methods
    for request in ("random", "class"):
        of_request = [row for row in rows if row["domain"] == f"smoke-{request}"]
        assert [(row["method"], row["trial"]) for row in of_request] == expected
    assert {row["error"] for row in rows} == {""}
    assert all(row["relative_js_distance"] and row["loss_attack_auc"] for row in rows)
    assert {row["cost"] for row in rows if row["method"] == "FineTune"} == {"0.5"}


def test_speed_stands_beside_that_of_a_plain_loop(command):
    (row,) = read(command, "standard-smoke-speed")
    ours, plain, ratio = (
        float(row[name]) for name in ("epoch_seconds", "plain_epoch_seconds", "ratio")
    )
    assert ratio == pytest.approx(ours / plain, rel=1e-3)
    assert row["train_rows"] == "100"


@pytest.mark.parametrize("request_", ["random", "class"])
def test_rows_agree_with_those_of_a_comparison(command, standard, request_):
    args = standard.cifar10.options(command)
    net = standard.cifar10.network(args)
    train, val, unseen = standard.cifar10.rows_of(request_, standard.images.draw(100), 0)
    unlearner, _ = standard.cifar10.unlearner("FineTune", net, 1)
    with warnings.catch_warnings():
        # Of a class: NoMUS has nothing to say of it.
        warnings.filterwarnings("ignore", r"forget marks \(nearly\) all rows of")
        comparison = compare_unlearners(
            [unlearner],
            train[0],
            train[1],
            forget=train[2],
            X_unseen=unseen[0],
            y_unseen=unseen[1],
            X_val=val[0],
            y_val=val[1],
            seeds=[0],
        )
    row = next(
        row
        for row in read(command)
        if (row["domain"], row["method"], row["trial"]) == (f"smoke-{request_}", "FineTune", "5%")
    )
    names = {"utility", "js_distance", "nomus", "forget_accuracy", "cost"}
    if request_ == "class":
        names.remove("nomus")
        assert row["nomus"] in ("", "nan")
        assert comparison.records[-1]["nomus"] is None
    for name in names:
        assert float(row[name]) == pytest.approx(comparison.records[-1][name], rel=1e-4), name


def test_a_stopped_run_goes_on_and_a_finished_one_adds_nothing(command, standard, capsys):
    path = Path(command[command.index("--results") + 1], "standard-smoke.csv")
    whole, rows = path.read_text(), read(command)
    path.write_text("".join(whole.splitlines(keepends=True)[:-3]))
    standard.cifar10.main([*command, "--minutes", "0"])
    printed = capsys.readouterr().out
    assert "smoke-class, seed 0: FineTune" in printed
    assert "smoke-class, seed 0: Distill" in printed
    assert "smoke-random" not in printed
    standard.cifar10.main(command)
    assert read(command) == rows  # with the same seconds: nothing was run again
    standard.cifar10.main(command)
    assert read(command) == rows


def test_requests_are_a_tenth_and_a_class(standard):
    data = standard.images.draw(100)
    (_, y, forget), (X_val, _), (X_unseen, _) = standard.cifar10.rows_of("random", data, 3)
    assert forget.sum() == 10
    assert not np.array_equal(forget, standard.cifar10.rows_of("random", data, 4)[0][2])
    assert (len(X_val), len(X_unseen)) == (5, 20)  # a fifth of the test rows
    (_, y, forget), *_ = standard.cifar10.rows_of("class", data, 0)
    assert len(np.unique(y[forget])) == 1
    assert forget.sum() == np.bincount(y).max()
    equal = (np.zeros((30, 3, 2, 2)), np.arange(30) % 10), (np.zeros((5, 3, 2, 2)), np.arange(5))
    (_, y, forget), *_ = standard.cifar10.rows_of("class", equal, 13)
    np.testing.assert_array_equal(forget, y == 3)


def test_a_cap_is_a_share_of_the_epochs_of_retraining(standard):
    args = standard.cifar10.options(["--smoke", "--epochs", "40"])
    net = standard.cifar10.network(args)
    for name in standard.cifar10.METHODS:
        wanted = standard.cifar10.trials(name, args, net)
        if name == "SSD":
            assert list(wanted) == [("SSD", "")]
            continue
        epochs = {key: each.max_epochs for key, (each, _) in wanted.items()}
        assert epochs == {(name, "5%"): 2, (name, "10%"): 4}


def test_resnet_18_is_that_of_cifar(standard):
    module = standard.resnet.ResNet(10)
    assert sum(p.numel() for p in module.parameters()) == 11_173_962
    convolutions = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
    shapes = []
    module.body[-2].register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(2, 512, 4, 4)]


def test_half_precision_computes_in_it_and_returns_floats(standard):
    torch.manual_seed(0)
    module = standard.resnet.ResNet(10, widths=(8, 16), n_blocks=1, precision="bf16").eval()
    kinds = []
    module.body[0].register_forward_hook(lambda *args: kinds.append(args[2].dtype))
    module.head.register_forward_pre_hook(lambda _, args: kinds.append(args[0].dtype))
    X = torch.randint(256, (4, 3, 16, 16)).float()
    output = module(X)
    assert kinds == [torch.bfloat16, torch.float32]
    assert output.dtype == torch.float32
    module.precision = "float32"
    torch.testing.assert_close(output, module(X), rtol=0.1, atol=0.1)


def bytes_of(n):
    return np.random.default_rng(0).integers(256, size=(n, 3, 16, 16), dtype=np.uint8)


def some_rows(X, which):
    return Rows(Dataset(X), torch.as_tensor(which) % 5, np.asarray(which), torch.float32)


@pytest.mark.parametrize("kind", ["plain", "joined", "marked", "numbered"])
@pytest.mark.parametrize("drop_last", [True, False])
def test_whole_batches_are_those_of_a_data_loader(standard, kind, drop_last):
    X = bytes_of(20)
    first, second = some_rows(X, [3, 1, 4, 19, 5]), some_rows(X, [9, 2, 6])
    rows = {
        "plain": first,
        "joined": JoinedRows(first, second),
        "marked": MarkedRows(first, second),
        "numbered": NumberedRows(first),
    }[kind]
    found, expected = (
        list(
            batches(
                SimpleNamespace(
                    batch_size=3,
                    module_=torch.nn.Identity(),
                    get_iterator=lambda rows, training, loader=loader: loader(
                        rows, batch_size=3, drop_last=drop_last
                    ),
                ),
                rows,
            )
        )
        for loader in (standard.batches.DeviceBatches, DataLoader)
    )
    assert len(found) == len(expected) == len(rows) // 3 + (not drop_last)
    for (X_found, y_found), (X_expected, y_expected) in zip(found, expected):
        torch.testing.assert_close(X_found, X_expected, rtol=0, atol=0)
        torch.testing.assert_close(y_found, y_expected, rtol=0, atol=0)


def test_marks_are_those_of_the_batch(standard):
    rows = NumberedRows(some_rows(bytes_of(20), [3, 1, 4, 19, 5]))
    loader = standard.batches.DeviceBatches(rows, batch_size=2, shuffle=True)
    for (X, y), marks in loader:
        expected_X, expected_y = rows.parts[0].batch(marks.tolist())
        torch.testing.assert_close(X, expected_X, rtol=0, atol=0)
        torch.testing.assert_close(y, expected_y, rtol=0, atol=0)


def test_shuffled_batches_hold_each_row_once(standard):
    rows = some_rows(bytes_of(50), np.arange(50)).relabel(torch.arange(50))
    loader = standard.batches.DeviceBatches(rows, batch_size=8, shuffle=True)
    orders = [torch.cat([y for _, y in loader]) for _ in range(2)]
    assert all(order.sort().values.equal(torch.arange(50)) for order in orders)
    assert not orders[0].equal(orders[1])
    seeded = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(0)
        again = standard.batches.DeviceBatches(
            rows, batch_size=8, shuffle=True, generator=generator
        )
        seeded.append(torch.cat([y for _, y in again]))
    assert seeded[0].equal(seeded[1])


def test_other_rows_are_loaded_as_torch_does(standard):
    rows = TensorDataset(torch.arange(6.0), torch.arange(6))
    loader = standard.batches.DeviceBatches(rows, batch_size=4)
    assert [y.tolist() for _, y in loader] == [[0, 1, 2, 3], [4, 5]]
    with pytest.raises(ValueError, match=r"augment=True needs rows of one array.*TensorDataset"):
        iter(standard.batches.DeviceBatches(rows, augment=True))
    rows = some_rows(bytes_of(6), np.arange(6))
    sampler = WeightedRandomSampler([0, 0, 1.0, 0, 0, 0], 3)
    loader = standard.batches.DeviceBatches(rows, batch_size=3, sampler=sampler)
    assert [y.tolist() for _, y in loader] == [[2, 2, 2]]


def test_images_are_shifted_and_mirrored_as_by_hand(standard):
    X = torch.as_tensor(bytes_of(3))
    found = standard.batches.moved(
        X, torch.tensor([4, 6, 0]), torch.tensor([4, 3, 8]), torch.tensor([0, 0, 1])
    )
    assert found.dtype == torch.uint8
    torch.testing.assert_close(found[0], X[0], rtol=0, atol=0)
    down_left = torch.zeros_like(X[1])
    down_left[:, 2:, :-1] = X[1, :, :-2, 1:]
    torch.testing.assert_close(found[1], down_left, rtol=0, atol=0)
    up_right = torch.zeros_like(X[2])
    up_right[:, :-4, 4:] = X[2, :, 4:, :-4]
    torch.testing.assert_close(found[2], up_right.flip(-1), rtol=0, atol=0)


def test_augmented_batches_vary_and_predicted_ones_do_not(standard):
    rows = some_rows(bytes_of(8), np.arange(8))
    loader = standard.batches.DeviceBatches(rows, batch_size=8, augment=True)
    (first, y), (second, _) = next(iter(loader)), next(iter(loader))
    assert y.equal(rows.y)
    assert not first.equal(second)
    args = standard.cifar10.options(FEW)
    net = standard.cifar10.network(args).set_params(module__n_classes=10).initialize()
    torch.testing.assert_close(
        next(iter(net.get_iterator(rows)))[0], rows.batch()[0], rtol=0, atol=0
    )


def test_a_copy_on_a_device_is_kept_as_long_as_the_array(standard):
    kept, array = standard.batches._Kept(), bytes_of(2)
    copy = kept.on("meta", array)
    assert copy.device.type == "meta"
    assert kept.on("meta", array) is copy
    assert len(kept.copies) == 1
    del array
    assert not kept.copies


def jpegs(n):
    from PIL import Image

    files = []
    for level in range(n):
        file = BytesIO()
        Image.fromarray(np.full((32, 32, 3), (level, 100, 200), dtype=np.uint8)).save(
            file, "JPEG", quality=95
        )
        files.append(np.frombuffer(file.getvalue(), dtype=np.uint8))
    return np.concatenate(files), np.cumsum([0, *map(len, files)])


@pytest.fixture
def npz(tmp_path):
    pytest.importorskip("PIL")
    arrays = {}
    for part, n in (("train", 4), ("test", 2)):
        arrays[f"{part}_jpeg"], arrays[f"{part}_offset"] = jpegs(n)
        arrays[f"{part}_label"] = np.arange(n, dtype=np.uint8)
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path / "images.npz"


def test_jpeg_files_are_decoded_once(standard, npz, tmp_path, monkeypatch):
    (X, y), (X_test, _) = standard.images.read(npz, tmp_path / "cache")
    assert X.dtype == np.uint8
    assert (X.shape, X_test.shape) == ((4, 3, 32, 32), (2, 3, 32, 32))
    assert y.dtype == np.int64
    assert y.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(X[:, :, 5, 5], [[i, 100, 200] for i in range(4)], atol=3)
    monkeypatch.setitem(sys.modules, "PIL", None)
    (again, _), _ = standard.images.read(npz, tmp_path / "cache")
    np.testing.assert_array_equal(again, X)


def test_without_pillow_the_error_says_what_to_install(standard, npz, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        standard.images.read(npz, tmp_path / "cache")


def test_batches_of_torchvision_are_read(standard, tmp_path):
    X = np.random.default_rng(0).integers(256, size=(12, 3072), dtype=np.uint8)
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        part = {b"data": X[2 * i : 2 * i + 2], b"labels": [i, i + 1]}
        (tmp_path / name).write_bytes(pickle.dumps(part))
    (train, y), (test, y_test) = standard.images.read(tmp_path, tmp_path)
    np.testing.assert_array_equal(train, X[:10].reshape(10, 3, 32, 32))
    np.testing.assert_array_equal(test, X[10:].reshape(2, 3, 32, 32))
    assert y.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert y_test.tolist() == [5, 6]
    (tmp_path / "data_batch_2").unlink()
    with pytest.raises(ValueError, match=r"has no \['data_batch_2'\]"):
        standard.images.read(tmp_path, tmp_path)


def test_data_that_is_missing_is_refused(standard, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"nothing\.npz is not there"):
        standard.images.read(tmp_path / "nothing.npz", tmp_path)
    with pytest.raises(SystemExit):
        standard.cifar10.options([])
    assert "--data is missing" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_method_runs(standard, tmp_path, precision):
    command = [*FEW, "--results", str(tmp_path), "--precision", precision]
    standard.cifar10.main(command)
    rows = read(command)
    assert len(rows) == 2 * (len(REFERENCES) + 2 * len(standard.cifar10.METHODS) - 1)
    assert {row["error"] for row in rows} == {""}
    assert {row["precision"] for row in rows} == {precision}
    assert all(row["utility"] for row in rows)
