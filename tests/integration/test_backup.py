"""A backup of an archive that is then destroyed and restored, in and between both homes."""

import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from datetime import UTC, datetime

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.orchestration.home import open_instance
from roboao_assets.storage import backup as backups
from roboao_assets.storage.backup import BackupError, check_backup, remove_older, write_backup
from roboao_assets.storage.catalogue import new_observation, open_catalogue
from roboao_assets.storage.catalogue.base import COLLECTIONS
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_names import parse_exposure_name
from roboao_assets.storage.restore import restore_backup
from roboao_assets.storage.settings import Settings

PNG = bytes(range(256))


def names(count):
    return [f"4_star{n}_VIC_Si_o_20170607_04{n % 60:02d}{n // 60:02d}.367797" for n in range(count)]


def fill(catalogue, observations=12):
    for number, name in enumerate(names(observations)):
        catalogue.register_observation(new_observation(parse_exposure_name(name), exposure_s=90.5))
        key = f"{name}/bright_star/full"
        catalogue.put_image(key, PNG + bytes([number]), night="20170607", observation=name)
    catalogue.publish_night("20170607", "seeing", {"median": 1.1, "frames": [["a", 1, None]]})
    catalogue.users.add("chief", "$argon2id$hash", "all")
    catalogue.actions.record(names(1)[0], "redo asked", by="chief", why="größer; \u2028 \U0001f52d")


def everything(catalogue):
    """All that is kept, as it stands there."""
    documents = {name: catalogue.documents_after(name, "", 10_000) for name in COLLECTIONS}
    return documents, catalogue.images_after("", 10_000)


@pytest.fixture
def paths(tmp_path):
    paths = ArchivePaths(tmp_path / "archive")
    paths.root.mkdir(exist_ok=True)
    paths.psf_library.write_bytes(b"SIMPLE  = T" * 1000)
    paths.manifest.write_text('{"20170607": []}')
    return paths


@pytest.fixture
def other_home(request, catalogue_url, tmp_path):
    """The home that is not `catalogue_url`'s."""
    if catalogue_url.startswith("sqlite"):
        return request.getfixturevalue("mongodb_url")
    return f"sqlite:///{tmp_path}/other.sqlite"


def test_all_is_there_again_in_either_home(catalogue, other_home, paths, tmp_path):
    fill(catalogue)
    before = everything(catalogue)
    file = tmp_path / "a" / "backup.tar.gz"
    contents = write_backup(file, catalogue, paths, None)
    assert contents.counts["objects"] == contents.counts["images"] == 12
    assert check_backup(file).counts == contents.counts
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    library = paths.psf_library.read_bytes()
    shutil.rmtree(paths.root)
    elsewhere = ArchivePaths(tmp_path / "elsewhere")
    with open_catalogue(other_home) as other:
        done = restore_backup(file, other, elsewhere, None)
        assert everything(other) == before
        assert other.users.get("chief").password_hash == "$argon2id$hash"  # noqa: S105
        with pytest.raises(BackupError, match="not empty .it has objects"):
            restore_backup(file, other, elsewhere, None)
    assert done.counts == contents.counts
    assert elsewhere.psf_library.read_bytes() == library
    assert set(done.files) == {elsewhere.psf_library, elsewhere.manifest}


def test_files_that_are_there_stay(catalogue, paths, tmp_path):
    file = tmp_path / "backup.tar.gz"
    write_backup(file, catalogue, paths, None)
    paths.psf_library.write_bytes(b"another one")
    done = restore_backup(file, catalogue, paths, None)
    assert set(done.kept) == {paths.psf_library, paths.manifest}
    assert paths.psf_library.read_bytes() == b"another one"


@pytest.mark.parametrize("home", ["sqlite"])
def test_while_others_write_each_document_is_whole(home, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(backups, "DOCUMENTS_AT_ONCE", 3)
    url = f"sqlite:///{tmp_path}/busy.sqlite"
    stop = threading.Event()
    with open_catalogue(url) as catalogue:
        fill(catalogue, 30)
        for name in names(30):
            catalogue.publish(name, "bright_star", {"twin": 0, "other": {"twin": 0}})

        def write():
            with open_catalogue(url) as other:
                number = 0
                while not stop.is_set():
                    number += 1
                    for name in names(30):
                        other.publish(
                            name, "bright_star", {"twin": number, "other": {"twin": number}}
                        )

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for turn in range(3):
                file = tmp_path / f"{turn}.tar.gz"
                assert write_backup(file, catalogue, paths, None).counts["objects"] == 30
        finally:
            stop.set()
            writer.join()
    with open_catalogue(f"sqlite:///{tmp_path}/restored.sqlite") as restored:
        restore_backup(file, restored, paths, None)
        for document in restored.documents_after("objects", "", 100):
            made = document["pipelined"]["bright_star"]
            assert made["twin"] == made["other"]["twin"]


def test_dagsters_history_is_there_again(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    archive = Settings(archive_root=paths.root)

    @dg.asset
    def stack() -> None: ...

    with open_instance(archive) as instance:
        run = dg.materialize([stack], instance=instance).run_id
        with open_catalogue(archive.resolved_catalogue_url) as catalogue:
            # While the instance is open, as under the daemon.
            write_backup(tmp_path / "b.tar.gz", catalogue, paths, tmp_path / "home")
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "archive" / "catalogue.sqlite").unlink()
    with open_catalogue(archive.resolved_catalogue_url) as catalogue:
        restore_backup(tmp_path / "b.tar.gz", catalogue, paths, tmp_path / "home")
    for database in (tmp_path / "home").rglob("*.db"):
        with closing(sqlite3.connect(database)) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open_instance(archive) as instance:
        assert instance.get_run_by_id(run).is_success
        assert instance.get_latest_materialization_event(stack.key).run_id == run
        assert len(instance.all_logs(run)) > 5
        again = dg.materialize([stack], instance=instance).run_id
        assert instance.get_latest_materialization_event(stack.key).run_id == again
    # A history that is there is not mixed with another one.
    with open_catalogue(f"sqlite:///{tmp_path}/third.sqlite") as catalogue:
        done = restore_backup(tmp_path / "b.tar.gz", catalogue, paths, tmp_path / "home")
    assert tmp_path / "home" / "history" in done.kept


@pytest.fixture
def whole(paths, tmp_path):
    with open_catalogue(f"sqlite:///{tmp_path}/whole.sqlite") as catalogue:
        fill(catalogue)
        write_backup(tmp_path / "whole.tar.gz", catalogue, paths, None)
    return tmp_path / "whole.tar.gz"


def altered_member(content):
    """The same tar with one document another one."""
    target = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as source,
        tarfile.open(fileobj=target, mode="w:gz") as copy,
    ):
        for member in source:
            data = source.extractfile(member).read()
            if member.name == "catalogue/users.jsonl":
                data = data.replace(b"chief", b"thief")
            copy.addfile(member, io.BytesIO(data))
    return target.getvalue()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c[: len(c) // 2], "damaged or cut short"),
        (lambda c: c[:-500], "damaged or cut short|was cut short"),
        (lambda c: b"", "damaged or cut short|cut short"),
        (lambda c: b"not a backup at all" * 99, "damaged or cut short, or is none"),
        (altered_member, "is damaged: catalogue/users.jsonl"),
    ],
)
def test_of_a_damaged_one_nothing_is_restored(whole, paths, tmp_path, spoil, words):
    whole.write_bytes(spoil(whole.read_bytes()))
    with open_catalogue(f"sqlite:///{tmp_path}/empty.sqlite") as catalogue:
        with pytest.raises(BackupError, match=words):
            restore_backup(whole, catalogue, ArchivePaths(tmp_path / "new"), None)
        assert everything(catalogue) == ({name: [] for name in COLLECTIONS}, [])
    assert not (tmp_path / "new").exists()


def test_of_a_later_format_it_says_which_version_reads_it(whole, monkeypatch):
    monkeypatch.setattr(backups, "FORMAT", 0)
    with pytest.raises(BackupError, match="has the format 1, and this version .* reads 0"):
        check_backup(whole)


def test_a_member_that_leads_elsewhere_is_not_written(whole, tmp_path, monkeypatch):
    """Whoever can alter a backup and its manifest writes no file outside all the same."""
    target = io.BytesIO()
    with tarfile.open(whole) as source, tarfile.open(fileobj=target, mode="w:gz") as copy:
        for member in source:
            data = source.extractfile(member).read()
            if member.name == "psf_library.fits":
                member.name = "dagster/../../evil"
            if member.name == "manifest.json":
                data = data.replace(b"psf_library.fits", b"dagster/../../evil")
                member.size = len(data)
            copy.addfile(member, io.BytesIO(data))
    whole.write_bytes(target.getvalue())
    check_backup(whole)
    with open_catalogue(f"sqlite:///{tmp_path}/empty.sqlite") as catalogue:
        new = ArchivePaths(tmp_path / "new" / "archive")
        restore_backup(whole, catalogue, new, tmp_path / "new" / "home" / "inner")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this machine")
def test_on_a_full_disk_nothing_is_left(catalogue, paths, tmp_path, monkeypatch):
    fill(catalogue)
    real = tarfile.TarFile.addfile

    def full(self, member, file=None):
        if member.name.endswith("users.jsonl"):
            with open("/dev/full", "wb", buffering=0) as disk:
                disk.write(b"x")
        return real(self, member, file)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    (tmp_path / "backups").mkdir()
    with pytest.raises(BackupError, match="could not be written .*No space left.* nothing of it"):
        write_backup(tmp_path / "backups" / "b.tar.gz", catalogue, paths, None)
    assert list((tmp_path / "backups").iterdir()) == []


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
        lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.sampled_from("abcä _-1"), min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, max_size=5))
def test_documents_come_back_as_they_were(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("any")
    documents = [{"_id": f"{n:03d}", "value": value} for n, value in enumerate(values)]
    paths = ArchivePaths(folder / "archive")
    with open_catalogue(f"sqlite:///{folder}/one.sqlite") as one:
        one.enter_documents("aux", documents)
        write_backup(folder / "b.tar.gz", one, paths, None)
        before = one.documents_after("aux", "", 100)
    with open_catalogue(f"sqlite:///{folder}/two.sqlite") as two:
        restore_backup(folder / "b.tar.gz", two, paths, None)
        assert two.documents_after("aux", "", 100) == before == documents


def test_what_another_program_has_written_is_kept_as_text(mongodb_url, paths, tmp_path):
    from bson import ObjectId
    from pymongo import MongoClient

    with open_catalogue(mongodb_url) as catalogue, MongoClient(mongodb_url) as client:
        fill(catalogue, 2)
        odd = {"whose": ObjectId("0123456789ab0123456789ab"), "why": "by hand"}
        client.get_default_database().aux.insert_one({"_id": "20170608", "odd": odd})
        contents = write_backup(tmp_path / "b.tar.gz", catalogue, paths, None)
    assert contents.altered == ["aux/20170608"]
    with open_catalogue(f"sqlite:///{tmp_path}/restored.sqlite") as restored:
        restore_backup(tmp_path / "b.tar.gz", restored, paths, None)
        odd = restored.night("20170608")["odd"]
    assert odd == {"whose": "0123456789ab0123456789ab", "why": "by hand"}


def test_the_oldest_are_removed(tmp_path):
    for day in range(1, 6):
        (tmp_path / backups.backup_name(datetime(2026, 11, day, tzinfo=UTC))).touch()
    (tmp_path / "of-somebody-else.tar.gz").touch()
    removed = remove_older(tmp_path, 2)
    assert [p.name[14:22] for p in removed] == ["20261101", "20261102", "20261103"]
    assert len(list(tmp_path.iterdir())) == 3


def test_the_commands(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
    environment |= {"ROBOAO_ARCHIVE_ROOT": str(tmp_path / "archive"), "COLUMNS": "200"}

    def roboao(*words):
        return subprocess.run(
            [sys.executable, "-m", "roboao_assets.cli", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    with open_catalogue(f"sqlite:///{tmp_path}/archive/catalogue.sqlite") as catalogue:
        fill(catalogue)
    done = roboao("backup", "safe", "--keep", "2")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "safe").iterdir()
    assert f"safe/{file.name}: 12 objects, 1 aux, 1 users" in done.stdout
    assert "pg_dump" in done.stdout, "no history yet"
    checked = roboao("restore", "--check", str(file))
    assert "is whole: 12 objects" in checked.stdout
    refused = roboao("restore", str(file))
    assert refused.returncode == 2
    assert "is not empty" in " ".join(refused.stderr.split())
    shutil.rmtree(tmp_path / "archive")
    done = roboao("restore", str(file))
    assert "restored: 12 objects, 1 aux, 1 users" in done.stdout, done.stderr
    told = json.loads(roboao("status", "--json").stdout)
    assert told["catalogue"]["observations"] == 12
    for nothing in ("nothing.tar.gz", "safe"):
        refused = roboao("restore", nothing)
        assert refused.returncode == 2
        assert f"there is no backup file {nothing}" in refused.stderr
