"""The PSF library: the administrator's, observed by Dagster and never written by it.

A change makes the PCA of some observations stale. Which ones is told by the check
`references_current` of `pca_residual`, evaluated here for those concerned, and nothing is redone
by itself. The sensor `psf_library_changes` starts the observation after every change; it
is a run and no work of the sensor's, as judging an archive of 30,000 observations takes
longer than a sensor may.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from roboao_assets.orchestration.markdown import markdown_text
from roboao_assets.orchestration.night_stage import OWNERS
from roboao_assets.orchestration.reference_checks import (
    news_of_references,
    references_evaluation,
)
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary

GROUP = "high_contrast"
# Of observations that are stale: the page of the check has all.
_MOST_SENTENCES = 20


def build_psf_library(location: CodeLocation) -> list[dg.AssetsDefinition]:
    """Return the observed asset `psf_library`."""
    library = PsfLibrary(ArchivePaths(location.settings.archive_root.absolute()).psf_library)
    spec = dg.AssetSpec(
        "psf_library",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"fits"},
        description=(
            "`psf_library.fits`: reference PSFs that the administrator took in, and the history "
            "of every change. The check `references_current` of `pca_residual` tells which "
            "observations a change has made stale."
        ),
    )
    with warnings.catch_warnings():
        # In beta; there is no other kind of asset that Dagster looks at and does not make.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.multi_observable_source_asset(name="observe_psf_library", specs=[spec])
        def observe_psf_library(context: dg.AssetExecutionContext) -> Iterator[dg.ObserveResult]:
            try:
                metadata, version = _describe(library)
                stale = []
                for judgement in news_of_references(context.instance, location):
                    context.log_event(references_evaluation(context.instance, judgement))
                    if not judgement.current:
                        stale.append(f"{judgement.observation}: {judgement.sentence}")
            except ArchiveError as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            for sentence in stale[:_MOST_SENTENCES]:
                context.log.warning(sentence)
            if len(stale) > _MOST_SENTENCES:
                context.log.warning(f"and {len(stale) - _MOST_SENTENCES} more observations")
            yield dg.ObserveResult(
                asset_key="psf_library",
                data_version=dg.DataVersion(version),
                metadata={**metadata, "stale_observations": len(stale)},
            )

    return [observe_psf_library]


def _describe(library: PsfLibrary) -> tuple[dict[str, Any], str]:
    """What the page of the asset shows of the library, and its data version."""
    if not library.path.exists():
        return {"status": "there is none yet", "stars": 0}, "none"
    rows, history = library.show(), library.history()
    lines = ["| observation | object | filter | Strehl (%) | companion |", "|---|---|---|---|---|"]
    lines += [
        f"| {markdown_text(row['obs_name'])} | {markdown_text(row['obj_name'])} "
        f"| {markdown_text(row['filter'])} | {row['strehl_percent']:.1f} "
        f"| {markdown_text(row['companion'])} |"
        for row in rows
    ]
    metadata: dict[str, Any] = {
        "stars": len(rows),
        "list": dg.MetadataValue.md("\n".join(lines)),
        "changes": len(history),
        "size_bytes": library.path.stat().st_size,
    }
    if history:
        last = history[-1]
        metadata["last_change"] = (
            f"{last.date_utc:%Y-%m-%d %H:%M:%S} UTC: {last.obs_name} {last.action} by {last.by}"
            + (f" ({last.comment})" if last.comment else "")
        )
    return metadata, library.fingerprint()
