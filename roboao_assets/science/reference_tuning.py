"""How many references and components: the choice that would show a companion best.

Companions are injected, on paper, round the star; of every choice the signal-to-noise of
what it leaves of them is told, and the best one wins. Too few references or components leave
speckles, too many take the companion off with them or model the noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.companion_response import aperture_kernel, star_flux
from roboao_assets.science.contrast import measure_noise
from roboao_assets.science.rdi_pca import (
    PrincipalComponents,
    principal_components,
    reference_rows,
)

# Tried, where there are as many.
REFERENCE_NUMBERS = (1, 2, 3, 5, 8, 12)
COMPONENT_NUMBERS = (1, 2, 3, 5, 8, 12, 16, 20)
# Choices that differ by less are equally good.
_EQUAL_MAG = 0.01
# Directions in which companions are injected at each radius.
_DIRECTIONS = 12


@dataclass(frozen=True, kw_only=True)
class TunedSubtraction:
    """A choice of references and components.

    Attributes
    ----------
    references : int
        So many of the best correlated ones.
    components : PrincipalComponents
    gain_mag : float
        How much fainter companions are seen with it than with one component of the best
        reference.
    """

    references: int
    components: PrincipalComponents
    gain_mag: float


def tune_subtraction(
    frame: NDArray[np.floating],
    references: NDArray[np.floating],
    modes: Sequence[NDArray[np.floating]],
    *,
    fwhm_px: float,
    annulus_px: tuple[float, float],
    reference_numbers: Sequence[int] = REFERENCE_NUMBERS,
    component_numbers: Sequence[int] = COMPONENT_NUMBERS,
    pca_annulus_px: float = 0.0,
) -> TunedSubtraction:
    """Choose the numbers of references and components by injected companions.

    Parameters
    ----------
    frame : ndarray, shape (2 h + 1, 2 h + 1)
        Prepared science frame, the star on the central pixel.
    references : ndarray, shape (n, 2 h + 1, 2 h + 1)
        Prepared frames of other stars, best correlated first.
    modes : sequence of n ndarrays, shape (k_i, 2 h + 1, 2 h + 1)
        Their `principal_modes`.
    fwhm_px : float
        Size of a resolution element.
    annulus_px : tuple of float
        Radii between which companions are injected.
    reference_numbers, component_numbers : sequence of int
        To be tried. Numbers that cannot be had are left out; one alone is no choice.
    pca_annulus_px : float
        See `principal_components`.

    Returns
    -------
    TunedSubtraction
        Of those within a hundredth of a magnitude of the best, that with the fewest
        references, then components.
    """
    trial = _Trial.of(frame, fwhm_px, annulus_px)
    tried = [
        (trial.depth_mag(components), number, components)
        for number, components in _choices(
            references, modes, reference_numbers, component_numbers, frame.shape, pca_annulus_px
        )
    ]
    best = max(depth for depth, _, _ in tried)
    depth, number, components = next(t for t in tried if t[0] >= best - _EQUAL_MAG)
    gain = depth - tried[0][0]
    return TunedSubtraction(
        references=number, components=components, gain_mag=gain if np.isfinite(gain) else 0.0
    )


def _choices(
    references: NDArray[np.floating],
    modes: Sequence[NDArray[np.floating]],
    reference_numbers: Sequence[int],
    component_numbers: Sequence[int],
    shape: tuple[int, int],
    pca_annulus_px: float,
) -> Iterator[tuple[int, PrincipalComponents]]:
    for number in sorted({min(n, len(references)) for n in reference_numbers}):
        rows = reference_rows(references[:number], modes[:number])
        most = principal_components(rows, max(component_numbers), shape, annulus_px=pca_annulus_px)
        for count in sorted({min(k, most.number) for k in component_numbers}):
            yield number, most.strongest(count)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Companions injected round a star, in the form in which every subtraction is tried."""

    star: NDArray[np.float64]
    flux: float
    fwhm_px: float
    radius_px: NDArray[np.float64]
    companions: NDArray[np.float64]
    apertures: NDArray[np.float64]

    @classmethod
    def of(
        cls, frame: NDArray[np.floating], fwhm_px: float, annulus_px: tuple[float, float]
    ) -> "_Trial":
        star = np.asarray(frame, dtype=np.float64)
        half = star.shape[0] // 2
        inner, outer = annulus_px
        steps = max(2, round((outer - inner) / fwhm_px) + 1)
        radius = np.linspace(inner, max(outer, inner), steps)
        angle = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
        # Whole pixels: what a subtraction leaves hardly depends on a part of one.
        dx, dy = (
            np.rint(np.outer(radius, turn(angle))).astype(int).ravel() for turn in (np.cos, np.sin)
        )
        kernel = aperture_kernel(fwhm_px)
        aperture = np.zeros_like(star)
        middle = slice(half - kernel.shape[0] // 2, half + kernel.shape[0] // 2 + 1)
        aperture[middle, middle] = kernel
        return cls(
            star=star,
            flux=star_flux(star, fwhm_px),
            fwhm_px=fwhm_px,
            radius_px=radius,
            companions=_shifted(star, dx, dy),
            apertures=_shifted(aperture, dx, dy),
        )

    def depth_mag(self, components: PrincipalComponents) -> float:
        """Mean, over the radii, of the contrast (mag) of a companion as bright as the noise."""
        vectors = components.vectors
        lost = ((self.companions @ vectors.T) * (self.apertures @ vectors.T)).sum(axis=1)
        throughput = (1.0 - lost / self.flux).reshape(len(self.radius_px), -1).mean(axis=1)
        noise, _ = measure_noise(components.subtract(self.star), self.fwhm_px, self.radius_px)
        if not (throughput > 0).all() or not (noise > 0).all():
            return -np.inf
        return float(np.mean(2.5 * np.log10(throughput * self.flux / noise)))


def _shifted(
    image: NDArray[np.float64], dx: NDArray[np.int64], dy: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Copies of the image moved by whole pixels, flattened; what comes from outside is zero."""
    reach = int(max(np.abs(dx).max(), np.abs(dy).max()))
    padded = np.pad(image, reach)
    height, width = image.shape
    return np.array(
        [
            padded[reach - y : reach - y + height, reach - x : reach - x + width].ravel()
            for x, y in zip(dx, dy, strict=True)
        ]
    )
