"""The PSF-library candidates of a night, as the catalogue knows them; what adds and removes them.

Of each observation the section `psf_lib` of its night's document says whether it is a
candidate. Whether a star is in the library only the library itself decides.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.catalogue import Catalogue, ObservationQuery, psf_candidate_key
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary, PsfLibraryError, read_psf_candidate
from roboao_assets.storage.raw_names import parse_exposure_name

SECTION = "psf_lib"
CANDIDATE = "candidate"
"""What `status` says of a candidate; of any other observation it says why it is none."""


@dataclass(frozen=True, kw_only=True)
class PsfCandidate:
    """An observation that may enter the library, or the reason why it may not.

    Attributes
    ----------
    observation, night, object_name, filter_name, telescope : str
    is_candidate : bool
    status : str
        `CANDIDATE`, or why it is none, in words.
    strehl_percent, fwhm_arcsec, elongation : float
        NaN if unknown.
    companion : str
    n_modes : int
    sha256 : str
        Of the prepared frame.
    in_library : bool
    same_frame : bool
        The frame of the library is the candidate's; else it was made anew since.
    version : str
        Changes with the preview.
    """

    observation: str
    night: str
    object_name: str
    filter_name: str
    telescope: str
    is_candidate: bool
    status: str
    strehl_percent: float
    fwhm_arcsec: float
    elongation: float
    companion: str
    n_modes: int
    sha256: str
    in_library: bool
    same_frame: bool
    version: str

    @property
    def preview_key(self) -> str:
        """Key of the preview in the catalogue."""
        return preview_key(self.night, self.observation)


def section_of(observation: str) -> str:
    """Section of the night's document that an observation's candidate stands in."""
    return f"{SECTION}.{psf_candidate_key(observation)}"


def preview_key(night: str, observation: str) -> str:
    """Key of a candidate's preview in the catalogue."""
    return f"{night}/psf_candidate/{observation}"


def candidate_record(catalogue: Catalogue, night: str, observation: str) -> dict[str, Any]:
    """What the night's document has of an observation's candidate; empty if nothing."""
    section = (catalogue.night(night) or {}).get(SECTION)
    record = section.get(psf_candidate_key(observation)) if isinstance(section, Mapping) else None
    return dict(record) if isinstance(record, Mapping) else {}


def read_candidates(
    catalogue: Catalogue, paths: ArchivePaths, night: str
) -> tuple[PsfCandidate, ...]:
    """Return what is known of a night's candidates, in time order.

    Raises
    ------
    PsfLibraryError
        If the library cannot be read.
    """
    section = (catalogue.night(night) or {}).get(SECTION)
    records = section if isinstance(section, Mapping) else {}
    known = PsfLibrary(paths.psf_library).checksums()
    names = _names_by_key(catalogue, night, records)
    candidates = [
        _candidate(night, names.get(key, key), record, known)
        for key, record in records.items()
        if isinstance(record, Mapping)
    ]
    return tuple(sorted(candidates, key=lambda c: c.observation.rsplit("_", 2)[1:]))


def add_candidate(
    catalogue: Catalogue,
    paths: ArchivePaths,
    night: str,
    observation: str,
    *,
    by: str,
    comment: str = "",
) -> None:
    """Add a candidate, as its file has it, to the library.

    Parameters
    ----------
    catalogue : Catalogue
        Not only for reading.
    paths : ArchivePaths
    night, observation : str
    by, comment : str
        For the history of the library, and the log.

    Raises
    ------
    PsfLibraryError
        If the observation is no candidate, its file is not what the catalogue says, or the
        library refuses it.
    """
    record = candidate_record(catalogue, night, observation)
    if not record:
        raise PsfLibraryError(
            f"the night {night} has no PSF candidate {observation}: see whether the id is right, "
            f"then materialise psf_candidate of it"
        )
    if record.get("done") is not True:
        raise PsfLibraryError(
            f"{observation} cannot enter the PSF library: "
            f"{record.get('reason') or record.get('status') or 'its candidate was never made'}"
        )
    path = paths.psf_candidate(night, observation, "fits")
    entry = read_psf_candidate(path)
    if entry.sha256 != record.get("sha256") or entry.obs_name != observation:
        raise PsfLibraryError(
            f"the PSF candidate {path} is not the one that the catalogue knows of {observation}: "
            f"materialise psf_candidate of it again"
        )
    PsfLibrary(paths.psf_library).add(entry, by=by, comment=comment)
    catalogue.publish_night(night, section_of(observation), {"in_lib": True})
    catalogue.actions.record(observation, "added to the PSF library", by=by, comment=comment)


def remove_star(
    catalogue: Catalogue, paths: ArchivePaths, observation: str, *, by: str, comment: str = ""
) -> None:
    """Remove a star from the library; the catalogue need not know of it.

    Raises
    ------
    PsfLibraryError
        If it is not in the library.
    """
    PsfLibrary(paths.psf_library).remove(observation, by=by, comment=comment)
    night = night_of_id(observation)
    record = candidate_record(catalogue, night, observation) if night else {}
    if record:
        done = record.get("done") is True
        catalogue.publish_night(night, section_of(observation), {"in_lib": False}, done=done)
    catalogue.actions.record(observation, "removed from the PSF library", by=by, comment=comment)


def night_of_id(observation: str) -> str:
    """Return the night of an observation's id, empty if it is none."""
    try:
        return f"{parse_exposure_name(observation).utc:%Y%m%d}"
    except RawDataError:
        return ""


def _names_by_key(catalogue: Catalogue, night: str, records: Mapping[str, Any]) -> dict[str, str]:
    """Observations by the keys of their candidates; a failure's record has but its key."""
    names = {
        key: _text(record.get("observation"))
        for key, record in records.items()
        if isinstance(record, Mapping) and record.get("observation")
    }
    if len(names) < len(records):
        query = ObservationQuery(nights=(night,), summary_only=True)
        ids = [str(document["_id"]) for document in catalogue.find_observations(query)]
        names |= {psf_candidate_key(identifier): identifier for identifier in ids}
    return names


def _candidate(
    night: str, observation: str, record: Mapping[str, Any], known: Mapping[str, str]
) -> PsfCandidate:
    done = record.get("done") is True
    status = CANDIDATE if done else _text(record.get("reason")) or _text(record.get("status"))
    sha256 = _text(record.get("sha256"))
    n_modes = record.get("n_modes")
    return PsfCandidate(
        observation=observation,
        night=night,
        object_name=_text(record.get("object")),
        filter_name=_text(record.get("filter")),
        telescope=_text(record.get("telescope")),
        is_candidate=done,
        status=status or "not made yet",
        strehl_percent=_number(record.get("strehl_percent")),
        fwhm_arcsec=_number(record.get("fwhm_arcsec")),
        elongation=_number(record.get("elongation")),
        companion=_text(record.get("companion")),
        n_modes=n_modes if isinstance(n_modes, int) else 0,
        sha256=sha256,
        in_library=observation in known,
        same_frame=known.get(observation) == sha256,
        version=_text(record.get("fingerprint"))[:16],
    )


def _number(value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good else math.nan


def _text(value: Any) -> str:
    return "" if value is None else str(value)
