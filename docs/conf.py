"""How the site is built; `make docs` builds it, and `-D plot_gallery=0` leaves the examples out.

`SITE_URL` in the environment is where the site will be; links to its card need it in full.
"""

import inspect
import json
import os
import pkgutil
import runpy
import sys
from importlib import import_module
from pathlib import Path

import skunlearn

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # where the gallery finds its order, and Sphinx the study's pages
gallery = import_module("gallery")
os.environ["TQDM_DISABLE"] = "1"  # progress bars are nothing to print

project = "skunlearn"
author = "The skunlearn developers"
copyright = author
version = release = skunlearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "myst_parser",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "study_pages",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"
highlight_language = "none"  # of blocks that say no language: formulas. Prompts are seen as such.
autodoc_typehints = "none"
nitpicky = True

html_theme = "pydata_sphinx_theme"
html_title = "skunlearn: machine unlearning for PyTorch classifiers"
html_short_title = "skunlearn"
html_baseurl = os.environ.get("SITE_URL", "")
html_static_path = ["_static", "generated/drawn"]
html_favicon = "_static/favicon.svg"
html_css_files = ["custom.css"]
html_js_files = ["site.js"]
html_context = {
    "default_mode": "auto",
    "versions": json.loads((HERE / "versions.json").read_text(encoding="utf-8")),
    "description": "Remove training rows from a trained PyTorch classifier with the habits of "
    "scikit-learn, and measure whether they are forgotten.",
}
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "  # what is copied runs: neither prompts nor output
copybutton_prompt_is_regexp = True
# Formulas and what was printed have no button: nothing in them can be run.
copybutton_selector = ", ".join(
    f"div.highlight-{language} pre" for language in ("default", "python", "Python", "console")
)
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 9,
    "logo": {"text": "skunlearn"},
    "collapse_navigation": True,
    "navbar_persistent": ["search-button"],
    "navbar_end": ["versions", "theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {
    name: []
    for name in (
        *("index", "install", "start", "choosing", "faq", "glossary"),
        *("api", "about", "contributing", "changelog"),
    )
}

numpydoc_show_class_members = False


#: What a method of one's own defines or calls, shown with the class that it derives from.
PROTECTED = (
    "_unlearn",
    "_copy",
    "_train",
    "_needs",
    "_check_hyperparameters",
    "_search_space",
)


def methods_of(cls):
    """Names of the methods that a class's page describes: this package's own, and `score`."""
    names = [
        name
        for name, method in inspect.getmembers(cls, inspect.isroutine)
        if name[0] != "_"
        and method.__doc__
        and (name == "score" or str(getattr(method, "__module__", None)).startswith("skunlearn."))
    ]
    return [*PROTECTED, *names] if cls is skunlearn.NetworkUnlearner else names


modules = ["skunlearn"] + [
    module.name for module in pkgutil.walk_packages(skunlearn.__path__, "skunlearn.")
]
autosummary_context = {
    "methods_of": {
        f"{module}.{name}": methods_of(cls)
        for module in modules
        if "._" not in module
        for name, cls in inspect.getmembers(import_module(module), inspect.isclass)
    }
}

sphinx_gallery_conf = {
    "examples_dirs": ["../examples", "../benchmarks/pages"],
    "gallery_dirs": ["auto_examples", "study"],
    "ignore_pattern": r"^_tables\.py$",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skunlearn",),
    "within_subsection_order": "gallery.ByNeed",
    "reset_modules": ("matplotlib", "seaborn", "gallery.plain_warnings"),
    "write_computation_times": False,
    "min_reported_time": 1,
    "thumbnail_size": (400, 280),
    "parallel": 2,
    "first_notebook_cell": "# Needs skunlearn and some extras, from a checkout of its repository:\n"
    "# pip install '.[plot,data,tables]'\n%matplotlib inline",
    "capture_repr": ("_repr_html_",),  # of displays, the plot says it all
}

# Links to other projects come from lists that are kept here: no page needs a network to be built.
intersphinx_mapping = runpy.run_path(str(HERE / "inventories.py"))["mapping"](
    HERE / "_build" / "inventories"
)


def setup(app):
    """Draw what comes from the tables and the code; make thumbnails once the gallery is there."""
    app.connect("builder-inited", gallery.crop_thumbnails, priority=900)
    runpy.run_path(str(HERE / "drawn.py"))["main"](HERE / "generated" / "drawn")
