"""Diffraction-limited model of the telescope: what a Strehl ratio is measured against.

The aperture is an annulus. Everything follows from its optical transfer function, which has a
closed form [1]_: with ``T(f)`` the OTF (1 at f = 0), a PSF of unit total flux has the peak
``integral of T`` per unit solid angle, and its flux in a square box of side B is the
``integral of T(f) B^2 sinc(fx B) sinc(fy B)``. An image that went through pixels has ``T`` times
the transfer function of the pixels, so the same two integrals tell by how much the sampling has
lowered its peak. The integrals are done by Gauss-Legendre quadrature between the kinks of T:
there is no grid, and no aliasing.

References
----------
.. [1] O'Neill 1956, J. Opt. Soc. Am. 46, 285, doi:10.1364/JOSA.46.000285
.. [2] Fruchter & Hook 2002, PASP 114, 144, doi:10.1086/338393 (drizzle)
"""

from functools import lru_cache

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.special import j1

from roboao_assets.science.instrument import InstrumentProfile

ARCSEC_PER_RADIAN = 206264.80624709636

# Nodes for each smooth stretch of the OTF and for an eighth of a turn. The 3" box makes some
# 35 oscillations out to the cut-off; these numbers hold the integrals to 1e-6.
_RADIAL_NODES = 160
_ANGULAR_NODES = 96


def annular_psf(
    radius_arcsec: ArrayLike,
    wavelength_nm: float,
    primary_diameter_m: float,
    secondary_diameter_m: float = 0.0,
) -> NDArray[np.float64]:
    """Return the diffraction pattern of an annular aperture, at points.

    Parameters
    ----------
    radius_arcsec : array_like
        Distances from the star, any shape.
    wavelength_nm, primary_diameter_m, secondary_diameter_m : float
        Monochromatic light, clear annulus; a secondary of 0 gives the Airy pattern.

    Returns
    -------
    ndarray of float64, the shape of `radius_arcsec`
        Flux per square arcsec of a star of unit total flux.
    """
    _check_aperture(wavelength_nm, primary_diameter_m, secondary_diameter_m)
    obscuration = secondary_diameter_m / primary_diameter_m
    v = (
        np.pi
        * np.asarray(radius_arcsec, dtype=np.float64)
        * _cutoff(wavelength_nm, primary_diameter_m)
    )
    amplitude = (_jinc(v) - obscuration**2 * _jinc(obscuration * v)) / (1 - obscuration**2)
    area_m2 = np.pi / 4 * (primary_diameter_m**2 - secondary_diameter_m**2)
    peak = area_m2 / (wavelength_nm * 1e-9 * ARCSEC_PER_RADIAN) ** 2
    return peak * amplitude**2


def annular_otf(
    frequency: ArrayLike,
    wavelength_nm: float,
    primary_diameter_m: float,
    secondary_diameter_m: float = 0.0,
) -> NDArray[np.float64]:
    """Return the optical transfer function of an annular aperture (O'Neill 1956).

    Parameters
    ----------
    frequency : array_like
        Spatial frequencies in cycles per arcsec, any shape.
    wavelength_nm, primary_diameter_m, secondary_diameter_m : float
        Monochromatic light, clear annulus.

    Returns
    -------
    ndarray of float64, the shape of `frequency`
        1 at frequency 0, 0 from the cut-off (diameter / wavelength) on.
    """
    _check_aperture(wavelength_nm, primary_diameter_m, secondary_diameter_m)
    separation_m = (
        np.abs(np.asarray(frequency, dtype=np.float64)) * wavelength_nm * 1e-9 * ARCSEC_PER_RADIAN
    )
    outer, inner = primary_diameter_m / 2, secondary_diameter_m / 2
    common = _overlap(separation_m, outer, outer)
    if inner > 0:
        common = (
            common - 2 * _overlap(separation_m, outer, inner) + _overlap(separation_m, inner, inner)
        )
    return common / (np.pi * (outer**2 - inner**2))


def diffraction_psf(
    wavelength_nm: float,
    primary_diameter_m: float,
    secondary_diameter_m: float,
    pixel_scale_arcsec: float,
    half_width_px: int,
    *,
    pixel_widths_arcsec: tuple[float, ...] = (),
    dx_px: float = 0.0,
    dy_px: float = 0.0,
) -> NDArray[np.float64]:
    """Return the diffraction-limited image of a star of unit flux on a pixel grid.

    Parameters
    ----------
    wavelength_nm, primary_diameter_m, secondary_diameter_m : float
        Monochromatic light, clear annulus.
    pixel_scale_arcsec : float
        Distance of the samples.
    half_width_px : int
        The image has 2 n + 1 samples a side.
    pixel_widths_arcsec : tuple of float
        Square boxes the image was smeared with (detector pixel, drizzle drop, output pixel).
        Empty: sampled at points.
    dx_px, dy_px : float
        Place of the star against the central sample.

    Returns
    -------
    ndarray of float64, shape (2 n + 1, 2 n + 1), (y, x)
        Flux per sample (flux per square arcsec times the area of a sample).
    """
    offsets = np.arange(-half_width_px, half_width_px + 1, dtype=np.float64)
    x = (offsets - dx_px) * pixel_scale_arcsec
    y = (offsets - dy_px) * pixel_scale_arcsec
    if not pixel_widths_arcsec:
        radius = np.hypot(y[:, None], x[None, :])
        psf = annular_psf(radius, wavelength_nm, primary_diameter_m, secondary_diameter_m)
        return psf * pixel_scale_arcsec**2
    # A discrete Fourier sum has a period; at three times the image the overlapping wings
    # (which fall with the cube of the radius) are 1e-4 of those in the image.
    extent = 3.0 * (2 * half_width_px + 1) * pixel_scale_arcsec
    step = 1.0 / max(extent, 40.0 / _cutoff(wavelength_nm, primary_diameter_m))
    count = int(np.ceil(_cutoff(wavelength_nm, primary_diameter_m) / step))
    frequency = np.arange(-count, count + 1) * step
    transfer = annular_otf(
        np.hypot(frequency[:, None], frequency[None, :]),
        wavelength_nm,
        primary_diameter_m,
        secondary_diameter_m,
    )
    box = pixel_transfer(frequency, pixel_widths_arcsec)
    transfer *= box[:, None] * box[None, :]
    wave_x = np.exp(2j * np.pi * np.outer(frequency, x))
    wave_y = np.exp(2j * np.pi * np.outer(y, frequency))
    return (wave_y @ transfer @ wave_x).real * (step * pixel_scale_arcsec) ** 2


def pixel_transfer(
    frequency: ArrayLike, pixel_widths_arcsec: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the transfer function, along one axis, of the boxes an image was smeared with.

    Parameters
    ----------
    frequency : array_like
        Cycles per arcsec, any shape.
    pixel_widths_arcsec : tuple of float
        Widths of the boxes.

    Returns
    -------
    ndarray of float64, the shape of `frequency`
    """
    transfer = np.ones_like(np.asarray(frequency, dtype=np.float64))
    for width in pixel_widths_arcsec:
        transfer = transfer * np.sinc(np.asarray(frequency) * width)
    return transfer


def sampling_widths_arcsec(profile: InstrumentProfile, pixfrac: float | None) -> tuple[float, ...]:
    """Return the boxes that light went through on its way into a product.

    The detector integrates over a raw pixel. Drizzle spreads each raw pixel over a drop of
    `pixfrac` raw pixels and collects the drops in output pixels; with many shifts the result
    is the image convolved with all three boxes (Fruchter & Hook 2002).

    Parameters
    ----------
    profile : InstrumentProfile
    pixfrac : float or None
        Drop size in raw px. None: the image was not drizzled, its pixels are the detector's.

    Returns
    -------
    tuple of float
        Widths in arcsec.
    """
    raw = profile.plate_scale_arcsec
    if pixfrac is None:
        return (raw,)
    return (raw, pixfrac * raw, profile.drizzled_scale_arcsec)


def strehl_factor(profile: InstrumentProfile, filter_name: str) -> float:
    """Return the peak sample of the diffraction-limited PSF over its flux in the Strehl box.

    The published factor of the filter where the profile has one, else the derived one.

    Raises
    ------
    UnknownInstrumentError
        If the profile has no such filter.
    """
    published = profile.filter(filter_name).strehl_factor
    return published if published is not None else derive_strehl_factor(profile, filter_name)


def derive_strehl_factor(
    profile: InstrumentProfile,
    filter_name: str,
    *,
    pixel_scale_arcsec: float | None = None,
) -> float:
    """Return the Strehl factor that the aperture gives, sampled at points.

    Parameters
    ----------
    profile : InstrumentProfile
    filter_name : str
    pixel_scale_arcsec : float, optional
        Distance of the samples; by default that of the drizzled products.

    Raises
    ------
    UnknownInstrumentError
        If the profile has no such filter.
    """
    scale = profile.drizzled_scale_arcsec if pixel_scale_arcsec is None else pixel_scale_arcsec
    peak, flux = _peak_and_flux(
        profile.filter(filter_name).wavelength_nm,
        profile.primary_diameter_m,
        profile.secondary_diameter_m,
        profile.strehl_flux_box_arcsec,
        (),
    )
    return peak * scale**2 / flux


def sampling_correction(
    profile: InstrumentProfile, filter_name: str, pixfrac: float | None = 0.45
) -> float:
    """Return by how much the sampling has lowered peak / flux of the diffraction-limited PSF.

    (peak / flux sampled at points) / (peak / flux through the pixels), at least 1. It is the
    correction of the coherent core of an image; a halo, being smooth on the scale of a pixel,
    needs none.

    Parameters
    ----------
    profile : InstrumentProfile
    filter_name : str
    pixfrac : float or None
        Drizzle drop in raw px. None: not drizzled.

    Raises
    ------
    UnknownInstrumentError
        If the profile has no such filter.
    """
    aperture = (
        profile.filter(filter_name).wavelength_nm,
        profile.primary_diameter_m,
        profile.secondary_diameter_m,
        profile.strehl_flux_box_arcsec,
    )
    peak, flux = _peak_and_flux(*aperture, ())
    smeared_peak, smeared_flux = _peak_and_flux(*aperture, sampling_widths_arcsec(profile, pixfrac))
    return (peak / flux) / (smeared_peak / smeared_flux)


def cutoff_frequency(profile: InstrumentProfile, filter_name: str) -> float:
    """Return the highest spatial frequency (cycles per arcsec) that the aperture passes."""
    return _cutoff(profile.filter(filter_name).wavelength_nm, profile.primary_diameter_m)


@lru_cache(maxsize=256)
def _peak_and_flux(
    wavelength_nm: float,
    primary_diameter_m: float,
    secondary_diameter_m: float,
    box_arcsec: float,
    pixel_widths_arcsec: tuple[float, ...],
) -> tuple[float, float]:
    """Peak per square arcsec, and flux in the box, of a star of unit flux."""
    cutoff = _cutoff(wavelength_nm, primary_diameter_m)
    obscuration = secondary_diameter_m / primary_diameter_m
    kinks = (
        np.unique([0.0, (1 - obscuration) / 2, obscuration, (1 + obscuration) / 2, 1.0]) * cutoff
    )
    node, weight = leggauss(_RADIAL_NODES)
    spans = np.diff(kinks)[:, None]
    f = (kinks[:-1, None] + spans * (node + 1) / 2).ravel()
    radial = (
        (spans * weight / 2).ravel()
        * f
        * annular_otf(f, wavelength_nm, primary_diameter_m, secondary_diameter_m)
    )
    node, weight = leggauss(_ANGULAR_NODES)
    angle = np.pi / 8 * (node + 1)  # the integrand has the eightfold symmetry of the square
    weights = radial[:, None] * (np.pi * weight)[None, :]
    fx, fy = f[:, None] * np.cos(angle), f[:, None] * np.sin(angle)
    weights *= pixel_transfer(fx, pixel_widths_arcsec) * pixel_transfer(fy, pixel_widths_arcsec)
    box = np.sinc(fx * box_arcsec) * np.sinc(fy * box_arcsec)
    return float(weights.sum()), float((weights * box).sum() * box_arcsec**2)


def _cutoff(wavelength_nm: float, primary_diameter_m: float) -> float:
    return primary_diameter_m / (wavelength_nm * 1e-9 * ARCSEC_PER_RADIAN)


def _check_aperture(
    wavelength_nm: float, primary_diameter_m: float, secondary_diameter_m: float
) -> None:
    if not (wavelength_nm > 0 and 0 <= secondary_diameter_m < primary_diameter_m):
        raise ValueError(
            f"an annulus of {primary_diameter_m} m with a hole of {secondary_diameter_m} m at "
            f"{wavelength_nm} nm is no aperture: 0 <= hole < diameter and wavelength > 0"
        )


def _jinc(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 J1(v) / v, 1 at 0."""
    small = np.abs(v) < 1e-8
    safe = np.where(small, 1.0, v)
    return np.where(small, 1.0, 2 * j1(safe) / safe)


def _overlap(separation: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
    """Area common to two circles of radii a >= b whose centres are `separation` apart."""
    inside = separation <= a - b
    outside = separation >= a + b
    d = np.where(inside | outside, a, separation)  # any value that keeps the formula finite
    cos_a = np.clip((d**2 + a**2 - b**2) / (2 * d * a), -1, 1)
    cos_b = np.clip((d**2 + b**2 - a**2) / (2 * d * b), -1, 1)
    kite = np.sqrt(np.clip((-d + a + b) * (d + a - b) * (d - a + b) * (d + a + b), 0, None)) / 2
    lens = a**2 * np.arccos(cos_a) + b**2 * np.arccos(cos_b) - kite
    return np.where(inside, np.pi * b**2, np.where(outside, 0.0, lens))
