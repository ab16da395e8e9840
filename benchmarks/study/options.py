"""What the scripts of the study have in common: where they read and write, and how much they do."""

import argparse
import os
from pathlib import Path

import torch
from domains import DOMAINS, MissingDataError

HERE = Path(__file__).parent
ROUNDING = 1.001  # a cap is met to a thousandth of it
FIRST_REPORTED = 100  # the seeds of reporting splits begin here, those of tuning splits at 0


def options(doc, args=None):
    """Parse the command line; domains whose data is not there are left out, with a message."""
    parser = argparse.ArgumentParser(description=doc)
    add = parser.add_argument
    add("domain", nargs="+", choices=DOMAINS, metavar="domain", help=", ".join(DOMAINS))
    add("--methods", nargs="+", help="only these")
    add("--trials", type=int, default=12, help="settings of each method (%(default)s)")
    add("--tuning-splits", type=int, default=3, help="(%(default)s)")
    add("--reporting-splits", type=int, help="by default as many as the domain says")
    add("--objective", default="relative_js_distance", help="what is chosen by (%(default)s)")
    add("--models", type=int, default=32, help="networks of an attack on each row (%(default)s)")
    add("--epochs", type=int, nargs="+", help="of the dial; by default all")
    add("--klom-models", type=int, default=16, help="of each kind for KLoM; 0: none (%(default)s)")
    add("--data", default=os.environ.get("SKUNLEARN_STUDY_DATA"), help="folder of .npz files")
    add("--results", type=Path, default=HERE.parent / "results", help="folder of the tables")
    add("--cache", type=Path, help="folder of trained networks, by default in that of the tables")
    add("--n-jobs", type=int, default=1, help="processes (%(default)s)")
    args = parser.parse_args(args)
    args.cache = (args.cache or args.results / ".cache").absolute()
    torch.set_num_threads(1)
    args.domains = []
    for name in args.domain:
        try:
            DOMAINS[name].load(args.data)
            args.domains.append(DOMAINS[name])
        except MissingDataError as error:
            print(f"{name} is skipped: {error}")
    return args


def splits(args, domain, seed):
    """The rows of a split, in a process of one thread."""
    torch.set_num_threads(1)
    return domain.split(seed, args.data)
