"""The bright-star stack of a cold full-frame observation, over unpacking its files alone.

`python -m benchmarks.unpacking [--frames 200] [--repeats 3]`
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings
from simulator import simulate_night

NIGHT = "20170607"
STAGES = ("bright_star_stack", "strehl_ratio", "bright_star_preview")


def forget(files):
    """Drop the files from the page cache: the next reading is cold."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def unpack(files):
    """Seconds to unpack the files to nowhere, all cores."""
    command = ["lbzip2", "-dc", *map(str, files)]
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def reduce(settings, observation):
    """Seconds of stack, Strehl ratio and previews; and of each."""
    start = time.perf_counter()
    outcomes = reduce_observation(
        settings.model_dump_json(), NIGHT, observation, STAGES, force=True
    )
    total = time.perf_counter() - start
    failed = [o.reason for o in outcomes if not o.succeeded]
    if failed:
        raise RuntimeError("; ".join(failed))
    return total, {o.stage: o.seconds for o in outcomes}


def measure(frames, repeats):
    """Return the ratios of `repeats` pairs, and the seconds of the stages of the last."""
    with tempfile.TemporaryDirectory(prefix="roboao-bench-") as folder:
        root = Path(folder)
        simulate_night(
            root / "raw", NIGHT, targets=1, frames=frames, size=1024, seed=1, seeing_exposures=0
        )
        settings = Settings(
            raw_roots=(root / "raw",), archive_root=root / "archive", threads=os.cpu_count() or 1
        )
        for stage in (
            stages.register_night,
            stages.make_master_darks,
            stages.make_master_flats,
            stages.make_bad_pixel_mask,
        ):
            outcome = stage(settings, NIGHT)
            print(f"{outcome.stage:20} {outcome.seconds:7.2f} s")
        exposure = read_night(settings.raw_roots, NIGHT).observations[0]
        reduce(settings, exposure.id)  # imports, first touch
        ratios, parts = [], {}
        for _ in range(repeats):
            forget(exposure.files)
            floor = unpack(exposure.files)
            forget(exposure.files)
            total, parts = reduce(settings, exposure.id)
            ratios.append(total / floor)
            print(f"unpack {floor:6.2f} s   reduce {total:6.2f} s   ratio {total / floor:.3f}")
        return ratios, parts


def main():
    """Print the ratio and its spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("lbzip2") is None:
        raise SystemExit("lbzip2 is not installed: it is what the stack is measured against")
    ratios, parts = measure(options.frames, options.repeats)
    for stage, seconds in parts.items():
        print(f"{stage:20} {seconds:7.2f} s")
    print(
        f"bright star over unpacking, {options.frames} frames of 1024 x 1024: "
        f"median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f}, "
        f"n {len(ratios)})"
    )


if __name__ == "__main__":
    main()
