"""What an astronomer should know before trusting a stack: one registry of flags."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class StackFlag(StrEnum):
    """Words of warning; each has its sentence in `FLAG_MEANINGS`."""

    FEW_FRAMES = "few_frames"
    IDENTICAL_FRAMES = "identical_frames"
    SATURATED = "saturated"
    STAR_LOST = "star_lost"
    NEAR_EDGE = "near_edge"
    NO_CORE = "no_core"


FLAG_MEANINGS = {
    StackFlag.FEW_FRAMES: "fewer frames than a class is told from",
    StackFlag.IDENTICAL_FRAMES: "all frames are the same: the camera repeated itself",
    StackFlag.SATURATED: "the guide star reaches the saturation level in some frames",
    StackFlag.STAR_LOST: "the guide star is lost in some frames (cloud, or it left the field)",
    StackFlag.NEAR_EDGE: "there is no star but one in the border of the field",
    StackFlag.NO_CORE: "bright, but without a diffraction core: resolved, or hardly corrected",
}


def identical_frames(frames: NDArray) -> bool:
    """Return whether there are several frames and all are the same, bit by bit."""
    return len(frames) > 1 and all(np.array_equal(frames[0], frame) for frame in frames[1:])
