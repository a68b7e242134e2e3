"""The bright-star stack: lucky imaging on a guide star (Jensen-Clem+ 2017, arXiv:1703.08867, 3.2).

`frame_averages.FrameAverager` looks at the frames while they arrive, `stack_bright_star` at the
cube when it is complete; the raw frames are held as they are, in 16 bits.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import roboao_native as native
from roboao_assets.science.box_transforms import telescope_transfer
from roboao_assets.science.cosmic_rays import brightest_possible
from roboao_assets.science.errors import NoStarError
from roboao_assets.science.frame_averages import FrameAverager, without_nonfinite
from roboao_assets.science.frame_calibration import FrameCalibration, fill_bad_pixels
from roboao_assets.science.frame_psfs import FramePsfs, summarise_psfs
from roboao_assets.science.guide_star import GuideStar, find_guide_star
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.registration import FrameMeasures, measure_frames

Classification = Literal["high_flux", "faint", "zero_flux", "failed"]

# Side of the box, round the guide star, in which it is looked for in each frame:
# the 50 px of the original, in units of the guide box of 128 px.
_SEARCH_FRACTION = 50 / 128
# Frames in which the noise is measured, and the most that the image is taken to move (raw px).
_NOISE_FRAMES = 4
_NOISE_STEP_PX = 3
_MAX_REACH_PX = 40


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """How frames are selected and stacked; see `BrightStarSettings` for each."""

    selections_percent: tuple[int, ...] = (20, 100)
    sample_every: int = 3
    min_sampled_frames: int = 20
    zero_flux_snr: float = 20.0
    faint_snr: float = 100.0
    snr_aperture_px: int = 5
    min_flux_fraction: float = 0.3
    registration_rounds: int = 1
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class FrameTable:
    """One row a frame, in time order; arrays of length n.

    Attributes
    ----------
    quality, flux, bias : ndarray of float32
        Sharpness (peak over flux), guide-star flux (ADU), bias level (ADU).
    x, y : ndarray of float64
        Position of the lock star (0-based raw px of the frame).
    used : ndarray of bool
        False: clouded, saturated beyond use or not finite; in no selection.
    """

    quality: NDArray[np.float32]
    flux: NDArray[np.float32]
    bias: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    used: NDArray[np.bool_]

    @property
    def order(self) -> NDArray[np.int64]:
        """Numbers of the frames that may be stacked, best first."""
        order = np.argsort(-self.quality, kind="stable")
        return order[self.used[order]].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A drizzled sum of the best frames.

    Attributes
    ----------
    image, weight : ndarray of float32, shape (y, x)
        ADU of a raw pixel; NaN, and weight 0, where no frame contributes.
    frames : int
        How many frames went into it.
    """

    image: NDArray[np.float32]
    weight: NDArray[np.float32]
    frames: int


@dataclass(frozen=True, kw_only=True)
class BrightStarStack:
    """All that the bright-star pipeline makes of one observation.

    Attributes
    ----------
    classification : {'high_flux', 'faint', 'zero_flux', 'failed'}
    reason : str
        Why there are no stacks, a sentence; empty if there are.
    snr : float
        Clipped mean signal-to-noise of the guide star in the sampled frames.
    sum_image : ndarray of float32, shape (y, x)
        Median of the interleaved averages.
    guide_star : GuideStar or None
    table : FrameTable or None
    stacks : dict of int to Stack
        By percentage of the frames.
    lock_x, lock_y : float
        Position of the lock star in the stacks (0-based drizzled px).
    saturated_frames : int
        Frames in which the guide star reaches the saturation level.
    peak_snr : float
        Median signal-to-noise of the brightest speckle; see `registration.PEAK_SNR`.
    cosmic_ray_frames : int
        Frames with a cosmic ray in the box round the guide star.
    psfs : FramePsfs or None
        The guide star in single frames.
    """

    classification: Classification
    reason: str = ""
    snr: float = 0.0
    sum_image: NDArray[np.float32]
    guide_star: GuideStar | None = None
    table: FrameTable | None = None
    stacks: dict[int, Stack]
    lock_x: float = float("nan")
    lock_y: float = float("nan")
    saturated_frames: int = 0
    peak_snr: float = 0.0
    cosmic_ray_frames: int = 0
    psfs: FramePsfs | None = None


def stack_bright_star(
    frames: NDArray,
    averager: FrameAverager,
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    *,
    wavelength_nm: float,
    options: StackOptions,
) -> BrightStarStack:
    """Measure, sort, select, register and drizzle the frames of one observation.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        Raw frames.
    averager : FrameAverager
        Has seen all of `frames`.
    calibration : FrameCalibration
    profile : InstrumentProfile
    wavelength_nm : float
        Of the filter: gives the size of the diffraction core.
    options : StackOptions

    Returns
    -------
    BrightStarStack
        With a reason and without stacks where there is no star to register on.
    """
    sum_image = averager.median_image()
    if not np.isfinite(sum_image).all():
        bad = int((~np.isfinite(sum_image)).sum())
        reason = f"the mean of the frames is not finite in {bad} px"
        return BrightStarStack(
            classification="failed", reason=reason, sum_image=sum_image, stacks={}
        )
    try:
        star = find_guide_star(
            sum_image,
            star_sigma_px=profile.star_sigma_px,
            background_sigma_px=profile.background_sigma_px,
            edge_px=profile.edge_px,
        )
    except NoStarError as error:
        return BrightStarStack(
            classification="zero_flux", reason=str(error), sum_image=sum_image, stacks={}
        )
    found = _measure_frames(
        frames, sum_image, star, averager.bias, calibration, profile, wavelength_nm, options
    )
    if found.snr < options.zero_flux_snr or not found.table.used.any():
        reason = (
            f"the brightest star has a mean signal-to-noise of {found.snr:.1f} a frame; "
            f"{options.zero_flux_snr:g} is needed to register on it"
        )
        return replace(found, reason=reason)
    return _drizzle(frames, found, calibration, profile, options)


def _measure_frames(
    frames: NDArray,
    sum_image: NDArray[np.float32],
    star: GuideStar,
    bias: NDArray[np.float32],
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    wavelength_nm: float,
    options: StackOptions,
) -> BrightStarStack:
    """All that is known before anything is stacked: the table of the frames and the class."""
    boxes, left, top = _cut_boxes(frames, star, bias, calibration, profile, options)
    transfer = telescope_transfer(
        boxes.shape[1],
        plate_scale_arcsec=profile.plate_scale_arcsec,
        wavelength_nm=wavelength_nm,
        primary_diameter_m=profile.primary_diameter_m,
        secondary_diameter_m=profile.secondary_diameter_m,
    )
    measures = measure_frames(
        boxes,
        transfer,
        search_half_px=boxes.shape[1] * _SEARCH_FRACTION / 2,
        rounds=options.registration_rounds,
        threads=options.threads,
    )
    snr = guide_star_snr(measures, options)
    sampled = -(-len(frames) // options.sample_every)
    table = FrameTable(
        quality=measures.quality,
        flux=measures.flux,
        bias=bias,
        x=measures.x + left,
        y=measures.y + top,
        used=select_usable(measures.flux, measures.quality, options.min_flux_fraction),
    )
    return BrightStarStack(
        classification=classify(snr, sampled, options),
        snr=snr,
        sum_image=sum_image,
        guide_star=star,
        table=table,
        stacks={},
        saturated_frames=int((measures.brightest + bias >= profile.saturation_adu).sum()),
        peak_snr=measures.peak_snr,
        cosmic_ray_frames=int((measures.hits > 0).sum()),
        psfs=(
            summarise_psfs(measures, table.order, sample_every=options.sample_every)
            if table.used.any()
            else None
        ),
    )


def classify(snr: float, sampled_frames: int, options: StackOptions) -> Classification:
    """Class of an observation by the mean SNR of its guide star in the sampled frames."""
    if sampled_frames < options.min_sampled_frames or snr < options.zero_flux_snr:
        return "zero_flux"
    return "faint" if snr < options.faint_snr else "high_flux"


def select_usable(
    flux: NDArray[np.float32], quality: NDArray[np.float32], min_fraction: float
) -> NDArray[np.bool_]:
    """Frames whose star has not collapsed (cloud) and whose measures are finite."""
    finite = np.isfinite(flux) & np.isfinite(quality)
    if not finite.any():
        return finite
    return finite & (flux > 0) & (flux >= min_fraction * np.median(flux[finite]))


def guide_star_snr(measures: FrameMeasures, options: StackOptions) -> float:
    """Clipped (3 sigma, 2 rounds) mean over sampled frames of the star's signal-to-noise.

    The signal is summed in a square aperture on the star; level and noise come from the box's
    border.
    """
    sampled = measures.stars[:: options.sample_every]
    number, side, _ = sampled.shape
    half = options.snr_aperture_px // 2
    across = np.arange(-half, half + 1)
    rows, columns = (
        np.clip(np.rint(p[:: options.sample_every]).astype(int)[:, None] + across, 0, side - 1)
        for p in (measures.y, measures.x)
    )
    aperture = sampled[np.arange(number)[:, None, None], rows[:, :, None], columns[:, None]]
    signal = aperture.sum(axis=(1, 2))
    noise = len(across) * np.maximum(measures.scatter[:: options.sample_every], 1e-6)
    snr = signal / noise
    snr = snr[np.isfinite(snr)]
    for _ in range(2):
        if len(snr):
            snr = snr[np.abs(snr - snr.mean()) <= 3 * snr.std() + 1e-12]
    return float(snr.mean()) if len(snr) else 0.0


def _cut_boxes(
    frames: NDArray,
    star: GuideStar,
    bias: NDArray[np.float32],
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    options: StackOptions,
) -> tuple[NDArray[np.float32], int, int]:
    """Calibrated boxes round the star and the position (left, top) of their first pixel."""
    height, width = frames.shape[1:]
    side = min(profile.guide_box_px, height, width) // 2 * 2
    left = int(np.clip(round(star.x) - side // 2, 0, width - side))
    top = int(np.clip(round(star.y) - side // 2, 0, height - side))
    boxes = native.calibrate_boxes(
        frames,
        left,
        top,
        side,
        calibration.dark,
        calibration.inverse_flat,
        bias,
        threads=options.threads,
    )
    boxes, _ = without_nonfinite(boxes)
    if calibration.weight is not None:
        bad = calibration.weight[top : top + side, left : left + side] == 0
        fill_bad_pixels(boxes, bad)
    return boxes, left, top


def _drizzle(
    frames: NDArray,
    found: BrightStarStack,
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    options: StackOptions,
) -> BrightStarStack:
    table = found.table
    order = table.order
    scale = profile.drizzle_scale
    # The lock star goes to the middle of an output pixel, so that its peak is sampled there.
    lock_x, lock_y = (
        float(np.rint((np.median(p[order]) + 0.5) * scale - 0.5)) for p in (table.x, table.y)
    )
    target = np.array([(p + 0.5) / scale - 0.5 for p in (lock_x, lock_y)])
    shifts = target - np.column_stack([table.x, table.y])[order]
    counts = {p: max(1, round(len(order) * p / 100)) for p in options.selections_percent}
    boundaries = sorted(set(counts.values()))
    images, weights = native.drizzle(
        frames,
        order,
        np.ascontiguousarray(shifts),
        dark=calibration.dark,
        inverse_flat=calibration.inverse_flat,
        weight=calibration.weight,
        bias=table.bias,
        ceiling=frame_ceiling(frames, found.sum_image, table, calibration),
        scale=scale,
        pixfrac=profile.drizzle_pixfrac,
        boundaries=np.array(boundaries, dtype=np.int64),
        threads=options.threads,
    )
    stacks = {
        percent: Stack(
            image=images[boundaries.index(n)], weight=weights[boundaries.index(n)], frames=n
        )
        for percent, n in counts.items()
    }
    return replace(found, stacks=stacks, lock_x=lock_x, lock_y=lock_y)


def frame_ceiling(
    frames: NDArray,
    mean_image: NDArray[np.float32],
    table: FrameTable,
    calibration: FrameCalibration,
) -> NDArray[np.float32]:
    """Value (ADU), shape (y, x), above which a pixel of a frame was hit by a cosmic ray."""
    order = table.order
    sampled = order[:: -(-len(order) // _NOISE_FRAMES)]
    motion = max(float(np.abs(p[order] - np.median(p[order])).max()) for p in (table.x, table.y))
    # A grid of pixels does for the noise; half of them are dark enough to show no star.
    mean = mean_image[::_NOISE_STEP_PX, ::_NOISE_STEP_PX]
    dark = mean <= np.median(mean)
    noise = [
        (calibration.sample(frames[i], table.bias[i], _NOISE_STEP_PX) - mean)[dark] for i in sampled
    ]
    noise = np.concatenate(noise)
    return brightest_possible(
        mean_image,
        noise[np.isfinite(noise)],
        reach_px=min(int(np.ceil(motion)) + 2, _MAX_REACH_PX),
    )
