"""A planet with a limb and a spot, a PSF with core and halo, and what a camera sees of them."""

import numpy as np
from scipy.signal import fftconvolve


def disc(side, radius, x, y, *, height=1000.0):
    """Limb-darkened disc with a dark spot, anti-aliased at its edge."""
    rows, columns = np.indices((side, side))
    distance = np.hypot(rows - y, columns - x)
    cosine = np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1))
    light = np.clip(radius - distance + 0.5, 0, 1) * (0.4 + 0.6 * cosine)
    spot = np.hypot(rows - y - 0.25 * radius, columns - x - 0.3 * radius)
    return height * light * (1 - 0.5 * np.exp(-((spot / (0.2 * radius)) ** 2)))


def star_psf(half=20, core=1.5, halo=6.0, in_core=0.4):
    axis = np.arange(-half, half + 1.0)
    radius2 = axis**2 + axis[:, None] ** 2
    psf = in_core * np.exp(-radius2 / 2 / core**2) / core**2
    psf += (1 - in_core) * np.exp(-radius2 / 2 / halo**2) / halo**2
    return psf / psf.sum()


def blurred(scene, psf):
    return np.maximum(fftconvolve(scene, psf, mode="same"), 0.0)


def noisy(image, noise, seed=1):
    rng = np.random.default_rng(seed)
    return image + rng.normal(size=image.shape) * np.sqrt(noise.variance(image))
