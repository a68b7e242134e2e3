"""Preparation of PSFs: filter, filling, centring."""

import warnings

import numpy as np
import pytest
from speckled_stars import HALF, render_star

from roboao_assets.science.errors import FitFailedError, ScienceError
from roboao_assets.science.high_contrast import prepare_psf
from roboao_assets.science.psf_preparation import filter_highpass, iuwt_planes
from roboao_assets.science.star_fit import fit_star


@pytest.fixture(scope="module")
def vip_iuwt():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vip_hci.var import iuwt
    return iuwt


def moffat(size, x, y, fwhm=5.0, flux=1e5, level=30.0):
    grid_y, grid_x = np.mgrid[:size, :size]
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / 2.5) - 1)
    profile = (1 + ((grid_x - x) ** 2 + (grid_y - y) ** 2) / alpha**2) ** -2.5
    return flux * profile + level


def test_planes_are_those_of_vip(vip_iuwt):
    image = np.random.default_rng(3).normal(size=(70, 81)).cumsum(axis=0)
    expected = vip_iuwt.iuwt_decomposition(image, 4)
    np.testing.assert_allclose(iuwt_planes(image, 4), expected, rtol=0, atol=1e-12 * 70)


def test_original_filter_is_the_sum_of_the_two_finest_planes(vip_iuwt):
    image = np.random.default_rng(4).normal(size=(64, 64))
    expected = vip_iuwt.iuwt_decomposition(image, 5)[:2].sum(axis=0)
    np.testing.assert_allclose(filter_highpass(image, 2), expected, atol=1e-13)


def test_filter_takes_a_constant_and_a_slope_away():
    grid_y, grid_x = np.mgrid[:101, :101]
    filtered = filter_highpass(100 + 0.5 * grid_x - 0.2 * grid_y, 3)
    assert abs(filtered[30:-30, 30:-30]).max() < 1e-10


@pytest.mark.parametrize("highpass", [True, False])
@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.37, -0.21), (-0.5, 0.5), (3.2, -2.7)])
def test_star_is_centred_on_the_central_pixel(highpass, dx, dy):
    image = moffat(151, 70.0 + dx, 80.0 + dy)
    star = prepare_psf(image, 70.0, 80.0, 25, highpass=highpass)
    assert star.frame.shape == (51, 51)
    assert star.frame.dtype == np.float32
    assert star.shift_x_px == pytest.approx(dx, abs=0.01)
    assert star.shift_y_px == pytest.approx(dy, abs=0.01)
    fit = fit_star(star.frame, 25, 25, fwhm_px=5, radius_px=5)
    assert np.hypot(fit.x - 25, fit.y - 25) < 0.01
    reference = prepare_psf(moffat(151, 70.0, 80.0), 70.0, 80.0, 25, highpass=highpass)
    assert abs(star.frame - reference.frame).max() < 3e-3 * reference.frame.max()


def test_unfiltered_star_keeps_its_profile_and_loses_its_background():
    star = prepare_psf(moffat(151, 75.3, 75.8), 75.0, 76.0, 50, highpass=False)
    truth = moffat(101, 50, 50, level=0.0)
    ring = np.median(np.r_[truth[:5].ravel(), truth[-5:].ravel()])
    np.testing.assert_allclose(star.frame, truth - ring, atol=2e-3 * truth.max())
    assert star.missing_fraction == 0


def test_preparation_is_linear_and_leaves_its_input_alone():
    image = render_star(1)
    copy = image.copy()
    one = prepare_psf(image, 60, 60, HALF)
    three = prepare_psf(3 * image, 60, 60, HALF)
    np.testing.assert_array_equal(image, copy)
    np.testing.assert_allclose(three.frame, 3 * one.frame, rtol=0, atol=2e-3 * one.frame.max())
    assert one.preparation == three.preparation == "IUWT high-pass, 5 finest planes"


def test_missing_edge_and_holes_are_filled():
    image = moffat(151, 75.0, 75.0)
    whole = prepare_psf(image, 75, 75, 50, highpass=False)
    edge = prepare_psf(image[:, 30:], 45, 75, 50, highpass=False)
    assert edge.missing_fraction == pytest.approx(5 / 101, abs=1e-6)
    assert np.isfinite(edge.frame).all()
    np.testing.assert_allclose(edge.frame[:, 8:], whole.frame[:, 8:], atol=1e-3 * whole.frame.max())

    holes = image.copy()
    holes[60, 60] = np.nan
    holes[90:92, 80] = np.inf
    filled = prepare_psf(holes, 75, 75, 50, highpass=False)
    np.testing.assert_allclose(filled.frame, whole.frame, atol=5e-3 * whole.frame.max())


def test_box_with_too_little_data_is_refused_in_a_sentence():
    image = moffat(151, 10.0, 75.0)
    with pytest.raises(ScienceError, match=r"has no data in 40 % of its pixels .at most 10 %"):
        prepare_psf(image, 10, 75, 50)
    masked = moffat(151, 75.0, 75.0)
    masked[:, 40:55] = np.nan
    with pytest.raises(ScienceError, match="no data in 15 %"):
        prepare_psf(masked, 75, 75, 50)


def test_star_far_from_its_lock_position_is_a_failure():
    image = moffat(151, 75.0, 75.0)
    with pytest.raises(FitFailedError, match="more than the 5 px that are credible"):
        prepare_psf(image, 69.5, 75.0, 40)
    prepare_psf(image, 71.0, 75.0, 40)


@pytest.mark.parametrize("image", [np.zeros((121, 121)), np.full((121, 121), 7.0)])
def test_flat_image_is_a_failure(image):
    with pytest.raises(FitFailedError):
        prepare_psf(image, 60, 60, 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": 200.0}, "outside the image"),
        ({"x": float("nan")}, "outside the image"),
        ({"half_width_px": 5}, "at least 8 px"),
        ({"highpass_coefficient": 0}, "wavelet planes"),
        ({"highpass_planes": 6}, "from 1 to 5 wavelet planes"),
        ({"image": np.zeros((3, 50, 50))}, "2 axes"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"image": moffat(151, 75, 75), "x": 75.0, "y": 75.0, "half_width_px": 40}
    with pytest.raises(ValueError, match=message):
        prepare_psf(**(arguments | changes))
