"""Sessions: a signed cookie that says who is logged in, checked against the catalogue."""

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping
from http.cookies import Morsel
from pathlib import Path
from typing import Any

from tornado.web import RequestHandler, create_signed_value, decode_signed_value

from dashboards.access import Visitor
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueUnavailableError, SettingsError
from roboao_assets.storage.catalogue import User
from roboao_assets.storage.credentials import check_private
from roboao_assets.storage.files import write_private_once

COOKIE = "roboao_session"
LEAST_SECRET_CHARACTERS = 32
OUTAGE = "The catalogue cannot be read now: {}."
_DAY_S = 86_400.0
# Clocks of servers that share a secret differ by less.
_CLOCK_DIFFERENCE_S = 300.0


class Sessions:
    """Opens, finds and ends sessions.

    Parameters
    ----------
    source : CatalogueSource
        Where the users are.
    secret : str
        Signs the cookies.
    hours : float
        After which a session ends.
    secure : bool
        The browser sends the cookie over TLS only.
    """

    def __init__(
        self, source: CatalogueSource, secret: str, *, hours: float, secure: bool = False
    ) -> None:
        self._source, self._secret, self._seconds = source, secret, hours * 3600.0
        self._secure = secure
        # Log-ins that were ended by their owners, until they would have ended by themselves.
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()

    def cookie_options(self) -> dict[str, Any]:
        """Return how every cookie of ours is set."""
        return {"httponly": True, "samesite": "Lax", "secure": self._secure, "path": "/"}

    def open(self, handler: RequestHandler, user: User) -> None:
        """Begin a session of a user whose password was right."""
        claim = {
            "name": user.name,
            "stamp": user.stamp,
            "login": secrets.token_hex(16),
            "opened_s": time.time(),
        }
        value = create_signed_value(self._secret, COOKIE, json.dumps(claim))
        handler.set_cookie(COOKIE, value, max_age=int(self._seconds), **self.cookie_options())

    def find(self, cookies: Mapping[str, Morsel[str]]) -> Visitor | None:
        """Return who sent these cookies, None if that is a stranger (or is one by now).

        Raises
        ------
        CatalogueError
            The catalogue cannot be read.
        """
        claim = self._claim(cookies)
        if claim is None:
            return None
        with self._lock:
            if claim["login"] in self._ended:
                return None
        user = find_user(self._source, claim["name"])
        if user is None or not hmac.compare_digest(user.stamp, claim["stamp"]):
            return None
        return Visitor(user=user, login=claim["login"])

    def end(self, handler: RequestHandler) -> str | None:
        """End the session of a request; return whose it was."""
        claim = self._claim(handler.request.cookies)
        handler.clear_cookie(COOKIE, **self.cookie_options())
        if claim is None:
            return None
        now = time.monotonic()
        with self._lock:
            self._ended = {login: end for login, end in self._ended.items() if end > now}
            self._ended[claim["login"]] = now + self._seconds
        return claim["name"]

    def _claim(self, cookies: Mapping[str, Morsel[str]]) -> dict[str, Any] | None:
        morsel = cookies.get(COOKIE)
        if morsel is None:
            return None
        value = decode_signed_value(
            self._secret,
            COOKIE,
            morsel.value,
            max_age_days=self._seconds / _DAY_S,
            min_version=2,
        )
        claim = None if value is None else json.loads(value)
        if claim is None or claim.get("opened_s", 0.0) > time.time() + _CLOCK_DIFFERENCE_S:
            # One of the future was opened by a clock that was wrong: it would end much too late.
            return None
        return claim


def find_user(source: CatalogueSource, name: str) -> User | None:
    """Return a user of the catalogue; None also if the catalogue was not made yet."""
    try:
        return source.get().users.get(name)
    except CatalogueUnavailableError:
        if source.was_made():
            raise
        return None


def find_user_of_identity(source: CatalogueSource, identity: str) -> User | None:
    """Return whom the single sign-on knows by this; None if that is nobody, or several."""
    try:
        users = [user for user in source.get().users.all() if user.identity == identity]
    except CatalogueUnavailableError:
        if source.was_made():
            raise
        return None
    return users[0] if identity and len(users) == 1 else None


def has_users(source: CatalogueSource) -> bool:
    """Return whether there is any user."""
    try:
        return bool(source.get().users.all())
    except CatalogueUnavailableError:
        if source.was_made():
            raise
        return False


def read_secret(given: str, path: Path) -> str:
    """Return what sessions are signed with: what is given, or the file's, which is made if needed.

    Raises
    ------
    SettingsError
        It is too short, or others than its owner may read the file.
    """
    if given:
        if len(given) < LEAST_SECRET_CHARACTERS:
            raise SettingsError(
                f"ROBOAO_COOKIE_SECRET has {len(given)} characters and needs "
                f"{LEAST_SECRET_CHARACTERS}; leave it away, and a file in the archive is used"
            )
        return given
    try:
        write_private_once(path, secrets.token_hex(32).encode())
        check_private(path, "signs the sessions")
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the secret that signs the sessions cannot be kept in {path}: {error}; make the "
            f"archive writable, or set ROBOAO_COOKIE_SECRET"
        ) from error
    if len(secret) < LEAST_SECRET_CHARACTERS:
        raise SettingsError(
            f"{path} signs the sessions and has {len(secret)} characters; it must hold "
            f"{LEAST_SECRET_CHARACTERS}: remove it, and a new one is made"
        )
    return secret


def derived_secret(secret: str, purpose: str) -> str:
    """Return a secret for another purpose: what signs one thing must not sign another."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()
