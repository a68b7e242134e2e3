"""The primary header of a raw file, and the facts of an exposure that it holds."""

import bz2
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from astropy.io import fits

from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.bzip2 import unreadable
from roboao_assets.storage.fits_cards import read_cards
from roboao_assets.storage.fits_stream import FitsStream
from roboao_assets.storage.mirror import head_of

_UNKNOWN = "9999"
# Holds the first bzip2 block, of 900,000 bytes at most, however badly it is packed.
_HEAD_BYTES = 1 << 20
_SEXAGESIMAL = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<first>\d{1,3})\s*[:hd°\s]\s*(?P<minutes>\d{1,2})"
    r"(?:\s*[:m'\s]\s*(?P<seconds>\d{1,2}(?:\.\d*)?)?)?\s*[s\"]?",
    re.ASCII,
)
_DETSIZE = re.compile(r"\[\d+:\d+,\d+:\d+\]", re.ASCII)
_EQUINOX = re.compile(r"[JB]?\s*(\d{4}(?:\.\d*)?)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ExposureFacts:
    """What a raw header says of an exposure; None where it does not say, or not usably.

    Attributes
    ----------
    mode : str or None
        Camera mode, e.g. ``6``.
    exposure_s, magnitude : float or None
    ra_deg, dec_deg : float or None
        Both or neither; of the telescope, else of the object.
    equinox : float or None
        Year.
    azimuth_deg, elevation_deg : float or None
    detsize : str or None
        Readout window in 1-based px, e.g. ``[1:1024,1:1024]`` (x, then y).
    filter : str or None
    """

    mode: str | None = None
    exposure_s: float | None = None
    magnitude: float | None = None
    ra_deg: float | None = None
    dec_deg: float | None = None
    equinox: float | None = None
    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    detsize: str | None = None
    filter: str | None = None


def read_header(path: Path) -> fits.Header:
    """Read the primary header of a raw file, unpacking no more than the bzip2 blocks it lies in.

    Returns
    -------
    astropy.io.fits.Header
        Made so that no later use of it raises or warns (`fits_cards.read_cards`).

    Raises
    ------
    RawDataError
        If the file is not there, is empty, no bzip2 file, truncated before the
        header's end, or no FITS file.
    """
    path = Path(path)
    advice = "copy it again from the telescope"
    try:
        if path.stat().st_size == 0:
            raise RawDataError(f"{str(path)!r} is empty (zero bytes); {advice}")
        header = _header_block(path)
    except EOFError:
        raise RawDataError(
            f"{str(path)!r} cannot be unpacked: it ends within its header; {advice}"
        ) from None
    except OSError as error:
        # What bz2 says of its own has no number; the operating system's errors have.
        if error.errno:
            raise unreadable(path, error) from None
        raise RawDataError(
            f"{str(path)!r} cannot be read: it is no bzip2 file, or is damaged ({error}); {advice}"
        ) from None
    return read_cards(header or b"")


def _header_block(path: Path) -> bytes | None:
    # Of a file that is elsewhere its beginning is enough, unless the header is very long.
    head = head_of(path, _HEAD_BYTES)
    if head is not None:
        with suppress(EOFError), bz2.open(BytesIO(head)) as file:
            return FitsStream(file, path).next_header()
    with bz2.open(path) as file:
        return FitsStream(file, path).next_header()


def parse_facts(header: fits.Header) -> ExposureFacts:
    """Read the facts of an exposure off its header; never raises.

    A keyword that is missing, has ``9999`` in its value, does not parse, or is
    out of all bounds gives None. The position is TELRA/TELDEC, or OBJRA/OBJDEC
    where one of those is of no use.
    """
    ra_deg, dec_deg = _position(header, "TELRA", "TELDEC")
    if ra_deg is None:
        ra_deg, dec_deg = _position(header, "OBJRA", "OBJDEC")
    azimuth_deg = _number(header, "AZIMUTH", -360.0, 360.0)
    return ExposureFacts(
        mode=_mode(header),
        exposure_s=_number(header, "EXPOSURE", 0.0, 1e6),
        magnitude=_number(header, "MAGNITUD", -30.0, 40.0),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        equinox=_equinox(header),
        azimuth_deg=None if azimuth_deg is None else azimuth_deg % 360.0,
        elevation_deg=_number(header, "ELVATION", -90.0, 90.0),
        detsize=_matching(header, "DETSIZE", _DETSIZE),
        filter=_text(header, "FILTER"),
    )


def parse_sexagesimal(text: str) -> float | None:
    """Read ``D:M:S``, ``D M S``, ``..d..m..s`` or ``..h..m..s``; None if it is none of them.

    Parameters
    ----------
    text : str
        The seconds may be left out. ``-00:30:00`` is negative.

    Returns
    -------
    float or None
        In the unit of the first part (degrees, or hours).

    Examples
    --------
    >>> parse_sexagesimal("-00:30:00")
    -0.5
    """
    match = _SEXAGESIMAL.fullmatch(text.strip().replace("\N{MINUS SIGN}", "-"))
    if match is None:
        return None
    minutes, seconds = int(match["minutes"]), float(match["seconds"] or 0)
    # 60 is what rounding makes of 59.99...
    if minutes > 60 or seconds > 60:
        return None
    value = int(match["first"]) + minutes / 60 + seconds / 3600
    # The sign is the text's, not the first number's: -00 is a negative zero.
    return -value if match["sign"] == "-" else value


def _position(
    header: fits.Header, ra_key: str, dec_key: str
) -> tuple[float, float] | tuple[None, None]:
    ra_hours = parse_sexagesimal(_text(header, ra_key) or "")
    dec_deg = parse_sexagesimal(_text(header, dec_key) or "")
    if ra_hours is None or dec_deg is None or not 0 <= ra_hours <= 24 or abs(dec_deg) > 90:
        return None, None
    return ra_hours * 15.0 % 360.0, dec_deg


def _text(header: fits.Header, key: str) -> str | None:
    value = header.get(key)
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    text = str(value).strip()
    return None if not text or _UNKNOWN in text else text


def _number(header: fits.Header, key: str, low: float, high: float) -> float | None:
    try:
        value = float(_text(header, key) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and low <= value <= high else None


def _mode(header: fits.Header) -> str | None:
    number = _number(header, "MODE_NUM", 0, 9998)
    if number is None or number != int(number):
        return None
    return str(int(number))


def _matching(header: fits.Header, key: str, pattern: re.Pattern[str]) -> str | None:
    text = (_text(header, key) or "").replace(" ", "")
    return text if pattern.fullmatch(text) else None


def _equinox(header: fits.Header) -> float | None:
    match = _EQUINOX.fullmatch(_text(header, "EQUINOX") or "")
    year = float(match[1]) if match else 0.0
    return year if 1800 <= year <= 2200 else None
