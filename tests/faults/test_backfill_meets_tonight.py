"""Old nights by a backfill of the pages, and tonight comes meanwhile: the real daemon."""

import shutil
from itertools import pairwise
from pathlib import Path

import dagster as dg
from deployment import (
    NIGHT_LIMIT_S,
    dagster_dev,
    free_port,
    launch_job_backfill,
    of_a_sleepless_deployment,
    wait_until,
)

from roboao_assets.automation.backfills import backfill_progress
from roboao_assets.automation.tags import NIGHT_TAG, PRIORITY_TAG
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.orchestration.partitions import register_raw_nights
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
EARLIER = ("20170601", "20170602", "20170603")


def put_earlier_nights(small_night, raw_root):
    """Three nights of one observation each that no sensor takes in: they are too early."""
    observation = read_night((small_night,), NIGHT).observations[0].id
    for night in EARLIER:
        (raw_root / night).mkdir()
        for path in (small_night / NIGHT).glob("*.fits.bz2"):
            if not path.name[0].isdigit() or path.name.startswith(observation):
                target = raw_root / night / path.name.replace(NIGHT, night)
                target.hardlink_to(path)


def reductions(runs):
    chosen = [r for r in runs if r.dagster_run.job_name == "reduce_observations"]
    return sorted(chosen, key=lambda r: r.start_time)


def assert_one_cluster_at_a_time(runs):
    """Each reduction brings workers of its own: the next one waits for its end."""
    ordered = reductions(runs)
    for first, second in pairwise(ordered):
        assert first.end_time <= second.start_time


def assert_tonight_before_the_rest(runs):
    """What arrived meanwhile overtook at least the backfill's last night."""
    nights = [r.dagster_run.tags[NIGHT_TAG] for r in reductions(runs)]
    assert NIGHT in nights[:-1], nights
    of_backfill = [r for r in runs if r.dagster_run.tags[NIGHT_TAG] != NIGHT]
    assert {r.dagster_run.tags.get(PRIORITY_TAG, "0") for r in of_backfill} == {"0"}


def test_tonight_is_reduced_before_the_rest_of_a_backfill(
    small_night, dagster_environment, tmp_path, monkeypatch
):
    port = free_port()
    environment = of_a_sleepless_deployment(dagster_environment, port)
    raw_root = Path(environment["ROBOAO_RAW_ROOTS"])
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    home = prepare_dagster_home(Settings())
    log = tmp_path / "dagster.log"
    put_earlier_nights(small_night, raw_root)
    register_raw_nights(Settings(raw_roots=(raw_root,), archive_root=tmp_path / "archive"))
    with dagster_dev(environment, port, log):
        earlier = launch_job_backfill(port, EARLIER)
        arriving = tmp_path / "arriving"
        shutil.copytree(small_night / NIGHT, arriving)
        arriving.rename(raw_root / NIGHT)
        with dg.DagsterInstance.from_config(str(home)) as instance:

            def summarised(night):
                chosen = dg.RunsFilter(job_name="summarise_night", tags={NIGHT_TAG: night})
                runs = instance.get_runs(chosen)
                return bool(runs) and all(run.is_finished for run in runs)

            for night in (NIGHT, *EARLIER):
                wait_until(lambda night=night: summarised(night), NIGHT_LIMIT_S, night, log)
            runs = instance.get_run_records()
            assert {r.dagster_run.status for r in runs} == {dg.DagsterRunStatus.SUCCESS}
            assert len(runs) == 3 * (1 + len(EARLIER))
            assert_one_cluster_at_a_time(runs)
            assert_tonight_before_the_rest(runs)
            assert {p.night for p in backfill_progress(instance, earlier)} == set(EARLIER)
            made = instance.get_materialized_partitions(dg.AssetKey("bright_star_stack"))
            assert len([name for name in made if NIGHT not in name]) == len(EARLIER)
