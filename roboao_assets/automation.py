"""What happens by itself: jobs, and the sensors that start them when a night comes in.

raw files -> `raw_nights` -> calibrate_night -> `calibrated_nights` -> reduce_observations
-> `reduced_nights` -> summarise_night.

Sensors and not automation conditions: a condition on every observation costs a
hundred megabytes of schedule storage a night (docs/adr/0001-dagster.md). Every step
is idempotent: what is up to date is left alone, so a run too many costs little.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg
from dagster import DagsterRunStatus

# What `define_asset_job` returns; Dagster has no public name for it.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from roboao_assets.assets.observation_products import STAGES
from roboao_assets.orchestration.reloading import ask_for_reload
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.storage.manifest import update_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary, PsfLibraryError
from roboao_assets.storage.raw_scan import NightScan, scan_raw_nights

CALIBRATION_ASSETS = ("raw_night", "master_darks", "master_flats", "bad_pixel_mask", "seeing")
SUMMARY_ASSETS = ("strehl_summary", "contrast_summary", "night_report")

NIGHT_TAG = "roboao/night"
# Runs of `roboao night` go through all three jobs themselves: no sensor follows them.
FOREGROUND_TAG = "roboao/foreground"
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PRIORITY_TAG = "dagster/priority"

# An archive of a thousand nights is taken in newest first: the queue is kept short, so that
# last night need not wait behind it.
MAX_ACTIVE_NIGHTS = 20

_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


class ArchiveJobs(NamedTuple):
    """The three jobs of a night, in order, and the one that follows the PSF library."""

    calibrate_night: UnresolvedAssetJobDefinition
    reduce_observations: UnresolvedAssetJobDefinition
    summarise_night: UnresolvedAssetJobDefinition
    follow_psf_library: UnresolvedAssetJobDefinition


def build_jobs() -> ArchiveJobs:
    """Return the jobs."""
    return ArchiveJobs(
        dg.define_asset_job(
            "calibrate_night",
            selection=dg.AssetSelection.assets(*CALIBRATION_ASSETS),
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
            description="Plots what a night's observations have given.",
        ),
        dg.define_asset_job(
            "follow_psf_library",
            selection=dg.AssetSelection.assets("psf_library"),
            description="Tells which observations a change of the PSF library has made stale.",
        ),
    )


def night_tags(night: str) -> dict[str, str]:
    """Tags of every run of a night: newer nights come first, and one run of a night at a time."""
    return {NIGHT_TAG: night, PRIORITY_TAG: night}


def range_tags(location: CodeLocation, night: str) -> dict[str, str] | None:
    """Tags that make a run reduce all observations of `night`; None if it has none."""
    ends = location.partitions.observation_range(night)
    if ends is None:
        return None
    return {RANGE_START_TAG: ends[0], RANGE_END_TAG: ends[1]}


def nights_of_run(location: CodeLocation, tags: Mapping[str, str]) -> list[str]:
    """Nights whose observations a run with these tags has reduced."""
    first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG)
    last = tags.get(RANGE_END_TAG) or first
    night_by_observation = location.partitions.manifest.night_by_observation
    if first not in night_by_observation or last not in night_by_observation:
        return []
    return [
        night
        for night in location.partitions.manifest.nights
        if night_by_observation[first] <= night <= night_by_observation[last]
        and location.partitions.manifest.nights[night]
    ]


def build_sensors(location: CodeLocation, jobs: ArchiveJobs) -> list[dg.SensorDefinition]:
    """Return the sensors."""
    return [
        _raw_nights_sensor(location, jobs),
        *_calibrated_nights_sensors(location, jobs),
        *_reduced_nights_sensors(location, jobs),
        _psf_library_sensor(location, jobs),
    ]


def _raw_nights_sensor(location: CodeLocation, jobs: ArchiveJobs) -> dg.SensorDefinition:
    settings = location.settings

    @dg.sensor(
        name="raw_nights",
        job=jobs.calibrate_night,
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Takes new and changed raw nights in: newest first, settled files only.",
    )
    def raw_nights(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if not settings.raw_roots:
            return dg.SkipReason("no raw roots are configured (setting raw_roots)")
        scans = scan_raw_nights(
            settings.raw_roots, settings.archiving_start_date, settings.settle_s
        )
        path = ArchivePaths(settings.archive_root.absolute()).manifest
        found = {night: scan.observations for night, scan in scans.items()}
        if update_manifest(path, found) != location.partitions.manifest:
            origin = context.code_location_origin
            name = origin.location_name if origin else "roboao_assets"
            answer = ask_for_reload(name, settings.dagster_port)
            if answer.done:
                return dg.SkipReason("new nights or observations: the code location was reloaded")
            context.log.warning(answer.reason)
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        active = _active_nights(context.instance)
        requests = list(_night_requests(location, scans, seen, active))
        seen |= {str(request.partition_key): str(request.run_key) for request in requests}
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else f"nothing new in {len(scans)} nights",
            cursor=json.dumps({night: seen[night] for night in scans if night in seen}),
        )

    return raw_nights


def _night_requests(
    location: CodeLocation,
    scans: Mapping[str, NightScan],
    seen: Mapping[str, str],
    active: set[str],
) -> Iterator[dg.RunRequest]:
    known = location.partitions.manifest
    room = MAX_ACTIVE_NIGHTS - len(active)
    for night, scan in scans.items():
        run_key = f"{night}:{len(scan.observations)}:{scan.fingerprint}"
        if room <= 0:
            return
        if not scan.n_files or night in active or seen.get(night) == run_key:
            continue
        if night not in known.nights or not set(scan.observations) <= set(known.nights[night]):
            continue
        room -= 1
        yield dg.RunRequest(run_key=run_key, partition_key=night, tags=night_tags(night))


def _active_nights(instance: dg.DagsterInstance) -> set[str]:
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED))
    return {
        record.dagster_run.tags[NIGHT_TAG]
        for record in records
        if NIGHT_TAG in record.dagster_run.tags
    }


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
        if context.dagster_run.status == DagsterRunStatus.FAILURE:
            missing = _unmade_masters(context)
            if missing:
                return dg.SkipReason(f"night {night} is not calibrated: {', '.join(missing)}")
        return dg.RunRequest(tags={**ends, **night_tags(night)})

    return _run_status_sensors(
        location,
        follow,
        name="calibrated_nights",
        after=jobs.calibrate_night,
        start=jobs.reduce_observations,
        description="Reduces the observations of a night whose masters are there.",
    )


def _unmade_masters(context: dg.RunStatusSensorContext) -> list[str]:
    # A seeing exposure that fails must not keep the observations from being reduced.
    made = {
        record.asset_key.to_user_string()
        for record in context.instance.get_records_for_run(
            context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        if record.asset_key is not None
    }
    return [name for name in CALIBRATION_ASSETS if name != "seeing" and name not in made]


def _reduced_nights_sensors(location: CodeLocation, jobs: ArchiveJobs) -> list[dg.SensorDefinition]:
    def follow(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        tags = context.dagster_run.tags
        if FOREGROUND_TAG in tags:
            yield dg.SkipReason("a foreground run goes on by itself")
            return
        for night in nights_of_run(location, tags):
            yield dg.RunRequest(partition_key=night, tags=night_tags(night))

    return _run_status_sensors(
        location,
        follow,
        name="reduced_nights",
        after=jobs.reduce_observations,
        start=jobs.summarise_night,
        description="Summarises a night after its observations, however many of them failed.",
    )


def _psf_library_sensor(location: CodeLocation, jobs: ArchiveJobs) -> dg.SensorDefinition:
    library = PsfLibrary(ArchivePaths(location.settings.archive_root.absolute()).psf_library)

    @dg.sensor(
        name="psf_library_changes",
        job=jobs.follow_psf_library,
        minimum_interval_seconds=location.settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="After a change of the PSF library, tells which observations are stale. "
        "Nothing is redone.",
    )
    def psf_library_changes(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            seen = library.path.stat()
        except FileNotFoundError:
            return dg.SkipReason(f"there is no PSF library {library.path} yet")
        before: dict[str, Any] = json.loads(context.cursor or "{}")
        written = [seen.st_mtime_ns, seen.st_size]
        if before.get("written") == written:
            return dg.SkipReason("the PSF library was not changed")
        try:
            # A star removed and added again is the same library, and two changes more.
            content = f"{library.fingerprint()}:{len(library.history())}"
        except PsfLibraryError as error:
            return dg.SkipReason(str(error))
        cursor = json.dumps({"written": written, "content": content})
        if before.get("content") == content:
            return dg.SensorResult(skip_reason="the PSF library is as it was", cursor=cursor)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=content)], cursor=cursor)

    return psf_library_changes


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
