"""The catalogue's documents: how a new one looks and how a possibly incomplete one is read.

Operators change documents with any database client, so every reader here takes missing fields
as they come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from roboao_assets.storage.catalogue.values import at_path, now_utc
from roboao_assets.storage.raw_names import ExposureName

# The bulk of a document, which a summary of it has not.
BULK_PATHS = ("fits_header", "distributed.members")
PIPELINES = ("bright_star", "faint_star", "extended_object")
PRODUCTS = ("", "strehl", "pca")
PREVIEWS = ("preview", "pca.preview")

# Classes of which a faint-star stack is the better one, where there is one.
FAINT_CLASSES = ("faint", "zero_flux")
# What stands in the part of a document once it was measured.
_MEASURED = {"strehl": "ratio_percent", "pca": "contrast_curve"}


def status_path(product_path: str) -> str:
    """Return where the status of a product is kept, below `pipelined`.

    A preview carries `done`, `force_redo` and `retries` itself, any other product in `status`.
    """
    return product_path if product_path.endswith(".preview") else f"{product_path}.status"


# Every place at which an operator may ask for a product to be redone.
REDO_PATHS = tuple(
    f"pipelined.{status_path(f'{pipeline}.{part}'.rstrip('.'))}.force_redo"
    for pipeline in PIPELINES
    for part in (*PRODUCTS, "astrometry", *PREVIEWS)
)


def new_observation(
    exposure: ExposureName,
    *,
    telescope: str | None = None,
    exposure_s: float | None = None,
    magnitude: float | None = None,
    ra_deg: float | None = None,
    dec_deg: float | None = None,
    equinox: float | None = None,
    azimuth_deg: float | None = None,
    elevation_deg: float | None = None,
    header_cards: Iterable[tuple[str, Any, str]] = (),
    raw_location: str | Sequence[str] = "",
    raw_files: Sequence[str] = (),
    program_pi: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the document of an observation that was not seen before.

    Parameters
    ----------
    exposure : ExposureName
        What the name of the raw file says.
    telescope : str or None
        Name of the instrument profile.
    exposure_s, magnitude, equinox : float or None
        As in the header; None where it does not say.
    ra_deg, dec_deg, azimuth_deg, elevation_deg : float or None
        Degrees; the document has radians.
    header_cards : iterable of (keyword, value, comment)
        The raw primary header.
    raw_location : str or sequence of str
        Folder or folders of the raw files.
    raw_files : sequence of str
        Names of the raw files, in the order of their frames.
    program_pi : sequence of str
        Logins of the program's principal investigators.

    Returns
    -------
    dict
        A document for `Catalogue.register_observation`.
    """
    now = now_utc()
    return {
        "_id": exposure.id,
        "date_added": now,
        "name": exposure.object_name,
        "alternative_names": [],
        "science_program": {"program_id": exposure.program, "program_PI": list(program_pi)},
        "date_utc": exposure.utc,
        "telescope": telescope,
        "camera": exposure.camera,
        "filter": exposure.filter_name,
        "marker": exposure.marker,
        "exposure": exposure_s,
        "magnitude": magnitude,
        "coordinates": _coordinates(ra_deg, dec_deg, equinox, azimuth_deg, elevation_deg),
        "fits_header": header_mapping(header_cards),
        "pipelined": {},
        "seeing": {"median": None, "mean": None, "nearest": [None, None], "last_modified": now},
        "distributed": {"status": False, "location": [], "last_modified": now},
        "raw_data": {"location": raw_location, "data": list(raw_files), "last_modified": now},
        "comment": "",
    }


def header_mapping(cards: Iterable[tuple[str, Any, str]]) -> dict[str, list[Any]]:
    """Return header cards as ``{KEYWORD: [value, comment]}``.

    Cards of one keyword (COMMENT, HISTORY) are joined by newlines. A dot or a leading dollar
    sign, which no key of a document may have, becomes an underscore.
    """
    mapping: dict[str, list[Any]] = {}
    for keyword, value, comment in cards:
        key = keyword.replace(".", "_").replace("\0", "_")
        key = "_" + key[1:] if key.startswith("$") else key
        if not key:
            continue
        if key in mapping:
            mapping[key][0] = f"{mapping[key][0]}\n{value}"
        elif value is None or isinstance(value, str | bool | int | float):
            mapping[key] = [value, comment or ""]
        else:  # astropy's Undefined, a complex number: their text is all there is to show
            mapping[key] = [str(value), comment or ""]
    return mapping


def _coordinates(
    ra_deg: float | None,
    dec_deg: float | None,
    equinox: float | None,
    azimuth_deg: float | None,
    elevation_deg: float | None,
) -> dict[str, Any]:
    coordinates: dict[str, Any] = {"epoch": equinox}
    if ra_deg is not None and dec_deg is not None:
        ra_deg %= 360.0
        coordinates["radec"] = [math.radians(ra_deg), math.radians(dec_deg)]
        coordinates["radec_str"] = [_hours(ra_deg), _degrees(dec_deg)]
        coordinates["radec_geojson"] = {"type": "Point", "coordinates": [ra_deg - 180.0, dec_deg]}
    if azimuth_deg is not None and elevation_deg is not None:
        coordinates["azel"] = [math.radians(azimuth_deg), math.radians(elevation_deg)]
    return coordinates


def _hours(ra_deg: float) -> str:
    milliseconds = round(ra_deg * 240_000) % 86_400_000
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}.{fraction:03d}"


def _degrees(dec_deg: float) -> str:
    hundredths = round(abs(dec_deg) * 360_000)
    arcsec, fraction = divmod(hundredths, 100)
    arcmin, second = divmod(arcsec, 60)
    sign = "-" if dec_deg < 0 else "+"
    return f"{sign}{arcmin // 60:02d}:{arcmin % 60:02d}:{second:02d}.{fraction:02d}"


def night_of(document: Mapping[str, Any]) -> str | None:
    """Return the night (UT date, YYYYMMDD) of an observation's document, None if unknown."""
    time = document.get("date_utc")
    return time.astimezone(UTC).strftime("%Y%m%d") if isinstance(time, datetime) else None


def program_of(document: Mapping[str, Any]) -> str:
    """Return the program of an observation's document, empty if unknown."""
    program = at_path(document, "science_program.program_id")
    return "" if program is None else str(program)


def product(document: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a product's part of an observation's document, empty if it was never made.

    Parameters
    ----------
    document : mapping
    path : str
        E.g. ``bright_star`` or ``bright_star.strehl``.
    """
    value = at_path(document, f"pipelined.{path}")
    return value if isinstance(value, dict) else {}


def wanted_again(document: Mapping[str, Any]) -> list[str]:
    """Return the products that an operator wants redone (`force_redo`), e.g. `bright_star.pca`."""
    return [
        path.removeprefix("pipelined.").removesuffix(".force_redo").removesuffix(".status")
        for path in REDO_PATHS
        if at_path(document, path) is True
    ]


def is_made(document: Mapping[str, Any], path: str) -> bool:
    """Return whether a product is made and up to date, as far as the catalogue knows."""
    return at_path(document, f"pipelined.{path}.status.done") is True


def skip_reason(record: Mapping[str, Any]) -> str:
    """Why a product is not made, or no longer; empty if it is made, failed, or never came up."""
    status = record.get("status")
    # A preview has it in itself.
    status = status if isinstance(status, Mapping) else record
    if status.get("done") is True or status.get("retries"):
        return ""
    return str(status.get("reason") or "")


def ran_on(document: Mapping[str, Any], pipeline: str) -> bool:
    """Return whether a pipeline ran on an observation: it made its stack, or failed at it."""
    return is_made(document, pipeline) or bool(
        at_path(document, f"pipelined.{pipeline}.status.retries")
    )


def leading_pipeline(document: Mapping[str, Any], part: str = "strehl") -> str:
    """Return the pipeline that speaks for an observation where one number is wanted.

    Parameters
    ----------
    document : mapping
    part : str
        `strehl` or `pca` (the contrast curve).

    Returns
    -------
    str
        `extended_object` if that was made of it and `bright_star` does not run on it;
        `faint_star` if the star is faint and it was measured there; else `bright_star`.
    """
    if not ran_on(document, "bright_star") and is_made(document, "extended_object"):
        return "extended_object"
    if product(document, "bright_star").get("classified_as") not in FAINT_CLASSES:
        return "bright_star"
    found = product(document, f"faint_star.{part}").get(_MEASURED[part])
    return "bright_star" if found is None else "faint_star"


def psf_candidate_key(observation: str) -> str:
    """Return the key of an observation below `psf_lib` of its night: keys hold no dots."""
    return observation.replace(".", "_")
