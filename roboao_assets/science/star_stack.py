"""Frames drizzled so that their star comes to stand in the middle of an output pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import roboao_native as native
from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.science.instrument import InstrumentProfile


@dataclass(frozen=True, kw_only=True)
class StarStacks:
    """Stacks on one star.

    Attributes
    ----------
    images, weights : ndarray of float32, shape (m, y, x)
        ADU of a raw pixel and frame; NaN, and weight 0, where no frame contributes.
    lock_x, lock_y : float
        Position of the star in them (0-based drizzled px).
    """

    images: NDArray[np.float32]
    weights: NDArray[np.float32]
    lock_x: float
    lock_y: float


def drizzle_on_star(
    frames: NDArray,
    order: NDArray[np.integer],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    counts: Sequence[int],
    bias: NDArray[np.float32],
    ceiling: NDArray[np.float32],
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    threads: int,
) -> StarStacks:
    """Drizzle frames on the median position of their star.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        Raw frames.
    order : ndarray of int, shape (k,)
        Numbers of the frames that are stacked, best first.
    x, y : ndarray of float64, shape (k,)
        Positions of the star in them (0-based raw px).
    counts : sequence of int, shape (m,)
        Increasing numbers of frames, a stack each.
    bias : ndarray of float32, shape (n,)
        Level of each frame (ADU).
    ceiling : ndarray of float32, shape (y, x)
        Values above it were hit by a cosmic ray; see `cosmic_rays.brightest_possible`.
    calibration : FrameCalibration
    profile : InstrumentProfile
    threads : int
    """
    scale = profile.drizzle_scale
    # In the middle of an output pixel the star's peak is sampled.
    lock_x, lock_y = (float(np.rint((np.median(p) + 0.5) * scale - 0.5)) for p in (x, y))
    target_x, target_y = ((p + 0.5) / scale - 0.5 for p in (lock_x, lock_y))
    images, weights = native.drizzle(
        frames,
        order,
        np.column_stack([target_x - x, target_y - y]),
        dark=calibration.dark,
        inverse_flat=calibration.inverse_flat,
        weight=calibration.weight,
        bias=bias,
        ceiling=ceiling,
        scale=scale,
        pixfrac=profile.drizzle_pixfrac,
        boundaries=counts,
        threads=threads,
    )
    return StarStacks(images=images, weights=weights, lock_x=lock_x, lock_y=lock_y)
