import bz2
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.storage import packages
from roboao_assets.storage.packages import (
    CHECKSUMS,
    CHUNK_BYTES,
    MANIFEST,
    Member,
    PackageError,
    are_same_files,
    hash_members,
    look_at_folder,
    manifest_of,
    write_package,
)

ID = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"


def fill(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def pack(folder, package, threads=1):
    members = hash_members(folder, look_at_folder(folder, package))
    written = write_package(
        package, folder, manifest_of({"id": ID}, members), members, threads=threads
    )
    return members, written


def unpack_with_tar(package, target):
    target.mkdir()
    command = ["tar", "xjf", str(package), "-C", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return target / package.name.removesuffix(".tar.bz2")


def check_sums(folder):
    command = ["sha256sum", "--check", "--strict", CHECKSUMS]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, errors="surrogateescape", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def noise(size, seed=1):
    return np.random.default_rng(seed).normal(0, 3, size // 4).astype(">f4").tobytes()


@pytest.fixture
def folder(tmp_path):
    """Products in folders, of all sizes; three chunks and a half in all."""
    folder = tmp_path / ID
    fill(
        folder,
        {
            "bright_star/100p.fits": noise(int(2.5 * CHUNK_BYTES)),
            "bright_star/frames.txt": b"1 2 3\n" * 1000,
            "bright_star/pca/empty": b"",
            f"bright_star/preview/{ID}_{'cropped' * 20}.png": noise(CHUNK_BYTES, 2),
            "faint_star/shifts.txt": b"0",
        },
    )
    return folder


def test_real_programs_read_it(folder, tmp_path):
    package = folder / f"{ID}.tar.bz2"
    members, written = pack(folder, package)
    assert written.size_bytes == package.stat().st_size
    assert written.sha256 == hashlib.sha256(package.read_bytes()).hexdigest()
    for program in ("bzip2", "lbzip2"):
        if program == "bzip2" or shutil.which(program):
            subprocess.run([program, "--test", str(package)], check=True)
    unpacked = unpack_with_tar(package, tmp_path / "out")
    # The checksums are of every member, and of the manifest.
    assert check_sums(unpacked).count(": OK\n") == len(members) + 1 == 6
    for member in members:
        assert (unpacked / member.name).read_bytes() == (folder / member.name).read_bytes()
    there = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    assert there == {m.name for m in members} | {MANIFEST, CHECKSUMS}


def test_headers_tell_no_time_owner_or_mode_of_ours(folder):
    package = folder / f"{ID}.tar.bz2"
    (folder / "faint_star/shifts.txt").chmod(0o600)
    members, written = pack(folder, package)
    with tarfile.open(package) as tar:
        headers = tar.getmembers()
    names = [header.name for header in headers]
    assert names[:2] == [f"{ID}/{MANIFEST}", f"{ID}/{CHECKSUMS}"]
    assert names[2:] == [f"{ID}/{m.name}" for m in members] == sorted(names[2:])
    for header in headers:
        assert (header.mtime, header.uid, header.gid, header.mode) == (0, 0, 0, 0o644)
        assert (header.uname, header.gname, header.isreg()) == ("", "", True)
    assert written.unpacked_bytes == len(bz2.decompress(package.read_bytes()))


def test_manifest_lists_the_members(folder, tmp_path):
    package = folder / f"{ID}.tar.bz2"
    members, _ = pack(folder, package)
    manifest = json.loads((unpack_with_tar(package, tmp_path / "out") / MANIFEST).read_text())
    assert manifest["format"] == packages.FORMAT_VERSION
    assert manifest["id"] == ID
    assert [entry["name"] for entry in manifest["members"]] == [m.name for m in members]
    for entry in manifest["members"]:
        content = (folder / entry["name"]).read_bytes()
        assert entry["size_bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()


def test_bytes_are_the_same_whatever_the_threads_place_and_time(folder, tmp_path):
    _, first = pack(folder, folder / f"{ID}.tar.bz2", threads=1)
    _, again = pack(folder, folder / f"{ID}.tar.bz2", threads=4)
    assert again == first
    other = tmp_path / "elsewhere" / ID
    shutil.copytree(folder, other)  # times are copied too
    for path in other.rglob("*"):
        os.utime(path, (5, 5))
    _, elsewhere = pack(other, other / f"{ID}.tar.bz2", threads=3)
    assert elsewhere == first
    assert (other / f"{ID}.tar.bz2").read_bytes() == (folder / f"{ID}.tar.bz2").read_bytes()
    (other / "faint_star/shifts.txt").write_bytes(b"1")
    assert pack(other, other / f"{ID}.tar.bz2")[1].sha256 != first.sha256


def test_what_is_no_product_stays_out(folder, tmp_path):
    package = folder / f"{ID}.tar.bz2"
    before = look_at_folder(folder, package)
    secret = tmp_path / "secret"
    fill(secret, {"key": b"nobody's business"})
    (folder / "link.fits").symlink_to(secret / "key")
    (folder / "folder").symlink_to(secret)
    os.mkfifo(folder / "bright_star" / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket is short
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        fill(folder, {".partial-x.fits": b"half", "bright_star/.partial-y": b"half", ".git/x": b""})
        fill(folder, {MANIFEST: b"unpacked here", CHECKSUMS: b"unpacked here"})
        package.write_bytes(b"a former one")
        found = look_at_folder(folder, package)
    assert found.files == before.files
    assert found.left_out == ("bright_star/pipe", "folder", "link.fits", "socket")
    pack(folder, package)
    with tarfile.open(package) as tar:
        assert not [name for name in tar.getnames() if "link" in name or "pipe" in name]
        assert all(header.isreg() for header in tar)


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    assert look_at_folder(tmp_path / "none", tmp_path / "none" / "p").files == {}


def test_a_member_that_became_a_link_is_refused(folder, tmp_path):
    package = folder / f"{ID}.tar.bz2"
    members = hash_members(folder, look_at_folder(folder, package))
    (tmp_path / "secret").write_bytes(b"0")
    (folder / "faint_star/shifts.txt").unlink()
    (folder / "faint_star/shifts.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        write_package(package, folder, manifest_of({}, members), members)
    (folder / "faint_star/shifts.txt").unlink()
    os.mkfifo(folder / "faint_star/shifts.txt")
    with pytest.raises(PackageError, match="no regular file"):
        write_package(package, folder, manifest_of({}, members), members)


@pytest.mark.parametrize("content", [b"", b"1", b"00", noise(3 * CHUNK_BYTES)])
def test_a_member_that_changes_meanwhile_leaves_the_former_package(folder, content):
    package = folder / f"{ID}.tar.bz2"
    pack(folder, package)
    before = package.read_bytes()
    members = hash_members(folder, look_at_folder(folder, package))
    (folder / "faint_star/shifts.txt").write_bytes(content)
    with pytest.raises(PackageError, match=r"shifts\.txt changed while it was packed"):
        write_package(package, folder, manifest_of({}, members), members, threads=2)
    assert package.read_bytes() == before
    assert not list(folder.glob(".*"))


def test_files_that_are_known_are_not_read_again(folder):
    package = folder / f"{ID}.tar.bz2"
    found = look_at_folder(folder, package)
    members = hash_members(folder, found)
    assert are_same_files(members, found)
    lie = [Member(**{**vars(m), "sha256": "0" * 64}) for m in members]
    # Believed as long as size and time are those of the file.
    assert hash_members(folder, found, lie) == lie
    path = folder / "faint_star/shifts.txt"
    os.utime(path, ns=(1, 1))
    found = look_at_folder(folder, package)
    assert not are_same_files(members, found)
    changed = hash_members(folder, found, lie)
    assert [m.sha256 == "0" * 64 for m in changed] == [m.name != members[-1].name for m in members]
    assert changed[-1].sha256 == hashlib.sha256(b"0").hexdigest()
    path.unlink()
    assert not are_same_files(members, look_at_folder(folder, package))


def test_memory_is_bounded_by_the_chunks(tmp_path):
    folder = tmp_path / ID
    fill(folder, {"large": bytes(60 * CHUNK_BYTES)})
    package = folder / f"{ID}.tar.bz2"
    members = hash_members(folder, look_at_folder(folder, package))
    tracemalloc.start()
    try:
        write_package(package, folder, manifest_of({}, members), members, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # libbz2 itself takes 7.6 MB a thread.
    assert peak < 2 * 7_700_000 + 12 * CHUNK_BYTES < 60 * CHUNK_BYTES


# What a file system takes for a name, in bytes, and the words that tar or a shell could trip on.
NAMES = st.one_of(
    st.sampled_from(["-rf", "--help", "a\nb", "\\", "back\\n", "a\rb", "*", " ", "x" * 200, "..."]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
    .map(lambda name: name.encode()[:200].decode(errors="ignore"))
    .filter(lambda name: name and not name.startswith(".")),
    st.binary(min_size=1, max_size=20)
    .map(lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"_")))
    .filter(lambda name: not name.startswith(".")),
)
CONTENTS = st.one_of(
    st.binary(max_size=1500),
    st.sampled_from([0, 511, 512, 513, CHUNK_BYTES - 2048, CHUNK_BYTES, CHUNK_BYTES + 1]).map(
        bytes
    ),
)


@settings(max_examples=40, deadline=None)
@given(files=st.dictionaries(NAMES, CONTENTS, max_size=5), below=st.sampled_from(["", "a/b/"]))
def test_any_names_and_sizes_come_back(tmp_path_factory, files, below):
    root = tmp_path_factory.mktemp("any")
    folder, package = root / ID, root / ID / f"{ID}.tar.bz2"
    folder.mkdir()
    files = {
        below + name: content
        for name, content in files.items()
        if name not in (MANIFEST, CHECKSUMS, package.name) and not name.startswith(".")
    }
    fill(folder, files)
    members, _ = pack(folder, package, threads=2)
    assert {member.name for member in members} == set(files)
    unpacked = unpack_with_tar(package, root / "out")
    assert check_sums(unpacked).count(": OK\n") == len(files) + 1
    for name, content in files.items():
        assert (unpacked / name).read_bytes() == content
    with tarfile.open(package) as tar:
        assert set(tar.getnames()) >= {f"{ID}/{name}" for name in files}
    shutil.rmtree(root)
