"""The catalogue as a long-running server holds it: opened when first needed, for reading only."""

import threading
from pathlib import Path

from roboao_assets.storage.catalogue import Catalogue, open_catalogue


class CatalogueSource:
    """Gives the catalogue at a URL to whoever serves a request.

    A server outlives its catalogue's outages: as long as the catalogue cannot be
    opened every request says so, and the first one after that opens it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._catalogue: Catalogue | None = None
        self._lock = threading.Lock()

    def get(self) -> Catalogue:
        """Return the catalogue.

        Raises
        ------
        CatalogueUnavailableError
            It cannot be reached, or was not made yet.
        """
        with self._lock:
            if self._catalogue is None:
                self._catalogue = open_catalogue(self._url, read_only=True)
            return self._catalogue

    def was_made(self) -> bool:
        """Return False if the catalogue is an SQLite file that does not exist yet."""
        path = self._url.removeprefix("sqlite:///")
        return path == self._url or Path(path).expanduser().is_file()

    def close(self) -> None:
        """Close the catalogue if it was opened."""
        with self._lock:
            if self._catalogue is not None:
                self._catalogue.close()
                self._catalogue = None
