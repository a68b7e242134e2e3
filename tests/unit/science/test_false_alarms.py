"""False alarms of a search: what the threshold promises is what single stars give."""

import numpy as np
import pytest
from scipy import ndimage, stats
from speckled_stars import HALF, render_star

from roboao_assets.science.false_alarms import (
    expected_as_significant,
    expected_false_alarms,
    roughness,
)
from roboao_assets.science.high_contrast import (
    detect_candidates,
    prepare_psf,
    principal_components,
    reference_rows,
    snr_map,
)
from roboao_assets.storage.instruments import load_instruments

FWHM_PX = 4.1
SEEDS = 50


def peaks_above(significance, threshold):
    """Local maxima of the flux at which the ratio is above the threshold."""
    peaks = significance.flux == ndimage.maximum_filter(significance.flux, size=3)
    return int((peaks & (np.nan_to_num(significance.snr, nan=-1.0) >= threshold)).sum())


@pytest.mark.parametrize("threshold", [3.0, 3.5, 4.0])
def test_peaks_of_smooth_noise_are_as_many_as_expected(threshold):
    """Gaussian noise as smooth as a PSF, where there is no other scatter than chance."""
    found, expected = 0, 0.0
    for seed in range(SEEDS):
        noise = np.random.default_rng(seed).normal(size=(81, 81))
        significance = snr_map(ndimage.gaussian_filter(noise, 1.7), FWHM_PX)
        found += peaks_above(significance, threshold)
        expected += significance.false_alarms(threshold)
    assert expected > 10
    # Peaks of the flux, which are searched, are somewhat fewer than those of the ratio.
    assert 0.4 * expected < found < expected + 3 * np.sqrt(expected)


def test_single_stars_give_no_more_candidates_than_promised():
    """Fifty single stars with speckles of their own, ten references; threshold as by default."""
    profile = load_instruments()["KPNO_2.1m"]
    prepared = [
        prepare_psf(render_star(1000 + seed), 60, 60, HALF, highpass_planes=2) for seed in range(10)
    ]
    rows = reference_rows(np.array([p.frame for p in prepared]))
    components = principal_components(rows, 5, prepared[0].frame.shape)
    stars_with, promised = 0, 0.0
    for seed in range(SEEDS):
        star = prepare_psf(render_star(seed), 60, 60, HALF, highpass_planes=2)
        found = detect_candidates(
            star.frame, components, star.fwhm_px, profile, snr_threshold=5.0, max_candidates=1
        )
        stars_with += bool(found.candidates)
        promised += -np.expm1(-found.false_alarms)
    assert 5 < promised < 25
    spread = np.sqrt(promised * (1 - promised / SEEDS))
    assert abs(stars_with - promised) < 3 * spread


def test_number_falls_with_the_threshold_and_the_apertures():
    rng = np.random.default_rng(1)
    snr = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 2.0)
    few, many = np.full(snr.shape, 6), np.full(snr.shape, 600)
    numbers = [expected_false_alarms(t, snr, many) for t in (3.0, 4.0, 5.0)]
    assert numbers == sorted(numbers, reverse=True)
    # Gaussian limit: Adler's formula for the peaks of a smooth field.
    area, rate = snr.size, roughness(snr)
    gaussian = area * rate * 4.0 * np.exp(-8.0) / (2 * np.pi) ** 1.5
    assert numbers[1] == pytest.approx(gaussian, rel=0.15)
    assert expected_false_alarms(5.0, snr, few) > 100 * numbers[2]
    assert expected_false_alarms(5.0, snr, np.zeros_like(few)) == 0.0


def test_as_significant_is_the_same_number_at_the_same_ratio():
    snr = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(60, 60)), 2.0)
    apertures = np.full(snr.shape, 20)
    probability = float(stats.t.sf(4.5, 19))
    assert expected_as_significant(probability, snr, apertures) == pytest.approx(
        expected_false_alarms(4.5, snr, apertures)
    )


def test_roughness_is_the_gradient_s_variance():
    """Of Gaussian noise smoothed with sigma, it is 1 / (2 sigma^2), whatever its strength."""
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(400, 400)), 3.0)
    assert roughness(noise) == pytest.approx(1 / 18, rel=0.1)
    assert roughness(1e3 * noise) == pytest.approx(roughness(noise))
    assert roughness(np.zeros((5, 5))) == 0.0
