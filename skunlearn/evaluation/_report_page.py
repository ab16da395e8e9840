"""A report as a page of its own, which prints on two sheets of A4."""

import html
import math

from skunlearn.evaluation._criteria import verdict_line
from skunlearn.evaluation._report_plots import distances_svg, losses_svg
from skunlearn.evaluation._report_text import MEANINGS, facts, name_in_words, shown

STYLE = (
    "@page{size:A4;margin:9mm}*{box-sizing:border-box}"
    "body{font:8pt/1.25 sans-serif;max-width:192mm;margin:6mm auto}"
    "h1{font-size:13pt;margin:0 0 1mm}h2{font-size:9.5pt;margin:2.5mm 0 .5mm}p{margin:1mm 0}"
    "table{border-collapse:collapse;width:100%}figure{margin:0}"
    "td,th{padding:.25mm 1mm;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}"
    ".b{overflow-wrap:anywhere}.n{white-space:nowrap;text-align:right;width:1%;"
    "font-size:6.8pt;font-variant-numeric:tabular-nums}.w{white-space:nowrap;width:1%}"
    ".m td{font-size:6.6pt;line-height:1.1;padding:.15mm 1mm}.s,.m td.s{font-size:6pt;"
    "line-height:1.1;"
    "color:#444}.l{margin:0;padding-left:4mm;columns:2;column-gap:8mm}code{font-size:6.2pt}"
    "@media print{body{margin:0;max-width:none}tr,figure{break-inside:avoid}"
    "h2{break-after:avoid}}"
)


def page(title, body, style=""):
    """A whole page that needs no other file."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{STYLE}{style}</style></head><body>{body}</body></html>"
    )


def report_page(report):
    """A report as a page."""
    plots = losses_svg(report.losses) + distances_svg(report.metrics)
    body = (
        "<h1>Unlearning report</h1>"
        f"<p><strong>{html.escape(verdict_line(report.criteria))}.</strong> A criterion is met if "
        "the whole interval is in the stated range. Criteria that are met are no certificate: an "
        "attack that fails shows that this attack fails.</p>"
        f"{_facts(report)}"
        f"<h2>Criteria</h2>{_criteria(report.criteria)}"
        f"<h2>Losses and distances</h2>{plots}"
        f"<h2>What the attackers know</h2>{_listed(report.attackers)}"
        f"<h2>What was not measured, and why</h2>{_listed(report.not_measured)}"
        f"<h2>Metrics</h2>{_metrics(report)}"
        f"<h2>How the intervals were found</h2>{_listed(_methods(report.metrics))}"
        f"<h2>Parameters</h2>{_parameters(report.parameters)}"
    )
    return page("Unlearning report", body)


def _facts(report):
    lines = (
        f'<tr><th class="w">{html.escape(name)}</th><td class="b">{html.escape(text)}</td></tr>'
        for name, text in facts(report).items()
    )
    return f"<table>{''.join(lines)}</table>"


def _criteria(verdicts):
    heads = ("of the unlearned network", "stated range", "value", "verdict", "why")
    lines = ["".join(f"<th>{head}</th>" for head in heads)]
    for each in verdicts:
        low, high = (
            "-" if math.isinf(limit) else f"{limit:g}" for limit in (each["low"], each["high"])
        )
        value = "-" if each["value"] is None else f"{each['value']:.3f}"
        cells = (name_in_words(each["metric"]), f"{low} to {high}", value, each["verdict"])
        lines.append(
            "".join(f'<td class="w">{html.escape(cell)}</td>' for cell in cells)
            + f"<td>{html.escape(each['why'])}</td>"
        )
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _metrics(report):
    heads = ["", *(name.replace("_", " ") for name in report.networks), ""]
    lines = ["".join(f"<th>{html.escape(head)}</th>" for head in heads)]
    explained = set()
    for name, intervals in report.metrics.items():
        what, *ideal = MEANINGS[name].split("; ")
        # Or what is said of each attack would take a third sheet.
        meaning = "; ".join(["likewise" if what in explained else what, *ideal])
        explained.add(what)
        cells = (
            shown(intervals[network], 2) if network in intervals else "-"
            for network in report.networks
        )
        lines.append(
            f'<td class="w">{html.escape(name_in_words(name))}</td>'
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + f'<td class="s">{html.escape(meaning)}</td>'
        )
    return '<table class="m">' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _methods(metrics):
    """The metrics by the method of their interval, or the reason why there is none."""
    found = {}
    for name, intervals in metrics.items():
        for interval in intervals.values():
            text = interval.method or f"none: {interval.reason}"
            found.setdefault(text, {})[name_in_words(name)] = None
    return {text: ", ".join(names) for text, names in found.items()}


def _parameters(parameters):
    """The method's own parameters; those of the network are in the JSON."""
    plain = [
        f"{name}={value!r}"
        for name, value in parameters.items()
        if not isinstance(value, dict | list)
    ]
    return (
        f'<p class="s"><code>{html.escape(", ".join(plain))}</code>. Those of the network and its '
        "parts are in the JSON.</p>"
    )


def _listed(items):
    lines = (
        f"<li><strong>{html.escape(name_in_words(name))}</strong>: {html.escape(text)}</li>"
        for name, text in items.items()
    )
    return f'<ul class="s l">{"".join(lines)}</ul>'
