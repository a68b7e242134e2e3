"""The sensors that go on where a run has ended: masters, observations, summaries of a night."""

from collections import defaultdict
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
    UNSETTLED_TAG,
    asked_of,
    following_tags,
    nights_of_run,
    observations_of_run,
    range_tags,
)
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.redo import BY_ARCHIVE, failures_of
from roboao_assets.pipelines.retrying import may_pass
from roboao_assets.science.errors import CatalogueUnavailableError
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
        missing = _unmade_masters(context.instance, context.dagster_run)
        if missing:
            settle_or_remember(location, context.instance, context.dagster_run)
            return dg.SkipReason(f"night {night} is not calibrated: {', '.join(missing)}")
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


def _unmade_masters(instance: dg.DagsterInstance, ended: dg.DagsterRun) -> list[str]:
    run: dg.DagsterRun | None = ended
    made: set[str] = set()
    # A seeing exposure that fails must not keep the observations from being reduced.
    missing = [name for name in CALIBRATION_ASSETS if name != "seeing"]
    while run is not None and missing:
        made |= _materialised(instance, run)
        steps, parent = run.step_keys_to_execute, run.parent_run_id
        missing = [name for name in missing if name not in made]
        # A run that goes on where another died does not make again what that one had made.
        if parent is None or steps is None or set(missing) & set(steps):
            break
        run = instance.get_run_by_id(parent)
    return missing


def _materialised(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    return {
        record.asset_key.to_user_string()
        for record in instance.get_records_for_run(
            run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
        ).records
        if record.asset_key is not None
    }


def settle_or_remember(
    location: CodeLocation, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    """Ask for what a failed run has not come to; while the catalogue is away, remember the run.

    What took the catalogue away may have ended the run as well. A run-status sensor hears of an
    end once, and not again when its tick has failed.
    """
    if run.status != DagsterRunStatus.FAILURE or not _is_over(instance, run):
        return
    try:
        _settle(location, instance, run)
    except CatalogueUnavailableError:
        instance.add_run_tags(run.run_id, {UNSETTLED_TAG: "true"})


def settle_remembered(location: CodeLocation, instance: dg.DagsterInstance) -> list[str]:
    """Ask for what remembered runs have not come to, now that the catalogue is there.

    Returns
    -------
    list of str
        Ids of the runs.
    """
    settled = []
    for run in instance.get_runs(dg.RunsFilter(tags={UNSETTLED_TAG: "true"})):
        if _is_over(instance, run):
            _settle(location, instance, run)
        instance.add_run_tags(run.run_id, {UNSETTLED_TAG: "false"})
        settled.append(run.run_id)
    return settled


def _settle(location: CodeLocation, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    if run.tags.get(PARTITION_TAG) in location.partitions.manifest.nights:
        _ask_for_masters(location, instance, run)
    else:
        _ask_for_untried(location, instance, run)


def _ask_for_masters(
    location: CodeLocation, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    """Ask again for a night whose run died unheard, but not if it waits for its files."""
    night = run.tags.get(PARTITION_TAG, "")
    with open_catalogue(location.settings.resolved_catalogue_url) as catalogue:
        asked = catalogue.requests.of(night)
        if waits_for_calibration(catalogue, night) or asked is not None:
            return
        catalogue.requests.ask(
            night,
            night,
            _unmade_masters(instance, run),
            by=BY_ARCHIVE,
            why=f"the run {run.run_id} ended before they were made",
            force=False,
            not_before=location.now() + _WAIT_AFTER_DEATH,
        )


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
        settle_or_remember(location, context.instance, context.dagster_run)
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


def _ask_for_untried(
    location: CodeLocation, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    """Ask again for what a run did not come to, or could not tell the catalogue that it failed."""
    tried, passing = _tried_in(instance, run)
    stages = sorted(key.to_user_string() for key in run.asset_selection or ()) or list(STAGES)
    night_by_observation = location.partitions.manifest.night_by_observation
    with open_catalogue(location.settings.resolved_catalogue_url) as catalogue:
        for observation in observations_of_run(location, run.tags):
            wanted, why = stages, f"the run {run.run_id} ended before it was reduced"
            if observation in tried:
                document = catalogue.observation(observation) or {}
                most = location.settings.most_retries
                wanted = [s for s in passing[observation] if failures_of(document, s) <= most]
                why = f"it failed in the run {run.run_id} for a reason that may have passed"
            # What failed and was told to the catalogue was asked for there.
            if wanted and catalogue.requests.of(observation) is None:
                catalogue.requests.ask(
                    observation,
                    night_by_observation[observation],
                    wanted,
                    by=BY_ARCHIVE,
                    why=why,
                    force=False,
                    not_before=location.now() + _WAIT_AFTER_DEATH,
                )


def _tried_in(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> tuple[set[str], dict[str, list[str]]]:
    """Return the observations that a run has tried, and their stages that may pass next time."""
    tried: set[str] = set()
    passing: dict[str, list[str]] = defaultdict(list)
    for kind in (DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION):
        for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
            if record.partition_key is None or record.asset_key is None:
                continue
            tried.add(record.partition_key)
            seen = record.event_log_entry.asset_observation
            error = seen.metadata.get("error") if seen is not None else None
            if error is not None and may_pass(str(error.value)):
                passing[record.partition_key].append(record.asset_key.to_user_string())
    return tried, passing


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
