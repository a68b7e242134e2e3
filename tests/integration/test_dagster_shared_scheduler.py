"""Two runs of one job at the same time on one Dask scheduler: each makes its own partitions.

With dagster-dask's executor the second run's products were never made, and it reported
success: its tasks had the keys of the first's (dagster issue 21418).
"""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest

from roboao_assets.automation.tags import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from roboao_assets.orchestration.cluster import ClusterError, ObservationCluster
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
LIMIT_S = 600

# Makes a Python in which the package is not installed.
WITHOUT_PACKAGE = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "roboao_assets":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NotInstalled())
"""


def execute(environment, job, tags):
    """Start `job` in a process of its own."""
    command = ["-m", "dagster", "job", "execute", "-m", "roboao_assets.definitions", "-j", job]
    return subprocess.Popen(
        [sys.executable, *command, "--tags", json.dumps(tags)],
        env=environment,
        cwd=environment["DAGSTER_HOME"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(run):
    output, _ = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 0, output[-4000:]


@pytest.mark.slow
def test_two_runs_at_once_on_one_scheduler_make_their_own_partitions(
    small_night, small_observations, dagster_environment, start_scheduler, tmp_path, monkeypatch
):
    address = start_scheduler(dagster_environment)
    environment = dagster_environment | {
        "ROBOAO_RAW_ROOTS": str(small_night),
        "ROBOAO_DASK_SCHEDULER": address,
    }
    finish(execute(environment, "calibrate_night", {PARTITION_TAG: NIGHT}))
    runs = [
        execute(environment, "reduce_observations", {RANGE_START_TAG: o, RANGE_END_TAG: o})
        for o in small_observations
    ]
    for run in runs:
        finish(run)
    paths = ArchivePaths(tmp_path / "archive")
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(Settings()))) as instance:
        for asset in ("bright_star_stack", "strehl_ratio", "bright_star_preview"):
            made = instance.get_materialized_partitions(dg.AssetKey(asset))
            assert made == set(small_observations)
        by_run = {
            record.asset_materialization.partition: record.run_id
            for record in instance.fetch_materializations(
                dg.AssetKey("bright_star_stack"), limit=10
            ).records
        }
    assert len(set(by_run.values())) == 2
    for observation in small_observations:
        assert paths.stack(NIGHT, observation, 100).is_file()


@pytest.mark.slow
def test_a_scheduler_without_our_package_is_refused_in_a_moment(start_scheduler, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(WITHOUT_PACKAGE)
    environment = {**os.environ, "PYTHONPATH": str(elsewhere)}
    address = start_scheduler(environment)
    cluster = ObservationCluster(Settings(archive_root=tmp_path, dask_scheduler=address))
    with pytest.raises(ClusterError, match="cannot run the archive's tasks"), cluster.connect(1):
        pass


# What a process of another version of the package differs by.
OTHERS = {
    "roboao_assets.__version__ = '0.0.9'": r"0\.0\.9 there, .* here",
    "from roboao_assets.pipelines.freshness import CODE_VERSIONS as v; "
    "v['bright_star_stack'] = 'older'": "other code of bright_star_stack",
    "from roboao_assets.storage.settings import Settings as s; "
    "del s.__pydantic_fields__['nap']": "settings of one alone: nap",
}


@pytest.mark.slow
@pytest.mark.parametrize(("change", "difference"), OTHERS.items(), ids=("version", "code", "keys"))
def test_another_version_of_our_package_is_refused(start_scheduler, tmp_path, change, difference):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(f"import roboao_assets\n{change}\n")
    address = start_scheduler({**os.environ, "PYTHONPATH": str(elsewhere)})
    cluster = ObservationCluster(Settings(archive_root=tmp_path, dask_scheduler=address))
    expected = f"another version of roboao-archive than this run .{difference}.; update it"
    with pytest.raises(ClusterError, match=expected), cluster.connect(1):
        pass


def test_an_address_without_scheduler(tmp_path, monkeypatch):
    monkeypatch.setattr("roboao_assets.orchestration.cluster.CONNECT_TIMEOUT_S", 2)
    settings = Settings(archive_root=tmp_path, dask_scheduler="tcp://127.0.0.1:9")
    with (
        pytest.raises(ClusterError, match=r"no Dask scheduler answered at tcp://127\.0\.0\.1:9"),
        ObservationCluster(settings).connect(1),
    ):
        pass
