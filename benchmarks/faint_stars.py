"""Faint stars: how much sharper the registered sum is than the plain mean, against brightness."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Options, Row
from roboao_assets.science.cosmic_rays import frame_ceiling
from roboao_assets.science.errors import FitFailedError, NoStarError
from roboao_assets.science.faint_star import FaintStarOptions, FaintStarStack, stack_faint_star
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration, build_calibration
from roboao_assets.science.guide_star import find_guide_star
from roboao_assets.science.star_stack import drizzle_on_star
from roboao_assets.science.strehl import StrehlMeasurement, measure_strehl
from simulator.star_cube import StarCube, simulate_star_cube

MAGNITUDES, FRAMES, QUICK_FRAMES = (12.0, 13.0, 14.0, 15.0, 16.0, 17.0), 90, 20
SEED = 5
_MOTION_PX = 20.0


def measure(options: Options) -> Iterator[Row]:
    """Yield, for each magnitude, the FWHM of the sum; of the mean and the Strehl in the note."""
    frames = QUICK_FRAMES if options.quick else FRAMES
    for magnitude in MAGNITUDES:
        cube = simulate_star_cube(frames=frames, seed=SEED, magnitude=magnitude)
        name = f"FWHM of the sum, {magnitude:g} mag"
        try:
            yield _row(name, cube)
        except (NoStarError, FitFailedError) as error:
            yield Row(name=name, values=(), unit="arcsec", note=str(error))


def _row(name: str, cube: StarCube) -> Row:
    calibration = build_calibration(
        dark=cube.dark.astype(np.float32),
        flat=cube.flat.astype(np.float32),
        bad_pixels=np.zeros(cube.dark.shape, bool),
        shape=cube.dark.shape,
        corner_px=50,
    )
    stack = _stack(cube, calibration)
    own = _strehl(cube, stack.image, stack.lock_x, stack.lock_y)
    # What the frames would give without noise: left where they are, and put right perfectly.
    middle = np.broadcast_to(np.median(cube.positions, axis=0), cube.positions.shape)
    mean = _noise_free(cube, calibration, middle)
    perfect = _noise_free(cube, calibration, cube.positions)
    return Row(
        name=name,
        values=(own.fwhm_arcsec,),
        unit="arcsec",
        note=f"plain mean {mean.fwhm_arcsec:.3f}, perfect {perfect.fwhm_arcsec:.3f}; Strehl ratio "
        f"{own.ratio_percent:.1f}, {mean.ratio_percent:.1f}, {perfect.ratio_percent:.1f} %",
    )


def _stack(cube: StarCube, calibration: FrameCalibration) -> FaintStarStack:
    averager = FrameAverager(calibration)
    averager.add(cube.frames, 0)
    mean = averager.mean_image()
    profile = cube.profile
    star = find_guide_star(
        mean,
        star_sigma_px=profile.star_sigma_px,
        background_sigma_px=profile.background_sigma_px,
        edge_px=profile.edge_px,
    )
    order = np.arange(len(cube.frames))
    ceiling = frame_ceiling(
        cube.frames, averager.bias, mean, calibration, order=order, motion_px=_MOTION_PX
    )
    return stack_faint_star(
        cube.frames,
        averager.bias,
        mean,
        ceiling,
        calibration,
        profile,
        star_x=star.x,
        star_y=star.y,
        options=FaintStarOptions(),
    )


def _noise_free(
    cube: StarCube, calibration: FrameCalibration, positions: NDArray[np.float64]
) -> StrehlMeasurement:
    number = len(cube.noise_free)
    made = drizzle_on_star(
        cube.noise_free.astype(np.float32),
        np.arange(number),
        positions[:, 0],
        positions[:, 1],
        counts=[number],
        bias=np.zeros(number, np.float32),
        ceiling=np.full(cube.dark.shape, np.inf, np.float32),
        calibration=replace(calibration, dark=None, inverse_flat=None),
        profile=cube.profile,
        threads=1,
    )
    return _strehl(cube, made.images[0], made.lock_x, made.lock_y)


def _strehl(cube: StarCube, image: NDArray[np.float32], x: float, y: float) -> StrehlMeasurement:
    return measure_strehl(
        image, x, y, cube.profile, cube.filter_name, pixfrac=cube.profile.drizzle_pixfrac
    )
