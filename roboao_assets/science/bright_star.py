"""The bright-star stack: lucky imaging on a guide star (Jensen-Clem+ 2017, arXiv:1703.08867, 3.2).

`frame_averages.FrameAverager` looks at the frames while they arrive, `stack_bright_star` at the
cube when it is complete; the raw frames are held as they are, in 16 bits.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.cosmic_rays import frame_ceiling
from roboao_assets.science.errors import NoStarError
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.science.frame_psfs import FramePsfs, summarise_psfs
from roboao_assets.science.guide_boxes import cut_guide_boxes
from roboao_assets.science.guide_star import GuideStar, find_guide_star
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.psf_preparation import PREPARATION_MARGIN_PX
from roboao_assets.science.registration import FrameMeasures, measure_frames
from roboao_assets.science.short_stacks import stack_in_groups
from roboao_assets.science.stack_flags import StackFlag, identical_frames
from roboao_assets.science.star_stack import drizzle_on_star

Classification = Literal["high_flux", "faint", "zero_flux", "failed"]

# A bright star whose peak is less than this above its own blurred light has no core.
_LEAST_CORE = 1.25
# So near to the edge (raw px) no star is registered on.
_BORDER_PX = 12
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
    short_stacks: int = 25
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
    short_stacks : ndarray of float32, shape (g, y, x), or None
        A bright guide star in groups of consecutive frames; see `short_stacks.stack_in_groups`.
    flags : tuple of StackFlag
        What to know before it is trusted.
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
    short_stacks: NDArray[np.float32] | None = None
    flags: tuple[StackFlag, ...] = ()


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
    exposure = _Exposure(
        frames=frames,
        bias=averager.bias,
        sum_image=averager.median_image(),
        calibration=calibration,
        profile=profile,
        wavelength_nm=wavelength_nm,
        options=options,
    )
    if not np.isfinite(exposure.sum_image).all():
        bad = int((~np.isfinite(exposure.sum_image)).sum())
        return exposure.without_stacks(
            "failed", f"the mean of the frames is not finite in {bad} px"
        )
    found = None
    # A star in the border loses light over the edge: it is taken only if there is no other.
    for edge_px in (profile.edge_px, _BORDER_PX):
        try:
            star = exposure.find_star(edge_px)
        except NoStarError as error:
            found = found or exposure.without_stacks("zero_flux", str(error))
            continue
        tried, cleaned = _measure(exposure, star, in_border=edge_px < profile.edge_px)
        if not tried.reason:
            return _drizzle(cleaned, tried)
        found = found or tried
    assert found is not None
    return found


@dataclass(frozen=True, kw_only=True)
class _Exposure:
    """What the stack of an observation is made from."""

    frames: NDArray
    bias: NDArray[np.float32]
    sum_image: NDArray[np.float32]
    calibration: FrameCalibration
    profile: InstrumentProfile
    wavelength_nm: float
    options: StackOptions

    def find_star(self, edge_px: int) -> GuideStar:
        return find_guide_star(
            self.sum_image,
            star_sigma_px=self.profile.star_sigma_px,
            background_sigma_px=self.profile.background_sigma_px,
            edge_px=edge_px,
        )

    def without_stacks(self, classification: Classification, reason: str) -> BrightStarStack:
        return BrightStarStack(
            classification=classification, reason=reason, sum_image=self.sum_image, stacks={}
        )


def _measure(
    exposure: _Exposure, star: GuideStar, *, in_border: bool
) -> tuple[BrightStarStack, _Exposure]:
    """All that is known before anything is stacked; the exposure without what defects it showed."""
    options, bias = exposure.options, exposure.bias
    boxes = cut_guide_boxes(
        exposure.frames,
        bias,
        star,
        exposure.calibration,
        exposure.profile,
        wavelength_nm=exposure.wavelength_nm,
        threads=options.threads,
    )
    measures = measure_frames(
        boxes.images,
        boxes.transfer,
        search_half_px=boxes.images.shape[1] * _SEARCH_FRACTION / 2,
        search_centre=(star.x - boxes.left, star.y - boxes.top),
        rounds=options.registration_rounds,
        threads=options.threads,
    )
    snr = guide_star_snr(measures, options)
    sampled = -(-len(exposure.frames) // options.sample_every)
    saturated = int((measures.brightest + bias >= exposure.profile.saturation_adu).sum())
    table = FrameTable(
        quality=measures.quality,
        flux=measures.flux,
        bias=bias,
        x=measures.x + boxes.left,
        y=measures.y + boxes.top,
        used=select_usable(measures.flux, measures.quality, options.min_flux_fraction),
    )
    psfs = None
    reason = (
        f"the brightest star has a mean signal-to-noise of {snr:.1f} a frame; "
        f"{options.zero_flux_snr:g} is needed to register on it"
    )
    if table.used.any():
        psfs = summarise_psfs(measures, table.order, sample_every=options.sample_every)
        reason = reason if snr < options.zero_flux_snr else ""
    flags = {
        StackFlag.FEW_FRAMES: sampled < options.min_sampled_frames,
        StackFlag.IDENTICAL_FRAMES: identical_frames(exposure.frames),
        StackFlag.SATURATED: saturated > 0,
        StackFlag.STAR_LOST: not table.used.all(),
        StackFlag.NEAR_EDGE: in_border,
        StackFlag.NO_CORE: snr >= options.faint_snr and measures.core_contrast < _LEAST_CORE,
    }
    found = BrightStarStack(
        classification=classify(snr, sampled, options),
        reason=reason,
        snr=snr,
        sum_image=exposure.sum_image,
        guide_star=star,
        table=table,
        stacks={},
        saturated_frames=saturated,
        peak_snr=measures.peak_snr,
        cosmic_ray_frames=int((measures.hits > 0).sum()),
        psfs=psfs,
        flags=tuple(flag for flag, raised in flags.items() if raised),
    )
    return found, replace(exposure, calibration=boxes.calibration)


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


def _drizzle(exposure: _Exposure, found: BrightStarStack) -> BrightStarStack:
    table = found.table
    order = table.order
    x, y = table.x[order], table.y[order]
    counts = {p: max(1, round(len(order) * p / 100)) for p in exposure.options.selections_percent}
    boundaries = sorted(set(counts.values()))
    motion_px = max(float(np.abs(p - np.median(p)).max()) for p in (x, y))
    ceiling = frame_ceiling(
        exposure.frames,
        table.bias,
        found.sum_image,
        exposure.calibration,
        order=order,
        motion_px=motion_px,
    )
    shared = {
        "bias": table.bias,
        "ceiling": ceiling,
        "calibration": exposure.calibration,
        "profile": exposure.profile,
        "threads": exposure.options.threads,
    }
    made = drizzle_on_star(exposure.frames, order, x, y, counts=boundaries, **shared)
    short = None
    # The halo of a faint star is noise in a short stack.
    if exposure.options.short_stacks and found.classification == "high_flux":
        half_px = exposure.profile.strehl_box_half_px + PREPARATION_MARGIN_PX
        number = exposure.options.short_stacks
        short = stack_in_groups(
            exposure.frames, order, x, y, number=number, half_px=half_px, **shared
        )
    places = {percent: boundaries.index(n) for percent, n in counts.items()}
    stacks = {
        percent: Stack(image=made.images[at], weight=made.weights[at], frames=counts[percent])
        for percent, at in places.items()
    }
    return replace(found, stacks=stacks, lock_x=made.lock_x, lock_y=made.lock_y, short_stacks=short)
