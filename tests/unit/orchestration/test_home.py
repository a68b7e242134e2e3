import pytest

from roboao_assets.orchestration.home import DagsterStorageError, open_instance
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
