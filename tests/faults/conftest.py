"""The ledger of the faults, and the archive that they are measured by."""

import time
from pathlib import Path

import pytest
from archive_deployment import NIGHT, Deployment
from ledger import Ledger
from spoilt_site import Site

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


@pytest.fixture(scope="session")
def good(small_night, small_observations) -> bytes:
    """The bytes of a good observation of the small night that is one file, in the filter Si."""
    chosen = next(
        name
        for name in small_observations
        if "_Si_" in name and not (small_night / NIGHT / f"{name}_0.fits.bz2").exists()
    )
    return (small_night / NIGHT / f"{chosen}.fits.bz2").read_bytes()


@pytest.fixture(scope="session")
def unspoilt(small_night, small_observations, tmp_path_factory) -> dict[str, dict[str, str]]:
    """Products of the small night without any fault, by observation: name and SHA-256."""
    site = Site(tmp_path_factory.mktemp("unspoilt") / "site")
    site.link(small_night)
    ended = site.night()
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert not site.told()
    return {name: site.products(name) for name in small_observations}
