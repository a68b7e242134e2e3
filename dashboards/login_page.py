"""Log-in with a password, and log-out."""

import asyncio
import logging

from tornado.web import RequestHandler

from dashboards.gate import LOGIN_URL
from dashboards.login_form import own_path, show_login_form
from dashboards.logins import LoginDesk, TooManyLoginsError
from dashboards.sessions import OUTAGE, Sessions, has_users
from dashboards.source import CatalogueSource
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


class LoginHandler(RequestHandler):
    """`/login`."""

    def initialize(
        self, source: CatalogueSource, desk: LoginDesk, sessions: Sessions, sign_on: str = ""
    ) -> None:
        """Take what the server hands every handler of this kind."""
        self._source, self._desk, self._sessions = source, desk, sessions
        self._sign_on = sign_on

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
            await self._show(following, OUTAGE.format(error), status=503)
            return
        if user is None:
            await self._show(following, REFUSED, status=403)
            return
        self._sessions.open(self, user)
        self.redirect(following, status=303)

    async def _show(self, following: str, problem: str = "", status: int = 200) -> None:
        hint = ""
        try:
            if not await asyncio.get_running_loop().run_in_executor(None, has_users, self._source):
                hint = NO_USER
        except CatalogueError as error:
            problem, status = OUTAGE.format(error), 503
        show_login_form(
            self, following, sign_on=self._sign_on, hint=hint, problem=problem, status=status
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
