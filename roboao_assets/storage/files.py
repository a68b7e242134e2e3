"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from roboao_assets.storage import mirror

# The prefix of what is being written: such a file is nobody's product and may be removed.
PARTIAL_PREFIX = ".partial-"


@contextmanager
def write_whole(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    On an exception nothing is left behind and `path` is as it was. `mode` is the file's. What is
    written in a mirror (`storage.mirror`) stands in the archive when this returns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(mode)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        mirror.hand_over(partial, path)
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with write_whole(path) as partial:
        partial.write_bytes(content)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there; of a mirror also what it stands for."""
    mirror.hand_over_removal(path)
    path.unlink(missing_ok=True)


def write_private_once(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read, unless there is one; whole or not at all.

    Of several who do so at the same time one succeeds, and the file of that one stays.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp gives the mode 0600 from the first moment on.
    handle, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)
