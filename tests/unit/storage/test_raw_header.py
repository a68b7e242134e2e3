"""Raw headers: facts, or None, and never an exception."""

import bz2
import math

import pytest
from astropy.coordinates import Angle
from astropy.io import fits
from fuzzing import at_least
from hypothesis import example, given, settings
from hypothesis import strategies as st
from raw_material import fits_bytes, noise_frames

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.fits_cards import read_cards
from roboao_assets.storage.raw_header import (
    ExposureFacts,
    parse_facts,
    parse_sexagesimal,
    read_header,
)

FULL = {
    "MODE_NUM": 6,
    "EXPOSURE": 90.0,
    "MAGNITUD": 11.3,
    "TELRA": "05:34:31.94",
    "TELDEC": "-00:30:00.0",
    "OBJRA": "01h00m00s",
    "OBJDEC": "+10d00m00s",
    "EQUINOX": 2000.0,
    "AZIMUTH": 123.5,
    "ELVATION": 65.25,
    "DETSIZE": "[1:1024,1:1024]",
    "FILTER": "lp600",
}


def facts(**cards) -> ExposureFacts:
    return parse_facts(fits.Header({k: v for k, v in (FULL | cards).items() if v != "absent"}))


def test_a_full_header():
    assert facts() == ExposureFacts(
        mode="6",
        exposure_s=90.0,
        magnitude=11.3,
        ra_deg=pytest.approx(83.6330833),
        dec_deg=-0.5,
        equinox=2000.0,
        azimuth_deg=123.5,
        elevation_deg=65.25,
        detsize="[1:1024,1:1024]",
        filter="lp600",
    )
    assert parse_facts(fits.Header()) == ExposureFacts()


def test_all_values_as_strings():
    assert facts(**{key: str(value) for key, value in FULL.items()}) == facts()


@pytest.mark.parametrize("value", ["absent", None, "", "9999", 9999, -9999.0, "x9999x", "nonsense"])
@pytest.mark.parametrize(
    ("key", "fact"),
    [
        ("MODE_NUM", "mode"),
        ("EXPOSURE", "exposure_s"),
        ("MAGNITUD", "magnitude"),
        ("EQUINOX", "equinox"),
        ("AZIMUTH", "azimuth_deg"),
        ("ELVATION", "elevation_deg"),
        ("DETSIZE", "detsize"),
    ],
)
def test_missing_unknown_or_malformed_values_are_none(key, fact, value):
    assert getattr(facts(**{key: value}), fact) is None


@pytest.mark.parametrize(
    ("cards", "fact", "expected"),
    [
        ({"MODE_NUM": "6.0"}, "mode", "6"),
        ({"MODE_NUM": 10.0}, "mode", "10"),
        ({"MODE_NUM": 0}, "mode", "0"),
        ({"MODE_NUM": 6.5}, "mode", None),
        ({"MODE_NUM": True}, "mode", None),
        ({"EXPOSURE": "-1"}, "exposure_s", None),
        ({"EXPOSURE": "inf"}, "exposure_s", None),
        ({"AZIMUTH": -10}, "azimuth_deg", 350.0),
        ({"ELVATION": 91}, "elevation_deg", None),
        ({"EQUINOX": "J2000.0"}, "equinox", 2000.0),
        ({"EQUINOX": "0"}, "equinox", None),
        ({"DETSIZE": "[385:640, 385:640]"}, "detsize", "[385:640,385:640]"),
        ({"FILTER": 9999}, "filter", None),
    ],
)
def test_odd_values(cards, fact, expected):
    assert getattr(facts(**cards), fact) == expected


@pytest.mark.parametrize(
    "cards",
    [
        {"TELRA": "absent"},
        {"TELDEC": "absent"},
        {"TELRA": "9999"},
        {"TELDEC": "-99:99:99"},
        {"TELRA": "25:00:00"},
        {"TELDEC": 12.5},
    ],
)
def test_the_object_stands_in_for_the_telescope(cards):
    assert (facts(**cards).ra_deg, facts(**cards).dec_deg) == (15.0, 10.0)
    none = facts(**cards, OBJDEC="unknown")
    assert (none.ra_deg, none.dec_deg) == (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-00:30:00", -0.5),
        ("-0:00:36", -0.01),
        ("-00d30m00s", -0.5),
        ("+00:30:00", 0.5),
        ("12:30:36.0", 12.51),
        ("12h30m36s", 12.51),
        ("12 30 36", 12.51),
        ("12:30", 12.5),
        ("\N{MINUS SIGN}12:30:00", -12.5),
        ("12:59:60.0", 13.0),
        ("12", None),
        ("12.5", None),
        ("12:61:00", None),
        ("12:00:61", None),
        ("--12:00:00", None),
        ("12:30:00:00", None),
        ("", None),
        ("h m s", None),
    ],
)
def test_sexagesimal(text, expected):
    assert parse_sexagesimal(text) == (None if expected is None else pytest.approx(expected))


@given(st.floats(-89.9999, 89.9999), st.sampled_from(["::", "dms"]))
@example(-1e-4, "::")
@example(-0.5, "dms")
def test_declinations_round_trip_through_the_reference_formatter(dec_deg, marks):
    sep = ":" if marks == "::" else "fromunit"
    text = Angle(dec_deg, "deg").to_string(sep=sep, precision=4, pad=True, alwayssign=True)
    # A declination with 9999 in it reads as unknown, by the rule of the instrument.
    parsed = parse_sexagesimal(text)
    assert parsed == pytest.approx(dec_deg, abs=1e-4 / 3600)
    assert math.copysign(1, parsed) == math.copysign(1, dec_deg)


@given(st.floats(0, 359.9999))
def test_right_ascensions_round_trip_through_a_header(ra_deg):
    text = Angle(ra_deg, "deg").to_string("hourangle", sep=":", precision=5, pad=True)
    found = facts(TELRA=text).ra_deg
    if "9999" in text:
        assert found == 15.0
    else:
        away = abs(found - ra_deg)
        assert min(away, 360 - away) < 15 * 1e-5 / 3600


TEXT = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=68)
VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False), TEXT
).filter(lambda v: v not in (float("inf"), float("-inf")))


@settings(max_examples=at_least(200))
@given(st.dictionaries(st.sampled_from(list(FULL)), VALUE))
def test_any_values_give_facts_within_bounds(cards):
    found = parse_facts(fits.Header(cards))
    assert (found.ra_deg is None) == (found.dec_deg is None)
    if found.ra_deg is not None:
        assert 0 <= found.ra_deg < 360
        assert -90 <= found.dec_deg <= 90
    for value in (found.exposure_s, found.magnitude, found.azimuth_deg, found.equinox):
        assert value is None or math.isfinite(value)


CARD = st.one_of(
    TEXT,
    st.binary(max_size=80).map(lambda b: b.decode("latin-1")),
    st.builds(
        lambda keyword, text: f"{keyword:<8}= {text}",
        st.sampled_from([*FULL, "CONTINUE", "HIERARCH", "lower", "A B", "DP1", ""]),
        st.text("0123456789.-+EeDd'/ &TF(),abc:\"", max_size=70),
    ),
    st.builds(
        lambda keyword, text: f"{keyword:<8}{text}",
        st.sampled_from(["HIERARCH", "CONTINUE", "COMMENT", "HISTORY", "END"]),
        st.text("0123456789.-+E'/ &=TFab", max_size=72),
    ),
)


@settings(max_examples=at_least(400))
@given(st.lists(CARD, max_size=6))
def test_any_header_can_be_read_used_and_written(cards):
    text = "".join(card[:80].ljust(80) for card in cards) + "END".ljust(80)
    header = read_cards(text.encode("latin-1"))
    parse_facts(header)
    for card in header.cards:
        assert isinstance(card.keyword, str)
        assert isinstance(card.comment, str)
    again = read_cards(header.tostring().encode())
    assert list(again.keys()) == list(header.keys())


def test_values_of_no_type_are_kept_as_text():
    cards = ["EXPOSURE= 90 s / long", "A       = 1.5D3", "B       = 'it''s' / c", "C       ="]
    cards += ["LONG    = 'abc&'", "CONTINUE  'def&'", "CONTINUE  'g' / end", "lower   = T"]
    header = read_cards("".join(c.ljust(80) for c in cards).encode())
    assert header["EXPOSURE"] == "90 s"
    assert header["A"] == 1500.0
    assert header["B"] == "it's"
    assert header.comments["B"] == "c"
    assert header["C"] is None or isinstance(header["C"], fits.card.Undefined)
    assert header["LONG"] == "abcdefg"
    assert header["LOWER"] is True


def test_reading_unpacks_only_the_beginning(tmp_path):
    frames = noise_frames(300, (64, 64))
    whole = bz2.compress(fits_bytes(frames, FULL), 1)
    path = tmp_path / "a.fits.bz2"
    # What follows the first blocks is lost, and not missed.
    path.write_bytes(whole[: len(whole) // 4])
    header = read_header(path)
    assert header["MODE_NUM"] == 6
    assert (header["NAXIS1"], header["BZERO"]) == (64, 32768)
    assert parse_facts(header) == facts()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"no bzip2", "is no bzip2 file, or is damaged"),
        (bz2.compress(b"x" * 5000)[:20], "ends within its header"),
        (bz2.compress(b"x" * 5000), "begins with 'SIMPLE  ='"),
        (bz2.compress(b"SIMPLE  =".ljust(5760)), "ends within a header"),
        (bz2.compress(b"SIMPLE  =".ljust(2880 * 1001)), "no END card"),
    ],
)
def test_what_has_no_header_is_a_sentence(tmp_path, content, message):
    path = tmp_path / "a.fits.bz2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RawDataError, match=message) as caught:
        read_header(path)
    assert "a.fits.bz2" in str(caught.value)
