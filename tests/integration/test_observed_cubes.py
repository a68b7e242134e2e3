"""Observed cubes through the main job: alpha Ophiuchi and two reference stars, PHARO at Palomar."""

import os
import subprocess
import sys

import numpy as np
import pytest

from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import load_instruments

NIGHT = "20120701"
STARS = {"alpha_Oph": "tgt", "calibrator_1": "ca1", "eps_Her": "ca2"}

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


def run(environment, *words, status=0):
    """Run `roboao` with `words` as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "roboao_assets.cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(real_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("pharo")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER"))}
    environment |= {
        "ROBOAO_RAW_ROOTS": str(root / "raw"),
        "ROBOAO_ARCHIVE_ROOT": str(root / "archive"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        # The other calibrator is a poor match: the best correlated reference alone.
        "ROBOAO_HIGH_CONTRAST__REFERENCES": "1",
    }
    for minute, (name, cube) in enumerate(STARS.items()):
        path = real_data / "pharo" / f"pharo_{cube}_cube.fits"
        run(
            environment,
            *("import-cube", str(path), "--profile", "PHARO", "--object", name),
            *("--filter", "Ks", "--utc", f"2012-07-01T05:{minute:02d}:00"),
        )
    run(environment, "night", NIGHT)
    ids = {
        name: f"1_{name}_PHARO_Ks_o_{NIGHT}_05{minute:02d}00.000000"
        for minute, name in enumerate(STARS)
    }
    run(environment, "psf-library", "add", ids["calibrator_1"], ids["eps_Her"])
    table = run(environment, "night", NIGHT)
    assert "alpha_Oph" in table
    return root / "archive", ids


def test_stacks_use_all_frames(archive):
    root, ids = archive
    with open_catalogue(f"sqlite:///{root}/catalogue.sqlite", read_only=True) as catalogue:
        for name, frames in zip(STARS, (100, 99, 100), strict=True):
            stack = catalogue.observation(ids[name])["pipelined"]["bright_star"]
            assert stack["classified_as"] == "high_flux"
            assert stack["frames"] == frames


def test_strehl_ratios_are_those_of_extreme_adaptive_optics(archive):
    root, ids = archive
    with open_catalogue(f"sqlite:///{root}/catalogue.sqlite", read_only=True) as catalogue:
        for name in STARS:
            strehl = catalogue.observation(ids[name])["pipelined"]["bright_star"]["strehl"]
            assert 50 < strehl["ratio_percent"] < 100
            assert strehl["fwhm_arcsec"] == pytest.approx(0.089, rel=0.1)


def test_companion_of_alpha_ophiuchi_stands_in_the_residual(archive):
    root, ids = archive
    profile = load_instruments()["PHARO"]
    residual, header = read_image(
        ArchivePaths(root).pca(NIGHT, ids["alpha_Oph"], "bright_star", "pca.fits")
    )
    middle = residual.shape[0] // 2
    y, x = np.indices(residual.shape) - middle
    scale = profile.drizzled_scale_arcsec
    separation = np.hypot(x, y) * scale
    # Outside the core, where the subtraction leaves what it could not match.
    ring = (separation > 0.09) & (separation < 0.35)
    best = np.flatnonzero(ring)[residual[ring].argmax()]
    dy, dx = np.unravel_index(best, residual.shape)
    found_arcsec = separation.flat[best]
    pa_deg = profile.position_angle_deg(dx - middle, dy - middle)
    assert header["NREF"] == 1
    assert "eps_Her" in header["REF1"]
    assert found_arcsec == pytest.approx(0.1242, abs=0.020)
    assert pa_deg == pytest.approx(86.4, abs=10)
