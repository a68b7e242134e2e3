import errno
import os
import sqlite3
import subprocess
import sys

import pytest
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage

from roboao_assets.orchestration.home import (
    DagsterStorageError,
    open_instance,
    prepare_dagster_home,
    prepare_storage,
)
from roboao_assets.storage.settings import Settings


def test_a_storage_that_does_not_work_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    runs = tmp_path / "home" / "history" / "runs.db"
    runs.parent.mkdir(parents=True)
    runs.write_text("this is no database\n" * 100)
    with (
        pytest.raises(DagsterStorageError, match=r"home.* did not work: file is not a database"),
        open_instance(Settings(archive_root=tmp_path / "archive")) as instance,
    ):
        instance.get_runs(limit=1)


def heads(home):
    """How many versions each of Dagster's SQLite files says that it has: one, if it is whole."""
    found = {}
    for path in home.rglob("*.db"):
        connection = sqlite3.connect(path)
        (found[path.name],) = connection.execute("SELECT count(*) FROM alembic_version").fetchone()
        connection.close()
    return found


WHOLE = {"runs.db": 1, "schedules.db": 1, "index.db": 1}


def test_several_that_are_the_first_make_one_storage(tmp_path):
    code = "from roboao_assets.storage.settings import Settings\n"
    code += "from roboao_assets.orchestration.home import open_instance\n"
    code += "with open_instance(Settings()) as i: i.get_runs(limit=1)"
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code]
    firsts = [subprocess.Popen(command, env=environment, cwd=tmp_path) for _ in range(3)]
    assert [process.wait(120) for process in firsts] == [0, 0, 0]
    assert heads(tmp_path / "home") == WHOLE


def test_a_storage_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    settings = Settings(archive_root=tmp_path / "archive")
    with monkeypatch.context() as full:
        full.setattr(SqliteScheduleStorage, "from_local", no_room)
        with pytest.raises(OSError, match="No space left"), open_instance(settings):
            pass
    assert sorted(path.name for path in home.iterdir()) == [".making.lock", "dagster.yaml"]
    with open_instance(settings) as instance:
        assert instance.get_runs(limit=1) == []
    assert heads(home) == WHOLE


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_storage_elsewhere_leaves_no_files_here(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("storage:\n  sqlite:\n    base_dir: elsewhere\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    prepare_storage(prepare_dagster_home(Settings(archive_root=tmp_path / "archive")))
    assert sorted(path.name for path in home.iterdir()) == [".making.lock", "dagster.yaml"]
