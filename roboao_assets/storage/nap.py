"""The hours in which the archive starts nothing: while the telescope observes, say."""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class Nap:
    """Hours of the day, which may go over midnight.

    Attributes
    ----------
    start, end : datetime.time
        `end` is the first moment after the nap.
    """

    start: time
    end: time

    def end_of(self, moment: datetime) -> datetime | None:
        """Return when the nap that holds at `moment` (local, aware) ends; None if none does."""
        clock = moment.timetz().replace(tzinfo=None)
        if self.start <= self.end:
            napping = self.start <= clock < self.end
        else:
            napping = clock >= self.start or clock < self.end
        if not napping:
            return None
        day = moment.date() + timedelta(days=0 if clock < self.end else 1)
        return datetime.combine(day, self.end, moment.tzinfo)


def parse_nap(text: str) -> Nap | None:
    """Return the nap that a setting tells, None if it is empty.

    Parameters
    ----------
    text : str
        As ``22:00-05:30``.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not text.strip():
        return None
    found = _HOURS.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        hours = [int(part) for part in found.groups()]
        nap = Nap(time(hours[0], hours[1]), time(hours[2], hours[3]))
    except ValueError:
        raise ValueError(
            f"a nap is two times of the day as 22:00-05:30, not {text[:50]!r}"
        ) from None
    if nap.start == nap.end:
        raise ValueError(f"the nap {text!r} starts when it ends: it would last for ever or not")
    return nap


def find_timezone(name: str) -> tzinfo | None:
    """Return a time zone by its name; None is the machine's own.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name == "local":
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"there is no time zone {name[:50]!r}; give UTC, local, or a name as US/Arizona"
        ) from None
