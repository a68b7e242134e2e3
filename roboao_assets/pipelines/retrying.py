"""Which failures are tried again, and when: decided here and nowhere else.

Three kinds, and what taught them:

permanent
    Bad raw data, a missing calibration, a filter that no profile has: the same input
    fails the same way, and the original archiver spent twenty attempts a product on
    each of them. They are not tried again until their input changes or somebody asks.
transient
    The catalogue cannot be reached, a network file system is away for a moment, a file did not
    come to a worker without mounts, or its scratch disk is full: tried
    again a few times within the run, then by runs of their own, waiting twice as long each
    time, `most_retries` times in all.
defects
    Any other exception. It is told with its place and not tried again, as a defect repeats
    itself; it stops no other observation.
"""

from datetime import datetime, timedelta

from roboao_assets.pipelines.outcome import StageOutcome

# By name, as an outcome that comes back from a worker holds no exception. Plain OSError is
# what stale NFS handles and I/O errors are; FileNotFoundError, PermissionError and the
# like have names of their own and are permanent.
_TRANSIENT = frozenset(
    {
        "CatalogueUnavailableError",
        "TransferError",
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
_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(days=1)


def is_transient(outcome: StageOutcome) -> bool:
    """Whether a failed stage is worth another attempt."""
    return (
        outcome.status == "failed"
        and outcome.retryable
        and (not outcome.error_type or may_pass(outcome.error_type))
    )


def may_pass(error_type: str) -> bool:
    """Whether what failed by an exception of this name may succeed later."""
    return error_type in _TRANSIENT


def next_attempt(failures: int, now: datetime) -> datetime:
    """When a product that failed so often (from 1) is tried again."""
    return now + min(_FIRST_WAIT * 2 ** min(max(failures, 1) - 1, 20), _LONGEST_WAIT)


def has_waited(until: datetime | None, now: datetime) -> bool:
    """Whether what was to wait `until` then may begin `now` (both aware).

    Nothing is put off for longer than a day: what waits for longer was put off by a clock that
    was wrong.
    """
    return until is None or not timedelta(0) < until - now <= _LONGEST_WAIT
