"""What a worker without mounts may see and write: names below its mirror, and their originals.

A worker says names; the run that owns the files alone makes paths of them. It may read the raw
files of its observation, what the archive has of nights, the PSF library, distortion solutions,
and the two files that settings name. It may write its observation's products, records and PSF
candidate, and nothing else.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.mirror import MirroredRoot, RemoteFile
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_names import RAW_SUFFIX
from roboao_assets.storage.settings import Settings

_ARCHIVE, _RAW, _TABLE, _PROFILES = "archive", "raw", "settings/catalogue", "settings/instruments"
_NIGHT = re.compile(r"[0-9]{8}")


class TransferRefusedError(ArchiveError):
    """A worker asked for a file that is none of its observation's."""


@dataclass(frozen=True)
class MirroredFiles:
    """The originals of an observation's mirror, on the machine that has them.

    Attributes
    ----------
    settings : Settings
    night, observation : str
    """

    settings: Settings
    night: str
    observation: str

    @cached_property
    def paths(self) -> ArchivePaths:
        """The archive."""
        return ArchivePaths(self.settings.archive_root.absolute())

    @cached_property
    def roots(self) -> tuple[MirroredRoot, ...]:
        """What has a place in the mirror."""
        archive = self.settings.archive_root
        roots = [
            MirroredRoot(name=_ARCHIVE, configured=str(archive), told=str(self.paths.root)),
            *(
                MirroredRoot(name=f"{_RAW}/{number}", configured=str(root), told=str(root))
                for number, root in enumerate(self.settings.raw_roots)
            ),
        ]
        for name, path in self._single_files.items():
            roots.append(MirroredRoot(name=name, configured=str(path), told=str(path)))
        return tuple(roots)

    @cached_property
    def _single_files(self) -> dict[str, Path]:
        named = {_PROFILES: self.settings.instruments_file}
        if self.settings.astrometry.catalogue:
            named[_TABLE] = Path(self.settings.astrometry.catalogue)
        return {f"{name}/{path.name}": path for name, path in named.items() if path is not None}

    def folders(self) -> list[str]:
        """Folders that are there even without files."""
        night = [
            f"{_RAW}/{number}/{self.night}"
            for number, root in enumerate(self.settings.raw_roots)
            if (root / self.night).is_dir()
        ]
        return [_ARCHIVE, *night]

    def files(self) -> list[RemoteFile]:
        """What a reduction of the observation may look at, or find missing."""
        paths, found = self.paths, []
        for number, root in enumerate(self.settings.raw_roots):
            for entry in _entries(root / self.night):
                if entry.name.startswith(self.observation) and entry.name.endswith(RAW_SUFFIX):
                    found += _described(f"{_RAW}/{number}/{self.night}/{entry.name}", entry)
        # The package of an observation follows no link: what is one is no file of it here either.
        own = [
            *_walk(paths.observation(self.night, self.observation)),
            *(paths.psf_candidate(self.night, self.observation, s) for s in ("fits", "png")),
            paths.observation_record(self.night, self.observation),
            paths.night_record(self.night),
        ]
        shared = [
            *(Path(entry.path) for entry in _entries(paths.bad_pixel_mask(self.night).parent)),
            *(Path(entry.path) for entry in _entries(paths.distortion("any", "any").parent)),
            paths.psf_library,
        ]
        for files, is_shared in ((own, False), (shared, True)):
            for path in files:
                found += _described(self._archive_name(path), path, shared=is_shared)
        for name, path in self._single_files.items():
            found += _described(name, path, shared=True)
        return found

    def folder_files(self, name: str) -> list[RemoteFile]:
        """The files of a folder of the archive (TransferRefusedError if it may not be seen)."""
        folder = self.readable(f"{name}/any").parent
        return [
            file for entry in _entries(folder) for file in _described(f"{name}/{entry.name}", entry)
        ]

    def readable(self, name: str) -> Path:
        """Return the path of a file that the worker may read (else TransferRefusedError)."""
        parts = self._parts(name)
        if name in self._single_files:
            return self._single_files[name]
        match parts:
            case (_, number, self.night, file) if parts[0] == _RAW and number.isdecimal():
                roots = self.settings.raw_roots
                if int(number) < len(roots) and file.startswith(self.observation):
                    return roots[int(number)] / self.night / file
            case (_, "psf_library.fits") if parts[0] == _ARCHIVE:
                return self.paths.psf_library
            case (_, "astrometry", file) if parts[0] == _ARCHIVE:
                return self.paths.distortion("any", "any").with_name(file)
            case (_, night, _, *_) if parts[0] == _ARCHIVE and _NIGHT.fullmatch(night):
                return self.paths.root.joinpath(*parts[1:])
        raise self._refused(name, "read")

    def writable(self, name: str) -> Path:
        """Return the path of a product of the observation (TransferRefusedError if it is none)."""
        parts = self._parts(name)
        paths, night, observation = self.paths, self.night, self.observation
        if len(parts) < 3 or parts[0] != _ARCHIVE:
            raise self._refused(name, "write")
        path = paths.root.joinpath(*parts[1:])
        own = paths.observation(night, observation)
        others = {
            paths.observation_record(night, observation),
            paths.night_record(night),
            *(paths.psf_candidate(night, observation, suffix) for suffix in ("fits", "png")),
        }
        folder = own if path.is_relative_to(own) and path != own else path.parent
        if folder is not own and path not in others:
            raise self._refused(name, "write")
        # A night may be a link to another disk; below it nothing leads elsewhere.
        real_night = paths.night(night).resolve()
        expected = real_night / folder.relative_to(paths.night(night))
        if not path.parent.resolve().is_relative_to(expected) or folder.resolve() != expected:
            raise TransferRefusedError(
                f"a worker that reduces {observation} was to write {path}, whose folder is a link "
                f"to {path.parent.resolve()}: remove the link"
            )
        if path.is_dir():
            raise self._refused(name, "write")
        return path

    def _archive_name(self, path: Path) -> str:
        return f"{_ARCHIVE}/{path.relative_to(self.paths.root).as_posix()}"

    def _parts(self, name: str) -> tuple[str, ...]:
        path = PurePosixPath(name)
        plain = str(path) == name and not path.is_absolute() and "\0" not in name
        # Hidden files are the archive's own: its secrets, and what is being written.
        if not plain or any(part.startswith(".") for part in path.parts):
            raise self._refused(name, "use")
        return path.parts

    def _refused(self, name: str, what: str) -> TransferRefusedError:
        return TransferRefusedError(
            f"a worker that reduces {self.observation} asked to {what} {name[:300]!r}, which is "
            f"none of that observation's files: look at that worker, and at its version"
        )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (e for e in entries if not e.name.startswith(".") and e.is_file()),
                key=lambda entry: entry.name,
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in sorted(files) if not name.startswith(".")):
            if not path.is_symlink():
                yield path


def _described(
    name: str, file: Path | os.DirEntry[str], *, shared: bool = False
) -> list[RemoteFile]:
    """The file, if it is there and a regular one."""
    try:
        if not file.is_file():
            return []
        status = file.stat()
    except FileNotFoundError:
        return []
    return [
        RemoteFile(name=name, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, shared=shared)
    ]
