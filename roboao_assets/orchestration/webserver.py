"""Dagster's webserver, as the archive's own code asks it (setting `dagster_webserver`)."""

import logging
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from dagster_graphql import DagsterGraphQLClient

_ANSWER_TIMEOUT_S = 2.0


def webserver_client(url: str, *, timeout_s: int) -> DagsterGraphQLClient:
    """Return a client of the webserver at `url`, a path included.

    Raises
    ------
    DagsterGraphQLClientError
        It cannot be reached.
    """
    # gql logs every query in full.
    logging.getLogger("gql.transport.requests").setLevel(logging.WARNING)
    parts = urlsplit(url)
    return DagsterGraphQLClient(
        parts.hostname or "localhost",
        port_number=parts.port,
        use_https=parts.scheme == "https",
        timeout=timeout_s,
        path_prefix=parts.path.rstrip("/"),
    )


def webserver_answers(url: str) -> bool:
    """Whether the webserver at `url` answers."""
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=_ANSWER_TIMEOUT_S) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
