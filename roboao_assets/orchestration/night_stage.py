"""How a stage of a night becomes an asset."""

from collections.abc import Sequence
from typing import Protocol

import dagster as dg

from roboao_assets.orchestration.events import materialize_result
from roboao_assets.orchestration.failures import failure_of
from roboao_assets.orchestration.resources import CodeLocation, StageConfig
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.settings import Settings

OWNERS = ("team:roboao-archive",)


class NightStage(Protocol):
    """A stage of `roboao_assets.pipelines.night`."""

    def __call__(self, settings: Settings, night: str, *, force: bool = False) -> StageOutcome:
        """Make the product of `night`; `force`: even if nothing has changed."""


def build_night_asset(
    location: CodeLocation,
    name: str,
    run: NightStage,
    *,
    group: str,
    description: str,
    deps: Sequence[str | dg.AssetDep] = (),
    kinds: set[str] | None = None,
) -> dg.AssetsDefinition:
    """Return the night-partitioned asset that `run` makes.

    Parameters
    ----------
    location : CodeLocation
    name : str
        Name of the asset and of the stage.
    run : callable
        What makes it.
    group, description, deps, kinds
        As Dagster shows them.
    """

    @dg.asset(
        name=name,
        partitions_def=location.partitions.nights,
        group_name=group,
        description=description,
        deps=deps,
        kinds=kinds or {"fits"},
        code_version=CODE_VERSIONS[name],
        owners=OWNERS,
        output_required=True,
    )
    def night_asset(context: dg.AssetExecutionContext, config: StageConfig) -> dg.MaterializeResult:
        outcome = run(location.settings, context.partition_key, force=config.force)
        if not outcome.succeeded:
            context.log.error(f"{outcome.stage}: {outcome.reason}")
            raise failure_of(outcome, context.partition_key, context.retry_number + 1)
        if outcome.reason:
            context.log.info(f"{outcome.stage}: {outcome.status}: {outcome.reason}")
        return materialize_result(outcome)

    return night_asset
