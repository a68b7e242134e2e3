"""Texts of the search form and the address to a query and back; nothing of it needs a browser."""

import math
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from astropy.coordinates import SkyCoord
from astropy.coordinates.name_resolve import sesame_url
from fuzzing import at_least
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.name_resolver import NameResolver, NameResolverError
from dashboards.search_form import (
    FIELDS,
    RANGES,
    SearchForm,
    SearchFormError,
    make_query,
    read_form,
)
from dashboards.sky_position import (
    PositionError,
    declination_deg,
    number_in,
    radius_deg,
    right_ascension_deg,
)
from roboao_assets.storage.catalogue import ObservationQuery

ra = st.floats(0, 359.99)
dec = st.floats(-89.99, 89.99)
FOUND_WITHIN_DEG = 1e-6


def query_of(**texts):
    return make_query(SearchForm(**texts))


def arguments_of(address):
    query = urlsplit(address).query
    return {k: [v.encode() for v in values] for k, values in parse_qs(query).items()}


@given(ra, dec)
def test_positions_as_astropy_writes_them_are_read_back(ra_deg, dec_deg):
    place = SkyCoord(ra_deg, dec_deg, unit="deg")
    for separator in (":", "hms", " "):
        text = place.ra.to_string(unit="hour", sep=separator, precision=8)
        assert right_ascension_deg(text) == pytest.approx(ra_deg, abs=FOUND_WITHIN_DEG)
    for separator in (":", "dms", " "):
        text = place.dec.to_string(unit="deg", sep=separator, precision=8, alwayssign=True)
        assert declination_deg(text) == pytest.approx(dec_deg, abs=FOUND_WITHIN_DEG)
    assert right_ascension_deg(f"{ra_deg:.10f}") == pytest.approx(ra_deg, abs=FOUND_WITHIN_DEG)
    assert declination_deg(f"{dec_deg:.10f}") == pytest.approx(dec_deg, abs=FOUND_WITHIN_DEG)
    assert right_ascension_deg(place.ra.to_string(unit="deg", sep="dms", precision=8)) == (
        pytest.approx(ra_deg, abs=FOUND_WITHIN_DEG)
    )


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("-00:30:00", -0.5), ("-0d30m00s", -0.5), ("+0 30", 0.5), ("-0.5", -0.5), ("12d", 12.0)],
)
def test_signs_and_short_forms_of_declinations(text, degrees):
    assert declination_deg(text) == pytest.approx(degrees)


@given(st.text(max_size=60) | st.text(alphabet="0123456789:hmsd+-. °'\"eE", max_size=45))
@settings(max_examples=at_least(400))
def test_any_text_is_an_angle_or_a_sentence(text):
    for read, low, high in ((right_ascension_deg, 0, 360), (declination_deg, -90, 90)):
        try:
            value = read(text)
        except PositionError as error:
            sentence = str(error)
        else:
            sentence = f"{value} deg"
            assert low <= value <= high
        assert len(sentence) < 180


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "25:00:00", "12:60:00", "12:00:60", "1e400", "12:34:56:78", "١٢", "-1",
     "1" * 1_000_000, "1:" * 500_000, "__import__('os')", '{"$gt": ""}'],
)  # fmt: skip
def test_what_is_no_right_ascension_is_said_so_shortly(text):
    with pytest.raises(PositionError) as caught:
        right_ascension_deg(text)
    assert len(str(caught.value)) < 250


def test_radii_have_units():
    assert radius_deg("30", "arcsec") == pytest.approx(30 / 3600)
    assert radius_deg("2", "arcmin") == pytest.approx(2 / 60)
    for text, unit in (("0", "deg"), ("-1", "deg"), ("181", "deg"), ("1", "parsec"), ("x", "deg")):
        with pytest.raises(PositionError):
            radius_deg(text, unit)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_numbers_are_read_as_python_writes_them(value):
    assert number_in(repr(value), "it") == value


def test_a_whole_form_is_the_query_it_means():
    query = query_of(
        text="HD", match="exact", program="24, 4", filter="Si,lp600", date_from="2017-06-06",
        date_to="20170607", ra="18:46:00", dec="-00:30:00", radius="5", unit="arcmin",
        magnitude_min="8", exposure_max="90", seeing_nearest_min="0.8", seeing_median_max="2",
        azimuth_min="350", azimuth_max="10", elevation_min="30", pipeline="faint_star",
        strehl_min="5", strehl_max="20", flag="BAD?", contrast_min="4", contrast_at="0.5",
        candidates="yes", made="faint_star.pca,bright_star", distributed="no",
        sort="-contrast", page="3",
    )  # fmt: skip
    assert (query.text, query.text_exact) == ("HD", True)
    assert (query.programs, query.subprograms) == (("24", "4"), True)
    assert query.filters == ("Si", "lp600")
    assert query.date_from == datetime(2017, 6, 6, tzinfo=UTC)
    assert query.date_to == datetime(2017, 6, 8, tzinfo=UTC), "the last date is searched whole"
    assert query.cone == pytest.approx((281.5, -0.5, 5 / 60))
    assert (query.magnitude, query.exposure_s) == ((8.0, None), (None, 90.0))
    assert (query.seeing_nearest, query.seeing_median) == ((0.8, None), (None, 2.0))
    assert (query.azimuth_deg, query.elevation_deg) == ((350.0, 10.0), (30.0, None))
    assert (query.pipeline, query.strehl, query.flags) == ("faint_star", (5.0, 20.0), ("BAD?",))
    assert (query.contrast_mag, query.contrast_separation_arcsec) == ((4.0, None), 0.5)
    assert query.has_candidates is True
    assert query.products_made == ("faint_star.pca", "bright_star")
    assert query.distributed is False
    assert (query.sort, query.skip, query.limit) == (("contrast", False), 100, 50)


def test_an_empty_form_asks_for_everything_newest_first():
    everything = ObservationQuery(
        subprograms=True, sort=("date_utc", False), limit=50, summary_only=True
    )
    assert query_of() == everything
    assert SearchForm().address() == "/search"


def test_moments_are_read_to_the_minute():
    query = query_of(date_from="2017-06-07 04:30", date_to="2017-06-07T05:00:30")
    assert query.date_from == datetime(2017, 6, 7, 4, 30, tzinfo=UTC)
    assert query.date_to == datetime(2017, 6, 7, 5, 0, 30, tzinfo=UTC)


hostile = st.text(max_size=80) | st.sampled_from(
    ["(a+)+$", '{"$gt": ""}', "../../etc/passwd", "<script>alert(1)</script>", "nan", "inf",
     "1e999", "\ud800", "a\0b", "'; DROP TABLE objects; --", "-1", "0", "5",
     "a" * 1000, "%", "_", "\\"]
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), hostile, max_size=6))
@settings(max_examples=at_least(400), deadline=None)
def test_any_address_is_a_query_or_sentences(texts):
    arguments = {k: [v.encode("utf-8", "surrogatepass")] for k, v in texts.items()}
    form, wrong = read_form(arguments)
    assert all(len(sentence) < 400 for sentence in wrong)
    try:
        answer = make_query(form)
    except SearchFormError as error:
        answer = error.sentences
    if isinstance(answer, ObservationQuery):
        assert answer.limit == 50
    else:
        assert answer
        assert all(0 < len(sentence) < 500 for sentence in answer)


@given(st.dictionaries(st.sampled_from(FIELDS), st.text(min_size=1, max_size=30), max_size=6))
@settings(deadline=None)
def test_the_address_of_a_form_fills_in_the_same_form(texts):
    form, wrong = read_form({k: [v.encode("utf-8", "replace")] for k, v in texts.items()})
    assert wrong == ()
    again, wrong = read_form(arguments_of(form.address()))
    assert wrong == ()
    assert {n: getattr(again, n) for n in FIELDS} == {n: getattr(form, n) for n in FIELDS}


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"magnitude_min": "nan"}, "magnitude (mag) is a number such as 1.5; it was 'nan'"),
        ({"strehl_min": "9", "strehl_max": "2"}, "the wrong way round"),
        ({"date_from": "2017-06-31"}, "is written YYYY-MM-DD"),
        ({"date_from": "2017-06-08", "date_to": "2017-06-01"}, "swap them"),
        ({"ra": "10"}, "needs both RA and Dec"),
        ({"radius": "10"}, "a radius needs a place"),
        ({"ra": "1", "dec": "1", "target": "M 31"}, "not both"),
        ({"sort": "colour"}, "cannot be sorted by 'colour'"),
        ({"sort": "separation"}, "only with a cone"),
        ({"page": "-3"}, "a page is a number from 1"),
        ({"flag": "GOOD"}, "is among OK, BAD?"),
        ({"made": "dinner"}, "is among bright_star"),
        ({"contrast_at": "0.3"}, "is none of them"),
        ({"pipeline": "extended_object", "candidates": "yes"}, "extended_object has none"),
        ({"text": "a\0b"}, "NUL"),
        ({"target": "M 31"}, "not looked up here"),
    ],
)
def test_what_means_nothing_is_said_so(texts, sentence):
    with pytest.raises(SearchFormError) as caught:
        query_of(**texts)
    assert sentence in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(SearchFormError) as caught:
        query_of(ra="x", dec="1", magnitude_min="y", flag="z")
    assert len(caught.value.sentences) == 3


def test_a_megabyte_and_unknown_fields_are_refused():
    form, wrong = read_form({"text": [b"a" * 1_000_000], "colour": [b"red"], "ra": [b"5"]})
    assert wrong == (
        "name or id has 1000000 characters; at most 300 are read",
        "the search has no field 'colour'; docs/search.md lists them",
    )
    assert (form.text, form.ra) == ("", "5")


def test_every_field_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    for name in FIELDS:
        stem = name.removesuffix("_min").removesuffix("_max")
        wanted = f"`{stem}_min`" if stem in RANGES else f"`{name}`"
        assert wanted in text, f"docs/search.md does not tell of {name}"


@pytest.fixture
def sesame():
    """A server that answers as Sesame does, for astropy's own client to ask."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            known = "M31" in self.path.replace("%20", "")
            lines = ["# M31", "%J 010.684708 +41.268750 = 00:42:44.3 +41:16:07.5"]
            body = "\n".join(lines if known else ["# nothing", "#! not found"]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with sesame_url.set((f"http://127.0.0.1:{server.server_port}/",)):
        yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_object_is_looked_up_once(sesame):
    resolver = NameResolver()
    form = SearchForm(target="M 31", radius="2", unit="arcmin")
    query = make_query(form, resolve=resolver.position_deg)
    assert query.cone == pytest.approx((10.684708, 41.26875, 2 / 60))
    assert resolver.position_deg("m  31") == pytest.approx((10.684708, 41.26875))
    assert len(sesame) == 1


def test_an_object_that_nobody_knows(sesame):
    with pytest.raises(NameResolverError, match="Sesame knows no object 'Nobody 7'"):
        NameResolver().position_deg("Nobody 7")


def test_without_a_network_it_is_said_so():
    with (
        sesame_url.set(("http://127.0.0.1:9/",)),
        pytest.raises(NameResolverError, match="no network"),
    ):
        NameResolver().position_deg("M 31")


def test_nobody_waits_longer_than_told():
    """A server that takes the question and says nothing."""
    import socket

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        sesame_url.set((f"http://127.0.0.1:{silent.getsockname()[1]}/",)),
        pytest.raises(NameResolverError, match=r"did not say within 0\.3 s"),
    ):
        NameResolver(wait_s=0.3).position_deg("M 31")


@pytest.mark.parametrize("name", ["", "x" * 1_000_000, "a\0b", "\ud800"])
def test_names_that_are_none_are_not_asked_for(name):
    with pytest.raises(NameResolverError, match="at most 80 printable"):
        NameResolver().position_deg(name)


def test_degrees_never_become_nan():
    for text in ("nan", "NaN", "-nan", "infinity"):
        with pytest.raises(PositionError):
            assert math.isfinite(number_in(text, "it"))
