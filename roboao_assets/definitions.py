"""The Dagster code location: everything is put together here, and nothing else is done."""

import dagster as dg

from roboao_assets.assets.calibration import build_calibration
from roboao_assets.assets.calibration_checks import build_calibration_checks
from roboao_assets.assets.night_summaries import build_night_summaries, build_summary_checks
from roboao_assets.assets.observation_products import build_observation_products
from roboao_assets.assets.psf_library import build_psf_library
from roboao_assets.assets.raw_night import build_raw_checks, build_raw_night
from roboao_assets.automation import build_sensors
from roboao_assets.automation.jobs import build_jobs
from roboao_assets.orchestration.resources import CodeLocation, load_code_location
from roboao_assets.orchestration.step_executor import build_step_executor
from roboao_assets.storage.settings import load_settings


def build_definitions(location: CodeLocation) -> dg.Definitions:
    """Return the assets, checks, jobs and sensors of an archive."""
    jobs = build_jobs(location)
    return dg.Definitions(
        assets=[
            *build_raw_night(location),
            *build_calibration(location),
            *build_psf_library(location),
            *build_observation_products(location),
            *build_night_summaries(location),
        ],
        asset_checks=[
            *build_raw_checks(location),
            *build_calibration_checks(location),
            *build_summary_checks(location),
        ],
        jobs=list(jobs),
        sensors=build_sensors(location, jobs),
        # Unless asked otherwise a run is one process: a process a step costs some four seconds
        # each, and what is heavy runs on the cluster (docs/adr/0004-cluster.md).
        executor=build_step_executor(location.settings),
    )


@dg.definitions
def archive() -> dg.Definitions:
    """The archive that the settings of this process name."""
    return build_definitions(load_code_location(load_settings()))
