"""The three commands by which Dagster's own command line makes a night, in a fresh archive."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
LIMIT_S = 600


def materialize(environment, assets, *partition):
    command = ["-m", "dagster", "asset", "materialize", "--select", ",".join(assets), *partition]
    return subprocess.run(
        [sys.executable, *command, "-m", "roboao_assets.definitions"],
        env=environment,
        cwd=environment["DAGSTER_HOME"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.slow
def test_a_night_by_the_three_commands(
    small_night, small_observations, dagster_environment, tmp_path, monkeypatch
):
    environment = dagster_environment | {"ROBOAO_RAW_ROOTS": str(small_night)}
    paths = ArchivePaths(tmp_path / "archive")
    first, last = small_observations[0], small_observations[-1]
    for assets, partition in (
        (("master_darks", "master_flats"), ("--partition", NIGHT)),
        (("bright_star_stack", "strehl_ratio"), ("--partition-range", f"{first}...{last}")),
        (("strehl_summary",), ("--partition", NIGHT)),
    ):
        ended = materialize(environment, assets, *partition)
        assert ended.returncode == 0, ended.stderr[-4000:]
    assert paths.master_dark(NIGHT, "0").is_file()
    for observation in small_observations:
        assert paths.stack(NIGHT, observation, 100).is_file()
        assert paths.strehl_table(NIGHT, observation, "bright_star").is_file()
    assert paths.summary_plot(NIGHT, "strehl").is_file()
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(Settings()))) as instance:
        made = instance.get_materialized_partitions(dg.AssetKey("strehl_ratio"))
    assert made == set(small_observations)


@pytest.mark.slow
def test_an_unknown_night_is_refused_by_its_name(small_night, dagster_environment):
    environment = dagster_environment | {"ROBOAO_RAW_ROOTS": str(small_night)}
    ended = materialize(environment, ("master_darks",), "--partition", "20010101")
    assert ended.returncode != 0
    assert "20010101" in ended.stderr
    assert not list(Path(environment["ROBOAO_ARCHIVE_ROOT"]).glob("20*"))
