"""Who may look at the archive: the users of a catalogue and the programs each may see."""

import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError
from roboao_assets.storage.catalogue.base import USERS, DocumentHome
from roboao_assets.storage.catalogue.change import Change
from roboao_assets.storage.catalogue.query import Reader
from roboao_assets.storage.catalogue.values import now_utc

ALL: Literal["all"] = "all"
# This login sees everything by its name, as it always did.
ADMIN = "admin"
Programs = tuple[str, ...] | Literal["all"]

# Whoever may take an administrator away holds this claim.
_TURN = "users|administrators"
_WAIT_FOR_OTHERS_S = 10.0

MOST_IDENTITY_CHARACTERS = 320
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_PROGRAM = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass(frozen=True, kw_only=True)
class User:
    """A user as the catalogue has them.

    Attributes
    ----------
    name : str
        Login.
    password_hash : str
    programs : tuple of str or "all"
    stamp : str
        Another one after every change of the user; sessions of an earlier one are over.
    identity : str
        What the single sign-on knows the user by; empty: they come with a password.
    tokens_stamp : str
        Another one when the user has ended all tokens of downloads; earlier ones are void.
    """

    name: str
    password_hash: str = field(repr=False)
    programs: Programs
    stamp: str = field(repr=False)
    identity: str = ""
    tokens_stamp: str = field(default="", repr=False)

    @property
    def is_admin(self) -> bool:
        """Whether the user sees everything and administrates the archive."""
        return self.programs == ALL or self.name == ADMIN

    @property
    def reader(self) -> Reader | None:
        """What searches are restricted to; None: to nothing."""
        if self.is_admin:
            return None
        return Reader(login=self.name, programs=tuple(self.programs))


def is_login(name: str) -> bool:
    """Return whether `name` can be a login: 1 to 64 of letters, digits, ``._@-``."""
    return _LOGIN.fullmatch(name) is not None


class UserBook:
    """The users of a catalogue (`Catalogue.users`)."""

    def __init__(self, home: DocumentHome) -> None:
        self._home = home

    def get(self, name: str) -> User | None:
        """Return a user, None if there is none of this name."""
        if not is_login(name):
            return None
        document = self._home._get(USERS, name)  # noqa: SLF001
        return None if document is None else _user(document)

    def all(self) -> list[User]:
        """Return every user, by name."""
        return [_user(document) for document in self._home._all(USERS)]  # noqa: SLF001

    def add(self, name: str, password_hash: str, programs: Sequence[str] | str) -> None:
        """Enter a user.

        Parameters
        ----------
        name : str
        password_hash : str
            Kept as given; never a password.
        programs : sequence of str or "all"

        Raises
        ------
        CatalogueError
            There is a user of this name, or the name or a program cannot be one.
        """
        self._home._check_writable()  # noqa: SLF001
        if not is_login(name):
            raise CatalogueError(
                f"{name!r} is no login: it has 1 to 64 letters, digits, dots, underscores, @ or "
                f"hyphens, and begins with a letter or digit"
            )
        document = {"_id": name, "password": password_hash}
        document |= {"programs": _checked(name, programs), **_new_stamp()}
        if not self._home._insert(USERS, document):  # noqa: SLF001
            raise CatalogueError(
                f"there is a user {name} already; change the password or the programs with "
                f"`roboao user passwd` or `roboao user programs`"
            )

    def set_password(self, name: str, password_hash: str) -> None:
        """Set the hash of a user's password; all sessions of the user end."""
        self._change(name, {"password": password_hash})

    def set_identity(self, name: str, identity: str) -> None:
        """Set what the single sign-on knows a user by; all sessions of the user end.

        Parameters
        ----------
        name : str
        identity : str
            As the provider spells it; empty: the user cannot come by single sign-on.

        Raises
        ------
        CatalogueError
            There is no such user, another one is known by this, or nobody can be.
        """
        if identity != identity.strip() or len(identity) > MOST_IDENTITY_CHARACTERS:
            raise CatalogueError(
                f"{identity!r:.80} is nothing that a single sign-on knows somebody by: it has at "
                f"most {MOST_IDENTITY_CHARACTERS} characters and no blanks at its ends"
            )
        for other in self.all():
            if identity and other.identity == identity and other.name != name:
                raise CatalogueError(
                    f"the single sign-on's {identity!r} is the user {other.name} already; take it "
                    f"from them first: `roboao user identity {other.name} none`"
                )
        self._change(name, {"identity": identity})

    def set_programs(self, name: str, programs: Sequence[str] | str) -> None:
        """Set the programs of a user; all sessions of the user end.

        Raises
        ------
        CatalogueError
            There is no such user, a program cannot be one, or nobody would administrate the
            archive any more.
        """
        wanted = _checked(name, programs)
        self._home._check_writable()  # noqa: SLF001
        with self._keeping_an_administrator(name if wanted != ALL else None):
            self._change(name, {"programs": wanted})

    def end_tokens(self, name: str) -> None:
        """End all tokens with which scripts fetch files as a user; the sessions go on."""
        self._assign(name, {"tokens_stamp": secrets.token_hex(16)})

    def remove(self, name: str) -> bool:
        """Remove a user, whose sessions end; True if there was one.

        Raises
        ------
        CatalogueError
            Nobody would administrate the archive any more.
        """
        self._home._check_writable()  # noqa: SLF001
        if not is_login(name):
            return False
        with self._keeping_an_administrator(name):
            return self._home._delete(USERS, name)  # noqa: SLF001

    @contextmanager
    def _keeping_an_administrator(self, leaving: str | None) -> Iterator[None]:
        """Let one change at a time through, and none that takes the last administrator away."""
        user = None if leaving is None else self.get(leaving)
        if user is None or not user.is_admin:
            yield
            return
        owner = secrets.token_hex(8)
        deadline = time.monotonic() + _WAIT_FOR_OTHERS_S
        while not self._home._claim(_TURN, owner, _WAIT_FOR_OTHERS_S):  # noqa: SLF001
            if time.monotonic() > deadline:
                raise CatalogueUnavailableError(
                    f"somebody else changes the administrators at this moment; {leaving} was not "
                    f"changed: try again"
                )
            time.sleep(0.05)
        try:
            if not any(other.is_admin and other.name != leaving for other in self.all()):
                raise CatalogueError(
                    f"{leaving} is the only administrator, and nobody could make another one on "
                    f"the pages: make another user an administrator first (programs: all)"
                )
            yield
        finally:
            self._home._release(_TURN, owner)  # noqa: SLF001

    def _change(self, name: str, values: Mapping[str, Any]) -> None:
        self._assign(name, {**values, **_new_stamp()})

    def _assign(self, name: str, values: Mapping[str, Any]) -> None:
        self._home._check_writable()  # noqa: SLF001
        change = Change(assign=dict(values))
        if not is_login(name) or not self._home._update(USERS, name, change):  # noqa: SLF001
            raise CatalogueError(
                f"there is no user {name!r}; `roboao user list` tells which there are"
            )


def _new_stamp() -> dict[str, Any]:
    return {"last_modified": now_utc(), "sessions_stamp": secrets.token_hex(16)}


def _user(document: Mapping[str, Any]) -> User:
    """Read a document that operators may have edited: what is odd gives no right."""
    password, programs = document.get("password"), document.get("programs")
    if isinstance(programs, list):
        readable: Programs = tuple(
            str(program)
            for program in programs
            if isinstance(program, str | int | float) and _PROGRAM.fullmatch(str(program))
        )
    else:
        readable = ALL if programs == ALL else ()
    # Of a password or programs changed with a database client the stamp is another one as well.
    identity = document.get("identity")
    parts = (document.get("sessions_stamp"), password, programs, identity)
    tokens_stamp = document.get("tokens_stamp")
    return User(
        name=str(document["_id"]),
        password_hash=password if isinstance(password, str) else "",
        programs=readable,
        stamp=sha256(repr(parts).encode("utf-8", "replace")).hexdigest(),
        identity=identity if isinstance(identity, str) else "",
        tokens_stamp=tokens_stamp if isinstance(tokens_stamp, str) else "",
    )


def _checked(name: str, programs: Sequence[str] | str) -> list[str] | str:
    if programs == ALL:
        return ALL
    if isinstance(programs, str):
        raise CatalogueError(f"a user's programs are a list or 'all'; got {programs!r}")
    if name == ADMIN:
        raise CatalogueError(
            "the login admin sees everything by its name; its programs are 'all' (choose another "
            "login for somebody who is to see some programs only)"
        )
    for program in programs:
        if not _PROGRAM.fullmatch(program):
            raise CatalogueError(
                f"{program!r} is no program: a program is digits, optionally with one decimal "
                f"part (24, 24.1)"
            )
    return list(dict.fromkeys(programs))
