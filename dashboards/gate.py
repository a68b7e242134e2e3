"""The gate before every handler of the server: who asks, and whether they may.

`guard` puts it before bokeh's, Panel's and our own handlers alike, those that a later version
of them brings included. Of a websocket every message is asked about again.
"""

import asyncio
import secrets
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

from bokeh.application.handlers.handler import Handler
from bokeh.document import Document
from bokeh.server.auth_provider import AuthProvider
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import check_allowlist
from bokeh.util.token import check_token_signature, get_token_payload
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import PeriodicCallback
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

from dashboards.access import ADMIN_PAGES, USER_PAGES, Access, Asked, Visitor
from dashboards.download_tokens import DownloadTokens
from dashboards.sessions import Sessions
from dashboards.theme_choice import chosen_theme
from roboao_assets.science.errors import CatalogueError

LOGIN_URL, LOGOUT_URL = "/login", "/logout"
# A websocket on which nobody says anything is looked at so often.
_LOOK_AGAIN_MS = 30_000
# What is no page of ours loads nothing and runs nothing, should a browser take it for a page.
NO_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"
# On a page run the server's scripts and those that carry its nonce, and no others: what a name or
# a comment smuggles into the markup does not, nor does an `onerror`. bokeh makes functions of the
# code of its callbacks (unsafe-eval), and all of its parts bring styles.
_PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_READING = ("GET", "HEAD", "OPTIONS")
_POLICY_VIOLATION = 1008
_TOKEN_KEY = "roboao_login"
# By these bokeh would take up a session that somebody else has opened.
_SESSION_ARGUMENTS = ("bokeh-token", "bokeh-session-id")


class Gate:
    """Finds out who asks, and whether they may use a route.

    Parameters
    ----------
    access : Access
    sessions : Sessions
    tokens : DownloadTokens
    executor : Executor
        The catalogue is read in a thread: it must not hold up the pages.
    prepare : callable
        Called for a page before it is made, which happens in the server's loop.
    """

    def __init__(
        self,
        access: Access,
        sessions: Sessions,
        tokens: DownloadTokens,
        executor: Executor,
        prepare: Callable[[HTTPServerRequest, Visitor], Awaitable[None]],
    ) -> None:
        self.access, self.sessions, self.tokens = access, sessions, tokens
        self._executor = executor
        self.prepare = prepare

    async def visitor(self, request: HTTPServerRequest) -> Visitor | None:
        """Return who asks; CatalogueError if that cannot be found out.

        Whoever sends a token is its user's script, whatever cookies come with it.
        """
        loop = asyncio.get_running_loop()
        token = request.headers.get("Authorization")
        if token is not None:
            return await loop.run_in_executor(self._executor, self.tokens.find, token)
        return await loop.run_in_executor(self._executor, self.sessions.find, request.cookies)

    async def admits(self, request: HTTPServerRequest) -> bool:
        """Return whether the visitor who opened a connection may go on using it."""
        try:
            visitor = await self.visitor(request)
        except CatalogueError:
            return False
        return self.access.may(visitor, Asked("route", request.path))


def current_visitor(request: Any) -> Visitor | None:
    """Return whom the gate has found for a request (or bokeh's copy of it)."""
    visitor = getattr(request, "visitor", None)
    return visitor if isinstance(visitor, Visitor) else None


class _Guarded(RequestHandler):
    """What `guard` puts before a handler."""

    gate: Gate

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.clear_header("Server")
        # bokeh lets every site read its scripts, to be embedded there.
        for name in ("Origin", "Methods", "Headers"):
            self.clear_header(f"Access-Control-Allow-{name}")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", NO_PAGE_POLICY)
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")

    async def prepare(self) -> None:
        if self._is_sent_from_elsewhere():
            self._explain_origin()
            return
        try:
            visitor = await self.gate.visitor(self.request)
        except CatalogueError as error:
            self._explain_outage(error)
            return
        self.request.visitor = visitor  # type: ignore[attr-defined]
        self.request.theme = chosen_theme(self.request.cookies)  # type: ignore[attr-defined]
        self.current_user = visitor and visitor.name
        if not self.gate.access.may(visitor, Asked("route", self.request.path)):
            self._turn_away(visitor)
            return
        if self._takes_a_session_up() or not self._is_own_socket(visitor):
            raise HTTPError(404)
        if self.request.path in (*USER_PAGES, *ADMIN_PAGES):
            self.request.form_token = self.xsrf_token.decode()  # type: ignore[attr-defined]
            nonce = secrets.token_urlsafe(16)
            self.request.script_nonce = nonce  # type: ignore[attr-defined]
            self.set_header("Content-Security-Policy", _PAGE_POLICY.format(nonce=nonce))
            assert visitor is not None  # nobody else may use a page
            await self.gate.prepare(self.request, visitor)
        prepared: Awaitable[None] | None = super().prepare()
        if prepared is not None:
            await prepared

    def _is_sent_from_elsewhere(self) -> bool:
        """Whether a browser says that what changes something was sent by another site's page.

        Over and above the token of every form; of a websocket bokeh asks the same.
        """
        origin = self.request.headers.get("Origin")
        if origin is None or self.request.method in _READING:
            return False
        app = self.application
        assert isinstance(app, BokehTornado)
        return not check_allowlist(urlsplit(origin).netloc.lower() or origin, app.websocket_origins)

    def _explain_origin(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(
            "This was sent from a page of another site, or by a name that this dashboard does not "
            "know as its own; its operator can add the name to ROBOAO_DASHBOARD_ORIGINS.\n"
        )

    def _turn_away(self, visitor: Visitor | None) -> None:
        is_page = self.request.path in (*USER_PAGES, *ADMIN_PAGES)
        if visitor is None and is_page and self.request.method == "GET":
            self.set_header("Cache-Control", "no-store")
            self.redirect(f"{LOGIN_URL}?{urlencode({'next': self.request.uri or '/'})}")
            return
        raise HTTPError(404)

    def _takes_a_session_up(self) -> bool:
        return "Bokeh-Session-Id" in self.request.headers or any(
            name in self.request.arguments for name in _SESSION_ARGUMENTS
        )

    def _is_own_socket(self, visitor: Visitor | None) -> bool:
        """Whether a websocket is of a page that was sent to this very log-in."""
        if not isinstance(self, WebSocketHandler):
            return True
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        app = self.application
        assert isinstance(app, BokehTornado)
        try:
            token = offered[1].strip()
            return (
                visitor is not None
                and check_token_signature(token, secret_key=app.secret_key, signed=True)
                and get_token_payload(token).get(_TOKEN_KEY) == visitor.login
            )
        except (IndexError, KeyError, TypeError, ValueError, zlib.error):
            return False

    def _explain_outage(self, error: CatalogueError) -> None:
        self.set_status(503)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(f"The catalogue, which knows the users, cannot be read now: {error}.\n")


class _GuardedSocket(_Guarded):
    """The same for a websocket, at every message."""

    _watch: PeriodicCallback | None = None

    def open(self, *args: str, **kwargs: str) -> Awaitable[None] | None:
        self._watch = PeriodicCallback(self._look_again, _LOOK_AGAIN_MS)
        self._watch.start()
        return super().open(*args, **kwargs)  # type: ignore[misc]

    async def on_message(self, message: str | bytes) -> None:
        if await self._look_again():
            await super().on_message(message)  # type: ignore[misc]

    def on_close(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        super().on_close()  # type: ignore[misc]

    async def _look_again(self) -> bool:
        if await self.gate.admits(self.request):
            return True
        self.close(_POLICY_VIOLATION, "the session is over")  # type: ignore[attr-defined]
        return False


class _LoginInToken(Handler):
    """Writes into the signed token of a page to which log-in it was sent."""

    def modify_document(self, doc: Document) -> None:
        """Leave the document as it is."""

    def process_request(self, request: HTTPServerRequest) -> dict[str, Any]:
        """Return what is written into the token."""
        visitor = current_visitor(request)
        return {} if visitor is None else {_TOKEN_KEY: visitor.login}


class ArchiveAuth(AuthProvider):
    """What bokeh asks for the user; the gate has found them by then."""

    @property
    def get_user(self) -> Callable[[RequestHandler], str | None]:
        """Return a function that gives the name of who asks."""
        return _user_of

    @property
    def login_url(self) -> str:
        """Where bokeh sends strangers, if the gate has not done so."""
        return LOGIN_URL


def guard(app: BokehTornado, gate: Gate) -> None:
    """Put the gate before every handler of a server."""
    make_delegate = app.get_handler_delegate

    @cache
    def guarded(handler: type[RequestHandler]) -> type[RequestHandler]:
        before = _GuardedSocket if issubclass(handler, WebSocketHandler) else _Guarded
        return type(f"Guarded{handler.__name__}", (before, handler), {"gate": gate})

    def get_handler_delegate(
        request: HTTPServerRequest, target_class: type[RequestHandler], *args: Any, **kwargs: Any
    ) -> Any:
        return make_delegate(request, guarded(target_class), *args, **kwargs)

    app.get_handler_delegate = get_handler_delegate  # type: ignore[method-assign]
    for context in app.applications.values():
        context.application.add(_LoginInToken())


def _user_of(handler: RequestHandler) -> str | None:
    visitor = current_visitor(handler.request)
    return visitor and visitor.name
