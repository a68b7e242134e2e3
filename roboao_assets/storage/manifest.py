"""The manifest: every night that is known and its observations, in time order.

Dagster's partitions are made from this file and from nothing else: a list that
every process of the deployment reads alike, and that changes only when somebody
writes it, never because a folder was looked at a second later. Nothing leaves it:
an observation whose raw files disappeared keeps its products and its history.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from roboao_assets.science.errors import ArchiveError, RawDataError
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.raw_names import parse_exposure_name

_FORMAT = 1
# Dagster takes "..." for a range of partitions, and control characters break its pages.
_NOT_IN_A_KEY = ("...", *(chr(code) for code in range(32)), chr(127))


class ManifestError(ArchiveError):
    """The manifest file does not hold a manifest."""


@dataclass(frozen=True)
class Manifest:
    """Nights and their observations.

    Attributes
    ----------
    nights : mapping of str to tuple of str
        `YYYYMMDD` in ascending order, each with its observation ids in time order, so
        that the observations of a night are neighbours in the list of all.
    """

    nights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def night_by_observation(self) -> dict[str, str]:
        """The night of every observation, in the order of `nights`."""
        return {
            observation: night
            for night, observations in self.nights.items()
            for observation in observations
        }

    def with_nights(self, found: Mapping[str, Sequence[str]]) -> "Manifest":
        """Return this manifest with the nights and observations of `found` added.

        What is known already stays. An observation that is already known from another
        night is left there: an id belongs to one night.
        """
        known = dict(self.night_by_observation)
        nights = dict(self.nights)
        for night in sorted(found):
            here = set(nights.get(night, ()))
            new = {o for o in found[night] if known.setdefault(o, night) == night} - here
            if new or night not in nights:
                nights[night] = tuple(sorted(here | new, key=_time_order))
        return Manifest({night: nights[night] for night in sorted(nights)})


def is_partition_key(name: str) -> bool:
    """Whether Dagster can use `name` as a partition key."""
    return bool(name) and not any(part in name for part in _NOT_IN_A_KEY)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest; a file that is not there is an empty one.

    Raises
    ------
    ManifestError
        If the file holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Manifest()
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r} instead of {_FORMAT}")
        nights = {
            str(night): tuple(str(observation) for observation in observations)
            for night, observations in document["nights"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(
            f"{path} is no manifest of nights and observations ({error!r}); move it away: it is "
            f"made anew from the raw folders"
        ) from None
    return Manifest(nights)


def update_manifest(path: Path, found: Mapping[str, Sequence[str]]) -> Manifest:
    """Add the nights and observations of `found` to the manifest file; return what it then holds.

    Others may do the same at the same time (a sensor, the command line): a lock file
    beside the manifest makes them wait for each other, and the file is replaced whole.

    Raises
    ------
    ManifestError
        If the file holds something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(path.name + ".lock")):
        before = read_manifest(path)
        after = before.with_nights(found)
        if after != before or not path.exists():
            document = {"format": _FORMAT, "nights": after.nights}
            write_text_whole(path, json.dumps(document, indent=1) + "\n")
    return after


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _time_order(observation: str) -> tuple[str, str]:
    try:
        return parse_exposure_name(observation).utc.isoformat(), observation
    except RawDataError:
        return "", observation
