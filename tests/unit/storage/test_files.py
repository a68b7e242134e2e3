"""Files whole or not at all."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from roboao_assets.storage.files import (
    PARTIAL_PREFIX,
    is_of_the_disk,
    remove_abandoned,
    write_bytes_whole,
    write_text_whole,
    write_whole,
)


def test_text_and_bytes_and_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_text_whole(path, "Ångström\n")
    assert path.read_bytes() == "Ångström\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    write_bytes_whole(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    assert os.listdir(path.parent) == ["c.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.fits"
    write_bytes_whole(path, b"old")

    def write_half():
        with write_whole(path) as partial:
            partial.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.fits"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.fits"
    write_bytes_whole(path, b"old")
    with write_whole(path) as partial:
        assert partial.parent == path.parent
        assert partial.name.startswith(PARTIAL_PREFIX)
        assert partial.suffix == ".fits"
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_writer_may_replace_the_partial_file(tmp_path):
    path = tmp_path / "a.txt"
    with write_whole(path) as partial:
        partial.unlink()
        partial.write_text("made anew")
    assert path.read_text() == "made anew"


WRITER = """
import sys, time
from pathlib import Path
from roboao_assets.storage.files import write_whole
with write_whole(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    print(partial, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_writer_left_is_removed_and_not_before(tmp_path):
    target = tmp_path / "observation" / "a.fits"
    command = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        partial = target.parent / os.path.basename(writer.stdout.readline().strip())
        assert partial.read_bytes() == b"half"
        assert remove_abandoned(tmp_path) == []
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert remove_abandoned(tmp_path, deep=False) == []
    assert remove_abandoned(tmp_path) == [partial]
    assert list(target.parent.iterdir()) == []


def test_an_id_that_came_again_is_not_the_writer(tmp_path):
    of_us = tmp_path / f"{PARTIAL_PREFIX}{socket.gethostname()}-{os.getpid()}-1-abc_1234.fits"
    of_us.touch()
    assert remove_abandoned(tmp_path) == [of_us]


@pytest.mark.parametrize("name", ["other-host-12-345-abcdefgh.fits", "abcdefgh.fits"])
def test_of_what_cannot_be_looked_at_only_the_old_is_removed(tmp_path, name):
    path = tmp_path / f"{PARTIAL_PREFIX}{name}"
    path.touch()
    assert remove_abandoned(tmp_path) == []
    before = time.time() - 2 * 86_400
    os.utime(path, (before, before))
    assert remove_abandoned(tmp_path) == [path]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError("Not enough space on disk")]
)
def test_a_full_disk_is_told_with_the_file_and_the_room(tmp_path, error):
    path = tmp_path / "a.fits"
    write_bytes_whole(path, b"old")

    def write_half():
        with write_whole(path) as partial:
            partial.write_bytes(b"half")
            raise error

    with pytest.raises(OSError, match=r"No space left for it .* MB: '.*a\.fits'") as raised:
        write_half()
    # By this name such a failure is tried again.
    assert type(raised.value) is OSError
    assert is_of_the_disk(raised.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.fits"]


def test_a_folder_that_is_not_there_has_nothing_to_remove(tmp_path):
    assert remove_abandoned(tmp_path / "none") == []
