"""Darks of a night of which some are spoilt: the others are combined, and it is told."""

import bz2
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits

from roboao_assets.pipelines import calibration_files, registering
from roboao_assets.pipelines.calibration import make_master_darks, make_master_flats
from roboao_assets.pipelines.failures import files_left_alone
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.science.errors import CalibrationMissingError
from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
SHAPE = (64, 64)


def raw_file(level: float, shape=SHAPE, frames: int = 3) -> bytes:
    rng = np.random.default_rng(int(level))
    units = [
        (fits.ImageHDU if i else fits.PrimaryHDU)(rng.normal(level, 2, shape).astype(np.uint16))
        for i in range(frames)
    ]
    file = BytesIO()
    fits.HDUList(units).writeto(file)
    return bz2.compress(file.getvalue())


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "raw" / NIGHT
    found.mkdir(parents=True)
    for k in range(4):
        (found / f"dark_0_{k}.fits.bz2").write_bytes(raw_file(100 + k))
    for k in range(3):
        (found / f"flat_0_Si_{k}.fits.bz2").write_bytes(raw_file(5000 + k))
    (found / f"1_a_VIC_Si_o_{NIGHT}_080000.0.fits.bz2").write_bytes(raw_file(100))
    return found


@pytest.fixture
def ws(folder, tmp_path):
    settings = Settings(
        raw_roots=(folder.parent,),
        archive_root=tmp_path / "archive",
        calibration={"min_dark_files": 3, "min_flat_files": 3, "corner_px": 8},
    )
    with open_workspace(settings) as workspace:
        yield workspace


def frames_of(ws, name: str) -> int:
    return read_image(ws.paths.night(NIGHT) / "calib" / f"{name}.fits")[1]["NFRAMES"]


def left_alone(ws) -> dict[str, str]:
    return {one.name: one.reason for one in files_left_alone(ws.catalogue, NIGHT)}


SPOILT = {
    "truncated": (raw_file(107)[:-50], "truncated or damaged, copy it again"),
    "garbage": (b"no dark at all" * 99, "truncated or damaged, copy it again"),
    "other shape": (raw_file(107, (32, 32)), "frames of 32 x 32 px uint16, and most files"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_dark_is_left_out_and_told(ws, folder, kind):
    content, reason = SPOILT[kind]
    # It comes first: what is usual is what most files have.
    path = folder / "dark_0_.fits.bz2"
    path.write_bytes(content)
    outcome = make_master_darks(ws, NIGHT)
    assert outcome.status == "done"
    assert frames_of(ws, "dark_0") == 12
    told = left_alone(ws)
    assert list(told) == [path.name]
    assert reason in told[path.name]
    assert outcome.metadata["left_out"] == f"{path.name}: {told[path.name]}"
    path.unlink()
    # Without it the night is the same.
    assert make_master_darks(ws, NIGHT).status == "unchanged"
    assert left_alone(ws) == {}
    path.write_bytes(raw_file(107))
    assert make_master_darks(ws, NIGHT).status == "done"
    assert frames_of(ws, "dark_0") == 15


def test_what_is_known_to_be_spoilt_is_not_read_again(ws, folder, monkeypatch):
    path = folder / "dark_0_.fits.bz2"
    path.write_bytes(SPOILT["truncated"][0])
    make_master_darks(ws, NIGHT)
    told = left_alone(ws)
    monkeypatch.setattr(calibration_files, "read_frames", None)
    again = make_master_darks(ws, NIGHT)
    assert again.status == "unchanged"
    assert left_alone(ws) == told
    make_master_flats(ws, NIGHT)
    assert left_alone(ws) == told


def test_a_file_that_cannot_be_read_is_looked_at_each_time(ws, folder, monkeypatch):
    path = folder / "dark_0_3.fits.bz2"
    record = calibration_files.file_record

    def refuse(file, known=None):
        if file == path:
            raise calibration_files.RawDataError(f"{file} cannot be read: Permission denied")
        return record(file, known)

    monkeypatch.setattr(calibration_files, "file_record", refuse)
    make_master_darks(ws, NIGHT)
    assert frames_of(ws, "dark_0") == 9
    assert "Permission denied" in left_alone(ws)[path.name]
    monkeypatch.undo()
    make_master_darks(ws, NIGHT)
    assert frames_of(ws, "dark_0") == 12
    assert left_alone(ws) == {}


def test_too_few_good_ones_are_no_calibration(ws, folder):
    for k in (0, 1):
        (folder / f"dark_0_{k}.fits.bz2").write_bytes(SPOILT["truncated"][0])
    for _ in range(2):
        with pytest.raises(CalibrationMissingError) as told:
            make_master_darks(ws, NIGHT)
        assert "has 2 dark and 3 flat files" in str(told.value)
        assert "(dark_0_0.fits.bz2 is left out: " in str(told.value)
        assert "add the missing files" in str(told.value)
    (folder / "dark_0_0.fits.bz2").write_bytes(raw_file(100))
    assert make_master_darks(ws, NIGHT).status == "done"
    assert frames_of(ws, "dark_0") == 9


def test_a_mode_of_which_every_file_is_spoilt_stops_no_other(ws, folder):
    (folder / "dark_6_0.fits.bz2").write_bytes(SPOILT["garbage"][0])
    assert make_master_darks(ws, NIGHT).metadata["masters"] == "dark_0"
    assert list(left_alone(ws)) == ["dark_6_0.fits.bz2"]
    assert make_master_flats(ws, NIGHT).status == "done"


def test_one_name_and_size_on_two_roots_with_other_content_is_told(ws, folder, tmp_path):
    second = tmp_path / "two" / NIGHT
    second.mkdir(parents=True)
    for k, name in enumerate(("dark_0_0.fits.bz2", "dark_0_1.fits.bz2")):
        content = bytearray((folder / name).read_bytes())
        content[-5] ^= k
        (second / name).write_bytes(content)
    raw = read_night((folder.parent, second.parent), NIGHT)
    ((path, reason),) = registering._unlike(raw)
    assert path == second / "dark_0_1.fits.bz2"
    assert "they differ (of one size), remove the wrong one" in reason
