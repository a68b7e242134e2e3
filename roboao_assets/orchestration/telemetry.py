"""The state of the whole archive at one moment: catalogue, machine, Dagster's queue and services.

Each part is gathered by itself: one that cannot be read is left out, with a sentence that says
why. Nothing is made by looking: neither an archive nor a Dagster instance.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import dagster as dg
from dagster import DagsterRunStatus

from roboao_assets.orchestration.home import dagster_home
from roboao_assets.orchestration.readiness import why_disk_full, why_napping
from roboao_assets.orchestration.run_process import NIGHT_TAG
from roboao_assets.orchestration.webserver import webserver_answers
from roboao_assets.pipelines.telemetry import (
    CatalogueState,
    DiskSpace,
    HostLoad,
    gather_catalogue,
    gather_disks,
    gather_host,
    missing_raw_roots,
)
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.settings import Settings

log = logging.getLogger(__name__)
_Part = TypeVar("_Part")

_RUNNING = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
# Every thread of Dagster's daemon reports each half minute.
_SILENT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class RunningRun:
    """A run under way.

    Attributes
    ----------
    run_id, job, night : str
        `night` is empty where the run is of none, or of several.
    since : datetime
        When it was started; of one that is being started, when it was asked for.
    """

    run_id: str
    job: str
    night: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class DagsterState:
    """What Dagster's storage says.

    Attributes
    ----------
    queued : mapping of str to int
        Runs that wait, by job.
    running : tuple of RunningRun
        Oldest first.
    heartbeat_age_s : mapping of str to float or None
        By thread of the daemon that this instance needs; None: never heard of.
    """

    queued: Mapping[str, int]
    running: tuple[RunningRun, ...]
    heartbeat_age_s: Mapping[str, float | None]

    @property
    def daemon_alive(self) -> bool:
        """Whether each thread of the daemon was heard of within two minutes."""
        ages = self.heartbeat_age_s.values()
        return bool(ages) and all(age is not None and age < _SILENT_S for age in ages)


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """All that is known of the archive at one moment.

    Attributes
    ----------
    gathered_at : datetime
    disks : tuple of DiskSpace or None
    missing_raw_roots : tuple of str or None
        Raw roots that are not there: a disk that is not mounted.
    host : HostLoad or None
    catalogue : CatalogueState or None
    dagster : DagsterState or None
    webserver_alive : bool or None
        Whether something answers as Dagster's webserver on its port.
    napping, disk_full : str or None
        Why nothing is started now; empty: that is no reason.
    problems : mapping of str to str
        By part: why it could not be read.
    duration_s : mapping of str to float
        By part: how long it took.
    """

    gathered_at: datetime
    disks: tuple[DiskSpace, ...] | None
    missing_raw_roots: tuple[str, ...] | None
    host: HostLoad | None
    catalogue: CatalogueState | None
    dagster: DagsterState | None
    webserver_alive: bool | None
    napping: str | None
    disk_full: str | None
    problems: Mapping[str, str]
    duration_s: Mapping[str, float]


@dataclass
class _Gathering:
    problems: dict[str, str] = field(default_factory=dict)
    duration_s: dict[str, float] = field(default_factory=dict)

    def part(self, name: str, gather: Callable[[], _Part]) -> _Part | None:
        began = time.perf_counter()
        try:
            return gather()
        # Whatever is wrong with one part (a database, a mount, a driver), the others are told.
        except Exception as error:
            log.debug("telemetry: %s", name, exc_info=True)
            self.problems[name] = f"{error}" or type(error).__name__
            return None
        finally:
            self.duration_s[name] = time.perf_counter() - began


def gather_telemetry(settings: Settings) -> Telemetry:
    """Gather everything; what cannot be read is None and has its sentence in `problems`."""
    parts = _Gathering()
    webserver = settings.resolved_dagster_webserver
    return Telemetry(
        gathered_at=datetime.now(UTC),
        disks=parts.part("disks", lambda: gather_disks(settings)),
        missing_raw_roots=parts.part("raw_roots", lambda: missing_raw_roots(settings)),
        host=parts.part("host", gather_host),
        catalogue=parts.part("catalogue", lambda: _catalogue(settings)),
        dagster=parts.part("dagster", lambda: _dagster(settings)),
        webserver_alive=parts.part("webserver", lambda: webserver_answers(webserver)),
        napping=parts.part("nap", lambda: why_napping(settings)),
        disk_full=parts.part("space", lambda: why_disk_full(settings)),
        problems=parts.problems,
        duration_s=parts.duration_s,
    )


def _catalogue(settings: Settings) -> CatalogueState:
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        return gather_catalogue(settings, catalogue)


def _dagster(settings: Settings) -> DagsterState | None:
    """Return the state of the instance; None if there is none yet, which is no problem."""
    home = dagster_home(settings)
    if not (home / "dagster.yaml").is_file():
        return None
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return dagster_state(instance)


def dagster_state(instance: dg.DagsterInstance) -> DagsterState:
    """Return what the storage of an instance says of its runs and its daemon."""
    queued = instance.get_runs(dg.RunsFilter(statuses=[DagsterRunStatus.QUEUED]))
    records = instance.get_run_records(dg.RunsFilter(statuses=_RUNNING))
    running = [
        RunningRun(
            run_id=record.dagster_run.run_id,
            job=record.dagster_run.job_name,
            night=record.dagster_run.tags.get(NIGHT_TAG, ""),
            since=_since(record),
        )
        for record in records
    ]
    now = time.time()
    heartbeats = instance.get_daemon_heartbeats()
    return DagsterState(
        queued=dict(Counter(run.job_name for run in queued)),
        running=tuple(sorted(running, key=lambda run: run.since)),
        heartbeat_age_s={
            name: max(0.0, now - heartbeats[name].timestamp) if name in heartbeats else None
            for name in sorted(instance.get_required_daemon_types())
        },
    )


def _since(record: dg.RunRecord) -> datetime:
    if record.start_time is not None:
        return datetime.fromtimestamp(record.start_time, UTC)
    return record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC)
