"""One request, from what it is given to what is noted of it."""

import contextlib
import inspect
import time
from copy import deepcopy

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from skunlearn._engine.chain import sync_folder
from skunlearn._engine.files import nan_to_none, write_new
from skunlearn._engine.rows import take_rows
from skunlearn._engine.unwrap import innermost
from skunlearn._engine.validation import check_forget, given_labels, unwrapped, warn
from skunlearn.base import BaseUnlearner
from skunlearn.evaluation._criteria import counts
from skunlearn.evaluation._description import fingerprint, qualified_name
from skunlearn.evaluation._drift import drift_of, due_reasons, relative_cost
from skunlearn.evaluation._report_arguments import as_rows, rehearse
from skunlearn.evaluation._returns import (
    Forgotten,
    described_rows,
    raise_returned,
    returned_message,
    row_digests,
)
from skunlearn.evaluation._states import OPEN, day_of, requests_of
from skunlearn.evaluation.report import unlearning_report
from skunlearn.pipeline import unlearn_pipeline

UNTOUCHED = "Nothing was unlearned: the unlearner is as it was."

UNLEARNED = (
    "The unlearner has unlearned, in memory; the log has the request as one that is not done. Call "
    "unlearn again for it when that is put right, or close it."
)

#: What a report can be given.
REPORT = inspect.signature(unlearning_report)

#: What an entry says of the unlearned network; the report has all of it.
NOTED = ("utility", "retain_accuracy", "forget_accuracy", "loss_attack_auc", "js_distance")
NOTED += ("relative_js_distance", "change_attack_auc", "class_attack_auc")
NOTED += ("utility_of_kept_classes", "utility_of_forgotten_classes")


class RequestRun:
    """A call of `RequestLog.unlearn`.

    Parameters
    ----------
    log : RequestLog
        Where it is noted.
    unlearner : estimator
        The unlearner, or a pipeline.
    rows : tuple
        ``X, y, forget``.
    others : tuple
        ``X_val, y_val, groups``.
    request : str
        Its name.
    on_return : {"raise", "warn", "mark"}
        What becomes of rows that come back.
    report : dict
        What the report takes besides.
    """

    def __init__(self, log, unlearner, rows, others, request, on_return, report):
        self.log, self.key, self.unlearner = log, log._file.key, unlearner
        self.X, self.y, forget = as_rows(rows[0], "X"), *rows[1:]
        self.X_val, self.y_val, self.groups = others
        self.request, self.on_return = request, on_return
        report["X_unseen"] = as_rows(report["X_unseen"], "X_unseen")
        self.report = {"key": self.key, "request": request, **report}
        self.messages = []  # of warnings that are not in an entry yet
        given = REPORT.bind(unlearner, self.X, self.y, forget=forget, **report)
        given_labels("y_unseen", report["X_unseen"], report["y_unseen"])
        self.mask = check_forget(forget, len(given_labels("y", self.X, self.y)), self.X)
        if not self.mask.any():
            raise ValueError("forget must mark at least one row; got none that is True.")
        given.apply_defaults()
        self.given = given.arguments

    def begin(self, received):
        """Check the rows, and note that the request began."""
        self.entries = self.log._entries_with_key()
        row = requests_of(self.entries).get(self.request)
        if row is not None and row["state"] not in OPEN:
            raise ValueError(
                f"request must be new or open; got {self.request!r}, which is {row['state']} since "
                f"{row['done']}. Give another request of the same person another name."
            )
        if row is not None and received not in (None, row["received"]):
            raise ValueError(
                f"received must be left out for a request that is in the log; got {received}, and "
                f"{self.request!r} was received on {row['received']}. Close it, and make another "
                "one, if that day is wrong."
            )
        digests, forgotten = row_digests(self.key, self.X), Forgotten(self.entries)
        # What another run of this request has forgotten is no row of an earlier request.
        earlier = Forgotten(self.entries, without=self.request)
        self._check_same_rows(digests)
        content = described_rows(digests, self.mask, earlier)
        self._check_returns(digests, forgotten)
        self._check_held_out({"request": self.request, **content})
        self._warn_of_rows(digests, content["equal_rows_retained"])
        again = earlier.count_marked(digests, self.mask)
        self.n_forgotten = len(earlier) + len(content["rows"])
        self.n_measured = len(content["rows"]) + again
        known = self._check_network(again == len(earlier))
        self.epochs = self._epochs_of_training(known)
        self._check_report()
        if "original" not in self.report:
            self.report["original"] = self._copied()
        self.log._written(lambda: self.log.reports.mkdir(exist_ok=True), UNTOUCHED)
        self.began = self.log._append(
            "began",
            state=UNTOUCHED,
            check=self._check_unchanged,
            request=self.request,
            received=day_of(None) if row is None and received is None else received,
            method=qualified_name(type(innermost(self.unlearner))),
            marked_again=again,
            known_network=known,
            warnings=self._new_messages(),
            **content,
        )

    def unlearn(self, save):
        """Unlearn, save, and note it."""
        start = time.perf_counter()
        try:
            self._forget()
        except BaseException as error:
            self._note_failure("unlearning", error)
            raise
        self.seconds = time.perf_counter() - start
        self.cost = relative_cost(self.unlearner, int(np.count_nonzero(~self.mask)), self.epochs)
        network = fingerprint(self.key, self.unlearner)
        if save is not None:
            # Killed from here on, it may be the network that is in the file.
            self._note("saving", network=network)
            try:
                save(self.unlearner)
            except BaseException as error:
                self._tell_failure("saving", error)
                raise
        self._note(
            "unlearned",
            saved=save is not None,
            network=network,
            cost=self.cost,
            seconds=self.seconds,
            epochs=self.epochs,
        )

    def measure(self):
        """Measure, write the report, and note that the request is done."""
        try:
            report = unlearning_report(
                self.unlearner, self.X, self.y, forget=self.mask, **self.report
            )
        except BaseException as error:
            self._tell_failure("measuring", error)
            raise
        metrics = {
            name: nan_to_none(list(report.metrics[name]["unlearned"]))
            for name in NOTED
            if "unlearned" in report.metrics.get(name, {})
        }
        drift = drift_of(self.entries, self.n_forgotten, self.n_measured, report.metrics, self.cost)
        due = due_reasons(drift, self.log.retrain_after)
        path = self.log._written(lambda: self._filed(report), UNLEARNED)
        self._note(
            "done",
            report=path.relative_to(self.log.path.parent).as_posix(),
            **self.log._digests_of(path),
            cost=self.cost,
            seconds=self.seconds,
            metrics=metrics,
            criteria=counts(report.criteria),
            drift=nan_to_none(drift),
            retraining_due=due,
        )
        if due:
            warn(f"a retraining is due: {'; '.join(due)}. Note it with RequestLog.retrained.")
        return report

    # -- checks ------------------------------------------------------------------------------------

    def _check_report(self):
        """Refuse what the report would refuse when the network has unlearned already."""
        # Of one with a network in a FrozenEstimator there is no network of its own yet.
        fitted = self.unlearner if hasattr(innermost(self.unlearner), "classes_") else None
        original = self.report.get("original", fitted)
        rehearse(self.given | {"unlearner": fitted, "original": original})

    def _check_unchanged(self, entries):
        """What was checked still holds when the request is noted as begun."""
        more = entries[len(self.entries) :]
        if any(e["event"] != "received" or e["request"] == self.request for e in more):
            raise ValueError(
                f"{self.log.path} was changed by another process while the rows were compared with "
                f"it. {UNTOUCHED} Call unlearn again."
            )
        for path in self._paths(len(entries) + 1):
            if path.exists():
                raise ValueError(
                    f"{path} must not be there yet, and is not overwritten: it is the report of "
                    f"another log. {UNTOUCHED} Begin this log under another name."
                )

    def _check_same_rows(self, digests):
        """A request that is gone on with has at least the rows that it began with."""
        marked = {digest for i in np.flatnonzero(self.mask) for digest in digests[i][:2]}
        began = [
            entry
            for entry in self.entries
            if entry["event"] == "began" and entry["request"] == self.request
        ]
        missing = [row for entry in began for row in entry["rows"] if row not in marked]
        if missing:
            raise ValueError(
                f"forget must mark the rows that request {self.request!r} began with; "
                f"{len(missing)} of them are not marked, or not in X. Close the request, and make "
                "another one."
            )

    def _check_returns(self, digests, forgotten):
        """Refuse rows that come back, or warn of them, or mark them."""
        found = forgotten.returned(digests, self.mask)
        if self.on_return == "mark":
            self.mask = self.mask.copy()
            self.mask[[i for i, _ in found]] = True
        else:
            self._refuse_or_warn("X", found)

    def _check_held_out(self, began):
        """Refuse held-out rows that were forgotten, or are about to be, or warn of them."""
        forgotten = Forgotten(self.entries)
        forgotten.add(began)
        for name, rows in {"X_val": self.X_val, "X_unseen": self.report["X_unseen"]}.items():
            if rows is not None:
                theirs = row_digests(self.key, unwrapped(rows))
                found = forgotten.returned(theirs, np.zeros(len(theirs), bool))
                self._refuse_or_warn(name, found)

    def _refuse_or_warn(self, name, found):
        if self.on_return == "warn" and found:
            warn(returned_message(name, found))
        else:
            raise_returned(name, found)

    def _warn_of_rows(self, digests, twins):
        if n_twins := np.count_nonzero(list(twins.values())):
            warn(
                f"{n_twins} of the rows to forget are equal to rows that forget does not mark, "
                "from which the network goes on learning the same. Mark them too, unless they are "
                "of somebody else."
            )
        first = int(np.flatnonzero(self.mask)[0])
        if row_digests(self.key, take_rows(self.X, [first])) != [digests[first]]:
            warn(
                f"row {first} of X is another each time it is read, so that rows that come back "
                "cannot be recognised. Pass a data set without random transformations."
            )

    def _check_network(self, all_are_marked):
        """Whether the unlearner is the one that the last request has left; None if not known."""
        noted = []
        for entry in self.entries:
            if entry["event"] == "retrained" or (entry["event"] == "unlearned" and entry["saved"]):
                noted = []
            if entry.get("network"):
                noted.append(entry["network"])
            if entry["event"] == "done":  # as it is in memory, where it was not saved
                noted = noted[-1:]
        found = fingerprint(self.key, self.unlearner)
        if not noted or found is None:
            return None
        if found not in noted and not all_are_marked:
            warn(
                "the unlearner does not have the weights that the log has noted last. If it is an "
                "older copy, it remembers rows of earlier requests: go on with the network that "
                "they have left, or mark all of these rows again. Note a retraining with "
                "RequestLog.retrained."
            )
        return found in noted

    def _epochs_of_training(self, known):
        """The epochs of the network's training, of which costs are shares; None if not known."""
        inner, noted = innermost(self.unlearner), []
        for entry in self.entries:
            noted = [] if entry["event"] == "retrained" else [*noted, entry.get("epochs")]
        noted = [epochs for epochs in noted if epochs]
        if known and noted and isinstance(inner.estimator, FrozenEstimator):
            return noted[-1]  # a network that has unlearned has the `max_epochs` of that run
        return getattr(innermost(inner.estimator), "max_epochs", None)

    # -- the run -----------------------------------------------------------------------------------

    def _copied(self):
        """The network before the request: a copy, or what is frozen and never changes."""
        inner = innermost(self.unlearner)
        if not hasattr(inner, "classes_") and isinstance(inner.estimator, FrozenEstimator):
            return inner.estimator
        return deepcopy(self.unlearner)

    def _forget(self):
        from sklearn.pipeline import Pipeline  # not loaded by skorch

        held_out = {"X_val": self.X_val, "y_val": self.y_val}
        if isinstance(self.unlearner, Pipeline):
            unlearn_pipeline(self.unlearner, self.X, self.y, forget=self.mask, **held_out)
            return
        if self.groups is not None and takes_groups(self.unlearner):
            held_out["groups"] = self.groups
        self.unlearner.unlearn(self.X, self.y, forget=self.mask, **held_out)

    def _filed(self, report):
        """Write the report; its name is the number of the entry that began the request."""
        path, page = self._paths(self.began["entry"])
        write_new(page, report.to_html().encode())
        write_new(path, report.to_json().encode())
        sync_folder(path.parent)
        return path

    def _paths(self, number):
        """The files of a report, as data and as a page."""
        return [self.log.reports / f"{number:04d}.{kind}" for kind in ("json", "html")]

    def _new_messages(self):
        """The messages of warnings since the last entry, each once, and no more than 20."""
        new, self.messages[:] = list(dict.fromkeys(self.messages)), []
        return new[:20] + [f"... and {len(new) - 20} more"] * (len(new) > 20)

    def _note(self, event, **content):
        """Note what was done after the network has unlearned; an error says that it has."""
        try:
            content["warnings"] = self._new_messages()
            self.log._append(event, state=UNLEARNED, request=self.request, **content)
        except ValueError as error:
            raise ValueError(f"{error} {UNLEARNED}") from error

    def _note_failure(self, during, error):
        """Note the kind of an error; its message may tell of rows."""
        with contextlib.suppress(OSError, ValueError):  # the error itself is what is raised
            self.log._append(
                "failed",
                state="",
                request=self.request,
                during=during,
                reason=f"{type(error).__name__} while {during}",
                warnings=self._new_messages(),
            )

    def _tell_failure(self, during, error):
        self._note_failure(during, error)
        warn(f"{during} has failed. {UNLEARNED}")


def check_unlearner(unlearner):
    """Refuse what cannot unlearn, or is not trained.

    A trained network in a FrozenEstimator need not have been fitted by the unlearner.
    """
    inner = innermost(unlearner)
    if not isinstance(inner, BaseUnlearner):
        raise ValueError(
            "unlearner must be an unlearner, or a pipeline that ends in one; got "
            f"{type(unlearner).__name__}. {_FROM_A_NETWORK}"
        )
    if not isinstance(inner.estimator, FrozenEstimator):
        check_is_fitted(unlearner)
        return
    net = inner.estimator.estimator
    if not isinstance(net, NeuralNet) or not net.initialized_:
        raise ValueError(
            "unlearner must have a trained network in its FrozenEstimator; got "
            f"{type(net).__name__}{', not initialized' * isinstance(net, NeuralNet)}. "
            f"{_FROM_A_NETWORK}"
        )


_FROM_A_NETWORK = (
    "Of a trained torch module, make one by FineTune(FrozenEstimator(net)), where net is a "
    "skorch.NeuralNetClassifier(module, criterion=..., classes=[...]).initialize()."
)


def takes_groups(unlearner):
    """Whether the method asks to whom each row belongs."""
    return "groups" in inspect.signature(unlearner.unlearn).parameters
