"""Finding the star on which the frames are registered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.errors import NoStarError

# A Gaussian is sampled well enough by blocks of its sigma over this.
_SIGMA_PER_BLOCK = 2.5


@dataclass(frozen=True, kw_only=True)
class GuideStar:
    """The lock star on the mean image.

    Attributes
    ----------
    x, y : float
        Position of its peak (0-based raw px).
    significance : float
        Height of the difference of Gaussians over its robust scatter.
    """

    x: float
    y: float
    significance: float


def find_guide_star(
    image: NDArray[np.floating],
    *,
    star_sigma_px: float,
    background_sigma_px: float,
    edge_px: int,
    min_significance: float = 4.0,
) -> GuideStar:
    """Return the brightest star: the peak of a difference of Gaussians away from the edges.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Mean of the frames, finite.
    star_sigma_px, background_sigma_px : float
        The two Gaussians (raw px). The image is blurred by the first, so that a
        hot pixel does not pass for a star, and the second is taken off it.
    edge_px : int
        Width of the border in which no star is looked for; at most a fifth of the frame.
    min_significance : float
        A peak lower than this many robust standard deviations is no star.

    Raises
    ------
    NoStarError
        If nothing stands out.
    """
    height, width = image.shape
    edge = min(edge_px, min(height, width) // 5)
    # A Gaussian of 10 px needs no 1 px sampling: averaging blocks is faster by their area.
    block = max(1, int(star_sigma_px // _SIGMA_PER_BLOCK))
    small = _block_mean(image, block)
    background = ndimage.gaussian_filter(small, background_sigma_px / block, truncate=3.0)
    contrast = ndimage.gaussian_filter(small, star_sigma_px / block, truncate=3.0) - background
    margin = max(1, -(-edge // block))
    inner = contrast[margin:-margin, margin:-margin]
    scatter = 1.4826 * np.median(np.abs(inner - np.median(inner)))
    # The flank of a star in the border is no star: only what tops its surroundings is.
    reach = 2 * max(1, round(star_sigma_px / block)) + 1
    tops = contrast >= ndimage.maximum_filter(contrast, reach)
    height_of_tops = np.where(tops[margin:-margin, margin:-margin], inner, -np.inf)
    peak = np.unravel_index(np.argmax(height_of_tops), inner.shape)
    significance = float((inner[peak] - np.median(inner)) / max(scatter, 1e-12))
    if significance < min_significance:
        raise NoStarError(
            f"no guide star in the {width} x {height} px mean image: its brightest peak stands "
            f"{significance:.1f} standard deviations high, {min_significance:g} are needed"
        )
    rough_y, rough_x = ((p + margin + 0.5) * block - 0.5 for p in peak)
    y, x = _sharpen(image, rough_y, rough_x, reach=int(np.ceil(1.5 * star_sigma_px)), edge=edge)
    return GuideStar(x=x, y=y, significance=significance)


def _block_mean(image: NDArray[np.floating], block: int) -> NDArray[np.float32]:
    height, width = (n // block * block for n in image.shape)
    cut = image[:height, :width].reshape(height // block, block, width // block, block)
    return cut.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)


def _sharpen(
    image: NDArray[np.floating], rough_y: float, rough_x: float, *, reach: int, edge: int
) -> tuple[float, float]:
    """Position of the brightest 3-px-wide peak within `reach` of the rough one."""
    height, width = image.shape
    top, left = max(edge, int(rough_y) - reach), max(edge, int(rough_x) - reach)
    bottom = min(height - edge, int(rough_y) + reach + 1)
    right = min(width - edge, int(rough_x) + reach + 1)
    # Median of 3 x 3 first: a hot pixel has no neighbours.
    near = ndimage.median_filter(image[top:bottom, left:right], 3)
    near = ndimage.gaussian_filter(near, 1.2)
    y, x = np.unravel_index(np.argmax(near), near.shape)
    return float(y + top), float(x + left)
