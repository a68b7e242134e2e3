"""Strehl ratios over the whole archive: what is plotted, as columns, and its robust trend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from dashboards.search_form import SearchForm, make_query
from roboao_assets.storage.catalogue import FAINT_CLASSES, Catalogue, Reader

_COLUMNS = (
    "id", "date_utc", "filter", "magnitude", "elevation_rad", "seeing_nearest", "seeing_median",
    "bright_star_class", "bright_star_strehl", "bright_star_flag",
    "faint_star_strehl", "faint_star_flag",
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Against what the Strehl ratio is plotted.
QUANTITIES = ("seeing_arcsec", "magnitude", "elevation_deg", "time_ms")


@dataclass(frozen=True, kw_only=True)
class Trends:
    """Measured Strehl ratios and what they may depend on, an element an observation.

    Attributes
    ----------
    ids, filters : tuple of str
    time_ms : ndarray of float64, shape (n,)
        Since 1970 (UTC). NaN, here and below: not known.
    strehl_percent, seeing_arcsec, magnitude, elevation_deg : ndarray of float64, shape (n,)
        Strehl ratios of the leading pipeline: the faint-star one for faint stars that it
        measured. The seeing nearest in time, else the night's median.
    flagged : ndarray of bool, shape (n,)
        The measurement says of itself that it may be bad.
    total : int
        Observations that were chosen, measured or not.
    """

    ids: tuple[str, ...]
    filters: tuple[str, ...]
    time_ms: NDArray[np.float64]
    strehl_percent: NDArray[np.float64]
    seeing_arcsec: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    elevation_deg: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    total: int


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Median and quartiles in bins of equal numbers; x is the median of the bin."""

    x: NDArray[np.float64]
    lower: NDArray[np.float64]
    median: NDArray[np.float64]
    upper: NDArray[np.float64]


def collect_trends(catalogue: Catalogue, form: SearchForm, reader: Reader | None) -> Trends:
    """Read the columns of the observations that a search means, all of them.

    Parameters
    ----------
    catalogue : Catalogue
    form : SearchForm
        As on the search page; its order and page mean nothing here, nor does its pipeline.
    reader : Reader or None
        Who asks, if they may not see everything.

    Raises
    ------
    SearchFormError
        The form means nothing.
    CatalogueError
        The catalogue cannot be read.
    """
    query = make_query(form, reader=reader)
    query = replace(query, sort=("date_utc", True), skip=0, limit=0)
    rows = catalogue.find_fields(query, _COLUMNS)
    measured = [kept for row in rows if (kept := _measured(row)) is not None]
    columns = list(zip(*measured, strict=True)) or [()] * 8
    ids, filters, time_ms, strehl, seeing, magnitude, elevation, flagged = columns
    return Trends(
        ids=tuple(ids),
        filters=tuple(filters),
        time_ms=np.array(time_ms, float),
        strehl_percent=np.array(strehl, float),
        seeing_arcsec=np.array(seeing, float),
        magnitude=np.array(magnitude, float),
        elevation_deg=np.array(elevation, float),
        flagged=np.array(flagged, bool),
        total=len(rows),
    )


def _measured(row: Sequence[object]) -> tuple[object, ...] | None:
    """Return an observation's row of columns; None if there is no Strehl ratio."""
    (identifier, utc, filter_name, magnitude, elevation_rad, nearest, median,
     star_class, strehl, flag, faint_strehl, faint_flag) = row  # fmt: skip
    if star_class in FAINT_CLASSES and faint_strehl is not None:
        strehl, flag = faint_strehl, faint_flag
    if strehl is None or not math.isfinite(strehl):  # type: ignore[arg-type]
        return None
    return (
        identifier,
        filter_name or "",
        (utc - _EPOCH).total_seconds() * 1e3 if isinstance(utc, datetime) else math.nan,
        strehl,
        _number(median if nearest is None else nearest),
        _number(magnitude),
        math.degrees(_number(elevation_rad)),
        flag != "OK",
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def robust_trend(
    x: NDArray[np.float64], y: NDArray[np.float64], *, bins: int = 12, least: int = 10
) -> Trend | None:
    """Return the median of y in bins of x that hold equally many points.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        Where either is not finite the point is left out.
    bins : int
        At most so many.
    least : int
        Points in a bin; fewer points make fewer bins.

    Returns
    -------
    Trend or None
        None if there are not points for two bins.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    bins = min(bins, len(x) // least)
    if bins < 2:
        return None
    order = np.argsort(x, kind="stable")
    parts = np.array_split(order, bins)
    quartiles = np.array([np.percentile(y[part], (25, 50, 75)) for part in parts])
    lower, median, upper = quartiles.T
    return Trend(
        x=np.array([np.median(x[part]) for part in parts]), lower=lower, median=median, upper=upper
    )
