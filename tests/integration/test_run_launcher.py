"""A real code server whose run, and which itself, is killed: what Dagster ends, and what we end."""

import os
import runpy
import signal
import time

import dagster as dg
import pytest
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget

from roboao_assets.orchestration.dead_runs import end_dead_runs
from roboao_assets.orchestration.home import open_instance
from roboao_assets.orchestration.run_process import boot_id, process_of
from roboao_assets.storage.processes import start_ticks
from roboao_assets.storage.settings import Settings

LIMIT_S = 120
SLEEPING = """
import time
import dagster as dg

@dg.op
def sleep():
    time.sleep(600)

@dg.job(executor_def=dg.in_process_executor)
def sleeping():
    sleep()

defs = dg.Definitions(jobs=[sleeping])
"""


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with open_instance(Settings(archive_root=tmp_path / "archive")) as instance:
        yield instance


@pytest.fixture
def workspace(instance, tmp_path):
    file = tmp_path / "sleeping.py"
    file.write_text(SLEEPING)
    target = PythonFileTarget(
        python_file=str(file), attribute=None, working_directory=None, location_name="sleeping"
    )
    with WorkspaceProcessContext(instance, target) as context:
        yield file, context.create_request_context()


def launch(instance, workspace):
    """Start the sleeping job as the daemon does; return its run and the id of its process."""
    file, requests = workspace
    location = requests.get_code_location("sleeping")
    (repository,) = location.get_repositories().values()
    job = location.get_job(JobSubsetSelector("sleeping", repository.name, "sleeping", None))
    run = instance.create_run_for_job(
        runpy.run_path(str(file))["sleeping"],
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
    )
    instance.launch_run(run.run_id, requests)
    wait(lambda: pids(instance, run), "the process of the run")
    wait(lambda: is_asleep(instance, run), "the start of the run's step")
    return run, pids(instance, run)[0]


def pids(instance, run):
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    told = [e.dagster_event.engine_event_data.metadata.get("pid") for e in logs]
    return [int(value.value) for value in told if value is not None]


def is_asleep(instance, run):
    return bool(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START))


def status(instance, run):
    return instance.get_run_by_id(run.run_id).status


def wait(condition, what):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LIMIT_S, f"{what} took too long"
        time.sleep(0.1)
    return time.monotonic() - began


def parent_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return int(file.read().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_killed_runs_with_and_without_their_code_server(instance, workspace):
    # The code server lives: Dagster ends the run at once and means to start it again.
    run, pid = launch(instance, workspace)
    process = process_of(instance.get_run_by_id(run.run_id))
    assert (process.boot_id, process.pid) == (boot_id(), None)
    assert end_dead_runs(instance) == []
    os.kill(pid, signal.SIGKILL)
    took_s = wait(lambda: status(instance, run) == dg.DagsterRunStatus.FAILURE, "its end")
    print(f"a code server ended its killed run after {took_s:.1f} s")
    wait(lambda: "dagster/will_retry" in instance.get_run_by_id(run.run_id).tags, "the tag")
    assert instance.get_run_by_id(run.run_id).tags["dagster/will_retry"] == "true"
    # The code server dies: its run goes on by itself, and is left alone.
    run, pid = launch(instance, workspace)
    os.kill(parent_of(pid), signal.SIGKILL)
    time.sleep(3)
    assert start_ticks(pid) is not None
    assert end_dead_runs(instance) == []
    # Nobody ends it when it dies too, but we.
    os.kill(pid, signal.SIGKILL)
    time.sleep(3)
    assert status(instance, run) == dg.DagsterRunStatus.STARTED
    assert end_dead_runs(instance) == [run.run_id]
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE
    assert instance.get_run_by_id(run.run_id).tags["dagster/will_retry"] == "true"
