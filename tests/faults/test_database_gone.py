"""The database is gone for a minute, or hangs for one, at any moment: the night is complete."""

import random
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest
from archive_deployment import LIMIT_S, NIGHT, Deployment
from ledger import Fault
from losses import losses
from own_database import OwnDatabase

pytestmark = pytest.mark.mongodb

OUTAGE_S = 60
SEED = 31


@pytest.fixture
def database(tmp_path):
    database = OwnDatabase(tmp_path)
    database.start()
    yield database
    database.end()


@contextmanager
def outage(database, kind):
    """The database is killed, told to end, or hangs; afterwards it is there again."""
    if kind == "hangs":
        database.send(signal.SIGSTOP)
        yield
        database.send(signal.SIGCONT)
        return
    database.end(signal.SIGTERM if kind == "stopped" else signal.SIGKILL)
    yield
    database.start()


def said_of_it(text: str) -> str:
    """The archive's own sentence about the database, as it stood there."""
    for line in text.splitlines():
        if "see whether the server runs" in line:
            return " ".join(line.split())[-200:]
    return ""


@pytest.mark.parametrize("kind", ["gone", "stopped", "hangs"])
def test_a_foreground_night_outlives_an_outage(
    small_night, undisturbed, ledger, tmp_path, database, kind
):
    moment_s = random.Random(f"{SEED} {kind}").uniform(6, 25)
    deployment = Deployment(tmp_path, database.url)
    deployment.take_in(small_night / NIGHT)
    log = tmp_path / "night.log"
    run = deployment.begin("night", NIGHT, log=log)
    with suppress(subprocess.TimeoutExpired):
        run.wait(moment_s)
    met = run.poll() is None
    with outage(database, kind), suppress(subprocess.TimeoutExpired):
        run.wait(OUTAGE_S)
    by_itself = run.wait(LIMIT_S) == 0
    again = deployment.run("night", NIGHT)
    found = losses(deployment, undisturbed)
    ledger.enter(
        Fault(
            name=f"database {kind} for a minute, in the foreground",
            tried=1,
            survived=int(again.returncode == 0 and not found),
            told=said_of_it(log.read_text()),
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )
    print(f"{kind} after {moment_s:.0f} s; complete by itself: {by_itself}")
    assert met
    assert not found, found
    assert again.returncode == 0, again.stdout


def test_the_daemon_outlives_outages(
    small_night, small_observations, undisturbed, ledger, tmp_path, database
):
    moments = random.Random(SEED)
    deployment = Deployment(tmp_path, database.url)
    deployment.take_in(small_night / NIGHT)
    kinds = ("hangs", "gone")
    deployment.start()
    try:
        deployment.wait(lambda: bool(deployment.unfinished_runs()), "the first run")
        for kind in kinds:
            time.sleep(moments.uniform(2, 25))
            with outage(database, kind):
                time.sleep(OUTAGE_S)
        deployment.wait(
            lambda: deployment.night_is_finished(len(small_observations), done=2),
            "the end of the night",
        )
        # Quiet means quiet: no sensor starts anything more.
        time.sleep(15)
        assert deployment.night_is_finished(len(small_observations), done=2)
    finally:
        deployment.stop()
    found = losses(deployment, undisturbed)
    ledger.enter(
        Fault(
            name="database hangs, then is gone, for a minute",
            tried=len(kinds),
            survived=0 if found else len(kinds),
            told=said_of_it(deployment.log.read_text()),
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )
    assert not found, found
