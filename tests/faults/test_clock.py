"""The clock is set: back by an hour and a day, forth by a year and back again."""

import signal
import sqlite3
import time
from datetime import timedelta

import pytest
from archive_deployment import LIMIT_S, NIGHT, Deployment
from ledger import Fault
from losses import losses
from stepped_clock import SteppedClock

from roboao_assets.pipelines.context import CLAIM
from roboao_assets.storage.catalogue import open_catalogue

HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)
RIGHT = timedelta(0)
# What the sensors do they do within this, whatever the clock says.
PROMPT_S = 240


@pytest.fixture
def clock(tmp_path):
    return SteppedClock(tmp_path)


@pytest.fixture
def deployment(small_night, clock, tmp_path):
    deployment = Deployment(tmp_path, **clock.environment)
    deployment.take_in(small_night / NIGHT)
    yield deployment
    deployment.stop()


def made_lines(text):
    products = ("master_", "bright_star_stack", "strehl_ratio", "distribution_package", "seeing")
    return [
        line
        for line in text.splitlines()
        if line.startswith("made ") and line.split()[1].startswith(products)
    ]


def enter(ledger, name, tried, found, told):
    ledger.enter(
        Fault(
            name=name,
            tried=tried,
            survived=0 if found else tried,
            told=told,
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )


def test_a_night_is_made_once_whatever_the_clock_says(
    small_observations, undisturbed, ledger, clock, deployment, tmp_path
):
    log = tmp_path / "night.log"
    # A run is killed in the middle of the observations a year ahead: its claims are of then.
    clock.set(YEAR)
    run = deployment.begin("night", NIGHT, log=log)
    deadline = time.monotonic() + LIMIT_S
    while not claims(deployment) and time.monotonic() < deadline:
        time.sleep(0.02)
    deployment.kill_all()
    run.wait(30)
    clock.set(RIGHT)
    assert claims(deployment)
    assert not held(deployment, small_observations)
    made = deployment.run("night", NIGHT)
    assert made.returncode == 0, made.stdout
    assert made_lines(made.stdout)
    steps = (-HOUR, -DAY, YEAR, RIGHT)
    again = []
    for step in steps:
        clock.set(step)
        looked = deployment.run("night", NIGHT)
        assert looked.returncode == 0, looked.stdout
        again += made_lines(looked.stdout)
    found = losses(deployment, undisturbed)
    enter(ledger, "clock set, in the foreground", 1 + len(steps), found, "nothing")
    assert again == []
    assert not found, found


def claims(deployment):
    """Every claim as it stands there, whatever it is worth."""
    path = deployment.archive / "catalogue.sqlite"
    if not path.exists():
        return []
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT key FROM claims").fetchall()
    except sqlite3.OperationalError:
        return []  # It is being made.
    finally:
        connection.close()


def held(deployment, observations):
    with open_catalogue(deployment.url, read_only=True) as catalogue:
        return any(catalogue.claimant(name, CLAIM) for name in observations)


def runs_of(deployment):
    with deployment.instance() as instance:
        return [run.run_id for run in instance.get_runs(limit=200)]


def test_the_daemon_goes_on_whatever_the_clock_says(
    small_observations, undisturbed, ledger, clock, deployment
):
    first, *_ = small_observations

    def finished():
        return deployment.night_is_finished(len(small_observations), done=2)

    def redo(what):
        deployment.roboao("redo", first, "--product", "bright_star.strehl")
        asked = len(runs_of(deployment))
        deployment.wait(lambda: len(runs_of(deployment)) > asked, f"a run {what}", PROMPT_S)
        deployment.wait(finished, f"its end {what}")

    deployment.start()
    deployment.wait(lambda: bool(deployment.unfinished_runs()), "the first run")
    clock.set(-HOUR)
    deployment.wait(finished, "the end of the night, an hour back")
    clock.set(-DAY)
    redo("a day back")
    clock.set(YEAR)
    redo("a year ahead")
    clock.set(RIGHT)
    redo("at the right time again")
    # Quiet means quiet: nothing is made again for ever.
    quiet = runs_of(deployment)
    time.sleep(20)
    assert runs_of(deployment) == quiet
    deployment.process.send_signal(signal.SIGTERM)
    deployment.process.wait(120)
    found = losses(deployment, undisturbed)
    told = next((li for li in deployment.log.read_text().splitlines() if "clock" in li), "")
    enter(ledger, "clock set, under the daemon", 4, found, told)
    assert told
    assert not found, found
