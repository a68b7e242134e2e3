"""The PSF library: the stars that others are compared with, and who took them in and out.

Every change is made on a copy under a lock and renamed into place, together with its row of
the history: readers see the library before or after it, and two changes at once are both
kept. The form of the file is told in `psf_library_file`.
"""

import fcntl
import getpass
import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from roboao_assets.storage.psf_library_file import (
    LibraryChange,
    PsfEntry,
    PsfLibraryError,
    read_checksums,
    read_library,
    read_psf_candidate,
    write_library,
    write_psf_candidate,
)

__all__ = [
    "LibraryChange",
    "PsfEntry",
    "PsfLibrary",
    "PsfLibraryError",
    "read_psf_candidate",
    "user_name",
    "write_psf_candidate",
]

# What decides a product that is made with a star, besides its pixels.
_IDENTITY = ("obs_name", "obj_name", "filter_name", "telescope", "preparation")


class PsfLibrary:
    """The library in the file `path`; a file that does not exist is an empty library.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def entries(
        self, *, with_modes: bool = True, obs_names: Collection[str] | None = None
    ) -> tuple[PsfEntry, ...]:
        """Read the stars, in the order in which they were added.

        Parameters
        ----------
        with_modes : bool
            False: no entry has modes, whatever the file has; 200 stars are then 32 MB and
            not 500 MB.
        obs_names : collection of str, optional
            Only these stars, those of them that are there.

        Raises
        ------
        PsfLibraryError
            If the file is not a PSF library, or what was read is not what was added.
        """
        content = read_library(self.path, with_modes=with_modes, obs_names=obs_names)
        return tuple(star.entry for star in content.stars)

    def history(self) -> tuple[LibraryChange, ...]:
        """Return every change ever made, oldest first; a library may be older than its history.

        Raises
        ------
        PsfLibraryError
            As `entries`.
        """
        return read_library(self.path, with_modes=False).history

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of each star's frame by its observation; reads no pixel.

        Raises
        ------
        PsfLibraryError
            If the file is not a PSF library.
        """
        return read_checksums(self.path)

    def show(self) -> tuple[dict[str, str | float | datetime | None], ...]:
        """Tell what each star is, without the pixels."""
        return tuple(
            {
                "obs_name": star.entry.obs_name,
                "obj_name": star.entry.obj_name,
                "filter": star.entry.filter_name,
                "telescope": star.entry.telescope,
                "strehl_percent": star.entry.strehl_percent,
                "fwhm_arcsec": star.entry.fwhm_arcsec,
                "elongation": star.entry.elongation,
                "companion": star.entry.companion,
                "preparation": star.entry.preparation,
                "sha256": star.sha256,
                "n_modes": star.n_modes,
                "date_added": star.entry.date_added,
            }
            for star in read_library(self.path, with_modes=False).stars
        )

    def add(self, entry: PsfEntry, *, by: str = "", comment: str = "") -> None:
        """Add a star.

        Parameters
        ----------
        entry : PsfEntry
        by : str
            Who adds it; by default the user of this process.
        comment : str
            Why.

        Raises
        ------
        PsfLibraryError
            If the observation is in the library already, or the frame has another shape or
            preparation than the others, is not square with an odd side, or is not finite.
        """
        _check_frame(entry)
        with self._changing() as (entries, history):
            _check_fits_in(entry, entries)
            added = (entry.date_added or datetime.now(UTC)).astimezone(UTC)
            entries.append(replace(entry, date_added=added))
            history.append(_change("added", entry, by, comment))

    def remove(self, obs_name: str, *, by: str = "", comment: str = "") -> None:
        """Remove the star of an observation; the history keeps that it was there.

        Parameters
        ----------
        obs_name : str
        by, comment
            As for `add`.

        Raises
        ------
        PsfLibraryError
            If it is not in the library.
        """
        with self._changing() as (entries, history):
            gone = [entry for entry in entries if entry.obs_name == obs_name]
            if not gone:
                raise PsfLibraryError(
                    f"{obs_name} is not in the PSF library {self.path}, so it cannot be removed; "
                    f"the library has {len(entries)} observations"
                )
            entries[:] = [entry for entry in entries if entry.obs_name != obs_name]
            history.append(_change("removed", gone[0], by, comment))

    def fingerprint(self) -> str:
        """SHA-256 of what the stars are and of their pixels, in order; the same for equal content.

        Dates and history do not count: a star removed and added again is the same library.
        The modes count by the checksums of the table; they are not read.
        """
        digest = hashlib.sha256()
        for star in read_library(self.path, with_modes=False).stars:
            fields = [getattr(star.entry, name) for name in _IDENTITY]
            digest.update("\0".join([*fields, star.sha256, star.modes_sha256, "\n"]).encode())
        return digest.hexdigest()

    @contextmanager
    def _changing(self) -> Iterator[tuple[list[PsfEntry], list[LibraryChange]]]:
        """Yield entries and history, alone; they are written if nothing is raised."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A file of its own: the library itself is replaced, and a lock dies with its file.
        lock = self.path.with_name(f".{self.path.name}.lock")
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            content = read_library(self.path, mapped=True)
            entries = [star.entry for star in content.stars]
            history = list(content.history)
            yield entries, history
            write_library(self.path, entries, history)


def user_name() -> str:
    """Name of the user of this process, for the history."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def _change(action: str, entry: PsfEntry, by: str, comment: str) -> LibraryChange:
    return LibraryChange(
        date_utc=datetime.now(UTC),
        action="added" if action == "added" else "removed",
        obs_name=entry.obs_name,
        sha256=entry.sha256,
        by=by or user_name(),
        comment=comment.strip(),
    )


def _check_frame(entry: PsfEntry) -> None:
    shape = entry.frame.shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] % 2 == 0:
        raise PsfLibraryError(
            f"the frame of {entry.obs_name} has shape {shape} and cannot enter the PSF library: "
            f"a square of an odd side is expected, with the star on the central pixel"
        )
    if entry.modes.shape[1:] != shape:
        raise PsfLibraryError(
            f"the modes of {entry.obs_name} have shape {entry.modes.shape} and its frame has "
            f"{shape}: (number, y, x) with the frame's y and x is expected"
        )
    for name, array in (("frame", entry.frame), ("modes", entry.modes)):
        if not np.isfinite(array).all():
            raise PsfLibraryError(
                f"the {name} of {entry.obs_name}: {int((~np.isfinite(array)).sum())} pixels that "
                f"are not finite cannot enter the PSF library"
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
