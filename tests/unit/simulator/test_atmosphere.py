"""The turbulence against the theory of its spectrum."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import j0
from scipy.stats import norm

from simulator.atmosphere import (
    ARCSEC_RAD,
    BlowingScreens,
    Layer,
    SpatialFilter,
    Turbulence,
    annulus_transfer,
)
from simulator.seeds import child_seed

ONE_LAYER = (Layer(weight=1.0, speed_m_s=10.0, direction_deg=30.0),)


def test_small_separations_are_kolmogorov():
    turbulence = Turbulence(seeing_fwhm_arcsec=1.2, outer_scale_m=1e5)
    r0 = turbulence.fried_parameter_m(765.0)
    separations = np.array([0.05, 0.2, 0.5])
    kolmogorov = 6.88 * (separations / r0) ** (5.0 / 3.0)
    assert turbulence.structure_function(separations, 765.0) == pytest.approx(kolmogorov, rel=0.04)


def test_structure_function_saturates_at_the_outer_scale():
    turbulence = Turbulence(seeing_fwhm_arcsec=1.2, outer_scale_m=5.0)
    far = turbulence.structure_function(np.array([50.0, 100.0]), 500.0)
    assert far[0] == pytest.approx(far[1], rel=1e-3)


def test_fried_parameter_scales_with_wavelength():
    turbulence = Turbulence(seeing_fwhm_arcsec=1.0)
    assert turbulence.fried_parameter_m(500.0) == pytest.approx(0.101, rel=0.01)
    ratio = turbulence.fried_parameter_m(1000.0) / turbulence.fried_parameter_m(500.0)
    assert ratio == pytest.approx(2.0**1.2)


def test_long_exposure_of_a_huge_telescope_is_the_seeing():
    turbulence = Turbulence(seeing_fwhm_arcsec=1.3, outer_scale_m=1e5)
    fwhm = turbulence.long_exposure_fwhm_arcsec(500.0, 8.0, 0.0)
    assert fwhm == pytest.approx(1.3, rel=0.03)


def test_long_exposure_through_changing_seeing_is_the_mean_of_all_seeings():
    # Oracle: the image itself, averaged over a thousand seeings of equal likelihood.
    steady = Turbulence(seeing_fwhm_arcsec=1.3, outer_scale_m=1e5)
    changing = replace(steady, seeing_spread=0.3)
    r = np.linspace(0.0, 2.0, 1000)
    structure = steady.structure_function(r, 500.0)
    otf = np.zeros_like(r)
    for likelihood in (np.arange(1000) + 0.5) / 1000:
        ratio = np.exp(0.3 * norm.ppf(likelihood))
        otf += np.exp(-0.5 * structure * ratio ** (5 / 3)) * annulus_transfer(r, 8.0, 0.0)
    angles = np.linspace(0.0, 1.0, 501) * ARCSEC_RAD
    image = np.trapezoid(j0(2 * np.pi * np.outer(angles, r) / 500e-9) * otf * r, r, axis=1)
    half = np.interp(0.5, (image / image[0])[::-1], angles[::-1])
    fwhm = changing.long_exposure_fwhm_arcsec(500.0, 8.0, 0.0)
    assert fwhm == pytest.approx(2 * half / ARCSEC_RAD, rel=2e-3)
    # The best moments make the core.
    assert fwhm < 0.98 * steady.long_exposure_fwhm_arcsec(500.0, 8.0, 0.0)


def test_annulus_transfer_ends_at_the_diameter():
    values = annulus_transfer(np.array([0.0, 1.85, 2.0]), 1.85, 0.879)
    assert values == pytest.approx([1.0, 0.0, 0.0], abs=1e-9)


def _screens(number: int, correction: SpatialFilter | None) -> list[np.ndarray]:
    turbulence = Turbulence(seeing_fwhm_arcsec=1.3, outer_scale_m=5.0, layers=ONE_LAYER)
    root = np.random.SeedSequence(1)
    return [
        BlowingScreens(
            turbulence,
            765.0,
            pixel_m=0.04,
            side_px=512,
            window_px=512,
            seed=child_seed(root, index),
            correction=correction,
        ).phase(0.0)
        for index in range(8)
    ]


def test_screens_have_the_structure_function_they_should():
    turbulence = Turbulence(seeing_fwhm_arcsec=1.3, outer_scale_m=5.0, layers=ONE_LAYER)
    screens = _screens(8, None)
    for lag in (4, 16, 40):
        measured = np.mean([((s[:, lag:] - s[:, :-lag]) ** 2).mean() for s in screens])
        expected = turbulence.structure_function(np.array([lag * 0.04]), 765.0)[0]
        assert measured == pytest.approx(expected, rel=0.1)


def test_correction_takes_low_frequencies_and_leaves_high_ones():
    cutoff = 3.0
    free = _screens(8, None)
    left = _screens(8, SpatialFilter(cutoff_per_m=cutoff, delay_s=0.0))
    frequency = np.fft.fftfreq(512, 0.04)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    power = [np.mean([np.abs(np.fft.fft2(s)) ** 2 for s in kind], axis=0) for kind in (free, left)]
    low, high = (radius > 0) & (radius < 0.5 * cutoff), radius > 1.5 * cutoff
    assert power[1][low].sum() < 1e-3 * power[0][low].sum()
    assert power[1][high].sum() == pytest.approx(power[0][high].sum(), rel=0.01)


def test_screens_blow_with_the_wind():
    layer = Layer(weight=1.0, speed_m_s=10.0, direction_deg=0.0)
    screens = BlowingScreens(
        Turbulence(seeing_fwhm_arcsec=1.3, layers=(layer,)),
        765.0,
        pixel_m=0.05,
        side_px=256,
        window_px=64,
        seed=np.random.SeedSequence(3),
    )
    early, late = screens.phase(0.0), screens.phase(0.05)
    assert np.array_equal(late[:, :-10], early[:, 10:])
