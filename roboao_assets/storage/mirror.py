"""Trees that stand for others on a machine that cannot see them.

A worker that has neither the raw roots nor the archive mounted works in a mirror of them, a
folder of its own. Every file that it may need stands there by name, size and time, without
content; the content comes when the file is first opened. What is written below the mirror
(`files.write_whole`) stands in the archive before it stands here, and what is removed goes there
first. How the bytes travel is no business of this module: a `Carrier` brings and takes them.

Opening is noticed by an audit hook of the interpreter (PEP 578). The alternative, a word before
each place that opens a file, would read zeros wherever one was forgotten. The hook sees what
Python opens, in any thread; a library that opens files by itself needs `bring` before.
"""

import hashlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from roboao_assets.science.errors import TransferError

# A file of the scratch folder whose content is on its way.
_COMING_PREFIX = ".coming-"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that is elsewhere.

    Attributes
    ----------
    name : str
        Below the mirror, with `/`.
    size_bytes, mtime_ns : int
    shared : bool
        Other observations need it as well: it is kept for them.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class MirroredRoot:
    """A folder, or a single file, that has a place in the mirror.

    Attributes
    ----------
    name : str
        Its place below the mirror.
    configured : str
        As the settings name it.
    told : str
        As the catalogue and messages name it.
    """

    name: str
    configured: str
    told: str


class Carrier(Protocol):
    """Brings and takes the content of files; every method may raise `TransferError`."""

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Write the content of `file` to `target`, which is not there yet."""

    def head(self, name: str, n_bytes: int) -> bytes:
        """Return the first bytes of a file."""

    def push(self, source: Path, name: str) -> int:
        """Put the content of `source` in the place of `name`, whole; return its time there (ns)."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def list_folder(self, name: str) -> Sequence[RemoteFile]:
        """Return the files of a folder, not of those below it."""


class SharedFiles:
    """Files of one process that were fetched for an observation and serve the next ones too.

    Parameters
    ----------
    folder : Path
        On the file system of the mirrors.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, file: RemoteFile) -> Path:
        identity = f"{file.name}\0{file.size_bytes}\0{file.mtime_ns}"
        return self._folder / hashlib.sha256(identity.encode()).hexdigest()

    def take(self, file: RemoteFile, target: Path) -> bool:
        """Make `target` the kept file, if there is one of that name, size and time."""
        with self._lock, suppress(OSError):
            os.link(self._path(file), target)
            return True
        return False

    def keep(self, file: RemoteFile, source: Path) -> None:
        """Keep a file that was fetched; without hard links nothing is kept."""
        with self._lock, suppress(OSError):
            os.link(source, self._path(file))

    def retain(self, files: Iterable[RemoteFile]) -> None:
        """Drop what is none of `files`: another night's, or changed since."""
        wanted = {self._path(file).name for file in files if file.shared}
        with self._lock:
            for path in self._folder.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)


class Mirror:
    """The mirror of one observation's inputs and products in `folder`.

    Parameters
    ----------
    folder : Path
        Empty, absolute.
    roots : sequence of MirroredRoot
    carrier : Carrier
    shared : SharedFiles, optional
    """

    def __init__(
        self,
        folder: Path,
        roots: Sequence[MirroredRoot],
        carrier: Carrier,
        shared: SharedFiles | None = None,
    ):
        self.folder = folder
        self._roots, self._carrier, self._shared = roots, carrier, shared
        self._awaited: dict[str, RemoteFile] = {}
        self._looked_into: set[str] = set()
        # One file at a time: two threads that open the same one wait for one transfer.
        self._fetching = threading.Lock()

    def expect(self, files: Iterable[RemoteFile], folders: Iterable[str] = ()) -> None:
        """Let files stand here by name, size and time.

        Raises
        ------
        TransferError
            If the scratch folder's file system cannot keep them so.
        """
        for name in folders:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            path = self.folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, file.size_bytes)
            self._set_time(path, file.mtime_ns)
            self._awaited[str(path)] = file

    def _set_time(self, path: Path, mtime_ns: int) -> None:
        os.utime(path, ns=(mtime_ns, mtime_ns))
        if (there := path.stat().st_mtime_ns) != mtime_ns:
            raise TransferError(
                f"the file system of {self.folder} keeps the time of a file as {there} ns, not "
                f"as {mtime_ns} ns: name a scratch folder on another one (worker_scratch)"
            )

    def bring(self, path: str) -> None:
        """Bring the content of a file that stands here without."""
        if path not in self._awaited:
            return
        with self._fetching:
            file = self._awaited.get(path)
            if file is None:
                return
            target = Path(path)
            coming = target.with_name(f"{_COMING_PREFIX}{target.name}")
            try:
                if not (file.shared and self._shared and self._shared.take(file, coming)):
                    self._carrier.fetch(file, coming)
                    self._set_time(coming, file.mtime_ns)
                    if file.shared and self._shared:
                        self._shared.keep(file, coming)
                coming.replace(target)
            finally:
                coming.unlink(missing_ok=True)
            del self._awaited[path]

    def head(self, path: str, n_bytes: int) -> bytes | None:
        """First bytes of a larger file that stands here without content; None of any other."""
        file = self._awaited.get(path)
        if file is None or file.size_bytes <= n_bytes:
            return None
        return self._carrier.head(file.name, n_bytes)

    def hand_over(self, partial: Path, path: Path) -> None:
        """Put what was written for `path` in its place elsewhere, and give it the time there."""
        mtime_ns = self._carrier.push(partial, self.name_of(path))
        self._set_time(partial, mtime_ns)
        self._forget(path)

    def hand_over_removal(self, path: Path) -> None:
        """Remove a file elsewhere."""
        self._carrier.remove(self.name_of(path))
        self._forget(path)

    def _forget(self, path: Path) -> None:
        # Not there is better than there without content.
        if self._awaited.pop(str(path), None) is not None:
            path.unlink(missing_ok=True)

    def look_into(self, folder: Path) -> None:
        """Let the files of a folder stand here that was not expected to be needed."""
        name = self.name_of(folder)
        if name in self._looked_into:
            return
        self._looked_into.add(name)
        there = self._carrier.list_folder(name)
        self.expect(file for file in there if not (self.folder / file.name).exists())

    def name_of(self, path: Path) -> str:
        """Name of a path below this mirror."""
        return path.relative_to(self.folder).as_posix()

    def place_of(self, configured: Path) -> Path:
        """Where what a setting names stands here; the path itself if it is not mirrored."""
        for root in self._roots:
            if Path(root.configured) == configured:
                return self.folder / root.name
        return configured

    def in_original_words(self, text: str) -> str:
        """Text with the places of this mirror replaced by what they stand for."""
        # The longest first: raw/1 is no beginning of raw/10.
        for root in sorted(self._roots, key=lambda root: -len(root.name)):
            text = text.replace(f"{self.folder}/{root.name}", root.told)
        return text


_current: ContextVar[Mirror | None] = ContextVar("mirror", default=None)
# By their folders with a slash: what threads write and open is found by its path.
_active: Mapping[str, Mirror] = {}
_lock = threading.Lock()
_hooked = False


@contextmanager
def working_in(mirror: Mirror) -> Iterator[None]:
    """Let this context work in a mirror."""
    global _active, _hooked  # noqa: PLW0603 - of a process, as the hook is
    prefix = f"{mirror.folder}/"
    with _lock:
        _active = {**_active, prefix: mirror}
        if not _hooked:
            sys.addaudithook(_bring_what_is_opened)
            _hooked = True
    token = _current.set(mirror)
    try:
        yield
    finally:
        _current.reset(token)
        with _lock:
            _active = {p: m for p, m in _active.items() if p != prefix}


def _bring_what_is_opened(event: str, arguments: tuple[Any, ...]) -> None:
    # Of every audited event of the process: nothing here may be slow.
    if event != "open" or not _active:
        return
    opened = arguments[0]
    if isinstance(opened, str | bytes | os.PathLike):
        path = os.fsdecode(opened)
        mirror = _mirror_of(path)
        if mirror is not None:
            mirror.bring(path)


def _mirror_of(path: str | Path) -> Mirror | None:
    text = str(path)
    return next((m for prefix, m in _active.items() if text.startswith(prefix)), None)


def place_of(configured: Path) -> Path:
    """Where what a setting names stands in this context: in its mirror, or where it says."""
    mirror = _current.get()
    return configured if mirror is None else mirror.place_of(configured)


def in_original_words(text: str) -> str:
    """Text with paths of mirrors as the catalogue and operators know them."""
    for mirror in _active.values():
        text = mirror.in_original_words(text)
    return text


def bring(path: Path) -> None:
    """Make sure that a file has its content, for a library that opens it out of Python's sight."""
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.bring(str(path))


def head_of(path: Path, n_bytes: int) -> bytes | None:
    """First bytes of a large file that stands in a mirror without content; None of any other."""
    mirror = _mirror_of(path)
    return None if mirror is None else mirror.head(str(path), n_bytes)


def look_into(folder: Path) -> None:
    """Make sure that the files of another observation's folder can be seen."""
    mirror = _mirror_of(folder)
    if mirror is not None:
        mirror.look_into(folder)


def hand_over(partial: Path, path: Path) -> None:
    """Put what was written for `path` where its mirror stands for, if it is below one."""
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.hand_over(partial, path)


def hand_over_removal(path: Path) -> None:
    """Remove what `path` stands for, if it is below a mirror."""
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.hand_over_removal(path)
