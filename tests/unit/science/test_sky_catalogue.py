"""Proper motion, projection and refraction against astropy and ERFA."""

import astropy.units as u
import erfa
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from star_fields import make_catalogue

from roboao_assets.science.refraction import (
    refraction_matrix,
    refractivity,
    zenith_position_angle,
)
from roboao_assets.science.sky_catalogue import SkyCatalogue, deproject, project


def test_proper_motion_is_that_of_astropy_near_the_pole_too():
    ra, dec = np.array([10.0, 269.45, 200.0]), np.array([41.0, 4.7, 89.9])
    pm_ra, pm_dec = np.array([30.0, -801.6, 500.0]), np.array([-12.0, 10362.4, -800.0])
    stars = SkyCatalogue(
        ra_deg=ra,
        dec_deg=dec,
        pm_ra_mas_yr=pm_ra,
        pm_dec_mas_yr=pm_dec,
        magnitude=np.zeros(3),
        epoch_year=np.full(3, 2016.0),
    )
    moved = stars.at_epoch(2012.4)
    peer = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        pm_ra_cosdec=pm_ra * u.mas / u.yr,
        pm_dec=pm_dec * u.mas / u.yr,
        distance=10 * u.pc,
        obstime=Time(2016.0, format="jyear", scale="tdb"),
    ).apply_space_motion(Time(2012.4, format="jyear", scale="tdb"))
    here = SkyCoord(moved.ra_deg * u.deg, moved.dec_deg * u.deg)
    assert here.separation(SkyCoord(peer.ra, peer.dec)).mas.max() < 0.5
    assert stars.ra_deg is ra


def test_projection_is_that_of_a_wcs_and_goes_back():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [359.99, -60.0]
    wcs.wcs.cdelt = [1 / 3600, 1 / 3600]
    ra, dec = np.array([0.01, 359.95]), np.array([-59.99, -60.03])
    expected = np.stack(wcs.all_world2pix(ra, dec, 1), axis=1)
    found = project(ra, dec, 359.99, -60.0)
    assert found == pytest.approx(expected, abs=1e-6)
    for offset, point in zip(found, zip(ra, dec, strict=True), strict=True):
        assert deproject(offset, 359.99, -60.0) == pytest.approx(point, abs=1e-10)


def test_stars_near_a_point_across_right_ascension_zero():
    sky = np.array([[359.999, 10.0], [0.001, 10.0], [0.0, 10.1], [180.0, 10.0]])
    near = make_catalogue(sky, np.arange(4.0)).near(0.0, 10.0, 30.0)
    assert list(near.magnitude) == [0.0, 1.0]


@pytest.mark.parametrize("elevation_deg", [85.0, 60.0, 30.0])
@pytest.mark.parametrize("altitude_m", [0.0, 2096.0])
def test_refraction_is_that_of_erfa(elevation_deg, altitude_m):
    pressure_hpa = 1013.25 * np.exp(-altitude_m / 8434.0)
    first, third = erfa.refco(pressure_hpa, 10.0, 0.0, 0.765)
    tangent = 1 / np.tan(np.radians(elevation_deg))
    slope = (first + 3 * third * tangent**2) * (1 + tangent**2)
    matrix = refraction_matrix(
        azimuth_deg=180.0,
        elevation_deg=elevation_deg,
        latitude_deg=80.0,
        wavelength_nm=765.0,
        altitude_m=altitude_m,
    )
    # Due south the vertical is the meridian. Over 44 arcsec, in mas.
    assert abs((1 - matrix[1, 1]) - slope) * 44e3 < 0.6
    assert abs((1 - matrix[0, 0]) - first) * 44e3 < 0.2
    assert matrix[0, 1] == pytest.approx(0, abs=1e-12)


def test_blue_light_is_bent_more_and_the_horizon_is_refused():
    assert refractivity(482.0) > refractivity(893.0) > refractivity(893.0, 2096.0) > 2e-4
    with pytest.raises(ValueError, match=r"elevation of 5\.0 degrees"):
        refraction_matrix(azimuth_deg=0, elevation_deg=5.0, latitude_deg=32, wavelength_nm=765)


@pytest.mark.parametrize(
    ("azimuth_deg", "expected_deg"), [(180.0, 0.0), (90.0, 300.0), (270.0, 60.0)]
)
def test_the_zenith_is_east_of_north_for_a_star_in_the_west(azimuth_deg, expected_deg):
    angle = zenith_position_angle(azimuth_deg=azimuth_deg, elevation_deg=50.0, latitude_deg=32.0)
    hour_angle_side = np.sin(np.radians(angle))
    assert np.sign(np.round(hour_angle_side, 9)) == np.sign(
        np.round(np.sin(np.radians(expected_deg)), 9)
    )
