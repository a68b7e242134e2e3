"""What all pages share: the frame, the style, and what stands in the address."""

import re
from functools import cache
from html import escape
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import urlencode

import panel as pn
from bokeh.plotting import figure
from jinja2 import Environment, Template

from dashboards.access import AccessError, Visitor
from dashboards.gate import current_visitor
from dashboards.markup import problem
from dashboards.page_style import page_style
from dashboards.theme_choice import request_theme
from dashboards.themes import PageDesign, Theme, other_theme, panel_theme, theme_style

# Panel draws a black arrow into selects, dark ones too; the browser's own is seen.
WIDGET_STYLE = """
.bk-input { background-color: var(--raised); border-color: var(--line); color: var(--text); }
select.bk-input { appearance: auto !important; background-image: none !important; }
label { color: var(--muted); }
"""


class _Page(pn.Template):
    """Panel spells a template whole, with all it holds, each time something is added to it."""

    def __repr__(self) -> str:
        return type(self).__name__

    def _build_layout(self) -> pn.Column:
        # Of notebooks, to launch a server with; it cost a tenth of a page.
        return pn.Column(pn.pane.Str(""))


class Step(NamedTuple):
    """A link to the neighbour of what a page shows."""

    name: str
    url: str


def build_page(
    title: str,
    body: pn.viewable.Viewable,
    *,
    earlier: Step | None = None,
    later: Step | None = None,
    up: str = "",
    before: str = "",
    after: str = "",
) -> pn.Template:
    """Return a page with the archive's head, look and navigation round `body`.

    Parameters
    ----------
    title : str
    body : Viewable
        What needs a session of its own: plots, widgets.
    earlier, later : Step or None
        Neighbours, to which the keys lead as well.
    up : str
        Address of what this is part of, to which a key leads.
    before, after : str
        Markup round the body; it is there before any script has come.
    """
    visitor, theme = page_visitor(), page_theme()
    page = _Page(_template(), theme=panel_theme(theme), design=PageDesign, location=True)
    page.add_variable("page_title", f"{title} · Robo-AO archive")
    page.add_variable("style", page_style())
    page.add_variable("theme_style", theme_style(theme.name))
    page.add_variable("other_theme", other_theme(theme).name)
    page.add_variable("script", _file("page.js"))
    page.add_variable("nonce", str(page_request().script_nonce))
    page.add_variable("earlier", earlier)
    page.add_variable("later", later)
    page.add_variable("up", up)
    page.add_variable("before", before)
    page.add_variable("after", after)
    page.add_variable("visitor_name", visitor.name)
    page.add_variable("visitor_is_admin", visitor.is_admin)
    page.add_variable("form_token", form_token())
    page.add_panel("main", body)
    return page


def page_visitor() -> Visitor:
    """Return for whom a page is made.

    Raises
    ------
    AccessError
        For nobody: it is not made then.
    """
    visitor = current_visitor(page_request())
    if visitor is None:
        raise AccessError("a page is made for somebody who is logged in, and nobody is")
    return visitor


def form_token() -> str:
    """Return what every form of a page carries, so that no other site can send it."""
    return str(page_request().form_token)


def page_theme() -> Theme:
    """Return the theme of the page that is made."""
    return request_theme(page_request())


def html_pane(text: str) -> pn.pane.HTML:
    """Return markup as a part of a page."""
    return pn.pane.HTML(text, stylesheets=[page_style()], sizing_mode="stretch_width", margin=0)


def plot_panel(title: str, made: figure | None, missing: str = "") -> pn.Column:
    """Return a plot under its title; without one, the sentence that says what is missing."""
    heading = html_pane(f'<h2 class="plot-title">{escape(title)}</h2>')
    content: pn.viewable.Viewable
    if made is None:
        content = html_pane(f'<div class="notice"><p>{escape(missing)}</p></div>')
    else:
        content = pn.pane.Bokeh(made, sizing_mode="stretch_width", margin=0)
    return pn.Column(heading, content, sizing_mode="stretch_width", margin=0)


def problem_page(title: str, heading: str, sentence: str) -> pn.Template:
    """Return a page that says why there is nothing to be shown."""
    return build_page(title, html_pane(problem(heading, sentence)))


def address_argument(name: str) -> str:
    """Return what the address gives `name`; not `location.query_params`, which makes numbers."""
    values = pn.state.session_args.get(name, [b""])
    return values[0].decode("utf-8", "replace")


def write_address(**values: str) -> None:
    """Write what is chosen into the address, so that it can be bookmarked."""
    if pn.state.location is not None:
        chosen = {key: value for key, value in values.items() if value}
        pn.state.location.search = f"?{urlencode(chosen)}"


def page_request() -> Any:
    """Return bokeh's copy of the request for the page that is made."""
    document = pn.state.curdoc
    context = None if document is None else document.session_context
    return None if context is None else context.request


@cache
def _template() -> Template:
    # Compiled anew for each page it cost a seventh of a small one.
    environment = Environment(autoescape=False)  # noqa: S701
    environment.filters["with_nonce"] = _with_nonce
    return environment.from_string(_file("page.html"))


def _with_nonce(markup: str, nonce: str) -> str:
    """Return bokeh's scripts with the word by which the browser knows them for the page's own.

    Texts of the catalogue are escaped in them: none of theirs begins a script.
    """
    return re.sub(r"(?m)^(\s*)<script(?=[\s>])", rf'\1<script nonce="{nonce}"', markup or "")


@cache
def _file(name: str) -> str:
    return resources.files("dashboards").joinpath(name).read_text(encoding="utf-8")
