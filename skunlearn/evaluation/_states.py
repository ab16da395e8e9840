"""State of each request, from the entries of a log: its dates and its numbers."""

from calendar import monthrange
from datetime import date, datetime, timezone

#: The state of a request after an event.
STATES = {
    "received": "received",
    "began": "unfinished",
    "saving": "unfinished",
    "unlearned": "not measured",
    "done": "done",
    "failed": "failed",
}

#: States in which something remains to be done.
OPEN = ("received", "unfinished", "not measured", "failed")

#: What a line of the table takes from the entries as they are.
TAKEN = ("method", "metrics", "criteria", "drift", "retraining_due")
TAKEN += ("report", "reason")

COLUMNS = ("request", "state", "received", "due", "began", "done", "days", "rows", "marked_again")
COLUMNS += ("cost", "seconds", *TAKEN, "warnings")


def requests_of(entries, today=None):
    """A dict for each request, by its name, in the order in which they came."""
    found, unlearned = {}, set()
    for entry in entries:
        if "request" not in entry:
            continue
        if entry["event"] == "unlearned":
            unlearned.add(entry["request"])
        row = found.setdefault(
            entry["request"], dict.fromkeys(COLUMNS) | {"request": entry["request"]}
        )
        _follow(row, entry, entry["request"] in unlearned)
    today = today or datetime.now(timezone.utc).date()
    for row in found.values():
        received = date.fromisoformat(row["received"])
        end = today if row["state"] in OPEN else date.fromisoformat(row["done"][:10])
        row["due"] = month_after(received).isoformat()
        row["days"] = max((end - received).days, 0)  # less, where a clock was set back
    return found


def open_requests_of(rows):
    """The requests that are not done, the one that is due first before the others."""
    today = datetime.now(timezone.utc).date().isoformat()
    found = [
        {name: row[name] for name in ("request", "state", "received", "due", "days")}
        | {"overdue": row["due"] < today}
        for row in rows
        if row["state"] in OPEN
    ]
    return sorted(found, key=lambda row: row["due"])


def is_destroyed(entry):
    """Whether an entry says that the key was destroyed."""
    return entry is not None and entry["event"] == "key destroyed"


def _follow(row, entry, is_unlearned):
    event = entry["event"]
    if event == "closed":
        row["state"] = "done" if entry["forgotten"] else "closed"
    else:
        row["state"] = STATES["unlearned" if event == "failed" and is_unlearned else event]
    row["received"] = entry.get("received") or row["received"] or entry["time"][:10]
    if event == "began":
        row["began"], row["rows"] = entry["time"], entry["n_rows"]
    elif event in ("done", "closed"):
        row["done"] = entry["time"]
    row |= {name: entry[name] for name in ("marked_again", *TAKEN) if name in entry}
    if event == "unlearned":  # what a run has cost that was killed before it was done counts, too
        for name in ("cost", "seconds"):
            known = [number for number in (row[name], entry[name]) if number is not None]
            row[name] = sum(known) if known else None
    said = [] if event == "began" else row["warnings"] or []
    row["warnings"] = list(dict.fromkeys([*said, *entry.get("warnings", [])]))


def forgotten_rows(entries):
    """The entries whose rows are forgotten: those that began, and then were unlearned.

    One that was, and is made again, stays so, whatever becomes of the second run.
    """
    began, forgotten = {}, []
    for entry in entries:
        event, request = entry["event"], entry.get("request")
        if event == "began":
            began.setdefault(request, []).append(entry)
        elif event in ("unlearned", "done") or (event == "closed" and entry["forgotten"]):
            forgotten += began.pop(request, [])
        elif event == "closed":
            began.pop(request, None)
            forgotten = [each for each in forgotten if each["request"] != request]
    return forgotten


def month_after(day):
    """The same day of the next month, or its last day."""
    year, month = divmod(day.year * 12 + day.month, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def day_of(received):
    """The day of receipt as ISO 8601 has it; today for None."""
    today = datetime.now(timezone.utc).date()
    if isinstance(received, datetime):
        received = received.date()
    try:
        day = received or today
        day = day if isinstance(day, date) else date.fromisoformat(day)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"received must be a date, or a day such as '2026-11-02'; got {received!r}."
        ) from error
    if (day - today).days > 1:  # it may be tomorrow already where the request came in
        raise ValueError(f"received must not be in the future; got {day}, and today is {today}.")
    return day.isoformat()
