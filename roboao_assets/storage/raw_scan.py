"""A quick look at the raw roots: which nights and observations are there, and did they change.

Names, sizes and times only; no file is opened. This is what a sensor can afford
every half minute for a thousand nights; `raw_night` reads one of them for the work.
"""

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.manifest import is_partition_key
from roboao_assets.storage.raw_names import (
    RAW_SUFFIX,
    ExposureName,
    parse_exposure_name,
    split_part,
)
from roboao_assets.storage.raw_night import list_nights


@dataclass(frozen=True, kw_only=True)
class NightScan:
    """A raw night as its folders show it.

    Attributes
    ----------
    night : str
        `YYYYMMDD`.
    observations : tuple of str
        Ids of the settled science observations, in time order.
    fingerprint : str
        Changes when a settled file (of any family) comes, goes or changes.
    n_files, n_arriving : int
        Settled files; files younger than the settling time, which are left for later.
    """

    night: str
    observations: tuple[str, ...]
    fingerprint: str
    n_files: int
    n_arriving: int


@dataclass(frozen=True)
class _RawFile:
    name: str
    size_bytes: int
    mtime_ns: int


def scan_raw_nights(
    raw_roots: Sequence[Path], since: date, settle_s: float, now_s: float | None = None
) -> dict[str, NightScan]:
    """Look at every night of the raw roots.

    Parameters
    ----------
    raw_roots : sequence of Path
        Folders of raw nights; a night may stand in several. One that is not there is
        passed over (a disk that is not mounted must not stop the others).
    since : date
        Older nights are left alone.
    settle_s : float
        A file younger than this is still arriving: its exposure waits.
    now_s : float, optional
        The time (s since 1970); by default the clock's.

    Returns
    -------
    dict of str to NightScan
        Newest night first.
    """
    return {
        night: scan_night(night, folders, settle_s, now_s)
        for night, folders in list_nights(raw_roots, since).items()
    }


def scan_night(
    night: str, folders: Sequence[Path], settle_s: float, now_s: float | None = None
) -> NightScan:
    """Look at one night, whose files stand in `folders`."""
    youngest_ns = int(((time.time() if now_s is None else now_s) - settle_s) * 1e9)
    exposures: dict[str, list[_RawFile]] = defaultdict(list)
    for folder in folders:
        for file in _raw_files(folder):
            exposures[split_part(file.name.removesuffix(RAW_SUFFIX))[0]].append(file)
    # A file of an exposure that still arrives keeps the whole exposure waiting.
    settled = {
        name: files
        for name, files in exposures.items()
        if all(file.mtime_ns <= youngest_ns for file in files)
    }
    digest = hashlib.sha256()
    for file in sorted((f for files in settled.values() for f in files), key=lambda f: f.name):
        digest.update(f"{file.name}\0{file.size_bytes}\0{file.mtime_ns}\n".encode())
    names = [name for name in map(_observation_name, settled) if name is not None]
    n_files = sum(map(len, settled.values()))
    return NightScan(
        night=night,
        observations=tuple(n.id for n in sorted(names, key=lambda n: (n.utc, n.id))),
        fingerprint=digest.hexdigest()[:16],
        n_files=n_files,
        n_arriving=sum(map(len, exposures.values())) - n_files,
    )


# A sensor looks at the same names every half minute, and reading a date takes most of its time.
@lru_cache(maxsize=200_000)
def _observation_name(stem: str) -> ExposureName | None:
    if not stem[:1].isdigit() or not is_partition_key(stem):
        return None
    try:
        return parse_exposure_name(stem)
    except RawDataError:
        return None


def _raw_files(folder: Path) -> list[_RawFile]:
    files = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".")
                if entry.name.endswith(RAW_SUFFIX) and not hidden and entry.is_file():
                    status = entry.stat()
                    files.append(_RawFile(entry.name, status.st_size, status.st_mtime_ns))
    except OSError:
        # The folder was moved away while it was looked at: the next look sees it or not.
        return files
    return files
