"""Addresses of the pages and pictures. Ids come from file names and may hold any character."""

import re
from urllib.parse import urlencode

from roboao_assets.storage.page_links import night_url, observation_url

__all__ = [
    "ACCOUNT_URL",
    "END_TOKENS_URL",
    "THUMBNAIL_WIDTHS_PX",
    "file_url",
    "image_url",
    "local_path",
    "night_url",
    "nights_url",
    "observation_url",
]

ACCOUNT_URL, END_TOKENS_URL = "/account", "/account/end-tokens"
# Widths at which a picture can be asked for; anything else is refused, so that nobody can fill
# the server's memory with sizes.
THUMBNAIL_WIDTHS_PX = (360, 720)
_MOST_PATH_CHARACTERS = 2000


def local_path(text: str) -> str:
    """Return `text` if it is a path of this server, else `/`: nobody is led to another one."""
    whole = re.fullmatch(r"/(?![/\\])[!-\[\]-~]*", text)
    return text if len(text) <= _MOST_PATH_CHARACTERS and whole else "/"


def nights_url(year: int, colour: str = "") -> str:
    """Address of a year's nights; `colour` is what the calendar tells."""
    return f"/?{urlencode({'year': year} | ({'colour': colour} if colour else {}))}"


def file_url(identifier: str, name: str) -> str:
    """Address of a file of an observation."""
    return f"/file?{urlencode({'observation': identifier, 'name': name})}"


def image_url(key: str, *, width_px: int | None = None, version: str = "") -> str:
    """Address of a picture; with `version` the browser may keep it for good."""
    query = {"key": key}
    if width_px is not None:
        query["width"] = str(width_px)
    if version:
        query["v"] = version
    return f"/image?{urlencode(query)}"


def script_url(tool: str, what: str, search: dict[str, str]) -> str:
    """Address of the script that fetches what a search means, see `downloads`."""
    return f"/script?{urlencode({'tool': tool, 'what': what} | search, errors='replace')}"


def night_search(night: str) -> dict[str, str]:
    """Return the search that means a night (YYYYMMDD)."""
    date = f"{night[:4]}-{night[4:6]}-{night[6:]}"
    return {"date_from": date, "date_to": date}
