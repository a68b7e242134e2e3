"""A step of a Dagster run in a process of its own, and the Dask task that waits for it.

A process, not a thread of the worker: it can be stopped, it loads the code location anew (a
worker of yesterday does not know tonight's partitions), and Dagster's steps are not made for
threads. This module imports no Dagster; the process does (`step_process`).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from distributed import get_worker
from distributed.core import Status

_POLL_S = 0.5
# What a step that was told to stop has for its last words; then it is killed.
STOP_GRACE_S = 20.0
_SHOWN_CHARACTERS = 1500
_STILL_WANTED = ("executing", "long-running")
_WORKER_GOES_ON = (Status.init, Status.running, Status.paused, Status.closing_gracefully)
_STOP = b"stop\n"


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """A step to be made.

    Attributes
    ----------
    key : str
        Name of the task on the scheduler, `<run id>:<step key>:<attempt>`.
    arguments : str
        Dagster's `ExecuteStepArgs`, serialised.
    settings_json : str
        Those of the run (`storage.sent_settings`).
    time_limit_s : float or None
        From the start of the process.
    """

    key: str
    arguments: str
    settings_json: str = field(repr=False)
    time_limit_s: float | None = None

    def message(self, where: str) -> bytes:
        """Return what the process is told: one line."""
        told = {"arguments": self.arguments, "settings": self.settings_json, "where": where}
        return json.dumps(told).encode() + b"\n"


def make_step_on_worker(request: StepRequest) -> str:
    """Make a step, as long as somebody waits for it; for what is returned see `make_step`."""
    worker = get_worker()

    def is_wanted() -> bool:
        if worker.status not in _WORKER_GOES_ON:
            # Not the run's wish: it ends without a word, and Dagster may try it again.
            raise RuntimeError(f"the worker {worker.address} was closed")
        task = worker.state.tasks.get(request.key)
        return task is not None and task.state in _STILL_WANTED

    return make_step(request, is_wanted, f"the worker {worker.address}")


def make_step(request: StepRequest, is_wanted: Callable[[], bool], where: str) -> str:
    """Start the process of a step and wait for its end.

    Parameters
    ----------
    request : StepRequest
    is_wanted : callable
        Asked all the time; when it says no, the process is told to stop. When it raises, the
        process is killed.
    where : str
        Who starts it, for the log of the run.

    Returns
    -------
    str
        What went wrong with the process, in words; empty if it ended by itself and well, which
        says nothing about the step: how that ended is in Dagster's storage.
    """
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "roboao_assets.orchestration.step_process"],
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=subprocess.STDOUT,
            # With the processes that it starts it is one group, and goes as one.
            start_new_session=True,
        )
        try:
            _tell(process, request.message(where))
            return _attend(process, request, is_wanted) or _verdict(process, words)
        finally:
            _kill(process)


def _attend(
    process: subprocess.Popen[bytes], request: StepRequest, is_wanted: Callable[[], bool]
) -> str:
    """Wait for the end of a process, stop it if need be; return why, empty if it was not."""
    begun_s = time.monotonic()
    while process.poll() is None:
        limit_s = request.time_limit_s
        if not is_wanted():
            _tell(process, _STOP)
            _wait(process, STOP_GRACE_S)
            return "nobody waited for it any more, and it was stopped"
        if limit_s is not None and time.monotonic() - begun_s > limit_s:
            # Without a word of its own, which would be the word that it was interrupted.
            _kill(process)
            return (
                f"it was not finished within {limit_s:g} s and was stopped; raise the setting "
                f"stage_timeout_s, or step_timeout_s of the executor, if it is that large"
            )
        _wait(process, _POLL_S)
    return ""


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _tell(process: subprocess.Popen[bytes], message: bytes) -> None:
    # If it is gone its status says how it ended.
    with suppress(BrokenPipeError):
        process.stdin.write(message)
        process.stdin.flush()


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Also after its end: what it has started goes with it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(BrokenPipeError):
        process.stdin.close()


def _verdict(process: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"its process was ended by {name} (killed: out of memory, or by hand)"
    words.seek(0)
    last = words.read().decode(errors="replace").strip()[-_SHOWN_CHARACTERS:]
    return f"its process ended with status {process.returncode}; its last words: {last or 'none'}"


def follow_parent() -> bytes:
    """Return the first line that this process is told, and obey those who started it from now on.

    Told to stop, it is interrupted. If they die it dies at once and without a word: what it
    would write of its end is not theirs to answer for, and they cannot stop it any more.
    """
    told = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        # Nothing that the step does, or starts, shall read what is meant for us.
        os.dup2(nothing.fileno(), 0)
    line, rest = _read_line(told, b"")

    def listen() -> None:
        if _read_line(told, rest)[0] == _STOP:
            os.kill(os.getpid(), signal.SIGINT)
        # They wait for us now, or they are gone.
        _read_line(told, b"")
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=listen, name="parent", daemon=True).start()
    return line


def _read_line(descriptor: int, begun: bytes) -> tuple[bytes, bytes]:
    """Return a line and what came after it; the line is empty at the end of all lines."""
    while b"\n" not in begun:
        part = os.read(descriptor, 65536)
        if not part:
            return b"", b""
        begun += part
    line, _, rest = begun.partition(b"\n")
    return line + b"\n", rest
