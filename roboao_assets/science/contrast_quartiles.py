"""What the contrast curves of a night have in common: median and quartiles by filter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class NightCurve:
    """The contrast curve of one observation; both sequences have shape (n,)."""

    filter_name: str
    separation_arcsec: Sequence[float | None]
    contrast_mag: Sequence[float | None]

    def finite_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the points that have both values, by increasing separation."""
        return finite_points(self.separation_arcsec, self.contrast_mag)


@dataclass(frozen=True, kw_only=True)
class ContrastQuartiles:
    """What the contrast curves of a night in one filter have in common.

    Attributes
    ----------
    separation_arcsec : ndarray of float, shape (n,)
    lower_mag, median_mag, upper_mag : ndarray of float, shape (n,)
        Lower quartile (the shallow side), median and upper quartile of the curves there.
    curves : ndarray of int, shape (n,)
        How many curves reach that separation.
    total : int
        How many curves there are.
    """

    separation_arcsec: NDArray[np.float64]
    lower_mag: NDArray[np.float64]
    median_mag: NDArray[np.float64]
    upper_mag: NDArray[np.float64]
    curves: NDArray[np.int64]
    total: int


def quartiles_by_filter(curves: Sequence[NightCurve]) -> dict[str, ContrastQuartiles]:
    """Median and quartiles of each filter's curves, filters in alphabetical order.

    Curves with fewer than two finite points are left out, and filters whose curves have no
    separation in common.
    """
    usable = [(curve.filter_name, *curve.finite_points()) for curve in curves]
    usable = [item for item in usable if item[1].size >= 2]
    found = {
        name: contrast_quartiles([(x, y) for other, x, y in usable if other == name])
        for name in sorted({item[0] for item in usable})
    }
    return {name: quartiles for name, quartiles in found.items() if quartiles is not None}


def contrast_quartiles(
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], *, points: int = 100
) -> ContrastQuartiles | None:
    """Median and quartiles of contrast curves on a common grid of separations.

    Parameters
    ----------
    curves : sequence of (separation arcsec, contrast mag), each of shape (n,)
        At least one. Finite; separations increase.
    points : int
        Points of the grid, from the least to the greatest separation of all curves.

    Returns
    -------
    ContrastQuartiles or None
        At the separations of the grid that at least half of the curves reach: where one
        or two of many go on alone, the median would jump to theirs. None if there is no such
        separation.
    """
    low = min(float(separation[0]) for separation, _ in curves)
    high = max(float(separation[-1]) for separation, _ in curves)
    grid = np.linspace(low, high, points)
    table = np.array(
        [
            np.interp(grid, separation, contrast, left=np.nan, right=np.nan)
            for separation, contrast in curves
        ]
    )
    reaching = np.isfinite(table).sum(axis=0)
    enough = 2 * reaching >= len(curves)
    if not enough.any():
        return None
    lower, median, upper = np.nanpercentile(table[:, enough], (25.0, 50.0, 75.0), axis=0)
    return ContrastQuartiles(
        separation_arcsec=grid[enough],
        lower_mag=lower,
        median_mag=median,
        upper_mag=upper,
        curves=reaching[enough],
        total=len(curves),
    )


def finite_points(
    separation_arcsec: Sequence[float | None] | NDArray[np.floating],
    contrast_mag: Sequence[float | None] | NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a contrast curve's finite points by separation; None, as catalogues have, is none."""
    separation = np.asarray(separation_arcsec, dtype=np.float64)
    contrast = np.asarray(contrast_mag, dtype=np.float64)
    good = np.isfinite(separation) & np.isfinite(contrast)
    order = np.argsort(separation[good], kind="stable")
    return separation[good][order], contrast[good][order]
