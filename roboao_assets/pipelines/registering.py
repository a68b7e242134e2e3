"""A raw night entered in the catalogue: what was observed, as names and headers say."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import RawDataError, UnknownInstrumentError
from roboao_assets.storage.catalogue import new_observation, product
from roboao_assets.storage.raw_header import parse_facts, read_header
from roboao_assets.storage.raw_names import shown_name
from roboao_assets.storage.raw_night import RawExposure, RawNight, differs_from, read_night
from roboao_assets.storage.raw_scan import scan_night

# Of two files of one name and size: pieces compared to see whether they are the same.
_SAMPLES, _SAMPLE_BYTES = 5, 4096


def register_night(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:  # noqa: ARG001
    """Enter every observation of the night, and the night itself.

    An observation whose first header cannot be read is entered by its name, with the
    reason as the failure of its stack: it is seen, and its night goes on.
    """
    raw = read_night(ws.settings.raw_roots, night)
    problems = {shown_name(path): reason for path, reason in (*raw.unreadable, *_unlike(raw))}
    new = 0
    for exposure in raw.observations:
        problem = exposure.problem
        try:
            telescope = ws.settings.profile(exposure.name.camera, exposure.name.utc).telescope
        except UnknownInstrumentError as error:
            telescope, problem = None, problem or str(error)
        try:
            header = read_header(exposure.files[0])
        except (RawDataError, OSError) as error:
            header, problem = None, problem or str(error)
        new += ws.catalogue.register_observation(_document(exposure, telescope, header))
        if problem:
            problems[exposure.id] = problem
            _tell_problem(ws, exposure.id, problem)
    missing = _missing_files(ws, raw)
    identity = fingerprint("raw_night", _identities(raw))
    section = {
        **_raw_section(raw, problems),
        "missing": missing,
        "fingerprint": identity,
        # As the sensor sees the night: one that has forgotten its cursor knows by it what is done.
        "scan": scan_night(night, raw.folders, settle_s=0.0).fingerprint,
    }
    ws.catalogue.publish_night(night, "raw", section)
    return StageOutcome(
        stage="raw_night",
        status="done",
        fingerprint=identity,
        metadata={
            "observations": len(raw.observations),
            "new_observations": new,
            "seeing_exposures": len(raw.seeing),
            "dark_files": sum(map(len, raw.darks.values())),
            "flat_files": sum(map(len, raw.flats.values())),
            "problems": len(problems),
            "missing_files": len(missing),
        },
    )


def _unlike(raw: RawNight) -> Iterator[tuple[Path, str]]:
    """Yield the files that hide behind another of their name and size, but not of its content."""
    for first, other in raw.hidden:
        with suppress(OSError):
            size = first.stat().st_size
            if _sample(first, size) != _sample(other, size):
                yield other, differs_from(first, size, size)


def _sample(path: Path, size: int) -> list[bytes]:
    """Pieces of a file; the last of a bzip2 file holds the checksum of all that it unpacks to."""
    with path.open("rb") as file:
        pieces = []
        for part in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * part // (_SAMPLES - 1))
            pieces.append(file.read(_SAMPLE_BYTES))
    return pieces


def _missing_files(ws: Workspace, raw: RawNight) -> list[str]:
    """Files that the night once had and has not any more; nothing made of them is removed."""
    before = (ws.catalogue.night(raw.night) or {}).get("raw") or {}
    known = {*before.get("files", ()), *before.get("missing", ())}
    return sorted(known - set(_file_list(raw)))


def _tell_problem(ws: Workspace, observation: str, problem: str) -> None:
    """Note a problem once: looking again is no new failure, nor does it undo a product."""
    stack = product(ws.catalogue.observation(observation) or {}, "bright_star")
    status = stack.get("status") or {}
    if not status.get("done") and status.get("reason") != problem:
        ws.catalogue.record_failure(observation, "bright_star", problem)


def _document(exposure: RawExposure, telescope: str | None, header: object) -> dict:
    locations = sorted({str(path.parent) for path in exposure.files})
    where = locations[0] if len(locations) == 1 else locations
    files = [path.name for path in exposure.files]
    if header is None:
        return new_observation(
            exposure.name, telescope=telescope, raw_location=where, raw_files=files
        )
    facts = parse_facts(header)
    return new_observation(
        exposure.name,
        telescope=telescope,
        exposure_s=facts.exposure_s,
        magnitude=facts.magnitude,
        ra_deg=facts.ra_deg,
        dec_deg=facts.dec_deg,
        equinox=facts.equinox,
        azimuth_deg=facts.azimuth_deg,
        elevation_deg=facts.elevation_deg,
        header_cards=[(c.keyword, c.value, c.comment) for c in header.cards],
        raw_location=where,
        raw_files=files,
    )


def _raw_section(raw: RawNight, problems: dict[str, str]) -> dict:
    return {
        "location": [str(folder) for folder in raw.folders],
        "observations": [exposure.id for exposure in raw.observations],
        "seeing": [exposure.id for exposure in raw.seeing],
        "dark": sorted(path.name for files in raw.darks.values() for path in files),
        "flat": sorted(path.name for files in raw.flats.values() for path in files),
        "other": sorted(path.name for path in raw.unprocessed),
        "files": _file_list(raw),
        # A list of pairs: file names hold dots, which no key of a document may have.
        "problems": [[name, reason] for name, reason in sorted(problems.items())],
    }


def _identities(raw: RawNight) -> list[list]:
    """Names, sizes and times of the night's files: one that was replaced makes it another."""
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in _paths(raw) if p.exists()]


def _file_list(raw: RawNight) -> list[str]:
    return [path.name for path in _paths(raw)]


def _paths(raw: RawNight) -> list[Path]:
    exposures = (*raw.observations, *raw.seeing)
    families = (*raw.darks.values(), *raw.flats.values(), raw.unprocessed)
    paths = [path for exposure in exposures for path in exposure.files]
    return sorted([*paths, *(path for files in families for path in files)], key=lambda p: p.name)
