"""The products of a cold observation, over unpacking its files alone."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.nights import (
    FAINT_SETTINGS,
    FAINT_STAGES,
    MAIN_STAGES,
    make_night,
    reduce_cold,
    unpack_cold,
)
from benchmarks.rows import Goal, Options, Pair, Row, interleave, timed

BRIGHT_GOAL, BOTH_GOAL = Goal(limit=1.15), Goal(limit=1.35)


def measure(options: Options) -> Iterator[Row]:
    """Yield the ratios, the seconds behind them, and what a process costs that is not warm."""
    night = make_night(options, targets=1, frames=options.frames)
    exposure = night.observations[0]
    parts: dict[str, list[float]] = {}

    def reduce(stages: tuple[str, ...], **more: object) -> float:
        total, seconds = reduce_cold(night, exposure.id, stages, **more)
        for stage, value in seconds.items():
            parts.setdefault(stage, []).append(value)
        return total

    runs = {
        "bright": partial(reduce, MAIN_STAGES),
        "bright and faint": partial(reduce, FAINT_STAGES, **FAINT_SETTINGS),
    }
    for run in runs.values():
        run()  # imports, plans of transforms: a worker has them from its first observation
    parts.clear()
    pairs = interleave(lambda: unpack_cold(exposure, options.cores), runs, options.repeats)
    size = options.described(options.frames)
    yield _ratio_row(
        "bright star, Strehl, preview / unpacking",
        pairs["bright"],
        key="bright_over_unpack",
        goal=BRIGHT_GOAL,
        note=f"{size}, cold; same files by lbzip2 -dc before and after",
    )
    yield _ratio_row(
        "the same with the faint star / unpacking",
        pairs["bright and faint"],
        key="bright_and_faint_over_unpack",
        goal=BOTH_GOAL,
        note=f"{size}, cold; unpacked once",
    )
    yield Row(
        name="unpacking",
        values=tuple(p.baseline for found in pairs.values() for p in found),
        unit="s",
    )
    for name, found in pairs.items():
        yield Row(name=f"reduction, {name}", values=tuple(p.seconds for p in found), unit="s")
    for stage, seconds in parts.items():
        yield Row(name=f"  {stage}", values=tuple(seconds), unit="s")
    yield Row(
        name="imports of a cold process",
        values=tuple(timed(_import_in_new_process) for _ in range(max(2, options.repeats))),
        unit="s",
        note="not in the ratios: a Dask worker has them",
    )


def _ratio_row(name: str, pairs: list[Pair], *, key: str, goal: Goal, note: str) -> Row:
    return Row(name=name, values=tuple(p.ratio for p in pairs), key=key, goal=goal, note=note)


def _import_in_new_process() -> None:
    command = [sys.executable, "-c", "import roboao_assets.pipelines.observation"]
    subprocess.run(command, check=True)
