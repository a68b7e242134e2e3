"""Is a star fit to be a reference? The shape of its core, and whether it is single."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.star_fit import StarFit, fit_star

# Speckles of the halo reach a few per cent of the star; what is brighter is hardly one.
_MIN_SECOND_PEAK = 0.05
_MIN_SIGNIFICANCE = 7.0
# Closer to the star, its own first ring is the second peak.
_MIN_SEPARATION_FWHM = 1.5


@dataclass(frozen=True, kw_only=True)
class SecondPeak:
    """The brightest thing beside a star.

    Attributes
    ----------
    dx_px, dy_px : float
        Position minus the star's.
    contrast_mag : float
        Magnitude difference to the star, positive if fainter.
    significance : float
        Height in robust standard deviations of its ring.
    """

    dx_px: float
    dy_px: float
    contrast_mag: float
    significance: float


def measure_core(image: NDArray[np.floating], x: float, y: float, fwhm_px: float) -> StarFit:
    """Fit an elliptical Gaussian to the core of a star.

    Parameters
    ----------
    image : ndarray, shape (y, x)
        Unfiltered stack: a filter makes the core rounder than it is.
    x, y : float
        The star (0-based px).
    fwhm_px : float
        Its width, roughly; the fit uses the disc of this radius.

    Raises
    ------
    FitFailedError
        The fit does not converge, or the star is not in the image.
    """
    return fit_star(image, x, y, fwhm_px=fwhm_px, radius_px=fwhm_px + 0.5)


def elongation(core: StarFit) -> float:
    """Ratio of the long to the short width of a core, >= 1."""
    return core.fwhm_major_px / core.fwhm_minor_px


def find_second_peak(
    image: NDArray[np.floating], core: StarFit, half_width_px: int
) -> SecondPeak | None:
    """Look for a second star, without any reference.

    The image turned by half a turn about the star is taken off it: rings, the halo and what
    else is symmetric go away, a companion stays. What is left is smoothed as wide as the core.

    Parameters
    ----------
    image : ndarray, shape (y, x)
        Unfiltered stack; NaN where there are no data.
    core : StarFit
        `measure_core` of the star.
    half_width_px : int
        The square of 2 n + 1 px round the star is searched.

    Returns
    -------
    SecondPeak or None
        The brightest peak beyond 1.5 FWHM that has 5 % of the star's height, and 7 robust
        standard deviations of the ring that it stands in.
    """
    offsets = np.arange(-half_width_px, half_width_px + 1, dtype=np.float64)
    grid = np.meshgrid(core.y + offsets, core.x + offsets, indexing="ij")
    known = np.isfinite(image)
    level = float(np.median(image[known])) if known.any() else 0.0
    box = ndimage.map_coordinates(
        np.where(known, image, level), grid, order=1, mode="constant", cval=level
    )
    sigma = core.fwhm_px / 2.355
    smooth = ndimage.gaussian_filter(box - box[::-1, ::-1], sigma)
    star = float(ndimage.gaussian_filter(box - level, sigma)[half_width_px, half_width_px])
    if star <= 0:
        return None
    radius = np.hypot(offsets[:, None], offsets[None, :])
    near = radius < _MIN_SEPARATION_FWHM * core.fwhm_px
    significance = smooth / _ring_deviation(smooth, radius, core.fwhm_px)
    peaks = (
        (smooth == ndimage.maximum_filter(smooth, size=3))
        & (smooth > _MIN_SECOND_PEAK * star)
        & (significance > _MIN_SIGNIFICANCE)
        & ~near
        & (radius <= half_width_px)
    )
    if not peaks.any():
        return None
    row, column = np.unravel_index(int(np.argmax(np.where(peaks, smooth, -np.inf))), smooth.shape)
    return SecondPeak(
        dx_px=float(offsets[column]),
        dy_px=float(offsets[row]),
        contrast_mag=-2.5 * math.log10(float(smooth[row, column]) / star),
        significance=float(significance[row, column]),
    )


def _ring_deviation(
    image: NDArray[np.float64], radius: NDArray[np.float64], width_px: float
) -> NDArray[np.float64]:
    """Robust standard deviation of the ring that each pixel stands in."""
    ring = (radius / width_px).astype(int)
    deviation = np.array(
        [1.4826 * np.median(np.abs(image[ring == k])) for k in range(int(ring.max()) + 1)]
    )
    # Never zero: an image without noise has peaks, too.
    floor = 1e-9 * float(np.abs(image).max() or 1.0)
    return np.maximum(deviation, floor)[ring]
