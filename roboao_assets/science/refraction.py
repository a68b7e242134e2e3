"""What the air does to a field of less than a minute of arc: it is squeezed, linearly.

Refraction lifts every star towards the zenith; what differs across the field is the derivative.
Along the vertical the field shrinks by ``dR/dz = (n - 1) sec2 z``, along the horizontal by
``R / tan z = n - 1``, with ``R = (n - 1) tan z`` [1]_: some 20 mas over 36" at 45 degrees of
zenith distance. The third-order term of R changes this by 0.6 mas over 44" at an elevation
of 30 degrees. That stars of different colours are lifted differently is not corrected: no
catalogue of positions says what a filter of 200 nm makes of a spectrum.

References
----------
.. [1] Filippenko 1982, PASP 94, 715 (doi:10.1086/131052); index of refraction after Edlen 1953
"""

from math import cos, degrees, exp, radians, sin

import numpy as np
from numpy.typing import NDArray

# Of the international barometric formula, and of a mild night.
_SCALE_HEIGHT_M = 8434.0
_TEMPERATURE_C = 10.0


def refractivity(wavelength_nm: float, altitude_m: float = 0.0) -> float:
    """Return n - 1 of dry air at 10 degrees Celsius.

    Parameters
    ----------
    wavelength_nm : float
    altitude_m : float
        Of the site, which tells the pressure.
    """
    inverse2 = (1000.0 / wavelength_nm) ** 2
    at_sea_level = 1e-6 * (64.328 + 29498.1 / (146 - inverse2) + 255.4 / (41 - inverse2))
    pressure_mmhg = 760.0 * exp(-altitude_m / _SCALE_HEIGHT_M)
    warm = 1 + (1.049 - 0.0157 * _TEMPERATURE_C) * 1e-6 * pressure_mmhg
    return at_sea_level * pressure_mmhg * warm / (720.883 * (1 + 0.003661 * _TEMPERATURE_C))


def zenith_position_angle(
    *, azimuth_deg: float, elevation_deg: float, latitude_deg: float
) -> float:
    """Return the position angle (deg east of north) of the zenith: the parallactic angle.

    Parameters
    ----------
    azimuth_deg : float
        From north through east.
    elevation_deg, latitude_deg : float
    """
    azimuth, elevation, latitude = map(radians, (azimuth_deg, elevation_deg, latitude_deg))
    sine = -sin(azimuth) * cos(latitude)
    cosine = sin(latitude) * cos(elevation) - cos(latitude) * sin(elevation) * cos(azimuth)
    return degrees(float(np.arctan2(sine, cosine))) % 360.0


def refraction_matrix(
    *,
    azimuth_deg: float,
    elevation_deg: float,
    latitude_deg: float,
    wavelength_nm: float,
    altitude_m: float = 0.0,
) -> NDArray[np.float64]:
    """Return what turns true small offsets on the sky into those that are seen.

    Parameters
    ----------
    azimuth_deg, elevation_deg : float
        Where the telescope points; azimuth from north through east.
    latitude_deg, altitude_m : float
        Of the site.
    wavelength_nm : float
        Effective wavelength of the filter.

    Returns
    -------
    ndarray of float64, shape (2, 2)
        Acts on (east, north).

    Raises
    ------
    ValueError
        If the elevation is below 10 degrees, where the formula is none.
    """
    if not 10.0 <= elevation_deg <= 90.0:
        raise ValueError(
            f"refraction is not known at an elevation of {elevation_deg:.1f} degrees (10 to 90)"
        )
    index = refractivity(wavelength_nm, altitude_m)
    vertical = index / sin(radians(elevation_deg)) ** 2
    angle = radians(
        zenith_position_angle(
            azimuth_deg=azimuth_deg, elevation_deg=elevation_deg, latitude_deg=latitude_deg
        )
    )
    zenith = np.array([sin(angle), cos(angle)])
    return (1 - index) * np.eye(2) - (vertical - index) * np.outer(zenith, zenith)
