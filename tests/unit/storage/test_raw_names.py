"""Ids read from the right, and back."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.raw_names import (
    MOST_ID_BYTES,
    parse_exposure_name,
    raw_stem,
    shown_name,
    split_part,
)

EXAMPLE = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"


def test_the_example_of_the_archive():
    name = parse_exposure_name(EXAMPLE)
    assert (name.id, name.program, name.object_name) == (EXAMPLE, "4", "351_Yrsa")
    assert (name.camera, name.filter_name, name.marker) == ("VIC", "lp600", "o")
    assert name.utc == datetime(2016, 9, 25, 11, 4, 27, 40912, tzinfo=UTC)
    assert not name.is_seeing


def test_a_seeing_exposure():
    name = parse_exposure_name("seeing_VIC_Si_o_20160925_110427.5")
    assert name.is_seeing
    assert (name.program, name.object_name, name.filter_name) == ("", "", "Si")
    assert name.utc.microsecond == 500000


TOKEN = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="_/"), min_size=1, max_size=8
)


@given(
    program=st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3})?", fullmatch=True),
    object_parts=st.lists(TOKEN, min_size=1, max_size=4),
    camera=TOKEN,
    filter_name=TOKEN,
    marker=st.one_of(st.just(""), TOKEN),
    utc=st.datetimes(datetime(1990, 1, 1), datetime(2199, 1, 1)),
    part=st.one_of(st.none(), st.integers(0, 9999)),
)
def test_ids_round_trip(program, object_parts, camera, filter_name, marker, utc, part):
    object_name = "_".join(object_parts)
    identity = f"{program}_{object_name}_{camera}_{filter_name}_{marker}_{utc:%Y%m%d_%H%M%S.%f}"
    stem = identity if part is None else f"{identity}_{part}"
    assert split_part(stem) == (identity, -1 if part is None else part)
    name = parse_exposure_name(identity)
    assert name.id == identity
    assert (name.program, name.object_name, name.camera) == (program, object_name, camera)
    assert (name.filter_name, name.marker) == (filter_name, marker)
    assert name.utc == utc.replace(tzinfo=UTC)


# As file names come: any bytes but the stroke and zero, of which what is no text is a surrogate.
ANY_NAME = st.one_of(
    st.text(),
    st.text("0123456789_.VIC", max_size=60),
    st.text(st.characters(exclude_categories=[])),
    st.binary(max_size=250).map(
        lambda raw: os.fsdecode(raw.replace(b"/", b"").replace(b"\0", b""))
    ),
    st.tuples(
        st.text(st.characters(exclude_categories=[]), max_size=40), st.integers(0, 10**15)
    ).map(lambda parts: f"4_{parts[0]}_VIC_Si_o_20160925_110427.0{parts[1]}"),
    st.integers(1, 250).map(lambda n: f"4_{'x' * n}_VIC_Si_o_20160925_110427.0"),
)


@given(ANY_NAME)
def test_any_other_name_raises_nothing_else(text):
    shown = shown_name(Path("/x") / f"a{text.replace('/', '').replace(chr(0), '')}")
    assert shown.isprintable()
    shown.encode()
    with suppress(RawDataError):
        name = parse_exposure_name(text)
        assert name.id == text
        # It can be stored, shown, and be the beginning of a product's name.
        assert text.isprintable()
        assert len(text.encode()) <= MOST_ID_BYTES
        assert name.night == text.rsplit("_", 2)[-2]
    identity, part = split_part(text)
    assert text in (identity, *(f"{identity}_{str(part).zfill(n)}" for n in range(1, 5)))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "4_VIC_lp600_o_20160925_110427.0",
        "a_b_VIC_lp600_o_20160925_110427.0",
        "4_b_VIC_lp600_o_20160925_110427.0000001",
        "4_b_VIC_lp600_o_2016092_110427.0",
        "4_b\n_VIC_lp600_o_20160925_110427.0",
        "4_b\udcff_VIC_lp600_o_20160925_110427.0",
        "٤_b_VIC_lp600_o_20160925_110427.0",
        "seeing_x_VIC_lp600_o_20160925_110427.0",
    ],
)
def test_names_of_no_form(name):
    with pytest.raises(RawDataError, match="is neither <program>_<object>"):
        parse_exposure_name(name)


@pytest.mark.parametrize("tail", ["20161325_110427.0", "20160230_000000", "20160925_246000.0"])
def test_no_valid_time(tail):
    with pytest.raises(RawDataError, match="holds no valid date and time"):
        parse_exposure_name(f"4_b_VIC_lp600_o_{tail}")


def test_a_name_that_leaves_no_room_for_products():
    room = MOST_ID_BYTES - len("4__VIC_lp600_o_20160925_110427.0")
    kept = f"4_{'x' * room}_VIC_lp600_o_20160925_110427.0"
    assert parse_exposure_name(kept).id == kept
    with pytest.raises(RawDataError, match="is too long: an id may have 200 bytes"):
        parse_exposure_name(kept.replace("4_x", "4_xx"))


def test_a_name_is_shown_printable():
    assert shown_name(Path("/x/1_é_a b.fits.bz2")) == "1_é_a b.fits.bz2"
    assert shown_name(Path("/x/a\nb\udcff")) == r"a\nb\udcff"


def test_the_stem_of_a_raw_file():
    assert raw_stem(Path("/x/20160925") / f"{EXAMPLE}.fits.bz2") == EXAMPLE
