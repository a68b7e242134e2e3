"""What the page of the PSF library shows: its stars, its history, a night's candidates."""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from dashboards.frame_pictures import frame_picture
from roboao_assets.storage.catalogue import Catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import PsfCandidate, read_candidates
from roboao_assets.storage.psf_library import LibraryChange, PsfEntry, PsfLibrary


@dataclass(frozen=True, kw_only=True)
class LibraryView:
    """The library as it was read.

    Attributes
    ----------
    stars : tuple of PsfEntry
        Without their modes.
    pictures : dict of str to str
        Address of each star's picture by its observation.
    history : tuple of LibraryChange
        Every change, newest first.
    """

    stars: tuple[PsfEntry, ...] = ()
    pictures: dict[str, str] = field(default_factory=dict)
    history: tuple[LibraryChange, ...] = ()

    def star(self, observation: str) -> PsfEntry | None:
        """Return the star of an observation, None if it is not in the library."""
        return next((star for star in self.stars if star.obs_name == observation), None)


class LibrarySource:
    """Gives the library of an archive to whoever serves a request; read again when it changed."""

    def __init__(self, paths: ArchivePaths) -> None:
        self.paths = paths
        self._seen: tuple[int, int] | None = None
        self._view = LibraryView()
        self._lock = threading.Lock()

    def get(self) -> LibraryView:
        """Return the library as it is now.

        Raises
        ------
        PsfLibraryError
            If it cannot be read.
        """
        with self._lock:
            written = _written(self.paths.psf_library)
            if written != self._seen:
                library = PsfLibrary(self.paths.psf_library)
                stars = library.entries(with_modes=False)
                self._view = LibraryView(
                    stars=stars,
                    pictures={star.obs_name: frame_picture(star.frame) for star in stars},
                    history=library.history()[::-1],
                )
                self._seen = written
            return self._view


def collect_candidates(
    catalogue: Catalogue, paths: ArchivePaths, night: str
) -> tuple[PsfCandidate, ...]:
    """Return a night's candidates in time order, those that are none included."""
    return read_candidates(catalogue, paths, night)


def _written(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
