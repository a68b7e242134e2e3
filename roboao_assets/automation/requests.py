"""The sensor that obeys: what operators ask for, and what failed for a reason that may pass."""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg

from roboao_assets.automation.following import settle_remembered
from roboao_assets.automation.jobs import (
    CALIBRATION_ASSETS,
    REDUCTION_STEP,
    SUMMARY_ASSETS,
    ArchiveJobs,
    step_config,
)
from roboao_assets.automation.tags import (
    MAX_ACTIVE_NIGHTS,
    OPERATORS_PRIORITY,
    PRIORITY_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    active_nights,
    night_tags,
)
from roboao_assets.orchestration.readiness import why_not_now
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.redo import (
    BY_ARCHIVE,
    BY_FLAG,
    take_package_wish,
    take_wishes,
    with_dependents,
)
from roboao_assets.pipelines.retrying import has_waited, next_attempt
from roboao_assets.storage.catalogue import (
    PIPELINES,
    Catalogue,
    ObservationQuery,
    WorkRequest,
    open_catalogue,
)

_HELD_BACK = 200


def build_requests_sensor(location: CodeLocation, jobs: ArchiveJobs) -> dg.SensorDefinition:
    """Return the sensor that turns requests into runs."""
    settings = location.settings

    @dg.sensor(
        name="requests",
        jobs=[jobs.calibrate_night, jobs.reduce_observations, jobs.summarise_night],
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes again what an operator asked for (in the catalogue or by `roboao "
        "redo`), and what failed for a reason that may have passed.",
    )
    def requests(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        not_now = why_not_now(settings, location.now())
        active = active_nights(context.instance)
        with open_catalogue(settings.resolved_catalogue_url) as catalogue:
            settle_remembered(location, context.instance)
            note_wishes(catalogue, active)
            book = catalogue.requests.all()
            due = [] if not_now else _due(location, book, active)
            room = MAX_ACTIVE_NIGHTS - len(active)
            runs = list(_runs(location, jobs, due))[: max(room, 0)]
            for _, started in runs:
                for request in started:
                    until = next_attempt(request.attempts + 1, location.now())
                    catalogue.requests.put_off(request.observation, until)
        return dg.SensorResult(
            run_requests=[run for run, _ in runs],
            skip_reason=None if runs else not_now or f"{len(book)} requests wait",
        )

    return requests


def note_wishes(catalogue: Catalogue, active: set[str]) -> None:
    """Turn what operators changed in the catalogue into requests.

    `force_redo: true` of any product; `distributed.status: false`; a night from whose document
    `psf_lib` was taken away.
    """
    wanted = ObservationQuery(force_redo=True, summary_only=True)
    for document in catalogue.find_observations(wanted):
        take_wishes(catalogue, document)
    for pipeline in PIPELINES:
        # An archive made before there were packages has none at all: the newest are looked at
        # here, all of them by the sensor that goes round the nights.
        held_back = ObservationQuery(
            distributed=False,
            pipelines_done=(pipeline,),
            sort=("date_utc", False),
            limit=_HELD_BACK,
            summary_only=True,
        )
        for document in catalogue.find_observations(held_back):
            take_package_wish(catalogue, document)
    reduced = {row.night for row in catalogue.nights() if row.done}
    # While a night is reduced its candidates are about to come.
    for night in set(catalogue.nights_without("psf_lib")) & reduced - active:
        query = ObservationQuery(nights=(night,), pipelines_done=("bright_star",))
        for document in catalogue.find_observations(query):
            catalogue.requests.ask(
                document["_id"],
                night,
                ["psf_candidate"],
                by=BY_FLAG,
                why="psf_lib was removed",
            )


def _due(
    location: CodeLocation, book: Iterable[WorkRequest], active: set[str]
) -> list[WorkRequest]:
    now, most = location.now(), location.settings.most_retries
    return [
        request
        for request in book
        if request.night not in active
        and request.attempts <= most
        and has_waited(request.not_before and request.not_before.astimezone(), now)
    ]


def _runs(
    location: CodeLocation, jobs: ArchiveJobs, due: Sequence[WorkRequest]
) -> Iterator[tuple[dg.RunRequest, list[WorkRequest]]]:
    """Yield a run for each night asked for, and for neighbours of which the same is asked."""
    for request in due:
        if request.observation == request.night:
            yield _night_run(jobs, request), [request]
    places = location.partitions.places
    known = sorted((r for r in due if r.observation in places), key=lambda r: places[r.observation])
    group: list[WorkRequest] = []
    for request in known:
        if group and not (
            places[request.observation] == places[group[-1].observation] + 1
            and request.night == group[-1].night
            and set(request.stages) == set(group[-1].stages)
        ):
            yield _observations_run(jobs, group), group
            group = []
        group.append(request)
    if group:
        yield _observations_run(jobs, group), group


def _night_run(jobs: ArchiveJobs, request: WorkRequest) -> dg.RunRequest:
    summaries = set(request.stages) <= set(SUMMARY_ASSETS)
    job, steps = (
        (jobs.summarise_night, SUMMARY_ASSETS)
        if summaries
        else (jobs.calibrate_night, CALIBRATION_ASSETS)
    )
    force = any(asked.force for asked in request.stages.values())
    return dg.RunRequest(
        run_key=_key([request]),
        job_name=job.name,
        partition_key=request.night,
        tags=_tags([request]),
        run_config=step_config(steps, force=force, new_code=force),
    )


def _observations_run(jobs: ArchiveJobs, group: Sequence[WorkRequest]) -> dg.RunRequest:
    stages = with_dependents(group[0].stages)
    new_code = any(asked.force for asked in group[0].stages.values())
    ends = {RANGE_START_TAG: group[0].observation, RANGE_END_TAG: group[-1].observation}
    return dg.RunRequest(
        run_key=_key(group),
        job_name=jobs.reduce_observations.name,
        tags={**ends, **_tags(group)},
        asset_selection=[dg.AssetKey(stage) for stage in sorted(stages)],
        run_config=step_config((REDUCTION_STEP,), new_code=new_code),
    )


def _tags(group: Sequence[WorkRequest]) -> dict[str, str]:
    asked = [one for request in group for one in request.stages.values()]
    tags = night_tags(group[0].night)
    if any(one.by != BY_ARCHIVE for one in asked):
        # Somebody waits for it.
        tags[PRIORITY_TAG] = OPERATORS_PRIORITY
    whom = ", ".join(sorted({one.by for one in asked}))
    return {**tags, "roboao/asked_by": whom[:60]}


def _key(group: Sequence[WorkRequest]) -> str:
    latest = max(one.asked_at for request in group for one in request.stages.values())
    first, last = group[0], group[-1]
    return f"{first.observation}..{last.observation}:{latest.isoformat()}:{first.attempts}"
