"""Stars behind an aberrated pupil, with a known companion: truth for the high-contrast tests."""

import numpy as np
from scipy import ndimage

# Half-width of the boxes (px), and lambda / D of the rendered stars (px).
HALF = 40
RESOLUTION_PX = 4.0
FWHM_PX = 4.1


def render_star(seed, *, own_rms_rad=0.15, flux=1e6, noise=2.0, companions=(), size=121):
    """Image (size, size) of a star at its centre, with companions ((dx, dy, contrast), ...)."""
    psf = _aberrated_psf(seed, own_rms_rad, size) * flux
    image = psf.copy()
    for dx, dy, contrast in companions:
        image += contrast * ndimage.shift(psf, (dy, dx), order=5)
    return image + np.random.default_rng(1000 + seed).normal(scale=noise, size=image.shape) + 50.0


def _aberrated_psf(seed, own_rms_rad, size):
    """PSF of a pupil whose aberrations are part common to all stars, part the star's own."""
    grid = 256
    pupil_px = grid / RESOLUTION_PX
    axis = np.arange(grid) - grid // 2
    radius = np.hypot(axis[:, None], axis[None, :]) / (pupil_px / 2)
    pupil = (radius <= 1) & (radius >= 0.36)
    phase = 0.5 * _smooth_phase(7, pupil, grid) + own_rms_rad * _smooth_phase(seed, pupil, grid)
    field = np.where(pupil, np.exp(1j * phase), 0)
    psf = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(field)))) ** 2
    half = size // 2
    psf = psf[grid // 2 - half : grid // 2 + half + 1, grid // 2 - half : grid // 2 + half + 1]
    return psf / psf.sum()


def _smooth_phase(seed, pupil, grid):
    noise = np.random.default_rng(seed).normal(size=(grid, grid))
    smooth = ndimage.gaussian_filter(noise, 5.0)
    smooth -= smooth[pupil].mean()
    return smooth / smooth[pupil].std()
