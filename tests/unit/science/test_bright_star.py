"""The bright-star stack on frames of known stars, calibration and weather."""

from dataclasses import replace

import numpy as np
import pytest

from roboao_assets.science.bright_star import (
    StackOptions,
    classify,
    select_usable,
    stack_bright_star,
)
from roboao_assets.science.errors import NotEnoughFramesError
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.frame_calibration import FrameCalibration, build_calibration
from roboao_assets.storage.settings import load_instruments

PROFILE = replace(
    load_instruments()["KPNO_2.1m"], guide_box_px=64, edge_px=30, background_sigma_px=30.0
)
SIDE = 160
SKY, BIAS, GAIN = 15.0, 600.0, 1.0


class Scene:
    """Raw frames of one moving star behind a dark pattern and a flat, with their truth."""

    def __init__(self, frames=80, flux=60_000.0, noise=8.0, seed=1, companion=0.0, cloud=()):
        rng = np.random.default_rng(seed)
        rows, columns = np.indices((SIDE, SIDE))
        self.x = 82 + rng.normal(0, 2.5, frames)
        self.y = 77 + rng.normal(0, 2.5, frames)
        self.sharp = rng.uniform(0.5, 1.0, frames)
        self.dark = rng.normal(0, 4, (SIDE, SIDE)).astype(np.float32)
        self.dark[-40:, -40:] -= self.dark[-40:, -40:].mean()
        self.flat = (1 + 0.03 * np.sin(columns / 9) + rng.normal(0, 0.01, (SIDE, SIDE))).astype(
            np.float32
        )
        self.bad = np.zeros((SIDE, SIDE), bool)
        self.bad[75, 84] = self.bad[20, 30] = True
        self.bias = BIAS + rng.normal(0, 5, frames)
        light = np.full(frames, flux)
        light[list(cloud)] *= 0.05
        self.frames = np.empty((frames, SIDE, SIDE), np.uint16)
        for i in range(frames):
            image = light[i] * self.star(rows, columns, self.x[i], self.y[i], self.sharp[i])
            image += (
                companion
                * light[i]
                * self.star(rows, columns, self.x[i] + 15, self.y[i], self.sharp[i])
            )
            image = (image + SKY) * self.flat + self.dark + self.bias[i]
            image[self.bad] = 4000
            noisy = image + rng.normal(0, noise, image.shape)
            self.frames[i] = np.clip(np.rint(noisy), 0, 65535)

    @staticmethod
    def star(rows, columns, x, y, sharp):
        r2 = (columns - x) ** 2 + (rows - y) ** 2
        core, halo = 1.15, 9.0
        share = 0.25 * sharp
        return share * np.exp(-r2 / 2 / core**2) / (2 * np.pi * core**2) + (1 - share) * np.exp(
            -r2 / 2 / halo**2
        ) / (2 * np.pi * halo**2)

    @property
    def calibration(self) -> FrameCalibration:
        return build_calibration(
            dark=self.dark,
            flat=self.flat,
            bad_pixels=self.bad,
            shape=(SIDE, SIDE),
            corner_px=40,
        )

    def stack(self, **options):
        frames = self.frames
        averager = FrameAverager(self.calibration)
        for first in range(0, len(frames), 16):
            averager.add(frames[first : first + 16], first)
        return stack_bright_star(
            frames,
            averager,
            self.calibration,
            PROFILE,
            wavelength_nm=765.0,
            options=StackOptions(**options),
        )


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def stack(scene):
    return scene.stack()


def test_star_is_found_and_followed(scene, stack):
    assert stack.classification == "high_flux"
    assert not stack.reason
    assert np.std(stack.table.x - scene.x) < 0.08
    assert np.std(stack.table.y - scene.y) < 0.08
    assert abs(np.mean(stack.table.x - scene.x)) < 0.02
    assert abs(np.mean(stack.table.y - scene.y)) < 0.02


def test_bias_level_of_each_frame(scene, stack):
    level = scene.bias + SKY * scene.flat[-40:, -40:].mean()
    np.testing.assert_allclose(stack.table.bias, level, atol=1.0)


def test_quality_orders_the_frames(scene, stack):
    assert np.corrcoef(stack.table.quality, scene.sharp)[0, 1] > 0.96


def test_best_frames_make_the_sharper_stack(stack):
    y, x = int(stack.lock_y), int(stack.lock_x)
    assert stack.stacks[20].frames == 16
    assert stack.stacks[100].frames == 80
    assert stack.stacks[20].image[y, x] > 1.1 * stack.stacks[100].image[y, x]


def test_lock_star_is_centred_on_its_pixel(stack):
    y, x = int(stack.lock_y), int(stack.lock_x)
    assert (stack.lock_x, stack.lock_y) == (x, y)
    box = stack.stacks[100].image[y - 2 : y + 3, x - 2 : x + 3].astype(float)
    assert box.argmax() == 12
    weights = box - box.min()
    offset = (weights * (np.arange(5) - 2)).sum() / weights.sum()
    assert abs(offset) < 0.1


def test_flux_is_conserved(scene, stack):
    y, x = int(stack.lock_y), int(stack.lock_x)
    half = 80
    image = stack.stacks[100].image[y - half : y + half + 1, x - half : x + half + 1]
    ring = np.concatenate([image[:3].ravel(), image[-3:].ravel()])
    flux = (image - np.median(ring)).sum() / PROFILE.drizzle_scale**2
    assert flux == pytest.approx(60_000, rel=0.02)


def test_sum_image_is_calibrated(scene, stack):
    corner = stack.sum_image[:30, :30]
    assert abs(np.median(corner)) < 1.0
    assert corner.std() < 2.0


def test_bad_pixels_leave_no_trace(scene, stack):
    assert stack.sum_image[20, 30] < 20
    image = stack.stacks[100].image
    around = image[2 * 20 - 12 : 2 * 20 + 14, 2 * 30 - 12 : 2 * 30 + 14]
    assert np.nanmax(around) < 15


def test_clouded_frames_are_in_no_selection():
    cloudy = Scene(frames=60, cloud=range(10, 22), seed=4)
    stack = cloudy.stack()
    assert not stack.table.used[10:22].any()
    assert stack.table.used.sum() == 48
    assert stack.stacks[100].frames == 48


def test_close_binary_is_locked_on_one_star():
    binary = Scene(frames=60, companion=0.85, noise=6.0, seed=9)
    stack = binary.stack()
    assert np.std(stack.table.x - binary.x) < 0.1


def test_faint_and_zero_flux():
    faint = Scene(frames=66, flux=6_000.0, seed=2).stack()
    assert faint.classification == "faint"
    assert faint.stacks
    empty = Scene(frames=66, flux=0.0, seed=2).stack()
    assert empty.classification == "zero_flux"
    assert not empty.stacks
    assert "star" in empty.reason


def test_few_frames_are_zero_flux_by_class_and_still_stacked():
    few = Scene(frames=6).stack()
    assert few.classification == "zero_flux"
    assert few.stacks[100].frames == 6


def test_one_frame():
    one = Scene(frames=1).stack()
    assert one.stacks[100].frames == one.stacks[20].frames == 1


def test_frames_that_are_not_finite_are_left_out(scene):
    other = Scene(frames=60, seed=1)
    other.frames = other.frames.astype(np.float32)
    other.frames[7, 30, 40] = np.nan
    other.frames[21] = np.inf
    stack = other.stack()
    assert np.flatnonzero(~stack.table.used).tolist() == [21]  # one bad pixel costs no frame
    assert np.isfinite(stack.sum_image).all()


def test_saturated_frames_are_counted():
    bright = Scene(frames=60, flux=60_000.0 * 40)
    assert bright.stack().saturated_frames > 30


def test_threads_do_not_matter(scene):
    one, two = scene.stack(threads=1), scene.stack(threads=2)
    np.testing.assert_array_equal(one.stacks[100].image, two.stacks[100].image)


def test_input_is_not_modified(scene):
    before = scene.frames.copy()
    scene.stack()
    np.testing.assert_array_equal(scene.frames, before)


def test_no_frame_at_all():
    with pytest.raises(NotEnoughFramesError, match="not one frame"):
        FrameAverager(FrameCalibration()).median_image()


@pytest.mark.parametrize(
    ("snr", "sampled", "expected"),
    [(500, 30, "high_flux"), (99, 30, "faint"), (19, 30, "zero_flux"), (500, 19, "zero_flux")],
)
def test_classes(snr, sampled, expected):
    assert classify(snr, sampled, StackOptions()) == expected


def test_usable_frames():
    flux = np.array([10, 11, 9, 1, np.nan, -1], np.float32)
    quality = np.array([1, 1, np.nan, 1, 1, 1], np.float32)
    assert select_usable(flux, quality, 0.3).tolist() == [True, True, False, False, False, False]
