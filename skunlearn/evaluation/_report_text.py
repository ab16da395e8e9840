"""An unlearning report as text, HTML and JSON: what each metric means, and how it is written."""

import html
import json
from dataclasses import asdict
from textwrap import wrap

from skunlearn._engine.files import nan_to_none
from skunlearn.evaluation._figures import SIGNALS

_WORDS = {"auc": "AUC", "cka": "CKA", "js": "JS", "nomus": "NoMUS", "tpr": "TPR"}

_NUMBERS = "white-space:nowrap;font-variant-numeric:tabular-nums"

STYLE = (
    "@page{size:A4;margin:14mm}body{font:10pt/1.35 sans-serif;max-width:182mm;margin:6mm auto}"
    "h1{font-size:15pt}h2{font-size:12pt;margin:5mm 0 1mm}table{border-collapse:collapse}"
    "td,th{padding:1px 6px;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}"
    "@media print{body{margin:0;max-width:none}tr,svg,figure{break-inside:avoid}}"
)

#: What each metric says, and which value is best, in the order of the report.
MEANINGS = {
    "utility": "accuracy on unseen rows; greater is better",
    "retain_accuracy": "accuracy on retained rows; ideal as retrained",
    "forget_accuracy": "accuracy on forget rows; ideal as retrained",
    "forgetting_score": "distance of the loss attack's accuracy from 0.5; ideal 0, on average",
    "nomus": "(utility + 1) / 2 - forgetting score; greater is better; blind to retained rows",
    "overshoot": "how far forget losses lie above unseen ones, in nats; ideal as retrained",
    **{
        f"{signal}_attack_{metric}": text
        for signal in (*SIGNALS, "calibrated")
        for metric, text in (
            ("accuracy", "share of forget and unseen rows told apart; ideal 0.5"),
            ("auc", "chance that a forget row looks more familiar than an unseen one; ideal 0.5"),
            ("tpr", "share of forget rows recognised at 1 % false alarms; ideal 0.01"),
        )
    },
    "gap": "mean difference of three accuracies and the loss attack's from retrained; ideal 0",
    "tug_of_war": "product of 1 - difference of three accuracies from retrained; ideal 1",
    "agreement": "share of forget rows predicted as by retrained; greater is better",
    "js_distance": "distance of predictions on forget rows to retrained; smaller is better",
    "relative_js_distance": "that distance over the one between two retrainings; ideal 1",
    "linear_cka": "alignment of features and labels of unseen rows; ideal as retrained",
    "linear_probe": "accuracy of a linear classifier on these features; ideal as retrained",
    "scatter_ratio": "scatter of these features between over within classes; ideal as retrained",
    "cka_ratio": "linear CKA over the original's; below 0.8 the correlation has collapsed",
}


def records(report):
    """The metrics of a report: a dict for each metric and network."""
    return [
        {"metric": name, "network": network, **interval._asdict(), "meaning": MEANINGS[name]}
        for name, intervals in report.metrics.items()
        for network, interval in intervals.items()
    ]


def as_json(report, indent):
    """A report as strict JSON."""
    content = {"report": type(report).__name__, **asdict(report)}
    content["metrics"] = {
        name: {
            "meaning": MEANINGS[name],
            **{network: interval._asdict() for network, interval in intervals.items()},
        }
        for name, intervals in report.metrics.items()
    }
    return json.dumps(nan_to_none(content), indent=indent, allow_nan=False, ensure_ascii=False)


def as_text(report):
    """A report as lines of text."""
    lines = [type(report).__name__]
    for name, value in facts(report).items():
        lines += wrap(value, 100, initial_indent=f"  {name:13}", subsequent_indent=15 * " ")
    lines.append("")
    for name, *cells in _lines(report):
        lines.append(f"  {name:33}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def as_html(report):
    """A report as HTML, for a notebook."""
    (_, *networks), *lines = _lines(report)
    about = (
        (_cell("th", name, "left"), _cell("td", value, "left", "overflow-wrap:anywhere"))
        for name, value in facts(report).items()
    )
    heads = "".join(_cell("th", name, "right", scope="col") for name in networks)
    measured = (
        (
            _cell("th", name, "left", "font-weight:normal", scope="row"),
            *(_cell("td", text, "right", _NUMBERS) for text in cells),
            _cell("td", MEANINGS[key], "left", "opacity:0.7;font-size:smaller"),
        )
        for key, (name, *cells) in zip(report.metrics, lines)
    )
    parameters = html.escape(json.dumps(nan_to_none(report.parameters), indent=2, default=str))
    return (
        f"<div><h4>Unlearning report</h4><table>{_rows(about)}</table>"
        f"<table><thead><tr><th></th>{heads}<th></th></tr></thead>"
        f"<tbody>{_rows(measured)}</tbody></table>"
        f"<details><summary>Parameters</summary><pre>{parameters}</pre></details></div>"
    )


def page(title, body):
    """A whole page that prints well."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )


def facts(report):
    """What stands above the metrics, by name."""
    level = report.settings["confidence_level"]
    return {
        "method": report.method,
        "date": report.date,
        **{
            f"{name} rows": f"{value['count']}, sha256 {value['sha256']}"
            for name, value in report.rows.items()
        },
        "versions": ", ".join(f"{name} {number}" for name, number in report.versions.items()),
        "metrics": f"with nominal {level:.0%} confidence intervals over rows",
    }


def _lines(report):
    """The metrics as text: a header and a line for each."""
    yield "", *(name.replace("_", " ") for name in report.networks)
    for name, intervals in report.metrics.items():
        cells = (
            "{:.3f} [{:.3f}, {:.3f}]".format(*intervals[network]) if network in intervals else "-"
            for network in report.networks
        )
        yield " ".join(_WORDS.get(word, word) for word in name.split("_")), *cells


def _rows(rows):
    return "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)


def _cell(tag, text, align, style="", scope=None):
    scope = "" if scope is None else f' scope="{scope}"'
    style = f"padding:2px 10px;text-align:{align};{style}"
    return f'<{tag}{scope} style="{style}">{html.escape(text)}</{tag}>'
