"""Masters against simulated cubes of known truth."""

import numpy as np
import pytest

from roboao_assets.science.calibration import (
    bad_pixel_mask,
    combine_darks,
    combine_flats,
    corner_levels,
    invert_flat,
)
from roboao_assets.science.errors import NotEnoughFramesError, ScienceError

SIDE = 192


def pattern(rng, amplitude):
    y, x = np.mgrid[:SIDE, :SIDE]
    return amplitude * (np.sin(x / 17.0) + np.cos(y / 23.0)) + rng.normal(
        0, amplitude, (SIDE, SIDE)
    )


def hit(rng, cube, share):
    """Add cosmic rays of 20 to 400 times the noise to a share of all samples."""
    hits = rng.random(cube.shape) < share
    cube[hits] += rng.uniform(200, 4000, np.count_nonzero(hits)).astype(cube.dtype)
    return hits


@pytest.mark.parametrize("n", [5, 10, 100])
def test_master_dark_is_nearly_as_quiet_as_the_mean_and_free_of_cosmic_rays(n):
    rng = np.random.default_rng(n)
    truth = 500.0 + pattern(rng, 30.0)
    cube = truth + rng.normal(0, 10.0, (n, SIDE, SIDE))
    cube = np.rint(cube).astype(np.uint16)
    clean = cube.astype(np.float64).mean(axis=0)
    hits = hit(rng, cube, 0.002)
    master = combine_darks(cube, subtract_corner=False)
    assert hits.any(axis=0).mean() > 0.005
    ideal = np.std(clean - truth)
    assert np.std(master.data - truth) <= 1.2 * ideal
    assert abs(np.mean(master.data - truth)) < 0.1
    assert np.max(np.abs(master.data - truth)) < 6.5 * 10.0 / np.sqrt(min(n, 4))
    assert master.frame_noise == pytest.approx(10.0, rel=0.05)
    assert np.nanmedian(master.noise) == pytest.approx(10.0 / np.sqrt(n), rel=0.15)
    assert 0.002 < master.rejected_fraction < 0.03
    assert master.n_frames == n


def test_clipping_without_a_floor_would_be_noisier():
    # The reason for the floor: 5 frames, no cosmic rays.
    from roboao_native import sigma_clipped_mean

    rng = np.random.default_rng(0)
    cube = rng.normal(0, 10.0, (5, SIDE, SIDE)).astype(np.float32)
    ideal = 10.0 / np.sqrt(5)
    bare = sigma_clipped_mean(cube)[0]
    master = combine_darks(cube, subtract_corner=False)
    assert np.std(bare) > 1.1 * ideal
    assert np.std(master.data) < 1.05 * ideal


def test_bias_drift_of_the_mode_darks_is_removed_frame_by_frame():
    rng = np.random.default_rng(1)
    truth = pattern(rng, 30.0)
    drift = rng.uniform(-200, 200, 12)
    cube = truth + 2000.0 + drift[:, None, None] + rng.normal(0, 10.0, (12, SIDE, SIDE))
    cube = np.rint(cube).astype(np.uint16)
    master = combine_darks(cube, corner_px=50, subtract_corner=True)
    assert corner_levels(master.data[np.newaxis], corner_px=50)[0] == pytest.approx(0, abs=1e-4)
    error = master.data - (truth - truth[-50:, -50:].mean())
    assert np.std(error) <= 1.2 * 10.0 / np.sqrt(12)
    assert abs(np.mean(error)) < 1.5  # the clipped mean of a pattern, against its mean
    np.testing.assert_allclose(master.frame_levels - master.frame_levels.mean(),
                               drift - drift.mean(), atol=1.0)  # fmt: skip
    assert master.corner_level == pytest.approx(
        2000 + drift.mean() + truth[-50:, -50:].mean(), abs=2
    )


def test_dark_keeps_its_level_when_told_to():
    cube = np.full((3, 64, 64), 700, np.uint16)
    master = combine_darks(cube, subtract_corner=False)
    assert np.all(master.data == 700.0)
    assert master.corner_level == 0.0
    assert np.all(master.frame_levels == 700.0)


def test_single_dark_is_itself_with_unknown_noise():
    frame = np.random.default_rng(2).integers(0, 900, (1, 64, 64)).astype(np.uint16)
    master = combine_darks(frame, subtract_corner=False)
    assert np.array_equal(master.data, frame[0].astype(np.float32))
    assert np.isnan(master.noise).all()
    assert master.frame_noise == 0.0


def test_values_that_are_not_finite_are_not_counted():
    cube = np.random.default_rng(3).normal(100, 5, (10, 64, 64)).astype(np.float32)
    cube[:, 5, 6] = np.nan
    cube[2, 7, 8] = np.inf
    master = combine_darks(cube, subtract_corner=True)
    assert np.isnan(master.data[5, 6])
    assert np.count_nonzero(~np.isfinite(master.data)) == 1


def test_results_do_not_depend_on_blocks_or_threads(monkeypatch):
    cube = np.random.default_rng(4).normal(100, 5, (6, 64, 64)).astype(np.float32)
    one = combine_darks(cube, subtract_corner=True)
    monkeypatch.setattr("roboao_assets.science.calibration._BLOCK_BYTES", 6 * 64 * 4 * 5)
    two = combine_darks(cube, subtract_corner=True, threads=2)
    assert np.array_equal(one.data, two.data)
    assert np.array_equal(one.noise, two.noise)


@pytest.mark.parametrize(("cube", "error", "words"), [
    (np.zeros((0, 64, 64), np.uint16), NotEnoughFramesError, "at least one frame"),
    (np.zeros((64, 64), np.uint16), ScienceError, "cube"),
    (np.zeros((3, 40, 64), np.uint16), ScienceError, "50 x 50 px"),
    (np.full((3, 64, 64), np.nan, np.float32), ScienceError, "cannot be measured"),
])  # fmt: skip
def test_darks_that_cannot_be_combined_are_refused(cube, error, words):
    with pytest.raises(error, match=words):
        combine_darks(cube, subtract_corner=True)


@pytest.mark.parametrize("n", [5, 10, 100])
def test_master_flat_has_the_response_whatever_the_light(n):
    rng = np.random.default_rng(n)
    response = 1.0 + 0.02 * rng.normal(size=(SIDE, SIDE))
    response *= 1.0 - 0.2 * np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2)) / SIDE
    response /= response.mean()
    dark0 = (300 + pattern(rng, 5.0)).astype(np.float32)
    light = rng.uniform(15000, 25000, n)[:, None, None]
    cube = rng.normal(light * response + dark0, np.sqrt(light * response))
    clean = ((cube - dark0) / light).mean(axis=0)
    cube = np.rint(cube).astype(np.uint16)
    hit(rng, cube, 0.001)
    flat = combine_flats(cube, dark0)
    assert flat.data.mean(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)
    assert np.std(flat.data - response) <= 1.2 * np.std(clean / clean.mean() - response)
    assert not flat.bad.any()
    assert flat.used.all()
    assert flat.n_frames == n


def test_bad_pixels_of_the_flat_are_marked_and_do_not_shift_its_mean():
    cube = np.full((5, 64, 64), 10300, np.uint16)
    cube[:, 3, 4] = 300
    cube[:, 5, 6] = 100
    flat = combine_flats(cube, np.full((64, 64), 300, np.float32))
    assert set(zip(*np.nonzero(flat.bad), strict=True)) == {(3, 4), (5, 6)}
    assert np.isnan(flat.data[flat.bad]).all()
    assert np.all(flat.data[~flat.bad] == 1.0)
    inverse = invert_flat(flat.data)
    assert inverse.dtype == np.float32
    assert np.all(inverse[flat.bad] == 0.0)
    assert np.all(inverse[~flat.bad] == 1.0)


def test_flats_unlit_or_saturated_are_left_out_and_said():
    rng = np.random.default_rng(5)
    cube = rng.normal(20000, 140, (7, 64, 64)).astype(np.uint16)
    cube[1] = 310
    cube[4] = 65535
    dark0 = np.full((64, 64), 300, np.float32)
    flat = combine_flats(cube, dark0)
    assert flat.used.tolist() == [True, False, True, True, False, True, True]
    assert flat.n_frames == 5
    with pytest.raises(NotEnoughFramesError, match="5 of 7 flats are usable, 6 are needed"):
        combine_flats(cube, dark0, least_frames=6)
    with pytest.raises(ScienceError, match="32 x 64 px, the flats have 64 x 64"):
        combine_flats(cube, dark0[:, :32])


def test_mask_has_the_hot_and_the_dead_and_little_else():
    rng = np.random.default_rng(6)
    dark = rng.normal(0, 3, (SIDE, SIDE)) + np.linspace(0, 200, SIDE)
    flat = 1 + 0.02 * rng.normal(size=(SIDE, SIDE))
    hot = {(10, 20), (50, 60), (50, 61)}
    dead = {(100, 7), (0, 0)}
    for y, x in hot:
        dark[y, x] += 60
    flat[100, 7], flat[0, 0] = 0.3, 1.8
    dark[30, 30] = np.nan
    flat[31, 31], flat[32, 32] = np.nan, -0.1
    mask = bad_pixel_mask([dark.astype(np.float32)], [flat.astype(np.float32)])
    found = set(zip(*np.nonzero(mask), strict=True))
    assert found == hot | dead | {(30, 30), (31, 31), (32, 32)}
    strict = bad_pixel_mask([], [flat.astype(np.float32)], least_response=0.2, greatest_response=2)
    assert set(zip(*np.nonzero(strict), strict=True)) == {(31, 31), (32, 32)}


def test_mask_of_a_noiseless_dark_has_only_what_deviates():
    dark = np.zeros((64, 64), np.float32)
    dark[3, 3] = 1.0
    assert np.count_nonzero(bad_pixel_mask([dark], [])) == 1


def test_mask_refuses_nothing_and_two_shapes():
    with pytest.raises(ScienceError, match="there are none"):
        bad_pixel_mask([], [])
    with pytest.raises(ScienceError, match="64 x 64 px, 32 x 32|32 x 32 px, 64 x 64"):
        bad_pixel_mask([np.zeros((64, 64))], [np.zeros((32, 32))])
