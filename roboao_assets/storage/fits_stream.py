"""FITS parsed while it streams in: headers in blocks of 2880 bytes, then images.

Only what a raw file may hold: images of two or more axes (those beyond the
second count as frames), and primary HDUs without data. See the FITS standard
4.0, Pence et al. 2010, https://doi.org/10.1051/0004-6361/201015362
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np

from roboao_assets.science.errors import RawDataError

BLOCK_BYTES = 2880
_CARD_BYTES = 80
# A header of more blocks has lost its END card (or is no header at all).
_MAX_HEADER_BLOCKS = 1000
_MAX_FRAME_BYTES = 1 << 31
# Six hours of the camera's fastest readout: more frames in a file are no frames.
_MAX_FRAMES = 200_000
# A few kB of bzip2 can unpack to terabytes; the longest exposures come to a few GB.
MOST_UNPACKED_BYTES = 8_000_000_000
_BITPIX_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_SCALED_BITPIX = (8, 16, 32, -32, -64)


class ByteSource(Protocol):
    """Anything bytes are read from in order."""

    def readinto(self, view: memoryview, /) -> int:
        """Fill `view`; return the number of bytes, fewer only at the end of the data."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """How the image of one HDU is stored.

    Attributes
    ----------
    bitpix : int
    shape : tuple of int
        (y, x) of one frame.
    n_frames : int
        Product of the axes beyond the second; 0 for an HDU without data.
    bscale, bzero : float
    blank : int or None
        Value of undefined pixels of an integer image.
    """

    bitpix: int
    shape: tuple[int, int]
    n_frames: int
    bscale: float = 1.0
    bzero: float = 0.0
    blank: int | None = None

    @property
    def is_uint16(self) -> bool:
        """True for 16-bit unsigned pixels (BZERO 32768)."""
        return self.bitpix == 16 and self.bzero == 32768 and self.bscale == 1

    @property
    def dtype(self) -> np.dtype:
        """Type of the frames in memory: uint16, or float32 for all other images."""
        return np.dtype(np.uint16 if self.is_uint16 else np.float32)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame in the file."""
        return prod(self.shape) * abs(self.bitpix) // 8

    def describe(self) -> str:
        """Shape and type, for a sentence."""
        kind = "16-bit unsigned" if self.is_uint16 else f"BITPIX {self.bitpix}"
        return f"{self.shape[1]} x {self.shape[0]} px {kind}"

    def convert(self, raw: np.ndarray, out: np.ndarray) -> None:
        """Convert one frame as stored (bytes) to physical values.

        Parameters
        ----------
        raw : ndarray of uint8, (frame_bytes,)
        out : ndarray of float32, (y, x)
            Written.
        """
        stored = raw.view(_BITPIX_TYPES[self.bitpix]).reshape(self.shape)
        # What is too large for float32 becomes infinite, and counts as not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            if self.bscale == 1 and self.bzero == 0:
                out[...] = stored
            else:
                # In float64: scaled integers may need more digits than float32 has.
                out[...] = stored * np.float64(self.bscale) + np.float64(self.bzero)
        if self.blank is not None and self.bitpix > 0:
            out[stored == self.blank] = np.nan


class FitsStream:
    """The HDUs of one file, in order.

    Parameters
    ----------
    source : ByteSource
    path : Path
        Only for messages.
    most_bytes : int
        A file that announces more, headers and frames together, is refused before they are read.

    Attributes
    ----------
    frames_read : int
        Frames read or skipped so far.
    """

    def __init__(self, source: ByteSource, path: Path, most_bytes: int = MOST_UNPACKED_BYTES):
        self._source = source
        self._path = path
        self._most_bytes = most_bytes
        self._announced_bytes = 0
        self._announced_frames = 0
        self._padding = 0
        self._is_first = True
        self.frames_read = 0

    def next_header(self) -> bytes | None:
        """Read the header of the next HDU; None at the end of the file.

        Raises
        ------
        RawDataError
            If what comes is not the beginning of a FITS file or extension, or
            ends within the header.
        """
        padding = memoryview(bytearray(self._padding))
        self._padding = 0
        # The last image's padding carries nothing: some writers leave it out.
        if self._source.readinto(padding) < len(padding):
            return None
        blocks = bytearray()
        while True:
            block = memoryview(bytearray(BLOCK_BYTES))
            count = self._source.readinto(block)
            if not count and not blocks and not self._is_first:
                return None
            if not blocks:
                self._check_beginning(bytes(block[:count]))
            if count < BLOCK_BYTES:
                raise self.problem("the file ends within a header: it is truncated")
            blocks += block
            if _has_end(block):
                self._is_first = False
                self._announce(len(blocks))
                return bytes(blocks)
            if len(blocks) >= _MAX_HEADER_BLOCKS * BLOCK_BYTES:
                raise self.problem(f"a header has no END card in {_MAX_HEADER_BLOCKS} blocks")

    def next_image(self) -> tuple[ImageLayout, bytes] | None:
        """Read up to the next image's data; None at the end of the file.

        Returns
        -------
        layout : ImageLayout
        header : bytes
        """
        header = self.next_header()
        if header is None:
            return None
        layout = self._read_layout(header)
        n_bytes = layout.frame_bytes * layout.n_frames
        self._padding = -n_bytes % BLOCK_BYTES
        self._announce(n_bytes + self._padding, layout.n_frames)
        return layout, header

    def read_frame(self, view: memoryview) -> None:
        """Fill `view` (bytes) with the next frame as stored."""
        count = self._source.readinto(view)
        if count < len(view):
            raise self.problem(
                f"the file ends after {count} of the {len(view)} bytes of a frame: it is truncated"
            )
        self.frames_read += 1

    def skip_frames(self, layout: ImageLayout, scratch: bytearray) -> None:
        """Pass over the frames of an image, a `scratch` at a time."""
        for _ in range(layout.n_frames):
            left = layout.frame_bytes
            while left:
                part = memoryview(scratch)[: min(left, len(scratch))]
                if self._source.readinto(part) < len(part):
                    raise self.problem("the file ends within a frame: it is truncated")
                left -= len(part)
            self.frames_read += 1

    def problem(self, what: str) -> RawDataError:
        """Return an error that says where it is, and what to do."""
        where = f"{str(self._path)!r}, at frame {self.frames_read} (from 0)"
        return RawDataError(f"{where}: {what}; copy it again from the telescope")

    def _announce(self, n_bytes: int, n_frames: int = 0) -> None:
        self._announced_bytes += n_bytes
        self._announced_frames += n_frames
        if self._announced_bytes > self._most_bytes:
            raise self.problem(
                f"it unpacks to {self._announced_bytes / 1e9:.4g} GB or more, and a raw file of "
                f"more than {self._most_bytes / 1e9:.4g} GB is not read (raise the setting "
                f"most_raw_file_gb if it is as it should be)"
            )
        if self._announced_frames > _MAX_FRAMES:
            raise self.problem(
                f"it holds {self._announced_frames} frames or more, and more than {_MAX_FRAMES} "
                f"are no exposure"
            )

    def _check_beginning(self, block: bytes) -> None:
        if self._is_first:
            if not block:
                raise self.problem("the file unpacks to nothing; a FITS file was expected")
            if not block.startswith(b"SIMPLE  ="):
                raise self.problem(
                    f"a FITS file begins with 'SIMPLE  =', this one with {block[:16]!r}"
                )
        elif not block.startswith(b"XTENSION="):
            raise self.problem(
                f"a further FITS extension or the end was expected, there is {block[:16]!r}"
            )

    def _read_layout(self, header: bytes) -> ImageLayout:
        cards = _parse_cards(header)
        kind = cards.get("XTENSION", "IMAGE")
        if kind != "IMAGE":
            raise self.problem(f"an image extension was expected, there is a {kind} extension")
        try:
            bitpix, naxis = int(cards["BITPIX"]), int(cards["NAXIS"])
            axes = [int(cards[f"NAXIS{i + 1}"]) for i in range(naxis)]
            bscale, bzero = float(cards.get("BSCALE", 1)), float(cards.get("BZERO", 0))
            blank = int(cards["BLANK"]) if "BLANK" in cards else None
            groups = (int(cards.get("PCOUNT", 0)), int(cards.get("GCOUNT", 1)))
        except KeyError as error:
            raise self.problem(f"the header has no {error.args[0]} card") from None
        except (ValueError, OverflowError) as error:
            raise self.problem(f"the header has a structural card of no use: {error}") from None
        if naxis == 0:
            return ImageLayout(bitpix=8, shape=(0, 0), n_frames=0)
        if bitpix not in _SCALED_BITPIX:
            raise self.problem(f"BITPIX is {bitpix}, expected one of {_SCALED_BITPIX}")
        if groups != (0, 1) or naxis < 2 or min(axes) < 0:
            raise self.problem(
                f"an image of two or more axes was expected, there are the axes {axes} "
                f"with PCOUNT, GCOUNT = {groups}"
            )
        layout = ImageLayout(
            bitpix=bitpix,
            shape=(axes[1], axes[0]),
            n_frames=prod(axes[2:]) if axes[0] and axes[1] else 0,
            bscale=bscale,
            bzero=bzero,
            blank=blank,
        )
        if layout.frame_bytes > _MAX_FRAME_BYTES:
            raise self.problem(f"a frame of {axes[0]} x {axes[1]} px is no frame of a camera")
        return layout


def _has_end(block: memoryview) -> bool:
    text = bytes(block)
    at = text.find(b"END")
    while at >= 0:
        if at % _CARD_BYTES == 0 and not text[at + 3 : at + _CARD_BYTES].strip(b" \0"):
            return True
        at = text.find(b"END", at + 1)
    return False


def _parse_cards(header: bytes) -> dict[str, str]:
    """Structural cards of a header; fast, as it is done for every frame."""
    cards = {}
    for at in range(0, len(header), _CARD_BYTES):
        if header[at + 8 : at + 9] != b"=":
            continue
        keyword = header[at : at + 8].rstrip().decode("latin-1")
        if keyword in _STRUCTURAL or keyword.startswith("NAXIS"):
            value = header[at + 10 : at + _CARD_BYTES].decode("latin-1").strip()
            if value.startswith("'"):
                cards[keyword] = value[1:].partition("'")[0].strip()
            else:
                cards[keyword] = value.partition("/")[0].strip().replace("D", "E")
    return cards


_STRUCTURAL = frozenset(
    ("XTENSION", "BITPIX", "NAXIS", "BSCALE", "BZERO", "BLANK", "PCOUNT", "GCOUNT")
)
