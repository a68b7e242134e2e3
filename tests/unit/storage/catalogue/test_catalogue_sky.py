"""The box holds the cone; separations against astropy's."""

import math

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from hypothesis import example, given
from hypothesis import strategies as st

from roboao_assets.storage.catalogue.sky import cone_box, separation_rad

ra = st.floats(0, 2 * math.pi, exclude_max=True)
dec = st.floats(-math.pi / 2, math.pi / 2)
radius = st.floats(0, math.pi) | st.floats(0, 1e-3)


@given(ra, dec, radius, ra, st.floats(0, 1))
@example(0.0, 0.0, 0.01, 1.0, 1.0)
@example(6.28, 1.55, 0.02, 0.5, 0.999)
@example(1.0, 1.5707, 0.00009, 1.57, 1.0)
def test_box_holds_every_point_of_the_cone(ra0, dec0, radius0, bearing, part):
    """Walk from the centre by part of the radius: where one arrives is in the box."""
    distance = radius0 * part
    sine = math.sin(dec0) * math.cos(distance) + math.cos(dec0) * math.sin(distance) * math.cos(
        bearing
    )
    dec1 = math.asin(max(-1.0, min(1.0, sine)))
    ra1 = ra0 + math.atan2(
        math.sin(bearing) * math.sin(distance) * math.cos(dec0),
        math.cos(distance) - math.sin(dec0) * math.sin(dec1),
    )
    ra1 %= 2 * math.pi
    if separation_rad(ra0, dec0, ra1, dec1) > radius0:
        return  # rounded out of the cone on the way
    (low, high), ranges = cone_box(ra0, dec0, radius0)
    assert low <= dec1 <= high
    assert any(left <= ra1 <= right for left, right in ranges)


def test_box_is_no_larger_than_it_must_be():
    (low, high), ((left, right),) = cone_box(math.pi, math.radians(60), math.radians(1))
    assert math.degrees(high - low) == pytest.approx(2.0)
    assert math.degrees(right - left) == pytest.approx(2 * 2.0003, abs=2e-4)
    assert len(cone_box(0.0, 0.0, 0.1)[1]) == 2


@given(ra, dec, ra, dec)
def test_separations(ra1, dec1, ra2, dec2):
    assert separation_rad(ra1, dec1, ra2, dec2) == pytest.approx(
        angular_separation(ra1, dec1, ra2, dec2), abs=3e-8
    )


def test_small_separations_are_precise():
    micro_arcsec = math.radians(1e-6 / 3600)
    separations = separation_rad(1.0, 0.5, [1.0, 1.0], [0.5 + micro_arcsec, 0.5])
    np.testing.assert_allclose(separations, [micro_arcsec, 0.0], rtol=1e-4)
