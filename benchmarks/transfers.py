"""A raw file sent to a worker without mounts, and one taken from it, against copying the file."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from distributed import Client, get_worker

from benchmarks.rows import Options, Row, interleave, timed
from roboao_assets.orchestration.file_transfer import served_files
from roboao_assets.orchestration.observation_task import ObservationTask, TaskRules
from roboao_assets.orchestration.worker_files import DaskCarrier
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.mirror import RemoteFile
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
OBSERVATION = "4_HIP76952_VIC_Si_o_20170607_044419.365439"
# Of an exposure of 90 s.
FILE_BYTES, QUICK_BYTES = 530_000_000, 20_000_000
_START_S = 60


def measure(options: Options) -> Iterator[Row]:
    """Yield MB/s of both ways over a scheduler on the loopback, and how much slower than a copy."""
    size = QUICK_BYTES if options.quick else FILE_BYTES
    raw = _raw_file(options.scratch / "transfers", size)
    settings = Settings(raw_roots=(raw.parents[1],), archive_root=raw.parents[2] / "archive")
    task = ObservationTask(night=NIGHT, observation=OBSERVATION, stages=())
    rules = TaskRules(
        run_id="benchmark",
        owner="benchmark",
        settings_json=settings.model_dump_json(),
        force=False,
        time_limit_s=settings.stage_timeout_s,
        send_files=True,
    )
    with _cluster(options.scratch) as client, served_files(client, rules, settings, [task]):

        def run(way: str) -> float:
            done = client.submit(_carry, way, rules, str(raw), pure=False)
            return float(done.result())

        run("fetch")  # the worker's imports
        ways = {way: partial(run, way) for way in ("fetch", "push")}
        pairs = interleave(partial(_copy, raw), ways, options.repeats)
    for way, words in (("fetch", "sent to a worker"), ("push", "taken from it")):
        found = pairs[way]
        yield Row(
            name=f"a raw file {words}",
            values=tuple(size / p.seconds / 1e6 for p in found),
            unit="MB/s",
            note=f"{size / 1e6:.0f} MB, scheduler and worker in processes of their own, loopback",
        )
        yield Row(name=f"  {words} / copied", values=tuple(p.ratio for p in found))
    copies = [size / p.baseline / 1e6 for found in pairs.values() for p in found]
    yield Row(name="the file copied, whole", values=tuple(copies), unit="MB/s")


def _raw_file(folder: Path, size: int) -> Path:
    path = folder / "raw" / NIGHT / f"{OBSERVATION}.fits.bz2"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for begin in range(0, size, 1 << 20):
            file.write(os.urandom(min(1 << 20, size - begin)))
    return path


def _copy(path: Path) -> float:
    target = path.parents[2] / "copied"
    seconds = timed(partial(_copy_whole, path, target))
    target.unlink()
    return seconds


def _copy_whole(path: Path, target: Path) -> None:
    with write_whole(target) as partial_path:
        shutil.copyfile(path, partial_path)


def _carry(way: str, rules: TaskRules, raw: str) -> float:
    """Seconds that a worker takes to fetch the file, or to have it taken."""
    worker = get_worker()
    carrier = DaskCarrier(worker=worker, topic=rules.files_topic, observation=OBSERVATION)
    source, fetched = Path(raw), Path(worker.local_directory) / "fetched"
    if way == "push":
        seconds = timed(
            lambda: carrier.push(source, f"archive/{NIGHT}/{OBSERVATION}/bright_star/100p.fits")
        )
    else:
        status = source.stat()
        file = RemoteFile(
            name=f"raw/0/{NIGHT}/{source.name}",
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
        seconds = timed(lambda: carrier.fetch(file, fetched))
        fetched.unlink()
    return seconds


@contextmanager
def _cluster(folder: Path) -> Iterator[Client]:
    file = folder / "scheduler.json"
    commands = (
        ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"],
        ["distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny"],
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *command, "--no-dashboard", "--scheduler-file", str(file)],
            env=environment,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        deadline = time.monotonic() + _START_S
        while not file.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no Dask scheduler within {_START_S} s")
            time.sleep(0.1)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=_START_S)
            yield client
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(_START_S)
