"""Where the star stands in each frame, to a fraction of a pixel, and how sharp it is.

Frames are measured in a box round the guide star, in Fourier space: a matched
filter of the size of the diffraction core gives peak and quality, and the
cross-correlation with the mean of all frames, evaluated on a finer grid by a
matrix Fourier transform, gives the shift (Guizar-Sicairos, Thurman & Fienup 2008,
doi:10.1364/OL.33.000156).
"""

from dataclasses import dataclass

import numpy as np
import pyfftw
from numpy.typing import NDArray

# Half-width (raw px) and step of the fine grid on which a correlation peak is found.
# The peak is smooth on the scale of the core (> 2 px), so that a parabola through
# points 1/8 px apart is right to a thousandth of a pixel.
_FINE_HALF_PX = 1.0
_FINE_STEP_PX = 0.125


@dataclass(frozen=True, kw_only=True)
class FrameMeasures:
    """What is known of each of n frames; arrays of length n.

    Attributes
    ----------
    x, y : ndarray of float64
        Position of the star in the box (px).
    quality : ndarray of float32
        Peak of the star filtered with the diffraction core over its flux: larger is sharper.
    flux : ndarray of float32
        Star's flux in the box above the box's border (ADU).
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    quality: NDArray[np.float32]
    flux: NDArray[np.float32]


def measure_frames(
    boxes: NDArray[np.float32],
    *,
    core_sigma_px: float,
    search_half_px: float,
    rounds: int = 2,
    threads: int = 1,
) -> FrameMeasures:
    """Measure position, quality and flux of the star in each box.

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, side, side)
        Calibrated cut-outs round the guide star, the same for all frames.
    core_sigma_px : float
        Gaussian width of the diffraction core (0.42 lambda / D in px).
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
        empty = np.zeros(0)
        none = np.zeros(0, np.float32)
        return FrameMeasures(x=empty, y=empty.copy(), quality=none, flux=none.copy())
    stars = boxes - border_levels(boxes)[:, None, None]
    flux = stars.sum(axis=(1, 2), dtype=np.float64).astype(np.float32)
    spectra = pyfftw.interfaces.numpy_fft.rfft2(stars, threads=threads)
    core = core_spectrum(side, core_sigma_px)
    filtered = pyfftw.interfaces.numpy_fft.irfft2(
        spectra * core, s=(side, side), axes=(1, 2), threads=threads
    )
    y, x, peak = _whole_pixel_peaks(filtered, search_half_px)
    y, x, peak = _fine_peaks(spectra * core, y, x)
    quality = (peak / np.maximum(flux, 1e-6)).astype(np.float32)
    weights = np.clip(quality, 0, None) * np.clip(flux, 0, None)
    for _ in range(rounds):
        template = _mean_spectrum(spectra, y, x, weights)
        # The mean's own peak says where in the star "the position" is.
        origin = np.zeros(1)
        peak_y, peak_x, _ = _fine_peaks((template * core)[None], origin, origin)
        y, x, _ = _fine_peaks(spectra * np.conj(template) * core, y, x)
        y, x = y + peak_y, x + peak_x
    return FrameMeasures(x=x, y=y, quality=quality, flux=flux)


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


def core_spectrum(side: int, sigma_px: float) -> NDArray[np.float32]:
    """Real transform, shape (side, side // 2 + 1), of a Gaussian core of unit sum at the origin."""
    fy = np.fft.fftfreq(side)[:, None]
    fx = np.fft.rfftfreq(side)[None, :]
    return np.exp(-2 * (np.pi * sigma_px) ** 2 * (fy**2 + fx**2)).astype(np.float32)


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
