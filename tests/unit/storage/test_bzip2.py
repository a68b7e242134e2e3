"""bzip2 unpacked in parallel, both ways, against the standard library's one way."""

import bz2
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage import bzip2
from roboao_assets.storage.bzip2 import find_magics, open_bzip2

RAW = np.random.default_rng(5).integers(0, 25, 1_100_000, dtype=np.uint8).tobytes()
WHOLE = bz2.compress(RAW, 3)  # four blocks in one stream
TWO = bz2.compress(RAW[:400_000], 2) + bz2.compress(RAW[400_000:], 9)

METHODS = [
    pytest.param(
        "lbzip2",
        marks=pytest.mark.skipif(
            shutil.which("lbzip2") is None, reason="lbzip2 is not installed here"
        ),
    ),
    "blocks",
]


def unpack(path: Path, method: str, piece: int = 70_001, threads: int = 2) -> bytes:
    buffer = bytearray(piece)
    out = bytearray()
    with open_bzip2(path, threads, method) as stream:
        while count := stream.readinto(memoryview(buffer)):
            out += buffer[:count]
            if count < piece:
                break
    return bytes(out)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("packed", "raw"),
    [
        (WHOLE, RAW),
        (TWO, RAW),
        (bz2.compress(b"") + WHOLE, RAW),
        (bz2.compress(b""), b""),
        (bz2.compress(b"x"), b"x"),
        (bz2.compress(bytes(5_000_000)), bytes(5_000_000)),
        (WHOLE + b"trailing garbage" * 9, RAW),
        (WHOLE + bytes(700), RAW),
    ],
    ids=["stream", "two streams", "empty first", "empty", "byte", "zeros", "garbage", "padded"],
)
def test_whole_files(tmp_path, method, packed, raw):
    path = tmp_path / "a.bz2"
    path.write_bytes(packed)
    assert unpack(path, method) == raw
    assert unpack(path, method, threads=1) == raw


CUTS = [1, 3, 4, 9, 14, 20, 1000, len(WHOLE) // 2, *(len(WHOLE) - n for n in (1000, 11, 10, 4, 1))]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cut", CUTS)
def test_truncated_anywhere_is_an_error(tmp_path, method, cut):
    path = tmp_path / "night" / "a.fits.bz2"
    path.parent.mkdir()
    path.write_bytes(WHOLE[:cut])
    with pytest.raises(RawDataError, match=r"a\.fits\.bz2' cannot be unpacked: .*truncated"):
        unpack(path, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at", [0, 3, 5, 12, 100, 5000, len(WHOLE) // 2, len(WHOLE) - 3])
def test_one_wrong_bit_anywhere_is_an_error(tmp_path, method, at):
    damaged = bytearray(WHOLE)
    damaged[at] ^= 0x10
    path = tmp_path / "a.bz2"
    path.write_bytes(damaged)
    with pytest.raises(RawDataError, match=r"a\.bz2' cannot be unpacked"):
        unpack(path, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cut", [len(bz2.compress(RAW[:400_000], 2)) + 4, len(TWO) - 30])
def test_a_truncated_second_stream_is_an_error(tmp_path, method, cut):
    path = tmp_path / "a.bz2"
    path.write_bytes(TWO[:cut])
    with pytest.raises(RawDataError, match="cannot be unpacked"):
        unpack(path, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("content", [b"SIMPLE  = T", os.urandom(9000), b"BZ"])
def test_what_is_no_bzip2_file(tmp_path, method, content):
    path = tmp_path / "a.bz2"
    path.write_bytes(content)
    with pytest.raises(RawDataError, match="cannot be unpacked"):
        unpack(path, method)


@pytest.mark.parametrize("method", METHODS)
def test_missing_and_empty_files(tmp_path, method):
    with pytest.raises(RawDataError, match=r"b\.bz2' cannot be read: No such file"):
        open_bzip2(tmp_path / "b.bz2", method=method)
    (tmp_path / "a.bz2").touch()
    with pytest.raises(RawDataError, match=r"a\.bz2' is empty \(zero bytes\)"):
        open_bzip2(tmp_path / "a.bz2", method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["-d", "sp ace.bz2", "ünï.bz2", "plain"])
def test_odd_names(tmp_path, method, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BZIP2", "--nonsense")
    Path(name).write_bytes(WHOLE)
    assert unpack(Path(name), method) == RAW


@pytest.mark.parametrize("method", METHODS)
def test_closing_early_leaves_nothing_running(tmp_path, method):
    path = tmp_path / "a.bz2"
    path.write_bytes(bz2.compress(os.urandom(1_500_000)))
    with open_bzip2(path, 2, method) as stream:
        assert stream.readinto(memoryview(bytearray(10))) == 10
    if method == "lbzip2":
        assert stream._process.poll() is not None


def test_auto_takes_blocks_where_lbzip2_is_absent(tmp_path, monkeypatch):
    path = tmp_path / "a.bz2"
    path.write_bytes(WHOLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with open_bzip2(path) as stream:
        assert isinstance(stream, bzip2.BlockStream)
    with pytest.raises(FileNotFoundError, match="lbzip2"):
        open_bzip2(path, method="lbzip2")


def test_a_mark_within_a_block_is_no_block(tmp_path, monkeypatch):
    # 48 bits that look like a mark by chance: once in a million files.
    path = tmp_path / "a.bz2"
    path.write_bytes(WHOLE)

    def with_a_false_one(descriptor):
        marks = list(find_magics(descriptor))
        yield from marks[:2]
        yield (marks[1][0] + marks[2][0]) // 2, False
        yield from marks[2:]

    monkeypatch.setattr(bzip2, "find_magics", with_a_false_one)
    assert unpack(path, "blocks") == RAW


def test_marks_across_windows_are_found(tmp_path, monkeypatch):
    path = tmp_path / "a.bz2"
    path.write_bytes(WHOLE)
    with path.open("rb") as file:
        marks = list(find_magics(file.fileno()))
        assert [is_end for _, is_end in marks] == [False] * 4 + [True]
        monkeypatch.setattr(bzip2, "_WINDOW_BYTES", 7)
        assert list(find_magics(file.fileno())) == marks


def test_what_is_longer_than_a_block_is_none(tmp_path, monkeypatch):
    """A mark that stands far behind another one must not bring all between them into memory."""
    path = tmp_path / "a.bz2"
    start = WHOLE.index(bytes.fromhex("314159265359"))
    mark = WHOLE[start : start + 6]
    path.write_bytes(WHOLE[: start + 6] + os.urandom(3 << 20) + mark + bytes(20))
    asked = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda d, n, at: asked.append(n) or pread(d, n, at))
    with pytest.raises(RawDataError, match="truncated or damaged, copy it again"):
        unpack(path, "blocks")
    assert max(asked) < 2 << 20


def test_why_a_file_cannot_be_read():
    refused = bzip2.unreadable(Path("a"), PermissionError(13, "Permission denied"))
    assert str(refused).endswith("Permission denied; let the user that the archive runs as read it")
    lost = bzip2.unreadable(Path("a"), OSError(5, "Input/output error"))
    assert "Input/output error; look whether it is there and its disk is well" in str(lost)
