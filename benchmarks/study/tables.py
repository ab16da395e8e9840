"""Result tables: CSV files that rows are added to as they come, and the runs that make a row."""

import csv
import datetime
import functools
import io
import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import scipy
import sklearn
import skorch
import torch
from sklearn.utils.parallel import Parallel, delayed

import skunlearn
from skunlearn import FineTune, compare_unlearners
from skunlearn._engine.files import write

REFERENCES = ("Original", "Retrain", "Retrain again")
KEYS = ("domain", "method", "seed", "trial")
TEXTS = ("domain", "method", "trial", "error", "part", "case", "precision", "device")
TEXTS += ("ours", "theirs", "verdict", "control")
FIGURES = (
    *("utility", "balanced_utility", "retain_accuracy", "forget_accuracy", "forgetting_score"),
    *("nomus", "nomus_low", "nomus_high", "gap", "tug_of_war", "agreement", "js_distance"),
    *("relative_js_distance", "loss_attack_accuracy", "loss_attack_auc", "overshoot"),
    *("calibrated_attack_accuracy", "calibrated_attack_auc", "linear_cka", "cka_ratio"),
    *("linear_probe", "scatter_ratio", "cost", "seconds"),
)
COLUMNS = (*KEYS, *FIGURES, "params", "error")


class Table:
    """A CSV file under a comment line that says what it was made with.

    Parameters
    ----------
    path : Path
        The file; made if need be.
    columns : sequence of str
        Its columns.
    """

    def __init__(self, path, columns=COLUMNS):
        self.path, self.columns = Path(path), columns

    def rows(self):
        """The rows, with numbers as numbers."""
        lines = csv.DictReader(line for line in self._lines() if not line.startswith("#"))
        return [{key: _value(key, text) for key, text in row.items()} for row in lines]

    def add(self, rows):
        """Write rows at the end: all of them, or none if the run is killed meanwhile."""
        self._write(self._lines(), rows)

    def replace(self, rows):
        """Write these rows alone."""
        self._write([], rows)

    def _lines(self):
        """The lines of the file, without one that a killed run has left half-written at the end."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            warnings.warn(f"{self.path} ends in half a line, which is left out.", stacklevel=3)
            del lines[-1]
        return lines

    def _write(self, before, rows):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        made_with, file = f"# {_made_with()}\n", io.StringIO("".join(before))
        file.seek(0, io.SEEK_END)
        writer = csv.DictWriter(file, self.columns, lineterminator="\n")
        if made_with != next((line for line in reversed(before) if line[0] == "#"), None):
            file.write(made_with)  # of the rows below it
        if all(line[0] == "#" for line in before):
            writer.writeheader()
        writer.writerows({key: _text(row.get(key)) for key in self.columns} for row in rows)
        write(self.path, file.getvalue().encode())


def fill(table, n_jobs, function, tasks):
    """Run tasks side by side, and write the rows that each returns as soon as it does.

    Parameters
    ----------
    table : Table
        Where they are written.
    n_jobs : int
        Processes.
    function : callable
        What makes a list of rows of a task.
    tasks : list of tuple
        Its arguments.
    """
    for rows in Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(function)(*task) for task in tasks
    ):
        if not rows:
            continue
        table.add(rows)
        print(table.path.stem, *(rows[-1][key] for key in ("method", "seed")), flush=True)


@functools.cache
def _made_with():
    modules = {"numpy": np, "scipy": scipy, "scikit-learn": sklearn, "skorch": skorch}
    modules |= {"torch": torch, "skunlearn": skunlearn}
    names = [f"{name} {module.__version__}" for name, module in modules.items()]
    where = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=where, capture_output=True, text=True
    )
    return ", ".join([*names, f"commit {commit.stdout.strip()}", f"{datetime.date.today()}"])


def _text(value):
    if isinstance(value, dict):
        return json.dumps(value)
    return f"{value:.5g}" if isinstance(value, float) else value


def _value(key, text):
    if key == "params":
        return json.loads(text) if text else {}
    if key in TEXTS:
        return text
    return float(text) if text else np.nan


def run(domain, rows, trials, seed, cache, *, n_trainings=1, **settings):
    """Rows of a table: methods on a split, each with one setting or several.

    Parameters
    ----------
    domain : Domain
        Where the rows come from.
    rows : tuple (train, seen_by_methods, reported_on)
        The rows of the split.
    trials : dict of tuple (method, trial) to tuple (estimator, dict)
        Each method with each of its settings, and the setting. References go without an estimator,
        as ``(name, ""): (None, {})``.
    seed : int
        Of the split and of all trainings; of the second and further ones, 1,000 more each.
    cache : Path
        Where originals, references and their figures are kept.
    n_trainings : int
        Trainings of each, whose figures are averaged.
    **settings
        Of `compare_unlearners`.

    Returns
    -------
    rows : list of dict
        By column. A setting that was refused or has diverged has no figures, and says why.
    """
    (X, y, forget), (X_val, y_val), (X_unseen, y_unseen) = rows
    keys = {key[0] if model is None else " ".join(key): key for key, (model, _) in trials.items()}
    named = {name: trials[key][0] for name, key in keys.items() if trials[key][0] is not None} or [
        FineTune(domain.net, max_epochs=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of methods that change nothing: their figures say so
        records = compare_unlearners(
            named,
            X,
            y,
            forget=forget,
            X_unseen=X_unseen,
            y_unseen=y_unseen,
            X_val=X_val,
            y_val=y_val,
            seeds=[seed + 1000 * i for i in range(n_trainings)],
            memory=str(cache / "networks"),
            folder=cache / "rows",
            error_score=np.nan,
            **settings,
        ).records
    found = []
    for name, key in keys.items():
        here = [record for record in records if record["method"] == name]
        row = dict(zip(KEYS, (domain.name, key[0], seed, key[1]))) | {"params": trials[key][1]}
        for figure in FIGURES:
            values = [record.get(figure) for record in here]
            if None not in values:
                row[figure] = float(np.mean(values))
        error = next(filter(None, (record.get("error") for record in here)), "")
        found.append(row | {"error": " ".join(error.split())[:120]})
    return found
