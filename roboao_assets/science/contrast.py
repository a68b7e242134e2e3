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
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from roboao_assets.science.errors import ScienceError
from roboao_assets.science.rdi_pca import principal_components, subtract_components

# Directions, evenly spread, whose throughputs are averaged.
_INJECTION_DIRECTIONS = 6
# A FWHM of more than this fraction of the box's half-width leaves too few rings.
_MAX_FWHM_FRACTION = 0.25


@dataclass(frozen=True, kw_only=True)
class ContrastCurve:
    """Detection limit against separation; all arrays have shape (n,), float64.

    Attributes
    ----------
    separation_arcsec : ndarray
        Increasing, from one FWHM outwards in steps of one pixel.
    contrast_mag : ndarray
        Magnitudes below the star of a companion that reaches `sigma`; 0 where not even one
        as bright as the star would.
    noise : ndarray
        Standard deviation of the aperture fluxes of the residual (units of the frame).
    throughput : ndarray
        Fraction of an injected companion's flux that survives the subtraction.
    sigma : float
        Gaussian significance whose false-alarm probability the limit has.
    fwhm_px, star_flux : float
        Diameter of the apertures, and the star's flux in one.
    components : int
        Principal components subtracted.
    """

    separation_arcsec: NDArray[np.float64]
    contrast_mag: NDArray[np.float64]
    noise: NDArray[np.float64]
    throughput: NDArray[np.float64]
    sigma: float
    fwhm_px: float
    star_flux: float
    components: int


def contrast_curve(
    frame: NDArray[np.floating],
    references: NDArray[np.floating],
    *,
    components: int,
    fwhm_px: float,
    plate_scale_arcsec: float,
    sigma: float = 5.0,
) -> ContrastCurve:
    """Measure the contrast curve of a frame after reference-star subtraction.

    The noise is VIP's (Gomez Gonzalez et al. 2017, doi:10.3847/1538-3881/aa73d7): the standard
    deviation of the aperture fluxes on rings one pixel apart. The throughput is the fraction
    of a companion's flux in its aperture that the subtraction leaves: copies of the star are
    put one FWHM apart in six directions. As the subtraction is linear in the frame, each copy
    is followed by itself, alone and without noise. The limit is corrected for small samples
    (Mawet et al. 2014, doi:10.1088/0004-637X/792/2/97): Student's t at the false-alarm
    probability of a Gaussian `sigma`, times sqrt(1 + 1 / n), with the unbiased standard
    deviation of the n apertures. Companions that are there are part of the noise at their
    separation.

    Parameters
    ----------
    frame : ndarray, shape (2 h + 1, 2 h + 1)
        Prepared science frame, star on the central pixel.
    references : ndarray, shape (n, 2 h + 1, 2 h + 1)
        Prepared frames of other stars.
    components : int
        Principal components subtracted (at most as many as the references have).
    fwhm_px : float
        Size of a resolution element, and diameter of the apertures.
    plate_scale_arcsec : float
        Pixel of the frame on the sky.
    sigma : float
        Significance of the limit.

    Raises
    ------
    NoReferencesError
        There is no reference with any signal.
    ScienceError
        The box is too small for the FWHM, or the star has no flux.
    """
    half = frame.shape[0] // 2
    if not 1.0 <= fwhm_px <= _MAX_FWHM_FRACTION * half:
        raise ScienceError(
            f"no contrast curve can be measured with a FWHM of {fwhm_px:.2f} px in a box of "
            f"half-width {half} px: the FWHM must be from 1 px to a quarter of the half-width"
        )
    basis = principal_components(references, components)
    science = np.asarray(frame, dtype=np.float64)
    star_flux = _aperture_flux(science, half, half, fwhm_px)
    if not star_flux > 0:
        raise ScienceError(
            f"the star's flux in the central {fwhm_px:.1f} px is {star_flux:.4g}: contrasts have "
            f"nothing to be relative to"
        )
    radius_px, noise = _measure_noise(subtract_components(science, basis), fwhm_px)
    throughput = _measure_throughput(science, basis, fwhm_px, star_flux, radius_px)

    samples = np.floor(2 * np.pi * radius_px / fwhm_px)
    unbiased = np.sqrt(samples / (samples - 1))
    factor = stats.t.isf(stats.norm.sf(sigma), samples - 1) * np.sqrt(1 + 1 / samples)
    limit = factor * noise * unbiased / star_flux
    # No throughput, or a limit above the star: no companion would be found.
    visible = throughput > limit
    contrast = np.where(visible, limit / np.where(visible, throughput, 1.0), 1.0)
    # A noiseless residual would have an infinite contrast.
    contrast = np.maximum(contrast, np.finfo(np.float32).tiny)
    return ContrastCurve(
        separation_arcsec=radius_px * plate_scale_arcsec,
        contrast_mag=-2.5 * np.log10(contrast) + 0.0,
        noise=noise * unbiased,
        throughput=throughput,
        sigma=sigma,
        fwhm_px=fwhm_px,
        star_flux=star_flux,
        components=len(basis),
    )


def contrast_at(curve: ContrastCurve, separation_arcsec: float) -> float:
    """Contrast (mag) at a separation, linear between samples; NaN outside of the curve."""
    separations = curve.separation_arcsec
    if separations.size == 0 or not separations[0] <= separation_arcsec <= separations[-1]:
        return math.nan
    return float(np.interp(separation_arcsec, separations, curve.contrast_mag))


def _aperture_flux(frame: NDArray[np.float64], x: float, y: float, fwhm_px: float) -> float:
    # Takes seconds to import: only what needs it pays.
    from photutils.aperture import CircularAperture

    mask = CircularAperture((x, y), fwhm_px / 2).to_mask(method="exact")
    return float(mask.multiply(frame).sum())


def _measure_noise(
    residual: NDArray[np.float64], fwhm_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii (px), one apart, and the standard deviation of the apertures there."""
    noise, _, radii = _load_vip().noise_per_annulus(residual, separation=1, fwhm=fwhm_px)
    # VIP's last apertures reach over the edge of the frame.
    inside = radii <= residual.shape[0] // 2 - fwhm_px / 2
    return radii[inside], noise[inside]


def _measure_throughput(
    star: NDArray[np.float64],
    basis: NDArray[np.float64],
    fwhm_px: float,
    star_flux: float,
    radius_px: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fraction of a companion's flux that is left, interpolated to `radius_px`."""
    half = star.shape[0] // 2
    steps = max(2, math.ceil((radius_px[-1] - radius_px[0]) / fwhm_px) + 1)
    sampled_px = np.linspace(radius_px[0], radius_px[-1], steps)
    angles = np.arange(_INJECTION_DIRECTIONS) * 2 * np.pi / _INJECTION_DIRECTIONS
    coefficients = ndimage.spline_filter(star, order=3, mode="constant")
    fractions = np.empty((steps, angles.size))
    for i, j in np.ndindex(fractions.shape):
        dx, dy = sampled_px[i] * np.cos(angles[j]), sampled_px[i] * np.sin(angles[j])
        companion = ndimage.shift(coefficients, (dy, dx), order=3, prefilter=False)
        left = subtract_components(companion, basis)
        fractions[i, j] = _aperture_flux(left, half + dx, half + dy, fwhm_px) / star_flux
    return np.interp(radius_px, sampled_px, fractions.mean(axis=1))


def _load_vip():
    """Import VIP's contrast module when it is needed: it takes seconds."""
    with warnings.catch_warnings():
        # VIP warns of each optional package that it can do without.
        warnings.simplefilter("ignore", ImportWarning)
        from vip_hci.metrics import contrcurve

    return contrcurve
