"""What a rule of the decision chains may look at: fields of an observation's document.

Beside what stands in the document, some facts are derived from it, and one is a fact of the
archive: how many references the PSF library has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from roboao_assets.storage.catalogue.documents import product, program_of
from roboao_assets.storage.catalogue.search_fields import (
    CONTRAST_SEPARATIONS_ARCSEC,
    contrast_key,
)
from roboao_assets.storage.catalogue.values import at_path

LIBRARY_REFERENCES = "library.references"


class FieldType(StrEnum):
    """What a field holds; its word in messages."""

    TEXT = "text"
    TEXTS = "list of text"
    NUMBER = "number"
    BOOLEAN = "true or false"
    TIME = "time"
    PRESENCE = "there or not"


@dataclass(frozen=True)
class KnownField:
    """A field: what it holds, and what it means."""

    type: FieldType
    meaning: str


@dataclass(frozen=True)
class FoundValue:
    """What an observation has of a field: a value, or why there is none."""

    value: Any = None
    missing: str = ""


_T, _N, _B, _P = FieldType.TEXT, FieldType.NUMBER, FieldType.BOOLEAN, FieldType.PRESENCE
_STACK = {
    "status.done": (_B, "the stack is made and up to date"),
    "frames": (_N, "frames read"),
    "frames_used": (_N, "frames stacked"),
    "lock_position": (_P, "place of the star or object in the stack"),
}
_MEASURED = {
    "strehl.ratio_percent": (_N, "Strehl ratio (%)"),
    "strehl.ratio_error_percent": (_N, "its error (%)"),
    "strehl.core_arcsec": (_N, "core radius (arcsec)"),
    "strehl.halo_arcsec": (_N, "halo radius (arcsec)"),
    "strehl.fwhm_arcsec": (_N, "FWHM (arcsec)"),
    "strehl.flag": (_T, "OK or BAD?"),
    **{
        f"pca.{contrast_key(separation)}": (_N, f"contrast at {separation:g} arcsec (mag)")
        for separation in CONTRAST_SEPARATIONS_ARCSEC
    },
}
_OF_PIPELINE = {
    "bright_star": {
        **_STACK,
        "classified_as": (_T, "high_flux, faint, zero_flux or failed"),
        "flags": (FieldType.TEXTS, "words of warning of the stack"),
        "snr": (_N, "mean signal-to-noise ratio of the guide star in a frame"),
        "frames_saturated": (_N, "frames with a saturated guide star"),
        **_MEASURED,
        "astrometry.wcs_source": (_T, "stars or pointing"),
        "astrometry.stars_detected": (_N, "stars seen in the field by the last solution"),
        "astrometry.stars": (_N, "stars that the last solution is made of"),
    },
    "faint_star": {
        **_STACK,
        "shift_error_px": (_N, "median error of a frame's shift (raw px)"),
        **_MEASURED,
    },
    "extended_object": {
        **_STACK,
        "diameter_arcsec": (_N, "diameter of the object (arcsec)"),
        "deconvolved": (_B, "it was deconvolved"),
    },
}
# Products below a pipeline's stack, each with a status of its own.
_PARTS = ("strehl", "pca", "astrometry")

KNOWN_FIELDS: dict[str, KnownField] = {
    name: KnownField(*facts)
    for name, facts in {
        "_id": (_T, "id of the observation"),
        "name": (_T, "name of the object"),
        "alternative_names": (FieldType.TEXTS, "its other names"),
        "science_program.program_id": (_T, "program as in the id, e.g. 24.1"),
        "science_program.program_PI": (FieldType.TEXTS, "logins of its investigators"),
        "program": (_T, "integer part of the program: 24 of 24.1"),
        "date_utc": (FieldType.TIME, "begin of the exposure (UTC)"),
        "telescope": (_T, "name of the instrument profile"),
        "camera": (_T, "camera"),
        "filter": (_T, "filter"),
        "marker": (_T, "marker of the id"),
        "exposure": (_N, "exposure time (s)"),
        "magnitude": (_N, "magnitude of the header"),
        "coordinates.epoch": (_N, "equinox"),
        "coordinates.radec": (_P, "right ascension and declination"),
        "coordinates.radec.0": (_N, "right ascension (rad)"),
        "coordinates.radec.1": (_N, "declination (rad)"),
        "coordinates.azel": (_P, "azimuth and elevation"),
        "coordinates.azel.0": (_N, "azimuth (rad)"),
        "coordinates.azel.1": (_N, "elevation (rad)"),
        "azimuth_deg": (_N, "azimuth (degrees)"),
        "elevation_deg": (_N, "elevation (degrees)"),
        "seeing.median": (_N, "median seeing of the night (arcsec)"),
        "seeing.mean": (_N, "mean seeing of the night (arcsec)"),
        "seeing.nearest.1": (_N, "seeing nearest in time (arcsec)"),
        "distributed.status": (_B, "it is distributed"),
        "comment": (_T, "comment"),
        "no_core": (_B, "the bright-star stack shows no diffraction core"),
        LIBRARY_REFERENCES: (
            _N,
            "frames of other objects in the PSF library, to which `roboao psf-library add` adds",
        ),
        **{
            f"pipelined.{pipeline}.{name}": facts
            for pipeline, fields in _OF_PIPELINE.items()
            for name, facts in fields.items()
        },
    }.items()
}


def find_value(document: Mapping[str, Any], field: str, facts: Mapping[str, Any]) -> FoundValue:
    """Return what an observation has of a known field.

    What a product says counts only while the product is made and up to date: the class of a
    stack that failed, or is no longer made, is that of other frames.

    Parameters
    ----------
    document : mapping
        Of the observation.
    field : str
        A key of `KNOWN_FIELDS`.
    facts : mapping
        What is known beside the document, by field: `library.references`.
    """
    if field in facts:
        return FoundValue(facts[field])
    derive = {
        "program": _program,
        "no_core": _no_core,
        "azimuth_deg": _azel,
        "elevation_deg": _azel,
    }
    if field in derive:
        return derive[field](document, field)
    if field.startswith("pipelined.") and not field.endswith(".status.done"):
        missing = _not_made(document, _product_of(field))
        if missing:
            return FoundValue(missing=missing)
    return _typed(at_path(document, field), KNOWN_FIELDS[field].type)


def _typed(value: Any, kind: FieldType) -> FoundValue:  # noqa: PLR0911 - one return a type
    if value is None:
        return FoundValue(missing="the catalogue has no value")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is FieldType.NUMBER and number and math.isfinite(value):
        return FoundValue(value)
    if kind is FieldType.TEXT and (isinstance(value, str) or number):
        # Operators enter programs as numbers.
        return FoundValue(str(value))
    if kind is FieldType.BOOLEAN and isinstance(value, bool):
        return FoundValue(value)
    if kind is FieldType.TEXTS and isinstance(value, list | tuple):
        return FoundValue(tuple(str(item) for item in value))
    if kind is FieldType.TIME and isinstance(value, datetime):
        return FoundValue(value if value.tzinfo else value.replace(tzinfo=UTC))
    if kind is FieldType.PRESENCE:
        return FoundValue(value)
    return FoundValue(missing=f"the catalogue has {value!r}, which is no {kind}")


def _product_of(field: str) -> str:
    _, pipeline, first, *_ = field.split(".")
    return f"{pipeline}.{first}" if first in _PARTS else pipeline


def _not_made(document: Mapping[str, Any], name: str) -> str:
    """Why a product says nothing; empty if it is made."""
    status = product(document, name).get("status")
    status = status if isinstance(status, Mapping) else {}
    if status.get("done") is True:
        return ""
    reason = f": {status['reason']}" if status.get("reason") else ""
    return f"{name} is not made{reason}"


def _program(document: Mapping[str, Any], _: str) -> FoundValue:
    whole = program_of(document)
    return FoundValue(whole.split(".")[0]) if whole else FoundValue(missing="it has no program")


def _no_core(document: Mapping[str, Any], _: str) -> FoundValue:
    # It brings NumPy, which settings need not wait for.
    from roboao_assets.science.stack_flags import StackFlag

    missing = _not_made(document, "bright_star")
    if missing:
        return FoundValue(missing=missing)
    return FoundValue(StackFlag.NO_CORE in (product(document, "bright_star").get("flags") or ()))


def _azel(document: Mapping[str, Any], field: str) -> FoundValue:
    place = f"coordinates.azel.{int(field == 'elevation_deg')}"
    found = _typed(at_path(document, place), FieldType.NUMBER)
    return found if found.missing else FoundValue(math.degrees(found.value))
