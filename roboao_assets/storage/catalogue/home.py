"""Which home a catalogue URL means."""

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.interface import Catalogue


def open_catalogue(url: str, *, read_only: bool = False) -> Catalogue:
    """Open the catalogue at `url`.

    Parameters
    ----------
    url : str
        ``sqlite:///relative/path``, ``sqlite:////absolute/path``, or a ``mongodb://`` (or
        ``mongodb+srv://``) connection string; its database is ``roboao`` unless it names one.
    read_only : bool
        Refuse every write. A SQLite catalogue must then exist; otherwise it, and the folder
        it stands in, are made.

    Returns
    -------
    Catalogue
        A context manager. It may be used from several threads, survives a fork, and is
        pickled by its URL: the other process opens its own connection.

    Raises
    ------
    CatalogueUnavailableError
        The catalogue cannot be reached.
    CatalogueError
        The URL names no home, or what is there is no catalogue.
    """
    # Each home is imported only when used: pymongo costs a worker that has SQLite 0.2 s.
    if url.startswith("sqlite:///"):
        from roboao_assets.storage.catalogue.sqlite import SqliteCatalogue  # noqa: PLC0415

        return SqliteCatalogue(url, read_only=read_only)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from roboao_assets.storage.catalogue.mongodb import MongoCatalogue  # noqa: PLC0415

        return MongoCatalogue(url, read_only=read_only)
    scheme = url.split(":", 1)[0] if ":" in url else ""
    raise CatalogueError(
        f"a catalogue URL starts with sqlite:/// or mongodb://, and this one starts with "
        f"{scheme + ':' if scheme else 'neither'}; correct ROBOAO_CATALOGUE_URL"
    )
