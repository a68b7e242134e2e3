"""Strehl ratio of a stacked star.

The ratio is peak / flux in a box, over the same of the diffraction-limited PSF [1]_. The published
factors hold for a PSF sampled at points, while a stack went through the detector's pixels, the
drizzle drops and the output pixels, which takes 11 % (Sloan i) to 26 % (g) off the peak of a
perfect star. The three are square boxes whose transfer functions are known and, below the
telescope's cut-off frequency, nowhere near zero: dividing by them in Fourier space and leaving out
what the telescope cannot pass gives the image as sampled at points. The sub-pixel peak of that is
the corrected one. Unlike a factor worked out for a perfect star, this is right for the halo as
well, which pixels do not blur. Both numbers are in the result.

References
----------
.. [1] Jensen-Clem, Duev, Riddle et al. 2018, AJ 155, 32, doi:10.3847/1538-3881/aa9be6
.. [2] Roberts et al. 2004, Proc. SPIE 5490, 504, doi:10.1117/12.549115
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from roboao_assets.science.background import Background, measure_background
from roboao_assets.science.diffraction import (
    cutoff_frequency,
    pixel_transfer,
    sampling_correction,
    sampling_widths_arcsec,
    strehl_factor,
)
from roboao_assets.science.errors import FitFailedError, NoStarError
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.star_fit import fit_radial_moffat, fit_star, radial_medians

# The filter falls from 1 at the cut-off to 0 at this multiple of it (where the sampling allows),
# which keeps its kernel short.
_TAPER = 1.3
# A star is looked for within this distance of the lock position (drizzled px), or within
# half a resolution element if that is more; from there uphill, to at most twice as far.
_SEARCH_PX = 2.5
_MIN_PEAK_SNR = 3.0
_MAX_MISSING = 0.2
_NOISE_PATCHES = 6
# The Gaussian is fitted to an image binned so that its FWHM is about this many px at most.
_FIT_FWHM_PX = 12
# An Airy pattern is no Gaussian. Fitted within 1 FWHM, with a free background, a Gaussian has
# the FWHM of the pattern within 4 %; within 1.5 FWHM it would come out 8 % too narrow.
_FIT_RADIUS_FWHM = 1.0


# Relative error of the method: the scatter of ratios measured on noise-free simulated stacks
# about their truth (docs/science.md). In bright stars it is larger than that of the noise.
METHOD_ERROR = 0.01


@dataclass(frozen=True, kw_only=True)
class StrehlMeasurement:
    """The Strehl ratio of a star, and what it was made of.

    Attributes
    ----------
    x, y : float
        The star, 0-based px of the image.
    ratio_percent : float
        Strehl ratio, the image as sampled at points: like compared with like.
    ratio_error_percent : float
        Its standard error: noise of the peak and of the flux, and the background's error times
        the box, which dominates. Speckles and companions are not in it.
        `total_error_percent` has that of the method too.
    uncorrected_percent : float
        The same from the peak as it is in the image.
    sampling_correction : float
        `ratio_percent` / `uncorrected_percent`.
    core_correction : float
        What that would be for a perfect star: an upper limit of it.
    peak, flux : float
        Corrected peak above the background, and flux in the Strehl box, in image units.
    background, background_error : float
        Image units a pixel.
    core_arcsec, halo_arcsec : float
        FWHM of Moffat profiles fitted within `core_fit_radius_px` of the star, and outside.
    fwhm_arcsec : float
        Of an elliptical Gaussian fitted to the core, geometric mean of the axes; pixels included.
    flag : {'OK', 'BAD?'}
        `OK` if the core is not below, and the halo not above, the profile's limit.
    box : ndarray of float32, shape (2 n + 1, 2 n + 1), (y, x)
        The image round the lock position (background not subtracted), NaN beyond its edge.
    """

    x: float
    y: float
    ratio_percent: float
    ratio_error_percent: float
    uncorrected_percent: float
    sampling_correction: float
    core_correction: float
    peak: float
    flux: float
    background: float
    background_error: float
    core_arcsec: float
    halo_arcsec: float
    fwhm_arcsec: float
    flag: Literal["OK", "BAD?"]
    box: NDArray[np.float32]

    @property
    def total_error_percent(self) -> float:
        """Standard error of the ratio with that of the method."""
        return float(np.hypot(self.ratio_error_percent, METHOD_ERROR * self.ratio_percent))


def measure_strehl(
    image: NDArray[np.floating],
    x: float,
    y: float,
    profile: InstrumentProfile,
    filter_name: str,
    *,
    pixfrac: float | None = 0.45,
    electrons_per_unit: float | None = None,
) -> StrehlMeasurement:
    """Measure the Strehl ratio of the star at the lock position.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Drizzled stack at `profile.drizzled_scale_arcsec`; NaN where nothing was drizzled.
    x, y : float
        Lock position, 0-based px of `image`, good to a couple of px.
    profile : InstrumentProfile
    filter_name : str
        A filter of the profile.
    pixfrac : float or None
        Drizzle drop in raw px. None: the image was not drizzled, its pixels are the detector's.
    electrons_per_unit : float, optional
        Detected electrons in one image unit, all frames together and divided by the excess
        noise factor: adds the star's own photon noise to the error.

    Returns
    -------
    StrehlMeasurement

    Raises
    ------
    NoStarError
        If the lock position is outside the image, or has no star (peak below 3 sigma).
    FitFailedError
        If the image lacks more than a fifth of the flux box, or the star has no positive flux.
    UnknownInstrumentError
        If the profile has no such filter.
    """
    if image.ndim != 2:
        raise ValueError(f"the image must have 2 axes (y, x), not shape {image.shape}")
    height, width = image.shape
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        raise NoStarError(
            f"the lock position ({x:.1f}, {y:.1f}) is outside the image of {width} x {height} px"
        )
    factor = strehl_factor(profile, filter_name)
    scale = profile.drizzled_scale_arcsec
    box_px = profile.strehl_flux_box_arcsec / scale
    sky = measure_background(
        image, x, y, exclude_half_px=profile.strehl_box_half_px, tile_px=box_px
    )
    point = _point_filter(profile, filter_name, pixfrac)
    reach = int(np.ceil(max(box_px / 2, point.half_px) + 2 * point.search_px)) + 2
    cut, x0, y0 = _cut_round(image, x, y, reach)
    _check_coverage(cut, x - x0, y - y0, box_px)
    cut = _fill_missing(cut - sky.level, x - x0, y - y0)
    peak, raw_peak, px, py = _find_peak(cut, x - x0, y - y0, point)
    peak_noise = _peak_noise(image, sky, point, x, y, 3 * profile.strehl_box_half_px)
    _check_star(peak, peak_noise, x, y, point.search_px)
    flux = _box_sum(cut, px, py, box_px)
    if not flux > 0:
        raise FitFailedError(
            f"the star at ({x0 + px:.1f}, {y0 + py:.1f}) has a peak of {peak:.4g} but a flux of "
            f'{flux:.4g} in the {profile.strehl_flux_box_arcsec}" box; background {sky.level:.4g}'
        )
    error = _relative_error(peak, flux, peak_noise, sky, box_px, point, electrons_per_unit)
    ratio = 100 * peak / flux / factor
    core, halo, fwhm, fitted = _measure_widths(cut, px, py, profile, raw_peak)
    good = (
        fitted
        and core * scale >= profile.core_limit_arcsec
        and halo * scale <= profile.halo_limit_arcsec
    )
    return StrehlMeasurement(
        x=x0 + px,
        y=y0 + py,
        ratio_percent=ratio,
        ratio_error_percent=ratio * error,
        uncorrected_percent=100 * raw_peak / flux / factor,
        sampling_correction=peak / raw_peak,
        core_correction=sampling_correction(profile, filter_name, pixfrac),
        peak=peak,
        flux=flux,
        background=sky.level,
        background_error=sky.level_error,
        core_arcsec=core * scale,
        halo_arcsec=halo * scale,
        fwhm_arcsec=fwhm * scale,
        flag="OK" if good else "BAD?",
        box=_cut_round(image, x, y, profile.strehl_box_half_px)[0].astype(np.float32),
    )


@dataclass(frozen=True)
class _PointFilter:
    """Filters on a (2 half + 1)^2 window: band limit, with and without undoing the pixels."""

    half_px: int
    search_px: float
    restore: NDArray[np.float64]
    band: NDArray[np.float64]

    @property
    def noise_gain(self) -> float:
        """Standard deviation of the restored image for white noise of 1."""
        return float(np.sqrt((self.restore**2).mean()))


def _point_filter(
    profile: InstrumentProfile, filter_name: str, pixfrac: float | None
) -> _PointFilter:
    return _make_point_filter(
        cutoff_frequency(profile, filter_name) * profile.drizzled_scale_arcsec,
        tuple(w / profile.drizzled_scale_arcsec for w in sampling_widths_arcsec(profile, pixfrac)),
    )


@lru_cache(maxsize=32)
def _make_point_filter(cutoff: float, widths_px: tuple[float, ...]) -> _PointFilter:
    """Build the filters; `cutoff` in cycles per px, at most 0.5 (what the sampling carries)."""
    edge = min(cutoff, 0.5)
    end = max(min(_TAPER * cutoff, 0.5), edge + 1e-9)
    # The kernel of the taper has died out after some 2.5 of its periods.
    half = int(np.clip(np.ceil(2.5 / max(end - edge, 0.04)), 16, 62))
    while max(_prime_factors(2 * half + 1)) > 7:
        half += 1
    f = fft.fftfreq(2 * half + 1)
    radius = np.hypot(f[:, None], f[None, :])
    band = np.where(
        radius <= edge,
        1.0,
        np.where(radius < end, 0.5 * (1 + np.cos(np.pi * (radius - edge) / (end - edge))), 0.0),
    )
    pixels = pixel_transfer(f, widths_px)
    # A raw pixel's transfer stays above 0.1 in the band at any sampling worth the name (less than
    # 1.4 px to lambda / D); the floor keeps noise finite where it does not.
    restore = band / np.maximum(pixels[:, None] * pixels[None, :], 0.1)
    return _PointFilter(half, max(_SEARCH_PX, 0.5 / cutoff), restore, band)


def _prime_factors(n: int) -> list[int]:
    factors, divisor = [], 2
    while divisor * divisor <= n:
        if n % divisor == 0:
            factors.append(divisor)
            n //= divisor
        else:
            divisor += 1
    return [*factors, n]


def _cut_round(
    image: NDArray[np.floating], x: float, y: float, half: int
) -> tuple[NDArray[np.float64], int, int]:
    """Cut (2 half + 1)^2 px round (x, y), NaN beyond the edge; and its first column and row."""
    x0, y0 = round(x) - half, round(y) - half
    cut = np.full((2 * half + 1, 2 * half + 1), np.nan)
    ya, yb = max(y0, 0), min(y0 + cut.shape[0], image.shape[0])
    xa, xb = max(x0, 0), min(x0 + cut.shape[1], image.shape[1])
    cut[ya - y0 : yb - y0, xa - x0 : xb - x0] = image[ya:yb, xa:xb]
    return cut, x0, y0


def _check_coverage(cut: NDArray[np.float64], x: float, y: float, box_px: float) -> None:
    missing = _box_sum(np.where(np.isfinite(cut), 0.0, 1.0), x, y, box_px) / box_px**2
    near = cut[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
    if missing > _MAX_MISSING or not np.isfinite(near).any():
        raise FitFailedError(
            f"{100 * missing:.0f} % of the {box_px:.0f} px flux box around the lock position has "
            f"no data (at most {100 * _MAX_MISSING:.0f} % may be missing): the star is too close "
            "to the edge of the stack"
        )


def _fill_missing(cut: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """Fill pixels without data by their counterparts across the star, else by the background.

    A star is symmetric to first order; leaving the pixels out would count their light as missing.
    """
    missing = ~np.isfinite(cut)
    if not missing.any():
        return cut
    rows, columns = np.nonzero(missing)
    across_y, across_x = round(2 * y) - rows, round(2 * x) - columns
    inside = (
        (across_y >= 0) & (across_y < cut.shape[0]) & (across_x >= 0) & (across_x < cut.shape[1])
    )
    values = np.zeros(rows.size)
    values[inside] = cut[across_y[inside], across_x[inside]]
    filled = cut.copy()
    filled[rows, columns] = np.where(np.isfinite(values), values, 0.0)
    return filled


def _box_sum(image: NDArray[np.float64], x: float, y: float, side: float) -> float:
    """Sum over a square centred on (x, y), pixels at its edge counted by their share."""

    def share(n: int, centre: float) -> NDArray[np.float64]:
        i = np.arange(n)
        upper = np.minimum(i + 0.5, centre + side / 2)
        return np.clip(upper - np.maximum(i - 0.5, centre - side / 2), 0.0, None)

    return float(share(image.shape[0], y) @ image @ share(image.shape[1], x))


def _find_peak(
    cut: NDArray[np.float64], x: float, y: float, point: _PointFilter
) -> tuple[float, float, float, float]:
    """Corrected peak, peak as it is, and position of the star next to (x, y)."""
    half = point.half_px
    window, x0, y0 = _cut_round(cut, x, y, half)
    window = np.nan_to_num(window)
    smooth = fft.ifft2(fft.fft2(window) * point.restore).real
    rows, columns = np.indices(smooth.shape)
    distance = np.hypot(columns + x0 - x, rows + y0 - y)
    at = np.argmax(np.where(distance <= point.search_px, smooth, -np.inf))
    row, column = np.unravel_index(at, smooth.shape)
    while True:  # uphill: ends, as the value rises at every step
        near = smooth[row - 1 : row + 2, column - 1 : column + 2]
        step = np.unravel_index(np.argmax(near), near.shape)
        to = row + step[0] - 1, column + step[1] - 1
        if to == (row, column) or distance[to] > 2 * point.search_px:
            break
        row, column = to
    window, x0, y0 = _cut_round(cut, float(x0 + column), float(y0 + row), half)
    spectrum = fft.fft2(np.nan_to_num(window))
    restored, plain = spectrum * point.restore, spectrum * point.band
    px = py = float(half)
    for step_px in (0.25, 0.05):
        offsets = step_px * np.arange(-4, 5)
        values = _evaluate(restored, px + offsets, py + offsets)
        row, column = np.unravel_index(np.argmax(values), values.shape)
        px, py = px + offsets[column], py + offsets[row]
    peak = _evaluate(restored, np.array([px]), np.array([py]))[0, 0]
    raw_peak = _evaluate(plain, np.array([px]), np.array([py]))[0, 0]
    return float(peak), float(raw_peak), x0 + px, y0 + py


def _evaluate(
    spectrum: NDArray[np.complex128], xs: NDArray[np.floating], ys: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Values of a band-limited window at the grid of `xs` and `ys`."""
    n = spectrum.shape[0]
    f = fft.fftfreq(n)
    waves_y = np.exp(2j * np.pi * np.outer(ys, f))
    waves_x = np.exp(2j * np.pi * np.outer(f, xs))
    return (waves_y @ spectrum @ waves_x).real / n**2


def _peak_noise(  # noqa: PLR0917
    image: NDArray[np.floating],
    sky: Background,
    point: _PointFilter,
    x: float,
    y: float,
    exclude_px: float,
) -> float:
    """Standard deviation of the corrected peak from background noise, measured on the sky.

    Drizzle correlates the noise of neighbours, so patches of sky go through the same filter. A
    frame without room for them is taken for white noise.
    """
    side = 2 * point.half_px + 1
    centres_y = np.linspace(side, image.shape[0] - side, 6).astype(int)
    centres_x = np.linspace(side, image.shape[1] - side, 6).astype(int)
    patches: list[NDArray[np.floating]] = []
    for cy in centres_y:
        for cx in centres_x:
            if len(patches) == _NOISE_PATCHES or max(abs(cx - x), abs(cy - y)) < exclude_px:
                continue
            patch = image[cy - point.half_px :, cx - point.half_px :][:side, :side]
            if patch.shape == (side, side) and np.isfinite(patch).all():
                patches.append(patch)
    if patches:
        smooth = fft.ifft2(fft.fft2(np.array(patches) - sky.level) * point.restore).real
        smooth -= np.median(smooth, axis=(1, 2), keepdims=True)
        return float(np.median(1.4826 * np.median(np.abs(smooth), axis=(1, 2))))
    return sky.sum_noise(1.0) * point.noise_gain


def _check_star(peak: float, noise: float, x: float, y: float, search_px: float) -> None:
    if not peak > _MIN_PEAK_SNR * noise:
        raise NoStarError(
            f"no star within {search_px:.1f} px of the lock position ({x:.1f}, {y:.1f}): the peak "
            f"is {peak:.4g} above the background, whose noise is {noise:.4g} "
            f"({_MIN_PEAK_SNR:g} times as much is needed)"
        )


def _relative_error(  # noqa: PLR0917
    peak: float,
    flux: float,
    peak_noise: float,
    sky: Background,
    box_px: float,
    point: _PointFilter,
    electrons_per_unit: float | None,
) -> float:
    """Relative standard error of peak / flux."""
    peak_variance = peak_noise**2
    flux_variance = sky.sum_noise(box_px**2) ** 2
    if electrons_per_unit is not None:
        peak_variance += peak * point.noise_gain**2 / electrons_per_unit
        flux_variance += flux / electrons_per_unit
    # A level too low by e raises the peak by e and the flux by e times the box.
    from_level = sky.level_error * (box_px**2 / flux - 1 / peak)
    return float(np.sqrt(peak_variance / peak**2 + flux_variance / flux**2 + from_level**2))


def _measure_widths(
    cut: NDArray[np.float64], x: float, y: float, profile: InstrumentProfile, peak: float
) -> tuple[float, float, float, bool]:
    """FWHM of core, halo and Gaussian core in px, and whether all three fits succeeded."""
    outer = profile.strehl_flux_box_arcsec / profile.drizzled_scale_arcsec / 2
    radius, median = radial_medians(cut, x, y, outer)
    guess = _half_maximum_width(radius, median, peak)
    limit = 4 * outer
    inner = int(np.ceil(profile.core_fit_radius_px)) + 1
    rows, columns = np.mgrid[
        round(y) - inner : round(y) + inner + 1, round(x) - inner : round(x) + inner + 1
    ]
    distance = np.hypot(columns - x, rows - y)
    use = distance <= profile.core_fit_radius_px
    core = fit_radial_moffat(
        distance[use], cut[rows[use], columns[use]], fwhm_px=guess, max_fwhm_px=limit
    ).fwhm_px
    fitted = True
    outside = radius > profile.core_fit_radius_px
    try:
        halo = fit_radial_moffat(
            radius[outside], median[outside], fwhm_px=4 * guess, max_fwhm_px=limit
        ).fwhm_px
    except FitFailedError:  # nothing but a spike: no light outside the core
        halo, fitted = 0.0, False
    try:
        fwhm = _fit_fwhm(cut, x, y, guess)
    except FitFailedError:  # noise: the half-maximum crossing of the profile is what there is
        fwhm, fitted = guess, False
    return core, halo, fwhm, fitted


def _half_maximum_width(
    radius: NDArray[np.float64], median: NDArray[np.float64], peak: float
) -> float:
    """Twice the radius at which the profile first falls below half the peak."""
    below = np.flatnonzero(median < peak / 2)
    if not below.size:
        return 2 * float(radius[-1])
    i = int(below[0])
    r0, v0 = (float(radius[i - 1]), float(median[i - 1])) if i else (0.0, peak)
    return 2 * (r0 + (float(radius[i]) - r0) * (v0 - peak / 2) / (v0 - float(median[i])))


def _fit_fwhm(cut: NDArray[np.float64], x: float, y: float, guess_px: float) -> float:
    """FWHM of a Gaussian fitted to the core, in px; a wide star is binned first, for speed."""
    bin_px = max(1, int(guess_px / _FIT_FWHM_PX))
    rows, columns = (n // bin_px for n in cut.shape)
    part = cut[: rows * bin_px, : columns * bin_px]
    if bin_px > 1:
        part = part.reshape(rows, bin_px, columns, bin_px).mean(axis=(1, 3))
    fit = fit_star(
        part,
        (x + 0.5) / bin_px - 0.5,
        (y + 0.5) / bin_px - 0.5,
        fwhm_px=guess_px / bin_px,
        radius_px=max(2.5, _FIT_RADIUS_FWHM * guess_px / bin_px),
    )
    return fit.fwhm_px * bin_px
