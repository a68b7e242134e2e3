"""Master darks, master flats and the bad-pixel mask of a night.

All masters are sigma-clipped means over frames, pixel by pixel (`roboao_native`). With five flats
or ten darks the scatter of one pixel is itself known to tens of per cent, and clipping at three of
it would throw away good samples and raise the noise of the master. So the scale at which samples
are clipped never falls below the noise of the whole frame, which is measured from differences of
frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.errors import NotEnoughFramesError, ScienceError
from roboao_native import sigma_clipped_mean

# Standard deviation of a normal distribution over its median absolute deviation.
_SIGMA_OF_MAD = 1.4826
# float32 copies of a cube are made in blocks of rows of at most this size.
_BLOCK_BYTES = 64 * 2**20
# Enough pixels and pairs of frames to know the noise of a frame to about one per cent.
_NOISE_PIXELS = 65536
_NOISE_PAIRS = 8


@dataclass(frozen=True, kw_only=True)
class MasterDark:
    """Mean dark of one camera mode.

    Attributes
    ----------
    data : ndarray of float32, shape (y, x)
        In ADU. NaN where no frame had a finite value.
    noise : ndarray of float32, shape (y, x)
        Standard error of `data` in ADU; NaN where fewer than two samples were kept.
    corner_level : float
        Level in the far corner that was subtracted, mean over the frames (ADU); 0 if none was.
    frame_levels : ndarray of float32, shape (n,)
        Level of each frame in the far corner (ADU).
    frame_noise : float
        Robust noise of one frame (ADU), the least scale of the clipping.
    rejected_fraction : float
        Share of the finite samples that were clipped.
    n_frames : int
        Frames combined.
    """

    data: NDArray[np.float32]
    noise: NDArray[np.float32]
    corner_level: float
    frame_levels: NDArray[np.float32]
    frame_noise: float
    rejected_fraction: float
    n_frames: int


@dataclass(frozen=True, kw_only=True)
class MasterFlat:
    """Mean flat of one filter.

    Attributes
    ----------
    data : ndarray of float32, shape (y, x)
        Relative response: mean 1 over the good pixels, NaN on the others.
    noise : ndarray of float32, shape (y, x)
        Standard error of `data`; NaN where fewer than two samples were kept.
    bad : ndarray of bool, shape (y, x)
        Pixels whose response is not finite or not positive.
    frame_levels : ndarray of float32, shape (n,)
        Median of each frame above the dark (ADU), also of those that were left out.
    used : ndarray of bool, shape (n,)
        Frames that were combined; the others were not lit, or saturated.
    frame_noise : float
        Robust relative noise of one frame, the least scale of the clipping.
    rejected_fraction : float
        Share of the finite samples that were clipped.
    n_frames : int
        Frames combined.
    """

    data: NDArray[np.float32]
    noise: NDArray[np.float32]
    bad: NDArray[np.bool_]
    frame_levels: NDArray[np.float32]
    used: NDArray[np.bool_]
    frame_noise: float
    rejected_fraction: float
    n_frames: int


@dataclass(frozen=True, kw_only=True)
class _Frames:
    """A cube as it is combined: ``(cube[i] - offsets[i] - dark) * factors[i]``."""

    cube: NDArray
    offsets: NDArray[np.float32] | None = None
    dark: NDArray[np.float32] | None = None
    factors: NDArray[np.float32] | None = None

    def calibrated(self, frames: slice, rows: slice) -> NDArray[np.float32]:
        """Return a float32 copy of these frames and rows, calibrated."""
        block = self.cube[frames, rows].astype(np.float32)
        if self.offsets is not None:
            block -= self.offsets[frames, np.newaxis, np.newaxis]
        if self.dark is not None:
            block -= self.dark[rows]
        if self.factors is not None:
            block *= self.factors[frames, np.newaxis, np.newaxis]
        return block

    @property
    def step(self) -> float:
        """Difference of neighbouring values that the detector can give (0: any)."""
        if self.cube.dtype.kind == "f":
            return 0.0
        return 1.0 if self.factors is None else float(np.median(self.factors))


@dataclass(frozen=True, kw_only=True)
class _Combined:
    mean: NDArray[np.float32]
    noise: NDArray[np.float32]
    frame_noise: float
    rejected_fraction: float


def corner_levels(
    frames: NDArray, *, corner_px: int = 50, sigma: float = 3.0, passes: int = 2, threads: int = 1
) -> NDArray[np.float32]:
    """Measure the bias level of each frame in its far corner.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        In ADU.
    corner_px : int
        The far corner are the last `corner_px` rows and columns.
    sigma, passes, threads
        Of the clipping; see `roboao_native.sigma_clipped_mean`.

    Returns
    -------
    ndarray of float32, shape (n,)
        Sigma-clipped mean of the corner in ADU; NaN where nothing in it is finite.

    Raises
    ------
    ScienceError
        If the frame is smaller than the corner.
    """
    n, height, width = frames.shape
    if not 1 <= corner_px <= min(height, width):
        raise ScienceError(
            f"the bias level is measured in a corner of {corner_px} x {corner_px} px, but the "
            f"frames have {width} x {height} px; set a corner of 1 to {min(height, width)} px"
        )
    corner = frames[:, -corner_px:, -corner_px:].reshape(n, corner_px**2)
    # The kernel clips along the first axis: here the pixels of a corner, one column a frame.
    columns = np.ascontiguousarray(corner.T, np.float32)[:, np.newaxis, :]
    return sigma_clipped_mean(columns, sigma=sigma, passes=passes, threads=threads)[0][0]


def combine_darks(
    cube: NDArray,
    *,
    corner_px: int = 50,
    subtract_corner: bool,
    sigma: float = 3.0,
    passes: int = 2,
    threads: int = 1,
) -> MasterDark:
    """Combine dark frames of one camera mode.

    Parameters
    ----------
    cube : ndarray of uint16 or float32, shape (n, y, x)
        Dark frames in ADU; values that are not finite are not counted. Not modified.
    corner_px : int
        Side of the far corner (last rows and columns).
    subtract_corner : bool
        True, for the modes of science frames, whose bias drifts from frame to frame: each frame's
        level in the far corner is removed first, and the level of the master there is 0.
        False, for the mode of the flats: the master keeps its level.
    sigma, passes, threads
        Of the clipping; see `roboao_native.sigma_clipped_mean`.

    Returns
    -------
    MasterDark

    Raises
    ------
    NotEnoughFramesError
        If there is no frame.
    ScienceError
        If the frame is smaller than the corner, or a level in it is not finite.
    """
    _require_frames("dark", cube)

    def levels_of(frames: NDArray) -> NDArray[np.float32]:
        return corner_levels(
            frames, corner_px=corner_px, sigma=sigma, passes=passes, threads=threads
        )

    levels = levels_of(cube)
    corner_level = 0.0
    offsets = None
    if subtract_corner:
        unknown = np.flatnonzero(~np.isfinite(levels))
        if unknown.size:
            raise ScienceError(
                f"the bias level of {unknown.size} of {len(cube)} dark frames cannot be measured: "
                f"no value is finite in the last {corner_px} x {corner_px} px of frame {unknown[0]}"
            )
        offsets = levels
        corner_level = float(levels.mean(dtype=np.float64))
    combined = _combine(
        _Frames(cube=cube, offsets=offsets), sigma=sigma, passes=passes, threads=threads
    )
    data = combined.mean
    if subtract_corner:
        # The mean of clipped means is not quite the clipped mean of the mean.
        left = levels_of(data[np.newaxis])[0]
        data = data - left
        corner_level += float(left)
    return MasterDark(
        data=data,
        noise=combined.noise,
        corner_level=corner_level,
        frame_levels=levels,
        frame_noise=combined.frame_noise,
        rejected_fraction=combined.rejected_fraction,
        n_frames=len(cube),
    )


def combine_flats(
    cube: NDArray,
    dark0: NDArray[np.float32],
    *,
    least_frames: int = 1,
    least_level_adu: float = 100.0,
    saturation_adu: float = 60000.0,
    sigma: float = 3.0,
    passes: int = 2,
    threads: int = 1,
) -> MasterFlat:
    """Combine flat frames of one filter.

    The dark is subtracted and each frame divided by its median before they are combined, as the
    light on the dome (or in the sky) changes from frame to frame.

    Parameters
    ----------
    cube : ndarray of uint16 or float32, shape (n, y, x)
        Flat frames in ADU. Not modified.
    dark0 : ndarray of float32, shape (y, x)
        Master dark of the mode of the flats, with its level, in ADU.
    least_frames : int
        Fewest usable frames.
    least_level_adu : float
        A frame whose median is not this far above the dark was not lit and is left out.
    saturation_adu : float
        A frame whose median, with its dark, is not below it is left out.
    sigma, passes, threads
        Of the clipping; see `roboao_native.sigma_clipped_mean`.

    Returns
    -------
    MasterFlat

    Raises
    ------
    NotEnoughFramesError
        If fewer than `least_frames` frames (or none) are usable.
    ScienceError
        If the dark has another shape.
    """
    _require_frames("flat", cube)
    if dark0.shape != cube.shape[1:]:
        raise ScienceError(
            f"the dark of the flats has {dark0.shape[1]} x {dark0.shape[0]} px, the flats have "
            f"{cube.shape[2]} x {cube.shape[1]} px; both must come from the same readout"
        )
    dark_level = float(np.nanmedian(dark0))
    levels = np.array([_finite_median(frame - dark0) for frame in cube], np.float32)
    # A level that is not finite fails both comparisons.
    used = (levels >= least_level_adu) & (levels + dark_level < saturation_adu)
    if np.count_nonzero(used) < max(least_frames, 1):
        raise NotEnoughFramesError(
            f"{np.count_nonzero(used)} of {len(cube)} flats are usable, {max(least_frames, 1)} are "
            f"needed: a flat must be at least {least_level_adu:g} ADU above the dark "
            f"({dark_level:.0f} ADU) and below {saturation_adu:g} ADU; their levels above the dark "
            f"are {', '.join(f'{level:.0f}' for level in levels[:20])} ADU"
        )
    lit = cube if used.all() else cube[used]
    frames = _Frames(cube=lit, dark=dark0, factors=1.0 / levels[used])
    combined = _combine(frames, sigma=sigma, passes=passes, threads=threads)
    bad = ~(combined.mean > 0.0)
    if bad.all():
        raise ScienceError(
            f"no pixel of the mean of {len(lit)} flats is positive after subtraction of the dark"
        )
    mean = combined.mean[~bad].mean(dtype=np.float64)
    return MasterFlat(
        data=np.where(bad, np.float32(np.nan), combined.mean / np.float32(mean)),
        noise=combined.noise / np.float32(mean),
        bad=bad,
        frame_levels=levels,
        used=used,
        frame_noise=combined.frame_noise / mean,
        rejected_fraction=combined.rejected_fraction,
        n_frames=len(lit),
    )


def invert_flat(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / `flat` as float32 of the same shape, 0 where it is not finite or not positive."""
    good = np.isfinite(flat) & (flat > 0.0)
    return np.divide(1.0, flat, out=np.zeros(flat.shape, np.float32), where=good)


def bad_pixel_mask(
    darks: Sequence[NDArray[np.float32]],
    flats: Sequence[NDArray[np.float32]],
    *,
    sigma: float = 8.0,
    least_response: float = 0.5,
    greatest_response: float = 1.5,
    neighbourhood_px: int = 5,
) -> NDArray[np.bool_]:
    """Find the pixels that cannot be used.

    A pixel is bad if in any dark it is hot (it exceeds the median of its neighbourhood by more
    than `sigma` times the robust scatter of such differences), if in any flat it is dead (its
    response over the median of its neighbourhood is outside the limits), or if any of them is not
    finite or a flat not positive there.

    Parameters
    ----------
    darks : sequence of ndarray of float32, shape (y, x)
        Master darks in ADU.
    flats : sequence of ndarray of float32, shape (y, x)
        Master flats, of the shape of the darks.
    sigma : float
        Of hot pixels.
    least_response, greatest_response : float
        Of good pixels, over the local median.
    neighbourhood_px : int
        Side of the neighbourhood.

    Returns
    -------
    ndarray of bool, shape (y, x)
        True on bad pixels.

    Raises
    ------
    ScienceError
        If there is neither dark nor flat, or their shapes differ.
    """
    shapes = {image.shape for image in (*darks, *flats)}
    if len(shapes) != 1:
        raise ScienceError(
            "a bad-pixel mask is made from darks and flats of one shape; there are "
            + (", ".join(f"{s[1]} x {s[0]} px" for s in sorted(shapes)) or "none")
        )
    bad = np.zeros(shapes.pop(), np.bool_)
    for dark in darks:
        excess = dark - _local_median(dark, neighbourhood_px)
        finite = np.isfinite(excess)
        centre = np.median(excess[finite]) if finite.any() else 0.0
        scatter = _SIGMA_OF_MAD * _finite_median(np.abs(excess - centre))
        bad |= ~(excess - centre <= sigma * scatter)
    for flat in flats:
        with np.errstate(divide="ignore", invalid="ignore"):
            response = flat / _local_median(flat, neighbourhood_px)
        good = (response >= least_response) & (response <= greatest_response) & (flat > 0.0)
        bad |= ~good
    return bad


def _require_frames(kind: str, cube: NDArray) -> None:
    if cube.ndim != 3:
        raise ScienceError(f"{kind} frames must be a cube (n, y, x), not an array {cube.shape}")
    if len(cube) == 0:
        raise NotEnoughFramesError(f"a master {kind} needs at least one frame, there is none")


def _combine(frames: _Frames, *, sigma: float, passes: int, threads: int) -> _Combined:
    n, height, width = frames.cube.shape
    frame_noise = _noise_of_frames(frames)
    mean = np.empty((height, width), np.float32)
    noise = np.empty((height, width), np.float32)
    kept = finite = 0
    rows = max(1, _BLOCK_BYTES // (n * width * 4))
    for first in range(0, height, rows):
        part = slice(first, first + rows)
        block = frames.calibrated(slice(None), part)
        mean[part], std, count = sigma_clipped_mean(
            block, sigma=sigma, passes=passes, scale_floor=frame_noise, threads=threads
        )
        # Standard error, with the divisor of a sample's variance.
        noise[part] = np.where(count > 1, std / np.sqrt(np.maximum(count - 1, 1)), np.nan)
        kept += int(count.sum(dtype=np.int64))
        finite += int(np.count_nonzero(np.isfinite(block)))
    return _Combined(
        mean=mean,
        noise=noise,
        frame_noise=frame_noise,
        rejected_fraction=1.0 - kept / finite if finite else 0.0,
    )


def _noise_of_frames(frames: _Frames) -> float:
    """Robust noise of one frame, from differences of neighbouring frames (0 for a single one)."""
    n, height, width = frames.cube.shape
    if n < 2:
        return 0.0
    # Whole rows, not every step-th pixel: cameras have patterns of odd and even columns.
    rows = slice(None, None, max(1, height * width // _NOISE_PIXELS))
    differences = []
    for first in np.unique(np.linspace(0, n - 2, min(n - 1, _NOISE_PAIRS)).astype(int)):
        pair = frames.calibrated(slice(first, first + 2), rows)
        differences.append((pair[1] - pair[0]).ravel())
    # The kernel clips along the first axis: here pixels, one column a pair. Whole numbers of low
    # noise have a median absolute deviation of 0; the floor, half a step, keeps their neighbours.
    columns = np.ascontiguousarray(np.stack(differences, axis=-1))[:, np.newaxis, :]
    scatter = sigma_clipped_mean(columns, sigma=4.0, passes=4, scale_floor=0.5 * frames.step)[1][0]
    known = scatter[np.isfinite(scatter)]
    return float(np.median(known) / np.sqrt(2.0)) if known.size else 0.0


def _finite_median(values: NDArray) -> float:
    """Median of the finite values, NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def _local_median(image: NDArray[np.float32], neighbourhood_px: int) -> NDArray[np.float32]:
    """Median filter in which values that are not finite count as the median of the image."""
    finite = np.isfinite(image)
    level = np.median(image[finite]) if finite.any() else 0.0
    return ndimage.median_filter(
        np.where(finite, image, np.float32(level)), size=neighbourhood_px, mode="nearest"
    )
