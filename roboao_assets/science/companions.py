"""Point sources in a residual: signal-to-noise map, candidates and their astrometry.

At the few resolution elements that there are close to a star, a sample standard deviation
is uncertain itself: the significance follows Student's t (Mawet et al. 2014,
doi:10.1088/0004-637X/792/2/97).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, stats

from roboao_assets.science.companion_response import aperture_fluxes
from roboao_assets.science.false_alarms import expected_as_significant, expected_false_alarms
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.rdi_pca import PrincipalComponents

# A ring with fewer noise apertures than this has no usable standard deviation.
MIN_NOISE_APERTURES = 3


@dataclass(frozen=True, kw_only=True)
class SignalToNoiseMap:
    """Signal-to-noise ratio of a point source at every pixel of a residual.

    Attributes
    ----------
    flux : ndarray, float64, shape (y, x)
        Flux in an aperture of one FWHM in diameter.
    snr : ndarray, float64, shape (y, x)
        NaN closer than 1 FWHM to the star (the central pixel) and where the ring of
        apertures leaves the frame.
    noise_apertures : ndarray, int64, shape (y, x)
        Apertures that the noise at that pixel was measured in; 0 where `snr` is NaN.
    """

    flux: NDArray[np.float64]
    snr: NDArray[np.float64]
    noise_apertures: NDArray[np.int64]

    def false_alarm_probability(self, x: int, y: int) -> float:
        """Probability that noise alone gives such a ratio in one given resolution element."""
        return float(stats.t.sf(self.snr[y, x], self.noise_apertures[y, x] - 1))

    def false_alarms(self, snr_threshold: float) -> float:
        """Expected number of peaks above a threshold that noise alone gives in the map."""
        return expected_false_alarms(snr_threshold, self.snr, self.noise_apertures)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A point source found beside the star.

    Attributes
    ----------
    separation_arcsec, pa_deg : float
        From the star; position angle east of north.
    contrast_mag : float
        Magnitude difference to the star, positive if fainter.
    snr : float
        Signal-to-noise ratio of Mawet et al. 2014 at the peak.
    false_alarm_probability : float
        That noise alone gives a peak as significant anywhere in the frame.
    x, y : float
        Position in the residual (0-based px).
    """

    separation_arcsec: float
    pa_deg: float
    contrast_mag: float
    snr: float
    false_alarm_probability: float
    x: float
    y: float


def snr_map(residual: NDArray[np.floating], fwhm_px: float) -> SignalToNoiseMap:
    """Signal-to-noise ratio at every pixel against the other apertures at its separation.

    The signal is the flux in an aperture of one FWHM in diameter minus the mean of the
    non-overlapping apertures on the same ring; the noise is their standard deviation times
    sqrt(1 + 1 / n) (Mawet et al. 2014, equation 9). Aperture fluxes between pixel centres
    are interpolated (cubic spline) in the map of aperture fluxes at the centres.

    Parameters
    ----------
    residual : ndarray, shape (2 h + 1, 2 h + 1)
        The star is at the central pixel.
    fwhm_px : float
        Size of a resolution element.
    """
    _check_frame(residual, fwhm_px)
    half = residual.shape[0] // 2
    fluxes = aperture_fluxes(residual, fwhm_px)
    offset_y, offset_x = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(offset_x, offset_y)
    usable = (radius >= fwhm_px) & (radius <= half - fwhm_px / 2)
    # Apertures that touch each other subtend this angle from the star.
    step = 2.0 * np.arcsin(fwhm_px / 2.0 / np.where(usable, radius, np.inf))
    apertures = np.where(usable, np.floor(2 * np.pi / np.where(usable, step, 1.0)), 0).astype(int)
    usable &= apertures > MIN_NOISE_APERTURES

    snr = np.full(residual.shape, np.nan)
    coefficients = ndimage.spline_filter(fluxes, order=3, mode="mirror")
    for count in np.unique(apertures[usable]):
        at = usable & (apertures == count)
        turn = step[at] * np.arange(1, count)[:, None]
        cosine, sine = np.cos(turn), np.sin(turn)
        x, y = offset_x[at], offset_y[at]
        ring = ndimage.map_coordinates(
            coefficients,
            [half - sine * x + cosine * y, half + cosine * x + sine * y],
            order=3,
            mode="mirror",
            prefilter=False,
        )
        noise = ring.std(axis=0, ddof=1) * math.sqrt(1 + 1 / (count - 1))
        signal = fluxes[at] - ring.mean(axis=0)
        snr[at] = signal / np.where(noise > 0, noise, np.inf)
    return SignalToNoiseMap(
        flux=fluxes, snr=snr, noise_apertures=np.where(usable, apertures - 1, 0)
    )


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What a search for companions found.

    Attributes
    ----------
    residual : ndarray, float64, shape (2 h + 1, 2 h + 1)
        What the subtraction left of the frame.
    candidates : tuple of Candidate
        The most significant first.
    significance : SignalToNoiseMap
        Of the residual as it was before anything was taken off.
    false_alarms : float
        Candidates that noise alone is expected to give above the threshold.
    companions : ndarray, float64, shape (2 h + 1, 2 h + 1)
        Model of the candidates' light in the frame, before the subtraction.
    """

    residual: NDArray[np.float64]
    candidates: tuple[Candidate, ...]
    significance: SignalToNoiseMap
    false_alarms: float
    companions: NDArray[np.float64]


def detect_candidates(
    frame: NDArray[np.floating],
    components: PrincipalComponents,
    fwhm_px: float,
    profile: InstrumentProfile,
    *,
    snr_threshold: float = 5.0,
    max_candidates: int = 5,
) -> Detection:
    """Find companions in the residual of a frame.

    The brightest significant peak is fitted (position and contrast) with what the subtraction
    leaves of a scaled and shifted copy of the star itself, so that the flux which the
    subtraction takes is made up for. The fit is taken off and the search repeated, until no
    peak reaches `snr_threshold`. Brightest first, as a companion has all that the star has:
    its diffraction rings, and its image in any ghost, go away with it.

    Parameters
    ----------
    frame : ndarray, shape (2 h + 1, 2 h + 1)
        Prepared science frame, star on the central pixel.
    components : PrincipalComponents
        What was subtracted.
    fwhm_px : float
        Size of a resolution element.
    profile : InstrumentProfile
        Plate scale of the drizzled frame and its orientation on the sky.
    snr_threshold : float
        Peaks below are no candidates.
    max_candidates : int
        The search ends with this many.
    """
    star = np.asarray(frame, dtype=np.float64)
    half = star.shape[0] // 2
    left = residual = components.subtract(star)
    coefficients = ndimage.spline_filter(star, order=3, mode="constant")
    companions = np.zeros_like(star)
    found: list[tuple[float, Candidate]] = []
    first = significance = snr_map(residual, fwhm_px)
    while len(found) < max_candidates:
        peak = _brightest_peak(significance, snr_threshold)
        if peak is None:
            break
        fit = _fit_companion(residual, coefficients, components, peak, fwhm_px)
        if fit.contrast <= 0:
            break
        dx, dy = fit.x - half, fit.y - half
        probability = significance.false_alarm_probability(*peak)
        expected = expected_as_significant(probability, first.snr, first.noise_apertures)
        candidate = Candidate(
            separation_arcsec=math.hypot(dx, dy) * profile.drizzled_scale_arcsec,
            pa_deg=profile.position_angle_deg(dx, dy),
            contrast_mag=-2.5 * math.log10(fit.contrast),
            snr=float(significance.snr[peak[1], peak[0]]),
            false_alarm_probability=-math.expm1(-expected),
            x=fit.x,
            y=fit.y,
        )
        found.append((probability, candidate))
        companions += fit.contrast * fit.light
        residual = residual - fit.contrast * components.subtract(fit.light)
        significance = snr_map(residual, fwhm_px)
    found.sort(key=lambda item: item[0])
    return Detection(
        residual=left,
        candidates=tuple(candidate for _, candidate in found),
        significance=first,
        false_alarms=first.false_alarms(snr_threshold),
        companions=companions,
    )


def _brightest_peak(significance: SignalToNoiseMap, snr_threshold: float) -> tuple[int, int] | None:
    """Pixel (x, y) of the brightest local maximum of the flux that is significant, or None."""
    flux = significance.flux
    snr = np.nan_to_num(significance.snr, nan=-np.inf)
    peaks = (flux == ndimage.maximum_filter(flux, size=3)) & (snr >= snr_threshold) & (flux > 0)
    if not peaks.any():
        return None
    y, x = np.unravel_index(int(np.argmax(np.where(peaks, flux, -np.inf))), flux.shape)
    return int(x), int(y)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """A companion: where it is, how bright, and the star moved there."""

    x: float
    y: float
    contrast: float
    light: NDArray[np.float64]


def _fit_companion(
    residual: NDArray[np.float64],
    star_coefficients: NDArray[np.float64],
    components: PrincipalComponents,
    peak: tuple[int, int],
    fwhm_px: float,
) -> _Fit:
    """Position, contrast and light of the companion near `peak` (least squares)."""
    half = residual.shape[0] // 2
    grid_y, grid_x = np.indices(residual.shape)
    inside = np.hypot(grid_x - peak[0], grid_y - peak[1]) <= fwhm_px
    data = residual[inside]

    def light_at(position: NDArray[np.float64]) -> NDArray[np.float64]:
        shift = (peak[1] - half + position[1], peak[0] - half + position[0])
        return ndimage.shift(star_coefficients, shift, order=3, prefilter=False)

    def best_contrast(model: NDArray[np.float64]) -> float:
        power = float(model @ model)
        return float(model @ data) / power if power > 0 else 0.0

    def deviations(position: NDArray[np.float64]) -> NDArray[np.float64]:
        model = components.subtract(light_at(position))[inside]
        return (best_contrast(model) * model - data) / scale

    scale = float(np.linalg.norm(data)) or 1.0
    # The solver's steps are a part of the value and none at zero, so offsets are counted from a
    # value that makes them a hundredth of a pixel. The result is good to a thousandth, which is
    # far below what speckles do.
    origin, reach = 10.0, fwhm_px / 2
    fit = optimize.least_squares(
        lambda position: deviations(position - origin),
        [origin, origin],
        bounds=(origin - reach, origin + reach),
        diff_step=0.01 / origin,
        xtol=1e-4,
        ftol=1e-5,
        max_nfev=20,
    )
    offset = fit.x - origin
    light = light_at(offset)
    return _Fit(
        x=peak[0] + float(offset[0]),
        y=peak[1] + float(offset[1]),
        contrast=best_contrast(components.subtract(light)[inside]),
        light=light,
    )


def _check_frame(frame: NDArray[np.floating], fwhm_px: float) -> None:
    if frame.ndim != 2 or frame.shape[0] != frame.shape[1] or frame.shape[0] % 2 == 0:
        raise ValueError(f"a square frame of an odd side is needed, not one of {frame.shape} px")
    if not (math.isfinite(fwhm_px) and fwhm_px > 0):
        raise ValueError(f"the FWHM must be positive, it is {fwhm_px} px")
