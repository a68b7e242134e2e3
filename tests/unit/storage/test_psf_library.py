"""The PSF library keeps what it is given, and refuses what does not belong."""

import multiprocessing
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits

from roboao_assets.storage.psf_library import PsfEntry, PsfLibrary, PsfLibraryError


def make_entry(name="4_HD_1_VIC_Si_o_20160925_110427.040912", seed=0, side=21, **changes):
    frame = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
    values = {
        "obs_name": name,
        "obj_name": "HD_1",
        "filter_name": "Si",
        "telescope": "KPNO_2.1m",
        "strehl_percent": 12.5,
        "frame": frame,
    }
    return PsfEntry(**(values | changes))


@pytest.fixture
def library(tmp_path):
    return PsfLibrary(tmp_path / "archive" / "psf_library.fits")


def test_missing_file_is_an_empty_library(library):
    assert library.entries() == ()
    assert library.show() == ()
    assert library.fingerprint() == PsfLibrary(library.path).fingerprint()
    assert not library.path.exists()


def test_what_was_added_is_read_back(library):
    added = datetime(2016, 9, 25, 11, 4, 27, tzinfo=UTC)
    first = make_entry(preparation="IUWT high-pass, 5 finest planes", date_added=added)
    second = make_entry(
        "4_naïve 100%_VIC_Si_o_20160926_000000", 1, obj_name="naïve 100%", strehl_percent=np.nan
    )
    library.add(first)
    library.add(second)
    read = library.entries()
    assert [e.obs_name for e in read] == [first.obs_name, second.obs_name]
    assert read[0].frame.dtype == np.float32
    np.testing.assert_array_equal(read[0].frame, first.frame)
    np.testing.assert_array_equal(read[1].frame, second.frame)
    assert (read[0].obj_name, read[0].filter_name, read[0].telescope) == ("HD_1", "Si", "KPNO_2.1m")
    assert read[0].preparation == first.preparation
    assert read[0].date_added == added
    assert read[0].strehl_percent == 12.5
    assert read[1].obj_name == "naïve 100%"
    assert np.isnan(read[1].strehl_percent)
    assert abs((datetime.now(UTC) - read[1].date_added).total_seconds()) < 60
    assert library.show()[0]["sha256"] == first.sha256


def test_file_is_a_cube_and_a_table_with_checksums(library):
    library.add(make_entry())
    library.add(make_entry("other", 1))
    with fits.open(library.path, checksum=True) as hdus:
        hdus.verify("exception")
        assert hdus[0].data.shape == (2, 21, 21)
        assert hdus["LIBRARY"].columns.names[:2] == ["obs_names", "obj_names"]


def test_removed_star_is_gone_and_the_last_one_leaves_an_empty_library(library):
    library.add(make_entry("a"))
    library.add(make_entry("b", 1))
    library.remove("a")
    assert [e.obs_name for e in library.entries()] == ["b"]
    library.remove("b")
    assert library.entries() == ()
    library.add(make_entry("c", side=31))
    assert library.entries()[0].frame.shape == (31, 31)


def test_unknown_observation_cannot_be_removed(library):
    library.add(make_entry("a"))
    with pytest.raises(PsfLibraryError, match="b is not in the PSF library"):
        library.remove("b")


def test_duplicate_is_refused(library):
    library.add(make_entry("a"))
    with pytest.raises(PsfLibraryError, match="a is in the PSF library already"):
        library.add(make_entry("a", 5))
    np.testing.assert_array_equal(library.entries()[0].frame, make_entry("a").frame)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (np.zeros((31, 31), np.float32), r"31 x 31 px, those of the PSF library 21 x 21 px"),
        (np.zeros((20, 20), np.float32), "square of an odd side"),
        (np.zeros((21, 23), np.float32), "square of an odd side"),
        (np.zeros((1, 21, 21), np.float32), "square of an odd side"),
        (np.full((21, 21), np.nan, np.float32), "441 pixels that are not finite"),
    ],
)
def test_frame_that_does_not_belong_is_refused(library, frame, sentence):
    library.add(make_entry("a"))
    before = library.path.read_bytes()
    with pytest.raises(PsfLibraryError, match=sentence):
        library.add(make_entry("b", frame=frame))
    assert library.path.read_bytes() == before
    assert {p.name for p in library.path.parent.iterdir()} == {
        "psf_library.fits",
        ".psf_library.fits.lock",
    }


def test_frame_of_another_preparation_is_refused(library):
    library.add(make_entry("a", preparation="IUWT high-pass, 5 finest planes"))
    with pytest.raises(PsfLibraryError, match="prepared in another way"):
        library.add(make_entry("b", 1, preparation="background subtracted"))


def test_fingerprint_is_of_the_content(library, tmp_path):
    a, b = make_entry("a"), make_entry("b", 1)
    library.add(a)
    one = library.fingerprint()
    library.add(b)
    assert library.fingerprint() != one
    library.remove("b")
    assert library.fingerprint() == one

    other = PsfLibrary(tmp_path / "other.fits")
    other.add(make_entry("a", frame=a.frame + np.float32(1e-3)))
    assert other.fingerprint() != one
    renamed = PsfLibrary(tmp_path / "renamed.fits")
    renamed.add(make_entry("a", obj_name="HD_2"))
    assert renamed.fingerprint() != one


def test_damaged_frame_is_named(library):
    library.add(make_entry("a"))
    library.add(make_entry("b", 1))
    with fits.open(library.path, mode="update") as hdus:
        hdus[0].data[1, 3, 3] += 1
    with pytest.raises(PsfLibraryError, match="frames of b are not those that were added"):
        library.entries()


@pytest.mark.parametrize("content", [b"", b"no FITS at all", None])
def test_file_that_is_no_library_is_refused(library, content):
    library.path.parent.mkdir(parents=True)
    if content is None:
        fits.PrimaryHDU(np.zeros((3, 3))).writeto(library.path)
    else:
        library.path.write_bytes(content)
    before = library.path.read_bytes()
    with pytest.raises(PsfLibraryError, match="cannot be read"):
        library.add(make_entry())
    assert library.path.read_bytes() == before


def add_many(path, worker, start):
    start.wait()
    for i in range(5):
        PsfLibrary(path).add(make_entry(f"observation_{worker}_{i}", seed=10 * worker + i))


def test_four_processes_adding_at_once_lose_nothing(library):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    workers = [context.Process(target=add_many, args=(library.path, k, start)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    entries = {e.obs_name: e.frame for e in library.entries()}
    assert len(entries) == 20
    for worker in range(4):
        for i in range(5):
            expected = make_entry(seed=10 * worker + i).frame
            np.testing.assert_array_equal(entries[f"observation_{worker}_{i}"], expected)
