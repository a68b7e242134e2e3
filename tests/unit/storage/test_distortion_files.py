"""Distortion solutions: written, read, and the one that holds for a night."""

import json

import numpy as np
import pytest

from roboao_assets.science.distortion import linear_distortion
from roboao_assets.storage.distortion_files import (
    DistortionFileError,
    newest_distortion,
    read_distortion,
    read_published,
    write_distortion,
)
from roboao_assets.storage.paths import ArchivePaths


def geometry(scale=0.035):
    made = linear_distortion(shape=(1024, 1024), plate_scale_arcsec=scale)
    made.a[1, 1], made.b[0, 2] = 1.25e-7, -5.5e-5
    return made


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "one.ecsv"
    write_distortion(path, geometry())
    back = read_distortion(path)
    assert (back.a == geometry().a).all()
    assert (back.b == geometry().b).all()
    assert np.allclose(back.matrix, geometry().matrix, rtol=1e-14)
    assert (back.shape, back.stars, back.matrix_error) == ((1024, 1024), 0, None)
    assert np.isnan(back.rms_mas)


def test_the_newest_that_is_not_after_the_night_holds(tmp_path):
    paths = ArchivePaths(tmp_path)
    assert newest_distortion(paths, "KPNO_2.1m", "20170607") is None
    epochs = {"20160101": 0.031, "20170607": 0.032, "20170608": 0.033}
    for night, scale in epochs.items():
        write_distortion(paths.distortion("KPNO_2.1m", night), geometry(scale))
    write_distortion(paths.distortion("Palomar_P60", "20170101"), geometry(0.04))
    (tmp_path / "astrometry" / "KPNO_2.1m_notes.ecsv").write_text("no solution")
    for night, scale in {"20170607": 0.032, "20170606": 0.031, "20200101": 0.033}.items():
        path, found = newest_distortion(paths, "KPNO_2.1m", night)
        assert found.plate_scale_arcsec == pytest.approx(scale)
    assert path.name == "KPNO_2.1m_20170608.ecsv"
    assert newest_distortion(paths, "KPNO_2.1m", "20151231") is None


@pytest.mark.parametrize("text", ["", "nothing at all", "# %ECSV 1.0\n# ---\nx\n1\n"])
def test_a_file_that_is_no_solution_says_so(tmp_path, text):
    path = tmp_path / "one.ecsv"
    path.write_text(text)
    with pytest.raises(DistortionFileError, match="is no distortion solution"):
        read_distortion(path)
    with pytest.raises(DistortionFileError, match="is not there"):
        read_distortion(tmp_path / "none.ecsv")


@pytest.mark.real_data
def test_the_published_solution_is_read(real_data, tmp_path):
    made = read_published(real_data / "astrometry" / "roboao_kp_solution_20170620.json")
    assert made.plate_scale_arcsec == pytest.approx(0.035356, abs=1e-6)
    assert "roboao-astrometry" in made.source
    write_distortion(tmp_path / "p.ecsv", made)
    assert (read_distortion(tmp_path / "p.ecsv").b == made.b).all()


def test_other_json_is_no_published_solution(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"order": ["a"], "values": []}))
    with pytest.raises(DistortionFileError, match="is no published solution"):
        read_published(path)
