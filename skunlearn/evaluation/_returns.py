"""Rows that a log knows by their digests, and those among them that come back."""

from collections import Counter

import numpy as np
import torch

from skunlearn._engine.chain import keyed_digest
from skunlearn._engine.hashing import canonical_bytes, each_row
from skunlearn.evaluation._states import forgotten_rows


def row_digests(key, X):
    """Keyed digests of each row, without its label: as it is, and rounded to float32.

    And whether it holds integers, which came from no float32.
    """
    digests = []
    for row in each_row(X):
        exact, rounded = canonical_bytes(row), canonical_bytes(row, np.float32)
        digest = keyed_digest(key, exact)
        rounded = digest if rounded == exact else keyed_digest(key, rounded)
        digests.append((digest, rounded, _holds_integers(row)))
    return digests


def _holds_integers(row):
    if isinstance(row, torch.Tensor):
        return not (row.is_floating_point() or row.is_complex())
    return isinstance(row, np.ndarray | np.generic) and row.dtype.kind in "biu"


def described_rows(digests, mask, forgotten):
    """What an entry says of the rows of a request."""
    marked = {digests[i]: None for i in np.flatnonzero(mask)}
    unmarked = Counter(row[0] for row, is_marked in zip(digests, mask) if not is_marked)
    known = {row: forgotten.match(row) for row in marked}
    new = [row for row in marked if known[row] is None]
    # As many rows that are equal to one of these stay, and may be there later.
    retained = {known[row] or row[0]: unmarked[row[0]] for row in marked}
    return {
        "n_rows": int(np.count_nonzero(mask)),
        "rows": [exact for exact, _, _ in new],
        "integers": all(is_integer for _, _, is_integer in new),
        # The same rows as an array of float32 holds them.
        "rounded": {rounded: exact for exact, rounded, _ in new if rounded != exact},
        "equal_rows_retained": {
            digest: n for digest, n in retained.items() if n or digest in forgotten.request
        },
    }


class Forgotten:
    """The rows that finished requests have forgotten.

    Parameters
    ----------
    entries : list of dict
        The log.
    without : str or None
        A request whose rows are left out.
    """

    def __init__(self, entries, without=None):
        self.request, self.rounded, self.retained, self.integers = {}, {}, {}, set()
        for entry in forgotten_rows(entries):
            if entry["request"] != without:
                self.add(entry)

    def add(self, began):
        """Add the rows of an entry that says that a request began."""
        for exact in began["rows"]:
            self.request.setdefault(exact, began["request"])
        self.integers |= set(began["rows"]) if began["integers"] else set()
        self.rounded |= began["rounded"]
        self.retained |= dict.fromkeys(began["rows"], 0)
        self.retained |= began["equal_rows_retained"]

    def __len__(self):
        return len(self.request)

    def match(self, row):
        """The digest by which a row is known, or None."""
        exact, rounded, is_integer = row
        if exact in self.request:
            return exact
        if exact in self.rounded and not is_integer:  # the row comes back in float32
            return self.rounded[exact]
        if is_integer and rounded in self.integers:  # another integer that float32 takes for it
            return None
        return rounded if rounded in self.request else None  # it was in float32 before

    def returned(self, digests, mask):
        """Positions of unmarked rows that were forgotten, with the request of each."""
        left = dict(self.retained)
        found = []
        for i, (row, is_marked) in enumerate(zip(digests, mask)):
            known = None if is_marked else self.match(row)
            if known is None:
                continue
            if left[known] > 0:  # one of those that were equal to it, and stayed
                left[known] -= 1
            else:
                found.append((i, self.request[known]))
        return found

    def count_marked(self, digests, mask):
        """How many different forgotten rows are marked."""
        return len({self.match(digests[i]) for i in np.flatnonzero(mask)} - {None})


def raise_returned(name, found):
    """Refuse forgotten rows that come back."""
    if found:
        raise ValueError(returned_message(name, found))


def returned_message(name, found):
    """What is said of forgotten rows that come back: their numbers, and the requests."""
    by_request = {}
    for i, request in found:
        by_request.setdefault(request, []).append(i)
    parts = [f"{_listed(rows)} by {request!r}" for request, rows in by_request.items()]
    rows, are = ("rows", "were") if len(found) > 1 else ("row", "was")
    remedy = (
        "An unmarked row is a row to retain, and is learnt again: delete it from where X is read, "
        "mark it, or pass on_return='mark'."
        if name == "X"
        else f"Leave it out of {name}: held-out rows are rows that no network has seen."
    )
    unmarked = ", which forget does not mark" if name == "X" else ""
    return (
        f"{name} has {len(found)} {rows} that {are} forgotten{unmarked}: {_some(parts)}. {remedy}"
    )


def _listed(rows):
    shown = list(map(str, rows[:10]))
    if len(rows) > 10:
        return f"{', '.join(shown)} and {len(rows) - 10} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _some(parts):
    return "; ".join(parts[:5]) + (f"; and of {len(parts) - 5} more requests" * (len(parts) > 5))
