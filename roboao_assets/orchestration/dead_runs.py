"""Runs whose process is gone, and that nobody else ends (docs/adr/0014-telemetry.md).

The code server ends a run whose process dies, as long as it lives itself. After a power cut
nobody does: the run stays started in Dagster's storage, and its night counts as under way.
"""

import logging
import socket

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus
from dagster._core.storage.runs import SqliteRunStorage

from roboao_assets.orchestration.run_process import (
    RunProcess,
    boot_id,
    process_of,
    ran_at,
)
from roboao_assets.storage.processes import start_ticks

log = logging.getLogger(__name__)

_UNDER_WAY = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def end_dead_runs(instance: dg.DagsterInstance, host: str | None = None) -> list[str]:
    """End the runs of this host that are under way by their status and have no process any more.

    Such a run has failed, and Dagster may start it again; one that was being cancelled is
    cancelled. Left alone is what lives, what another host runs, and what cannot be told: a run
    that is being launched at this moment, which Dagster itself ends after `start_timeout_seconds`.

    Parameters
    ----------
    instance : dagster.DagsterInstance
    host : str, optional
        The name of a host that is no more, a container that was made anew for instance: each of
        its runs is taken for dead. By default this host, and its processes are looked at.

    Returns
    -------
    list of str
        Ids of the runs that were ended.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        reason = _why_dead(instance, run) if host is None else _of_gone_host(run, host)
        if not reason:
            continue
        # It may have ended by itself while we looked.
        now = instance.get_run_by_id(run.run_id)
        if now is None or now.is_finished:
            continue
        if now.status == DagsterRunStatus.CANCELING:
            instance.report_run_canceled(now, reason)
        else:
            instance.report_run_failed(now, reason)
        log.warning("run %s of %s: %s", run.run_id, run.job_name, reason)
        ended.append(run.run_id)
    return ended


def _of_gone_host(run: dg.DagsterRun, host: str) -> str:
    process = process_of(run)
    if process is None or process.host != host:
        return ""
    return f"it ran on the host {host}, of which an operator said that it is no more"


def _why_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return the sentence that says why a run cannot be alive; empty if it can."""
    process = process_of(run)
    if process is None and not isinstance(instance.run_storage, SqliteRunStorage):
        # Of whichever host: only an SQLite instance belongs to one.
        return ""
    if process is not None and process.host != socket.gethostname():
        log.warning("run %s belongs to the host %s and is left alone", run.run_id, process.host)
        return ""
    if process is not None and boot_id() and process.boot_id != boot_id():
        return "its process is gone: the machine was started again since"
    if process is not None and process.pid is not None:
        return _gone(process)
    return _gone_by_events(instance, run)


def _gone(process: RunProcess) -> str:
    if start_ticks(process.pid or 0) == process.start_ticks:
        return ""
    return f"its process {process.pid} on {process.host} is gone, without a word: it was killed"


def _gone_by_events(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Go by the process id that a run reports when its code server has started it."""
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
        if entry.dagster_event is None:
            continue
        told = entry.dagster_event.engine_event_data.metadata.get("pid")
        if told is None:
            continue
        pid = int(str(told.value))
        if ran_at(pid, entry.timestamp, process_of(run)):
            return ""
        return f"its process {pid} on {socket.gethostname()} is gone, without a word: it was killed"
    return ""
