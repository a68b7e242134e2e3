"""Steps on a Dask cluster of which something goes away: a worker, the scheduler, the run."""

import os
import re
import signal
import sys

import dagster as dg
import pytest
from ledger import Fault
from postgresql_server import DATABASE, PASSWORD, USER, postgresql
from step_runs import step_cluster

from roboao_assets.orchestration.run_process import start_ticks

SECTION = "deploy/dagster-postgresql.yaml"


@pytest.fixture
def step_runs(tmp_path):
    with step_cluster(tmp_path) as runs:
        yield runs


def start_hanging(step_runs, run_config=None):
    """Start the run of a step that hangs; return it, with the step's process and its child's."""
    run = step_runs.start("hang", run_config=run_config)
    step_runs.wait_for(lambda: "hangs" in step_runs.made(), "beginning of the step")
    child = int((step_runs.folder / "made" / "child").read_text())
    return run, (step_runs.process_of("hangs"), child)


def enter(ledger, name, survived, told):
    """Enter a fault tried once, with the last line of what is told."""
    sentence = next(line for line in reversed(told.splitlines()) if line.strip())
    ledger.enter(Fault(name=name, tried=1, survived=int(survived), told=sentence.strip()))


def gone(step_runs, processes):
    step_runs.wait_for(lambda: not any(map(start_ticks, processes)), "end of the processes")
    return True


def test_a_step_whose_worker_died_is_tried_again_as_its_policy_says(step_runs, ledger):
    seen, said = step_runs.run("lose_worker_once")
    (again,) = seen.engine_events("STEP_UP_FOR_RETRY")
    done = seen.status == "SUCCESS"
    enter(ledger, "step's worker killed, with a retry policy", done, again.error.message)
    assert seen.status == "SUCCESS", said
    assert seen.steps("STEP_UP_FOR_RETRY") == ["kills_its_worker_once"]
    assert {"kills_once_0", "kills_once_1"} <= step_runs.made()


def test_a_step_whose_worker_died_has_failed_with_a_sentence_and_siblings_go_on(step_runs, ledger):
    seen, said = step_runs.run("lose_workers")
    assert seen.status == "FAILURE", said
    told = seen.failure("kills_its_worker")
    enter(ledger, "step's worker killed", "sound" in step_runs.made(), told)
    assert "the worker that had begun it died" in seen.failure("kills_its_worker")
    assert "ended by SIGKILL" in seen.failure("is_killed")
    # Once: Dask gives the task of a lost worker to the next one, and may lose that as well.
    assert seen.steps("STEP_START").count("kills_its_worker") == 1
    assert "sound" in step_runs.made()


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "by_hand"])
def test_a_terminated_run_takes_its_steps_with_it(tmp_path, asked):
    with step_cluster(tmp_path, workers=1) as runs:
        run, processes = start_hanging(runs)
        if asked:
            # What Dagster's pages do before they interrupt the process of a run.
            with runs.instance() as instance:
                instance.report_run_canceling(runs.last("hang").run)
        run.send_signal(signal.SIGINT if asked else signal.SIGTERM)
        said = runs.wait(run)
        assert runs.last("hang").status == ("CANCELED" if asked else "FAILURE"), said
        assert gone(runs, processes)
        assert "after_hangs" not in runs.made()
        # The only worker has its place back.
        seen, said = runs.run("drive")
        assert seen.status == "SUCCESS", said


def test_a_run_that_is_killed_takes_its_steps_with_it(step_runs, ledger):
    run, processes = start_hanging(step_runs)
    run.kill()
    step_runs.wait(run)
    enter(ledger, "run with steps on the cluster killed", gone(step_runs, processes), "nothing")
    assert gone(step_runs, processes)


def test_a_step_over_its_time_limit_has_failed_and_gives_its_place_back(step_runs, ledger):
    limited = {"execution": {"config": {"dask": {"step_timeout_s": 10.0}}}}
    run, processes = start_hanging(step_runs, limited)
    said = step_runs.wait(run)
    seen = step_runs.last("hang")
    assert seen.status == "FAILURE", said
    told = seen.failure("hangs")
    enter(ledger, "step over its time limit", gone(step_runs, processes), told)
    assert "not finished within 10 s" in told
    assert gone(step_runs, processes)
    assert "after_hangs" not in step_runs.made()


def test_a_scheduler_that_goes_away_ends_the_run_with_a_sentence(step_runs, ledger):
    run, processes = start_hanging(step_runs)
    os.killpg(step_runs.cluster.scheduler.pid, signal.SIGKILL)
    said = step_runs.wait(run)
    seen = step_runs.last("hang")
    assert seen.status == "FAILURE", said
    (failure,) = seen.engine_events("PIPELINE_FAILURE")
    enter(ledger, "scheduler lost under steps", gone(step_runs, processes), failure.error.message)
    assert re.search(r"scheduler at tcp://\S+ was lost while steps .*\(hangs\)", str(failure.error))
    # Not the failure of a step: Dagster starts such a run again.
    assert failure.failure_reason.value == "RUN_EXCEPTION"
    assert gone(step_runs, processes)


OTHER_BOOT = """
from roboao_assets.orchestration import run_process
run_process.boot_id = lambda: "another"
"""


def test_workers_on_another_host_are_refused_while_the_storage_is_sqlite(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # All that a process can tell by which host it is on.
    (elsewhere / "sitecustomize.py").write_text(OTHER_BOOT)
    path = os.pathsep.join([str(elsewhere), *sys.path])
    with step_cluster(tmp_path, workers=1, PYTHONPATH=path) as runs:
        runs.environment["PYTHONPATH"] = ""
        seen, said = runs.run("drive")
    (failure,) = seen.engine_events("PIPELINE_FAILURE")
    assert re.search(
        r"storage is SQLite in .*, and the Dask worker \S+ is on another host", str(failure.error)
    ), said
    assert runs.made() == set()


def test_steps_report_into_postgresql_and_workers_without_its_password_are_refused(tmp_path):
    with postgresql() as port:
        reached = {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(port),
            "DAGSTER_PG_DB": DATABASE,
            "DAGSTER_PG_USERNAME": USER,
            "DAGSTER_PG_PASSWORD": PASSWORD,
        }
        with step_cluster(tmp_path, workers=1) as runs:
            config = tmp_path / "dagster_home" / "dagster.yaml"
            section = dg.file_relative_path(__file__, f"../../{SECTION}")
            with open(section) as file, config.open("a") as appended:
                appended.write(file.read())
            runs.environment |= reached
            with pytest.MonkeyPatch.context() as patch:
                for name, value in reached.items():
                    patch.setenv(name, value)
                seen, said = runs.run("endings")
                (failure,) = seen.engine_events("PIPELINE_FAILURE")
                assert "cannot use Dagster's storage" in str(failure.error), said
                assert PASSWORD not in said
                runs.cluster.environment |= reached
                runs.cluster.processes[-1].terminate()
                runs.cluster.start_worker()
                seen, said = runs.run("endings")
                assert seen.steps("STEP_FAILURE") == ["defective"], said
                assert {"after_sound", "asking_1"} <= runs.made()
