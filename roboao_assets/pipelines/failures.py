"""What of a night could not be made, and what will come of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from roboao_assets.pipelines.calibration_files import LEFT_OUT
from roboao_assets.pipelines.redo import STAGE_OF_PRODUCT
from roboao_assets.storage.catalogue import Catalogue, ObservationQuery, product


@dataclass(frozen=True, kw_only=True)
class NightFailure:
    """A product that is not there although it should be.

    Attributes
    ----------
    subject : str
        The observation, or the night.
    product : str
        As the catalogue calls it: `bright_star.strehl`, `calib`.
    reason : str
    attempts : int
    since : datetime or None
        Last attempt.
    next_attempt : datetime or None
        When it is tried again by itself; None: not before its input changes or somebody asks.
    """

    subject: str
    product: str
    reason: str
    attempts: int
    since: datetime | None
    next_attempt: datetime | None

    def attempts_left(self, most_retries: int) -> int:
        """How often it is still tried by itself, of `Settings.most_retries`."""
        return max(0, most_retries + 1 - self.attempts) if self.next_attempt is not None else 0


@dataclass(frozen=True, kw_only=True)
class FileLeftAlone:
    """A raw file that nothing is made of, as it cannot be used.

    Attributes
    ----------
    name : str
        Of the file; of the exposure for `seeing`.
    use : {'raw file', 'calibration', 'seeing'}
    reason : str
    """

    name: str
    use: str
    reason: str


def night_failures(catalogue: Catalogue, night: str) -> list[NightFailure]:
    """Return what failed of a night: its own products first, then its observations in time order.

    What was not made for a good reason (no companions of a blank field) is no failure.
    """
    return [failure for _, failure in failures_of_nights(catalogue, [night])]


def files_left_alone(catalogue: Catalogue, night: str) -> list[FileLeftAlone]:
    """Return the raw files of a night that are not, or only in part, used, and why.

    An observation that cannot be reduced as it came is among the failures, and not here.
    """
    document = catalogue.night(night) or {}
    raw, calibration, seeing = (
        section if isinstance(section := document.get(name), Mapping) else {}
        for name in ("raw", "calib", "seeing")
    )
    observations = set(raw.get("observations") or ())
    told = [
        *(("raw file", *pair) for pair in raw.get("problems") or () if pair[0] not in observations),
        *(
            ("calibration", entry["name"], entry["reason"])
            for entry in calibration.get(LEFT_OUT) or ()
        ),
        *(("seeing", *pair) for pair in seeing.get("discarded") or ()),
    ]
    return [FileLeftAlone(name=str(n), use=use, reason=str(reason)) for use, n, reason in told]


def failures_of_nights(
    catalogue: Catalogue, nights: Iterable[str]
) -> Iterator[tuple[str, NightFailure]]:
    """Yield what failed of nights (see `night_failures`), each with its night."""
    waiting = {request.observation: request.not_before for request in catalogue.requests.all()}
    for night in nights:
        document = catalogue.night(night) or {}
        yield from ((night, one) for one in _of_night(night, document, waiting.get(night)))
        query = ObservationQuery(nights=(night,), summary_only=True, sort=("date_utc", True))
        for observation in catalogue.find_observations(query):
            found = _of_observation(observation, waiting.get(observation["_id"]))
            yield from ((night, one) for one in found)


def _of_night(
    night: str, document: Mapping[str, Any], next_attempt: datetime | None
) -> Iterator[NightFailure]:
    for section, record in document.items():
        if not isinstance(record, Mapping):
            continue
        if section == "psf_lib":
            records = {f"psf_lib.{key}": value for key, value in record.items()}
        else:
            records = {section: record}
        for name, one in records.items():
            if isinstance(one, Mapping) and one.get("retries"):
                yield _failure(night, name, one, one, next_attempt)


def _of_observation(
    document: Mapping[str, Any], next_attempt: datetime | None
) -> Iterator[NightFailure]:
    for name in STAGE_OF_PRODUCT:
        record = product(document, name)
        status = record if name.endswith("preview") else record.get("status") or {}
        if status.get("retries"):
            yield _failure(document["_id"], name, record, status, next_attempt)


def _failure(
    subject: str,
    name: str,
    record: Mapping[str, Any],
    status: Mapping[str, Any],
    next_attempt: datetime | None,
) -> NightFailure:
    return NightFailure(
        subject=subject,
        product=name,
        reason=str(status.get("reason") or "no reason was kept"),
        attempts=int(status["retries"]),
        since=record.get("last_modified"),
        next_attempt=next_attempt,
    )
