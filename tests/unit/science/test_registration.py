"""Positions of stars in frames against known ones, and against a direct sum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.science.box_noise import border_levels
from roboao_assets.science.box_transforms import telescope_transfer, transfer_psf
from roboao_assets.science.registration import measure_frames


def star_boxes(x, y, *, side=128, peak=500.0, noise=0.0, core=1.1, seed=0):
    """One star a frame at (x, y): Gaussian core on a Gaussian halo, on a sky of 20."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    r2 = (columns - np.asarray(x)[:, None, None]) ** 2 + (rows - np.asarray(y)[:, None, None]) ** 2
    # The core's flux stays when its width changes.
    boxes = peak * (1.1 / core) ** 2 * np.exp(-r2 / 2 / core**2)
    boxes += 0.12 * peak * np.exp(-r2 / 2 / 12**2) + 20
    return (boxes + rng.normal(0, noise, boxes.shape)).astype(np.float32)


def transfer(side):
    """Of the 1.85 m telescope at 765 nm."""
    return telescope_transfer(
        side,
        plate_scale_arcsec=0.0351594,
        wavelength_nm=765,
        primary_diameter_m=1.85,
        secondary_diameter_m=0.879,
    )


def measure(boxes, **changes):
    options = {"search_half_px": 25} | changes
    return measure_frames(boxes, transfer(boxes.shape[1]), **options)


@given(
    st.lists(st.tuples(st.floats(-12, 12), st.floats(-12, 12)), min_size=1, max_size=8),
    st.sampled_from([64, 96, 128]),
)
@settings(max_examples=20, deadline=None)
def test_noise_free_positions_to_a_hundredth(offsets, side):
    x, y = np.array(offsets).T + side / 2
    found = measure(star_boxes(x, y, side=side))
    np.testing.assert_allclose(found.x, x, atol=0.01)
    np.testing.assert_allclose(found.y, y, atol=0.01)


def test_positions_in_noise():
    rng = np.random.default_rng(3)
    x, y = 64 + rng.normal(0, 4, (2, 120))
    found = measure(star_boxes(x, y, noise=25.0))
    assert np.std(found.x - x) < 0.06
    assert np.std(found.y - y) < 0.06
    assert abs(np.mean(found.x - x)) < 0.02
    assert abs(np.mean(found.y - y)) < 0.02


def test_flux_and_quality():
    x = y = np.full(3, 64.0)
    sharp = star_boxes(x, y, core=1.1)
    blurred = star_boxes(x, y, core=2.2)
    bright = measure(2 * sharp)
    assert np.all(measure(sharp).quality > measure(blurred).quality)
    np.testing.assert_allclose(bright.quality, measure(sharp).quality, rtol=1e-4)
    np.testing.assert_allclose(bright.flux, 2 * measure(sharp).flux, rtol=1e-4)
    # The level of the border holds a little of the halo.
    total = 2 * np.pi * 500 * (1.1**2 + 0.12 * 12**2)
    np.testing.assert_allclose(measure(sharp).flux, total, rtol=0.02)


def test_second_star_does_not_catch_the_lock():
    rng = np.random.default_rng(5)
    x, y = 60 + rng.normal(0, 2, (2, 80))
    boxes = star_boxes(x, y, noise=10)
    boxes += 0.95 * (star_boxes(x + 14, y - 9, peak=500) - 20)
    found = measure(boxes, rounds=3)
    assert np.std(found.x - x) < 0.1
    assert np.std(found.y - y) < 0.1


def test_no_frames():
    found = measure(np.zeros((0, 64, 64), np.float32))
    assert found.x.shape == found.flux.shape == (0,)


def test_empty_frames_give_finite_positions():
    found = measure(np.zeros((4, 64, 64), np.float32))
    assert np.isfinite(found.x).all()
    assert np.all(found.flux == 0)


def test_threads_do_not_matter():
    x, y = 64 + np.random.default_rng(1).normal(0, 4, (2, 20))
    boxes = star_boxes(x, y, noise=20)
    one, two = measure(boxes, threads=1), measure(boxes, threads=2)
    np.testing.assert_allclose(one.x, two.x, atol=1e-6)


def test_star_at_the_diffraction_limit_has_quality_one():
    psf = np.fft.fftshift(transfer_psf(transfer(128)))
    measured = measure((1e5 * psf[None]).astype(np.float32))
    # The border takes a little of the PSF's wings for sky.
    np.testing.assert_allclose(measured.quality, 1, rtol=0.03)
    np.testing.assert_allclose([measured.x[0], measured.y[0]], 64, atol=1e-3)


def test_noise_of_the_peak():
    # Photon noise in proportion to the light on a read noise of 5.
    rng = np.random.default_rng(2)
    psf = np.fft.fftshift(transfer_psf(transfer(64)))
    light = np.broadcast_to(3e4 * np.clip(psf, 0, None), (400, 64, 64))
    boxes = 4 * rng.poisson(light / 4) + rng.normal(0, 5, light.shape)
    filtered = np.fft.irfft2(np.fft.rfft2(boxes) * transfer(64), s=(64, 64))
    peak = filtered[:, 32, 32]
    measured = measure(boxes.astype(np.float32))
    assert measured.peak_snr == pytest.approx(peak.mean() / peak.std(), rel=0.12)


@pytest.mark.parametrize("side", [8, 20, 65])
def test_border_level_is_the_border_median(side):
    boxes = np.random.default_rng(0).normal(5, 1, (3, side, side)).astype(np.float32)
    width = min(3, side // 4)
    inside = np.zeros((side, side), bool)
    inside[width:-width, width:-width] = True
    expected = [np.median(box[~inside]) for box in boxes]
    np.testing.assert_allclose(border_levels(boxes), expected, rtol=1e-6)
