"""Links in the raw folders that lead to files of others: their content comes out nowhere."""

import bz2
import logging
import os
import time

import pytest

from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.raw_scan import scan_raw_nights
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
CANARY = "c4nary-of-a-file-of-others"
OTHER = "VIC_Si_o_20170607_0"
KINDS = ("symlink", "hardlink", "relative")


@pytest.fixture
def secrets(tmp_path):
    """Files of others: a list of passwords, the same compressed, and what begins like FITS."""
    folder = tmp_path / "others"
    folder.mkdir()
    text = f"root:{CANARY}:0:0:root:/root:/bin/bash\n" * 40
    card = f"SIMPLE  =                    T / {CANARY}".ljust(80)
    fits = (card + "".join(f"{CANARY:80s}" for _ in range(35))).encode()
    (folder / "shadow").write_text(text)
    (folder / "shadow.bz2").write_bytes(bz2.compress(text.encode()))
    (folder / "begun.fits.bz2").write_bytes(bz2.compress(fits))
    (folder / "empty").touch()
    return sorted(folder.iterdir())


@pytest.fixture
def settings(tmp_path, secrets):
    night = tmp_path / "raw" / NIGHT
    night.mkdir(parents=True)
    for i, secret in enumerate(secrets):
        for j, kind in enumerate(KINDS):
            for name in (
                f"4_linked_{OTHER}5{i}{j}00.000000",
                f"seeing_{OTHER}6{i}{j}00.000000",
                f"dark_9_{i}{j}",
                f"flat_{i}{j}_Si_x",
            ):
                link(kind, secret, night / f"{name}.fits.bz2")
    (night / f"4_folder_{OTHER}70000.000000.fits.bz2").symlink_to(secrets[0].parent)
    (night / f"4_loop_{OTHER}71000.000000.fits.bz2").symlink_to("loop")
    (night / "loop").symlink_to(f"4_loop_{OTHER}71000.000000.fits.bz2")
    os.mkfifo(night / f"4_pipe_{OTHER}72000.000000.fits.bz2")
    (night / f"4_endless_{OTHER}73000.000000.fits.bz2").symlink_to("/dev/zero")
    (tmp_path / "raw" / "20170608").symlink_to(secrets[0].parent)
    return Settings(raw_roots=(tmp_path / "raw",), archive_root=tmp_path / "archive")


def link(kind, secret, path):
    if kind == "hardlink":
        path.hardlink_to(secret)
    elif kind == "symlink":
        path.symlink_to(secret)
    else:
        path.symlink_to(os.path.relpath(secret, path.parent))


def test_what_a_link_leads_to_comes_out_nowhere(settings, secrets, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    night = read_night(settings.raw_roots, NIGHT)
    names = {path.name.split("_")[1] for path, _ in night.unreadable}
    assert {"folder", "loop", "pipe", "endless"} <= names, "none of them is waited for"
    later_s = time.time() + 10
    scanned = scan_raw_nights(settings.raw_roots, settings.archiving_start_date, 0.0, later_s)
    # A link to itself hides none of the others from the sensor.
    assert len(scanned[NIGHT].observations) == len(secrets) * len(KINDS)
    told = [
        stage(settings, NIGHT)
        for stage in (
            stages.register_night,
            stages.make_master_darks,
            stages.make_master_flats,
            stages.make_bad_pixel_mask,
            stages.measure_night_seeing,
        )
    ]
    for exposure in night.observations:
        made = reduce_observation(settings.model_dump_json(), NIGHT, exposure.id)
        assert made[0].status == "failed", made[0]
        told += made
    told += [stages.report_night(settings, NIGHT)]
    assert CANARY not in repr(told)
    assert CANARY not in caplog.text
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        documents = catalogue.find_observations(ObservationQuery())
        assert CANARY not in repr([documents, catalogue.night(NIGHT)])
    left = [p for p in settings.archive_root.rglob("*") if p.is_file()]
    assert left
    for path in left:
        assert not path.is_symlink()
        assert CANARY.encode() not in path.read_bytes(), path
        assert path.stat().st_nlink == 1, "nothing of the raw folders is linked into the archive"
    assert not list(settings.archive_root.rglob("*.tar.bz2"))
    shadow = tmp_path / "others" / "shadow"
    assert shadow.read_text().startswith("root:"), "and nothing was written through a link"
