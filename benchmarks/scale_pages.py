"""Dagster's own pages of a large archive: real servers, a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rows import Goal, Row
from benchmarks.scale_archive import ScaleArchive
from roboao_assets.orchestration.reloading import ask_for_reload

PAGES_GOAL = Goal(limit=3)
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_START_LIMIT_S, _STOP_LIMIT_S, _PAGE_LIMIT_MS = 300, 60, 120_000
_LOADS = 3
_LOCATION = "roboao_assets.definitions"
# What the servers are known by in their command lines.
_SERVERS = {
    "webserver": "dagster_webserver",
    "daemon": "dagster._daemon",
    "code server": "dagster api grpc",
}


@dataclass
class Servers:
    """A deployment that answers."""

    process: "subprocess.Popen[bytes]"
    port: int
    start_s: float
    log: Path = field(default=Path(os.devnull))

    @property
    def address(self) -> str:
        """Of the pages."""
        return f"http://127.0.0.1:{self.port}"

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of each server."""
        found: dict[str, float] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(folder.name)) != self.process.pid:
                    continue
                line = (folder / "cmdline").read_text().replace("\0", " ")
                pages = int((folder / "statm").read_text().split()[1])
            except OSError:
                continue
            resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            for name, sign in _SERVERS.items():
                if sign in line:
                    # Of a supervisor and its child, the one that holds the data.
                    found[name] = max(found.get(name, 0.0), resident)
        return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(archive: ScaleArchive) -> Iterator[Servers]:
    """Yield the webserver, the daemon with all sensors, and the code server of an archive."""
    port, log = free_port(), archive.folder / "servers.log"
    command = ["-m", "dagster", "dev", "-m", _LOCATION, "-h", "127.0.0.1", "-p", str(port)]
    environment = archive.environment() | {"ROBOAO_DAGSTER_PORT": str(port)}
    with log.open("wb") as file:
        start = time.perf_counter()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            cwd=archive.home,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        try:
            _wait(f"http://127.0.0.1:{port}/server_info", process, log)
            yield Servers(process, port, time.perf_counter() - start, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"dagster dev did not answer at {url}:\n{log.read_text()[-2000:]}")


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a browser (RuntimeError if there is none)."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise RuntimeError("there is no chromium on this machine to load the pages with")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield opened
        opened.close()


def page_rows(archive: ScaleArchive) -> Iterator[Row]:
    """Yield what the pages, the reload and the memory of the servers are."""
    size = archive.size
    pages = {
        "partitions of bright_star_stack": ("bright_star_stack", size.observations),
        "partitions of night_report": ("night_report", size.nights),
    }
    with served(archive) as servers:
        with browser() as opened:
            loads = {
                name: _load(opened, f"{servers.address}/assets/{asset}?view=partitions", partitions)
                for name, (asset, partitions) in pages.items()
            }
            asset_page = _load(opened, f"{servers.address}/assets/bright_star_stack", None)
        yield Row(
            name="slowest page of partitions",
            values=tuple(map(max, zip(*loads.values(), strict=True))),
            unit="s",
            key="ui_partitions_s",
            goal=PAGES_GOAL,
            note=f"in a browser, until the counts are there, after one warm-up; {size}",
        )
        for name, seconds in loads.items():
            yield Row(name=f"  {name}", values=seconds, unit="s")
        yield Row(name="  asset page of bright_star_stack", values=asset_page, unit="s")
        yield Row(name="  start of the servers", values=(servers.start_s,), unit="s")
        for name, resident in servers.memory_mib().items():
            yield Row(name=f"  memory of the {name}", values=(resident,), unit="MiB")
        yield _reload_row(servers.port)


def _load(opened: Any, url: str, partitions: int | None) -> tuple[float, ...]:
    """Seconds until a page shows what it is for, in a fresh window each; a first load is left out.

    With a number of partitions that is their count by status; else the asset's own story.
    """
    seconds = []
    for _ in range(1 + _LOADS):
        context = opened.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        start = time.perf_counter()
        page.goto(url, wait_until="commit")
        told = "Latest materialization" if partitions is None else f"Materialized ({partitions})"
        page.get_by_text(told).first.wait_for(timeout=_PAGE_LIMIT_MS)
        if partitions is None:
            page.get_by_text("fwhm_arcsec").first.wait_for(timeout=_PAGE_LIMIT_MS)
        seconds.append(time.perf_counter() - start)
        context.close()
    return tuple(seconds[1:])


def _reload_row(port: int) -> Row:
    start = time.perf_counter()
    answer = ask_for_reload(_LOCATION, port, host="127.0.0.1")
    seconds = time.perf_counter() - start
    return Row(
        name="  reload of the code location",
        values=(seconds,) if answer.done else (),
        unit="s",
        note=answer.reason,
    )
