"""A night of the archive of which the steps are made on a Dask cluster."""

from dask_processes import dask_cluster
from step_runs import StepRuns

from roboao_assets.storage.paths import ArchivePaths

NIGHT = "20170607"
DASK = {"execution": {"config": {"dask": {}}}}


def execute(tmp_path, environment, job, tags, run_config=DASK):
    runs = StepRuns(tmp_path, environment, None)
    return runs.run(job, run_config=run_config, tags=tags, module="roboao_assets.definitions")


def test_a_night_of_the_archive_on_a_cluster_with_one_thread(
    small_night, small_observations, dagster_environment, tmp_path
):
    """Masters on the worker; the reduction, which gives it tasks, does not take its place."""
    # The worker has neither the settings of the archive nor its working directory.
    plain = {k: v for k, v in dagster_environment.items() if not k.startswith("ROBOAO_")}
    with dask_cluster(tmp_path, plain, workers=1, threads=1) as cluster:
        environment = dagster_environment | {
            "ROBOAO_RAW_ROOTS": str(small_night),
            "ROBOAO_ARCHIVE_ROOT": "../archive",
            "ROBOAO_DASK_SCHEDULER": cluster.address,
        }
        seen, said = execute(tmp_path, environment, "calibrate_night", {"dagster/partition": NIGHT})
        assert seen.status == "SUCCESS", said
        assert {"master_darks", "master_flats"} <= set(seen.steps("ASSET_MATERIALIZATION"))
        assert set(seen.steps("STEP_WORKER_STARTED")) == set(seen.steps("STEP_SUCCESS"))
        first, last = small_observations
        start, end = (f"dagster/asset_partition_range_{which}" for which in ("start", "end"))
        seen, said = execute(
            tmp_path,
            environment,
            "reduce_observations",
            {
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
        )
        assert seen.status == "SUCCESS", said
    assert "started by its run" in seen.text
    paths = ArchivePaths(tmp_path / "archive")
    assert paths.bad_pixel_mask(NIGHT).is_file()
    assert all(paths.stack(NIGHT, o, 100).is_file() for o in small_observations)
