"""The SLURM job of deploy/hpc as dask-jobqueue renders it; no SLURM is asked."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "hpc" / "slurm_workers.py"


@pytest.fixture
def job_script(monkeypatch):
    monkeypatch.setenv("ROBOAO_ARCHIVE_ROOT", "/data/archive")
    monkeypatch.setenv("ROBOAO_CATALOGUE_URL", "mongodb://roboao:canary@db/roboao")
    module = runpy.run_path(str(SCRIPT))
    with module["make_cluster"]("regular", "04:00:00", port=0, account="astro") as cluster:
        return cluster.job_script()


def test_a_job_is_a_worker_that_ends_in_time(job_script):
    lines = job_script.splitlines()
    for directive in ("-p regular", "-A astro", "-t 04:00:00", "--cpus-per-task=2"):
        assert f"#SBATCH {directive}" in lines
    (command,) = (line for line in lines if "--lifetime 14100s" in line)
    assert "dask" in command
    assert "worker" in command


def test_no_password_stands_in_the_job(job_script):
    assert "canary" not in job_script
    assert "#SBATCH --export=ROBOAO_CATALOGUE_URL,ROBOAO_ARCHIVE_ROOT" in job_script
