"""Log-in by single sign-on: Panel's OAuth handlers verify who comes, the session is ours.

Panel's own settings (`PANEL_OAUTH_PROVIDER` and the others, docs/login.md) name the provider.
Of what its handlers would keep in cookies, tokens among it, nothing is kept.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from panel.auth import (
    AUTH_PROVIDERS,
    CODE_COOKIE_NAME,
    STATE_COOKIE_NAME,
    OAuthLoginHandler,
    PasswordLoginHandler,
)
from panel.config import config
from panel.util import decode_token
from tornado.web import HTTPError, create_signed_value, decode_signed_value

from dashboards.login_form import own_path, show_login_form
from dashboards.sessions import OUTAGE, Sessions, find_user_of_identity
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueError, SettingsError

SIGN_ON_URL = "/login/oauth"
# What a sign-on that is under way is remembered by, in the browser.
_UNDER_WAY = (STATE_COOKIE_NAME, CODE_COOKIE_NAME)
_MOST_DAYS_UNDER_WAY = 1 / 24

logger = logging.getLogger("roboao.login")

REFUSED = "The single sign-on did not say who you are. Try it again, or log in with a password."
NO_ANSWER = (
    "The service of the single sign-on does not answer as it should; the server's log says how. "
    "Try again later, or log in with a password."
)
NOT_VERIFIED = (
    "Your e-mail address was not verified by the service of the single sign-on; verify it there, "
    "then try again."
)
UNKNOWN = (
    "The single sign-on knows you as {}, and no user of this archive is known by that. Its "
    "operator can enter it: `roboao user identity NAME {}`."
)


class _SignOn(OAuthLoginHandler):
    """What is put before the handler of a provider."""

    _login_endpoint = SIGN_ON_URL

    def initialize(self, source: CatalogueSource, sessions: Sessions, secret: str) -> None:
        """Take what the server hands every handler of this kind."""
        self._source, self._sessions, self._secret = source, sessions, secret
        self._claims: dict[str, Any] = {}
        self._problem = ""
        self._is_let_in = False

    @property
    def _redirect_uri(self) -> str:
        given: str | None = config.oauth_redirect_uri
        return given or f"{self.request.protocol}://{self.request.host}{SIGN_ON_URL}"

    async def get(self) -> None:
        """Send the visitor to the provider; when they come back from there, let them in."""
        self.set_header("Cache-Control", "no-store")
        if self.get_query_argument("code", "") and not self.get_query_argument("state", ""):
            # Panel would compare nothing with nothing, and let in whom another site has sent.
            raise HTTPError(401, "a code without a state")
        await super().get()

    async def get_authenticated_user(self, *args: Any, **kwargs: Any) -> str | None:
        """Return the user's name, for whom a session is open then; None before it is known."""
        identity = await super().get_authenticated_user(*args, **kwargs)
        if identity is None or not kwargs.get("code"):
            return None
        await self._let_in(str(identity))
        return str(identity)

    async def _let_in(self, identity: str) -> None:
        if self._claims.get("email") == identity and self._claims.get("email_verified") is False:
            self._problem = NOT_VERIFIED
            raise HTTPError(403, "the address %.70r is not verified", identity)
        loop = asyncio.get_running_loop()
        try:
            user = await loop.run_in_executor(None, find_user_of_identity, self._source, identity)
        except CatalogueError as error:
            self._problem = OUTAGE.format(error)
            raise HTTPError(503, "no catalogue") from error
        if user is None:
            self._problem = UNKNOWN.format(identity[:200], identity[:200])
            raise HTTPError(403, "nobody is known as %.200r", identity)
        self._sessions.open(self, user)
        self._is_let_in = True
        logger.info(
            "single sign-on of %s (%.200r) from %s", user.name, identity, self.request.remote_ip
        )

    def redirect(self, url: str, permanent: bool = False, status: int | None = None) -> None:
        """Go to the provider, and after the log-in to an own page only."""
        super().redirect(own_path(url) if self._is_let_in else url, permanent, status)

    def set_secure_cookie(self, name: str, value: str | bytes, *_: Any, **__: Any) -> None:
        """Keep what the way to the provider and back needs; of tokens, remember the claims."""
        if name in _UNDER_WAY:
            signed = create_signed_value(self._secret, name, value)
            age_s = int(_MOST_DAYS_UNDER_WAY * 86_400)
            self.set_cookie(name, signed, max_age=age_s, **self._sessions.cookie_options())
        elif name == "id_token":
            self._claims = decode_token(value if isinstance(value, str) else value.decode("ascii"))

    def get_secure_cookie(self, name: str, *_: Any, **__: Any) -> bytes | None:
        """Return what `set_secure_cookie` has kept, unless it is spoilt or too old."""
        return decode_signed_value(
            self._secret,
            name,
            self.get_cookie(name),
            max_age_days=_MOST_DAYS_UNDER_WAY,
            min_version=2,
        )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show the log-in page with a sentence; what the provider said is for the log."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        refused = isinstance(error, HTTPError) and status_code < 500
        problem = self._problem or (REFUSED if refused else NO_ANSWER)
        logger.warning(
            "single sign-on from %s: %d %.500r", self.request.remote_ip, status_code, error
        )
        for name in _UNDER_WAY:
            self.clear_cookie(name, **self._sessions.cookie_options())
        show_login_form(self, "/", sign_on=SIGN_ON_URL, problem=problem, status=status_code)


def sign_on_handler(providers: Mapping[str, type] = AUTH_PROVIDERS) -> type | None:
    """Return the handler of the provider that Panel's settings name; None if they name none.

    Raises
    ------
    SettingsError
        There is no such provider, it asks for passwords itself, or settings are missing.
    """
    name = config.oauth_provider
    if not name:
        return None
    handler = providers.get(name)
    usable = sorted(key for key, kind in providers.items() if _leads_elsewhere(kind))
    if handler is None or not _leads_elsewhere(handler):
        raise SettingsError(
            f"PANEL_OAUTH_PROVIDER is {name!r}, which is no single sign-on; it is one of "
            f"{', '.join(usable)}, or not set"
        )
    missing = ["PANEL_OAUTH_KEY"] if not config.oauth_key else []
    if not config.oauth_secret and name != "auth_code":
        missing.append("PANEL_OAUTH_SECRET")
    if missing:
        raise SettingsError(
            f"PANEL_OAUTH_PROVIDER is {name!r}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; the provider gives them when the "
            f"archive is registered there (docs/login.md)"
        )
    return type(f"SignOn{handler.__name__}", (_SignOn, handler), {})


def _leads_elsewhere(handler: type) -> bool:
    return issubclass(handler, OAuthLoginHandler) and not issubclass(handler, PasswordLoginHandler)
