"""The record of requests: what it knows, what it refuses, and that nothing is lost."""

import copy
import hashlib
import hmac
import html
import json
import math
import os
import pickle
import re
import subprocess
import sys
import time
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import Dataset, TensorDataset

from skunlearn import SISA, FineTune, NegGrad, Retrain
from skunlearn.evaluation import RequestLog, requests
from skunlearn.evaluation._drift import RETRAIN_AFTER, due_reasons
from skunlearn.evaluation._request_run import RequestRun
from skunlearn.evaluation._returns import Forgotten, described_rows, row_digests
from skunlearn.evaluation._states import month_after
from tests.networks import make_net

ROOT = Path(__file__).parents[2]

# Of one epoch on few rows, the method may say that it has changed little.
pytestmark = pytest.mark.filterwarnings("ignore:.* has changed almost nothing:UserWarning")

KEY = bytes(range(32))

QUICK = {"n_resamples": 2, "n_splits": 1}

rng = np.random.default_rng(0)
ALL = rng.normal(size=(160, 4)).astype(np.float32)
LABELS = np.where(ALL[:, 0] > 0, "yes", "no")
X, Y, X_UNSEEN, Y_UNSEEN = ALL[:120], LABELS[:120], ALL[120:], LABELS[120:]
UNSEEN = {"X_unseen": X_UNSEEN, "y_unseen": Y_UNSEEN}


def marked(*numbers):
    return np.isin(np.arange(len(X)), numbers)


@pytest.fixture
def unlearner():
    return FineTune(make_net(max_epochs=3), max_epochs=1, lr=0.01, random_state=0).fit(X, Y)


@pytest.fixture
def log(tmp_path):
    return RequestLog(tmp_path / "requests.jsonl", key=KEY)


def ask(log, unlearner, numbers, request, rows=X, labels=Y, **params):
    return log.unlearn(
        unlearner,
        rows,
        labels,
        **{
            "forget": numbers if isinstance(numbers, np.ndarray) else marked(*numbers),
            "request": request,
            **UNSEEN,
            **QUICK,
            **params,
        },
    )


def weights(unlearner):
    return [p.detach().clone() for p in unlearner.estimator_.module_.parameters()]


def equal(a, b):
    return all(map(torch.equal, a, b))


def lines(log):
    return log.path.read_bytes().splitlines()


def test_a_request_is_unlearned_measured_and_noted(log, unlearner):
    before = weights(unlearner)
    report = ask(log, unlearner, [3, 7, 8], "2026-001", received="2026-11-02")
    assert not equal(before, weights(unlearner))
    assert [json.loads(line)["event"] for line in lines(log)] == [
        "log begun",
        "began",
        "unlearned",
        "done",
    ]
    (record,) = log.records
    assert record["state"] == "done"
    assert (record["received"], record["due"]) == ("2026-11-02", "2026-12-02")
    assert record["rows"] == 3
    assert record["method"] == "skunlearn.methods.finetune.FineTune"
    # One epoch of 117 rows, in units of three epochs.
    assert record["cost"] == pytest.approx(1 / 3)
    assert record["metrics"]["utility"] == list(report.metrics["utility"]["unlearned"])
    filed = (log.path.parent / record["report"]).read_text()
    assert filed == report.to_json()
    assert (log.reports / "0002.html").read_text() == report.to_html()
    assert report.networks["original"] == "skunlearn.methods.finetune.FineTune"
    assert log.table().request.tolist() == ["2026-001"]
    # Whoever has the rows and the key can check that the report and the log mean the same.
    assert report.rows["forget"]["each"] == json.loads(lines(log)[1])["rows"]
    assert record["criteria"] == {"met": 0, "not met": 0, "cannot be told": 4}


def test_lines_are_chained_as_the_docstring_says(log, unlearner):
    ask(log, unlearner, [1, 2], "a")
    previous = None
    for number, line in enumerate(lines(log), 1):
        body, tail = line.rsplit(b', "digest": "', 1)
        assert tail[:-2].decode() == hmac.new(KEY, body, "sha256").hexdigest()
        entry = json.loads(line)
        assert entry["entry"] == number
        assert entry["previous"] == previous
        previous = hashlib.sha256(line).hexdigest()
    assert log.verify() == previous
    assert log.verify(noted=json.loads(lines(log)[1])["previous"]) == previous


def test_row_digests_are_keyed_ones_of_the_canonical_bytes(log, unlearner):
    ask(log, unlearner, [5, 6], "a")
    began = json.loads(lines(log)[1])
    content = X[5].astype(float).tobytes()
    digest = hmac.new(KEY, f"(4,) True {len(content)}\n".encode() + content, "sha256").hexdigest()
    assert began["rows"][0] == digest


@pytest.mark.parametrize("change", ["edit", "remove", "swap", "insert", "last", "cut"])
def test_a_change_is_noticed(log, unlearner, change):
    ask(log, unlearner, [1, 2], "a")
    noted = log.verify()
    log.receive("b")
    content = lines(log)
    if change == "edit":
        content[1] = content[1].replace(b'"n_rows": 2', b'"n_rows": 1')
    elif change == "remove":
        del content[2]
    elif change == "swap":
        content[2], content[3] = content[3], content[2]
    elif change == "insert":
        content.insert(3, content[2])
    elif change == "last":
        content[-1] = content[-1].replace(b'"b"', b'"c"')
    else:
        del content[2:]  # the report is there, and its request began: told by what was noted
    log.path.write_bytes(b"\n".join(content) + b"\n")
    with pytest.raises(ValueError, match=r"entry \d|digest that was noted|is of an entry"):
        log.verify(noted=noted)
    assert "not as it was written" in log.to_html() or change == "cut"
    if change != "cut":
        before = log.path.read_bytes()
        with pytest.raises(ValueError, match="nothing was appended"):
            log.receive("d")
        assert log.path.read_bytes() == before


def test_a_whole_chain_written_without_the_key_is_noticed(log, tmp_path):
    log.receive("a")
    other = RequestLog(tmp_path / "other.jsonl", key=b"another key of 16 bytes")
    other.receive("b")
    log.path.write_bytes(other.path.read_bytes())
    with pytest.raises(ValueError, match="entry 1 of"):
        log.verify()
    with pytest.raises(ValueError, match=r"key must be the one that .* was begun with"):
        RequestLog(log.path, key=KEY)


def test_a_report_that_is_changed_or_missing_or_unknown_is_noticed(log, unlearner):
    ask(log, unlearner, [1, 2], "a")
    path = log.reports / "0002.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"FineTune', b'"Retrain').replace(b"0.0", b"0.1"))
    with pytest.raises(ValueError, match=r"report .*0002.json is not as it was written"):
        log.verify()
    path.unlink()
    with pytest.raises(ValueError, match=r"report .*0002.json is missing"):
        log.verify()
    path.write_bytes(content)
    log.verify()
    (log.reports / "0009.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"report .*0009.json is of an entry that is missing"):
        log.verify()


# -- rows that come back ---------------------------------------------------------------------------


def test_a_forgotten_row_that_comes_back_is_refused_with_its_number_and_request(log, unlearner):
    ask(log, unlearner, [3, 7], "first")
    ask(log, unlearner, marked(3, 7, 20), "second")  # marked again, and so no return
    before, size = weights(unlearner), log.path.stat().st_size
    with pytest.raises(ValueError, match=r"3 rows .*: 3 and 7 by 'first'; 20 by 'second'\. An unm"):
        ask(log, unlearner, [40, 41], "third")
    assert equal(before, weights(unlearner))
    assert log.path.stat().st_size == size  # it never began
    assert log.returned(X) == [(3, "first"), (7, "first"), (20, "second")]
    assert log.returned(X, forget=marked(3, 20)) == [(7, "first")]


def shuffled(rows, labels):
    order = np.random.default_rng(1).permutation(len(rows))
    return rows[order], labels[order]


@pytest.mark.parametrize(
    "held",
    [
        lambda rows: rows.astype(np.float64),
        lambda rows: torch.as_tensor(rows),
        lambda rows: pd.DataFrame(rows),
        lambda rows: rows.tolist(),
        lambda rows: TensorDataset(torch.as_tensor(rows), torch.zeros(len(rows))),
        lambda rows: rows[::-1],
    ],
)
def test_rows_are_known_whatever_holds_them(log, unlearner, held):
    ask(log, unlearner, [3, 7], "first")
    found = log.returned(held(X))
    assert Counter(request for _, request in found) == {"first": 2}


def test_rows_are_known_in_single_and_double_precision(log, unlearner):
    double = np.random.default_rng(5).normal(size=X.shape)
    ask(log, unlearner, [3, 7], "first", rows=double)
    assert log.returned(double.astype(np.float32)) == [(3, "first"), (7, "first")]
    # The other way: what single precision forgot comes back as it was before it was rounded.
    single = np.random.default_rng(6).normal(size=X.shape)
    ask(log, unlearner, [5, 6], "second", rows=single.astype(np.float32))
    assert log.returned(single) == [(5, "second"), (6, "second")]
    # Rows that only single precision takes for equal are others.
    near = double.copy()
    near[3] *= 1 + 1e-12
    assert log.returned(near) == [(7, "first")]


def test_integers_are_told_apart_however_large(log):
    big = 2**53
    rows = np.random.default_rng(7).integers(0, 9, size=X.shape)
    rows[:, 0] += np.arange(120) + big
    digests = [digest for digest, _, _ in row_digests(KEY, rows)]
    assert len(set(digests)) == 120
    forgotten = Forgotten([])
    forgotten.add({"request": "a", **described_rows(row_digests(KEY, rows), marked(4), forgotten)})
    for held in (rows, torch.as_tensor(rows), rows.astype(np.uint64), pd.DataFrame(rows)):
        found = forgotten.returned(row_digests(KEY, held), marked())
        assert found == [(4, "a")]
    # In float32, where they are equal, a row may be the forgotten one.
    found = forgotten.returned(row_digests(KEY, rows[[4]].astype(np.float32)), np.array([False]))
    assert found == [(0, "a")]
    # What was forgotten in float32 is known as the integers that it was before.
    forgotten = Forgotten([])
    single = row_digests(KEY, rows.astype(np.float32))
    forgotten.add({"request": "a", **described_rows(single, marked(4), forgotten)})
    assert (4, "a") in forgotten.returned(row_digests(KEY, rows), marked())


def test_other_labels_do_not_hide_a_row(log, unlearner):
    ask(log, unlearner, [3, 7], "first")
    with pytest.raises(ValueError, match="3 and 7 by 'first'"):
        ask(log, unlearner, [40, 41], "second", labels=np.where(Y == "yes", "no", "yes"))


def test_equal_rows_that_were_retained_may_stay_but_no_more_of_them(log, unlearner):
    rows = X.copy()
    rows[50] = rows[60] = rows[3]
    with pytest.warns(UserWarning, match="1 of the rows to forget are equal to rows"):
        ask(log, unlearner, [3, 7], "first", rows=rows)
    left, labels = np.delete(rows, [3, 7], axis=0), np.delete(Y, [3, 7])
    assert log.returned(left) == []
    assert [i for i, _ in log.returned(rows, forget=marked(7))] == [60]
    ask(log, unlearner, np.arange(118) == 30, "second", rows=left, labels=labels)
    # Whoever they are of asks as well: from then on none may be there.
    twins = (left == rows[3]).all(axis=1)
    twins[30] = True
    ask(log, unlearner, twins, "third", rows=left, labels=labels)
    assert len(log.returned(left)) == 3


def test_rows_that_come_back_are_warned_of_or_marked(log, unlearner):
    ask(log, unlearner, [3, 7], "first")
    with pytest.warns(UserWarning, match="2 rows that were forgotten.* 3 and 7 by 'first'"):
        report = ask(log, unlearner, [20, 21], "second", on_return="warn")
    assert report.rows["forget"]["count"] == 2
    report = ask(log, unlearner, [40, 41], "third", on_return="mark")
    assert report.rows["forget"]["count"] == 6
    record = log.records[-1]
    assert (record["rows"], record["marked_again"]) == (2, 4)
    assert (record["drift"]["forgotten_rows"], record["drift"]["measured_rows"]) == (6, 6)
    with pytest.raises(ValueError, match="on_return must be"):
        ask(log, unlearner, [40, 41], "fourth", on_return="ignore")


@pytest.mark.parametrize("name", ["X_val", "X_unseen"])
def test_forgotten_rows_are_refused_as_held_out_rows(log, unlearner, name):
    ask(log, unlearner, [3, 7], "first")
    rows, labels = np.delete(X, [3, 7], axis=0), np.delete(Y, [3, 7])
    held_out = {name: X[[7, 8]], f"y{name[1:]}": Y[[7, 8]]}
    with pytest.raises(ValueError, match=f"{name} has 1 row that was forgotten: 0 by 'first'"):
        ask(log, unlearner, np.arange(118) < 2, "second", rows=rows, labels=labels, **held_out)


@pytest.mark.parametrize("name", ["X_val", "X_unseen"])
def test_rows_to_forget_are_refused_as_held_out_rows(log, unlearner, name):
    before, size = weights(unlearner), log.path.stat().st_size
    held_out = {name: X[[8, 3]], f"y{name[1:]}": Y[[8, 3]]}
    with pytest.raises(ValueError, match=f"{name} has 1 row that .* forgotten: 1 by 'a'"):
        ask(log, unlearner, [3, 7], "a", **held_out)
    assert equal(before, weights(unlearner))
    assert log.path.stat().st_size == size


def test_held_out_rows_may_equal_rows_that_stay(log, unlearner):
    rows = X.copy()
    rows[50] = rows[3]
    with pytest.warns(UserWarning, match="1 of the rows to forget are equal to rows"):
        ask(log, unlearner, [3], "a", rows=rows, X_val=rows[[50, 60]], y_val=Y[[50, 60]])


def test_rows_that_differ_at_each_reading_are_told(tmp_path):
    class Noisy(Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return torch.as_tensor(X[i]) + torch.randn(4), int(Y[i] == "yes")

    codes = (Y == "yes").astype(int)
    model = FineTune(make_net(max_epochs=1), random_state=0).fit(X, codes)
    log = RequestLog(tmp_path / "requests.jsonl", key=KEY, retrain_after={})
    unseen = {"X_unseen": X_UNSEEN, "y_unseen": (Y_UNSEEN == "yes").astype(int)}
    with pytest.warns(UserWarning, match="row 3 of X is another each time"):
        ask(log, model, [3, 4], "a", rows=Noisy(), labels=None, **unseen)


# -- runs that do not end --------------------------------------------------------------------------


def test_a_failed_run_leaves_the_unlearner_and_is_noted_without_the_message(log, unlearner):
    before = weights(unlearner)
    unlearner.set_params(lr=-1.0)
    with pytest.raises(ValueError, match="lr"):
        ask(log, unlearner, [3, 7], "first")
    assert equal(before, weights(unlearner))
    (record,) = log.records
    assert (record["state"], record["reason"]) == ("failed", "ValueError while unlearning")
    assert log.returned(X) == []  # nothing is forgotten yet
    unlearner.set_params(lr=0.01)
    with pytest.raises(ValueError, match="must mark the rows that request 'first' began with; 1"):
        ask(log, unlearner, [3, 8], "first")
    ask(log, unlearner, [3, 7, 8], "first")
    (record,) = log.records
    assert (record["state"], record["rows"]) == ("done", 3)
    with pytest.raises(ValueError, match="request must be new or open; got 'first', which is done"):
        ask(log, unlearner, [3, 7, 8], "first")


def test_what_fails_after_unlearning_says_so(log, unlearner, monkeypatch):
    before = weights(unlearner)

    def fail(*args, **kwargs):
        raise ValueError("no report")

    monkeypatch.setattr("skunlearn.evaluation._request_run.unlearning_report", fail)
    with (
        pytest.warns(UserWarning, match="measuring has failed. The unlearner has unlearned"),
        pytest.raises(ValueError, match="no report"),
    ):
        ask(log, unlearner, [3, 7], "first")
    assert not equal(before, weights(unlearner))
    assert log.records[0]["state"] == "not measured"
    assert log.returned(X) == [(3, "first"), (7, "first")]
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"began and were not done: \['first'\]"):
        RequestLog(log.path, key=KEY)
    ask(log, unlearner, [3, 7], "first")
    assert log.records[0]["state"] == "done"


def test_a_request_is_done_only_when_the_network_is_saved(log, unlearner, tmp_path):
    path, seen = tmp_path / "model.pickle", []

    def save(unlearner):
        seen.append(log.records[0]["state"])
        path.write_bytes(pickle.dumps(unlearner))

    ask(log, unlearner, [3, 7], "first", save=save)
    assert seen == ["unfinished"]
    assert equal(weights(pickle.loads(path.read_bytes())), weights(unlearner))

    def fail(unlearner):
        raise OSError("no space")

    with (
        pytest.warns(UserWarning, match="saving has failed. The unlearner has unlearned"),
        pytest.raises(OSError, match="no space"),
    ):
        ask(log, unlearner, marked(3, 7, 20, 21), "second", save=fail)
    assert log.records[1]["state"] == "failed"


def test_bad_arguments_are_refused_before_anything_happens(log, unlearner):
    before, size = weights(unlearner), log.path.stat().st_size
    for params, message in (
        ({"forget": np.zeros(120, bool)}, "forget must mark at least one row"),
        ({"forget": [1, 2]}, "forget must be a boolean mask"),
        ({"request": ""}, "request must be a name"),
        ({"request": 7}, "request must be a name"),
        ({"y_unseen": None}, "y_unseen must be given"),
        ({"received": "soon"}, "received must be a date"),
        ({"received": "2999-01-01"}, "received must not be in the future"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(log, unlearner, [3], params.pop("request", "a"), **params)
    with pytest.raises(TypeError, match="n_resample"):
        ask(log, unlearner, [3, 4], "a", n_resample=3)
    with pytest.raises(NotFittedError):
        ask(log, FineTune(make_net(), random_state=0), [3, 4], "a")
    with pytest.raises(ValueError, match="unlearner must be an unlearner, or a pipeline"):
        ask(log, DecisionTreeClassifier().fit(X, Y), [3, 4], "a")
    assert equal(before, weights(unlearner))
    assert log.path.stat().st_size == size


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_truncated_last_line_is_set_aside_and_told(log, unlearner, cut):
    ask(log, unlearner, [3, 7], "first")
    whole = log.path.read_bytes()
    log.receive("second")
    written = log.path.read_bytes()
    log.path.write_bytes(written[:-cut])
    if cut == 1:  # nothing but the end of the line is missing, and the entry is whole
        assert [r["request"] for r in RequestLog(log.path, key=KEY).records] == ["first", "second"]
        assert log.path.read_bytes() == written
        return
    with pytest.warns(UserWarning, match="bytes of an entry whose writing was interrupted"):
        log = RequestLog(log.path, key=KEY)
    assert log.path.read_bytes() == whole
    log.verify()
    aside = log.path.with_name("requests.jsonl.interrupted").read_bytes()
    assert aside == written[len(whole) : -cut] + b"\n"
    log.receive("second")
    log.verify()


def test_two_processes_do_not_unlearn_at_once(log, unlearner):
    before = weights(unlearner)
    with FileLock(f"{log.path}.run.lock"):
        with pytest.raises(RuntimeError, match=r"another process is unlearning .* 'a' has"):
            ask(log, unlearner, [3, 7], "a")
        log.receive("b")  # which does not have to wait for hours
        RequestLog(log.path, key=KEY)
    assert equal(before, weights(unlearner))
    ask(log, unlearner, [3, 7], "a")
    assert [r["request"] for r in log.records] == ["b", "a"]


def test_entries_of_two_processes_wait_for_each_other(log, monkeypatch):
    monkeypatch.setattr("skunlearn._engine.chain.WAIT", 0.1)
    with FileLock(f"{log.path}.lock"), pytest.raises(OSError, match="in use by another process"):
        log.receive("a")
    log.receive("a")


FULL = """
import resource, sys, pickle
from pathlib import Path
import numpy as np
from tests.evaluation.test_requests import KEY, RequestLog, ask, marked, weights, equal, unlearner
from skunlearn import FineTune
from tests.evaluation import test_requests as t
folder = Path(sys.argv[1])
model = FineTune(t.make_net(max_epochs=1), max_epochs=1, lr=0.01, random_state=0).fit(t.X, t.Y)
log = RequestLog(folder / "requests.jsonl", key=KEY)
before, whole = weights(model), log.path.read_bytes()
for room, unlearned in ((100, False), (%d, True)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, resource.RLIM_INFINITY))
    try:
        ask(log, model, [3, 7], "a")
    except OSError as error:
        assert ("The unlearner has unlearned" in str(error)) == unlearned, str(error)
        assert ("Nothing was unlearned" in str(error)) != unlearned, str(error)
        assert "File too large" in str(error)
    else:
        raise AssertionError(room)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert equal(before, weights(model)) != unlearned
    log.verify()
assert log.path.read_bytes().startswith(whole)
assert log.path.read_bytes().endswith(b"}\\n")
ask(log, model, [3, 7], "a")
assert log.records[0]["state"] == "done"
print("done")
"""


def test_a_full_disk_loses_nothing_and_says_what_was_unlearned(tmp_path):
    if sys.platform == "win32":
        pytest.skip("the size of a file is limited as POSIX has it")
    # The limit falls into the entry that says that the request began, and then into a later one.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL % 1100, tmp_path],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "done\n", done.stderr


def test_a_folder_that_cannot_be_written_to(log, unlearner, monkeypatch):
    ask(log, unlearner, [3, 7], "first")
    before, held = weights(unlearner), log.path.read_bytes()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)  # which makes the first file
    with pytest.raises(PermissionError, match=r"requests.jsonl or its .* \(Permission denied\)"):
        ask(log, unlearner, marked(3, 7, 20, 21), "second")
    with pytest.raises(PermissionError, match=r"cannot be written"):
        log.receive("third")
    assert equal(before, weights(unlearner))
    assert log.path.read_bytes() == held
    log = RequestLog(log.path, key=KEY)  # to read it
    log.verify()
    assert len(log.table()) == 1


@pytest.mark.parametrize("n_kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_process_loses_nothing(tmp_path, n_kills):
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked")
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.killed_runs", tmp_path, str(n_kills), "0"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == sum(found["states"].values()) == n_kills


# -- what others have written ----------------------------------------------------------------------


def fails(*args, **kwargs):
    raise ValueError("no report")


def leave_unmeasured(log, unlearner, numbers, monkeypatch):
    """A request 'R' that unlearned, and whose report failed."""
    with monkeypatch.context() as patch:
        patch.setattr("skunlearn.evaluation._request_run.unlearning_report", fails)
        with (
            pytest.warns(UserWarning, match="measuring has failed"),
            pytest.raises(ValueError, match="no report"),
        ):
            ask(log, unlearner, numbers, "R", save=lambda unlearner: None)


@pytest.mark.parametrize("ends", ["killed", "fails"])
def test_a_second_run_that_ends_early_takes_nothing_back(log, unlearner, monkeypatch, ends):
    leave_unmeasured(log, unlearner, [7], monkeypatch)
    assert log.returned(X) == [(7, "R")]
    kind = KeyboardInterrupt if ends == "killed" else RuntimeError

    def end(*args, **kwargs):
        raise kind

    with monkeypatch.context() as patch:
        patch.setattr(unlearner, "unlearn", end)
        if ends == "killed":
            patch.setattr(RequestRun, "_note_failure", lambda *args: None)
        with pytest.raises(kind):
            ask(log, unlearner, [7, 8], "R")
    assert log.records[0]["state"] == ("unfinished" if ends == "killed" else "not measured")
    assert log.returned(X) == [(7, "R")]  # row 8 is not forgotten yet
    with pytest.raises(ValueError, match="7 by 'R'"):
        ask(log, unlearner, [20], "other")
    ask(log, unlearner, [7, 8], "R")
    (record,) = log.records
    assert (record["rows"], record["marked_again"]) == (2, 0)
    assert (record["drift"]["forgotten_rows"], record["drift"]["measured_rows"]) == (2, 2)
    began = [entry for entry in map(json.loads, lines(log)) if entry["event"] == "began"]
    assert [len(entry["rows"]) for entry in began] == [1, 2, 2]
    assert log.returned(X) == [(7, "R"), (8, "R")]


def test_only_a_request_that_is_closed_as_not_forgotten_gives_its_rows_back(
    log, unlearner, monkeypatch
):
    leave_unmeasured(log, unlearner, [7], monkeypatch)
    log.close("R", forgotten=False, reason="the network from before was restored")
    assert log.returned(X) == []


@pytest.mark.parametrize("kind", ["json", "html"])
def test_each_file_of_a_report_has_a_digest(log, unlearner, kind):
    ask(log, unlearner, [1, 2], "a")
    path = log.reports / f"0002.{kind}"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"FineTune", b"Retrain"))
    with pytest.raises(ValueError, match=rf"report .*0002.{kind} is not as it was written"):
        log.verify()
    assert "not as it was written" in log.to_html()
    path.unlink()
    with pytest.raises(ValueError, match=rf"report .*0002.{kind} is missing"):
        log.verify()
    path.write_bytes(content)
    for name in ("0002 copy.json", "notes.html", "0002.txt"):  # which are no reports of the log
        (log.reports / name).write_bytes(content)
    log.verify()
    (log.reports / f"0009.{kind}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"report .*0009.{kind} is of an entry that is missing"):
        log.verify()


def test_logs_of_one_name_have_folders_of_their_own(tmp_path, unlearner):
    log = RequestLog(tmp_path / "requests.jsonl", key=KEY)
    ask(log, unlearner, [3], "a")
    filed = (log.reports / "0002.json").read_bytes()
    log.path.rename(tmp_path / "requests-2026.jsonl")
    new = RequestLog(tmp_path / "requests.jsonl", key=KEY)
    same_stem = RequestLog(tmp_path / "requests.log", key=KEY)
    for each in (new, same_stem):
        ask(each, unlearner, [3], "b")
    old = RequestLog(tmp_path / "requests-2026.jsonl", key=KEY)
    assert [each.reports.name for each in (old, new, same_stem)] == [
        "requests-reports",
        "requests-2-reports",
        "requests-3-reports",
    ]
    assert (old.reports / "0002.json").read_bytes() == filed
    for each in (old, new, same_stem):
        each.verify()
        assert RequestLog(each.path, key=KEY).reports == each.reports


def test_a_report_is_not_overwritten(log, unlearner):
    before = weights(unlearner)
    copy = log.path.with_name("copy.jsonl")
    copy.write_bytes(log.path.read_bytes())
    ask(RequestLog(copy, key=KEY), unlearner, [3], "a")
    after, filed = weights(unlearner), (log.reports / "0002.html").read_bytes()
    assert not equal(before, after)
    with pytest.raises(ValueError, match=r"0002.json must not be there yet.* Nothing was unlearn"):
        ask(log, unlearner, [3], "b")
    assert equal(after, weights(unlearner))
    assert (log.reports / "0002.html").read_bytes() == filed


def test_a_report_that_appears_meanwhile_is_not_overwritten(log, unlearner):
    def save(unlearner):
        (log.reports / "0002.json").write_text("of another log")

    with pytest.raises(FileExistsError, match="The unlearner has unlearned"):
        ask(log, unlearner, [3], "a", save=save)
    assert (log.reports / "0002.json").read_text() == "of another log"
    ask(log, unlearner, [3], "a")
    assert log.records[0]["report"] == "requests-reports/0005.json"


def test_a_damaged_line_is_told_and_not_skipped(log, unlearner):
    ask(log, unlearner, [7], "a")
    log.receive("b")
    content = lines(log)
    content[1] = b"garbage"
    log.path.write_bytes(b"\n".join(content) + b"\n")
    for opened in (log, RequestLog(log.path, key=KEY), RequestLog(log.path, key=None)):
        acts = [lambda o=opened: o.records, opened.open_requests, opened.table, opened.verify]
        if opened._file.key is not None:
            acts += [
                lambda o=opened: o.returned(X),
                lambda o=opened: o.retrained(unlearner, X[:5]),
                lambda o=opened: ask(o, unlearner, [20], "c"),
            ]
        for act in acts:
            with pytest.raises(ValueError, match=r"entry 2 of .* is not as it was written"):
                act()
        assert "What follows is what the entries before it say" in opened.to_html()
    assert log.path.read_bytes() == b"\n".join(content) + b"\n"


def at_append(log, monkeypatch, act):
    """Let another process act just before this one appends."""
    append = log._file.append

    def late(*args, **kwargs):
        monkeypatch.undo()
        act(RequestLog(log.path, key=KEY))
        return append(*args, **kwargs)

    monkeypatch.setattr(log._file, "append", late)


def test_a_request_that_another_process_has_done_meanwhile_is_not_received(
    log, unlearner, monkeypatch
):
    at_append(log, monkeypatch, lambda other: ask(other, unlearner, [7], "R"))
    with pytest.raises(ValueError, match="request must be new to the log; got 'R'"):
        log.receive("R")
    assert log.records[0]["state"] == "done"
    assert log.returned(X) == [(7, "R")]


def test_a_request_that_another_process_has_done_meanwhile_is_not_closed(
    log, unlearner, monkeypatch
):
    log.receive("R")
    at_append(log, monkeypatch, lambda other: ask(other, unlearner, [7], "R"))
    with pytest.raises(ValueError, match="request must be an open one; got 'R', which is done"):
        log.close("R", forgotten=False, reason="")
    assert log.returned(X) == [(7, "R")]


def test_a_request_that_is_being_unlearned_is_not_closed(log, unlearner):
    log.receive("other")

    def save(unlearner):
        other = RequestLog(log.path, key=KEY)
        with pytest.raises(RuntimeError, match="'R' is being unlearned"):
            other.close("R", forgotten=False, reason="")
        with pytest.raises(RuntimeError, match="another process is unlearning"):
            other.forget_key()
        with pytest.raises(RuntimeError, match="another process is unlearning"):
            other.retrained(unlearner, X[:5])
        other.close("other", forgotten=False, reason="withdrawn")

    ask(log, unlearner, [7], "R", save=save)
    assert [row["state"] for row in log.records] == ["closed", "done"]


def test_rows_that_were_forgotten_meanwhile_are_no_retraining(log, unlearner, monkeypatch):
    at_append(log, monkeypatch, lambda other: other.receive("a"))  # does no harm
    log.retrained(unlearner, X)
    unlearner.set_params(lr=-1.0)
    with pytest.raises(ValueError, match="lr"):
        ask(log, unlearner, [7], "R")
    close = {"forgotten": True, "reason": "trained again"}
    at_append(log, monkeypatch, lambda other: other.close("R", **close))
    with pytest.raises(ValueError, match="1 row that was forgotten"):
        log.retrained(unlearner, X)


def test_a_request_that_is_closed_while_its_rows_are_compared_does_not_begin(
    log, unlearner, monkeypatch
):
    log.receive("R")
    before = weights(unlearner)
    at_append(log, monkeypatch, lambda other: other.close("R", forgotten=False, reason=""))
    with pytest.raises(
        ValueError, match=r"was changed by another process .* Nothing was unlearned"
    ):
        ask(log, unlearner, [7], "R")
    assert equal(before, weights(unlearner))
    at_append(log, monkeypatch, lambda other: other.receive("S"))  # does no harm
    ask(log, unlearner, [7], "T")


def test_a_log_whose_key_was_destroyed_by_another_process_takes_no_entry(log, unlearner):
    ask(log, unlearner, [7], "R")
    RequestLog(log.path, key=KEY).forget_key()
    size = log.path.stat().st_size
    for act in (
        lambda: log.receive("a"),
        lambda: log.returned(X),
        lambda: log.retrained(unlearner, X[:5]),
        lambda: ask(log, unlearner, [20], "b"),
        log.forget_key,
    ):
        with pytest.raises(ValueError, match=r"the key of .* was destroyed"):
            act()
    assert log.path.stat().st_size == size


def test_a_log_that_is_changed_while_a_request_is_unlearned(log, unlearner):
    before = weights(unlearner)

    def save(unlearner):
        log.path.write_bytes(log.path.read_bytes().replace(b"began", b"bogus"))

    with pytest.raises(ValueError, match=r"entry 2 of .* The unlearner has unlearned"):
        ask(log, unlearner, [7], "R", save=save)
    assert not equal(before, weights(unlearner))


def test_a_log_that_was_emptied_is_told(log):
    log.receive("a")
    log.path.write_bytes(b"")
    for act in (log.verify, lambda: log.records, lambda: log.receive("b")):
        with pytest.raises(ValueError, match="has no entries any more"):
            act()
    assert "has no entries any more" in log.to_html()


# -- killed while the log is begun -----------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 5, 50, -1])
def test_a_log_whose_first_entry_was_not_written_is_begun_again(tmp_path, cut):
    path, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    RequestLog(path, key=key)
    path.write_bytes(path.read_bytes()[:cut])
    if cut in (0, -1):
        log = RequestLog(path, key=key)
    else:
        with pytest.warns(UserWarning, match="were set aside|are set aside"):
            log = RequestLog(path, key=key)
    assert [json.loads(line)["event"] for line in lines(log)] == ["log begun"]
    log.receive("a")
    log.verify()
    assert len(RequestLog(path, key=key).records) == 1


def test_a_key_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    path, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            RequestLog(path, key=key)
    assert not key.exists()
    RequestLog(path, key=key)
    assert len(key.read_bytes()) == 64
    key.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"got 0 in .*{key.name}"):
        RequestLog(path, key=key)


@pytest.mark.parametrize("key", [KEY, None])
def test_what_cannot_be_set_aside_is_said_to_be_where_it_is(log, monkeypatch, key):
    log.path.write_bytes(log.path.read_bytes() + b'{"entry": 2, ')
    content = log.path.read_bytes()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.warns(UserWarning, match="13 bytes .* are left where they are"):
        RequestLog(log.path, key=key)
    assert log.path.read_bytes() == content
    assert not log.path.with_name("requests.jsonl.interrupted").exists()


def test_opening_a_log_is_not_in_the_way_of_a_run(log, unlearner, monkeypatch):
    unlearner.set_params(lr=-1.0)
    with pytest.raises(ValueError, match="lr"):
        ask(log, unlearner, [7], "R")
    names = []
    acquire = FileLock.acquire

    def noted(lock, *args, **kwargs):
        names.append(lock.lock_file.rsplit(".", 2)[1:])
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr("filelock.FileLock.acquire", noted)
    monkeypatch.setattr(RequestLog, "_tell_unfinished", lambda log, entries: log._is_in_use())
    RequestLog(log.path, key=KEY)
    # Whoever asks for the lock of a run holds the other one, for which a run waits.
    assert names == [["jsonl", "lock"], ["run", "lock"]]
    names.clear()
    with log._running("", ""):
        pass
    assert names == [["jsonl", "lock"], ["run", "lock"]]


# -- open requests, closing, drift -----------------------------------------------------------------


def test_open_requests_have_an_age(log):
    today = datetime.now(timezone.utc).date()
    log.receive("new")
    log.receive("old", received=today - timedelta(days=45))
    log.receive("middle", received=datetime.now(timezone.utc) - timedelta(days=3))
    found = log.open_requests()
    assert [row["request"] for row in found] == ["old", "middle", "new"]
    assert [row["days"] for row in found] == [45, 3, 0]
    assert [row["overdue"] for row in found] == [True, False, False]
    with pytest.raises(ValueError, match="request must be new to the log; got 'old'"):
        log.receive("old")


@pytest.mark.parametrize(
    ("day", "due"),
    [("2026-01-31", "2026-02-28"), ("2028-01-30", "2028-02-29"), ("2026-12-05", "2027-01-05")],
)
def test_a_month_is_the_calendar_s(day, due):
    assert month_after(date.fromisoformat(day)).isoformat() == due


def test_the_day_of_receipt_stays_when_the_request_is_done(log, unlearner):
    log.receive("a", received="2026-05-02")
    ask(log, unlearner, [3, 7], "a")
    assert log.records[0]["received"] == "2026-05-02"
    assert log.open_requests() == []


def test_the_day_of_receipt_is_not_set_again(log, unlearner):
    log.receive("a", received="2026-05-02")
    before = weights(unlearner)
    with pytest.raises(ValueError, match=r"got 2026-05-03, and 'a' was received on 2026-05-02"):
        ask(log, unlearner, [3, 7], "a", received="2026-05-03")
    assert equal(before, weights(unlearner))
    ask(log, unlearner, [3, 7], "a", received=date(2026, 5, 2))
    assert (log.records[0]["received"], log.records[0]["due"]) == ("2026-05-02", "2026-06-02")


def test_requests_are_closed_with_a_reason(log, unlearner):
    log.receive("mistake")
    log.close("mistake", forgotten=False, reason="withdrawn")
    assert log.records[0]["state"] == "closed"
    unlearner.set_params(lr=-1.0)
    with pytest.raises(ValueError, match="lr"):
        ask(log, unlearner, [3, 7], "a")
    log.close("a", forgotten=True, reason="trained again without them")
    assert log.records[1]["state"] == "done"
    assert log.returned(X) == [(3, "a"), (7, "a")]
    with pytest.raises(ValueError, match="open one; got 'a', which is done"):
        log.close("a", forgotten=True, reason="")
    with pytest.raises(ValueError, match="open one; got 'b', which is not in the log"):
        log.close("b", forgotten=False, reason="")
    log.receive("b")
    with pytest.raises(ValueError, match="forgotten must be False for a request that never began"):
        log.close("b", forgotten=True, reason="")
    with pytest.raises(ValueError, match="forgotten must be True or False"):
        log.close("b", forgotten=1, reason="")


def test_cost_adds_up_until_a_retraining_is_due_and_noted(tmp_path):
    log = RequestLog(tmp_path / "log.jsonl", key=KEY, retrain_after={"cost": 0.6})
    net = make_net(max_epochs=3)
    unlearner = FineTune(net, max_epochs=1, lr=0.01, random_state=0).fit(X, Y)
    ask(log, unlearner, [3, 7], "a")
    with pytest.warns(UserWarning, match="a retraining is due: requests have cost 0.67 times"):
        ask(log, unlearner, [20, 21], "b", on_return="mark")
    assert log.records[1]["retraining_due"] == ["requests have cost 0.67 times a retraining"]
    assert "A retraining is due" in log.to_html()
    with pytest.raises(ValueError, match="4 rows that were forgotten"):
        log.retrained(unlearner, X)
    left = ~marked(3, 7, 20, 21)
    unlearner = FineTune(net, max_epochs=1, lr=0.01, random_state=1).fit(X[left], Y[left])
    log.retrained(unlearner, X[left])
    ask(log, unlearner, np.arange(116) < 2, "c", rows=X[left], labels=Y[left])
    drift = log.records[2]["drift"]
    assert drift["requests"] == 1
    assert drift["cost"] == pytest.approx(1 / 3)
    assert (drift["forgotten_rows"], drift["measured_rows"]) == (6, 2)


def test_what_a_request_costs_is_not_changed_by_a_pickle(log):
    net = make_net(max_epochs=8, module__n_features_in=4, module__n_classes=2).fit(
        X, (Y == "yes").astype(int)
    )
    unlearner = FineTune(FrozenEstimator(net.set_params(classes=["no", "yes"])), max_epochs=1)
    ask(log, unlearner, [3], "a")
    ask(log, pickle.loads(pickle.dumps(unlearner)), [7], "b", on_return="mark")
    assert [row["cost"] for row in log.records] == pytest.approx([1 / 8, 1 / 8], rel=0.02)


def test_a_fall_of_accuracy_over_requests_makes_a_retraining_due(log):
    unlearner = FineTune(make_net(max_epochs=20), max_epochs=1, lr=0.01, random_state=0).fit(X, Y)
    ask(log, unlearner, [3, 7], "a")
    first = log.records[0]["drift"]["utility_at_first"]
    assert first > 0.8
    with torch.no_grad():
        unlearner.estimator_.module_.head.weight.mul_(-1)  # everything it knew is wrong now
    unlearner.set_params(lr=1e-9)
    left = ~marked(3, 7)
    with (
        pytest.warns(UserWarning, match=f"unseen rows has fallen from {first:.3f} to"),
        pytest.warns(UserWarning, match="does not have the weights that the log has noted last"),
    ):
        ask(log, unlearner, np.arange(118) < 2, "b", rows=X[left], labels=Y[left])


def test_a_fall_is_measured_from_the_first_accuracy_that_is_known(log):
    unlearner = FineTune(make_net(max_epochs=20), max_epochs=1, lr=1e-9, random_state=0).fit(X, Y)
    ask(log, unlearner, [3], "a", original=None)
    assert "not known before" in log.to_html()
    ask(log, unlearner, [4], "b", on_return="mark")
    first = log.records[1]["drift"]["utility_at_first"]
    assert first > 0.8
    with torch.no_grad():
        unlearner.estimator_.module_.head.weight.mul_(-1)
    with pytest.warns(UserWarning, match=f"unseen rows has fallen from {first:.3f} to"):
        ask(log, unlearner, [5], "c", on_return="mark", original=None)
    assert [r["drift"]["utility_at_first"] for r in log.records] == [None, first, first]


def test_a_cost_that_is_not_known_does_not_hide_the_others(tmp_path, unlearner, monkeypatch):
    log = RequestLog(tmp_path / "log.jsonl", key=KEY, retrain_after={"cost": 0.6})
    costs = iter([0.5, None, 0.2])
    monkeypatch.setattr(
        "skunlearn.evaluation._request_run.relative_cost", lambda *args: next(costs)
    )
    ask(log, unlearner, [3], "a")
    ask(log, unlearner, [4], "b", on_return="mark")
    assert log.records[1]["drift"]["cost"] == 0.5
    assert "the cost of 1 of them is not known" in log.to_html()
    message = "requests have cost 0.70 times a retraining, and 1 have a cost that is not known"
    with pytest.warns(UserWarning, match=message):
        ask(log, unlearner, [5], "c", on_return="mark")


def test_forgotten_rows_that_an_attack_finds_make_a_retraining_due(tmp_path):
    log = RequestLog(tmp_path / "log.jsonl", key=KEY, retrain_after={"attack_auc": 0.6})
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(120) < 0.5, "yes", "no")  # which can only be memorised
    net = make_net(max_epochs=200, module__hidden=64)
    unlearner = NegGrad(net, max_epochs=1, lr=1e-6, random_state=0).fit(X, labels)
    unseen = {"y_unseen": np.where(rng.random(40) < 0.5, "yes", "no")}
    with pytest.warns(UserWarning, match=r"due: the loss attack finds the 20 forgotten rows"):
        report = ask(log, unlearner, range(20), "a", labels=labels, **unseen)
    auc = report.metrics["loss_attack_auc"]["unlearned"]
    assert auc.low > 0.6
    drift = log.records[0]["drift"]
    assert (drift["attack"], drift["attack_auc"]) == ("loss_attack_auc", list(auc))
    assert drift["js_distance"] is None


def test_what_makes_a_retraining_due():
    drift = {
        "requests": 3,
        "measured_rows": 9,
        "utility_at_first": 0.9,
        "utility": [0.8, 0.7, 0.85],
        "attack": "class_attack_auc",
        "attack_auc": [0.7, 0.65, 0.75],
        "cost": 1.2,
        "unknown_costs": 0,
    }
    assert [reason.split()[0] for reason in due_reasons(drift, RETRAIN_AFTER)] == [
        "accuracy",
        "the",
        "requests",
    ]
    calm = drift | {"utility": [0.8, 0.7, 0.91], "attack_auc": [0.7, 0.55, 0.8], "cost": 0.9}
    assert due_reasons(calm, RETRAIN_AFTER) == []
    assert due_reasons(drift | {"utility_at_first": None, "cost": None}, {"cost": 1}) == []
    unknown = drift | {"attack_auc": [0.9, math.nan, math.nan]}
    assert due_reasons(unknown, {"attack_auc": 0.6}) == []
    assert due_reasons(drift, {}) == []


def test_an_older_copy_of_the_network_is_noticed(log, unlearner):
    old = pickle.dumps(unlearner)
    ask(log, unlearner, [3, 7], "a")
    kept = pickle.dumps(unlearner)
    with pytest.warns(UserWarning, match="an older copy, it remembers rows of earlier requests"):
        ask(
            log,
            pickle.loads(old),
            np.arange(118) < 2,
            "b",
            rows=np.delete(X, [3, 7], axis=0),
            labels=np.delete(Y, [3, 7]),
        )
    entries = [json.loads(line) for line in lines(log)]
    assert [e["known_network"] for e in entries if e["event"] == "began"] == [None, False]
    log = RequestLog(log.path.with_name("second.jsonl"), key=KEY)
    ask(log, pickle.loads(old), [3, 7], "a")
    ask(log, pickle.loads(kept), [20, 21], "b", on_return="mark")  # all are marked


# -- the key ---------------------------------------------------------------------------------------


def test_the_key_is_kept_in_a_file_for_its_owner(tmp_path, unlearner):
    path, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    log = RequestLog(path, key=key)
    assert len(key.read_bytes()) == 64
    if os.name == "posix":
        assert key.stat().st_mode & 0o777 == 0o600
    ask(log, unlearner, [3, 7], "a")
    again = RequestLog(path, key=str(key))
    assert again.returned(X) == [(3, "a"), (7, "a")]
    content = path.read_bytes() + b"".join(p.read_bytes() for p in log.reports.iterdir())
    assert key.read_bytes() not in content
    with pytest.raises(ValueError, match="which is not there"):
        RequestLog(path, key=tmp_path / "nowhere.key")


def test_a_destroyed_key_leaves_a_log_to_read(tmp_path, unlearner):
    path, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    log = RequestLog(path, key=key)
    ask(log, unlearner, [3, 7], "a")
    noted = log.verify()
    secret = key.read_bytes()
    log.forget_key()
    assert not key.exists()
    for act in (lambda: log.receive("b"), lambda: log.returned(X), lambda: log.forget_key()):
        with pytest.raises(ValueError, match="its key was destroyed"):
            act()
    for given in (key, secret):
        with pytest.raises(ValueError, match=r"the key of .* was destroyed"):
            RequestLog(path, key=given)
    assert not key.exists()
    log = RequestLog(path, key=None)
    assert log.records[0]["state"] == "done"
    log.verify(noted=noted)
    assert "Without the key" in log.to_html()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"n_rows": 2', b'"n_rows": 3'))
    with pytest.raises(ValueError, match="does not follow"):
        log.verify()


@pytest.mark.parametrize("name", ["new.key", "precious.txt"])
def test_a_file_that_is_not_the_key_is_left_as_it_is(tmp_path, name):
    RequestLog(tmp_path / "old.jsonl", key=tmp_path / "old.key").forget_key()
    other = tmp_path / name
    new = RequestLog(tmp_path / "new.jsonl", key=tmp_path / "new.key")
    if name != "new.key":
        other.write_text("the only copy of something else")
    content = other.read_bytes()
    with pytest.raises(ValueError, match=r"key must be the one that .* was begun with"):
        RequestLog(tmp_path / "old.jsonl", key=other)
    assert other.read_bytes() == content
    new.receive("a")


@pytest.mark.parametrize("is_whole_line", [True, False])
def test_a_key_is_not_destroyed_on_the_word_of_a_line_without_its_digest(tmp_path, is_whole_line):
    path, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    log = RequestLog(path, key=key)
    log.receive("a")
    secret, last = key.read_bytes(), lines(log)[-1]
    forged = b'{"event": "key destroyed"}'
    if is_whole_line:
        forged = last.replace(b'"received"', b'"key destroyed"', 1)
    path.write_bytes(path.read_bytes() + forged + b"\n")
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"entry 3 of .* nothing was destroyed"):
        RequestLog(path, key=key)
    assert key.read_bytes() == secret
    assert path.read_bytes() == content


def test_a_key_whose_destruction_was_interrupted_is_destroyed_when_the_log_is_opened(
    tmp_path, monkeypatch
):
    path, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    log = RequestLog(path, key=key)
    secret = key.read_bytes()
    monkeypatch.setattr(requests, "destroy", lambda path: None)  # killed before
    log.forget_key()
    monkeypatch.undo()
    assert key.read_bytes() == secret
    with pytest.raises(ValueError, match=r"the key of .* was destroyed"):
        RequestLog(path, key=key)
    assert not key.exists()


def test_forget_key_leaves_what_is_another_key_by_now(tmp_path):
    path, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    log = RequestLog(path, key=key)
    key.write_bytes(b"another key of 16 bytes")
    with pytest.raises(ValueError, match="must hold the key that"):
        log.forget_key()
    assert key.read_bytes() == b"another key of 16 bytes"
    log.receive("a")
    key.unlink()  # the user has destroyed it
    log.forget_key()
    assert [json.loads(line)["event"] for line in lines(log)][-1] == "key destroyed"


def test_a_line_without_an_event_is_named(log):
    log.path.write_bytes(log.path.read_bytes() + b"{}\n")
    log = RequestLog(log.path, key=KEY)
    with pytest.raises(ValueError, match=r"entry 2 of .* is not as it was written"):
        log.verify()


@pytest.mark.parametrize(
    ("key", "message"),
    [(b"short", "at least 16 bytes"), (None, "key must be given to begin a log")],
)
def test_bad_keys_are_refused(tmp_path, key, message):
    with pytest.raises(ValueError, match=message):
        RequestLog(tmp_path / "log.jsonl", key=key)
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize("content", [b"a model, pickled", b"one\ntwo\n", b'{"a": 1}\n'])
def test_a_file_that_is_no_log_is_left_alone(tmp_path, content):
    path = tmp_path / "model.pickle"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"path must be a log of requests, or a new file; got .*"):
        RequestLog(path, key=KEY)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["model.pickle"]


def test_a_folder_that_is_not_there_is_named_and_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"in a folder that is there; got .*nowhere"):
        RequestLog(tmp_path / "nowhere" / "log.jsonl", key=KEY)
    assert not (tmp_path / "nowhere").exists()


def test_a_first_entry_that_was_interrupted_is_begun_again(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"entry": 1, "time": "2026')
    with pytest.warns(UserWarning, match="26 bytes of an entry whose writing was interrupted"):
        log = RequestLog(path, key=KEY)
    log.receive("a")
    log.verify()
    assert RequestLog(path, key=KEY).records[0]["request"] == "a"


PEER = """
import pickle, sys, time
from pathlib import Path
from tests.evaluation.test_requests import KEY, RequestLog, ask
folder = Path(sys.argv[1])

def save(unlearner):
    (folder / "busy").touch()
    while not (folder / "go on").exists():
        time.sleep(0.01)

log = RequestLog(folder / "requests.jsonl", key=KEY)
ask(log, pickle.loads((folder / "model").read_bytes()), [3, 7], "first", save=save)
"""


def test_a_second_process_is_told_that_the_first_is_at_work(log, unlearner, tmp_path):
    (tmp_path / "model").write_bytes(pickle.dumps(unlearner))
    peer = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PEER, tmp_path],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        while not (tmp_path / "busy").exists():
            assert peer.poll() is None
            time.sleep(0.05)
        with pytest.raises(RuntimeError, match="'second' has to wait"):
            ask(log, unlearner, [20, 21], "second")
        log.receive("third")
        assert [r["state"] for r in RequestLog(log.path, key=KEY).records] == [
            "unfinished",
            "received",
        ]
        (tmp_path / "go on").touch()
        assert peer.wait(120) == 0
    finally:
        peer.kill()
    log.verify()
    assert [(r["request"], r["state"]) for r in log.records] == [
        ("first", "done"),
        ("third", "received"),
    ]
    # This one has the network from before the first request, and is told so.
    left = ~marked(3, 7)
    with pytest.warns(UserWarning, match="does not have the weights that the log has noted last"):
        ask(log, unlearner, np.arange(118) < 2, "second", rows=X[left], labels=Y[left])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"criteria": {"utilty": (0, 1)}}, "criteria must name metrics of a report; got 'utilty'"),
        ({"n_splits": 0}, "n_splits must be"),
        ({"n_resamples": 1}, "n_resamples must be"),
        ({"confidence_level": 1.0}, "confidence_level must be"),
        ({"random_state": "first"}, "random_state|seed"),
        ({"tester": 7}, "tester must be a string"),
        ({"key": b"short"}, "key must be"),
        ({"feature_layer": "nowhere"}, "nowhere"),
        ({"groups_unseen": np.arange(40)}, "groups"),
        ({"reference_2": "reference"}, "reference_2 was given without reference"),
        ({"reference": "unfitted"}, "not fitted"),
        ({"original": "of other classes"}, "must have the classes"),
        ({"X_unseen": X_UNSEEN[:, :3]}, "3"),
        ({"X_unseen": X_UNSEEN[:0], "y_unseen": Y_UNSEEN[:0]}, "X_unseen must have one"),
        ({"y_unseen": np.full(40, "maybe")}, "maybe"),
        ({"save": "model.pickle"}, "save must be a function"),
    ],
)
def test_what_a_report_would_refuse_is_refused_before_the_network_unlearns(
    log, unlearner, params, message
):
    before, size = weights(unlearner), log.path.stat().st_size
    model = FineTune(make_net(max_epochs=1), random_state=0)
    others = np.where(Y == "yes", "si", "no")
    made = {
        "reference": lambda: unlearner,
        "unfitted": lambda: model,
        "of other classes": lambda: model.fit(X, others),
    }
    params = {
        name: made[value]() if isinstance(value, str) and value in made else value
        for name, value in params.items()
    }
    with pytest.raises((ValueError, RuntimeError), match=message):
        ask(log, unlearner, [3, 7], "a", **params)
    assert equal(before, weights(unlearner))
    assert log.path.stat().st_size == size
    assert unlearner.estimator_.module_.training is False


def test_the_folder_of_the_key_has_to_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="key must be in a folder that is there; got"):
        RequestLog(tmp_path / "log.jsonl", key=tmp_path / "keys" / "log.key")
    assert not list(tmp_path.iterdir())


def test_the_key_is_another_file_than_the_log(tmp_path):
    with pytest.raises(ValueError, match="key must be another file than the log"):
        RequestLog(tmp_path / "log.jsonl", key=tmp_path / "log.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [None, "1", -1])
def test_limits_that_are_no_numbers_are_refused(tmp_path, limit):
    with pytest.raises(ValueError, match=r"retrain_after\['cost'\] must be a number"):
        RequestLog(tmp_path / "log.jsonl", key=KEY, retrain_after={"cost": limit})
    assert not (tmp_path / "log.jsonl").exists()


def test_unknown_limits_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"retrain_after must have keys out of .* got \['costs'\]"):
        RequestLog(tmp_path / "log.jsonl", key=KEY, retrain_after={"costs": 1})


def test_nothing_holds_the_rows_or_the_key(log, unlearner):
    ask(log, unlearner, [3, 7], "a", save=lambda unlearner: None)
    content = log.path.read_bytes() + b"".join(p.read_bytes() for p in log.reports.iterdir())
    content += log.to_html().encode()
    for row in X[[3, 7]]:
        assert str(row[0]).encode() not in content
        assert str(float(row[0])).encode() not in content
        plain = b"(4,) True 32\n" + row.astype(float).tobytes()
        assert hashlib.sha256(plain).hexdigest().encode() not in content
    assert KEY.hex().encode() not in content


def test_a_copy_of_a_log_has_no_key(tmp_path):
    log = RequestLog(tmp_path / "log.jsonl", key=tmp_path / "log.key")
    log.receive("a")
    secret = (tmp_path / "log.key").read_bytes()
    content = pickle.dumps(log)
    assert secret not in content
    for other in (pickle.loads(content), copy.deepcopy(log)):
        assert len(other.records) == 1
        other.verify()
        with pytest.raises(ValueError, match="key must be given to write"):
            other.receive("b")
    log.receive("b")


# -- unlearners of every kind ----------------------------------------------------------------------


def test_a_frozen_network_is_unlearned_for_several_requests(log):
    trained = FineTune(make_net(max_epochs=3), random_state=0).fit(X, Y).estimator_
    unlearner = NegGrad(FrozenEstimator(trained), max_epochs=1, lr=1e-3, random_state=0)
    report = ask(log, unlearner, [3, 7], "a")
    assert report.networks["original"] == "skorch.classifier.NeuralNetClassifier"
    ask(log, unlearner, [20, 21], "b", on_return="mark")
    assert log.records[1]["state"] == "done"


def test_a_pipeline_s_transformers_forget_too(log):
    pipeline = make_pipeline(
        StandardScaler(), FineTune(make_net(max_epochs=2), max_epochs=1, random_state=0)
    ).fit(X, Y)
    ask(log, pipeline, [3, 7], "a")
    np.testing.assert_allclose(pipeline[0].mean_, X[~marked(3, 7)].mean(axis=0), rtol=1e-5)
    assert log.returned(X) == [(3, "a"), (7, "a")]
    assert log.records[0]["method"] == "skunlearn.methods.finetune.FineTune"


def test_an_ensemble_gets_its_groups(log):
    groups = np.arange(120) // 4
    ensemble = SISA(make_net(max_epochs=2), n_shards=3, random_state=0).fit(X, Y, groups=groups)
    ask(log, ensemble, np.arange(120) < 4, "a", groups=groups)
    report = ask(
        log,
        ensemble,
        np.arange(120) // 4 == 5,
        "b",
        groups=groups,
        groups_unseen=100 + np.arange(40) // 4,
        on_return="mark",
    )
    assert report.settings["intervals_over"] == "people"
    assert [record["state"] for record in log.records] == ["done", "done"]
    assert 0 < log.records[0]["cost"] < 1
    trees = SISA(DecisionTreeClassifier(), random_state=0).fit(X, Y)
    other = RequestLog(log.path.with_name("trees.jsonl"), key=KEY)
    ask(other, trees, [3, 7], "a")
    assert other.records[0]["cost"] is None


def test_an_original_that_is_left_out_is_not_copied(log, unlearner, monkeypatch):
    monkeypatch.setattr(RequestRun, "_copied", fails)
    assert set(ask(log, unlearner, [3, 7], "a", original=None).networks) == {"unlearned"}


def test_groups_alone_are_refused_where_nothing_takes_them(log, unlearner):
    before = unlearner.estimator_
    with pytest.raises(ValueError, match=r"groups must come with groups_unseen.*FineTune has no"):
        ask(log, unlearner, [3, 7], "a", groups=np.arange(120) // 4)
    assert unlearner.estimator_ is before
    assert not log.records


def test_the_original_may_be_left_out_or_given(log, unlearner):
    report = ask(log, unlearner, [3, 7], "a", original=None)
    assert set(report.networks) == {"unlearned"}
    assert log.records[0]["drift"]["utility_at_first"] is None
    retrained = Retrain(make_net(max_epochs=3), random_state=1).fit(X, Y, forget=marked(3, 7))
    report = ask(log, unlearner, [20, 21], "b", on_return="mark", reference=retrained)
    assert set(report.networks) == {"unlearned", "original", "retrained"}
    assert "js_distance" in log.records[1]["metrics"]


# -- the page --------------------------------------------------------------------------------------


def test_the_page_has_a_line_for_each_request_and_links(log, unlearner):
    log.receive("<late>", received="2026-01-05")
    ask(log, unlearner, [3, 7], "a & b")
    text = log.to_html()
    assert "<late>" not in text
    assert text.count("&lt;late&gt;") == 2  # among those that are open, and in the table
    assert "overdue" in text
    assert log.verify() in text
    (link,) = re.findall(r'href="([^"]+)"', text)
    assert (log.path.parent / link).exists()

    class Parser(HTMLParser):
        tags = ()
        rows = 0

        def handle_starttag(self, tag, attrs):
            self.rows += tag == "tr"
            if tag != "meta":
                self.tags += (tag,)

        def handle_endtag(self, tag):
            assert self.tags[-1] == tag
            self.tags = self.tags[:-1]

    parser = Parser()
    parser.feed(text)
    assert parser.tags == ()
    assert parser.rows == 1 + 2


@pytest.mark.parametrize(
    "text", ["javascript:alert(1)//-reports/x.json", "https://example.org/-reports/0002.json"]
)
def test_only_reports_are_links(log, text):
    log.receive(text)
    log.receive("a")
    log.close("a", forgotten=False, reason=text)
    assert "<a " not in log.to_html()


@pytest.mark.parametrize("name", ["a#b.jsonl", "javascript:alert(1).jsonl", 'x"?y%20&é.jsonl'])
def test_links_lead_to_reports_whatever_the_name_of_the_log(tmp_path, unlearner, name):
    if sys.platform == "win32":
        pytest.skip("names have other letters there")
    log = RequestLog(tmp_path / name, key=KEY)
    ask(log, unlearner, [3], "a")
    (link,) = re.findall(r'href="([^"]+)"', log.to_html())
    url = urljoin("https://host/folder/log.html", html.unescape(link))
    assert url.startswith("https://host/folder/")
    path = unquote(urlsplit(url).path.removeprefix("/folder/"))
    assert (tmp_path / path).read_bytes() == (log.reports / "0002.html").read_bytes()


def test_without_pandas_the_table_is_a_list(log, monkeypatch):
    log.receive("a")
    frame = log.table()
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert log.table() == log.records
    assert frame.columns.tolist() == list(log.records[0])


def test_the_class_has_one_home():
    assert requests.RequestLog is RequestLog
