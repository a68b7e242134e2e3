"""The ledger of the faults, and the archive that they are measured by."""

import time
from pathlib import Path

import pytest
from archive_deployment import NIGHT, Deployment
from ledger import Ledger

BUILD = Path(__file__).parents[2] / "build"


@pytest.fixture(scope="session")
def ledger():
    """Where each test enters the fault that it tried."""
    entered = Ledger()
    yield entered
    entered.write(BUILD / "faults.json")
    print("\n" + entered.table(), flush=True)


@pytest.fixture(scope="session")
def undisturbed_run(small_night, tmp_path_factory) -> tuple[Path, float]:
    """The archive of the small night, made in one go, and how long that took (s)."""
    deployment = Deployment(tmp_path_factory.mktemp("undisturbed"))
    deployment.take_in(small_night / NIGHT)
    start = time.monotonic()
    made = deployment.run("night", NIGHT)
    assert made.returncode == 0, made.stdout
    return deployment.archive, time.monotonic() - start


@pytest.fixture(scope="session")
def undisturbed(undisturbed_run) -> Path:
    """The archive of the small night, made in one go."""
    return undisturbed_run[0]
