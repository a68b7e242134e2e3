"""Frames of faint stars are put together again, and never made worse."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from roboao_assets.science.cosmic_rays import frame_ceiling
from roboao_assets.science.errors import NotEnoughFramesError
from roboao_assets.science.faint_star import FaintStarOptions, stack_faint_star
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.storage.instruments import load_instruments

PROFILE = replace(load_instruments()["KPNO_2.1m"])
SIDE = 192
OPTIONS = FaintStarOptions(window_px=128)


def star_frames(flux, *, frames=60, motion=4.0, noise=10.0, width=5.0, seed=0):
    """Raw frames of a star that wanders, with the positions."""
    rng = np.random.default_rng(seed)
    x, y = 97 + rng.normal(0, motion, frames), 90 + rng.normal(0, motion, frames)
    rows, columns = np.indices((SIDE, SIDE))
    r2 = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2
    light = flux * np.exp(-r2 / 2 / width**2) / (2 * np.pi * width**2)
    images = light + 300 + rng.normal(0, noise, light.shape)
    return np.clip(np.rint(images), 0, 65535).astype(np.uint16), x, y


def stack(frames, options=OPTIONS, calibration=None):
    calibration = calibration or FrameCalibration()
    averager = FrameAverager(calibration)
    averager.add(frames, 0)
    mean = averager.mean_image()
    order = np.arange(len(frames))
    ceiling = frame_ceiling(frames, averager.bias, mean, calibration, order=order, motion_px=15.0)
    made = stack_faint_star(
        frames, averager.bias, mean, ceiling, calibration, PROFILE,
        star_x=97, star_y=90, options=options,
    )  # fmt: skip
    return made, mean


def width_of(image, x, y, half):
    """Second moment of a star, in pixels of the image."""
    box = image[y - half : y + half + 1, x - half : x + half + 1].astype(float)
    box = box - np.median(np.concatenate([box[0], box[-1]]))
    axis = np.arange(-half, half + 1)
    return np.sqrt((box * (axis**2 + axis[:, None] ** 2)).sum() / box.sum() / 2)


def test_bright_enough_a_star_is_followed():
    frames, x, y = star_frames(30_000.0)
    made, _ = stack(frames)
    shifts = made.shifts
    assert shifts.used.all()
    assert np.std(shifts.x - x) < 0.15
    assert np.std(shifts.y - y) < 0.15
    assert abs(np.mean(shifts.x - x)) < 0.05


@pytest.mark.parametrize("flux", [8_000.0, 30_000.0])
def test_errors_are_those_that_are_made(flux):
    frames, x, y = star_frames(flux, frames=120)
    shifts = stack(frames)[0].shifts
    # The scatter: all positions together share the error of the mean's own.
    for offset, error in ((shifts.x - x, shifts.ex), (shifts.y - y, shifts.ey)):
        assert np.std((offset - offset.mean()) / error) == pytest.approx(1, abs=0.3)


def test_the_stack_is_sharper_than_the_plain_mean():
    frames, _, _ = star_frames(12_000.0)
    made, mean = stack(frames)
    x, y = int(made.lock_x), int(made.lock_y)
    # Twice the pixels: the star of 5 px, wandering by 4 px, is 6.4 px wide in the mean.
    summed = width_of(np.nan_to_num(made.image), x, y, 40) / 2
    assert width_of(mean, 97, 90, 20) > 5.9
    assert summed < 5.5


def test_a_star_lost_in_noise_is_left_where_it_is():
    frames, _, _ = star_frames(400.0, frames=50, motion=1.0)
    made, mean = stack(frames)
    assert made.shifts.ex.min() > 1
    # Frames shifted by noise alone would spread the star over tens of pixels.
    y, x = int(made.lock_y), int(made.lock_x)
    peak = np.nanmean(made.image[y - 6 : y + 7, x - 6 : x + 7]) - np.nanmedian(made.image)
    plain = mean[87:94, 94:101].mean() - np.median(mean)
    assert peak > 0.6 * plain


def test_flux_is_kept():
    frames, _, _ = star_frames(30_000.0)
    made, _ = stack(frames)
    x, y = int(made.lock_x), int(made.lock_y)
    box = made.image[y - 50 : y + 51, x - 50 : x + 51]
    assert (box - 300).sum() / PROFILE.drizzle_scale**2 == pytest.approx(30_000, rel=0.02)


def test_cosmic_rays_leave_no_trace():
    frames, x, _ = star_frames(12_000.0)
    rng = np.random.default_rng(8)
    hit = frames.copy()
    for i in range(0, 60, 3):
        hit[i, rng.integers(40, 150), rng.integers(40, 150)] = 20_000
    clean, dirty = stack(frames)[0], stack(hit)[0]
    assert np.std(dirty.shifts.x - x) < 1.3 * np.std(clean.shifts.x - x)
    difference = np.abs(dirty.image - clean.image)
    assert np.nanmax(difference) < 25  # a hit of 20000 in one of 60 frames would leave 330


def test_frames_that_stray_are_dropped():
    frames, _, _ = star_frames(30_000.0)
    frames[7] = np.roll(frames[7], 60, axis=1)
    shifts = stack(frames, replace(OPTIONS, max_move_fraction=0.5))[0].shifts
    assert np.flatnonzero(~shifts.used).tolist() == [7]


def test_frames_that_are_not_finite_are_left_out():
    frames, _, _ = star_frames(30_000.0, frames=20)
    frames = frames.astype(np.float32)
    frames[3] = np.nan
    made, _ = stack(frames)
    assert np.flatnonzero(~made.shifts.used).tolist() == [3]
    assert np.isfinite(made.image).mean() > 0.95
    with pytest.raises(NotEnoughFramesError, match="20 frames"):
        stack_faint_star(
            np.full_like(frames, np.nan), np.zeros(20, np.float32), np.zeros((SIDE, SIDE)),
            np.full((SIDE, SIDE), np.inf), FrameCalibration(), PROFILE,
            star_x=97, star_y=90, options=OPTIONS,
        )  # fmt: skip


@pytest.mark.parametrize("number", [1, 2])
def test_one_and_two_frames(number):
    frames, _, _ = star_frames(30_000.0, frames=number)
    made, _ = stack(frames)
    assert made.shifts.used.all()
    assert made.image.shape == (2 * SIDE, 2 * SIDE)


def test_threads_do_not_matter():
    frames, _, _ = star_frames(12_000.0, frames=40)
    one, two = stack(frames)[0], stack(frames, replace(OPTIONS, threads=2))[0]
    np.testing.assert_array_equal(one.image, two.image)


def test_same_shifts_as_chi2_shift_within_the_joint_errors():
    """The original's registration, on the same window smoothed alike, against the same mean."""
    with warnings.catch_warnings():
        # It is of another age of astropy: its import warns.
        warnings.simplefilter("ignore")
        from image_registration import chi2_shift
    noise = 10.0
    frames, x, y = star_frames(30_000.0, frames=24, noise=noise)
    shifts = stack(frames)[0].shifts
    window = (slice(90 - 48, 90 + 48), slice(97 - 48, 97 + 48))
    smooth = [gaussian_filter(f[window].astype(float), OPTIONS.smoothing_px) for f in frames]
    # Smoothed noise is less, and alike in neighbours: what its chi2 has to know as the noise.
    spread = noise / (2 * np.sqrt(np.pi) * OPTIONS.smoothing_px)
    offsets = []
    for number, one in enumerate(smooth[1:], 1):
        dx, dy, error_x, error_y = chi2_shift(smooth[0], one, err=spread, upsample_factor="auto")
        for ours, own, theirs, error in (
            (shifts.x, shifts.ex, dx, error_x),
            (shifts.y, shifts.ey, dy, error_y),
        ):
            joint = np.sqrt(own[0] ** 2 + own[number] ** 2 + error**2)
            offsets.append((ours[number] - ours[0] - theirs) / joint)
    assert np.abs(offsets).max() < 4
    assert np.sqrt(np.mean(np.square(offsets))) < 1.5
