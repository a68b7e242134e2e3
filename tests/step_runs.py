"""Runs of `step_jobs` in processes of their own, on a Dask cluster of real processes."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType
from dagster._core.instance import DagsterInstance
from dask_processes import DaskProcesses, dask_cluster

JOBS = Path(__file__).with_name("step_jobs.py")
LIMIT_S = 300


@dataclass
class StepRuns:
    """Where runs are started, and what is seen of them."""

    folder: Path
    environment: dict[str, str]
    cluster: DaskProcesses

    def start(self, job, partition=None, run_config=None, **options):
        """Start a run and return its process."""
        command = [sys.executable, "-m", "dagster", "job", "execute", "-j", job]
        command += ["-m", options["module"]] if "module" in options else ["-f", str(JOBS)]
        if run_config is not None:
            file = self.folder / f"{job}.json"
            file.write_text(json.dumps(run_config))
            command += ["--config", str(file)]
        tags = {
            **options.get("tags", {}),
            **({"dagster/partition": partition} if partition else {}),
        }
        output = (self.folder / f"{job}-{partition}-{time.monotonic_ns()}.log").open("w+")
        process = subprocess.Popen(
            [*command, "--tags", json.dumps(tags)],
            env=self.environment,
            cwd=self.environment["DAGSTER_HOME"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        process.output = output
        return process

    def wait(self, process):
        """Wait for the end of a run's process and return what it said."""
        try:
            process.wait(LIMIT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.output.seek(0)
            said = process.output.read()
            process.output.close()
        return said

    def run(self, job, partition=None, run_config=None, **options):
        """Make a run and return its record and what it said."""
        said = self.wait(self.start(job, partition, run_config, **options))
        return self.last(job), said

    def last(self, job):
        with self.instance() as instance:
            return Seen.of(instance, instance.get_runs(dg.RunsFilter(job_name=job), limit=1)[0])

    @contextmanager
    def instance(self):
        with DagsterInstance.from_config(self.environment["DAGSTER_HOME"]) as opened:
            yield opened

    def made(self):
        """Return the names of what the steps have left."""
        return {p.name for p in self.folder.glob("made/*") if not p.name.endswith(".part")}

    def process_of(self, name):
        """Return the id of the process that has left something."""
        return int((self.folder / "made" / name).read_text().split()[0])

    def wait_for(self, condition, what):
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"no {what} within {LIMIT_S} s"
            time.sleep(0.2)


@dataclass
class Seen:
    """What Dagster's storage has of a run."""

    run: dg.DagsterRun
    events: list

    @classmethod
    def of(cls, instance, run):
        events = [e for e in instance.all_logs(run.run_id) if e.dagster_event is not None]
        return cls(run, events)

    @property
    def status(self):
        return self.run.status.value

    def steps(self, kind):
        """Return the steps with an event of a kind, in order."""
        wanted = DagsterEventType(kind)
        return [e.step_key for e in self.events if e.dagster_event.event_type == wanted]

    def engine_events(self, kind):
        wanted = DagsterEventType(kind)
        found = (e.dagster_event for e in self.events)
        return [e.event_specific_data for e in found if e.event_type == wanted]

    def times(self, kind, step):
        wanted = DagsterEventType(kind)
        return [
            e.timestamp
            for e in self.events
            if e.dagster_event.event_type == wanted and e.step_key == step
        ]

    def failure(self, step):
        """Return the sentence of a step's failure."""
        for entry in self.events:
            event = entry.dagster_event
            if event.is_step_failure and event.step_key == step:
                return event.step_failure_data.error.to_string()
        raise AssertionError(f"{step} did not fail")

    @property
    def text(self):
        return "\n".join(e.dagster_event.message or "" for e in self.events)


@contextmanager
def step_cluster(folder, executor="", workers=2, **changes):
    """Yield the runs of `step_jobs` on a scheduler with workers of one thread each.

    `executor` is `dagster_dask` for that package's instead of the archive's own.
    """
    home = folder / "dagster_home"
    for new in (home, folder / "made", folder / "archive"):
        new.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
    environment = kept | {
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "ROBOAO_ARCHIVE_ROOT": str(folder / "archive"),
        "ROBOAO_STEP_EXECUTOR": "dask",
        "STEP_JOBS_FOLDER": str(folder / "made"),
        "STEP_JOBS_EXECUTOR": executor,
        **changes,
    }
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with DagsterInstance.from_config(str(home)):
        # Two runs at once must not both make the tables of a new SQLite storage.
        pass
    with dask_cluster(folder, environment, workers=workers) as cluster:
        environment["ROBOAO_DASK_SCHEDULER"] = cluster.address
        yield StepRuns(folder, environment, cluster)


def make_both_partitions(runs, run_config=None):
    """Make two partitions in two runs at the same time; return what was made."""
    from distributed import Client

    started = [runs.start("make_product", partition, run_config) for partition in ("one", "two")]

    def wanting(dask_scheduler):
        return sum(bool(c.wants_what) for c in dask_scheduler.clients.values())

    with Client(runs.cluster.address, set_as_default=False) as client:
        runs.wait_for(lambda: client.run_on_scheduler(wanting) == 2, "tasks of two runs")
    (runs.folder / "made" / "go").touch()
    said = [runs.wait(process) for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return {name for name in runs.made() if name.startswith("product")}
