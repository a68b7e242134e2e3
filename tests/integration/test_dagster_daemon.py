import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from roboao_assets.automation.backfills import backfill_progress
from roboao_assets.automation.tags import NIGHT_TAG, PRIORITY_TAG, RANGE_END_TAG, RANGE_START_TAG
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.orchestration.partitions import register_raw_nights
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
EARLIER = ("20170601", "20170602", "20170603")
START_LIMIT_S, NIGHT_LIMIT_S, STOP_LIMIT_S = 180, 900, 60
BACKFILL_TAG = "dagster/backfill"
ENDS = {
    BulkActionStatus.COMPLETED_SUCCESS,
    BulkActionStatus.COMPLETED_FAILED,
    BulkActionStatus.FAILED,
    BulkActionStatus.CANCELED,
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, limit_s, what, log):
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} took longer than {limit_s} s:\n{log.read_text()[-6000:]}")
        time.sleep(0.5)


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


@contextmanager
def dagster_dev(environment, port, log):
    command = ["-m", "dagster", "dev", "-m", "roboao_assets.definitions", "-h", "127.0.0.1"]
    # Where this was started in the background of a script SIGINT is ignored, and would be by
    # our child; what is handled here is not ignored there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command, "-p", str(port)],
            env=environment,
            cwd=environment["DAGSTER_HOME"],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        try:
            wait_until(lambda: answers(port), START_LIMIT_S, "the start of dagster dev", log)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                pytest.fail("dagster dev did not stop on SIGINT")


LAUNCH = """
mutation ($backfill: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfill) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


def launch_backfill(port, nights):
    """Do what the pages do when a night is chosen in the launchpad of the whole graph."""
    assets = ("master_darks", "bad_pixel_mask", "bright_star_stack", "strehl_ratio")
    selected = [{"path": [name]} for name in (*assets, "strehl_summary")]
    return launch(port, {"assetSelection": selected, "partitionNames": list(nights)})


def launch_job_backfill(port, nights):
    """Do what the pages do on the partitions of the job calibrate_night."""
    repository = {
        "repositoryLocationName": "roboao_assets.definitions",
        "repositoryName": "__repository__",
    }
    selector = {
        "partitionSetName": "calibrate_night_partition_set",
        "repositorySelector": repository,
    }
    return launch(port, {"selector": selector, "partitionNames": list(nights)})


def launch(port, backfill):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": LAUNCH, "variables": {"backfill": backfill}}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer = json.loads(reply.read())["data"]["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return answer["backfillId"]


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


@pytest.mark.slow
def test_a_raw_night_dropped_in_is_reduced_without_a_hand_on_it(
    small_night, dagster_environment, tmp_path, monkeypatch
):
    port = free_port()
    environment = dagster_environment | {
        "ROBOAO_DAGSTER_PORT": str(port),
        "ROBOAO_SENSOR_INTERVAL_S": "5",
        "ROBOAO_SETTLE_S": "1",
        "ROBOAO_ARCHIVING_START_DATE": "2017-06-05",
    }
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    home = prepare_dagster_home(Settings())
    paths = ArchivePaths(tmp_path / "archive")
    log = tmp_path / "dagster.log"
    put_earlier_nights(small_night, Path(environment["ROBOAO_RAW_ROOTS"]))
    register_raw_nights(
        Settings(raw_roots=(environment["ROBOAO_RAW_ROOTS"],), archive_root=paths.root)
    )
    with dagster_dev(environment, port, log):
        earlier = launch_job_backfill(port, EARLIER)
        # The night is not known when it starts: it comes by a reload, and goes before the others.
        arriving = tmp_path / "arriving"
        shutil.copytree(small_night / NIGHT, arriving)
        arriving.rename(Path(environment["ROBOAO_RAW_ROOTS"]) / NIGHT)
        with dg.DagsterInstance.from_config(str(home)) as instance:

            def ended(job, night=NIGHT):
                runs = instance.get_runs(dg.RunsFilter(job_name=job, tags={NIGHT_TAG: night}))
                return bool(runs) and all(run.is_finished for run in runs)

            for job in ("calibrate_night", "reduce_observations", "summarise_night"):
                wait_until(lambda job=job: ended(job), NIGHT_LIMIT_S, job, log)
            for night in EARLIER:
                wait_until(
                    lambda night=night: ended("summarise_night", night), NIGHT_LIMIT_S, night, log
                )
            runs = instance.get_run_records()
            assert {r.dagster_run.status for r in runs} == {dg.DagsterRunStatus.SUCCESS}
            assert len(runs) == 3 * (1 + len(EARLIER))
            assert_one_cluster_at_a_time(runs)
            assert_tonight_before_the_rest(runs)
            assert {p.night for p in backfill_progress(instance, earlier)} == set(EARLIER)
            every = instance.get_materialized_partitions(dg.AssetKey("bright_star_stack"))
            made = {name for name in every if NIGHT in name}
            assert len(every) == len(made) + len(EARLIER)
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
