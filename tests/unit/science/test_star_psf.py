"""The PSF of a deconvolution, cut from a star's image."""

import numpy as np
import pytest
from discs import star_psf
from scipy import ndimage

from roboao_assets.science.errors import OutsideOfDataError
from roboao_assets.science.star_psf import cut_star_psf

WIDE = star_psf(half=60, core=2.0, halo=8.0)


def star_image(noise=0.0, x=90.3, y=84.6, flux=1e5):
    image = np.zeros((181, 181))
    image[30:151, 30:151] = WIDE * flux
    image = ndimage.shift(image, (y - 90, x - 90), order=5)
    return image + 50.0 + np.random.default_rng(0).normal(0, noise, image.shape)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_it_is_the_stars(noise):
    psf = cut_star_psf(star_image(noise), 91, 84, 40)
    assert psf.shape == (81, 81)
    assert psf.min() >= 0
    assert psf.sum() == pytest.approx(1.0, abs=1e-5)
    truth = WIDE[20:101, 20:101] / WIDE[20:101, 20:101].sum()
    assert np.unravel_index(psf.argmax(), psf.shape) == (40, 40)
    assert np.abs(psf - truth).max() < 0.03 * truth.max()
    # The halo's light counts: it is half of what blurs a disc.
    inner = (slice(30, 51), slice(30, 51))
    assert psf[inner].sum() == pytest.approx(truth[inner].sum(), abs=0.02)


def test_pixels_without_data_get_the_mean_of_their_ring():
    image = star_image()
    image[70:74, 60:66] = np.nan
    psf = cut_star_psf(image, 90, 85, 40)
    assert np.abs(psf - cut_star_psf(star_image(), 90, 85, 40)).max() < 0.01 * psf.max()


def test_a_star_at_the_edge_gives_none():
    with pytest.raises(OutsideOfDataError, match="from the edge"):
        cut_star_psf(star_image(), 20, 90, 40)
