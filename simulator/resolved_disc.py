"""A resolved object: a limb-darkened disc with spots, known exactly at every spatial frequency."""

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
from scipy.special import j1


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A round Gaussian spot.

    Attributes
    ----------
    x_arcsec, y_arcsec : float
        From the middle of the disc, along the axes of the detector.
    sigma_arcsec : float
    brightness : float
        Of its middle, over the disc's without spots at its middle; negative: dark.
    """

    x_arcsec: float
    y_arcsec: float
    sigma_arcsec: float
    brightness: float


@dataclass(frozen=True, kw_only=True)
class Disc:
    """Brightness ``1 - u (1 - mu)`` within the limb, ``mu = sqrt(1 - (r / R)^2)``, plus the spots.

    Attributes
    ----------
    diameter_arcsec : float
    limb_darkening : float
        u: 0 is a uniform disc, 1 one that is black at the limb.
    spots : tuple of Spot
        Well within the limb: their wings are not cut off there.
    """

    diameter_arcsec: float
    limb_darkening: float = 0.0
    spots: tuple[Spot, ...] = ()

    def _light_arcsec2(self) -> float:
        # Integral of the brightness.
        disc = pi * (self.diameter_arcsec / 2.0) ** 2 * (1.0 - self.limb_darkening / 3.0)
        return disc + sum(2.0 * pi * s.sigma_arcsec**2 * s.brightness for s in self.spots)

    def peak_fraction(self, pixel_arcsec: float) -> float:
        """Part of the light in the brightest pixel, at most."""
        peak = 1.0 + sum(max(s.brightness, 0.0) for s in self.spots)
        return peak * pixel_arcsec**2 / self._light_arcsec2()

    def transfer(self, fy: np.ndarray, fx: np.ndarray, pixel_arcsec: float) -> np.ndarray:
        """Fourier transform, 1 at the origin.

        Parameters
        ----------
        fy, fx : ndarray
            Frequencies (cycles a pixel) along y and x.
        pixel_arcsec : float

        Returns
        -------
        ndarray
            complex64, (y, x).
        """
        y, x = fy[:, None] / pixel_arcsec, fx[None, :] / pixel_arcsec
        frequency = np.hypot(y, x)
        radius = self.diameter_arcsec / 2.0
        k = np.maximum(2.0 * pi * radius * frequency, 1e-3)
        # Of a uniform disc and of mu.
        flat = 2.0 * pi * j1(k) / k
        domed = 2.0 * pi * (np.sin(k) - k * np.cos(k)) / k**3
        total = radius**2 * ((1.0 - self.limb_darkening) * flat + self.limb_darkening * domed)
        total = total.astype(np.complex128)
        for spot in self.spots:
            light = 2.0 * pi * spot.sigma_arcsec**2 * spot.brightness
            blur = np.exp(-2.0 * (pi * spot.sigma_arcsec * frequency) ** 2)
            place = np.exp(-2j * pi * (y * spot.y_arcsec + x * spot.x_arcsec))
            total += light * blur * place
        return (total / self._light_arcsec2()).astype(np.complex64)

    def truth(self) -> dict[str, Any]:
        """The disc as `truth.json` has it."""
        return {
            "diameter_arcsec": self.diameter_arcsec,
            "limb_darkening": self.limb_darkening,
            "spots": [
                {
                    "x_arcsec": s.x_arcsec,
                    "y_arcsec": s.y_arcsec,
                    "sigma_arcsec": s.sigma_arcsec,
                    "brightness": s.brightness,
                }
                for s in self.spots
            ],
        }
