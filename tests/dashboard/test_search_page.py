"""The search in a real browser."""

import csv
import io
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from astropy.table import Table
from plausible import SCRIPT_NAME, TARGETS, observation_id
from visiting import Client, add_user, let_in, logged_in

from benchmarks.catalogue import documents
from roboao_assets.storage.catalogue import open_catalogue

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
MANY = 230


@pytest.fixture(scope="module")
def large_server(start_server, tmp_path_factory):
    """A server on a catalogue with several pages of observations."""
    url = f"sqlite:///{tmp_path_factory.mktemp('large')}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        for document in documents(MANY, per_night=40):
            catalogue.register_observation(document)
    add_user(url)
    return start_server(url)


@pytest.fixture
def large_page(page, large_server):
    """A page of an administrator of that catalogue."""
    let_in(page.context, large_server)
    return page


def names(page):
    return page.locator("td.name").all_inner_texts()


def total(page):
    page.locator(".found .total").wait_for()
    return page.locator(".found .total").inner_text()


def arguments(page):
    return {k: v[0] for k, v in parse_qs(urlsplit(page.url).query).items()}


def assert_sound(page):
    assert page.complaints == []
    strangers = {url for url in page.asked if urlsplit(url).hostname != "127.0.0.1"}
    assert {url for url in strangers if not url.startswith(("data:", "blob:"))} == set()
    width, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room, f"the page is {width} px wide in a window of {room} px"


def shoot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    # As one sees it first: those of the README are of these.
    page.screenshot(path=SCREENSHOTS / f"{name}-top.png")


def test_the_form_is_reached_filled_in_and_sent_by_the_keyboard(page, server):
    page.goto(server)
    page.get_by_role("link", name="Search").click()
    assert total(page) == "8 observations"
    shoot(page, "search")
    page.get_by_label("name or id").fill("HD_17")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("24")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=HD_17**")
    assert total(page) == "1 observation"
    assert arguments(page) == {"text": "HD_17", "program": "24"}, "what is empty stays out"
    assert names(page) == ["HD_171238"]
    assert "ms" in page.locator(".found").inner_text()
    page.locator("td.name a").click()
    page.locator("h1", has_text="HD_171238").wait_for()
    assert_sound(page)


def test_the_address_is_the_query_and_the_back_button_goes_back(page, server):
    page.goto(f"{server}/search?filter=lp600&strehl_min=5&candidates=yes&sort=strehl")
    assert total(page) == "3 observations"
    assert names(page) == ["GJ_1214", "351_Yrsa", "351_Yrsa"]
    assert page.get_by_label("lp600").is_checked()
    assert page.get_by_label("Strehl ratio from (%)").input_value() == "5"
    assert page.get_by_label("candidates").input_value() == "yes"
    page.get_by_label("Strehl ratio from (%)").fill("9")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**strehl_min=9**")
    assert total(page) == "2 observations"
    assert arguments(page) == {
        "filter": "lp600", "strehl_min": "9", "candidates": "yes", "sort": "strehl",
    }  # fmt: skip
    page.go_back()
    page.wait_for_url("**strehl_min=5**")
    assert total(page) == "3 observations"
    assert_sound(page)


def test_a_click_on_a_head_sorts_and_a_second_one_the_other_way_round(page, server):
    page.goto(f"{server}/search?date_from=2017-06-07")
    total(page)
    page.get_by_role("link", name="Strehl (%)").click()
    page.locator("th[aria-sort=descending]", has_text="Strehl").wait_for()
    down = names(page)
    assert down[:2] == ["HD_171238", "351_Yrsa"]
    assert down[-1] == "TYC_2134-1", "what has no Strehl ratio comes last"
    page.get_by_role("link", name="Strehl (%)").click()
    page.locator("th[aria-sort=ascending]", has_text="Strehl").wait_for()
    up = names(page)
    assert up == [*down[-2::-1], "TYC_2134-1"]
    assert arguments(page) == {"date_from": "2017-06-07", "sort": "strehl"}
    assert_sound(page)


def test_pages_hold_every_observation_once(large_page, large_server):
    page = large_page
    page.goto(f"{large_server}/search?text=koi&sort=date_utc")
    seen = []
    for number in range(1, 6):
        assert total(page) == f"{MANY} observations"
        page.locator("nav.pages", has_text=f"page {number} of 5").wait_for()
        seen += names(page)
        if number < 5:
            page.get_by_role("link", name="next").click()
            page.wait_for_url(f"**page={number + 1}**")
    assert seen == [f"KOI{n}" for n in range(MANY)]
    page.get_by_role("link", name="first").click()
    page.locator("nav.pages", has_text="page 1 of 5").wait_for()
    assert "page" not in arguments(page)
    page.goto(f"{large_server}/search?page=9")
    page.locator(".notice", has_text="there is no page 9").wait_for()
    assert_sound(page)


def test_a_circle_gives_separations(page, server):
    page.goto(f"{server}/search?ra=18:46:00&dec=-00:30:00&radius=2&unit=deg&sort=separation")
    assert total(page) == "3 observations"
    assert names(page)[:2] == ["351_Yrsa", "351_Yrsa"]
    cells = page.locator("tbody tr td:last-child").all_inner_texts()
    assert cells == ['0.0"', '0.0"', "1.57°"]
    assert_sound(page)


@pytest.mark.parametrize(("kind", "link"), [("csv", "CSV"), ("vot", "VOTable")])
def test_the_whole_selection_is_taken_away_as_a_table(large_page, large_server, kind, link):
    page = large_page
    page.goto(f"{large_server}/search?strehl_min=4&page=2&sort=-strehl")
    found = int(total(page).split()[0])
    assert found > 50
    with page.expect_download() as started:
        page.get_by_role("link", name=link, exact=True).click()
    assert started.value.suggested_filename == f"roboao-search.{kind}"
    content = Path(started.value.path()).read_bytes()
    if kind == "csv":
        strehl = [float(r["strehl_percent"]) for r in csv.DictReader(io.StringIO(content.decode()))]
    else:
        strehl = list(Table.read(io.BytesIO(content), format="votable")["strehl_percent"])
    assert len(strehl) == found
    assert strehl == sorted(strehl, reverse=True)
    assert min(strehl) >= 4
    assert_sound(page)


HOSTILE = (
    "(a+)+$",
    '{"$gt": ""}',
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "NaN",
    "\\",
    "%",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_answered_with_a_sentence(page, server, text):
    page.goto(f"{server}/search?text={quote(text)}")
    page.locator(".notice, .found").first.wait_for()
    wanted = [t.name for t in TARGETS if text.lower() in observation_id(t).lower()]
    if not wanted and text not in SCRIPT_NAME:
        assert "No observation fits" in page.locator(".notice").inner_text()
    assert page.get_by_label("name or id").input_value() == text
    value = quote(text)
    page.goto(f"{server}/search?magnitude_min={value}&ra={value}&dec={value}&flag={value}")
    page.locator(".notice.problem", has_text="This cannot be searched for").wait_for()
    assert page.locator(".notice li").count() == 3
    assert page.locator("main script").count() == 0
    page.goto(f"{server}/search?{value}=1&sort={value}")
    page.locator(".notice.problem", has_text="the search has no field").wait_for()
    assert_sound(page)


def test_wrong_fields_are_told_and_the_good_ones_kept(page, server):
    page.goto(f"{server}/search?text=HD&magnitude_min=9&magnitude_max=2&date_from=yesterday")
    notice = page.locator(".notice.problem")
    notice.wait_for()
    assert "the wrong way round" in notice.inner_text()
    assert "YYYY-MM-DD" in notice.inner_text()
    assert page.get_by_label("name or id").input_value() == "HD"
    shoot(page, "search_wrong")
    page.goto(f"{server}/search?text=%ED%A0%80%00")
    page.locator(".notice.problem", has_text="NUL").wait_for()
    assert_sound(page)


def test_what_is_not_found_says_what_to_do(page, server):
    page.goto(f"{server}/search?text=nowhere")
    page.locator(".notice", has_text="No observation fits").wait_for()
    page.get_by_role("link", name="Clear everything", exact=True).click()
    assert total(page) == "8 observations"
    assert_sound(page)


def test_narrow_windows_have_room_for_all(page, server):
    page.set_viewport_size({"width": 820, "height": 1100})
    page.goto(f"{server}/search?ra=281.5&dec=-0.5&radius=5&unit=deg&sort=separation")
    total(page)
    shoot(page, "search_820")
    assert_sound(page)


@pytest.fixture(scope="module")
def client(server):
    return logged_in(server)


def get(client, path):
    status, _, body = client.ask(path)
    return status, body.decode()


@pytest.mark.parametrize(
    ("address", "status", "sentence"),
    [
        ("/search/table", 400, "format=csv or format=votable"),
        ("/search/table?format=exe", 400, "format=csv or format=votable"),
        ("/search/table?format=csv&magnitude_min=nan", 400, "is a number such as 1.5"),
        ("/search/table?format=csv&colour=red", 400, "the search has no field 'colour'"),
        (f"/search/table?format=csv&text={'a' * 20_000}", 400, "has 20000 characters"),
        ("/search/table?format=csv&text=351_Y", 200, "351_Yrsa"),
    ],
)
def test_tables_that_cannot_be_made_say_why(client, address, status, sentence):
    answered, text = get(client, address)
    assert answered == status
    assert sentence in text


def test_a_megabyte_in_the_address_does_not_hurt_the_server(client):
    """The server refuses such a request before any page sees it."""
    try:
        status, _ = get(client, f"/search?text={'a' * 1_000_000}")
    except OSError:
        status = 400  # it hung up
    assert status in (400, 414, 431)
    assert get(client, "/search/table?format=csv")[0] == 200


def test_a_search_finds_what_its_reader_may_see(server, catalogue_url):
    """Counted, listed and exported alike; a stranger gets nothing at all."""
    add_user(catalogue_url, "reader", ["24.1"])
    reader, stranger = logged_in(server, "reader"), Client(server)
    with open_catalogue(catalogue_url) as catalogue:
        own = observation_id(TARGETS[0])
        assert get(reader, "/search/table?format=csv")[1].count("\n") == 1
        catalogue.set_distributed(own, True)
        status, table = get(reader, "/search/table?format=csv")
        catalogue.set_distributed(own, False)
    assert status == 200
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == [own]
    assert stranger.ask("/search/table?format=csv")[0] == 404
    assert stranger.ask("/search")[0] == 302
