"""One night in the foreground: the three jobs of a night, in this process, told as they go.

The same assets and jobs that the sensors start, and the same Dagster instance: what
is done here is seen in the pages, and what was done there is not done again.
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.tags import MAX_RETRIES_TAG
from dagster._utils.error import SerializableErrorInfo

from roboao_assets.automation.jobs import CALIBRATION_ASSETS, REDUCTION_STEP, SUMMARY_ASSETS
from roboao_assets.automation.tags import FOREGROUND_TAG, night_tags, range_tags
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.resources import CodeLocation, load_code_location
from roboao_assets.orchestration.run_process import this_process
from roboao_assets.storage.manifest import is_partition_key, update_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

EventKind = Literal["job_started", "materialised", "failed", "retrying", "said"]


@dataclass(frozen=True, kw_only=True)
class NightEvent:
    """Something that happened to a night.

    Attributes
    ----------
    kind : {'job_started', 'materialised', 'failed', 'retrying', 'said'}
        `said`: a line of the run's log, as the frames read so far.
    job : str
    asset : str
        Empty for `job_started`, and where the reduction as a whole failed.
    partition : str
        The observation or the night.
    status : str
        Of a materialisation: ``done``, ``unchanged`` or ``skipped``.
    reason : str
        Why it was skipped or failed; what was said.
    figures : mapping
        The asset's figures.
    """

    kind: EventKind
    job: str
    asset: str = ""
    partition: str = ""
    status: str = ""
    reason: str = ""
    figures: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NightRun:
    """The end of a night's run.

    Attributes
    ----------
    night : str
    observations : tuple of str
        In time order.
    products : mapping of (str, str) to NightEvent
        The last event of each partition (night or observation) and asset.
    problems : tuple of str
        A sentence for each failure; empty if every product that could be made was made.
    run_ids : mapping of str to str
        The Dagster run of each job that was started.
    """

    night: str
    observations: tuple[str, ...]
    products: Mapping[tuple[str, str], NightEvent]
    problems: tuple[str, ...]
    run_ids: Mapping[str, str]

    @property
    def succeeded(self) -> bool:
        """Whether every product that could be made was made."""
        return not self.problems


def run_night(
    settings: Settings,
    night: str,
    instance: dg.DagsterInstance,
    on_event: Callable[[NightEvent], None] | None = None,
    *,
    force: bool = False,
) -> NightRun:
    """Register a night and reduce it in this process.

    Parameters
    ----------
    settings : Settings
    night : str
        `YYYYMMDD`.
    instance : dagster.DagsterInstance
        Where the runs are recorded, see `roboao_assets.orchestration.home.open_instance`.
    on_event : callable, optional
        Told each event as it happens, in this process (some of it in other threads).
    force : bool
        Make also what is up to date.

    Returns
    -------
    NightRun
        Failed observations and summaries do not stop the others; without masters no
        observation is begun.

    Raises
    ------
    RawDataError
        If no raw root has the night.
    """
    raw = read_night(settings.raw_roots, night)
    observations = [e.id for e in raw.observations if is_partition_key(e.id)]
    manifest = ArchivePaths(settings.archive_root.absolute()).manifest
    update_manifest(manifest, {night: observations})
    return _ForegroundNight(load_code_location(settings), night, instance, on_event, force).run()


class _ForegroundNight:
    """The state of a night while its jobs run."""

    def __init__(
        self,
        location: CodeLocation,
        night: str,
        instance: dg.DagsterInstance,
        on_event: Callable[[NightEvent], None] | None,
        force: bool,  # noqa: FBT001
    ):
        self._location, self._night, self._instance = location, night, instance
        self._on_event, self._force = on_event, force
        self._definitions = build_definitions(location)
        self._products: dict[tuple[str, str], NightEvent] = {}
        self._problems: list[str] = []
        self._run_ids: dict[str, str] = {}

    def run(self) -> NightRun:
        night_partition = {"dagster/partition": self._night}
        self._execute("calibrate_night", night_partition, CALIBRATION_ASSETS)
        masters = [name for name in CALIBRATION_ASSETS if name != "seeing"]
        if all(self._made(name) for name in masters):
            ends = range_tags(self._location, self._night)
            if ends is not None:
                self._execute("reduce_observations", ends, (REDUCTION_STEP,))
                self._execute("summarise_night", night_partition, SUMMARY_ASSETS)
        return NightRun(
            night=self._night,
            observations=self._location.partitions.manifest.nights[self._night],
            products=self._products,
            problems=tuple(self._problems),
            run_ids=self._run_ids,
        )

    def _made(self, asset: str) -> bool:
        event = self._products.get((self._night, asset))
        return event is not None and event.kind == "materialised"

    def _execute(self, job: str, partition: Mapping[str, str], steps: tuple[str, ...]) -> None:
        self._tell(NightEvent(kind="job_started", job=job, partition=self._night))
        run_id = self._run_ids[job] = str(uuid.uuid4())
        self._instance.add_event_listener(run_id, lambda entry: self._note(job, entry))
        before = len(self._problems)
        result = self._definitions.resolve_job_def(job).execute_in_process(
            instance=self._instance,
            run_id=run_id,
            raise_on_error=False,
            tags={
                **partition,
                **night_tags(self._night),
                **this_process(run_id).tags(),
                FOREGROUND_TAG: "true",
                # Nobody but this process can go on with it.
                MAX_RETRIES_TAG: "0",
            },
            run_config={
                "ops": {step: {"config": {"force": self._force}} for step in steps},
                # The caller has a display of its own; the event log has everything.
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
        if not result.success and len(self._problems) == before:
            self._problems.append(f"{job} failed: see its run {run_id} in Dagster's pages")

    def _note(self, job: str, entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            if entry.level == logging.INFO:
                self._tell(NightEvent(kind="said", job=job, reason=entry.user_message))
            return
        if event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
            self._tell(_materialised(job, event.step_materialization_data.materialization))
        elif event.event_type == DagsterEventType.ASSET_OBSERVATION:
            self._tell(_failed_stage(job, event.asset_observation_data.asset_observation))
        elif event.event_type == DagsterEventType.STEP_FAILURE:
            self._note_step_failure(job, event)
        elif event.event_type == DagsterEventType.STEP_UP_FOR_RETRY:
            self._tell(
                NightEvent(
                    kind="retrying", job=job, asset=event.step_key or "", partition=self._night
                )
            )

    def _note_step_failure(self, job: str, event: dg.DagsterEvent) -> None:
        told = any(e.kind == "failed" and e.job == job for e in self._products.values())
        if event.step_key == REDUCTION_STEP and told:
            return
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        reason = said or _root_cause(data.error)
        asset = "" if event.step_key == REDUCTION_STEP else event.step_key or ""
        self._tell(
            NightEvent(kind="failed", job=job, asset=asset, partition=self._night, reason=reason)
        )

    def _tell(self, event: NightEvent) -> None:
        if event.kind in ("materialised", "failed"):
            self._products[event.partition, event.asset] = event
        if event.kind == "failed":
            self._problems.append(f"{event.partition}: {event.asset or event.job}: {event.reason}")
        if self._on_event is not None:
            self._on_event(event)


def _materialised(job: str, made: dg.AssetMaterialization) -> NightEvent:
    figures = _plain(made.metadata)
    return NightEvent(
        kind="materialised",
        job=job,
        asset=made.asset_key.to_user_string(),
        partition=made.partition or "",
        status=str(figures.pop("status", "done")),
        reason=str(figures.pop("reason", "")),
        figures=figures,
    )


def _failed_stage(job: str, seen: dg.AssetObservation) -> NightEvent:
    figures = _plain(seen.metadata)
    return NightEvent(
        kind="failed",
        job=job,
        asset=seen.asset_key.to_user_string(),
        partition=seen.partition or "",
        status="failed",
        reason=str(figures.pop("reason", "")),
        figures=figures,
    )


def _root_cause(error: SerializableErrorInfo | None) -> str:
    if error is None:
        return "no reason was given"
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


def _plain(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, str | int | float]:
    return {
        name: value.value
        for name, value in metadata.items()
        if isinstance(value.value, str | int | float)
        and not isinstance(value, dg.MarkdownMetadataValue)
    }
