"""Asking the running deployment to load the code location, and so its partitions, again."""

from dataclasses import dataclass

import requests
from dagster_graphql import DagsterGraphQLClientError, ReloadRepositoryLocationStatus

from roboao_assets.orchestration.webserver import webserver_client

# A location of 30,000 observations takes some ten seconds to load.
_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class ReloadAnswer:
    """Whether the code location was loaded again, and if not, why."""

    done: bool
    reason: str = ""


def ask_for_reload(location_name: str, url: str) -> ReloadAnswer:
    """Ask the webserver at `url` to load the code location again.

    The webserver is the one part of a deployment that has an interface for it; what it
    reloads, the daemon sees too. A webserver that does not answer is no error: the
    answer says what an operator can do, and the next look asks again.
    """
    try:
        client = webserver_client(url, timeout_s=_TIMEOUT_S)
        answer = client.reload_repository_location(location_name)
    except (DagsterGraphQLClientError, requests.exceptions.RequestException, OSError) as error:
        return ReloadAnswer(
            done=False,
            reason=(
                f"the Dagster webserver did not answer at {url} ({type(error).__name__}); start it "
                f"there, set dagster_port or dagster_webserver to where it is, or reload the code "
                f"location {location_name} by hand"
            ),
        )
    if answer.status != ReloadRepositoryLocationStatus.SUCCESS:
        return ReloadAnswer(
            done=False,
            reason=f"the code location {location_name} could not be reloaded: {answer.message}",
        )
    return ReloadAnswer(done=True)
