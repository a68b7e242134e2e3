"""Many examples of the property tests, target by target, each for a given time: `make fuzz`.

A pass is all property tests of a target under the profile `fuzz` (tests/fuzzing.py), each with
2000 examples from a new seed; passes follow each other until the time is over. The first failure
ends a target, with its example and what reproduces it.
"""

import argparse
import random
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = {
    "raw reader": (
        "tests/unit/storage/test_raw_mutations.py",
        "tests/unit/storage/test_raw_frames.py",
    ),
    "header parser": ("tests/unit/storage/test_raw_header.py",),
    "id parser": (
        "tests/unit/storage/test_raw_names.py",
        "tests/unit/storage/test_raw_night.py",
    ),
    "search parser": ("tests/dashboard/test_search_form.py",),
    "decision rules": ("tests/unit/storage/test_decisions.py",),
}
_EXAMPLES = re.compile(r"(\d+) passing, (\d+) failing(?: test cases| examples)?, and (\d+) invalid")


def run_pass(files: tuple[str, ...], seed: int) -> tuple[bool, int, str]:
    """Run all property tests of `files` once; whether they passed, their examples, the output."""
    options = ("-q", "-o", "addopts=-ra --strict-markers", "-m", "hypothesis", "--tb=short")
    fuzzing = ("--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}")
    command = (sys.executable, "-m", "pytest", *options, *fuzzing, "--hypothesis-show-statistics")
    ended = subprocess.run(
        (*command, *files), cwd=ROOT, capture_output=True, text=True, check=False
    )
    tried = sum(sum(map(int, counts)) for counts in _EXAMPLES.findall(ended.stdout))
    return ended.returncode == 0, tried, ended.stdout + ended.stderr


def fuzz(name: str, seconds: float) -> bool:
    """Fuzz one target until the time is over; False if anything was found."""
    start, passes, examples = time.monotonic(), 0, 0
    while not passes or time.monotonic() - start < seconds:
        seed = random.randrange(2**32)
        passed, tried, output = run_pass(TARGETS[name], seed)
        passes, examples = passes + 1, examples + tried
        if not passed:
            print(output)
            print(f"{name}: FOUND with --hypothesis-seed={seed} in pass {passes}", flush=True)
            return False
    took = time.monotonic() - start
    print(f"{name:16s} {passes:4d} passes {examples:9d} examples {took:7.0f} s  nothing found")
    sys.stdout.flush()
    return True


def main() -> int:
    """Fuzz the targets that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="default: all")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each target")
    asked = parser.parse_args()
    results = [fuzz(name, asked.seconds) for name in asked.targets or TARGETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
