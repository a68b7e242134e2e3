"""How many examples property tests try: few in `make test`, many in `make fuzz`."""

import signal
from contextlib import contextmanager

from hypothesis import settings

# By `--hypothesis-profile=fuzz`; what counts there is the time that `make fuzz` gives.
settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)


def at_least(examples: int) -> int:
    """Examples of a test that tries `examples`, and under the profile `fuzz` those of `fuzz`."""
    return max(examples, settings().max_examples)


@contextmanager
def within(seconds: float):
    """Let nothing hang: what takes longer is interrupted, and fails."""

    def interrupt(number, frame):
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
