"""Telling Dagster which observations a change of the PSF library has made stale.

Dagster's own staleness does not see it: the library is no partition's, and what was made with
it says only which of its stars it took. So the check `references_current` of `pca_residual`
is evaluated for the observations concerned, outside of any run of theirs.
"""

from collections.abc import Iterable, Iterator

import dagster as dg

# What Dagster has no public name for, and without which a later look at the check's partitions
# takes its evaluation for one of an older product.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.library_changes import ReferenceJudgement, judge_references
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.paths import ArchivePaths

ASSET, CHECK = "pca_residual", "references_current"


def references_evaluation(
    instance: dg.DagsterInstance, judgement: ReferenceJudgement
) -> dg.AssetCheckEvaluation:
    """Return what the check says of an observation, bound to the newest of its products."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(ASSET),
        check_name=CHECK,
        passed=judgement.current,
        partition=judgement.observation,
        severity=dg.AssetCheckSeverity.WARN,
        description=judgement.sentence or None,
        target_materialization_data=newest_product(instance, ASSET, judgement.observation),
    )


def news_of_references(
    instance: dg.DagsterInstance, location: CodeLocation
) -> Iterator[ReferenceJudgement]:
    """Judge the observations that Dagster knows; yield those that the check has news of.

    Those that are current and were before are left out: an event costs 20 to 30 ms. The caller
    logs the evaluations in a run: outside of one, Dagster takes a single one for each partition
    and fails at the next.

    Raises
    ------
    PsfLibraryError
        If the library cannot be read.
    """
    known = location.partitions.manifest.night_by_observation
    failing = failing_observations(instance)
    for judgement in judge_nights(location, location.partitions.manifest.nights):
        news = not judgement.current or judgement.observation in failing
        if news and judgement.observation in known:
            yield judgement


def judge_nights(location: CodeLocation, nights: Iterable[str]) -> Iterator[ReferenceJudgement]:
    """Judge the observations of `nights` (`pipelines.library_changes.judge_references`)."""
    settings = location.settings
    # An int, or a rule by which a number is found: the fewest that it takes is one.
    asked = settings.high_contrast.references
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        yield from judge_references(
            catalogue,
            ArchivePaths(settings.archive_root.absolute()),
            nights,
            references=asked if isinstance(asked, int) else 1,
        )


def failing_observations(instance: dg.DagsterInstance) -> set[str]:
    """Observations whose last evaluation of the check failed."""
    key = dg.AssetCheckKey(dg.AssetKey(ASSET), CHECK)
    return {
        info.partition_key
        for info in instance.event_log_storage.get_asset_check_partition_info([key])
        if info.partition_key is not None
        and info.latest_execution_status == AssetCheckExecutionRecordStatus.FAILED
    }


def newest_product(
    instance: dg.DagsterInstance, asset: str, observation: str
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """Return the materialisation that an evaluation is about; None if there is none."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[observation]), limit=1
    ).records
    if not records:
        return None
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=records[0].storage_id,
        run_id=records[0].run_id,
        timestamp=records[0].timestamp,
    )
