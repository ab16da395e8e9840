"""What the pages of the study have in common: reading result tables, and showing them."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

# Here and on no page: sphinx-gallery puts the path back after each.
sys.path.append(str(Path("..", "study").resolve()))
from defaults import left_over
from domains import DOMAINS as STUDIED
from students import students
from summarise import paired
from tables import REFERENCES
from variants import variants

__all__ = ["REFERENCES", "STUDIED", "left_over", "paired"]
pd.set_option("display.max_colwidth", None)  # cells are shown as they are
RESULTS = Path("..", "results")
DOMAINS = {
    "speeches": "speeches",
    "faces": "faces",
    "ecg": "heart beats",
    "identities": "drawn faces",
    "digits": "spoken digits",
    "speeches-long": "speeches, long",
    "faces-long": "faces, long",
    "ecg-long": "heart beats, long",
}
TEXTS = {"trial": str, "params": str, "error": str}
VARIANTS = list(variants(STUDIED["smoke"].net))
STUDENTS = list(students(STUDIED["smoke"].net))
GUARDED = ["Distill (guarded)", "Distill (fresh) (guarded)"]
NOT_RANKED = (
    *REFERENCES,
    *VARIANTS,
    *STUDENTS,
    *GUARDED,
    "Distill (default)",
)  # nor are the controls
# Colours that can be told apart by those who do not see all of them (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# One colour and marker per method, on all pages; a variant has those of what it varies.
STYLES = {
    "Retrain (tuned, short)": {"color": COLOURS[0], "marker": "s"},
    "Retrain (shortened)": {"color": COLOURS[5], "marker": "D"},
    "Distill": {"color": COLOURS[6], "marker": "X"},
    "DLFD": {"color": COLOURS[1], "marker": "o"},
    "DLFD (published)": {"color": COLOURS[4], "marker": "v"},
    "EUk": {"color": COLOURS[2], "marker": "^"},
    "FineTune": {"color": COLOURS[3], "marker": "P"},
    "Retrain": {"color": "0.35", "marker": "*"},
    "Original": {"color": "0.6", "marker": "h"},
}


def style(method):
    """The colour and marker of a method."""
    return STYLES.get(method) or STYLES.get(method.split(" (")[0], {"color": "0.45", "marker": "."})


# A domain and its longer variant are of one colour.
SHORT = [name for name in DOMAINS if not name.endswith("-long")]
MARKS = {
    name: {
        "color": COLOURS[SHORT.index(name.removesuffix("-long"))],
        "marker": "x" if name.endswith("-long") else "o",
    }
    for name in DOMAINS
}


def read(part, domains=DOMAINS):
    """The tables of one part of the study as one; a domain without any is left out."""
    paths = [RESULTS / f"{part}-{name}.csv" for name in domains]
    tables = [
        pd.read_csv(path, comment="#", dtype=TEXTS).fillna(dict.fromkeys(TEXTS, ""))
        for path in paths
        if path.exists()
    ]
    if not tables:
        raise FileNotFoundError(
            f"none of {[path.name for path in paths]} is there: `make benchmark` or `make "
            "questions` makes it, as benchmarks/study/README.md says."
        )
    return pd.concat(tables, ignore_index=True)


def attacked(domains):
    """Attacks on each row, as means over the splits that were attacked.

    The interval of U-LiRA's AUC is over people where one split was attacked; where several were, it
    goes from the split with the least AUC to that with the greatest.
    """
    by = read("attacks", domains).groupby(["domain", "cap", "method"], sort=False)
    table = by.mean(numeric_only=True).assign(n_splits=by.size())
    several = table.n_splits > 1
    table["u_lira_low"] = table.u_lira_low.mask(several, by.u_lira_auc.min())
    table["u_lira_high"] = table.u_lira_high.mask(several, by.u_lira_auc.max())
    return table.reset_index()


def against(pairs, figure="relative_js_distance", domains=DOMAINS):
    """Differences of methods that were chosen at the same cap, over the splits that both have.

    Parameters
    ----------
    pairs : sequence of tuple (str, str)
        Two methods; the second is taken from the first.
    figure : str
        The figure that is compared.
    domains : sequence of str
        Where; what is not chosen there is left out.

    Returns
    -------
    table : DataFrame
        Columns ``domain``, ``cap``, ``ours``, ``theirs``, ``mean``, ``half`` (of the 95 % interval,
        by the corrected resampled t-test), ``kept`` (whether both kept the accuracy on retained
        rows) and ``text``.
    """
    reported = read("reported", domains).set_index(["domain", "method", "trial", "seed"])
    values = reported.sort_index()[figure]
    rows = []
    for (domain, cap), chosen in read("summary", domains).groupby(["domain", "cap"], sort=False):
        here, share = chosen.set_index("method"), STUDIED[domain].measured_share(figure)
        for ours, theirs in pairs:
            if ours in here.index and theirs in here.index:
                a, b = (values.loc[domain, name, here.trial[name]] for name in (ours, theirs))
                mean, half = paired(a - b, share)
                kept = bool(here.kept[ours] and here.kept[theirs])
                text = f"{mean:+.2f} ± {half:.2f}" + (" *" if abs(mean) > half else "")
                rows.append((domain, cap, ours, theirs, mean, half, kept, text))
    columns = ["domain", "cap", "ours", "theirs", "mean", "half", "kept", "text"]
    return pd.DataFrame(rows, columns=columns)


def spread(values):
    """Mean and standard deviation of a group, as text."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")


def over_domains(name):
    """A table of all domains at once; see `benchmarks/study/compare.py`."""
    return pd.read_csv(RESULTS / f"{name}.csv", comment="#", dtype=TEXTS)


class Folded:
    """A table that a page shows when it is asked to, or from the start."""

    def __init__(self, title, frame, shown=False):
        self.title, self.frame, self.shown = title, frame, shown

    def _repr_html_(self):
        long = self.frame.astype(str).map(len).to_numpy().max() > 30  # lines of words are broken
        words = "text" if long else None
        html = self.frame.to_html(border=0, justify="right", na_rep="", classes=words)
        shown = " open" * self.shown
        return f"<details{shown}><summary>{self.title}</summary>{html}</details>"


class Stacked:
    """Several things that show themselves as HTML, one below the other."""

    def __init__(self, *parts):
        self.parts = parts

    def _repr_html_(self):
        return "".join(part._repr_html_() for part in self.parts)
