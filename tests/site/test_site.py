"""The built site in a browser: what is copied runs, and pages work on a phone and for all readers.

`make test-site` builds the site and runs this; anywhere else it is skipped. `SITE` in the
environment is the folder of the built site, `CHROMIUM` the browser, if it is not on the path.
"""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
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
    if not {"_static", "_downloads", "_sources"} & set(path.parts)
    and path.name not in ("genindex.html", "py-modindex.html", "search.html")
)
WRITTEN = [page for page in PAGES if not page.startswith("generated/")]
OF_NAMES = [page for page in PAGES if page.startswith("generated/")]
# Whose blocks run in their order, from an empty folder.
RUN = ["index.html", "start.html", *(page for page in PAGES if page.startswith("howto/"))]

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(not PAGES, reason=f"no site was built in {SITE}: make docs does"),
    pytest.mark.skipif(BROWSER is None, reason="no chromium on the path, nor in CHROMIUM"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open a page of the site; what its console says is an error."""
    contexts = []

    def visit(page, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        contexts.append(context)
        tab = context.new_page()
        tab.errors = []
        tab.on("console", lambda said: tab.errors.append(said.text) if said.type == "error" else 0)
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.goto(address + page)
        return tab

    yield visit
    for context in contexts:
        context.close()


def copied(tab):
    """What each copy button of a page puts on the clipboard, with the language of its block."""
    blocks = []
    for button in tab.query_selector_all("button.copybtn"):
        button.evaluate("button => button.scrollIntoView({block: 'center'})")
        button.dispatch_event("click")
        classes = button.evaluate("b => b.closest('[class*=highlight-]').className")
        shown = button.evaluate("b => b.parentElement.querySelector('pre').innerText")
        blocks.append(
            (
                re.findall(r"highlight-(\w+)", classes)[0],
                tab.evaluate("navigator.clipboard.readText()"),
                shown,
            )
        )
    return blocks


@pytest.mark.parametrize("page", PAGES)
def test_what_is_copied_is_code(page, visit):
    for language, code, shown in copied(visit(page)):
        assert code.strip()
        assert not re.search(r"^(>>>|\.\.\.|\$) ", code, re.M), shown
        if language == "console":
            assert all(line in shown for line in code.splitlines())
        else:
            compile(code, page, "exec")


@pytest.mark.parametrize("page", RUN)
def test_what_is_copied_runs_in_its_order(page, visit, tmp_path):
    blocks = [
        code
        for language, code, shown in copied(visit(page))
        if shown.startswith(">>>") or (page == "index.html" and language == "python")
    ]
    blocks = [code for code in blocks if "Traceback" not in code]
    if not blocks:
        pytest.skip("a page without code")
    # A block that is there to show an error is left out.
    text = (SITE / "_sources" / page.replace(".html", ".rst.txt")).read_text(encoding="utf-8")
    raised = re.findall(r"^>>> (.*)\n(?:\.\.\. .*\n)*Traceback", text, re.M)
    code = "\n\n".join(blocks)
    for line in raised:
        code = code.replace(line, "")
    (tmp_path / "pasted.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "pasted.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_errors_and_fits_a_phone(page, visit):
    tab = visit(page, width=390)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", [*WRITTEN, *OF_NAMES[:3]])
def test_a_page_has_no_serious_finding_of_axe(page, scheme, visit):
    tab = visit(page, scheme=scheme)
    found = axe.Axe().run(tab, options={"resultTypes": ["violations"]}).response["violations"]
    assert [
        (rule["id"], [node["html"][:200] for node in rule["nodes"][:3]])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ] == []


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
