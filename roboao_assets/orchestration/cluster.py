"""The Dask cluster that observations are reduced on: dagster-dask's resource, checked before use.

By default a local cluster that lives as long as the run that needs it; with the
setting `dask_scheduler`, an existing scheduler, shared with other runs.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import dask
from distributed import Client

from roboao_assets.orchestration.observation_task import describe_process
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.sent_settings import missing_credentials, needs_credentials
from roboao_assets.storage.settings import Settings

# How long to wait for a connection, for the first worker, and for the workers' answer (s).
CONNECT_TIMEOUT_S = 30
WORKERS_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 120

# Of a local cluster.
LOCAL_CONFIG = {
    # A task that killed its worker three times is the killer.
    "distributed.scheduler.allowed-failures": 2,
    # One task a worker thread: none waits behind a long one while another worker is idle.
    "distributed.scheduler.worker-saturation": 1.0,
}


class ClusterError(ArchiveError):
    """The Dask cluster cannot be used: not there, without workers, or with another code."""


@dataclass(frozen=True)
class ObservationCluster:
    """The cluster that `settings` names; nothing is started before `connect`."""

    settings: Settings

    @property
    def is_local(self) -> bool:
        """True if each run starts a cluster of its own."""
        return not self.settings.dask_scheduler

    @contextmanager
    def connect(self, n_tasks: int) -> Iterator[Client]:
        """Yield a client whose workers were asked for their code; closed afterwards.

        Parameters
        ----------
        n_tasks : int
            No more local workers are started than there are tasks.

        Raises
        ------
        ClusterError
            No scheduler, no worker, or workers without this package in this version.
        """
        # It imports pandas, which takes a second that only a reduction has to wait for.
        from dagster_dask import dask_resource

        with dask.config.set(LOCAL_CONFIG if self.is_local else {}):
            try:
                resources = dg.build_resources(
                    {"dask": dask_resource},
                    resource_config={"dask": {"config": self._config(n_tasks)}},
                )
                opened = resources.__enter__()
            except Exception as error:
                raise ClusterError(self._unreachable(error)) from error
            try:
                client = opened.dask.client
                check_cluster(client, needs_credentials(self.settings))
                yield client
            finally:
                resources.__exit__(None, None, None)

    def _config(self, n_tasks: int) -> dict[str, Any]:
        if self.is_local:
            options = {
                "n_workers": max(1, min(self.settings.workers, n_tasks)),
                "threads_per_worker": 1,
                "processes": True,
                # Without a dashboard the scheduler still serves HTTP, by default on one fixed
                # port that the run beside this one has taken.
                "dashboard_address": "127.0.0.1:0",
                "scheduler_kwargs": {"dashboard": False},
                # What goes wrong with a worker comes back as the failure of its observation.
                "silence_logs": logging.ERROR,
            }
            return {"cluster": {"local": options}, "client": {"set_as_default": False}}
        address = self.settings.dask_scheduler
        return {
            "client": {
                "address": address,
                "timeout": CONNECT_TIMEOUT_S,
                "set_as_default": False,
            }
        }

    def _unreachable(self, error: Exception) -> str:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        if self.is_local:
            return (
                f"a local Dask cluster of {self.settings.workers} workers could not be started "
                f"({type(root).__name__}: {root})"
            )
        return (
            f"no Dask scheduler answered at {self.settings.dask_scheduler} within "
            f"{CONNECT_TIMEOUT_S} s ({type(root).__name__}: {root}); start it, or empty the "
            f"setting dask_scheduler for a local cluster"
        )


def check_cluster(client: Client, catalogue: str = "") -> None:
    """Make sure that the scheduler and every worker can run our tasks.

    A worker that cannot import a task is silent for ten minutes before anybody
    learns of it; asked beforehand, it says so at once.

    Parameters
    ----------
    client : distributed.Client
    catalogue : str
        For which a worker needs credentials of its own; empty: it needs none.

    Raises
    ------
    ClusterError
        If there is no worker, or one without this package in this version, or without credentials.
    """
    address = client.scheduler.address
    try:
        client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
    except TimeoutError:
        raise ClusterError(
            f"the Dask scheduler at {address} has had no worker for {WORKERS_TIMEOUT_S} s; "
            f"start workers in an environment that has roboao-archive installed"
        ) from None
    answers = {f"scheduler {address}": _within(client.run_on_scheduler, _ask_scheduler)}
    answers |= {f"worker {name}": a for name, a in _within(client.run, _ask_worker).items()}
    for name, answer in answers.items():
        if isinstance(answer, str):
            raise ClusterError(
                f"the Dask {name} cannot run the archive's tasks: {answer}; install "
                f"roboao-archive in its environment"
            )
        different = _differences(answer)
        if different:
            raise ClusterError(
                f"the Dask {name} (host {answer['host']}) has another version of roboao-archive "
                f"than this run ({different}); update it and start it again"
            )
        own = answer.get("catalogue", "")
        if catalogue and name.startswith("worker") and own != catalogue:
            raise ClusterError(
                f"the Dask {name} (host {answer['host']}) cannot open the catalogue: "
                f"{missing_credentials(catalogue, own)}"
            )


def _differences(answer: dict[str, Any]) -> str:
    """Return in words what a process has other than this one; empty if nothing."""
    own = describe_process()
    if answer.get("version") != own["version"]:
        return f"{answer.get('version')} there, {own['version']} here"
    stages = [
        stage
        for stage in CODE_VERSIONS.keys() | answer["code_versions"].keys()
        if CODE_VERSIONS.get(stage) != answer["code_versions"].get(stage)
    ]
    if stages:
        return f"other code of {', '.join(sorted(stages))}"
    settings = set(own["settings"]) ^ set(answer.get("settings", ()))
    return f"settings of one alone: {', '.join(sorted(settings))}" if settings else ""


def _within(call: Any, *args: Any) -> Any:
    # Client.run knows no time limit of its own.
    pool = ThreadPoolExecutor(1, thread_name_prefix="ask-cluster")
    try:
        return pool.submit(functools.partial(call, *args)).result(timeout=ANSWER_TIMEOUT_S)
    except FutureTimeoutError:
        raise ClusterError(
            f"the Dask cluster did not answer within {ANSWER_TIMEOUT_S} s; look at its log"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _question(function: str) -> Callable[[], Any]:
    # A nested function travels by value: it arrives even where the package does not exist.
    def ask() -> Any:
        try:
            from roboao_assets.orchestration import observation_task

            return getattr(observation_task, function)()
        except ImportError as error:
            return f"{type(error).__name__}: {error}"

    return ask


_ask_worker = _question("describe_worker")
_ask_scheduler = _question("describe_process")
