"""`roboao night` killed with SIGKILL in the middle, and what `roboao recover` makes of it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from roboao_assets.automation.tags import active_nights
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
LIMIT_S = 600
REDUCTION = "reduce_observations"


@pytest.fixture
def archive(small_night, dagster_environment, monkeypatch):
    shutil.copytree(small_night / NIGHT, Path(dagster_environment["ROBOAO_RAW_ROOTS"]) / NIGHT)
    monkeypatch.setenv("DAGSTER_HOME", dagster_environment["DAGSTER_HOME"])
    return dagster_environment


@pytest.fixture
def instance(archive):
    home = prepare_dagster_home(Settings())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def begin(environment, log, *words):
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "roboao_assets.cli", *words],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def roboao(environment, *words):
    done = subprocess.run(
        [sys.executable, "-m", "roboao_assets.cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def reductions(instance):
    return instance.get_runs(dg.RunsFilter(job_name=REDUCTION))


@pytest.mark.slow
def test_a_killed_night_is_recovered_and_a_living_one_left_alone(archive, instance, tmp_path):
    log = tmp_path / "night.log"
    night = begin(archive, log, "night", NIGHT)
    try:
        deadline = time.monotonic() + LIMIT_S
        while not any(run.status == dg.DagsterRunStatus.STARTED for run in reductions(instance)):
            assert night.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        # It stands still, and lives.
        os.killpg(night.pid, signal.SIGSTOP)
        assert "no run was left behind" in roboao(archive, "recover")
        (run,) = reductions(instance)
        assert run.status == dg.DagsterRunStatus.STARTED
    finally:
        os.killpg(night.pid, signal.SIGKILL)
        night.wait()
    assert active_nights(instance) == {NIGHT}
    said = roboao(archive, "recover")
    assert f"{run.run_id} {REDUCTION} {NIGHT}" in said
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert active_nights(instance) == set()
    roboao(archive, "night", NIGHT)
    made = instance.get_materialized_partitions(dg.AssetKey("strehl_ratio"))
    assert len(made) == 2
    paths = ArchivePaths(Path(archive["ROBOAO_ARCHIVE_ROOT"]))
    assert all(paths.stack(NIGHT, observation, 100).is_file() for observation in made)
    assert paths.night_report(NIGHT).is_file()
    assert instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == []
