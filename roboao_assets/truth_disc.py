"""Recovered against true: a resolved object, stacked and deconvolved."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray
from scipy import optimize

from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.truth_rows import TruthRow, truth_row

_FLUX_GOAL = 0.02
# What a telescope of 1.85 m resolves at 765 nm: half of it is in doubt at the limb on either side.
_DIAMETER_GOAL_ARCSEC = 0.085
# Each pixel of the true disc is the mean of so many times as many points.
_POINTS = 4
# The disc is compared within this many of its radii.
_REACH = 1.4
# The PSF star's stack that the deconvolution takes first (percent of the frames).
_PERCENT = 20


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """An image of the disc in its true neighbourhood.

    Attributes
    ----------
    image : ndarray of float64, shape (y, x)
        Light, in parts of all of it.
    x, y : float
        The disc's middle (0-based px of `image`), about.
    pixel_arcsec : float
    """

    image: NDArray[np.float64]
    x: float
    y: float
    pixel_arcsec: float


def disc_rows(
    paths: ArchivePaths, truth: Mapping[str, Any], true: Mapping[str, Any]
) -> Iterator[TruthRow]:
    """Compare stack and deconvolution of a resolved object with the true disc.

    Parameters
    ----------
    paths : ArchivePaths
    truth : mapping
        `truth.json`.
    true : mapping
        The observation in it, that has a `disc`.
    """
    subject, disc, night = true["id"], true["disc"], truth["night"]
    stack_file, made_file = (
        paths.extended_object(night, subject, kind) for kind in ("stack", "deconvolved")
    )
    names = ("light", "flux", "diameter", "stack", "deconvolved")
    found: dict[str, float | None] = dict.fromkeys(names)
    if stack_file.exists() and made_file.exists():
        found = _compare(paths, truth, true)
    yield truth_row(
        subject, "deconvolved: flux, by that of its star", 1.0, found["flux"], _FLUX_GOAL
    )
    # What the seeing throws out of the field of the deconvolution is in no product.
    yield truth_row(subject, "deconvolved: part of all its light", 1.0, found["light"], None)
    yield truth_row(
        subject,
        "deconvolved: diameter (arcsec)",
        disc["diameter_arcsec"],
        found["diameter"],
        _DIAMETER_GOAL_ARCSEC,
    )
    yield truth_row(subject, "stack: brightness, rms error (part)", 0.0, found["stack"], None)
    yield truth_row(
        subject,
        "deconvolved: brightness, rms error (part)",
        0.0,
        found["deconvolved"],
        math.nan if found["stack"] is None else found["stack"],
    )


def _compare(
    paths: ArchivePaths, truth: Mapping[str, Any], true: Mapping[str, Any]
) -> dict[str, float | None]:
    night, subject = truth["night"], true["id"]
    made, header = read_image(paths.extended_object(night, subject, "deconvolved"))
    stack, _ = read_image(paths.extended_object(night, subject, "stack"))
    rows, columns = (
        slice(header[f"CORNER_{axis}"], header[f"CORNER_{axis}"] + length)
        for axis, length in zip("YX", made.shape, strict=True)
    )
    used = np.loadtxt(paths.extended_shifts_table(night, subject), ndmin=2)[:, -1] > 0
    flux = _true_flux_adu(true, np.flatnonzero(used))
    # Shape is compared apart from flux: both as parts of what each has.
    sights = {
        "stack": _sight(stack[rows, columns] - header["BACKGRND"], header),
        "deconvolved": _sight(made, header),
    }
    errors = {kind: _brightness_error(sight, true["disc"]) for kind, sight in sights.items()}
    pixels = _per_raw_pixel(header, true)
    light = float(np.nansum(made)) / pixels / flux
    star = next((o for o in truth["observations"] if o["id"] == header["PSFOBS"]), None)
    seen = None if star is None else _part_seen_of(paths, night, star, pixels, min(made.shape))
    return {
        **errors,
        "light": light,
        "flux": light / seen if seen else None,
        "diameter": _diameter_arcsec(sights["deconvolved"]),
    }


def _part_seen_of(
    paths: ArchivePaths, night: str, star: Mapping[str, Any], pixels: float, side_px: int
) -> float | None:
    """Part of a star's light in a box as wide as the deconvolution, above the sky beyond it."""
    percent = next((p for p in (_PERCENT, 100) if paths.stack(night, star["id"], p).exists()), None)
    if percent is None:
        return None
    image, star_header = read_image(paths.stack(night, star["id"], percent))
    y, x = np.indices(image.shape)
    y, x = np.abs(y - star_header["LOCK_Y"]), np.abs(x - star_header["LOCK_X"])
    half = side_px / 2
    sky = np.nanmedian(image[np.hypot(x, y) > half])
    light = float(np.nansum((image - sky)[(x <= half) & (y <= half)]))
    quality = np.loadtxt(paths.frames_table(night, star["id"]), ndmin=2)[:, 1]
    best = np.argsort(-quality)[: round(len(quality) * percent / 100)]
    beside = sum(10 ** (-0.4 * c["dmag"]) for c in (*star["companions"], *star["field_stars"]))
    return light / pixels / _true_flux_adu(star, best) / (1.0 + beside)


def _per_raw_pixel(header: Header, true: Mapping[str, Any]) -> float:
    """Pixels of the stack in a raw pixel."""
    return float(round(true["disc"]["plate_scale_arcsec"] / header["PIXSCALE"]) ** 2)


def _true_flux_adu(true: Mapping[str, Any], frames: NDArray[np.integer]) -> float:
    """Light of the guide star, or of the disc in its place, in the mean of some frames."""
    transparency = np.array(true["frames"]["transparency"], float)[frames].mean()
    return float(true["electrons_per_frame"] * true["adu_per_electron"] * transparency)


def _sight(image: NDArray[np.floating], header: Header) -> _Sight:
    known = np.nan_to_num(np.asarray(image, np.float64))
    return _Sight(
        image=known / known.sum(),
        x=float(header["LOCK_X"]),
        y=float(header["LOCK_Y"]),
        pixel_arcsec=float(header["PIXSCALE"]),
    )


def _true_image(
    disc: Mapping[str, Any], shape: tuple[int, int], x: float, y: float, pixel_arcsec: float
) -> NDArray[np.float64]:
    """The disc, its middle at (x, y), as means over pixels; its sum is 1."""
    rows, columns = (
        ((np.arange(length * _POINTS) + 0.5) / _POINTS - 0.5 - middle) * pixel_arcsec
        for length, middle in zip(shape, (y, x), strict=True)
    )
    radius = np.hypot(rows[:, None], columns[None, :]) / (disc["diameter_arcsec"] / 2)
    mu = np.sqrt(np.clip(1.0 - radius**2, 0.0, None))
    light = np.where(radius <= 1, 1.0 - disc["limb_darkening"] * (1.0 - mu), 0.0)
    for spot in disc["spots"]:
        away = np.hypot(rows[:, None] - spot["y_arcsec"], columns[None, :] - spot["x_arcsec"])
        light += spot["brightness"] * np.exp(-0.5 * (away / spot["sigma_arcsec"]) ** 2)
    light = light.reshape(shape[0], _POINTS, shape[1], _POINTS).mean(axis=(1, 3))
    return light / light.sum()


def _brightness_error(sight: _Sight, disc: Mapping[str, Any]) -> float:
    """Rms difference to the disc over its rms brightness, at the best place of its middle.

    Where exactly the middle came to lie in a stack is the registration's own choice.
    """
    reach = math.ceil(_REACH * disc["diameter_arcsec"] / 2 / sight.pixel_arcsec)
    top, left = (max(round(middle) - reach, 0) for middle in (sight.y, sight.x))
    image = sight.image[top : top + 2 * reach + 1, left : left + 2 * reach + 1]

    def error(place: NDArray[np.float64]) -> float:
        true = _true_image(disc, image.shape, place[0], place[1], sight.pixel_arcsec)
        return float(np.linalg.norm(image - true) / np.linalg.norm(true))

    start = np.array([sight.x - left, sight.y - top])
    best = optimize.minimize(
        error, start, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-5}
    )
    return float(best.fun)


def _diameter_arcsec(sight: _Sight) -> float:
    """Of the circle of the area above half the flux-weighted mean brightness.

    So the archive draws an object's outline. The true disc, whose limb has half the brightness of
    its middle, is as wide by this as it is.
    """
    light = sight.image
    mean = float((light**2).sum() / light.sum())
    area = float(np.count_nonzero(light > 0.5 * mean))
    return 2.0 * math.sqrt(area / math.pi) * sight.pixel_arcsec
