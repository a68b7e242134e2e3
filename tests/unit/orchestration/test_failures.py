import dagster as dg
import pytest

from roboao_assets.orchestration.failures import MAX_RETRIES, failure_of, wait_before_retry_s
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.retrying import is_transient


def failed(error_type, retryable):
    return StageOutcome(
        stage="master_darks",
        status="failed",
        reason="night 20160925 has 3 dark files",
        error_type=error_type,
        retryable=retryable,
    )


@pytest.mark.parametrize("error", ["CatalogueUnavailableError", "OSError", "TimeoutError"])
def test_what_may_pass_is_tried_again_a_few_times(error):
    outcome = failed(error, retryable=True)
    assert is_transient(outcome)
    first = failure_of(outcome, "20160925", 1)
    assert isinstance(first, dg.RetryRequested)
    assert first.max_retries == MAX_RETRIES
    last = failure_of(outcome, "20160925", MAX_RETRIES + 1)
    assert isinstance(last, dg.Failure)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        ("CalibrationMissingError", False),
        ("RawDataError", False),
        ("ZeroDivisionError", False),
        # An OSError to the pipelines, but a file that is not there will not be there in a minute.
        ("FileNotFoundError", True),
        ("PermissionError", True),
    ],
)
def test_what_will_not_pass_fails_at_once_with_its_sentence(error, retryable):
    outcome = failed(error, retryable)
    assert not is_transient(outcome)
    failure = failure_of(outcome, "20160925", 1)
    assert isinstance(failure, dg.Failure)
    assert failure.allow_retries is False
    assert failure.description == "master_darks of 20160925: night 20160925 has 3 dark files"


def test_waits_grow():
    assert [wait_before_retry_s(n) for n in (1, 2, 3)] == [5.0, 20.0, 80.0]
