import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

PATCH = Path(__file__).parents[3] / "docs" / "dagster-dask-executor.patch"


@pytest.mark.skipif(shutil.which("patch") is None, reason="no program `patch`: NOT tried")
def test_the_patch_is_one_of_the_installed_dagster_dask():
    """What it mends is tried in tests/faults."""
    site = Path(find_spec("dagster_dask").origin).parents[1]
    tried = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "--dry-run", "-i", str(PATCH)],
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stdout
    assert "checking file dagster_dask/executor.py" in tried.stdout
    assert "offset" not in tried.stdout
