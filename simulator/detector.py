"""The camera: an electron-multiplying CCD with its patterns, noise and defects."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import pi

import numpy as np
from scipy.ndimage import gaussian_filter

from simulator.seeds import child_seed

DETECTOR_PX = 1024
QUARTER_START_PX = 384
QUARTER_PX = 256
FRAME_TIME_S = 0.116
ADU_MAX = 65535
# Photo-electrons the output amplifier needs for one ADU.
PREAMPLIFIER_E_PER_ADU = 12.0
FLAT_LEVEL_ADU = 22000.0


@dataclass(frozen=True, kw_only=True)
class CameraMode:
    """A readout mode of the camera.

    Attributes
    ----------
    number : int
        0 for flats, 6 to 10 for science.
    em_gain : float
        Mean multiplication of an electron; 1 switches the register's noise off.
    bias_adu, bias_drift_adu : float
        Mean level, and the rms of its change from frame to frame.
    induced_charge_e : float
        Clock-induced electrons a pixel and frame.
    """

    number: int
    em_gain: float
    bias_adu: float
    bias_drift_adu: float
    induced_charge_e: float

    @property
    def adu_per_electron(self) -> float:
        """Mean signal of a photo-electron."""
        return 1.0 if self.em_gain == 1.0 else self.em_gain / PREAMPLIFIER_E_PER_ADU


MODES = {
    0: CameraMode(number=0, em_gain=1.0, bias_adu=1000.0, bias_drift_adu=0.5, induced_charge_e=0.0),
    6: CameraMode(
        number=6, em_gain=300.0, bias_adu=620.0, bias_drift_adu=9.0, induced_charge_e=0.012
    ),
    7: CameraMode(
        number=7, em_gain=200.0, bias_adu=610.0, bias_drift_adu=8.0, induced_charge_e=0.010
    ),
    8: CameraMode(
        number=8, em_gain=100.0, bias_adu=600.0, bias_drift_adu=7.0, induced_charge_e=0.008
    ),
    9: CameraMode(
        number=9, em_gain=50.0, bias_adu=595.0, bias_drift_adu=6.0, induced_charge_e=0.006
    ),
    10: CameraMode(
        number=10, em_gain=25.0, bias_adu=590.0, bias_drift_adu=6.0, induced_charge_e=0.005
    ),
}
SCIENCE_MODES = (6, 7, 8, 9, 10)


def choose_mode(brightest_e: float, limit_adu: float = 14000.0) -> CameraMode:
    """The science mode of the highest gain that keeps `brightest_e` below a level (ADU)."""
    for number in SCIENCE_MODES:
        if brightest_e * MODES[number].adu_per_electron <= limit_adu:
            return MODES[number]
    return MODES[SCIENCE_MODES[-1]]


@dataclass(frozen=True)
class Window:
    """The part of the detector that is read: rows and columns `start_px` to `start + side`."""

    start_px: int
    side_px: int

    @classmethod
    def of_size(cls, size_px: int) -> "Window":
        """The whole detector (1024) or a centred window (256: the quarter-frame mode)."""
        return cls((DETECTOR_PX - size_px) // 2, size_px)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices (y, x) of a full frame."""
        both = slice(self.start_px, self.start_px + self.side_px)
        return both, both


class Camera:
    """One camera: the same pixels in every file of a night.

    Parameters
    ----------
    seed : numpy.random.SeedSequence
        Decides its defects.
    read_noise_adu : float
    """

    def __init__(self, seed: np.random.SeedSequence, read_noise_adu: float) -> None:
        self._seed = seed
        self.read_noise_adu = read_noise_adu

    @cached_property
    def _response(self) -> np.ndarray:
        rng = np.random.default_rng(child_seed(self._seed, 0))
        shape = (DETECTOR_PX, DETECTOR_PX)
        y, x = np.mgrid[:DETECTOR_PX, :DETECTOR_PX].astype(np.float32)
        response = 1.0 + 0.02 * rng.standard_normal(shape, dtype=np.float32)
        coarse = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 60.0)
        response *= 1.0 + 0.02 * coarse / coarse.std()
        centre = (DETECTOR_PX - 1) / 2.0
        response *= 1.0 - 0.12 * ((x - centre) ** 2 + (y - centre) ** 2) / (2.0 * centre**2)
        # Out-of-focus dust: rings, as the telescope's obstruction is imaged into them. Two of
        # them in the quarter frame.
        for number in range(10):
            low, high = (400, 624) if number < 2 else (0, DETECTOR_PX)
            ring_x, ring_y = rng.uniform(low, high, 2)
            outer = rng.uniform(14.0, 30.0)
            depth = rng.uniform(0.03, 0.08)
            radius = np.hypot(x - ring_x, y - ring_y)
            edge = 1.0 / (1.0 + np.exp(np.minimum((radius - outer) / 1.5, 50.0)))
            hole = 1.0 / (1.0 + np.exp(np.minimum((radius - 0.45 * outer) / 1.5, 50.0)))
            response *= 1.0 - depth * (edge - hole)
        return response

    @cached_property
    def dead_pixels(self) -> np.ndarray:
        """Positions (x, y) of pixels that hardly respond (int, (n, 2))."""
        rng = np.random.default_rng(child_seed(self._seed, 1))
        anywhere = rng.integers(0, DETECTOR_PX, (36, 2))
        quarter = rng.integers(QUARTER_START_PX, QUARTER_START_PX + QUARTER_PX, (4, 2))
        return np.concatenate([anywhere, quarter])

    def response(self, filter_name: str) -> np.ndarray:
        """Relative response to light (float32, (y, x), full frame, mean about 1)."""
        rng = np.random.default_rng(child_seed(self._seed, 2, *filter_name.encode()))
        tint = 0.004 * rng.standard_normal(self._response.shape, dtype=np.float32)
        response = self._response * (1.0 + tint)
        x, y = self.dead_pixels.T
        response[y, x] *= 0.25
        return response

    @cached_property
    def _dark_current_e(self) -> np.ndarray:
        # Electrons a frame of FRAME_TIME_S: amplifier glow in a corner, and hot pixels.
        rng = np.random.default_rng(child_seed(self._seed, 3))
        y, x = np.mgrid[:DETECTOR_PX, :DETECTOR_PX].astype(np.float32)
        glow = 0.25 * np.exp(-np.hypot(x - 30.0, y - 10.0) / 260.0) + 0.004
        number = int(4e-4 * DETECTOR_PX**2)
        at = rng.integers(0, DETECTOR_PX, (number, 2))
        glow[at[:, 1], at[:, 0]] += rng.lognormal(1.0, 1.3, number).clip(0.1, 60.0)
        return glow.astype(np.float32)

    @cached_property
    def _pattern(self) -> np.ndarray:
        # Of the readout, so in ADU and in every mode: column offsets, a ripple, row gradient.
        rng = np.random.default_rng(child_seed(self._seed, 4))
        y, x = np.mgrid[:DETECTOR_PX, :DETECTOR_PX].astype(np.float32)
        columns = 2.0 * rng.standard_normal(DETECTOR_PX).astype(np.float32)
        ripple = 1.5 * np.sin(2.0 * pi * (y / 170.0 + x / 900.0))
        return (columns[None, :] + ripple + 6.0 * y / DETECTOR_PX).astype(np.float32)

    def expected_dark_adu(self, mode: CameraMode, exposure_s: float = FRAME_TIME_S) -> np.ndarray:
        """Noise-free dark without the bias level (float32, (y, x), full frame)."""
        electrons = self._dark_current_e * (exposure_s / FRAME_TIME_S) + mode.induced_charge_e
        return self._pattern + np.float32(mode.adu_per_electron) * electrons

    def read_frame(
        self,
        rng: np.random.Generator,
        mode: CameraMode,
        window: Window,
        *,
        photo_electrons: np.ndarray | None,
        bias_adu: float,
        exposure_s: float = FRAME_TIME_S,
        cosmic_rays: Sequence[np.ndarray] = (),
    ) -> np.ndarray:
        """Draw one frame.

        Parameters
        ----------
        rng : numpy.random.Generator
        mode : CameraMode
        window : Window
        photo_electrons : ndarray or None
            Expected detected electrons (y, x) over the window, response included.
        bias_adu : float
            Level of this frame.
        exposure_s : float
        cosmic_rays : sequence of ndarray
            Tracks: rows (y, x, electrons), window pixels.

        Returns
        -------
        ndarray
            uint16 (y, x).
        """
        expected = self._dark_current_e[window.slices] * np.float32(exposure_s / FRAME_TIME_S)
        expected = expected + np.float32(mode.induced_charge_e)
        if photo_electrons is not None:
            expected += photo_electrons
        electrons = rng.poisson(expected)
        for track in cosmic_rays:
            electrons[track[:, 0], track[:, 1]] += track[:, 2]
        signal = self.read_noise_adu * rng.standard_normal(expected.shape, dtype=np.float32)
        signal += self._pattern[window.slices]
        signal += np.float32(bias_adu)
        if mode.em_gain == 1.0:
            signal += electrons
        else:
            # The register's output for n electrons: gamma-distributed, variance n g^2, which
            # doubles the variance of the photon noise (Basden et al. 2003, MNRAS 345, 985).
            y, x = np.nonzero(electrons)
            out = rng.standard_gamma(electrons[y, x].astype(np.float32), dtype=np.float32)
            signal[y, x] += np.float32(mode.adu_per_electron) * out
        return np.clip(np.rint(signal), 0, ADU_MAX).astype(np.uint16)


def draw_bias_levels(rng: np.random.Generator, mode: CameraMode, frames: int) -> np.ndarray:
    """Bias levels (ADU, float64) of consecutive frames: a slow drift and a jitter."""
    drift = np.cumsum(rng.standard_normal(frames)) / 8.0
    return mode.bias_adu + mode.bias_drift_adu * (0.7 * rng.standard_normal(frames) + drift)


def draw_cosmic_rays(rng: np.random.Generator, side_px: int, rate: float) -> list[np.ndarray]:
    """Draw the cosmic rays of a frame.

    Parameters
    ----------
    rng : numpy.random.Generator
    side_px : int
    rate : float
        Expected number in a full detector and frame.

    Returns
    -------
    list of ndarray
        Tracks of rows (y, x, electrons), int64: points and straight tracks.
    """
    tracks = []
    for _ in range(rng.poisson(rate * (side_px / DETECTOR_PX) ** 2)):
        start = rng.uniform(0, side_px, 2)
        length = rng.exponential(4.0) if rng.uniform() < 0.7 else 0.0
        angle = rng.uniform(0.0, 2.0 * pi)
        along = np.arange(0.0, length + 0.5, 0.5)
        y = (start[0] + along * np.sin(angle)).astype(int)
        x = (start[1] + along * np.cos(angle)).astype(int)
        inside = (y >= 0) & (y < side_px) & (x >= 0) & (x < side_px)
        pixels = np.unique(np.stack([y[inside], x[inside]], axis=1), axis=0)
        if pixels.size:
            electrons = rng.lognormal(6.3, 0.5, len(pixels)).astype(int)
            tracks.append(np.column_stack([pixels, electrons]))
    return tracks
