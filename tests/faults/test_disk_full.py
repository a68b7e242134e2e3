"""The disk is full: archive, catalogue and Dagster's storage are on it, all at once."""

import random
import sqlite3
import subprocess
import time
from contextlib import suppress

import pytest
from archive_deployment import LIMIT_S, NIGHT, Deployment
from ledger import Fault
from losses import losses
from small_disks import FULL_WORDS, small_disk

from roboao_assets.storage.catalogue import open_catalogue

SEED = 77
SIZE_MB = 300
# Room left at the start, and the more that is made each time it is full: it fills in Dagster's
# storage, in masters, in stacks, in packages.
STEPS_MB = (0.05, 1.5, 14, 14, 14)
EARLIER = "20170601"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", SIZE_MB) as disk:
        yield disk


@pytest.fixture
def deployment(small_night, disk, tmp_path):
    # The guard that starts nothing on a nearly full disk is off: it shall fill to the last block.
    deployment = Deployment(tmp_path, state=disk.folder, ROBOAO_LEAST_FREE_GB="0")
    deployment.take_in(small_night / NIGHT)
    yield deployment
    deployment.stop()


def told_of_it(text):
    return [line for line in text.splitlines() if any(word in line for word in FULL_WORDS)]


def times_told(log):
    return len(told_of_it(log.read_text())) if log.exists() else 0


def databases(folder):
    """Every SQLite database below `folder`, and what SQLite thinks of each."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
            with sqlite3.connect(path) as connection:
                (found[path.name],) = connection.execute("PRAGMA integrity_check").fetchone()
            connection.close()
    return found


def put_earlier_night(archive):
    """Something of another night, which must stay as it is."""
    path = archive / EARLIER / "calib" / "dark_6.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another night" * 1000)
    return path, path.read_bytes()


def until_it_is_full(deployment, run, log):
    """Wait until the disk is found full once more; begin the night again where it has ended."""
    before, deadline = times_told(log), time.monotonic() + LIMIT_S
    while times_told(log) == before and time.monotonic() < deadline:
        if run.poll() == 0:
            break
        if run.poll() is not None:
            run = deployment.begin("night", NIGHT, log=log)
        time.sleep(0.05)
    return run


def test_a_disk_that_fills_while_a_night_is_reduced(
    undisturbed, ledger, disk, deployment, tmp_path
):
    dwell, log = random.Random(SEED), tmp_path / "night.log"
    earlier, content = put_earlier_night(deployment.archive)
    tried = 0
    disk.leave(STEPS_MB[0])
    run = deployment.begin("night", NIGHT, log=log)
    for room in (*STEPS_MB[1:], SIZE_MB):
        before = times_told(log)
        run = until_it_is_full(deployment, run, log)
        tried += times_told(log) > before
        # It stays full for a while.
        with suppress(subprocess.TimeoutExpired):
            run.wait(dwell.uniform(2, 5))
        disk.leave(room)
    by_itself = run.wait(LIMIT_S) == 0
    made = deployment.run("night", NIGHT)
    sentences = told_of_it(log.read_text())
    found = losses(deployment, undisturbed)
    whole = databases(disk.folder)
    print(f"full {tried} times; complete by itself in the end: {by_itself}")
    ledger.enter(
        Fault(
            name="disk full in a night, in the foreground",
            tried=tried,
            survived=0 if found or made.returncode else tried,
            told=sentences[0] if sentences else "",
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )
    assert set(whole.values()) == {"ok"}, whole
    assert "catalogue.sqlite" in whole
    assert "runs.db" in whole
    assert earlier.read_bytes() == content
    assert not found, found
    assert made.returncode == 0, made.stdout
    assert tried >= 4
    assert "Traceback" not in log.read_text()


def test_a_disk_that_fills_under_the_daemon(
    small_observations, undisturbed, ledger, disk, deployment
):
    deployment.start()
    deployment.wait(lambda: bool(deployment.unfinished_runs()), "the first run")
    for room in (2, 8):
        disk.leave(room)
        before = times_told(deployment.log)
        deployment.wait(lambda n=before: times_told(deployment.log) > n, "the disk being full")
        time.sleep(10)
    disk.make_room()
    deployment.wait(
        lambda: deployment.night_is_finished(len(small_observations), done=2),
        "the end of the night",
    )
    deployment.stop()
    found = losses(deployment, undisturbed)
    whole = databases(disk.folder)
    with open_catalogue(deployment.url, read_only=True) as catalogue:
        assert catalogue.night(NIGHT)
    ledger.enter(
        Fault(
            name="disk full under the daemon",
            tried=2,
            survived=0 if found else 2,
            told=told_of_it(deployment.log.read_text())[0],
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )
    assert set(whole.values()) == {"ok"}, whole
    assert not found, found
