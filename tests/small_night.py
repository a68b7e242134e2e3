"""A small raw night, simulated once a session, and the environment of a process."""

import os
from pathlib import Path

import pytest

from roboao_assets.storage.raw_night import read_night
from simulator import simulate_night

NIGHT = "20170607"


@pytest.fixture(scope="session")
def small_night(tmp_path_factory) -> Path:
    """Raw root with the night 20170607: two short quarter-frame observations. Leave it as it is."""
    root = tmp_path_factory.mktemp("simulated")
    simulate_night(root, NIGHT, targets=2, frames=60, size=256, seed=3, dark_frames=10)
    return root


@pytest.fixture(scope="session")
def small_observations(small_night) -> tuple[str, ...]:
    """Ids of the observations of the small night, in time order."""
    return tuple(exposure.id for exposure in read_night((small_night,), NIGHT).observations)


@pytest.fixture
def dagster_environment(tmp_path) -> dict[str, str]:
    """Environment of a process that works in an archive and DAGSTER_HOME of its own."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    (tmp_path / "raw").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
    return kept | {
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "ROBOAO_RAW_ROOTS": str(tmp_path / "raw"),
        "ROBOAO_ARCHIVE_ROOT": str(tmp_path / "archive"),
        "ROBOAO_WORKERS": "1",
    }
