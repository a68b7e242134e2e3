"""The archive's images as rows of the IVOA's ObsCore 1.1, from the catalogue alone.

A row is an image of an observation: of a faint star the faint-star stack, else the bright-star
stacks; of a resolved object its stack and what was deconvolved from it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from astropy.coordinates import FK5, SkyCoord

from roboao_assets.science.errors import SettingsError, UnknownInstrumentError
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.storage.catalogue import (
    Catalogue,
    ObservationQuery,
    leading_pipeline,
    open_catalogue,
    product,
)
from roboao_assets.storage.obscore import write_obscore
from roboao_assets.storage.settings import Settings

_UNIX_EPOCH_MJD = 40587.0
_DAY_S = 86400.0
# Of the recommendation: calibrated; drizzled or otherwise resampled; what an analysis has made.
_CALIBRATED, _ENHANCED, _ANALYSED = 2, 3, 4


def export_obscore(
    settings: Settings,
    path: Path,
    nights: Sequence[str] | None = None,
    *,
    only_distributed: bool = True,
) -> int:
    """Write the table of ObsCore of the archive, or of some nights; return the number of rows.

    Raises
    ------
    SettingsError
        If there is no authority for the identifiers.
    ObsCoreError
        If `path` does not say in which format.
    """
    if not settings.distribution.authority:
        raise SettingsError(
            "an ObsCore table names its data sets ivo://<authority>/..., and the setting "
            "distribution.authority is empty: set ROBOAO_DISTRIBUTION__AUTHORITY to the authority "
            "that is registered with the Virtual Observatory"
        )
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        documents = _documents(catalogue, nights, only_distributed)
        return write_obscore(path, obscore_rows(settings, documents))


def _documents(
    catalogue: Catalogue, nights: Sequence[str] | None, only_distributed: bool
) -> Iterator[dict[str, Any]]:
    """A night's documents at a time, in time order, without their headers."""
    if nights is None:
        nights = [summary.night for summary in catalogue.nights()]
    for night in sorted(set(nights)):
        yield from catalogue.find_observations(
            ObservationQuery(
                nights=(night,), summary_only=True, distributed=True if only_distributed else None
            )
        )


def obscore_rows(
    settings: Settings, documents: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of observations, by the names of `roboao_assets.storage.obscore.COLUMNS`.

    What is not known is None.
    """
    for document in documents:
        images = list(_images(document))
        if images:
            common = _common(settings, document)
            for image in images:
                yield {**common, **_of_image(settings, document, image)}


@dataclass(frozen=True, kw_only=True)
class _Image:
    """An image among the products of an observation."""

    path: str
    size_bytes: int
    pipeline: str
    calib_level: int
    drizzled: bool
    part: float
    measured: bool
    whole_field: bool


def _images(document: Mapping[str, Any]) -> Iterator[_Image]:
    for pipeline in dict.fromkeys((leading_pipeline(document), "extended_object")):
        record = product(document, pipeline)
        if (record.get("status") or {}).get("done") is not True:
            continue
        for entry in record.get("products") or ():
            image = _image(pipeline, str(entry[0]), int(entry[1]))
            if image is not None:
                yield image


def _image(pipeline: str, path: str, size_bytes: int) -> _Image | None:
    """What a product is by its name; None if it is no image of the sky to be looked for."""
    stem, _, ending = path.rsplit("/", 1)[-1].rpartition(".")
    if ending != "fits":
        return None
    percent = stem.removesuffix("p")
    kind = stem if pipeline == "bright_star" else stem.rpartition("_")[2]
    if pipeline == "bright_star" and percent != stem and percent.isdigit():
        level, part = _ENHANCED, int(percent) / 100
    elif (pipeline, kind) in (("faint_star", "summed"), ("extended_object", "stack")):
        level, part = _ENHANCED, 1.0
    elif (pipeline, kind) in (("bright_star", "sum"), ("faint_star", "sum")):
        level, part = _CALIBRATED, 1.0
    elif (pipeline, kind) == ("extended_object", "deconvolved"):
        level, part = _ANALYSED, 1.0
    else:
        return None
    return _Image(
        path=path,
        size_bytes=size_bytes,
        pipeline=pipeline,
        calib_level=level,
        drizzled=level == _ENHANCED,
        part=part,
        measured=kind in ("100p", "summed"),
        whole_field=pipeline != "extended_object",
    )


def _common(settings: Settings, document: Mapping[str, Any]) -> dict[str, Any]:
    utc = document.get("date_utc")
    exposure_s = _number(document.get("exposure"))
    start = None if not isinstance(utc, datetime) else _mjd(utc)
    row: dict[str, Any] = {
        "dataproduct_type": "image",
        "obs_collection": settings.distribution.collection,
        "obs_id": document["_id"],
        "access_format": "image/fits",
        "target_name": document.get("name"),
        "t_min": start,
        "t_max": start if start is None or exposure_s is None else start + exposure_s / _DAY_S,
        "t_xel": 1,
        "em_xel": 1,
        "pol_xel": 0,
        "o_ucd": "phot.count",
        "facility_name": document.get("telescope"),
        "instrument_name": document.get("camera"),
    }
    profile = _profile(settings, document)
    if profile is not None:
        row |= {"facility_name": profile.telescope, "instrument_name": profile.camera}
        row |= _band(profile, str(document.get("filter")))
    return row | _place(document, profile)


def _of_image(settings: Settings, document: Mapping[str, Any], image: _Image) -> dict[str, Any]:
    options = settings.distribution
    exposure_s = _number(document.get("exposure"))
    place = quote(image.path)
    if options.base_url:
        url = f"{options.base_url.rstrip('/')}/{place}"
    else:
        url = f"{settings.archive_root.absolute().as_uri()}/{place}"
    record = product(document, image.pipeline)
    taken, used = _number(record.get("frames")), _number(record.get("frames_used"))
    share = image.part * (used / taken if taken and used is not None else 1.0)
    fwhm_arcsec = _number(product(document, f"{image.pipeline}.strehl").get("fwhm_arcsec"))
    row = {
        "calib_level": image.calib_level,
        "obs_publisher_did": f"ivo://{options.authority}/{quote(options.collection)}?{place}",
        "access_url": url,
        "access_estsize": math.ceil(image.size_bytes / 1000),
        "s_resolution": fwhm_arcsec if image.measured else None,
        "t_exptime": None if exposure_s is None else exposure_s * share,
    }
    if not image.whole_field:
        return {**row, "s_fov": None, "s_region": None}
    return row | _size(settings, document, image)


def _size(settings: Settings, document: Mapping[str, Any], image: _Image) -> dict[str, Any]:
    shape = product(document, "bright_star.astrometry").get("raw_shape_px")
    profile = _profile(settings, document)
    if not isinstance(shape, list) or len(shape) != 2 or profile is None:
        return {}
    factor = profile.drizzle_scale if image.drizzled else 1
    return {"s_xel1": factor * shape[0], "s_xel2": factor * shape[1]}


def _profile(settings: Settings, document: Mapping[str, Any]) -> InstrumentProfile | None:
    name, utc = document.get("telescope"), document.get("date_utc")
    by_telescope = [p for p in settings.instruments.values() if p.telescope == name]
    if len(by_telescope) == 1:
        return by_telescope[0]
    if not isinstance(utc, datetime):
        return None
    try:
        return settings.profile(str(document.get("camera")), utc)
    except UnknownInstrumentError:
        return None


def _band(profile: InstrumentProfile, filter_name: str) -> dict[str, float]:
    """Limits of the passband (m) and its resolving power; empty if they are not known."""
    band = profile.filters.get(filter_name)
    if band is None or band.lower_nm is None or band.upper_nm is None:
        return {}
    return {
        "em_min": band.lower_nm * 1e-9,
        "em_max": band.upper_nm * 1e-9,
        "em_res_power": band.wavelength_nm / (band.upper_nm - band.lower_nm),
    }


def _place(document: Mapping[str, Any], profile: InstrumentProfile | None) -> dict[str, Any]:
    """Centre, diameter and outline of the field."""
    corners = product(document, "bright_star.astrometry").get("footprint_deg")
    if corners is None:
        corners = _pointed_corners(document, profile)
    if corners is None:
        return {}
    outline = np.asarray(corners, dtype=np.float64)
    if outline.shape != (4, 2) or not np.all(np.isfinite(outline)):
        return {}
    ra, dec = np.radians(outline).T
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    x, y, z = vectors.mean(axis=1)
    across = [np.linalg.norm(vectors[:, k] - vectors[:, k + 2]) for k in (0, 1)]
    outline = _counter_clockwise(outline, vectors)
    return {
        "s_ra": float(np.degrees(np.arctan2(y, x)) % 360.0),
        "s_dec": float(np.degrees(np.arctan2(z, np.hypot(x, y)))),
        "s_fov": float(np.degrees(2 * np.arcsin(max(across) / 2))),
        "s_region": "POLYGON ICRS " + " ".join(f"{value:.7f}" for value in outline.ravel()),
    }


def _counter_clockwise(outline: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Corners counter-clockwise as one sees the sky, from within: south, west, north, east.

    The inside of a polygon is to the left of its edges; the other way round it were all the rest.
    """
    normal = np.cross(vectors[:, 1] - vectors[:, 0], vectors[:, 2] - vectors[:, 1])
    return outline if float(normal @ vectors.mean(axis=1)) < 0 else outline[::-1]


def _pointed_corners(
    document: Mapping[str, Any], profile: InstrumentProfile | None
) -> np.ndarray | None:
    """Corners (deg) of the full field of the instrument, where the telescope pointed."""
    coordinates = document.get("coordinates")
    radec = coordinates.get("radec") if isinstance(coordinates, Mapping) else None
    if profile is None or not radec:
        return None
    ra_deg, dec_deg = np.degrees(radec)
    epoch = _number(coordinates.get("epoch"))
    if epoch is not None and epoch != 2000.0:
        there = SkyCoord(ra_deg, dec_deg, unit="deg", frame=FK5(equinox=f"J{epoch}")).icrs
        ra_deg, dec_deg = there.ra.deg, there.dec.deg
    # By hand, and not by a WCS: a catalogue has tens of thousands.
    half = np.radians(profile.detector_px * profile.plate_scale_arcsec / 3600) / 2
    y_pa = np.radians(profile.y_axis_pa_deg)
    x_pa = y_pa + (-np.pi / 2 if profile.east_is_left else np.pi / 2)
    dx, dy = half * np.array([[-1, -1, 1, 1], [-1, 1, 1, -1]])
    ra, dec = np.radians([ra_deg, dec_deg])
    centre = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(centre, east)
    x, y, z = (
        centre[:, None]
        + np.outer(east, dx * np.sin(x_pa) + dy * np.sin(y_pa))
        + np.outer(north, dx * np.cos(x_pa) + dy * np.cos(y_pa))
    )
    return np.degrees([np.arctan2(y, x) % (2 * np.pi), np.arctan2(z, np.hypot(x, y))]).T


def _mjd(utc: datetime) -> float:
    return _UNIX_EPOCH_MJD + utc.astimezone(UTC).timestamp() / _DAY_S


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
