"""How much memory the reduction of one long observation takes at its peak."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from benchmarks.nights import (
    FAINT_SETTINGS,
    FAINT_STAGES,
    NIGHT,
    BenchNight,
    check,
    make_night,
    with_frames,
)
from benchmarks.rows import Goal, Options, Row
from roboao_assets.pipelines.outcome import StageOutcome

MEMORY_GOAL = Goal(limit=4)
LONG_FRAMES, SHORT_FRAMES = 770, 200
QUICK_LONG_FRAMES, QUICK_SHORT_FRAMES = 130, 60
_POLL_S = 0.02
_GIB = 2**30

# VmHWM and not getrusage: its maximum begins with that of whoever started the process.
_CHILD = """
import json, sys
from roboao_assets.pipelines.observation import reduce_observation
settings, night, observation, stages = json.load(sys.stdin)
outcomes = reduce_observation(settings, night, observation, tuple(stages), force=True)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak_kib = int(status["VmHWM"].split()[0])
ended = [{"stage": o.stage, "status": o.status, "reason": o.reason} for o in outcomes]
json.dump({"peak": 1024 * peak_kib, "outcomes": ended}, sys.stdout)
"""


@dataclass(frozen=True)
class Peak:
    """Peaks (bytes) of the process that reduces, and of what it started."""

    own: int
    children: int

    @property
    def gib(self) -> float:
        """Their sum in GiB: not less than the most there was at any one time."""
        return (self.own + self.children) / _GIB


def measure(options: Options) -> Iterator[Row]:
    """Yield the peak of a full exposure, of a shorter one, and the growth by the frame."""
    long, short = (
        (QUICK_LONG_FRAMES, QUICK_SHORT_FRAMES) if options.quick else (LONG_FRAMES, SHORT_FRAMES)
    )
    night = make_night(options, targets=1, frames=options.frames)
    peaks = {frames: _peak(with_frames(night, frames)) for frames in (long, short)}
    yield Row(
        name=f"peak memory, {options.described(long)}",
        values=(peaks[long].gib,),
        unit="GiB",
        key="peak_gib",
        goal=MEMORY_GOAL,
        note="bright and faint star; a new process and its lbzip2",
    )
    yield Row(
        name="  of it lbzip2", values=(peaks[long].children / _GIB,), unit="GiB", note="resident"
    )
    yield Row(
        name=f"  {options.described(short)}",
        values=(peaks[short].gib,),
        unit="GiB",
    )
    growth = (peaks[long].gib - peaks[short].gib) * 1024 / (long - short)
    raw = 2 * options.size_px**2 / 2**20
    yield Row(
        name="  growth by the frame",
        values=(growth,),
        unit="MiB",
        note=f"of it {raw:g} the raw frame",
    )


def _peak(night: BenchNight) -> Peak:
    with night.new_archive(**FAINT_SETTINGS) as settings:
        task = (settings.model_dump_json(), NIGHT, night.observations[0].id, FAINT_STAGES)
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(task))
        process.stdin.close()
        children = _watch(process)
        assert process.stdout is not None
        text = process.stdout.read()
    if process.wait():
        raise RuntimeError(f"the process that reduces ended with status {process.returncode}")
    answer = json.loads(text)
    check((StageOutcome(**o) for o in answer["outcomes"]), FAINT_STAGES)
    return Peak(own=answer["peak"], children=children)


def _watch(process: subprocess.Popen) -> int:
    """Return the most bytes that the children of `process` held together until it ended."""
    most = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            held = sum(child.memory_info().rss for child in watched.children(recursive=True))
        except psutil.NoSuchProcess:
            continue  # one ended while we looked
        most = max(most, held)
        time.sleep(_POLL_S)
    return most
