"""Hostile names, headers, comments and reasons on every page, in a real browser.

The browser is told to leave the Content-Security-Policy aside: what was smuggled in would run, and
not be held back by the second fence. That the fence stands is tested at the end.
"""

import csv
import io
from html import escape
from html.parser import HTMLParser
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest
from hostile import ALL, HOSTILE, IMAGE, IN_A_NAME, RUN, SCRIPT, TEXTS, fill_with_hostile_texts
from plausible import NIGHT
from site_routes import all_routes
from visiting import let_in, logged_in

from roboao_assets.pipelines import night_report
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

pytestmark = pytest.mark.browser

# Every element, also those in the trees of widgets.
WALK = """(look) => {
  const found = [];
  const walk = (root) => root.querySelectorAll('*').forEach((e) => {
    const said = look(e);
    if (said) found.push(said);
    if (e.shadowRoot) walk(e.shadowRoot);
  });
  walk(document);
  return found;
}"""
# A text of ours never becomes an element, a handler or an address that runs.
INTRUDERS = f"""() => ({WALK})((e) => {{
  if (e.hasAttribute('data-pwned')) return e.outerHTML;
  for (const {{ name, value }} of e.attributes) {{
    if (name.startsWith('on')) return e.outerHTML;
    if (['href', 'src', 'action', 'formaction', 'xlink:href'].includes(name)
        && /^[\\s\\u0000-\\u001f]*(javascript|vbscript|data:text)/i.test(value)) return e.outerHTML;
  }}
  return '';
}})"""
TEXT = f"""() => ({WALK})((e) => ['SCRIPT', 'STYLE'].includes(e.tagName) ? '' :
  [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent).join(''))
  .join('\\n')"""
ASKED = {"q": IMAGE, "said": IMAGE, "sort": IMAGE, "show": IMAGE, "text": SCRIPT}
# Page -> with what it is asked, and whether a hostile text must be read on it.
PAGES = {
    "/": ({"year": "2017"}, False),
    "/night": ({"night": NIGHT}, True),
    "/observation": ({"id": HOSTILE}, True),
    "/search": ({"program": "24.1"}, True),
    "/trends": ({"program": "24.1"}, False),
    "/account": ({}, False),
    "/psf-library": ({}, True),
    "/administration": ({}, False),
    "/administration/redo": ({"subject": HOSTILE}, True),
    "/administration/calibration": ({"night": "20170606"}, False),
    "/administration/users": ({}, True),
    "/administration/log": ({}, True),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "archive"


@pytest.fixture(scope="module")
def url(root):
    root.mkdir()
    url = f"sqlite:///{root}/catalogue.sqlite"
    fill_with_hostile_texts(url, ArchivePaths(root))
    return url


@pytest.fixture(scope="module")
def server(start_server, url, root):
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(root))


@pytest.fixture(scope="module", params=["admin", "user"])
def visit(request, browser, server):
    """A function that opens a page and returns it with its complaints."""
    context = browser.new_context(bypass_csp=True, viewport={"width": 1280, "height": 900})
    let_in(context, server, request.param)
    page = context.new_page()
    page.who = request.param
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda dialog: (page.complaints.append("dialog"), dialog.dismiss()))

    def open_page(address):
        page.complaints.clear()
        answer = page.goto(server + address)
        page.wait_for_load_state("networkidle")
        return page, answer.status

    yield open_page
    context.close()


def assert_harmless(page):
    for summary in page.locator("details > summary").all():
        if summary.is_visible():
            summary.click()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate(INTRUDERS) == []
    assert page.complaints == []


def test_every_page_is_visited_here(tmp_path):
    assert {route.path for route in all_routes(str(tmp_path)) if route.is_page} == set(PAGES)


@pytest.mark.parametrize("path", PAGES)
def test_hostile_texts_are_texts_on_every_page(visit, path):
    asked, is_read = PAGES[path]
    page, status = visit(f"{path}?{urlencode(asked)}")
    if page.who != "admin" and path.startswith(("/psf-library", "/administration")):
        assert status == 404
        return
    assert status == 200
    page.wait_for_selector("main h1, main .notice, main form")
    assert_harmless(page)
    if is_read:
        text = page.evaluate(TEXT)
        assert "data-pwned" in text, "what was written is read as it was written"
        assert IMAGE in text or IN_A_NAME in text


@pytest.mark.parametrize("path", PAGES)
def test_hostile_addresses_are_texts_on_every_page(visit, path):
    names = PAGES[path][0]
    for value in (IMAGE, SCRIPT):
        page, status = visit(f"{path}?{urlencode({name: value for name in names} | ASKED)}")
        assert status in (200, 404)
        if status == 200:
            assert_harmless(page)


def test_what_is_typed_is_given_back_as_text(visit, server):
    page, _ = visit(f"/observation?id={quote(HOSTILE, safe='')}")
    box = page.locator("textarea[name=text]")
    box.fill(f"typed {SCRIPT} {IMAGE}")
    page.get_by_role("button", name="Write").click()
    page.wait_for_load_state("networkidle")
    page.locator(".comment p", has_text="typed ").first.wait_for()
    assert_harmless(page)
    page.locator("button[name=delete]", has_text="delete").last.click()
    page.wait_for_load_state("networkidle")
    assert_harmless(page)


def test_the_login_page_gives_nothing_back_as_markup(browser, server):
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"{server}/login?{urlencode({'next': IMAGE, 'name': SCRIPT})}")
    page.get_by_label("name").fill(IMAGE[:60])
    page.get_by_label("password").fill(SCRIPT)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").wait_for()
    assert_harmless(page)
    context.close()


def test_pages_that_are_no_pages_run_nothing(visit):
    """Answers to be fetched, opened as if they were pages."""
    key = f"{HOSTILE}/bright_star/full"
    for address in (
        f"/night/parts?night={NIGHT}",
        "/nights/parts?year=2017",
        f"/night/parts?{urlencode({'night': IMAGE})}",
        f"/image?{urlencode({'key': IMAGE})}",
        f"/image?{urlencode({'key': key})}",
        f"/{quote(IMAGE)}",
    ):
        page, _ = visit(address)
        page.complaints.clear()
        assert_harmless(page)


# -- the second fence ----------------------------------------------------------------------------


def test_what_were_smuggled_into_a_page_would_not_run(browser, server):
    context = browser.new_context()
    let_in(context, server)
    page = context.new_page()
    page.goto(f"{server}/night?night={NIGHT}")
    page.wait_for_selector("article.card")
    page.evaluate(
        """(run) => {
          const place = document.querySelector('main');
          place.insertAdjacentHTML('beforeend', `<img src="data:," onerror="${run}">`);
          const script = document.createElement('script');
          script.textContent = run;
          place.append(script);
          const link = Object.assign(document.createElement('a'), { href: `javascript:${run}` });
          place.append(link);
          link.click();
          const frame = document.createElement('iframe');
          frame.srcdoc = `<script>parent.${run}<\\/script>`;
          const far = document.createElement('script');
          far.src = 'http://127.0.0.1:9/x.js';
          place.append(frame, far);
        }""",
        RUN,
    )
    page.wait_for_timeout(1000)
    assert page.evaluate("window.pwned") is None
    left = page.evaluate(
        "fetch('http://127.0.0.1:9/', {mode: 'no-cors'}).then(() => 'sent', (e) => String(e))"
    )
    assert "Failed to fetch" in left
    context.close()


# -- what is taken away --------------------------------------------------------------------------


def test_tables_hold_the_texts_and_no_formula(server):
    client = logged_in(server)
    status, _, body = client.ask("/search/table?format=csv&program=24.1")
    assert status == 200
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    row = next(row for row in rows if row["id"] == HOSTILE)
    assert row["name"] == ALL
    for cell in (cell for row in rows for cell in row.values()):
        assert cell[:1] not in ("=", "+", "@", "\t", "\r"), cell
        assert cell[:1] != "-" or float(cell) < 0
    status, _, body = client.ask("/search/table?format=votable&program=24.1")
    assert status == 200
    table = ElementTree.fromstring(body)
    cells = [td.text for td in table.iter() if td.tag.endswith("}TD")]
    assert HOSTILE in cells
    assert any(text and TEXTS[0] in text for text in cells)
    elements = {e.tag.split("}")[-1] for e in table.iter()}
    assert not elements & {"img", "script", "svg", "b"}


def test_the_report_of_a_night_holds_texts_only(url, root):
    settings = Settings(archive_root=root, catalogue_url=url)
    with open_workspace(settings) as ws:
        assert night_report.report_night(ws, NIGHT, force=True).status == "done"
    page = ArchivePaths(root).night_report(NIGHT).read_text(encoding="utf-8")
    elements = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            elements.append((tag, dict(attributes)))

    Reader().feed(page)
    assert {tag for tag, _ in elements}.isdisjoint({"script", "svg", "b", "iframe", "a"})
    for tag, attributes in elements:
        assert "data-pwned" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("src", "data:image/jpeg;").startswith("data:image/jpeg;"), tag
    assert escape(TEXTS[1]) in page
