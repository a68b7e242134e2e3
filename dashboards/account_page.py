"""The account of who is logged in: what they may see, and the end of their download tokens."""

from html import escape

import panel as pn

from dashboards.access import Visitor
from dashboards.links import END_TOKENS_URL
from dashboards.page_frame import (
    address_argument,
    build_page,
    form_token,
    html_pane,
    page_visitor,
)

_TITLE = "Account"


def account_page(token_days: float) -> pn.Template:
    """What the visitor may see, and a button that ends the tokens of all their scripts."""
    visitor = page_visitor()
    ended = address_argument("ended") == "yes"
    return build_page(
        _TITLE,
        html_pane(account_markup(visitor, form_token(), token_days, ended=ended)),
    )


def account_markup(visitor: Visitor, token: str, token_days: float, *, ended: bool) -> str:
    """Return the page's content."""
    if visitor.is_admin:
        seen = "every program, whether it is distributed or not"
    elif visitor.user.programs:
        seen = f"the distributed observations of program {', '.join(visitor.user.programs)}"
    else:
        seen = "the distributed observations of which you are a principal investigator"
    done = '<p class="remark" role="status">All tokens have ended.</p>' if ended else ""
    return (
        f'<div class="page-title"><h1>{_TITLE}</h1></div>'
        f"<p>You are logged in as <b>{escape(visitor.name)}</b>, and see {escape(seen)}. "
        "Programs and the password are changed by the archive's administrator.</p>"
        '<h2 class="plot-title">Download scripts</h2>'
        f"<p>Each script holds a token that fetches files in your name, and nothing else, for "
        f"{token_days:g} days. If one came into wrong hands, end them all; your own scripts have "
        f"to be fetched again then.</p>{done}"
        f'<form method="post" action="{END_TOKENS_URL}">'
        f'<input type="hidden" name="_xsrf" value="{escape(token)}">'
        "<button>End all tokens</button></form>"
    )
