"""Cosmic rays in single frames: spikes sharper than any star can be."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.box_noise import border_levels, border_levels_and_scatters
from roboao_assets.science.box_transforms import transfer_psf
from roboao_assets.science.frame_calibration import FrameCalibration

# A spike stands this many standard deviations above its neighbours ...
_SIGNIFICANCE = 8.0
# ... whose median is less than this part of what it is beside the peak of a perfect star.
_SHARPNESS = 0.3
# An electron comes out of the multiplication register with an exponential number of ADU, of
# mean half the variance per ADU: this many times the latter is rarer than one in 100,000.
_PHOTON_TAIL = 6.0
# Lower than this part of the star's own peak a hit is left alone.
_LEAST_HEIGHT = 0.25
# A track is wider than a pixel: what its removal lays bare is looked at again.
_ROUNDS = 8
# The usual height of the star is known well enough from this many frames.
_SAMPLE_FRAMES = 48
# A frame's speckle may be this many times brighter than the mean image is near it.
_SPECKLE_OVER_MEAN = 25.0
# The noise of single frames, with its tail, reaches this many times its 99.99 % quantile.
_TAIL_QUANTILE = 0.9999
_TAIL_FACTOR = 3.0
_SKY_STEP_PX = 4
# Frames and pixels in which the noise is measured; the most that an image is taken to move.
_NOISE_FRAMES = 4
_NOISE_STEP_PX = 3
_MAX_REACH_PX = 40
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class SpikeFinder:
    """Replaces cosmic-ray hits that could be taken for the star by their neighbours' median.

    No light that came through the telescope is sharper than its diffraction-limited PSF: a
    pixel brighter than its eight neighbours, which are much darker than those beside the peak
    of that PSF, was hit, if it stands out of the photon noise. (The idea of L.A.Cosmic, van
    Dokkum 2001, doi:10.1086/323894, with the known PSF in place of the fine structure.)

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, side, side)
        Calibrated cut-outs round a star, of all frames.
    transfer : ndarray of float32, shape (side, side // 2 + 1)
        Transfer function of the telescope.
    variance_per_adu : float
        Photon noise: variance of a pixel over its light (ADU).
    """

    def __init__(
        self, boxes: NDArray[np.float32], transfer: NDArray[np.float32], variance_per_adu: float
    ) -> None:
        psf = transfer_psf(transfer)
        self._beside = np.median([psf[y, x] for y, x in _NEIGHBOURS]) / psf[0, 0]
        self._per_adu = variance_per_adu
        # The rings of a sharp star are broken up by the pixels. What is far below the star's own
        # peak does no harm: it cannot be taken for the star.
        self._height = 0.0
        if len(boxes):
            sampled = boxes[:: -(-len(boxes) // _SAMPLE_FRAMES)]
            self._height = float(np.median(sampled.max(axis=(1, 2)) - border_levels(sampled)))

    def remove(
        self,
        boxes: NDArray[np.float32],
        level: NDArray[np.floating],
        scatter: NDArray[np.floating],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Clean some of the frames.

        Parameters
        ----------
        boxes : ndarray of float32, shape (n, side, side)
        level, scatter : ndarray, shape (n,)
            Median and standard deviation of the boxes' borders (ADU).

        Returns
        -------
        cleaned : ndarray of float32, shape (n, side, side)
            `boxes` itself if nothing was hit.
        hits : ndarray of int64, shape (n,)
            Pixels replaced in each frame.
        """
        cleaned, hits = boxes, np.zeros(len(boxes), np.int64)
        floor = level + np.maximum(_SIGNIFICANCE * scatter, _LEAST_HEIGHT * self._height)
        for _ in range(_ROUNDS):
            frame, y, x = _sharp_pixels(cleaned, level, floor)
            around = np.stack([cleaned[frame, y + dy, x + dx] for dy, dx in _NEIGHBOURS])
            middle = np.median(around, axis=0)
            value, base = cleaned[frame, y, x], level[frame]
            noise = np.sqrt(scatter[frame] ** 2 + self._per_adu * np.maximum(middle - base, 0))
            spike = (
                (value - middle > _SIGNIFICANCE * noise + _PHOTON_TAIL * self._per_adu)
                & (value >= around.max(axis=0, initial=-np.inf))
                & (middle - base < _SHARPNESS * self._beside * (value - base))
            )
            if not spike.any():
                break
            if cleaned is boxes:
                cleaned = boxes.copy()
            cleaned[frame[spike], y[spike], x[spike]] = middle[spike]
            np.add.at(hits, frame[spike], 1)
        return cleaned, hits


def persistent_spikes(
    boxes: NDArray[np.float32], transfer: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Pixels, shape (side, side), that are sharper than any star in the mean of all boxes.

    They are defects of the detector that no master has shown: the mean of a star that wanders
    is wider still than a single frame's.

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, side, side)
    transfer : ndarray of float32, shape (side, side // 2 + 1)
    """
    if len(boxes) == 0:
        return np.zeros(boxes.shape[1:], bool)
    mean = boxes.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
    level, scatter = border_levels_and_scatters(mean)
    cleaned, _ = SpikeFinder(mean, transfer, 0.0).remove(mean, level, scatter)
    return (cleaned != mean)[0]


def _sharp_pixels(
    boxes: NDArray[np.float32], level: NDArray[np.floating], floor: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Frame, row and column of the pixels above `floor` that stand out of their neighbours.

    Few are left for the medians; the frames' borders are left out.
    """
    frame, y, x = np.nonzero(boxes[:, 1:-1, 1:-1] > floor[:, None, None])
    y, x = y + 1, x + 1
    cross = boxes[frame, y - 1, x] + boxes[frame, y + 1, x]
    cross += boxes[frame, y, x - 1] + boxes[frame, y, x + 1]
    base = level[frame]
    sharp = boxes[frame, y, x] - base > 1.5 * (cross / 4 - base)
    return frame[sharp], y[sharp], x[sharp]


def frame_ceiling(
    frames: NDArray,
    bias: NDArray[np.float32],
    mean_image: NDArray[np.float32],
    calibration: FrameCalibration,
    *,
    order: NDArray[np.integer],
    motion_px: float,
) -> NDArray[np.float32]:
    """Value above which a pixel of a calibrated frame was hit by a cosmic ray.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        Raw frames.
    bias : ndarray of float32, shape (n,)
        Level of each (ADU).
    mean_image : ndarray of float32, shape (y, x)
        Their calibrated mean, free of cosmic rays.
    calibration : FrameCalibration
    order : ndarray of int, shape (m,)
        Frames that count; the noise is measured in a few of them.
    motion_px : float
        How far the image moves from its mean position.

    Returns
    -------
    ndarray of float32, shape (y, x)
        ADU.
    """
    # A grid of pixels does for the noise; half of them are dark enough to show no star.
    mean = mean_image[::_NOISE_STEP_PX, ::_NOISE_STEP_PX]
    dark = mean <= np.median(mean)
    noise = np.concatenate(
        [
            (calibration.sample(frames[i], bias[i], _NOISE_STEP_PX) - mean)[dark]
            for i in order[:: max(1, -(-len(order) // _NOISE_FRAMES))]
        ]
    )
    reach_px = min(int(np.ceil(motion_px)) + 2, _MAX_REACH_PX)
    return brightest_possible(mean_image, noise[np.isfinite(noise)], reach_px=reach_px)


def brightest_possible(
    mean_image: NDArray[np.float32], noise: NDArray[np.floating], *, reach_px: int
) -> NDArray[np.float32]:
    """Value above which a pixel of a single frame was hit by a cosmic ray.

    Parameters
    ----------
    mean_image : ndarray of float32, shape (y, x)
        Calibrated mean of the frames, free of cosmic rays.
    noise : ndarray
        Deviations of single frames' dark pixels from their mean, any shape.
    reach_px : int
        How far the image moves from its mean position.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Far above anything that starlight within `reach_px` can give, so that no photometry
        depends on it: a bright speckle is a multiple of the mean image, and the noise is
        taken with its tail, which electron multiplication makes exponential.
    """
    sky = np.median(mean_image[::_SKY_STEP_PX, ::_SKY_STEP_PX])
    tail = np.quantile(np.abs(noise), _TAIL_QUANTILE) if noise.size else 0.0
    light = np.maximum(_local_maximum(mean_image, reach_px) - sky, 0)
    return (light * _SPECKLE_OVER_MEAN + (sky + _TAIL_FACTOR * tail)).astype(np.float32)


def _local_maximum(image: NDArray[np.float32], reach_px: int) -> NDArray[np.float32]:
    """Upper bound of the brightest pixel within `reach_px`, the same for blocks of pixels."""
    height, width = image.shape
    block = max(1, reach_px // 4)
    spare = [(0, -length % block) for length in image.shape]
    blocks = np.pad(image, spare, mode="edge").reshape(
        (height + spare[0][1]) // block, block, (width + spare[1][1]) // block, block
    )
    reach = 2 * -(-reach_px // block) + 1
    brightest = ndimage.maximum_filter(blocks.max(axis=(1, 3)), reach, mode="nearest")
    return brightest.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]
