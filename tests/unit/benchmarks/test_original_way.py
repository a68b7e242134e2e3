"""The original's way is measured against: it must make what it claims to make."""

import shutil

import numpy as np
import pytest

from benchmarks.original_way import Masters, reduce_the_original_way
from roboao_assets.science.bright_star import StackOptions, stack_bright_star
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.science.strehl import measure_strehl
from simulator import simulate_star_cube
from simulator.raw_files import compress_frames

pytestmark = pytest.mark.skipif(
    shutil.which("lbzip2") is None, reason="lbzip2 is not installed: it unpacks the original's way"
)
FRAMES, SIDE, CORNER_PX = 24, 192, 32


@pytest.fixture(scope="module")
def cube():
    return simulate_star_cube(frames=FRAMES, size=SIDE, magnitude=7.0, seed=5)


@pytest.fixture(scope="module")
def original(cube, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    # An exposure that goes on in a second file.
    parts = {"a.fits.bz2": cube.frames[:7], "a_0.fits.bz2": cube.frames[7:]}
    for name, frames in parts.items():
        (folder / name).write_bytes(compress_frames(frames, cards=[], starts_file=True))
    scratch = folder / "scratch"
    scratch.mkdir()
    masters = Masters(cube.dark, cube.flat)
    stack = reduce_the_original_way([folder / n for n in parts], scratch, masters, cores=1)
    assert not list(scratch.iterdir())
    return stack


def strehl(cube, image, x, y):
    return measure_strehl(image, x, y, cube.profile, cube.filter_name).ratio_percent


def test_it_is_a_star_as_sharp_as_ours(cube, original):
    calibration = FrameCalibration(
        dark=cube.dark,
        inverse_flat=(1 / cube.flat).astype(np.float32),
        weight=np.ones(cube.flat.shape, np.float32),
        corner_px=CORNER_PX,
    )
    averager = FrameAverager(calibration)
    averager.add(cube.frames, 0)
    ours = stack_bright_star(
        cube.frames, averager, calibration, cube.profile, wavelength_nm=765, options=StackOptions()
    )
    for percent in (20, 100):
        own = strehl(cube, ours.stacks[percent].image, ours.lock_x, ours.lock_y)
        theirs = strehl(cube, original.images[percent], original.lock_x, original.lock_y)
        assert abs(theirs - own) < 0.05 * own


def test_the_best_frames_are_sharper(cube, original):
    best, every = (
        strehl(cube, original.images[p], original.lock_x, original.lock_y) for p in (20, 100)
    )
    assert best > 1.1 * every


def test_every_frame_was_read_and_rated(original):
    assert original.frames == FRAMES
    assert original.snr > 20


def test_only_what_is_done_for_each_frame_is_scaled(original):
    total = sum(original.seconds.values())
    once = original.seconds["guide_star"]
    assert original.seconds_for(FRAMES) == pytest.approx(total)
    assert original.seconds_for(10 * FRAMES) == pytest.approx(10 * (total - once) + once)
