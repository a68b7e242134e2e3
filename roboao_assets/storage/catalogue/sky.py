"""Cones on the sky: the box that holds one, and exact separations."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The box is this much larger than the cone (rad; 0.2 microarcsecond), so that rounding in its
# edges loses nothing: the exact separation decides.
_MARGIN_RAD = 1e-12
_WHOLE_CIRCLE = ((0.0, 2 * math.pi),)


def cone_box(
    ra_rad: float, dec_rad: float, radius_rad: float
) -> tuple[tuple[float, float], tuple[tuple[float, float], ...]]:
    """Return the box in right ascension and declination that holds a cone.

    Parameters
    ----------
    ra_rad, dec_rad : float
        Centre (rad); the right ascension from 0 to 2 pi.
    radius_rad : float
        Radius (rad).

    Returns
    -------
    dec_band : tuple of float
        Lowest and highest declination (rad).
    ra_ranges : tuple of (float, float)
        One range of right ascension (rad), two where the cone crosses 0 h; the whole circle
        where it holds a pole.
    """
    low = dec_rad - radius_rad - _MARGIN_RAD
    high = dec_rad + radius_rad + _MARGIN_RAD
    if low <= -math.pi / 2 or high >= math.pi / 2:
        return (low, high), _WHOLE_CIRCLE
    # The meridian that touches the cone: sin(half width) = sin(radius) / cos(dec).
    sine = math.sin(radius_rad) / math.cos(dec_rad)
    if sine >= 1.0:
        return (low, high), _WHOLE_CIRCLE
    # Near the pole the arc sine is steep: the margin grows with its derivative.
    margin = _MARGIN_RAD / max(1e-9, math.cos(dec_rad) * math.sqrt(1.0 - sine * sine))
    half = math.asin(sine) + margin
    left, right = ra_rad - half, ra_rad + half
    if half >= math.pi:
        return (low, high), _WHOLE_CIRCLE
    if left < 0.0:
        return (low, high), ((0.0, right), (left + 2 * math.pi, 2 * math.pi))
    if right >= 2 * math.pi:
        return (low, high), ((left, 2 * math.pi), (0.0, right - 2 * math.pi))
    return (low, high), ((left, right),)


def separation_rad(
    ra1_rad: float, dec1_rad: float, ra2_rad: ArrayLike, dec2_rad: ArrayLike
) -> NDArray[np.float64]:
    """Return the angles between one direction and others (rad), by the haversine formula.

    It keeps its precision for small angles, which the cosine formula loses (R. W. Sinnott 1984,
    Sky & Telescope 68, 159, which has no DOI).

    Parameters
    ----------
    ra1_rad, dec1_rad : float
        The one direction (rad).
    ra2_rad, dec2_rad : array_like of float, shape (n,)
        The others (rad).

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    ra2_rad = np.asarray(ra2_rad, dtype=np.float64)
    dec2_rad = np.asarray(dec2_rad, dtype=np.float64)
    across_dec = np.sin((dec2_rad - dec1_rad) / 2)
    across_ra = np.sin((ra2_rad - ra1_rad) / 2)
    haversine = across_dec**2 + math.cos(dec1_rad) * np.cos(dec2_rad) * across_ra**2
    return 2 * np.arcsin(np.sqrt(np.minimum(1.0, haversine)))
