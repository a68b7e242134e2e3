"""Short stacks: the star's surroundings in the states that the correction went through.

One long stack says what the PSF is on average. Consecutive frames drizzled apart say how it
varies, and that is what another star's PSF differs by: see `rdi_pca.principal_modes`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.star_stack import drizzle_on_star

# The drops of fewer frames leave gaps between them.
MIN_FRAMES = 4


def stack_in_groups(
    frames: NDArray,
    order: NDArray[np.integer],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    number: int,
    half_px: int,
    bias: NDArray[np.float32],
    ceiling: NDArray[np.float32],
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    threads: int,
) -> NDArray[np.float32]:
    """Drizzle groups of frames that follow each other, in a box round their star.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        Raw frames.
    order : ndarray of int, shape (k,)
        Numbers of the frames that are stacked.
    x, y : ndarray of float64, shape (k,)
        Positions of the star in them (0-based raw px).
    number : int
        Groups wanted; fewer are made where a group would have less than `MIN_FRAMES`.
    half_px : int
        Half-width of the box (drizzled px).
    bias, ceiling, calibration, profile, threads
        As in `drizzle_on_star`.

    Returns
    -------
    ndarray of float32, shape (<= number, 2 half_px + 1, 2 half_px + 1)
        ADU of a raw pixel and frame, in time order, the star on the central pixel; NaN where
        there are no data.
    """
    scale = profile.drizzle_scale
    number = min(number, len(order) // MIN_FRAMES)
    if number < 1:
        return np.empty((0, 2 * half_px + 1, 2 * half_px + 1), np.float32)
    in_time = np.argsort(order)
    reach = math.ceil((half_px + 1) / scale) + 1
    window = tuple(
        slice(max(0, math.floor(p.min()) - reach), min(size, math.ceil(p.max()) + reach + 1))
        for p, size in zip((y, x), frames.shape[1:], strict=True)
    )
    top, left = window[0].start, window[1].start
    stacks = []
    for group in np.array_split(in_time, number):
        numbers = order[group]
        made = drizzle_on_star(
            np.ascontiguousarray(frames[numbers][:, window[0], window[1]]),
            np.arange(len(numbers)),
            x[group] - left,
            y[group] - top,
            counts=[len(numbers)],
            bias=bias[numbers],
            ceiling=np.ascontiguousarray(ceiling[window]),
            calibration=calibration.cut(window),
            profile=profile,
            threads=threads,
        )
        stacks.append(_cut(made.images[0], round(made.lock_x), round(made.lock_y), half_px))
    return np.array(stacks)


def _cut(image: NDArray[np.float32], x: int, y: int, half_px: int) -> NDArray[np.float32]:
    """Box round pixel (x, y); NaN outside of the image."""
    box = np.full((2 * half_px + 1, 2 * half_px + 1), np.nan, np.float32)
    rows, columns = (
        slice(max(0, p - half_px), min(size, p + half_px + 1))
        for p, size in zip((y, x), image.shape, strict=True)
    )
    box[
        rows.start - y + half_px : rows.stop - y + half_px,
        columns.start - x + half_px : columns.stop - x + half_px,
    ] = image[rows, columns]
    return box
