"""A fortnight in one go: daemon, sensors, Dask and pages grow neither in memory nor in files.

Small nights arrive one after the other, each when the one before has its report. Run by
`make soak`; writes build/soak.json.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from deployment import free_port, wait_until
from processes import use_by_role

from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue, product
from roboao_assets.storage.raw_night import read_night
from simulator import simulate_night

FIRST, NIGHTS = date(2017, 6, 1), int(os.environ.get("ROBOAO_SOAK_NIGHTS", "14"))
SIMULATED = "20170607"
# Imports, caches and pools fill in the first nights.
WARM_UP = 5
NIGHT_LIMIT_S, STOP_LIMIT_S = 900, 90
# What a process may grow by in a night, over the nights after the first ones. Metadata of the new
# partitions, a few kB each, stay in the servers.
MOST_MIB_A_NIGHT = 3.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def telescope(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("telescope")
    simulate_night(root, SIMULATED, targets=3, frames=40, size=256, seed=11, dark_frames=10)
    return root / SIMULATED


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    for name in ("dagster_home", "raw"):
        (tmp_path / name).mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
    return kept | {
        "DAGSTER_HOME": str(tmp_path / "dagster_home"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "ROBOAO_RAW_ROOTS": str(tmp_path / "raw"),
        "ROBOAO_ARCHIVE_ROOT": str(tmp_path / "archive"),
        "ROBOAO_SENSOR_INTERVAL_S": "5",
        "ROBOAO_SETTLE_S": "1",
        "ROBOAO_ARCHIVING_START_DATE": f"{FIRST:%Y-%m-%d}",
        "ROBOAO_DASK_SCHEDULER": f"tcp://127.0.0.1:{free_port()}",
        "ROBOAO_DAGSTER_PORT": str(free_port()),
        "ROBOAO_DASHBOARD_PORT": str(free_port()),
        "ROBOAO_METRICS_PORT": str(free_port()),
        # Of the first nights the logs are forgotten while the last ones are reduced.
        "ROBOAO_KEEP_RUN_LOGS_DAYS": "0.004",
    }


@contextmanager
def running(command, environment, log: Path):
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            cwd=log.parent,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def a_whole_archive(environment, folder: Path):
    """A scheduler, two workers, and all that `roboao serve` starts."""
    address = environment["ROBOAO_DASK_SCHEDULER"]
    port = address.rpartition(":")[2]
    quiet = ["--no-dashboard"]
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, *quiet]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", *quiet]
    with ExitStack() as stack:
        stack.enter_context(running(scheduler, environment, folder / "scheduler.log"))
        for number in (1, 2):
            scratch = folder / f"worker{number}"
            scratch.mkdir()
            command = [*worker, "--local-directory", str(scratch)]
            stack.enter_context(running(command, environment, folder / f"worker{number}.log"))
        serve = ["roboao_assets.cli", "serve"]
        yield stack.enter_context(running(serve, environment, folder / "serve.log"))


def put(telescope: Path, night: str, raw_root: Path) -> int:
    """Let a night arrive whole; return how many observations it has."""
    arriving = raw_root.parent / f"arriving-{night}"
    arriving.mkdir()
    for path in telescope.glob("*.fits.bz2"):
        shutil.copyfile(path, arriving / path.name.replace(SIMULATED, night))
    arriving.rename(raw_root / night)
    return len(read_night((raw_root,), night).observations)


def is_reported(url: str, night: str, observations: int) -> bool:
    if not Path(url.removeprefix("sqlite:///")).exists():
        return False
    with open_catalogue(url, read_only=True) as catalogue:
        report = (catalogue.night(night) or {}).get("report") or {}
        documents = catalogue.find_observations(ObservationQuery(nights=(night,)))
        stacks = [product(d, "bright_star").get("status", {}).get("done") for d in documents]
        faint = [product(d, "faint_star").get("status", {}).get("done") for d in documents]
    made = sum(bool(a or b) for a, b in zip(stacks, faint, strict=True))
    return report.get("done") is True and made == observations


def size_mib(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20


def growth(values: list[float]) -> float:
    """The median step a night of all pairs of nights: one outlier says nothing."""
    pairs = [(i, j) for i in range(len(values)) for j in range(i + 1, len(values))]
    return float(np.median([(values[j] - values[i]) / (j - i) for i, j in pairs]))


def test_a_fortnight_leaves_everything_as_large_as_it_was(telescope, environment, tmp_path):
    home, raw_root = Path(environment["DAGSTER_HOME"]), Path(environment["ROBOAO_RAW_ROOTS"])
    url = f"sqlite:///{tmp_path}/archive/catalogue.sqlite"
    nights = [f"{FIRST + timedelta(days=n):%Y%m%d}" for n in range(NIGHTS)]
    samples, spent, total = [], [], 0
    with a_whole_archive(environment, tmp_path) as serve:
        for night in nights:
            begun = time.monotonic()
            count = put(telescope, night, raw_root)
            total += count

            def done(night=night, count=count):
                assert serve.poll() is None, (tmp_path / "serve.log").read_text()[-5000:]
                return is_reported(url, night, count)

            wait_until(done, NIGHT_LIMIT_S, f"the night {night}", tmp_path / "serve.log")
            spent.append(time.monotonic() - begun)
            time.sleep(20)  # what follows the report ends, and sensors look again
            samples.append(use_by_role(home))
            print(night, f"{spent[-1]:.0f} s", samples[-1], flush=True)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
            runs = instance.get_run_records(ascending=True)
            events = [len(instance.all_logs(r.dagster_run.run_id)) for r in runs]
    later = samples[min(WARM_UP, len(samples) - 2) :]
    roles = sorted(set.intersection(*(set(sample) for sample in later)))
    grown = {
        role: {
            what: growth([getattr(sample[role], what) for sample in later])
            for what in ("memory_mib", "descriptors", "threads", "processes")
        }
        for role in roles
    }
    report = {
        "nights": NIGHTS,
        "observations": total,
        "night_s": [round(s, 1) for s in spent],
        "growth_a_night": grown,
        "last": {role: asdict(use) for role, use in samples[-1].items()},
        "dagster_mib": size_mib(home),
        "events_mib_an_observation": size_mib(home / "history") / total,
        "events_of_first_and_last_runs": [events[:5], events[-5:]],
    }
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "soak.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))
    assert failed == []
    assert {"webserver", "daemon", "code server", "dashboard", "scheduler", "worker"} <= set(roles)
    for role in roles:
        assert grown[role]["memory_mib"] < MOST_MIB_A_NIGHT, role
        for what in ("descriptors", "threads", "processes"):
            assert grown[role][what] < 1, (role, what)
    assert max(events[:3]) < min(events[-3:]), "what the first runs logged was forgotten"
