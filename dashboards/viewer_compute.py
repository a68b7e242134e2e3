"""What the viewer shows of an image: cuts, stretches, radial profile, directions, read-out."""

import math
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.visualization import (
    AsinhStretch,
    AsymmetricPercentileInterval,
    BaseInterval,
    BaseStretch,
    LinearStretch,
    LogStretch,
    MinMaxInterval,
    SqrtStretch,
    ZScaleInterval,
)
from astropy.wcs import WCS
from numpy.typing import NDArray

from dashboards.viewer_images import ViewerImage

STRETCHES: dict[str, BaseStretch] = {
    "logarithmic": LogStretch(1000),
    "asinh": AsinhStretch(0.005),
    "square root": SqrtStretch(),
    "linear": LinearStretch(),
}
CUTS: dict[str, BaseInterval] = {
    "noise to peak": AsymmetricPercentileInterval(25.0, 100.0),
    "1 to 99.9 %": AsymmetricPercentileInterval(1.0, 99.9),
    "1 to 99.99 %": AsymmetricPercentileInterval(1.0, 99.99),
    "5 to 99 %": AsymmetricPercentileInterval(5.0, 99.0),
    "zscale": ZScaleInterval(),
    "all": MinMaxInterval(),
}
# The value of a pixel without data; the others have 1 to 255.
NO_DATA = 0
_SAMPLE = 500_000
_STEPS = 65_535


@dataclass(frozen=True, kw_only=True)
class RadialProfile:
    """Medians of rings, one pixel wide.

    Attributes
    ----------
    radius_arcsec, median, lower, upper : ndarray of float64, shape (n,)
        Of each ring the mean radius, and median and quartiles of its finite pixels.
    """

    radius_arcsec: NDArray[np.float64]
    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def cut_levels(pixels: NDArray[np.float32], cut: str) -> tuple[float, float]:
    """Return the values that become black and white; (0, 1) if no pixel is finite.

    Parameters
    ----------
    pixels : ndarray of float32, shape (y, x)
        May hold NaN.
    cut : str
        A key of `CUTS`.
    """
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return 0.0, 1.0
    interval = CUTS[cut]
    # Of a large image a part of the pixels tells, but not where its greatest is.
    step = 1 if isinstance(interval, MinMaxInterval) else max(1, finite.size // _SAMPLE)
    low, high = interval.get_limits(finite[::step])
    if getattr(interval, "upper_percentile", None) == 100.0:
        high = finite.max()
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def shade(pixels: NDArray[np.float32], low: float, high: float, stretch: str) -> NDArray[np.uint8]:
    """Return an image in 255 shades.

    Parameters
    ----------
    pixels : ndarray of float32, shape (y, x)
        May hold NaN, which becomes `NO_DATA`.
    low, high : float
        Values of the first and the last shade.
    stretch : str
        A key of `STRETCHES`.

    Returns
    -------
    ndarray of uint8, shape (y, x)
    """
    # By a table: the logarithm of four million pixels takes half a second.
    steps = STRETCHES[stretch](np.linspace(0.0, 1.0, _STEPS), clip=False)
    shades = np.append(1 + np.rint(254 * steps), NO_DATA).astype(np.uint8)
    part = (pixels - np.float32(low)) * np.float32((_STEPS - 1) / (high - low))
    np.clip(part, 0, _STEPS - 1, out=part)
    # What is no number, the clip lets through.
    part[np.isnan(part)] = _STEPS
    return shades[part.astype(np.uint16)]


def radial_profile(image: ViewerImage, x: float, y: float, most_arcsec: float) -> RadialProfile:
    """Return medians and quartiles round a position.

    Parameters
    ----------
    image : ViewerImage
    x, y : float
        0-based px.
    most_arcsec : float
        Radius of the outermost ring.
    """
    reach = max(1, math.ceil(most_arcsec / image.scale_arcsec))
    height, width = image.pixels.shape
    left, bottom = max(0, round(x) - reach), max(0, round(y) - reach)
    box = image.pixels[
        bottom : min(height, round(y) + reach + 1), left : min(width, round(x) + reach + 1)
    ]
    rows, columns = np.indices(box.shape)
    radius = np.hypot(columns + left - x, rows + bottom - y)
    good = np.isfinite(box) & (radius <= reach)
    order = np.argsort(radius[good], kind="stable")
    radii, values = radius[good][order], box[good][order].astype(np.float64)
    starts = np.searchsorted(np.rint(radii), np.arange(reach + 2))
    rings = [
        (radii[a:b].mean(), *np.percentile(values[a:b], (25, 50, 75)))
        for a, b in zip(starts, starts[1:], strict=False)
        if b > a
    ]
    mean, lower, median, upper = np.array(rings).reshape(-1, 4).T
    return RadialProfile(
        radius_arcsec=mean * image.scale_arcsec, median=median, lower=lower, upper=upper
    )


Vector = tuple[float, float]


def directions(image: ViewerImage) -> tuple[Vector, Vector] | None:
    """Return unit vectors (dx, dy) towards north and east at the middle; None without a WCS."""
    if image.wcs is None:
        return None
    return wcs_directions(image.wcs, image.pixels.shape, image.scale_arcsec)


def wcs_directions(
    wcs: WCS, shape: tuple[int, ...], scale_arcsec: float
) -> tuple[Vector, Vector] | None:
    """Return unit vectors (dx, dy) towards north and east at the middle of an image (y, x)."""
    height, width = shape[:2]
    centre = sky_position(wcs, (width - 1) / 2, (height - 1) / 2)
    if centre is None:
        return None
    step = max(scale_arcsec, 1e-6) * u.arcsec

    def towards(position_angle_deg: float) -> Vector:
        there = centre.directional_offset_by(position_angle_deg * u.deg, step)
        x, y = wcs.celestial.all_world2pix(there.ra.deg, there.dec.deg, 0)
        dx, dy = float(x) - (width - 1) / 2, float(y) - (height - 1) / 2
        length = math.hypot(dx, dy)
        return dx / length, dy / length

    return towards(0.0), towards(90.0)


def sky_position(wcs: WCS, x: float, y: float) -> SkyCoord | None:
    """Return the place of a pixel (0-based) on the sky; None outside of the projection."""
    ra, dec = wcs.celestial.all_pix2world(x, y, 0)
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return None
    return SkyCoord(float(ra), float(dec), unit="deg")


def read_out(image: ViewerImage, x: float, y: float) -> str:
    """Say what is at a position: pixel, value, sky, and how far from the star it is.

    Parameters
    ----------
    image : ViewerImage
    x, y : float
        0-based px; outside of the image the answer is empty.
    """
    column, row = math.floor(x + 0.5), math.floor(y + 0.5)
    height, width = image.pixels.shape
    if not (0 <= column < width and 0 <= row < height):
        return ""
    value = float(image.pixels[row, column])
    told = f"{value:.5g} {image.unit}".rstrip() if math.isfinite(value) else "no data"
    parts = [f"x {column}, y {row} px", told]
    place = None if image.wcs is None else sky_position(image.wcs, x, y)
    if place is not None:
        ra = place.ra.to_string(u.hour, sep=":", precision=3, pad=True)
        dec = place.dec.to_string(u.deg, sep=":", precision=2, pad=True, alwayssign=True)
        parts.append(f"RA {ra}, Dec {dec}")
    if image.star_xy is not None:
        dx, dy = x - image.star_xy[0], y - image.star_xy[1]
        separation = f'{math.hypot(dx, dy) * image.scale_arcsec:.3f}" from the guide star'
        if place is not None and image.wcs is not None and (dx or dy):
            star = sky_position(image.wcs, *image.star_xy)
            if star is not None:
                separation += f", PA {star.position_angle(place).deg:.1f}°"
        parts.append(separation)
    return " · ".join(parts)
