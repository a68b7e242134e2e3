"""Whether the workers have Dagster's storage: steps that are made there write into it."""

import asyncio
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.runs import SqliteRunStorage
from distributed import Client

from roboao_assets.orchestration.cluster import ClusterError, ask_within
from roboao_assets.orchestration.run_process import boot_id


def check_storage(client: Client, instance: dg.DagsterInstance, run_id: str) -> None:
    """Make sure that every worker finds a run in Dagster's storage.

    Parameters
    ----------
    client : distributed.Client
        Whose workers have this package.
    instance : dagster.DagsterInstance
    run_id : str

    Raises
    ------
    ClusterError
        A worker does not; or the storage is SQLite, and a worker is on another host.
    """
    ref = instance.get_ref()
    file = None
    if isinstance(instance.run_storage, SqliteRunStorage):
        file = Path(ref.run_storage_data.config_dict["base_dir"]).absolute()
        own = _identity(file)
        for worker, theirs in ask_within(client.run, _identity, file).items():
            if theirs != own:
                raise ClusterError(_sqlite_sentence(worker, file, same_host=theirs[0] == own[0]))
    for worker, problem in ask_within(client.run, _ask_for_run, ref, run_id).items():
        if problem:
            raise ClusterError(
                f"the Dask worker {worker} cannot use Dagster's storage, into which it would "
                f"report what it makes: {problem}; give workers the environment of the run "
                f"(DAGSTER_PG_*), or choose the executor in_process"
            )


def _sqlite_sentence(worker: str, folder: Path, *, same_host: bool) -> str:
    where = (
        f"sees another folder, or none, at {folder}" if same_host else "is on another host or boot"
    )
    return (
        f"Dagster's storage is SQLite in {folder}, which belongs to one host, and the Dask worker "
        f"{worker} {where}; put Dagster's storage into PostgreSQL (deploy/README.md), or choose "
        f"the executor in_process, whose runs need the workers for observations alone"
    )


def _identity(folder: Path) -> tuple[str, Any]:
    # A folder on the network looks the same from two hosts, and SQLite must not be used over it.
    try:
        status = folder.stat()
    except OSError:
        return boot_id(), None
    return boot_id(), (status.st_dev, status.st_ino)


async def _ask_for_run(ref: InstanceRef, run_id: str) -> str:
    # A database that does not answer must not keep the worker from talking to its scheduler.
    return await asyncio.to_thread(_find_run, ref, run_id)


def _find_run(ref: InstanceRef, run_id: str) -> str:
    try:
        with dg.DagsterInstance.from_ref(ref) as instance:
            if instance.get_run_by_id(run_id) is None:
                return f"it does not know the run {run_id}"
    except Exception as error:  # of whichever database
        return f"{type(error).__name__}: {error}"
    return ""
