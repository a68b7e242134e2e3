"""Atmospheric turbulence: von Karman phase screens blown over the aperture by the wind."""

from dataclasses import dataclass, field
from math import cos, pi, radians, sin

import numpy as np
import scipy.fft
from scipy.special import gamma, j0, kv

from simulator.seeds import child_seed

ARCSEC_RAD = pi / 648000.0
SEEING_WAVELENGTH_NM = 500.0
# Correlation time of a changing seeing. Changes are seen from 0.2 s (Baldwin, Warner & Mackay
# 2008, doi:10.1051/0004-6361:20079214) to 17 min (Racine 1996, doi:10.1086/133732).
SEEING_TIME_S = 5.0
# Seeings that stand for all of a changing one: Gauss-Hermite nodes.
_SEEING_NODES = 9


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One turbulent layer, blown along without changing (frozen flow).

    Attributes
    ----------
    weight : float
        Its share of the turbulence (of r0 to the power -5/3); the shares add up to 1.
    speed_m_s, direction_deg : float
        Wind.
    sensed_fraction : float
        How much of its phase the laser guide star sees: less for higher layers, as the
        beam from a star at finite height is a cone.
    """

    weight: float
    speed_m_s: float
    direction_deg: float
    sensed_fraction: float = 1.0

    @property
    def wind_m_s(self) -> tuple[float, float]:
        """Components (x, y) of the wind."""
        angle = radians(self.direction_deg)
        return self.speed_m_s * cos(angle), self.speed_m_s * sin(angle)


@dataclass(frozen=True, kw_only=True)
class Turbulence:
    """The turbulence above the telescope.

    Attributes
    ----------
    seeing_fwhm_arcsec : float
        FWHM of a Kolmogorov seeing disc at 500 nm, in the direction of the star; the median
        where it changes.
    outer_scale_m : float
        Outer scale of the von Karman spectrum.
    layers : tuple of Layer
    seeing_spread, seeing_time_s : float
        Change of the seeing within an exposure: spread (1 sigma) of its natural logarithm, and
        correlation time. All layers grow and fade together.
    """

    seeing_fwhm_arcsec: float
    outer_scale_m: float = 20.0
    seeing_spread: float = 0.0
    seeing_time_s: float = SEEING_TIME_S
    layers: tuple[Layer, ...] = field(
        default=(
            Layer(weight=0.6, speed_m_s=5.5, direction_deg=20.0, sensed_fraction=0.94),
            Layer(weight=0.25, speed_m_s=9.0, direction_deg=75.0, sensed_fraction=0.85),
            Layer(weight=0.15, speed_m_s=17.0, direction_deg=-40.0, sensed_fraction=0.70),
        )
    )

    def fried_parameter_m(self, wavelength_nm: float) -> float:
        """Fried's r0 at a wavelength (m), from FWHM = 0.98 lambda / r0 at 500 nm."""
        reference = 0.98 * SEEING_WAVELENGTH_NM * 1e-9 / (self.seeing_fwhm_arcsec * ARCSEC_RAD)
        return reference * (wavelength_nm / SEEING_WAVELENGTH_NM) ** 1.2

    def structure_function(self, separation_m: np.ndarray, wavelength_nm: float) -> np.ndarray:
        """Phase structure function (rad^2) at separations (m), von Karman.

        Notes
        -----
        Conan, R., Borgnino, J., Ziad, A. & Martin, F. 2000, JOSA A 17, 1807,
        doi:10.1364/JOSAA.17.001807.
        """
        r = np.asarray(separation_m, dtype=np.float64)
        scale = (self.outer_scale_m / self.fried_parameter_m(wavelength_nm)) ** (5.0 / 3.0)
        constant = (24.0 / 5.0 * gamma(6.0 / 5.0)) ** (5.0 / 6.0) * gamma(11.0 / 6.0)
        constant /= pi ** (8.0 / 3.0)
        x = 2.0 * pi * np.maximum(r, 1e-9) / self.outer_scale_m
        covariance = constant / 2.0 ** (5.0 / 6.0) * x ** (5.0 / 6.0) * kv(5.0 / 6.0, x)
        variance = constant / 2.0 * gamma(5.0 / 6.0)
        return 2.0 * scale * np.maximum(variance - covariance, 0.0)

    def long_exposure_fwhm_arcsec(
        self, wavelength_nm: float, diameter_m: float, obscuration_m: float
    ) -> float:
        """FWHM (arcsec) of an infinitely long AO-off exposure through the telescope.

        The optical transfer function is the telescope's times exp(-D/2), averaged over the
        seeings where it changes; its Hankel transform is the image.
        """
        r = np.linspace(0.0, diameter_m, 2000)
        structure = self.structure_function(r, wavelength_nm)
        otf = np.zeros_like(r)
        for ratio, weight in self._seeing_ratios():
            # D goes with r0 to the power -5/3, and the seeing with 1 / r0.
            otf += weight * np.exp(-0.5 * structure * ratio ** (5.0 / 3.0))
        otf = annulus_transfer(r, diameter_m, obscuration_m) * otf
        angles = np.linspace(0.0, 2.0 * self.seeing_fwhm_arcsec, 801) * ARCSEC_RAD
        kernel = j0(2.0 * pi * np.outer(angles, r) / (wavelength_nm * 1e-9))
        image = np.trapezoid(kernel * otf * r, r, axis=1)
        below = int(np.argmax(image < 0.5 * image[0]))
        above = below - 1
        part = (image[above] - 0.5 * image[0]) / (image[above] - image[below])
        return 2.0 * (angles[above] + part * (angles[below] - angles[above])) / ARCSEC_RAD

    def _seeing_ratios(self) -> list[tuple[float, float]]:
        # Seeing over its median, and how often it is so.
        number = _SEEING_NODES if self.seeing_spread > 0 else 1
        nodes, weights = np.polynomial.hermite_e.hermegauss(number)
        ratios = np.exp(self.seeing_spread * nodes)
        return list(zip(ratios.tolist(), (weights / weights.sum()).tolist(), strict=True))


def annulus_transfer(
    separation_m: np.ndarray, diameter_m: float, obscuration_m: float
) -> np.ndarray:
    """Optical transfer function of a clear annulus at baselines `separation_m` (m)."""

    def overlap(r: np.ndarray, radius_a: float, radius_b: float) -> np.ndarray:
        # Area common to two discs whose centres are r apart.
        small, large = min(radius_a, radius_b), max(radius_a, radius_b)
        r = np.maximum(r, 1e-12)
        cos_a = np.clip((r**2 + large**2 - small**2) / (2 * r * large), -1, 1)
        cos_b = np.clip((r**2 + small**2 - large**2) / (2 * r * small), -1, 1)
        a, b = np.arccos(cos_a), np.arccos(cos_b)
        lens = large**2 * (a - np.sin(2 * a) / 2) + small**2 * (b - np.sin(2 * b) / 2)
        return np.where(r <= large - small, pi * small**2, np.where(r >= large + small, 0.0, lens))

    r = np.asarray(separation_m, dtype=np.float64)
    outer, inner = diameter_m / 2.0, obscuration_m / 2.0
    area = overlap(r, outer, outer)
    if inner > 0:
        area = area - 2.0 * overlap(r, outer, inner) + overlap(r, inner, inner)
    return area / (pi * (outer**2 - inner**2))


def spectrum_amplitude(
    frequency_per_m: np.ndarray, fried_parameter_m: float, outer_scale_m: float
) -> np.ndarray:
    """Square root of the von Karman phase spectrum (rad m) at spatial frequencies (1/m)."""
    squared = np.square(frequency_per_m) + outer_scale_m**-2.0
    return 0.0229**0.5 * fried_parameter_m ** (-5.0 / 6.0) * squared ** (-11.0 / 12.0)


@dataclass(frozen=True, kw_only=True)
class SpatialFilter:
    """What an adaptive-optics system of finite pitch and delay leaves of a frozen layer.

    In the spatial frequencies that the actuators can follow it subtracts the phase of
    `delay_s` ago, of which it has seen a fraction; above them it does nothing.

    Attributes
    ----------
    cutoff_per_m : float
        1 / (2 x the actuator pitch).
    delay_s : float
        Time from measurement to correction.

    Notes
    -----
    Rigaut, F., Veran, J.-P. & Lai, O. 1998, Proc. SPIE 3353, 1038, doi:10.1117/12.321649.
    """

    cutoff_per_m: float
    delay_s: float

    def response(self, fx: np.ndarray, fy: np.ndarray, layer: Layer) -> np.ndarray:
        """Complex factor left of a layer's phase at frequencies `fx` (1, n), `fy` (m, 1) (1/m)."""
        roll_off = ((fx**2 + fy**2) * np.float32(self.cutoff_per_m**-2.0)) ** 8
        followed = np.float32(layer.sensed_fraction) / (1.0 + roll_off)
        wind_x, wind_y = layer.wind_m_s
        # The exponential of the sum is the product of two short ones.
        lag_x = np.exp(-2j * pi * self.delay_s * wind_x * fx).astype(np.complex64)
        lag_y = np.exp(-2j * pi * self.delay_s * wind_y * fy).astype(np.complex64)
        return 1.0 - followed * (lag_y * lag_x)


class BlowingScreens:
    """Periodic phase screens, one a layer, moving with its wind.

    Parameters
    ----------
    turbulence : Turbulence
    wavelength_nm : float
    pixel_m, side_px, window_px : float, int, int
        Sampling and side of the screens; side of the window looked through.
    seed : numpy.random.SeedSequence
    correction : SpatialFilter, optional
        Adaptive optics; None leaves the whole turbulence.
    """

    def __init__(
        self,
        turbulence: Turbulence,
        wavelength_nm: float,
        *,
        pixel_m: float,
        side_px: int,
        window_px: int,
        seed: np.random.SeedSequence,
        correction: SpatialFilter | None = None,
    ) -> None:
        self._side_px = side_px
        self._window_px = window_px
        self._screens = []
        self._starts = []
        self._velocities_px_s = []
        for number, layer in enumerate(turbulence.layers):
            rng = np.random.default_rng(child_seed(seed, number))
            r0 = turbulence.fried_parameter_m(wavelength_nm) * layer.weight ** (-3.0 / 5.0)
            screen = _draw_screen(
                rng, r0, turbulence.outer_scale_m, pixel_m, side_px, layer, correction
            )
            # A margin that repeats the far edges: any window is then one contiguous slice.
            self._screens.append(np.pad(screen, ((0, window_px), (0, window_px)), mode="wrap"))
            self._starts.append(rng.uniform(0, side_px, 2))
            self._velocities_px_s.append(np.array(layer.wind_m_s) / pixel_m)

    def phase(self, time_s: float) -> np.ndarray:
        """Phase (rad, float32, (y, x)) over the window at a time."""
        window = self._window_px
        total = np.zeros((window, window), dtype=np.float32)
        for screen, start, velocity in zip(
            self._screens, self._starts, self._velocities_px_s, strict=True
        ):
            x, y = ((start + velocity * time_s) % self._side_px).astype(int)
            total += screen[y : y + window, x : x + window]
        return total


def _draw_screen(
    rng: np.random.Generator,
    fried_parameter_m: float,
    outer_scale_m: float,
    pixel_m: float,
    side_px: int,
    layer: Layer,
    correction: SpatialFilter | None,
) -> np.ndarray:
    fy = np.fft.fftfreq(side_px, pixel_m).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(side_px, pixel_m).astype(np.float32)[None, :]
    amplitude = spectrum_amplitude(np.hypot(fx, fy), fried_parameter_m, outer_scale_m)
    amplitude[0, 0] = 0.0
    shape = amplitude.shape
    noise = np.empty(shape, dtype=np.complex64)
    noise.real = rng.standard_normal(shape, dtype=np.float32)
    noise.imag = rng.standard_normal(shape, dtype=np.float32)
    noise *= amplitude.astype(np.float32)
    if correction is not None:
        noise *= correction.response(fx, fy, layer).astype(np.complex64)
    # Each frequency pair carries noise of variance 2 x 2 in the half plane, 1 / sqrt(2) makes
    # the real screen's variance the integral of the spectrum.
    frequency_step = 1.0 / (side_px * pixel_m)
    screen = scipy.fft.irfft2(noise, s=(side_px, side_px), norm="forward", overwrite_x=True)
    return screen * np.float32(frequency_step / np.sqrt(2.0))
