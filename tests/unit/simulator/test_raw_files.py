"""Files written by hand, read back by astropy."""

import bz2
import io

import numpy as np
import pytest
from astropy.io import fits

from simulator.raw_files import BLOCK, compress_frames, frame_bytes, header_block

CARDS = [
    ("EXPOSURE", 10.44, "[s]"),
    ("EQUINOX", 2000.0, "equinox"),
    ("TELDEC", "-00:30:14.20", "declination"),
    ("OBJECT", "O'Neill", "a quote in it"),
    ("MODE_NUM", 6, "mode"),
    ("SIMULATE", True, "simulated"),
]


@pytest.fixture
def frames():
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 65536, (5, 12, 20), dtype=np.uint16)
    drawn[0, 0, :3] = 0, 32768, 65535
    return drawn


def test_frames_come_back(frames):
    # Two streams, one after the other, as parallel compressors write them.
    content = compress_frames(frames[:3], cards=CARDS, starts_file=True)
    content += compress_frames(frames[3:], cards=CARDS, starts_file=False)
    unpacked = bz2.decompress(content)
    assert len(unpacked) % BLOCK == 0
    with fits.open(io.BytesIO(unpacked)) as file:
        file.verify("exception")
        assert np.array_equal(np.stack([hdu.data for hdu in file]), frames)
        header = file[0].header
        assert header["EXPOSURE"] == 10.44
        assert isinstance(header["EQUINOX"], float)
        assert header["TELDEC"] == "-00:30:14.20"
        assert header["OBJECT"] == "O'Neill"
        assert header["MODE_NUM"] == 6
        assert header["SIMULATE"] is True
        assert "MODE_NUM" not in file[3].header


def test_bytes_are_astropys(frames):
    # Oracle: the data block that astropy itself writes for the same frame.
    buffer = io.BytesIO()
    fits.PrimaryHDU(frames[0]).writeto(buffer)
    ours = frame_bytes(frames[0], primary=True)
    assert ours[BLOCK:] == buffer.getvalue()[BLOCK:]


def test_a_value_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="OBJECT"):
        header_block([("OBJECT", "x" * 90, "too long")])
