"""Verdicts of a report on the criteria that a user has set, and what was not measured."""

import math
from collections.abc import Mapping
from numbers import Real

#: The range in which a metric of the unlearned network is to lie, by default.
CRITERIA = {
    "loss_attack_auc": (0.4, 0.6),
    "calibrated_attack_auc": (0.4, 0.6),
    "calibrated_attack_people_auc": (0.4, 0.6),
    "retain_accuracy_difference": (-0.05, 0.05),
    "utility_difference": (-0.05, 0.05),
}

VERDICTS = ("met", "not met", "cannot be told")

#: What an attacker knows, by the beginning of the names of the metrics.
ATTACKERS = {
    "loss_attack": "sees what the unlearned network answers for a row, and knows the row's label; "
    "has losses of other rows to learn a threshold from",
    "confidence_attack": "the same, and compares the probability of the label",
    "entropy_attack": "sees the answer for a row, and does not know the label",
    "modified_entropy_attack": "sees the answer for a row, and knows the label",
    "calibrated_attack": "also has a network that never saw the row, which says how hard it is",
    "change_attack": "has the network from before and the one from after, and compares the losses; "
    "a retrained network is found by this as well",
    "class_attack": "compares rows of a forgotten class with unseen rows of that class alone",
    "retained_attack": "asks of retained rows whether they were trained on",
    "change_attack_people": "the same, and takes the rows of each person together",
    "loss_attack_people": "knows which rows are of one person, and takes them together",
    "calibrated_attack_people": "knows which rows are of one person, takes them together, and has "
    "a network that never saw them",
}

#: What no report measures, for it takes further networks or training.
NEVER = {
    "attacks on each row with many networks": "they take trainings of their own: shadow_margins, "
    "klom_margins",
    "relearning time": "it takes training: skunlearn.evaluation.relearning_time",
    "another training with another seed": "the intervals are over rows or people, not over seeds",
    "copies, backups and models made from this one": "they are out of the library's reach",
}


def defaults(has_groups, has_classes):
    """The criteria by default: of people where there are groups, of a class where one is gone."""
    criteria = {
        name: limits for name, limits in CRITERIA.items() if has_groups or "people" not in name
    }
    if has_classes:
        del criteria["loss_attack_auc"]
        criteria = {"class_attack_auc": (0.4, 0.6)} | criteria
    return criteria


def check_criteria(criteria, known):
    """The criteria as a dict of ranges, or None; a ValueError names what is wrong."""
    if criteria is None:
        return None
    if not isinstance(criteria, Mapping):
        raise ValueError(
            "criteria must be a dict such as {'utility': (0.7, None)}; got "
            f"{type(criteria).__name__}."
        )
    checked = {}
    for name, limits in criteria.items():
        if name not in known:
            raise ValueError(
                f"criteria must name metrics of a report; got {name!r}. Among them are "
                f"{', '.join(CRITERIA)}."
            )
        limits = tuple(limits) if isinstance(limits, tuple | list) else (limits,)
        low, high = limits if len(limits) == 2 else (math.nan, math.nan)
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        are_numbers = all(isinstance(limit, Real) for limit in (low, high))
        if not (are_numbers and low <= high):
            raise ValueError(
                "criteria must give each metric a range (low, high), of which one may be None; "
                f"got {limits} for {name!r}."
            )
        checked[name] = (float(low), float(high))
    return checked


def judge(criteria, metrics, reasons):
    """A verdict on each criterion: met, not met, or that it cannot be told, and why."""
    verdicts = []
    for name, (low, high) in criteria.items():
        interval = metrics.get(name, {}).get("unlearned")
        if interval is None:
            said, why = VERDICTS[2], f"not measured: {reasons.get(name) or _needed(name)}"
        else:
            said, why = _judged(interval, low, high)
        value = None if interval is None else interval.value
        verdicts.append(
            {"metric": name, "low": low, "high": high, "value": value, "verdict": said, "why": why}
        )
    return verdicts


#: What metrics are made from, besides the unlearned network and the rows, by their names' ends.
NEEDED = {
    "people_accuracy": "groups",
    "people_auc": "groups",
    "people_tpr": "groups",
    "_to_original": "original",
    "among_retained": "original",
    "linear_cka": "original",
    "linear_probe": "original",
    "scatter_ratio": "original",
    "cka_ratio": "original",
    "relative_js_distance": "reference_2",
    "mmd_difference": "original and reference",
    "_difference": "reference",
    "js_distance": "reference",
    "gap": "reference",
    "tug_of_war": "reference",
    "agreement": "reference",
}


def _needed(name):
    """What would have to be given for a metric."""
    needed = [word for end, word in NEEDED.items() if name.endswith(end)][:1]
    if name.startswith(("calibrated", "change")) and "original" not in needed:
        needed.append("reference" if name.startswith("calibrated") else "original")
    return f"it takes {' and '.join(needed) or 'other rows'}"


def _judged(interval, low, high):
    if math.isnan(interval.low):
        return VERDICTS[2], interval.reason
    if low <= interval.low and interval.high <= high:
        return VERDICTS[0], "the whole interval is in the range"
    if interval.high < low or interval.low > high:
        return VERDICTS[1], "the whole interval is out of the range"
    return VERDICTS[2], "the interval is in part out of the range: few rows, or a close case"


def counts(verdicts):
    """How many criteria there are of each verdict."""
    found = [each["verdict"] for each in verdicts]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def verdict_line(verdicts):
    """The verdicts in one line."""
    number, n = counts(verdicts), len(verdicts)
    if not n:
        return "no criteria are stated"
    failed = ", ".join(each["metric"] for each in verdicts if each["verdict"] == VERDICTS[1])
    return (
        f"{number['met']} of {n} stated criteria are met, {number['not met']} not met"
        f"{f' ({failed})' if failed else ''}, {number['cannot be told']} cannot be told"
    )


def without_values(metrics):
    """Take metrics out of which there is no value; return the reason for each."""
    reasons = {}
    for name, intervals in metrics.items():
        for network in [key for key, interval in intervals.items() if math.isnan(interval.value)]:
            reasons[name] = intervals.pop(network).reason
    for name in [name for name, intervals in metrics.items() if not intervals]:
        del metrics[name]
    return reasons


def left_out(networks, has_groups, n_retain, metrics):
    """What was not measured, and why."""
    found = {}
    if "original" not in networks:
        found["change from the original, correlation collapse"] = "original was not given"
    elif "linear_cka" not in metrics:
        found["correlation collapse"] = (
            "it takes single networks, and five unseen rows with two of each of two classes"
        )
    if "retrained" not in networks:
        found["closeness to a retrained network, calibrated attack"] = "reference was not given"
    elif "retrained_2" not in networks:
        found["distance in units of two retrainings"] = "reference_2 was not given"
    if not has_groups:
        found["people"] = "groups were not given: rows are taken for independent of each other"
    if not n_retain:
        found["accuracy on retained rows"] = "no retained rows were given"
    return found | NEVER


def attackers_of(metrics):
    """Who was let attack, in plain words, by the beginning of the metrics' names."""
    return {name: text for name, text in ATTACKERS.items() if f"{name}_auc" in metrics}
