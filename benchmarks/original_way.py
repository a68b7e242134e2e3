"""The bright star reduced the way of the archive that this one follows.

An implementation of our own, from the description of the method (Jensen-Clem, Duev, Riddle+
2017, arXiv:1703.08867, section 3.2): everything is unpacked to disk, and each step is a loop
in Python over the extensions of the files with astropy, scipy and image_registration. Where
there is a choice of parameters the cheaper one is taken that makes a stack as sharp as ours.
"""

import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clip
from numpy.typing import NDArray
from scipy import fft, ndimage

with warnings.catch_warnings():
    # It is of another age of astropy: its import warns.
    warnings.simplefilter("ignore")
    from image_registration import chi2_shift

GROUPS = 5
STAR_SIGMA_PX, BACKGROUND_SIGMA_PX, EDGE_PX = 10, 60, 60
SAMPLE_EVERY = 3
SEARCH_BOX_PX, APERTURE_PX = 50, 5
BOX_PX = 128
CORNER_PX = 50
SCALE = 2
SELECTIONS_PERCENT = (20, 100)
MIN_FLUX_FRACTION = 0.3
# Shifts are found to this part of a pixel; chi2_shift's adaptive step takes four times as long.
UPSAMPLING = 20
# Cubic splines, scipy's default: with linear interpolation the Strehl ratio is a tenth lower.
SPLINE_ORDER = 3
# Steps that cost the same for any number of frames.
_ONCE = ("guide_star",)


@dataclass(frozen=True)
class Masters:
    """Master dark and flat of the frames, shape (y, x); finite, the flat above 0."""

    dark: NDArray[np.float32]
    flat: NDArray[np.float32]

    def calibrate(self, frame: NDArray) -> NDArray[np.float64]:
        """Return the frame less its bias level and dark, over the flat."""
        image = frame.astype(float) - self.dark
        return (image - np.median(image[-CORNER_PX:, -CORNER_PX:])) / self.flat


@dataclass
class OriginalStack:
    """What the original way made, and the seconds of each of its steps.

    Attributes
    ----------
    images : dict of int to ndarray of float64, (y, x)
        Stacks at twice the scale, by the percentage of the frames.
    lock_x, lock_y : float
        The star in them (0-based px).
    snr : float
        Mean signal-to-noise of the star in the sampled frames.
    frames : int
    seconds : dict of str to float
        By step.
    """

    frames: int
    images: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    lock_x: float = float("nan")
    lock_y: float = float("nan")
    snr: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def seconds_for(self, frames: int) -> float:
        """Seconds that `frames` frames would take: what is done once is not multiplied."""
        more = frames / self.frames
        return sum(s if step in _ONCE else s * more for step, s in self.seconds.items())


class _Frames:
    """The frames of unpacked files, one extension after the other."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [fits.open(path) for path in files]
        self._places = [hdu for opened in self._files for hdu in range(len(opened))]
        self._owners = [opened for opened in self._files for _ in opened]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> NDArray:
        hdu = self._owners[index][self._places[index]]
        data = np.array(hdu.data)
        # Or the files would all be in memory in the end.
        del hdu.data
        return data

    def __iter__(self) -> Iterator[NDArray]:
        return (self[index] for index in range(len(self)))

    def close(self) -> None:
        for opened in self._files:
            opened.close()


def reduce_the_original_way(
    files: Sequence[Path],
    scratch: Path,
    masters: Masters,
    *,
    cores: int,
    spline_order: int = SPLINE_ORDER,
) -> OriginalStack:
    """Reduce one observation.

    Parameters
    ----------
    files : sequence of Path
        ``*.fits.bz2``, in the order of their frames.
    scratch : Path
        Folder to unpack to.
    masters : Masters
    cores : int
        For unpacking; the loops are what they are.
    spline_order : int
        Of the interpolation by which frames are resampled.

    Returns
    -------
    OriginalStack
    """
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[step] = now - start
        start = now

    unpacked = [_unpack(path, scratch, cores) for path in files]
    lap("unpack")
    frames = _Frames(unpacked)
    try:
        averages = interleaved_averages(frames, masters)
        lap("averages")
        star = find_guide_star(np.median(averages, axis=0))
        lap("guide_star")
        snr = quick_shift_and_add(frames, masters, star)
        lap("quick_shift_and_add")
        quality, flux = rate_frames(frames, masters, star)
        order = select_frames(quality, flux)
        lap("quality")
        shifts, centre = register(frames, masters, star, order)
        lap("register")
        images = stack(frames, masters, order, shifts, spline_order)
        lap("stack")
    finally:
        frames.close()
        for path in unpacked:
            path.unlink()
    x, y = ((p + 0.5) * SCALE - 0.5 for p in centre)
    return OriginalStack(
        frames=len(frames), images=images, lock_x=x, lock_y=y, snr=snr, seconds=seconds
    )


def _unpack(path: Path, scratch: Path, cores: int) -> Path:
    target = scratch / path.name.removesuffix(".bz2")
    with target.open("wb") as file:
        command = ["lbzip2", "-n", str(cores), "-dc", str(path)]
        subprocess.run(command, stdout=file, check=True)
    return target


def interleaved_averages(frames: _Frames, masters: Masters) -> list[NDArray[np.float64]]:
    """Return the averages of every fifth frame, calibrated."""
    sums = [np.zeros(masters.dark.shape) for _ in range(GROUPS)]
    counts = [0] * GROUPS
    for index, frame in enumerate(frames):
        sums[index % GROUPS] += frame
        counts[index % GROUPS] += 1
    return [masters.calibrate(s / c) for s, c in zip(sums, counts, strict=True) if c]


def find_guide_star(image: NDArray[np.float64]) -> tuple[int, int]:
    """Return the position (x, y) of the brightest star that is not at the edge."""
    wide = ndimage.gaussian_filter(image, BACKGROUND_SIGMA_PX)
    contrast = ndimage.gaussian_filter(image, STAR_SIGMA_PX) - wide
    edge = min(EDGE_PX, min(image.shape) // 5)
    inner = contrast[edge:-edge, edge:-edge]
    y, x = np.unravel_index(np.argmax(inner), inner.shape)
    return int(x) + edge, int(y) + edge


def cut_box(image: NDArray, star: tuple[int, int], side: int) -> tuple[NDArray, int, int]:
    """Return a box round the star, inside the image, and its first pixel (left, top)."""
    left, top = (
        int(np.clip(p - side // 2, 0, length - side))
        for p, length in zip(star, image.shape[::-1], strict=True)
    )
    return image[top : top + side, left : left + side], left, top


def quick_shift_and_add(frames: _Frames, masters: Masters, star: tuple[int, int]) -> float:
    """Return the clipped mean signal-to-noise of the star in every third frame, shifted and added.

    The signal is that of a small aperture at the brightest pixel, the noise that of the border.
    """
    ratios = []
    total = np.zeros((SEARCH_BOX_PX, SEARCH_BOX_PX))
    for index in range(0, len(frames), SAMPLE_EVERY):
        box, _, _ = cut_box(masters.calibrate(frames[index]), star, SEARCH_BOX_PX)
        smooth = ndimage.gaussian_filter(box, 1)
        y, x = np.unravel_index(np.argmax(smooth), box.shape)
        middle = SEARCH_BOX_PX // 2
        total += ndimage.shift(box, (middle - y, middle - x), order=0)
        sky = box[:APERTURE_PX]
        y, x = (int(np.clip(p - APERTURE_PX // 2, 0, SEARCH_BOX_PX - APERTURE_PX)) for p in (y, x))
        aperture = box[y : y + APERTURE_PX, x : x + APERTURE_PX]
        ratios.append((aperture - np.median(sky)).sum() / (APERTURE_PX * max(sky.std(), 1e-6)))
    return float(sigma_clip(ratios, sigma=3, maxiters=2).mean())


def rate_frames(
    frames: _Frames, masters: Masters, star: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the quality and the star's flux of each frame.

    The quality is the peak, over the flux squared, of the autocorrelation of the star's box
    resampled to twice the scale: the sharper the star, the higher.
    """
    quality, flux = [], []
    for frame in frames:
        box, _, _ = cut_box(masters.calibrate(frame), star, _box_px(masters))
        fine = ndimage.zoom(_above_sky(box), SCALE)
        correlation = fft.irfft2(np.abs(fft.rfft2(fine)) ** 2, s=fine.shape)
        flux.append(fine.sum() / SCALE**2)
        quality.append(correlation.max() / max(fine.sum(), 1e-6) ** 2)
    return np.array(quality), np.array(flux)


def select_frames(quality: NDArray[np.float64], flux: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the frames that are not clouded, best first."""
    order = np.argsort(-quality)
    return order[flux[order] > MIN_FLUX_FRACTION * np.median(flux)]


def register(
    frames: _Frames, masters: Masters, star: tuple[int, int], order: NDArray[np.intp]
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return each frame's shift (dx, dy) from the sharpest one, and where the star stands there."""
    shifts = []
    first, left, top = cut_box(masters.calibrate(frames[order[0]]), star, _box_px(masters))
    reference = _above_sky(first)
    for index in order:
        box, _, _ = cut_box(masters.calibrate(frames[index]), star, _box_px(masters))
        found = chi2_shift(
            reference, _above_sky(box), upsample_factor=UPSAMPLING, return_error=False
        )
        shifts.append(found[:2])
    y, x = np.unravel_index(np.argmax(ndimage.gaussian_filter(reference, 1)), reference.shape)
    return np.array(shifts), (float(x + left), float(y + top))


def stack(
    frames: _Frames,
    masters: Masters,
    order: NDArray[np.intp],
    shifts: NDArray[np.float64],
    spline_order: int = SPLINE_ORDER,
) -> dict[int, NDArray[np.float64]]:
    """Return the means of the best frames, resampled to twice the scale on the way."""
    height, width = masters.dark.shape
    total = np.zeros((SCALE * height, SCALE * width))
    counts = {max(1, round(len(order) * p / 100)): p for p in SELECTIONS_PERCENT}
    images = {}
    for done, (index, (dx, dy)) in enumerate(zip(order, shifts, strict=True), 1):
        # The centre of an output pixel o is at (o + 0.5) / 2 - 0.5 of the input.
        middle = 0.5 / SCALE - 0.5
        total += ndimage.affine_transform(
            masters.calibrate(frames[index]),
            [1 / SCALE, 1 / SCALE],
            offset=[middle + dy, middle + dx],
            output_shape=total.shape,
            order=spline_order,
        )
        if done in counts:
            images[counts[done]] = total / done
    return images


def _box_px(masters: Masters) -> int:
    return min(BOX_PX, *masters.dark.shape)


def _above_sky(box: NDArray[np.float64]) -> NDArray[np.float64]:
    border = np.concatenate([box[:3].ravel(), box[-3:].ravel()])
    return box - np.median(border)
