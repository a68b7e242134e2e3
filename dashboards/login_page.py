"""The pages to log in and out: plain HTML, without a script."""

import asyncio
import logging
from functools import cache
from importlib import resources

from tornado.template import Template
from tornado.web import RequestHandler

from dashboards.gate import LOGIN_URL
from dashboards.links import local_path
from dashboards.logins import LoginDesk, TooManyLoginsError
from dashboards.page_style import page_style
from dashboards.sessions import Sessions, has_users
from dashboards.source import CatalogueSource
from dashboards.theme_choice import request_theme
from dashboards.themes import other_theme, theme_style
from roboao_assets.science.errors import CatalogueError

logger = logging.getLogger("roboao.login")

REFUSED = (
    "The name or the password is not right, or there were too many attempts. "
    "After several failures each further one has to wait longer, up to five minutes."
)
BUSY = "Too many people log in at this moment; try again in a few seconds."
NO_USER = (
    "There is no user yet. On the archive's machine, run "
    "`roboao user add NAME --programs all`; then log in here with that name."
)


def own_path(text: str) -> str:
    """Return where to go after the log-in: `text` if it is a path of this server, else `/`."""
    path = local_path(text)
    return "/" if path.startswith((LOGIN_URL, "/logout")) else path


class LoginHandler(RequestHandler):
    """`/login`."""

    def initialize(self, source: CatalogueSource, desk: LoginDesk, sessions: Sessions) -> None:
        """Take what the server hands every handler of this kind."""
        self._source, self._desk, self._sessions = source, desk, sessions

    async def get(self) -> None:
        """Show the form, or go on if the visitor is logged in."""
        following = own_path(self.get_query_argument("next", "/"))
        if self.current_user:
            self.redirect(following)
            return
        await self._show(following)

    async def post(self) -> None:
        """Log a user in, or say that it was refused; always in the same words."""
        following = own_path(self.get_body_argument("next", "/"))
        name = self.get_body_argument("name", "")
        password = self.get_body_argument("password", "", strip=False)
        try:
            user = await self._desk.check(name, password, str(self.request.remote_ip))
        except TooManyLoginsError:
            await self._show(following, BUSY, status=503)
            return
        except CatalogueError as error:
            await self._show(following, f"The catalogue cannot be read now: {error}.", status=503)
            return
        if user is None:
            await self._show(following, REFUSED, status=403)
            return
        self._sessions.open(self, user)
        self.redirect(following, status=303)

    async def _show(self, following: str, problem: str = "", status: int = 200) -> None:
        hint = ""
        try:
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(None, has_users, self._source):
                hint = NO_USER
        except CatalogueError as error:
            problem, status = f"The catalogue cannot be read now: {error}.", 503
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'",
        )
        theme = request_theme(self.request)
        self.finish(
            _template().generate(
                style=theme_style(theme.name) + page_style(),
                other_theme=other_theme(theme).name,
                address=local_path(self.request.uri or "/"),
                form_token=self.xsrf_token.decode(),
                following=following,
                problem=problem,
                hint=hint.split("`"),
            )
        )


class LogoutHandler(RequestHandler):
    """`/logout`, by POST only."""

    def initialize(self, sessions: Sessions) -> None:
        """Take what the server hands every handler of this kind."""
        self._sessions = sessions

    def post(self) -> None:
        """End the session."""
        name = self._sessions.end(self)
        if name is not None:
            logger.info("logout of %s from %s", name, self.request.remote_ip)
        self.set_header("Cache-Control", "no-store")
        self.redirect(LOGIN_URL, status=303)


@cache
def _template() -> Template:
    text = resources.files("dashboards").joinpath("login.html").read_text(encoding="utf-8")
    return Template(text, autoescape="xhtml_escape")
