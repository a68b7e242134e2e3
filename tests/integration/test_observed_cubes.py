"""Observed cubes through the main job: alpha Ophiuchi and two reference stars, PHARO at Palomar."""

import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.paths import ArchivePaths

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


def test_companion_of_alpha_ophiuchi_is_the_most_significant_candidate(archive):
    """Interferometry has it at 124.2 mas, PA 86.4 deg, 25.1 times fainter."""
    root, ids = archive
    path = ArchivePaths(root).pca(NIGHT, ids["alpha_Oph"], "bright_star", "candidates.ecsv")
    first = Table.read(path, format="ascii.ecsv")[0]
    assert 1e3 * first["sep_arcsec"] == pytest.approx(124.2, abs=12)
    assert first["pa_deg"] == pytest.approx(86.4, abs=8)
    assert 10 ** (0.4 * first["dmag"]) == pytest.approx(25.1, rel=0.5)


def test_better_calibrator_is_chosen_first(archive):
    root, ids = archive
    header = fits.getheader(pca(root, ids["alpha_Oph"], "pca.fits"))
    assert "eps_Her" in header["REF1"]
    # In all of the frame, where the core is, the two differ by a third of that.
    if header["NREF"] > 1:
        assert header["REFCOR1"] - header["REFCOR2"] > 0.015
    assert header["TUNEGAIN"] > 0.3


def test_single_stars_have_no_candidate(archive):
    root, ids = archive
    for name in ("calibrator_1", "eps_Her"):
        path = pca(root, ids[name], "candidates.ecsv")
        assert len(Table.read(path, format="ascii.ecsv")) == 0


def test_ghost_is_gone(archive):
    """2.2 % of the peak, 19.85 px from each of the stars; less than 5 sigma is left."""
    root, ids = archive
    stack, header = read_image(ArchivePaths(root).stack(NIGHT, ids["alpha_Oph"], 100))
    y, x = np.indices(stack.shape)
    radius = np.hypot(x - header["LOCK_X"], y - header["LOCK_Y"])
    ring = abs(radius - 19.85) < 2
    ghost_y, ghost_x = np.unravel_index(np.where(ring, stack, -np.inf).argmax(), stack.shape)
    snr, _ = read_image(pca(root, ids["alpha_Oph"], "snr.fits"))
    middle = snr.shape[0] // 2
    dx, dy = (round(g - header[k]) for g, k in ((ghost_x, "LOCK_X"), (ghost_y, "LOCK_Y")))
    near = snr[middle + dy - 2 : middle + dy + 3, middle + dx - 2 : middle + dx + 3]
    assert np.isfinite(near).all()
    assert abs(near).max() < 5


def pca(root, observation, name):
    return ArchivePaths(root).pca(NIGHT, observation, "bright_star", name)
