"""`make bench`: one table of what the archive costs and how right it is, and build/bench.json.

    python -m benchmarks [part ...] [--frames N] [--repeats N] [--quick] [--keep FOLDER]

The exit status is 0 if every part that was asked for could be measured: a goal that is missed
says NO in the table, and `"met": false` in the file.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.parts import PARTS, run_part
from benchmarks.report import ROOT, describe_machine, enter, table
from benchmarks.rows import QUICK_FRAMES, QUICK_REPEATS, Options

FRAMES, REPEATS = 200, 5


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--frames", type=int, help=f"of the observation ({FRAMES})")
    parser.add_argument("--repeats", type=int, help=f"of each measurement ({REPEATS})")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it runs at all")
    parser.add_argument("--keep", type=Path, help="folder in which simulated nights stay")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    for name in ("frames", "repeats"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}; it must be at least 1")
    return arguments


def main() -> int:
    """Measure, print and write."""
    arguments = parse_arguments()
    if shutil.which("lbzip2") is None:
        print("lbzip2 is not installed: it is what is measured against", file=sys.stderr)
        return 1
    _leave_site_settings()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="roboao-bench-", dir=arguments.keep) as scratch:
        options = Options(
            data=(arguments.keep or Path(scratch) / "nights").absolute(),
            scratch=Path(scratch).absolute(),
            frames=arguments.frames or (QUICK_FRAMES if arguments.quick else FRAMES),
            repeats=arguments.repeats or (QUICK_REPEATS if arguments.quick else REPEATS),
            quick=arguments.quick,
        )
        for part in [p for p in PARTS if not arguments.parts or p in arguments.parts]:
            print(f"measuring: {part}", file=sys.stderr, flush=True)
            results.append(run_part(part, options))
            enter(arguments.json, results[-1], options)
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']:g} GiB")
    if arguments.quick:
        print("QUICK: tiny sizes. It shows that everything runs; its figures mean nothing.")
    print(table(results))
    return int(any(result.problem for result in results))


def _leave_site_settings() -> None:
    """Let no setting of this site reach what is measured."""
    for variable in [name for name in os.environ if name.startswith("ROBOAO_")]:
        del os.environ[variable]
    os.environ["ROBOAO_CONFIG"] = os.devnull


if __name__ == "__main__":
    raise SystemExit(main())
