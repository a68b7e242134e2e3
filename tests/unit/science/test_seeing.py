"""Seeing against long-exposure images made from the Kolmogorov transfer function."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.special import j0

from roboao_assets.science.diffraction import ARCSEC_PER_RADIAN, annular_otf, diffraction_psf
from roboao_assets.science.errors import FitFailedError, NoStarError
from roboao_assets.science.seeing import (
    airmass_at,
    measure_fwhm_error,
    measure_seeing,
    reduce_to_standard,
    summarise_seeing,
)
from roboao_assets.storage.instruments import load_instruments

KPNO = load_instruments()["KPNO_2.1m"]
SCALE = KPNO.plate_scale_arcsec
FRAMES = 60


def long_exposure_transfer(frequency, r0_m):
    """Kolmogorov times telescope, at `frequency` (cycles per arcsec), 765 nm."""
    length = 765e-9 * frequency * ARCSEC_PER_RADIAN / r0_m
    return np.exp(-3.44 * length ** (5 / 3)) * annular_otf(frequency, 765.0, 1.85, 0.879)


def true_fwhm(r0_m):
    """FWHM of the profile, by the Hankel transform (no pixels, no grid of the image)."""
    f = np.linspace(0, 12, 4000)
    transfer = long_exposure_transfer(f, r0_m) * f
    r = np.linspace(0, 3, 1500)
    profile = np.array([np.trapezoid(transfer * j0(2 * np.pi * f * x), f) for x in r])
    return 2 * np.interp(-profile[0] / 2, -profile, r)


def add_star(image, x, y, r0_m, flux, *, stretch=1.0, n=320):
    """Add a star integrated over pixels; `stretch` widens it along x and narrows it along y."""
    f = np.fft.fftfreq(n, SCALE)
    radius = np.hypot(f[None, :] * stretch, f[:, None] / stretch)
    transfer = long_exposure_transfer(radius, r0_m)
    transfer = transfer * np.sinc(f * SCALE)[:, None] * np.sinc(f * SCALE)
    x0, y0 = int(x) - n // 2, int(y) - n // 2
    transfer = transfer * np.exp(-2j * np.pi * f * SCALE * (y - y0))[:, None]
    star = np.fft.ifft2(transfer * np.exp(-2j * np.pi * f * SCALE * (x - x0))).real
    image[y0 : y0 + n, x0 : x0 + n] += flux * star


def emccd_mean(photons, seed=0):
    """Mean of frames with photon noise, the gain register's excess noise, read noise, pedestal."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(np.clip(photons + 0.2, 0, None) * FRAMES)
    amplified = np.where(counts > 0, rng.gamma(np.maximum(counts, 1)), 0.0) / FRAMES
    return (amplified + rng.normal(7.0, 0.2 / np.sqrt(FRAMES), photons.shape)).astype(np.float32)


def one_star(r0_m, flux=1e5, shape=(512, 512), seed=0, **more):
    image = np.zeros(shape)
    add_star(image, 260.3, 249.6, r0_m, flux, **more)
    return emccd_mean(image, seed)


@pytest.mark.parametrize("model", ["moffat", "gaussian"])
@pytest.mark.parametrize("seeing_arcsec", [0.6, 1.0, 1.3, 2.0])
def test_kolmogorov_image(seeing_arcsec, model):
    r0_m = 0.976 * 765e-9 / seeing_arcsec * ARCSEC_PER_RADIAN

    result = measure_seeing(one_star(r0_m), KPNO, model=model)

    truth = true_fwhm(r0_m)
    assert truth == pytest.approx(seeing_arcsec, rel=0.07)  # the telescope's own width adds
    assert result.fwhm_arcsec == pytest.approx(truth, rel=0.03 if model == "moffat" else 0.05)
    assert result.fwhm_x_arcsec == pytest.approx(result.fwhm_y_arcsec, rel=0.03)
    assert (result.x, result.y) == pytest.approx((260.3, 249.6), abs=0.3)
    if model == "moffat":
        assert result.background == pytest.approx(7.2, abs=0.05 + 0.003 * result.amplitude)


@pytest.mark.parametrize("flux", [3e3, 2e4])
def test_faint_star(flux):
    ratios = [
        measure_seeing(one_star(0.12, flux, seed=s), KPNO).fwhm_arcsec / true_fwhm(0.12)
        for s in range(3)
    ]
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


def test_smoothing_is_taken_out():
    image = one_star(0.2, 3e5)
    widths = [measure_seeing(image, KPNO, smoothing_px=s).fwhm_arcsec for s in (0, 1, 3)]
    assert widths == pytest.approx([widths[0]] * 3, rel=0.015)


def test_elongated_star():
    result = measure_seeing(one_star(0.12, 3e5, stretch=1.15), KPNO)
    assert result.fwhm_x_arcsec / result.fwhm_y_arcsec == pytest.approx(1.15**2, rel=0.02)
    assert result.ellipticity == pytest.approx(1 - 1.15**-2, abs=0.02)
    product = np.sqrt(result.fwhm_x_arcsec * result.fwhm_y_arcsec)
    assert result.fwhm_arcsec == pytest.approx(product, rel=0.005)


def test_hot_pixels_cosmic_rays_bad_columns_and_nan():
    image = one_star(0.12)
    clean = measure_seeing(image, KPNO).fwhm_arcsec
    rng = np.random.default_rng(2)
    image[rng.integers(0, 512, 150), rng.integers(0, 512, 150)] += rng.exponential(2000, 150)
    image[250, 261] += 3000
    image[100, 120] = 30000
    image[140:143, 300] = 20000
    bad = np.zeros(image.shape, bool)
    bad[:, 270] = True
    image[:, 270] = 5e4
    image[240:246, 240] = np.nan

    result = measure_seeing(image, KPNO, bad_pixels=bad)

    assert result.fwhm_arcsec == pytest.approx(clean, rel=0.02)
    assert (result.x, result.y) == pytest.approx((260.3, 249.6), abs=0.5)


def test_brightest_suitable_star_is_taken():
    image = np.zeros((900, 900))
    add_star(image, 300.0, 320.0, 0.12, 1e5)  # the one
    add_star(image, 640.0, 640.0, 0.12, 2e5)  # has a companion
    add_star(image, 680.0, 620.0, 0.12, 1e5)
    frame = emccd_mean(image)
    frame[20:60, 400:440] += 3000  # too close to the edge
    result = measure_seeing(frame, KPNO)
    assert (result.x, result.y) == pytest.approx((300.0, 320.0), abs=0.5)
    assert result.fwhm_arcsec == pytest.approx(true_fwhm(0.12), rel=0.03)


def test_model_and_residual_for_the_preview():
    image = one_star(0.12, 3e5)
    result = measure_seeing(image, KPNO)
    assert result.box.shape == result.box_model.shape == result.residual.shape
    assert np.abs(result.residual).max() < 0.1 * result.amplitude
    row, column = np.unravel_index(result.box_model.argmax(), result.box_model.shape)
    assert (column + result.box_x0, row + result.box_y0) == (260, 250)


def test_small_frame():
    image = np.zeros((256, 256))
    n = 512
    big = np.zeros((n, n))
    add_star(big, 262.0, 250.0, 0.12, 2e5)
    image += big[128:384, 128:384]
    result = measure_seeing(emccd_mean(image), KPNO)
    assert result.fwhm_arcsec == pytest.approx(true_fwhm(0.12), rel=0.04)


def test_no_star():
    with pytest.raises(NoStarError, match="no star above"):
        measure_seeing(emccd_mean(np.zeros((512, 512))), KPNO)
    with pytest.raises(NoStarError, match="bad or not finite"):
        measure_seeing(np.full((512, 512), np.nan, np.float32), KPNO)


def test_saturated_star():
    with pytest.raises(NoStarError, match="saturated"):
        measure_seeing(one_star(0.12, 1e8), KPNO)


def test_star_with_adaptive_optics_is_refused():
    image = np.zeros((512, 512))
    star = diffraction_psf(765.0, 1.85, 0.879, SCALE, 60, pixel_widths_arcsec=(SCALE,))
    image[190:311, 200:321] += 1e5 * star
    with pytest.raises(FitFailedError, match="below the 10 px"):
        measure_seeing(emccd_mean(image), KPNO)


def test_limit_is_the_profiles():
    strict = replace(KPNO, seeing_min_fwhm_px=36.0)
    with pytest.raises(FitFailedError, match=r"FWHM of \d+\.\d px .* below the 36 px"):
        measure_seeing(one_star(0.2, 3e5), strict)


def times_of(minutes):
    start = datetime(2017, 6, 7, 4, tzinfo=UTC)
    return [start + timedelta(minutes=float(m)) for m in minutes]


def test_summary_of_a_night():
    rng = np.random.default_rng(0)
    minutes = np.arange(0, 480, 12.0)
    truth = 1.2 + 0.3 * np.sin(minutes / 150)
    values = truth + rng.normal(0, 0.03, minutes.size)
    values[[5, 17, 30]] += [1.5, 2.0, 1.0]
    shuffled = rng.permutation(minutes.size)
    times = times_of(minutes)

    summary = summarise_seeing([times[i] for i in shuffled], values[shuffled])

    assert summary.median_arcsec == pytest.approx(np.median(values))
    assert summary.mean_arcsec == pytest.approx(values.mean())
    assert len(summary.coefficients) == 4
    np.testing.assert_allclose(summary.evaluate(times), truth, atol=0.06)
    assert summary.times == tuple(times)
    assert summary.nearest(times[7] + timedelta(minutes=4)) == (times[7], values[7])
    late = times[-1] + timedelta(hours=5)
    assert summary.evaluate([late])[0] == pytest.approx(summary.evaluate(times[-1:])[0])
    assert 0.02 < summary.scatter_arcsec < 0.06


@pytest.mark.parametrize(("number", "degree"), [(1, 0), (2, 0), (7, 0), (8, 1), (12, 2), (40, 3)])
def test_degree_depends_on_the_number(number, degree):
    summary = summarise_seeing(times_of(np.arange(number)), np.linspace(1, 2, number))
    assert len(summary.coefficients) == degree + 1
    if degree:
        np.testing.assert_allclose(
            summary.evaluate(summary.times), np.linspace(1, 2, number), atol=1e-6
        )


def test_measurements_at_one_time():
    summary = summarise_seeing(times_of([5] * 20), [1.0] * 19 + [9.0])
    assert summary.coefficients == pytest.approx([1.0], abs=0.05)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [1.0, -1.0], [1.0]])
def test_bad_measurements(values):
    with pytest.raises(ValueError, match="FWHM"):
        summarise_seeing(times_of([0, 1]) if values else [], values)


@pytest.mark.parametrize("model", ["moffat", "gaussian"])
def test_error_of_the_width_is_its_scatter(model):
    """Of exposures that differ by their noise alone; each in four parts."""
    widths, errors = [], []
    for seed in range(8):
        parts = [one_star(0.1, flux=4e3, seed=10 * seed + part) for part in range(4)]
        found = measure_seeing(np.mean(parts, axis=0), KPNO, model=model)
        widths.append(found.fwhm_arcsec)
        errors.append(measure_fwhm_error(parts, found, KPNO))
    scatter = np.std(widths, ddof=1)
    # Both are known from few: to a factor of two.
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) / scatter < 2


def test_error_of_parts_that_cannot_be_measured_is_not_known():
    image = one_star(0.1)
    found = measure_seeing(image, KPNO)
    nothing = np.full_like(image, 7.0)
    assert np.isnan(measure_fwhm_error([image, nothing], found, KPNO))
    assert measure_fwhm_error([image, image, nothing], found, KPNO) == 0.0


def test_standard_seeing_is_that_of_kolmogorov():
    assert reduce_to_standard(1.3, wavelength_nm=500.0, airmass=1.0) == 1.3
    # r0 at 765 nm is (765 / 500)**1.2 times as large: the FWHM is wavelength over r0.
    assert reduce_to_standard(1.0, wavelength_nm=765.0, airmass=1.0) == pytest.approx(
        (500 / 765) * (765 / 500) ** 1.2
    )
    assert reduce_to_standard(1.0, wavelength_nm=500.0, airmass=2.0) == pytest.approx(2**-0.6)


@pytest.mark.parametrize(("elevation_deg", "airmass"), [(90, 1.0), (30, 1.994), (10, 5.59)])
def test_airmass_is_that_of_the_tables(elevation_deg, airmass):
    """Kasten & Young's own table."""
    assert airmass_at(elevation_deg) == pytest.approx(airmass, rel=2e-3)
