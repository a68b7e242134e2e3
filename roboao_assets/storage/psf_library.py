"""The PSF library: one FITS file, a cube of prepared stars and a table of what they are.

The cube (float32; n, y, x) is in the primary HDU, the table in the extension LIBRARY, one
row a frame. Every change is made on a copy under a lock and renamed into place: readers
see the library before or after it, and two changes at once are both kept.
"""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import write_whole

_TABLE = "LIBRARY"
_TEXT_COLUMNS = {
    "obs_names": "obs_name",
    "obj_names": "obj_name",
    "filter": "filter_name",
    "telescope": "telescope",
    "preparation": "preparation",
}
# A FITS table holds printable ASCII; what else a name has is percent-encoded.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class PsfLibraryError(ArchiveError):
    """The PSF library refused a change, or its file cannot be read."""


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
    preparation : str
        `PreparedPsf.preparation`: what was done to the frame.
    date_added : datetime or None
        UTC, to the second; given by `PsfLibrary.add` if None.
    """

    obs_name: str
    obj_name: str
    filter_name: str
    telescope: str
    strehl_percent: float
    frame: NDArray[np.float32]
    preparation: str = ""
    date_added: datetime | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the frame's values (little-endian float32)."""
        return hashlib.sha256(np.ascontiguousarray(self.frame, dtype="<f4").tobytes()).hexdigest()


class PsfLibrary:
    """The library in the file `path`; a file that does not exist is an empty library.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def entries(self) -> tuple[PsfEntry, ...]:
        """Read all stars, in the order in which they were added.

        Raises
        ------
        PsfLibraryError
            If the file is not a PSF library, or a frame is not what was added.
        """
        if not self.path.exists():
            return ()
        try:
            with fits.open(self.path, memmap=False) as hdus:
                cube = hdus[0].data
                table = hdus[_TABLE].data
                entries = tuple(_read_entry(cube[i], table[i]) for i in range(len(table)))
                checksums = [str(row["sha256"]) for row in table]
        except (OSError, KeyError, TypeError, IndexError, ValueError) as error:
            raise PsfLibraryError(
                f"the PSF library {self.path} cannot be read ({error}): it must have a cube in "
                f"its primary HDU and a table {_TABLE}; restore it from a backup, or move it away "
                f"to begin an empty one"
            ) from error
        damaged = [e.obs_name for e, sha in zip(entries, checksums, strict=True) if e.sha256 != sha]
        if damaged:
            raise PsfLibraryError(
                f"in the PSF library {self.path} the frames of {', '.join(damaged)} are not those "
                f"that were added (SHA-256 differs): remove these entries and add them again"
            )
        return entries

    def show(self) -> tuple[dict[str, str | float | datetime | None], ...]:
        """Tell what each star is, without the frames."""
        return tuple(
            {
                "obs_name": entry.obs_name,
                "obj_name": entry.obj_name,
                "filter": entry.filter_name,
                "telescope": entry.telescope,
                "strehl_percent": entry.strehl_percent,
                "preparation": entry.preparation,
                "sha256": entry.sha256,
                "date_added": entry.date_added,
            }
            for entry in self.entries()
        )

    def add(self, entry: PsfEntry) -> None:
        """Add a star.

        Raises
        ------
        PsfLibraryError
            If the observation is in the library already, or the frame has another shape or
            preparation than the others, is not square with an odd side, or is not finite.
        """
        _check_frame(entry)
        with self._changing() as entries:
            _check_fits_in(entry, entries)
            added = entry.date_added or datetime.now(UTC)
            entries.append(replace(entry, date_added=added.astimezone(UTC)))

    def remove(self, obs_name: str) -> None:
        """Remove the star of an observation.

        Raises
        ------
        PsfLibraryError
            If it is not in the library.
        """
        with self._changing() as entries:
            kept = [entry for entry in entries if entry.obs_name != obs_name]
            if len(kept) == len(entries):
                raise PsfLibraryError(
                    f"{obs_name} is not in the PSF library {self.path}, so it cannot be removed; "
                    f"the library has {len(entries)} observations"
                )
            entries[:] = kept

    def fingerprint(self) -> str:
        """SHA-256 of what the stars are and of their frames, in order; the same for equal content.

        Dates do not count: a star removed and added again is the same library.
        """
        digest = hashlib.sha256()
        for entry in self.entries():
            fields = [getattr(entry, name) for name in _TEXT_COLUMNS.values()]
            digest.update("\0".join([*fields, entry.sha256, "\n"]).encode())
        return digest.hexdigest()

    @contextmanager
    def _changing(self) -> Iterator[list[PsfEntry]]:
        """Yield the entries, alone; what is made of them is written if nothing is raised."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A file of its own: the library itself is replaced, and a lock dies with its file.
        lock = self.path.with_name(f".{self.path.name}.lock")
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            entries = list(self.entries())
            yield entries
            with write_whole(self.path) as partial:
                _to_hdus(entries).writeto(partial, overwrite=True, checksum=True)


def _check_frame(entry: PsfEntry) -> None:
    shape = entry.frame.shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] % 2 == 0:
        raise PsfLibraryError(
            f"the frame of {entry.obs_name} has shape {shape} and cannot enter the PSF library: "
            f"a square of an odd side is expected, with the star on the central pixel"
        )
    if not np.isfinite(entry.frame).all():
        raise PsfLibraryError(
            f"the frame of {entry.obs_name} has {int((~np.isfinite(entry.frame)).sum())} pixels "
            f"that are not finite and cannot enter the PSF library"
        )


def _check_fits_in(entry: PsfEntry, entries: list[PsfEntry]) -> None:
    if any(other.obs_name == entry.obs_name for other in entries):
        raise PsfLibraryError(
            f"{entry.obs_name} is in the PSF library already; remove it first to replace it"
        )
    if not entries:
        return
    first = entries[0]
    if entry.frame.shape != first.frame.shape:
        raise PsfLibraryError(
            f"the frame of {entry.obs_name} has {entry.frame.shape[1]} x {entry.frame.shape[0]} "
            f"px, those of the PSF library {first.frame.shape[1]} x {first.frame.shape[0]} px: "
            f"an instrument profile with another box needs an archive, or a library, of its own"
        )
    if entry.preparation and any(
        other.preparation not in ("", entry.preparation) for other in entries
    ):
        raise PsfLibraryError(
            f"the frame of {entry.obs_name} was prepared in another way ({entry.preparation}) than "
            f"those of the PSF library ({first.preparation}): with new settings of the filter the "
            f"library must be built anew"
        )


def _read_entry(frame: NDArray[np.floating], row: fits.FITS_record) -> PsfEntry:
    text = {field: unquote(str(row[column])) for column, field in _TEXT_COLUMNS.items()}
    return PsfEntry(
        **text,
        strehl_percent=float(row["strehl"]),
        frame=np.ascontiguousarray(frame, dtype=np.float32),
        date_added=datetime.fromisoformat(str(row["date_added"])),
    )


def _to_hdus(entries: list[PsfEntry]) -> fits.HDUList:
    columns = [
        _text_column(column, [quote(getattr(e, field), safe=_PLAIN) for e in entries])
        for column, field in _TEXT_COLUMNS.items()
    ]
    columns += [
        fits.Column("strehl", "E", unit="%", array=[e.strehl_percent for e in entries]),
        _text_column("sha256", [e.sha256 for e in entries]),
        _text_column("date_added", [_to_text(e.date_added) for e in entries]),
    ]
    cube = np.array([e.frame for e in entries], dtype=np.float32) if entries else None
    primary = fits.PrimaryHDU(cube)
    primary.header["EXTNAME"] = ("PSFS", "prepared stars, one a row of the table")
    primary.header["ORIGIN"] = "Robo-AO archive"
    return fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name=_TABLE)])


def _text_column(name: str, values: list[str]) -> fits.Column:
    width = max((len(value) for value in values), default=1) or 1
    return fits.Column(name, f"{width}A", array=np.array(values, dtype=f"S{width}"))


def _to_text(date_added: datetime | None) -> str:
    return (date_added or datetime.now(UTC)).isoformat(timespec="seconds")
