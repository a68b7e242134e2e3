"""Raw files changed at random: the right frames or a RawDataError, in bounded time and memory."""

import bz2
import json
import resource
import warnings
from contextlib import suppress
from io import BytesIO

import bson
import numpy as np
import pytest
from astropy.io import fits
from fuzzing import at_least, within
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_material import fits_bytes, noise_frames

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.catalogue.documents import header_mapping
from roboao_assets.storage.fits_cards import read_cards
from roboao_assets.storage.fits_stream import FitsStream
from roboao_assets.storage.raw_frames import count_frames, read_frames
from roboao_assets.storage.raw_header import parse_facts, read_header

FRAMES = noise_frames(6, (100, 100))
CARDS = {"MODE_NUM": 6, "EXPOSURE": 0.7, "TELRA": "01:00:00", "TELDEC": "-00:30:00"}
WHOLE = fits_bytes(FRAMES, CARDS)
# Two blocks in one stream, and the same in two streams.
COMPRESSED = {
    "one stream": bz2.compress(WHOLE, 1),
    "two streams": bz2.compress(WHOLE[:60_000], 1) + bz2.compress(WHOLE[60_000:], 1),
}
METHODS = ("auto", "blocks")
LIMIT_S = 60
MOST_BYTES = 50_000_000
# What a reading may take beside the frames that were announced and refused.
SPARE_KB = 400_000

PART = st.floats(0, 1, exclude_max=True)
MUTATION = st.one_of(
    st.tuples(st.just("flip"), PART, st.integers(0, 7)),
    st.tuples(st.just("cut"), PART, PART),
    st.tuples(st.just("end"), PART),
    st.tuples(st.just("splice"), PART, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("overwrite"), PART, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("repeat"), PART, PART, PART),
    st.tuples(st.just("move"), PART, PART, PART),
)
MUTATIONS = st.lists(MUTATION, min_size=1, max_size=4)


def mutate(content: bytes, mutations) -> bytes:
    """Apply the mutations in turn; places are parts (0..1) of the content as it is then."""
    for kind, *what in mutations:
        at = int(what[0] * len(content))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << what[1]]) + content[at + 1 :]
        elif kind == "end":
            content = content[:at]
        elif kind == "splice":
            content = content[:at] + what[1] + content[at:]
        elif kind == "overwrite":
            content = content[:at] + what[1] + content[at + len(what[1]) :]
        elif kind != "flip":
            end = at + int(what[1] * (len(content) - at))
            piece, rest = content[at:end], content
            if kind != "repeat":
                rest = content[:at] + content[end:]
            if kind != "cut":
                to = int(what[2] * len(rest))
                rest = rest[:to] + piece + rest[to:]
            content = rest
    return content


def read(path, method):
    """Frames of a file, or the sentence that refuses it."""
    with within(LIMIT_S):
        try:
            cube = read_frames([path], method=method, most_bytes=MOST_BYTES)
        except RawDataError as error:
            refused = str(error)
        else:
            refused = ""
    if refused:
        assert path.name in refused
        return refused
    assert cube.frames.ndim == 3
    assert cube.frames.dtype in (np.uint16, np.float32)
    assert len(cube.frames) > 0
    parse_facts(cube.header)
    assert count_frames([path], method=method, most_bytes=MOST_BYTES) == (len(cube.frames),)
    return cube.frames


@pytest.fixture(autouse=True)
def bounded_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < SPARE_KB


def of_a_test(examples):
    return settings(
        max_examples=at_least(examples),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@of_a_test(60)
@given(packed=st.sampled_from(sorted(COMPRESSED)), mutations=MUTATIONS)
def test_compressed_bytes_changed(tmp_path, packed, mutations):
    """What unpacks at all has checksums: then it is what the reference unpacks."""
    path = tmp_path / "a.fits.bz2"
    path.write_bytes(mutate(COMPRESSED[packed], mutations))
    for method in METHODS:
        answer = read(path, method)
        if isinstance(answer, str):
            continue
        with fits.open(BytesIO(bz2.decompress(path.read_bytes()))) as hdus:
            np.testing.assert_array_equal(answer, np.array([unit.data for unit in hdus]))
    with within(LIMIT_S), suppress(RawDataError):
        parse_facts(read_header(path))


@of_a_test(60)
@given(mutations=MUTATIONS)
def test_unpacked_bytes_changed(tmp_path, mutations):
    """Nothing tells that a pixel is another: but both ways of unpacking find the same."""
    path = tmp_path / "a.fits.bz2"
    path.write_bytes(bz2.compress(mutate(WHOLE, mutations), 1))
    first, second = (read(path, method) for method in METHODS)
    if isinstance(first, str):
        assert first == second
    else:
        np.testing.assert_array_equal(first, second)


# Values that a structural card must not have, and some that it may.
VALUE = st.one_of(
    st.sampled_from(
        ["", "T", "'IMAGE   '", "1_0", "0x10", "nan", "inf", "-inf", "1e999", "1D400", "-0", "+2"]
        + [
            "65536",
            "99999999",
            "9" * 60,
            "-1",
            "16",
            "-32",
            "-64",
            "64",
            "32",
            "8",
            "2",
            "3",
            "100",
        ]
        + ["32768", "32768.0", "3.2768E4", "1e308", "5e-324", "- 1", "2 / comment", "\xb2", "'2'"]
    ),
    st.text(st.characters(codec="latin-1"), max_size=30),
    st.integers(-(10**30), 10**30).map(str),
    st.floats().map(repr),
)
KEYWORD = st.sampled_from(
    ["SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "NAXIS999"]
    + ["BSCALE", "BZERO", "BLANK", "PCOUNT", "GCOUNT", "EXTEND", "END", "CONTINUE", "HIERARCH"]
)
CHANGED_CARDS = st.lists(
    st.tuples(st.integers(0, 15), st.one_of(st.none(), KEYWORD), VALUE), min_size=1, max_size=5
)
SMALL = noise_frames(3, (30, 40))
# Of types that are scaled, too.
SMALL_FILES = {
    "uint16": fits_bytes(SMALL, CARDS),
    "float32": fits_bytes(SMALL.astype(np.float32), CARDS),
    "float64": fits_bytes(SMALL.astype(np.float64)),
    "int32": fits_bytes(SMALL.astype(np.int32)),
    "a cube": fits_bytes([SMALL], CARDS),
}


def change_cards(content: bytes, changes, header: int) -> bytes:
    """Replace cards of the header that begins at byte `header`; by the number of the card."""
    for number, keyword, value in changes:
        at = header + 80 * number
        name = content[at : at + 8] if keyword is None else keyword.ljust(8).encode()
        card = (name + b"= " + value.encode("latin-1"))[:80].ljust(80)
        content = content[:at] + card + content[at + 80 :]
    return content


@of_a_test(150)
@given(
    kind=st.sampled_from(sorted(SMALL_FILES)),
    changes=CHANGED_CARDS,
    second=st.booleans(),
    mutations=st.lists(MUTATION, max_size=1),
)
def test_structural_cards_changed(tmp_path, kind, changes, second, mutations):
    content, header = SMALL_FILES[kind], 2880 * 2 if second else 0
    path = tmp_path / "a.fits.bz2"
    path.write_bytes(bz2.compress(mutate(change_cards(content, changes, header), mutations), 1))
    read(path, "blocks")


@of_a_test(150)
@given(st.sampled_from(sorted(SMALL_FILES)), CHANGED_CARDS, MUTATIONS)
def test_a_stream_ends_in_frames_or_a_sentence(kind, changes, mutations):
    content = mutate(change_cards(SMALL_FILES[kind], changes, 0), mutations)
    stream = FitsStream(BytesIO(content), "a", MOST_BYTES)
    with within(LIMIT_S), suppress(RawDataError):
        while (image := stream.next_image()) is not None:
            stream.skip_frames(image[0], bytearray(4096))
    # No byte was made up: every frame was there.
    assert stream.frames_read <= len(content)


LINE = st.one_of(
    st.binary(max_size=80),
    st.tuples(
        st.one_of(KEYWORD, st.text(st.characters(codec="ascii"), max_size=8)),
        st.sampled_from(["= ", "  ", "=", ""]),
        VALUE,
    ).map(lambda card: f"{card[0]:<8}{card[1]}{card[2]}".encode("latin-1", "replace")),
)


@of_a_test(300)
@given(st.lists(LINE, max_size=12))
def test_any_cards_are_a_header_that_can_be_stored_and_written(lines):
    block = b"".join(line[:80].ljust(80) for line in lines)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = read_cards(block)
        facts = parse_facts(header)
        written = header.tostring()
        again = fits.Header.fromstring(written)
    assert [card.keyword for card in again.cards] == [card.keyword for card in header.cards]
    assert facts.ra_deg is None or 0 <= facts.ra_deg < 360
    mapping = header_mapping([(c.keyword, c.value, c.comment) for c in header.cards])
    json.loads(json.dumps(mapping, allow_nan=False))
    assert bson.decode(bson.encode(mapping)) == mapping
