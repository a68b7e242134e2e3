"""Small disks for the tests, which fill and become read-only: mounts of their own (needs root)."""

import os
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

FULL_WORDS = ("No space left", "disk is full", "disk I/O error")


def mount(*words: str | Path) -> None:
    """Mount something; where that is refused the test is skipped, and fails if `CI` is set."""
    done = subprocess.run(
        ["mount", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode == 0:
        return
    reason = f"mount {' '.join(map(str, words))} was refused: {done.stdout.strip()}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(f"{reason}; full and read-only disks are NOT TESTED (needs root)")


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


class SmallDisk:
    """A memory disk that can be filled."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._ballast = folder / "ballast"

    def leave(self, megabytes: float) -> None:
        """Fill the disk but for this."""
        self._ballast.unlink(missing_ok=True)
        status = os.statvfs(self.folder)
        size = status.f_bavail * status.f_frsize - int(megabytes * 1e6)
        if size > 0:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, megabytes: int):
    """Yield a disk of this size at `folder`, which is made."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
    try:
        yield SmallDisk(folder)
    finally:
        unmount(folder)


@contextmanager
def own_mount(folder: Path):
    """Yield a function that makes `folder` read-only (True) or writable (False)."""
    mount("--bind", folder, folder)

    def set_read_only(read_only: bool) -> None:
        deadline = time.monotonic() + 60
        command = ["mount", "-o", f"remount,bind,{'ro' if read_only else 'rw'}", folder]
        # Refused for as long as a file there is open for writing.
        while subprocess.run(command, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "a file of the archive stays open for writing"
            time.sleep(0.005)

    try:
        yield set_read_only
    finally:
        with suppress(AssertionError):
            set_read_only(False)
        unmount(folder)
