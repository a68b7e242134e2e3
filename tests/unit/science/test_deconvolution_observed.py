"""Titan against the result of AIDA, Neptune with a star of the same night."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from roboao_assets.science.deconvolution import BlurredField, ImageNoise, richardson_lucy
from roboao_assets.science.extended_object import find_outline
from roboao_assets.science.star_psf import cut_star_psf

pytestmark = pytest.mark.real_data
TITAN = (slice(131, 391), slice(126, 386))
# The sky's scatter in the corners; the image is in detected photons, as AIDA takes it.
TITAN_NOISE = ImageNoise(sky_variance=17.0**2, variance_per_adu=1.0)


def read(path):
    return fits.getdata(path).astype(float)


@pytest.fixture(scope="module")
def titan(real_data):
    folder = real_data / "extended"
    psfs = []
    for number in range(3):
        star = read(folder / f"psf_titanhe_{number}.fits")
        y, x = np.unravel_index(star.argmax(), star.shape)
        psfs.append(cut_star_psf(star, x, y, 80))
    image = read(folder / "titanhe_153_IF_scaled.fits")[TITAN]
    return image, np.mean(psfs, axis=0), read(folder / "titan_AIDA_myopic_result.fits")[TITAN]


def limb_width_px(image):
    """Mean width, 20 to 80 % of the disc's brightness, of the limb."""
    outline = find_outline(image, image.shape[1] / 2, image.shape[0] / 2)
    rows, columns = np.indices(image.shape)
    radius = np.hypot(rows - outline.y, columns - outline.x)
    ring = np.rint(2 * radius).astype(int)
    profile = np.bincount(ring.ravel(), image.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    disc = np.median(image[radius < 0.3 * outline.diameter_px])
    start = int(0.6 * outline.diameter_px)
    falls = [start + np.argmax(profile[start:] < part * disc) for part in (0.8, 0.2)]
    return (falls[1] - falls[0]) / 2


def test_titan_agrees_with_aida(titan):
    image, psf, aida = titan
    made = richardson_lucy(BlurredField(image, psf, TITAN_NOISE, threads=2))
    assert made.converged, made.reason
    assert made.chi2 <= 1.05
    assert made.flux_ratio == pytest.approx(1.0, abs=0.005)
    # AIDA's object has 0.9635 of the flux of the whole image; this one keeps it all.
    assert made.object_flux_ratio == pytest.approx(1.0, abs=0.02)
    assert np.corrcoef(made.image.ravel(), aida.ravel())[0, 1] > 0.99
    bright = aida > 0.5 * np.percentile(aida, 99)
    off = made.image[bright] / made.image[bright].mean() - aida[bright] / aida[bright].mean()
    assert off.std() < 0.08
    assert limb_width_px(made.image) < 0.75 * limb_width_px(image)


def test_neptune_with_a_star_of_its_night(real_data):
    neptune = read(real_data / "extended" / "neptune_H_20170725_stack.fits")
    star = read(real_data / "psf" / "nirc2_HD1160_H_standard_1_clean.fits")
    smooth = ndimage.median_filter(star, 5)
    # The frame is cleaned, but not of all its hot pixels.
    star = np.where(np.abs(star - smooth) > 0.3 * np.abs(smooth) + 500, smooth, star)
    y, x = np.unravel_index(smooth.argmax(), star.shape)
    psf = cut_star_psf(star, x, y, 80)
    noise = ImageNoise(sky_variance=0.1**2, variance_per_adu=0.005)
    field = BlurredField(neptune, psf, noise, background=0.18, threads=2)
    made = richardson_lucy(field, most_iterations=40)
    assert made.flux_ratio == pytest.approx(1.0, abs=0.02)
    assert made.image.min() >= 0
    # The clouds are sharper: more of the light in the brightest pixels.
    assert np.percentile(made.image, 99.9) > 1.2 * np.percentile(neptune, 99.9)
    assert made.chi2 < field.chi2(field.blur(field.start())) / 3
