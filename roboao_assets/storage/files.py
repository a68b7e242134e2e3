"""Files that appear whole or not at all, and what is left of those that nobody finishes."""

import errno
import logging
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from roboao_assets.storage import mirror
from roboao_assets.storage.processes import start_ticks

log = logging.getLogger(__name__)

# The prefix of what is being written: such a file is nobody's product and may be removed.
PARTIAL_PREFIX = ".partial-"
# After it the writer: its host, process id and start. Ids come again, starts do not.
_WRITER = re.compile(
    re.escape(PARTIAL_PREFIX) + r"(?P<host>.+)-(?P<pid>\d+)-(?P<start>\d+)-[^.-]+(\..*)?"
)
# What another host writes cannot be looked at; no product takes as long as this.
_ABANDONED_AFTER_S = 86_400.0


@contextmanager
def write_whole(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    On an exception nothing is left behind and `path` is as it was. `mode` is the file's. What is
    written in a mirror (`storage.mirror`) stands in the archive when this returns.

    Raises
    ------
    OSError
        Of a full disk (ENOSPC) it names the file and the room that is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_own_prefix(), suffix=path.suffix, dir=path.parent)
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
    except OSError as error:
        if not _is_full(error):
            raise
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        reason = f"No space left for it on its disk, which has {free_mb:.1f} MB"
        raise OSError(errno.ENOSPC, reason, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def _is_full(error: OSError) -> bool:
    # astropy tells of it in words alone.
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "Not enough space" in str(error)


def is_of_the_disk(error: OSError) -> bool:
    """Whether a disk refused: full, read-only, or broken."""
    return _is_full(error) or error.errno in (errno.EROFS, errno.EIO)


def _own_prefix() -> str:
    pid = os.getpid()
    return f"{PARTIAL_PREFIX}{socket.gethostname()}-{pid}-{start_ticks(pid) or 0}-"


def remove_abandoned(folder: Path, *, deep: bool = True) -> list[Path]:
    """Remove the partial files of writers that are no more; return them.

    A writer that was killed, or whose machine lost its power, leaves its file. On this host its
    process is looked for; of another host a file is abandoned when it is a day old.

    Parameters
    ----------
    folder : Path
        Need not exist.
    deep : bool
        With the folders below.
    """
    pattern = f"{PARTIAL_PREFIX}*"
    removed = []
    for path in folder.rglob(pattern) if deep else folder.glob(pattern):
        # A file that its writer finishes at this moment, or a disk that is read-only, is no
        # trouble of who looks here.
        with suppress(OSError):
            if path.is_file() and _is_abandoned(path):
                path.unlink()
                removed.append(path)
    if removed:
        names = ", ".join(str(path) for path in removed)
        log.warning("removed what a killed process had left half written: %s", names)
    return removed


def _is_abandoned(path: Path) -> bool:
    writer = _WRITER.fullmatch(path.name)
    if writer is not None and writer["host"] == socket.gethostname() and int(writer["start"]):
        return start_ticks(int(writer["pid"])) != int(writer["start"])
    return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S


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
    handle, name = tempfile.mkstemp(prefix=_own_prefix(), dir=path.parent)
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
