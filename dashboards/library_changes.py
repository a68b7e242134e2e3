"""Changes of the PSF library from a page: all go through `change_library`."""

from dataclasses import dataclass
from typing import Literal

from dashboards.access import ADMINISTRATION, Access, AccessError, Visitor
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import add_candidate, remove_star


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
    catalogue_url: str, paths: ArchivePaths, wish: ChangeWish, visitor: Visitor, access: Access
) -> str:
    """Carry a visitor's wish out; return a sentence that says so.

    The only way from a page to the library.

    Raises
    ------
    AccessError
        The visitor may not change the library.
    ArchiveError
        The library or the catalogue refuses it; nothing was changed.
    """
    if not access.may(visitor, ADMINISTRATION):
        raise AccessError(
            f"{visitor.name} may not change the PSF library; administrators may, whose programs "
            f"are 'all'"
        )
    by = visitor.name
    with open_catalogue(catalogue_url) as catalogue:
        if wish.action == "add":
            add_candidate(
                catalogue, paths, wish.night, wish.observation, by=by, comment=wish.comment
            )
            return f"{wish.observation} was added to the PSF library."
        remove_star(catalogue, paths, wish.observation, by=by, comment=wish.comment)
        return f"{wish.observation} was removed from the PSF library."
