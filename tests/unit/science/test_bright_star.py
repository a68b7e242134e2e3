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
from roboao_assets.science.stack_flags import FLAG_MEANINGS, StackFlag
from roboao_assets.storage.instruments import load_instruments

PROFILE = replace(
    load_instruments()["KPNO_2.1m"], guide_box_px=64, edge_px=30, background_sigma_px=30.0
)
SIDE = 160
SKY, BIAS, GAIN = 15.0, 600.0, 1.0


class Scene:
    """Raw frames of one moving star behind a dark pattern and a flat, with their truth."""

    def __init__(
        self, frames=80, flux=60_000.0, noise=8.0, seed=1, companion=0.0, cloud=(),
        at=(82, 77), field_star=None, disc_px=0.0,
    ):  # fmt: skip
        rng = np.random.default_rng(seed)
        rows, columns = np.indices((SIDE, SIDE))
        self.x = at[0] + rng.normal(0, 2.5, frames)
        self.y = at[1] + rng.normal(0, 2.5, frames)
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
            if disc_px:
                r = np.hypot(columns - self.x[i], rows - self.y[i])
                image = light[i] / (np.pi * disc_px**2) / (1 + np.exp((r - disc_px) / 1.5))
            if field_star:
                place = np.array(field_star) + (self.x[i] - at[0], self.y[i] - at[1])
                image += light[i] * self.star(rows, columns, *place, self.sharp[i])
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


def test_every_flag_has_its_sentence():
    assert set(FLAG_MEANINGS) == set(StackFlag)


def test_one_frame():
    one = Scene(frames=1).stack()
    assert one.flags == (StackFlag.FEW_FRAMES,)
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
    stack = Scene(frames=60, flux=60_000.0 * 40).stack()
    assert stack.saturated_frames > 30
    assert StackFlag.SATURATED in stack.flags
    assert stack.stacks[100].frames == 60


def test_an_ordinary_star_raises_no_flag(stack):
    assert stack.flags == ()


def test_star_near_the_edge_is_taken_if_there_is_no_other():
    edge = Scene(frames=60, at=(14, 77))
    stack = edge.stack()
    assert StackFlag.NEAR_EDGE in stack.flags
    assert np.std(stack.table.x - edge.x) < 0.15
    both = Scene(frames=60, at=(14, 77), field_star=(90, 90))
    assert abs(both.stack().guide_star.x - 90) < 2


def test_star_that_leaves_the_frame_is_lost_in_some():
    leaving = Scene(frames=60, seed=5)
    leaving.frames[40:] = leaving.frames[40:] // 8 + 525  # the sky and a faint rest
    stack = leaving.stack()
    assert StackFlag.STAR_LOST in stack.flags
    assert not stack.table.used[40:].any()
    assert stack.stacks[100].frames == 40


def test_identical_frames_are_told_and_stacked():
    scene = Scene(frames=60)
    scene.frames[:] = scene.frames[3]
    stack = scene.stack()
    assert stack.flags == (StackFlag.IDENTICAL_FRAMES,)
    assert np.ptp(stack.table.x) < 1e-6
    assert stack.stacks[20].frames == 12


def test_resolved_object_has_no_core():
    disc = Scene(frames=66, flux=400_000.0, disc_px=9.0)
    stack = disc.stack()
    assert StackFlag.NO_CORE in stack.flags
    assert np.std(stack.table.x - disc.x) < 0.6


def test_faint_star_beside_a_hot_pixel():
    scene = Scene(frames=66, flux=9_000.0, seed=3)
    scene.frames[:, 70, 70] = 9000  # was not hot when the mask was made
    stack = scene.stack()
    assert np.hypot(stack.guide_star.x - 82, stack.guide_star.y - 77) < 4
    assert np.std(stack.table.x - scene.x) < 0.6


def test_cosmic_rays_leave_no_trace_in_the_field():
    scene = Scene(frames=60)
    clean = scene.stack().stacks[100].image
    rng = np.random.default_rng(6)
    for frame in range(60):
        y, x = rng.integers(5, SIDE - 5, 2)
        scene.frames[frame, y : y + 2, x] = 15_000
    hit = scene.stack().stacks[100].image
    rows, columns = np.indices(hit.shape)
    away = np.hypot(rows - 154, columns - 164) > 60
    # One hit of 15000 in 60 frames would leave 250.
    assert np.nanmax(np.abs(hit - clean)[away]) < 25


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
