"""Cosmic rays are taken out of frames; stars, however sharp, are not."""

import numpy as np
import pytest

from roboao_assets.science.box_noise import border_levels_and_scatters, variance_per_adu
from roboao_assets.science.box_transforms import telescope_transfer, transfer_psf
from roboao_assets.science.cosmic_rays import SpikeFinder


def remove_spikes(boxes, transfer, per_adu):
    return SpikeFinder(boxes, transfer, per_adu).remove(boxes, *border_levels_and_scatters(boxes))


def transfer_at(wavelength_nm, side=64):
    return telescope_transfer(
        side,
        plate_scale_arcsec=0.0351594,
        wavelength_nm=wavelength_nm,
        primary_diameter_m=1.85,
        secondary_diameter_m=0.879,
    )


def perfect_stars(wavelength_nm, flux, number=8, seed=0):
    """Diffraction-limited stars at random places between pixels, with read noise."""
    rng = np.random.default_rng(seed)
    transfer = transfer_at(wavelength_nm)
    fy, fx = np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)
    boxes = []
    for dy, dx in rng.uniform(30, 34, (number, 2)):
        shifted = transfer * np.exp(-2j * np.pi * (fy * dy + fx * dx))
        boxes.append(flux * np.fft.irfft2(shifted, s=(64, 64)))
    return (np.array(boxes) + rng.normal(0, 7, (number, 64, 64))).astype(np.float32), transfer


@pytest.mark.parametrize("wavelength_nm", [482, 623, 765, 893])
@pytest.mark.parametrize("flux", [3e3, 1e5, 3e6])
def test_perfect_stars_stay(wavelength_nm, flux):
    boxes, transfer = perfect_stars(wavelength_nm, flux)
    cleaned, hits = remove_spikes(boxes, transfer, 4.0)
    assert not hits.any()
    np.testing.assert_array_equal(cleaned, boxes)


def test_hits_go_wherever_they_are():
    boxes, transfer = perfect_stars(765, 2e4)
    hit = boxes.copy()
    hit[1, 10, 50] += 3000
    hit[3, 31, 40] += 30000
    hit[3, 32, 41] += 20000  # a track
    hit[5, 50, 20:25] += 5000
    cleaned, hits = remove_spikes(hit, transfer, 4.0)
    assert hits.tolist() == [0, 1, 0, 2, 0, 5, 0, 0]
    assert np.abs(cleaned - boxes)[1:6].max() < 200
    np.testing.assert_array_equal(hit[1, 10, 50], boxes[1, 10, 50] + np.float32(3000))


def test_electron_multiplication_noise_is_no_cosmic_ray():
    rng = np.random.default_rng(1)
    psf = np.clip(np.fft.fftshift(transfer_psf(transfer_at(765))), 0, None)
    # Every electron comes out with an exponential number of ADU of mean 25.
    electrons = rng.poisson(np.broadcast_to(100 * psf, (200, 64, 64)))
    boxes = rng.gamma(np.maximum(electrons, 1e-9), 25) + rng.normal(0, 7, electrons.shape)
    boxes = boxes.astype(np.float32)
    transfer = transfer_at(765)
    per_adu = variance_per_adu(boxes, transfer)
    assert per_adu == pytest.approx(50, rel=0.15)
    _, hits = remove_spikes(boxes, transfer, per_adu)
    assert (hits > 0).mean() < 0.05


def test_no_frames():
    cleaned, hits = remove_spikes(np.zeros((0, 64, 64), np.float32), transfer_at(765), 1.0)
    assert cleaned.shape == (0, 64, 64)
    assert hits.shape == (0,)


def test_empty_frames():
    _, hits = remove_spikes(np.zeros((3, 64, 64), np.float32), transfer_at(765), 0.0)
    assert not hits.any()
