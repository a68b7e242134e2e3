"""Contrast curve, signal-to-noise map and candidates, against injected companions."""

import math
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats
from speckled_stars import FWHM_PX, HALF, render_star

from roboao_assets.science.errors import NoReferencesError, ScienceError
from roboao_assets.science.high_contrast import (
    ContrastCurve,
    contrast_at,
    contrast_curve,
    detect_candidates,
    prepare_psf,
    snr_map,
    subtract_reference_pca,
)
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.storage.settings import load_instruments

SCALE_ARCSEC = 0.0175797


@pytest.fixture(scope="module")
def profile() -> InstrumentProfile:
    return load_instruments()["KPNO_2.1m"]


@pytest.fixture(scope="module")
def vip_metrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vip_hci import metrics
    return metrics


def prepare(seed, highpass=True, **options):
    planes = options.pop("highpass_planes", None)
    image = render_star(seed, **options)
    return prepare_psf(image, 60, 60, HALF, highpass=highpass, highpass_planes=planes).frame


@pytest.fixture(scope="module")
def references():
    return np.array([prepare(seed) for seed in range(1, 6)])


@pytest.fixture(scope="module")
def curve(references):
    return measure(prepare(0), references)


def measure(frame, references, **options) -> ContrastCurve:
    arguments = {"components": 1, "fwhm_px": FWHM_PX, "plate_scale_arcsec": SCALE_ARCSEC}
    return contrast_curve(frame, references, **(arguments | options))


def test_curve_has_the_shape_it_says(curve):
    separations = curve.separation_arcsec
    assert separations[0] == pytest.approx(FWHM_PX * SCALE_ARCSEC)
    np.testing.assert_allclose(np.diff(separations), SCALE_ARCSEC)
    assert HALF - FWHM_PX / 2 - 1 < separations[-1] / SCALE_ARCSEC <= HALF - FWHM_PX / 2
    for values in (curve.contrast_mag, curve.noise, curve.throughput):
        assert values.shape == separations.shape
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
    assert (curve.contrast_mag >= 0).all()
    assert 0.5 < curve.throughput.min() < curve.throughput.max() < 1.1
    # Far out only the pixel noise is left, close in the star's speckles.
    assert curve.contrast_mag[-1] > curve.contrast_mag[3] + 2


def test_formula_is_the_small_sample_limit_of_mawet(curve):
    radius = curve.separation_arcsec / SCALE_ARCSEC
    samples = np.floor(2 * np.pi * radius / FWHM_PX)
    factor = stats.t.ppf(stats.norm.cdf(5.0), samples - 1) * np.sqrt(1 + 1 / samples)
    contrast = factor * curve.noise / curve.throughput / curve.star_flux
    expected = np.maximum(-2.5 * np.log10(contrast), 0)
    np.testing.assert_allclose(curve.contrast_mag, expected, atol=1e-6)


@pytest.mark.parametrize(("highpass", "planes"), [(False, None), (True, None)])
def test_curve_agrees_with_vip(vip_metrics, highpass, planes):
    """VIP's own contrast curve, whose noise is the biased standard deviation."""
    frame = prepare(0, highpass, highpass_planes=planes).astype(np.float64)
    library = np.array([prepare(s, highpass, highpass_planes=planes) for s in range(1, 6)])
    ours = measure(frame, library)
    basis = subtract_reference_pca(frame, library, 1).basis

    def subtract(cube, angle_list, verbose=False):
        flat = cube.reshape(1, -1)
        return (flat - (flat @ basis.T) @ basis).reshape(cube[0].shape)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = vip_metrics.contrast_curve(
            frame[None],
            np.zeros(1),
            frame / ours.star_flux,
            FWHM_PX,
            SCALE_ARCSEC,
            ours.star_flux,
            subtract,
            nbranch=6,
            noise_sep=None,
            smooth=False,
            interp_order=None,
            plot=False,
            verbose=False,
        )
    radius = table["distance"].to_numpy()
    samples = np.floor(2 * np.pi * radius / FWHM_PX)
    unbiased = np.sqrt(samples / (samples - 1))
    expected = -2.5 * np.log10(np.minimum(table["sensitivity_student"].to_numpy() * unbiased, 1))
    ours_there = [contrast_at(ours, r * SCALE_ARCSEC) for r in radius]
    known = np.isfinite(ours_there)
    assert known.sum() >= 7
    np.testing.assert_allclose(np.array(ours_there)[known], expected[known], atol=0.12)


def test_companion_at_the_limit_has_the_significance_of_the_limit(references):
    """Injected before filter and centring at the limit, it stands `sigma` above the noise."""
    curve = measure(prepare(0), references)
    separation_px = 25.0
    limit = 10 ** (-0.4 * contrast_at(curve, separation_px * SCALE_ARCSEC))
    plain = subtract_reference_pca(prepare(0), references, 1).residual
    excess = []
    for angle in np.arange(6) * np.pi / 3 + 0.2:
        dx, dy = separation_px * np.cos(angle), separation_px * np.sin(angle)
        frame = prepare(0, companions=[(dx, dy, limit)])
        left = subtract_reference_pca(frame, references, 1).residual - plain
        x, y = round(HALF + dx), round(HALF + dy)
        grid_y, grid_x = np.indices(left.shape)
        inside = np.hypot(grid_x - x, grid_y - y) <= 3.5 * FWHM_PX / 2
        core = np.hypot(grid_x - HALF - dx, grid_y - HALF - dy) <= FWHM_PX / 2
        assert left[inside].max() == left[core].max()
        excess.append(left[core].sum())
    noise = np.interp(separation_px, curve.separation_arcsec / SCALE_ARCSEC, curve.noise)
    samples = math.floor(2 * math.pi * separation_px / FWHM_PX)
    factor = stats.t.isf(stats.norm.sf(5.0), samples - 1) * math.sqrt(1 + 1 / samples)
    # Whole pixels for the exact aperture: good to some 5 %.
    assert np.mean(excess) / noise == pytest.approx(factor, rel=0.08)


def test_less_noise_and_lower_sigma_reach_deeper(references):
    deep = measure(prepare(0), references)
    noisy = measure(prepare(0, noise=20.0), references)
    assert noisy.contrast_mag[-5:].mean() < deep.contrast_mag[-5:].mean() - 1
    three = measure(prepare(0), references, sigma=3.0)
    assert (three.contrast_mag >= deep.contrast_mag).all()
    assert (three.contrast_mag - deep.contrast_mag)[-1] > 0.4


def test_own_star_does_not_matter_to_a_scaled_frame(references):
    one, ten = measure(prepare(0), references), measure(10 * prepare(0), references)
    np.testing.assert_allclose(ten.contrast_mag, one.contrast_mag, atol=1e-3)
    np.testing.assert_allclose(ten.noise, 10 * one.noise, rtol=1e-3)


def test_curve_is_deterministic_and_silent(references, capfd):
    frame = prepare(0)
    first, second = measure(frame, references), measure(frame, references)
    np.testing.assert_array_equal(first.contrast_mag, second.contrast_mag)
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


def test_contrast_between_samples_and_outside(curve):
    middle = (curve.separation_arcsec[4] + curve.separation_arcsec[5]) / 2
    assert contrast_at(curve, middle) == pytest.approx(curve.contrast_mag[4:6].mean())
    assert contrast_at(curve, curve.separation_arcsec[-1]) == curve.contrast_mag[-1]
    assert math.isnan(contrast_at(curve, 10.0))
    assert math.isnan(contrast_at(curve, 0.0))
    empty = np.array([])
    none = replace(curve, separation_arcsec=empty, contrast_mag=empty)
    assert math.isnan(contrast_at(none, 0.5))


@pytest.mark.parametrize("fwhm_px", [0.5, 11.0, float("nan")])
def test_fwhm_that_does_not_suit_the_box_is_refused(references, fwhm_px):
    with pytest.raises(ScienceError, match="no contrast curve can be measured"):
        measure(prepare(0), references, fwhm_px=fwhm_px)


def test_star_without_flux_and_no_references_are_refused(references):
    with pytest.raises(ScienceError, match="contrasts have nothing to be relative to"):
        measure(-prepare(0), references)
    with pytest.raises(NoReferencesError):
        measure(prepare(0), references * 0)


def test_snr_map_is_that_of_vip(vip_metrics):
    residual = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(81, 81)), 1.7)
    ours = snr_map(residual, FWHM_PX)
    ratios = []
    for x, y in [(50, 40), (40, 52), (30, 33), (60, 45), (22, 61), (40, 8), (47, 47)]:
        theirs = vip_metrics.snr(residual, (x, y), FWHM_PX)
        ratios.append((ours.snr[y, x], theirs))
    ratios = np.array(ratios)
    np.testing.assert_allclose(ratios[:, 0], ratios[:, 1], atol=0.05)


def test_snr_map_of_noise_follows_student(vip_metrics):
    residual = ndimage.gaussian_filter(np.random.default_rng(6).normal(size=(201, 201)), 1.7)
    result = snr_map(residual, FWHM_PX)
    values = result.snr[np.isfinite(result.snr)]
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1.0, abs=0.1)
    assert np.isnan(result.snr[100, 100])
    assert np.isnan(result.snr[100, 0])
    assert (result.noise_apertures[np.isnan(result.snr)] == 0).all()
    assert result.false_alarm_probability(120, 100) == pytest.approx(
        vip_fap(vip_metrics, result.snr[100, 120], result.noise_apertures[100, 120])
    )


def vip_fap(vip_metrics, snr, apertures):
    return stats.norm.sf(
        vip_metrics.significance(snr, 20.0, FWHM_PX, n_ap=apertures - 1, verbose=False)
    )


@pytest.mark.parametrize(("highpass", "planes"), [(False, None), (True, None), (True, 2)])
def test_companions_are_found_where_and_as_bright_as_they_are(profile, highpass, planes):
    library = np.array([prepare(s, highpass, highpass_planes=planes) for s in range(1, 6)])
    truth = [(-22.3, 8.4, 0.01), (9.6, -13.1, 0.03)]
    frame = prepare(0, highpass, highpass_planes=planes, companions=truth)
    basis = subtract_reference_pca(frame, library, 1).basis
    found = detect_candidates(frame, basis, FWHM_PX, profile)
    assert len(found) == 2
    for dx, dy, contrast in truth:
        near = min(found, key=lambda c: math.hypot(c.x - HALF - dx, c.y - HALF - dy))
        assert math.hypot(near.x - HALF - dx, near.y - HALF - dy) < 0.25
        assert near.contrast_mag == pytest.approx(-2.5 * math.log10(contrast), abs=0.15)
        assert near.separation_arcsec == pytest.approx(math.hypot(dx, dy) * SCALE_ARCSEC, abs=0.005)
        # East is left, north up.
        assert near.pa_deg == pytest.approx(math.degrees(math.atan2(-dx, dy)) % 360, abs=1.0)
        assert near.snr > 5
        assert near.false_alarm_probability < 1e-3
    assert found[0].contrast_mag < found[1].contrast_mag


def test_orientation_is_the_profile_s(profile, references):
    frame = prepare(0, companions=[(20.0, 0.0, 0.02)])
    basis = subtract_reference_pca(frame, references, 1).basis
    (mirrored,) = detect_candidates(
        frame, basis, FWHM_PX, replace(profile, east_is_left=False, y_axis_pa_deg=30.0)
    )
    assert mirrored.pa_deg == pytest.approx(120.0, abs=1.0)


def test_single_star_has_no_bright_candidates(profile, references):
    frame = prepare(0)
    basis = subtract_reference_pca(frame, references, 1).basis
    found = detect_candidates(frame, basis, FWHM_PX, profile)
    assert all(c.contrast_mag > 4 for c in found)
    assert detect_candidates(frame, basis, FWHM_PX, profile, snr_threshold=np.inf) == ()


def test_detection_of_a_full_box_takes_seconds_at_most(profile):
    """201 px, 5 references: a bound a hundred times above what it takes on an idle machine."""
    rng = np.random.default_rng(1)
    big = rng.normal(size=(201, 201))
    big[100, 100] = 1e4
    basis = subtract_reference_pca(big, rng.normal(size=(5, 201, 201)), 1).basis
    start = time.process_time()
    detect_candidates(big, basis, 5.5, profile, max_candidates=1)
    assert time.process_time() - start < 60


def test_frame_of_even_side_is_refused(profile):
    with pytest.raises(ValueError, match="odd side"):
        snr_map(np.zeros((80, 80)), 4.0)
    with pytest.raises(ValueError, match="FWHM must be positive"):
        snr_map(np.zeros((81, 81)), 0.0)
