"""The parts of the benchmark, and how one is run."""

import importlib
import multiprocessing
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from benchmarks.report import PartResult
from benchmarks.rows import Options, Row

# By the name on the command line, in the order of the table. A part is a module with a function
# `measure(options)` that yields rows; a row with a key is entered in bench.json under it.
PARTS = {
    "unpacking": "benchmarks.unpacking",
    "original": "benchmarks.against_original",
    "memory": "benchmarks.memory",
    "workers": "benchmarks.workers",
    "transfers": "benchmarks.transfers",
    "peers": "benchmarks.peers",
    "kernels": "benchmarks.kernels",
    "contrast": "benchmarks.contrast",
    "faint": "benchmarks.faint_stars",
    "catalogue": "benchmarks.catalogue",
    "pages": "benchmarks.page_loads",
    "packages": "benchmarks.packages",
    "sessions": "benchmarks.sessions",
    "scale": "benchmarks.scale",
    "overhead": "benchmarks.scale_overhead",
    "truth": "benchmarks.truth",
}


def run_part(part: str, options: Options) -> PartResult:
    """Measure a part in a process of its own: none inherits another's memory, threads or plans.

    A part that fails is reported in one line and stops no other.
    """
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        future = pool.submit(_measure, PARTS[part], options)
        error = future.exception()
    seconds = time.monotonic() - start
    if error is not None:
        traceback.print_exception(error)
        problem = f"{type(error).__name__}: {error}"
        return PartResult(part=part, problem=problem, seconds=seconds)
    return PartResult(part=part, rows=future.result(), seconds=seconds)


def _measure(module: str, options: Options) -> tuple[Row, ...]:
    return tuple(importlib.import_module(module).measure(options))
