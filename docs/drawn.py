"""The plots and tables that the site draws from its own code and from the study's tables."""

import contextlib
import csv
import io
import re
import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

HERE = Path(__file__).parent
# Colours that can be told apart by those who do not see all of them (Okabe and Ito).
WRONG, RIGHT = "#E69F00", "#56B4E9"
THEMES = {"light": ("black", "0.88"), "dark": ("0.93", "0.35")}  # ink; a third answer


def first_code():
    """Return the code that the front page shows."""
    text = (HERE / "index.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"^\.\. code-block:: python\n\n(.*?)^(?=\S)", text, re.M | re.S)
    return textwrap.dedent(block)


def first_answers():
    """Run the front page's code; return its rows to forget, their labels, and two answers."""
    before, after = first_code().split("unlearner.unlearn(")
    space, said = {}, []
    for code in (before, "unlearner.unlearn(" + after):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, space)
        said.append(space["unlearner"].predict(space["X"][space["forget"]]))
    X, y, truth = (space[name][space["forget"]] for name in ("X", "y", "truth"))
    return X.reshape(-1, 8, 8), y, truth, said


def draw_poison(figure, X, y, truth, said, *, dark, n_shown=10, size=11):
    """Draw the wrong labels, the answers before and the answers after, below their images.

    The name of a line stands above it, so that all can be read on a phone.
    """
    ink, third = THEMES["dark" if dark else "light"]
    repeated = said[0] == y  # in the same share among those that are shown
    n_repeated = round(n_shown * repeated.mean())
    chosen = np.sort(
        np.r_[
            np.flatnonzero(repeated)[:n_repeated],
            np.flatnonzero(~repeated)[: n_shown - n_repeated],
        ]
    )
    top, bottom = figure.subplots(2, 1, height_ratios=[1, 4.5])
    strip = np.hstack(np.pad(X[chosen], [(0, 0), (1, 1), (1, 1)]))
    picture = np.broadcast_to(mpl.colors.to_rgba(ink), (*strip.shape, 4)).copy()
    picture[..., 3] = strip / strip.max()
    top.imshow(picture, aspect="auto")
    top.set_axis_off()
    lines = np.array([y[chosen], said[0][chosen], said[1][chosen]])
    shares = [np.mean(answer == y) for answer in said]
    names = [
        "wrong label in the training data",
        f"the network before: {shares[0]:.0%} of the wrong labels repeated",
        f"after unlearning: {shares[1]:.0%}; blue is right",
    ]
    colours = np.where(lines == y[chosen], WRONG, np.where(lines == truth[chosen], RIGHT, third))
    for i, name in enumerate(names):
        bottom.text(-0.45, i - 0.28, name, va="center", fontsize=size, color=ink)
    for (i, j), label in np.ndenumerate(lines):
        box = mpl.patches.FancyBboxPatch(
            (j - 0.4, i - 0.08), 0.8, 0.5, boxstyle="round,pad=0.02,rounding_size=0.1"
        )
        box.set(facecolor=colours[i, j], edgecolor="none")
        bottom.add_patch(box)
        seen = ink if colours[i, j] == third else "black"
        bottom.text(j, i + 0.17, label, ha="center", va="center", fontsize=size + 1, color=seen)
    bottom.set(xlim=(-0.5, len(chosen) - 0.5), ylim=(2.5, -0.5))
    bottom.set_axis_off()


def draw_front(folder, answers):
    """Draw the plot of the front page, light and dark, and the card of the site."""
    for theme in THEMES:
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        figure.patch.set_alpha(0)
        draw_poison(figure, *answers, dark=theme == "dark")
        figure.savefig(folder / f"front-{theme}.svg", metadata={"Date": None})
    figure = Figure(figsize=(12, 6.3), facecolor="white")
    figure.text(0.05, 0.84, "skunlearn", fontsize=52, weight="bold")
    line = "Remove rows from a trained PyTorch classifier,\nand measure whether they are forgotten."
    figure.text(0.05, 0.63, line, fontsize=27, linespacing=1.3)
    below = figure.subfigures(2, 1, height_ratios=[1.35, 2])[1]
    draw_poison(below, *answers, dark=False, size=19)
    below.subplots_adjust(left=0.05, right=0.95, bottom=0.02, top=0.98)
    figure.savefig(folder / "card.png", dpi=100)


# What the study calls a data set, and what the pages call it. Long: 120 epochs; short: 8 to 20.
LONG = {"speeches-long": "speeches", "faces-long": "faces", "ecg-long": "heart beats"}
SHORT = {
    "speeches": "speeches",
    "faces": "faces",
    "ecg": "heart beats",
    "identities": "drawn faces",
    "digits": "spoken digits",
}
# By length of training: the case, what to start with, and its row in the tables: method and cap.
CASES = {
    "long": [
        ("you do nothing", "the original", "Original", 0.1),
        ("you can train again", ":class:`~skunlearn.Retrain`", "Retrain", 0.1),
        (
            "you can spend a tenth",
            "`Retrain` with a tenth of the epochs",
            "Retrain (shortened)",
            0.1,
        ),
        (
            "you can spend a twentieth",
            ":class:`~skunlearn.Distill`, tuned with its batch size, `noise` of 1",
            "Distill (fresh)",
            0.05,
        ),
        (
            "you can spend a twentieth",
            "`Retrain`, tuned with its batch size",
            "Retrain (short, batches)",
            0.05,
        ),
        (
            "you can spend a twentieth",
            "a training on :ref:`soft labels <soft-labels>`, tuned likewise",
            "Distill (smoothed labels)",
            0.05,
        ),
        (
            "you can spend a twentieth",
            ":class:`~skunlearn.Distill` at its defaults (6 epochs)",
            "Distill (default)",
            0.1,
        ),
        (
            "you can spend a twentieth",
            ":class:`~skunlearn.Distill`, tuned with `noise` (.7 was chosen)",
            "Distill",
            0.05,
        ),
        (
            "you can spend a twentieth",
            ":class:`~skunlearn.Distill`, chosen by distance and an attack on each row together",
            "Distill (guarded)",
            0.05,
        ),
        ("you can spend a twentieth", "`Retrain` with as many epochs", "Retrain (shortened)", 0.05),
        (
            "you can spend a twentieth",
            "`Retrain` with as many, its rate tuned",
            "Retrain (tuned, short)",
            0.05,
        ),
        ("you can spend a twentieth", ":class:`~skunlearn.L1Sparse`", "L1Sparse", 0.05),
        (
            "you can spend a twentieth",
            ":class:`~skunlearn.FineTune` at a high `lr`",
            "FineTune",
            0.05,
        ),
        ("you can spend a twentieth", ":class:`~skunlearn.EUk`", "EUk", 0.05),
        ("you can spend 3 %", ":class:`~skunlearn.EUk`", "EUk", 0.03),
        ("you can spend 3 %", ":class:`~skunlearn.L1Sparse`", "L1Sparse", 0.03),
        ("you can spend 3 %", "`Retrain`, its rate tuned", "Retrain (tuned, short)", 0.03),
        ("the retained rows are gone", ":class:`~skunlearn.NegGrad`", "NegGrad", 0.1),
    ],
    "short": [
        ("you do nothing", "the original", "Original", 0.3),
        ("you can train again", ":class:`~skunlearn.Retrain`", "Retrain", 0.3),
        ("you can spend half", "`Retrain` with half of the epochs", "Retrain (shortened)", 1.0),
        ("you can spend half", ":class:`~skunlearn.Distill`", "Distill", 1.0),
        ("you can spend a third", ":class:`~skunlearn.FineTune` at a high `lr`", "FineTune", 0.3),
        ("you can spend a third", ":class:`~skunlearn.L1Sparse`", "L1Sparse", 0.3),
        ("you can spend a third", ":class:`~skunlearn.BadTeacher`", "BadTeacher", 0.3),
        ("you can spend a third", ":class:`~skunlearn.RandomLabel`", "RandomLabel", 0.3),
        ("the retained rows are gone", ":class:`~skunlearn.NegGrad`", "NegGrad", 0.3),
    ],
}
# The methods to search over: those that go on from the original and pass on some data set, the most
# often first. A method with two rows in the study's tables has both.
SEARCHED = {
    "UNSIR": ["UNSIR"],
    "AdvancedNegGrad": ["AdvancedNegGrad", "AdvancedNegGrad (ceiling)"],
    "DLFD": ["DLFD", "DLFD (published)"],
    "L1Sparse": ["L1Sparse"],
    "BadTeacher": ["BadTeacher"],
    "FineTune": ["FineTune"],
    "AMUN": ["AMUN"],
    "RandomLabel": ["RandomLabel"],
    "SalUn": ["SalUn"],
    "EUk": ["EUk"],
}
FRESH = {  # what never has the original's weights, or few of them
    "`Retrain`, fewer epochs": ["Retrain (shortened)"],
    "`Retrain`, fewer epochs, its rate tuned": ["Retrain (tuned, short)"],
    ":class:`~skunlearn.Distill`, `noise` tuned": ["Distill"],
    ":class:`~skunlearn.Distill`, `noise` of 1 (long only)": ["Distill (fresh)"],
    ":ref:`soft labels <soft-labels>` (long only)": ["Distill (smoothed labels)"],
}


def results(name):
    """Return the rows of a table of the study."""
    path = HERE.parent / "benchmarks" / "results" / f"{name}.csv"
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if line[0] != "#"))


def summaries(domains):
    """Return the study's summaries: a row by data set, method and cap."""
    return {
        (domain, row["method"], float(row["cap"])): row
        for domain in domains
        for row in results(f"summary-{domain}")
    }


def number(text):
    """Return a number of a table as a page shows it: two digits, and none before the point."""
    text = f"{float(text):.2f}"
    return text[1:] if text[0] == "0" else text


def failed(found, domain, method, cap):
    """Return what a method fails on a data set, in the words of the pages; nothing if it passes."""
    row, original = found[domain, method, cap], found[domain, "Original", cap]
    words = []
    if not int(row["kept"]):
        retrained = float(found[domain, "Retrain", cap]["retain_accuracy"])
        words.append(f"lost ({exactly(retrained - float(row['retain_accuracy']))})")
    if not int(row["forgot"]):
        aucs = [
            float(each["calibrated_attack_auc"])
            for each in results(f"reported-{domain}")
            if (each["method"], each["trial"]) == (method, row["trial"])
        ]
        words.append(f"found ({exactly(np.mean(np.abs(np.subtract(aucs, 0.5))))})")
    if not int(row["in_cap"]):
        words.append("expensive")
    if float(row["relative_js_distance"]) >= float(original["relative_js_distance"]):
        words.append("no nearer")
    return words


def exactly(value):
    """Return a share with three digits, since many are close to what is allowed."""
    return f"{value:.3f}".removeprefix("0")


def count_passed(found, domains, method, cap):
    """Return on how many data sets a method passes, and of how many."""
    here = [domain for domain in domains if (domain, method, cap) in found]
    return sum(not failed(found, domain, method, cap) for domain in here), len(here)


def list_table(lines):
    """Return a table as reStructuredText, its first line the header; a cell may have lines."""
    text = [".. list-table::", "   :header-rows: 1", "   :class: numbers", ""]
    for cells in lines:
        for i, cell in enumerate(cells):
            first, *others = cell.split("\n")
            text += [
                f"   {'*' if i == 0 else ' '} - {first}",
                *(f"       {line}" for line in others),
            ]
    return "\n".join(text) + "\n"


def choosing_table(name, domains):
    """Return the table of a length of training: a case a row, a data set a column."""
    found = summaries(domains)
    lines = [["your case", "start with", "passes", "cost", *domains.values()]]
    for case, start, method, cap in CASES[name]:
        here = [domain for domain in domains if (domain, method, cap) in found]
        counted = method not in ("Original", "Retrain")
        costs = [float(found[domain, method, cap]["cost"]) for domain in here]
        cost = f"{100 * np.mean(costs):.2g} %" if counted else ""
        cost = "100 %" if method == "Retrain" else cost
        cells = []
        for domain in domains:
            if domain not in here:
                cells.append("–")
                continue
            row = found[domain, method, cap]
            spread = number(row["relative_js_distance_sd"])
            spread = f" ± {spread}" if float(spread) else ""
            parts = [f"{number(row['relative_js_distance'])}{spread}"]
            parts.append(f"AUC {number(row['calibrated_attack_auc'])}")
            parts += [f"*{word}*" for word in failed(found, domain, method, cap)] * counted
            cells.append("\n".join(f"| {part}" for part in parts))
        count = "{} of {}".format(*count_passed(found, domains, method, cap)) if counted else ""
        lines.append([case, start, count, cost, *cells])
    return list_table(lines)


def where_passed(domains, names):
    """Return where methods pass, each at the smallest cost: data sets, and rows of the table."""
    found = summaries(domains)
    passed = {}
    for domain, method, cap in sorted(found, key=lambda key: key[2]):
        if method in names and not failed(found, domain, method, cap):
            passed.setdefault(domain, found[domain, method, cap])
    return {domain: passed[domain] for domain in domains if domain in passed}


def passed_table():
    """Return the table of where each method passes, and at which cost."""
    lines = [["", "training is long", "training is short"]]
    searched = {f":class:`~skunlearn.{name}`": names for name, names in SEARCHED.items()}
    for name, names in {**FRESH, **searched}.items():
        cells = [
            ", ".join(
                f"{domains[domain]} {number(row['relative_js_distance'])} "
                f"({100 * float(row['cost']):.2g}\N{NO-BREAK SPACE}%)"
                for domain, row in where_passed(domains, names).items()
            )
            for domains in (LONG, SHORT)
        ]
        lines.append([name, *(cell or "–" for cell in cells)])
    originals = [
        ", ".join(
            f"{domains[row['domain']]} {number(row['relative_js_distance'])}"
            for row in {
                domain: row
                for (domain, name, _), row in summaries(domains).items()
                if name == "Original"
            }.values()
        )
        for domains in (LONG, SHORT)
    ]
    lines.insert(1, ["the original, which does not pass", *originals])
    return list_table(lines).replace("   :class: numbers", "   :class: where\n   :widths: 26 37 37")


def seconds_table():
    """Return the table of seconds that the page of questions shows, the quickest first."""
    rows = results("seconds-methods")
    rows.sort(key=lambda row: float(row["seconds"]))
    n_rows, n_epochs = int(rows[0]["rows"]), int(rows[0]["epochs"])
    lines = [
        [
            "method",
            f"seconds, {n_rows:,} rows",
            f"share of the seconds of a retraining ({n_epochs} epochs)",
        ]
    ]
    lines += [
        [
            f":class:`~skunlearn.{row['method']}`",
            f"{float(row['seconds']):.1f}",
            f"{float(row['share']):.0%}".replace("%", " %"),
        ]
        for row in rows
    ]
    return list_table(lines)


def passes(name, domains, method, cap):
    """Return what the chart says of a method."""
    n_passed, n_measured = count_passed(summaries(domains), domains, method, cap)
    return f"passes on {n_passed} of {n_measured} data sets" if n_measured else "not measured yet"


def questions():
    """Return the chart's questions: the answer that ends it, the method, and its numbers."""
    return [
        ("Can each request wait for a whole training?", "yes", "Retrain", "exact; cost 100 %"),
        (
            "Will many requests come, and is the training yours to set up?",
            "yes",
            "SISA",
            "exact; cost: the shards that a request hits",
        ),
        (
            "Are the retained rows still at hand?",
            "no",
            "NegGrad",
            passes("long", LONG, "NegGrad", 0.1),
        ),
        (
            "Does a tenth of the epochs learn the task, and can you spend it?",
            "yes",
            "Retrain, a tenth",
            passes("long", LONG, "Retrain (shortened)", 0.1),
        ),
        (
            "Does a twentieth learn it, and can you spend it?",
            "yes",
            "Distill",
            f"tuned, {passes('long', LONG, 'Distill (fresh)', 0.05)}",
        ),
        (
            "Can you spend half of the epochs?",
            "yes",
            "Retrain, half",
            passes("short", SHORT, "Retrain (shortened)", 1.0),
        ),
    ]


def draw_chart(folder):
    """Draw the decision chart, light and dark."""
    asked = questions()
    *names, end = SEARCHED
    last = (
        f"Search over {', '.join(names)} and {end}, beside as many epochs from scratch. "
        "Each passes on some data, none on all."
    )
    for theme, (ink, third) in THEMES.items():
        height = 1.1 * len(asked) + 1
        figure = Figure(figsize=(4.4, height))
        figure.patch.set_alpha(0)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, 4.4), ylim=(0, height))
        ax.set_axis_off()

        def box(x, y, width, colour, ax=ax):
            patch = mpl.patches.FancyBboxPatch(
                (x, y - 0.4), width, 0.8, boxstyle="round,pad=0,rounding_size=0.08"
            )
            patch.set(facecolor=colour, edgecolor="none")
            ax.add_patch(patch)

        def write(x, y, text, width, ink="black", ax=ax, **words):
            text = textwrap.fill(text, width)
            words = {"fontsize": 9.5, "ha": "center", "va": "center", **words}
            ax.text(x, y, text, color=ink, **words)

        def arrow(start, end, label, at, ink=ink, ax=ax):
            ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": ink})
            ax.text(*at, label, color=ink, fontsize=9, ha="center", va="center")

        y = height - 0.5
        for question, answer, method, numbers in asked:
            box(0.05, y, 2.1, third)
            write(1.1, y, question, 25, ink)
            box(2.6, y, 1.75, RIGHT)
            write(3.475, y + 0.22, method, 40, weight="bold")
            write(3.475, y - 0.12, numbers, 18)
            arrow((2.15, y), (2.6, y), answer, (2.36, y + 0.11))
            below = "no" if answer == "yes" else "yes"
            arrow((1.1, y - 0.4), (1.1, y - 0.7), below, (1.32, y - 0.54))
            y -= 1.1
        box(0.05, y, 4.3, WRONG)
        write(2.2, y, last, 54)
        figure.savefig(folder / f"choosing-{theme}.svg", metadata={"Date": None})


def main(folder):
    """Draw everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, domains in ("long", LONG), ("short", SHORT):
        text = choosing_table(name, domains)
        (folder / f"choosing-{name}.inc").write_text(text, encoding="utf-8")
    (folder / "choosing-passed.inc").write_text(passed_table(), encoding="utf-8")
    (folder / "seconds.inc").write_text(seconds_table(), encoding="utf-8")
    with mpl.rc_context({"svg.hashsalt": "site", "font.size": 11}):
        draw_chart(folder)
        draw_front(folder, first_answers())


if __name__ == "__main__":
    main(HERE / "generated" / "drawn")
