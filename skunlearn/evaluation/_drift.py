"""How far requests have taken a network from the one that was trained last."""

from skunlearn._engine.unwrap import innermost

#: When a retraining is due.
RETRAIN_AFTER = {"utility_drop": 0.02, "attack_auc": 0.6, "cost": 1.0}

#: The attacks, the one that is judged first.
ATTACKS = ("class_attack_auc", "calibrated_attack_auc", "loss_attack_auc")


def drift_of(entries, n_forgotten, n_measured, metrics, cost):
    """What has changed since the last training, as an entry says it.

    Parameters
    ----------
    entries : list of dict
        The log, up to the request that is about to be done.
    n_forgotten : int
        Rows that this and all earlier requests have forgotten.
    n_measured : int
        Those of them that were there to be measured.
    metrics : dict of str to dict of str to Interval
        The report's.
    cost : float or None
        Of this request, as a share of a retraining's.
    """
    events = [entry["event"] for entry in entries]
    start = len(events) - events[::-1].index("retrained") if "retrained" in events else 0
    done = [entry for entry in entries[start:] if entry["event"] == "done"]
    # A class that is forgotten is not known any more.
    utility = metrics.get("utility_of_kept_classes", metrics["utility"])
    attack = next(name for name in ATTACKS if "unlearned" in metrics.get(name, {}))
    distance = metrics.get("js_distance", {}).get("unlearned")
    # The first that is known: an original may have been left out.
    before = [entry["drift"]["utility_at_first"] for entry in done]
    before.append(utility["original"].value if "original" in utility else None)
    # Of every run that has unlearned, whether or not it was measured.
    costs = [cost, *(entry["cost"] for entry in entries[start:] if entry["event"] == "unlearned")]
    known = [cost for cost in costs if cost is not None]
    return {
        "requests": len(done) + 1,
        "forgotten_rows": n_forgotten,
        "measured_rows": n_measured,
        "utility_at_first": next((value for value in before if value is not None), None),
        "utility": list(utility["unlearned"]),
        "attack": attack,
        "attack_auc": list(metrics[attack]["unlearned"]),
        "js_distance": None if distance is None else list(distance),
        "cost": sum(known) if known else None,
        "unknown_costs": len(costs) - len(known),
    }


def due_reasons(drift, limits):
    """Why a retraining is due; nothing if it is not."""
    reasons = []
    before, (now, _, high) = drift["utility_at_first"], drift["utility"]
    limit = limits.get("utility_drop")
    # With few unseen rows a fall may be chance: the interval has to lie below.
    if limit is not None and before is not None and before - now > limit and high < before:
        reasons.append(
            f"accuracy on unseen rows has fallen from {before:.3f} to {now:.3f} over "
            f"{drift['requests']} requests"
        )
    auc, low, _ = drift["attack_auc"]
    limit = limits.get("attack_auc")
    if limit is not None and low > limit:
        attack = drift["attack"].replace("_auc", "").replace("_", " ")
        reasons.append(
            f"the {attack} finds the {drift['measured_rows']} forgotten rows that were measured "
            f"(AUC {auc:.3f}, and at least {low:.3f})"
        )
    limit = limits.get("cost")
    if limit is not None and drift["cost"] is not None and drift["cost"] > limit:
        more = f", and {n} have a cost that is not known" if (n := drift["unknown_costs"]) else ""
        reasons.append(f"requests have cost {drift['cost']:.2f} times a retraining{more}")
    return reasons


def relative_cost(unlearner, n_retained, epochs):
    """The cost of the last request, as a share of a training on the retained rows, if known."""
    cost = getattr(innermost(unlearner), "unlearning_cost_", None)
    if not epochs or not n_retained or cost is None:
        return None
    return float(cost / (epochs * n_retained))
