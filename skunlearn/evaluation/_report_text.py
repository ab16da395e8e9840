"""An unlearning report as text, HTML and JSON: what each metric means, and how it is written."""

import html
import json
import math
from dataclasses import asdict
from textwrap import wrap

from skunlearn._engine.files import nan_to_none
from skunlearn.evaluation._criteria import verdict_line
from skunlearn.evaluation._figures import SIGNALS

_WORDS = {
    "auc": "AUC",
    "cka": "CKA",
    "js": "JS",
    "mmd": "MMD",
    "nomus": "NoMUS",
    "pvalue": "p-value",
    "tpr": "TPR",
}

#: Of report.schema.json; goes up when something in it changes its meaning.
SCHEMA_VERSION = 1

_NUMBERS = "white-space:nowrap;font-variant-numeric:tabular-nums"

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
        for signal in (*SIGNALS, "calibrated", "change")
        for metric, text in (
            ("accuracy", "share of forget and unseen rows told apart; ideal 0.5"),
            ("auc", "chance that a forget row looks more familiar than an unseen one; ideal 0.5"),
            ("tpr", "share of forget rows recognised at 1 % false alarms; ideal 0.01"),
        )
    },
    "loss_attack_people_accuracy": "the same of people, by their mean loss; ideal 0.5",
    "loss_attack_people_auc": "chance that a person to forget looks more familiar; ideal 0.5",
    "loss_attack_people_tpr": "share of people recognised at 1 % false alarms; ideal 0.01",
    "calibrated_attack_people_accuracy": "the same of people, calibrated; ideal 0.5",
    "calibrated_attack_people_auc": "chance that a person looks more familiar; ideal 0.5",
    "calibrated_attack_people_tpr": "share of people recognised, calibrated; ideal 0.01",
    "change_attack_people_accuracy": "the same of people, by how their losses changed; ideal 0.5",
    "change_attack_people_auc": "chance that a person's losses rose more; ideal as retrained",
    "change_attack_people_tpr": "share of people found by the change; ideal as retrained",
    "change_attack_auc_among_retained": "chance that a forget row's loss rose more than a retained "
    "one's; ideal as retrained",
    "two_sided_pvalue": "of a test whether losses of forget and unseen rows differ at all; small "
    "values say that they do",
    "retained_attack_auc": "chance that a retained row looks more familiar than an unseen one; "
    "ideal as retrained",
    "utility_of_kept_classes": "accuracy on unseen rows of the other classes; greater is better",
    "utility_of_forgotten_classes": "accuracy on unseen rows of the forgotten classes; ideal as "
    "retrained",
    "class_attack_accuracy": "share of forget and unseen rows of the class told apart; ideal 0.5",
    "class_attack_auc": "the loss attack among rows of the forgotten class; ideal 0.5",
    "class_attack_tpr": "the same at 1 % false alarms; ideal 0.01",
    "utility_difference": "utility less that of retrained; ideal 0",
    "retain_accuracy_difference": "accuracy on retained rows less that of retrained; ideal 0",
    "forget_accuracy_difference": "accuracy on forget rows less that of retrained; ideal 0",
    "gap": "mean difference of three accuracies and the loss attack's from retrained; ideal 0",
    "tug_of_war": "product of 1 - difference of three accuracies from retrained; ideal 1",
    "agreement": "share of forget rows predicted as by retrained; greater is better",
    "js_distance": "distance of predictions on forget rows to retrained; smaller is better",
    "js_distance_to_original": "the same to the original; ideal as retrained",
    "mmd_difference": "MMD² to original less that to retrained; above 0 if nearer to retrained",
    "relative_js_distance": "that distance over the one between two retrainings; ideal 1",
    "linear_cka": "alignment of features and labels of unseen rows; ideal as retrained",
    "linear_probe": "accuracy of a linear classifier on these features; ideal as retrained",
    "scatter_ratio": "scatter of these features between over within classes; ideal as retrained",
    "cka_ratio": "linear CKA over the original's; below 0.8 the correlation has collapsed",
}


def records(report):
    """The metrics of a report: a dict for each metric and network."""
    return [
        {"metric": name, "network": network, **asdict(interval), "meaning": MEANINGS[name]}
        for name, intervals in report.metrics.items()
        for network, interval in intervals.items()
    ]


def as_json(report, indent):
    """A report as strict JSON."""
    content = {"schema": SCHEMA_VERSION, "report": type(report).__name__, **asdict(report)}
    content["metrics"] = {
        name: {
            "meaning": MEANINGS[name],
            **{network: asdict(interval) for network, interval in intervals.items()},
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


def facts(report):
    """What stands above the metrics, by name."""
    settings = report.settings
    size = report.size
    found = {"method": report.method, "date": report.date}
    if report.request is not None:
        found = {"request": report.request} | found
    if report.tester is not None:
        found["tester"] = report.tester
    for name, value in report.rows.items():
        digests = (f"{key.replace('_', '-')} {value[key]}" for key in value if "sha256" in key)
        found[f"{name} rows"] = ", ".join([str(value["count"]), *digests])
    if size["parameters"]:
        per_row = size["parameters_per_row"]
        each = "" if per_row is None else f", {per_row:.1f} for each retained row"
        found["parameters"] = f"{size['parameters']}{each}"
    found["versions"] = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    level, unit = settings["confidence_level"], settings["intervals_over"]
    found["metrics"] = f"with {level:.0%} confidence intervals over {unit}"
    found["criteria"] = verdict_line(report.criteria)
    return found


def _lines(report):
    """The metrics as text: a header and a line for each."""
    yield "", *(name.replace("_", " ") for name in report.networks)
    for name, intervals in report.metrics.items():
        cells = (
            shown(intervals[network]) if network in intervals else "-"
            for network in report.networks
        )
        yield name_in_words(name), *cells


def name_in_words(name):
    """The name of a metric as it is read."""
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def shown(interval, digits=3):
    """A metric with its interval, if it has one."""
    value, low, high = (f"{number:.{digits}f}" for number in interval)
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"


def _rows(rows):
    return "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)


def _cell(tag, text, align, style="", scope=None):
    scope = "" if scope is None else f' scope="{scope}"'
    style = f"padding:2px 10px;text-align:{align};{style}"
    return f'<{tag}{scope} style="{style}">{html.escape(text)}</{tag}>'
