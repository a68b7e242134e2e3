"""Level of the sky far away from a star, and how well it is known.

A sum over the Strehl box multiplies an error of the background by tens of thousands of pixels, so
the level must be that of the *mean*: the median of single pixels is off where the noise is skewed,
as an EMCCD's is. Means of small blocks are nearly Gaussian whatever the pixels' distribution, and
clipping blocks, not pixels, removes stars without touching the noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAX_BLOCK_PX = 16
_MIN_BLOCKS = 64
_CLIP_SIGMA = 3.0
_CLIP_PASSES = 5


@dataclass(frozen=True, kw_only=True)
class Background:
    """The background of a frame.

    Attributes
    ----------
    level : float
        Image units a pixel.
    level_error : float
        Standard error of the level at the star: noise, and the unevenness of the frame on the
        scale asked for.
    block_noise : float
        Robust standard deviation of the means of blocks.
    block_px : int
        Side of a block.
    n_blocks : int
        Blocks that were left after clipping.
    from_ring : bool
        True if the frame was too small and its outermost ring had to do; starlight is then
        counted as background.
    """

    level: float
    level_error: float
    block_noise: float
    block_px: int
    n_blocks: int
    from_ring: bool

    def sum_noise(self, n_pixels: float) -> float:
        """Return the standard deviation of a sum of `n_pixels` of background noise."""
        return self.block_noise * self.block_px * float(np.sqrt(n_pixels))


def measure_background(
    image: NDArray[np.floating],
    x: float,
    y: float,
    *,
    exclude_half_px: float,
    tile_px: float,
) -> Background:
    """Measure the background of a frame away from the star at (x, y).

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Non-finite pixels are left out.
    x, y : float
        The star, 0-based px.
    exclude_half_px : float
        Half-width of the box round the star that is full of its light. Up to three times as much
        is left out where the frame is large enough.
    tile_px : float
        Scale on which the unevenness of the background is measured.

    Returns
    -------
    Background

    Raises
    ------
    ValueError
        If no pixel of the image is finite.
    """
    block = int(np.clip(min(image.shape) // 32, 1, _MAX_BLOCK_PX))
    means, xs, ys = _block_means(image, block)
    if means.size == 0:
        raise ValueError(f"no finite pixels in the image of {image.shape}")
    away = np.maximum(np.abs(xs - x), np.abs(ys - y)) - block / 2
    from_ring = True
    for factor in (3.0, 2.0, 1.5, 1.0):
        outside = away > factor * exclude_half_px
        if outside.sum() >= max(_MIN_BLOCKS, means.size / 4):
            from_ring = False
            break
    if from_ring:
        height, width = image.shape
        margin = np.minimum.reduce([xs, ys, width - 1 - xs, height - 1 - ys])
        outside = margin <= margin.min() + 1.5 * block
    values, xs, ys = means[outside], xs[outside], ys[outside]
    keep = _clip(values)
    values, xs, ys = values[keep], xs[keep], ys[keep]
    median = float(np.median(values))
    noise = _robust_sigma(values)
    mean = float(values.mean())
    # The mean is what a sum over a box contains; the median resists what clipping has left of
    # wings and field stars, which skew the means of blocks far more than noise does.
    level = mean if abs(mean - median) < 0.1 * noise else median
    return Background(
        level=level,
        level_error=_level_error(values, xs, ys, noise, min(tile_px, min(image.shape) / 4)),
        block_noise=noise,
        block_px=block,
        n_blocks=int(values.size),
        from_ring=from_ring,
    )


def _block_means(
    image: NDArray[np.floating], block: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means and centres of the blocks of which at least half the pixels are finite."""
    rows, columns = image.shape[0] // block, image.shape[1] // block
    part = image[: rows * block, : columns * block]
    finite = np.isfinite(part)
    if finite.all():
        counts = np.full((rows, columns), block * block)
    else:
        counts = finite.reshape(rows, block, columns, block).sum(axis=(1, 3))
        part = np.where(finite, part, 0)
    # Rows of blocks first: the long axis is contiguous, so this is one pass over memory.
    sums = part.reshape(rows, block, columns * block).sum(axis=1, dtype=np.float64)
    sums = sums.reshape(rows, columns, block).sum(axis=2)
    good = counts >= block * block / 2
    ys, xs = np.nonzero(good)
    centre = (block - 1) / 2
    means = np.asarray(sums[good] / counts[good], dtype=np.float64)
    return means, np.float64(block) * xs + centre, np.float64(block) * ys + centre


def _clip(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    keep = np.ones(values.size, dtype=bool)
    for _ in range(_CLIP_PASSES):
        sigma = _robust_sigma(values[keep])
        inside = np.abs(values - np.median(values[keep])) <= _CLIP_SIGMA * sigma
        if sigma == 0 or inside.sum() < 4 or (inside == keep).all():
            break
        keep = inside
    return keep


def _level_error(
    values: NDArray[np.float64],
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    noise: float,
    tile_px: float,
) -> float:
    """Noise of the level, and the scatter of tiles beyond what their own noise explains."""
    columns = (xs // tile_px).astype(np.int64)
    tile = (ys // tile_px).astype(np.int64) * (columns.max() + 1) + columns
    counts = np.bincount(tile)
    full = counts >= max(1, counts.max() / 4)
    # The level is a median, or nearly: 1.25 times the error of a mean.
    error = 1.2533 * noise / np.sqrt(values.size)
    if full.sum() < 3:
        return float(error)
    means = np.bincount(tile, weights=values)[full] / counts[full]
    own = noise / np.sqrt(np.median(counts[full]))
    scatter = _robust_sigma(means) if means.size >= 8 else float(means.std(ddof=1))
    return float(np.sqrt(error**2 + max(scatter**2 - own**2, 0.0)))


def _robust_sigma(values: NDArray[np.float64]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
