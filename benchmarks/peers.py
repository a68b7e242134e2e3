"""Our parts against the packages that do the same, on the same frames in the same run."""

import bz2
import importlib
import subprocess
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import roboao_native
from benchmarks.nights import BenchNight, forget, make_night, with_frames
from benchmarks.rows import Options, Row, interleave, timed
from roboao_assets.science.box_transforms import telescope_transfer
from roboao_assets.science.registration import measure_frames
from roboao_assets.storage.raw_frames import read_frames
from roboao_assets.storage.raw_night import RawExposure

FRAMES = 40
MOST_REPEATS = 3
# The drizzle package takes a tenth of a second and more a frame.
DRIZZLED_FRAMES = 8
BOX_PX = 128
SCALE, PIXFRAC = 2, 0.45
_READ_BYTES = 1 << 20


def measure(options: Options) -> Iterator[Row]:
    """Yield a row for each peer that is installed: how many times longer it takes than ours."""
    night = make_night(options, targets=1, frames=options.frames)
    exposure = with_frames(night, min(FRAMES, options.frames)).observations[0]
    frames = read_frames(exposure.files, threads=options.cores).frames
    yield _unpacking(exposure, options)
    yield _reading(exposure, options, len(frames))
    yield from _registration(night, frames, options)
    yield from _drizzle(frames, options)


def _compare(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], options: Options,
    frames: int, note: str = "",
) -> Row:  # fmt: skip
    """Return the row of theirs over ours, which both are warm where that matters."""
    repeats = min(options.repeats, MOST_REPEATS)
    pairs = interleave(lambda: timed(ours), {"theirs": lambda: timed(theirs)}, repeats)["theirs"]
    own, other = (
        1e3 * float(np.median([getattr(p, field) for p in pairs])) / frames
        for field in ("baseline", "seconds")
    )
    return Row(
        name=name,
        values=tuple(p.ratio for p in pairs),
        note=f"{other:.3g} / {own:.3g} ms a frame{'; ' if note else ''}{note}",
    )


def _installed(package: str) -> bool:
    try:
        with warnings.catch_warnings():
            # image_registration is of another age of astropy: its import warns.
            warnings.simplefilter("ignore")
            importlib.import_module(package)
    except ImportError:
        return False
    return True


def _missing(name: str, package: str) -> Row:
    return Row(name=name, values=(), note=f"{package} is not installed")


def _unpacking(exposure: RawExposure, options: Options) -> Row:
    files = exposure.files

    def library() -> None:
        forget(files)
        for path in files:
            with bz2.open(path) as file:
                while file.read(_READ_BYTES):
                    pass

    def parallel() -> None:
        forget(files)
        command = ["lbzip2", "-n", str(options.cores), "-dc", *map(str, files)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    frames = min(FRAMES, options.frames)
    return _compare("bz2 of the library / lbzip2", parallel, library, options, frames)


def _reading(exposure: RawExposure, options: Options, frames: int) -> Row:
    files = exposure.files

    def astropy_way() -> NDArray:
        # Not by its own unpacking, which begins again whenever it looks back in the file.
        forget(files)
        frames = []
        for path in files:
            command = ["lbzip2", "-n", str(options.cores), "-dc", str(path)]
            unpacked = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            with fits.open(BytesIO(unpacked)) as hdus:
                frames += [hdu.data for hdu in hdus]
        return np.array(frames)

    def ours() -> NDArray:
        forget(files)
        return read_frames(files, threads=options.cores).frames

    if not np.array_equal(astropy_way(), ours()):
        raise RuntimeError("astropy reads other frames than read_frames")
    return _compare(
        "lbzip2, then astropy.io.fits / read_frames", ours, astropy_way, options, frames
    )


def _registration(night: BenchNight, frames: NDArray, options: Options) -> Iterator[Row]:
    name = "chi2_shift / measure_frames, one thread"
    if not _installed("image_registration"):
        yield _missing(name, "image_registration")
        return
    from image_registration import chi2_shift

    exposure = night.observations[0]
    profile = night.settings(night.masters).profile(exposure.name.camera, exposure.name.utc)
    boxes = _boxes(frames)
    side = boxes.shape[1]
    transfer = telescope_transfer(
        side,
        plate_scale_arcsec=profile.plate_scale_arcsec,
        wavelength_nm=profile.filter(exposure.name.filter_name).wavelength_nm,
        primary_diameter_m=profile.primary_diameter_m,
        secondary_diameter_m=profile.secondary_diameter_m,
    )
    stars = boxes.astype(float) - np.median(boxes[:, :3], axis=(1, 2))[:, None, None]
    noise = float(np.std(stars[:, :3]))

    def peer() -> None:
        for star in stars:
            chi2_shift(stars[0], star, err=noise)

    def ours() -> None:
        measure_frames(boxes, transfer, search_half_px=side / 5, rounds=1, threads=1)

    ours()  # plans of the transforms
    chi2_shift(stars[0], stars[-1], err=noise)
    yield _compare(
        name,
        ours,
        peer,
        options,
        len(frames),
        f"boxes of {side} px; ours rates the frames as well",
    )


def _boxes(frames: NDArray) -> NDArray[np.float32]:
    """Boxes round the brightest pixel of the smoothed mean, as they come from the camera."""
    side = min(BOX_PX, *frames.shape[1:])
    mean = frames.mean(axis=0)
    mean -= np.median(mean)
    # A hot pixel is no star: a mean over 8 x 8 px shows where there is more than one.
    height, width = (length // 8 for length in mean.shape)
    coarse = mean[: 8 * height, : 8 * width].reshape(height, 8, width, 8).mean(axis=(1, 3))
    places = np.unravel_index(np.argmax(coarse), coarse.shape)
    top, left = (
        int(np.clip(8 * p + 4 - side // 2, 0, length - side))
        for p, length in zip(places, mean.shape, strict=True)
    )
    return frames[:, top : top + side, left : left + side].astype(np.float32)


def _drizzle(frames: NDArray, options: Options) -> Iterator[Row]:
    name = "drizzle package / roboao_native, one thread"
    if not _installed("drizzle"):
        yield _missing(name, "drizzle")
        return
    from drizzle.resample import Drizzle

    few = np.ascontiguousarray(frames[:DRIZZLED_FRAMES])
    shifts = np.random.default_rng(3).normal(0, 3, (len(few), 2))
    floats = few.astype(np.float32)
    height, width = few.shape[1:]
    rows, columns = np.indices((height, width), dtype=float)
    pixmaps = [
        np.dstack([(columns + dx + 0.5) * SCALE - 0.5, (rows + dy + 0.5) * SCALE - 0.5])
        for dx, dy in shifts
    ]

    def peer() -> NDArray:
        resampler = Drizzle(out_shape=(SCALE * height, SCALE * width), disable_ctx=True)
        for frame, pixmap in zip(floats, pixmaps, strict=True):
            resampler.add_image(frame, 1.0, pixmap, pixfrac=PIXFRAC, pixel_scale_ratio=1 / SCALE)
        return resampler.out_img

    def ours() -> NDArray:
        images, _ = roboao_native.drizzle(
            few, np.arange(len(few)), shifts, dark=None, inverse_flat=None, weight=None, bias=None,
            scale=SCALE, pixfrac=PIXFRAC, boundaries=[len(few)],
        )  # fmt: skip
        return images[0]

    _require_same_image(ours(), peer())
    yield _compare(
        name, ours, peer, options, len(few), f"pixfrac {PIXFRAC}, x {SCALE}, its maps made before"
    )


def _require_same_image(ours: NDArray, theirs: NDArray) -> None:
    # Away from the edges, where not every frame contributes.
    edge = len(ours) // 8
    pair = (image[edge:-edge, edge:-edge] for image in (ours, theirs))
    if not np.allclose(*pair, rtol=1e-3):
        raise RuntimeError("the drizzle package makes another image than roboao_native.drizzle")
