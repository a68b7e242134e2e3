"""What a part of the benchmark measures with, and what it gives back: rows of one table."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

FULL_SIZE_PX, QUICK_SIZE_PX = 1024, 256
QUICK_FRAMES, QUICK_REPEATS = 60, 1


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for.

    Attributes
    ----------
    data : Path
        Where simulated nights are, or are made.
    scratch : Path
        For everything else; it vanishes with the run.
    frames, repeats : int
        Frames of the observation that is measured, and how often.
    quick : bool
        Tiny sizes: to see that everything runs, not how fast.
    """

    data: Path
    scratch: Path
    frames: int
    repeats: int
    quick: bool

    @property
    def size_px(self) -> int:
        """Side of the frames."""
        return QUICK_SIZE_PX if self.quick else FULL_SIZE_PX

    @property
    def cores(self) -> int:
        """Processors that this process may use: the same for ours and for the peers."""
        return len(os.sched_getaffinity(0))

    def described(self, frames: int) -> str:
        """So many frames, of the size measured."""
        return f"{frames} frames of {self.size_px}^2"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A limit that the median of the measurements must keep."""

    limit: float
    at_least: bool = False

    def is_met_by(self, value: float) -> bool:
        """True if `value` keeps the limit."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    name : str
    values : tuple of float
        One a repetition; none: it could not be measured, and `note` says why.
    unit : str
    key : str
        Its name in `bench.json`, for rows that have a goal of the project's.
    goal : Goal or None
    note : str
        What else has to be known to read the numbers.
    """

    name: str
    values: tuple[float, ...]
    unit: str = "x"
    key: str = ""
    goal: Goal | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """Median of the values, if there are any."""
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; what was not measured meets none."""
        if self.goal is None:
            return None
        return self.median is not None and self.goal.is_met_by(self.median)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A run, and the mean of the baseline's runs just before and after it (s)."""

    seconds: float
    baseline: float

    @property
    def ratio(self) -> float:
        """The run over the baseline."""
        return self.seconds / self.baseline


def interleave(
    baseline: Callable[[], float], others: Mapping[str, Callable[[], float]], repeats: int
) -> dict[str, list[Pair]]:
    """Run the baseline before and after every other run.

    What else the machine does changes from minute to minute: a run is compared with
    its neighbours only.

    Parameters
    ----------
    baseline : callable
        Returns the seconds it took.
    others : mapping of str to callable
    repeats : int

    Returns
    -------
    dict of str to list of Pair
        By the names of `others`.
    """
    pairs: dict[str, list[Pair]] = {name: [] for name in others}
    before = baseline()
    for _ in range(repeats):
        for name, run in others.items():
            seconds = run()
            after = baseline()
            pairs[name].append(Pair(seconds=seconds, baseline=(before + after) / 2))
            before = after
    return pairs


def timed(call: Callable[[], object]) -> float:
    """Seconds that `call` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
