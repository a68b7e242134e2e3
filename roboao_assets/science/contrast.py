"""Contrast curve: how faint a companion would have been found, against separation.

The contrast of a companion is relative to the star through the same filter. The template
that is injected is the prepared (high-pass filtered) star itself, and its brightness is
measured in the same aperture of the same filtered frame. The filter is linear, so a
companion of contrast c in the stack is c times the filtered star in the filtered frame,
and the filter's losses cancel; those of the subtraction are the throughput. Taking the
star's flux from the unfiltered stack instead would make every companion look fainter than
it is by what the filter takes from the core.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from roboao_assets.science.companion_response import radial_mean, star_flux, throughput_map
from roboao_assets.science.errors import ScienceError
from roboao_assets.science.rdi_pca import PrincipalComponents

# A FWHM of more than this fraction of the box's half-width leaves too few rings.
_MAX_FWHM_FRACTION = 0.25
# Order of the polynomial that smooths the noise over two FWHM, as VIP's.
_SMOOTHING_ORDER = 2
# Ways in which the apertures are laid on a ring.
_TURNS = 8


@dataclass(frozen=True, kw_only=True)
class ContrastCurve:
    """Detection limit against separation; all arrays have shape (n,), float64.

    Attributes
    ----------
    separation_arcsec : ndarray
        Increasing, from one FWHM outwards in steps of one pixel.
    contrast_mag : ndarray
        Magnitudes below the star of a companion that reaches `sigma`; 0 where not even one
        as bright as the star would. The noise is that of all apertures of the ring, in VIP's
        way, as published curves have it.
    blind_contrast_mag : ndarray
        That of a companion that a search of the frame would find: it stands in one of the
        ring's apertures itself, so there is one less to tell the noise from, and their
        standard deviation is the unbiased one (Mawet et al. 2014). Nor is the noise smoothed
        over rings: it is the mean of all ways to lay the apertures on the one.
    noise : ndarray
        Standard deviation of the aperture fluxes of the residual (units of the frame).
    throughput : ndarray
        Fraction of an injected companion's flux that survives the subtraction.
    apertures : ndarray of int64
        Apertures that the noise was measured in.
    sigma : float
        Gaussian significance whose false-alarm probability the limit has.
    fwhm_px, star_flux : float
        Diameter of the apertures, and the star's flux in one.
    """

    separation_arcsec: NDArray[np.float64]
    contrast_mag: NDArray[np.float64]
    blind_contrast_mag: NDArray[np.float64]
    noise: NDArray[np.float64]
    throughput: NDArray[np.float64]
    apertures: NDArray[np.int64]
    sigma: float
    fwhm_px: float
    star_flux: float


def contrast_curve(
    frame: NDArray[np.floating],
    components: PrincipalComponents,
    *,
    fwhm_px: float,
    plate_scale_arcsec: float,
    sigma: float = 5.0,
    companions: NDArray[np.floating] | None = None,
    threads: int = 1,
) -> ContrastCurve:
    """Measure the contrast curve of a frame after reference-star subtraction.

    The noise is the standard deviation of the fluxes in apertures of one FWHM, side by side
    on rings one pixel apart, smoothed over two FWHM (Savitzky & Golay 1964), as VIP does it
    (Gomez Gonzalez et al. 2017, doi:10.3847/1538-3881/aa73d7). The throughput is the mean
    over all directions of the fraction of a companion's flux that the subtraction leaves
    (`throughput_map`). At the few apertures near the star the significance is that of
    Student's t (Mawet et al. 2014, doi:10.1088/0004-637X/792/2/97).

    Parameters
    ----------
    frame : ndarray, shape (2 h + 1, 2 h + 1)
        Prepared science frame, the star on the central pixel.
    components : PrincipalComponents
        What is subtracted.
    fwhm_px : float
        Size of a resolution element, and diameter of the apertures.
    plate_scale_arcsec : float
        Pixel of the frame on the sky.
    sigma : float
        Significance of the limit.
    companions : ndarray, shape (2 h + 1, 2 h + 1), optional
        Model of the companions that were found in the frame: they are light, not noise.
    threads : int

    Raises
    ------
    ScienceError
        The box is too small for the FWHM, or the star has no flux.
    """
    half = frame.shape[0] // 2
    if not 1.0 <= fwhm_px <= _MAX_FWHM_FRACTION * half:
        raise ScienceError(
            f"no contrast curve can be measured with a FWHM of {fwhm_px:.2f} px in a box of "
            f"half-width {half} px: the FWHM must be from 1 px to a quarter of the half-width"
        )
    science = np.asarray(frame, dtype=np.float64)
    flux = star_flux(science, fwhm_px)
    alone = science if companions is None else science - companions
    radius_px = _radii(half, fwhm_px)
    residual = components.subtract(alone)
    noise, apertures = measure_noise(residual, fwhm_px, radius_px)
    noise = _smooth(noise, fwhm_px)
    local_noise = _mean_noise(residual, fwhm_px, radius_px)
    throughput = radial_mean(
        throughput_map(science, components, fwhm_px, threads=threads), radius_px
    )
    others = apertures - 1
    unbiased = np.sqrt(apertures / others)
    return ContrastCurve(
        separation_arcsec=radius_px * plate_scale_arcsec,
        contrast_mag=_to_magnitudes(student_factor(sigma, apertures) * noise / flux, throughput),
        blind_contrast_mag=_to_magnitudes(
            student_factor(sigma, others) * local_noise * unbiased / flux, throughput
        ),
        noise=noise,
        throughput=throughput,
        apertures=apertures,
        sigma=sigma,
        fwhm_px=fwhm_px,
        star_flux=flux,
    )


def student_factor(sigma: float, apertures: NDArray[np.int64]) -> NDArray[np.float64]:
    """Signal-to-noise with the false-alarm probability of `sigma` Gaussian standard deviations.

    Parameters
    ----------
    sigma : float
    apertures : ndarray of int
        From how many the noise is known, >= 2 (Mawet et al. 2014, equation 9).
    """
    return stats.t.isf(stats.norm.sf(sigma), apertures - 1) * np.sqrt(1 + 1 / apertures)


def contrast_at(curve: ContrastCurve, separation_arcsec: float) -> float:
    """Contrast (mag) at a separation, linear between samples; NaN outside of the curve."""
    separations = curve.separation_arcsec
    if separations.size == 0 or not separations[0] <= separation_arcsec <= separations[-1]:
        return math.nan
    return float(np.interp(separation_arcsec, separations, curve.contrast_mag))


def _mean_noise(
    residual: NDArray[np.float64], fwhm_px: float, radius_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Noise on each ring, the root of the mean variance over turns of its apertures."""
    turns = np.arange(_TURNS) / _TURNS
    variances = [measure_noise(residual, fwhm_px, radius_px, turn)[0] ** 2 for turn in turns]
    return np.sqrt(np.mean(variances, axis=0))


def measure_noise(
    residual: NDArray[np.float64],
    fwhm_px: float,
    radius_px: NDArray[np.float64],
    turn: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Standard deviation of the fluxes in apertures side by side on rings, and their number.

    Parameters
    ----------
    residual : ndarray, float64, shape (2 h + 1, 2 h + 1)
    fwhm_px : float
        Diameter of the apertures, which also is their distance along the ring.
    radius_px : ndarray, float64, shape (n,)
        Radii of the rings; all apertures are inside of the frame.
    turn : float
        The first aperture is so many apertures away from the x axis.

    Returns
    -------
    noise : ndarray, float64, shape (n,)
        The population's, not the sample's, standard deviation, as VIP's.
    apertures : ndarray, int64, shape (n,)
    """
    # Imported where it is needed: the workers that only stack do without it.
    import sep

    half = residual.shape[0] // 2
    apertures = np.floor(2 * np.pi * radius_px / fwhm_px).astype(np.int64)
    radius = np.repeat(radius_px, apertures)
    number = np.concatenate([np.arange(n) for n in apertures])
    angle = (number + turn) * fwhm_px / radius
    fluxes, _, _ = sep.sum_circle(
        np.ascontiguousarray(residual),
        half + radius * np.cos(angle),
        half + radius * np.sin(angle),
        fwhm_px / 2,
        subpix=0,
    )
    starts = np.concatenate([[0], np.cumsum(apertures)[:-1]])
    mean = np.add.reduceat(fluxes, starts) / apertures
    square = np.add.reduceat((fluxes - np.repeat(mean, apertures)) ** 2, starts)
    return np.sqrt(square / apertures), apertures


def _radii(half: int, fwhm_px: float) -> NDArray[np.float64]:
    """Radii (px) one apart, from one FWHM to where the apertures touch the edge of the pixels."""
    return np.arange(fwhm_px, half + 0.5 - fwhm_px / 2 + 1e-9)


def _smooth(noise: NDArray[np.float64], fwhm_px: float) -> NDArray[np.float64]:
    window = min(len(noise) - 2, int(2 * fwhm_px))
    window += window % 2 == 0
    if window <= _SMOOTHING_ORDER:
        return noise
    smooth = signal.savgol_filter(
        noise, window_length=window, polyorder=_SMOOTHING_ORDER, mode="nearest"
    )
    # Where the noise falls steeply the polynomial may go below zero.
    return np.where(smooth > 0, smooth, noise)


def _to_magnitudes(
    limit: NDArray[np.float64], throughput: NDArray[np.float64]
) -> NDArray[np.float64]:
    # No throughput, or a limit above the star: no companion would be found.
    visible = throughput > limit
    contrast = np.where(visible, limit / np.where(visible, throughput, 1.0), 1.0)
    # A noiseless residual would have an infinite contrast.
    contrast = np.maximum(contrast, np.finfo(np.float32).tiny)
    return -2.5 * np.log10(contrast) + 0.0
