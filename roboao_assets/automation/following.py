"""The sensors that go on where a run has ended: masters, observations, summaries of a night."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

# What `define_asset_job` returns; Dagster has no public name for it.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG

from roboao_assets.assets.observation_products import STAGES
from roboao_assets.automation.jobs import (
    CALIBRATION_ASSETS,
    REDUCTION_STEP,
    SUMMARY_ASSETS,
    ArchiveJobs,
    step_config,
)
from roboao_assets.automation.raw_nights import waits_for_calibration
from roboao_assets.automation.tags import (
    FOREGROUND_TAG,
    PARTITION_TAG,
    asked_of,
    following_tags,
    nights_of_run,
    observations_of_run,
    range_tags,
)
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.redo import BY_ARCHIVE
from roboao_assets.storage.catalogue import open_catalogue

# A run that died is not gone after at once: what killed it may still be there.
_WAIT_AFTER_DEATH = timedelta(minutes=1)


def build_following_sensors(location: CodeLocation, jobs: ArchiveJobs) -> list[dg.SensorDefinition]:
    """Return the sensors after calibration and after reduction."""
    return [
        *_calibrated_nights_sensors(location, jobs),
        *_reduced_nights_sensors(location, jobs),
    ]


def _calibrated_nights_sensors(
    location: CodeLocation, jobs: ArchiveJobs
) -> list[dg.SensorDefinition]:
    def follow(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        tags = context.dagster_run.tags
        night = tags.get(PARTITION_TAG, "")
        if FOREGROUND_TAG in tags:
            return dg.SkipReason("a foreground run goes on by itself")
        ends = range_tags(location, night)
        if ends is None:
            return dg.SkipReason(f"night {night} has no observations")
        missing = _unmade_masters(context)
        if missing:
            return _after_no_calibration(location, context, night, missing)
        return dg.RunRequest(
            tags={**ends, **following_tags(tags, night)},
            run_config=step_config((REDUCTION_STEP,), **asked_of(tags)),
        )

    return _run_status_sensors(
        location,
        follow,
        name="calibrated_nights",
        after=jobs.calibrate_night,
        start=jobs.reduce_observations,
        description="Reduces the observations of a night whose masters are there.",
    )


def _unmade_masters(context: dg.RunStatusSensorContext) -> list[str]:
    run: dg.DagsterRun | None = context.dagster_run
    made: set[str] = set()
    # A seeing exposure that fails must not keep the observations from being reduced.
    missing = [name for name in CALIBRATION_ASSETS if name != "seeing"]
    while run is not None and missing:
        made |= _materialised(context.instance, run)
        steps, parent = run.step_keys_to_execute, run.parent_run_id
        missing = [name for name in missing if name not in made]
        # A run that goes on where another died does not make again what that one had made.
        if parent is None or steps is None or set(missing) & set(steps):
            break
        run = context.instance.get_run_by_id(parent)
    return missing


def _materialised(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    return {
        record.asset_key.to_user_string()
        for record in instance.get_records_for_run(
            run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
        ).records
        if record.asset_key is not None
    }


def _after_no_calibration(
    location: CodeLocation, context: dg.RunStatusSensorContext, night: str, missing: list[str]
) -> dg.SkipReason:
    """Leave a night to wait for its files; one whose run died unheard is asked for again."""
    run = context.dagster_run
    with open_catalogue(location.settings.resolved_catalogue_url) as catalogue:
        asked = catalogue.requests.of(night)
        told = waits_for_calibration(catalogue, night) or asked is not None
        if not told and run.status == DagsterRunStatus.FAILURE and _is_over(context.instance, run):
            catalogue.requests.ask(
                night,
                night,
                missing,
                by=BY_ARCHIVE,
                why=f"the run {run.run_id} ended before they were made",
                force=False,
                not_before=location.now() + _WAIT_AFTER_DEATH,
            )
    return dg.SkipReason(f"night {night} is not calibrated: {', '.join(missing)}")


def _is_over(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether Dagster itself has not started the run again.

    `dagster/will_retry` only says that it means to: the tag comes after the event that a sensor
    sees, and stays when nothing comes of it. What is asked for in vain waits a minute, and is
    finished by the run that Dagster starts after all.
    """
    now = instance.get_run_by_id(run.run_id) or run
    again = now.tags.get(AUTO_RETRY_RUN_ID_TAG)
    return again is None or instance.get_run_by_id(again) is None


def _reduced_nights_sensors(location: CodeLocation, jobs: ArchiveJobs) -> list[dg.SensorDefinition]:
    def follow(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        tags = context.dagster_run.tags
        if FOREGROUND_TAG in tags:
            yield dg.SkipReason("a foreground run goes on by itself")
            return
        run = context.dagster_run
        if run.status == DagsterRunStatus.FAILURE and _is_over(context.instance, run):
            _ask_for_untried(location, context)
        for night in nights_of_run(location, tags):
            yield dg.RunRequest(
                partition_key=night,
                tags=following_tags(tags, night),
                run_config=step_config(SUMMARY_ASSETS, **asked_of(tags)),
            )

    return _run_status_sensors(
        location,
        follow,
        name="reduced_nights",
        after=jobs.reduce_observations,
        start=jobs.summarise_night,
        description="Summarises a night after its observations, however many of them failed.",
    )


def _ask_for_untried(location: CodeLocation, context: dg.RunStatusSensorContext) -> None:
    """Ask again for the observations that a run did not come to before it ended."""
    run = context.dagster_run
    kinds = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION}
    tried = {
        record.partition_key
        for kind in kinds
        for record in context.instance.get_records_for_run(run.run_id, of_type=kind).records
    }
    untried = [o for o in observations_of_run(location, run.tags) if o not in tried]
    if not untried:
        return
    stages = sorted(key.to_user_string() for key in run.asset_selection or ()) or list(STAGES)
    night_by_observation = location.partitions.manifest.night_by_observation
    with open_catalogue(location.settings.resolved_catalogue_url) as catalogue:
        for observation in untried:
            if catalogue.requests.of(observation) is None:
                catalogue.requests.ask(
                    observation,
                    night_by_observation[observation],
                    stages,
                    by=BY_ARCHIVE,
                    why=f"the run {run.run_id} ended before it was reduced",
                    force=False,
                    not_before=location.now() + _WAIT_AFTER_DEATH,
                )


def _run_status_sensors(
    location: CodeLocation,
    follow: Callable[..., Iterator[dg.RunRequest | dg.SkipReason] | dg.RunRequest | dg.SkipReason],
    *,
    name: str,
    after: UnresolvedAssetJobDefinition,
    start: UnresolvedAssetJobDefinition,
    description: str,
) -> list[dg.SensorDefinition]:
    # One sensor a status: Dagster's run-status sensors watch one each.
    return [
        dg.run_status_sensor(
            run_status=status,
            name=f"{name}_{status.value.lower()}",
            monitored_jobs=[after],
            request_job=start,
            minimum_interval_seconds=min(location.settings.sensor_interval_s, 30),
            default_status=dg.DefaultSensorStatus.RUNNING,
            description=description,
        )(follow)
        for status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)
    ]
