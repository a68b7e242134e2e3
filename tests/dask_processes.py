"""A real Dask scheduler and workers, each in a process of its own, for as long as a test."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_LIMIT_S = 120


@dataclass
class DaskProcesses:
    """A scheduler and the workers that were started for it."""

    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def scheduler_file(self):
        return self.folder / "scheduler.json"

    @property
    def address(self):
        return json.loads(self.scheduler_file.read_text())["address"]

    @property
    def scheduler(self):
        return self.processes[0]

    def start(self, program, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--no-dashboard"]
        command += ["--host", "127.0.0.1"]
        process = subprocess.Popen(
            [*command, "--scheduler-file", str(self.scheduler_file), *arguments],
            env=self.environment,
            cwd=self.folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def start_scheduler(self):
        self.start("dask_scheduler", "--port", "0")
        deadline = time.monotonic() + START_LIMIT_S
        while not self.scheduler_file.exists():
            assert time.monotonic() < deadline, "the Dask scheduler did not start"
            time.sleep(0.1)

    def start_worker(self, threads=1):
        return self.start("dask_worker", "--nthreads", str(threads))

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def dask_cluster(folder, environment=None, *, workers=1, threads=1):
    """Yield a scheduler with workers; they have `environment`, and `folder` to work in."""
    cluster = DaskProcesses(folder, dict(environment or os.environ))
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.start_worker(threads)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def start_scheduler(tmp_path):
    """A function that starts a scheduler and a worker of two threads and returns the address."""
    started = []

    def start(environment=None):
        cluster = DaskProcesses(tmp_path, dict(environment or os.environ))
        started.append(cluster)
        cluster.start_scheduler()
        cluster.start_worker(threads=2)
        return cluster.address

    yield start
    for cluster in started:
        cluster.stop()
