import numpy as np
import pytest

from roboao_assets.science.calibration_quality import (
    judge_bad_pixels,
    judge_dark,
    judge_flat,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_a_dark_of_enough_frames_is_fit_whatever_its_pattern(rng):
    pattern = rng.normal(0, 30, (64, 64)).astype(np.float32)
    quality = judge_dark(pattern, frame_noise_adu=2.0, n_frames=10)
    assert quality.problems == ()
    assert quality.figures["noise_adu"] == pytest.approx(2.0 / np.sqrt(10))
    assert quality.figures["scatter_adu"] == pytest.approx(30, rel=0.1)


def test_a_dark_of_few_frames_is_noisy(rng):
    quality = judge_dark(np.zeros((8, 8), np.float32), frame_noise_adu=2.0, n_frames=4)
    assert "4 frames leave it a noise of 1 ADU" in quality.problems[0]


def test_what_is_not_known_is_not_judged():
    assert judge_dark(np.zeros((8, 8), np.float32), None, None).problems == ()


def test_pixels_that_are_not_finite(rng):
    frame = np.ones((50, 50), np.float32)
    frame[0, :10] = np.nan
    assert judge_dark(frame, None, None).problems == ("0.4% of its pixels are not finite",)
    assert judge_flat(frame).problems == ("0.4% of its pixels are not finite",)
    assert len(judge_flat(np.full((4, 4), np.nan, np.float32)).problems) == 3


def test_flats(rng):
    good = rng.normal(1, 0.02, (64, 64)).astype(np.float32)
    assert judge_flat(good).problems == ()
    assert "instead of 1" in judge_flat(good * np.float32(1.1)).problems[0]
    spotted = good.copy()
    spotted[:4, :32] = 0.2
    assert any("below 0.5 or above 1.5" in problem for problem in judge_flat(spotted).problems)


def test_bad_pixels():
    mask = np.zeros((100, 100), np.float32)
    mask[:2] = 1
    assert judge_bad_pixels(mask).problems == ()
    mask[2] = 1
    quality = judge_bad_pixels(mask)
    assert quality.problems == ("300 pixels (3.0%) are bad",)
    assert quality.figures["bad_fraction"] == 0.03
