"""Where an object is, asked of Sesame (CDS) when a reader wants it."""

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime

from dashboards.sky_position import shown
from roboao_assets.science.errors import ArchiveError

WAIT_S = 5.0
_MOST_NAMES = 500
_MOST_CHARACTERS = 80
_THREADS = 2


class NameResolverError(ArchiveError):
    """A name could not be turned into a position; the message says why."""


class NameResolver:
    """Positions of objects by their names; what was found is kept.

    Parameters
    ----------
    wait_s : float
        Longest time that a reader waits for an answer.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sesame")

    def position_deg(self, name: str) -> tuple[float, float]:
        """Return right ascension and declination of an object (ICRS, degrees).

        Raises
        ------
        NameResolverError
            Nobody knows the name, or nobody could be asked in time.
        """
        name = " ".join(name.split())
        if not 0 < len(name) <= _MOST_CHARACTERS or not name.isprintable():
            raise NameResolverError(
                f"an object's name has at most {_MOST_CHARACTERS} printable characters; "
                f"it was {shown(name)}"
            )
        key = name.casefold()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        asked = self._threads.submit(_ask, name)
        try:
            found = asked.result(self._wait_s)
        except NotInTime:
            asked.cancel()
            raise NameResolverError(
                f"Sesame did not say within {self._wait_s:g} s where {shown(name)} is; this "
                f"machine may have no network: give right ascension and declination instead"
            ) from None
        with self._lock:
            self._known[key] = found
            while len(self._known) > _MOST_NAMES:
                self._known.popitem(last=False)
        return found


def _ask(name: str) -> tuple[float, float]:
    from astropy.coordinates import SkyCoord
    from astropy.coordinates.name_resolve import NameResolveError

    try:
        place = SkyCoord.from_name(name)
    except NameResolveError as error:
        if "Unable to find coordinates" in str(error):
            raise NameResolverError(f"Sesame knows no object {shown(name)}") from error
        raise NameResolverError(
            f"Sesame cannot be asked where {shown(name)} is: this machine has no network, or the "
            f"service is down; give right ascension and declination instead"
        ) from error
    except (OSError, ValueError) as error:
        raise NameResolverError(
            f"asking Sesame where {shown(name)} is did not work ({type(error).__name__}); give "
            f"right ascension and declination instead"
        ) from error
    return float(place.ra.deg), float(place.dec.deg)
