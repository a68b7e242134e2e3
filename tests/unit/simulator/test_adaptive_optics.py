"""Aberrations and motion have the statistics their names promise."""

import numpy as np
import pytest

from roboao_assets.storage.instruments import load_instruments
from simulator.adaptive_optics import (
    Correction,
    fixed_aberrations_nm,
    image_motion,
    low_order_amplitudes,
    wandering,
    zernike,
)
from simulator.optics import Optics


def test_zernikes_are_orthonormal_over_the_disc():
    axis = (np.arange(400) + 0.5) / 200.0 - 1.0
    x, y = np.meshgrid(axis, axis)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    inside = radius <= 1.0
    modes = np.stack([zernike(j, radius, angle)[inside] for j in range(1, 22)])
    products = modes @ modes.T / inside.sum()
    assert products == pytest.approx(np.eye(21), abs=0.02)


def test_noll_order():
    radius, angle = np.array([0.7]), np.array([0.3])
    assert zernike(4, radius, angle) == pytest.approx(np.sqrt(3) * (2 * 0.49 - 1))
    assert zernike(6, radius, angle) == pytest.approx(np.sqrt(6) * 0.49 * np.cos(0.6))
    assert zernike(11, radius, angle) == pytest.approx(np.sqrt(5) * (6 * 0.7**4 - 6 * 0.49 + 1))


def test_wandering_is_stationary_with_its_correlation_time():
    series = wandering(np.random.default_rng(1), (4000, 40), 0.1, 0.5)
    assert series.std(axis=0) == pytest.approx(np.ones(40), abs=0.06)
    assert (series[:, 0] * series[:, 5]).mean() == pytest.approx(np.exp(-1.0), abs=0.06)


def test_low_order_rms():
    correction = Correction(low_order_nm=100.0, quality_spread=0.0)
    amplitudes = low_order_amplitudes(np.random.default_rng(2), correction, 20000, 0.1)
    assert np.sqrt((amplitudes**2).sum(axis=1).mean()) == pytest.approx(100.0, rel=0.05)


def test_image_motion_rms():
    correction = Correction(drift_px=0.0, wander_px=2.0, shake_px=0.5)
    motion = image_motion(np.random.default_rng(3), correction, 50000, 0.0116)
    assert motion.std(axis=1) == pytest.approx([np.hypot(2.0, 0.5)] * 2, rel=0.15)


def test_fixed_aberrations_are_one_surface_in_every_filter():
    profile = load_instruments()["KPNO_2.1m"]
    seed = np.random.SeedSequence(4)
    surfaces = []
    for filter_name in ("Si", "Sz"):
        optics = Optics.of_profile(profile, filter_name, 320)
        surface = fixed_aberrations_nm(optics, 45.0, seed)
        rms = np.sqrt((surface**2 * optics.aperture).sum() / optics.aperture.sum())
        assert rms == pytest.approx(45.0, rel=0.1)
        middle, side = surface.shape[0] / 2.0, profile.primary_diameter_m / 4.0
        at = round(middle + side / optics.aperture_pixel_m)
        surfaces.append(surface[at - 3 : at + 3, at - 3 : at + 3].mean())
    assert surfaces[0] == pytest.approx(surfaces[1], abs=12.0)
