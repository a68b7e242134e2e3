import subprocess
import sys
import time
from dataclasses import replace

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.events import EngineEventData

from roboao_assets.orchestration.dead_runs import end_dead_runs
from roboao_assets.orchestration.home import open_instance
from roboao_assets.orchestration.run_process import launched_here, this_process
from roboao_assets.storage.processes import start_ticks
from roboao_assets.storage.settings import Settings

STARTED, CANCELING = DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with open_instance(Settings(archive_root=tmp_path / "archive")) as instance:
        yield instance


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def kill(process):
    process.kill()
    process.wait()


def start(instance, status=STARTED, make_tags=None):
    """A run of which the storage says that it is under way."""
    run = instance.create_run_for_job(dg.job(name="any")(lambda: None), status=status)
    if make_tags is not None:
        instance.add_run_tags(run.run_id, make_tags(run.run_id).tags())
    return run


def in_process(process):
    ticks = start_ticks(process.pid)
    return lambda run_id: replace(this_process(run_id), pid=process.pid, start_ticks=ticks)


def status(instance, run):
    return instance.get_run_by_id(run.run_id).status


def test_a_foreground_run_lives_as_long_as_its_process(instance, sleeper):
    run = start(instance, make_tags=in_process(sleeper))
    assert end_dead_runs(instance) == []
    kill(sleeper)
    assert end_dead_runs(instance) == [run.run_id]
    assert status(instance, run) == DagsterRunStatus.FAILURE
    (told,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert f"its process {sleeper.pid}" in told.dagster_event.message
    assert end_dead_runs(instance) == []


def test_another_process_with_the_same_id_is_not_the_run(instance, sleeper):
    of_before = in_process(sleeper)
    run = start(
        instance,
        make_tags=lambda i: replace(of_before(i), start_ticks=of_before(i).start_ticks - 1),
    )
    assert end_dead_runs(instance) == [run.run_id]


def report_pid(instance, run, pid):
    """Say what Dagster's code server says in the process of a run that it starts."""
    instance.report_engine_event(
        f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid)
    )


@pytest.mark.parametrize("make_tags", [launched_here, None], ids=["tagged", "of an older version"])
def test_a_launched_run_is_known_by_the_process_id_it_reports(instance, sleeper, make_tags):
    run = start(instance, make_tags=make_tags)
    report_pid(instance, run, sleeper.pid)
    assert end_dead_runs(instance) == []
    kill(sleeper)
    assert end_dead_runs(instance) == [run.run_id]


@pytest.mark.parametrize("step_s", [-86_400.0, 3.2e7], ids=["a day back", "a year ahead"])
def test_a_clock_that_is_set_ends_no_run_that_lives(instance, sleeper, monkeypatch, step_s):
    run = start(instance, make_tags=launched_here)
    report_pid(instance, run, sleeper.pid)
    time_of_day = time.time
    monkeypatch.setattr(time, "time", lambda: time_of_day() + step_s)
    assert end_dead_runs(instance) == []
    kill(sleeper)
    assert end_dead_runs(instance) == [run.run_id]


def test_a_run_that_is_being_launched_is_left_to_dagster(instance):
    run = start(instance, status=DagsterRunStatus.STARTING, make_tags=launched_here)
    assert end_dead_runs(instance) == []
    assert status(instance, run) == DagsterRunStatus.STARTING


def test_after_a_restart_of_the_machine_nothing_of_before_lives(instance, sleeper):
    before = {
        "launched": start(
            instance,
            status=DagsterRunStatus.STARTING,
            make_tags=lambda i: replace(launched_here(i), boot_id="another"),
        ),
        "foreground": start(
            instance, make_tags=lambda i: replace(in_process(sleeper)(i), boot_id="another")
        ),
    }
    assert set(end_dead_runs(instance)) == {run.run_id for run in before.values()}


def test_runs_of_other_hosts_are_left_alone_until_an_operator_says_more(instance):
    other = start(
        instance, make_tags=lambda i: replace(launched_here(i), host="other", boot_id="another")
    )
    here = start(instance, make_tags=this_process)
    assert end_dead_runs(instance) == []
    assert end_dead_runs(instance, host="other") == [other.run_id]
    assert status(instance, here) == STARTED


def test_who_was_being_cancelled_is_cancelled_and_not_tried_again(instance, sleeper):
    run = start(instance, status=CANCELING, make_tags=in_process(sleeper))
    kill(sleeper)
    assert end_dead_runs(instance) == [run.run_id]
    assert status(instance, run) == DagsterRunStatus.CANCELED


def test_finished_runs_stay_as_they_are(instance):
    kept = {
        state: start(instance, status=state)
        for state in (
            DagsterRunStatus.FAILURE,
            DagsterRunStatus.SUCCESS,
            DagsterRunStatus.CANCELED,
        )
    }
    assert end_dead_runs(instance) == []
    assert all(status(instance, run) == state for state, run in kept.items())
