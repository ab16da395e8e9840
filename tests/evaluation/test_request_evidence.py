"""What entries of a log are evidence of: warnings, reports, costs, and the network."""

import copy
import json
import pickle
import subprocess
import sys
import warnings
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skunlearn import FineTune, NegGrad, Retrain, unlearning_report
from skunlearn._engine.validation import note_warning, noted_warnings, warn
from skunlearn.evaluation import RequestLog
from skunlearn.evaluation._description import fingerprint
from skunlearn.evaluation._request_run import RequestRun
from tests.evaluation.test_requests import (
    KEY,
    QUICK,
    ROOT,
    UNSEEN,
    X,
    Y,
    ask,
    equal,
    fails,
    lines,
    marked,
    weights,
)
from tests.networks import make_net

pytestmark = pytest.mark.filterwarnings("ignore:.* has changed almost nothing:UserWarning")

CODES = (Y == "yes").astype(int)


@pytest.fixture
def unlearner():
    return FineTune(make_net(max_epochs=3), max_epochs=1, lr=0.01, random_state=0).fit(X, Y)


@pytest.fixture
def log(tmp_path):
    return RequestLog(tmp_path / "requests.jsonl", key=KEY)


def trained(**params):
    net = make_net(max_epochs=3, module__n_features_in=4, module__n_classes=2, **params)
    return net.fit(X, CODES).set_params(classes=["no", "yes"])


def entries(log, event=None):
    found = [json.loads(line) for line in lines(log)]
    return [entry for entry in found if event in (None, entry["event"])]


# -- warnings --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default::UserWarning")
def test_warnings_of_a_run_are_noted_and_shown(log):
    unlearner = Retrain(make_net(max_epochs=20), lr=1e-9, max_epochs=1, random_state=0).fit(X, Y)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        ask(log, unlearner, [3, 7], "a")
    (message,) = entries(log, "unlearned")[0]["warnings"]
    assert message in [str(each.message) for each in shown]
    assert "on 118 retained rows the accuracy went from" in message
    assert entries(log, "began")[0]["warnings"] == []
    assert log.records[0]["warnings"] == [message]
    assert list(log.table()["warnings"]) == [[message]]
    page = log.to_html()
    assert "Warnings while they were unlearned" in page
    assert f"a: {message}" in page


def test_warnings_are_noted_though_they_are_not_shown(log, unlearner):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ask(log, unlearner.set_params(lr=1e-12), [3, 7], "a")
    assert ["changed almost nothing" in text for text in log.records[0]["warnings"]] == [True]


def test_warnings_before_a_run_and_of_its_report_are_noted_too(log, unlearner):
    rows = X.copy()
    rows[8] = rows[7]
    unseen = {"X_unseen": np.concatenate([UNSEEN["X_unseen"], X[:1]])}
    unseen["y_unseen"] = np.append(UNSEEN["y_unseen"], Y[:1])
    with (
        pytest.warns(UserWarning, match="equal to rows that forget does not mark"),
        pytest.warns(UserWarning, match="1 are in X as well"),
    ):
        ask(log, unlearner, [7], "a", rows=rows, **unseen)
    assert "equal to rows" in entries(log, "began")[0]["warnings"][0]
    assert "1 are in X as well" in entries(log, "done")[0]["warnings"][0]
    assert "Warnings while" in log.to_html()


def test_names_of_classes_are_not_noted(log, unlearner):
    with pytest.warns(UserWarning, match="all rows of the classes yes: attacks"):
        ask(log, unlearner, Y == "yes", "a")
    (message,) = [text for text in log.records[0]["warnings"] if "rows of" in text]
    assert "all rows of 1 classes: attacks" in message
    assert "yes" not in message


def test_a_failed_run_has_its_warnings_and_the_next_begins_without(log, unlearner, monkeypatch):
    def diverge(*args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warn("something is wrong")
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(unlearner, "unlearn", diverge)
        with pytest.raises(RuntimeError):
            ask(log, unlearner, [3], "a")
    assert entries(log, "failed")[0]["warnings"] == log.records[0]["warnings"]
    assert log.records[0]["warnings"] == ["something is wrong"]
    ask(log, unlearner.set_params(lr=0.05, max_epochs=3), [3], "a")
    assert "something is wrong" not in log.records[0]["warnings"]
    assert "something is wrong" not in log.to_html()


def test_each_message_is_noted_once_and_no_more_than_twenty():
    run = RequestRun.__new__(RequestRun)
    with noted_warnings() as run.messages:
        for i in range(25):
            note_warning(f"message {i}")
            note_warning("message 0")
        with noted_warnings() as inner:
            note_warning("another's")
    assert inner == ["another's"]
    assert run._new_messages() == [*(f"message {i}" for i in range(20)), "... and 5 more"]
    assert run._new_messages() == []
    note_warning("nobody notes it")


# -- reports ---------------------------------------------------------------------------------------


def test_a_report_names_its_request(log, unlearner):
    report = ask(log, unlearner, [3, 7], "2026-<17>")
    assert report.request == "2026-<17>"
    filed = json.loads((log.reports / "0002.json").read_text())
    assert filed["request"] == "2026-<17>"
    page = (log.reports / "0002.html").read_text()
    assert "2026-&lt;17&gt;" in page
    assert "2026-<17>" in repr(report)
    by_hand = unlearning_report(unlearner, X, Y, forget=marked(3), **UNSEEN, **QUICK, request="b")
    assert json.loads(by_hand.to_json())["request"] == by_hand.request == "b"
    without = unlearning_report(unlearner, X, Y, forget=marked(3), **UNSEEN, **QUICK)
    assert without.request is None
    assert "request" not in repr(without)
    with pytest.raises(ValueError, match="request must be a string; got 17"):
        unlearning_report(unlearner, X, Y, forget=marked(3), **UNSEEN, request=17)


@pytest.mark.parametrize("kind", ["json", "html"])
def test_without_the_key_an_edited_report_is_noticed(log, unlearner, kind):
    ask(log, unlearner, [3, 7], "a")
    reader = RequestLog(log.path, key=None)
    reader.verify()
    path = log.reports / f"0002.{kind}"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=rf"report .*0002.{kind} is not as it was written"):
        reader.verify()
    assert "is not as it was written" in reader.to_html()


def test_what_only_the_key_and_a_noted_digest_notice(log, unlearner):
    """A report is edited, and so is the log, by somebody who knows how they are made."""
    ask(log, unlearner, [3, 7], "a")
    noted = log.verify()
    path = log.reports / "0002.json"
    old = hashed(path)
    path.write_bytes(path.read_bytes() + b" ")
    log.path.write_bytes(log.path.read_bytes().replace(old.encode(), hashed(path).encode()))
    reader = RequestLog(log.path, key=None)
    reader.verify()  # the last entry, which nothing follows
    with pytest.raises(ValueError, match="no entry with the digest that was noted"):
        reader.verify(noted=noted)
    with pytest.raises(ValueError, match=r"entry 4 .* is not as it was written"):
        log.verify()


def hashed(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- costs, and the network ------------------------------------------------------------------------


def killed(*args, **kwargs):
    raise KeyboardInterrupt


def kill(log, unlearner, where, monkeypatch, save=lambda unlearner: None, **params):
    """A run of request "a" that is killed, without a word to the log."""
    with monkeypatch.context() as patch:
        patch.setattr(RequestRun, "_note_failure", lambda *args: None)
        if where == "unlearning":
            patch.setattr(unlearner, "unlearn", killed)
        elif where == "saving":
            save = killed
        elif where == "noting":  # what was saved
            note = RequestRun._note
            patch.setattr(
                RequestRun,
                "_note",
                lambda run, event, **content: (
                    killed() if event == "unlearned" else note(run, event, **content)
                ),
            )
        else:
            patch.setattr("skunlearn.evaluation._request_run.unlearning_report", killed)
        with pytest.raises(KeyboardInterrupt):
            ask(log, unlearner, **{"numbers": [3, 7], "request": "a", "save": save, **params})


@pytest.mark.filterwarnings("ignore:.* has failed. The unlearner has unlearned")
@pytest.mark.parametrize(
    ("where", "state", "runs"),
    [
        ("unlearning", "unfinished", 1),
        ("saving", "unfinished", 1),
        ("noting", "unfinished", 1),
        ("measuring", "not measured", 2),
    ],
)
def test_a_retry_after_a_kill_counts_each_run_that_is_known_to_have_been(
    log, unlearner, monkeypatch, where, state, runs
):
    kill(log, unlearner, where, monkeypatch)
    assert log.records[0]["state"] == state
    ask(log, unlearner, [3, 7], "a")
    (record,) = log.records
    each = unlearner.unlearning_cost_ / (3 * 118)
    assert record["cost"] == pytest.approx(runs * each)
    assert record["drift"]["cost"] == pytest.approx(runs * each)
    assert record["drift"]["requests"] == 1
    assert record["seconds"] == sum(entry["seconds"] for entry in entries(log, "unlearned"))
    ask(log, unlearner, [20], "b", on_return="mark")
    assert log.records[1]["drift"]["cost"] == pytest.approx((runs + 1) * each, rel=0.02)


@pytest.mark.filterwarnings("ignore:.* has failed. The unlearner has unlearned")
@pytest.mark.parametrize("where", ["unlearning", "saving", "noting", "measuring"])
def test_a_network_that_a_killed_run_has_left_is_known(log, unlearner, monkeypatch, where):
    """Whichever file there is, the one from before or the one after, is the network's."""
    ask(log, unlearner, [50], "first")
    files = [pickle.dumps(unlearner)]
    # Not all forgotten rows are marked again, so another network would be told.
    given = {"numbers": np.isin(np.arange(119), (3, 7)), "request": "a"}
    given |= {"rows": np.delete(X, 50, axis=0), "labels": np.delete(Y, 50)}
    kill(log, unlearner, where, monkeypatch, lambda u: files.append(pickle.dumps(u)), **given)
    ask(log, pickle.loads(files[-1]), **given)
    assert entries(log, "began")[-1]["known_network"] is True


def saved_weights(net, path, module):
    torch.save(net.module_.state_dict(), path)
    fresh = make_net(module__n_features_in=4, module__n_classes=2, classes=["no", "yes"])
    fresh.initialize().module_.load_state_dict(torch.load(path, weights_only=True))
    return fresh


def saved_by_skorch(net, path, module):
    net.save_params(f_params=path)
    fresh = make_net(module__n_features_in=4, module__n_classes=2, classes=["no", "yes"])
    fresh.initialize().load_params(f_params=path)
    return fresh


def saved_safely(net, path, module):
    net.save_params(f_params=path, use_safetensors=True)
    fresh = make_net(module__n_features_in=4, module__n_classes=2, classes=["no", "yes"])
    fresh.initialize().load_params(f_params=path, use_safetensors=True)
    return fresh


def pickled(net, path, module):
    return pickle.loads(pickle.dumps(net))


def given_as_a_module(net, path, module):
    return make_net(copy.deepcopy(net.module_), classes=["no", "yes"]).initialize()


@pytest.mark.parametrize(
    "reload", [saved_weights, saved_by_skorch, saved_safely, pickled, given_as_a_module]
)
def test_a_network_that_is_loaded_from_its_file_is_the_same(unlearner, tmp_path, reload):
    log = RequestLog(tmp_path / "requests.jsonl", key=KEY, retrain_after={})
    ask(log, unlearner, [3, 7], "a")
    net = reload(unlearner.estimator_, tmp_path / "weights", None)
    loaded = FineTune(FrozenEstimator(net), max_epochs=1, lr=0.01, random_state=0)
    assert fingerprint(KEY, loaded) == fingerprint(KEY, unlearner)
    rows = np.delete(X, [3, 7], axis=0)
    labels = np.delete(Y, [3, 7])
    ask(log, loaded, np.arange(118) == 20, "b", rows=rows, labels=labels)
    assert entries(log, "began")[-1]["known_network"] is True
    with torch.no_grad():
        next(net.module_.parameters()).mul_(1.0001)
    assert fingerprint(KEY, FineTune(FrozenEstimator(net))) != fingerprint(KEY, unlearner)


def test_a_frozen_original_that_has_not_unlearned_is_noticed(log):
    """The same frozen network for the next request still knows the rows of the first."""
    net = trained()

    def frozen():
        return NegGrad(FrozenEstimator(net), max_epochs=1, lr=1e-3, random_state=0)

    ask(log, frozen(), [3, 7], "a")
    rows, labels = np.delete(X, [3, 7], axis=0), np.delete(Y, [3, 7])
    with pytest.warns(UserWarning, match="an older copy, it remembers rows"):
        ask(log, frozen(), np.arange(118) == 20, "b", rows=rows, labels=labels)


# -- what takes an unlearner -----------------------------------------------------------------------


WRONG = [
    (nn.Linear(4, 2), "got Linear. Of a trained torch module, make one by FineTune"),
    (FrozenEstimator(nn.Linear(4, 2)), "got FrozenEstimator. Of a trained"),
    (make_net(), "got NeuralNetClassifier. Of a trained"),
    (FrozenEstimator(make_net()), "got FrozenEstimator. Of a trained"),
    (StandardScaler(), "got StandardScaler"),
    (None, "got NoneType"),
    ("model.pickle", "got str"),
    (FineTune(FrozenEstimator(make_net())), "got NeuralNetClassifier, not initialized. Of"),
    (FineTune(FrozenEstimator(nn.Linear(4, 2))), "in its FrozenEstimator; got Linear. Of"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_is_no_trained_unlearner_is_refused_by_name(log, wrong, message):
    before = lines(log)
    for act in (lambda: log.retrained(wrong, X), lambda: ask(log, wrong, [3], "a")):
        with pytest.raises(ValueError, match=rf"^unlearner must .*{message}"):
            act()
    assert lines(log) == before


def test_an_unlearner_that_was_not_fitted_is_refused(log):
    for act in (
        lambda: log.retrained(FineTune(make_net()), X),
        lambda: ask(log, make_pipeline(StandardScaler(), FineTune(make_net())), [3], "a"),
    ):
        with pytest.raises(NotFittedError):
            act()


def test_a_frozen_network_can_be_noted_as_retrained(log, unlearner):
    ask(log, unlearner, [3], "a")
    left = ~marked(3)
    net = make_net(max_epochs=2, module__n_features_in=4, module__n_classes=2)
    net.fit(X[left], CODES[left]).set_params(classes=["no", "yes"])
    again = FineTune(FrozenEstimator(net), max_epochs=1, lr=0.01, random_state=0)
    log.retrained(again, X[left])
    assert entries(log, "retrained")[0]["network"] == fingerprint(KEY, again)
    ask(log, again, np.arange(119) == 20, "b", rows=X[left], labels=Y[left])
    assert entries(log, "began")[-1]["known_network"] is True
    assert equal(weights(again), weights(again))


@pytest.mark.parametrize("name", ["original", "reference", "reference_2"])
def test_a_torch_module_in_a_report_is_refused_by_name(log, unlearner, name):
    given = {"reference": Retrain(make_net(), random_state=0).fit(X, Y)} if "2" in name else {}
    message = rf"^{name} must be a fitted estimator; got Linear\. A torch module goes into"
    with pytest.raises(ValueError, match=message):
        ask(log, unlearner, [3], "a", **given, **{name: nn.Linear(4, 2)})
    with pytest.raises(ValueError, match=r"^unlearner must be a fitted estimator; got Linear"):
        unlearning_report(nn.Linear(4, 2), X, Y, forget=marked(3), **UNSEEN)


def test_two_processes_go_on_with_one_log(log, unlearner, tmp_path):
    """The second request is made in a new process, from the files that the first has left."""
    path = tmp_path / "model.pickle"
    ask(log, unlearner, [3], "a", save=lambda u: path.write_bytes(pickle.dumps(u)))
    script = (
        "import pickle, pathlib, warnings; warnings.simplefilter('error');"
        "warnings.filterwarnings('ignore', '.*almost nothing');"
        "from tests.evaluation.test_requests import *;"
        f"log = RequestLog({str(log.path)!r}, key=KEY);"
        f"u = pickle.loads(pathlib.Path({str(path)!r}).read_bytes());"
        "ask(log, u, np.arange(119) == 20, 'b', rows=np.delete(X, 3, 0), labels=np.delete(Y, 3))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    assert entries(log, "began")[-1]["known_network"] is True
    assert [row["state"] for row in log.records] == ["done", "done"]
    log.verify()


def test_failing_measures_do_not_hide_what_was_noted(log, unlearner, monkeypatch):
    monkeypatch.setattr("skunlearn.evaluation._request_run.unlearning_report", fails)
    with (
        pytest.warns(UserWarning, match="measuring has failed"),
        pytest.raises(ValueError, match="no report"),
    ):
        ask(log, unlearner, [3], "a", save=lambda unlearner: None)
    assert [entry["event"] for entry in entries(log)] == [
        "log begun",
        "began",
        "saving",
        "unlearned",
        "failed",
    ]
    assert entries(log, "saving")[0]["network"] == entries(log, "unlearned")[0]["network"]


# -- clocks, costs, and what rows and people may be given as ---------------------------------------


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_clock_that_was_set_back_is_told_and_noted(log, unlearner, monkeypatch):
    log.receive("a")

    class SetBack(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=40)

    for module in ("_engine.chain", "evaluation._states"):
        monkeypatch.setattr(f"skunlearn.{module}.datetime", SetBack)
    with pytest.warns(UserWarning, match="which is still to come by the clock"):
        log.receive("b")
    with pytest.warns(UserWarning, match="which is still to come by the clock"):
        ask(log, unlearner, [3], "a")
    first, second = log.records
    assert (first["state"], first["days"]) == ("done", 0)
    assert any("still to come" in message for message in first["warnings"])
    assert second["days"] == 0
    log.verify()


def test_a_network_that_is_frozen_again_costs_a_share_of_its_training(log):
    """What has unlearned has the max_epochs of that run; its training took three."""
    trained = FineTune(make_net(max_epochs=3), random_state=0).fit(X, Y).estimator_
    for number, name in enumerate("ab"):
        unlearner = FineTune(FrozenEstimator(trained), max_epochs=1, lr=0.01, random_state=0)
        ask(log, unlearner, [number], name, on_return="mark")
        trained = unlearner.estimator_
    assert trained.max_epochs == 1
    assert [record["cost"] for record in log.records] == pytest.approx([1 / 3, 1 / 3])
    assert [entry["epochs"] for entry in entries(log, "unlearned")] == [3, 3]


def test_a_network_that_was_trained_again_counts_by_its_own_epochs(log):
    fitted = [FineTune(make_net(max_epochs=n), random_state=0).fit(X, Y) for n in (3, 5)]
    ask(log, fitted[0].set_params(max_epochs=1, lr=0.01), [0], "a")
    again = FineTune(FrozenEstimator(fitted[1].estimator_), max_epochs=1, lr=0.01, random_state=0)
    log.retrained(again, X[1:])
    ask(log, again, np.arange(len(X) - 1) == 0, "b", rows=X[1:], labels=Y[1:])
    assert [record["cost"] for record in log.records] == pytest.approx([1 / 3, 1 / 5])


def test_rows_may_be_lists(log, unlearner):
    unseen = {name: value.tolist() for name, value in UNSEEN.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*another each time it is read")
        ask(log, unlearner, [3], "a", rows=X.tolist(), labels=Y.tolist(), **unseen)
    assert log.records[0]["state"] == "done"
    assert log.returned(X) == log.returned(X.tolist()) == [(3, "a")]
    original = copy.deepcopy(unlearner)
    report = unlearning_report(
        unlearner,
        X.tolist(),
        Y.tolist(),
        forget=np.arange(len(X)) == 3,
        original=original,
        n_resamples=2,
        **unseen,
    )
    assert report.metrics["linear_cka"]["unlearned"].value >= 0


@pytest.mark.parametrize("who", [None, "a", ("a", 1)])
def test_people_without_names_are_refused_before_the_network_unlearns(log, unlearner, who):
    before = weights(unlearner)
    people = np.array([*who] * 60 if isinstance(who, tuple) else [who] * len(X), dtype=object)
    others = {"groups_unseen": np.arange(len(UNSEEN["X_unseen"]))}
    with pytest.raises(ValueError, match=r"^groups (must|and groups_unseen must)"):
        ask(log, unlearner, [3], "a", groups=people, **others)
    assert equal(before, weights(unlearner))
    assert not log.records
