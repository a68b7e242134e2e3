"""What turns a raw frame into a calibrated one, ready for the kernels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.errors import CalibrationMissingError


@dataclass(frozen=True, kw_only=True)
class FrameCalibration:
    """Calibration of one camera mode, filter and frame size.

    Attributes
    ----------
    dark : ndarray of float32, shape (y, x), or None
        Taken off each frame, with the frame's bias level.
    inverse_flat : ndarray of float32, shape (y, x), or None
        Multiplied in; 1 at bad pixels.
    weight : ndarray of float32, shape (y, x), or None
        1, and 0 at bad pixels.
    corner_px : int
        Side of the far corner in which a frame's bias level is measured; 0: there is none.
    """

    dark: NDArray[np.float32] | None = None
    inverse_flat: NDArray[np.float32] | None = None
    weight: NDArray[np.float32] | None = None
    corner_px: int = 0

    @property
    def bad_pixels(self) -> NDArray[np.bool_] | None:
        """True where a pixel is not to be used; None: all are good."""
        return None if self.weight is None else self.weight == 0

    def bias_levels(self, frames: NDArray) -> NDArray[np.float32]:
        """Bias level of each frame, from its far corner (ADU).

        Parameters
        ----------
        frames : ndarray, shape (n, y, x)

        Returns
        -------
        ndarray of float32, shape (n,)
        """
        side = self.corner_px
        if side == 0:
            return np.zeros(len(frames), np.float32)
        corner = frames[:, -side:, -side:].astype(np.float32)
        if self.dark is not None:
            corner -= self.dark[-side:, -side:]
        values = corner.reshape(len(frames), -1)
        middle = np.median(values, axis=1, keepdims=True)
        distance = np.abs(values - middle)
        # Clipped mean: a median of integers would step by half a unit.
        limit = 3 * 1.4826 * np.median(distance, axis=1, keepdims=True)
        kept = distance <= np.maximum(limit, 1.0)
        return (np.where(kept, values, 0).sum(axis=1) / kept.sum(axis=1)).astype(np.float32)

    def cut(self, window: tuple[slice, slice]) -> "FrameCalibration":
        """Calibration of a part (y, x) of the frame; it holds no corner for the bias level."""
        dark, inverse_flat, weight = (
            None if whole is None else np.ascontiguousarray(whole[window])
            for whole in (self.dark, self.inverse_flat, self.weight)
        )
        return FrameCalibration(dark=dark, inverse_flat=inverse_flat, weight=weight)

    def apply(self, image: NDArray, bias: float) -> NDArray[np.float32]:
        """Return the calibrated image; bad pixels take the median of their good neighbours."""
        out = self._calibrated(image, bias, ...)
        if self.weight is not None:
            fill_bad_pixels(out, self.weight == 0)
        return out

    def sample(self, frame: NDArray, bias: float, step: int) -> NDArray[np.float32]:
        """Return every `step`-th calibrated pixel of every such row; NaN at bad pixels."""
        grid = (slice(None, None, step), slice(None, None, step))
        out = self._calibrated(frame, bias, grid)
        if self.weight is not None:
            out[self.weight[grid] == 0] = np.nan
        return out

    def _calibrated(self, image: NDArray, bias: float, grid: Any) -> NDArray[np.float32]:
        """The pixels of `image` on a grid (any index), bias and dark taken off, flattened."""
        out = image[grid].astype(np.float32) - np.float32(bias)
        if self.dark is not None:
            out -= self.dark[grid]
        if self.inverse_flat is not None:
            out *= self.inverse_flat[grid]
        return out


def build_calibration(
    *,
    dark: NDArray[np.float32],
    flat: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    shape: tuple[int, int],
    corner_px: int,
) -> FrameCalibration:
    """Fit masters to frames of `shape`: the flat and the mask are cut to the centre if need be.

    Parameters
    ----------
    dark : ndarray, shape `shape`
    flat, bad_pixels : ndarray
        Of `shape`, or larger: quarter frames lie in the centre of the full frame.
    shape : tuple of int
        (y, x) of the frames.
    corner_px : int
        Side of the corner that holds the bias level.

    Raises
    ------
    CalibrationMissingError
        If the dark is of another shape, or the flat smaller than the frames.
    """
    if dark.shape != shape:
        raise CalibrationMissingError(
            f"the frames are {shape[1]} x {shape[0]} px and the master dark of their mode is "
            f"{dark.shape[1]} x {dark.shape[0]} px: darks of this frame size are needed"
        )
    flat, bad_pixels = (cut_centre(a, shape) for a in (flat, bad_pixels))
    bad = bad_pixels | ~np.isfinite(flat) | (flat <= 0) | ~np.isfinite(dark)
    inverse = np.where(bad, 1, flat)
    return FrameCalibration(
        dark=np.where(np.isfinite(dark), dark, 0).astype(np.float32),
        inverse_flat=(1 / inverse).astype(np.float32),
        weight=(~bad).astype(np.float32),
        corner_px=corner_px,
    )


def cut_centre(array: NDArray, shape: tuple[int, int]) -> NDArray:
    """View of the middle of `array` in `shape`: where frames smaller than the detector lie.

    Raises
    ------
    CalibrationMissingError
        If such frames cannot be the centre of it.
    """
    spare_y, spare_x = array.shape[0] - shape[0], array.shape[1] - shape[1]
    if spare_y < 0 or spare_x < 0 or spare_y % 2 or spare_x % 2:
        raise CalibrationMissingError(
            f"the frames are {shape[1]} x {shape[0]} px and the flat is {array.shape[1]} x "
            f"{array.shape[0]} px: they cannot be the centre of it"
        )
    y, x = spare_y // 2, spare_x // 2
    return array[y : y + shape[0], x : x + shape[1]]


def fill_bad_pixels(image: NDArray[np.float32], bad: NDArray[np.bool_], reach: int = 2) -> None:
    """Replace, in place, bad pixels by the median of the good ones within `reach`.

    A bad pixel without any good neighbour takes the median of the image.

    Parameters
    ----------
    image : ndarray of float32, shape (..., y, x)
    bad : ndarray of bool, shape (y, x)
    """
    rows, columns = np.nonzero(bad)
    if not len(rows):
        return
    margins = [(0, 0)] * (image.ndim - 2) + [(reach, reach)] * 2
    source = np.pad(np.where(bad, np.nan, image), margins, constant_values=np.nan)
    across = np.arange(2 * reach + 1)
    around = source[..., rows[:, None, None] + across[:, None], columns[:, None, None] + across]
    # Sorted, what is not finite is last.
    values = np.sort(around.reshape(*around.shape[:-2], -1), axis=-1)
    good = np.isfinite(values).sum(axis=-1, keepdims=True)
    low, high = np.maximum(good - 1, 0) // 2, good // 2
    median = np.mean(
        [np.take_along_axis(values, middle, axis=-1)[..., 0] for middle in (low, high)], axis=0
    )
    if not good.all():
        median = np.where(good[..., 0] > 0, median, np.nanmedian(source))
    image[..., rows, columns] = median
