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
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from roboao_assets.automation.tags import RANGE_END_TAG, RANGE_START_TAG
from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
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
    backfill = {
        "assetSelection": [{"path": [name]} for name in (*assets, "strehl_summary")],
        "partitionNames": list(nights),
    }
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


@pytest.mark.slow
def test_a_raw_night_dropped_in_is_reduced_without_a_hand_on_it(
    small_night, dagster_environment, tmp_path, monkeypatch
):
    port = free_port()
    environment = dagster_environment | {
        "ROBOAO_DAGSTER_PORT": str(port),
        "ROBOAO_SENSOR_INTERVAL_S": "5",
        "ROBOAO_SETTLE_S": "1",
    }
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    home = prepare_dagster_home(Settings())
    paths = ArchivePaths(tmp_path / "archive")
    log = tmp_path / "dagster.log"
    with dagster_dev(environment, port, log):
        # No night is known when it starts: the first one comes by a reload.
        arriving = tmp_path / "arriving"
        shutil.copytree(small_night / NIGHT, arriving)
        arriving.rename(Path(environment["ROBOAO_RAW_ROOTS"]) / NIGHT)
        with dg.DagsterInstance.from_config(str(home)) as instance:

            def ended(job):
                runs = instance.get_runs(dg.RunsFilter(job_name=job))
                return bool(runs) and all(run.is_finished for run in runs)

            for job in ("calibrate_night", "reduce_observations", "summarise_night"):
                wait_until(lambda job=job: ended(job), NIGHT_LIMIT_S, job, log)
            runs = {run.job_name: run for run in instance.get_runs()}
            assert {run.status for run in runs.values()} == {dg.DagsterRunStatus.SUCCESS}
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
