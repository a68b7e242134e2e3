"""What Dagster is told of a failed stage, so that it does the right thing with it.

Which failures are tried again at all is decided in `pipelines.retrying`. Within a run those
are tried `MAX_RETRIES` times, waiting longer each time. Not longer: a database that is down
for hours is an operator's matter, and a waiting run keeps its slot in the queue; later
attempts are runs of their own.

Dagster itself starts a run again only if its process died (`dagster.yaml`), never because a
step of it failed.
"""

import dagster as dg

from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.retrying import is_transient

MAX_RETRIES = 3
_FIRST_WAIT_S = 5.0


def wait_before_retry_s(attempt: int) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) has failed."""
    return _FIRST_WAIT_S * 4 ** (attempt - 1)


def failure_of(outcome: StageOutcome, what: str, attempt: int) -> Exception:
    """Return the exception that makes Dagster do the right thing with a failed stage.

    Parameters
    ----------
    outcome : StageOutcome
        A failed one.
    what : str
        Night or observation, for the sentence.
    attempt : int
        Number of this attempt, from 1.

    Returns
    -------
    dagster.RetryRequested or dagster.Failure
    """
    if is_transient(outcome) and attempt <= MAX_RETRIES:
        return dg.RetryRequested(
            max_retries=MAX_RETRIES, seconds_to_wait=wait_before_retry_s(attempt)
        )
    return dg.Failure(
        description=f"{outcome.stage} of {what}: {outcome.reason}",
        metadata={"reason": outcome.reason, "error": outcome.error_type or "-"},
        allow_retries=False,
    )
