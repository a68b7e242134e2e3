"""Averages of frames: what cosmic rays hit goes, what is light stays."""

import numpy as np
import pytest

from roboao_assets.science.errors import NotEnoughFramesError
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration


def averager_of(frames, groups=5, **calibration):
    averager = FrameAverager(FrameCalibration(**calibration), groups=groups)
    for first in range(0, len(frames), 7):
        averager.add(frames[first : first + 7], first)
    return averager


@pytest.mark.parametrize("kind", ["median_image", "mean_image"])
def test_cosmic_rays_go_and_light_stays(kind):
    rng = np.random.default_rng(0)
    light = rng.uniform(0, 500, (30, 41))
    frames = rng.normal(light, 6, (50, 30, 41)) + 100
    frames[11, 5, 6] += 30_000
    image = getattr(averager_of(np.rint(frames).astype(np.uint16)), kind)()
    noise = 6 / np.sqrt(50)
    assert np.std(image - light - 100) < 1.5 * noise
    assert abs(image[5, 6] - light[5, 6] - 100) < 6 * noise


def test_the_mean_is_less_noisy_than_the_median():
    frames = np.random.default_rng(1).normal(1000, 10, (60, 40, 40)).astype(np.float32)
    averager = averager_of(frames)
    assert np.std(averager.mean_image()) < 0.9 * np.std(averager.median_image())
    assert np.std(averager.mean_image()) == pytest.approx(10 / np.sqrt(60), rel=0.05)


def test_bias_levels_are_taken_off():
    rng = np.random.default_rng(2)
    drift = rng.normal(0, 20, 30)
    frames = rng.normal(500, 3, (30, 24, 24)) + drift[:, None, None]
    averager = averager_of(frames.astype(np.float32), corner_px=12)
    np.testing.assert_allclose(averager.bias, 500 + drift, atol=1.5)
    assert abs(averager.mean_image().mean()) < 0.5
    assert abs(averager.median_image().mean()) < 0.5


def test_fewer_frames_than_groups():
    frames = np.full((2, 3, 3), 7, np.uint16)
    averager = averager_of(frames)
    np.testing.assert_array_equal(averager.median_image(), frames[0])
    np.testing.assert_array_equal(averager.mean_image(), frames[0])


def test_nothing_to_average():
    with pytest.raises(NotEnoughFramesError, match="not one frame"):
        FrameAverager(FrameCalibration()).mean_image()
    with pytest.raises(NotEnoughFramesError, match="not one frame is finite"):
        averager_of(np.full((4, 3, 3), np.nan, np.float32)).median_image()
