"""Which theme a visitor wants: a cookie, so that the server sends a page in its colours at once."""

from collections.abc import Mapping
from http.cookies import Morsel
from typing import Any

from tornado.web import RequestHandler

from dashboards.links import local_path
from dashboards.themes import DARK, THEMES, Theme, theme_named

THEME_URL = "/theme"
COOKIE = "roboao_theme"
_DAYS_KEPT = 365


def chosen_theme(cookies: Mapping[str, Any]) -> Theme:
    """Return the theme that a request's cookies ask for; the dark one if they do not say.

    Parameters
    ----------
    cookies : mapping of str to Morsel or str
        A value that is no theme's name means nothing.
    """
    value = cookies.get(COOKIE, DARK.name)
    return theme_named(value.value if isinstance(value, Morsel) else str(value))


def request_theme(request: Any) -> Theme:
    """Return the theme that the gate has found for a request (or bokeh's copy of it)."""
    theme = getattr(request, "theme", None)
    return theme if isinstance(theme, Theme) else DARK


class ThemeHandler(RequestHandler):
    """`/theme`, by POST only: remembers the theme and goes back to the page."""

    def initialize(self, cookie_options: dict[str, Any]) -> None:
        """Take what the server hands every handler of this kind."""
        self._cookie_options = cookie_options

    def post(self) -> None:
        """Set the cookie; what is no theme changes nothing, and is said so."""
        wanted = self.get_body_argument("theme", "")
        if wanted not in THEMES:
            self.set_status(400)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.write(f"A theme is one of {', '.join(THEMES)}.\n")
            return
        self.set_cookie(COOKIE, wanted, expires_days=_DAYS_KEPT, **self._cookie_options)
        self.set_header("Cache-Control", "no-store")
        self.redirect(local_path(self.get_body_argument("next", "/")), status=303)
