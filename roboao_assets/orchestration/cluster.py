"""The Dask cluster that observations are reduced on: dagster-dask's resource, checked before use.

By default a local cluster that lives as long as the run that needs it; with the
setting `dask_scheduler`, an existing scheduler, shared with other runs.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, field
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

    @property
    def sends_files(self) -> bool:
        """True if the workers have neither raw roots nor archive mounted."""
        return not self.is_local and self.settings.worker_files == "sent"

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
            No scheduler, no worker, or workers without this package in this version; or workers
            that could not reach the catalogue.
        """
        if self.sends_files and self.settings.resolved_catalogue_url.startswith("sqlite:"):
            raise ClusterError(
                f"workers to which files are sent (worker_files) cannot reach the SQLite "
                f"catalogue {self.settings.resolved_catalogue_url}: use a MongoDB server that "
                f"they can reach (catalogue_url), or mount the archive there and set "
                f'worker_files = "mounted"'
            )
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


class ClusterLostError(ClusterError):
    """The Dask cluster went away while it was used."""


@dataclass
class ClusterWatch:
    """Whether a cluster in use is still there."""

    client: Client
    _workers_seen_s: float = field(default_factory=time.monotonic)

    def worker_threads(self) -> dict[str, int]:
        """Return the threads of each worker, by its address.

        Raises
        ------
        ClusterLostError
            The scheduler went away, or has had no worker for `WORKERS_TIMEOUT_S`.
        """
        if self.client.status != "running":
            raise ClusterLostError(f"its connection is {self.client.status}")
        try:
            threads = self.client.nthreads()
        except OSError as error:
            raise ClusterLostError(str(error)) from error
        now_s = time.monotonic()
        if threads:
            self._workers_seen_s = now_s
        elif now_s - self._workers_seen_s > WORKERS_TIMEOUT_S:
            raise ClusterLostError(f"it has had no worker for {WORKERS_TIMEOUT_S} s")
        return threads


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
    answers = {f"scheduler {address}": ask_within(client.run_on_scheduler, _ask_scheduler)}
    answers |= {f"worker {name}": a for name, a in ask_within(client.run, _ask_worker).items()}
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


def ask_within(call: Callable[..., Any], *args: Any) -> Any:
    """Return what `call` (`Client.run`, which knows no time limit) answers in `ANSWER_TIMEOUT_S`.

    Raises
    ------
    ClusterError
        There was no answer.
    """
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
