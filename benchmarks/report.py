"""The table of a run, and `bench.json`, into which each part enters what it measured."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.rows import Options, Row
from roboao_assets.storage.files import write_text_whole

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = (
    "numpy", "scipy", "astropy", "pyfftw", "image_registration", "drizzle", "dask", "distributed",
    "dagster", "matplotlib",
)  # fmt: skip
_HEADINGS = ("median", "min", "max", "n")


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What came of one part: its rows, or why there are none."""

    part: str
    rows: tuple[Row, ...] = ()
    problem: str = ""
    seconds: float = 0.0


def table(results: Sequence[PartResult]) -> str:
    """Return the one table of a run."""
    shown = [row for result in results for row in result.rows]
    width = max([len(row.name) for row in shown] + [20]) + 2
    lines = [f"{'':{width}}" + "".join(f"{h:>9}" for h in _HEADINGS) + "  unit    goal     met"]
    for result in results:
        lines.append(f"-- {result.part} ({result.seconds:.0f} s)")
        lines += [_line(row, width) for row in result.rows]
        if result.problem:
            lines.append(f"  NOT MEASURED: {result.problem}")
    return "\n".join(lines)


def _line(row: Row, width: int) -> str:
    goal = "" if row.goal is None else str(row.goal)
    met = {None: "", True: "yes", False: "NO"}[row.met]
    if row.values:
        numbers = (row.median, min(row.values), max(row.values))
        figures = "".join(f"{_figure(v):>9}" for v in numbers) + f"{len(row.values):>9}"
    else:
        figures = f"{'not available':>36}"
    return f"  {row.name:{width - 2}}{figures}  {row.unit:7} {goal:8} {met:4} {row.note}".rstrip()


def _figure(value: float) -> str:
    if abs(value) < 100:
        return f"{value:.3f}"
    return f"{value:.4g}"


def enter(path: Path, result: PartResult, options: Options) -> None:
    """Enter the result of a part in the file `path`, in place of what it said before.

    Parts that were not run stay as they are, so that the file fills run by run; what
    another machine measured is dropped. Each figure says whether it is of a quick run.

    Parameters
    ----------
    path : Path
        `bench.json`; it appears whole or not at all.
    result : PartResult
    options : Options
    """
    machine = describe_machine()
    document = _earlier(path, machine)
    document.update(machine=machine, **describe_software())
    for key in document["parts"].pop(result.part, {}).get("keys", ()):
        document.pop(key, None)
    goals = {row.key: _entry(row, options) for row in result.rows if row.key}
    document["parts"][result.part] = {
        "keys": list(goals),
        "date": document["date"],
        "commit": document["commit"],
        "seconds": round(result.seconds, 1),
        "frames": options.frames,
        "repeats": options.repeats,
        "quick": options.quick,
        "problem": result.problem,
        "rows": [{"name": row.name, **_entry(row, options)} for row in result.rows],
    }
    document["quick"] = any(part["quick"] for part in document["parts"].values())
    write_text_whole(path, json.dumps({**goals, **document}, indent=1) + "\n")


def _entry(row: Row, options: Options) -> dict[str, Any]:
    return {
        "median": row.median,
        "min": min(row.values, default=None),
        "max": max(row.values, default=None),
        "n": len(row.values),
        "goal": None if row.goal is None else row.goal.limit,
        "met": row.met,
        "unit": row.unit,
        "note": row.note,
        "quick": options.quick,
    }


def _earlier(path: Path, machine: dict[str, Any]) -> dict[str, Any]:
    if path.is_file():
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("machine") == machine:
            return document
    return {"parts": {}}


def describe_machine() -> dict[str, Any]:
    """Processor, cores and memory."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "ram_gib": round(memory / 2**30, 1),
    }


def describe_software() -> dict[str, Any]:
    """Versions, date and commit."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
        "lbzip2": _first_line(["lbzip2", "--version"]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def _commit() -> str:
    commit = _first_line(["git", "rev-parse", "HEAD"])
    changed = _first_line(["git", "status", "--porcelain"])
    return commit + (" and changes" if commit and changed else "")


def _first_line(command: list[str]) -> str:
    """First line that `command` prints; empty where there is no such program, or no repository."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode else (done.stdout.splitlines() or [""])[0].strip()
