"""The checks of DLFD's own paper: share of rows forgotten, epochs, components, batch normalisation.

DLFD has its default settings but for the one that is varied. Rows are written as they come; a
run that was stopped goes on where it was. A row's trial says what it is: "share=0.1", "epochs=3".
"""

from dataclasses import replace
from functools import partial

from methods import PUBLISHED, SHORTENED
from options import FIRST_REPORTED, options, splits
from tables import REFERENCES, Table, fill, run
from torch.nn.modules.batchnorm import _BatchNorm

from skunlearn import DLFD, EUk, FineTune, Retrain

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)
EPOCHS = (1, 2, 3, 5, 10)
COMPONENTS = {
    "no transport": {"ot_weight": 0.0},
    "no preservation": {"ce_weight_start": 0.0, "ce_weight_end": 0.0},
    "no dynamic stop": {"forgetting_threshold": 0},
    "no clean term": {"clean_weight": 0},
    "no synthesised rows": {"perturb_steps": 0},
    "published": PUBLISHED | {"max_epochs": 1, "perturb_steps": 6, "step_size": 0.05},
}


class FrozenStatistics(DLFD):
    """DLFD that keeps the original's batch-normalisation statistics from beginning to end."""

    def _copy(self, original):
        net = super()._copy(original)
        for module in net.module_.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
                module.train = lambda mode=True, module=module: module
        return net


def components(net):
    """What is run on the domain's own split, by method and trial."""
    found = {(name, ""): None for name in REFERENCES}
    found["DLFD", "defaults"] = DLFD(net)
    for n in EPOCHS:
        found["DLFD", f"epochs={n}"] = DLFD(net, max_epochs=n)
        published = COMPONENTS["published"] | {"max_epochs": n}
        found["DLFD (published)", f"epochs={n}"] = DLFD(net, **published)
        found["FineTune", f"epochs={n}"] = FineTune(net, max_epochs=n)
    for name, params in COMPONENTS.items():
        found["DLFD", f"component={name}"] = DLFD(net, **params)
    for name, unlearner in {
        "of the run": DLFD(net, bn_batches=0),
        "frozen": FrozenStatistics(net, bn_batches=0),
    }.items():
        found["DLFD", f"statistics={name}"] = unlearner
    return found


def shares(net, share):
    """What is run for each share of people forgotten."""
    half = max(1, net.max_epochs // 2)
    found = {
        "DLFD": DLFD(net),
        "DLFD (published)": DLFD(net, **COMPONENTS["published"]),
        "FineTune": FineTune(net),
        "EUk": EUk(net),
        SHORTENED: Retrain(net, max_epochs=half),
    }
    return {(name, f"share={share}"): found.get(name) for name in (*REFERENCES, *found)}


def main(args=None):
    args = options(__doc__, args)
    for domain in args.domains:
        table = Table(args.results / f"checks-{domain.name}.csv")
        done = {(row["method"], int(row["seed"]), row["trial"]) for row in table.rows()}
        n_splits = args.reporting_splits or domain.n_report
        n_trained = domain.n_people - domain.sizes["val_size"] - domain.sizes["test_size"]
        tasks = []
        for seed in range(FIRST_REPORTED, FIRST_REPORTED + n_splits):
            for share in (None, *SHARES):
                n_forget = domain.sizes["forget_size"]
                if share is not None:
                    n_forget = max(1, round(share * n_trained))
                wanted = components(domain.net) if share is None else shares(domain.net, share)
                left = [key for key in wanted if (key[0], seed, key[1]) not in done]
                if left:
                    sizes = domain.sizes | {"forget_size": n_forget}
                    tasks.append((replace(domain, sizes=sizes), seed, share, left))
        fill(table, args.n_jobs, partial(check, args), tasks)


def check(args, domain, seed, share, left):
    """The rows of one split that are not in the table yet."""
    net = domain.net
    wanted = components(net) if share is None else shares(net, share)
    rows = splits(args, domain, seed)
    made = {key: (wanted[key], {}) for key in left}
    return run(domain, rows, made, seed, args.cache)


if __name__ == "__main__":
    main()
