"""What a raw night holds: its exposures, darks and flats, from one or several raw roots."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.manifest import is_partition_key
from roboao_assets.storage.raw_names import (
    RAW_SUFFIX,
    ExposureName,
    parse_exposure_name,
    raw_stem,
    split_part,
)

_NIGHT = re.compile(r"\d{8}", re.ASCII)
_MODE = re.compile(r"\d{1,4}", re.ASCII)
_DIGITS = re.compile(r"(\d+)", re.ASCII)
_PARTIAL_SUFFIXES = (".part", ".tmp")


@dataclass(frozen=True, kw_only=True)
class RawExposure:
    """A science or seeing exposure and its files.

    Attributes
    ----------
    name : ExposureName
    night : str
    files : tuple of Path
        In the order of their frames: ``<id>``, ``<id>_0``, ``<id>_1``, ...
    problem : str
        Why it must not be reduced as it is (a part is missing, a file is empty);
        a sentence, or empty.
    """

    name: ExposureName
    night: str
    files: tuple[Path, ...]
    problem: str = ""

    @property
    def id(self) -> str:
        """The exposure's id everywhere."""
        return self.name.id


@dataclass(frozen=True, kw_only=True)
class RawNight:
    """The files of a night.

    Attributes
    ----------
    night : str
    folders : tuple of Path
        Where it stands; a file in an earlier one hides that of its name in a later one.
    observations, seeing : tuple of RawExposure
        In time order.
    darks : dict of str to tuple of Path
        By mode key: ``0``, ``6`` .. ``10``, or those with ``4`` appended (quarter frame).
    flats : dict of str to tuple of Path
        By filter.
    unprocessed : tuple of Path
        Bias and pointing files.
    unreadable : tuple of (Path, str)
        Files that are left alone, and why.
    hidden : tuple of (Path, Path)
        Files of one name and size in two folders: the one that is read, the one that is not.
    """

    night: str
    folders: tuple[Path, ...]
    observations: tuple[RawExposure, ...]
    seeing: tuple[RawExposure, ...]
    darks: dict[str, tuple[Path, ...]]
    flats: dict[str, tuple[Path, ...]]
    unprocessed: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    hidden: tuple[tuple[Path, Path], ...] = ()


def list_nights(raw_roots: Sequence[Path], since: date) -> dict[str, tuple[Path, ...]]:
    """List the nights of the raw roots from `since` on.

    Returns
    -------
    dict of str to tuple of Path
        Folders of each night, in the order of the roots; newest night first. A
        root that is not there (a disk that is not mounted) is passed over.
    """
    earliest = f"{since:%Y%m%d}"
    nights: dict[str, list[Path]] = defaultdict(list)
    for root in raw_roots:
        for folder in _entries(Path(root)):
            if folder.name >= earliest and is_night(folder.name) and folder.is_dir():
                nights[folder.name].append(folder)
    return {night: tuple(nights[night]) for night in sorted(nights, reverse=True)}


def is_night(name: str) -> bool:
    """Whether `name` is a night: a date, `YYYYMMDD`."""
    if not _NIGHT.fullmatch(name):
        return False
    try:
        datetime.strptime(name, "%Y%m%d")
    except ValueError:
        return False
    return True


def read_night(raw_roots: Sequence[Path], night: str) -> RawNight:
    """Sort the files of a night by what their names say; no file is opened.

    Hidden and partial files and everything that is no ``*.fits.bz2`` are
    ignored. What a name does not tell never raises: it is listed in `unreadable`.

    Raises
    ------
    RawDataError
        If `night` is no date, or no raw root has it.
    """
    if not is_night(night):
        raise RawDataError(f"{night!r} is no night: a UT date YYYYMMDD was expected")
    folders = tuple(f for root in raw_roots if (f := Path(root) / night).is_dir())
    if not folders:
        looked = ", ".join(
            repr(str(root)) + ("" if Path(root).is_dir() else " (which is not there)")
            for root in raw_roots
        )
        raise RawDataError(
            f"no raw data of the night {night} were found; looked for a folder {night} in "
            f"{looked or 'no raw root at all: set ROBOAO_RAW_ROOTS'}"
        )
    return _Sorting(night, folders).sort()


class _Sorting:
    def __init__(self, night: str, folders: tuple[Path, ...]):
        self.night = night
        self.folders = folders
        self.parts: dict[str, list[tuple[int, Path]]] = defaultdict(list)
        self.darks: dict[str, list[Path]] = defaultdict(list)
        self.flats: dict[str, list[Path]] = defaultdict(list)
        self.unprocessed: list[Path] = []
        self.unreadable: list[tuple[Path, str]] = []
        self.hidden: list[tuple[Path, Path]] = []
        self.sizes: dict[Path, int] = {}

    def sort(self) -> RawNight:
        for path in self._files():
            self._place(path)
        exposures = []
        for identity, parts in self.parts.items():
            try:
                name = parse_exposure_name(identity)
            except RawDataError as error:
                self.unreadable.extend((path, str(error)) for _, path in parts)
            else:
                if name.night == self.night:
                    exposures.append(self._exposure(name, parts))
                else:
                    reason = _of_another_night(name, self.night)
                    self.unreadable.extend((path, reason) for _, path in parts)
        exposures.sort(key=lambda exposure: (exposure.name.utc, exposure.id))
        return RawNight(
            night=self.night,
            folders=self.folders,
            observations=tuple(e for e in exposures if not e.name.is_seeing),
            seeing=tuple(e for e in exposures if e.name.is_seeing),
            darks=_sorted_groups(self.darks),
            flats=_sorted_groups(self.flats),
            unprocessed=tuple(sorted(self.unprocessed, key=_natural)),
            unreadable=tuple(sorted(self.unreadable, key=lambda item: _natural(item[0]))),
            hidden=tuple(self.hidden),
        )

    def _files(self) -> Iterator[Path]:
        seen: dict[str, Path] = {}
        for folder in self.folders:
            try:
                entries = sorted(folder.iterdir())
            except OSError as error:
                reason = f"is a folder that cannot be looked into: {error.strerror}"
                self.unreadable.append((folder, reason))
                continue
            for path in entries:
                if not _is_raw_name(path.name):
                    continue
                try:
                    is_file, size = path.is_file(), path.stat().st_size
                except OSError as error:
                    self.unreadable.append((path, f"cannot be looked at: {error.strerror}"))
                    continue
                if not is_file:
                    self.unreadable.append((path, "is no file, though it has a raw file's name"))
                    continue
                self.sizes[path] = size
                first = seen.setdefault(path.name, path)
                if first is path:
                    yield path
                elif size == self.sizes[first]:
                    self.hidden.append((first, path))
                else:
                    self.unreadable.append((path, differs_from(first, size, self.sizes[first])))

    def _place(self, path: Path) -> None:
        family, *tokens = raw_stem(path).split("_")
        if not path.name.isprintable():
            # It can neither be stored in the catalogue nor be shown on a page.
            reason = "has characters in its name that cannot be printed; rename it"
            self.unreadable.append((path, reason))
        elif family in ("bias", "pointing"):
            self.unprocessed.append(path)
        elif family in ("dark", "flat") and self.sizes[path] == 0:
            self.unreadable.append((path, "is empty (zero bytes); copy it again"))
        elif family == "dark":
            if tokens and _MODE.fullmatch(tokens[0]):
                self.darks[str(int(tokens[0]))].append(path)
            else:
                self.unreadable.append((path, "has no mode number: dark_<mode>_... was expected"))
        elif family == "flat":
            if len(tokens) > 1 and tokens[1]:
                self.flats[tokens[1]].append(path)
            else:
                self.unreadable.append((path, "has no filter: flat_<x>_<filter>_... was expected"))
        elif not is_partition_key(raw_stem(path)):
            reason = "has '...' in its name, which no id may have; rename it"
            self.unreadable.append((path, reason))
        else:
            identity, part = split_part(raw_stem(path))
            self.parts[identity].append((part, path))

    def _exposure(self, name: ExposureName, parts: list[tuple[int, Path]]) -> RawExposure:
        parts.sort(key=lambda item: (item[0], item[1].name))
        numbers = [number for number, _ in parts]
        problems = []
        missing = sorted(set(range(-1, max(numbers) + 1)) - set(numbers))
        if missing:
            names = ", ".join(_part_name(name.id, number) for number in missing[:3])
            more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
            problems.append(
                f"{names}{more} is missing though {parts[-1][1].name} is there; "
                f"copy it from the telescope"
            )
        if len(numbers) > len(set(numbers)):
            problems.append("there are two files of one part: remove the wrong one")
        empty = [path.name for _, path in parts if self.sizes[path] == 0]
        if empty:
            problems.append(f"{', '.join(empty)} is empty (zero bytes); copy it again")
        return RawExposure(
            name=name,
            night=self.night,
            files=tuple(path for _, path in parts),
            problem=f"the exposure {name.id} is not whole: " + "; ".join(problems)
            if problems
            else "",
        )


def differs_from(first: Path, size: int, size_of_first: int) -> str:
    """Why a file is left alone whose name another raw root has too, with another content."""
    sizes = f"{size} and {size_of_first} bytes" if size != size_of_first else "of one size"
    return (
        f"is left alone, as {str(first)!r} of the same name comes first in the raw roots; they "
        f"differ ({sizes}), remove the wrong one"
    )


def _of_another_night(name: ExposureName, night: str) -> str:
    return (
        f"is of {name.utc:%Y-%m-%d} by its name and stands in the folder of the night {night}: "
        f"move it to the folder {name.night}, or rename it if the camera's clock was wrong; "
        f"until then it is left alone"
    )


def _part_name(identity: str, number: int) -> str:
    return (identity if number < 0 else f"{identity}_{number}") + RAW_SUFFIX


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_raw_name(name: str) -> bool:
    if name.startswith(".") or name.endswith(_PARTIAL_SUFFIXES):
        return False
    return name.endswith(RAW_SUFFIX)


def _natural(path: Path) -> tuple:
    """Sort key by which part 10 comes after part 9."""
    pieces = _DIGITS.split(path.name)
    return [(int(p), "") if p.isascii() and p.isdigit() else (-1, p) for p in pieces], str(path)


def _sorted_groups(groups: dict[str, list[Path]]) -> dict[str, tuple[Path, ...]]:
    return {
        key: tuple(sorted(groups[key], key=_natural))
        for key in sorted(groups, key=lambda key: _natural(Path(key)))
    }
