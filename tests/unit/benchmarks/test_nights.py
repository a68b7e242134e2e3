"""What is measured on must be what the camera writes, and new to the archive."""

import shutil

import numpy as np
import pytest

from benchmarks.nights import NIGHT, BenchNight, check, with_frames
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.raw_frames import count_frames, read_frames
from simulator.raw_files import compress_frames

OBSERVATION = f"1_star_VIC_Si_o_{NIGHT}_040000.000000"
FRAMES = np.arange(5 * 12 * 16, dtype=np.uint16).reshape(5, 12, 16)


@pytest.fixture
def night(tmp_path):
    folder = tmp_path / "raw" / NIGHT
    folder.mkdir(parents=True)
    content = compress_frames(FRAMES, cards=[("MODE_NUM", 6, "mode")], starts_file=True)
    (folder / f"{OBSERVATION}.fits.bz2").write_bytes(content)
    masters, scratch = tmp_path / "masters", tmp_path / "scratch"
    (masters / NIGHT / "calib").mkdir(parents=True)
    (masters / NIGHT / "calib" / "dark_6.fits").write_text("a master")
    scratch.mkdir()
    return BenchNight(raw_root=tmp_path / "raw", masters=masters, scratch=scratch, cores=1)


@pytest.mark.skipif(shutil.which("lbzip2") is None, reason="lbzip2 is not installed")
@pytest.mark.parametrize(
    ("frames", "counts"), [(3, (3,)), (5, (5,)), (6, (5, 1)), (13, (5, 5, 3)), (10, (5, 5))]
)
def test_an_observation_of_any_length_is_a_valid_one(night, frames, counts):
    (exposure,) = with_frames(night, frames).observations
    assert exposure.id == OBSERVATION
    assert not exposure.problem
    assert count_frames(exposure.files) == counts
    np.testing.assert_array_equal(
        read_frames(exposure.files).frames, np.concatenate([FRAMES] * 3)[:frames]
    )


def test_each_archive_has_the_masters_and_nothing_that_was_made_in_another(night):
    with night.new_archive() as settings:
        (settings.archive_root / NIGHT / "stack.fits").write_text("a product")
    with night.new_archive(threads=3) as settings:
        files = [p.name for p in settings.archive_root.rglob("*") if p.is_file()]
        assert settings.threads == 3
    assert files == ["dark_6.fits"]
    assert not list(night.scratch.iterdir())


def test_half_the_work_is_no_measurement():
    done = StageOutcome(stage="a", status="done")
    check([done], ("a",))
    with pytest.raises(RuntimeError, match="b was not made"):
        check([done], ("a", "b"))
    with pytest.raises(RuntimeError, match="no star"):
        check([done, StageOutcome(stage="b", status="failed", reason="no star")], ("a", "b"))
