"""Where a frame looks: the sky coordinates of its pixels."""

import numpy as np
from astropy.wcs import WCS


def pointing_wcs(
    *,
    ra_deg: float,
    dec_deg: float,
    equinox: float,
    shape: tuple[int, int],
    plate_scale_arcsec: float,
    east_is_left: bool = True,
    y_axis_pa_deg: float = 0.0,
) -> WCS:
    """Return the TAN projection of a frame whose centre is where the telescope pointed.

    Right to the pointing of the telescope, no better: a place holder until stars are matched.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Pointing, FK5 of `equinox` (year).
    shape : tuple of int
        (y, x) of the image.
    plate_scale_arcsec : float
        Of the image's pixels.
    east_is_left : bool
        With y up, east is towards smaller x.
    y_axis_pa_deg : float
        Position angle of the +y axis, east of north.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.radesys = "FK5"
    wcs.wcs.equinox = equinox
    y_axis = np.radians(y_axis_pa_deg)
    x_axis = y_axis + (-np.pi / 2 if east_is_left else np.pi / 2)
    scale_deg = plate_scale_arcsec / 3600
    wcs.wcs.cd = scale_deg * np.array(
        [[np.sin(x_axis), np.sin(y_axis)], [np.cos(x_axis), np.cos(y_axis)]]
    )
    wcs.wcs.set()
    return wcs
