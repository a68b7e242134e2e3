"""What a search finds: a page of rows, and how many there are in all."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from dashboards.collect import read_observation
from dashboards.search_form import PAGE_ROWS, SearchForm, SearchFormError, make_query
from roboao_assets.storage.catalogue import (
    CONTRAST_PIPELINES,
    Catalogue,
    ObservationQuery,
    Reader,
    contrast_field,
    product,
    value_of,
)


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """An observation in the table of results; None where the catalogue does not say.

    Attributes
    ----------
    strehl_percent, strehl_flag, contrast_mag, candidates
        Of the pipeline asked for; the contrast at the separation asked for, the candidates'
        number.
    separation_arcsec : float or None
        From the centre of the cone.
    picture : str
        Key of the thumbnail, empty if there is none.
    version : str
        Of the picture.
    """

    id: str
    name: str
    utc: datetime | None
    night: str
    program: str
    filter_name: str
    exposure_s: float | None
    magnitude: float | None
    radec: tuple[str, str] | None
    azimuth_deg: float | None
    elevation_deg: float | None
    seeing_nearest_arcsec: float | None
    strehl_percent: float | None
    strehl_flag: str
    contrast_mag: float | None
    candidates: int | None
    separation_arcsec: float | None
    picture: str
    version: str


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A page of results.

    Attributes
    ----------
    rows : tuple of SearchRow
    total : int
        Observations that match, on all pages.
    page, pages : int
        From 1; no page is one page.
    took_ms : float
        In the catalogue.
    cone_deg : (float, float, float) or None
        Right ascension, declination, radius: for an object the place that Sesame gave.
    """

    rows: tuple[SearchRow, ...]
    total: int
    page: int
    pages: int
    took_ms: float
    cone_deg: tuple[float, float, float] | None


def run_search(
    catalogue: Catalogue,
    form: SearchForm,
    *,
    reader: Reader | None = None,
    resolve: Callable[[str], tuple[float, float]] | None = None,
) -> SearchResult:
    """Search for what a form asks, as `make_query` reads it.

    Raises
    ------
    SearchFormError
        The form cannot be searched for.
    CatalogueError
        The catalogue cannot.
    """
    query = make_query(form, reader=reader, resolve=resolve)
    start = time.perf_counter()
    documents, total = catalogue.find_page(query)
    took_ms = 1000 * (time.perf_counter() - start)
    pages = max(1, -(-total // PAGE_ROWS))
    page = form.page_number()
    if page > pages:
        raise SearchFormError(
            [f"there is no page {page}: {total} observations were found, on {pages} pages"]
        )
    return SearchResult(
        rows=tuple(_row(document, query) for document in documents),
        total=total,
        page=page,
        pages=pages,
        took_ms=took_ms,
        cone_deg=None if query.cone is None else tuple(query.cone),
    )


def _row(document: Mapping[str, Any], query: ObservationQuery) -> SearchRow:
    observation = read_observation(document)
    pipeline = query.pipeline
    subtracts = pipeline in CONTRAST_PIPELINES
    depth = contrast_field(pipeline, query.contrast_separation_arcsec)
    return SearchRow(
        id=observation.id,
        name=observation.name,
        utc=observation.utc,
        night=observation.night,
        program=observation.program,
        filter_name=observation.filter_name,
        exposure_s=observation.exposure_s,
        magnitude=observation.magnitude,
        radec=observation.radec,
        azimuth_deg=observation.azimuth_deg,
        elevation_deg=observation.elevation_deg,
        seeing_nearest_arcsec=observation.seeing_nearest_arcsec,
        strehl_percent=value_of(document, f"{pipeline}_strehl"),
        strehl_flag=value_of(document, f"{pipeline}_flag") or "",
        contrast_mag=value_of(document, depth) if subtracts else None,
        candidates=value_of(document, f"{pipeline}_candidates") if subtracts else None,
        separation_arcsec=_separation_arcsec(document, query),
        picture=_picture(document, pipeline),
        version=observation.version,
    )


def _separation_arcsec(document: Mapping[str, Any], query: ObservationQuery) -> float | None:
    ra, dec = value_of(document, "ra_rad"), value_of(document, "dec_rad")
    if query.cone is None or ra is None or dec is None:
        return None
    return float(np.degrees(query.separations_rad([ra], [dec])[0])) * 3600


def _picture(document: Mapping[str, Any], wanted: str) -> str:
    """Return the key of the lock star's picture: of the pipeline asked for if it has one."""
    for pipeline in (wanted, "bright_star", "faint_star", "extended_object"):
        if product(document, f"{pipeline}.preview").get("done") is True:
            return f"{document['_id']}/{pipeline}/cropped"
    return ""
