"""What all pages share: the frame, the style, and what stands in the address."""

from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlencode

import panel as pn

from dashboards.access import AccessError, Visitor
from dashboards.gate import current_visitor
from dashboards.page_style import page_style

# Panel draws a black arrow into dark selects; the browser's own is seen.
WIDGET_STYLE = """
.bk-input { background-color: #1f252d; border-color: #2f3641; color: #e4e8ee; color-scheme: dark; }
select.bk-input { appearance: auto !important; background-image: none !important; }
label { color: #a3acb9; }
"""


def build_page(title: str, body: pn.viewable.Viewable) -> pn.Template:
    """Return a page with the archive's head, look and navigation round `body`."""
    visitor = page_visitor()
    page = pn.Template(_template(), theme=pn.theme.DarkTheme, location=True)
    page.add_variable("page_title", f"{title} · Robo-AO archive")
    page.add_variable("style", page_style())
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
    visitor = current_visitor(_request())
    if visitor is None:
        raise AccessError("a page is made for somebody who is logged in, and nobody is")
    return visitor


def form_token() -> str:
    """Return what every form of a page carries, so that no other site can send it."""
    return str(_request().form_token)


def html_pane(text: str) -> pn.pane.HTML:
    """Return markup as a part of a page."""
    return pn.pane.HTML(text, stylesheets=[page_style()], sizing_mode="stretch_width", margin=0)


def address_argument(name: str) -> str:
    """Return what the address gives `name`; not `location.query_params`, which makes numbers."""
    values = pn.state.session_args.get(name, [b""])
    return values[0].decode("utf-8", "replace")


def write_address(**values: str) -> None:
    """Write what is chosen into the address, so that it can be bookmarked."""
    if pn.state.location is not None:
        chosen = {key: value for key, value in values.items() if value}
        pn.state.location.search = f"?{urlencode(chosen)}"


def _request() -> Any:
    """Return bokeh's copy of the request for the page that is made."""
    document = pn.state.curdoc
    context = None if document is None else document.session_context
    return None if context is None else context.request


@cache
def _template() -> str:
    return resources.files("dashboards").joinpath("page.html").read_text(encoding="utf-8")
