"""The pages of the study: results first, their code folded below, and an archive that runs.

sphinx-gallery shows code above what it printed and drew, and offers each page by itself; a page of
the study reads tables and modules that lie beside it, so that all of them are offered together.
"""

import re
import zipfile
from pathlib import Path

from docutils import nodes

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FOOTER = re.compile(
    r"  \.\. container:: sphx-glr-footer sphx-glr-footer-example\n.*?(?=^\.\. only:: html)",
    re.M | re.S,
)
NOTE = re.compile(r"^\.\. only:: html\n\n    \.\. note::.*?(?=^\.\. rst-class::)", re.M | re.S)
ARCHIVES = """  .. container:: sphx-glr-footer

    .. container:: sphx-glr-download

      All pages, with the tables that they read:
      :download:`as Python scripts <study_python.zip>`,
      :download:`as Jupyter notebooks <study_jupyter.zip>`.


"""
READ_ME = """The pages of skunlearn's study, with the tables that they read.

They need skunlearn with its extras plot and tables, in the version that the site names:

    pip install '.[plot,tables]'      # in a checkout of skunlearn

Run a script, or open a notebook, in the folder pages:

    cd pages && python plot_1_methods.py
"""


def is_page(docname):
    """Tell the pages of the study from all others."""
    return docname.startswith("study/plot_")


def offer_archives(app, docname, source):
    """Offer the archives in place of the single file, and leave out the note on top of the page."""
    if is_page(docname):
        source[0] = FOOTER.sub(ARCHIVES, NOTE.sub("", source[0]))


def is_code(node):
    """Tell a block of code from what was printed."""
    return isinstance(node, nodes.literal_block) and node.get("language") == "Python"


def is_output(node):
    """Tell what code printed and drew from prose."""
    prose = (nodes.paragraph, nodes.section, nodes.list_item, nodes.Sequential, nodes.target)
    return not isinstance(node, prose) and not is_code(node)


def fold(app, doctree):
    """Move each block of code below its output, where the reader unfolds it."""
    if not is_page(app.env.docname):
        return
    for code in list(doctree.findall(is_code)):
        parent = code.parent
        end = parent.index(code)
        parent.remove(code)
        while end < len(parent) and is_output(parent[end]):
            end += 1
        opening = '<details class="code"><summary>Show the code</summary>'
        parent.insert(end, nodes.raw("", opening, format="html"))
        parent.insert(end + 1, code)
        parent.insert(end + 2, nodes.raw("", "</details>", format="html"))


def write_archives(app):
    """Replace the archives by ones that hold what the pages read."""
    built = Path(app.srcdir) / "study"
    shared = [("pages", BENCHMARKS / "pages" / "_tables.py")]
    shared += [("study", path) for path in sorted((BENCHMARKS / "study").glob("*.py"))]
    shared += [("results", path) for path in sorted((BENCHMARKS / "results").glob("*.csv"))]
    for name, suffix in ("study_python", "py"), ("study_jupyter", "ipynb"):
        pages = [("pages", path) for path in sorted(built.glob(f"plot_*.{suffix}"))]
        with zipfile.ZipFile(built / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", READ_ME)
            for folder, path in pages + shared:
                archive.write(path, f"{folder}/{path.name}")


def setup(app):
    """Connect what is above; sphinx-gallery has written its files by then."""
    app.connect("builder-inited", write_archives, priority=900)
    app.connect("source-read", offer_archives)
    app.connect("doctree-read", fold, priority=400)
    return {"parallel_read_safe": True}
