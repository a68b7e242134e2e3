"""Addresses of the pages and pictures. Ids come from file names and may hold any character."""

from urllib.parse import urlencode

from roboao_assets.storage.page_links import night_url, observation_url

__all__ = ["THUMBNAIL_WIDTHS_PX", "file_url", "image_url", "night_url", "observation_url"]

# Widths at which a picture can be asked for; anything else is refused, so that nobody can fill
# the server's memory with sizes.
THUMBNAIL_WIDTHS_PX = (360, 720)


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
