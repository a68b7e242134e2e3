"""From the catalogue's documents to plain values for a page.

Operators edit documents with any client, so a missing or odd field is an absent
value here, never an error.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from roboao_assets.storage.catalogue import (
    Catalogue,
    NightSummary,
    ObservationQuery,
    night_of,
    product,
    program_of,
)

PIPELINE = "bright_star"
# Product -> what it is called on a page, in the order of the flow.
PRODUCTS = {
    "": "stack",
    "strehl": "Strehl ratio",
    "preview": "previews",
    "pca": "PCA and contrast curve",
    "pca.preview": "PCA preview",
}
PICTURES = ("full", "cropped", "pca", "contrast_curve")


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Why a product of an observation or night is not there."""

    product: str
    reason: str
    failures: int = 0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A contrast curve: separation (arcsec) and contrast (mag), of one length."""

    separation_arcsec: tuple[float, ...]
    contrast_mag: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SeeingFrame:
    """An AO-off exposure of the night."""

    id: str
    utc: datetime
    filter_name: str
    fwhm_arcsec: float
    fwhm_x_arcsec: float | None
    fwhm_y_arcsec: float | None
    exposure_s: float | None


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a page tells of an observation; None where the catalogue does not say.

    Attributes
    ----------
    state : str
        `done`, `failed` or `waiting`.
    classification : str
        `high_flux`, `faint`, `zero_flux`, `failed` or empty.
    frames, frames_used : int or None
        Frames read and frames in the 100 % stack.
    failures, skipped : tuple of Remark
        Products that could not be made, and those there was a good reason not to make.
    version : str
        Changes when a picture may have changed.
    header : dict of str to (value, comment)
        Raw primary header; empty in lists.
    """

    id: str
    night: str
    name: str
    program: str
    filter_name: str
    telescope: str
    camera: str
    utc: datetime | None
    exposure_s: float | None
    magnitude: float | None
    radec: tuple[str, str] | None
    azimuth_deg: float | None
    elevation_deg: float | None
    state: str
    classification: str
    frames: int | None
    frames_used: int | None
    strehl_percent: float | None
    strehl_error_percent: float | None
    strehl_flag: str
    fwhm_arcsec: float | None
    core_arcsec: float | None
    halo_arcsec: float | None
    lock_xy: tuple[float, float] | None
    seeing_median_arcsec: float | None
    seeing_nearest_arcsec: float | None
    curve: Curve | None
    distributed: bool
    comment: str
    failures: tuple[Remark, ...]
    skipped: tuple[Remark, ...]
    version: str
    header: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night's page: its observations in time order, its seeing, what failed, its pictures."""

    night: str
    observations: tuple[Observation, ...]
    seeing: tuple[SeeingFrame, ...]
    seeing_median_arcsec: float | None
    seeing_discarded: tuple[Remark, ...]
    failures: tuple[Remark, ...]
    calibration_comment: str
    image_keys: frozenset[str]
    version: str
    earlier: str | None = None
    later: str | None = None


def collect_nights(catalogue: Catalogue) -> list[NightSummary]:
    """Return all nights, newest first."""
    return catalogue.nights()


def collect_night(catalogue: Catalogue, night: str) -> Night | None:
    """Read a night; None if the catalogue knows nothing of it."""
    document = catalogue.night(night)
    found = catalogue.find_observations(
        ObservationQuery(nights=(night,), sort=("date_utc", True), summary_only=True)
    )
    if document is None and not found:
        return None
    document = document or {}
    known = [summary.night for summary in catalogue.nights()]
    seeing = _section(document, "seeing")
    return Night(
        night=night,
        observations=tuple(read_observation(item) for item in found),
        seeing=_seeing_frames(seeing),
        seeing_median_arcsec=_number(seeing.get("median")),
        seeing_discarded=_discarded(seeing),
        failures=tuple(_night_failures(document)),
        calibration_comment=_text(_section(document, "calib").get("comment")),
        image_keys=frozenset(catalogue.image_keys(night=night)),
        version=_version(document),
        earlier=max((other for other in known if other < night), default=None),
        later=min((other for other in known if other > night), default=None),
    )


def collect_observation(
    catalogue: Catalogue, identifier: str
) -> tuple[Observation, list[str]] | None:
    """Read an observation and the keys of its pictures; None if there is no such observation."""
    document = catalogue.observation(identifier)
    if document is None:
        return None
    return read_observation(document), catalogue.image_keys(observation=identifier)


def read_observation(document: Mapping[str, Any]) -> Observation:
    """Read an observation's document."""
    stack = product(document, PIPELINE)
    strehl = product(document, f"{PIPELINE}.strehl")
    raw_seeing = _section(document, "seeing")
    nearest = raw_seeing.get("nearest")
    failures, skipped = _remarks(document, stack)
    utc = document.get("date_utc")
    coordinates = _section(document, "coordinates")
    azimuth, elevation = _pair(coordinates.get("azel")) or (None, None)
    return Observation(
        id=str(document.get("_id", "")),
        night=night_of(document) or "",
        name=_text(document.get("name")),
        program=program_of(document),
        filter_name=_text(document.get("filter")),
        telescope=_text(document.get("telescope")),
        camera=_text(document.get("camera")),
        utc=utc if isinstance(utc, datetime) else None,
        exposure_s=_number(document.get("exposure")),
        magnitude=_number(document.get("magnitude")),
        radec=_text_pair(coordinates.get("radec_str")),
        azimuth_deg=None if azimuth is None else math.degrees(azimuth),
        elevation_deg=None if elevation is None else math.degrees(elevation),
        state=_state(stack, strehl, failures),
        classification=_text(stack.get("classified_as")),
        frames=_integer(stack.get("frames")),
        frames_used=_integer(stack.get("frames_used")),
        strehl_percent=_number(strehl.get("ratio_percent")),
        strehl_error_percent=_number(strehl.get("ratio_error_percent")),
        strehl_flag=_text(strehl.get("flag")),
        fwhm_arcsec=_number(strehl.get("fwhm_arcsec")),
        core_arcsec=_number(strehl.get("core_arcsec")),
        halo_arcsec=_number(strehl.get("halo_arcsec")),
        lock_xy=_pair(strehl.get("lock_position") or stack.get("lock_position")),
        seeing_median_arcsec=_number(raw_seeing.get("median")),
        seeing_nearest_arcsec=_number(nearest[1])
        if isinstance(nearest, list) and len(nearest) == 2
        else None,
        curve=_curve(product(document, f"{PIPELINE}.pca").get("contrast_curve")),
        distributed=_section(document, "distributed").get("status") is True,
        comment=_text(document.get("comment")),
        failures=failures,
        skipped=skipped,
        version=_version(stack),
        header=_header(document.get("fits_header")),
    )


def _remarks(
    document: Mapping[str, Any], stack: Mapping[str, Any]
) -> tuple[tuple[Remark, ...], tuple[Remark, ...]]:
    """Return failures and skipped products. A failure has retries, a skipped product has none."""
    failures: list[Remark] = []
    skipped: list[Remark] = []
    for part, name in PRODUCTS.items():
        value = product(document, f"{PIPELINE}.{part}".rstrip("."))
        status = value if part.endswith("preview") else _section(value, "status")
        reason = _text(status.get("reason"))
        if not reason or status.get("done") is True:
            continue
        retries = _integer(status.get("retries")) or 0
        if retries:
            # Of a chain of products only the first failure is news.
            if not (failures and " failed: " in reason):
                failures.append(Remark(product=name, reason=reason, failures=retries))
        elif reason not in {remark.reason for remark in skipped}:
            skipped.append(Remark(product=name, reason=reason))
    class_reason = _text(stack.get("reason"))
    if class_reason and not failures:
        skipped = [remark for remark in skipped if remark.reason != class_reason]
        remark = Remark(product="stack", reason=class_reason)
        (failures if stack.get("classified_as") == "failed" else skipped).insert(0, remark)
    return tuple(failures), tuple(skipped)


def _state(
    stack: Mapping[str, Any], strehl: Mapping[str, Any], failures: tuple[Remark, ...]
) -> str:
    if failures or stack.get("classified_as") == "failed":
        return "failed"
    made = _section(stack, "status").get("done") is True
    starless = stack.get("classified_as") == "zero_flux"
    if made and (starless or _number(strehl.get("ratio_percent")) is not None):
        return "done"
    return "waiting"


def _night_failures(document: Mapping[str, Any]) -> list[Remark]:
    names = {
        "raw": "raw night",
        "calib": "calibration",
        "seeing": "seeing",
        "strehl": "Strehl summary",
        "contrast_curve": "contrast summary",
    }
    remarks = []
    for section, name in names.items():
        value = _section(document, section)
        reason = _text(value.get("reason"))
        if reason and value.get("done") is not True:
            failures = _integer(value.get("retries")) or 0
            remarks.append(Remark(product=name, reason=reason, failures=failures))
    return remarks


def _seeing_frames(seeing: Mapping[str, Any]) -> tuple[SeeingFrame, ...]:
    """Read rows [id, time, filter, fwhm, fwhm_x, fwhm_y, exposure]; unusable rows are left out."""
    rows = seeing.get("frames")
    frames = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, list) or len(row) < 4 or not isinstance(row[1], datetime):
            continue
        fwhm = _number(row[3])
        if fwhm is None or fwhm <= 0:
            continue
        rest = [_number(value) for value in row[4:7]] + [None] * 3
        frames.append(
            SeeingFrame(
                id=_text(row[0]),
                utc=row[1],
                filter_name=_text(row[2]),
                fwhm_arcsec=fwhm,
                fwhm_x_arcsec=rest[0],
                fwhm_y_arcsec=rest[1],
                exposure_s=rest[2],
            )
        )
    return tuple(sorted(frames, key=lambda frame: frame.utc))


def _discarded(seeing: Mapping[str, Any]) -> tuple[Remark, ...]:
    """Read pairs [exposure id, reason] of AO-off exposures without a measurement."""
    pairs = seeing.get("discarded")
    texts = [_text_pair(pair) for pair in (pairs if isinstance(pairs, list) else [])]
    return tuple(Remark(product=pair[0], reason=pair[1]) for pair in texts if pair)


def _curve(value: Any) -> Curve | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    if not all(isinstance(column, list) for column in value):
        return None
    points = [
        (separation, contrast)
        for separation, contrast in zip(
            map(_number, value[0]), map(_number, value[1]), strict=False
        )
        if separation is not None and contrast is not None
    ]
    if not points:
        return None
    points.sort()
    return Curve(
        separation_arcsec=tuple(point[0] for point in points),
        contrast_mag=tuple(point[1] for point in points),
    )


def _header(value: Any) -> dict[str, tuple[str, str]]:
    if not isinstance(value, Mapping):
        return {}
    header = {}
    for key, card in value.items():
        content, comment = (
            (card[0], card[1]) if isinstance(card, list) and len(card) == 2 else (card, "")
        )
        header[str(key)] = ("" if content is None else str(content), _text(comment))
    return header


def _version(value: Any) -> str:
    """Return the newest `last_modified` below `value`, in milliseconds; empty if there is none."""
    newest = _newest(value)
    return "" if newest is None else str(int(newest.timestamp() * 1000))


def _newest(value: Any) -> datetime | None:
    if not isinstance(value, Mapping):
        return None
    times = [_newest(item) for item in value.values()]
    own = value.get("last_modified")
    times.append(own if isinstance(own, datetime) else None)
    return max((time for time in times if time is not None), default=None)


def _section(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, second = _number(value[0]), _number(value[1])
    return None if first is None or second is None else (first, second)


def _text_pair(value: Any) -> tuple[str, str] | None:
    return (str(value[0]), str(value[1])) if isinstance(value, list) and len(value) == 2 else None
