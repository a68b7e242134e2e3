"""Level and noise of boxes round a star: of the border, and of the star's own photons.

Beyond the cut-off of the telescope there is nothing but noise, and its power there is the sum of
the variances of all pixels. What the border's noise does not explain is photon noise, in
proportion to the light.
"""

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.box_transforms import evaluate, forward, transfer_psf

# Fewer frequencies than this beyond the cut-off do not measure the noise.
_MIN_NOISE_FREQUENCIES = 64
# The photon noise of an observation is known well enough from this many frames.
_SAMPLE_FRAMES = 48


def border_levels(boxes: NDArray[np.float32], width_px: int = 3) -> NDArray[np.float32]:
    """Median of each box's border, shape (n,): the level of the sky and of the far halo."""
    return np.median(_border(boxes, width_px), axis=1)


def border_levels_and_scatters(
    boxes: NDArray[np.float32], width_px: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Median and robust standard deviation of each box's border, both of shape (n,)."""
    border = _border(boxes, width_px)
    levels = np.median(border, axis=1)
    return levels, 1.4826 * np.median(np.abs(border - levels[:, None]), axis=1)


def _border(boxes: NDArray[np.float32], width_px: int) -> NDArray[np.float32]:
    width = min(width_px, boxes.shape[1] // 4)
    strips = (
        boxes[:, :width, :],
        boxes[:, -width:, :],
        boxes[:, width:-width, :width],
        boxes[:, width:-width, -width:],
    )
    flat = [strip.reshape(len(boxes), strip.shape[1] * strip.shape[2]) for strip in strips]
    return np.concatenate(flat, axis=1)


class BoxNoise:
    """What the transfer function of the telescope tells of the noise in boxes of its size.

    Parameters
    ----------
    transfer : ndarray of float32, shape (side, side // 2 + 1)
        Transfer function of the telescope, see `box_transforms.telescope_transfer`.
    """

    def __init__(self, transfer: NDArray[np.float32]) -> None:
        self.side = transfer.shape[0]
        beyond = transfer == 0
        self.measures_photons = int(beyond.sum()) >= _MIN_NOISE_FREQUENCIES
        # Squares of real and imaginary parts, one after the other, are summed by one product.
        mean = beyond.astype(np.float32) / max(1, int(beyond.sum()))
        self._beyond = np.repeat(mean.ravel(), 2)
        psf2 = transfer_psf(transfer) ** 2
        self._psf2_sum = float(psf2.sum())
        self._psf2_spectrum = np.fft.rfft2(psf2).astype(np.complex64)

    def photon_noise(
        self,
        spectra: NDArray[np.complex64],
        flux: NDArray[np.floating],
        scatter: NDArray[np.floating],
    ) -> NDArray[np.float64]:
        """Variance of a pixel over its light (ADU) in each frame, shape (n,); 0 if unknown."""
        if not self.measures_photons:
            return np.zeros(len(spectra))
        parts = np.ascontiguousarray(spectra).view(np.float32).reshape(len(spectra), -1)
        power = (parts * parts) @ self._beyond
        excess = power.astype(np.float64) - self.side**2 * scatter.astype(np.float64) ** 2
        return np.maximum(excess, 0) / np.maximum(flux, 1e-6)

    def peak_noise(
        self,
        spectra: NDArray[np.complex64],
        scatter: NDArray[np.floating],
        per_light: NDArray[np.floating],
        y: NDArray[np.float64],
        x: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Noise, at (y, x), of frames that were filtered with the telescope's PSF; shape (n,)."""
        variance = scatter.astype(np.float64) ** 2 * self._psf2_sum
        if self.measures_photons:
            light = evaluate(spectra * self._psf2_spectrum, y, x)
            variance += per_light * np.maximum(light, 0)
        return np.sqrt(np.maximum(variance, 1e-12))


def variance_per_adu(boxes: NDArray[np.float32], transfer: NDArray[np.float32]) -> float:
    """Photon noise: variance of a pixel over its light (ADU), median of a sample of the frames.

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
    noise = BoxNoise(transfer)
    if len(boxes) == 0 or not noise.measures_photons:
        return 0.0
    sampled = boxes[:: -(-len(boxes) // _SAMPLE_FRAMES)]
    level, scatter = border_levels_and_scatters(sampled)
    stars = sampled - level[:, None, None]
    flux = stars.sum(axis=(1, 2), dtype=np.float64)
    per_light = noise.photon_noise(forward(stars), flux, scatter)
    return float(np.median(per_light[flux > 0])) if (flux > 0).any() else 0.0
