"""Where the star stands in each frame, to a fraction of a pixel, and how sharp it is.

Frames are measured in a box round the guide star, in Fourier space. The
correlation with the diffraction-limited PSF peaks at the star's brightest speckle:
its height gives the quality of the frame. The correlation with the mean of all
frames says which of two stars it is, and where a faint one stands. Both are
evaluated off the pixel grid by a matrix Fourier transform (Guizar-Sicairos, Thurman
& Fienup 2008, doi:10.1364/OL.33.000156).

Lucky imaging stacks frames on their brightest speckle (Law, Mackay & Baldwin 2006,
doi:10.1051/0004-6361:20053695). That is the sharper choice only while the speckle
stands out of the photon noise: below `PEAK_SNR` frames stay where the correlation
with the mean of the others puts them.
"""

from dataclasses import dataclass

import numpy as np
import pyfftw
from numpy.typing import NDArray

from roboao_assets.science.diffraction import annular_otf

# Half-width (raw px) and step of the fine grid on which a correlation peak is found.
# The peak is smooth on the scale of the core (> 2 px), so that a parabola through
# points 1/8 px apart is right to a thousandth of a pixel.
_FINE_HALF_PX = 1.0
_FINE_STEP_PX = 0.125
# The brightest speckle is looked for this far (px) from where the mean correlates best.
_SPECKLE_REACH_PX = 2
# Median signal-to-noise of the filtered peak from which frames are put on it.
PEAK_SNR = 20.0
# Blur (px) under which a faint star is found in a frame: the faint-star pipeline's.
_FAINT_SIGMA_PX = 5.0
# Fewer frequencies than this beyond the cut-off do not measure the noise.
_MIN_NOISE_FREQUENCIES = 64


@dataclass(frozen=True, kw_only=True)
class FrameMeasures:
    """What is known of each of n frames; arrays of length n.

    Attributes
    ----------
    x, y : ndarray of float64
        Position of the star in the box (px).
    quality : ndarray of float32
        Peak of the correlation with the diffraction-limited PSF over the flux, 1 for a star
        at the diffraction limit: larger is sharper.
    flux : ndarray of float32
        Star's flux in the box above the box's border (ADU).
    peak_snr : float
        Median signal-to-noise of that peak.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    quality: NDArray[np.float32]
    flux: NDArray[np.float32]
    peak_snr: float


def measure_frames(
    boxes: NDArray[np.float32],
    transfer: NDArray[np.float32],
    *,
    search_half_px: float,
    rounds: int = 2,
    threads: int = 1,
) -> FrameMeasures:
    """Measure position, quality and flux of the star in each box.

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, side, side)
        Calibrated cut-outs round the guide star, the same for all frames.
    transfer : ndarray of float32, shape (side, side // 2 + 1)
        Transfer function of the telescope, see `telescope_transfer`.
    search_half_px : float
        The star is looked for this far from the middle of the box.
    rounds : int
        How often positions are measured again against the better mean.
    threads : int
        Threads of the transforms.

    Returns
    -------
    FrameMeasures
    """
    number, side, _ = boxes.shape
    if number == 0:
        nothing = np.zeros(0)
        none = np.zeros(0, np.float32)
        return FrameMeasures(x=nothing, y=nothing, quality=none, flux=none, peak_snr=0.0)
    stars = boxes - border_levels(boxes)[:, None, None]
    flux = stars.sum(axis=(1, 2), dtype=np.float64).astype(np.float32)
    spectra = pyfftw.interfaces.numpy_fft.rfft2(stars, threads=threads)
    smooth = spectra * transfer
    filtered = pyfftw.interfaces.numpy_fft.irfft2(
        smooth, s=(side, side), axes=(1, 2), threads=threads
    )
    y, x, _ = _whole_pixel_peaks(filtered, search_half_px)
    y, x, peak = _fine_peaks(smooth, y, x)
    noise = _peak_noise(stars, spectra, flux, transfer, y, x)
    bright = float(np.median(peak / noise)) >= PEAK_SNR
    if not bright:
        # Single speckles drown in the noise: begin with where the light is as a whole.
        blurred = pyfftw.interfaces.numpy_fft.irfft2(
            smooth * gaussian_transfer(side, _FAINT_SIGMA_PX),
            s=(side, side),
            axes=(1, 2),
            threads=threads,
        )
        y, x, _ = _whole_pixel_peaks(blurred, search_half_px)
        peak = np.ones_like(peak)
    weights = np.clip(peak, 0, None)
    # Two frames have no others to agree with.
    for _ in range(rounds if number > 2 else 0):
        y, x = _correlate_with_others(spectra, smooth, y, x, weights)
    if bright:
        y, x = _nearby_peaks(filtered, y, x)
        y, x, peak = _fine_peaks(smooth, y, x)
    else:
        # At the position found from all of the light: the highest noise is no peak.
        peak = _evaluate(smooth, y, x)
    noise = _peak_noise(stars, spectra, flux, transfer, y, x)
    peak_snr = float(np.median(peak / noise))
    perfect = np.sum(transfer_psf(transfer) ** 2)
    quality = (peak / np.maximum(flux, 1e-6) / perfect).astype(np.float32)
    return FrameMeasures(x=x, y=y, quality=quality, flux=flux, peak_snr=peak_snr)


def border_levels(boxes: NDArray[np.float32], width_px: int = 3) -> NDArray[np.float32]:
    """Median of each box's border, shape (n,): the level of the sky and of the far halo."""
    width = min(width_px, boxes.shape[1] // 4)
    strips = (
        boxes[:, :width, :],
        boxes[:, -width:, :],
        boxes[:, width:-width, :width],
        boxes[:, width:-width, -width:],
    )
    border = np.concatenate([strip.reshape(len(boxes), -1) for strip in strips], axis=1)
    return np.median(border, axis=1)


def telescope_transfer(
    side: int,
    *,
    plate_scale_arcsec: float,
    wavelength_nm: float,
    primary_diameter_m: float,
    secondary_diameter_m: float,
) -> NDArray[np.float32]:
    """Transfer function of the annular aperture, as a real transform stores it.

    Parameters
    ----------
    side : int
        Of the box (px).
    plate_scale_arcsec, wavelength_nm, primary_diameter_m, secondary_diameter_m : float

    Returns
    -------
    ndarray of float32, shape (side, side // 2 + 1)
        1 at frequency 0, 0 beyond the cut-off D / lambda.
    """
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    return annular_otf(
        frequency / plate_scale_arcsec, wavelength_nm, primary_diameter_m, secondary_diameter_m
    ).astype(np.float32)


def gaussian_transfer(side: int, sigma_px: float) -> NDArray[np.float32]:
    """Transfer function, shape (side, side // 2 + 1), of a Gaussian blur."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    return np.exp(-2 * (np.pi * sigma_px) ** 2 * (fy**2 + fx**2)).astype(np.float32)


def transfer_psf(transfer: NDArray[np.float32]) -> NDArray[np.float64]:
    """PSF of a transfer function, unit sum, its peak at (0, 0); shape (side, side)."""
    side = transfer.shape[0]
    return np.fft.irfft2(transfer, s=(side, side))


def variance_per_adu(boxes: NDArray[np.float32], transfer: NDArray[np.float32]) -> float:
    """Photon noise: variance of a pixel over its light (ADU), median of the frames.

    Beyond the cut-off of the telescope there is nothing but noise, and its power there is
    the sum of the variances of all pixels. What the border's noise does not explain is
    photon noise, in proportion to the light.

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, side, side)
        Calibrated cut-outs round a star.
    transfer : ndarray of float32, shape (side, side // 2 + 1)

    Returns
    -------
    float
        0 if there are no frames, or too few frequencies beyond the cut-off to tell.
    """
    if len(boxes) == 0 or (transfer == 0).sum() < _MIN_NOISE_FREQUENCIES:
        return 0.0
    stars = boxes - border_levels(boxes)[:, None, None]
    flux = stars.sum(axis=(1, 2), dtype=np.float64)
    spectra = pyfftw.interfaces.numpy_fft.rfft2(stars)
    per_light = _photon_noise(stars, spectra, flux, transfer)
    return float(np.median(per_light[flux > 0])) if (flux > 0).any() else 0.0


def _photon_noise(
    stars: NDArray[np.float32],
    spectra: NDArray[np.complex64],
    flux: NDArray[np.floating],
    transfer: NDArray[np.float32],
) -> NDArray[np.floating]:
    """Variance of a pixel over its light in each frame, shape (n,)."""
    side = stars.shape[1]
    scatter = 1.4826 * border_levels(np.abs(stars))
    power = np.mean(np.abs(spectra[:, transfer == 0]) ** 2, axis=1)
    return np.maximum(power - side**2 * scatter**2, 0) / np.maximum(flux, 1e-6)


def _peak_noise(
    stars: NDArray[np.float32],
    spectra: NDArray[np.complex64],
    flux: NDArray[np.float32],
    transfer: NDArray[np.float32],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Noise of the filtered image at (y, x) of each frame, shape (n,); see `variance_per_adu`."""
    scatter = 1.4826 * border_levels(np.abs(stars))
    psf2 = transfer_psf(transfer) ** 2
    variance = scatter.astype(np.float64) ** 2 * psf2.sum()
    if (transfer == 0).sum() >= _MIN_NOISE_FREQUENCIES:
        per_light = _photon_noise(stars, spectra, flux, transfer)
        light = _evaluate(spectra * np.fft.rfft2(psf2).astype(np.complex64), y, x)
        variance += per_light * np.maximum(light, 0)
    return np.sqrt(np.maximum(variance, 1e-12))


def _whole_pixel_peaks(
    images: NDArray[np.float32], search_half_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Brightest pixel of each image within `search_half_px` of the middle."""
    number, side, _ = images.shape
    half = int(min(search_half_px, side // 2 - 2))
    low = side // 2 - half
    window = images[:, low : low + 2 * half + 1, low : low + 2 * half + 1]
    flat = window.reshape(number, -1)
    best = flat.argmax(axis=1)
    y, x = np.unravel_index(best, window.shape[1:])
    return (y + low).astype(float), (x + low).astype(float), flat[np.arange(number), best]


def _nearby_peaks(
    images: NDArray[np.float32], y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brightest pixel of each image within `_SPECKLE_REACH_PX` of (y, x)."""
    number, side, _ = images.shape
    reach = _SPECKLE_REACH_PX
    across = np.arange(-reach, reach + 1)
    rows = np.clip(np.rint(y).astype(int)[:, None] + across, 0, side - 1)
    columns = np.clip(np.rint(x).astype(int)[:, None] + across, 0, side - 1)
    every = np.arange(number)
    near = images[every[:, None, None], rows[:, :, None], columns[:, None, :]]
    at_y, at_x = np.unravel_index(near.reshape(number, -1).argmax(axis=1), near.shape[1:])
    return rows[every, at_y].astype(float), columns[every, at_x].astype(float)


def _evaluate(
    spectra: NDArray[np.complex64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Value of the inverse transform of each spectrum at (y, x), between pixels too."""
    side = spectra.shape[1]
    fx = np.fft.rfftfreq(side)
    twice = np.where((fx == 0) | (fx == 0.5), 1.0, 2.0)
    to_y = np.exp(2j * np.pi * y[:, None] * np.fft.fftfreq(side)).astype(np.complex64)
    to_x = (np.exp(2j * np.pi * x[:, None] * fx) * twice).astype(np.complex64)
    return np.einsum("ny,nyx,nx->n", to_y, spectra, to_x, optimize=True).real / side**2


def _fine_peaks(
    spectra: NDArray[np.complex64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Peak of the inverse transform of each spectrum near (y, x), off the pixel grid.

    Returns
    -------
    y, x : ndarray of float64, shape (n,)
    peak : ndarray of float32, shape (n,)
    """
    side = spectra.shape[1]
    offsets = np.arange(-_FINE_HALF_PX, _FINE_HALF_PX + _FINE_STEP_PX / 2, _FINE_STEP_PX)
    fy = np.fft.fftfreq(side)
    fx = np.fft.rfftfreq(side)
    # A real transform stores half the spectrum: its other half counts once more.
    twice = np.where((fx == 0) | (fx == 0.5), 1.0, 2.0)
    grid_y = (y[:, None] + offsets)[:, :, None] * fy
    grid_x = (x[:, None] + offsets)[:, None, :] * fx[:, None]
    to_y = np.exp(2j * np.pi * grid_y).astype(np.complex64)
    to_x = (np.exp(2j * np.pi * grid_x) * twice[:, None]).astype(np.complex64)
    fine = (to_y @ (spectra @ to_x)).real / side**2
    return _parabolic_peaks(fine, y, x, offsets)


def _parabolic_peaks(
    fine: NDArray[np.float32],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    offsets: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    number, points, _ = fine.shape
    every = np.arange(number)
    # The parabola needs a neighbour on each side.
    inner = fine[:, 1:-1, 1:-1].reshape(number, -1)
    iy, ix = np.unravel_index(inner.argmax(axis=1), (points - 2, points - 2))
    iy, ix = iy + 1, ix + 1
    top = fine[every, iy, ix].astype(np.float64)
    step = offsets[1] - offsets[0]

    def vertex(before: NDArray, after: NDArray) -> tuple[NDArray, NDArray]:
        curvature = before - 2 * top + after
        slope = (after - before) / 2
        where = np.where(curvature < 0, -slope / np.where(curvature < 0, curvature, 1), 0.0)
        where = np.clip(where, -1, 1)
        return where, slope * where / 2

    move_y, rise_y = vertex(fine[every, iy - 1, ix], fine[every, iy + 1, ix])
    move_x, rise_x = vertex(fine[every, iy, ix - 1], fine[every, iy, ix + 1])
    peak = (top + rise_y + rise_x).astype(np.float32)
    return y + offsets[iy] + move_y * step, x + offsets[ix] + move_x * step, peak


def _correlate_with_others(
    spectra: NDArray[np.complex64],
    smooth: NDArray[np.complex64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    weights: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions at which each frame correlates best with the mean of all others.

    A frame is left out of its own template: its noise would correlate with itself just where
    it was put before, and hold it there.
    """
    side = spectra.shape[1]
    template = _mean_spectrum(smooth, y, x, weights)
    # The mean's own peak says where in the star "the position" is.
    origin = np.zeros(1)
    peak_y, peak_x, _ = _fine_peaks(template[None], origin, origin)
    share = (weights / max(float(weights.sum()), 1e-12)).astype(np.float32)
    phase_y = np.exp(-2j * np.pi * y[:, None] * np.fft.fftfreq(side)).astype(np.complex64)
    phase_x = np.exp(-2j * np.pi * x[:, None] * np.fft.rfftfreq(side)).astype(np.complex64)
    own = np.conj(smooth) * phase_y[:, :, None] * phase_x[:, None, :]
    correlation = spectra * (np.conj(template) - share[:, None, None] * own)
    y, x, _ = _fine_peaks(correlation, y, x)
    return y + peak_y, x + peak_x


def _mean_spectrum(
    spectra: NDArray[np.complex64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    weights: NDArray[np.floating],
) -> NDArray[np.complex64]:
    """Weighted mean of the frames' spectra, each shifted so that its star is at the origin."""
    side = spectra.shape[1]
    phase_y = np.exp(2j * np.pi * y[:, None] * np.fft.fftfreq(side)).astype(np.complex64)
    phase_x = np.exp(2j * np.pi * x[:, None] * np.fft.rfftfreq(side)).astype(np.complex64)
    weight = (weights / max(float(weights.sum()), 1e-12)).astype(np.complex64)
    return np.einsum("n,nyx,ny,nx->yx", weight, spectra, phase_y, phase_x, optimize=True)
