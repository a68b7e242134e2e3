"""A whole deployment for the tests: `dagster dev` with its daemon, sensors and pages."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest
from dagster._core.execution.backfill import BulkActionStatus

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


def of_a_sleepless_deployment(environment, port):
    """Return the environment of one whose sensors look every few seconds."""
    return environment | {
        "ROBOAO_DAGSTER_PORT": str(port),
        "ROBOAO_SENSOR_INTERVAL_S": "5",
        "ROBOAO_SETTLE_S": "1",
        "ROBOAO_ARCHIVING_START_DATE": "2017-06-05",
    }


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
