"""What old runs have logged is forgotten, but for how they ended and what was made of assets.

A run logs dozens of events an observation beside its materialisations. Nobody reads them a season
later, and an archive that runs for years would keep them all.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
import sqlalchemy as db
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    DagsterEventType,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable

# What a run's page still tells: when it began and how it ended, and which steps failed, why.
_OF_THE_RUN = {*EVENT_TYPE_TO_PIPELINE_RUN_STATUS, DagsterEventType.STEP_FAILURE}
_OF_ASSETS = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS}


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What one look has done.

    Attributes
    ----------
    runs : int
        Finished runs that were looked at.
    events : int
        Events that were deleted.
    up_to : datetime or None
        When the newest of these runs was created (aware); the next look begins there.
    """

    runs: int
    events: int
    up_to: datetime | None


def forget_run_logs(
    instance: dg.DagsterInstance, before: datetime, *, after: datetime | None, most: int
) -> Forgotten:
    """Delete what finished runs have logged; oldest runs first.

    Kept are the runs themselves, how they began and ended, failures of steps, and all that Dagster
    knows of assets: materialisations, checks, lineage.

    Parameters
    ----------
    instance : dagster.DagsterInstance
    before : datetime
        Runs that were created before (aware).
    after : datetime or None
        Of an earlier look: runs that were created until then were seen to.
    most : int
        Runs to look at.

    Raises
    ------
    TypeError
        The instance's event log is no SQL database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"events of a {type(storage).__name__} cannot be deleted one by one")
    chosen = dg.RunsFilter(
        statuses=list(FINISHED_STATUSES), created_before=before, created_after=after
    )
    records = instance.get_run_records(chosen, limit=most, ascending=True)
    events = 0
    for record in records:
        run_id = record.dagster_run.run_id
        events += _delete_events(storage, run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    up_to = records[-1].create_timestamp if records else None
    return Forgotten(runs=len(records), events=events, up_to=up_to)


def _delete_events(storage: SqlEventLogStorage, run_id: str) -> int:
    kept = _OF_THE_RUN | _OF_ASSETS
    own_file = None
    if isinstance(storage, SqliteEventLogStorage):
        own_file = Path(storage.path_for_shard(run_id))
        if not own_file.exists():
            return 0
        # Those of assets stand in the common file as well, where Dagster looks them up.
        kept = _OF_THE_RUN
    table = SqlEventLogStorageTable
    kind = table.c.dagster_event_type
    unwanted = db.or_(kind.is_(None), kind.not_in([event.value for event in kept]))
    with storage.run_connection(run_id) as connection:
        done = connection.execute(db.delete(table).where(table.c.run_id == run_id, unwanted))
        count = int(done.rowcount)
    if own_file is not None and count:
        # Not removed: a server that has it open would find a file without tables.
        with closing(sqlite3.connect(own_file, isolation_level=None)) as shard:
            shard.execute("VACUUM")
            shard.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return count
