"""The dashboard as its readers have it: a server process and a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from plausible import fill
from product_tree import write_tree
from visiting import add_user, let_in

from roboao_assets.storage.catalogue import open_catalogue

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 60.0


@pytest.fixture(scope="session")
def catalogue_url(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    url = f"sqlite:///{root}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        fill(catalogue)
    write_tree(root)
    add_user(url)
    return url


@pytest.fixture(scope="session")
def catalogue(catalogue_url):
    with open_catalogue(catalogue_url, read_only=True) as opened:
        yield opened


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start_server(catalogue_url, log, variables):
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ROBOAO_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboards.app", "--port", str(port)],
        env=environment
        | {"ROBOAO_CATALOGUE_URL": catalogue_url, "ROBOAO_ARCHIVE_ROOT": str(Path(log.name).parent)}
        # No test asks a service of the world.
        | {"ROBOAO_SURVEY__ENABLED": "false"}
        | variables,
        cwd=Path(__file__).parents[2],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return process, url
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    process.kill()
    process.wait()
    raise RuntimeError(f"the dashboard did not answer within {START_SECONDS} s")


@contextmanager
def _starting_servers(tmp_path_factory):
    """A function that starts a server on a catalogue and returns its address; they end with it."""
    running = []

    def start(url, **variables):
        log_path = tmp_path_factory.mktemp("server") / "log.txt"
        with log_path.open("wb") as log:
            try:
                process, address = _start_server(url, log, variables)
            except RuntimeError as error:
                pytest.fail(f"{error}; it wrote:\n{log_path.read_text()}")
        running.append(process)
        return address

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def start_server(tmp_path_factory):
    with _starting_servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory, catalogue_url):
    root = Path(urlsplit(catalogue_url).path).parent
    with _starting_servers(tmp_path_factory) as start:
        yield start(catalogue_url, ROBOAO_ARCHIVE_ROOT=str(root))


# Not for the session: Playwright's event loop runs as long as it is open, and the loops
# of other tests, distributed's among them, could not end.
@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        message = "no chromium on this machine: the pages were NOT tested in a browser"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path, headless=True, args=list(CHROMIUM_FLAGS)
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser, server):
    """A page of an administrator, 1280 px, that remembers its console's errors and requests."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    let_in(context, server)
    page = context.new_page()
    page.complaints, page.asked = [], []
    page.on(
        "console",
        lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("websocket", lambda socket: page.asked.append(socket.url))
    page.on("dialog", lambda dialog: (page.complaints.append("dialog"), dialog.dismiss()))
    yield page
    context.close()
