"""Reference stars on the sky: their positions at an epoch, and in the plane of a field."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAS = np.radians(1 / 3.6e6)


@dataclass(frozen=True, kw_only=True)
class SkyCatalogue:
    """Stars with known positions (ICRS). All arrays have shape (n,) and are float64.

    Attributes
    ----------
    ra_deg, dec_deg : ndarray
        At `epoch_year`.
    pm_ra_mas_yr, pm_dec_mas_yr : ndarray
        Proper motion, in right ascension times cos(dec) as Gaia gives it; 0 where unknown.
    magnitude : ndarray
        NaN where unknown.
    epoch_year : ndarray
        Julian years.
    source : str
        File or service.
    """

    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    pm_ra_mas_yr: NDArray[np.float64]
    pm_dec_mas_yr: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    epoch_year: NDArray[np.float64]
    source: str = ""

    def __len__(self) -> int:
        """Number of stars."""
        return len(self.ra_deg)

    def select(self, chosen: NDArray) -> "SkyCatalogue":
        """Return the stars `chosen` (indices, or bool for each)."""
        names = ("ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr", "magnitude", "epoch_year")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def at_epoch(self, year: float) -> "SkyCatalogue":
        """Return the stars where they are in `year` (Julian).

        On straight lines in space without radial velocity: rigorous near the poles too. Parallax
        is not applied: below 10 mas for stars beyond 100 pc.
        """
        years = year - self.epoch_year
        ra, dec = np.radians(self.ra_deg), np.radians(self.dec_deg)
        east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
        north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
        vector = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        vector = vector + _MAS * years * (self.pm_ra_mas_yr * east + self.pm_dec_mas_yr * north)
        moved_ra = np.degrees(np.arctan2(vector[1], vector[0])) % 360.0
        moved_dec = np.degrees(np.arctan2(vector[2], np.hypot(vector[0], vector[1])))
        return replace(
            self, ra_deg=moved_ra, dec_deg=moved_dec, epoch_year=np.full_like(moved_ra, year)
        )

    def near(self, ra_deg: float, dec_deg: float, radius_arcsec: float) -> "SkyCatalogue":
        """Return the stars within `radius_arcsec` of a point."""
        ra, dec = np.radians(self.ra_deg - ra_deg), np.radians(self.dec_deg)
        centre = np.radians(dec_deg)
        half = np.sin((dec - centre) / 2) ** 2
        half = half + np.cos(dec) * np.cos(centre) * np.sin(ra / 2) ** 2
        distance = 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
        return self.select(np.degrees(distance) * 3600 <= radius_arcsec)


def project(
    ra_deg: ArrayLike, dec_deg: ArrayLike, centre_ra_deg: float, centre_dec_deg: float
) -> NDArray[np.float64]:
    """Project points of the sky on the plane that touches it at a centre (gnomonic).

    Returns
    -------
    ndarray of float64, shape (n, 2)
        (east, north) in arcsec.

    Notes
    -----
    Calabretta & Greisen 2002, A&A 395, 1077 (doi:10.1051/0004-6361:20021327): TAN.
    """
    ra, dec = np.radians(ra_deg) - np.radians(centre_ra_deg), np.radians(dec_deg)
    centre = np.radians(centre_dec_deg)
    depth = np.sin(centre) * np.sin(dec) + np.cos(centre) * np.cos(dec) * np.cos(ra)
    east = np.cos(dec) * np.sin(ra) / depth
    north = (np.cos(centre) * np.sin(dec) - np.sin(centre) * np.cos(dec) * np.cos(ra)) / depth
    return np.degrees(np.stack([east, north], axis=-1)) * 3600


def deproject(
    offset_arcsec: ArrayLike, centre_ra_deg: float, centre_dec_deg: float
) -> tuple[float, float]:
    """Return the point (ra_deg, dec_deg) of the sky that `project` has at (east, north)."""
    east, north = np.radians(np.asarray(offset_arcsec, dtype=np.float64) / 3600)
    centre = np.radians(centre_dec_deg)
    depth = np.cos(centre) - north * np.sin(centre)
    ra = np.radians(centre_ra_deg) + np.arctan2(east, depth)
    dec = np.arctan2(np.sin(centre) + north * np.cos(centre), np.hypot(east, depth))
    return float(np.degrees(ra) % 360.0), float(np.degrees(dec))
