"""Making the package of an observation, over the same by tar and lbzip2 (or bzip2).

The observation is reduced first: its products are those of the instrument, 1024 x 1024 px and
2048 x 2048 px drizzled. Files are in the page cache, and on disk at the end (`fsync`) in both.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.nights import FAINT_SETTINGS, NIGHT, check, make_night
from benchmarks.rows import Options, Row, interleave, timed
from roboao_assets.pipelines.distribution import pack_observation
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.storage.packages import (
    WrittenPackage,
    hash_members,
    look_at_folder,
    manifest_of,
    write_package,
)

FRAMES = 60
STAGES = (
    "bright_star_stack",
    "faint_star_stack",
    "astrometric_solution",
    "strehl_ratio",
    "bright_star_preview",
    "faint_star_strehl_ratio",
    "faint_star_preview",
    "distribution_package",
)


def measure(options: Options) -> Iterator[Row]:
    """Yield the ratio, what is behind it, and what a look at a current package costs."""
    frames = min(options.frames, FRAMES)
    night = make_night(options, targets=1, frames=frames)
    observation = night.observations[0].id
    with night.new_archive(**FAINT_SETTINGS) as settings, open_workspace(settings) as ws:
        check(reduce_observation(settings.model_dump_json(), NIGHT, observation, STAGES), STAGES)
        folder, package = (f(NIGHT, observation) for f in (ws.paths.observation, ws.paths.package))
        made: list[WrittenPackage] = []

        def pack(threads: int) -> float:
            return timed(lambda: made.append(_pack(folder, package, threads)))

        runs = {f"{n} threads": partial(pack, n) for n in sorted({1, options.cores})}
        pairs = interleave(lambda: _by_tar(folder, package, options), runs, options.repeats)
        size = f"{made[0].unpacked_bytes / 1e6:.0f} MB in {made[0].size_bytes / 1e6:.0f} MB"
        reader = _program()[0]
        for name, found in pairs.items():
            yield Row(
                name=f"package, {name} / tar | {reader}",
                values=tuple(p.ratio for p in found),
                key="package_over_tar" if name == f"{options.cores} threads" else "",
                note=f"{size}; {reader} on {options.cores} cores; hashes, manifest, fsync included",
            )
            yield Row(name=f"  {name}", values=tuple(p.seconds for p in found), unit="s")
        pack_observation(ws, NIGHT, observation)
        look = partial(pack_observation, ws, NIGHT, observation)
        if look().status != "unchanged":
            raise RuntimeError("a package that is current was made again")
        yield Row(
            name="look at a current package",
            values=tuple(1000 * timed(look) for _ in range(max(3, options.repeats))),
            unit="ms",
            note="nothing is read but names, sizes and times",
        )


def _pack(folder: Path, package: Path, threads: int) -> WrittenPackage:
    members = hash_members(folder, look_at_folder(folder, package))
    return write_package(package, folder, manifest_of({}, members), members, threads=threads)


def _by_tar(folder: Path, package: Path, options: Options) -> float:
    output = options.scratch / package.name
    program = [*_program(), *(["-n", str(options.cores)] if shutil.which("lbzip2") else [])]

    def pack() -> None:
        command = ["tar", "cf", "-", f"--exclude={package.name}", "-C", folder.parent, folder.name]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE) as tar,
            output.open("wb") as file,
        ):
            subprocess.run([*program, "-c"], stdin=tar.stdout, stdout=file, check=True)
            os.fsync(file.fileno())
        if tar.returncode:
            raise RuntimeError(f"tar ended with {tar.returncode}")

    return timed(pack)


def _program() -> list[str]:
    return ["lbzip2"] if shutil.which("lbzip2") else ["bzip2"]
