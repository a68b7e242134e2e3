"""A night played: files in pieces, one spoilt, flats late, an operator's wish, a kill -9.

At its end the archive is, byte for byte in its images, the one made in one undisturbed go. The
real daemon, sensors, Dask workers and a server that speaks MongoDB's protocol; run by `make play`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from pymongo import MongoClient

from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue, product
from roboao_assets.storage.files import PARTIAL_PREFIX
from roboao_assets.storage.raw_night import read_night
from simulator import simulate_night

NIGHT = "20170607"
LIMIT_S = 1500


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Deployment:
    """`roboao serve` with an archive, a raw root and a Dagster home of its own."""

    def __init__(self, folder: Path, catalogue_url: str):
        self.folder, self.url = folder, catalogue_url
        self.raw = folder / "raw" / NIGHT
        self.raw.mkdir(parents=True)
        self.archive = folder / "archive"
        self.home = folder / "dagster_home"
        self.home.mkdir()
        self.log = folder / "serve.log"
        self.process: subprocess.Popen | None = None
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
        self.environment = kept | {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "ROBOAO_RAW_ROOTS": str(folder / "raw"),
            "ROBOAO_ARCHIVE_ROOT": str(self.archive),
            "ROBOAO_CATALOGUE_URL": catalogue_url,
            "ROBOAO_WORKERS": "2",
            "ROBOAO_SENSOR_INTERVAL_S": "5",
            "ROBOAO_SETTLE_S": "3",
            "ROBOAO_DAGSTER_PORT": str(free_port()),
            "ROBOAO_DASHBOARD_PORT": str(free_port()),
            "ROBOAO_METRICS_PORT": "0",
        }

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "roboao_assets.cli", "serve"],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Everything of it at once, as a power cut does."""
        assert self.process is not None
        own = str(self.home).encode()
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                if own in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except (OSError, ProcessLookupError):
                continue
        self.process.wait(30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.kill()

    def roboao(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "roboao_assets.cli", *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.stdout + done.stderr

    def document(self, observation: str) -> dict:
        with open_catalogue(self.url, read_only=True) as catalogue:
            return catalogue.observation(observation) or {}

    def status(self, observation: str, name: str = "bright_star") -> dict:
        return product(self.document(observation), name).get("status") or {}

    def unfinished_runs(self) -> list[dg.DagsterRun]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return [run for run in instance.get_runs(limit=200) if not run.is_finished]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} took longer than {LIMIT_S} s: {self.log.read_text()[-5000:]}")
            time.sleep(1)


@pytest.fixture(scope="module")
def telescope(tmp_path_factory) -> Path:
    """What the telescope writes in the night, before anybody copies it."""
    root = tmp_path_factory.mktemp("telescope")
    simulate_night(root, NIGHT, targets=4, frames=60, size=256, seed=7, dark_frames=10)
    return root / NIGHT


@pytest.fixture(scope="module")
def undisturbed(telescope, tmp_path_factory) -> Path:
    """The archive of the night made in one go, without a sensor."""
    folder = tmp_path_factory.mktemp("undisturbed")
    deployment = Deployment(folder, "sqlite:///" + str(folder / "archive" / "catalogue.sqlite"))
    for path in telescope.glob("*.fits.bz2"):
        shutil.copy2(path, deployment.raw / path.name)
    said = deployment.roboao("night", NIGHT)
    assert (deployment.archive / NIGHT / "summary" / f"report.{NIGHT}.html").exists(), said
    return deployment.archive


@pytest.fixture
def deployment(tmp_path, mongodb_url):
    deployment = Deployment(tmp_path, mongodb_url)
    yield deployment
    deployment.stop()


def copy_in_pieces(source: Path, target: Path, pieces: int = 3) -> None:
    content = source.read_bytes()
    step = len(content) // pieces + 1
    with target.open("wb") as file:
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            file.flush()
            time.sleep(2)


def images(archive: Path) -> dict[str, bytes]:
    """Every image of the night, by its name in the tree."""
    night = archive / NIGHT
    return {str(p.relative_to(night)): p.read_bytes() for p in sorted(night.rglob("*.fits"))}


def test_a_played_night_ends_as_an_undisturbed_one(telescope, undisturbed, deployment):
    observations = [e.id for e in read_night((telescope.parent,), NIGHT).observations]
    files = {o: sorted(telescope.glob(f"{o}*.fits.bz2")) for o in observations}
    night = deployment.raw
    deployment.start()
    # The first observation comes in pieces, one is cut short, the darks come; no flats yet.
    first, second, *others = observations
    for path in sorted(telescope.glob("dark*")):
        shutil.copy2(path, night / path.name)
    for path in files[first]:
        copy_in_pieces(path, night / path.name)
    for path in files[second]:
        whole = path.read_bytes()
        (night / path.name).write_bytes(whole[: len(whole) * 2 // 3])
    deployment.wait(lambda: bool(deployment.document(second)), "the registration of the night")
    deployment.wait(lambda: "flat files" in deployment.roboao("failures", NIGHT), "the sentence")
    assert not deployment.status(first), "nothing is reduced without flats"
    # The flats come late; the seeing with them.
    for path in sorted(telescope.glob("flat*")) + sorted(telescope.glob("seeing*")):
        shutil.copy2(path, night / path.name)
    deployment.wait(lambda: deployment.status(first).get("done") is True, "the first observation")
    deployment.wait(lambda: bool(deployment.status(second).get("retries")), "the spoilt one")
    # An operator, with a plain client of the database.
    with MongoClient(deployment.url, serverSelectionTimeoutMS=5000) as client:
        database = client.get_default_database()
        path = "pipelined.bright_star.strehl.status.force_redo"
        database.objects.update_one({"_id": first}, {"$set": {path: True}})
    # The rest arrives, the spoilt file is copied again, and in the middle of it the power goes.
    for name in (second, *others):
        for source in files[name]:
            (night / source.name).unlink(missing_ok=True)
            shutil.copyfile(source, night / source.name)

    def under_way() -> bool:
        return any(run.job_name == "reduce_observations" for run in deployment.unfinished_runs())

    def one_more_is_done() -> bool:
        return any(deployment.status(name).get("done") for name in others)

    deployment.wait(one_more_is_done, "another observation")
    was_under_way = under_way()
    deployment.kill()
    deployment.start()
    with open_catalogue(deployment.url, read_only=True) as catalogue:

        def finished() -> bool:
            documents = catalogue.find_observations(ObservationQuery(nights=(NIGHT,)))
            done = [product(d, "bright_star").get("status", {}).get("done") for d in documents]
            tried = [d["_id"] for d in documents if d.get("pipelined")]
            report = (catalogue.night(NIGHT) or {}).get("report") or {}
            return (
                len(tried) == len(observations)
                and sum(map(bool, done)) >= 3
                and not catalogue.requests.all()
                and report.get("done") is True
                and not deployment.unfinished_runs()
            )

        deployment.wait(finished, "the end of the night")
        # Quiet means quiet: no sensor starts anything more.
        time.sleep(15)
        deployment.wait(finished, "the very end of the night")
        history = catalogue.actions.newest(first)
    assert any(entry.action == "made strehl_ratio" for entry in history), history
    assert list(deployment.archive.rglob(f"{PARTIAL_PREFIX}*")) == []
    expected, made = images(undisturbed), images(deployment.archive)
    assert sorted(made) == sorted(expected)
    different = [name for name in expected if made[name] != expected[name]]
    assert different == []
    report = {
        "time": datetime.now(UTC).isoformat(),
        "images": len(expected),
        "killed_while_reducing": was_under_way,
    }
    print(json.dumps(report))
