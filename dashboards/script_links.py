"""Links to the scripts that fetch a selection, for the pages that show one."""

from collections.abc import Mapping
from html import escape

from dashboards.download_script import TOOLS
from dashboards.links import ACCOUNT_URL, script_url

_WHATS = {"packages": "the packages (a .tar.bz2 each)", "files": "every single file"}


def script_links(search: Mapping[str, str]) -> str:
    """Return a fold with the scripts that fetch what a search means.

    Parameters
    ----------
    search : mapping of str to str
        Fields of the search form.
    """
    lines = "".join(
        f"<li>{label}: "
        + " · ".join(
            f'<a href="{escape(script_url(tool, what, search))}" download>{tool}</a>'
            for tool in TOOLS
        )
        + "</li>"
        for what, label in _WHATS.items()
    )
    return (
        '<details class="scripts"><summary>Download by a script</summary><p class="quiet">A shell '
        "script that can be broken off and run again, checks what it has fetched, and works "
        "without a password: it holds a token that ends by itself, or "
        f'<a href="{ACCOUNT_URL}">by a click</a>.</p><ul>{lines}</ul></details>'
    )
