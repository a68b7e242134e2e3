"""Frames of discs are put together on the disc, the sharpest of them."""

import numpy as np
import pytest
from discs import blurred, disc, star_psf
from scipy import ndimage

from roboao_assets.science.cosmic_rays import frame_ceiling
from roboao_assets.science.errors import NoStarError, NotEnoughFramesError
from roboao_assets.science.extended_object import (
    ExtendedOptions,
    find_outline,
    measure_noise,
    stack_extended_object,
)
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.storage.instruments import load_instruments

PROFILE = load_instruments()["KPNO_2.1m"]
SIDE, RADIUS, X, Y = 160, 18, 83, 77


def disc_frames(*, frames=40, motion=3.0, noise=8.0, height=300.0, seed=0):
    """Raw frames of a wandering disc, its positions, and the blur of each."""
    rng = np.random.default_rng(seed)
    x, y = X + rng.normal(0, motion, frames), Y + rng.normal(0, motion, frames)
    blur = np.tile([1.0, 3.0], frames // 2)
    light = np.stack(
        [
            ndimage.gaussian_filter(disc(SIDE, RADIUS, *at, height=height), sigma)
            for *at, sigma in zip(x, y, blur, strict=True)
        ]
    )
    images = rng.poisson(light) + 300 + rng.normal(0, noise, light.shape)
    return np.clip(np.rint(images), 0, 65535).astype(np.uint16), x, y, blur


def stack(frames, **options):
    calibration = FrameCalibration()
    averager = FrameAverager(calibration)
    averager.add(frames, 0)
    mean = averager.mean_image()
    order = np.arange(len(frames))
    ceiling = frame_ceiling(frames, averager.bias, mean, calibration, order=order, motion_px=15.0)
    return stack_extended_object(
        frames, averager.bias, mean, ceiling, calibration, PROFILE,
        outline=find_outline(mean, X, Y), options=ExtendedOptions(**options),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made():
    frames, x, y, blur = disc_frames()
    return stack(frames, percent=50), x, y, blur


def test_frames_are_aligned_on_the_disc(made):
    stacked, x, y, _ = made
    for measured, true in ((stacked.shifts.x, x), (stacked.shifts.y, y)):
        off = measured - true
        assert np.abs(off - off.mean()).max() < 0.2


def test_the_sharpest_frames_are_stacked(made):
    stacked, _, _, blur = made
    assert stacked.shifts.used.sum() == 20
    assert (blur[stacked.shifts.used] == 1.0).all()


def test_the_stack_shows_the_disc_where_it_says(made):
    stacked, *_ = made
    assert stacked.diameter_px == pytest.approx(4 * RADIUS, rel=0.06)
    box = np.nan_to_num(stacked.image - np.nanmedian(stacked.image))
    y, x = ndimage.center_of_mass(np.where(box > 60, 1.0, 0.0))
    assert np.hypot(stacked.x - x, stacked.y - y) < 0.5


def test_the_noise_is_told_from_two_halves(made):
    stacked, *_ = made
    noise = measure_noise(stacked.image, stacked.noise_image, np.nanmedian(stacked.image))
    beside = stacked.image[30:90, 30:90]
    # A quarter of the overlap of drizzled pixels is still to be found in neighbours.
    assert noise.sky_variance == pytest.approx(np.nanvar(beside), rel=0.15)
    assert noise.variance_per_adu > 0


def test_noise_alone_makes_no_frame_sharp():
    frames, *_ = disc_frames(noise=8.0, frames=20)
    frames[::4] = np.clip(
        frames[::4] + np.random.default_rng(1).normal(0, 40, frames[::4].shape), 0, 65535
    ).astype(np.uint16)
    stacked = stack(frames, percent=100)
    sharp = stacked.sharpness
    # Frames 0, 4, 8 are as sharp as 2, 6, 10, and five times as noisy.
    assert np.mean(sharp[0::4]) == pytest.approx(np.mean(sharp[2::4]), rel=0.15)


def test_outline_is_of_the_planet_and_not_of_its_cloud():
    image = blurred(disc(128, 25, 60, 66), star_psf(core=1.0, halo=3.0))
    image[70:73, 50:53] += 4000.0
    found = find_outline(image, 51, 71)
    assert (found.x, found.y) == pytest.approx((60, 66), abs=1.5)
    assert found.diameter_px == pytest.approx(50, rel=0.1)


def test_outline_of_nothing():
    with pytest.raises(NoStarError, match="stands out of the sky"):
        find_outline(np.zeros((64, 64)), 30, 30)


def test_too_few_frames():
    frames, *_ = disc_frames(frames=2)
    with pytest.raises(NotEnoughFramesError, match="at least 4 are needed"):
        stack(frames)
