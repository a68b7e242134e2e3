"""The archive becomes read-only: before a night, and in the middle of it; then writable again."""

import time

import pytest
from archive_deployment import LIMIT_S, NIGHT, Deployment
from ledger import Fault
from losses import losses
from small_disks import own_mount

WORDS = ("Read-only file system", "readonly database")


def told_of_it(text):
    return [line for line in text.splitlines() if any(word in line for word in WORDS)]


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "disk"
    (folder / "archive").mkdir(parents=True)
    with own_mount(folder) as set_read_only:
        yield folder, set_read_only


def enter(ledger, name, survived, told, found):
    ledger.enter(
        Fault(
            name=name,
            tried=1,
            survived=int(survived and not found),
            told=told[0] if told else "",
            products_lost=len(found.lost),
            half_files=len(found.half),
            others_stopped=len(found.stopped),
        )
    )


@pytest.mark.parametrize("home", ["elsewhere", "in the archive"])
def test_from_the_start(small_night, undisturbed, ledger, tmp_path, archive, home):
    folder, set_read_only = archive
    deployment = Deployment(tmp_path, state=folder)
    if home == "elsewhere":
        deployment.environment["DAGSTER_HOME"] = str(tmp_path / "home")
    deployment.take_in(small_night / NIGHT)
    set_read_only(True)
    refused = deployment.run("night", NIGHT)
    set_read_only(False)
    made = deployment.run("night", NIGHT)
    found, told = losses(deployment, undisturbed), told_of_it(refused.stdout)
    enter(ledger, f"read-only archive, Dagster {home}", made.returncode == 0, told, found)
    assert refused.returncode != 0
    assert told, refused.stdout
    assert "Traceback" not in refused.stdout
    assert made.returncode == 0, made.stdout
    assert not found, found


def test_in_the_middle_of_a_night(
    small_night, small_observations, undisturbed, ledger, tmp_path, archive
):
    folder, set_read_only = archive
    # A file system on which a file is open for writing refuses to become read-only: databases
    # that stand there would keep it from that.
    deployment = Deployment(tmp_path, f"sqlite:///{tmp_path}/catalogue.sqlite", state=folder)
    deployment.environment["DAGSTER_HOME"] = str(tmp_path / "home")
    deployment.take_in(small_night / NIGHT)
    log = tmp_path / "night.log"
    run = deployment.begin("night", NIGHT, log=log)
    begun = deployment.archive / NIGHT / small_observations[0]
    deadline = time.monotonic() + LIMIT_S
    while not begun.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    set_read_only(True)
    while not told_of_it(log.read_text()) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)
    set_read_only(False)
    by_itself = run.wait(LIMIT_S) == 0
    found, told = losses(deployment, undisturbed), told_of_it(log.read_text())
    enter(ledger, "archive read-only in mid-night", by_itself, told, found)
    assert told
    assert by_itself, log.read_text()
    assert not found, found
