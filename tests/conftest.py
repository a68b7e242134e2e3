"""Fixtures that several rooms' tests share; each comes from the plugin module named here."""

import os
from pathlib import Path

import pytest

pytest_plugins = (
    "mongodb_server",
    "catalogue_homes",
    "small_night",
    "dask_processes",
    "fuzzing",
)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the observed data; the test skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "real"
    folder = Path(os.environ.get("ROBOAO_TEST_REAL_DATA", default))
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip(f"no observed data in {folder} (set ROBOAO_TEST_REAL_DATA to their folder)")
    return folder
