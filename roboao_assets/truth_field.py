"""Recovered against true: the world coordinates of a field of stars."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from roboao_assets.storage.fits_products import read_product_header
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.truth_rows import TruthRow, truth_row

_GOAL_MAS = 20.0
# Each moves a star at the edge of a full frame (18" from its middle) by half of that goal.
_SCALE_GOAL = 5e-4
_TURN_GOAL_DEG = 0.03
_POINTING_GOAL_ARCSEC = 0.1
# What is crowded, faint or at the edge need not be identified.
_MISSED_PART = 0.2
# A detection is of the true star that is nearest, if it is as near as that (stack px).
_SAME_STAR_PX = 8.0


def field_rows(paths: ArchivePaths, night: str, true: Mapping[str, Any]) -> Iterator[TruthRow]:
    """Compare the WCS of the 100 % stack, and the table of its stars, with the true field.

    Parameters
    ----------
    paths : ArchivePaths
    night : str
    true : mapping
        An observation of `truth.json` that has a `sky_field`.
    """
    subject, field = true["id"], true["sky_field"]
    header = read_product_header(paths.stack(night, subject, 100))
    table_file = paths.astrometry(night, subject, "bright_star", "stars.ecsv")
    known = sum(star["in_catalogue"] for star in field["stars"][0:])
    solved = header is not None and header.get("WCSSRC") == "stars" and table_file.exists()
    used = Table.read(table_file) if solved else None
    number = None if used is None else float(used["used"].sum())
    yield truth_row(
        subject, "field stars identified", float(known), number, math.floor(_MISSED_PART * known)
    )
    measured = dict.fromkeys(("stars", "field", "scale", "turn"))
    if header is not None and used is not None:
        measured = _measured(field, header, used)
    for quantity, key in (
        ("field stars as detected, rms an axis (mas)", "stars"),
        ("sky at their true places, rms an axis (mas)", "field"),
    ):
        yield truth_row(subject, quantity, 0.0, measured[key], _GOAL_MAS)
    scale = 1000.0 * field["plate_scale_arcsec"]
    yield truth_row(subject, "plate scale (mas/px)", scale, measured["scale"], _SCALE_GOAL * scale)
    turn = field["y_axis_pa_deg"]
    yield truth_row(subject, "position angle of +y (deg)", turn, measured["turn"], _TURN_GOAL_DEG)
    error = None if used is None else used.meta.get("pointing_error_arcsec")
    true_error = field["pointing_error_arcsec"]
    yield truth_row(subject, "pointing error (arcsec)", true_error, error, _POINTING_GOAL_ARCSEC)


def _measured(field: Mapping[str, Any], header: Any, table: Table) -> dict[str, float | None]:
    wcs = WCS(header)
    x, y, ra, dec = (
        np.array([star[k] for star in field["stars"]]) for k in ("x", "y", "ra_deg", "dec_deg")
    )
    factor = round(field["plate_scale_arcsec"] / header["PIXSCALE"])
    # The stack has the guide star where its header says, and the others beside it.
    x, y = (
        header[lock] + factor * (place - place[0]) for lock, place in (("LOCK_X", x), ("LOCK_Y", y))
    )
    used = table[table["used"]]
    seen_x, seen_y = np.array(used["x"]), np.array(used["y"])
    distance = np.hypot(seen_x[:, None] - x, seen_y[:, None] - y)
    star = distance.argmin(axis=1)
    same = distance.min(axis=1) < _SAME_STAR_PX
    as_detected = _away_mas(wcs, seen_x[same], seen_y[same], ra[star[same]], dec[star[same]])
    middle_x, middle_y = (header["NAXIS1"] - 1) / 2, (header["NAXIS2"] - 1) / 2
    scale, turn = _scale_and_turn(wcs, middle_x, middle_y, factor)
    return {
        # One that is no star of the field has no true place: all that pass for stars must be some.
        "stars": _rms(as_detected) if same.all() else None,
        "field": _rms(_away_mas(wcs, x, y, ra, dec)),
        "scale": 1000.0 * scale,
        "turn": turn,
    }


def _away_mas(
    wcs: WCS, x: NDArray, y: NDArray, ra_deg: NDArray, dec_deg: NDArray
) -> NDArray[np.float64]:
    """How far (east, north) the WCS has pixels from where they look in truth."""
    found_ra, found_dec = wcs.all_pix2world(x, y, 0)
    east = (found_ra - ra_deg + 180.0) % 360.0 - 180.0
    away = np.stack([east * np.cos(np.radians(dec_deg)), found_dec - dec_deg], axis=-1)
    return 3.6e6 * away


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt((values**2).mean()))


def _scale_and_turn(wcs: WCS, x: float, y: float, factor: int) -> tuple[float, float]:
    """Plate scale of a raw pixel (root of its area, arcsec) and position angle of +y (deg)."""
    at = np.array([[x + 1, y], [x - 1, y], [x, y + 1], [x, y - 1]])
    ra, dec = wcs.all_pix2world(at[:, 0], at[:, 1], 0)
    east = 3600.0 * ((ra - ra[0] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec.mean()))
    north = 3600.0 * dec
    along_x = np.array([east[0] - east[1], north[0] - north[1]]) / 2.0
    along_y = np.array([east[2] - east[3], north[2] - north[3]]) / 2.0
    area = abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
    return factor * float(np.sqrt(area)), float(np.degrees(np.arctan2(*along_y)))
