"""The transform of a resolved disc against the disc itself, drawn."""

import numpy as np
import pytest

from simulator.resolved_disc import Disc, Spot

PIXEL = 0.035
DISC = Disc(
    diameter_arcsec=1.4,
    limb_darkening=0.5,
    spots=(
        Spot(x_arcsec=0.2, y_arcsec=0.14, sigma_arcsec=0.06, brightness=0.7),
        Spot(x_arcsec=-0.24, y_arcsec=-0.16, sigma_arcsec=0.1, brightness=-0.3),
    ),
)


def drawn(disc, side=64, points=16):
    axis = ((np.arange(side * points) + 0.5) / points - 0.5 - side // 2) * PIXEL
    x, y = np.meshgrid(axis, axis)
    mu = np.sqrt(np.clip(1 - (x**2 + y**2) / (disc.diameter_arcsec / 2) ** 2, 0, None))
    light = np.where(mu > 0, 1 - disc.limb_darkening * (1 - mu), 0)
    for spot in disc.spots:
        away2 = (x - spot.x_arcsec) ** 2 + (y - spot.y_arcsec) ** 2
        light += spot.brightness * np.exp(-away2 / 2 / spot.sigma_arcsec**2)
    light = light.reshape(side, points, side, points).mean(axis=(1, 3))
    return light / light.sum()


@pytest.mark.parametrize("disc", [DISC, Disc(diameter_arcsec=1.0, limb_darkening=0.0)])
def test_the_transform_is_that_of_the_drawn_disc(disc):
    image = drawn(disc)
    side = len(image)
    fy, fx = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    pixel = np.sinc(fy)[:, None] * np.sinc(fx)[None, :]
    expected = np.fft.rfft2(np.fft.ifftshift(image))
    low = np.hypot(fy[:, None], fx[None, :]) < 0.2
    found = disc.transfer(fy, fx, PIXEL) * pixel
    assert np.abs(found - expected)[low].max() < 3e-3
    assert found[0, 0] == pytest.approx(1.0, abs=1e-6)


def test_the_brightest_pixel_has_no_more_than_is_told():
    peak = drawn(DISC).max()
    assert peak <= DISC.peak_fraction(PIXEL)
    assert peak > 0.7 * DISC.peak_fraction(PIXEL)
