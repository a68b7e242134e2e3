"""`kill -9` of a run at twenty moments: what is gone on with ends as if nothing had happened."""

import os
import random
import shutil
import signal
import subprocess
from contextlib import suppress

from archive_deployment import LIMIT_S, NIGHT, Deployment
from ledger import Fault
from losses import losses, not_whole

KILLS, KILLS_OF_AN_ARCHIVE = 20, 4
SEED = 20170607


def kill_group(run: subprocess.Popen) -> None:
    """End a run with its Dask workers: its process group, and what has left that."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait(30)


def test_a_run_killed_at_any_moment_is_gone_on_with(small_night, undisturbed_run, ledger, tmp_path):
    moments, log = random.Random(SEED), tmp_path / "night.log"
    undisturbed, night_s = undisturbed_run
    survived, cut_short, lost, half, stopped = 0, 0, [], [], []
    for archive in range(KILLS // KILLS_OF_AN_ARCHIVE):
        deployment = Deployment(tmp_path / str(archive))
        deployment.take_in(small_night / NIGHT)
        for kill in range(KILLS_OF_AN_ARCHIVE):
            run = deployment.begin("night", NIGHT, log=log)
            with suppress(subprocess.TimeoutExpired):
                # What goes on where another was killed has less to do.
                run.wait(moments.uniform(1.0, night_s * (0.5 if kill else 1.0)))
            cut_short += run.poll() is None
            kill_group(run)
            deployment.kill_all()
            half += not_whole(deployment, exact=False)
        made = deployment.begin("night", NIGHT, log=log)
        ended = made.wait(LIMIT_S)
        found = losses(deployment, undisturbed)
        lost, half, stopped = lost + found.lost, half + found.half, stopped + found.stopped
        if ended == 0 and not found:
            survived += KILLS_OF_AN_ARCHIVE
        shutil.rmtree(tmp_path / str(archive))
    told = [line for line in log.read_text().splitlines() if "it was killed" in line]
    ledger.enter(
        Fault(
            name="kill -9 of a run",
            tried=KILLS,
            survived=survived,
            told=told[0][told[0].index("its process") :] if told else "",
            products_lost=len(lost),
            half_files=len(half),
            others_stopped=len(stopped),
        )
    )
    print(f"{cut_short} of {KILLS} kills met a run; a night takes {night_s:.0f} s")
    assert (lost, half, stopped) == ([], [], [])
    assert survived == KILLS
    assert cut_short >= KILLS * 3 // 4
    assert told
