"""File families of a raw night and the ids that their names hold.

Ids are read from the right, as an object name may itself contain underscores.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from roboao_assets.science.errors import RawDataError

RAW_SUFFIX = ".fits.bz2"
# A file name has 255 bytes at most, and those of the products are longer than the id.
MOST_ID_BYTES = 200
_DATE = r"(?P<date>\d{8})_(?P<time>\d{6}(?:\.\d{1,6})?)"
_TAIL = rf"(?P<camera>[^_]+)_(?P<filter>[^_]+)_(?P<marker>[^_]*)_{_DATE}"
_OBSERVATION = re.compile(rf"(?P<program>\d+(?:\.\d+)?)_(?P<object>.+)_{_TAIL}", re.ASCII)
_SEEING = re.compile(rf"seeing_{_TAIL}", re.ASCII)
_PART = re.compile(r"(?P<id>.*_\d{6}(?:\.\d{1,6})?)_(?P<part>\d{1,4})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ExposureName:
    """What the name of a science or seeing exposure says.

    Attributes
    ----------
    id : str
        The whole string: the exposure's id everywhere.
    program : str
        Digits, optionally with a decimal part; empty for seeing exposures.
    object_name : str
        May contain underscores; empty for seeing exposures.
    camera, filter_name, marker : str
    utc : datetime
        Start of the exposure (aware).
    """

    id: str
    program: str
    object_name: str
    camera: str
    filter_name: str
    marker: str
    utc: datetime

    @property
    def is_seeing(self) -> bool:
        """True for an AO-off exposure."""
        return not self.program

    @property
    def night(self) -> str:
        """The night that it belongs to: its UT date, `YYYYMMDD`."""
        return f"{self.utc:%Y%m%d}"


def parse_exposure_name(name: str) -> ExposureName:
    """Read an observation's or seeing exposure's id.

    Parameters
    ----------
    name : str
        File name without `.fits.bz2` and without the `_<n>` of a continued exposure.

    Raises
    ------
    RawDataError
        If the name is of neither form.

    Examples
    --------
    >>> parse_exposure_name("4_351_Yrsa_VIC_lp600_o_20160925_110427.040912").object_name
    '351_Yrsa'
    """
    match = _SEEING.fullmatch(name) or _OBSERVATION.fullmatch(name)
    # Ids go into file names, documents and web addresses: no control characters, no lone bytes.
    if match is None or not name.isprintable() or "/" in name:
        raise RawDataError(
            f"the file name {name!r} is neither <program>_<object>_<camera>_<filter>_<marker>_"
            f"<YYYYMMDD>_<HHMMSS.ffffff> nor a seeing, dark, flat, bias or pointing file; "
            f"it is left alone until it is renamed"
        )
    if len(os.fsencode(name)) > MOST_ID_BYTES:
        raise RawDataError(
            f"the file name {name[:40]!r}... is too long: an id may have {MOST_ID_BYTES} bytes, as "
            f"names of products are made of it, and this one has {len(os.fsencode(name))}; it is "
            f"left alone until it is renamed"
        )
    parts = match.groupdict()
    form = "%Y%m%d%H%M%S.%f" if "." in parts["time"] else "%Y%m%d%H%M%S"
    try:
        utc = datetime.strptime(parts["date"] + parts["time"], form).replace(tzinfo=UTC)
    except ValueError as error:
        raise RawDataError(
            f"the file name {name!r} holds no valid date and time: {error}"
        ) from None
    return ExposureName(
        id=name,
        program=parts.get("program") or "",
        object_name=parts.get("object") or "",
        camera=parts["camera"],
        filter_name=parts["filter"],
        marker=parts["marker"],
        utc=utc,
    )


def split_part(stem: str) -> tuple[str, int]:
    """Split the `_<n>` of a continued exposure off a file's stem.

    Returns
    -------
    id : str
    part : int
        -1 for the first file, n for `<id>_<n>`: sorting by it gives the order of the frames.
    """
    match = _PART.fullmatch(stem)
    return (match["id"], int(match["part"])) if match else (stem, -1)


def raw_stem(path: Path) -> str:
    """File name without `.fits.bz2`."""
    return path.name.removesuffix(RAW_SUFFIX)


def shown_name(path: Path) -> str:
    r"""File name as it can be shown, stored and sent: what is not printable is escaped.

    Examples
    --------
    >>> shown_name(Path("a\nb.fits.bz2"))
    'a\\nb.fits.bz2'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path.name)
