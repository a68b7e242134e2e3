"""The seeing that an AO-off exposure truly shows, measured on its noise-free image."""

from math import sqrt

import numpy as np
import scipy.fft
from scipy.optimize import least_squares

from simulator.optics import Optics

_HALF_BOX_ARCSEC = 2.5


def _noise_free_image(optics: Optics, transfer: np.ndarray) -> np.ndarray:
    # Surface brightness at the centres of raw pixels, not integrated over them; the origin
    # comes to the middle pixel.
    fine = optics.fine_px
    image = scipy.fft.irfft2(transfer.astype(np.complex128), s=(fine, fine))
    step = optics.oversampling
    return scipy.fft.fftshift(image[::step, ::step])


def moffat_fwhm_arcsec(optics: Optics, transfer: np.ndarray) -> tuple[float, float, float]:
    """FWHM of an elliptical Moffat function fitted to the noise-free image.

    Parameters
    ----------
    optics : Optics
    transfer : ndarray
        Optical transfer function of the whole exposure, the star near the origin.

    Returns
    -------
    (float, float, float)
        Geometric mean, major and minor axis (arcsec).
    """
    image = _noise_free_image(optics, transfer)
    middle = image.shape[0] // 2
    half = min(round(_HALF_BOX_ARCSEC / optics.plate_scale_arcsec), middle - 1)
    box = image[middle - half : middle + half + 1, middle - half : middle + half + 1]
    box = box / box.max()
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)

    def model(p: np.ndarray) -> np.ndarray:
        dx, dy = x - p[1], y - p[2]
        distance = p[3] * dx**2 + p[4] * dx * dy + p[5] * dy**2
        return p[0] * (1.0 + np.abs(distance)) ** -p[6] + p[7]

    width = 0.6 / optics.plate_scale_arcsec
    weight = (box * x).sum() / box.sum(), (box * y).sum() / box.sum()
    start = [1.0, *weight, width**-2.0, 0.0, width**-2.0, 3.0, 0.0]
    p = least_squares(lambda values: (model(values) - box).ravel(), start, x_scale="jac").x
    radius2 = 2.0 ** (1.0 / p[6]) - 1.0
    eigenvalues = np.linalg.eigvalsh([[p[3], p[4] / 2.0], [p[4] / 2.0, p[5]]])
    major, minor = (2.0 * np.sqrt(radius2 / eigenvalues) * optics.plate_scale_arcsec).tolist()
    return sqrt(major * minor), major, minor


def profile_fwhm_arcsec(optics: Optics, transfer: np.ndarray) -> float:
    """FWHM (arcsec) of the azimuthally averaged noise-free image round its centroid.

    No model is involved. The central value is the mean within 0.1", so that a single speckle
    does not decide it.
    """
    image = _noise_free_image(optics, transfer)
    middle = image.shape[0] // 2
    axis = (np.arange(image.shape[0]) - middle) * optics.plate_scale_arcsec
    x, y = np.meshgrid(axis, axis)
    near = np.hypot(x, y) < _HALF_BOX_ARCSEC
    light = np.where(near, image, 0.0)
    radius = np.hypot(x - (light * x).sum() / light.sum(), y - (light * y).sum() / light.sum())
    edges = np.arange(0.1, _HALF_BOX_ARCSEC, 0.04)
    ring = np.digitize(radius, edges)
    counts = np.bincount(ring.ravel(), minlength=edges.size + 1)[: edges.size]
    sums = np.bincount(ring.ravel(), image.ravel(), minlength=edges.size + 1)[: edges.size]
    radius_sums = np.bincount(ring.ravel(), radius.ravel(), minlength=edges.size + 1)[: edges.size]
    profile, radii = sums / counts, radius_sums / counts
    below = int(np.argmax(profile < 0.5 * profile[0]))
    part = (profile[below - 1] - 0.5 * profile[0]) / (profile[below - 1] - profile[below])
    return float(2.0 * (radii[below - 1] + part * (radii[below] - radii[below - 1])))
