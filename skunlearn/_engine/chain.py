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


def keyed_digest(key, content):
    """HMAC-SHA256 of bytes, in hexadecimal digits; plain SHA-256 where there is no key."""
    if key is None:
        return hashlib.sha256(content).hexdigest()
    return hmac.new(key, content, "sha256").hexdigest()


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

    def read(self):
        """The lines as bytes, and what an interrupted write has left after the last of them."""
        try:
            *lines, rest = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], b""
        return lines, rest

    def entries(self):
        """The lines as dicts; what cannot be read as one is left out."""
        found = (_parsed(line) for line in self.read()[0])
        return [entry for entry in found if entry is not None]

    def fault(self, lines=None):
        """What is wrong with the first line that is not as it was written, or None."""
        lines = self.read()[0] if lines is None else lines
        previous = None
        for number, line in enumerate(lines, 1):
            entry, where = _parsed(line), f"entry {number} of {self.path}"
            if entry is None or not self._is_ours(line):
                return f"{where} is not as it was written"
            if entry.get("previous") != previous or entry.get("entry") != number:
                return f"{where} does not follow the one before it, which was changed or removed"
            previous = keyed_digest(None, line)
        return None

    def append(self, event, **content):
        """Append an entry, which is on disk as a whole when this returns, or not at all.

        Returns
        -------
        entry : dict
            What was written.
        """
        with self.appending():
            lines, _ = self.read()
            if fault := self.fault(lines):
                raise ValueError(
                    f"{fault}; nothing was appended. Keep the file as it is for an examination, "
                    "and restore it from a backup or begin another."
                )
            entry = {
                "entry": len(lines) + 1,
                "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "event": event,
                **content,
                "previous": keyed_digest(None, lines[-1]) if lines else None,
            }
            body = json.dumps(entry, allow_nan=False, ensure_ascii=False).encode()[:-1]
            digest = keyed_digest(self.key, body).encode()
            self._write(body + b', "digest": "' + digest + b'"}\n')
        return entry

    @contextlib.contextmanager
    def appending(self):
        """Keep other processes from appending; finish or set aside what one of them left."""
        with lock_of(self.path, ".lock", WAIT):
            yield self._repair()

    def _repair(self):
        """Finish the last line, or set it aside; return the number of bytes that were set aside."""
        lines, rest = self.read()
        if not rest:
            return 0
        if _parsed(rest) is not None and self._is_ours(rest):  # but for the end of the line
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


def _parsed(line):
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
