"""The FITS form of the PSF library and of its candidates; `psf_library` is what changes it.

`psf_library.fits`: the frames (float32; n, y, x) in the primary HDU; the table LIBRARY, one
row a frame; the table HISTORY, one row a change that was ever made; and the image MODES
(float32; sum of k, y, x), the modes of all stars in the order of the table, if any has some.
MODES stands last and is read through a memory map: it may be a hundred times the rest.

A candidate, `summary/psflib/<id>.fits`, holds one star: the frame in the primary HDU, what it
is in the header, MODES if it has some.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import quote, unquote

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import write_image

LIBRARY, HISTORY, MODES = "LIBRARY", "HISTORY", "MODES"
_TEXT_COLUMNS = {
    "obs_names": "obs_name",
    "obj_names": "obj_name",
    "filter": "filter_name",
    "telescope": "telescope",
    "preparation": "preparation",
}
_CANDIDATE_CARDS = {
    "OBSID": ("obs_name", "observation"),
    "OBJECT": ("obj_name", "target"),
    "FILTER": ("filter_name", "filter"),
    "TELESCOP": ("telescope", "telescope"),
    "PREPARED": ("preparation", "what was done to the frame"),
    "COMPANIO": ("companion", "known or suspected companion"),
}
# A FITS table holds printable ASCII; what else a name has is percent-encoded.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_BLOCK_BYTES = 2880


class PsfLibraryError(ArchiveError):
    """The PSF library refused a change, or its file cannot be read."""


def _no_modes() -> NDArray[np.float32]:
    return np.empty((0, 0, 0), np.float32)


@dataclass(frozen=True, kw_only=True)
class PsfEntry:
    """One star of the library.

    Attributes
    ----------
    obs_name : str
        Observation id; unique in the library.
    obj_name, filter_name, telescope : str
    strehl_percent : float
        NaN if it is not known.
    frame : ndarray, float32, shape (2 h + 1, 2 h + 1), axes (y, x)
        Prepared star (`roboao_assets.science.high_contrast.prepare_psf`).
    modes : ndarray, float32, shape (k, 2 h + 1, 2 h + 1), axes (mode, y, x)
        Principal modes of the star's own short stacks, strongest first, each times its
        singular value. k differs from star to star and may be 0, the default.
    preparation : str
        `PreparedPsf.preparation`: what was done to the frame.
    fwhm_arcsec : float
        Width of the star's core in the stack; NaN if it is not known.
    elongation : float
        Ratio of the long to the short width of the core, >= 1; NaN if it is not known.
    companion : str
        A companion that is known or suspected, in words; empty if there is none.
    date_added : datetime or None
        UTC, to the second; given by `PsfLibrary.add` if None.
    """

    obs_name: str
    obj_name: str
    filter_name: str
    telescope: str
    strehl_percent: float
    frame: NDArray[np.float32]
    modes: NDArray[np.float32] = field(default_factory=_no_modes)
    preparation: str = ""
    fwhm_arcsec: float = math.nan
    elongation: float = math.nan
    companion: str = ""
    date_added: datetime | None = None

    def __post_init__(self) -> None:
        if self.modes.size == 0:
            object.__setattr__(self, "modes", np.empty((0, *self.frame.shape), np.float32))

    @property
    def sha256(self) -> str:
        """SHA-256 of the frame's values (little-endian float32)."""
        return _digest(self.frame)

    @property
    def modes_sha256(self) -> str:
        """SHA-256 of the modes' values (little-endian float32); empty if there are none."""
        return _digest(self.modes) if len(self.modes) else ""


@dataclass(frozen=True, kw_only=True)
class LibraryChange:
    """One change of the library.

    Attributes
    ----------
    date_utc : datetime
        To the second.
    action : {'added', 'removed'}
    obs_name : str
    sha256 : str
        Of the frame that came or went.
    by : str
        Who changed it.
    comment : str
        Why.
    """

    date_utc: datetime
    action: Literal["added", "removed"]
    obs_name: str
    sha256: str
    by: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class StoredPsf:
    """A star as the file has it: with the checksums of its row, whatever was read of it."""

    entry: PsfEntry
    sha256: str
    modes_sha256: str
    n_modes: int


@dataclass(frozen=True, kw_only=True)
class LibraryContent:
    """All that a library file holds."""

    stars: tuple[StoredPsf, ...] = ()
    history: tuple[LibraryChange, ...] = ()


def read_library(
    path: Path,
    *,
    with_modes: bool = True,
    obs_names: Collection[str] | None = None,
    mapped: bool = False,
) -> LibraryContent:
    """Read a library file; one that does not exist is an empty library.

    Parameters
    ----------
    path : Path
    with_modes : bool
        False leaves the modes on disk: every entry then has none.
    obs_names : collection of str, optional
        Only these stars.
    mapped : bool
        The modes are views (big-endian) of a memory map of the file, which stays whole when
        another takes its place: for passing them on to `write_library`.

    Raises
    ------
    PsfLibraryError
        If the file is no PSF library, or frames or modes that were read are not those that
        were added.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return LibraryContent()
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        try:
            content = _read(file, with_modes, obs_names, mapped)
        except (OSError, KeyError, TypeError, IndexError, ValueError, Warning) as error:
            raise _unreadable(path, error) from error
    damaged = [
        star.entry.obs_name
        for star in content.stars
        if star.entry.sha256 != star.sha256
        or (with_modes and star.entry.modes_sha256 != star.modes_sha256)
    ]
    if damaged:
        raise PsfLibraryError(
            f"in the PSF library {path} the frames of {', '.join(damaged)} are not those that "
            f"were added (SHA-256 differs): restore the library from a backup, or remove its file "
            f"and add the stars again"
        )
    return content


def read_checksums(path: Path) -> dict[str, str]:
    """Return what the table of a library file says of each frame, by observation.

    Raises
    ------
    PsfLibraryError
        If the file is no PSF library.
    """
    if not path.exists():
        return {}
    try:
        with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            table = hdus[LIBRARY].data
            return {unquote(str(row["obs_names"])): str(row["sha256"]) for row in table}
    except (OSError, KeyError, TypeError, IndexError, ValueError, Warning) as error:
        raise _unreadable(path, error) from error


def write_library(
    path: Path, entries: Sequence[PsfEntry], history: Sequence[LibraryChange]
) -> None:
    """Write a library file, whole or not at all; modes pass from map to disk star by star."""
    cube = np.array([e.frame for e in entries], dtype=np.float32) if entries else None
    primary = fits.PrimaryHDU(cube)
    primary.header["EXTNAME"] = ("PSFS", "prepared stars, one a row of the table")
    primary.header["ORIGIN"] = "Robo-AO archive"
    library = fits.BinTableHDU.from_columns(_library_columns(entries), name=LIBRARY)
    changes = fits.BinTableHDU.from_columns(_history_columns(history), name=HISTORY)
    n_modes = sum(len(entry.modes) for entry in entries)
    with write_whole(path) as partial:
        fits.HDUList([primary, library, changes]).writeto(partial, overwrite=True, checksum=True)
        if n_modes:
            with partial.open("ab") as file:
                _append_modes(file, entries, (n_modes, *entries[0].frame.shape))


def write_psf_candidate(path: Path, entry: PsfEntry, cards: Sequence[Card] = ()) -> None:
    """Write a star that may enter the library: the frame, its modes, what it is.

    Parameters
    ----------
    path : Path
        `ArchivePaths.psf_candidate`.
    entry : PsfEntry
        Its `date_added` is not written.
    cards : sequence of (keyword, value, comment)
        Further cards, such as provenance.
    """
    own: list[Card] = [
        (keyword, quote(getattr(entry, name), safe=_PLAIN), comment)
        for keyword, (name, comment) in _CANDIDATE_CARDS.items()
    ]
    own += [
        ("STREHL", entry.strehl_percent, "Strehl ratio (percent)"),
        ("FWHM", entry.fwhm_arcsec, "width of the core (arcsec)"),
        ("ELONGAT", entry.elongation, "long to short width of the core"),
        ("FRAMESHA", entry.sha256, "SHA-256 of the frame"),
        ("MODESSHA", entry.modes_sha256, "SHA-256 of the modes"),
        ("NMODES", len(entry.modes), "modes of the star's short stacks"),
    ]
    extensions = [(MODES, entry.modes)] if len(entry.modes) else []
    write_image(path, entry.frame, [*own, *cards], extensions)


def read_psf_candidate(path: Path, *, with_modes: bool = True) -> PsfEntry:
    """Read a candidate.

    Raises
    ------
    PsfLibraryError
        If the file is missing, is no candidate, or its data are not those it was written with.
    """
    advice = "materialise psf_candidate of the observation again"
    try:
        with fits.open(BytesIO(path.read_bytes()), lazy_load_hdus=True) as hdus:
            header = hdus[0].header
            frame = np.ascontiguousarray(hdus[0].data, dtype=np.float32)
            modes = _no_modes()
            if with_modes and header["NMODES"]:
                modes = np.ascontiguousarray(hdus[MODES].data, dtype=np.float32)
            text = {
                name: unquote(str(header[keyword]))
                for keyword, (name, _) in _CANDIDATE_CARDS.items()
            }
            entry = PsfEntry(
                **text,
                frame=frame,
                modes=modes,
                strehl_percent=_number(header["STREHL"]),
                fwhm_arcsec=_number(header["FWHM"]),
                elongation=_number(header["ELONGAT"]),
            )
            sound = entry.sha256 == header["FRAMESHA"] and (
                not with_modes or entry.modes_sha256 == header["MODESSHA"]
            )
    except FileNotFoundError:
        raise PsfLibraryError(f"the PSF candidate {path} is not there: {advice}") from None
    except (OSError, KeyError, TypeError, IndexError, ValueError, Warning) as error:
        raise PsfLibraryError(
            f"the PSF candidate {path} cannot be read ({error}): {advice}"
        ) from error
    if not sound:
        raise PsfLibraryError(f"the PSF candidate {path} is damaged (SHA-256 differs): {advice}")
    return entry


def _unreadable(path: Path, error: Exception) -> PsfLibraryError:
    return PsfLibraryError(
        f"the PSF library {path} cannot be read ({error}): it must have a cube in its primary HDU "
        f"and a table {LIBRARY}; restore it from a backup, or move it away to begin an empty one"
    )


def _digest(array: NDArray[np.floating]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype="<f4").tobytes()).hexdigest()


def _read(
    file: BinaryIO, with_modes: bool, obs_names: Collection[str] | None, mapped: bool
) -> LibraryContent:
    # Lazily, and never the data of MODES: a hundred times the rest.
    with fits.open(file, memmap=False, lazy_load_hdus=True) as hdus:
        cube, table = hdus[0].data, hdus[LIBRARY].data
        stars = [_read_star(cube[i], table[i], table.names) for i in range(len(table))]
        history: tuple[LibraryChange, ...] = ()
        # A library of before its history was kept has none.
        with suppress(KeyError):
            history = tuple(_read_change(row) for row in hdus[HISTORY].data)
        total = sum(star.n_modes for star in stars)
        modes = None
        if with_modes and total:
            unit = hdus[MODES]
            # The shape by the header alone: asking for the data would read them.
            header = unit.header
            shape = (header["NAXIS3"], header["NAXIS2"], header["NAXIS1"])
            if shape[0] != total:
                raise ValueError(f"{MODES} has {shape[0]} planes, and the table counts {total}")
            # Of the file that is open: by now another may stand in its place.
            modes = np.memmap(file, ">f4", "r", unit.fileinfo()["datLoc"], shape)
    if modes is not None:
        stars = list(_with_modes(stars, modes, obs_names, mapped))
    if obs_names is not None:
        stars = [star for star in stars if star.entry.obs_name in obs_names]
    return LibraryContent(stars=tuple(stars), history=history)


def _with_modes(
    stars: Sequence[StoredPsf],
    modes: NDArray[np.floating],
    obs_names: Collection[str] | None,
    mapped: bool,
) -> Iterable[StoredPsf]:
    first = 0
    for star in stars:
        last = first + star.n_modes
        if star.n_modes and (obs_names is None or star.entry.obs_name in obs_names):
            own = modes[first:last] if mapped else np.array(modes[first:last], dtype=np.float32)
            yield replace(star, entry=replace(star.entry, modes=own))
        else:
            yield star
        first = last


def _read_star(
    frame: NDArray[np.floating], row: fits.FITS_record, names: Sequence[str]
) -> StoredPsf:
    text = {name: unquote(str(row[column])) for column, name in _TEXT_COLUMNS.items()}
    # Older libraries know nothing of modes and quality.
    newer = "n_modes" in names
    entry = PsfEntry(
        **text,
        strehl_percent=float(row["strehl"]),
        frame=np.ascontiguousarray(frame, dtype=np.float32),
        fwhm_arcsec=float(row["fwhm_arcsec"]) if newer else math.nan,
        elongation=float(row["elongation"]) if newer else math.nan,
        companion=unquote(str(row["companion"])) if newer else "",
        date_added=datetime.fromisoformat(str(row["date_added"])),
    )
    return StoredPsf(
        entry=entry,
        sha256=str(row["sha256"]),
        modes_sha256=str(row["modes_sha256"]) if newer else "",
        n_modes=int(row["n_modes"]) if newer else 0,
    )


def _read_change(row: fits.FITS_record) -> LibraryChange:
    return LibraryChange(
        date_utc=datetime.fromisoformat(str(row["date_utc"])),
        action="added" if str(row["action"]) == "added" else "removed",
        obs_name=unquote(str(row["obs_name"])),
        sha256=str(row["sha256"]),
        by=unquote(str(row["by"])),
        comment=unquote(str(row["comment"])),
    )


def _library_columns(entries: Sequence[PsfEntry]) -> list[fits.Column]:
    columns = [
        _text_column(column, [quote(getattr(e, name), safe=_PLAIN) for e in entries])
        for column, name in _TEXT_COLUMNS.items()
    ]
    return [
        *columns,
        fits.Column("strehl", "E", unit="%", array=[e.strehl_percent for e in entries]),
        _text_column("sha256", [e.sha256 for e in entries]),
        _text_column("date_added", [_to_text(e.date_added) for e in entries]),
        fits.Column("n_modes", "J", array=[len(e.modes) for e in entries]),
        _text_column("modes_sha256", [e.modes_sha256 for e in entries]),
        fits.Column("fwhm_arcsec", "E", unit="arcsec", array=[e.fwhm_arcsec for e in entries]),
        fits.Column("elongation", "E", array=[e.elongation for e in entries]),
        _text_column("companion", [quote(e.companion, safe=_PLAIN) for e in entries]),
    ]


def _history_columns(history: Sequence[LibraryChange]) -> list[fits.Column]:
    return [
        _text_column("date_utc", [_to_text(c.date_utc) for c in history]),
        _text_column("action", [c.action for c in history]),
        _text_column("obs_name", [quote(c.obs_name, safe=_PLAIN) for c in history]),
        _text_column("sha256", [c.sha256 for c in history]),
        _text_column("by", [quote(c.by, safe=_PLAIN) for c in history]),
        _text_column("comment", [quote(c.comment, safe=_PLAIN) for c in history]),
    ]


def _append_modes(file: BinaryIO, entries: Sequence[PsfEntry], shape: tuple[int, int, int]) -> None:
    header = fits.ImageHDU(np.zeros((1, 1, 1), ">f4"), name=MODES).header
    header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = shape[2], shape[1], shape[0]
    file.write(header.tostring().encode("ascii"))
    for entry in entries:
        file.write(np.ascontiguousarray(entry.modes, dtype=">f4").tobytes())
    file.write(b"\0" * (-4 * math.prod(shape) % _BLOCK_BYTES))


def _text_column(name: str, values: list[str]) -> fits.Column:
    width = max((len(value) for value in values), default=1) or 1
    return fits.Column(name, f"{width}A", array=np.array(values, dtype=f"S{width}"))


def _to_text(date: datetime | None) -> str:
    return (date or datetime.now(UTC)).isoformat(timespec="seconds")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
