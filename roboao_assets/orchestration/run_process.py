"""Tags of runs: their night, and their process: host, boot, process id and time of its start.

A process id alone says little: ids come again after a restart, in a container soon. What is
written down here is what the kernel says since the boot, so that a clock that was set does not
make a living process look like another.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import dagster as dg

from roboao_assets.storage.processes import start_ticks

# The night that a run is of.
NIGHT_TAG = "roboao/night"
# On every run of the archive, put there by whoever starts it.
PROCESS_TAG = "roboao/process"

_PROC = Path("/proc")
# A process reports an event after its start; times of the two clocks differ by less.
_CLOCK_TOLERANCE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class RunProcess:
    """Where a run was started.

    Attributes
    ----------
    run_id : str
        A run that is started again inherits its parent's tags: they are not about it.
    host, boot_id : str
        Of the machine, and of its last start.
    pid, start_ticks : int or None
        Of the process, and when it started (clock ticks since the boot); None of a run that a
        code server starts: it reports its process id itself.
    launched_s, launched_since_boot_s : float or None
        When such a run was launched (s since 1970, and since the boot): what it reports later can
        be told from this by the clock of that time, whatever the clock is set to since.
    """

    run_id: str
    host: str
    boot_id: str
    pid: int | None = None
    start_ticks: int | None = None
    launched_s: float | None = None
    launched_since_boot_s: float | None = None

    def tags(self) -> dict[str, str]:
        """Return the tag of the run."""
        return {PROCESS_TAG: json.dumps(asdict(self))}


def launched_here(run_id: str) -> RunProcess:
    """Return what can be said of a run that a code server of this host is about to start."""
    return RunProcess(
        run_id=run_id,
        host=socket.gethostname(),
        boot_id=boot_id(),
        launched_s=time.time(),
        launched_since_boot_s=time.clock_gettime(time.CLOCK_BOOTTIME),
    )


def this_process(run_id: str) -> RunProcess:
    """Return what can be said of a run in this process."""
    pid = os.getpid()
    return RunProcess(
        run_id=run_id,
        host=socket.gethostname(),
        boot_id=boot_id(),
        pid=pid,
        start_ticks=start_ticks(pid),
    )


def process_of(run: dg.DagsterRun) -> RunProcess | None:
    """Return what the tag of a run says; None if it has none, or another run's."""
    try:
        process = RunProcess(**json.loads(run.tags.get(PROCESS_TAG, "")))
    except (ValueError, TypeError):
        return None
    return process if process.run_id == run.run_id else None


@cache
def boot_id() -> str:
    """Return what names the last start of this machine; empty where the kernel does not tell."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def ran_at(pid: int, timestamp: float, launched: RunProcess | None = None) -> bool:
    """Whether the process that has the id now had it at a time (s since 1970).

    Parameters
    ----------
    pid : int
    timestamp : float
        By the clock as it was then, which may have been set since.
    launched : RunProcess, optional
        Of the launch that it came after.
    """
    ticks = start_ticks(pid)
    if ticks is None:
        return False
    if launched is not None and launched.launched_s and launched.launched_since_boot_s:
        since_boot_s = launched.launched_since_boot_s + (timestamp - launched.launched_s)
    else:
        since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME) - (time.time() - timestamp)
    return ticks / os.sysconf("SC_CLK_TCK") <= since_boot_s + _CLOCK_TOLERANCE_S
