"""Alpha Ophiuchi with PHARO: a companion that interferometry knows.

Alpha Oph B is 124.2 mas away at PA 86.4 deg and 25.1 times fainter; the two calibrators are
single. A ghost of 2.2 % stands 19.85 raw px from every star.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from roboao_assets.science.high_contrast import (
    PreparedPsf,
    annulus_that_matters,
    choose_references,
    contrast_at,
    contrast_curve,
    detect_candidates,
    prepare_psf,
    principal_modes,
    subtract_reference_pca,
    tune_subtraction,
)
from roboao_assets.science.reference_choice import correlate_frames
from roboao_assets.science.star_fit import fit_star
from roboao_assets.storage.instruments import load_instruments

pytestmark = pytest.mark.real_data

SEPARATION_MAS, PA_DEG, FLUX_RATIO = 124.2, 86.4, 25.1
GHOST_PX = 2 * 19.85
UPSAMPLING = 2
CENTRE = 64
HALF = 54


class Star(NamedTuple):
    stack: PreparedPsf
    unfiltered: PreparedPsf
    frames: NDArray[np.float32]


def shift_and_add(path):
    """Frames of a cube, twice upsampled, the star on pixel (64, 64); and their mean."""
    frames = []
    for frame in fits.getdata(path).astype(np.float64):
        y, x = np.unravel_index(ndimage.gaussian_filter(frame, 1).argmax(), frame.shape)
        star = fit_star(frame, x, y, fwhm_px=3.5, radius_px=4)
        offsets = (np.arange(2 * frame.shape[0]) - CENTRE) / UPSAMPLING
        grid = np.meshgrid(star.y + offsets, star.x + offsets, indexing="ij")
        frames.append(ndimage.map_coordinates(frame, grid, order=3, mode="constant", cval=np.nan))
    cube = np.array(frames)
    known = np.isfinite(cube)
    total = np.where(known, cube, 0).sum(axis=0)
    count = known.sum(axis=0)
    return cube, np.where(count > len(cube) / 2, total / np.maximum(count, 1), np.nan)


@pytest.fixture(scope="module")
def profile():
    # The stacks of these tests are twice upsampled.
    return replace(load_instruments()["PHARO"], drizzle_scale=UPSAMPLING, strehl_box_half_px=HALF)


@pytest.fixture(scope="module")
def stars(real_data):
    result = {}
    for name in ("tgt", "ca1", "ca2"):
        cube, stack = shift_and_add(real_data / "pharo" / f"pharo_{name}_cube.fits")
        frames = []
        if name != "tgt":
            frames = [prepare_psf(frame, CENTRE, CENTRE, HALF).frame for frame in cube[::2]]
        result[name] = Star(
            prepare_psf(stack, CENTRE, CENTRE, HALF),
            prepare_psf(stack, CENTRE, CENTRE, HALF, highpass=False),
            np.array(frames),
        )
    return result


def test_eps_her_is_the_better_reference(stars):
    library = np.array([stars["ca1"].stack.frame, stars["ca2"].stack.frame])
    indices, correlations = choose_references(
        stars["tgt"].stack.frame,
        library,
        ["ca1", "eps Her"],
        ["Ks", "Ks"],
        ["Palomar_P200"] * 2,
        object_name="alpha Oph",
        filter_name="Ks",
        telescope="Palomar_P200",
        number=5,
    )
    assert indices.tolist() == [1, 0]
    assert 0.98 < correlations[1] < correlations[0] < 0.999


def search(star, components, profile, **options):
    return detect_candidates(star.frame, components, star.fwhm_px, profile, **options).candidates


def assert_is_the_companion(candidate):
    assert candidate.separation_arcsec * 1e3 == pytest.approx(SEPARATION_MAS, abs=12)
    assert candidate.pa_deg == pytest.approx(PA_DEG, abs=8)


@pytest.mark.parametrize("kind", ["stack", "unfiltered"])
def test_companion_is_the_brightest_in_the_residual_of_the_best_stack(stars, profile, kind):
    """As the pipeline does it, with one library PSF: few, so its significance is low."""
    star = getattr(stars["tgt"], kind)
    library = getattr(stars["ca2"], kind).frame[None]
    components = subtract_reference_pca(star.frame, library, 1).components
    found = search(star, components, profile, snr_threshold=2.0)
    brightest = min(found, key=lambda candidate: candidate.contrast_mag)
    assert_is_the_companion(brightest)
    # Speckles that the calibrator does not have add to it.
    assert brightest.contrast_mag == pytest.approx(2.5 * np.log10(FLUX_RATIO), abs=0.8)


def test_poor_reference_dilutes_the_companion(stars, profile):
    """With ca1 as well, one component: it is there, but a speckle is as bright."""
    star = stars["tgt"].stack
    library = np.array([stars[name].stack.frame for name in ("ca1", "ca2")])
    components = subtract_reference_pca(star.frame, library, 1).components
    found = search(star, components, profile, snr_threshold=-np.inf, max_candidates=3)
    companion = min(found, key=lambda c: abs(c.pa_deg - PA_DEG))
    assert_is_the_companion(companion)
    assert companion.snr > 3


@pytest.mark.parametrize("components", [10, 15, 20])
def test_references_in_many_states_find_the_companion(stars, profile, components):
    """Short exposures of the calibrators span the AO's changes: position and ratio come true."""
    star = stars["tgt"].stack
    library = np.concatenate([stars["ca1"].frames, stars["ca2"].frames])
    components = subtract_reference_pca(star.frame, library, components).components
    found = detect_candidates(
        star.frame, components, star.fwhm_px, profile, snr_threshold=4.0
    ).candidates
    assert_is_the_companion(found[0])
    assert 10 ** (0.4 * found[0].contrast_mag) == pytest.approx(FLUX_RATIO, rel=0.2)
    # What else there may be is far below.
    assert all(c.contrast_mag > found[0].contrast_mag + 2 for c in found[1:])


def test_tuned_modes_of_two_calibrators_find_the_companion(stars, profile):
    """As the pipeline does it, with two library stars: the most significant of all peaks."""
    star = stars["tgt"].stack
    annulus_px = annulus_that_matters(star.fwhm_px, HALF)
    calibrators = [stars["ca2"], stars["ca1"]]
    frames = np.array([calibrator.stack.frame for calibrator in calibrators])
    correlations = correlate_frames(star.frame, frames, annulus_px)
    # Where it matters the difference is five times that over the whole frame.
    assert correlations[0] - correlations[1] > 0.015
    tuned = tune_subtraction(
        star.frame,
        frames,
        [principal_modes(calibrator.frames, 15) for calibrator in calibrators],
        fwhm_px=star.fwhm_px,
        annulus_px=annulus_px,
    )
    assert tuned.components.number > 2
    assert tuned.gain_mag > 0.3
    found = search(star, tuned.components, profile, snr_threshold=4.0)
    assert_is_the_companion(found[0])
    assert 10 ** (0.4 * found[0].contrast_mag) == pytest.approx(FLUX_RATIO, rel=0.5)


def test_ghost_is_gone(stars):
    star = stars["tgt"].unfiltered.frame
    y, x = np.indices(star.shape) - HALF
    near_ghost = abs(np.hypot(x, y) - GHOST_PX) < 3
    assert star[near_ghost].max() / star.max() == pytest.approx(0.022, abs=0.006)
    library = np.array([stars["ca1"].unfiltered.frame, stars["ca2"].unfiltered.frame])
    residual = subtract_reference_pca(star, library, 1).residual
    ghost_y, ghost_x = np.unravel_index(np.where(near_ghost, star, 0).argmax(), star.shape)
    at_ghost = np.hypot(x + HALF - ghost_x, y + HALF - ghost_y) < 3
    assert abs(residual[at_ghost]).max() < 0.1 * star[at_ghost].max()


def test_contrast_curve_of_an_observed_star(stars, profile):
    star = stars["tgt"].stack
    library = np.array([stars["ca1"].stack.frame, stars["ca2"].stack.frame])
    curve = contrast_curve(
        star.frame,
        subtract_reference_pca(star.frame, library, 1).components,
        fwhm_px=star.fwhm_px,
        plate_scale_arcsec=profile.drizzled_scale_arcsec,
    )
    assert contrast_at(curve, 0.2) > 1.5
    assert contrast_at(curve, 0.4) > 5
    assert contrast_at(curve, 0.6) > 6
    assert ((curve.throughput > 0.9) & (curve.throughput < 1.05)).all()


@pytest.mark.parametrize("planes", [2, 5])
def test_bad_pixels_of_a_star_of_low_strehl_hardly_matter(real_data, planes):
    """HD 1160 with NIRC2, Strehl 5 %: three per cent of its pixels and a column taken away."""
    path = real_data / "psf" / "nirc2_HD1160_H_standard_1_clean.fits"
    image = fits.getdata(path).astype(np.float64)
    # Not the brightest pixel: that is a cosmic ray.
    y, x = np.unravel_index(ndimage.gaussian_filter(image, 3).argmax(), image.shape)
    spoilt = image.copy()
    spoilt[np.random.default_rng(0).random(image.shape) < 0.03] = np.nan
    spoilt[:, x + 30] = np.nan
    whole, filled = (prepare_psf(i, x, y, 100, highpass_planes=planes) for i in (image, spoilt))
    assert 0.03 < filled.missing_fraction < 0.04
    assert np.isfinite(filled.frame).all()
    assert (
        np.hypot(filled.shift_x_px - whole.shift_x_px, filled.shift_y_px - whole.shift_y_px) < 0.1
    )
    assert np.corrcoef(filled.frame.ravel(), whole.frame.ravel())[0, 1] > 0.998
    # Its mirror image is another star of the same kind.
    components = subtract_reference_pca(filled.frame, whole.frame[None, ::-1], 1).components
    curve = contrast_curve(
        filled.frame, components, fwhm_px=whole.fwhm_px, plate_scale_arcsec=0.00994
    )
    assert np.isfinite(curve.contrast_mag).all()
    assert curve.contrast_mag[0] < 1 < curve.contrast_mag[20] < 5
