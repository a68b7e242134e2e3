"""Simulated nights to be measured on, and what is done with their observations.

A cold observation is one whose raw files are not in the page cache and that the catalogue
has never seen: their checksums are not known either, and every byte has to be hashed.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from astropy.io import fits

import simulator
from benchmarks.rows import Options, timed
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.storage.raw_night import RawExposure, read_night
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
MAIN_STAGES = ("bright_star_stack", "strehl_ratio", "bright_star_preview")
FAINT_STAGES = ("bright_star_stack", "faint_star_stack", "strehl_ratio", "bright_star_preview")
# Also for a star that is bright: the price is asked for, not whether it is wanted.
FAINT_SETTINGS = {"decisions": {"faint_star": {"all": []}}}
QUICK_TARGETS = 2


@dataclass(frozen=True, kw_only=True)
class BenchNight:
    """A raw night, and an archive that has its masters and nothing else.

    Attributes
    ----------
    raw_root, masters : Path
    scratch : Path
        Where archives are made.
    cores : int
        Threads, where nothing else is said.
    """

    raw_root: Path
    masters: Path
    scratch: Path
    cores: int

    @property
    def observations(self) -> tuple[RawExposure, ...]:
        """The science observations, in time order."""
        return read_night((self.raw_root,), NIGHT).observations

    def settings(self, archive: Path, **more: Any) -> Settings:
        """Settings that depend on no site: whoever measures gets the same work done."""
        values = {"threads": self.cores, **more}
        return Settings(raw_roots=(self.raw_root,), archive_root=archive, **values)

    @contextmanager
    def new_archive(self, **more: Any) -> Iterator[Settings]:
        """Yield settings whose archive has the masters and knows of no raw file."""
        with tempfile.TemporaryDirectory(prefix="archive-", dir=self.scratch) as folder:
            archive = Path(folder) / "archive"
            shutil.copytree(self.masters, archive)
            yield self.settings(archive, **more)


def make_night(
    options: Options,
    *,
    targets: int,
    frames: int,
    size_px: int = 0,
    seed: int = 1,
    seeing_exposures: int = 0,
) -> BenchNight:
    """Return a simulated night with its masters made.

    The raw files are simulated unless `options.data` has them; the masters are made once a run.
    `size_px` is that of `options` where nothing else is said. A quick run has one tiny night for
    whatever is asked.
    """
    size_px = size_px or options.size_px
    if options.quick:
        targets, frames, seed, seeing_exposures = QUICK_TARGETS, options.frames, 1, 1
    name = f"{targets}x{frames}x{size_px}-seed{seed}-seeing{seeing_exposures}-{_simulator()}"
    raw_root = options.data / name
    # The truth is written last: a night that has one is complete.
    if not (raw_root / NIGHT / "truth.json").is_file():
        simulator.simulate_night(
            raw_root,
            NIGHT,
            targets=targets,
            frames=frames,
            size=size_px,
            seed=seed,
            seeing_exposures=seeing_exposures,
        )
    night = BenchNight(
        raw_root=raw_root,
        masters=options.scratch / f"masters-{name}",
        scratch=options.scratch,
        cores=options.cores,
    )
    # An earlier part of this run may have made them.
    if not night.masters.is_dir():
        unfinished = Path(tempfile.mkdtemp(dir=options.scratch))
        make_masters(night.settings(unfinished))
        unfinished.rename(night.masters)
    return night


def make_masters(settings: Settings) -> None:
    """Register the night and make its masters (RuntimeError if one cannot be made)."""
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        outcome = stage(settings, NIGHT)
        if not outcome.succeeded:
            raise RuntimeError(f"{outcome.stage}: {outcome.reason}")


def _simulator() -> str:
    """Short digest of the simulator's source: what another version made is made again."""
    digest = hashlib.sha256()
    for path in sorted(Path(simulator.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def with_frames(night: BenchNight, frames: int) -> BenchNight:
    """Return `night` with its first observation alone, made shorter or longer.

    A longer one goes on in ``<id>_0.fits.bz2``, ``<id>_1.fits.bz2``, ... as the camera has it:
    the same frames again, which cost as much as new ones and are there at once.
    """
    first = night.observations[0]
    (source,) = first.files
    raw_root = Path(tempfile.mkdtemp(prefix="raw-", dir=night.scratch))
    folder = raw_root / NIGHT
    folder.mkdir()
    unpacked = _unpacked(source, night.cores)
    with fits.open(BytesIO(unpacked)) as hdus:
        available = len(hdus)
        rest = frames % available
        place = hdus[rest - 1].fileinfo() if rest else {"datLoc": 0, "datSpan": 0}
    for number in range(-(-frames // available)):
        part = "" if number == 0 else f"_{number - 1}"
        target = folder / f"{first.id}{part}.fits.bz2"
        if (number + 1) * available <= frames:
            _link(source, target)
        else:
            _pack(unpacked[: place["datLoc"] + place["datSpan"]], target, night.cores)
    return replace(night, raw_root=raw_root)


def _unpacked(path: Path, cores: int) -> bytes:
    command = ["lbzip2", "-n", str(cores), "-dc", str(path)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def _pack(content: bytes, target: Path, cores: int) -> None:
    with target.open("wb") as file:
        subprocess.run(["lbzip2", "-n", str(cores), "-c"], input=content, stdout=file, check=True)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)


def forget(files: Iterable[Path]) -> None:
    """Drop the files from the page cache: the next reading is cold."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def unpack_cold(exposure: RawExposure, cores: int) -> float:
    """Seconds to unpack the files to nowhere: what no reduction can do without."""
    forget(exposure.files)
    command = ["lbzip2", "-n", str(cores), "-dc", *map(str, exposure.files)]
    return timed(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))


def reduce_cold(
    night: BenchNight,
    observation: str,
    stages: tuple[str, ...] = MAIN_STAGES,
    **more: Any,
) -> tuple[float, dict[str, float]]:
    """Reduce an observation that is cold; return the seconds of all, and of each stage."""
    files = next(o.files for o in night.observations if o.id == observation)
    with night.new_archive(**more) as settings:
        text = settings.model_dump_json()
        forget(files)
        outcomes = []
        total = timed(
            lambda: outcomes.extend(reduce_observation(text, NIGHT, observation, stages, True))
        )
    check(outcomes, stages)
    return total, {o.stage: o.seconds for o in outcomes}


def check(outcomes: Iterable[Any], stages: tuple[str, ...]) -> None:
    """Raise RuntimeError unless each of `stages` was made: half the work is no measurement."""
    outcomes = list(outcomes)
    failed = [f"{o.stage}: {o.reason}" for o in outcomes if not o.succeeded]
    missing = sorted(set(stages) - {o.stage for o in outcomes})
    if failed or missing:
        raise RuntimeError("; ".join([*failed, *(f"{stage} was not made" for stage in missing)]))
