"""A MongoDB wire server for the tests: the one `ROBOAO_TEST_MONGODB` names, or FerretDB.

FerretDB 1.24.2 with its SQLite backend is built from `tests/ferretdb` with Go, once, into the
user's cache folder. Without either the tests that need a server are skipped with the reason;
where `CI` is set they fail.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import pytest
from pymongo import MongoClient

SOURCE = Path(__file__).parent / "ferretdb"
BUILD_LIMIT_S = 1200
START_LIMIT_S = 30
STOP_LIMIT_S = 10


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server that speaks MongoDB's wire protocol."""
    named = os.environ.get("ROBOAO_TEST_MONGODB")
    if named:
        yield named
        return
    program = built_ferretdb()
    folder = tmp_path_factory.mktemp("ferretdb")
    with _running(program, folder) as url:
        yield url


@pytest.fixture
def mongodb_url(mongodb_server: str) -> Iterator[str]:
    """URL of a database of the test's own, which is dropped after it."""
    name = f"roboao_test_{uuid.uuid4().hex[:12]}"
    yield with_database(mongodb_server, name)
    with MongoClient(mongodb_server, serverSelectionTimeoutMS=5000) as client:
        client.drop_database(name)


def with_database(server: str, name: str) -> str:
    """The server's URL, with the database `name`."""
    parts = urlsplit(server)
    query = parts.query
    if "@" in parts.netloc and "authsource" not in query.lower():
        # The database of the URL was also where its user is known.
        query = "&".join(filter(None, [query, f"authSource={parts.path.strip('/') or 'admin'}"]))
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", query, ""))


def _unavailable(reason: str) -> NoReturn:
    message = (
        f"NO MONGODB SERVER TO TEST WITH: {reason}. Install Go 1.24 or later, or name a server in "
        f"ROBOAO_TEST_MONGODB; without it the MongoDB home of the catalogue is NOT TESTED"
    )
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def built_ferretdb() -> Path:
    """Return the server's program, built if it is not in the cache yet."""
    digest = hashlib.sha256()
    for file in ("go.mod", "go.sum", "main.go"):
        digest.update((SOURCE / file).read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(home) / "roboao-archive"
    program = cache / f"ferretdb-{digest.hexdigest()[:16]}"
    if program.is_file():
        return program
    go = shutil.which("go")
    if go is None:
        _unavailable("there is no Go compiler on the PATH")
    cache.mkdir(parents=True, exist_ok=True)
    # One build at a time: it takes minutes and every core.
    with (cache / "ferretdb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            _build(go, program)
    return program


def _build(go: str, program: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=program.parent) as folder:
        partial = Path(folder) / "ferretdb"
        command = [go, "build", "-buildvcs=false", "-mod=readonly", "-trimpath", "-o", partial, "."]
        try:
            result = subprocess.run(
                command,
                cwd=SOURCE,
                capture_output=True,
                text=True,
                timeout=BUILD_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            _unavailable(f"building FerretDB took more than {BUILD_LIMIT_S} s")
        if result.returncode != 0:
            _unavailable(f"building FerretDB failed: {result.stderr.strip()[-800:]}")
        partial.replace(program)


@contextlib.contextmanager
def _running(program: Path, folder: Path) -> Iterator[str]:
    """Run the server on a free port of the loopback, and stop it whatever happens."""
    data = folder / "data"
    data.mkdir()
    output = folder / "output.txt"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [program, "-directory", data],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield url_printed(process, output)
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def url_printed(process: subprocess.Popen, output: Path) -> str:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in output.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("mongodb://") and line.endswith("\n"):
                return line.strip()
        time.sleep(0.05)
    _unavailable(f"FerretDB did not start: {output.read_text(errors='replace').strip()[-800:]}")
