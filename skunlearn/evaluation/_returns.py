"""Rows that a log knows by their digests, and those among them that come back."""

from collections import Counter

import numpy as np

from skunlearn._engine.chain import keyed_digest
from skunlearn._engine.hashing import canonical_bytes, each_row
from skunlearn.evaluation._states import forgotten_requests


def row_digests(key, X):
    """Keyed digests of each row, without its label: as it is, and rounded to float32."""
    digests = []
    for row in each_row(X):
        exact, rounded = canonical_bytes(row), canonical_bytes(row, np.float32)
        digest = keyed_digest(key, exact)
        digests.append((digest, digest if rounded == exact else keyed_digest(key, rounded)))
    return digests


def described_rows(digests, mask, forgotten):
    """What an entry says of the rows of a request."""
    marked = {digests[i]: None for i in np.flatnonzero(mask)}
    unmarked = Counter(exact for (exact, _), is_marked in zip(digests, mask) if not is_marked)
    known = {pair: forgotten.match(pair) for pair in marked}
    new = [pair for pair in marked if known[pair] is None]
    # As many rows that are equal to one of these stay, and may be there later.
    retained = {known[pair] or pair[0]: unmarked[pair[0]] for pair in marked}
    return {
        "n_rows": int(np.count_nonzero(mask)),
        "rows": [exact for exact, _ in new],
        # The same rows as an array of float32 holds them.
        "rounded": {rounded: exact for exact, rounded in new if rounded != exact},
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
    """

    def __init__(self, entries):
        self.request, self.rounded, self.retained = {}, {}, {}
        finished = forgotten_requests(entries)
        for entry in entries:
            if entry["event"] == "began" and entry["request"] in finished:
                for exact in entry["rows"]:
                    self.request.setdefault(exact, entry["request"])
                self.rounded |= entry["rounded"]
                self.retained |= dict.fromkeys(entry["rows"], 0)
                self.retained |= entry["equal_rows_retained"]

    def __len__(self):
        return len(self.request)

    def match(self, pair):
        """The digest by which a row is known, or None."""
        exact, rounded = pair
        if exact in self.request:
            return exact
        if exact in self.rounded:  # the row comes back in float32
            return self.rounded[exact]
        return rounded if rounded in self.request else None  # it was in float32 before

    def returned(self, digests, mask):
        """Positions of unmarked rows that were forgotten, with the request of each."""
        left = dict(self.retained)
        found = []
        for i, (pair, is_marked) in enumerate(zip(digests, mask)):
            known = None if is_marked else self.match(pair)
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
