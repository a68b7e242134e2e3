"""A mirror: files without content until they are opened; what is written goes elsewhere first."""

import os
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from roboao_assets.science.errors import TransferError
from roboao_assets.storage.files import remove_file, write_text_whole
from roboao_assets.storage.mirror import (
    Mirror,
    MirroredRoot,
    RemoteFile,
    SharedFiles,
    bring,
    head_of,
    in_original_words,
    look_into,
    place_of,
    working_in,
)

TIME_NS = 1_496_800_000_123_456_789


class FolderCarrier:
    """Carries from and to a folder of the same machine, and counts."""

    def __init__(self, folder: Path):
        self.folder, self.asked, self.broken = folder, [], False

    def _note(self, *what):
        if self.broken:
            raise TransferError("the road is closed")
        self.asked.append(what)

    def fetch(self, file, target):
        self._note("fetch", file.name)
        target.write_bytes((self.folder / file.name).read_bytes())

    def head(self, name, n_bytes):
        self._note("head", name)
        return (self.folder / name).read_bytes()[:n_bytes]

    def push(self, source, name):
        self._note("push", name)
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        os.utime(target, ns=(TIME_NS, TIME_NS))
        return TIME_NS

    def remove(self, name):
        self._note("remove", name)
        (self.folder / name).unlink(missing_ok=True)

    def list_folder(self, name):
        self._note("list", name)
        return [described(self.folder, f"{name}/{path.name}") for path in self.entries(name)]

    def entries(self, name):
        folder = self.folder / name
        return sorted(folder.iterdir()) if folder.is_dir() else []


def described(folder, name, *, shared=False):
    status = (folder / name).stat()
    return RemoteFile(
        name=name, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, shared=shared
    )


@pytest.fixture
def carrier(tmp_path):
    there = tmp_path / "there"
    for name, content in {
        "archive/night/star/sum.fits": b"a sum" * 100,
        "archive/night/calib/dark.fits": b"a dark",
        "archive/night/other/20p.fits": b"of another star",
        "raw/1/night/star.fits.bz2": b"frames" * 1000,
    }.items():
        path = there / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(TIME_NS, TIME_NS))
    return FolderCarrier(there)


@contextmanager
def mirror_of(carrier, folder, *names, shared=None):
    roots = [
        MirroredRoot(name="archive", configured="archive", told="/data/archive"),
        MirroredRoot(name="raw/1", configured="/data/raw", told="/data/raw"),
        MirroredRoot(name="raw/10", configured="/data/ten", told="/data/ten"),
    ]
    folder.mkdir()
    mirror = Mirror(folder, roots, carrier, shared)
    mirror.expect(described(carrier.folder, name, shared=shared is not None) for name in names)
    with working_in(mirror):
        yield mirror


SUM, DARK, RAW = (
    "archive/night/star/sum.fits",
    "archive/night/calib/dark.fits",
    "raw/1/night/star.fits.bz2",
)


def test_a_file_is_there_by_size_and_time_and_comes_when_it_is_opened(carrier, tmp_path):
    with mirror_of(carrier, tmp_path / "here", SUM, RAW) as mirror:
        path = mirror.folder / SUM
        status = path.stat()
        assert (status.st_size, status.st_mtime_ns) == (500, TIME_NS)
        assert status.st_blocks == 0
        assert carrier.asked == []
        assert path.read_bytes() == b"a sum" * 100
        assert path.stat().st_mtime_ns == TIME_NS
        with path.open("rb"):
            pass
        descriptor = os.open(mirror.folder / RAW, os.O_RDONLY)
        assert os.read(descriptor, 6) == b"frames"
        os.close(descriptor)
    assert carrier.asked == [("fetch", SUM), ("fetch", RAW)]


def test_threads_that_open_one_file_wait_for_one_transfer(carrier, tmp_path):
    with mirror_of(carrier, tmp_path / "here", RAW) as mirror:
        read = []
        threads = [
            threading.Thread(target=lambda: read.append((mirror.folder / RAW).read_bytes()))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read == [b"frames" * 1000] * 8
    assert carrier.asked == [("fetch", RAW)]


def test_a_file_that_does_not_come_is_no_file_of_zeros(carrier, tmp_path):
    with mirror_of(carrier, tmp_path / "here", SUM) as mirror:
        carrier.broken = True
        for _ in range(2):
            with pytest.raises(TransferError, match="road is closed"):
                (mirror.folder / SUM).read_bytes()
        carrier.broken = False
        assert (mirror.folder / SUM).read_bytes() == b"a sum" * 100
        assert [path.name for path in (mirror.folder / SUM).parent.iterdir()] == ["sum.fits"]


def test_the_head_of_a_large_file_alone_comes(carrier, tmp_path):
    with mirror_of(carrier, tmp_path / "here", RAW, DARK) as mirror:
        assert head_of(mirror.folder / RAW, 12) == b"framesframes"
        assert head_of(mirror.folder / DARK, 100) is None
        bring(mirror.folder / RAW)
        assert head_of(mirror.folder / RAW, 12) is None
    assert head_of(carrier.folder / RAW, 12) is None


def test_what_is_written_stands_there_before_it_stands_here(carrier, tmp_path):
    with mirror_of(carrier, tmp_path / "here", SUM) as mirror:
        path = mirror.folder / SUM
        carrier.broken = True
        with pytest.raises(TransferError):
            write_text_whole(path, "a new sum")
        assert path.stat().st_size == 500
        carrier.broken = False
        write_text_whole(path, "a new sum")
        assert path.read_text() == (carrier.folder / SUM).read_text() == "a new sum"
        assert path.stat().st_mtime_ns == TIME_NS
        remove_file(path)
        assert not path.exists()
        assert not (carrier.folder / SUM).exists()
    assert carrier.asked == [("push", SUM), ("remove", SUM)]
    write_text_whole(tmp_path / "elsewhere", "no mirror's")
    remove_file(tmp_path / "elsewhere")
    assert carrier.asked == [("push", SUM), ("remove", SUM)]


def test_another_folder_is_seen_once_it_is_looked_into(carrier, tmp_path):
    with mirror_of(carrier, tmp_path / "here", SUM) as mirror:
        other = mirror.folder / "archive/night/other/20p.fits"
        assert not other.exists()
        for _ in range(2):
            look_into(other.parent)
        assert other.read_bytes() == b"of another star"
        look_into(mirror.folder / "archive/night/nowhere")
    assert [what for what, _ in carrier.asked] == ["list", "fetch", "list"]


def test_what_observations_share_comes_once_and_a_newer_one_again(carrier, tmp_path):
    shared = SharedFiles(tmp_path / "shared")
    for number in range(2):
        with mirror_of(carrier, tmp_path / f"here{number}", DARK, shared=shared) as mirror:
            assert (mirror.folder / DARK).read_bytes() == b"a dark"
    assert carrier.asked == [("fetch", DARK)]
    (carrier.folder / DARK).write_bytes(b"a newer dark")
    newer = described(carrier.folder, DARK, shared=True)
    shared.retain([newer])
    assert list((tmp_path / "shared").iterdir()) == []
    with mirror_of(carrier, tmp_path / "here2", DARK, shared=shared) as mirror:
        assert (mirror.folder / DARK).read_bytes() == b"a newer dark"
    shared.retain([newer])
    assert len(list((tmp_path / "shared").iterdir())) == 1


def test_places_and_words(carrier, tmp_path):
    with mirror_of(carrier, tmp_path / "here") as mirror:
        assert place_of(Path("archive")) == mirror.folder / "archive"
        assert place_of(Path("/data/ten")) == mirror.folder / "raw/10"
        assert place_of(Path("/data/other")) == Path("/data/other")
        said = f"{mirror.folder}/raw/10/n/a and {mirror.folder}/raw/1/n/b are no stars"
        assert in_original_words(said) == "/data/ten/n/a and /data/raw/n/b are no stars"
    assert place_of(Path("archive")) == Path("archive")
    assert in_original_words(said) == said
