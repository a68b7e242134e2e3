"""Ids read from the right, and back."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.raw_names import parse_exposure_name, raw_stem, split_part

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


@given(st.one_of(st.text(), st.text("0123456789_.VIC", max_size=60)))
def test_any_other_name_raises_nothing_else(text):
    with suppress(RawDataError):
        assert parse_exposure_name(text).id == text
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


def test_the_stem_of_a_raw_file():
    assert raw_stem(Path("/x/20160925") / f"{EXAMPLE}.fits.bz2") == EXAMPLE
