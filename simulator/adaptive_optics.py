"""The residual of the adaptive optics: aberrations, their changes with time, image motion.

The laser guide star cannot sense tip and tilt, so the corrected phase has none: the motion
of the image is added to it explicitly and is the truth that registration is measured by.
"""

from dataclasses import dataclass
from math import cos, factorial, pi, sin, sqrt

import numpy as np
import scipy.signal

from simulator.optics import Optics

# Noll indices of the slowly changing error (focus to trefoil, spherical) and relative weights.
LOW_ORDERS = {4: 1.0, 5: 0.8, 6: 0.8, 7: 0.25, 8: 0.25, 9: 0.35, 10: 0.35, 11: 0.6}
# Noll indices of the fixed error of a night.
FIXED_ORDERS = tuple(range(4, 22))
FIXED_RIPPLES = 60


@dataclass(frozen=True, kw_only=True)
class Correction:
    """How well the adaptive optics and the telescope do in one observation.

    Attributes
    ----------
    actuators : int
        Across the primary.
    delay_s : float
        From measurement to correction.
    low_order_nm : float
        Median rms of the slowly changing low-order error.
    low_order_time_s, quality_time_s, quality_spread : float, float, float
        Correlation times of that error and of its amplitude; spread (1 sigma) of the natural
        logarithm of the amplitude: this is what makes good and bad frames.
    fixed_nm : float
        Rms of the fixed aberrations.
    drift_px, wander_px, shake_px : float
        Rms (an axis) of the image motion: slow, within frames to seconds, faster than frames.
    """

    actuators: int = 12
    delay_s: float = 0.0055
    low_order_nm: float = 95.0
    low_order_time_s: float = 0.02
    quality_time_s: float = 1.5
    quality_spread: float = 0.25
    fixed_nm: float = 45.0
    drift_px: float = 3.0
    wander_px: float = 2.0
    shake_px: float = 0.55


def zernike(noll: int, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Zernike polynomial of Noll's numbering, unit rms over the full disc.

    Notes
    -----
    Noll, R. J. 1976, JOSA 66, 207, doi:10.1364/JOSA.66.000207.
    """
    n, first = 0, 1
    while first + n + 1 <= noll:
        first += n + 1
        n += 1
    place = noll - first
    m = 2 * ((place + 1) // 2) if n % 2 == 0 else 2 * (place // 2) + 1
    radial = np.zeros_like(radius)
    for k in range((n - m) // 2 + 1):
        coefficient = (-1) ** k * factorial(n - k)
        coefficient /= factorial(k) * factorial((n + m) // 2 - k) * factorial((n - m) // 2 - k)
        radial += coefficient * radius ** (n - 2 * k)
    if m == 0:
        return sqrt(n + 1) * radial
    wave = np.cos(m * angle) if noll % 2 == 0 else np.sin(m * angle)
    return sqrt(2 * (n + 1)) * radial * wave


def wandering(
    rng: np.random.Generator, shape: tuple[int, int], step_s: float, time_s: float
) -> np.ndarray:
    """Draw stationary series of unit variance with an exponential correlation time.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
        Series, steps.
    step_s, time_s : float
        Step; correlation time.

    Returns
    -------
    ndarray
        float64, of `shape`.
    """
    keep = np.exp(-step_s / time_s)
    noise = rng.standard_normal(shape)
    noise[:, 1:] *= sqrt(1.0 - keep**2)
    return scipy.signal.lfilter([1.0], [1.0, -keep], noise, axis=1)


def image_motion(
    rng: np.random.Generator, correction: Correction, steps: int, step_s: float
) -> np.ndarray:
    """Draw the motion of the image (raw px, float64, (2, steps), x then y)."""
    motion = correction.drift_px * wandering(rng, (2, steps), step_s, 8.0)
    motion += correction.wander_px * wandering(rng, (2, steps), step_s, 1.2)
    return motion + correction.shake_px * wandering(rng, (2, steps), step_s, 0.02)


def low_order_amplitudes(
    rng: np.random.Generator, correction: Correction, steps: int, step_s: float
) -> np.ndarray:
    """Draw the amplitudes (nm rms, float32, (steps, modes)) of the slowly changing error."""
    weights = np.array(list(LOW_ORDERS.values()))
    weights /= sqrt((weights**2).sum())
    series = wandering(rng, (weights.size, steps), step_s, correction.low_order_time_s)
    quality = wandering(rng, (1, steps), step_s, correction.quality_time_s)
    envelope = correction.low_order_nm * np.exp(correction.quality_spread * quality)
    return (series * weights[:, None] * envelope).T.astype(np.float32)


def low_order_modes(optics: Optics) -> np.ndarray:
    """The modes of `LOW_ORDERS` over the aperture (float32, (modes, pixels))."""
    radius, angle = optics.radius_and_angle
    modes = [zernike(noll, radius, angle).ravel() for noll in LOW_ORDERS]
    return np.stack(modes).astype(np.float32)


def fixed_aberrations_nm(optics: Optics, rms_nm: float, seed: np.random.SeedSequence) -> np.ndarray:
    """Fixed error of telescope and camera (nm, float32, (y, x)).

    Half of the variance in low orders, half in ripples of 3 to 30 cycles an aperture, which
    make the quasi-static speckles that a reference star shares. Drawn from the seed alone: the
    same surface in every filter and sampling.
    """
    rng = np.random.default_rng(seed)
    radius, angle = optics.radius_and_angle
    low = np.zeros_like(radius)
    for noll in FIXED_ORDERS:
        low += rng.standard_normal() / noll * zernike(noll, radius, angle)
    ripples = np.zeros_like(radius)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    for _ in range(FIXED_RIPPLES):
        cycles = 3.0 * 10.0 ** rng.uniform(0.0, 1.0)
        direction, start = rng.uniform(0.0, 2.0 * pi, 2)
        wave = pi * cycles * (x * cos(direction) + y * sin(direction))
        ripples += np.cos(wave + start) / cycles
    total = np.zeros_like(radius)
    weight = optics.aperture / optics.aperture.sum()
    for part in (low, ripples):
        change = part - (part * weight).sum()
        total += change / sqrt((change**2 * weight).sum())
    return (total * rms_nm / sqrt(2.0)).astype(np.float32)
