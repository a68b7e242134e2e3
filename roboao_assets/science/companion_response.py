"""What a subtraction leaves of a companion, at every place of the frame at once.

A companion is a shifted, scaled copy of the star. The subtraction of orthonormal components
B_k is linear, so the flux that it leaves in an aperture a on the companion is

    a . c - sum_k (a . B_k) (B_k . c)

and both products are, as functions of the companion's place, correlations: of the component
with the aperture, and of the component with the star. Injecting a companion at every pixel
costs three Fourier transforms a component.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from roboao_assets.science.errors import ScienceError
from roboao_assets.science.rdi_pca import PrincipalComponents

# Components that are transformed at once: more would only take more memory.
_AT_ONCE = 16


def aperture_kernel(fwhm_px: float) -> NDArray[np.float64]:
    """Weights of the pixels in a circular aperture of one FWHM in diameter (exact overlap).

    Returns
    -------
    ndarray, float64, shape (2 r + 1, 2 r + 1)
        Centred on the middle pixel.
    """
    # Takes seconds to import: only what needs it pays.
    from photutils.aperture import CircularAperture

    reach = math.ceil(fwhm_px / 2) + 1
    mask = CircularAperture((reach, reach), fwhm_px / 2).to_mask(method="exact")
    return mask.to_image((2 * reach + 1, 2 * reach + 1))


def aperture_fluxes(image: NDArray[np.floating], fwhm_px: float) -> NDArray[np.float64]:
    """Flux in the aperture of one FWHM in diameter centred on each pixel.

    Parameters
    ----------
    image : ndarray, shape (y, x)
        What is outside of it counts as zero.
    """
    kernel = aperture_kernel(fwhm_px)
    return ndimage.correlate(np.asarray(image, dtype=np.float64), kernel, mode="constant")


def star_flux(frame: NDArray[np.floating], fwhm_px: float) -> float:
    """Flux of the star on the central pixel in the aperture of one FWHM in diameter.

    Raises
    ------
    ScienceError
        It is not positive.
    """
    kernel = aperture_kernel(fwhm_px)
    reach, half = kernel.shape[0] // 2, frame.shape[0] // 2
    middle = slice(half - reach, half + reach + 1)
    flux = float((np.asarray(frame[middle, middle], np.float64) * kernel).sum())
    if not flux > 0:
        raise ScienceError(
            f"the star's flux in the central {fwhm_px:.1f} px is {flux:.4g}: contrasts have "
            f"nothing to be relative to"
        )
    return flux


def throughput_map(
    frame: NDArray[np.floating],
    components: PrincipalComponents,
    fwhm_px: float,
    *,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Fraction of a companion's flux that the subtraction leaves, for one at each pixel.

    Parameters
    ----------
    frame : ndarray, shape (2 h + 1, 2 h + 1)
        Prepared star, on the central pixel: the companion is a copy of it.
    components : PrincipalComponents
        What is subtracted.
    fwhm_px : float
        Diameter of the aperture.
    threads : int

    Returns
    -------
    ndarray, float64, shape of `frame`
    """
    star = np.asarray(frame, dtype=np.float64)
    flux = star_flux(star, fwhm_px)
    kernel = aperture_kernel(fwhm_px)
    # Room for shifts of the whole frame, so that no copy comes in again on the other side.
    side = fft.next_fast_len(star.shape[0] + star.shape[0] // 2, real=True)
    of_star = _transform_of_correlation(star, side)
    of_aperture = _transform_of_correlation(kernel, side)
    lost = np.zeros(star.shape)
    vectors = components.vectors.reshape(-1, *star.shape)
    for first in range(0, len(vectors), _AT_ONCE):
        transform = fft.rfft2(vectors[first : first + _AT_ONCE], (side, side), workers=threads)
        with_star, with_aperture = (
            fft.irfft2(transform * other, (side, side), workers=threads)[
                :, : star.shape[0], : star.shape[1]
            ]
            for other in (of_star, of_aperture)
        )
        lost += np.einsum("kyx,kyx->yx", with_star, with_aperture)
    return 1.0 - lost / flux


def _transform_of_correlation(image: NDArray[np.float64], side: int) -> NDArray[np.complex128]:
    """Transform by which that of a frame is multiplied to be correlated with a centred image."""
    half_y, half_x = (n // 2 for n in image.shape)
    padded = np.zeros((side, side))
    padded[: image.shape[0], : image.shape[1]] = image
    return np.conj(fft.rfft2(np.roll(padded, (-half_y, -half_x), axis=(0, 1))))


def radial_mean(image: NDArray[np.float64], radius_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of an image along circles round its central pixel (a sample a pixel, linear).

    Parameters
    ----------
    image : ndarray, float64, shape (2 h + 1, 2 h + 1)
    radius_px : ndarray, float64, shape (n,)

    Returns
    -------
    ndarray, float64, shape (n,)
    """
    half = image.shape[0] // 2
    means = np.empty(len(radius_px))
    for i, radius in enumerate(radius_px):
        angle = np.linspace(0, 2 * np.pi, max(8, round(2 * np.pi * radius)), endpoint=False)
        places = [half + radius * np.sin(angle), half + radius * np.cos(angle)]
        means[i] = ndimage.map_coordinates(image, places, order=1, mode="nearest").mean()
    return means
