"""The record of requests: what was asked, done and measured, beside the model.

It has over 500 lines because half of them are the docstrings of what users call.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skunlearn._engine.chain import ChainedFile, keyed_digest, lock_of, now, parsed
from skunlearn._engine.unwrap import innermost
from skunlearn._engine.validation import check_forget, check_number, noted_warnings, warn
from skunlearn.evaluation._description import fingerprint, versions
from skunlearn.evaluation._drift import RETRAIN_AFTER
from skunlearn.evaluation._key_file import create_key, destroy
from skunlearn.evaluation._request_run import UNTOUCHED, RequestRun, check_unlearner, takes_groups
from skunlearn.evaluation._request_text import log_as_html
from skunlearn.evaluation._returns import Forgotten, raise_returned, row_digests
from skunlearn.evaluation._states import (
    COLUMNS,
    OPEN,
    day_of,
    is_destroyed,
    open_requests_of,
    requests_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date
    from typing import Any, Literal

    from numpy.typing import ArrayLike

    from skunlearn._engine.typing import (
        Estimator,
        Folder,
        HeldOutLabels,
        HeldOutRows,
        MaskLike,
        RowsLike,
    )
    from skunlearn.evaluation.report import UnlearningReport


class RequestLog:
    """A record of requests to forget, kept beside the model.

    A file of JSON lines, to which entries are only ever appended. It holds no rows: those that were
    forgotten are known by keyed digests, so that one that comes back is noticed.

    Parameters
    ----------
    path : str or path
        The file. It is begun where there is none. Reports go into a folder beside it, which has its
        name with ``-reports`` for the suffix, or with ``-2-reports`` where another log has that.
    key : bytes, str, path or None
        The secret key of all digests: at least 16 bytes, or the file that holds it, which is made
        along with the log. Keep it apart from the log and its backups. None opens a log to read.
    retrain_after : dict of str to float, default=None
        When a retraining is due: ``"utility_drop"``, the loss of accuracy on unseen rows since the
        last training (.02 by default, and more than the interval explains), ``"attack_auc"``, that
        of an attack on all forgotten rows that are measured (.6, all of the interval above it; the
        calibrated attack where there is one), and ``"cost"``, that of all requests since, in
        retrainings (1). One that is left out is not watched.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    reports : pathlib.Path
        The folder of the reports.

    Raises
    ------
    ValueError
        If the key is too short, not the one that the log was begun with, or destroyed.
    OSError
        If the file cannot be read, or a new one cannot be written.

    See Also
    --------
    skunlearn.unlearning_report : What is measured for each request.

    Notes
    -----
    *Entries.* Each line has its number, the time in UTC, an event, the SHA-256 of the line before
    it, and an HMAC-SHA256 of itself with the key. So a line that was changed, removed or put in is
    noticed by `verify`. Lines that are missing at the end are noticed by a digest that was noted
    elsewhere, or by a report that no entry knows. Whoever has the key can write another log.

    *Killed runs.* An entry is on disk as a whole or not at all. What an interrupted write has left
    is set aside in a file that ends in ``.interrupted``. A request that began and was not done is
    told when the log is opened again; call `unlearn` again for it, or `close` it.

    *Two processes.* One at a time unlearns; another is told so at once, for the network that it
    holds is older than the one that it would have to go on with. Other entries wait for each other.

    *Rows* are known by their contents, without labels, in the type that they came in and as float32
    holds them. In half precision, in another shape, or scaled, they are others. Rows that are drawn
    or augmented when they are read have new contents each time, and cannot be recognised. As many
    rows as were equal to a forgotten row, and were retained when it was forgotten, may be there
    later.

    *The month* is that of Article 12(3) of the GDPR, from the day of receipt to the same day of the
    next month. Whether it applies, or is extended, is not for a library to say.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune
    >>> from skunlearn.evaluation import RequestLog
    >>> def linear(n_features_in, n_classes):
    ...     return nn.Linear(n_features_in, n_classes)
    >>> net = NeuralNetClassifier(
    ...     linear, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.3
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(200, 4)), rng.choice(["no", "yes"], 200)
    >>> X_unseen, y_unseen, X, y = X[:100], y[:100], X[100:], y[100:]
    >>> unlearner = FineTune(net, random_state=0).fit(X, y)
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = RequestLog(f"{folder.name}/requests.jsonl", key=f"{folder.name}/requests.key")
    >>> report = log.unlearn(
    ...     unlearner, X, y, forget=np.arange(100) < 3, request="2026-001", received="2026-11-02",
    ...     X_unseen=X_unseen, y_unseen=y_unseen, n_resamples=100,
    ... )
    >>> (row,) = log.records
    >>> row["request"], row["state"], row["rows"], row["report"]
    ('2026-001', 'done', 3, 'requests-reports/0002.json')
    >>> log.unlearn(
    ...     unlearner, X, y, forget=np.arange(100) == 50, request="2026-002",
    ...     X_unseen=X_unseen, y_unseen=y_unseen,
    ... )
    Traceback (most recent call last):
        ...
    ValueError: X has 3 rows that were forgotten, which forget does not mark: 0, 1 and 2 by
    '2026-001'. ...
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: Folder,
        *,
        key: bytes | Folder | None,
        retrain_after: Mapping[str, float] | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.retrain_after = dict(RETRAIN_AFTER if retrain_after is None else retrain_after)
        if unknown := self.retrain_after.keys() - RETRAIN_AFTER.keys():
            raise ValueError(
                f"retrain_after must have keys out of {sorted(RETRAIN_AFTER)}; got "
                f"{sorted(unknown)}."
            )
        for name, limit in self.retrain_after.items():
            check_number(f"retrain_after[{name!r}]", limit, 0)
        self._key_path = None if isinstance(key, bytes) or key is None else Path(key).absolute()
        if self._key_path == self.path:
            raise ValueError(f"key must be another file than the log; got {str(key)!r} for both.")
        lines, rest = ChainedFile(self.path, None).read()
        first, start = [*lines, rest][0], b'{"entry": '
        if first[: len(start)] != start[: len(first)]:
            raise ValueError(f"path must be a log of requests, or a new file; got {self.path}.")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"path must be in a folder that is there; got {self.path}.")
        if key is None and not lines:
            raise ValueError(
                f"key must be given to begin a log; got None, and {self.path} has no entries."
            )
        destroyed = any(is_destroyed(parsed(line)) for line in lines)
        self._file = ChainedFile(self.path, self._read_key(key, bool(lines), destroyed))
        if lines and self._file.key is not None:
            self._check_key(lines)
            if destroyed:
                self._refuse_destroyed(lines)
        if rest:
            self._repair(rest)
        if not self._file.read()[0]:
            self._begin()
        entries, _ = self._file.entries()
        name = entries[0].get("reports") if entries else None
        self.reports = self.path.with_name(name or f"{self.path.stem}-reports")
        self._tell_unfinished(entries)

    # -- opening -----------------------------------------------------------------------------------

    def _begin(self):
        """Write the first entry, with a folder that no other log has."""
        self._append(
            "log begun",
            state="Nothing was written.",
            versions=versions(),
            reports=self._written(self._new_folder, "Nothing was written."),
        )

    def _new_folder(self):
        """The name of a folder that was not there, so that no report of another log is in it."""
        numbers = count(2)
        folder = self.path.with_name(f"{self.path.stem}-reports")
        while True:
            try:
                folder.mkdir()
                return folder.name
            except FileExistsError:
                folder = self.path.with_name(f"{self.path.stem}-{next(numbers)}-reports")

    def _refuse_destroyed(self, lines):
        """Refuse the key of a log that says that it was destroyed; destroy it if that is true."""
        if fault := self._file.entries(lines)[1]:
            raise ValueError(
                f"{fault}. The log says that its key was destroyed, which is not verified: nothing "
                "was destroyed. Keep the file as it is for an examination, and restore it from a "
                "backup."
            )
        if self._key_path is not None:
            destroy(self._key_path)  # forget_key was killed before it got to that
        raise self._destroyed()

    def _destroyed(self):
        return ValueError(
            f"the key of {self.path} was destroyed, and it takes no more entries. Open it with "
            "key=None to read, and begin another log for further requests."
        )

    def _read_key(self, key, exists, destroyed):
        if self._key_path is not None:
            if not self._key_path.exists():
                if destroyed:
                    raise self._destroyed()
                if exists:
                    raise ValueError(
                        f"key must be the file of the key that {self.path} was begun with; got "
                        f"{str(key)!r}, which is not there. key=None opens the log to read."
                    )
                if not self._key_path.parent.is_dir():
                    raise FileNotFoundError(
                        f"key must be in a folder that is there; got {self._key_path}."
                    )
                with contextlib.suppress(FileExistsError):  # another process was faster
                    create_key(self._key_path)
            key = self._key_path.read_bytes().strip()
        if key is not None and len(key) < 16:
            where = f" in {self._key_path}" if self._key_path is not None else ""
            raise ValueError(
                "key must have at least 16 bytes, or its digests can be guessed; got "
                f"{len(key)}{where}. secrets.token_bytes(32) makes one."
            )
        return key

    def _check_key(self, lines):
        if self._file.entries(lines[:1])[1]:
            raise ValueError(
                f"key must be the one that {self.path} was begun with; got another, or the first "
                "line of the file has been changed."
            )

    def _repair(self, rest):
        """Set aside what an interrupted write has left, and tell of it."""
        n_bytes, done = len(rest), "They are left where they are"
        if self._file.key is not None:
            with contextlib.suppress(OSError):  # nothing can be written to the folder
                n_bytes = self._file.repair()
                done = f"They are set aside in {self.path.name}.interrupted"
        if n_bytes:
            warn(
                f"{self.path} ends in {n_bytes} bytes of an entry whose writing was interrupted. "
                f"{done}; all entries before are there."
            )

    def _tell_unfinished(self, entries):
        names = [
            name
            for name, row in requests_of(entries).items()
            if row["state"] in ("unfinished", "not measured")
        ]
        if names and not self._is_in_use():
            warn(
                f"{self.path} has requests that began and were not done: {names}. Load the network "
                "that was saved last and call unlearn again for each, or close it."
            )

    def _is_in_use(self):
        """Whether another process is unlearning, for which it must not be in the way."""
        if self._file.key is None:
            return False
        try:
            with self._file.locked():
                return self._is_running()
        except TimeoutError:
            return True
        except OSError:  # nothing can be written there, so nobody unlearns
            return False

    def _is_running(self):
        try:
            with lock_of(self.path, ".run.lock", 0):
                return False
        except TimeoutError:
            return True

    # -- reading -----------------------------------------------------------------------------------

    @property
    def records(self) -> list[dict[str, Any]]:  # numpydoc ignore=RT01
        """A dict for each request, in the order in which they came.

        It has the name of the request and its `state`: ``"received"``, ``"unfinished"`` (it began,
        and was killed or is under way), ``"failed"``, ``"not measured"`` (unlearned, without a
        report), ``"done"``, or ``"closed"`` for what was not unlearned. `due` is a month after
        `received`, and `days` the age of an open request, or how long another took. A ValueError
        names an entry that is not as it was written, as far as that can be told without the key.
        """
        return list(requests_of(self._entries()).values())

    def table(self) -> Any:
        """The requests, one a row.

        Returns
        -------
        table : pandas.DataFrame or list of dict
            The `records`; a list where pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            return self.records
        return DataFrame(self.records, columns=COLUMNS)

    def open_requests(self) -> list[dict[str, Any]]:
        """The requests that are not done, the one that is due first before the others.

        Returns
        -------
        requests : list of dict
            Of each ``request``, ``state``, ``received``, ``due``, ``days`` since it was received,
            and whether it is ``overdue``.
        """
        return open_requests_of(self.records)

    def verify(self, *, noted: str | None = None) -> str:
        """Check that no entry, and no report, was changed or removed.

        With the key, nobody who does not have it can have changed anything. Without it, the chain
        of SHA-256 digests shows what was damaged, and what was edited by somebody who did not make
        all later digests again; who did is noticed by `noted` alone.

        Parameters
        ----------
        noted : str, default=None
            What an earlier call returned, and was noted elsewhere: it must still be in the log.

        Returns
        -------
        digest : str
            The SHA-256 of the last entry. Note it where nobody who can write the log can.

        Raises
        ------
        ValueError
            If something is not as it was written; it says what.
        """
        lines, _ = self._file.read()
        entries, fault = self._verified(lines)
        fault = fault or self._report_fault(entries)
        digests = [keyed_digest(None, line) for line in lines]
        if not fault and noted is not None and noted not in digests:
            fault = f"{self.path} has no entry with the digest that was noted, {noted}"
        if fault:
            raise ValueError(f"{fault}.")
        return digests[-1]

    def _report_fault(self, entries):
        """What is wrong with the first report that is not as it was written, or None."""
        for entry in entries:
            if "report" not in entry:
                continue
            path = self.path.parent / entry["report"]
            for file in (path, path.with_suffix(".html")):
                if not file.exists():
                    return f"the report {file} is missing"
            written = self._digests_of(path)
            for file, kind in ((path, "report"), (path.with_suffix(".html"), "page")):
                names = [f"{kind}_sha256"] + [f"{kind}_digest"] * (self._file.key is not None)
                if any(written[name] != entry.get(name, written[name]) for name in names):
                    return f"the report {file} is not as it was written"
        began = {entry["entry"] for entry in entries if entry["event"] == "began"}
        for path in sorted(self.reports.glob("*")):
            numbered = path.suffix in (".json", ".html") and path.stem.isdecimal()
            if numbered and int(path.stem) not in began:
                return f"the report {path} is of an entry that is missing"
        return None

    def _digests_of(self, path):
        """Digests of a report and of its page, keyed and plain."""
        files = {"report": path.read_bytes(), "page": path.with_suffix(".html").read_bytes()}
        return {
            **{
                f"{kind}_digest": keyed_digest(self._file.key, file) for kind, file in files.items()
            },
            **{f"{kind}_sha256": keyed_digest(None, file) for kind, file in files.items()},
        }

    def to_html(self) -> str:
        """A page with one line a request, and links to the reports.

        Returns
        -------
        html : str
            A whole page. Write it to the folder of the log, from where its links lead.
        """
        try:
            verified, fault = self.verify(), None
        except ValueError as error:
            verified, fault = None, str(error)
        entries, cut = self._verified()
        if cut:
            fault = f"{fault} What follows is what the entries before it say."
        rows, has_key = list(requests_of(entries).values()), self._file.key is not None
        return log_as_html(self.path.name, rows, open_requests_of(rows), verified, fault, has_key)

    # -- writing -----------------------------------------------------------------------------------

    def receive(self, request: str, *, received: str | date | None = None) -> None:
        """Note a request that has come in, and is not begun yet.

        Parameters
        ----------
        request : str
            Its name, such as a case number. The log keeps it, so it should not be a person's name.
        received : str or date, default=None
            The day on which it came, such as ``"2026-11-02"``; by default today.

        Raises
        ------
        ValueError
            If the log has the request already, or the day is in the future.
        """
        self._check_request(request)

        def check(entries):
            if request in requests_of(entries):
                raise ValueError(
                    f"request must be new to the log; got {request!r}, which is in it."
                )

        self._append(
            "received",
            state="The request is not noted.",
            check=check,
            request=request,
            received=day_of(received),
        )

    def close(self, request: str, *, forgotten: bool, reason: str) -> None:
        """Close a request without unlearning.

        Parameters
        ----------
        request : str
            Its name.
        forgotten : bool
            Whether its rows are forgotten, as by a network that was trained again without them.
        reason : str
            Why it is closed. The log keeps it: no names, and no rows.

        Raises
        ------
        ValueError
            If the log has no such open request.
        RuntimeError
            If it is being unlearned at the moment.
        """
        if not isinstance(forgotten, bool):
            raise ValueError(f"forgotten must be True or False; got {forgotten!r}.")
        self._check_request(request)

        def check(entries):
            row = requests_of(entries).get(request)
            if row is None or row["state"] not in OPEN:
                state = "is not in the log" if row is None else f"is {row['state']}"
                raise ValueError(f"request must be an open one; got {request!r}, which {state}.")
            if forgotten and row["began"] is None:
                raise ValueError(
                    "forgotten must be False for a request that never began; got True for "
                    f"{request!r}, whose rows the log does not know."
                )
            began = [entry["request"] for entry in entries if entry["event"] == "began"]
            is_last = began[-1:] == [request] and row["state"] != "failed"
            if is_last and self._is_running():
                raise RuntimeError(f"request {request!r} is being unlearned, and cannot be closed.")

        self._append(
            "closed",
            state="The request is still open.",
            check=check,
            request=request,
            forgotten=forgotten,
            reason=str(reason),
        )

    def retrained(self, unlearner: Estimator, X: RowsLike) -> None:
        """Note that the network was trained again from scratch: drift starts from here.

        Parameters
        ----------
        unlearner : estimator
            The fitted unlearner, or a pipeline that ends in one.
        X : array-like or torch.utils.data.Dataset
            The rows that it was trained on.

        Raises
        ------
        ValueError
            If a forgotten row is among them.
        RuntimeError
            If another process is unlearning.
        """
        check_unlearner(unlearner)
        digests = row_digests(self._require_key(), X)
        state = "The retraining is not noted."

        def check(entries):
            found = Forgotten(entries).returned(digests, np.zeros(len(digests), bool))
            raise_returned("X", found)

        with self._running(f"the retraining has to wait. {state}", state):
            self._append(
                "retrained",
                state=state,
                check=check,
                network=fingerprint(self._file.key, unlearner),
            )

    def returned(self, X: RowsLike, *, forget: MaskLike | None = None) -> list[tuple[int, str]]:
        """Forgotten rows that are in `X` again, unmarked.

        Parameters
        ----------
        X : array-like or torch.utils.data.Dataset
            Rows, such as those of the next training.
        forget : array-like of bool of shape (n_samples,), default=None
            True for rows that may be there, for they are to be forgotten.

        Returns
        -------
        rows : list of tuple of int and str
            The position of each, and the request that it was forgotten for.
        """
        digests = row_digests(self._require_key(), X)
        mask = np.zeros(len(digests), bool)
        if forget is not None:
            mask = check_forget(forget, len(digests), X)
        return Forgotten(self._entries_with_key()).returned(digests, mask)

    def forget_key(self) -> None:
        """Destroy the key, which makes the record anonymous as far as rows are concerned.

        Nobody can find out any more whether a given row is in the log or its reports, and the log
        takes no more entries. What remains are dates, names of requests, counts and metrics, and
        the chain of SHA-256 digests. A file of the key is overwritten and deleted; copies of it,
        and a key that was given as bytes, are yours to destroy.

        Raises
        ------
        ValueError
            If the file holds another key by now, which is left as it is.
        RuntimeError
            If another process is unlearning.
        """
        key = self._require_key()
        is_there = self._key_path is not None and self._key_path.exists()
        if is_there and self._key_path.read_bytes().strip() != key:
            raise ValueError(
                f"{self._key_path} must hold the key that {self.path} was opened with; it holds "
                "something else now, and nothing was destroyed. Open the log with its own key."
            )
        state = "The key is still there."
        with self._running(f"its key cannot be destroyed. {state}", state):
            self._append("key destroyed", state=state)
            if is_there:
                destroy(self._key_path)
        self._file.key = None

    def unlearn(
        self,
        unlearner: Estimator,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        forget: MaskLike,
        request: str,
        X_unseen: RowsLike,
        y_unseen: ArrayLike | None = None,
        received: str | date | None = None,
        X_val: HeldOutRows = None,
        y_val: HeldOutLabels = None,
        groups: ArrayLike | None = None,
        on_return: Literal["raise", "warn", "mark"] = "raise",
        save: Callable[[Any], object] | None = None,
        **report: Any,
    ) -> UnlearningReport:
        """Unlearn, measure, and note what was done.

        Parameters
        ----------
        unlearner : estimator
            A fitted unlearner, or a pipeline that ends in one, which is made to forget by
            :func:`~skunlearn.unlearn_pipeline`. It is changed in place.
        X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
            The rows to forget together with the rows to retain.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Their labels; may be left out for a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,)
            True for the rows to forget. Rows of earlier requests may be marked again, and are then
            part of what is measured.
        request : str
            The name of the request, such as a case number. One that is open is gone on with; its
            rows have to be marked again.
        X_unseen : array-like of shape (n_unseen, ...) or torch.utils.data.Dataset
            Rows that no network was trained, tuned or stopped on, for the report.
        y_unseen : array-like of shape (n_unseen,) or (n_unseen, n_labels), default=None
            Their labels.
        received : str or date, default=None
            The day on which the request came; by default what `receive` was given, or today.
        X_val, y_val : array-like, default=None
            Held-out rows that the method may use.
        groups : array-like of shape (n_samples,), default=None
            The person, or other group, of each row, for a method whose `unlearn` takes them, and,
            together with `groups_unseen`, for the report. Alone they are refused for methods that
            take none.
        on_return : {"raise", "warn", "mark"}, default="raise"
            What becomes of rows that were forgotten and are in `X` unmarked: they are refused,
            warned of and learnt again, or marked as if `forget` did. "mark" is also how the drift
            is measured over all rows that have been forgotten so far.
        save : callable, default=None
            Called with the unlearner as soon as it has unlearned, such as
            ``lambda unlearner: joblib.dump(unlearner, f"{request}.joblib")``: a new file for each
            request, so that a process that is killed while it saves does not ruin the last. The
            request is done only after that. Without it, a process that dies before you save leaves
            a log that says done beside a network that remembers.
        **report
            Passed to :func:`~skunlearn.unlearning_report`. `original` is by default a copy of the
            unlearner from before, which is dropped afterwards; None does without.

        Returns
        -------
        report : UnlearningReport
            The report, over all rows that are marked, which is in the folder `reports` as well.

        Raises
        ------
        ValueError
            If forgotten rows come back, the request is done already, the log was changed, or as
            `unlearn` and `unlearning_report` raise it. An error before the rows are unlearned
            leaves the unlearner as it was, and one afterwards says that it has unlearned.
        RuntimeError
            If another process is unlearning.
        OSError
            If the log or a report cannot be written. It says whether the unlearner has unlearned.
        """
        if on_return not in ("raise", "warn", "mark"):
            raise ValueError(f"on_return must be 'raise', 'warn' or 'mark'; got {on_return!r}.")
        self._require_key()
        self._check_request(request)
        check_unlearner(unlearner)
        if save is not None and not callable(save):
            raise ValueError(f"save must be a function of the unlearner, or None; got {save!r}.")
        report |= {"X_unseen": X_unseen, "y_unseen": y_unseen}
        has_unseen = report.get("groups_unseen") is not None
        if groups is not None and not has_unseen and not takes_groups(innermost(unlearner)):
            raise ValueError(
                "groups must come with groups_unseen, whose the unseen rows are, for a report over "
                f"people; got groups alone, and {type(innermost(unlearner)).__name__} has no use "
                "for them."
            )
        if has_unseen:
            report["groups"] = groups
        run = RequestRun(
            self, unlearner, (X, y, forget), (X_val, y_val, groups), request, on_return, report
        )
        wait = (
            f"{request!r} has to wait. When it is done, load the network that it has saved, and "
            "call unlearn again."
        )
        with self._running(wait, UNTOUCHED), noted_warnings() as run.messages:
            run.begin(None if received is None else day_of(received))
            run.unlearn(save)
            return run.measure()

    # -- what a run uses ---------------------------------------------------------------------------

    def _verified(self, lines=None):
        """The entries up to one that is not as it was written, and what is wrong with it."""
        entries, fault = self._file.entries(lines)
        if not entries and fault is None:
            fault = f"{self.path} has no entries any more"
        return entries, fault

    def _entries(self):
        entries, fault = self._verified()
        if fault:
            raise ValueError(
                f"{fault}. Keep the file as it is for an examination, and restore it from a backup."
            )
        return entries

    def _entries_with_key(self):
        entries = self._entries()
        self._check_takes_entries(entries)
        return entries

    def _check_takes_entries(self, entries):
        if any(map(is_destroyed, entries)):
            raise self._destroyed()

    def _require_key(self):
        if self._file.key is None:
            raise ValueError(
                f"key must be given to write to {self.path} or to compare rows with it; it was "
                "opened with key=None, or its key was destroyed."
            )
        return self._file.key

    def _check_request(self, request):
        if not (isinstance(request, str) and request.strip() and len(request) <= 200):
            raise ValueError(
                f"request must be a name of 1 to 200 characters; got {request!r}, such as "
                "'2026-017' would be."
            )

    def _append(self, event, *, state, check=None, **content):
        """Append an entry; an error says in what `state` it leaves things.

        `check` is called with the entries so far, while no other process can append.
        """
        self._require_key()

        def check_all(entries):
            self._check_takes_entries(entries)
            if bool(entries) == (event == "log begun"):
                is_ = "was begun by another process" if entries else "has no entries any more"
                raise ValueError(f"{self.path} {is_}; nothing was appended. Open it again.")
            if check is not None:
                check(entries)
            if event in ("received", "began", "retrained"):
                self._tell_clock(entries)

        return self._written(lambda: self._file.append(event, check_all, **content), state)

    def _tell_clock(self, entries):
        """Warn of a clock that is an hour or more behind the last entry."""
        latest = max((entry["time"] for entry in entries), default=now())
        behind = datetime.fromisoformat(latest) - datetime.fromisoformat(now())
        if behind >= timedelta(hours=1):
            warn(
                f"{self.path} has an entry of {latest}, which is still to come by the clock of the "
                "computer. One of the two is wrong; days since receipt are counted by the clock."
            )

    def _written(self, act, state):
        try:
            return act()
        except OSError as error:
            reason = error.strerror or error
            raise OSError(
                error.errno, f"{self.path} or its reports cannot be written ({reason}). {state}"
            ) from error

    @contextlib.contextmanager
    def _running(self, wait, state):
        """Be the only one who unlearns; errors say who has to `wait`, or in what `state` all is."""
        held = contextlib.ExitStack()

        def hold():
            with self._file.locked():  # or one that asks whether somebody unlearns is in the way
                try:
                    held.enter_context(lock_of(self.path, ".run.lock", 0))
                except TimeoutError as error:
                    raise RuntimeError(
                        f"another process is unlearning a request of {self.path}: {wait}"
                    ) from error

        self._written(hold, state)
        with held:
            yield
