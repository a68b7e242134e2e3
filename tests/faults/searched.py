"""Every byte that a deployment has left, also in what is compressed or in a database."""

import bz2
import gzip
import io
import sqlite3
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psutil

_SQLITE_HEAD = b"SQLite format 3\0"


def written(secret: str) -> set[bytes]:
    """A secret as it may stand somewhere: as it is, percent-encoded, as a text of JSON."""
    return {secret.encode(), quote(secret, safe="").encode(), secret.replace('"', '\\"').encode()}


def unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a content and whatever is packed in it."""
    yield name, content
    if content[:3] == b"BZh":
        inner = bz2.decompress(content)
    elif content[:2] == b"\x1f\x8b":
        inner = gzip.decompress(content)
    elif content[:1] == b"\x78":
        try:
            inner = zlib.decompress(content)
        except zlib.error:
            return
    else:
        return
    yield f"{name} (unpacked)", inner
    if inner[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(inner)) as packed:
            for member in packed:
                file = packed.extractfile(member)
                if file is not None:
                    yield from unpacked(f"{name}: {member.name}", file.read())


def in_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a folder, unpacked, and every value of SQLite's tables."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        yield from unpacked(str(path), content)
        if content.startswith(_SQLITE_HEAD):
            yield from in_sqlite(path)


def in_sqlite(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every value: those that are compressed are not seen in the file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            yield from in_rows(
                f"{path} {table.decode()}",
                database.execute(f'SELECT * FROM "{table.decode()}"'),
            )


def in_rows(name: str, rows) -> Iterator[tuple[str, bytes]]:
    """Yield the texts and bytes of rows, unpacked."""
    for row in rows:
        for value in row:
            if isinstance(value, bytes | bytearray | memoryview):
                yield from unpacked(name, bytes(value))
            elif value is not None:
                yield name, str(value).encode("utf-8", "replace")


def in_processes() -> Iterator[tuple[str, bytes]]:
    """Yield the command lines of all processes below this one, as everybody on a machine sees."""
    for process in psutil.Process().children(recursive=True):
        try:
            yield f"process {process.pid}", Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue


def found(secrets: dict[str, str], places: Iterator[tuple[str, bytes]]) -> tuple[set[str], int]:
    """Return where which secrets stand, and how many bytes were searched."""
    patterns = {name: written(secret) for name, secret in secrets.items()}
    leaks, searched = set(), 0
    for place, content in places:
        searched += len(content)
        leaks |= {
            f"{name} in {place}"
            for name, forms in patterns.items()
            if any(form in content for form in forms)
        }
    return leaks, searched
