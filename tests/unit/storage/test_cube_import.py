"""Cubes of other cameras as raw nights: what goes in comes out of the raw reader."""

from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits

from roboao_assets.science.errors import RawDataError, UnknownInstrumentError
from roboao_assets.storage.cube_import import CubeTarget, import_cube
from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.raw_frames import read_frames
from roboao_assets.storage.raw_header import parse_facts, read_header
from roboao_assets.storage.raw_night import read_night

UTC_START = datetime(2012, 7, 1, 5, 1, 2, 345678, tzinfo=UTC)
TARGET = CubeTarget(
    program="1", object_name="alpha_Oph", filter_name="Ks", utc=UTC_START, exposure_s=12.5,
    ra_deg=263.73, dec_deg=-0.51,
)  # fmt: skip


@pytest.fixture
def profile():
    return load_instruments()["PHARO"]


def write(path, data):
    fits.PrimaryHDU(data).writeto(path)
    return path


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16, np.int16])
def test_frames_come_back(kind, profile, tmp_path):
    cube = np.random.default_rng(0).uniform(0, 3000, (7, 20, 24)).astype(kind)
    path = import_cube(write(tmp_path / "cube.fits", cube), tmp_path / "raw", profile, TARGET)
    back = read_frames([path])
    assert back.frames.dtype == (np.uint16 if kind is np.uint16 else np.float32)
    np.testing.assert_allclose(back.frames, cube, rtol=1e-6)


def test_night_and_facts(profile, tmp_path):
    source = write(tmp_path / "cube.fits", np.ones((3, 16, 16), np.float32))
    path = import_cube(source, tmp_path / "raw", profile, TARGET)
    night = read_night([tmp_path / "raw"], "20120701")
    (exposure,) = night.observations
    assert exposure.files == (path,)
    assert exposure.name.object_name == "alpha_Oph"
    assert exposure.name.utc == UTC_START
    facts = parse_facts(read_header(path))
    assert facts.exposure_s == 12.5
    assert facts.ra_deg == pytest.approx(263.73, abs=1e-4)
    assert facts.dec_deg == pytest.approx(-0.51, abs=1e-4)


def test_one_image_an_hdu(profile, tmp_path):
    images = np.random.default_rng(1).normal(0, 1, (4, 12, 12)).astype(np.float32)
    hdus = fits.HDUList([fits.PrimaryHDU(images[0]), *(fits.ImageHDU(i) for i in images[1:])])
    hdus.writeto(tmp_path / "cube.fits")
    path = import_cube(tmp_path / "cube.fits", tmp_path / "raw", profile, TARGET)
    np.testing.assert_array_equal(read_frames([path]).frames, images)


def test_nothing_is_overwritten(profile, tmp_path):
    source = write(tmp_path / "cube.fits", np.ones((3, 16, 16), np.float32))
    path = import_cube(source, tmp_path / "raw", profile, TARGET)
    before = path.read_bytes()
    with pytest.raises(RawDataError, match="is there already"):
        import_cube(source, tmp_path / "raw", profile, TARGET)
    assert path.read_bytes() == before


def test_what_is_no_cube_is_refused(profile, tmp_path):
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(RawDataError, match="cannot be read as FITS"):
        import_cube(tmp_path / "text.fits", tmp_path / "raw", profile, TARGET)
    write(tmp_path / "line.fits", np.ones(5, np.float32))
    with pytest.raises(RawDataError, match="no image"):
        import_cube(tmp_path / "line.fits", tmp_path / "raw", profile, TARGET)
    assert not (tmp_path / "raw").exists()


def test_unknown_filter_and_bad_names(profile, tmp_path):
    source = write(tmp_path / "cube.fits", np.ones((3, 16, 16), np.float32))
    from dataclasses import replace

    with pytest.raises(UnknownInstrumentError, match="'Lp'"):
        import_cube(source, tmp_path / "raw", profile, replace(TARGET, filter_name="Lp"))
    with pytest.raises(RawDataError, match="blank or a slash"):
        import_cube(source, tmp_path / "raw", profile, replace(TARGET, object_name="a/../b"))
