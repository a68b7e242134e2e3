"""The log-in page: plain HTML, without a script."""

from functools import cache
from importlib import resources
from urllib.parse import urlencode

from tornado.template import Template
from tornado.web import RequestHandler

from dashboards.gate import LOGIN_URL
from dashboards.links import local_path
from dashboards.page_style import page_style
from dashboards.theme_choice import request_theme
from dashboards.themes import other_theme, theme_style


def own_path(text: str) -> str:
    """Return where to go after the log-in: `text` if it is a path of this server, else `/`."""
    path = local_path(text)
    return "/" if path.startswith((LOGIN_URL, "/logout")) else path


def show_login_form(
    handler: RequestHandler,
    following: str,
    *,
    sign_on: str = "",
    hint: str = "",
    problem: str = "",
    status: int = 200,
) -> None:
    """Answer with the log-in page.

    Parameters
    ----------
    handler : RequestHandler
        What answers.
    following : str
        Where to go after the log-in, a path of this server.
    sign_on : str
        Address of the single sign-on; empty: there is none.
    hint : str
        A sentence that says what to do; between backquotes stands a command.
    problem : str
        What went wrong, a sentence.
    status : int
        HTTP status.
    """
    handler.set_status(status)
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.set_header("Cache-Control", "no-store")
    handler.set_header(
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'",
    )
    theme = request_theme(handler.request)
    handler.finish(
        _template().generate(
            style=theme_style(theme.name) + page_style(),
            other_theme=other_theme(theme).name,
            address=f"{LOGIN_URL}?{urlencode({'next': following}, safe='/')}",
            form_token=handler.xsrf_token.decode(),
            following=following,
            problem=problem,
            hint=hint.split("`"),
            sign_on=sign_on,
        )
    )


@cache
def _template() -> Template:
    text = resources.files("dashboards").joinpath("login.html").read_text(encoding="utf-8")
    return Template(text, autoescape="xhtml_escape")
