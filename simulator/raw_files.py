"""Raw files as the camera computer writes them: bzip2-ed FITS of many 16-bit frames.

The bytes are put together by hand: it is faster than any FITS library when every frame is
an extension, and the file grows frame by frame.
"""

import bz2
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

BLOCK = 2880
Card = tuple[str, bool | int | float | str, str]


def header_block(cards: Sequence[Card]) -> bytes:
    """Return FITS header blocks of `cards` (keyword, value, comment), END and padding added."""
    text = "".join(_format_card(*card) for card in cards) + "END".ljust(80)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")


def _format_card(keyword: str, value: bool | int | float | str, comment: str) -> str:
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        quoted = value.replace("'", "''")
        text = f"'{quoted:<8}'".ljust(20)
    elif isinstance(value, int):
        text = f"{value:>20d}"
    else:
        # repr, so that a whole number keeps the point that makes it a floating-point one.
        text = f"{value!r:>20}".replace("e", "E")
    card = f"{keyword:<8}= {text} / {comment}"
    if len(card) > 80 and len(card) - len(comment) - 3 > 80:
        raise ValueError(f"the value of {keyword}, {value!r}, does not fit into a FITS card")
    return card[:80].ljust(80)


def frame_bytes(frame: np.ndarray, *, primary: bool, cards: Sequence[Card] = ()) -> bytes:
    """Return the HDU of a frame.

    Parameters
    ----------
    frame : ndarray
        uint16 (y, x).
    primary : bool
        True for the first frame of a file.
    cards : sequence of Card
        Further cards of the header.
    """
    height, width = frame.shape
    axes: list[Card] = [
        ("BITPIX", 16, "number of bits per data pixel"),
        ("NAXIS", 2, "number of data axes"),
        ("NAXIS1", width, "length of data axis 1"),
        ("NAXIS2", height, "length of data axis 2"),
    ]
    if primary:
        start: list[Card] = [("SIMPLE", True, "conforms to the FITS standard"), *axes]
        start.append(("EXTEND", True, "there may be extensions"))
    else:
        start = [("XTENSION", "IMAGE", "image extension"), *axes]
        start += [("PCOUNT", 0, "no parameters"), ("GCOUNT", 1, "one group")]
    start += [("BZERO", 32768, "unsigned 16-bit integers"), ("BSCALE", 1, "no scaling")]
    # Unsigned 16-bit numbers are stored as signed, 32768 less: the highest bit flipped.
    data = (frame ^ np.uint16(0x8000)).astype(">u2").tobytes()
    return header_block([*start, *cards]) + data + b"\0" * (-len(data) % BLOCK)


def compress_frames(
    frames: Iterable[np.ndarray], *, cards: Sequence[Card], starts_file: bool
) -> bytes:
    """Return frames as one bzip2 stream of FITS HDUs.

    Streams may follow each other in a file, as parallel bzip2 programs write them.

    Parameters
    ----------
    frames : iterable of ndarray
        uint16 (y, x).
    cards : sequence of Card
        The primary header's.
    starts_file : bool
        True: the first frame is the primary HDU.
    """
    return b"".join(_compressed_pieces(frames, cards, starts_file))


def _compressed_pieces(
    frames: Iterable[np.ndarray], cards: Sequence[Card], starts_file: bool
) -> Iterator[bytes]:
    compressor = bz2.BZ2Compressor(9)
    for index, frame in enumerate(frames):
        primary = starts_file and index == 0
        yield compressor.compress(
            frame_bytes(frame, primary=primary, cards=cards if primary else ())
        )
    yield compressor.flush()
