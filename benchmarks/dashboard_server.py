"""The dashboard as its readers have it, for the parts that measure it: a server process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.scale_pages import free_port

_START_LIMIT_S = 120


@contextmanager
def dashboard(catalogue_url: str, folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Yield a dashboard's process and address; RuntimeError if it does not answer."""
    port = free_port()
    variables = {
        "ROBOAO_CATALOGUE_URL": catalogue_url,
        "ROBOAO_ARCHIVE_ROOT": str(folder),
        # The network is not what is measured.
        "ROBOAO_SURVEY__ENABLED": "false",
    }
    log = folder / "dashboard.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboards.app", "--port", str(port)],
            env={k: v for k, v in os.environ.items() if not k.startswith("ROBOAO_")} | variables,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + _START_LIMIT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the dashboard did not answer:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
