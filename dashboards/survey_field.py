"""An observation's field on the sky: its outline, guide star, stars and companion candidates."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from dashboards.results import Candidate, PipelineResult
from dashboards.viewer_images import celestial_wcs, lock_position
from roboao_assets.storage.fits_products import read_product_header
from roboao_assets.storage.served_files import ServedFile

# The images in which the stars of the field are looked for, the sharpest first.
_IMAGES = ("bright_star/100p.fits", "faint_star/{id}_summed.fits", "bright_star/sum.fits")
_STARS = "bright_star/astrometry/{id}_stars.ecsv"
_MOST_STARS = 2000
# Points of the outline on a side: with distortion it is no square.
_POINTS = 5


@dataclass(frozen=True, kw_only=True)
class SkyMark:
    """A place that is marked.

    Attributes
    ----------
    ra_deg, dec_deg : float
    label : str
    """

    ra_deg: float
    dec_deg: float
    label: str


@dataclass(frozen=True, kw_only=True)
class FieldOnSky:
    """The field of an observation's stack.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Of its middle.
    side_arcsec : float
        Of the smallest square, north up, that holds it.
    outline_deg : ndarray of float64, shape (n, 2)
        Right ascension and declination round the image, closed.
    by_stars : bool
        False: it lies where the telescope was pointed.
    guide_star : SkyMark or None
    stars, candidates : tuple of SkyMark
    """

    ra_deg: float
    dec_deg: float
    side_arcsec: float
    outline_deg: NDArray[np.float64]
    by_stars: bool
    guide_star: SkyMark | None
    stars: tuple[SkyMark, ...]
    candidates: tuple[SkyMark, ...]

    def is_inside(self, wcs: WCS) -> bool:
        """Return whether an image with a `pixel_shape` shows all of the field."""
        if wcs.pixel_shape is None:
            return False
        x, y = pixels_of(wcs, self.outline_deg).T
        width, height = wcs.pixel_shape
        # What is no number is not inside.
        return bool(((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)).all())


def read_field(
    files: Mapping[str, ServedFile], observation: str, results: Sequence[PipelineResult]
) -> FieldOnSky | None:
    """Return an observation's field; None if none of its images has world coordinates.

    Parameters
    ----------
    files : mapping of str to ServedFile
        Of the observation.
    observation : str
    results : sequence of PipelineResult
        Those with companion candidates.
    """
    for pattern in _IMAGES:
        file = files.get(pattern.format(id=observation))
        header = None if file is None else read_product_header(file.path)
        field = None if header is None else _field_of(header, files, observation, results)
        if field is not None:
            return field
    return None


def pixels_of(wcs: WCS, places_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0-based positions (x, y) of places on the sky; NaN behind the projection.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    places_deg : ndarray of float64, shape (n, 2)

    Returns
    -------
    ndarray of float64, shape (n, 2)
    """
    if not len(places_deg):
        return np.empty((0, 2))
    return np.asarray(wcs.celestial.wcs_world2pix(places_deg, 0), dtype=np.float64)


def _field_of(
    header: fits.Header,
    files: Mapping[str, ServedFile],
    observation: str,
    results: Sequence[PipelineResult],
) -> FieldOnSky | None:
    wcs = celestial_wcs(header)
    width, height = header.get("NAXIS1"), header.get("NAXIS2")
    if wcs is None or not width or not height:
        return None
    outline = _outline(wcs, width, height)
    middle = wcs.all_pix2world([[(width - 1) / 2, (height - 1) / 2]], 0)[0]
    if not (np.isfinite(outline).all() and np.isfinite(middle).all()):
        return None
    place = SkyCoord(*middle, unit="deg")
    east, north = place.spherical_offsets_to(SkyCoord(outline, unit="deg"))
    lock = lock_position(header)
    guide = None
    if lock is not None:
        ra, dec = wcs.all_pix2world([lock], 0)[0]
        guide = SkyMark(ra_deg=float(ra), dec_deg=float(dec), label="guide star")
    return FieldOnSky(
        ra_deg=float(place.ra.deg),
        dec_deg=float(place.dec.deg),
        side_arcsec=2 * float(max(np.abs(east.arcsec).max(), np.abs(north.arcsec).max())),
        outline_deg=outline,
        by_stars=header.get("WCSSRC") == "stars",
        guide_star=guide,
        stars=_stars(files.get(_STARS.format(id=observation)), wcs),
        candidates=_candidates(guide, results),
    )


def _outline(wcs: WCS, width: int, height: int) -> NDArray[np.float64]:
    along = np.linspace(0.0, 1.0, _POINTS)
    left, right = np.zeros_like(along), np.ones_like(along)
    x = np.concatenate([along, right, along[::-1], left]) * width - 0.5
    y = np.concatenate([left, along, right, along[::-1]]) * height - 0.5
    return np.asarray(wcs.all_pix2world(np.column_stack([x, y]), 0), dtype=np.float64)


def _stars(file: ServedFile | None, wcs: WCS) -> tuple[SkyMark, ...]:
    """Read the stars that were found in the image; none if there is no table of them."""
    if file is None:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = Table.read(file.path, format="ascii.ecsv")
        x, y, snr = (np.asarray(table[n], dtype=np.float64) for n in ("x", "y", "snr"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    brightest = np.argsort(-snr)[:_MOST_STARS]
    brightest = brightest[np.isfinite(x + y)[brightest]]
    if not len(brightest):
        return ()
    places = wcs.all_pix2world(np.column_stack([x, y])[brightest], 0)
    return tuple(
        SkyMark(ra_deg=float(ra), dec_deg=float(dec), label=f"star, S/N {value:.0f}")
        for (ra, dec), value in zip(places, snr[brightest], strict=True)
        if np.isfinite(ra + dec)
    )


def _candidates(guide: SkyMark | None, results: Sequence[PipelineResult]) -> tuple[SkyMark, ...]:
    """Return the candidates by where they stand from the guide star."""
    if guide is None:
        return ()
    star = SkyCoord(guide.ra_deg, guide.dec_deg, unit="deg")
    found = next((result.candidates for result in results if result.candidates), ())
    return tuple(
        _candidate_mark(star, number, candidate)
        for number, candidate in enumerate(found, start=1)
        if candidate.separation_arcsec is not None and candidate.pa_deg is not None
    )


def _candidate_mark(star: SkyCoord, number: int, candidate: Candidate) -> SkyMark:
    separation, angle = candidate.separation_arcsec, candidate.pa_deg
    there = star.directional_offset_by(angle * u.deg, separation * u.arcsec)
    label = f'candidate {number}: {separation:.2f}", PA {angle:.1f}°'
    return SkyMark(ra_deg=float(there.ra.deg), dec_deg=float(there.dec.deg), label=label)
