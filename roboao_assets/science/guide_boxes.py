"""Boxes cut round the guide star from all frames, calibrated and free of defects."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import roboao_native as native
from roboao_assets.science.box_transforms import telescope_transfer
from roboao_assets.science.cosmic_rays import persistent_spikes
from roboao_assets.science.frame_averages import without_nonfinite
from roboao_assets.science.frame_calibration import FrameCalibration, fill_bad_pixels
from roboao_assets.science.guide_star import GuideStar
from roboao_assets.science.instrument import InstrumentProfile


@dataclass(frozen=True, kw_only=True)
class GuideBoxes:
    """The guide star in all frames.

    Attributes
    ----------
    images : ndarray of float32, shape (n, side, side)
        Calibrated; bad pixels have the median of their neighbours.
    left, top : int
        Column and row of the frame at which the boxes begin.
    transfer : ndarray of float32, shape (side, side // 2 + 1)
        Transfer function of the telescope.
    calibration : FrameCalibration
        What they were calibrated with, defects found here having no weight.
    """

    images: NDArray[np.float32]
    left: int
    top: int
    transfer: NDArray[np.float32]
    calibration: FrameCalibration


def cut_guide_boxes(
    frames: NDArray,
    bias: NDArray[np.float32],
    star: GuideStar,
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    *,
    wavelength_nm: float,
    threads: int = 1,
) -> GuideBoxes:
    """Cut, calibrate and clean the boxes.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        Raw frames.
    bias : ndarray of float32, shape (n,)
        Level of each (ADU).
    star : GuideStar
        In the middle of the boxes, unless it stands near the edge.
    calibration : FrameCalibration
    profile : InstrumentProfile
    wavelength_nm : float
    threads : int
    """
    height, width = frames.shape[1:]
    side = min(profile.guide_box_px, height, width) // 2 * 2
    left = int(np.clip(round(star.x) - side // 2, 0, width - side))
    top = int(np.clip(round(star.y) - side // 2, 0, height - side))
    transfer = telescope_transfer(
        side,
        plate_scale_arcsec=profile.plate_scale_arcsec,
        wavelength_nm=wavelength_nm,
        primary_diameter_m=profile.primary_diameter_m,
        secondary_diameter_m=profile.secondary_diameter_m,
    )
    boxes = native.calibrate_boxes(
        frames,
        left,
        top,
        side,
        calibration.dark,
        calibration.inverse_flat,
        bias,
        threads=threads,
    )
    boxes, _ = without_nonfinite(boxes)
    cut = (slice(top, top + side), slice(left, left + side))
    if calibration.weight is not None:
        fill_bad_pixels(boxes, calibration.weight[cut] == 0)
    defects = persistent_spikes(boxes, transfer)
    if defects.any():
        fill_bad_pixels(boxes, defects)
        weight = calibration.weight
        weight = np.ones((height, width), np.float32) if weight is None else weight.copy()
        weight[cut][defects] = 0
        calibration = replace(calibration, weight=weight)
    return GuideBoxes(images=boxes, left=left, top=top, transfer=transfer, calibration=calibration)
