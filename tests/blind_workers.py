"""A Dask scheduler, and workers that see neither raw roots nor archive: those are covered there.

Each worker is started in a mount namespace of its own, in which an empty read-only file system
lies over the folders. Where namespaces are refused the tests are skipped with the reason; where
`CI` is set, and this is root, they fail.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import Client

LIMIT_S = 180
_WAYS = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


@dataclass(frozen=True)
class BlindCluster:
    """A scheduler's address, a client, the worker processes, and where those keep files."""

    address: str
    client: Client
    workers: list[subprocess.Popen]
    scratch: Path
    log: Path


def way_into_a_namespace() -> list[str]:
    """The command that starts another in a mount namespace of its own."""
    said = ""
    for way in _WAYS:
        try:
            trial = ["mount", "-t", "tmpfs", "none", "/mnt"]
            done = subprocess.run([*way, *trial], capture_output=True, text=True, check=False)
        except OSError as error:
            said = str(error)
            continue
        if done.returncode == 0:
            return way
        said = done.stderr.strip()
    message = f"workers cannot be kept from the file system: no mount namespace here ({said})"
    if os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(message)
    pytest.skip(message)


@contextlib.contextmanager
def blind_cluster(
    folder: Path,
    hidden: Sequence[Path],
    *,
    workers: int = 1,
    scratch_mb: int = 0,
    environment: dict[str, str] | None = None,
) -> Iterator[BlindCluster]:
    """Yield a cluster whose workers see nothing in the folders `hidden`, which must be there.

    `scratch_mb`: size of the disk that their scratch folder is on, in each worker's namespace.
    """
    way = way_into_a_namespace()
    scratch = folder / "worker"
    scratch.mkdir(parents=True)
    log = folder / "cluster.log"
    file = folder / "scheduler.json"
    covers = [f"mount -t tmpfs -o ro,size=4k none {shlex.quote(str(path))}" for path in hidden]
    if scratch_mb:
        covers.append(f"mount -t tmpfs -o size={scratch_mb}m none {shlex.quote(str(scratch))}")
    dask = f"{shlex.quote(sys.executable)} -m distributed.cli.dask_"
    ends = f"--no-dashboard --scheduler-file {shlex.quote(str(file))}"
    begin = (
        f"exec {dask}worker --nthreads 1 --no-nanny --local-directory "
        f"{shlex.quote(str(scratch / 'dask'))} {ends}"
    )
    options = {
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})},
        "cwd": folder,
        "start_new_session": True,
    }
    started: list[subprocess.Popen] = []
    with log.open("w") as output:
        options |= {"stdout": output, "stderr": subprocess.STDOUT}
        try:
            command = f"exec {dask}scheduler --host 127.0.0.1 --port 0 {ends}"
            started.append(subprocess.Popen(["sh", "-c", command], **options))
            for _ in range(workers):
                command = " && ".join([*covers, begin])
                started.append(subprocess.Popen([*way, "sh", "-c", command], **options))
            deadline = time.monotonic() + LIMIT_S
            while not file.exists():
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.1)
            with Client(scheduler_file=str(file), set_as_default=False, timeout=LIMIT_S) as client:
                client.wait_for_workers(workers, timeout=LIMIT_S)
                address = client.scheduler.address
                yield BlindCluster(address, client, started[1:], scratch, log)
        finally:
            for process in reversed(started):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
            for process in started:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
