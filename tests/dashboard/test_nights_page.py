"""The calendar and list of nights, the parts of pages, and the theme: without a browser."""

import re
import time
from contextlib import suppress
from datetime import date, timedelta
from html import unescape
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible import EARLIER_NIGHT, NIGHT, TARGETS, observation_id
from test_pages_parts import check
from visiting import Client, logged_in

from dashboards import night_markup
from dashboards.collect import collect_night, read_observation
from dashboards.links import local_path, night_url
from dashboards.nights_page import nights_markup as content_of
from dashboards.theme_choice import COOKIE, chosen_theme
from dashboards.themes import DARK, LIGHT
from roboao_assets.storage.catalogue import NightSummary

HOSTILE = (
    "../../etc/passwd",
    '"><script>alert(1)</script>',
    '{"$gt": ""}',
    "\u202e٢٠١٧",
    "x" * 60_000,
)


def summary(night, observations=30, done=20, failed=4, seeing_median=1.25):
    return NightSummary(
        night=night,
        observations=observations,
        done=done,
        failed=failed,
        seeing_median=seeing_median,
    )


def days_of(html):
    """Title and class of each linked day, by its address."""
    found = re.findall(r'<a class="day ([^"]+)"[^>]*href="([^"]+)" title="([^"]+)"', html)
    return {unescape(address): (kind, unescape(title)) for kind, address, title in found}


def test_a_day_of_the_calendar_tells_its_counts_and_leads_to_its_night():
    nights = [summary("20160229"), summary("20160101", 230, 230, 0, None), summary("20150704")]
    html = content_of(nights, "", "", is_admin=True)
    check(html)
    days = days_of(html)
    assert days == {
        night_url("20160229"): (
            "step-2",
            '2016-02-29: 30 observations, 20 done, 4 failed, 6 waiting; median seeing 1.25"',
        ),
        night_url("20160101"): (
            "step-5",
            "2016-01-01: 230 observations, 230 done, 0 failed, 0 waiting; median seeing –",
        ),
    }
    assert html.count('<section class="month">') == 12
    assert len(re.findall('class="day[ "]', html)) == 366
    # 2016-02-01 was a Monday, 2016-01-01 a Friday.
    assert 'style="grid-column-start:1">1</span>' in html
    assert re.search(r'style="grid-column-start:5"[^>]*>1</a>', html)
    rows = re.findall(r"<tr>(.*?)</tr>", html)[1:]
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in rows]
    assert cells == [
        ["2016-02-29", "30", "20", "4", "6", '1.25"'],
        ["2016-01-01", "230", "230", "–", "–", "–"],
    ]


def test_seeing_colours_the_good_nights_most():
    values = {"20160101": 0.9, "20160102": 1.0, "20160103": 1.59, "20160104": 2.5, "20160105": None}
    nights = [summary(night, seeing_median=value) for night, value in values.items()]
    days = days_of(content_of(nights, "2016", "seeing", is_admin=True))
    kinds = [days[night_url(night)][0] for night in values]
    assert kinds == ["step-5", "step-4", "step-3", "step-1", "unknown"]


def test_the_years_before_and_after_stand_in_the_address():
    nights = [summary("20180101"), summary("20160101"), summary("20150101"), summary("20150102")]
    html = content_of(nights, "2016", "seeing", is_admin=False)
    assert '<a rel="prev" href="/?year=2015&amp;colour=seeing">← 2015</a>' in html
    assert '<a rel="next" href="/?year=2018&amp;colour=seeing">2018 →</a>' in html
    assert '2015 <span class="quiet">(2)</span>' in html
    newest = content_of(nights, "", "", is_admin=False)
    assert "<h1>Nights of 2018</h1>" in newest
    assert 'rel="next"' not in newest
    empty = content_of(nights, "2017", "", is_admin=False)
    assert "There is no night of 2017 that you may see" in empty
    assert 'rel="prev" href="/?year=2016"' in empty


def test_an_empty_archive_says_what_to_do():
    assert "roboao night YYYYMMDD" in content_of([], "", "", is_admin=True)
    assert "administrator" in content_of([], "", "", is_admin=False)


@pytest.mark.parametrize("year", [*HOSTILE, "17", "20171", "0000", "-017", "2e03"])
@pytest.mark.parametrize("colour", ["", "seeing"])
def test_what_is_no_year_is_said_so(year, colour):
    html = content_of([summary(NIGHT)], year, colour, is_admin=True)
    assert "A year has four digits" in html
    assert "script" not in check(html).seen
    assert len(html) < 600


@pytest.mark.parametrize("colour", HOSTILE)
def test_what_is_no_colour_is_said_so(colour):
    html = content_of([summary(NIGHT)], "", colour, is_admin=True)
    assert "coloured by observations or seeing" in html
    assert len(html) < 600


@given(
    st.lists(
        st.builds(
            summary,
            night=st.one_of(st.dates(date(1, 1, 1)).map("{:%Y%m%d}".format), st.text(max_size=9)),
            observations=st.integers(0, 999),
            done=st.integers(0, 999),
            failed=st.integers(0, 999),
            seeing_median=st.one_of(st.none(), st.floats(0, 9)),
        ),
        max_size=5,
        unique_by=lambda night: night.night,
    ),
    st.one_of(st.just(""), st.integers(1, 9999).map("{:04d}".format), st.text(max_size=5)),
    st.sampled_from(["", "observations", "seeing"]),
)
def test_any_nights_make_a_page(nights, year, colour):
    check(content_of(nights, year, colour, is_admin=True))


def test_a_thousand_nights_are_a_small_page():
    start = date(2014, 1, 1)
    nights = [summary(f"{start + timedelta(days=k):%Y%m%d}") for k in reversed(range(1000))]
    begin = time.process_time()
    html = content_of(nights, "2015", "", is_admin=True)
    assert time.process_time() - begin < 0.25
    assert len(days_of(html)) == html.count('class="night-link"') == 365
    assert len(html) < 300_000


def test_observations_stand_by_program_in_the_order_of_numbers(catalogue):
    night = collect_night(catalogue, NIGHT, None)
    programs = ["10", "9", "9.10", "9.2", "", "pilot", "9"]
    documents = [
        {
            "_id": f"x{number}",
            "name": f"star {number}",
            "science_program": {"program_id": program},
        }
        for number, program in enumerate(programs)
    ]
    observations = [read_observation(document) for document in documents]
    html = night_markup.observation_rows(observations, night.image_keys, night=NIGHT, total=7)
    heads = [re.sub("<.*?>", " ", head).split()[:2] for head in re.findall("<h2>(.*?)</h2>", html)]
    assert heads == [["Program", p] for p in ("9", "9.2", "9.10", "10", "pilot")] + [
        ["Observations", "without"]
    ]
    assert re.findall(r">(star \d)</a>", html) == [f"star {k}" for k in (1, 6, 3, 2, 0, 5, 4)]
    assert '<span class="quiet">2 waiting</span>' in html


def test_nothing_to_show_says_what_to_do(catalogue):
    night = collect_night(catalogue, NIGHT, None)
    none = night_markup.observation_rows([], night.image_keys, night=NIGHT, total=0)
    assert f"roboao night {NIGHT}" in none
    unfit = night_markup.observation_rows([], night.image_keys, night=NIGHT, total=7)
    assert f'<a href="{night_url(NIGHT)}">show all 7</a>' in unfit


def test_the_animation_holds_the_exposures_that_have_pictures(catalogue):
    night = collect_night(catalogue, NIGHT, None)
    html = night_markup.seeing_player(night)
    check(html)
    frames = re.findall(r'data-frame="([^"]+)" data-caption="([^"]+)"', html)
    assert len(frames) == 3, "of 13 exposures three have a picture"
    assert [caption[:8] for _, caption in frames] == ["04:00:27", "04:09:27", "04:18:27"]
    assert 'max="2"' in html
    earlier = collect_night(catalogue, EARLIER_NIGHT, None)
    assert night_markup.seeing_player(earlier) == ""


@pytest.fixture(scope="module")
def client(server):
    return logged_in(server)


def test_the_parts_are_what_the_page_holds(client):
    page = client.ask(f"/night?night={NIGHT}&show=failed")[2].decode()
    status, _, body = client.ask(f"/night/parts?night={NIGHT}&show=failed")
    assert status == 200
    parts = dict(re.findall(r'<div data-part="(\w+)">(.*)</div>\n', body.decode()))
    assert parts.keys() == {"links", "head", "rows", "pictures"}
    for part in parts.values():
        check(part)
        assert part in page
    assert "1 of 7 observations" in parts["rows"]
    assert '<option value="failed" selected>' in page


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        *[({"night": text}, 404, "A night is its UT date, YYYYMMDD") for text in HOSTILE],
        ({"night": "19990101"}, 404, "The catalogue has no night 19990101"),
        ({"night": NIGHT, "q": "x" * 301}, 404, "has 301 characters; 300 are the most"),
        ({}, 404, "A night is its UT date"),
        *[({"night": NIGHT, "q": text}, 200, "show all 7") for text in HOSTILE[:4]],
        *[({"night": NIGHT, "show": t, "sort": t}, 200, "7 of 7") for t in HOSTILE[:4]],
    ],
)
def test_hostile_texts_are_answered_with_a_sentence(client, query, status, words):
    found, headers, body = client.ask(f"/night/parts?{urlencode(query)}")
    assert (found, words in body.decode()) == (status, True)
    assert headers["Content-Type"].startswith("text/html" if status == 200 else "text/plain")
    assert b"<script" not in body or status == 404
    page = client.ask(f"/night?{urlencode(query)}")
    assert page[0] == 200
    assert unescape(words) in unescape(page[2].decode()) or status == 404
    assert b"<script>alert" not in page[2]


def test_a_megabyte_and_broken_unicode_do_not_hurt(client):
    with suppress(OSError):  # the server hangs up on it
        assert client.ask("/nights/parts?year=" + "9" * 1_000_000)[0] >= 400
    assert client.ask("/nights/parts?year=%ff%fe")[0] == 200
    assert client.ask("/night/parts?night=%ff%00")[0] == 404
    assert client.ask("/")[0] == 200


def test_the_observation_page_links_its_neighbours(client):
    ids = [observation_id(target) for target in TARGETS]
    page = client.ask(f"/observation?id={quote(ids[4], safe='')}")[2].decode()
    before, after = (f"/observation?id={quote(ids[k], safe='')}" for k in (3, 5))
    for rel, address in (("prev", before), ("next", after), ("up", night_url(NIGHT))):
        assert f'<link rel="{rel}" href="{address}">' in page
    first = client.ask(f"/observation?id={quote(ids[0], safe='')}")[2].decode()
    assert 'rel="prev"' not in first


def test_the_theme_is_a_cookie_that_every_page_obeys(server):
    client = logged_in(server)
    dark = client.ask("/")[2].decode()
    assert f"--back: {DARK.back};" in dark
    status, headers, _ = client.post("/theme", theme="light", next="/night?night=" + NIGHT)
    assert (status, headers["Location"]) == (303, "/night?night=" + NIGHT)
    cookie = next(cookie for cookie in client.cookies if cookie.name == COOKIE)
    assert cookie.value == "light"
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.expires > time.time() + 300 * 86400
    address = f"/observation?id={quote(observation_id(TARGETS[0]), safe='')}"
    for page in ("/", "/search", "/psf-library", f"/night?night={NIGHT}", address):
        shown = client.ask(page)[2].decode()
        assert f"--back: {LIGHT.back};" in shown, page
        assert DARK.back not in shown, page
    client.post("/logout")
    assert f"--back: {LIGHT.back};" in client.ask("/login")[2].decode(), "the log-in page as well"


def test_a_stranger_chooses_the_theme_of_the_log_in(server):
    client = Client(server)
    shown = client.ask("/login?next=/search")[2].decode()
    assert '<input type="hidden" name="theme" value="light">' in shown
    assert '<input type="hidden" name="next" value="/login?next=/search">' in shown
    status, headers, _ = client.post("/theme", theme="light", next="/login?next=/search")
    assert (status, headers["Location"]) == (303, "/login?next=/search")


@pytest.mark.parametrize("theme", ["", "LIGHT", "light\r\nX: y", "<script>", "x" * 50_000, "ľight"])
def test_what_is_no_theme_changes_nothing(server, theme):
    client = Client(server)
    status, headers, body = client.post("/theme", theme=theme)
    assert (status, body) == (400, b"A theme is one of dark, light.\n")
    assert COOKIE not in {cookie.name for cookie in client.cookies}
    assert "X" not in headers


@pytest.mark.parametrize(
    "address", ["//evil.org", "https://evil.org", "/\\evil.org", "x", "/a\r\nX: y", "/" * 3000]
)
def test_the_theme_leads_to_own_pages_only(server, address):
    status, headers, _ = Client(server).post("/theme", theme="dark", next=address)
    assert (status, headers["Location"]) == (303, "/")
    assert local_path(address) == "/"


def test_the_theme_is_changed_by_its_form_only(server):
    client = Client(server)
    assert client.ask("/theme")[0] == 405
    assert client.ask("/theme", b"theme=light")[0] == 403


@pytest.mark.parametrize("value", ["", "x", "light; x", None])
def test_a_spoilt_cookie_means_the_dark_theme(value):
    assert chosen_theme({} if value is None else {COOKIE: value}) is DARK
