"""The pages in a real browser, as their readers see them."""

from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from plausible import FAILURE, NIGHT, SCRIPT_NAME, SKIPPED, TARGETS, observation_id
from visiting import add_user, let_in

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PICTURES_LOADED = """() => {
  const all = [];
  const walk = (root) => root.querySelectorAll('*').forEach((e) => {
    if (e.tagName === 'IMG') all.push(e);
    if (e.shadowRoot) walk(e.shadowRoot);
  });
  walk(document);
  return all.map((i) => [i.src, i.complete, i.naturalWidth]);
}"""


def _settle(page):
    """Bring every picture into view, as lazy ones load only then, and wait for it."""
    page.wait_for_selector("main h1, main .notice")
    for summary in page.locator("details > summary").all():
        summary.click()
    for picture in page.locator("main img").all():
        picture.scroll_into_view_if_needed()
    page.wait_for_function(f"() => ({PICTURES_LOADED})().every((p) => p[1])")
    page.wait_for_load_state("networkidle")
    page.evaluate("window.scrollTo(0, 0)")


def _shoot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    # As one sees it first: those of the README are of these.
    page.screenshot(path=SCREENSHOTS / f"{name}-top.png")


def _assert_sound(page):
    assert page.complaints == []
    strangers = {url for url in page.asked if urlsplit(url).hostname != "127.0.0.1"}
    assert {url for url in strangers if not url.startswith(("data:", "blob:"))} == set()
    width, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room, f"the page is {width} px wide in a window of {room} px"


def _assert_pictures(page, at_least):
    pictures = page.evaluate(PICTURES_LOADED)
    assert len(pictures) >= at_least
    assert [p for p in pictures if not p[1] or p[2] == 0] == []


def test_nights_page_lists_nights_newest_first_and_leads_to_a_night(page, server):
    page.goto(server)
    links = page.locator("a.night-link")
    links.first.wait_for()
    assert links.all_inner_texts() == ["2017-06-07", "2017-06-06"]
    row = page.locator("table.nights tbody tr").first.inner_text()
    assert row.split() == ["2017-06-07", "7", "6", "1", "–", '1.29"']
    _settle(page)
    _shoot(page, "nights")
    links.first.click()
    page.wait_for_url(f"{server}/night?night={NIGHT}")
    page.locator("article.card").first.wait_for()
    _assert_sound(page)


def test_night_page_shows_every_observation_with_its_pictures(page, server):
    page.goto(f"{server}/night?night={NIGHT}")
    page.locator("article.card").first.wait_for()
    _settle(page)
    assert page.locator("article.card").count() == len(TARGETS)
    _assert_pictures(page, 4 * 5 + 2 + 1 + 3 + 1)
    # Text content, as what is out of sight is not laid out and has no inner text.
    failed = page.locator("article.card.failed .remark.failure")
    assert failed.text_content().count(FAILURE) == 1
    assert SKIPPED in page.locator("article.card", has_text="Sg").text_content()
    assert "9.4 ± 0.3 %" in page.locator("article.card").first.text_content()
    page.locator("canvas").nth(3).wait_for()
    _shoot(page, "night")
    _assert_sound(page)


def test_names_are_text_and_never_markup(page, server):
    page.goto(f"{server}/night?night={NIGHT}")
    card = page.locator("article.card", has_text=SCRIPT_NAME)
    card.wait_for()
    assert card.locator("h3").inner_text() == SCRIPT_NAME
    card.locator("h3 a").click()
    page.locator("h1", has_text=SCRIPT_NAME).wait_for()
    _settle(page)
    assert page.locator("main script").count() == 0
    assert SCRIPT_NAME in page.title()
    _assert_sound(page)


def test_selection_stands_in_the_address_and_survives_a_reload(page, server):
    page.goto(f"{server}/night?night={NIGHT}")
    page.locator("article.card").first.wait_for()
    page.get_by_label("show").select_option("failed")
    page.wait_for_url("**show=failed**")
    page.locator("p.count", has_text="1 of 7 observations").wait_for()
    assert page.locator("article.card.failed").count() == 1
    page.reload()
    page.locator("article.card").first.wait_for()
    assert page.locator("article.card").count() == 1
    page.goto(f"{server}/night?night={NIGHT}&q=24&sort=strehl")
    page.locator("article.card").first.wait_for()
    assert page.locator("h3").first.inner_text() == "HD_171238"
    _assert_sound(page)


def test_text_typed_filters_the_cards(page, server):
    page.goto(f"{server}/night?night={NIGHT}")
    page.locator("article.card").first.wait_for()
    page.get_by_label("find").press_sequentially("gj_1214", delay=10)
    page.wait_for_url("**q=gj_1214**")
    page.locator("p.count", has_text="1 of 7").wait_for()
    assert page.locator("h3").inner_text() == "GJ_1214"
    _assert_sound(page)


def test_observation_page_shows_pictures_numbers_and_header(page, server):
    page.goto(f"{server}/observation?id={quote(observation_id(TARGETS[1]), safe='')}")
    page.locator("dl.facts").first.wait_for()
    _settle(page)
    _assert_pictures(page, 5)
    facts = "".join(page.locator("dl.facts").all_inner_texts())
    for text in ("12.1 ± 0.3 % OK", "755 of 770", '0.112"', "KPNO_2.1m"):
        assert text in facts
    _shoot(page, "observation")
    search = page.get_by_label("find in the FITS header")
    search.press_sequentially("mode_num", delay=10)
    page.locator("p.count", has_text="1 of 64 cards").wait_for()
    assert page.locator(".header-cards td").first.inner_text() == "9"
    _assert_sound(page)


def test_faint_star_has_a_part_of_each_pipeline_with_its_candidates(page, server):
    page.goto(f"{server}/observation?id={quote(observation_id(TARGETS[3]), safe='')}")
    page.locator("table.candidates").first.wait_for()
    _settle(page)
    _assert_pictures(page, 10)
    heads = page.locator("h2.pipeline").all_inner_texts()
    assert heads == ["Faint-star pipeline", "Bright-star pipeline"]
    tables = page.locator("table.candidates")
    assert tables.count() == 2
    assert tables.first.locator("tbody tr").first.inner_text().split() == [
        "1", "0.879", "306.8", "4.31", "19.2", "3.2e-12",
    ]  # fmt: skip
    assert page.locator("canvas").count() >= 2, "the contrast of each pipeline is drawn"
    reference = page.locator("table.references tbody tr").first
    assert "0.9900" in reference.inner_text()
    _shoot(page, "faint_observation")
    reference.locator("a").click()
    page.locator("h1", has_text="351_Yrsa").wait_for()
    _assert_sound(page)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("/night?night=19990101", "The catalogue has no night 19990101"),
        ("/night?night=<b>x", "A night is its UT date, YYYYMMDD"),
        ("/observation?id=nothing", "The catalogue has no observation 'nothing'"),
    ],
)
def test_unknown_addresses_are_answered_with_a_sentence(page, server, address, sentence):
    page.goto(server + address)
    page.locator(".notice", has_text=sentence).wait_for()
    _assert_sound(page)


def test_archive_without_a_night_says_what_to_do(page, start_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    add_user(f"sqlite:///{folder}/catalogue.sqlite")
    address = start_server(f"sqlite:///{folder}/catalogue.sqlite")
    let_in(page.context, address)
    page.goto(address)
    page.locator(".notice", has_text="roboao night YYYYMMDD").wait_for()
    _settle(page)
    _shoot(page, "empty")
    _assert_sound(page)
