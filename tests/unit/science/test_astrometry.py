"""The place-holder WCS agrees with the position angles of the profile."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from roboao_assets.science.astrometry import pointing_wcs
from roboao_assets.storage.instruments import load_instruments


@pytest.mark.parametrize("east_is_left", [True, False])
@pytest.mark.parametrize("y_axis_pa_deg", [0.0, 12.5, 200.0])
def test_angles_and_scale(east_is_left, y_axis_pa_deg):
    from dataclasses import replace

    profile = replace(
        load_instruments()["KPNO_2.1m"], east_is_left=east_is_left, y_axis_pa_deg=y_axis_pa_deg
    )
    wcs = pointing_wcs(
        ra_deg=200.0,
        dec_deg=-35.0,
        equinox=2000.0,
        shape=(2048, 2000),
        plate_scale_arcsec=0.0176,
        east_is_left=east_is_left,
        y_axis_pa_deg=y_axis_pa_deg,
    )
    centre = wcs.pixel_to_world(999.5, 1023.5)
    assert centre.separation(SkyCoord(200.0, -35.0, unit="deg", frame="fk5")) < 1e-6 * u.arcsec
    for dx, dy in [(100, 0), (0, 100), (-70, 40)]:
        there = wcs.pixel_to_world(999.5 + dx, 1023.5 + dy)
        assert centre.separation(there).arcsec == pytest.approx(0.0176 * np.hypot(dx, dy), rel=1e-6)
        expected = profile.position_angle_deg(dx, dy)
        turn = (centre.position_angle(there).deg - expected + 180) % 360 - 180
        assert abs(turn) < 1e-3
