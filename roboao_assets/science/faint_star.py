"""The faint-star stack: frames registered on a star too faint for its speckles to be seen.

All of the star's light in a wide window is used (Jensen-Clem+ 2017, arXiv:1703.08867, 3.2). Each
frame is correlated with the mean of all others, smoothed; the position's error follows from the
noise and from how steep that mean is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import roboao_native as native
from roboao_assets.science.box_noise import border_levels_and_scatters
from roboao_assets.science.box_transforms import (
    backward,
    column_counts,
    correlate_with_rest,
    evaluate,
    fine_peaks,
    forward,
    gaussian_transfer,
    recentred_sum,
)
from roboao_assets.science.errors import NotEnoughFramesError
from roboao_assets.science.frame_averages import without_nonfinite
from roboao_assets.science.frame_blocks import map_blocks
from roboao_assets.science.frame_calibration import FrameCalibration, fill_bad_pixels
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.star_stack import drizzle_on_star

# Pixels are binned as far as the smoothing allows: nothing is left at the new cut-off.
_SIGMA_PER_BIN = 2.5
# The star of the mean is looked for this far (binned px) from where it was said to be.
_CENTRE_REACH_PX = 8
# Two frames have no others to agree with.
_LEAST_FRAMES = 3


@dataclass(frozen=True, kw_only=True)
class FaintStarOptions:
    """How faint stars are registered; see `FaintStarSettings` for each."""

    window_px: int = 256
    smoothing_px: float = 5.0
    max_move_fraction: float = 0.8
    rounds: int = 2
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class FrameShifts:
    """Where the star stands in each frame, in time order; arrays of length n.

    Attributes
    ----------
    x, y : ndarray of float64
        Position measured (0-based raw px of the frame).
    ex, ey : ndarray of float64
        Standard errors (raw px).
    used : ndarray of bool
        False: it moved further than the window allows, or the frame is not finite.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    ex: NDArray[np.float64]
    ey: NDArray[np.float64]
    used: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class FaintStarStack:
    """What the faint-star pipeline makes of one observation.

    Attributes
    ----------
    image, weight : ndarray of float32, shape (y, x)
        Drizzled sum of the shifted frames, ADU of a raw pixel and frame; NaN, and weight 0,
        where no frame contributes.
    shifts : FrameShifts
    lock_x, lock_y : float
        Position of the star in the image (0-based drizzled px).
    """

    image: NDArray[np.float32]
    weight: NDArray[np.float32]
    shifts: FrameShifts
    lock_x: float
    lock_y: float


def stack_faint_star(
    frames: NDArray,
    bias: NDArray[np.float32],
    mean_image: NDArray[np.float32],
    ceiling: NDArray[np.float32],
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    *,
    star_x: float,
    star_y: float,
    options: FaintStarOptions,
) -> FaintStarStack:
    """Register the frames on the star at (star_x, star_y) and drizzle all that did not stray.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        Raw frames.
    bias : ndarray of float32, shape (n,)
        Level of each frame (ADU).
    mean_image : ndarray of float32, shape (y, x)
        Their calibrated mean.
    ceiling : ndarray of float32, shape (y, x)
        Values above it were hit by a cosmic ray; see `cosmic_rays.brightest_possible`.
    calibration : FrameCalibration
    profile : InstrumentProfile
    star_x, star_y : float
        Mean position of the star (0-based raw px).
    options : FaintStarOptions

    Raises
    ------
    NotEnoughFramesError
        If no frame can be used.
    """
    window = FrameWindow(frames, bias, mean_image, ceiling, calibration, star_x, star_y, options)
    shifts = window.measure_shifts()
    if not shifts.used.any():
        raise NotEnoughFramesError(
            f"in none of the {len(frames)} frames the star was found within "
            f"{window.reach_px:.0f} px of ({star_x:.0f}, {star_y:.0f})"
        )
    order = np.flatnonzero(shifts.used)
    x, y = (
        shrunk_positions(p[order], e[order])
        for p, e in ((shifts.x, shifts.ex), (shifts.y, shifts.ey))
    )
    made = drizzle_on_star(
        frames,
        order,
        x,
        y,
        counts=[len(order)],
        bias=bias,
        ceiling=ceiling,
        calibration=calibration,
        profile=profile,
        threads=options.threads,
    )
    return FaintStarStack(
        image=made.images[0],
        weight=made.weights[0],
        shifts=shifts,
        lock_x=made.lock_x,
        lock_y=made.lock_y,
    )


def shrunk_positions(
    positions: NDArray[np.float64], errors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Most probable positions: drawn to their median by as much as noise makes them scatter.

    For a star that is lost in the noise this leaves the frames where they are: the stack is never
    less sharp than the plain mean.
    """
    middle = np.median(positions)
    scatter = (1.4826 * np.median(np.abs(positions - middle))) ** 2
    motion = max(scatter - float(np.median(errors)) ** 2, 0.0)
    share = motion / np.maximum(motion + errors**2, 1e-12)
    return middle + share * (positions - middle)


class FrameWindow:
    """The surroundings of a star, or of a disc, in all frames: binned, in Fourier space."""

    def __init__(
        self,
        frames: NDArray,
        bias: NDArray[np.float32],
        mean_image: NDArray[np.float32],
        ceiling: NDArray[np.float32],
        calibration: FrameCalibration,
        star_x: float,
        star_y: float,
        options: FaintStarOptions,
    ) -> None:
        self._frames, self._bias, self._calibration = frames, bias, calibration
        self._options = options
        number, height, width = frames.shape
        self._bin = max(1, int(options.smoothing_px / _SIGMA_PER_BIN))
        side = min(options.window_px, height, width) // (2 * self._bin) * 2 * self._bin
        self._side = side
        self._left, self._top = (
            int(np.clip(round(p) - side // 2, 0, length - side))
            for p, length in ((star_x, width), (star_y, height))
        )
        cut = (slice(self._top, self._top + side), slice(self._left, self._left + side))
        self._mean, self._ceiling = mean_image[cut], ceiling[cut]
        self._bad = None if calibration.weight is None else calibration.weight[cut] == 0
        self._filter = gaussian_transfer(side // self._bin, options.smoothing_px / self._bin)
        self._spectra = np.empty((number, *self._filter.shape), np.complex64)
        self._scatter = np.zeros(number, np.float32)
        self._finite = np.ones(number, bool)
        start = [(p - o + 0.5) / self._bin - 0.5 for p, o in
                 ((star_x, self._left), (star_y, self._top))]  # fmt: skip
        self._x, self._y = (np.full(number, p) for p in start)
        self._start_x, self._start_y = start

    @property
    def reach_px(self) -> float:
        """A frame in which the star moved further is not used (raw px)."""
        return self._options.max_move_fraction * self._side / 2

    def measure_shifts(self) -> FrameShifts:
        """Register all frames."""
        number = len(self._frames)
        self._each(self._transform)
        share = self._finite / max(1, int(self._finite.sum()))
        errors = np.zeros((2, number))
        for _ in range(self._options.rounds if self._finite.sum() >= _LEAST_FRAMES else 0):
            parts = self._each(
                lambda part: recentred_sum(
                    self._spectra[part], share[part], self._y[part], self._x[part]
                )
            )
            template = np.sum(parts, axis=0)
            centre = self._centre(template)
            self._each(lambda part: self._register(part, template, share, centre))  # noqa: B023
            errors = self._errors(template)
        moved = np.hypot(self._x - self._start_x, self._y - self._start_y) * self._bin
        x, y = (
            (p + 0.5) * self._bin - 0.5 + low
            for p, low in ((self._x, self._left), (self._y, self._top))
        )
        return FrameShifts(
            x=x,
            y=y,
            ex=errors[0] * self._bin,
            ey=errors[1] * self._bin,
            used=self._finite & (moved <= self.reach_px),
        )

    def sharpness(self) -> NDArray[np.float64]:
        """How sharp each registered frame is, shape (n,): larger is sharper.

        Its slopes times those of the mean of the others, summed, over its flux squared: noise,
        which has slopes too, has none in common with the other frames.
        """
        number, size = len(self._frames), self._spectra.shape[1]
        share = self._finite / max(1, int(self._finite.sum()))
        fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
        slopes = (self._filter * (2 * np.pi) ** 2 * (fy**2 + fx**2)).astype(np.float32)
        parts = self._each(
            lambda part: recentred_sum(
                self._spectra[part], share[part], self._y[part], self._x[part]
            )
        )
        template = np.sum(parts, axis=0)
        found = np.zeros(number)

        def measure(part: slice) -> None:
            y, x = self._y[part], self._x[part]
            common = correlate_with_rest(self._spectra[part], template, share[part], y, x, slopes)
            found[part] = evaluate(common, y, x)

        self._each(measure)
        return found / np.maximum(self.fluxes(), 1e-12) ** 2

    def fluxes(self) -> NDArray[np.float64]:
        """Flux in the window above its border, shape (n,) (ADU)."""
        return self._spectra[:, 0, 0].real.astype(np.float64) * self._bin**2

    def _each(self, work):
        return map_blocks(work, len(self._frames), threads=self._options.threads)

    def _transform(self, part: slice) -> None:
        boxes = native.calibrate_boxes(
            self._frames[part],
            self._left,
            self._top,
            self._side,
            self._calibration.dark,
            self._calibration.inverse_flat,
            self._bias[part],
        )
        boxes, self._finite[part] = without_nonfinite(boxes)
        boxes = np.where(boxes > self._ceiling, self._mean, boxes)
        if self._bad is not None:
            fill_bad_pixels(boxes, self._bad)
        size = self._side // self._bin
        binned = boxes.reshape(len(boxes), size, self._bin, size, self._bin).mean(axis=(2, 4))
        level, self._scatter[part] = border_levels_and_scatters(binned)
        self._spectra[part] = forward(binned - level[:, None, None])

    def _centre(self, template: NDArray[np.complex64]) -> tuple[float, float]:
        """Where, off the origin, the star of the mean itself is: (y, x) in binned px."""
        size, reach = template.shape[0], _CENTRE_REACH_PX
        smooth = (template * self._filter)[None]
        near = np.roll(backward(smooth, size)[0], (reach, reach), axis=(0, 1))
        near = near[: 2 * reach + 1, : 2 * reach + 1]
        y, x = np.unravel_index(near.argmax(), near.shape)
        y, x, _ = fine_peaks(smooth, np.array([y - reach + 0.0]), np.array([x - reach + 0.0]))
        return float(y[0]), float(x[0])

    def _register(
        self,
        part: slice,
        template: NDArray[np.complex64],
        share: NDArray[np.float64],
        centre: tuple[float, float],
    ) -> None:
        """Go to where the frames correlate best with the mean of the others."""
        correlation = correlate_with_rest(
            self._spectra[part], template, share[part], self._y[part], self._x[part], self._filter
        )
        size = self._side // self._bin
        images = backward(correlation, size)
        best = images.reshape(len(images), -1).argmax(axis=1)
        y, x = np.unravel_index(best, (size, size))
        y, x, _ = fine_peaks(correlation, y.astype(float), x.astype(float))
        self._y[part], self._x[part] = y + centre[0], x + centre[1]

    def _errors(self, template: NDArray[np.complex64]) -> NDArray[np.float64]:
        """Standard errors of (x, y), shape (2, n), in binned px.

        A correlation with a template T, smoothed by G, peaks off the truth by the noise's
        projection on the slope of G T, over the curvature (T' . (G T)').
        """
        size = template.shape[0]
        fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
        power = np.abs(template.astype(np.complex128)) ** 2 * column_counts(size) / size**2
        errors = []
        for frequency in (fx, fy):
            slope2 = (2 * np.pi * frequency) ** 2 * power
            curvature = float(np.sum(slope2 * self._filter))
            projection = float(np.sum(slope2 * self._filter**2))
            errors.append(self._scatter * np.sqrt(projection) / max(curvature, 1e-12))
        return np.array(errors)
