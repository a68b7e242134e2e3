"""Which failures are tried again: decided here and nowhere else.

Three kinds, and what taught them:

permanent
    Bad raw data, a missing calibration, a filter that no profile has: the same input
    fails the same way, and the original archiver spent twenty attempts a product on
    each of them. They fail at once, with the sentence that tells the operator what
    to do. New raw files change the night's fingerprint, and the sensor tries again.
transient
    The catalogue cannot be reached, a network file system is away for a moment: tried
    again `MAX_RETRIES` times, waiting longer each time. Not longer: a database that is
    down for hours is an operator's matter, and a waiting run keeps its slot in the queue.
defects
    Any other exception. It propagates with its traceback and is not tried again, as a
    defect repeats itself; a stage on a worker returns it as its outcome, so that it
    stops no other observation.

Dagster itself starts a run again only if its process died (`dagster.yaml`), never
because a step of it failed: that has been decided here.
"""

import dagster as dg

from roboao_assets.pipelines.outcome import StageOutcome

MAX_RETRIES = 3
_FIRST_WAIT_S = 5.0

# By name, as an outcome that comes back from a worker holds no exception. Plain OSError is
# what stale NFS handles and I/O errors are; FileNotFoundError, PermissionError and the
# like have names of their own and are permanent.
_TRANSIENT = frozenset(
    {
        "CatalogueUnavailableError",
        "OSError",
        "TimeoutError",
        "InterruptedError",
        "BlockingIOError",
        "ConnectionError",
        "ConnectionResetError",
        "ConnectionRefusedError",
        "ConnectionAbortedError",
        "BrokenPipeError",
    }
)


def is_transient(outcome: StageOutcome) -> bool:
    """Whether a failed stage is worth another attempt."""
    return (
        outcome.status == "failed"
        and outcome.retryable
        and (not outcome.error_type or outcome.error_type in _TRANSIENT)
    )


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
