"""Boxes round a star in Fourier space: transforms, and values between the pixels.

Images are evaluated off the pixel grid by a matrix Fourier transform (Guizar-Sicairos, Thurman &
Fienup 2008, doi:10.1364/OL.33.000156).
"""

import numpy as np
import pyfftw
from numpy.typing import NDArray

from roboao_assets.science.diffraction import annular_otf

# Half-width (raw px) and step of the fine grid on which a correlation peak is found.
# The peak is smooth on the scale of the core (> 2 px), so that a parabola through
# points 1/8 px apart is right to a thousandth of a pixel.
_FINE_HALF_PX = 1.0
_FINE_STEP_PX = 0.125


def forward(images: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Real transform of each image; (n, y, x) to (n, y, x // 2 + 1)."""
    number, height, width = images.shape
    source = pyfftw.empty_aligned(images.shape, np.float32)
    spectra = pyfftw.empty_aligned((number, height, width // 2 + 1), np.complex64)
    # Estimated plans: measured ones depend on the machine's mood, and so would the last bits.
    plan = pyfftw.FFTW(source, spectra, axes=(1, 2), flags=("FFTW_ESTIMATE",))
    source[:] = images
    plan.execute()
    return spectra


def backward(spectra: NDArray[np.complex64], width: int) -> NDArray[np.float32]:
    """Images of `width` columns whose transforms are `spectra`."""
    number, height, _ = spectra.shape
    source = pyfftw.empty_aligned(spectra.shape, np.complex64)
    images = pyfftw.empty_aligned((number, height, width), np.float32)
    plan = pyfftw.FFTW(
        source, images, axes=(1, 2), direction="FFTW_BACKWARD", flags=("FFTW_ESTIMATE",)
    )
    source[:] = spectra
    plan.execute()
    images /= height * width
    return images


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


def shift_phases(
    side: int, y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Factors, shapes (n, side) and (n, side // 2 + 1), that bring (y, x) to the origin."""
    to_y = np.exp(2j * np.pi * y[:, None] * np.fft.fftfreq(side)).astype(np.complex64)
    to_x = np.exp(2j * np.pi * x[:, None] * np.fft.rfftfreq(side)).astype(np.complex64)
    return to_y, to_x


def recentred_sum(
    spectra: NDArray[np.complex64],
    shares: NDArray[np.floating],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.complex64]:
    """Weighted sum of spectra, each shifted so that its (y, x) is at the origin.

    Parameters
    ----------
    spectra : ndarray of complex64, shape (n, side, side // 2 + 1)
    shares : ndarray, shape (n,)
        Weights.
    y, x : ndarray of float64, shape (n,)
    """
    to_y, to_x = shift_phases(spectra.shape[1], y, x)
    to_y *= shares[:, None].astype(np.float32)
    moved = spectra * to_x[:, None, :]
    moved *= to_y[:, :, None]
    return moved.sum(axis=0)


def correlate_with_rest(
    spectra: NDArray[np.complex64],
    template: NDArray[np.complex64],
    shares: NDArray[np.floating],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    transfer: NDArray[np.float32],
) -> NDArray[np.complex64]:
    """Spectra of the correlations of images with a filtered mean of all the others.

    An image is left out of its own template: its noise would correlate with itself just where
    it was put before, and hold it there.

    Parameters
    ----------
    spectra : ndarray of complex64, shape (n, side, side // 2 + 1)
    template : ndarray of complex64, shape (side, side // 2 + 1)
        `recentred_sum` of all images.
    shares : ndarray, shape (n,)
        What each has in it.
    y, x : ndarray of float64, shape (n,)
        Where each was recentred.
    transfer : ndarray of float32, shape (side, side // 2 + 1)
        The filter.
    """
    to_y, to_x = shift_phases(spectra.shape[1], -y, -x)
    rest = np.conj(spectra) * to_x[:, None, :]
    rest *= (shares[:, None].astype(np.float32) * to_y)[:, :, None]
    np.subtract(np.conj(template), rest, out=rest)
    rest *= transfer
    rest *= spectra
    return rest


def evaluate(
    spectra: NDArray[np.complex64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Value of the inverse transform of each spectrum at (y, x), between pixels too.

    Parameters
    ----------
    spectra : ndarray of complex64, shape (n, side, side // 2 + 1)
    y, x : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    side = spectra.shape[1]
    to_y, to_x = shift_phases(side, y, x)
    rows = (spectra @ (to_x * column_counts(side))[:, :, None])[:, :, 0]
    return np.sum(to_y * rows, axis=1).real.astype(np.float64) / side**2


def fine_peaks(
    spectra: NDArray[np.complex64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Peak of the inverse transform of each spectrum near (y, x), off the pixel grid.

    Parameters
    ----------
    spectra : ndarray of complex64, shape (n, side, side // 2 + 1)
    y, x : ndarray of float64, shape (n,)
        The peak is looked for within a pixel of it.

    Returns
    -------
    y, x : ndarray of float64, shape (n,)
    peak : ndarray of float32, shape (n,)
    """
    side = spectra.shape[1]
    offsets = np.arange(-_FINE_HALF_PX, _FINE_HALF_PX + _FINE_STEP_PX / 2, _FINE_STEP_PX)
    fx = np.fft.rfftfreq(side)
    # exp(a + b) = exp(a) exp(b): the offsets are the same for all frames.
    step_y = np.exp(2j * np.pi * offsets[:, None] * np.fft.fftfreq(side)).astype(np.complex64)
    step_x = np.exp(2j * np.pi * offsets * fx[:, None]).astype(np.complex64)
    near_y, near_x = shift_phases(side, y, x)
    to_x = (near_x * column_counts(side))[:, :, None] * step_x
    to_y = near_y[:, None, :] * step_y
    fine = (to_y @ (spectra @ to_x)).real / side**2
    return _parabolic_peaks(fine, y, x, offsets)


def column_counts(side: int) -> NDArray[np.float32]:
    """How often each column of a real transform counts, shape (side // 2 + 1,): it stores half."""
    fx = np.fft.rfftfreq(side)
    return np.where((fx == 0) | (fx == 0.5), 1.0, 2.0).astype(np.float32)


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
