"""The process of a step: what its parent is told of its end, and what ends it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from roboao_assets.orchestration import step_task
from roboao_assets.orchestration.run_process import start_ticks
from roboao_assets.orchestration.step_task import StepRequest, make_step

REQUEST = StepRequest(key="run:step:1", arguments="none", settings_json="{}")

# Stands for the process of a step: says that it is there, and does what the test wants.
CHILD = """
import os, pathlib, sys, time
from roboao_assets.orchestration.step_task import follow_parent
line = follow_parent()
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
try:
    {what}
except KeyboardInterrupt:
    sys.exit("interrupted")
"""
HANGS = "time.sleep(300)"


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A function that makes `make_step` start a process that does something, and names its file."""

    real = subprocess.Popen

    def prepare(what):
        command = [sys.executable, "-c", CHILD.format(what=what), str(tmp_path / "pid")]
        monkeypatch.setattr(
            step_task.subprocess, "Popen", lambda _, **options: real(command, **options)
        )
        return tmp_path / "pid"

    return prepare


def test_a_process_that_ends_well_is_no_problem(child):
    child("pass")
    assert make_step(REQUEST, lambda: True, "the test") == ""


def test_what_it_was_told_is_one_line(child, tmp_path):
    child("pathlib.Path(sys.argv[1]).with_name('line').write_bytes(line)")
    make_step(REQUEST, lambda: True, "the test")
    assert (tmp_path / "line").read_bytes() == REQUEST.message("the test")


def test_last_words(child):
    child("sys.exit('no such table')")
    assert "status 1; its last words: no such table" in make_step(REQUEST, lambda: True, "")
    child("os.kill(os.getpid(), 9)")
    assert "ended by SIGKILL" in make_step(REQUEST, lambda: True, "")


def test_nobody_waits_any_more(child):
    file = child(HANGS)
    problem = make_step(REQUEST, lambda: not file.exists(), "the test")
    assert problem == "nobody waited for it any more, and it was stopped"
    assert start_ticks(int(file.read_text())) is None


def test_one_that_does_not_stop_is_killed(child, tmp_path, monkeypatch):
    monkeypatch.setattr(step_task, "STOP_GRACE_S", 0.5)
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    file = child(deaf + "pathlib.Path(sys.argv[1]).with_name('deaf').touch(); " + HANGS)
    make_step(REQUEST, lambda: not (tmp_path / "deaf").exists(), "the test")
    assert start_ticks(int(file.read_text())) is None


def test_time_limit(child):
    child(HANGS)
    limited = StepRequest(key="k", arguments="", settings_json="", time_limit_s=2.0)
    assert "not finished within 2 s" in make_step(limited, lambda: True, "the test")


def test_it_dies_with_its_parent(tmp_path):
    """Also if the parent is killed, which says nothing to anybody."""
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)\n"
        "child.stdin.write(b'{}\\n'); child.stdin.flush(); time.sleep(300)\n"
    )
    file = tmp_path / "pid"
    command = [sys.executable, "-c", CHILD.format(what=HANGS), str(file)]
    started = subprocess.Popen([sys.executable, "-c", parent, *command])
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(file.read_text())
    assert start_ticks(pid) is not None
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    while start_ticks(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_that_closes_kills_it_without_a_word(child):
    file = child(HANGS)

    def is_wanted():
        if file.exists():
            raise RuntimeError("closed")
        return True

    with pytest.raises(RuntimeError, match="closed"):
        make_step(REQUEST, is_wanted, "the test")
    assert start_ticks(int(file.read_text())) is None
