"""The jobs of the archive: what is made together."""

from typing import NamedTuple

import dagster as dg

# What `define_asset_job` returns; Dagster has no public name for it.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from roboao_assets.assets.observation_products import STAGES
from roboao_assets.automation.tags import NIGHT_TAG
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.redo import NIGHT_STAGES

CALIBRATION_ASSETS = NIGHT_STAGES
SUMMARY_ASSETS = ("strehl_summary", "contrast_summary", "night_report")

# Their step is the reduction of any number of observations.
REDUCTION_STEP = "reduce_observation"


class ArchiveJobs(NamedTuple):
    """The three jobs of a night, in order, and the one that follows the PSF library."""

    calibrate_night: UnresolvedAssetJobDefinition
    reduce_observations: UnresolvedAssetJobDefinition
    summarise_night: UnresolvedAssetJobDefinition
    follow_psf_library: UnresolvedAssetJobDefinition


def build_jobs(location: CodeLocation) -> ArchiveJobs:
    """Return the jobs."""
    # So that also what is launched on Dagster's pages counts as a run of its night.
    of_night = dg.PartitionedConfig(
        partitions_def=location.partitions.nights,
        run_config_for_partition_key_fn=lambda night: {},
        tags_for_partition_key_fn=lambda night: {NIGHT_TAG: night},
    )
    return ArchiveJobs(
        dg.define_asset_job(
            "calibrate_night",
            selection=dg.AssetSelection.assets(*CALIBRATION_ASSETS),
            config=of_night,
            description="Registers a night, makes its masters, measures its seeing.",
        ),
        dg.define_asset_job(
            "reduce_observations",
            selection=dg.AssetSelection.assets(*STAGES),
            description="Reduces a range of observations on the Dask cluster.",
        ),
        dg.define_asset_job(
            "summarise_night",
            selection=dg.AssetSelection.assets(*SUMMARY_ASSETS),
            config=of_night,
            description="Plots what a night's observations have given.",
        ),
        dg.define_asset_job(
            "follow_psf_library",
            selection=dg.AssetSelection.assets("psf_library"),
            description="Tells which observations a change of the PSF library has made stale.",
        ),
    )


def step_config(steps: tuple[str, ...], **values: bool) -> dict:
    """Return the run configuration that gives `values` to each of `steps` (`StageConfig`)."""
    return {"ops": {step: {"config": dict(values)} for step in steps}}
