"""Raw frames: the same as the reference reader's, in little memory, and honest about bad files."""

import bz2
import gc
import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from fuzzing import at_least
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_material import fits_bytes, noise_frames

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage import frame_memory
from roboao_assets.storage.raw_frames import (
    RawFileRecord,
    count_frames,
    file_record,
    read_frames,
)
from roboao_assets.storage.raw_header import parse_facts, read_header

METHODS = [
    pytest.param(
        "lbzip2",
        marks=pytest.mark.skipif(
            shutil.which("lbzip2") is None, reason="lbzip2 is not installed here"
        ),
    ),
    "blocks",
]


@pytest.mark.parametrize("method", METHODS)
def test_frames_of_one_file(write_raw, method):
    frames = noise_frames(40)
    path = write_raw("a", frames, {"MODE_NUM": 6, "OBJECT": "351_Yrsa"})
    cube = read_frames([path], method=method)
    assert cube.frames.dtype == np.uint16
    assert cube.frames.dtype.isnative
    np.testing.assert_array_equal(cube.frames, frames)
    assert cube.header["MODE_NUM"] == 6
    assert cube.header["OBJECT"] == "351_Yrsa"
    assert cube.first_frame == (0,)
    assert cube.nonfinite_frames == ()
    status = path.stat()
    assert cube.files == (
        RawFileRecord(
            name="a.fits.bz2",
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        ),
    )


def test_split_files_are_one_cube_in_the_given_order(write_raw):
    frames = noise_frames(12)
    files = [
        write_raw("x", frames[:2], {"FIRST": True}),
        write_raw("x_0", frames[2:9]),
        write_raw("x_1", frames[9:]),
    ]
    cube = read_frames(files)
    np.testing.assert_array_equal(cube.frames, frames)
    assert cube.first_frame == (0, 2, 9)
    assert [record.name for record in cube.files] == ["x.fits.bz2", "x_0.fits.bz2", "x_1.fits.bz2"]
    assert cube.header["FIRST"] is True
    assert count_frames(files) == (2, 7, 3)


@pytest.mark.parametrize("block", [1, 3, 16, 100])
def test_every_frame_is_told_once_and_in_order(write_raw, block):
    frames = noise_frames(10)
    told, firsts = [], []
    main = threading.get_ident()

    def take(new, first):
        assert threading.get_ident() == main
        firsts.append(first)
        told.append(new.copy())

    read_frames([write_raw("a", frames)], on_frames=take, block=block)
    np.testing.assert_array_equal(np.concatenate(told), frames)
    assert firsts == list(range(0, 10, block))


def test_what_the_callback_raises_ends_the_reading(write_raw):
    def refuse(new, first):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        read_frames([write_raw("a", noise_frames(50))], on_frames=refuse, block=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("raw-frames")]


@pytest.mark.parametrize(
    ("array", "bscale", "bzero"),
    [
        (np.arange(20, dtype=np.uint8), 1, 0),
        (np.arange(-9, 11, dtype=np.int16), 1, 0),
        (np.arange(-9, 11, dtype=np.int16), 0.5, 100),
        (np.arange(-9, 11, dtype=np.int32) * 70000, 1, 0),
        (np.arange(20, dtype=np.uint32) * 200_000_000, 1, 2**31),
        (np.linspace(-1e3, 1e5, 20).astype(np.float32), 1, 0),
        (np.linspace(-1e3, 1e5, 20), 1, 0),
    ],
)
def test_other_types_become_float32(write_raw, array, bscale, bzero):
    frames = [(array + i).astype(array.dtype).reshape(4, 5) for i in range(3)]
    units = fits.HDUList(
        [(fits.ImageHDU if i else fits.PrimaryHDU)(f) for i, f in enumerate(frames)]
    )
    if bscale != 1:
        for unit in units:
            unit.header["BSCALE"] = bscale
            unit.header["BZERO"] = bzero
    path = write_raw("a", b"".join(_unit_bytes(unit) for unit in units))
    cube = read_frames([path])
    assert cube.frames.dtype == np.float32
    expected = np.array(frames, np.float64)
    if bscale != 1:
        expected = expected * bscale + bzero
    np.testing.assert_allclose(cube.frames, expected, rtol=1e-7)


def _unit_bytes(unit):
    unit_bytes = unit.header.tostring().encode()
    raw = np.ascontiguousarray(unit.data)
    if raw.dtype == np.uint32:
        raw = (raw.astype(np.int64) - 2**31).astype(np.int32)
    data = raw.astype(raw.dtype.newbyteorder(">")).tobytes()
    return unit_bytes + data + bytes(-len(data) % 2880)


def test_a_cube_in_one_hdu_and_a_primary_without_data(write_raw):
    frames = noise_frames(7)
    np.testing.assert_array_equal(read_frames([write_raw("a", [frames])]).frames, frames)
    units = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(frames[0]), fits.ImageHDU(frames[1:])])
    units[0].header["EXPOSURE"] = 90.0
    units.writeto(write_raw("b", b"").with_suffix(""))
    path = write_raw("b", Path(write_raw("b", b"").with_suffix("")).read_bytes())
    cube = read_frames([path])
    np.testing.assert_array_equal(cube.frames, frames)
    assert cube.header["EXPOSURE"] == 90.0
    assert count_frames([path]) == (7,)


def test_missing_last_padding_is_no_loss(write_raw):
    frames = noise_frames(3)
    content = fits_bytes(frames)
    lost = -frames[0].nbytes % 2880
    np.testing.assert_array_equal(read_frames([write_raw("a", content[:-lost])]).frames, frames)


def test_headers_of_several_blocks(write_raw):
    frames = noise_frames(3)
    cards = {f"KEY{i}": f"END of value {i}" for i in range(100)}
    cube = read_frames([write_raw("a", frames, cards)])
    np.testing.assert_array_equal(cube.frames, frames)
    assert cube.header["KEY99"] == "END of value 99"


def test_nonfinite_frames_are_reported(write_raw):
    frames = np.ones((5, 6, 7), np.float32)
    frames[1, 2, 3] = np.nan
    frames[4] = np.inf
    cube = read_frames([write_raw("a", frames)])
    assert cube.nonfinite_frames == (1, 4)
    np.testing.assert_array_equal(cube.frames, frames)


def test_values_too_large_to_be_kept_are_not_finite(write_raw):
    frames = np.ones((3, 6, 7))
    frames[1, 2, 3] = 1e300
    cube = read_frames([write_raw("a", frames)])
    assert cube.nonfinite_frames == (1,)
    assert np.isinf(cube.frames).sum() == 1


def test_undefined_integers_are_nan(write_raw):
    frames = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    cube = read_frames([write_raw("a", frames, {"BLANK": 5})])
    # BLANK stands in the primary header, and so for frame 0 only.
    assert np.isnan(cube.frames).sum() == 1
    assert cube.nonfinite_frames == (0,)


def test_a_cube_without_any_finite_frame_is_an_error(write_raw):
    frames = np.full((3, 6, 7), np.nan, np.float32)
    frames[:, 0, 0] = 1
    with pytest.raises(RawDataError, match=r"none of the 3 frames of a\.fits\.bz2 has finite"):
        read_frames([write_raw("a", frames)])


def _header(**changes):
    cards = {"SIMPLE": "T", "BITPIX": "16", "NAXIS": "2", "NAXIS1": "4", "NAXIS2": "3"} | changes
    text = "".join(f"{k:<8}= {v:>20}".ljust(80) for k, v in cards.items() if v is not None)
    return (text + "END".ljust(80)).ljust(-(-(len(text) + 80) // 2880) * 2880).encode()


GOOD = fits_bytes(noise_frames(3, (30, 40)))
TABLE = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unpacks to nothing; a FITS file was expected"),
        (b"Not a FITS file." * 400, "begins with 'SIMPLE  =', this one with b'Not a FITS"),
        (b"SIMPLE  =", "ends within a header"),
        (GOOD[:2880], "ends after 0 of the 2400 bytes of a frame: it is truncated"),
        (GOOD[: 2 * 5760 + 2880 + 100], "frame 2 .*after 100 of the 2400 bytes"),
        (GOOD[: 2 * 5760 + 1000], "frame 2 .*ends within a header"),
        (GOOD + b"junk" * 720, "a further FITS extension or the end was expected, there is b'junk"),
        (GOOD + _header(SIMPLE=None, XTENSION="'BINTABLE'"), "there is b'BITPIX"),
        (_header().replace(b"END", b"XXX"), "ends within a header"),
        (_header(BITPIX="17"), "BITPIX is 17"),
        (_header(BITPIX=None), "has no BITPIX card"),
        (_header(NAXIS2=None), "has no NAXIS2 card"),
        (_header(NAXIS="two"), "structural card of no use"),
        (_header(NAXIS="1"), "two or more axes was expected"),
        (_header(NAXIS="-1"), "two or more axes was expected"),
        (_header(NAXIS1="-4"), "two or more axes was expected"),
        (_header(PCOUNT="8"), "PCOUNT, GCOUNT"),
        (_header(NAXIS1="99999999", NAXIS2="99999999"), "no frame of a camera"),
        (_header(NAXIS="0"), "holds no image"),
        (_header(NAXIS1="0"), "holds no image"),
        (_header(NAXIS="3", NAXIS3="0"), "holds no image"),
        (_header(NAXIS="999999999"), "has no NAXIS3 card"),
        (_header(BZERO="nonsense"), "structural card of no use"),
    ],
)
def test_bad_content_is_a_sentence(write_raw, content, message):
    path = write_raw("bad", content)
    with pytest.raises(RawDataError, match=message) as caught:
        read_frames([path])
    assert str(path) in str(caught.value)


def test_a_table_extension_is_refused(write_raw):
    units = fits.HDUList([fits.PrimaryHDU(noise_frames(1)[0]), TABLE])
    path = write_raw("a", b"")
    plain = path.with_suffix("")
    units.writeto(plain)
    path = write_raw("a", plain.read_bytes())
    with pytest.raises(RawDataError, match="there is a BINTABLE extension"):
        read_frames([path])
    with pytest.raises(RawDataError, match="there is a BINTABLE extension"):
        count_frames([path])


def test_frames_of_another_shape_or_type_are_refused(write_raw):
    frames = list(noise_frames(3))
    frames[2] = frames[2][:-1]
    with pytest.raises(
        RawDataError,
        match=r"frame 2 .*first frame is 64 x 48 px 16-bit unsigned, this one is 64 x 47 px",
    ):
        read_frames([write_raw("a", frames)])
    files = [write_raw("b", noise_frames(2)), write_raw("b_0", noise_frames(2).astype(np.float32))]
    with pytest.raises(RawDataError, match=r"b_0\.fits\.bz2.*this one is 64 x 48 px BITPIX -32"):
        read_frames(files)


@pytest.mark.parametrize("method", METHODS)
def test_truncated_missing_and_empty_files(write_raw, tmp_path, method):
    path = write_raw("a", noise_frames(60, (100, 100)))
    whole = path.read_bytes()
    for cut in (len(whole) // 3, len(whole) - 9):
        path.write_bytes(whole[:cut])
        with pytest.raises(RawDataError, match="truncated or damaged"):
            read_frames([path], method=method)
        with pytest.raises(RawDataError, match="truncated or damaged"):
            count_frames([path], method=method)
    path.write_bytes(b"")
    with pytest.raises(RawDataError, match="is empty"):
        read_frames([path], method=method)
    with pytest.raises(RawDataError, match="No such file"):
        read_frames([tmp_path / "b.fits.bz2"], method=method)
    with pytest.raises(RawDataError, match="no raw file was given"):
        read_frames([])


@settings(
    max_examples=at_least(80),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=400), kind=st.sampled_from(["bytes", "packed", "fits", "head"]))
def test_arbitrary_bytes_raise_nothing_but_raw_data_errors(tmp_path, content, kind):
    path = tmp_path / "a.fits.bz2"
    packed = {
        "bytes": lambda: content,
        "packed": lambda: bz2.compress(content),
        "fits": lambda: bz2.compress(GOOD + content),
        "head": lambda: bz2.compress((b"SIMPLE  =" + content + _header()[80:]).ljust(5760)),
    }[kind]()
    path.write_bytes(packed)
    for method in ("auto", "blocks"):
        # Trailing zeros and the like may leave a good file good.
        with suppress(RawDataError):
            assert read_frames([path], method=method).frames.ndim == 3


def test_known_records_spare_the_hashing(write_raw, monkeypatch):
    path = write_raw("a", noise_frames(2))
    record = file_record(path)
    assert file_record(path, record) is record
    assert read_frames([path], known=[record]).files[0] is record
    older = RawFileRecord(**{**vars(record), "mtime_ns": 1, "sha256": "old"})
    assert file_record(path, older) == record
    assert read_frames([path], known=[older]).files == (record,)


def test_a_file_that_changes_meanwhile_is_refused(write_raw):
    path = write_raw("a", noise_frames(4))

    def touch(new, first):
        os.utime(path, ns=(1, first + 1))

    with pytest.raises(RawDataError, match="changed while it was read"):
        read_frames([path], on_frames=touch, block=1)


def test_the_reservation_grows_when_it_must(write_raw, monkeypatch):
    monkeypatch.setattr(frame_memory, "_RESERVED_RATIO", 0)
    monkeypatch.setattr(frame_memory, "_SPARE_BYTES", 1)
    frames = noise_frames(23)
    seen = []
    cube = read_frames(
        [write_raw("a", frames)], on_frames=lambda new, first: seen.append(new), block=2
    )
    np.testing.assert_array_equal(cube.frames, frames)
    np.testing.assert_array_equal(np.concatenate(seen), frames)


def test_frames_nearly_all_alike(write_raw):
    frames = np.zeros((50, 128, 128), np.uint16)
    frames[:, 7, 9] = np.arange(50)
    path = write_raw("a", [frames])
    assert frames.nbytes > 100 * path.stat().st_size
    np.testing.assert_array_equal(read_frames([path]).frames, frames)


def test_limited_address_space_is_lived_with():
    code = """
    import resource
    import numpy as np
    from roboao_assets.storage.frame_memory import FrameMemory
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
    memory = FrameMemory((64, 64), np.uint16, 1 << 30)
    memory.slot(0)[:] = 1
    assert 100 < memory.capacity < (64 << 20) // 8192
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


MEMORY_CODE = """
import sys
from pathlib import Path
from roboao_assets.storage.raw_frames import read_frames

def kilobytes(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1])

path = Path(sys.argv[1])
read_frames([path.with_name("small.fits.bz2")], method=sys.argv[2])
before = kilobytes("VmRSS")
cube = read_frames([path], method=sys.argv[2])
peak, size = kilobytes("VmHWM"), cube.frames.nbytes // 1024
view = cube.frames[3:5]
del cube
kept = kilobytes("VmRSS")
del view
print(peak - before, size, kept - before, kilobytes("VmRSS") - before)
"""


@pytest.mark.parametrize("method", METHODS)
def test_the_peak_of_memory_is_the_cube(write_raw, method):
    write_raw("small", noise_frames(2))
    frames = np.tile(noise_frames(4, (512, 512)), (12, 1, 1))
    path = write_raw("a", frames, level=1)
    result = subprocess.run(
        [sys.executable, "-c", MEMORY_CODE, str(path), method],
        check=True,
        capture_output=True,
        text=True,
    )
    peak, size, kept, after = map(int, result.stdout.split())
    assert size == frames.nbytes // 1024
    spare = 10 * 1024  # blocks under way, huge pages
    assert peak < size + spare
    assert kept > size // 2
    assert after < spare


def test_memory_goes_with_the_last_view(write_raw):
    cube = read_frames([write_raw("a", noise_frames(3))])
    view = cube.frames[1]
    expected = view.copy()
    del cube
    gc.collect()
    np.testing.assert_array_equal(view, expected)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("pattern", "dtype"),
    [
        ("emccd/*_C1.fits", np.uint16),
        ("pharo/pharo_ca1_cube.fits", np.float32),
        ("astrometry/*.fit*", None),
        ("cosmic/*.fits", np.float32),
    ],
)
def test_observed_files_are_read_as_the_reference_reader_reads_them(
    real_data, tmp_path, pattern, dtype
):
    files = sorted(real_data.glob(pattern))
    assert files
    for file in files:
        with warnings.catch_warnings():
            # The DSS headers are older than the standard astropy holds them to.
            warnings.simplefilter("ignore")
            with fits.open(file) as units:
                images = [unit.data for unit in units if unit.data is not None]
        expected = np.concatenate([i.reshape(-1, *i.shape[-2:]) for i in images])
        path = tmp_path / f"{file.stem}.fits.bz2"
        path.write_bytes(bz2.compress(file.read_bytes(), 1))
        cube = read_frames([path])
        assert cube.frames.dtype == (dtype or cube.frames.dtype)
        np.testing.assert_array_equal(cube.frames, expected.astype(cube.frames.dtype))
        assert count_frames([path]) == (len(expected),)
        parse_facts(read_header(path))
        assert cube.header.tostring() == read_header(path).tostring()


@pytest.mark.parametrize("method", METHODS)
def test_a_file_that_unpacks_to_more_than_it_may_is_refused(write_raw, method):
    frames = noise_frames(6)
    size = len(fits_bytes(frames))
    path = write_raw("a", frames)
    assert len(read_frames([path], method=method, most_bytes=size).frames) == 6
    assert len(read_frames([path, path], method=method, most_bytes=size).frames) == 12
    for read in (read_frames, count_frames):
        with pytest.raises(RawDataError, match=r"GB or more.* setting most_raw_file_gb"):
            read([path], method=method, most_bytes=size - 2880)


@pytest.mark.parametrize("method", METHODS)
def test_terabytes_that_a_header_announces_are_not_unpacked(write_raw, tmp_path, method):
    header = _header(NAXIS="4", NAXIS1="1024", NAXIS2="1024", NAXIS3="1000", NAXIS4="5000")
    path = write_raw("bomb", header)
    path.write_bytes(path.read_bytes() + bz2.compress(bytes(45_000_000)) * 4000)
    start = time.monotonic()
    with pytest.raises(RawDataError, match=r"bomb\.fits\.bz2.* it unpacks to 1\.049e\+04 GB"):
        read_frames([path], method=method)
    # Its 180 GB of zeros take minutes to unpack.
    assert time.monotonic() - start < 30


def test_more_frames_than_any_exposure_has_are_refused(write_raw):
    path = write_raw("a", _header(NAXIS="3", NAXIS1="1", NAXIS2="1", NAXIS3="200001"))
    with pytest.raises(RawDataError, match="it holds 200001 frames or more"):
        read_frames([path])


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_block_is_told_and_not_what_it_happens_to_hold(write_raw, method, tmp_path):
    """One wrong bit moves all that follows in its block: there is no FITS header, then."""
    path = write_raw("a", noise_frames(400), level=9)
    whole = path.read_bytes()
    for part in (5, 3, 2):
        at = len(whole) // part
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        for read in (read_frames, count_frames):
            with pytest.raises(RawDataError, match=r"cannot be unpacked.*truncated or damaged"):
                read([path], method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_file_that_still_arrives_changed_and_is_not_damaged(write_raw, method):
    path = write_raw("a", noise_frames(60, (100, 100)), level=1)
    path.write_bytes(path.read_bytes()[:-9])

    def grow(new, first):
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(RawDataError, match="changed while it was read; it is read again when"):
        read_frames([path], on_frames=grow, block=1, method=method)
