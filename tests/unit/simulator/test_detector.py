"""The camera's noise and patterns."""

import numpy as np
import pytest

from simulator.detector import (
    ADU_MAX,
    MODES,
    Camera,
    Window,
    choose_mode,
    draw_bias_levels,
    draw_cosmic_rays,
)

SMALL = Window.of_size(64)


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera(np.random.SeedSequence(1), 6.5)


def _frames(camera, mode, light, number, window=SMALL):
    rng = np.random.default_rng(5)
    image = np.full((window.side_px, window.side_px), light, dtype=np.float32)
    return np.stack(
        [
            camera.read_frame(rng, mode, window, photo_electrons=image, bias_adu=500.0)
            for _ in range(number)
        ]
    ).astype(float)


@pytest.mark.parametrize("number", [6, 10])
def test_gain_and_excess_noise(camera, number):
    mode, light = MODES[number], 40.0
    frames = _frames(camera, mode, light, 200)
    dark = camera.expected_dark_adu(mode)[SMALL.slices]
    signal = frames.mean(axis=0) - 500.0 - dark
    gain = mode.adu_per_electron
    quiet = dark < np.median(dark) + 10.0
    assert signal[quiet].mean() == pytest.approx(light * gain, rel=0.005)
    # Twice the photon noise: the multiplication register's excess.
    variance = 2.0 * light * gain**2 + 6.5**2
    assert np.median(frames.var(axis=0)[quiet]) == pytest.approx(variance, rel=0.04)


def test_photon_noise_without_multiplication(camera):
    frames = _frames(camera, MODES[0], 20000.0, 100)
    assert np.median(frames.var(axis=0)) == pytest.approx(20000.0 + 6.5**2, rel=0.04)


def test_dark_frames_have_the_expected_mean(camera):
    mode, rng = MODES[6], np.random.default_rng(2)
    frames = [
        camera.read_frame(rng, mode, SMALL, photo_electrons=None, bias_adu=600.0)
        for _ in range(300)
    ]
    residual = np.mean(frames, axis=0) - 600.0 - camera.expected_dark_adu(mode)[SMALL.slices]
    assert np.median(residual) == pytest.approx(0.0, abs=0.3)
    assert np.abs(residual).mean() < 2.0


def test_frames_are_clipped_to_sixteen_bits(camera):
    frames = _frames(camera, MODES[6], 1e5, 2)
    assert frames.max() == ADU_MAX


def test_quarter_frame_is_the_middle_of_the_detector(camera):
    assert Window.of_size(256).slices == (slice(384, 640), slice(384, 640))
    assert Window.of_size(1024).slices == (slice(0, 1024), slice(0, 1024))


def test_response_is_of_one_detector(camera):
    red, infrared = camera.response("Si"), camera.response("lp600")
    assert red.mean() == pytest.approx(1.0, abs=0.1)
    assert (red / infrared).std() == pytest.approx(0.004 * np.sqrt(2), rel=0.1)
    assert np.array_equal(red, camera.response("Si"))
    x, y = camera.dead_pixels.T
    assert red[y, x].max() < 0.5
    inside = (camera.dead_pixels >= 384) & (camera.dead_pixels < 640)
    assert inside.all(axis=1).sum() >= 4


def test_mode_keeps_the_star_below_saturation():
    assert choose_mode(10.0).number == 6
    assert choose_mode(3000.0).number == 9
    assert choose_mode(1e6).number == 10


def test_bias_levels_drift():
    levels = draw_bias_levels(np.random.default_rng(1), MODES[6], 400)
    assert levels.std() > MODES[6].bias_drift_adu / 2
    assert levels.mean() == pytest.approx(MODES[6].bias_adu, abs=60.0)


def test_cosmic_rays_stay_inside_and_have_the_rate():
    rng = np.random.default_rng(1)
    drawn = [draw_cosmic_rays(rng, 512, 8.0) for _ in range(500)]
    assert np.mean([len(tracks) for tracks in drawn]) == pytest.approx(2.0, rel=0.1)
    for tracks in drawn:
        for track in tracks:
            assert track[:, :2].min() >= 0
            assert track[:, :2].max() < 512
            assert track[:, 2].min() > 0
