"""What was blurred is sharp again: no flux lost, nothing negative, no noise taken for detail."""

import numpy as np
import pytest
from discs import blurred, disc, noisy, star_psf
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import richardson_lucy as skimage_richardson_lucy

from roboao_assets.science.deconvolution import BlurredField, ImageNoise, richardson_lucy
from roboao_assets.science.errors import ScienceError
from roboao_assets.science.myopic_deconvolution import deconvolve_myopic

NOISE = ImageNoise(sky_variance=25.0, variance_per_adu=0.5)
PSF = star_psf()
SIDE = 112
TRUTH = disc(SIDE, 22, 55.3, 57.8)
METHODS = (richardson_lucy, deconvolve_myopic)


def error(image):
    return np.linalg.norm(image - TRUTH) / np.linalg.norm(TRUTH)


@pytest.fixture(scope="module")
def image():
    return noisy(blurred(TRUTH, PSF), NOISE)


@pytest.fixture(scope="module", params=METHODS, ids=("richardson_lucy", "myopic"))
def restored(request, image):
    return request.param(BlurredField(image + 100.0, PSF, NOISE, background=100.0))


def test_it_stops_by_its_rule_with_noise_as_residual(restored):
    assert restored.converged, restored.reason
    assert restored.chi2 == pytest.approx(1.0, abs=0.1)
    assert restored.residual.std() == pytest.approx(1.0, abs=0.05)


def test_flux_is_kept_and_nothing_negative(restored):
    assert restored.flux_ratio == pytest.approx(1.0, abs=0.01)
    assert restored.image.sum() == pytest.approx(TRUTH.sum(), rel=0.02)
    assert restored.image.min() >= 0
    assert restored.psf.min() >= 0
    assert restored.psf.sum() == pytest.approx(1.0, abs=1e-5)


def test_it_is_closer_to_the_truth(restored, image):
    assert error(restored.image) < 0.6 * error(image)


def test_pixels_without_data_do_no_harm(image):
    holes = image.copy()
    holes[50:54, 60:62] = np.nan
    holes[:, 100] = np.nan
    made = richardson_lucy(BlurredField(holes, PSF, NOISE))
    assert np.isfinite(made.image).all()
    assert np.isnan(made.residual).sum() == np.isnan(holes).sum()
    # Three lost bits of the rim and a hole: the flux that was seen is kept.
    assert made.flux_ratio == pytest.approx(1.0, abs=0.01)
    assert error(made.image) < 0.65 * error(image)


def test_a_disc_cut_off_by_the_edge_makes_no_ripples(image):
    cut = image[:, 45:]
    made = richardson_lucy(BlurredField(cut, PSF, NOISE))
    truth = TRUTH[:, 45:]
    assert np.linalg.norm(made.image - truth) < 0.75 * np.linalg.norm(cut - truth)
    assert made.flux_ratio == pytest.approx(1.0, abs=0.02)


def test_the_myopic_method_copes_better_with_a_wrong_psf(image):
    wrong = star_psf(in_core=0.2)
    known = richardson_lucy(BlurredField(image, wrong, NOISE))
    found = deconvolve_myopic(BlurredField(image, wrong, NOISE), psf_spread=0.3)
    assert np.linalg.norm(found.psf - PSF) < np.linalg.norm(wrong - PSF)
    assert found.chi2 < known.chi2
    assert error(found.image) < error(known.image)


def test_what_cannot_converge_says_so(image):
    much = ImageNoise(sky_variance=1e-3, variance_per_adu=1e-5)
    made = richardson_lucy(BlurredField(image, PSF, much), most_iterations=5)
    assert not made.converged
    assert "no convergence: the residual still falls after 5 iterations" in made.reason
    stuck = richardson_lucy(BlurredField(image, star_psf(core=4.0, halo=8.0), NOISE))
    assert "the PSF is not quite that of the image" in stuck.reason


def test_a_flat_image_is_given_back_flat():
    flat = noisy(np.full((80, 80), 500.0), NOISE)
    made = richardson_lucy(BlurredField(flat, PSF, NOISE))
    assert made.converged
    assert made.image[20:-20, 20:-20].std() < 0.03 * 500
    assert made.flux_ratio == pytest.approx(1.0, abs=0.02)


def test_the_plain_case_is_that_of_skimage():
    scene = disc(96, 12, 47, 49)
    sharp = star_psf(half=8, core=1.5, halo=2.5)
    seen = blurred(scene, sharp) + 1.0
    poisson = ImageNoise(sky_variance=1e-12, variance_per_adu=1.0)
    field = BlurredField(seen, sharp, poisson)
    made = richardson_lucy(
        field, most_iterations=25, smoothing=0.0, accelerate=False, target_chi2=0.0,
        least_fall=-1.0, start=np.full(field.shape, 0.5),
    )  # fmt: skip
    peer = skimage_richardson_lucy(seen, sharp, num_iter=25, clip=False)
    middle = slice(28, 68)
    assert np.allclose(made.image[middle, middle], peer[middle, middle], rtol=0.02, atol=2.0)


@settings(max_examples=8, deadline=None)
@given(
    x=st.integers(-8, 8),
    y=st.integers(-8, 8),
    height=st.floats(50, 1e5),
    radius=st.floats(4, 14),
)
def test_any_disc_anywhere(x, y, height, radius):
    psf = star_psf(half=12, halo=3.0)
    noise = ImageNoise(sky_variance=(0.005 * height) ** 2, variance_per_adu=1e-3 * height)
    scene = blurred(disc(80, radius, 40, 40, height=height), psf)
    field = BlurredField(noisy(scene, noise), psf, noise)
    made = richardson_lucy(field, most_iterations=20)
    assert made.image.min() >= 0
    assert made.flux_ratio == pytest.approx(1.0, abs=0.02)
    moved = np.roll(noisy(scene, noise), (y, x), axis=(0, 1))
    again = richardson_lucy(BlurredField(moved, psf, noise), most_iterations=20)
    back = np.roll(again.image, (-y, -x), axis=(0, 1))[12:-12, 12:-12]
    assert np.allclose(back, made.image[12:-12, 12:-12], atol=0.05 * height)


@pytest.mark.parametrize(
    ("image", "psf", "noise", "words"),
    [
        (np.ones((50, 50)), np.ones((4, 4)), NOISE, "odd side"),
        (np.ones((15, 50)), star_psf(half=10), NOISE, "cut a smaller PSF"),
        (np.ones((50, 50)), -star_psf(half=5), NOISE, "not negative"),
        (np.full((50, 50), np.nan), star_psf(half=5), NOISE, "no pixel .* is finite"),
        (np.zeros((50, 50)), star_psf(half=5), NOISE, "nothing to deconvolve"),
        (
            np.ones((50, 50)),
            star_psf(half=5),
            ImageNoise(sky_variance=0.0, variance_per_adu=1.0),
            "cannot be",
        ),
    ],
)
def test_bad_input_is_refused_in_words(image, psf, noise, words):
    with pytest.raises(ScienceError, match=words):
        BlurredField(image, psf, noise)
