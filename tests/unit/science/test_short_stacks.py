"""Short stacks: groups of consecutive frames, drizzled as the whole stack is."""

from dataclasses import replace

import numpy as np
import pytest
from speckled_stars import HALF, render_star

from roboao_assets.science.frame_calibration import FrameCalibration
from roboao_assets.science.high_contrast import prepare_psf, prepare_short_stacks
from roboao_assets.science.psf_preparation import PREPARATION_MARGIN_PX
from roboao_assets.science.short_stacks import MIN_FRAMES, stack_in_groups
from roboao_assets.science.star_stack import drizzle_on_star
from roboao_assets.storage.instruments import load_instruments

PROFILE = replace(load_instruments()["KPNO_2.1m"], drizzle_scale=2)
SHAPE = (90, 120)


@pytest.fixture(scope="module")
def night():
    """Frames (uint16) of noise round a star at known places, with dark, flat and bad pixels."""
    rng = np.random.default_rng(4)
    number = 23
    x, y = rng.normal(58, 1.5, number), rng.normal(44, 1.5, number)
    grid_y, grid_x = np.indices(SHAPE)
    light = np.exp(-((grid_x - x[:, None, None]) ** 2 + (grid_y - y[:, None, None]) ** 2) / 6)
    frames = np.rint(500 + 3000 * light + rng.normal(0, 5, light.shape)).astype(np.uint16)
    weight = np.ones(SHAPE, np.float32)
    weight[40, 61] = 0
    calibration = FrameCalibration(
        dark=rng.normal(0, 3, SHAPE).astype(np.float32),
        inverse_flat=rng.normal(1, 0.02, SHAPE).astype(np.float32),
        weight=weight,
        corner_px=10,
    )
    return {
        "frames": frames,
        "order": rng.permutation(number)[:20],
        "x": x,
        "y": y,
        "bias": rng.normal(500, 4, number).astype(np.float32),
        "ceiling": np.full(SHAPE, 1e6, np.float32),
        "calibration": calibration,
    }


def group(night, **options):
    order = night["order"]
    arguments = {
        "bias": night["bias"],
        "ceiling": night["ceiling"],
        "calibration": night["calibration"],
        "profile": PROFILE,
        "threads": 1,
    }
    return stack_in_groups(
        night["frames"], order, night["x"][order], night["y"][order], **(arguments | options)
    )


def test_each_group_is_the_stack_of_its_frames(night):
    """The same pixels as a stack of the whole field of just these frames, to rounding."""
    half = 30
    short = group(night, number=4, half_px=half)
    assert short.shape == (4, 2 * half + 1, 2 * half + 1)
    assert short.dtype == np.float32
    for frames, found in zip(np.array_split(np.sort(night["order"]), 4), short, strict=True):
        whole = drizzle_on_star(
            night["frames"],
            frames,
            night["x"][frames],
            night["y"][frames],
            counts=[len(frames)],
            bias=night["bias"],
            ceiling=night["ceiling"],
            calibration=night["calibration"],
            profile=PROFILE,
            threads=1,
        )
        x, y = int(whole.lock_x), int(whole.lock_y)
        expected = whole.images[0][y - half : y + half + 1, x - half : x + half + 1]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-2)


def test_no_group_has_gaps_of_too_few_frames(night):
    assert len(group(night, number=100, half_px=10)) == 20 // MIN_FRAMES
    one = dict(night, order=night["order"][: MIN_FRAMES - 1])
    assert group(one, number=5, half_px=10).shape == (0, 21, 21)


def test_outside_of_the_frame_there_are_no_data(night):
    short = group(night, number=2, half_px=100)
    assert short.shape == (2, 201, 201)
    assert np.isnan(short[:, 0, 100]).all()
    assert np.isfinite(short[:, 100, 100]).all()


def test_ceiling_holds_in_the_groups(night):
    ceiling = np.full(SHAPE, 50.0, np.float32)
    short = group(night, number=2, half_px=10, ceiling=ceiling)
    assert not (short > 51).any()


@pytest.mark.parametrize("options", [{}, {"highpass_planes": 2}, {"highpass": False}])
def test_short_stacks_are_prepared_as_the_whole(options):
    """The same image as whole stack and as short stack gives the same frame."""
    image = render_star(3, size=2 * (HALF + PREPARATION_MARGIN_PX) + 1)
    middle = image.shape[0] // 2
    star = prepare_psf(image, middle, middle, HALF, **options)
    frames = prepare_short_stacks(np.array([image, 2 * image]), star, **options)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames[0], star.frame, atol=2e-4 * star.frame.max())
    np.testing.assert_allclose(frames[1], 2 * frames[0], atol=4e-4 * star.frame.max())
