"""An archive of a test's own, with the real commands: `roboao serve`, `roboao night` and others."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from deployment import free_port

from roboao_assets.orchestration.home import prepare_dagster_home, prepare_storage
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue, product
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
LIMIT_S = 1500


class Deployment:
    """An archive with a raw root and a Dagster home of its own.

    Parameters
    ----------
    folder : Path
    catalogue_url : str
        By default an SQLite file in the archive.
    state : Path
        Where archive and Dagster home are; by default in `folder`.
    settings : str
        More of the environment.
    """

    def __init__(
        self, folder: Path, catalogue_url: str = "", state: Path | None = None, **settings: str
    ):
        self.folder = folder
        state = state or folder
        self.raw = folder / "raw" / NIGHT
        self.raw.mkdir(parents=True)
        self.archive = state / "archive"
        self.url = catalogue_url or f"sqlite:///{self.archive}/catalogue.sqlite"
        self.home = state / "dagster_home"
        self.home.mkdir()
        self.log = folder / "serve.log"
        self.process: subprocess.Popen | None = None
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
        self.environment = kept | {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "ROBOAO_RAW_ROOTS": str(folder / "raw"),
            "ROBOAO_ARCHIVE_ROOT": str(self.archive),
            "ROBOAO_CATALOGUE_URL": self.url,
            "ROBOAO_WORKERS": "2",
            "ROBOAO_SENSOR_INTERVAL_S": "5",
            "ROBOAO_SETTLE_S": "3",
            "ROBOAO_DAGSTER_PORT": str(free_port()),
            "ROBOAO_DASHBOARD_PORT": str(free_port()),
            "ROBOAO_METRICS_PORT": "0",
            **settings,
        }

    def take_in(self, night: Path) -> None:
        """Copy the files of a raw night."""
        for path in sorted(night.glob("*.fits.bz2")):
            shutil.copy2(path, self.raw / path.name)

    def start(self) -> None:
        self.process = self.begin("serve", log=self.log)

    def begin(self, *words: str, log: Path) -> subprocess.Popen:
        """Start a command, in a process group of its own, whose words are added to `log`."""
        with log.open("a") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "roboao_assets.cli", *words],
                env=self.environment,
                cwd=self.folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Ids of every process of this archive: those with its DAGSTER_HOME."""
        own = f"DAGSTER_HOME={self.home}\0".encode()
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                if own in (process / "environ").read_bytes() + b"\0":
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def kill_all(self) -> None:
        """Everything of it at once, as a power cut does."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """Everything of it at once, as a power cut does; and wait for its end."""
        assert self.process is not None
        self.kill_all()
        self.process.wait(30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.kill()

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """Run a command to its end; its words, of both kinds, are in `stdout`."""
        return subprocess.run(
            [sys.executable, "-m", "roboao_assets.cli", *words],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def roboao(self, *words: str) -> str:
        return self.run(*words).stdout

    def document(self, observation: str) -> dict:
        with open_catalogue(self.url, read_only=True) as catalogue:
            return catalogue.observation(observation) or {}

    def status(self, observation: str, name: str = "bright_star") -> dict:
        return product(self.document(observation), name).get("status") or {}

    def instance(self) -> dg.DagsterInstance:
        # As the archive does: whoever is the first makes the storage.
        with pytest.MonkeyPatch.context() as here:
            here.setenv("DAGSTER_HOME", str(self.home))
            home = prepare_dagster_home(Settings(archive_root=self.archive))
            prepare_storage(home)
        return dg.DagsterInstance.from_config(str(home))

    def unfinished_runs(self) -> list[dg.DagsterRun]:
        with self.instance() as instance:
            return [run for run in instance.get_runs(limit=200) if not run.is_finished]

    def night_is_finished(self, observations: int, done: int) -> bool:
        """Whether all was tried, `done` have a stack, nothing is asked for and nothing runs."""
        with open_catalogue(self.url, read_only=True) as catalogue:
            documents = catalogue.find_observations(ObservationQuery(nights=(NIGHT,)))
            stacked = [product(d, "bright_star").get("status", {}).get("done") for d in documents]
            report = (catalogue.night(NIGHT) or {}).get("report") or {}
            return (
                len([d for d in documents if d.get("pipelined")]) == observations
                and sum(map(bool, stacked)) >= done
                and not catalogue.requests.all()
                and report.get("done") is True
                and not self.unfinished_runs()
            )

    def wait(self, condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} took longer than {limit_s} s: {self.log.read_text()[-5000:]}")
            time.sleep(1)


def images(archive: Path) -> dict[str, bytes]:
    """Every image of the night, by its name in the tree."""
    night = archive / NIGHT
    return {str(p.relative_to(night)): p.read_bytes() for p in sorted(night.rglob("*.fits"))}
