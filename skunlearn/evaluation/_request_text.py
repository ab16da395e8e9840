"""A log as a page for an auditor: one line a request."""

import html
from datetime import datetime, timezone
from urllib.parse import quote

from skunlearn.evaluation._report_page import page

HEADS = ("request", "state", "received", "due", "done", "days", "rows", "method")
HEADS += ("utility", "forget accuracy", "AUC", "cost", "criteria", "report")


def log_as_html(name, records, open_requests, verified, fault, has_key):
    """The page.

    Parameters
    ----------
    name : str
        Of the file.
    records, open_requests : list of dict
        The requests, and those that are not done.
    verified : str or None
        The digest of the last entry, if nothing was changed.
    fault : str or None
        What was, if something was.
    has_key : bool
        Whether the key is there, without which entries are not verified.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    lines = "".join(_row("td", _cells(record), record["report"]) for record in records)
    body = (
        f"<h1>Requests to forget: {html.escape(name)}</h1>"
        f"<p>{len(records)} requests, {len(open_requests)} of them open; as of {now}.</p>"
        f"<p>{_verification(verified, fault, has_key)}</p>"
        f"{_open(open_requests)}"
        f"<h2>All requests</h2><table><thead>{_row('th', HEADS)}</thead><tbody>{lines}</tbody>"
        "</table>"
        "<p>Due is a month after receipt. Days are the age of an open request, or how long another "
        "took. Utility is accuracy on unseen rows, AUC that of the attack on losses (chance level "
        "is 0.5), both with their intervals; cost is a share of a retraining's. Criteria are how "
        "many are met, not met, and cannot be told; the reports name them, and say why. The "
        "page shows what the log holds; it is no statement that any of it is enough for a law.</p>"
        f"{_warnings(records)}{_drift(records)}"
    )
    return page(f"Requests to forget: {name}", body, LANDSCAPE)


LANDSCAPE = "@page{size:A4 landscape}body{max-width:268mm}"


def _verification(verified, fault, has_key):
    if fault is not None:
        return f"<strong>The log is not as it was written:</strong> {html.escape(fault)}"
    what = (
        "Every entry and report is as it was written, by its keyed digest."
        if has_key
        else "The chain of digests is whole, and the reports have the SHA-256 that it holds. "
        "Without the key, that does not rule out that somebody has changed an entry or a report "
        "and made all later digests again; a digest that was noted elsewhere does."
    )
    return f"{what} Digest of the last entry: <code>{verified}</code>"


def _open(rows):
    if not rows:
        return ""
    lines = "".join(
        "<li>{request}: {state}, received {received} ({days} days ago), due {due}{late}"
        "</li>".format(
            **{name: html.escape(str(value)) for name, value in row.items()},
            late=" - <strong>overdue</strong>" * row["overdue"],
        )
        for row in rows
    )
    return f"<h2>Open requests</h2><ul>{lines}</ul>"


def _warnings(records):
    lines = "".join(
        f"<li>{html.escape(record['request'])}: {html.escape(message)}</li>"
        for record in records
        for message in record["warnings"]
    )
    return f"<h2>Warnings while they were unlearned</h2><ul>{lines}</ul>" if lines else ""


def _drift(records):
    measured = [record for record in records if record["drift"]]
    if not measured:
        return ""
    last = measured[-1]
    drift = last["drift"]
    before = drift["utility_at_first"]
    facts = [
        f"{drift['requests']} requests since the last training",
        f"utility {drift['utility'][0]:.3f}, "
        + ("not known before" if before is None else f"{before:.3f} before"),
        f"{drift['measured_rows']} of {drift['forgotten_rows']} forgotten rows were there to be "
        "measured",
    ]
    if drift["cost"] is not None:
        facts.append(f"cost {drift['cost']:.2f} of a retraining")
    if drift["unknown_costs"]:
        facts.append(f"the cost of {drift['unknown_costs']} of them is not known")
    due = "; ".join(last["retraining_due"] or [])
    due = f"<p><strong>A retraining is due:</strong> {html.escape(due)}.</p>" if due else ""
    return f"<h2>Drift</h2><p>{html.escape('; '.join(facts))}.</p>{due}"


def _cells(record):
    metrics, method = record["metrics"] or {}, record["method"]
    yield from (record[name] for name in ("request", "state", "received", "due"))
    yield record["done"] and record["done"][:10]
    yield from (record["days"], record["rows"], method and method.rsplit(".", 1)[-1])
    for name in ("utility", "forget_accuracy", "loss_attack_auc"):
        yield _shown(metrics[name]) if name in metrics else None
    yield None if record["cost"] is None else f"{record['cost']:.2f}"
    criteria = record["criteria"]
    yield criteria and f"{criteria['met']} / {criteria['not met']} / {criteria['cannot be told']}"
    yield None if record["report"] else record["reason"]


def _shown(interval):
    """A metric with its interval, of which the log may have none."""
    value, low, high = interval
    if low is None or high is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _row(tag, cells, report=None):
    shown = ["" if cell is None else html.escape(str(cell)) for cell in cells]
    if report:
        link = quote(f"{report.removesuffix('.json')}.html")
        name = html.escape(report.rsplit("/", 1)[-1].removesuffix(".json"))
        shown[-1] = f'<a href="./{link}">{name}</a>'
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in shown)}</tr>"
