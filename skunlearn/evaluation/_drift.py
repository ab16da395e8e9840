"""How far requests have taken a network from the one that was trained last."""

from sklearn.frozen import FrozenEstimator

from skunlearn._engine.unwrap import innermost

#: When a retraining is due.
RETRAIN_AFTER = {"utility_drop": 0.02, "cost": 1.0}


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
    utility = metrics["utility"]
    # The first that is known: an original may have been left out.
    before = [entry["drift"]["utility_at_first"] for entry in done]
    before.append(utility["original"].value if "original" in utility else None)
    costs = [cost, *(entry["cost"] for entry in done)]
    known = [cost for cost in costs if cost is not None]
    return {
        "requests": len(done) + 1,
        "forgotten_rows": n_forgotten,
        "measured_rows": n_measured,
        "utility_at_first": next((value for value in before if value is not None), None),
        "utility": list(utility["unlearned"]),
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
    limit = limits.get("cost")
    if limit is not None and drift["cost"] is not None and drift["cost"] > limit:
        more = f", and {n} have a cost that is not known" if (n := drift["unknown_costs"]) else ""
        reasons.append(f"requests have cost {drift['cost']:.2f} times a retraining{more}")
    return reasons


def relative_cost(unlearner, n_retained):
    """The cost of the last request, as a share of a training on the retained rows, if known."""
    inner = innermost(unlearner)
    net = inner.estimator
    net = net.estimator if isinstance(net, FrozenEstimator) else net
    epochs = getattr(net, "max_epochs", None)
    cost = getattr(inner, "unlearning_cost_", None)
    if not epochs or not n_retained or cost is None:
        return None
    return float(cost / (epochs * n_retained))
