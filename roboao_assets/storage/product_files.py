"""Product files as the catalogue remembers them: is what stands on disk still what was made?"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content: 64 hexadecimal digits (OSError if it cannot be read)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def file_records(root: Path, files: Iterable[Path]) -> list[list[Any]]:
    """Return a record of each file: its name below `root`, size, time (ns since 1970), SHA-256."""
    records = []
    for path in files:
        status = path.stat()
        name = str(path.relative_to(root))
        records.append([name, status.st_size, status.st_mtime_ns, file_sha256(path)])
    return records


def record_paths(root: Path, records: Iterable[Sequence[Any]] | None) -> list[Path]:
    """Return the paths of the files that `records` tell of."""
    return [root / str(record[0]) for record in records or ()]


def is_intact(root: Path, record: Sequence[Any]) -> bool:
    """Whether a file is there as its record has it.

    A file of the same size and time is taken for the same. One of another time is read: after a
    restored backup or a `touch` it is what it was, and need not be made again. Records of an
    older archive have a name and a size alone.
    """
    name, size, *identity = record
    path = root / str(name)
    try:
        status = path.stat()
        if status.st_size != size:
            return False
        return not identity or status.st_mtime_ns == identity[0] or file_sha256(path) == identity[1]
    except OSError:
        return False
