"""The built site in a browser: what is copied runs, and pages work on a phone and for all readers.

`make test-site` builds the site and runs this; anywhere else it is skipped. `SITE` in the
environment is the folder of the built site, `CHROMIUM` the browser, if it is not on the path.
"""

import doctest
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("SITE", ROOT / "docs" / "_build" / "html"))
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if not {"_static", "_downloads", "_sources", "_modules"} & set(path.parts)
    and path.name not in ("genindex.html", "py-modindex.html", "search.html")
)
WRITTEN = [page for page in PAGES if not page.startswith("generated/")]
OF_NAMES = [page for page in PAGES if page.startswith("generated/")]
SOURCES = {
    path.relative_to(SITE / "_sources").as_posix().replace(".rst.txt", ".html"): path
    for path in (SITE / "_sources").rglob("*.rst.txt")
}
# Whose blocks run in their order, from an empty folder; the first three take a minute.
QUICK = ["index.html", "start.html", "howto/trained_model.html"]
RUN = [page for page in PAGES if page in QUICK or page.startswith("howto/")]
# What a minute does not run has to wait for `make test-slow`.
QUICK_EXAMPLES = ("pretrained_network", "forget_a_speaker", "custom_unlearner", "text_embedding")
doctest.register_optionflag("ROUGHLY")  # of tests/test_docs.py
NOTEBOOKS = sorted((SITE / "_downloads").rglob("plot_*.ipynb"))

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(not PAGES, reason=f"no site was built in {SITE}: make docs does"),
    pytest.mark.skipif(BROWSER is None, reason="no chromium on the path, nor in CHROMIUM"),
]


def slow_unless(quick, values, name=str):
    """Parameters, of which those that are not quick are marked."""
    marks = {True: (), False: pytest.mark.slow}
    return [pytest.param(value, marks=marks[quick(value)], id=name(value)) for value in values]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def address():
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser(address):
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        yield context
        browser.close()


@pytest.fixture(scope="session")
def visit(browser, address):
    """Open a page of the site in the one tab; what its console says is an error."""
    tab = browser.new_page()
    tab.on("console", lambda said: tab.errors.append(said.text) if said.type == "error" else 0)
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))

    def visit(page, width=1280, scheme="light"):
        tab.errors = []
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme)
        tab.goto(address + page)
        return tab

    return visit


# What each copy button puts on the clipboard, with the language and the text of its block.
COPY = """async () => {
  const found = [];
  for (const button of document.querySelectorAll("button.copybtn")) {
    await navigator.clipboard.writeText("");
    button.click();
    let code = "";
    for (let i = 0; i < 50 && !code; i++) {
      code = await navigator.clipboard.readText();
      if (!code) await new Promise((done) => setTimeout(done, 10));
    }
    const block = button.closest("[class*=highlight-]");
    const shown = button.parentElement.querySelector("pre").textContent;
    found.push([block.className.match(/highlight-(\\w+)/)[1], code, shown]);
  }
  return found;
}"""
# What is wider than a phone and does not lie in a box that scrolls.
WIDE = """() => [...document.querySelectorAll("table, img, pre")].filter((thing) => {
  if (thing.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let box = thing; box; box = box.parentElement) {
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
    if (scrolls && box.getBoundingClientRect().right <= innerWidth + 1) return false;
  }
  return true;
}).map((thing) => thing.outerHTML.slice(0, 200))"""
# Plots that a phone shows at less than half of their size.
SMALL = """() => [...document.querySelectorAll("img[class^=sphx-glr-]")].filter((plot) =>
  plot.getBoundingClientRect().width < Math.min(plot.naturalWidth / 2, 480)
).map((plot) => plot.src)"""


AXE = """async ([options, exclude]) => {
  const found = await axe.run({exclude}, {...options, resultTypes: ["violations"], preload: false});
  return found.violations
    .filter((rule) => ["serious", "critical"].includes(rule.impact))
    .map((rule) => [rule.id, rule.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))]);
}"""
CONTRAST = {"runOnly": ["color-contrast"]}  # most of the time of axe, and all that a scheme changes
ALL_BUT_CONTRAST = {"rules": {"color-contrast": {"enabled": False}}}
# Code has the same colours on all pages; these have code, what it printed, and formulas.
WITH_CODE = ("start.html", "howto/images.html", "auto_examples/plot_pretrained_network.html")


@pytest.fixture(scope="session")
def seen(visit):
    """What there is to see on a page, from one visit: what is copied, errors, widths, axe."""

    @functools.cache
    def seen(page):
        tab, found = visit(page), {"axe": {}}
        found["copied"] = tab.evaluate(COPY)
        if page in WRITTEN or page in OF_NAMES[:3]:
            tab.evaluate(axe.Axe().axe_script)
            tab.add_style_tag(content="* { transition: none !important; }")  # or colours fade in
            for scheme in ("light", "dark"):
                tab.emulate_media(color_scheme=scheme)
                tab.wait_for_timeout(100)
                exclude = [] if page in WITH_CODE else [".highlight"]
                found["axe"][scheme] = tab.evaluate(AXE, [CONTRAST, exclude])
            found["axe"]["light"] += tab.evaluate(AXE, [ALL_BUT_CONTRAST, []])
        tab.set_viewport_size({"width": 390, "height": 844})
        found["width"] = tab.evaluate("document.documentElement.scrollWidth")
        found["wide"], found["small"] = tab.evaluate(WIDE), tab.evaluate(SMALL)
        found["errors"] = tab.errors
        return found

    return seen


def lines(code):
    """The lines of code, without what only doctest reads."""
    return [
        line
        for line in re.sub(r"\s*# doctest:.*", "", code).splitlines()
        if line.strip() and line.strip() != "<BLANKLINE>"
    ]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_copied_is_code(page, seen):
    for language, code, shown in seen(page)["copied"]:
        assert code.strip(), shown
        assert not re.search(r"^(>>>|\.\.\.|\$) ", code, re.M), shown
        if language == "console":
            assert all(line in shown for line in code.splitlines())
        else:
            compile(code, page, "exec")


@pytest.mark.parametrize("page", [p for p in SOURCES if ">>>" in SOURCES[p].read_text("utf-8")])
def test_what_is_copied_is_what_the_tests_run(page, seen):
    """`tests/test_docs.py` runs the code of each page, in its order, from an empty folder."""
    examples = doctest.DocTestParser().get_examples(SOURCES[page].read_text(encoding="utf-8"))
    blocks = [code for _, code, shown in seen(page)["copied"] if shown.startswith(">>>")]
    assert lines("\n".join(blocks)) == lines("".join(example.source for example in examples))


@pytest.mark.parametrize("page", slow_unless(QUICK.__contains__, RUN))
def test_what_is_copied_runs_in_its_order(page, seen, tmp_path):
    blocks = [
        code
        for language, code, shown in seen(page)["copied"]
        if shown.startswith(">>>") or (page == "index.html" and language == "python")
    ]
    if not blocks:
        pytest.skip("a page without code")
    # A line that is there to show an error is left out.
    text = SOURCES[page].read_text(encoding="utf-8")
    raised = re.findall(r"^>>> (.*)\n(?:\.\.\. .*\n)*Traceback", text, re.M)
    code = "\n\n".join(blocks)
    for line in raised:
        code = code.replace(line, "")
    (tmp_path / "pasted.py").write_text(code, encoding="utf-8")
    warnings = [
        "-W",
        "error::UserWarning",
        "-W",
        "ignore:The .grad attribute of a Tensor:UserWarning",
    ]
    run([sys.executable, *warnings, "pasted.py"], tmp_path)


def run(command, folder):
    """Run a command as somebody would who has installed the package."""
    python_path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    names = {"PYTHONPATH": python_path, "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, **names}
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_errors_and_fits_a_phone(page, seen):
    found = seen(page)
    assert found["errors"] == []
    assert found["width"] <= 390
    assert found["wide"] == []
    assert found["small"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", [*WRITTEN, *OF_NAMES[:3]])
def test_a_page_has_no_serious_finding_of_axe(page, scheme, seen):
    assert seen(page)["axe"][scheme] == []


def test_the_site_is_dark_where_the_reader_wants_it(visit):
    colours = {}
    for scheme in ("light", "dark"):
        tab = visit("index.html", scheme=scheme)
        colours[scheme] = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert [picture.is_visible() for picture in tab.query_selector_all("img.front")] == [
            scheme == "light",
            scheme == "dark",
        ]
    assert colours["light"] != colours["dark"]


@pytest.mark.parametrize(
    ("words", "page"),
    [("poisoned", "index.html"), ("LoRA", "howto/huggingface.html"), ("NoMUS", "glossary.html")],
)
def test_a_search_finds_the_page(words, page, visit):
    tab = visit(f"search.html?q={words}")
    tab.wait_for_selector("#search-results li a", timeout=20000)
    tab.wait_for_timeout(1000)
    links = tab.eval_on_selector_all("#search-results li a", "all => all.map(a => a.href)")
    assert any(page in link for link in links)
    assert tab.errors == []


def test_code_of_the_study_is_folded_below_its_results(visit):
    tab = visit("study/plot_1_methods.html")
    assert tab.evaluate("document.querySelectorAll('details.code').length") > 3
    assert not tab.query_selector("details.code div.highlight pre").is_visible()
    first = "document.querySelector('details.code').previousElementSibling.className"
    assert "sphx-glr-script-out" in tab.evaluate(first)
    tab.click("details.code > summary")
    assert tab.query_selector("details.code div.highlight pre").is_visible()


def execute(notebook, folder):
    """Run a notebook from top to bottom, as it was downloaded."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    content = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(
        content, timeout=None, resources={"metadata": {"path": folder}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"})


def is_quick(path):
    return path.stem.removeprefix("plot_") in QUICK_EXAMPLES


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jupyter's own
@pytest.mark.parametrize("notebook", slow_unless(is_quick, NOTEBOOKS, lambda path: path.stem))
def test_a_notebook_runs_as_it_is(notebook, tmp_path):
    first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]
    assert "pip install" in "".join(first["source"])
    execute(notebook, tmp_path)


def test_the_archives_of_the_study_run(tmp_path):
    for name in ("study_python", "study_jupyter"):
        (archive,) = (SITE / "_downloads").rglob(f"{name}.zip")
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(tmp_path)
    run([sys.executable, "plot_9_attacks.py"], tmp_path / "pages")
    execute(tmp_path / "pages" / "plot_3_transport.ipynb", tmp_path / "pages")
