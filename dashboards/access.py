"""Who may see and do what: the one place that decides it.

Pages, pictures, files and websockets ask `Access.may`; searches take the restriction of
`Visitor.reader` into the catalogue's own query, so that counts and lists tell nothing either.
What is not named here is denied. What somebody may not see is answered as what does not exist.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dashboards.source import CatalogueSource
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import ObservationQuery, Reader, User

# Pages (and their websockets) of every user, and of administrators.
USER_PAGES = ("/", "/night", "/observation", "/search", "/trends", "/account")
ADMIN_PAGES = (
    "/psf-library",
    "/administration",
    "/administration/redo",
    "/administration/calibration",
    "/administration/users",
    "/administration/log",
)
# What strangers need to log in, and to read the page on which they do.
PUBLIC_ROUTES = (
    "/login",
    "/login/oauth",
    "/logout",
    "/theme",
    "/favicon.ico",
    # It answers with whether the visitor administrates, and with nothing else.
    "/authorised/dagster",
)
# Handlers that ask again whose picture, file or comment it is, or search as their visitor may;
# scripts and styles of Panel and bokeh.
_USER_ROUTES = (
    "/image",
    "/file",
    "/script",
    "/comment",
    "/search/table",
    "/nights/parts",
    "/night/parts",
    "/account/end-tokens",
)
_ADMIN_ROUTES = ("/administration/action",)
_USER_FILES = "/static/"
# What a token is good for, instead of all the above.
_TOKEN_ROUTES = ("/file",)


class AccessError(ArchiveError):
    """Somebody asked for what they have no right to."""


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """A user who is logged in.

    Attributes
    ----------
    user : User
        As the catalogue had them at this request.
    login : str
        Of this log-in alone; what was opened by another one is not this one's.
    by_token : bool
        It is a script of the user's, that may fetch files and nothing else.
    """

    user: User
    login: str
    by_token: bool = False

    @property
    def name(self) -> str:
        """Login name."""
        return self.user.name

    @property
    def is_admin(self) -> bool:
        """Whether the visitor administrates the archive."""
        return self.user.is_admin

    @property
    def reader(self) -> Reader | None:
        """What the catalogue's searches are restricted to; None: an administrator's are not."""
        return self.user.reader


class Asked(NamedTuple):
    """What somebody asks for.

    `route` (a path of the server, its websocket included), `night`, `observation`, `picture`
    (a key of the catalogue), or `administration`: changes, and what shows all programs at once
    such as the PSF library.
    """

    kind: Literal["route", "night", "observation", "picture", "administration"]
    name: str = ""


ADMINISTRATION = Asked("administration")


class Access:
    """The authorisation of an archive."""

    def __init__(self, source: CatalogueSource) -> None:
        self._source = source

    def may(self, visitor: Visitor | None, asked: Asked) -> bool:
        """Return whether somebody may have what they ask for.

        Parameters
        ----------
        visitor : Visitor or None
            None: a stranger.
        asked : Asked
            What is there for nobody, an administrator may ask for as well.

        Raises
        ------
        CatalogueError
            The catalogue, which knows it, cannot be read.
        """
        if asked.kind == "route":
            return _may_use(visitor, asked.name)
        if visitor is None:
            return False
        if visitor.is_admin:
            # A token is good for files; whatever else it meets, it administrates nothing.
            seen = asked.kind in ("night", "observation", "picture")
            return seen or (asked == ADMINISTRATION and not visitor.by_token)
        if asked.kind == "picture":
            asked = picture_subject(asked.name)
        if asked.kind == "observation":
            return self._sees_any(ObservationQuery(ids=(asked.name,), reader=visitor.reader))
        if asked.kind == "night":
            return is_night(asked.name) and self._sees_any(
                ObservationQuery(nights=(asked.name,), reader=visitor.reader)
            )
        return False

    def _sees_any(self, query: ObservationQuery) -> bool:
        return self._source.get().count_observations(query) > 0


def is_night(name: str) -> bool:
    """Return whether `name` looks like a night, YYYYMMDD."""
    return re.fullmatch(r"\d{8}", name, re.ASCII) is not None


def picture_subject(key: str) -> Asked:
    """Return what a picture shows, by its key in the catalogue.

    A night's seeing is of no program; its other pictures show observations of all of them.
    """
    subject, _, kind = key.partition("/")
    if not is_night(subject):
        return Asked("observation", subject)
    is_seeing = kind == "seeing" or kind.startswith("seeing/")
    return Asked("night", subject) if is_seeing else ADMINISTRATION


def _may_use(visitor: Visitor | None, path: str) -> bool:
    if path in PUBLIC_ROUTES:
        return True
    if visitor is None:
        return False
    if visitor.by_token:
        return path in _TOKEN_ROUTES
    page = "/" if path == "/ws" else path.removesuffix("/ws")
    if page in ADMIN_PAGES or path in _ADMIN_ROUTES:
        return visitor.is_admin
    return page in USER_PAGES or path in _USER_ROUTES or path.startswith(_USER_FILES)
