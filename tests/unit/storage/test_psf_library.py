"""The PSF library keeps what it is given, and refuses what does not belong."""

import multiprocessing
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.storage.psf_library import (
    PsfEntry,
    PsfLibrary,
    PsfLibraryError,
    read_psf_candidate,
    write_psf_candidate,
)


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


def make_modes(count, seed=0, side=21):
    return np.random.default_rng(100 + seed).normal(size=(count, side, side)).astype(np.float32)


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


# -- modes, quality, history ---------------------------------------------------------------------


def test_modes_are_read_back_star_by_star_or_not_at_all(library):
    counts = {"a": 3, "b": 0, "c": 2}
    for seed, (name, count) in enumerate(counts.items()):
        library.add(make_entry(name, seed, modes=make_modes(count, seed)))
    library.remove("b")
    library.add(make_entry("d", 3, modes=make_modes(1, 3)))
    read = {e.obs_name: e for e in library.entries()}
    for name, seed, count in (("a", 0, 3), ("c", 2, 2), ("d", 3, 1)):
        assert read[name].modes.dtype == np.float32
        np.testing.assert_array_equal(read[name].modes, make_modes(count, seed))
    assert [e.modes.shape for e in library.entries(with_modes=False)] == [(0, 21, 21)] * 3
    (only,) = library.entries(obs_names={"c", "gone"})
    np.testing.assert_array_equal(only.modes, make_modes(2, 2))
    assert [row["n_modes"] for row in library.show()] == [3, 2, 1]
    with fits.open(library.path) as hdus:
        hdus.verify("exception")
        assert hdus["MODES"].data.shape == (6, 21, 21)


def test_a_library_without_modes_has_no_extension_for_them(library):
    library.add(make_entry("a"))
    with fits.open(library.path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PSFS", "LIBRARY", "HISTORY"]


def test_modes_are_part_of_the_fingerprint(library, tmp_path):
    library.add(make_entry("a"))
    other = PsfLibrary(tmp_path / "other.fits")
    other.add(make_entry("a", modes=make_modes(1)))
    assert other.fingerprint() != library.fingerprint()


def test_modes_of_another_box_and_of_nan_are_refused(library):
    with pytest.raises(PsfLibraryError, match=r"modes of a have shape \(2, 31, 31\)"):
        library.add(make_entry("a", modes=make_modes(2, side=31)))
    with pytest.raises(PsfLibraryError, match="the modes of a: 441 pixels that are not finite"):
        library.add(make_entry("a", modes=np.full((1, 21, 21), np.nan, np.float32)))
    assert not library.path.exists()


def test_damaged_modes_are_named_where_they_are_read(library):
    library.add(make_entry("a", modes=make_modes(2)))
    library.add(make_entry("b", 1, modes=make_modes(2, 1)))
    content = bytearray(library.path.read_bytes())
    with fits.open(library.path) as hdus:
        content[hdus["MODES"].fileinfo()["datLoc"] + 3 * 21 * 21 * 4] ^= 1
    library.path.write_bytes(content)
    with pytest.raises(PsfLibraryError, match="frames of b are not those that were added"):
        library.entries()
    assert len(library.entries(with_modes=False)) == 2
    assert len(library.entries(obs_names=["a"])) == 1
    with pytest.raises(PsfLibraryError, match="frames of b"):
        library.remove("a", by="x")


def test_quality_is_read_back(library):
    words = 'suspected: 0.84" at PA 63°, 2.6 mag'
    library.add(make_entry("a", fwhm_arcsec=0.125, elongation=1.25, companion=words))
    library.add(make_entry("b", 1))
    a, b = library.entries()
    assert (a.fwhm_arcsec, a.elongation, a.companion) == (0.125, 1.25, words)
    assert np.isnan([b.fwhm_arcsec, b.elongation]).all()
    assert b.companion == ""


def test_every_change_is_in_the_history_even_of_an_empty_library(library):
    library.add(make_entry("a"), by="duev", comment="  looks single, 100 %  ")
    with pytest.raises(PsfLibraryError):
        library.add(make_entry("a"), by="duev")
    library.remove("a", by="née", comment="double after all")
    assert library.entries() == ()
    first, second = library.history()
    assert (first.action, first.obs_name, first.by) == ("added", "a", "duev")
    assert first.comment == "looks single, 100 %"
    assert (second.action, second.by, second.comment) == ("removed", "née", "double after all")
    assert first.sha256 == second.sha256 == make_entry("a").sha256
    assert abs((datetime.now(UTC) - second.date_utc).total_seconds()) < 60
    library.add(make_entry("b"))
    assert [c.obs_name for c in library.history()] == ["a", "a", "b"]
    assert library.history()[2].by, "the user of the process"


def write_old_library(path):
    """A file as it was before modes, quality and history were kept."""
    entry = make_entry("a")
    columns = {
        "obs_names": "a",
        "obj_names": "HD_1",
        "filter": "Si",
        "telescope": "KPNO_2.1m",
        "preparation": "",
        "sha256": entry.sha256,
        "date_added": "2016-09-25T11:04:27+00:00",
    }
    table = [fits.Column(n, f"{max(len(v), 1)}A", array=[v]) for n, v in columns.items()]
    table.insert(5, fits.Column("strehl", "E", array=[12.5]))
    path.parent.mkdir(parents=True)
    hdus = [fits.PrimaryHDU(entry.frame[None]), fits.BinTableHDU.from_columns(table)]
    hdus[1].name = "LIBRARY"
    fits.HDUList(hdus).writeto(path)
    return entry


def test_an_old_file_is_read_and_its_first_change_begins_the_history(library):
    old = write_old_library(library.path)
    (read,) = library.entries()
    np.testing.assert_array_equal(read.frame, old.frame)
    assert (len(read.modes), read.companion, library.history()) == (0, "", ())
    library.add(make_entry("b", 1, modes=make_modes(1)))
    assert [e.obs_name for e in library.entries()] == ["a", "b"]
    assert [c.obs_name for c in library.history()] == ["b"]


def test_a_candidate_is_read_back(tmp_path):
    path = tmp_path / "psflib" / "a.fits"
    entry = make_entry(
        "4_naïve 100%_VIC_Si_o_20160926_000000",
        obj_name="naïve 100%",
        modes=make_modes(2),
        preparation="IUWT high-pass, 2 finest planes",
        fwhm_arcsec=0.125,
        companion='suspected: 0.84" at PA 63, 2.6 mag; ' * 3,
    )
    write_psf_candidate(path, entry, [("FPRINT", "0" * 64, "data version")])
    read = read_psf_candidate(path)
    np.testing.assert_array_equal(read.frame, entry.frame)
    np.testing.assert_array_equal(read.modes, entry.modes)
    for name in ("obs_name", "obj_name", "filter_name", "telescope", "preparation"):
        assert getattr(read, name) == getattr(entry, name)
    assert read.companion == entry.companion.strip()
    assert (read.strehl_percent, read.fwhm_arcsec) == (12.5, 0.125)
    assert np.isnan(read.elongation)
    assert len(read_psf_candidate(path, with_modes=False).modes) == 0
    write_psf_candidate(path, make_entry("b"))
    assert read_psf_candidate(path).modes.shape == (0, 21, 21)


@pytest.mark.parametrize("spoil", [None, b"", b"no FITS", slice(0, 4000), "flip"])
def test_a_spoilt_candidate_is_refused(tmp_path, spoil):
    path = tmp_path / "a.fits"
    if spoil is not None:
        write_psf_candidate(path, make_entry("a"))
        content = bytearray(path.read_bytes())
        if spoil == "flip":
            content[-2880] ^= 1
        path.write_bytes(
            content if spoil == "flip" else content[spoil] if isinstance(spoil, slice) else spoil
        )
    with pytest.raises(PsfLibraryError, match="materialise psf_candidate"):
        read_psf_candidate(path)


# -- many changes ----------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 2)),
        max_size=8,
    )
)
def test_whatever_is_done_the_library_is_what_its_history_says(steps):
    with tempfile.TemporaryDirectory() as folder:
        library, present = PsfLibrary(Path(folder) / "l.fits"), {}
        for seed, (name, add, count) in enumerate(steps):
            try:
                if add:
                    library.add(make_entry(name, seed, modes=make_modes(count, seed)), by="p")
                    assert name not in present
                    present[name] = (seed, count)
                else:
                    library.remove(name, by="p")
                    del present[name]
            except PsfLibraryError:
                assert (name in present) == add
        assert [e.obs_name for e in library.entries()] == list(present)
        for entry in library.entries():
            seed, count = present[entry.obs_name]
            np.testing.assert_array_equal(entry.modes, make_modes(count, seed))
        replayed = {}
        for change in library.history():
            if change.action == "added":
                replayed[change.obs_name] = change.sha256
            else:
                assert replayed.pop(change.obs_name) == change.sha256
        assert replayed == {e.obs_name: e.sha256 for e in library.entries()}


def change_many(path, worker, start):
    library = PsfLibrary(path)
    start.wait()
    for i in range(5):
        name, seed = f"observation_{worker}_{i}", 10 * worker + i
        library.add(make_entry(name, seed, modes=make_modes(i % 3, seed)), by=f"w{worker}")
        if i % 2:
            library.remove(name, by=f"w{worker}")


def test_four_processes_changing_at_once_lose_nothing(library):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    workers = [context.Process(target=change_many, args=(library.path, k, start)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    entries = {e.obs_name: e for e in library.entries()}
    assert set(entries) == {f"observation_{k}_{i}" for k in range(4) for i in (0, 2, 4)}
    for worker in range(4):
        for i in (0, 2, 4):
            seed, entry = 10 * worker + i, entries[f"observation_{worker}_{i}"]
            np.testing.assert_array_equal(entry.frame, make_entry(seed=seed).frame)
            np.testing.assert_array_equal(entry.modes, make_modes(i % 3, seed))
    told = [(c.by, c.action, c.obs_name) for c in library.history()]
    assert len(told) == 4 * 7
    for worker in range(4):
        own = [(action, name) for by, action, name in told if by == f"w{worker}"]
        names = [f"observation_{worker}_{i}" for i in range(5)]
        assert own == [
            ("added", names[0]),
            *[("added", names[1]), ("removed", names[1])],
            ("added", names[2]),
            *[("added", names[3]), ("removed", names[3])],
            ("added", names[4]),
        ]
