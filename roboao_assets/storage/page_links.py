"""Addresses of the dashboard's pages, which others than the dashboard link to as well.

Ids come from file names and may hold any character.
"""

from urllib.parse import quote


def night_url(night: str) -> str:
    """Address of a night's page, below that of the dashboard."""
    return f"/night?night={quote(night, safe='')}"


def observation_url(identifier: str) -> str:
    """Address of an observation's page, below that of the dashboard."""
    return f"/observation?id={quote(identifier, safe='')}"
