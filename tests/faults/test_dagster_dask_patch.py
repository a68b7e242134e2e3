"""What dagster-dask's executor does wrong, and that docs/dagster-dask-executor.patch mends it."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from step_runs import make_both_partitions, step_cluster

PATCH = Path(__file__).parents[2] / "docs" / "dagster-dask-executor.patch"


def cluster_config(runs):
    return {"execution": {"config": {"cluster": {"existing": {"address": runs.cluster.address}}}}}


@pytest.fixture
def patched(tmp_path):
    """A folder with dagster-dask as installed and the patch applied."""
    site = tmp_path / "site"
    installed = Path(find_spec("dagster_dask").origin).parent
    shutil.copytree(installed, site / "dagster_dask", ignore=shutil.ignore_patterns("*.pyc"))
    applied = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "-i", str(PATCH)],
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, applied.stdout + applied.stderr
    return site


@pytest.fixture
def runs_of_patched(patched, tmp_path):
    path = os.pathsep.join([str(patched), *sys.path])
    with step_cluster(tmp_path, executor="dagster_dask", PYTHONPATH=path) as runs:
        yield runs


def test_as_released_the_second_of_two_runs_makes_nothing_and_succeeds(tmp_path):
    with step_cluster(tmp_path, executor="dagster_dask") as runs:
        assert len(make_both_partitions(runs, cluster_config(runs))) == 1


def test_as_released_a_failed_step_blocks_nothing_and_nothing_is_tried_again(tmp_path):
    with step_cluster(tmp_path, executor="dagster_dask") as runs:
        runs.run("endings", run_config=cluster_config(runs))
        assert "after_defective" in runs.made()
        assert "flaky_0" in runs.made()
        assert "flaky_1" not in runs.made()


def test_patched_each_run_makes_its_own_partition(runs_of_patched):
    runs = runs_of_patched
    assert make_both_partitions(runs, cluster_config(runs)) == {"product_one", "product_two"}


def test_patched_a_failed_step_blocks_what_needs_it_and_retries_are_made(runs_of_patched):
    runs = runs_of_patched
    seen, said = runs.run("endings", run_config=cluster_config(runs))
    assert seen.status == "FAILURE", said
    assert seen.steps("STEP_FAILURE") == ["defective"]
    assert {"sound", "after_sound"} <= runs.made()
    assert not {"after_defective", "after_both"} & runs.made()
    assert {"flaky_0", "flaky_1", "flaky_2", "asking_0", "asking_1"} <= runs.made()
    ended, begun = (seen.times(k, "flaky") for k in ("STEP_UP_FOR_RETRY", "STEP_RESTARTED"))
    assert all(later - earlier >= 2 for earlier, later in zip(ended, begun, strict=True))
