"""A field of 35 stars gives the instrument's geometry; other fields give where they look."""

import numpy as np
import pytest
from star_fields import DEC, RA, as_detected, camera, draw, make_field

from roboao_assets.science.distortion import linear_distortion, sip_wcs
from roboao_assets.science.errors import FitFailedError, NoStarError
from roboao_assets.science.plate_solution import (
    Pointing,
    predicted_wcs,
    sky_offset,
    solve_field,
    solve_instrument,
)
from roboao_assets.science.refraction import refraction_matrix
from roboao_assets.science.sky_catalogue import deproject, project
from roboao_assets.science.source_detection import detect_stars
from roboao_assets.science.star_matching import MatchBounds, NoMatchError

SHAPE = (1024, 1024)
# What a profile knows leaves the distortion: half an arcsecond in the corners.
DENSE = MatchBounds(tolerance_arcsec=0.7)
PROFILE = linear_distortion(shape=SHAPE, plate_scale_arcsec=0.0351594)


def pointing(east=0.0, north=0.0, refraction=None):
    ra, dec = deproject((east, north), RA, DEC)
    return Pointing(ra_deg=ra, dec_deg=dec, refraction=refraction)


def off_by_mas(wcs, true):
    """Largest difference of two WCS over the detector."""
    axis = np.linspace(20, 1003, 12)
    x, y = (v.ravel() for v in np.meshgrid(axis, axis))
    one, two = (project(*w.all_pix2world(x, y, 0), RA, DEC) for w in (wcs, true))
    return 1000 * np.abs(one - two).max()


@pytest.fixture(scope="module")
def image():
    return draw(make_field(35, outside=200, missing=4, surveyed_arcsec=180))


@pytest.mark.parametrize(
    ("shift", "bounds"),
    [
        ((10, -8), DENSE),
        (
            (80, -60),
            MatchBounds(tolerance_arcsec=0.7, max_rotation_deg=180, allow_flip=True),
        ),
    ],
    ids=["a pointing off by 13 arcsec", "off by 100 arcsec, any rotation, any parity"],
)
def test_a_field_of_35_stars(image, shift, bounds):
    field = make_field(35, outside=200, missing=4, surveyed_arcsec=180)
    stars = detect_stars(image, fwhm_px=4.0)
    assert len(stars) >= 33
    solved = solve_instrument(stars, PROFILE, field.catalogue, pointing(*shift), bounds)
    geometry = solved.fit.distortion
    print(f"rms {geometry.rms_mas:.2f} mas of {geometry.stars} stars")
    assert geometry.rms_mas < 20
    assert geometry.stars >= 25
    assert solved.field.pointing_error_arcsec == pytest.approx(np.hypot(*shift), abs=1)
    wcs = sip_wcs(geometry, solved.ra_deg, solved.dec_deg)
    assert off_by_mas(wcs, sip_wcs(field.camera, RA, DEC)) < 5


def test_wrong_stars_and_poor_positions_have_no_weight():
    rng = np.random.default_rng(9)
    field = make_field(40, seed=5)
    x, y = field.x + rng.normal(0, 0.3, 40), field.y + rng.normal(0, 0.3, 40)
    x[:4] += rng.uniform(6, 12, 4)
    solved = solve_instrument(
        as_detected(x, y), PROFILE, field.catalogue, pointing(5, 5), DENSE, bootstrap=20
    )
    assert solved.fit.distortion.rms_mas < 20
    used = set(solved.detected[solved.fit.used])
    assert used.isdisjoint(range(4))
    wcs = sip_wcs(solved.fit.distortion, solved.ra_deg, solved.dec_deg)
    assert off_by_mas(wcs, sip_wcs(field.camera, RA, DEC)) < 40


def test_refraction_is_no_part_of_the_instrument():
    seen = refraction_matrix(
        azimuth_deg=250, elevation_deg=35, latitude_deg=32, wavelength_nm=765, altitude_m=2096
    )
    field = make_field(40, seed=6, true=camera().turned(np.linalg.inv(seen)))
    stars = as_detected(field.x, field.y)
    told = solve_instrument(
        stars, PROFILE, field.catalogue, pointing(2, 1, seen), DENSE, bootstrap=0
    )
    # At the instrument's own reference; the fit's is the middle of the frame.
    middle = camera().offsets(np.array([511.5]), np.array([511.5]))
    for x, y in ((0.0, 0.0), (1023.0, 0.0), (0.0, 1023.0)):
        at = np.array([x]), np.array([y])
        off = told.fit.distortion.offsets(*at) - (camera().offsets(*at) - middle)
        assert np.abs(off).max() < 0.001
    # And the exposure's WCS has it.
    known = solve_field(stars, camera(), field.catalogue, pointing(2, 1, seen), MatchBounds())
    assert off_by_mas(known.wcs(), sip_wcs(field.camera, RA, DEC)) < 1


@pytest.mark.parametrize("stars", [5, 9])
def test_few_field_stars_give_pointing_rotation_and_scale(stars):
    rng = np.random.default_rng(stars)
    true = camera().turned(1.001 * np.array([[1, -0.004], [0.004, 1]]))
    field = make_field(stars, seed=stars, true=true, outside=12, surveyed_arcsec=60)
    detected = as_detected(field.x + rng.normal(0, 0.2, stars), field.y + rng.normal(0, 0.2, stars))
    bounds = MatchBounds(max_shift_arcsec=30, max_rotation_deg=1, max_scale_error=0.01)
    solved = solve_field(detected, camera(), field.catalogue, pointing(-9, 7), bounds)
    assert solved.stars >= stars - 1
    assert solved.rms_mas < 20
    assert solved.rotation_deg == pytest.approx(np.degrees(0.004), abs=0.05)
    assert off_by_mas(solved.wcs(), sip_wcs(true, RA, DEC)) < 40
    assert solved.accidents < 1e-3


def test_a_saturated_star_identifies_but_does_not_fit():
    field = make_field(8, seed=8)
    x = field.x.copy()
    x[0] += 8
    stars = as_detected(x, field.y)
    stars.saturated[0] = True
    solved = solve_field(stars, camera(), field.catalogue, pointing(3, 3), MatchBounds())
    assert off_by_mas(solved.wcs(), sip_wcs(camera(), RA, DEC)) < 1
    assert solved.stars == 7


def test_what_cannot_be_solved_says_why():
    field = make_field(20, seed=2)
    stars = as_detected(field.x, field.y)
    with pytest.raises(NoMatchError, match="the catalogue has 0 near the field"):
        solve_field(stars, camera(), field.catalogue, pointing(0, 3600), MatchBounds())
    few = stars.select(np.arange(3))
    with pytest.raises(NoMatchError, match="3 stars were detected"):
        solve_field(few, camera(), field.catalogue, pointing(), MatchBounds())
    ten = make_field(7, seed=2)
    with pytest.raises(FitFailedError, match="7 stars are matched; a distortion of order 2"):
        solve_instrument(
            as_detected(ten.x, ten.y), camera(), ten.catalogue, pointing(), MatchBounds()
        )
    another = make_field(25, seed=77).catalogue
    with pytest.raises(NoMatchError, match=r"chance would have given|the pointing, the scale"):
        solve_field(stars, camera(), another, pointing(), MatchBounds())


def test_an_empty_image_has_no_stars():
    rng = np.random.default_rng(1)
    with pytest.raises(NoStarError, match="no star in the 200 x 150 px image"):
        detect_stars(rng.normal(10, 3, (150, 200)), fwhm_px=4.0)
    with pytest.raises(NoStarError):
        detect_stars(np.full((100, 100), np.nan), fwhm_px=4.0)


def test_edges_saturation_and_missing_pixels_are_flagged(image):
    image = image.copy()
    field = make_field(35, outside=200, missing=4, surveyed_arcsec=180)
    image[int(field.y[3]) - 2 : int(field.y[3]) + 2, int(field.x[3]) + 3] = np.nan
    stars = detect_stars(image, fwhm_px=4.0, saturation=1900.0)
    nearest = np.hypot(stars.x[:, None] - field.x, stars.y[:, None] - field.y).argmin(axis=0)
    assert stars.saturated[nearest[0]]
    assert not stars.saturated[nearest[10]]
    assert stars.near_edge[nearest[3]]
    cut = image[:, int(field.x[5]) - 3 :]
    flagged = detect_stars(cut, fwhm_px=4.0)
    close = np.hypot(flagged.x - 3, flagged.y - field.y[5]).argmin()
    assert flagged.near_edge[close]


def test_a_prediction_looks_where_the_telescope_pointed():
    wcs = predicted_wcs(camera(), pointing())
    assert wcs.all_pix2world([[511.5, 511.5]], 0)[0] == pytest.approx([RA, DEC], abs=1e-7)
    separation, angle = sky_offset(wcs, 900.0, 900.0, 0.0, 100.0)
    # The published quadratic term changes the scale by 4 % there.
    assert separation == pytest.approx(100 * 0.034991 * (1 - 2 * 5.5062e-5 * 441), rel=3e-3)
    assert abs((angle + 180) % 360 - 180) < 3
