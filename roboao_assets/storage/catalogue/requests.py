"""What somebody asked to be made again: requests; what came of them is in the log (`actions`).

A request lives from the moment it is noticed until its product was tried, whatever dies in
between: it is a document of its own, and nothing but its end removes it. A later wish for the
same product is another request, which the end of the first does not remove.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from roboao_assets.storage.catalogue.actions import ActionBook
from roboao_assets.storage.catalogue.base import REQUESTS, DocumentHome
from roboao_assets.storage.catalogue.change import Change
from roboao_assets.storage.catalogue.values import now_utc, plain


@dataclass(frozen=True, kw_only=True)
class AskedStage:
    """One product that is to be made.

    Attributes
    ----------
    stage : str
        Name of the asset.
    by, why : str
    asked_at : datetime
    force : bool
        Make it again even if its inputs are as they were.
    """

    stage: str
    by: str
    why: str
    asked_at: datetime
    force: bool


@dataclass(frozen=True, kw_only=True)
class WorkRequest:
    """All that is asked of one observation.

    Attributes
    ----------
    observation, night : str
    stages : mapping of str to AskedStage
    not_before : datetime or None
        It waits until then.
    attempts : int
        Runs that were started for it.
    """

    observation: str
    night: str
    stages: Mapping[str, AskedStage] = field(default_factory=dict)
    not_before: datetime | None = None
    attempts: int = 0


class RequestBook:
    """The requests of a catalogue (`Catalogue.requests`)."""

    def __init__(self, home: DocumentHome) -> None:
        self._home = home

    def ask(
        self,
        observation: str,
        night: str,
        stages: Iterable[str],
        *,
        by: str,
        why: str,
        force: bool = True,
        not_before: datetime | None = None,
    ) -> None:
        """Ask for products of an observation to be made; what is asked already is asked anew."""
        asked = {"by": by, "why": why, "asked_at": now_utc(), "force": force}
        change = Change(assign={"night": night, "not_before": not_before})
        change.assign |= {f"stages.{stage}": plain(asked) for stage in stages}
        if not_before is None:
            change.assign["attempts"] = 0
        self._home._update(REQUESTS, observation, change, upsert=True)  # noqa: SLF001

    def of(self, observation: str) -> WorkRequest | None:
        """Return what is asked of an observation, None if nothing is."""
        document = self._home._get(REQUESTS, observation)  # noqa: SLF001
        return _request(document) if document and document.get("stages") else None

    def all(self) -> list[WorkRequest]:
        """Return every request, by observation."""
        documents = self._home._all(REQUESTS)  # noqa: SLF001
        return [_request(document) for document in documents if document.get("stages")]

    def put_off(self, observation: str, until: datetime) -> None:
        """Count a run that was started for a request; until then no other is."""
        change = Change(assign={"not_before": until}, increment={"attempts": 1})
        self._home._update(REQUESTS, observation, change)  # noqa: SLF001

    def finish(self, observation: str, asked: AskedStage, result: str) -> None:
        """Remove a request that was tried, and keep in the log how it ended.

        A wish of a later moment for the same product stays.
        """
        change = Change(remove=[f"stages.{asked.stage}"])
        same = (f"stages.{asked.stage}.asked_at", asked.asked_at)
        if self._home._update(REQUESTS, observation, change, where=same):  # noqa: SLF001
            self._home._delete(REQUESTS, observation, where=("stages", {}))  # noqa: SLF001
            detail = {"stage": asked.stage, "why": asked.why, "asked_at": asked.asked_at}
            log = ActionBook(self._home)
            log.record(observation, f"made {asked.stage}", by=asked.by, result=result, **detail)


def _request(document: Mapping[str, Any]) -> WorkRequest:
    return WorkRequest(
        observation=document["_id"],
        night=str(document.get("night") or ""),
        stages={
            stage: AskedStage(
                stage=stage,
                by=str(asked.get("by") or ""),
                why=str(asked.get("why") or ""),
                asked_at=asked["asked_at"],
                force=bool(asked.get("force")),
            )
            for stage, asked in document["stages"].items()
        },
        not_before=document.get("not_before"),
        attempts=int(document.get("attempts") or 0),
    )
