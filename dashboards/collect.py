"""From the catalogue's documents to plain values for a page.

Operators edit documents with any client, so a missing or odd field is an absent
value here, never an error.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from dashboards.access import Asked, picture_subject
from dashboards.results import (
    PIPELINES,
    Curve,
    MedianCurve,
    PipelineResult,
    read_contrast_medians,
    read_result,
)
from dashboards.values import integer_of, number_of, pair_of, section_of, text_of, text_pair_of
from roboao_assets.storage.catalogue import (
    FAINT_CLASSES,
    Catalogue,
    NightSummary,
    ObservationQuery,
    Reader,
    leading_pipeline,
    night_of,
    product,
    program_of,
    ran_on,
)

# Product -> what it is called on a page, in the order of the flow.
PRODUCTS = {
    "": "stack",
    "strehl": "Strehl ratio",
    "preview": "previews",
    "pca": "PCA and contrast curve",
    "pca.preview": "PCA preview",
}
# Sections of a night's document that tell nothing of any program's observations.
_NIGHT_OF_NO_PROGRAM = ("_id", "calib", "seeing")
PICTURES = ("full", "cropped", "deconvolved", "pca", "snr_map", "contrast_curve")


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Why a product of an observation or night is not there."""

    product: str
    reason: str
    failures: int = 0


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
        `high_flux`, `faint`, `zero_flux`, `failed`, `extended_object` (where only that
        pipeline runs) or empty.
    results : tuple of PipelineResult
        Of each pipeline that made something, the leading one first.
    strehl_percent, ..., fwhm_arcsec, curve
        Of the leading pipeline: the faint-star one for faint stars that it measured.
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
    results: tuple[PipelineResult, ...]
    strehl_percent: float | None
    strehl_error_percent: float | None
    strehl_flag: str
    fwhm_arcsec: float | None
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
    contrast_medians: dict[str, MedianCurve]
    image_keys: frozenset[str]
    version: str


class Neighbours(NamedTuple):
    """What stands before and after something, None at the ends."""

    earlier: str | None
    later: str | None


def collect_nights(catalogue: Catalogue, reader: Reader | None) -> list[NightSummary]:
    """Return the nights that a reader may see (None: all), newest first."""
    return catalogue.nights(reader)


def collect_night(catalogue: Catalogue, night: str, reader: Reader | None) -> Night | None:
    """Read what a reader may see of a night; None if that is nothing.

    Of the night itself those who do not see all programs see calibration and seeing: its other
    products are made of the observations of all.
    """
    document = catalogue.night(night)
    query = ObservationQuery(
        nights=(night,), sort=("date_utc", True), summary_only=True, reader=reader
    )
    found = catalogue.find_observations(query)
    if not found and (document is None or reader is not None):
        return None
    document = document or {}
    keys = catalogue.image_keys(night=night)
    if reader is not None:
        document = {key: document[key] for key in _NIGHT_OF_NO_PROGRAM if key in document}
        shown = {Asked("night", night), *(Asked("observation", item["_id"]) for item in found)}
        keys = [key for key in keys if picture_subject(key) in shown]
    seeing = section_of(document, "seeing")
    return Night(
        night=night,
        observations=tuple(read_observation(item) for item in found),
        seeing=_seeing_frames(seeing),
        seeing_median_arcsec=number_of(seeing.get("median")),
        seeing_discarded=_discarded(seeing),
        failures=tuple(_night_failures(document)),
        calibration_comment=text_of(section_of(document, "calib").get("comment")),
        contrast_medians=read_contrast_medians(section_of(document, "contrast_curve")),
        image_keys=frozenset(keys),
        version=_version(document),
    )


def night_neighbours(catalogue: Catalogue, night: str, reader: Reader | None) -> Neighbours:
    """Return the nights before and after a night, of those that a reader may see."""
    known = [summary.night for summary in catalogue.nights(reader)]
    return Neighbours(
        max((other for other in known if other < night), default=None),
        min((other for other in known if other > night), default=None),
    )


def observation_neighbours(
    catalogue: Catalogue, observation: Observation, reader: Reader | None
) -> Neighbours:
    """Return the observations before and after one in its night, of those a reader may see."""
    if not observation.night:
        return Neighbours(None, None)
    query = ObservationQuery(nights=(observation.night,), sort=("date_utc", True), reader=reader)
    known = [row[0] for row in catalogue.find_fields(query, ("id",))]
    if observation.id not in known:
        return Neighbours(None, None)
    place = known.index(observation.id)
    after = known[place + 1 : place + 2]
    return Neighbours(known[place - 1] if place else None, after[0] if after else None)


def collect_contrast_medians(
    catalogue: Catalogue, night: str, reader: Reader | None
) -> dict[str, MedianCurve]:
    """Read the night's contrast by filter: it is made of all programs, for who sees them."""
    if reader is not None or not night:
        return {}
    return read_contrast_medians(section_of(catalogue.night(night) or {}, "contrast_curve"))


def collect_observation(
    catalogue: Catalogue, identifier: str, reader: Reader | None
) -> tuple[Observation, list[str]] | None:
    """Read an observation and the keys of its pictures.

    None if there is no such observation, or none that the reader may see.
    """
    found = catalogue.find_observations(ObservationQuery(ids=(identifier,), reader=reader))
    if not found:
        return None
    observation = read_observation(found[0])
    if reader is not None:
        observation = _without_strangers(catalogue, observation, reader)
    return observation, catalogue.image_keys(observation=identifier)


def _without_strangers(
    catalogue: Catalogue, observation: Observation, reader: Reader
) -> Observation:
    """Leave out the names of other observations, used as references, that a reader may not see."""
    named = {name for result in observation.results for name, _ in result.references}
    named |= {result.deconvolved_with for result in observation.results}
    query = ObservationQuery(ids=tuple(sorted(named)), reader=reader, summary_only=True)
    seen = {document["_id"] for document in catalogue.find_observations(query)}
    results = tuple(
        replace(
            result,
            references=tuple((n if n in seen else "", value) for n, value in result.references),
            deconvolved_with=result.deconvolved_with if result.deconvolved_with in seen else "",
        )
        for result in observation.results
    )
    return replace(observation, results=results)


def read_observation(document: Mapping[str, Any]) -> Observation:
    """Read an observation's document."""
    stack = product(document, "bright_star")
    leading = leading_pipeline(document)
    resolved = leading == "extended_object"
    by_pipeline = {name: read_result(document, name) for name in PIPELINES}
    lead = by_pipeline[leading]
    # Sorted stably: the leading pipeline, then the others as they come.
    # A pipeline that was not asked for leaves its reason, and nothing to be shown.
    made = [
        result
        for name, result in by_pipeline.items()
        if result.frames is not None or (name == leading and product(document, name))
    ]
    made.sort(key=lambda result: result.pipeline != leading)
    raw_seeing = section_of(document, "seeing")
    nearest = raw_seeing.get("nearest")
    failures, skipped = _remarks(document)
    utc = document.get("date_utc")
    coordinates = section_of(document, "coordinates")
    azimuth, elevation = pair_of(coordinates.get("azel")) or (None, None)
    return Observation(
        id=str(document.get("_id", "")),
        night=night_of(document) or "",
        name=text_of(document.get("name")),
        program=program_of(document),
        filter_name=text_of(document.get("filter")),
        telescope=text_of(document.get("telescope")),
        camera=text_of(document.get("camera")),
        utc=utc if isinstance(utc, datetime) else None,
        exposure_s=number_of(document.get("exposure")),
        magnitude=number_of(document.get("magnitude")),
        radec=text_pair_of(coordinates.get("radec_str")),
        azimuth_deg=None if azimuth is None else math.degrees(azimuth),
        elevation_deg=None if elevation is None else math.degrees(elevation),
        state=_state(stack, lead, failures),
        classification=leading if resolved else text_of(stack.get("classified_as")),
        results=tuple(made),
        strehl_percent=lead.strehl_percent,
        strehl_error_percent=lead.strehl_error_percent,
        strehl_flag=lead.strehl_flag,
        fwhm_arcsec=lead.fwhm_arcsec,
        seeing_median_arcsec=number_of(raw_seeing.get("median")),
        seeing_nearest_arcsec=number_of(nearest[1])
        if isinstance(nearest, list) and len(nearest) == 2
        else None,
        curve=by_pipeline[leading_pipeline(document, "pca")].curve,
        distributed=section_of(document, "distributed").get("status") is True,
        comment=text_of(document.get("comment")),
        failures=failures,
        skipped=skipped,
        version=_version(document.get("pipelined")),
        header=_header(document.get("fits_header")),
    )


def _remarks(document: Mapping[str, Any]) -> tuple[tuple[Remark, ...], tuple[Remark, ...]]:
    """Return failures and skipped products. A failure has retries, a skipped product has none."""
    stack = product(document, "bright_star")
    failures, skipped = _pipeline_remarks(document, "bright_star", "")
    class_reason = text_of(stack.get("reason"))
    if class_reason and not failures and ran_on(document, "bright_star"):
        skipped = [remark for remark in skipped if remark.reason != class_reason]
        remark = Remark(product="stack", reason=class_reason)
        (failures if stack.get("classified_as") == "failed" else skipped).insert(0, remark)
    faint_failures, faint_skipped = _pipeline_remarks(document, "faint_star", "faint-star ")
    if leading_pipeline(document) == "extended_object":
        # That nothing is made of it as of a star is no news.
        skipped = []
    failures += [r for r in faint_failures if r.reason not in _reasons(failures, skipped)]
    resolved_failures, resolved_skipped = _pipeline_remarks(
        document, "extended_object", "extended-object "
    )
    failures += [r for r in resolved_failures if r.reason not in _reasons(failures, skipped)]
    if not ran_on(document, "bright_star"):
        skipped += resolved_skipped
    # That a bright star has no faint-star stack is no news.
    if stack.get("classified_as") in FAINT_CLASSES:
        skipped += [r for r in faint_skipped if r.reason not in _reasons(failures, skipped)]
    return tuple(failures), tuple(skipped)


def _reasons(*remarks: Sequence[Remark]) -> set[str]:
    return {remark.reason for some in remarks for remark in some}


def _pipeline_remarks(
    document: Mapping[str, Any], pipeline: str, prefix: str
) -> tuple[list[Remark], list[Remark]]:
    failures: list[Remark] = []
    skipped: list[Remark] = []
    for part, name in PRODUCTS.items():
        value = product(document, f"{pipeline}.{part}".rstrip("."))
        status = value if part.endswith("preview") else section_of(value, "status")
        reason = text_of(status.get("reason"))
        if not reason or status.get("done") is True:
            continue
        retries = integer_of(status.get("retries")) or 0
        if retries:
            # Of a chain of products only the first failure is news.
            if not (failures and " failed: " in reason):
                failures.append(Remark(product=prefix + name, reason=reason, failures=retries))
        elif reason not in {remark.reason for remark in skipped}:
            skipped.append(Remark(product=prefix + name, reason=reason))
    return failures, skipped


def _state(stack: Mapping[str, Any], lead: PipelineResult, failures: tuple[Remark, ...]) -> str:
    if lead.pipeline == "extended_object":
        return "failed" if failures else "done"
    if failures or stack.get("classified_as") == "failed":
        return "failed"
    made = section_of(stack, "status").get("done") is True
    starless = stack.get("classified_as") == "zero_flux"
    return "done" if made and (starless or lead.strehl_percent is not None) else "waiting"


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
        value = section_of(document, section)
        reason = text_of(value.get("reason"))
        if reason and value.get("done") is not True:
            failures = integer_of(value.get("retries")) or 0
            remarks.append(Remark(product=name, reason=reason, failures=failures))
    return remarks


def _seeing_frames(seeing: Mapping[str, Any]) -> tuple[SeeingFrame, ...]:
    """Read rows [id, time, filter, fwhm, fwhm_x, fwhm_y, exposure]; unusable rows are left out."""
    rows = seeing.get("frames")
    frames = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, list) or len(row) < 4 or not isinstance(row[1], datetime):
            continue
        fwhm = number_of(row[3])
        if fwhm is None or fwhm <= 0:
            continue
        rest = [number_of(value) for value in row[4:7]] + [None] * 3
        frames.append(
            SeeingFrame(
                id=text_of(row[0]),
                utc=row[1],
                filter_name=text_of(row[2]),
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
    texts = [text_pair_of(pair) for pair in (pairs if isinstance(pairs, list) else [])]
    return tuple(Remark(product=pair[0], reason=pair[1]) for pair in texts if pair)


def _header(value: Any) -> dict[str, tuple[str, str]]:
    if not isinstance(value, Mapping):
        return {}
    header = {}
    for key, card in value.items():
        content, comment = (
            (card[0], card[1]) if isinstance(card, list) and len(card) == 2 else (card, "")
        )
        header[str(key)] = ("" if content is None else str(content), text_of(comment))
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
