"""Asking the running deployment to load the code location, and so its partitions, again."""

import logging
from dataclasses import dataclass

import requests
from dagster_graphql import (
    DagsterGraphQLClient,
    DagsterGraphQLClientError,
    ReloadRepositoryLocationStatus,
)

# A location of 30,000 observations takes some ten seconds to load.
_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class ReloadAnswer:
    """Whether the code location was loaded again, and if not, why."""

    done: bool
    reason: str = ""


def ask_for_reload(location_name: str, port: int, host: str = "localhost") -> ReloadAnswer:
    """Ask the webserver at `host`:`port` to load the code location again.

    The webserver is the one part of a deployment that has an interface for it; what it
    reloads, the daemon sees too. A webserver that does not answer is no error: the
    answer says what an operator can do, and the next look asks again.
    """
    # gql logs every query in full.
    logging.getLogger("gql.transport.requests").setLevel(logging.WARNING)
    try:
        client = DagsterGraphQLClient(host, port_number=port, timeout=_TIMEOUT_S)
        answer = client.reload_repository_location(location_name)
    except (DagsterGraphQLClientError, requests.exceptions.RequestException, OSError) as error:
        return ReloadAnswer(
            done=False,
            reason=(
                f"the Dagster webserver did not answer at {host}:{port} ({type(error).__name__}); "
                f"start it on that port, set dagster_port to its port, or reload the code "
                f"location {location_name} by hand"
            ),
        )
    if answer.status != ReloadRepositoryLocationStatus.SUCCESS:
        return ReloadAnswer(
            done=False,
            reason=f"the code location {location_name} could not be reloaded: {answer.message}",
        )
    return ReloadAnswer(done=True)
