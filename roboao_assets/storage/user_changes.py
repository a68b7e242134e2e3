"""Changes of the users, of the command line and of the pages: made, and entered in the log."""

from collections.abc import Sequence
from typing import Literal

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import Catalogue
from roboao_assets.storage.passwords import hash_password


def read_programs(text: str) -> list[str] | Literal["all"]:
    """Return the programs that somebody has typed: separated by commas, `all`, or `none`."""
    text = text.strip()
    if text == "all":
        return "all"
    return [] if text == "none" else [part.strip() for part in text.split(",") if part.strip()]


def spelled_programs(programs: Sequence[str] | str) -> str:
    """Return in words what a user sees."""
    if programs == "all":
        return "everything"
    return ", ".join(programs) or "the programs of which they are a PI"


def add_user(
    catalogue: Catalogue, name: str, password: str | None, programs: Sequence[str] | str, *, by: str
) -> None:
    """Enter a user.

    Parameters
    ----------
    catalogue : Catalogue
    name : str
    password : str or None
        None: with no password this user can come in; only by single sign-on, see `set_identity`.
    programs : sequence of str or "all"
    by : str
        Who does it.

    Raises
    ------
    PasswordError
        The password is too weak.
    CatalogueError
        There is a user of this name, or the name or a program cannot be one.
    """
    password_hash = "" if password is None else hash_password(password, login=name)
    catalogue.users.add(name, password_hash, programs)
    catalogue.actions.record(name, "user added", by=by, programs=programs)


def set_password(catalogue: Catalogue, name: str, password: str, *, by: str) -> None:
    """Set a user's password; whoever is logged in by that name is logged out.

    Raises
    ------
    PasswordError
        The password is too weak.
    CatalogueError
        There is no such user.
    """
    catalogue.users.set_password(name, hash_password(password, login=name))
    catalogue.actions.record(name, "user's password set", by=by)


def set_identity(catalogue: Catalogue, name: str, identity: str, *, by: str) -> None:
    """Set what the single sign-on knows a user by (empty: nothing); they are logged out.

    Raises
    ------
    CatalogueError
        There is no such user, another one is known by this, or nobody can be.
    """
    catalogue.users.set_identity(name, identity)
    catalogue.actions.record(name, "user's identity set", by=by, identity=identity)


def set_programs(
    catalogue: Catalogue, name: str, programs: Sequence[str] | str, *, by: str
) -> None:
    """Set which programs a user sees; whoever is logged in by that name is logged out.

    Raises
    ------
    CatalogueError
        There is no such user, a program cannot be one, or it is the last administrator.
    """
    catalogue.users.set_programs(name, programs)
    catalogue.actions.record(name, "user's programs set", by=by, programs=programs)


def remove_user(catalogue: Catalogue, name: str, *, by: str) -> None:
    """Remove a user, who is logged out.

    Raises
    ------
    CatalogueError
        There is no such user, or it is the last administrator.
    """
    if not catalogue.users.remove(name):
        raise CatalogueError(f"there is no user {name!r}; `roboao user list` tells which there are")
    catalogue.actions.record(name, "user removed", by=by)
