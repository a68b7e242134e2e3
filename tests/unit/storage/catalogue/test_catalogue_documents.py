"""A new observation's document."""

import math

import pytest
from astropy import units as u
from astropy.coordinates import Angle
from hypothesis import given
from hypothesis import strategies as st

from roboao_assets.storage.catalogue.documents import (
    REDO_PATHS,
    header_mapping,
    new_observation,
    product,
    status_path,
)
from roboao_assets.storage.raw_names import parse_exposure_name

NAME = parse_exposure_name("24.1_HD_1_VIC_Si_o_20160926_030000.000000")


@given(st.floats(0, 359.99), st.floats(-90, 90))
def test_coordinates(ra_deg, dec_deg):
    coordinates = new_observation(NAME, ra_deg=ra_deg, dec_deg=dec_deg)["coordinates"]
    assert coordinates["radec"] == [math.radians(ra_deg), math.radians(dec_deg)]
    assert coordinates["radec_geojson"]["coordinates"] == [ra_deg - 180, dec_deg]
    ra_text, dec_text = coordinates["radec_str"]
    assert Angle(ra_text, u.hourangle).deg == pytest.approx(ra_deg, abs=3e-6)
    assert Angle(dec_text, u.deg).deg == pytest.approx(dec_deg, abs=2e-6)


def test_coordinates_at_the_edges():
    def texts(ra_deg, dec_deg):
        return new_observation(NAME, ra_deg=ra_deg, dec_deg=dec_deg)["coordinates"]["radec_str"]

    assert texts(0.0, -0.5) == ["00:00:00.000", "-00:30:00.00"]
    assert texts(359.9999999, 89.9999999) == ["00:00:00.000", "+90:00:00.00"]
    assert texts(360.0, -90.0) == ["00:00:00.000", "-90:00:00.00"]


def test_unknown_facts_are_left_out():
    document = new_observation(NAME, ra_deg=5.0)
    assert set(document["coordinates"]) == {"epoch"}
    assert (document["exposure"], document["magnitude"]) == (None, None)
    assert document["science_program"]["program_id"] == "24.1"
    assert document["pipelined"] == {}


def test_header_cards():
    cards = [
        ("EXPOSURE", 90.0, "[s]"),
        ("HISTORY", "one", ""),
        ("HISTORY", "two", ""),
        ("ESO.DET $x", 1 + 2j, None),
        ("$y", None, "blank"),
        ("", "blank card", ""),
    ]
    assert header_mapping(cards) == {
        "EXPOSURE": [90.0, "[s]"],
        "HISTORY": ["one\ntwo", ""],
        "ESO_DET $x": ["(1+2j)", ""],
        "_y": [None, "blank"],
    }


def test_status_places():
    assert status_path("bright_star") == "bright_star.status"
    assert status_path("bright_star.pca") == "bright_star.pca.status"
    assert status_path("bright_star.pca.preview") == "bright_star.pca.preview"
    assert "pipelined.faint_star.strehl.status.force_redo" in REDO_PATHS
    assert "pipelined.bright_star.preview.force_redo" in REDO_PATHS
    assert len(REDO_PATHS) == 18


def test_product_of_any_document():
    assert product({}, "bright_star.strehl") == {}
    assert product({"pipelined": {"bright_star": None}}, "bright_star.strehl") == {}
    assert product({"pipelined": {"bright_star": 5}}, "bright_star") == {}
    assert product({"pipelined": {"bright_star": {"a": 1}}}, "bright_star") == {"a": 1}
