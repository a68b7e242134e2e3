"""FITS products: whole, checked, with provenance."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.storage.fits_cards import make_card, read_cards
from roboao_assets.storage.fits_products import (
    ProductError,
    provenance_cards,
    read_image,
    write_image,
)
from roboao_assets.storage.raw_frames import RawFileRecord

IMAGE = np.arange(20, dtype=np.float64).reshape(4, 5) / 3


def test_an_image_and_its_cards_come_back(tmp_path):
    path = tmp_path / "deep" / "20p.fits"
    write_image(
        path,
        IMAGE,
        [("PIXSCALE", 0.0175797, "arcsec/px"), ("NFRAMES", np.int64(154), "frames stacked")],
        [("WEIGHT", np.ones((4, 5)))],
    )
    image, header = read_image(path)
    assert image.dtype == np.float32
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, IMAGE.astype(np.float32))
    assert header["PIXSCALE"] == 0.0175797
    assert header.comments["PIXSCALE"] == "arcsec/px"
    assert header["NFRAMES"] == 154
    with fits.open(path) as units:
        assert units["WEIGHT"].data.shape == (4, 5)


def test_checksums_are_right_as_the_reference_reader_sees_them(tmp_path):
    path = tmp_path / "a.fits"
    write_image(path, IMAGE, [("LONG", "x" * 300, "a comment")], [("MASK", IMAGE > 3)])
    # A wrong sum is a warning of astropy's, and so an error here.
    with fits.open(path, checksum=True) as units:
        for unit in units:
            assert unit.verify_checksum() == 1
            assert unit.verify_datasum() == 1
        assert units[0].header["LONG"] == "x" * 300
        assert units["MASK"].data.dtype == np.uint8


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / name, IMAGE, [("A", 1, "")], [("W", IMAGE)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_no_card_can_say_is_said_as_nearly_as_can_be(tmp_path):
    path = tmp_path / "a.fits"
    cards = [
        ("PI", "Ångström", "Ä"),
        ("NOISE", float("nan"), "not measured"),
        ("LOCKX", None, ""),
        ("averylongkeyword", 3, "a comment that is far too long " * 5),
        ("LINES", "one\ntwo", ""),
        ("WHERE", Path("x") / "y", ""),
        ("TWICE", 1, ""),
        ("TWICE", 2, ""),
        ("NAXIS1", 99, "left out"),
        ("NAXIS", 7, "left out"),
        ("HISTORY", "first", ""),
        ("HISTORY", "second", ""),
    ]
    write_image(path, IMAGE, cards)
    _, header = read_image(path)
    assert header["PI"] == "?ngstr?m"
    assert header["NOISE"] is None
    assert header["LOCKX"] is None
    assert header["AVERYLONGKEYWORD"] == 3
    assert header["LINES"] == "one two"
    assert header["WHERE"] == "x/y"
    assert header["TWICE"] == 2
    assert header["NAXIS1"] == 5
    assert list(header["HISTORY"]) == ["first", "second"]


def test_a_keyword_that_is_none_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="'Ä' cannot be the keyword"):
        write_image(tmp_path / "a.fits", IMAGE, [("Ä", 1, "")])
    with pytest.raises(ValueError, match="list cannot be the value"):
        write_image(tmp_path / "a.fits", IMAGE, [("A", [1], "")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b"", "cannot be read as FITS"),
        (lambda b: b"no FITS at all" * 300, "cannot be read as FITS"),
        (lambda b: b[: len(b) - 2880], "a.fits"),
        (lambda b: b[:-2870] + b"\x41\x42" + b[-2868:], "DATASUM"),
    ],
)
def test_a_damaged_product_is_a_sentence(tmp_path, damage, message, action):
    path = tmp_path / "a.fits"
    write_image(path, IMAGE)
    path.write_bytes(damage(path.read_bytes()))
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ProductError, match=message):
            read_image(path)


def test_a_missing_or_empty_product_is_a_sentence(tmp_path):
    with pytest.raises(ProductError, match="was looked for and is not there"):
        read_image(tmp_path / "a.fits")
    fits.PrimaryHDU().writeto(tmp_path / "b.fits")
    with pytest.raises(ProductError, match="no image in its primary HDU"):
        read_image(tmp_path / "b.fits")


def test_provenance_names_every_input(tmp_path):
    name = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912_0.fits.bz2"
    raw = [RawFileRecord(name=name, size_bytes=1, mtime_ns=2, sha256="ab" * 32)] * 2
    cards = provenance_cards(
        stage="bright_star_stack",
        raw=raw,
        calibration=[Path("calib/dark_6.fits")],
        settings_fingerprint="s" * 64,
        fingerprint="f" * 64,
    )
    write_image(tmp_path / "a.fits", IMAGE, cards)
    _, header = read_image(tmp_path / "a.fits")
    assert header["NRAW"] == 2
    assert header["RAW0002"] == name
    assert header["RSHA0001"] == "ab" * 32
    assert header["CAL0001"] == "dark_6.fits"
    assert (header["STAGE"], header["FPRINT"]) == ("bright_star_stack", "f" * 64)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.floats(), st.text(max_size=200)
)


def _as_said(value):
    if isinstance(value, str):
        return "".join(
            c if 32 <= ord(c) < 127 else " " if c in "\n\r\t" else "?" for c in value
        ).rstrip()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _plain(value):
    return None if isinstance(value, fits.card.Undefined) else value


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["A", "EXPOSURE", "LONGKEYWORD", "HIERARCH ESO A B", "A-B_C"]),
    VALUES,
    st.text(max_size=120),
)
def test_any_card_is_read_back_by_the_reference_reader_and_by_ours(keyword, value, comment):
    header = fits.Header()
    header.append(make_card(keyword, value, comment))
    text = header.tostring()
    keyword = keyword.removeprefix("HIERARCH ")
    theirs = _plain(fits.Header.fromstring(text)[keyword])
    ours = _plain(read_cards(text.encode())[keyword])
    said = _as_said(value)
    if isinstance(said, float):
        said = pytest.approx(said, rel=1e-12)
    assert theirs == said
    assert ours == said
