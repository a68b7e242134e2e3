"""Telescope optics: the aperture, its aberrations, and images at the detector's sampling.

A grid of `grid_px` detector pixels has the angular size `grid_px` times the plate scale;
the aperture is sampled so that the discrete Fourier transform of its field is the image at
that scale. Images are periodic over the grid, have their origin in element [0, 0] and, as
long as the plate scale samples the diffraction limit, lose nothing by the sampling: any
sub-pixel shift, pixel integration or finer sampling is then exact, through the optical
transfer function.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, pi

import numpy as np
import scipy.fft
from scipy.ndimage import maximum_filter

from roboao_assets.science.instrument import InstrumentProfile
from simulator.atmosphere import ARCSEC_RAD

# Half-width and step (raw px) of the patch round a star in which its peak is looked for.
PATCH_HALF_PX = 3.0
PATCH_STEP_PX = 0.125


@dataclass(frozen=True, kw_only=True)
class Optics:
    """A telescope aperture in one wavelength, sampled for one detector.

    Attributes
    ----------
    wavelength_nm, plate_scale_arcsec : float
    primary_diameter_m, secondary_diameter_m : float
    grid_px : int
        Side of the images (raw px).
    box_arcsec : float
        Side of the box in which the flux of a Strehl ratio is summed.
    """

    wavelength_nm: float
    plate_scale_arcsec: float
    primary_diameter_m: float
    secondary_diameter_m: float
    grid_px: int
    box_arcsec: float = 3.0

    @classmethod
    def of_profile(cls, profile: InstrumentProfile, filter_name: str, grid_px: int) -> "Optics":
        """The optics of an instrument profile in a filter."""
        return cls(
            wavelength_nm=profile.filter(filter_name).wavelength_nm,
            plate_scale_arcsec=profile.plate_scale_arcsec,
            primary_diameter_m=profile.primary_diameter_m,
            secondary_diameter_m=profile.secondary_diameter_m,
            grid_px=grid_px,
            box_arcsec=profile.strehl_flux_box_arcsec,
        )

    @property
    def resolution_px(self) -> float:
        """Diffraction limit, lambda / D, in raw px."""
        return self.wavelength_nm * 1e-9 / self.primary_diameter_m / self.pixel_rad

    @property
    def pixel_rad(self) -> float:
        """A raw pixel on the sky (rad)."""
        return self.plate_scale_arcsec * ARCSEC_RAD

    @property
    def oversampling(self) -> int:
        """Samples a raw pixel, per axis, that the diffraction limit needs."""
        # The transfer function is below 1e-3 in the last 3 % before its cut-off.
        return ceil(2.0 * 0.97 / self.resolution_px)

    @property
    def fine_px(self) -> int:
        """Side of the images in samples."""
        return self.grid_px * self.oversampling

    @property
    def aperture_pixel_m(self) -> float:
        """Sampling of the aperture."""
        return self.wavelength_nm * 1e-9 / (self.grid_px * self.pixel_rad)

    @cached_property
    def aperture(self) -> np.ndarray:
        """Transmission (float32, (y, x)) of the aperture, grey at its edges."""
        side = ceil(self.primary_diameter_m / self.aperture_pixel_m) + 2
        parts = 8
        axis = (np.arange(side * parts) + 0.5) / parts - side / 2.0
        radius = np.hypot(axis[:, None], axis[None, :]) * self.aperture_pixel_m
        clear = (radius <= self.primary_diameter_m / 2) & (radius >= self.secondary_diameter_m / 2)
        blocks = clear.reshape(side, parts, side, parts).mean(axis=(1, 3))
        return blocks.astype(np.float32)

    @cached_property
    def radius_and_angle(self) -> tuple[np.ndarray, np.ndarray]:
        """Polar coordinates over the aperture (radius 1 at the edge of the primary; rad)."""
        side = self.aperture.shape[0]
        axis = (np.arange(side) + 0.5 - side / 2.0) * 2.0
        axis *= self.aperture_pixel_m / self.primary_diameter_m
        x, y = np.meshgrid(axis, axis)
        return np.hypot(x, y), np.arctan2(y, x)

    @cached_property
    def _tilt_planes(self) -> tuple[np.ndarray, np.ndarray]:
        # Tip and tilt, orthonormal when weighted by the transmission, and their projectors.
        radius, angle = self.radius_and_angle
        planes = np.stack([radius * np.cos(angle), radius * np.sin(angle)])
        planes /= np.sqrt((planes**2 * self.aperture).sum(axis=(1, 2), keepdims=True))
        planes = planes.reshape(2, -1).astype(np.float32)
        return planes, planes * self.aperture.ravel()

    def remove_tilt(self, phase: np.ndarray) -> np.ndarray:
        """Return `phase` (rad, (y, x)) without its mean tip and tilt over the aperture."""
        planes, projectors = self._tilt_planes
        flat = phase.ravel()
        return (flat - (projectors @ flat) @ planes).reshape(phase.shape)

    def tilt_phase(self, x: float, y: float) -> np.ndarray:
        """Phase (rad, float32, (y, x)) that moves an image by (x, y) raw px."""
        steps = np.arange(self.aperture.shape[0]) * (2.0 * pi / self.grid_px)
        return (steps[:, None] * y + steps[None, :] * x).astype(np.float32)

    def mean_transfer(self, phases: Iterable[np.ndarray]) -> np.ndarray:
        """Optical transfer function of the mean of the images of several phases.

        Parameters
        ----------
        phases : iterable of ndarray
            Phases over the aperture (rad, float32, (y, x)).

        Returns
        -------
        ndarray
            complex64, the half plane of `scipy.fft.rfft2`, 1 at the origin.
        """
        side, fine = self.aperture.shape[0], self.fine_px
        image = np.zeros((fine, fine), dtype=np.float32)
        field = np.zeros((side, side), dtype=np.complex64)
        for phase in phases:
            np.multiply(np.cos(phase), self.aperture, out=field.real)
            np.multiply(np.sin(phase), self.aperture, out=field.imag)
            rows = scipy.fft.fft(field, n=fine, axis=1)
            amplitude = scipy.fft.fft(rows, n=fine, axis=0, overwrite_x=True)
            image += amplitude.real**2
            image += amplitude.imag**2
        transfer = scipy.fft.rfft2(image)
        return transfer / transfer[0, 0].real

    @cached_property
    def perfect_transfer(self) -> np.ndarray:
        """Optical transfer function of the diffraction limit."""
        return self.mean_transfer(np.zeros((1, *self.aperture.shape), dtype=np.float32))

    @cached_property
    def frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies of a transfer function (cycles a raw px): along y, and along x (half)."""
        pitch = 1.0 / self.oversampling
        return np.fft.fftfreq(self.fine_px, pitch), np.fft.rfftfreq(self.fine_px, pitch)

    @cached_property
    def _half_plane_weight(self) -> np.ndarray:
        weight = np.full(self.fine_px // 2 + 1, 2.0)
        weight[0] = 1.0
        if self.fine_px % 2 == 0:
            weight[-1] = 1.0
        return weight

    def moved(self, transfer: np.ndarray, x: float, y: float) -> np.ndarray:
        """The transfer function of an image moved by (x, y) raw px."""
        fy, fx = self.frequencies
        ramp = np.exp(-2j * pi * fy * y)[:, None] * np.exp(-2j * pi * fx * x)[None, :]
        return transfer * ramp.astype(np.complex64)

    def pixel_image(
        self, transfer: np.ndarray, stars: list[tuple[float, float, float]]
    ) -> np.ndarray:
        """Image of stars integrated over raw pixels.

        Parameters
        ----------
        transfer : ndarray
            As from `mean_transfer`.
        stars : list of (float, float, float)
            x, y (raw px from element [0, 0], periodic) and flux.

        Returns
        -------
        ndarray
            float32 (y, x), `grid_px` a side, in the units of the fluxes; never negative.
        """
        fy, fx = self.frequencies
        pattern = np.zeros(transfer.shape, dtype=np.complex128)
        for x, y, flux in stars:
            row = flux * np.exp(-2j * pi * fx * x)
            pattern += np.exp(-2j * pi * fy * y)[:, None] * row[None, :]
        pattern *= np.sinc(fy)[:, None] * np.sinc(fx)[None, :]
        spectrum = (pattern * transfer).astype(np.complex64)
        image = scipy.fft.irfft2(spectrum, s=(self.fine_px, self.fine_px), overwrite_x=True)
        step = self.oversampling
        return np.maximum(image[::step, ::step] * step**2, 0.0, dtype=np.float32)

    def patch(self, transfer: np.ndarray, x: float, y: float) -> np.ndarray:
        """Surface brightness (1 / raw px^2) in steps of `PATCH_STEP_PX` round (x, y)."""
        fy, fx = self.frequencies
        offsets = np.arange(-PATCH_HALF_PX, PATCH_HALF_PX + 1e-9, PATCH_STEP_PX)
        rows = np.exp(2j * pi * np.outer(y + offsets, fy)).astype(np.complex64)
        columns = np.exp(2j * pi * np.outer(x + offsets, fx)) * self._half_plane_weight
        values = (rows @ transfer) @ columns.T.astype(np.complex64)
        return values.real / self.grid_px**2

    def box_flux(self, transfer: np.ndarray, x: float, y: float) -> float:
        """Part of a star's light in the flux box centred at (x, y) from the star."""
        fy, fx = self.frequencies
        side = self.box_arcsec / self.plate_scale_arcsec
        row = np.exp(2j * pi * fy * y) * np.sinc(side * fy) * side
        column = np.exp(2j * pi * fx * x) * np.sinc(side * fx) * side * self._half_plane_weight
        return float((row @ transfer @ column).real / self.grid_px**2)

    def find_core(self, transfer: np.ndarray, x: float, y: float) -> tuple[float, float, float]:
        """Find the core of an image near (x, y).

        Returns
        -------
        (float, float, float)
            Offset (x, y) from the given position, at most `PATCH_HALF_PX`: where the image
            convolved with the diffraction limit peaks. The height of the next peak as a part
            of the highest: near 1, the position is ambiguous; 0 if there is no other.
        """
        matched = self.patch(transfer * self.perfect_transfer.conj(), x, y)
        row, column = _brightest(matched)
        middle = (matched.shape[0] - 1) / 2.0
        summits = matched == maximum_filter(matched, size=3)
        summits[row, column] = False
        others = matched[1:-1, 1:-1][summits[1:-1, 1:-1]]
        return (
            (column - middle + _vertex(matched[row], column)) * PATCH_STEP_PX,
            (row - middle + _vertex(matched[:, column], row)) * PATCH_STEP_PX,
            float(others.max() / matched[row, column]) if others.size else 0.0,
        )

    @cached_property
    def perfect_peak_to_flux(self) -> float:
        """Peak of the diffraction limit (1 / raw px^2) over its flux in the box."""
        peak = float(self.patch(self.perfect_transfer, 0.0, 0.0).max())
        return peak / self.box_flux(self.perfect_transfer, 0.0, 0.0)

    def strehl_percent(self, patch: np.ndarray, box_flux: float) -> float:
        """Strehl ratio of a patch's peak over a flux, against the diffraction limit."""
        return 100.0 * peak_of(patch) / box_flux / self.perfect_peak_to_flux


def _brightest(patch: np.ndarray) -> tuple[int, int]:
    return divmod(int(np.argmax(patch)), patch.shape[1])


def _vertex(line: np.ndarray, at: int) -> float:
    # Where the parabola through the maximum and its neighbours peaks, in samples from `at`.
    if not 0 < at < line.size - 1:
        return 0.0
    curvature = float(2.0 * line[at] - line[at + 1] - line[at - 1])
    return float(line[at + 1] - line[at - 1]) / (2.0 * curvature) if curvature > 0.0 else 0.0


def peak_of(patch: np.ndarray) -> float:
    """Maximum of a finely sampled patch, refined by a parabola along each axis."""
    y, x = _brightest(patch)
    peak = float(patch[y, x])
    gain = 0.0
    for line, at in ((patch[y], x), (patch[:, x], y)):
        if 0 < at < line.size - 1:
            gain += _vertex(line, at) * float(line[at + 1] - line[at - 1]) / 4.0
    return peak + gain
