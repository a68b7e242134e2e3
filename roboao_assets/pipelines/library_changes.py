"""What a change of the PSF library means for observations that were compared with it.

Nothing is redone here: an observation is judged, and what is to be done with the judgement is
the operator's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from roboao_assets.pipelines.bright_star import PIPELINE
from roboao_assets.science.errors import FitFailedError, NoReferencesError
from roboao_assets.science.high_contrast import annulus_that_matters, choose_references
from roboao_assets.science.star_quality import measure_core
from roboao_assets.storage.catalogue import Catalogue, ObservationQuery, night_of, product
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import (
    LibraryChange,
    PsfEntry,
    PsfLibrary,
    PsfLibraryError,
    read_psf_candidate,
)

# A first guess: the filter leaves the core some four pixels wide.
_FIRST_FWHM_PX = 4.0
_ADVICE = "materialise pca_residual to"
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class ReferenceJudgement:
    """Whether the PCA of an observation would now be made with the stars it was made with.

    Attributes
    ----------
    observation : str
    current : bool
    sentence : str
        What changed, and what to do; empty if it is current.
    """

    observation: str
    current: bool
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class _Reduction:
    """The PCA of an observation as the catalogue has it."""

    observation: str
    night: str
    object_name: str
    filter_name: str
    telescope: str
    used: tuple[str, ...]
    made: datetime


def judge_references(
    catalogue: Catalogue, paths: ArchivePaths, nights: Iterable[str], *, references: int = 1
) -> Iterator[ReferenceJudgement]:
    """Judge every observation of `nights` that a PCA was made of, or was found no reference for.

    Parameters
    ----------
    catalogue : Catalogue
    paths : ArchivePaths
    nights : iterable of str
    references : int
        How many references the settings ask for at least.

    Yields
    ------
    ReferenceJudgement

    Raises
    ------
    PsfLibraryError
        If the library cannot be read.
    """
    library = PsfLibrary(paths.psf_library)
    entries, history = library.entries(with_modes=False), library.history()
    for night in nights:
        query = ObservationQuery(nights=(night,), sort=("date_utc", True), summary_only=True)
        for document in catalogue.find_observations(query):
            reduction = _read_reduction(document)
            if reduction is not None:
                yield _judge(reduction, paths, entries, history, references)


def would_use(
    star: PsfEntry,
    used: Sequence[PsfEntry],
    new: Sequence[PsfEntry],
    *,
    number: int,
) -> list[tuple[PsfEntry, float, float | None]]:
    """Return which of the stars `new` would now be references of `star`: the one rule of that.

    The stars that were used and the new ones are put before the same choice as in the PCA
    (`choose_references`: objects, filter and telescope, preparation, correlation).

    Parameters
    ----------
    star : PsfEntry
        The observation's own candidate.
    used, new : sequence of PsfEntry
        References of its PCA that are still there; stars that came later.
    number : int
        References that the PCA takes.

    Returns
    -------
    list of (PsfEntry, float, float or None)
        Each new reference, its correlation, and the lowest correlation of those used before,
        None if there is none among the stars that may be compared.
    """
    stars = [*used, *new]
    if not stars:
        return []
    half_px = star.frame.shape[0] // 2
    try:
        core = measure_core(star.frame, half_px, half_px, _FIRST_FWHM_PX)
        annulus_px = annulus_that_matters(core.fwhm_px, half_px)
        chosen, correlations = _choose(star, stars, number, annulus_px)
    except (NoReferencesError, FitFailedError):
        # A star without a core is none that anything could be subtracted from.
        return []
    found = {int(i): float(c) for i, c in zip(chosen, correlations, strict=True)}
    if not any(i >= len(used) for i in found):
        return []
    every, all_correlations = _choose(star, stars, len(stars), annulus_px)
    before = [float(c) for i, c in zip(every, all_correlations, strict=True) if int(i) < len(used)]
    lowest = min(before, default=None)
    return [(stars[i], c, lowest) for i, c in found.items() if i >= len(used)]


def _choose(
    star: PsfEntry, stars: Sequence[PsfEntry], number: int, annulus_px: tuple[float, float]
) -> tuple[Any, Any]:
    return choose_references(
        star.frame,
        np.array([s.frame for s in stars]),
        [s.obj_name for s in stars],
        [s.filter_name for s in stars],
        [s.telescope for s in stars],
        object_name=star.obj_name,
        filter_name=star.filter_name,
        telescope=star.telescope,
        number=number,
        annulus_px=annulus_px,
        library_preparations=[s.preparation for s in stars],
        preparation=star.preparation,
    )


def _judge(
    reduction: _Reduction,
    paths: ArchivePaths,
    entries: Sequence[PsfEntry],
    history: Sequence[LibraryChange],
    references: int,
) -> ReferenceJudgement:
    present = {entry.obs_name: entry for entry in entries}
    reasons = _lost_references(reduction, present, history)
    # Dates are in whole seconds: of the second of the PCA itself, stars may be either.
    since = reduction.made.replace(microsecond=0)
    new = [
        entry
        for entry in entries
        if entry.obs_name not in reduction.used and (entry.date_added or _LONG_AGO) >= since
    ]
    if new:
        used = [present[name] for name in reduction.used if name in present]
        number = max(len(reduction.used), references)
        reasons += _gained_references(reduction, paths, used, new, number)
    if not reasons:
        return ReferenceJudgement(observation=reduction.observation, current=True)
    purpose = "use it" if len(reasons) == 1 and " was added" in reasons[0] else "renew it"
    return ReferenceJudgement(
        observation=reduction.observation,
        current=False,
        sentence=f"the library changed: {'; '.join(reasons)}: {_ADVICE} {purpose}",
    )


def _lost_references(
    reduction: _Reduction, present: Mapping[str, PsfEntry], history: Sequence[LibraryChange]
) -> list[str]:
    reasons = []
    for name in reduction.used:
        if name not in present:
            reasons.append(f"{name} was removed")
        elif _was_another(name, present[name].sha256, history, reduction.made):
            reasons.append(f"the frame of {name} was replaced")
    return reasons


def _was_another(name: str, sha256: str, history: Sequence[LibraryChange], made: datetime) -> bool:
    """Whether the frame of a star was another one when the PCA was made."""
    own = [change for change in history if change.obs_name == name]
    # Of the second of the PCA itself nobody knows: it counts as after it.
    since = made.replace(microsecond=0)
    before = [change for change in own if change.date_utc < since and change.action == "added"]
    if before:
        return before[-1].sha256 != sha256
    # What was there before its first addition on record is told by its first removal.
    gone = [change for change in own if change.action == "removed"]
    return bool(gone) and gone[0].sha256 != sha256


def _gained_references(
    reduction: _Reduction,
    paths: ArchivePaths,
    used: Sequence[PsfEntry],
    new: Sequence[PsfEntry],
    number: int,
) -> list[str]:
    # Without a look at any pixel: most changes are of another filter or telescope.
    best = min((_tier(entry, reduction) for entry in used), default=None)
    eligible = [
        entry
        for entry in new
        if entry.obj_name != reduction.object_name
        and (best is None or _tier(entry, reduction) <= best)
    ]
    if not eligible:
        return []
    path = paths.psf_candidate(reduction.night, reduction.observation, "fits")
    try:
        star = read_psf_candidate(path, with_modes=False)
    except PsfLibraryError:
        names = ", ".join(entry.obs_name for entry in eligible)
        return [f"{names} was added (its correlation is not known: there is no candidate {path})"]
    reasons = []
    for entry, correlation, lowest in would_use(star, used, eligible, number=number):
        if lowest is None:
            compared = "no like reference was there before"
        elif correlation > lowest:
            compared = f"{correlation:.4f} > {lowest:.4f} of the last reference"
        else:
            compared = f"{correlation:.4f}, and there were only {len(used)} references"
        reasons.append(f"{entry.obs_name} was added (correlation {compared})")
    return reasons


def _tier(entry: PsfEntry, reduction: _Reduction) -> int:
    """How alike filter and telescope are, 0 the most: the order of `choose_references`."""
    same_filter = entry.filter_name == reduction.filter_name
    same_telescope = entry.telescope == reduction.telescope
    return 2 * (not same_telescope) + (not same_filter)


def _read_reduction(document: Mapping[str, Any]) -> _Reduction | None:
    """What was compared with the library; None if the observation has no star, or failed."""
    stack, pca = product(document, PIPELINE), product(document, f"{PIPELINE}.pca")
    status = pca.get("status")
    if not stack.get("lock_position") or not isinstance(status, Mapping):
        return None
    done = status.get("done") is True
    if not done and status.get("retries"):
        return None
    pairs = pca.get("library_psf_id_corr") if done else ()
    used = tuple(
        str(pair[0]) for pair in pairs or () if isinstance(pair, Sequence) and len(pair) == 2
    )
    # The contrast curve is published in the same place later; the preview with the PCA.
    preview = pca.get("preview")
    made = preview.get("last_modified") if done and isinstance(preview, Mapping) else None
    made = made or pca.get("last_modified")
    return _Reduction(
        observation=str(document.get("_id", "")),
        night=night_of(document) or "",
        object_name=str(document.get("name", "")),
        filter_name=str(document.get("filter", "")),
        telescope=str(document.get("telescope", "")),
        used=used,
        made=made if isinstance(made, datetime) else _LONG_AGO,
    )
