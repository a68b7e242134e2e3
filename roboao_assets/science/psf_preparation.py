"""A star cut out, high-pass filtered and centred on a pixel: the form in which PSFs are compared.

The frames of the PSF library and the science frames go through the same
`prepare_psf`. All its steps (fill, filter, resample) but the recentring itself
are linear in the image, so a companion of contrast c is, after the filter, still
c times the filtered star: contrasts may be measured on filtered frames.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.errors import FitFailedError, OutsideOfDataError
from roboao_assets.science.star_fit import StarFit, fit_star

# Smallest half-width (px) in which a star, its surroundings and a background ring fit.
MIN_HALF_WIDTH_PX = 8
# More of the box than this missing: nothing can be said about the star's surroundings.
MAX_MISSING_FRACTION = 0.10

_B3_SPLINE = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
# Reach of the spline that resamples the box (px): the box is cut that much larger.
_RESAMPLING_MARGIN_PX = 8
# What a stack must have round the box of the prepared frame, with 5 px for the recentring.
PREPARATION_MARGIN_PX = 5 + _RESAMPLING_MARGIN_PX + 1
_CENTRE_TOLERANCE_PX = 0.003
_MAX_CENTRE_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class PreparedPsf:
    """A star ready for the PSF library or for reference-star subtraction.

    Attributes
    ----------
    frame : ndarray, float32, shape (2 h + 1, 2 h + 1), axes (y, x)
        The star, centred on pixel (x, y) = (h, h), background subtracted.
    shift_x_px, shift_y_px : float
        Fitted centre of the star minus the position that was given.
    fwhm_px : float
        Geometric mean of the two FWHM of the Gaussian fitted to `frame`'s core; the filter
        narrows it.
    missing_fraction : float
        Fraction of the box that had to be filled.
    preparation : str
        What was done to the frame, in words: frames are comparable only if these are equal.
    """

    frame: NDArray[np.float32]
    shift_x_px: float
    shift_y_px: float
    fwhm_px: float
    missing_fraction: float
    preparation: str


def iuwt_planes(image: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """Detail planes of the isotropic undecimated wavelet transform, finest first.

    With c_0 the image and h_j the B3-spline filter with 2**j - 1 zeros between its
    taps, c_(j+1) = h_j c_j and the detail is w_(j+1) = c_j - h_j c_(j+1) ("second
    generation" starlet). The image is mirrored at its edges.

    Parameters
    ----------
    image : ndarray, shape (..., y, x)
        Finite everywhere.
    count : int
        Number of planes, >= 1.

    Returns
    -------
    ndarray, float64, shape (count, ..., y, x)

    References
    ----------
    Starck, Fadili & Murtagh 2007, doi:10.1109/TIP.2006.887733.
    """
    if count < 1:
        raise ValueError(f"at least one wavelet plane is needed, {count} were asked for")
    coarse = np.asarray(image, dtype=np.float64)
    planes = np.empty((count, *coarse.shape))
    for scale in range(count):
        smoother = _smooth_a_trous(coarse, scale)
        planes[scale] = coarse - _smooth_a_trous(smoother, scale)
        coarse = smoother
    return planes


def filter_highpass(image: NDArray[np.floating], planes: int) -> NDArray[np.float64]:
    """Sum of the `planes` finest wavelet planes of `image` (see `iuwt_planes`)."""
    return iuwt_planes(image, planes).sum(axis=0)


def _smooth_a_trous(image: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    taps = np.zeros(4 * 2**scale + 1)
    taps[:: 2**scale] = _B3_SPLINE
    for axis in (-2, -1):
        image = ndimage.correlate1d(image, taps, axis=axis, mode="reflect")
    return image


def _fit_core(image: NDArray[np.floating], x: float, y: float, fwhm_px: float) -> StarFit:
    """Gaussian and constant fitted to the disc of one FWHM radius round the star at (x, y)."""
    return fit_star(image, x, y, fwhm_px=fwhm_px, radius_px=fwhm_px + 0.5)


def _estimate_fwhm(image: NDArray[np.floating], x: float, y: float) -> float:
    """Diameter (px) of the disc with the area of the star's pixels above half of its peak."""
    reach = min(round(x), round(y), image.shape[1] - 1 - round(x), image.shape[0] - 1 - round(y))
    reach = int(np.clip(reach, 1, 40))
    window = image[
        max(round(y) - reach, 0) : round(y) + reach + 1,
        max(round(x) - reach, 0) : round(x) + reach + 1,
    ]
    core = image[max(round(y) - 1, 0) : round(y) + 2, max(round(x) - 1, 0) : round(x) + 2]
    background = np.median(window)
    regions, _ = ndimage.label(window > background + 0.5 * (core.max() - background))
    centre = regions[min(round(y), reach), min(round(x), reach)]
    area = int((regions == centre).sum()) if centre else 1
    return 2.0 * math.sqrt(area / math.pi)


def prepare_psf(
    image: NDArray[np.floating],
    x: float,
    y: float,
    half_width_px: int,
    *,
    highpass: bool = True,
    highpass_coefficient: int = 5,
    highpass_planes: int | None = None,
    max_recentre_px: float = 5.0,
) -> PreparedPsf:
    """Cut the star at (x, y) out of a stack, filter it and centre it on a pixel.

    Pixels of the box that are outside the image or not finite are filled: from their
    neighbours (Gaussian weights, sigma 1.5 px) where there are any, else with the median of
    the box's outer ring; that median is also subtracted as the background. The IUWT high-pass
    keeps the finest wavelet planes. A 2-D Gaussian is fitted to the core, and the box is
    resampled about its centre (quintic spline) until the fit finds the star on the central
    pixel.

    Parameters
    ----------
    image : ndarray, shape (y, x)
        Drizzled stack; NaN where there are no data.
    x, y : float
        Lock position of the star (0-based px).
    half_width_px : int
        h; the box has 2 h + 1 pixels a side.
    highpass : bool
        False: no filter.
    highpass_coefficient : int
        Number of wavelet planes of the decomposition; what is coarser is removed.
    highpass_planes : int, optional
        How many of these planes, finest first, are kept; by default all. The original archive
        decomposed into 5 and kept 2.
    max_recentre_px : float
        Largest credible distance of the fitted centre from (x, y).

    Returns
    -------
    PreparedPsf

    Raises
    ------
    OutsideOfDataError
        More than 10 % of the box has no data.
    FitFailedError
        The Gaussian fit failed, or the star is further than `max_recentre_px` from (x, y).
    ValueError
        An argument is out of its range.

    References
    ----------
    Jensen-Clem et al. 2017, doi:10.3847/1538-3881/aa8ce5, section 3.3.
    """
    planes = highpass_coefficient if highpass_planes is None else highpass_planes
    _check_arguments(image, x, y, half_width_px, highpass_coefficient, planes)
    margin = math.ceil(max_recentre_px) + _RESAMPLING_MARGIN_PX
    box, missing_fraction = _cut_box(image, round(x), round(y), half_width_px, margin)
    if highpass:
        box = filter_highpass(box, planes)
        preparation = f"IUWT high-pass, {planes} finest planes"
    else:
        preparation = "background subtracted"
    middle = half_width_px + margin
    frame, centre, core = _centre_star(
        box, middle + x - round(x), middle + y - round(y), half_width_px, max_recentre_px
    )
    return PreparedPsf(
        frame=frame.astype(np.float32),
        shift_x_px=centre[0] - (middle + x - round(x)),
        shift_y_px=centre[1] - (middle + y - round(y)),
        fwhm_px=core.fwhm_px,
        missing_fraction=missing_fraction,
        preparation=preparation,
    )


def prepare_short_stacks(
    stacks: NDArray[np.floating],
    star: PreparedPsf,
    *,
    highpass: bool = True,
    highpass_coefficient: int = 5,
    highpass_planes: int | None = None,
) -> NDArray[np.float32]:
    """Prepare the short stacks of a star as its whole stack was prepared, about the same centre.

    Parameters
    ----------
    stacks : ndarray, shape (n, y, x)
        The lock position is their central pixel, with `PREPARATION_MARGIN_PX` to spare round
        the box; NaN where there are no data.
    star : PreparedPsf
        Of the whole stack.
    highpass, highpass_coefficient, highpass_planes
        As in `prepare_psf`.

    Returns
    -------
    ndarray, float32, shape (n, 2 h + 1, 2 h + 1)

    Raises
    ------
    OutsideOfDataError
        More than 10 % of a box has no data.
    """
    half = star.frame.shape[0] // 2
    margin = PREPARATION_MARGIN_PX - 1
    middle = stacks.shape[1] // 2
    boxes = np.array([_cut_box(stack, middle, middle, half, margin)[0] for stack in stacks])
    if highpass:
        planes = highpass_coefficient if highpass_planes is None else highpass_planes
        boxes = filter_highpass(boxes, planes)
    offsets = np.arange(-half, half + 1, dtype=np.float64) + half + margin
    grid = np.meshgrid(offsets + star.shift_y_px, offsets + star.shift_x_px, indexing="ij")
    prepared = np.empty((len(boxes), *star.frame.shape), np.float32)
    for box, frame in zip(boxes, prepared, strict=True):
        ndimage.map_coordinates(box, grid, output=frame, order=5, mode="mirror")
    return prepared


def _check_arguments(
    image: NDArray[np.floating],
    x: float,
    y: float,
    half_width_px: int,
    coefficient: int,
    planes: int,
) -> None:
    if image.ndim != 2:
        raise ValueError(f"the image must have 2 axes (y, x), it has shape {image.shape}")
    if not (0 <= x <= image.shape[1] - 1 and 0 <= y <= image.shape[0] - 1):
        raise ValueError(f"the star at x {x}, y {y} px is outside the image of {image.shape} px")
    if half_width_px < MIN_HALF_WIDTH_PX:
        raise ValueError(
            f"the box's half-width must be at least {MIN_HALF_WIDTH_PX} px, it is {half_width_px}"
        )
    if not 1 <= planes <= coefficient:
        raise ValueError(
            f"from 1 to {coefficient} wavelet planes can be kept, {planes} were asked for"
        )


def _cut_box(
    image: NDArray[np.floating], x: int, y: int, half_width_px: int, margin: int
) -> tuple[NDArray[np.float64], float]:
    """Cut the box and its margin, background subtracted and filled; fraction of the box missing."""
    reach = half_width_px + margin
    padded = np.full((2 * reach + 1, 2 * reach + 1), np.nan)
    rows = slice(max(y - reach, 0), min(y + reach + 1, image.shape[0]))
    columns = slice(max(x - reach, 0), min(x + reach + 1, image.shape[1]))
    top, left = rows.start - (y - reach), columns.start - (x - reach)
    cut = image[rows, columns]
    padded[top : top + cut.shape[0], left : left + cut.shape[1]] = cut

    box = padded[margin:-margin, margin:-margin]
    missing_fraction = 1.0 - float(np.isfinite(box).mean())
    if missing_fraction > MAX_MISSING_FRACTION:
        raise OutsideOfDataError(
            f"the box of {box.shape[1]} x {box.shape[0]} px round the star at x {x}, y {y} px has "
            f"no data in {100 * missing_fraction:.0f} % of its pixels (at most "
            f"{100 * MAX_MISSING_FRACTION:.0f} % can be filled); the image has "
            f"{image.shape[1]} x {image.shape[0]} px: the star is too close to its edge, or too "
            f"much of it is masked"
        )
    width = max(2, half_width_px // 10)
    ring = np.ones(box.shape, dtype=bool)
    ring[width:-width, width:-width] = False
    ring &= np.isfinite(box)
    padded -= np.median(box[ring]) if ring.any() else np.nanmedian(box)
    return _fill_missing(padded), missing_fraction


def _fill_missing(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill what is not finite from the neighbours, and with zero where there are none."""
    good = np.isfinite(image)
    if good.all():
        return image
    known = np.where(good, image, 0.0)
    options = {"sigma": 1.5, "truncate": 2.0, "mode": "constant"}
    weight = ndimage.gaussian_filter(good.astype(np.float64), **options)
    smooth = ndimage.gaussian_filter(known, **options)
    # Below a tenth of the full weight a fill would be one far pixel's noise.
    near = weight > 0.1
    filled = np.where(near, smooth / np.where(near, weight, 1.0), 0.0)
    return np.where(good, image, filled)


def _centre_star(
    box: NDArray[np.float64], x: float, y: float, half_width_px: int, max_recentre_px: float
) -> tuple[NDArray[np.float64], tuple[float, float], StarFit]:
    """Resample `box` about the star near (x, y): frame, the star's centre in `box`, its core."""
    peak_x, peak_y = _find_peak(box, x, y, max_recentre_px)
    # The same disc in every round: beside a close companion one that is chosen anew swings.
    fwhm_px = max(2.0, _estimate_fwhm(box, peak_x, peak_y))
    core = _fit_core(box, peak_x, peak_y, fwhm_px)
    centre_x, centre_y = core.x, core.y
    coefficients = ndimage.spline_filter(box, order=5, mode="mirror")
    offsets = np.arange(-half_width_px, half_width_px + 1, dtype=np.float64)
    for _ in range(_MAX_CENTRE_ROUNDS):
        distance = math.hypot(centre_x - x, centre_y - y)
        if distance > max_recentre_px:
            raise FitFailedError(
                f"the star's Gaussian centre is {distance:.2f} px from its lock position, more "
                f"than the {max_recentre_px:g} px that are credible: the lock position is wrong, "
                f"or the star is not single"
            )
        grid = np.meshgrid(centre_y + offsets, centre_x + offsets, indexing="ij")
        frame = ndimage.map_coordinates(coefficients, grid, order=5, mode="mirror", prefilter=False)
        core = _fit_core(frame, half_width_px, half_width_px, fwhm_px)
        error_x, error_y = core.x - half_width_px, core.y - half_width_px
        if math.hypot(error_x, error_y) < _CENTRE_TOLERANCE_PX:
            return frame, (centre_x, centre_y), core
        centre_x, centre_y = centre_x + error_x, centre_y + error_y
    raise FitFailedError(
        f"the star could not be centred: after {_MAX_CENTRE_ROUNDS} rounds the Gaussian fit is "
        f"still {math.hypot(error_x, error_y):.3f} px off the central pixel"
    )


def _find_peak(
    box: NDArray[np.float64], x: float, y: float, max_recentre_px: float
) -> tuple[int, int]:
    """Brightest pixel, lightly smoothed, within the credible distance of (x, y)."""
    smooth = ndimage.gaussian_filter(box, 1.0)
    grid_y, grid_x = np.ogrid[: box.shape[0], : box.shape[1]]
    far = np.hypot(grid_x - x, grid_y - y) > max_recentre_px + 1.0
    peak = int(np.argmax(np.where(far, -np.inf, smooth)))
    return peak % box.shape[1], peak // box.shape[1]
