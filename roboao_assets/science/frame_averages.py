"""Averages of the frames of an exposure, made while the frames arrive."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import roboao_native as native
from roboao_assets.science.errors import NotEnoughFramesError
from roboao_assets.science.frame_calibration import FrameCalibration

# The clipped mean of the averages leaves out those this far off (standard deviations).
_CLIP_SIGMA = 5.0


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

    def group_images(self) -> Iterator[NDArray[np.float32]]:
        """Yield the calibrated average of each group, shape (y, x): like exposures of their own.

        Raises
        ------
        NotEnoughFramesError
            If no frame came, or none that is finite.
        """
        sums, offsets = self._checked()
        for group in np.flatnonzero(self._counts):
            mean = (sums[group] / self._counts[group] - offsets[group]).astype(np.float32)
            yield self._calibration.apply(mean, 0.0)

    def median_image(self) -> NDArray[np.float32]:
        """Return the calibrated median of the averages, shape (y, x): free of cosmic rays.

        Raises
        ------
        NotEnoughFramesError
            If no frame came, or none that is finite.
        """
        sums, offsets = self._checked()
        median = native.median_of_groups(sums, self._counts, offsets, threads=self._threads)
        return self._calibration.apply(median, 0.0)

    def mean_image(self) -> NDArray[np.float32]:
        """Return the calibrated mean of the averages, shape (y, x), outliers among them left out.

        Less noisy than their median; what cosmic rays hit goes just as well.

        Raises
        ------
        NotEnoughFramesError
            If no frame came, or none that is finite.
        """
        sums, offsets = self._checked()
        used = np.flatnonzero(self._counts)
        means = np.empty((len(used), *sums.shape[1:]), np.float32)
        for place, group in enumerate(used):
            means[place] = sums[group] / self._counts[group] - offsets[group]
        # Among five values the scatter of a pixel may be small by chance: that of all is a floor.
        noise = 1.4826 * np.median(np.abs(means[0] - means[-1])) / np.sqrt(2)
        mean, _, _ = native.sigma_clipped_mean(
            means, sigma=_CLIP_SIGMA, passes=1, scale_floor=float(noise), threads=self._threads
        )
        return self._calibration.apply(mean, 0.0)

    def _checked(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The sums and the mean bias level of each group."""
        if self._sums is None:
            raise NotEnoughFramesError("there is not one frame to average")
        if not self._counts.any():
            raise NotEnoughFramesError(
                "not one frame is finite in all of its pixels: there is nothing to average; copy "
                "the raw files again, or have the pixel that is never a number filled"
            )
        # Frames that are not finite were taken in as zeros, with a bias level of zero.
        levels = [self.bias[g :: self._groups].sum(dtype=np.float64) for g in range(self._groups)]
        return self._sums, np.array(levels) / np.maximum(self._counts, 1)


def without_nonfinite(frames: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
    """Zeros in place of frames that hold a NaN or infinity, and which frames are finite, (n,)."""
    if frames.dtype.kind != "f":
        return frames, np.ones(len(frames), bool)
    finite = np.isfinite(frames).all(axis=(1, 2))
    if finite.all():
        return frames, finite
    return np.where(finite[:, None, None], frames, np.zeros((), frames.dtype)), finite
