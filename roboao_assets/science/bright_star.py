"""The bright-star stack: lucky imaging on a guide star (Jensen-Clem+ 2017, arXiv:1703.08867, 3.2).

`FrameAverager` looks at the frames while they arrive, `stack_bright_star` at the cube
when it is complete; the raw frames are held as they are, in 16 bits.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import roboao_native as native
from roboao_assets.science.cosmic_rays import remove_spikes
from roboao_assets.science.errors import NoStarError, NotEnoughFramesError
from roboao_assets.science.frame_calibration import FrameCalibration, fill_bad_pixels
from roboao_assets.science.guide_star import GuideStar, find_guide_star
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.registration import (
    border_levels,
    measure_frames,
    telescope_transfer,
    variance_per_adu,
)

Classification = Literal["high_flux", "faint", "zero_flux", "failed"]

# Side of the box, round the guide star, in which it is looked for in each frame:
# the 50 px of the original, in units of the guide box of 128 px.
_SEARCH_FRACTION = 50 / 128


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


class FrameAverager:
    """Interleaved averages and bias levels of frames that arrive block by block.

    Parameters
    ----------
    calibration : FrameCalibration
    groups : int
        Number of interleaved averages: frame i goes into average i % groups.
    threads : int
    """

    def __init__(self, calibration: FrameCalibration, *, groups: int = 5, threads: int = 1) -> None:
        self._calibration = calibration
        self._groups = groups
        self._threads = threads
        self._sums: NDArray[np.float64] | None = None
        self._levels: list[NDArray[np.float32]] = []
        self._counts = np.zeros(groups, dtype=np.int64)

    def add(self, frames: NDArray, first_index: int) -> None:
        """Take in frames of shape (n, y, x), the first of which has number `first_index`."""
        if self._sums is None:
            self._sums = np.zeros((self._groups, *frames.shape[1:]))
        frames, finite = without_nonfinite(frames)
        native.accumulate_groups(frames, self._sums, first_index, threads=self._threads)
        self._levels.append(self._calibration.bias_levels(frames))
        numbers = np.arange(first_index, first_index + len(frames))[finite]
        self._counts += np.bincount(numbers % self._groups, minlength=self._groups)

    @property
    def bias(self) -> NDArray[np.float32]:
        """Bias level of each frame so far, shape (n,)."""
        return np.concatenate(self._levels) if self._levels else np.zeros(0, np.float32)

    def median_image(self) -> NDArray[np.float32]:
        """Return the calibrated median of the averages: free of cosmic rays.

        Raises
        ------
        NotEnoughFramesError
            If no frame came.
        """
        if self._sums is None:
            raise NotEnoughFramesError("there is not one frame to average")
        images = [
            self._calibration.apply(self._sums[g] / self._counts[g], self._mean_bias(g))
            for g in range(self._groups)
            if self._counts[g]
        ]
        if not images:
            raise NotEnoughFramesError("not one frame is finite: there is nothing to average")
        return np.median(images, axis=0).astype(np.float32)

    def _mean_bias(self, group: int) -> float:
        # Frames that are not finite were taken in as zeros, with a bias level of zero.
        return float(self.bias[group :: self._groups].sum() / self._counts[group])


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
    boxes, hits = remove_spikes(boxes, transfer, variance_per_adu(boxes, transfer))
    measures = measure_frames(
        boxes,
        transfer,
        search_half_px=boxes.shape[1] * _SEARCH_FRACTION / 2,
        rounds=options.registration_rounds,
        threads=options.threads,
    )
    snr = guide_star_snr(boxes, measures.x, measures.y, options)
    sampled = -(-len(frames) // options.sample_every)
    return BrightStarStack(
        classification=classify(snr, sampled, options),
        snr=snr,
        sum_image=sum_image,
        guide_star=star,
        table=FrameTable(
            quality=measures.quality,
            flux=measures.flux,
            bias=bias,
            x=measures.x + left,
            y=measures.y + top,
            used=select_usable(measures.flux, measures.quality, options.min_flux_fraction),
        ),
        stacks={},
        saturated_frames=int((boxes.max(axis=(1, 2)) + bias >= profile.saturation_adu).sum()),
        peak_snr=measures.peak_snr,
        cosmic_ray_frames=int((hits > 0).sum()),
    )


def without_nonfinite(frames: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
    """Zeros in place of frames that hold a NaN or infinity, and which frames are finite, (n,)."""
    if frames.dtype.kind != "f":
        return frames, np.ones(len(frames), bool)
    finite = np.isfinite(frames).all(axis=(1, 2))
    if finite.all():
        return frames, finite
    return np.where(finite[:, None, None], frames, np.zeros((), frames.dtype)), finite


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


def guide_star_snr(
    boxes: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    options: StackOptions,
) -> float:
    """Clipped (3 sigma, 2 rounds) mean over sampled frames of the star's signal-to-noise.

    The signal is summed in a square aperture at (x, y); level and noise come from the box's border.
    """
    numbers = np.arange(0, len(boxes), options.sample_every)
    half = options.snr_aperture_px // 2
    side = boxes.shape[1]
    sampled = boxes[numbers]
    level = border_levels(sampled)
    border = np.abs(sampled - level[:, None, None])
    scatter = 1.4826 * border_levels(border)
    across = np.arange(-half, half + 1)
    rows = np.clip(np.rint(y[numbers]).astype(int)[:, None] + across, 0, side - 1)
    columns = np.clip(np.rint(x[numbers]).astype(int)[:, None] + across, 0, side - 1)
    aperture = sampled[np.arange(len(numbers))[:, None, None], rows[:, :, None], columns[:, None]]
    area = aperture.shape[1] * aperture.shape[2]
    signal = aperture.sum(axis=(1, 2)) - area * level
    snr = signal / (np.sqrt(area) * np.maximum(scatter, 1e-6))
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
