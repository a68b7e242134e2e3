import numpy as np
import pytest

from roboao_assets.science.errors import FitFailedError
from roboao_assets.science.star_fit import (
    StarFit,
    fit_radial_moffat,
    fit_star,
    radial_medians,
)


def true_star(model="moffat", theta=30.0, beta=3.2):
    return StarFit(
        x=30.3,
        y=27.8,
        amplitude=500.0,
        background=20.0,
        fwhm_x_px=0.0,
        fwhm_y_px=0.0,
        fwhm_major_px=12.0,
        fwhm_minor_px=9.0,
        theta_deg=theta,
        beta=beta if model == "moffat" else np.inf,
        residual_rms=0.0,
        n_pixels=0,
        model=model,
    )


@pytest.mark.parametrize("model", ["gaussian", "moffat"])
@pytest.mark.parametrize("theta", [-60.0, 0.0, 30.0, 85.0])
def test_exact_star_is_recovered(model, theta):
    truth = true_star(model, theta)
    image = truth.evaluate((60, 64))

    fit = fit_star(image, 29, 29, fwhm_px=7, model=model)

    assert fit.x == pytest.approx(truth.x, abs=1e-4)
    assert fit.y == pytest.approx(truth.y, abs=1e-4)
    assert fit.fwhm_major_px == pytest.approx(12.0, rel=1e-4)
    assert fit.fwhm_minor_px == pytest.approx(9.0, rel=1e-4)
    assert fit.theta_deg == pytest.approx(theta, abs=0.01)
    assert fit.background == pytest.approx(20.0, abs=0.01)
    assert fit.beta == pytest.approx(truth.beta, rel=1e-3)
    np.testing.assert_allclose(fit.evaluate((60, 64)), image, atol=0.02)


@pytest.mark.parametrize("theta", [0.0, 30.0])
def test_widths_along_x_and_y_are_those_of_the_cuts(theta):
    image = true_star("moffat", theta).evaluate((60, 64))
    fit = fit_star(image, 30, 28, fwhm_px=10, model="moffat")
    fine = np.linspace(-20, 20, 40001)
    angle = np.radians(theta)
    for width, direction in ((fit.fwhm_x_px, (1, 0)), (fit.fwhm_y_px, (0, 1))):
        major = fine * (direction[0] * np.cos(angle) + direction[1] * np.sin(angle)) / 6.0
        minor = fine * (direction[1] * np.cos(angle) - direction[0] * np.sin(angle)) / 4.5
        above = fine[(major**2 + minor**2) <= 1]
        assert width == pytest.approx(above[-1] - above[0], abs=0.01)


@pytest.mark.parametrize("model", ["gaussian", "moffat"])
def test_noise_nan_and_cosmic_ray(model):
    rng = np.random.default_rng(5)
    truth = true_star(model)
    image = truth.evaluate((60, 64)) + rng.normal(0, 5, (60, 64))
    image[10:14, 40] = 4000.0
    image[28, 31] = np.nan

    fit = fit_star(image, 30, 28, fwhm_px=8, model=model, reject_sigma=6)

    assert fit.x == pytest.approx(truth.x, abs=0.1)
    assert fit.fwhm_px == pytest.approx(np.sqrt(12 * 9), rel=0.02)
    assert fit.residual_rms == pytest.approx(5, rel=0.1)


def test_masked_pixels_are_not_used():
    image = true_star().evaluate((60, 64))
    mask = np.zeros(image.shape, bool)
    mask[25:30, 28:30] = True
    image[mask] = 1e5
    fit = fit_star(image, 30, 28, fwhm_px=10, model="moffat", mask=mask)
    assert fit.fwhm_major_px == pytest.approx(12.0, rel=1e-3)


def test_flat_image_is_no_star():
    with pytest.raises(FitFailedError, match="ended without a star|usable"):
        fit_star(np.full((30, 30), 7.0), 15, 15, fwhm_px=5)


def test_a_hole_is_no_star():
    image = 1000 - true_star().evaluate((60, 64))
    with pytest.raises(FitFailedError, match="amplitude|ended without"):
        fit_star(image, 30, 28, fwhm_px=10, radius_px=10)


def test_too_few_pixels():
    with pytest.raises(FitFailedError, match="at least 12"):
        fit_star(np.full((30, 30), np.nan), 15, 15, fwhm_px=5)


def test_unknown_model():
    with pytest.raises(ValueError, match="lorentz"):
        fit_star(np.zeros((30, 30)), 15, 15, fwhm_px=5, model="lorentz")


@pytest.mark.parametrize(("fwhm", "beta"), [(5.0, 2.0), (12.0, 4.0), (40.0, 2.5)])
def test_radial_moffat(fwhm, beta):
    r = np.arange(0.2, 60, 0.7)
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    fit = fit_radial_moffat(r, 300 * (1 + (r / alpha) ** 2) ** -beta, fwhm_px=9, max_fwhm_px=200)
    assert fit.fwhm_px == pytest.approx(fwhm, rel=1e-3)
    assert fit.beta == pytest.approx(beta, rel=0.01)
    assert fit.amplitude == pytest.approx(300, rel=1e-3)


def test_radial_moffat_without_light():
    with pytest.raises(FitFailedError, match="at least 4"):
        fit_radial_moffat(np.arange(9.0), -np.ones(9), fwhm_px=4, max_fwhm_px=50)


def test_radial_medians_match_a_plain_loop():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(50, 70))
    image[20, 30] = np.nan
    x, y = 31.3, 22.6
    radius, median = radial_medians(image, x, y, 15.5)
    rows, columns = np.indices(image.shape)
    distance = np.hypot(columns - x, rows - y)
    for ring in range(15):
        members = (distance.astype(int) == ring) & (distance <= 15.5) & np.isfinite(image)
        assert median[ring] == pytest.approx(np.median(image[members]))
        assert radius[ring] == pytest.approx(distance[members].mean())
