"""Changes of the PSF library from a page: all go through `change_library`."""

from dataclasses import dataclass
from typing import Literal

from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import add_candidate, remove_star

BY = "dashboard"


@dataclass(frozen=True, kw_only=True)
class ChangeWish:
    """What somebody wants of the library.

    Attributes
    ----------
    action : {'add', 'remove'}
    night : str
        Of the candidate that is added.
    observation : str
    comment : str
    """

    action: Literal["add", "remove"]
    night: str
    observation: str
    comment: str = ""


def change_library(
    catalogue_url: str, paths: ArchivePaths, wish: ChangeWish, *, by: str = BY
) -> str:
    """Carry a wish out; return a sentence that says so.

    The only way from a page to the library: who may do it is to be asked here, once there are
    accounts. Until then the pages listen to this machine alone.

    Raises
    ------
    ArchiveError
        The library or the catalogue refuses it; nothing was changed.
    """
    with open_catalogue(catalogue_url) as catalogue:
        if wish.action == "add":
            add_candidate(
                catalogue, paths, wish.night, wish.observation, by=by, comment=wish.comment
            )
            return f"{wish.observation} was added to the PSF library."
        remove_star(catalogue, paths, wish.observation, by=by, comment=wish.comment)
        return f"{wish.observation} was removed from the PSF library."
