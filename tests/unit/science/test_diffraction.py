from dataclasses import replace

import numpy as np
import pytest

from roboao_assets.science.diffraction import (
    ARCSEC_PER_RADIAN,
    annular_otf,
    annular_psf,
    derive_strehl_factor,
    diffraction_psf,
    sampling_correction,
    sampling_widths_arcsec,
    strehl_factor,
)
from roboao_assets.science.errors import UnknownInstrumentError
from roboao_assets.science.instrument import FilterProfile
from roboao_assets.storage.instruments import load_instruments

PROFILES = load_instruments()
KPNO = PROFILES["KPNO_2.1m"]
PUBLISHED = [
    (profile, name)
    for profile in PROFILES.values()
    for name, entry in profile.filters.items()
    if entry.strehl_factor is not None
]


@pytest.mark.parametrize(
    ("profile", "name"), PUBLISHED, ids=[f"{p.name}-{n}" for p, n in PUBLISHED]
)
def test_published_strehl_factors_follow_from_the_aperture(profile, name):
    derived = derive_strehl_factor(profile, name)
    assert derived == pytest.approx(profile.filters[name].strehl_factor, rel=0.02)


def test_strehl_factor_is_the_published_one_where_there_is_one():
    assert strehl_factor(KPNO, "Si") == 0.0266019992502
    bare = replace(KPNO, filters={"Si": FilterProfile(name="Si", wavelength_nm=765.0)})
    assert strehl_factor(bare, "Si") == derive_strehl_factor(KPNO, "Si")


def test_unknown_filter():
    with pytest.raises(UnknownInstrumentError, match="Ha"):
        strehl_factor(KPNO, "Ha")


def test_airy_pattern():
    """No obscuration: first dark ring at 1.2197 lambda / D, 83.8 % of the light inside it."""
    unit = 765e-9 / 1.85 * ARCSEC_PER_RADIAN
    assert annular_psf(1.21967 * unit, 765.0, 1.85) < 1e-9 * annular_psf(0.0, 765.0, 1.85)
    r = np.linspace(0, 1.21967 * unit, 4001)
    inside = np.trapezoid(2 * np.pi * r * annular_psf(r, 765.0, 1.85), r)
    assert inside == pytest.approx(0.8378, abs=2e-4)


@pytest.mark.parametrize("secondary", [0.0, 0.879])
def test_otf_is_the_autocorrelation_of_the_pupil(secondary):
    n, step = 512, 0.01
    axis = (np.arange(n) - n / 2 + 0.5) * step
    radius = np.hypot(axis[:, None], axis)
    pupil = ((radius < 0.925) & (radius >= secondary / 2)).astype(float)
    auto = np.fft.ifft2(np.abs(np.fft.fft2(pupil)) ** 2).real
    auto /= auto[0, 0]
    lags = np.arange(0, 186, 5)
    frequency = lags * step / (765e-9 * ARCSEC_PER_RADIAN)
    np.testing.assert_allclose(
        annular_otf(frequency, 765.0, 1.85, secondary), auto[0, lags], atol=0.004
    )


def test_strehl_factor_equals_sums_over_a_finely_sampled_psf():
    for profile, name in ((KPNO, "Sz"), (PROFILES["PHARO"], "Ks")):
        side = profile.strehl_flux_box_arcsec
        n = 1500
        axis = (np.arange(n) - (n - 1) / 2) * side / n
        aperture = (
            profile.filters[name].wavelength_nm,
            profile.primary_diameter_m,
            profile.secondary_diameter_m,
        )
        flux = annular_psf(np.hypot(axis[:, None], axis), *aperture).sum() * (side / n) ** 2
        peak = annular_psf(0.0, *aperture) * profile.drizzled_scale_arcsec**2
        assert derive_strehl_factor(profile, name) == pytest.approx(peak / flux, rel=1e-5)


def test_pixels_are_convolved_exactly():
    """The Fourier model against a mean of the point-sampled PSF over the pixel."""
    scale = 0.02
    psf = diffraction_psf(765.0, 1.85, 0.879, scale, 20, pixel_widths_arcsec=(0.03,), dx_px=0.3)
    offsets = ((np.arange(200) + 0.5) / 200 - 0.5) * 0.03
    for row, column in ((20, 20), (22, 17), (3, 30)):
        x = (column - 20 - 0.3) * scale + offsets
        y = (row - 20) * scale + offsets
        mean = annular_psf(np.hypot(y[:, None], x), 765.0, 1.85, 0.879).mean() * scale**2
        assert psf[row, column] == pytest.approx(mean, rel=2e-3, abs=2e-4 * psf.max())


def test_point_sampled_model_is_the_limit_of_small_pixels():
    plain = diffraction_psf(765.0, 1.85, 0.879, 0.0176, 30)
    tiny = diffraction_psf(765.0, 1.85, 0.879, 0.0176, 30, pixel_widths_arcsec=(1e-5,))
    np.testing.assert_allclose(tiny, plain, atol=3e-4 * plain.max())
    assert plain.shape == (61, 61)
    assert plain.argmax() == 30 * 61 + 30


def test_sampling_correction_is_the_ratio_of_model_peaks():
    scale = KPNO.drizzled_scale_arcsec
    sharp = diffraction_psf(765.0, 1.85, 0.879, scale, 85)
    soft = diffraction_psf(
        765.0, 1.85, 0.879, scale, 85, pixel_widths_arcsec=sampling_widths_arcsec(KPNO, 0.45)
    )
    expected = (sharp.max() / sharp.sum()) / (soft.max() / soft.sum())
    assert sampling_correction(KPNO, "Si") == pytest.approx(expected, rel=2e-3)
    assert sampling_correction(KPNO, "Si") == pytest.approx(1.1296, abs=1e-3)
    assert 1 < sampling_correction(KPNO, "Si", None) < sampling_correction(KPNO, "Si", 0.45)


@pytest.mark.parametrize("aperture", [(0.0, 1.0, 0.0), (765.0, 1.0, 1.0), (765.0, 1.0, -0.1)])
def test_impossible_aperture(aperture):
    with pytest.raises(ValueError, match="no aperture"):
        annular_psf(0.1, *aperture)
