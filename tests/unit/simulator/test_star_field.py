"""A star field with known places on the sky, against the archive's own geometry."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from roboao_assets.science.refraction import refraction_matrix
from roboao_assets.science.sky_catalogue import project
from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.sky_catalogues import read_sky_catalogue
from roboao_assets.storage.tables import ecsv_text
from simulator.headers import Pointing
from simulator.star_field import (
    MISSING,
    STAR_DISTANCE_ARCSEC,
    draw_star_field,
)

PROFILE = load_instruments()["KPNO_2.1m"]
POINTING = Pointing(
    right_ascension="19:53:46.49",
    declination="+18:46:45.1",
    azimuth_deg=233.0,
    elevation_deg=48.0,
)
UTC_TIME = datetime(2017, 6, 7, 8, tzinfo=UTC)


def draw(size=256, seed=4):
    return draw_star_field(
        np.random.default_rng(seed),
        PROFILE,
        POINTING,
        utc=UTC_TIME,
        stars=35,
        size_px=size,
        guide_px=(130.0, 121.0),
        magnitude=9.0,
        wavelength_nm=718.0,
    )


@pytest.fixture(scope="module")
def field():
    return draw()


def test_all_stars_have_room(field):
    assert len(field.x_px) == 35
    assert (field.x_px[0], field.y_px[0], field.dmag[0]) == (130.0, 121.0, 0.0)
    away = np.hypot(*(p[:, None] - p for p in (field.x_px, field.y_px)))
    away = away[~np.eye(35, dtype=bool)] * PROFILE.plate_scale_arcsec
    assert away.min() > STAR_DISTANCE_ARCSEC
    assert 0 < field.x_px.min() < field.x_px.max() < 255


def test_refraction_is_that_of_the_archive(field):
    seen = np.array([[4.0, 0.0], [0.0, 4.0], [-3.0, 3.0]])
    # Pixels of a camera without distortion, with the same air.
    view = replace(field.view, bow_per_px=0.0)
    scale, turn = view.plate_scale_arcsec, np.radians(view.y_axis_pa_deg)
    axes = scale * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    dx, dy = np.linalg.solve(axes, seen.T)
    true = view.offsets_arcsec(view.middle_px + dx, view.middle_px + dy)
    matrix = refraction_matrix(
        azimuth_deg=POINTING.azimuth_deg,
        elevation_deg=POINTING.elevation_deg,
        latitude_deg=PROFILE.site_latitude_deg,
        altitude_m=PROFILE.site_altitude_m,
        wavelength_nm=718.0,
    )
    expected = seen @ np.linalg.inv(matrix).T
    assert np.abs(expected - seen).max() > 1e-3
    # Two formulae of the index of air.
    assert true == pytest.approx(expected, abs=5e-5)


def test_the_sky_is_a_tangent_plane(field):
    offsets = field.view.offsets_arcsec(field.x_px, field.y_px)
    back = project(*field.sky_deg.T, field.view.ra_deg, field.view.dec_deg)
    assert back == pytest.approx(offsets, abs=1e-7)
    # East is left, north is up.
    assert np.corrcoef(offsets[:, 0], field.x_px)[0, 1] < -0.99
    assert np.corrcoef(offsets[:, 1], field.y_px)[0, 1] > 0.99


def test_the_pointing_is_off_by_as_much_as_is_told(field):
    ra, dec = (19 + 53 / 60 + 46.49 / 3600) * 15, 18 + 46 / 60 + 45.1 / 3600
    away = np.hypot(*project([field.view.ra_deg], [field.view.dec_deg], ra, dec)[0])
    # FK5 and ICRS differ by tens of mas.
    assert away == pytest.approx(field.pointing_error_arcsec, abs=0.05)
    assert away > 5


def test_the_catalogue_has_the_stars_at_their_epoch(field, tmp_path):
    path = tmp_path / "stars.ecsv"
    path.write_text(ecsv_text(field.catalogue))
    stars = read_sky_catalogue(path).at_epoch(2017.0 + 157.33 / 365.0)
    away = project(stars.ra_deg, stars.dec_deg, field.view.ra_deg, field.view.dec_deg)
    true = field.view.offsets_arcsec(field.x_px, field.y_px)
    distance = np.hypot(*(true[:, None, :] - away[None]).transpose(2, 0, 1)).min(axis=1)
    assert distance[field.in_catalogue].max() < 2e-3
    assert np.count_nonzero(~field.in_catalogue) == MISSING
    # Without the motion since then they are elsewhere.
    at_rest = read_sky_catalogue(path)
    assert np.abs(stars.dec_deg - at_rest.dec_deg).max() * 3.6e6 > 5


def test_companions_are_where_the_stars_are(field):
    for star, companion in enumerate(field.companions(PROFILE), 1):
        dx, dy = companion.offset_px(PROFILE)
        assert 130.0 + dx == pytest.approx(field.x_px[star])
        assert 121.0 + dy == pytest.approx(field.y_px[star])
        assert companion.is_field_star


def test_scale_and_turn_hold_the_air(field):
    scale, turn = field.view.scale_and_turn()
    assert scale == pytest.approx(field.view.plate_scale_arcsec, rel=1e-3)
    assert scale > field.view.plate_scale_arcsec
    assert turn == pytest.approx(field.view.y_axis_pa_deg, abs=0.02)
    assert turn != pytest.approx(field.view.y_axis_pa_deg, abs=1e-5)
