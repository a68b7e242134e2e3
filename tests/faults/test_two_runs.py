"""Two runs on the same observations at the same time: one makes them, the other says so."""

import os
import signal
import time

import pytest
from archive_deployment import LIMIT_S, NIGHT, Deployment
from ledger import Fault
from losses import losses

from roboao_assets.pipelines.context import CLAIM
from roboao_assets.storage.catalogue import open_catalogue

LEFT = "is being reduced by another run; it is left to that one"


def claimed(url, observations):
    with open_catalogue(url, read_only=True) as catalogue:
        return all(catalogue.claimant(name, CLAIM) for name in observations)


def wait_for_claims(deployment, run, observations):
    """Wait until `run` is at all observations, and stop it there, in the middle of them."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and run.poll() is None:
        if (deployment.archive / "manifest.json").exists():
            try:
                if claimed(deployment.url, observations):
                    os.killpg(run.pid, signal.SIGSTOP)
                    return
            except OSError:
                pass
        time.sleep(0.02)
    pytest.fail("the run never came to the observations")


def test_who_comes_second_says_so(
    small_night, small_observations, undisturbed, ledger, tmp_path, catalogue_url
):
    deployment = Deployment(tmp_path, catalogue_url)
    deployment.take_in(small_night / NIGHT)
    with open_catalogue(catalogue_url):
        pass
    logs = [tmp_path / f"{name}.log" for name in ("first", "second")]
    first = deployment.begin("night", NIGHT, log=logs[0])
    wait_for_claims(deployment, first, small_observations)
    second = deployment.begin("night", NIGHT, log=logs[1])
    try:
        assert second.wait(LIMIT_S) == 1, logs[1].read_text()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(LIMIT_S) == 0, logs[0].read_text()
    told = [line for line in logs[1].read_text().splitlines() if LEFT in line]
    found = losses(deployment, undisturbed)
    again = deployment.run("night", NIGHT)
    enter(ledger, f"a second run, {catalogue_url[:6]}", 1, found, told[0] if told else "")
    assert sorted({o for o in small_observations for line in told if o in line}) == sorted(
        small_observations
    )
    assert not found, found
    assert again.returncode == 0, again.stdout


def test_both_at_once(small_night, undisturbed, ledger, tmp_path, catalogue_url):
    deployment = Deployment(tmp_path, catalogue_url)
    deployment.take_in(small_night / NIGHT)
    log = tmp_path / "both.log"
    runs = [deployment.begin("night", NIGHT, log=log) for _ in range(2)]
    ends = [run.wait(LIMIT_S) for run in runs]
    again = deployment.run("night", NIGHT)
    found = losses(deployment, undisturbed)
    told = [line for line in log.read_text().splitlines() if LEFT in line]
    enter(ledger, f"two runs at once, {catalogue_url[:6]}", 1, found, told[0] if told else "")
    print(f"two runs at once ended with {ends}")
    assert set(ends) <= {0, 1}, log.read_text()
    assert 1 not in ends or told, log.read_text()
    assert not found, found
    assert again.returncode == 0, again.stdout


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
