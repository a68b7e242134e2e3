import os
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest

from roboao_assets.orchestration.run_process import (
    PROCESS_TAG,
    launched_here,
    process_of,
    ran_at,
    start_ticks,
    this_process,
)


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def run_with(tags, run_id="one"):
    return dg.DagsterRun(job_name="any", run_id=run_id, tags=tags)


def test_a_process_is_known_by_its_start(sleeper):
    ticks = start_ticks(sleeper.pid)
    assert ticks is not None
    assert start_ticks(os.getpid()) < ticks
    assert start_ticks(sleeper.pid) == ticks


def test_a_killed_process_that_nobody_waited_for_does_not_run(sleeper):
    sleeper.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert os.path.exists(f"/proc/{sleeper.pid}")
    assert start_ticks(sleeper.pid) is None
    assert not ran_at(sleeper.pid, time.time())


def test_who_has_an_id_now_had_it_since_its_start_only(sleeper):
    assert ran_at(sleeper.pid, time.time())
    assert not ran_at(sleeper.pid, time.time() - 3600)


def test_a_tag_is_of_the_run_that_it_names():
    tags = this_process("one").tags()
    mine = process_of(run_with(tags))
    assert mine.pid == os.getpid()
    assert mine == this_process("one")
    assert process_of(run_with(tags, "the same, started again")) is None
    assert launched_here("one").pid is None


@pytest.mark.parametrize("text", ["", "no JSON", "{}", '{"run_id": "one", "more": 1}', "[1]"])
def test_a_tag_that_says_nothing(text):
    assert process_of(run_with({PROCESS_TAG: text})) is None
