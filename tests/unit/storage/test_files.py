"""Files whole or not at all."""

import os

import pytest

from roboao_assets.storage.files import (
    PARTIAL_PREFIX,
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
