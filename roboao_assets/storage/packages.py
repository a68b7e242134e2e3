"""Packages of observations: everything below a folder as one `.tar.bz2`, the same bytes each time.

The members stand below the name of the package, in order of their names, after `MANIFEST.json`
and `SHA256SUMS` (which `sha256sum -c` reads). Times, owners and modes are fixed. The tar archive
is cut into chunks that threads compress, each a bzip2 stream of its own: any reader of bzip2
reads streams that follow each other, and how many threads there were changes nothing.
"""

import bz2
import hashlib
import io
import json
import os
import stat
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import write_whole

FORMAT_VERSION = 1
"""To be raised when the same members would give other bytes."""

MANIFEST, CHECKSUMS = "MANIFEST.json", "SHA256SUMS"

# A stream a chunk. bzip2 turns 900,000 bytes at a time into a block (a little fewer where bytes
# repeat): smaller chunks compress less well, larger ones leave a short block behind.
CHUNK_BYTES = 899_900
_LEVEL = 9
_MODE = 0o644
_COPY_BYTES = 1 << 20


class PackageError(ArchiveError):
    """A package cannot be made of what there is."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of a package.

    Attributes
    ----------
    name : str
        Below the packed folder, with `/`.
    size_bytes, mtime_ns : int
        As it was when it was hashed.
    sha256 : str
    """

    name: str
    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class FolderFiles:
    """What stands below a folder.

    Attributes
    ----------
    files : dict of str to os.stat_result
        Regular files by their name below the folder, in the order of the package.
    left_out : tuple of str
        Names of what is neither a regular file nor a folder: links, pipes, sockets, devices.
    """

    files: dict[str, os.stat_result]
    left_out: tuple[str, ...]


def look_at_folder(folder: Path, package: Path) -> FolderFiles:
    """Return what of `folder` belongs in `package`; no link is followed.

    The package itself, what begins with a dot (files that are being written, and others' own) and
    the lists of a package that was unpacked here are no members.

    Parameters
    ----------
    folder : Path
        One that is not there has no files.
    package : Path
        Need not exist.
    """
    files: dict[str, os.stat_result] = {}
    left_out: list[str] = []
    for name, entry in _walk(folder, ""):
        if name in (MANIFEST, CHECKSUMS) or folder / name == package:
            continue
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            files[name] = status
        else:
            left_out.append(name)
    ordered = {name: files[name] for name in sorted(files, key=os.fsencode)}
    return FolderFiles(files=ordered, left_out=tuple(sorted(left_out)))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry


def hash_members(folder: Path, found: FolderFiles, known: Iterable[Member] = ()) -> list[Member]:
    """Return the members, hashed where they are not known by name, size and time already."""
    known_by_name = {member.name: member for member in known}
    members = []
    for name, status in found.files.items():
        member = known_by_name.get(name)
        if member is None or not is_same_file(member, status):
            with _open_member(folder, name) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            member = Member(
                name=name,
                size_bytes=status.st_size,
                mtime_ns=status.st_mtime_ns,
                sha256=sha256,
            )
        members.append(member)
    return members


def is_same_file(member: Member, status: os.stat_result) -> bool:
    """True if the file has the size and time of `member`."""
    return (member.size_bytes, member.mtime_ns) == (status.st_size, status.st_mtime_ns)


def are_same_files(members: Sequence[Member], found: FolderFiles) -> bool:
    """True if just these members are there, each with its size and time; nothing is read."""
    return [m.name for m in members] == list(found.files) and all(
        is_same_file(member, found.files[member.name]) for member in members
    )


def manifest_of(head: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Any]:
    """Return what `MANIFEST.json` holds: nothing in it tells when or where it was made.

    Parameters
    ----------
    head : mapping
        What the package is of, as JSON can hold it.
    members : sequence of Member
    """
    return {
        "format": FORMAT_VERSION,
        **head,
        "members": [
            {"name": m.name, "size_bytes": m.size_bytes, "sha256": m.sha256} for m in members
        ],
    }


@dataclass(frozen=True, kw_only=True)
class WrittenPackage:
    """A package that was written: its size and SHA-256, and how large it is unpacked."""

    size_bytes: int
    sha256: str
    unpacked_bytes: int


def write_package(
    package: Path,
    folder: Path,
    manifest: Mapping[str, Any],
    members: Sequence[Member],
    *,
    threads: int = 1,
) -> WrittenPackage:
    """Write a package, whole or not at all.

    No more of it is in memory than some chunks a thread.

    Parameters
    ----------
    package : Path
        Its members stand below its name up to `.tar.bz2`.
    folder : Path
        What the names of the members are below of.
    manifest : mapping
        See `manifest_of`.
    members : sequence of Member
        In their order.
    threads : int
        That compress.

    Raises
    ------
    PackageError
        If a member is no longer what it was when it was hashed.
    """
    top = package.name.removesuffix(".tar.bz2")
    manifest_text = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode("ascii")
    sums = [(hashlib.sha256(manifest_text).hexdigest(), MANIFEST)]
    sums += [(member.sha256, member.name) for member in members]
    with (
        write_whole(package) as partial,
        partial.open("wb") as file,
        _compressing(file, threads) as packed,
    ):
        with tarfile.open(
            mode="w|",
            fileobj=packed,
            bufsize=_COPY_BYTES,
            # Knows long names, and takes any of them byte by byte.
            format=tarfile.GNU_FORMAT,
            encoding="utf-8",
            copybufsize=_COPY_BYTES,
        ) as tar:
            _add(tar, f"{top}/{MANIFEST}", manifest_text)
            _add(tar, f"{top}/{CHECKSUMS}", b"".join(_checksum_line(*line) for line in sums))
            for member in members:
                _add_member(tar, f"{top}/{member.name}", folder, member)
        packed.finish()
    return WrittenPackage(
        size_bytes=packed.size_bytes,
        sha256=packed.digest.hexdigest(),
        unpacked_bytes=packed.unpacked_bytes,
    )


def _checksum_line(sha256: str, name: str) -> bytes:
    """A line as sha256sum writes it: a backslash before one in which characters are escaped."""
    raw = os.fsencode(name)
    escaped = raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"" if escaped == raw else b"\\") + sha256.encode() + b"  " + escaped + b"\n"


def _header(name: str, size: int) -> tarfile.TarInfo:
    # Owners 0 without names and the time 0 are what it has by itself.
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, _MODE
    return header


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_header(name, len(content)), io.BytesIO(content))


def _add_member(tar: tarfile.TarFile, name: str, folder: Path, member: Member) -> None:
    with _open_member(folder, member.name) as file:
        hashing = _HashingReader(file)
        try:
            tar.addfile(_header(name, member.size_bytes), hashing)
        except OSError as error:
            if error.errno is not None:
                raise
            raise _changed(folder, member) from error  # tarfile's word for a file that ended
        if hashing.digest.hexdigest() != member.sha256 or file.read(1):
            raise _changed(folder, member)


def _changed(folder: Path, member: Member) -> PackageError:
    return PackageError(
        f"{folder / member.name} changed while it was packed: see who else writes in that folder, "
        f"then make the package again"
    )


@contextmanager
def _open_member(folder: Path, name: str) -> Iterator[BinaryIO]:
    """Yield a member, opened for reading; what became a link or a pipe meanwhile is refused."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(folder / name, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise PackageError(f"{folder / name} is no regular file any more: remove it")
        yield file


class _HashingReader:
    """Reads a file, and hashes what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.digest.update(content)
        return content


class _ParallelBzip2:
    """A file to be written to, whose chunks are compressed by threads and written in order."""

    def __init__(self, sink: BinaryIO, pool: ThreadPoolExecutor, most_waiting: int) -> None:
        self._sink, self._pool, self._most_waiting = sink, pool, most_waiting
        self._chunk = bytearray()
        self._waiting: deque[Future[bytes]] = deque()
        self.digest = hashlib.sha256()
        self.size_bytes = self.unpacked_bytes = 0

    def write(self, content: bytes) -> int:
        self._chunk += content
        while len(self._chunk) >= CHUNK_BYTES:
            self._compress(bytes(self._chunk[:CHUNK_BYTES]))
            del self._chunk[:CHUNK_BYTES]
        return len(content)

    def finish(self) -> None:
        """Write what is left."""
        if self._chunk:
            self._compress(bytes(self._chunk))
            self._chunk.clear()
        while self._waiting:
            self._put_first()

    def _compress(self, chunk: bytes) -> None:
        self.unpacked_bytes += len(chunk)
        self._waiting.append(self._pool.submit(bz2.compress, chunk, _LEVEL))
        if len(self._waiting) > self._most_waiting:
            self._put_first()

    def _put_first(self) -> None:
        stream = self._waiting.popleft().result()
        self._sink.write(stream)
        self.digest.update(stream)
        self.size_bytes += len(stream)


@contextmanager
def _compressing(sink: BinaryIO, threads: int) -> Iterator[_ParallelBzip2]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="bzip2")
    try:
        yield _ParallelBzip2(sink, pool, most_waiting=threads + 1)
    finally:
        pool.shutdown(cancel_futures=True)
