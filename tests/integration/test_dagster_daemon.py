"""A night that arrives is reduced by the real daemon; a backfill of the pages goes in order."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from deployment import (
    BACKFILL_TAG,
    ENDS,
    NIGHT_LIMIT_S,
    dagster_dev,
    free_port,
    launch_backfill,
    of_a_sleepless_deployment,
    wait_until,
)

from roboao_assets.automation.tags import NIGHT_TAG, RANGE_END_TAG, RANGE_START_TAG
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"


def assert_in_order(runs, observations):
    """Masters, then all observations in one run, then the summary."""
    selected = [{k.to_user_string() for k in run.asset_selection} for run in runs]
    # The instance tells its newest run first.
    summary, reduction, masters = selected
    assert "master_darks" in masters
    assert reduction == {"bright_star_stack", "strehl_ratio"}
    assert summary == {"strehl_summary"}
    tags = runs[1].tags
    assert {tags[RANGE_START_TAG], tags[RANGE_END_TAG]} == set(observations)


@pytest.mark.slow
def test_a_raw_night_dropped_in_is_reduced_without_a_hand_on_it(
    small_night, dagster_environment, tmp_path, monkeypatch
):
    port = free_port()
    environment = of_a_sleepless_deployment(dagster_environment, port)
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    home = prepare_dagster_home(Settings())
    paths = ArchivePaths(tmp_path / "archive")
    log = tmp_path / "dagster.log"
    with dagster_dev(environment, port, log):
        # The night is not known when it starts: it comes by a reload.
        arriving = tmp_path / "arriving"
        shutil.copytree(small_night / NIGHT, arriving)
        arriving.rename(Path(environment["ROBOAO_RAW_ROOTS"]) / NIGHT)
        with dg.DagsterInstance.from_config(str(home)) as instance:

            def ended(job):
                runs = instance.get_runs(dg.RunsFilter(job_name=job, tags={NIGHT_TAG: NIGHT}))
                return bool(runs) and all(run.is_finished for run in runs)

            for job in ("calibrate_night", "reduce_observations", "summarise_night"):
                wait_until(lambda job=job: ended(job), NIGHT_LIMIT_S, job, log)
            runs = instance.get_runs()
            assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
            assert len(runs) == 3
            made = instance.get_materialized_partitions(dg.AssetKey("bright_star_stack"))
            backfill = launch_backfill(port, [NIGHT])
            wait_until(
                lambda: instance.get_backfill(backfill).status in ENDS,
                NIGHT_LIMIT_S,
                "the backfill",
                log,
            )
            assert instance.get_backfill(backfill).status == BulkActionStatus.COMPLETED_SUCCESS
            assert_in_order(instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: backfill})), made)
    assert len(made) == 2
    for observation in made:
        assert paths.stack(NIGHT, observation, 100).is_file()
        assert paths.strehl_table(NIGHT, observation, "bright_star").is_file()
    assert paths.summary_plot(NIGHT, "strehl").is_file()
    assert paths.seeing_table(NIGHT).is_file()
