"""What single frames look like round the guide star: a summary that shows the weather."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.box_transforms import backward, forward, shift_phases
from roboao_assets.science.registration import FrameMeasures

# Single frames kept, from the sharpest to the least sharp.
_SINGLE_FRAMES = 11


@dataclass(frozen=True, kw_only=True)
class FramePsfs:
    """The guide star in single frames.

    Attributes
    ----------
    images : ndarray of float32, shape (k, side, side)
        Frames at equal steps of the order by quality, best first; the star recentred on the
        pixel (side // 2, side // 2), in ADU above the box's border.
    frames : ndarray of int64, shape (k,)
        Their numbers.
    quick_look : ndarray of float32, shape (side, side)
        Mean of the sampled frames, shifted by whole pixels: shift-and-add.
    """

    images: NDArray[np.float32]
    frames: NDArray[np.int64]
    quick_look: NDArray[np.float32]


def summarise_psfs(
    measures: FrameMeasures, order: NDArray[np.int64], *, sample_every: int
) -> FramePsfs:
    """Choose single frames by quality and recentre them; shift and add a sample.

    Parameters
    ----------
    measures : FrameMeasures
        Of all frames.
    order : ndarray of int, shape (m,)
        Numbers of the usable frames, best first; at least one.
    sample_every : int
        Every such frame in time goes into the quick look.
    """
    places = np.unique(np.linspace(0, len(order) - 1, _SINGLE_FRAMES).round().astype(int))
    frames = order[places]
    stars = measures.stars[frames]
    side = stars.shape[1]
    to_y, to_x = shift_phases(side, measures.y[frames] - side // 2, measures.x[frames] - side // 2)
    images = backward(forward(stars) * to_y[:, :, None] * to_x[:, None, :], side)
    return FramePsfs(
        images=images,
        frames=frames,
        quick_look=_shift_and_add(measures, np.sort(order)[::sample_every]),
    )


def _shift_and_add(measures: FrameMeasures, frames: NDArray[np.int64]) -> NDArray[np.float32]:
    side = measures.stars.shape[1]
    total = np.zeros((side, side))
    count = np.zeros((side, side))
    for frame in frames:
        dy, dx = (side // 2 - round(float(p[frame])) for p in (measures.y, measures.x))
        # What is shifted in from outside the box is not known: it counts for nothing.
        to = tuple(slice(max(0, d), side + min(0, d)) for d in (dy, dx))
        source = tuple(slice(max(0, -d), side + min(0, -d)) for d in (dy, dx))
        total[to] += measures.stars[frame][source]
        count[to] += 1
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0).astype(np.float32)
