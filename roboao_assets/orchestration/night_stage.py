"""How a stage of a night becomes an asset."""

from collections.abc import Sequence

import dagster as dg

from roboao_assets.orchestration.events import materialize_result, night_page
from roboao_assets.orchestration.failures import failure_of
from roboao_assets.orchestration.resources import CodeLocation, StageConfig
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.settings import Settings

OWNERS = ("team:roboao-archive",)


def run_night_stage(
    stage: str, settings: Settings, night: str, *, force: bool = False
) -> StageOutcome:
    """Make the product called `stage` of a night."""
    # What the physics imports takes three seconds, which neither the loading of the code
    # location nor a sensor has to wait for.
    from roboao_assets.pipelines import night as stages

    work = {
        "raw_night": stages.register_night,
        "master_darks": stages.make_master_darks,
        "master_flats": stages.make_master_flats,
        "bad_pixel_mask": stages.make_bad_pixel_mask,
        "seeing": stages.measure_night_seeing,
        "strehl_summary": stages.summarise_strehl,
        "contrast_summary": stages.summarise_contrast,
        "night_report": stages.report_night,
    }[stage]
    return work(settings, night, force=force)


def build_night_asset(
    location: CodeLocation,
    name: str,
    *,
    group: str,
    description: str,
    deps: Sequence[str | dg.AssetDep] = (),
    kinds: set[str] | None = None,
) -> dg.AssetsDefinition:
    """Return the night-partitioned asset of the stage `name`.

    Parameters
    ----------
    location : CodeLocation
    name : str
        Name of the asset and of the stage.
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
        settings = config.applied_to(location.settings)
        outcome = run_night_stage(name, settings, context.partition_key, force=config.force)
        if not outcome.succeeded:
            context.log.error(f"{outcome.stage}: {outcome.reason}")
            raise failure_of(outcome, context.partition_key, context.retry_number + 1)
        if outcome.reason:
            context.log.info(f"{outcome.stage}: {outcome.status}: {outcome.reason}")
        return materialize_result(outcome, night_page(settings, context.partition_key))

    return night_asset
