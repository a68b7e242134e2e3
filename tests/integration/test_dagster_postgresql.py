"""Dagster's storage in a real PostgreSQL, by the file that docs/operation.md tells to append."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from postgresql_server import DATABASE, PASSWORD, USER, postgresql

from roboao_assets.orchestration.dead_runs import end_dead_runs
from roboao_assets.orchestration.home import open_instance, prepare_dagster_home
from roboao_assets.orchestration.run_logs import forget_run_logs
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
LIMIT_S = 600
SECTION = Path(__file__).parents[2] / "deploy" / "dagster-postgresql.yaml"


@pytest.fixture(scope="module")
def port():
    with postgresql() as port:
        yield port


@pytest.fixture
def environment(dagster_environment, small_night, port, monkeypatch):
    """An archive whose instance is in PostgreSQL; this process sees the same one."""
    values = {
        "DAGSTER_PG_HOST": "127.0.0.1",
        "DAGSTER_PG_PORT": str(port),
        "DAGSTER_PG_DB": DATABASE,
        "DAGSTER_PG_USERNAME": USER,
        "DAGSTER_PG_PASSWORD": PASSWORD,
        "DAGSTER_HOME": dagster_environment["DAGSTER_HOME"],
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    config = prepare_dagster_home(Settings()) / "dagster.yaml"
    config.write_text(config.read_text() + SECTION.read_text())
    return dagster_environment | values | {"ROBOAO_RAW_ROOTS": str(small_night)}


def run(environment, *words):
    return subprocess.run(
        [sys.executable, "-m", *words],
        env=environment,
        cwd=environment["DAGSTER_HOME"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.slow
def test_what_is_made_is_recorded_there(environment, tmp_path):
    command = ["dagster", "asset", "materialize", "-m", "roboao_assets.definitions", "--select"]
    ended = run(environment, *command, "master_darks,master_flats", "--partition", NIGHT)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert PASSWORD not in ended.stdout + ended.stderr
    settings = Settings(archive_root=tmp_path / "archive")
    with open_instance(settings) as instance:
        assert "Postgres" in type(instance.event_log_storage).__name__
        key = dg.AssetKey("master_darks")
        assert instance.get_materialized_partitions(key) == {NIGHT}
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        # The logs of runs go, the materialisations stay.
        later = datetime.now(UTC) + timedelta(days=1)
        done = forget_run_logs(instance, later, after=None, most=10)
        assert done.runs == 1
        assert done.events > 10
        assert instance.get_materialized_partitions(key) == {NIGHT}
    home = Path(environment["DAGSTER_HOME"])
    assert list(home.rglob("*.db")) == []
    assert PASSWORD not in (home / "dagster.yaml").read_text()
    told = run(environment, "roboao_assets.cli", "status", "--json")
    assert told.returncode == 0, told.stderr
    assert PASSWORD not in told.stdout
    assert json.loads(told.stdout)["dagster"] is not None


def test_runs_of_hosts_that_are_not_known_are_left_alone(environment, tmp_path):
    """Of whichever host: the storage is many machines'."""

    @dg.job
    def nothing():
        pass

    with open_instance(Settings(archive_root=tmp_path / "archive")) as instance:
        begun = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        assert end_dead_runs(instance) == []
        assert not instance.get_run_by_id(begun.run_id).is_finished


def test_a_server_that_is_away_is_told_without_the_password(environment):
    told = run(environment | {"DAGSTER_PG_PORT": "9"}, "roboao_assets.cli", "status", "--json")
    assert PASSWORD not in told.stdout + told.stderr
    assert "Traceback" not in told.stderr
    assert "Dagster" in told.stdout + told.stderr
