"""Seeing: the width of a star in a long exposure without adaptive optics, and a night of it.

A long-exposure image through Kolmogorov turbulence has the transfer function
``exp(-3.44 (lambda f / r0)^(5/3))`` [1]_ and an FWHM of 0.976 lambda / r0. Its wings are too wide
for a Gaussian, which is drawn out by them; a Moffat whose exponent is free follows the profile to
a per cent [2]_. The Gaussian remains for images too noisy to have wings.

References
----------
.. [1] Fried 1966, J. Opt. Soc. Am. 56, 1372, doi:10.1364/JOSA.56.001372
.. [2] Trujillo et al. 2001, MNRAS 328, 977, doi:10.1046/j.1365-8711.2001.04937.x
.. [3] Huber 1964, Ann. Math. Statist. 35, 73, doi:10.1214/aoms/1177703732
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, maximum_filter, median_filter
from scipy.optimize import least_squares

from roboao_assets.science.errors import FitFailedError, NoStarError
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.star_fit import StarFit, StarModel, fit_star, radial_medians

# FWHM of a Gaussian in standard deviations; a pixel's box has a variance of 1/12 px^2.
_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
_PIXEL_FWHM_PX = _FWHM_PER_SIGMA / np.sqrt(12)
_DETECTION_SIGMA = 7.0
_MAX_CANDIDATES = 20
# The fitted box reaches this many FWHM from the star: less cuts the wings off, which then pull
# on the background; more lets neighbours in.
_BOX_HALF_FWHM = 2.5
# A Gaussian is fitted to the part of a star that looks like one.
_GAUSSIAN_RADIUS_FWHM = 1.0
# The box is binned so that its FWHM is about this many px at most: as exact, and faster.
_FIT_FWHM_PX = 15
# A lump of this many px at the star's place is its core (AO was on), not a cosmic ray.
_CORE_LUMP_PX = 4
# A neighbour matters if it is brighter than this part of the star and within the fitted box.
_NEIGHBOUR_PART = 0.2
_MIN_SAMPLES_A_COEFFICIENT = 4
_MAX_DEGREE = 3
_STANDARD_NM = 500.0


@dataclass(frozen=True, kw_only=True)
class SeeingMeasurement:
    """The seeing in one exposure.

    Attributes
    ----------
    x, y : float
        The star, 0-based px of the image.
    fwhm_arcsec : float
        Geometric mean of the FWHM along the ellipse's axes; smoothing and pixel taken out.
    fwhm_x_arcsec, fwhm_y_arcsec : float
        FWHM of the cuts along x and y; smoothing and pixel taken out.
    ellipticity : float
        1 - minor / major axis.
    beta : float
        Exponent of the Moffat; infinite for a Gaussian.
    amplitude, background : float
        Of the fit, in image units.
    snr : float
        Amplitude over the scatter of the residuals.
    model : str
    box_x0, box_y0 : int
        First column and row of `box` in the image.
    box, box_model : ndarray of float32, shape (h, w), (y, x)
        The image round the star, smoothed, and the model fitted to it.
    """

    x: float
    y: float
    fwhm_arcsec: float
    fwhm_x_arcsec: float
    fwhm_y_arcsec: float
    ellipticity: float
    beta: float
    amplitude: float
    background: float
    snr: float
    model: StarModel
    box_x0: int
    box_y0: int
    box: NDArray[np.float32]
    box_model: NDArray[np.float32]

    @property
    def residual(self) -> NDArray[np.float32]:
        """`box` less `box_model`."""
        return self.box - self.box_model


def measure_seeing(
    image: NDArray[np.floating],
    profile: InstrumentProfile,
    *,
    model: StarModel = "moffat",
    smoothing_px: float = 1.0,
    bad_pixels: NDArray[np.bool_] | None = None,
) -> SeeingMeasurement:
    """Measure the FWHM of the brightest suitable star of an AO-off exposure.

    Suitable: not closer to an edge than `profile.edge_px`, not saturated, as wide as a star can
    be, without a neighbour in its box.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Mean of the exposure's frames, calibrated, raw px. Non-finite pixels count as bad.
    profile : InstrumentProfile
    model : {'moffat', 'gaussian'}
    smoothing_px : float
        Standard deviation of the Gaussian the image is smoothed with before the fit; 0: none.
    bad_pixels : ndarray of bool, shape (y, x), optional
        True where a pixel is bad.

    Returns
    -------
    SeeingMeasurement

    Raises
    ------
    NoStarError
        If there is no suitable star.
    FitFailedError
        If the fit fails, or gives an FWHM below `profile.seeing_min_fwhm_px`.
    """
    if image.ndim != 2:
        raise ValueError(f"the image must have 2 axes (y, x), not shape {image.shape}")
    bad = ~np.isfinite(image)
    if bad_pixels is not None:
        bad |= bad_pixels
    if bad.all():
        raise NoStarError(f"all {image.size} pixels of the AO-off image are bad or not finite")
    level = float(np.median(image[~bad]))
    clean = np.where(bad, level, image).astype(np.float32)
    candidates, noise = _find_candidates(clean, profile)
    if not candidates:
        raise NoStarError(
            f"no star above {_DETECTION_SIGMA:g} sigma ({noise:.3g} after smoothing) in the AO-off "
            f"image of {image.shape[1]} x {image.shape[0]} px, {profile.edge_px} px off its edges"
        )
    reasons = []
    for x, y, _ in candidates:
        width, reason = _judge_candidate(image, bad, x, y, profile, candidates)
        if not reason:
            return _measure_star(image, bad, x, y, width, profile, model, smoothing_px)
        reasons.append(f"({x}, {y}) {reason}")
    raise NoStarError(
        f"none of the {len(candidates)} stars in the AO-off image is suitable: "
        + "; ".join(reasons[:5])
    )


def measure_fwhm_error(
    averages: Iterable[NDArray[np.floating]],
    found: SeeingMeasurement,
    profile: InstrumentProfile,
    *,
    smoothing_px: float = 1.0,
    bad_pixels: NDArray[np.bool_] | None = None,
) -> float:
    """Standard error of the FWHM, from the scatter of parts of the exposure.

    It holds what a fit's own error does not: that an exposure is a finite sample of the
    turbulence, and the noise of pixels that smoothing has made alike.

    Parameters
    ----------
    averages : iterable of ndarray, shape (y, x)
        Interleaved averages of the frames (`FrameAverager.group_images`).
    found : SeeingMeasurement
        Of all frames together.
    profile, smoothing_px, bad_pixels
        As in `measure_seeing`.

    Returns
    -------
    float
        In arcsec; NaN if fewer than two averages can be measured.
    """
    width_px = found.fwhm_arcsec / profile.plate_scale_arcsec
    widths = []
    for image in averages:
        bad = ~np.isfinite(image) if bad_pixels is None else ~np.isfinite(image) | bad_pixels
        try:
            part = _measure_star(
                image, bad, found.x, found.y, width_px, profile, found.model, smoothing_px
            )
        except FitFailedError:
            continue
        widths.append(part.fwhm_arcsec)
    if len(widths) < 2:
        return float("nan")
    return float(np.std(widths, ddof=1) / np.sqrt(len(widths)))


def reduce_to_standard(fwhm_arcsec: float, *, wavelength_nm: float, airmass: float) -> float:
    """Seeing at the zenith and 500 nm, as sites are compared.

    In Kolmogorov turbulence r0 grows with wavelength**(6/5) and falls with airmass**(3/5), and
    the FWHM is wavelength / r0 [1]_.

    Parameters
    ----------
    fwhm_arcsec : float
        Measured.
    wavelength_nm : float
        At which it was.
    airmass : float
        >= 1.
    """
    return fwhm_arcsec * airmass**-0.6 * (wavelength_nm / _STANDARD_NM) ** 0.2


def airmass_at(elevation_deg: float) -> float:
    """Airmass at an elevation (Kasten & Young 1989, doi:10.1364/AO.28.004735).

    Parameters
    ----------
    elevation_deg : float
        Above the horizon, > 0.
    """
    sine = np.sin(np.radians(elevation_deg))
    return float(1.0 / (sine + 0.50572 * (elevation_deg + 6.07995) ** -1.6364))


@dataclass(frozen=True, kw_only=True)
class SeeingSummary:
    """The seeing of a night.

    Attributes
    ----------
    times : tuple of datetime
        In time order.
    fwhm_arcsec : tuple of float
    median_arcsec, mean_arcsec : float
    coefficients : tuple of float
        Robust polynomial, highest power first, in hours since `times[0]`.
    scatter_arcsec : float
        Robust standard deviation about the polynomial.
    """

    times: tuple[datetime, ...]
    fwhm_arcsec: tuple[float, ...]
    median_arcsec: float
    mean_arcsec: float
    coefficients: tuple[float, ...]
    scatter_arcsec: float

    def evaluate(self, times: Sequence[datetime]) -> NDArray[np.float64]:
        """Return the polynomial at `times` (arcsec); beyond the measurements, the end values."""
        hours = _hours_since(times, self.times[0])
        last = (self.times[-1] - self.times[0]).total_seconds() / 3600
        return np.asarray(np.polyval(self.coefficients, np.clip(hours, 0.0, last)), np.float64)

    def nearest(self, time: datetime) -> tuple[datetime, float]:
        """Return the measurement (time, arcsec) nearest in time to `time`."""
        gaps = np.abs(_hours_since(self.times, time))
        i = int(np.argmin(gaps))
        return self.times[i], self.fwhm_arcsec[i]


def summarise_seeing(times: Sequence[datetime], fwhm_arcsec: Sequence[float]) -> SeeingSummary:
    """Summarise the seeing measurements of a night.

    The polynomial has at least 4 measurements a coefficient and at most degree 3; residuals
    beyond two robust standard deviations count linearly (Huber), so a wrong measurement does not
    bend it.

    Parameters
    ----------
    times : sequence of datetime
        Any order; all with, or all without, a time zone.
    fwhm_arcsec : sequence of float
        Of the same length.

    Returns
    -------
    SeeingSummary

    Raises
    ------
    ValueError
        If there are no measurements, the lengths differ, or an FWHM is not finite and positive.
    """
    if len(times) != len(fwhm_arcsec) or not times:
        raise ValueError(
            f"{len(times)} times and {len(fwhm_arcsec)} FWHM: as many of both, at least one"
        )
    values = np.asarray(fwhm_arcsec, dtype=np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(
            f"FWHM must be finite and positive, not {values.min():g}..{values.max():g}"
        )
    order = sorted(range(len(times)), key=lambda i: times[i])
    ordered = tuple(times[i] for i in order)
    values = values[order]
    hours = _hours_since(ordered, ordered[0])
    coefficients = _fit_polynomial(hours, values)
    residual = values - np.polyval(coefficients, hours)
    return SeeingSummary(
        times=ordered,
        fwhm_arcsec=tuple(float(v) for v in values),
        median_arcsec=float(np.median(values)),
        mean_arcsec=float(values.mean()),
        coefficients=tuple(float(c) for c in coefficients),
        scatter_arcsec=float(1.4826 * np.median(np.abs(residual))),
    )


def _find_candidates(
    clean: NDArray[np.float32], profile: InstrumentProfile
) -> tuple[list[tuple[int, int, float]], float]:
    """Peaks (x, y, height) matched to the narrowest star, brightest first; and the noise."""
    rows, columns = clean.shape[0] // 2, clean.shape[1] // 2
    # No star is narrower than some 10 px: half the resolution loses nothing and is 4 times faster.
    half = clean[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    # Hot pixels and cosmic rays do not pass a median of 3; a star does.
    half = median_filter(half, 3, mode="nearest")
    sigma = profile.seeing_min_fwhm_px / _FWHM_PER_SIGMA / 2
    matched = gaussian_filter(half, sigma, mode="nearest")
    matched -= gaussian_filter(half, profile.background_sigma_px / 2, mode="nearest", truncate=3)
    centre = float(np.median(matched))
    noise = float(1.4826 * np.median(np.abs(matched - centre)))
    peaks = matched == maximum_filter(matched, size=int(profile.seeing_min_fwhm_px) | 1)
    peaks &= matched - centre > _DETECTION_SIGMA * noise
    edge = (profile.edge_px + 1) // 2
    inside = np.zeros_like(peaks)
    inside[edge : rows - edge, edge : columns - edge] = True
    ys, xs = np.nonzero(peaks & inside)
    heights = matched[ys, xs] - centre
    order = np.argsort(-heights)[:_MAX_CANDIDATES]
    return [(2 * int(xs[i]), 2 * int(ys[i]), float(heights[i])) for i in order], noise


def _judge_candidate(  # noqa: PLR0917
    image: NDArray[np.floating],
    bad: NDArray[np.bool_],
    x: int,
    y: int,
    profile: InstrumentProfile,
    candidates: list[tuple[int, int, float]],
) -> tuple[float, str]:
    """First guess of the FWHM (px) at (x, y); and why it is no suitable star ('' if it is)."""
    reach = int(6 * profile.seeing_min_fwhm_px)
    near = (slice(max(0, y - 2), y + 3), slice(max(0, x - 2), x + 3))
    if bad[near].mean() > 0.5:
        return 0.0, "lies on bad pixels"
    saturated = np.sort(image[near][~bad[near]])[-3:].min()
    if saturated >= profile.saturation_adu:
        return 0.0, f"is saturated ({saturated:.0f} of {profile.saturation_adu:.0f} ADU)"
    part, x0, y0 = _cut_clean(image, bad, x, y, reach)
    radius, median = radial_medians(part, x - x0, y - y0, reach)
    level = float(np.median(median[-len(median) // 4 :]))
    top = float(np.median(part[max(0, y - y0 - 1) : y - y0 + 2, max(0, x - x0 - 1) : x - x0 + 2]))
    top -= level
    below = np.flatnonzero(median - level < top / 2)
    width = 2 * float(radius[below[0]] if below.size else radius[-1])
    own = next(h for cx, cy, h in candidates if (cx, cy) == (x, y))
    # The matched height of a star is at most its peak; a spike has all of it in a pixel or two.
    if top < 0.3 * own:
        return width, f"is a spike ({top:.3g} ADU without it, {own:.3g} expected)"
    for cx, cy, height in candidates:
        gap = np.hypot(cx - x, cy - y)
        if 0 < gap < _BOX_HALF_FWHM * width and height > _NEIGHBOUR_PART * own:
            return width, f"has a neighbour of {100 * height / own:.0f} % at {gap:.0f} px"
    return width, ""


def _measure_star(  # noqa: PLR0917
    image: NDArray[np.floating],
    bad: NDArray[np.bool_],
    x: float,
    y: float,
    width_px: float,
    profile: InstrumentProfile,
    model: StarModel,
    smoothing_px: float,
) -> SeeingMeasurement:
    """Fit the star in a box that grows or shrinks to suit its width, then take out the pixels."""
    for _ in range(3):
        box, x0, y0 = _cut_clean(image, bad, x, y, _BOX_HALF_FWHM * width_px)
        if smoothing_px > 0:
            box = gaussian_filter(box, smoothing_px, mode="nearest")
        bin_px = max(1, int(width_px / _FIT_FWHM_PX))
        fit = _fit_binned(box, x - x0, y - y0, width_px, bin_px, model)
        settled = abs(fit.fwhm_px - width_px) <= 0.1 * width_px
        x, y, width_px = x0 + fit.x, y0 + fit.y, min(fit.fwhm_px, 0.25 * max(image.shape))
        if settled:
            break
    narrowed = _intrinsic_widths(fit, smoothing_px, bin_px)
    fwhm_px = float(np.sqrt(narrowed[2] * narrowed[3]))
    if not fwhm_px >= profile.seeing_min_fwhm_px:
        raise FitFailedError(
            f"the star at ({x:.1f}, {y:.1f}) of the AO-off image has an FWHM of {fwhm_px:.1f} px "
            f'({fwhm_px * profile.plate_scale_arcsec:.2f}"), below the '
            f"{profile.seeing_min_fwhm_px:g} px that seeing can have: AO was on, or it is no star"
        )
    scale = profile.plate_scale_arcsec
    return SeeingMeasurement(
        x=x,
        y=y,
        fwhm_arcsec=fwhm_px * scale,
        fwhm_x_arcsec=narrowed[0] * scale,
        fwhm_y_arcsec=narrowed[1] * scale,
        ellipticity=1 - narrowed[3] / narrowed[2],
        beta=fit.beta,
        amplitude=fit.amplitude,
        background=fit.background,
        snr=fit.amplitude / fit.residual_rms if fit.residual_rms > 0 else np.inf,
        model=model,
        box_x0=x0,
        box_y0=y0,
        box=box.astype(np.float32),
        box_model=fit.evaluate(box.shape, 0, 0).astype(np.float32),
    )


def _cut_clean(
    image: NDArray[np.floating], bad: NDArray[np.bool_], x: float, y: float, half_px: float
) -> tuple[NDArray[np.float64], int, int]:
    """Box round (x, y), bad pixels and spikes replaced by their neighbours' median.

    A star is at least 10 px wide, so a 5 px median passes it; what stands far above it is a
    cosmic ray or a hot pixel. A lump at the very centre is left: it would be the core of a star
    observed with AO, whose width must tell.
    """
    half = int(np.ceil(half_px))
    x0, y0 = max(0, round(x) - half), max(0, round(y) - half)
    rows = slice(y0, min(image.shape[0], round(y) + half + 1))
    columns = slice(x0, min(image.shape[1], round(x) + half + 1))
    box = image[rows, columns].astype(np.float64)
    missing = bad[rows, columns]
    box[missing] = np.median(box[~missing])
    local = median_filter(box, 5, mode="nearest")
    excess = box - local
    noise = 1.4826 * np.median(np.abs(excess))
    # Photon noise grows with the star: allow a quarter of its light on top of the sky's noise.
    spike = excess > 6 * noise + 0.25 * np.clip(local - np.median(local), 0.0, None)
    lumps, _ = label(spike, structure=np.ones((3, 3)))
    cy, cx = round(y) - y0, round(x) - x0
    central = np.unique(lumps[max(0, cy - 2) : cy + 3, max(0, cx - 2) : cx + 3])
    for lump in central[central > 0]:
        if (lumps == lump).sum() >= _CORE_LUMP_PX:
            spike[lumps == lump] = False
    return np.where(missing | spike, local, box), x0, y0


def _fit_binned(  # noqa: PLR0917
    box: NDArray[np.float64], x: float, y: float, fwhm_px: float, bin_px: int, model: StarModel
) -> StarFit:
    """Fit the box binned by `bin_px`; the result is in px of the box."""
    rows, columns = (n // bin_px for n in box.shape)
    part = box[: rows * bin_px, : columns * bin_px]
    part = part.reshape(rows, bin_px, columns, bin_px).mean(axis=(1, 3))
    fit = fit_star(
        part,
        (x + 0.5) / bin_px - 0.5,
        (y + 0.5) / bin_px - 0.5,
        fwhm_px=max(fwhm_px, 3.0) / bin_px,
        radius_px=_GAUSSIAN_RADIUS_FWHM * fwhm_px / bin_px if model == "gaussian" else None,
        model=model,
        reject_sigma=8.0,
    )
    return replace(
        fit,
        x=(fit.x + 0.5) * bin_px - 0.5,
        y=(fit.y + 0.5) * bin_px - 0.5,
        fwhm_x_px=fit.fwhm_x_px * bin_px,
        fwhm_y_px=fit.fwhm_y_px * bin_px,
        fwhm_major_px=fit.fwhm_major_px * bin_px,
        fwhm_minor_px=fit.fwhm_minor_px * bin_px,
    )


def _intrinsic_widths(
    fit: StarFit, smoothing_px: float, bin_px: int
) -> tuple[float, float, float, float]:
    """FWHM along x, y, major and minor axis without the blur of smoothing, pixel and bin, in px.

    All in quadrature. The pixel and the bins in it are boxes: together they have the variance
    of a pixel and of `bin_px` samples a pixel apart, which is that of a box of `bin_px`.
    """
    blur = (_FWHM_PER_SIGMA * smoothing_px) ** 2 + (_PIXEL_FWHM_PX * bin_px) ** 2
    widths = (fit.fwhm_x_px, fit.fwhm_y_px, fit.fwhm_major_px, fit.fwhm_minor_px)
    x, y, major, minor = (float(np.sqrt(max(w * w - blur, 0.01))) for w in widths)
    return x, y, major, minor


def _fit_polynomial(hours: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Huber fit of a polynomial, highest power first."""
    distinct = np.unique(hours).size
    degree = int(np.clip(distinct // _MIN_SAMPLES_A_COEFFICIENT - 1, 0, _MAX_DEGREE))
    start = np.zeros(degree + 1)
    start[-1] = np.median(values)
    if values.size < 3:
        return start
    span = max(float(hours.max()), 1e-9)
    basis = np.vander(hours / span, degree + 1)

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return basis @ p - values

    solution = start
    for _ in range(5):  # the scale of the noise and the fit depend on each other
        scale = 1.4826 * float(np.median(np.abs(residual(solution))))
        solution = least_squares(
            residual, solution, lambda p: basis, loss="huber", f_scale=max(2 * scale, 1e-6)
        ).x
    return solution / span ** np.arange(degree, -1, -1)


def _hours_since(times: Sequence[datetime], start: datetime) -> NDArray[np.float64]:
    return np.array([(t - start).total_seconds() / 3600 for t in times])
