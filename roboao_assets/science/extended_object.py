"""Stacks of resolved objects: frames registered on the disc, the sharpest kept.

A disc has no core to put frames on. Its limb and spots are registered as a faint star's light is,
by correlation with the mean of all other frames (`faint_star.FrameWindow`), but smoothed less.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.deconvolution import ImageNoise
from roboao_assets.science.errors import NoStarError, NotEnoughFramesError
from roboao_assets.science.faint_star import (
    FaintStarOptions,
    FrameShifts,
    FrameWindow,
    shrunk_positions,
)
from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.science.star_stack import drizzle_on_star

# The image is smoothed by this before its outline is drawn.
_OUTLINE_SIGMA_PX = 1.5
# Below this part of the flux-weighted mean brightness a pixel is no longer the object.
_OUTLINE_DEPTH = 0.5
# What is fainter than this many sigma of the sky has no say in that mean.
_LIT_SIGMA = 5.0
# Windows are this much wider than the disc, and binned so that they are about so many pixels.
_WINDOW_OVER_DISC = 2.5
_BINNED_PX = 256
_SIGMA_PER_BIN = 2.5
# Two frames have no others to agree with, and no halves to tell the noise from.
_LEAST_FRAMES = 4
# Intervals of brightness in which the noise is measured.
_NOISE_INTERVALS = 12


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Where an object is and how wide.

    Attributes
    ----------
    x, y : float
        Centroid of its area (0-based px).
    diameter_px : float
        Of the circle of the same area.
    """

    x: float
    y: float
    diameter_px: float


@dataclass(frozen=True, kw_only=True)
class ExtendedOptions:
    """How discs are registered and selected; see `ExtendedObjectSettings` for each."""

    percent: int = 20
    smoothing_px: float = 2.0
    min_flux_fraction: float = 0.3
    rounds: int = 2
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class ExtendedStack:
    """The sharpest frames of a resolved object.

    Attributes
    ----------
    image, weight : ndarray of float32, shape (y, x)
        Drizzled, ADU of a raw pixel and frame; NaN, and weight 0, where no frame contributes.
    noise_image : ndarray of float32, shape (y, x)
        Half the difference of the stacks of every other frame: the noise of `image` without the
        object (ADU).
    shifts : FrameShifts
        `used` tells the frames stacked.
    sharpness : ndarray of float64, shape (n,)
    x, y : float
        Middle of the object in the image (0-based drizzled px).
    diameter_px : float
        Of the object (drizzled px).
    """

    image: NDArray[np.float32]
    weight: NDArray[np.float32]
    noise_image: NDArray[np.float32]
    shifts: FrameShifts
    sharpness: NDArray[np.float64]
    x: float
    y: float
    diameter_px: float


def find_outline(image: NDArray[np.floating], x: float, y: float) -> Outline:
    """Return the outline of the object at or near (x, y).

    It is drawn at half the flux-weighted mean brightness: a bright cloud on a planet does not
    hide the planet, as it would at half the peak.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        May hold NaN.
    x, y : float
        A place in or near the object (0-based px).

    Raises
    ------
    NoStarError
        If nothing stands out of the sky there.
    """
    finite = np.isfinite(image)
    level = float(np.median(image[finite]))
    smooth = ndimage.gaussian_filter(np.where(finite, image - level, 0.0), _OUTLINE_SIGMA_PX)
    scatter = 1.4826 * float(np.median(np.abs(smooth[finite])))
    labels, number = ndimage.label(smooth > _LIT_SIGMA * max(scatter, 1e-12))
    if number == 0:
        raise NoStarError(f"nothing near ({x:.0f}, {y:.0f}) stands out of the sky")
    lit = labels == _label_near(labels, x, y)
    light = smooth[lit]
    bright = lit & (smooth > _OUTLINE_DEPTH * float(np.sum(light**2) / np.sum(light)))
    labels, number = ndimage.label(bright)
    sizes = ndimage.sum_labels(bright, labels, np.arange(1, number + 1))
    area = labels == 1 + int(np.argmax(sizes))
    at_y, at_x = ndimage.center_of_mass(area)
    return Outline(x=float(at_x), y=float(at_y), diameter_px=float(2 * np.sqrt(area.sum() / np.pi)))


def _label_near(labels: NDArray[np.integer], x: float, y: float) -> int:
    rows, columns = np.nonzero(labels)
    nearest = np.argmin((rows - y) ** 2 + (columns - x) ** 2)
    return int(labels[rows[nearest], columns[nearest]])


def stack_extended_object(
    frames: NDArray,
    bias: NDArray[np.float32],
    mean_image: NDArray[np.float32],
    ceiling: NDArray[np.float32],
    calibration: FrameCalibration,
    profile: InstrumentProfile,
    *,
    outline: Outline,
    options: ExtendedOptions,
) -> ExtendedStack:
    """Register the frames on the disc and drizzle the sharpest.

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
    outline : Outline
        Of the object in `mean_image`.
    options : ExtendedOptions

    Raises
    ------
    NotEnoughFramesError
        If fewer than four frames can be used.
    """
    window = FrameWindow(
        frames,
        bias,
        mean_image,
        ceiling,
        calibration,
        outline.x,
        outline.y,
        _window_options(outline.diameter_px, min(mean_image.shape), options),
    )
    shifts, flux, sharpness = window.measure_shifts(), window.fluxes(), window.sharpness()
    clear = shifts.used & (flux > options.min_flux_fraction * np.median(flux))
    chosen = _sharpest(sharpness, clear, options.percent)
    if len(chosen) < _LEAST_FRAMES:
        raise NotEnoughFramesError(
            f"{len(chosen)} of {len(frames)} frames could be registered on the object at "
            f"({outline.x:.0f}, {outline.y:.0f}); at least {_LEAST_FRAMES} are needed"
        )
    x, y = (
        shrunk_positions(p[chosen], e[chosen])
        for p, e in ((shifts.x, shifts.ex), (shifts.y, shifts.ey))
    )
    made = drizzle_on_star(
        frames,
        chosen,
        x,
        y,
        counts=[len(chosen) // 2, len(chosen)],
        bias=bias,
        ceiling=ceiling,
        calibration=calibration,
        profile=profile,
        threads=options.threads,
    )
    placed = find_outline(made.images[1], made.lock_x, made.lock_y)
    used = np.zeros(len(frames), bool)
    used[chosen] = True
    return ExtendedStack(
        image=made.images[1],
        weight=made.weights[1],
        noise_image=made.images[0] - made.images[1],
        shifts=FrameShifts(x=shifts.x, y=shifts.y, ex=shifts.ex, ey=shifts.ey, used=used),
        sharpness=sharpness,
        x=placed.x,
        y=placed.y,
        diameter_px=placed.diameter_px,
    )


def _window_options(diameter_px: float, side_px: int, options: ExtendedOptions) -> FaintStarOptions:
    window = int(min(max(_WINDOW_OVER_DISC * diameter_px, 64), side_px))
    smoothing = max(options.smoothing_px, _SIGMA_PER_BIN * (window // _BINNED_PX))
    return FaintStarOptions(
        window_px=window, smoothing_px=smoothing, rounds=options.rounds, threads=options.threads
    )


def _sharpest(
    sharpness: NDArray[np.float64], usable: NDArray[np.bool_], percent: int
) -> NDArray[np.integer]:
    """Numbers of the sharpest frames, in an order whose halves are alike."""
    order = np.flatnonzero(usable)
    order = order[np.argsort(-sharpness[order], kind="stable")]
    number = max(round(len(order) * percent / 100), min(_LEAST_FRAMES, len(order)))
    # Of two equal halves half the difference is the noise of the whole.
    chosen = order[: number // 2 * 2]
    return np.concatenate([chosen[0::2], chosen[1::2]])


def measure_noise(
    image: NDArray[np.floating], noise_image: NDArray[np.floating], background: float
) -> ImageNoise:
    """Fit the variance of a stack as a straight line in its signal.

    Parameters
    ----------
    image, noise_image : ndarray of float, shape (y, x)
        See `ExtendedStack`.
    background : float
        Level of the sky (ADU).
    """
    known = np.isfinite(image) & np.isfinite(noise_image)
    signal, noise = image[known] - background, noise_image[known]
    edges = np.linspace(0.0, float(np.max(signal)), _NOISE_INTERVALS + 1)
    interval = np.clip(np.digitize(signal, edges) - 1, 0, _NOISE_INTERVALS - 1)
    found = []
    for number in range(_NOISE_INTERVALS):
        inside = interval == number
        if np.count_nonzero(inside) >= 20:
            # The median knows nothing of cosmic rays, nor of what moved between the halves.
            spread = 1.4826 * float(np.median(np.abs(noise[inside])))
            found.append((float(np.mean(signal[inside])), spread**2))
    dark_signal, dark = found[0]
    sky = max(dark, 1e-12 * float(np.max(np.abs(signal))) ** 2, 1e-30)
    slopes = [(v - dark) / (s - dark_signal) for s, v in found[1:] if s > dark_signal]
    per_adu = max(float(np.median(slopes)), 0.0) if slopes else 0.0
    return ImageNoise(sky_variance=sky, variance_per_adu=per_adu)
