"""Whether a master frame is fit to calibrate with: a few figures and their limits."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

# Fractions of the pixels.
MAX_NOT_FINITE = 0.001
MAX_FLAT_OUTLIERS = 0.01
MAX_BAD_PIXELS = 0.02
# A flat is normalised to mean 1 over its good pixels: over all of them it is near 1.
MAX_FLAT_MEAN_DEVIATION = 0.02
FLAT_SPAN = (0.5, 1.5)
# Noise of a master dark in that of one frame.
MAX_DARK_NOISE = 1 / 3


@dataclass(frozen=True, kw_only=True)
class MasterQuality:
    """What was measured of a master frame, and what is wrong with it.

    Attributes
    ----------
    figures : dict of str to float
    problems : tuple of str
        A phrase each; empty if the frame is fit for use.
    """

    figures: dict[str, float]
    problems: tuple[str, ...]


def judge_dark(
    dark: NDArray[np.float32], frame_noise_adu: float | None, n_frames: int | None
) -> MasterQuality:
    """Judge a master dark.

    Parameters
    ----------
    dark : ndarray of float32, shape (y, x)
        In ADU.
    frame_noise_adu : float or None
        Noise of a pixel of one dark frame; None if it is not known.
    n_frames : int or None
        Frames combined; None if it is not known.

    Notes
    -----
    The mean of n frames has 1 / sqrt(n) of the noise of one; subtracting it adds this to
    the noise of every frame it calibrates. Above a third, that is more than 5 percent.
    The scatter of the pixels (1.4826 times the median absolute deviation), which holds
    the dark pattern, is told but not judged: taking it away is what the master is for.
    """
    finite = dark[np.isfinite(dark)]
    not_finite = 1.0 - finite.size / dark.size
    figures = {"scatter_adu": _scatter(finite), "not_finite_fraction": not_finite}
    problems = _not_finite_problem(not_finite)
    if frame_noise_adu is not None and n_frames:
        noise_adu = frame_noise_adu / sqrt(n_frames)
        figures |= {"noise_adu": noise_adu, "frame_noise_adu": frame_noise_adu}
        if noise_adu > MAX_DARK_NOISE * frame_noise_adu:
            problems.append(
                f"{n_frames} frames leave it a noise of {noise_adu:.3g} ADU, more than a third of "
                f"that of one frame ({frame_noise_adu:.3g} ADU)"
            )
    return MasterQuality(figures=figures, problems=tuple(problems))


def judge_flat(flat: NDArray[np.float32]) -> MasterQuality:
    """Judge a master flat, of mean 1, shape (y, x)."""
    finite = flat[np.isfinite(flat)]
    not_finite = 1.0 - finite.size / flat.size
    mean = float(finite.mean(dtype=np.float64)) if finite.size else float("nan")
    low, high = FLAT_SPAN
    outliers = float(np.mean((finite < low) | (finite > high))) if finite.size else 1.0
    problems = _not_finite_problem(not_finite)
    if not abs(mean - 1.0) <= MAX_FLAT_MEAN_DEVIATION:
        problems.append(f"its mean is {mean:.4f} instead of 1")
    if outliers > MAX_FLAT_OUTLIERS:
        problems.append(f"{outliers:.1%} of its pixels are below {low} or above {high}")
    figures = {"mean": mean, "outlier_fraction": outliers, "not_finite_fraction": not_finite}
    return MasterQuality(figures=figures, problems=tuple(problems))


def judge_bad_pixels(mask: NDArray[np.float32]) -> MasterQuality:
    """Judge a bad-pixel mask (not 0 = bad), shape (y, x)."""
    count = int(np.count_nonzero(mask))
    fraction = count / mask.size
    problems = []
    if fraction > MAX_BAD_PIXELS:
        problems.append(f"{count} pixels ({fraction:.1%}) are bad")
    return MasterQuality(
        figures={"bad_pixels": float(count), "bad_fraction": fraction}, problems=tuple(problems)
    )


def _scatter(values: NDArray[np.float32]) -> float:
    if not values.size:
        return float("nan")
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _not_finite_problem(fraction: float) -> list[str]:
    if fraction <= MAX_NOT_FINITE:
        return []
    return [f"{fraction:.1%} of its pixels are not finite"]
