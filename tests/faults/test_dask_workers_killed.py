"""Dask workers and schedulers that die in mid-stack: separate processes, as on a real cluster."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import dagster as dg
import pytest
from archive_deployment import LIMIT_S, NIGHT, Deployment
from deployment import free_port
from distributed import Client
from ledger import Fault
from losses import losses

from roboao_assets.storage.files import PARTIAL_PREFIX


class Cluster:
    """A scheduler on a port that stays, and workers, each a process group of its own."""

    def __init__(self, deployment, folder):
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._environment, self._folder = deployment.environment, folder
        self._scheduler = None
        self._workers = []

    def _begin(self, *words):
        with (self._folder / "cluster.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *words, "--no-dashboard"],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_scheduler(self):
        port = self.address.rpartition(":")[2]
        host = ("--host", "127.0.0.1", "--port", port)
        self._scheduler = self._begin("distributed.cli.dask_scheduler", *host)

    def start_worker(self, *options):
        words = ("distributed.cli.dask_worker", self.address, "--nthreads", "1", *options)
        self._workers.append(self._begin(*words))

    def kill_scheduler(self):
        os.killpg(self._scheduler.pid, signal.SIGKILL)
        self._scheduler.wait()

    def stop(self):
        for process in [*self._workers, self._scheduler]:
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def deployment(small_night, tmp_path):
    deployment = Deployment(tmp_path)
    deployment.take_in(small_night / NIGHT)
    yield deployment
    deployment.stop()


@pytest.fixture
def cluster(deployment, tmp_path):
    cluster = Cluster(deployment, tmp_path)
    deployment.environment["ROBOAO_DASK_SCHEDULER"] = cluster.address
    cluster.start_scheduler()
    yield cluster
    cluster.stop()


def in_mid_stack(deployment):
    """The observation of which a stack is being written at this moment; "" if there is none."""
    pattern = f"*/bright_star/{PARTIAL_PREFIX}*"
    for path in (deployment.archive / NIGHT).glob(pattern):
        return path.parent.parent.name
    return ""


def wait_for_a_stack(deployment, run=None):
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and (run is None or run.poll() is None):
        observation = in_mid_stack(deployment)
        if observation:
            return observation
        time.sleep(0.005)
    return pytest.fail("no stack was ever begun")


def worker_at_work(client, observation):
    """Process id of the worker that has the observation, by the scheduler."""
    pids = client.run(os.getpid)
    for worker, keys in client.processing().items():
        if any(observation in str(key) for key in keys):
            return pids[worker]
    return pytest.fail(f"no worker has {observation}")


def made(deployment):
    """How often Dagster was told that a stack was made, by observation."""
    with deployment.instance() as instance:
        records = instance.fetch_materializations(dg.AssetKey("bright_star_stack"), limit=100)
        return Counter(
            record.partition_key
            for record in records.records
            if record.asset_materialization.metadata["status"].value == "done"
        )


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_a_worker_killed_in_mid_stack(
    small_observations, undisturbed, ledger, tmp_path, deployment, cluster, nanny
):
    for _ in range(1 if nanny == "--nanny" else 2):
        cluster.start_worker(nanny)
    log = tmp_path / "night.log"
    with Client(cluster.address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=120)
        pids = client.run(os.getpid)
        run = deployment.begin("night", NIGHT, log=log)
        observation = wait_for_a_stack(deployment, run)
        # With one worker there is no doubt; of two, the scheduler says which has it.
        pid = next(iter(pids.values())) if len(pids) == 1 else worker_at_work(client, observation)
        os.kill(pid, signal.SIGKILL)
        unmade = not deployment.status(observation).get("done")
    ended = run.wait(LIMIT_S)
    found, counted = losses(deployment, undisturbed), made(deployment)
    ledger.enter(
        Fault(
            name=f"kill of a Dask worker in mid-stack, {nanny}",
            tried=1,
            survived=int(ended == 0 and not found),
            told="nothing: the observation is done again on another worker",
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )
    assert unmade, "the worker had finished before it was killed"
    assert ended == 0, log.read_text()
    assert counted == dict.fromkeys(small_observations, 1)
    assert not found, found


def lost_sentence(text):
    return next((line for line in text.splitlines() if "the Dask scheduler was lost" in line), "")


def test_a_scheduler_started_again_in_mid_run(
    small_observations, undisturbed, ledger, tmp_path, deployment, cluster
):
    cluster.start_worker("--nanny")
    log = tmp_path / "night.log"
    run = deployment.begin("night", NIGHT, log=log)
    wait_for_a_stack(deployment, run)
    cluster.kill_scheduler()
    cluster.start_scheduler()
    ended = run.wait(LIMIT_S)
    told = lost_sentence(log.read_text())
    cluster.start_worker("--nanny")
    again = deployment.run("night", NIGHT)
    found = losses(deployment, undisturbed)
    enter_scheduler(ledger, "in the foreground", again.returncode == 0 and not found, told, found)
    assert ended == 1, log.read_text()
    assert "observations to go" in told, log.read_text()
    assert again.returncode == 0, again.stdout
    assert not found, found


def test_a_scheduler_started_again_under_the_daemon(
    small_observations, undisturbed, ledger, tmp_path, deployment, cluster
):
    cluster.start_worker("--nanny")
    deployment.start()
    wait_for_a_stack(deployment)
    cluster.kill_scheduler()
    cluster.start_scheduler()
    cluster.start_worker("--nanny")
    deployment.wait(
        lambda: deployment.night_is_finished(len(small_observations), done=2),
        "the end of the night",
    )
    with deployment.instance() as instance:
        failed = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        told = " ".join(
            lost_sentence(entry.dagster_event.step_failure_data.user_failure_data.description or "")
            for record in failed
            for entry in instance.all_logs(
                record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
            )
        )
    found = losses(deployment, undisturbed)
    enter_scheduler(ledger, "under the daemon", not found, told, found)
    assert len(failed) == 1
    assert "observations to go" in told
    assert not found, found


def enter_scheduler(ledger, where, survived, told, found):
    ledger.enter(
        Fault(
            name=f"Dask scheduler restarted, {where}",
            tried=1,
            survived=int(survived),
            told=told.strip(),
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )
