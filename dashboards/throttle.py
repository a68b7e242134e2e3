"""How often somebody may try: after some failures each further one doubles the wait."""

import time
from collections import OrderedDict
from collections.abc import Callable

# A series of failures is forgotten after this time without one.
_FORGET_S = 3600.0


class Throttle:
    """Counts failures by key, in bounded memory.

    Parameters
    ----------
    free : int
        Failures without a wait.
    longest_s : float
        The wait doubles from 1 s up to this.
    most : int
        Keys remembered; those that failed longest ago are forgotten first.
    clock : callable
        Seconds, never going back.
    """

    def __init__(
        self,
        free: int,
        longest_s: float,
        *,
        most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free, self._longest_s, self._most, self._clock = free, longest_s, most, clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Return how long this key has to wait before it may try again; 0: not at all."""
        count, last = self._failures.get(key, (0, 0.0))
        if count < self._free:
            return 0.0
        # Beyond 2^30 s every wait is the longest.
        delay = min(self._longest_s, 2.0 ** min(count - self._free, 30))
        return max(0.0, last + delay - self._clock())

    def count(self, key: str) -> None:
        """Count a try, before it is known whether it fails: many at once are many failures."""
        count, last = self._failures.pop(key, (0, 0.0))
        now = self._clock()
        self._failures[key] = (1 if now - last > _FORGET_S else count + 1, now)
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)

    def take_back(self, key: str) -> None:
        """Count one try less: it did not fail."""
        if key in self._failures:
            count, last = self._failures[key]
            self._failures[key] = (max(0, count - 1), last)
