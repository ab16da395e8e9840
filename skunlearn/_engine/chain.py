"""A file that lines are appended to, each with a digest of the line before and a keyed one."""

import contextlib
import hashlib
import hmac
import json
import os
import re
from datetime import datetime, timezone

WAIT = 60  # seconds, for another process that appends

_TAIL = re.compile(rb', "digest": "([0-9a-f]{64})"}')


def keyed_hash(key, content=b""):
    """HMAC-SHA256 of bytes, which more can be added to; plain SHA-256 where there is no key."""
    return hashlib.sha256(content) if key is None else hmac.new(key, content, "sha256")


def keyed_digest(key, content):
    """The same of all bytes, in hexadecimal digits."""
    return keyed_hash(key, content).hexdigest()


def now():
    """The time in UTC, as an entry has it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class ChainedFile:
    """JSON lines, of which one that is changed, taken out or put in is noticed.

    Each holds the SHA-256 of the line before it, and an HMAC-SHA256 of itself.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    key : bytes or None
        The key of the digests. Without it nothing can be appended, and digests of lines are not
        verified; the chain is.
    """

    def __init__(self, path, key):
        self.path, self.key = path, key

    def __getstate__(self):
        return {"path": self.path, "key": None}  # a key must not get into pickles and copies

    def read(self):
        """The lines as bytes, and what an interrupted write has left after the last of them."""
        try:
            *lines, rest = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], b""
        return lines, rest

    def entries(self, lines=None):
        """The lines as dicts, up to one that is not as it was written, and what is wrong with it.

        Returns
        -------
        entries : list of dict
            All that come before it.
        fault : str or None
            What is wrong with the first that is not as it was written.
        """
        lines = self.read()[0] if lines is None else lines
        found, previous = [], None
        for number, line in enumerate(lines, 1):
            entry, where = parsed(line), f"entry {number} of {self.path}"
            if entry is None or not self._is_ours(line):
                return found, f"{where} is not as it was written"
            if entry.get("previous") != previous or entry.get("entry") != number:
                why = "does not follow the one before it, which was changed or removed"
                return found, f"{where} {why}"
            previous = keyed_digest(None, line)
            found.append(entry)
        return found, None

    def append(self, event, check=None, **content):
        """Append an entry, which is on disk as a whole when this returns, or not at all.

        Parameters
        ----------
        event : str
            Its kind.
        check : callable or None
            Called with the entries so far while no other process can append; it may raise.
        **content
            What else the entry says.

        Returns
        -------
        entry : dict
            What was written.
        """
        with self.locked():
            self._repair()
            lines, _ = self.read()
            entries, fault = self.entries(lines)
            if fault:
                raise ValueError(
                    f"{fault}; nothing was appended. Keep the file as it is for an examination, "
                    "and restore it from a backup or begin another."
                )
            if check is not None:
                check(entries)
            entry = {
                "entry": len(lines) + 1,
                "time": now(),
                "event": event,
                **content,
                "previous": keyed_digest(None, lines[-1]) if lines else None,
            }
            body = json.dumps(entry, allow_nan=False, ensure_ascii=False).encode()[:-1]
            digest = keyed_digest(self.key, body).encode()
            self._write(body + b', "digest": "' + digest + b'"}\n')
        return entry

    def locked(self):
        """Keep other processes from appending."""
        return lock_of(self.path, ".lock", WAIT)

    def repair(self):
        """Finish what a killed process left of a line, or set it aside.

        Returns
        -------
        n_bytes : int
            How many bytes were set aside; none of a file whose lines are not as they were written.
        """
        with self.locked():
            return self._repair()

    def _repair(self):
        lines, rest = self.read()
        if not rest or self.entries(lines)[1]:
            return 0
        if self.entries([*lines, rest])[1] is None:  # but for the end of the line
            self._write(b"\n")
            return 0
        aside = self.path.with_name(f"{self.path.name}.interrupted")
        with aside.open("ab") as file:
            file.write(rest + b"\n")
        with self.path.open("r+b") as file:
            file.truncate(sum(len(line) + 1 for line in lines))
            os.fsync(file.fileno())
        return len(rest)

    def _is_ours(self, line):
        body, tail = line[:-_TAIL_LENGTH], _TAIL.fullmatch(line[-_TAIL_LENGTH:])
        if tail is None:
            return False
        digest = keyed_digest(self.key, body)
        return self.key is None or hmac.compare_digest(digest, tail[1].decode())

    def _write(self, content):
        """Write at the end of the file, and to the disk; what fails leaves the file as it was."""
        existed = self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                done = 0
                while done < len(content):
                    done += os.write(descriptor, content[done:])
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if not existed:
            sync_folder(self.path.parent)


_TAIL_LENGTH = len(b', "digest": "') + 64 + len(b'"}')


def parsed(line):
    """A line as a dict, whether or not it is as it was written; None if it is no entry at all."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("event"), str) else None


@contextlib.contextmanager
def lock_of(path, suffix, timeout):
    """Hold the lock of a file, which the system lets go of when its holder dies.

    Raises
    ------
    TimeoutError
        If another process holds it for longer than `timeout` seconds.
    """
    from filelock import FileLock, Timeout  # here, as skorch does not import it

    lock = FileLock(f"{path}{suffix}")
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise TimeoutError(f"{path} is in use by another process.") from error
    try:
        yield
    finally:
        lock.release()


def sync_folder(folder):
    """See to it that names of new files are on disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
