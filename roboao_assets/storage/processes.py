"""Whether a process is there, and whether it is the one that it was."""

from pathlib import Path

_PROC = Path("/proc")
_NOT_RUNNING = ("Z", "X", "x")


def start_ticks(pid: int) -> int | None:
    """Return when a process started (clock ticks since the boot); None if it does not run."""
    try:
        line = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program stands in parentheses, and may hold anything.
    fields = line.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return None if state in _NOT_RUNNING else int(started)
