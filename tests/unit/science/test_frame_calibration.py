"""Masters fitted to frames: values, bias levels, bad pixels, frames of other sizes."""

import numpy as np
import pytest

from roboao_assets.science.errors import CalibrationMissingError
from roboao_assets.science.frame_calibration import (
    FrameCalibration,
    build_calibration,
    cut_centre,
    fill_bad_pixels,
)


@pytest.fixture
def masters():
    rng = np.random.default_rng(0)
    dark = rng.normal(0, 5, (64, 64)).astype(np.float32)
    flat = rng.normal(1, 0.05, (64, 64)).astype(np.float32)
    bad = np.zeros((64, 64), bool)
    bad[10, 20] = True
    flat[30, 31] = np.nan
    flat[32, 33] = 0
    dark[40, 41] = np.nan
    return dark, flat, bad


def build(masters, shape=(64, 64)):
    dark, flat, bad = masters
    return build_calibration(dark=dark, flat=flat, bad_pixels=bad, shape=shape, corner_px=16)


def test_calibrated_frame_is_the_light(masters):
    dark, flat, _ = masters
    light = np.full((64, 64), 100.0)
    frame = light * np.nan_to_num(flat, nan=1) + np.nan_to_num(dark) + 640
    calibration = build(masters)
    np.testing.assert_allclose(calibration.apply(frame, 640.0), 100, rtol=1e-4)


def test_pixels_without_a_value_are_bad(masters):
    bad = build(masters).bad_pixels
    assert {tuple(p) for p in np.argwhere(bad)} == {(10, 20), (30, 31), (32, 33), (40, 41)}


def test_bias_levels_ignore_a_cosmic_ray(masters):
    dark, _, _ = masters
    rng = np.random.default_rng(1)
    frames = np.rint(
        np.nan_to_num(dark)
        + np.array([600, 612, 590.0])[:, None, None]
        + rng.normal(0, 6, (3, 64, 64))
    ).astype(np.uint16)
    frames[1, -5, -5] = 60000
    np.testing.assert_allclose(build(masters).bias_levels(frames), [600, 612, 590], atol=1.5)


def test_no_corner_no_bias():
    np.testing.assert_array_equal(FrameCalibration().bias_levels(np.ones((3, 8, 8))), 0)


def test_quarter_frames_take_the_centre_of_the_flat():
    flat = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) + 1
    np.testing.assert_array_equal(cut_centre(flat, (16, 16)), flat[24:40, 24:40])


def test_dark_of_another_size_is_refused(masters):
    with pytest.raises(CalibrationMissingError, match="frames are 32 x 32 px .* 64 x 64 px"):
        build(masters, shape=(32, 32))


def test_frames_larger_than_the_flat_are_refused():
    with pytest.raises(CalibrationMissingError, match="cannot be the centre"):
        cut_centre(np.ones((16, 16)), (32, 32))


def test_bad_pixels_take_their_neighbours_median():
    images = np.random.default_rng(0).normal(5, 1, (3, 12, 12)).astype(np.float32)
    bad = np.zeros((12, 12), bool)
    bad[0, 0] = bad[5, 5] = bad[5, 6] = True
    before = images.copy()
    fill_bad_pixels(images, bad)
    np.testing.assert_array_equal(images[:, ~bad], before[:, ~bad])
    for k in range(3):
        around = np.where(bad, np.nan, before[k])[3:8, 3:8]
        assert images[k, 5, 5] == pytest.approx(np.nanmedian(around))


def test_all_pixels_bad_around_one():
    image = np.arange(144, dtype=np.float32).reshape(12, 12)
    bad = np.zeros((12, 12), bool)
    bad[2:9, 2:9] = True
    fill_bad_pixels(image, bad)
    assert np.isfinite(image).all()
