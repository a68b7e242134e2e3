"""Contrast curve, signal-to-noise map and candidates, against injected companions."""

import math
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import sep
from scipy import ndimage, stats
from speckled_stars import FWHM_PX, HALF, render_star

from roboao_assets.science.companion_response import (
    aperture_fluxes,
    star_flux,
    throughput_map,
)
from roboao_assets.science.contrast import student_factor
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
from roboao_assets.storage.instruments import load_instruments

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


def measure(frame, references, components=1, **options) -> ContrastCurve:
    arguments = {"fwhm_px": FWHM_PX, "plate_scale_arcsec": SCALE_ARCSEC}
    return contrast_curve(frame, subtracted(frame, references, components), **arguments | options)


def subtracted(frame, references, components=1):
    return subtract_reference_pca(frame, references, components).components


def test_curve_has_the_shape_it_says(curve):
    separations = curve.separation_arcsec
    assert separations[0] == pytest.approx(FWHM_PX * SCALE_ARCSEC)
    np.testing.assert_allclose(np.diff(separations), SCALE_ARCSEC)
    edge_px = HALF + 0.5 - FWHM_PX / 2
    assert edge_px - 1 < separations[-1] / SCALE_ARCSEC <= edge_px
    for values in (curve.contrast_mag, curve.blind_contrast_mag, curve.noise, curve.throughput):
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
    np.testing.assert_array_equal(curve.apertures, samples)
    contrast = factor * curve.noise / curve.throughput / curve.star_flux
    expected = np.maximum(-2.5 * np.log10(contrast), 0)
    np.testing.assert_allclose(curve.contrast_mag, expected, atol=1e-6)


def vip_curve(vip_metrics, frame, library, fwhm_px, flux):
    """VIP's own: its PCA with one component, its injections, its noise; all by default."""
    from vip_hci.psfsub import pca

    norms = np.linalg.norm(library, axis=(1, 2), keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return vip_metrics.contrast_curve(
            frame[None].astype(np.float64),
            np.zeros(1),
            frame.astype(np.float64) / flux,
            fwhm_px,
            SCALE_ARCSEC,
            flux,
            pca,
            cube_ref=(library / norms).astype(np.float64),
            ncomp=1,
            plot=False,
            verbose=False,
        )


def test_curve_is_that_of_vip(vip_metrics):
    """As the archive filters by default: two planes."""
    frame = prepare(0, highpass_planes=2)
    library = np.array([prepare(s, highpass_planes=2) for s in range(1, 6)])
    ours = measure(frame, library)
    table = vip_curve(vip_metrics, frame, library, FWHM_PX, ours.star_flux)
    theirs = -2.5 * np.log10(table["sensitivity_student"].to_numpy())
    there = table["distance"].to_numpy() * SCALE_ARCSEC
    known = there <= ours.separation_arcsec[-1] + 1e-9
    assert known.sum() >= len(there) - 1
    found = np.interp(there, ours.separation_arcsec, ours.contrast_mag)[known]
    np.testing.assert_allclose(found, theirs[known], atol=0.05)
    np.testing.assert_allclose(
        np.interp(there, ours.separation_arcsec, ours.noise)[known],
        table["noise"].to_numpy()[known],
        rtol=0.03,
    )


@pytest.mark.parametrize("annulus_px", [0.0, 8.0])
def test_throughput_is_what_is_left_of_an_injected_companion(references, annulus_px):
    frame = prepare(0).astype(np.float64)
    components = subtract_reference_pca(frame, references, 3, annulus_px=annulus_px).components
    throughput = throughput_map(frame, components, FWHM_PX)
    threaded = throughput_map(frame, components, FWHM_PX, threads=2)
    np.testing.assert_allclose(threaded, throughput, atol=1e-9)
    flux = star_flux(frame, FWHM_PX)
    assert flux == pytest.approx(aperture_fluxes(frame, FWHM_PX)[HALF, HALF])
    for dx, dy in [(6, 0), (-4, 9), (0, -20), (25, 25), (-37, 3)]:
        padded = np.pad(frame, 40)
        companion = padded[40 - dy : 121 - dy, 40 - dx : 121 - dx]
        left = components.subtract(frame + 0.01 * companion) - components.subtract(frame)
        by_hand = aperture_fluxes(left, FWHM_PX)[HALF + dy, HALF + dx] / (0.01 * flux)
        assert throughput[HALF + dy, HALF + dx] == pytest.approx(by_hand, abs=1e-6)


# The last is near the edge, the first where there are eight apertures.
@pytest.mark.parametrize("separation_px", [5.5, 9.0, 14.0, 22.0, 33.0])
def test_companion_at_the_curve_is_recovered_at_its_significance(references, separation_px):
    """Injected before filter and centring at the curve's level; within 0.3 mag of 5 sigma."""
    curve = measure(prepare(0), references)
    separation_arcsec = separation_px * SCALE_ARCSEC
    limit = 10 ** (-0.4 * contrast_at(curve, separation_arcsec))
    assert 0 < limit < 0.5
    plain = components_residual(prepare(0), references)
    excess = []
    for angle in np.arange(6) * np.pi / 3 + 0.2:
        dx, dy = separation_px * np.cos(angle), separation_px * np.sin(angle)
        frame = prepare(0, companions=[(dx, dy, limit)])
        left = components_residual(frame, references) - plain
        flux, _, _ = sep.sum_circle(left, [HALF + dx], [HALF + dy], FWHM_PX / 2, subpix=0)
        excess.append(float(flux[0]))
    noise = np.interp(separation_px, curve.separation_arcsec / SCALE_ARCSEC, curve.noise)
    apertures = np.array([math.floor(2 * math.pi * separation_px / FWHM_PX)])
    significance = np.array(excess) / noise / student_factor(5.0, apertures)
    error_mag = 2.5 * np.log10(significance)
    assert abs(error_mag).max() < 0.3
    # On the average it is right to a tenth.
    assert abs(error_mag.mean()) < 0.1


@pytest.mark.parametrize("separation_px", [8.0, 12.0, 16.0, 24.0, 34.0])
def test_blind_search_finds_companions_at_its_curve(references, separation_px):
    """Whoever finds it knows the noise from the other apertures of the ring alone."""
    curve = measure(prepare(0), references)
    limit = 10 ** (
        -0.4
        * np.interp(separation_px * SCALE_ARCSEC, curve.separation_arcsec, curve.blind_contrast_mag)
    )
    found_mag = []
    for angle in (np.arange(16) + 0.3) * np.pi / 8:
        companion = separation_px * np.cos(angle), separation_px * np.sin(angle), limit
        residual = components_residual(prepare(0, companions=[companion]), references)
        number = np.arange(int(2 * np.pi * separation_px / FWHM_PX))
        angles = angle + number * FWHM_PX / separation_px
        places = HALF + separation_px * np.cos(angles), HALF + separation_px * np.sin(angles)
        fluxes, _, _ = sep.sum_circle(residual, *places, FWHM_PX / 2, subpix=0)
        noise = fluxes[1:].std(ddof=1) * student_factor(5.0, np.array(len(fluxes) - 1))
        found_mag.append(2.5 * np.log10((fluxes[0] - fluxes[1:].mean()) / noise))
    assert abs(np.median(found_mag)) < 0.3


def components_residual(frame, references):
    return subtracted(frame, references).subtract(frame)


def test_blind_search_needs_more_where_apertures_are_few(curve):
    loss_mag = curve.contrast_mag - curve.blind_contrast_mag
    assert loss_mag[curve.apertures <= 12].mean() > 0.1
    assert abs(loss_mag[curve.apertures > 30]).mean() < 0.15


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
    components = subtract_reference_pca(frame, library, 1).components
    found = detect_candidates(frame, components, FWHM_PX, profile).candidates
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
    assert found[0].snr > found[1].snr or (
        found[0].false_alarm_probability <= found[1].false_alarm_probability
    )


def test_model_of_the_candidates_is_their_light(profile, references):
    """Taken off, it leaves the star as if it were single, and its contrast curve as deep."""
    truth = [(18.0, 9.0, 0.03)]
    frame, single = prepare(0, companions=truth), prepare(0)
    detection = detect_candidates(frame, subtracted(frame, references), FWHM_PX, profile)
    assert len(detection.candidates) == 1
    left = frame - detection.companions - single
    assert np.abs(left).max() < 0.1 * np.abs(frame - single).max()
    alone = measure(single, references)
    spoilt = measure(frame, references)
    cleaned = measure(frame, references, companions=detection.companions)
    at = round(math.hypot(18, 9) - FWHM_PX)
    assert spoilt.contrast_mag[at] < alone.contrast_mag[at] - 0.4
    # Near the edge the model is cut.
    np.testing.assert_allclose(cleaned.contrast_mag[:-3], alone.contrast_mag[:-3], atol=0.2)


def test_orientation_is_the_profile_s(profile, references):
    frame = prepare(0, companions=[(20.0, 0.0, 0.02)])
    components = subtract_reference_pca(frame, references, 1).components
    (mirrored,) = detect_candidates(
        frame, components, FWHM_PX, replace(profile, east_is_left=False, y_axis_pa_deg=30.0)
    ).candidates
    assert mirrored.pa_deg == pytest.approx(120.0, abs=1.0)


def test_single_star_has_no_bright_candidates(profile, references):
    frame = prepare(0)
    components = subtract_reference_pca(frame, references, 1).components
    found = detect_candidates(frame, components, FWHM_PX, profile).candidates
    assert all(c.contrast_mag > 4 for c in found)
    nothing = detect_candidates(frame, components, FWHM_PX, profile, snr_threshold=np.inf)
    assert nothing.candidates == ()
    assert not nothing.companions.any()


def test_detection_of_a_full_box_takes_seconds_at_most(profile):
    """201 px, 5 references: a bound a hundred times above what it takes on an idle machine."""
    rng = np.random.default_rng(1)
    big = rng.normal(size=(201, 201))
    big[100, 100] = 1e4
    components = subtract_reference_pca(big, rng.normal(size=(5, 201, 201)), 1).components
    start = time.process_time()
    detect_candidates(big, components, 5.5, profile, max_candidates=1)
    assert time.process_time() - start < 60


def test_frame_of_even_side_is_refused(profile):
    with pytest.raises(ValueError, match="odd side"):
        snr_map(np.zeros((80, 80)), 4.0)
    with pytest.raises(ValueError, match="FWHM must be positive"):
        snr_map(np.zeros((81, 81)), 0.0)
