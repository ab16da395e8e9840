"""Choose settings by closeness and leakage together, on tuning splits alone.

A setting that is chosen by closeness may be close because something of the original is left. At
each cap the settings of a method are attacked row by row on the first tuning split, in the order in
which `report.py` would choose them, until U-LiRA finds the rows of one hardly better than the
retrained network's. `report.py` runs that one too, as a method of its own. A row is written as
soon as a setting was attacked; a run that was stopped goes on where it was.
"""

import torch
from attacks import membership
from methods import make
from options import options
from report import CHOICE, in_turn
from tables import Table

from skunlearn import Retrain

METHODS = ("Distill", "Distill (fresh)")
AT_MOST = 12  # settings
COLUMNS = (*CHOICE, "turn", "n_models", "u_lira_auc", "u_lira_above", "passed")


def main(args=None):
    args = options(__doc__, args)
    torch.set_num_threads(1)
    for domain in args.domains:
        table = Table(args.results / f"guard-{domain.name}.csv", COLUMNS)
        tried = Table(args.results / f"tuning-{domain.name}.csv").rows()
        settings = in_turn(domain, tried, args.objective)
        retrained = membership(args, domain, 0, Retrain(domain.net))["u_lira_auc"]
        for method in args.methods or METHODS:
            for cap in domain.attacked_caps:
                choose(args, domain, table, settings.get((method, cap), []), retrained)


def choose(args, domain, table, settings, retrained):
    """Attack settings in their turn, until one is found no more than it may be."""
    for turn, choice in enumerate(settings[:AT_MOST], 1):
        written = table.rows()
        same = {"method": choice["method"], "trial": choice["trial"], "n_models": args.models}
        here = [row for row in written if all(row[k] == value for k, value in same.items())]
        row = next((row for row in here if row["cap"] == choice["cap"]), None)
        if row is None:
            if not here:  # which is the same at another cap
                unlearner = make(choice["method"], domain, choice["params"])
                here = [membership(args, domain, 0, unlearner)]
            found = {name: here[0][name] for name in ("n_models", "u_lira_auc")}
            above = found["u_lira_auc"] - retrained
            found |= {"turn": turn, "u_lira_above": above, "passed": int(above <= domain.found)}
            row = choice | found
            table.add([row])
            print(domain.name, choice["method"], choice["cap"], choice["trial"], f"{above:+.3f}")
        if row["passed"]:
            return


if __name__ == "__main__":
    main()
