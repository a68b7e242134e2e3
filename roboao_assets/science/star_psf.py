"""The PSF to deconvolve with, cut from the image of a star.

The library's frames are high-pass filtered, which serves the PCA and takes the halo away; half of
a disc's blur is halo. So the PSF is cut from a star's stack.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.errors import OutsideOfDataError, ScienceError

# The star's peak is looked for this far from where it was said to be.
_REACH_PX = 5
# A ring whose mean stands this many sigma of a pixel high is made of pixels; further out the mean
# is used, as the noise of pixels would be deconvolved with.
_PIXEL_SIGMA = 3.0


def cut_star_psf(
    image: NDArray[np.floating], x: float, y: float, half_px: int
) -> NDArray[np.float32]:
    """Return the PSF round a star: its peak in the middle, not negative, unit sum.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        May hold NaN, which rings' means replace.
    x, y : float
        Position of the star (0-based px).
    half_px : int
        The PSF is 2 `half_px` + 1 px wide; the level of its outermost ring is its background.

    Raises
    ------
    OutsideOfDataError
        If the star's surroundings are not in the image.
    ScienceError
        If there is no light.
    """
    left, top = round(x) - half_px - 1, round(y) - half_px - 1
    side = 2 * half_px + 3
    rows, columns = image.shape
    if left < 0 or top < 0 or left + side > columns or top + side > rows:
        raise OutsideOfDataError(
            f"the star at ({x:.0f}, {y:.0f}) is less than {half_px + 1} px from the edge of the "
            f"{columns} x {rows} px image: no PSF of that size can be cut"
        )
    box = np.array(image[top : top + side, left : left + side], np.float64)
    middle = half_px + 1
    at_y, at_x = _peak(np.where(np.isfinite(box), box, -np.inf), middle)
    radius = np.hypot(*np.ogrid[-middle : middle + 1, -middle : middle + 1])
    rim = box[(radius > 0.92 * half_px) & (radius <= half_px) & np.isfinite(box)]
    if rim.size == 0:
        raise OutsideOfDataError(f"round the star at ({x:.0f}, {y:.0f}) there are no data")
    level, noise = np.median(rim), 1.4826 * np.median(np.abs(rim - np.median(rim)))
    box = _smooth_wings(box - level, at_y, at_x, max(noise, 1e-30))
    # A spline keeps the core's height to a per cent on drizzled pixels.
    box = ndimage.shift(box, (middle - at_y, middle - at_x), order=3, mode="nearest")
    psf = np.where(radius <= half_px, np.maximum(box, 0.0), 0.0)[1:-1, 1:-1]
    total = float(psf.sum())
    if total <= 0:
        raise ScienceError(f"at ({x:.0f}, {y:.0f}) there is no light to make a PSF from")
    return (psf / total).astype(np.float32)


def _peak(box: NDArray[np.float64], middle: int) -> tuple[float, float]:
    """Position (y, x) of the peak, by parabolas."""
    near = box[
        middle - _REACH_PX : middle + _REACH_PX + 1, middle - _REACH_PX : middle + _REACH_PX + 1
    ]
    y, x = (int(p) + middle - _REACH_PX for p in np.unravel_index(near.argmax(), near.shape))
    position = []
    for at, line in ((y, box[y - 1 : y + 2, x]), (x, box[y, x - 1 : x + 2])):
        curvature = line[0] - 2 * line[1] + line[2]
        move = 0.5 * (line[0] - line[2]) / curvature if curvature < 0 else 0.0
        position.append(at + float(np.clip(np.nan_to_num(move), -0.5, 0.5)))
    return position[0], position[1]


def _smooth_wings(
    box: NDArray[np.float64], at_y: float, at_x: float, noise: float
) -> NDArray[np.float64]:
    """Replace what drowns in the noise, or is not there, by the mean of its ring."""
    rows, columns = np.indices(box.shape)
    ring = np.rint(np.hypot(rows - at_y, columns - at_x)).astype(int)
    finite = np.isfinite(box)
    number = np.bincount(ring[finite], minlength=ring.max() + 1)
    total = np.bincount(ring[finite], weights=box[finite], minlength=ring.max() + 1)
    mean = total / np.maximum(number, 1)
    drowned = mean < _PIXEL_SIGMA * noise
    first = int(np.argmax(drowned)) if drowned.any() else len(mean)
    return np.where(finite & (ring < first), box, mean[ring])
