"""A quick look at the raw roots: which nights and observations are there, and did they change.

Names, sizes and times only; no file is opened. This is what a sensor can afford
every half minute for a thousand nights; `raw_night` reads one of them for the work.
"""

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
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

# Name of a raw file to its size and time.
RecentFiles = Mapping[str, str]

# Files with times within this of now may still be written.
_RECENT_S = 3600.0
_CALIBRATION = ("dark_", "flat_", "bias_")


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
    calibration : str
        Changes when a settled dark, flat or bias comes, goes or changes.
    n_files, n_arriving : int
        Settled files; files that are still written, which are left for later.
    recent : mapping of str to str
        Files that were written within the last hour, and their size and time: for the next look.
    """

    night: str
    observations: tuple[str, ...]
    fingerprint: str
    calibration: str
    n_files: int
    n_arriving: int
    recent: RecentFiles


@dataclass(frozen=True)
class _RawFile:
    name: str
    size_bytes: int
    mtime_ns: int


def scan_raw_nights(
    raw_roots: Sequence[Path],
    since: date,
    settle_s: float,
    now_s: float | None = None,
    *,
    before: Mapping[str, RecentFiles] | None = None,
    end_of_night: str = "",
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
    before : mapping of str to mapping, optional
        `recent` of each night at the last look: a recent file must have been there as it is
        now, as the clock of a file server need not be ours. By default age alone counts.
    end_of_night : str
        A file of this name in a night's folder says that all of it has arrived.

    Returns
    -------
    dict of str to NightScan
        Newest night first.
    """
    return {
        night: scan_night(
            night,
            folders,
            settle_s,
            now_s,
            before=None if before is None else before.get(night, {}),
            end_of_night=end_of_night,
        )
        for night, folders in list_nights(raw_roots, since).items()
    }


def scan_night(
    night: str,
    folders: Sequence[Path],
    settle_s: float,
    now_s: float | None = None,
    *,
    before: RecentFiles | None = None,
    end_of_night: str = "",
) -> NightScan:
    """Look at one night, whose files stand in `folders` (see `scan_raw_nights`)."""
    now_s = time.time() if now_s is None else now_s
    youngest_ns = int((now_s - settle_s) * 1e9)
    recent_ns = int((now_s - _RECENT_S) * 1e9)
    ended = bool(end_of_night) and any((folder / end_of_night).exists() for folder in folders)
    recent: dict[str, str] = {}
    exposures: dict[str, list[_RawFile]] = defaultdict(list)
    for folder in folders:
        for file in _raw_files(folder):
            exposures[split_part(file.name.removesuffix(RAW_SUFFIX))[0]].append(file)
            if file.mtime_ns > recent_ns and not ended:
                recent[file.name] = f"{file.size_bytes}:{file.mtime_ns}"

    def is_settled(file: _RawFile) -> bool:
        if ended or file.name not in recent:
            return True
        # What comes from the future by its clock must only have stood still.
        old = file.mtime_ns <= youngest_ns or file.mtime_ns > now_s * 1e9
        return old if before is None else old and before.get(file.name) == recent[file.name]

    # A file of an exposure that still arrives keeps the whole exposure waiting.
    settled = {name: files for name, files in exposures.items() if all(map(is_settled, files))}
    there = sorted((f for files in settled.values() for f in files), key=lambda f: f.name)
    found = map(_observation_name, settled)
    names = [name for name in found if name is not None and name.night == night]
    n_files = sum(map(len, settled.values()))
    return NightScan(
        night=night,
        observations=tuple(n.id for n in sorted(names, key=lambda n: (n.utc, n.id))),
        fingerprint=_digest(there),
        calibration=_digest([file for file in there if file.name.startswith(_CALIBRATION)]),
        n_files=n_files,
        n_arriving=sum(map(len, exposures.values())) - n_files,
        recent=recent,
    )


def _digest(files: Sequence[_RawFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        # Names are bytes: they need not be text.
        digest.update(os.fsencode(f"{file.name}\0{file.size_bytes}\0{file.mtime_ns}\n"))
    return digest.hexdigest()[:16]


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
    try:
        with os.scandir(folder) as entries:
            found = [_raw_file(entry) for entry in entries if _has_raw_name(entry.name)]
    except OSError:
        # The folder was moved away while it was looked at: the next look sees it or not.
        return []
    return [file for file in found if file is not None]


def _has_raw_name(name: str) -> bool:
    return name.endswith(RAW_SUFFIX) and not name.startswith(".")


def _raw_file(entry: os.DirEntry[str]) -> _RawFile | None:
    """Return what a raw file's name leads to; None if that is no file, which hides no other."""
    try:
        if not entry.is_file():
            return None
        status = entry.stat()
    except OSError:
        # It was removed since the folder was listed, or is a link to itself.
        return None
    return _RawFile(entry.name, status.st_size, status.st_mtime_ns)
