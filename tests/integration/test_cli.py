"""`roboao` as a user calls it: its words, its exit status, its refusals."""

import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits


@pytest.fixture
def roboao(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER"))}
    environment |= {
        "ROBOAO_RAW_ROOTS": str(tmp_path / "raw"),
        "ROBOAO_ARCHIVE_ROOT": str(tmp_path / "archive"),
    }

    def run(*words, status=0, **variables):
        done = subprocess.run(
            [sys.executable, "-m", "roboao_assets.cli", *words],
            env=environment | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_unknown_setting_is_refused_by_its_name(roboao):
    said = roboao("status", status=2, ROBOAO_PIXFARC="3")
    assert "ROBOAO_PIXFARC is no setting" in said
    assert "Traceback" not in said


def test_bad_value_is_refused_by_its_name(roboao):
    assert "workers" in roboao("status", status=2, ROBOAO_WORKERS="none")


def test_night_that_is_no_date(roboao):
    assert "YYYYMMDD" in roboao("night", "2017-06-07", status=2)


def test_night_without_raw_data(roboao, tmp_path):
    said = roboao("night", "20170607", status=2)
    assert "20170607" in said
    assert str(tmp_path / "raw") in said
    assert "Traceback" not in said


def test_import_cube_and_status(roboao, tmp_path):
    fits.PrimaryHDU(np.ones((4, 32, 32), np.float32)).writeto(tmp_path / "cube.fits")
    words = ("import-cube", "cube.fits", "--profile", "PHARO", "--object", "star")
    said = roboao(*words, "--filter", "Ks", "--utc", "2012-07-01T05:00:00")
    assert "1_star_PHARO_Ks_o_20120701_050000.000000.fits.bz2" in said
    assert "no instrument profile" in roboao(
        *("import-cube", "cube.fits", "--profile", "HST", "--object", "star"),
        *("--filter", "Ks", "--utc", "2012-07-01T05:00:00"),
        status=2,
    )


def test_unknown_observation_for_the_library(roboao):
    said = roboao("psf-library", "add", "nothing", status=1)
    assert "the catalogue has no observation nothing" in said
