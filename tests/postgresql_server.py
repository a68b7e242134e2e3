"""A PostgreSQL server of the tests: Debian's, on loopback, in a folder that goes with it."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

USER, PASSWORD, DATABASE = "dagster", "of the tests: 'no' one's", "dagster"
START_LIMIT_S = 60


def programs() -> Path | None:
    """Return the folder of initdb and postgres, None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).parent if on_path else None


def _as_nobodys_root() -> list[str]:
    """PostgreSQL refuses to run as root: return what runs it as another user."""
    if os.getuid() != 0:
        return []
    return ["runuser", "-u", pwd.getpwnam("postgres").pw_name, "--"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def postgresql():
    """Yield the port of a server with an empty database; it ends with the block."""
    bin_folder = programs()
    if bin_folder is None:
        message = "no PostgreSQL on this machine: Dagster's storage in it was NOT tested"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    prefix = _as_nobodys_root()
    folder = Path(tempfile.mkdtemp(prefix="roboao-postgresql-"))
    process = None
    try:
        (folder / "password").write_text(PASSWORD)
        if prefix:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        data, port = folder / "data", _free_port()
        made = [f"--username={USER}", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256"]
        initdb = [*prefix, bin_folder / "initdb", "-D", data, "--encoding=UTF8", *made, "-N"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [bin_folder / "postgres", "-D", data, *options],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                user="postgres" if prefix else None,
                group="postgres" if prefix else None,
                extra_groups=[] if prefix else None,
            )
        _make_database(port)
        yield port
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder)


def _make_database(port: int) -> None:
    import psycopg2

    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres"
            )
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            continue
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {DATABASE}")
        connection.close()
        return
