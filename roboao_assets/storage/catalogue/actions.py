"""What was done by whom: the one log of the archive, which is only ever added to.

What was asked for on a page, on the command line or by a flag in a document, what came of it,
and every change of users, calibration and PSF library stand here, whoever made them.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from roboao_assets.storage.catalogue.base import HISTORY, DocumentHome
from roboao_assets.storage.catalogue.values import date_text, now_utc, plain

# Entries read from the home at a time, and in all for one answer: a word that is nowhere must
# not have the whole log read.
_READ_AT_ONCE = 1000
_MOST_READ = 20_000
_OWN_KEYS = ("_id", "time", "subject", "action", "by")


@dataclass(frozen=True, kw_only=True)
class Action:
    """An entry of the log.

    Attributes
    ----------
    identifier : str
        Sorts by time.
    time : datetime or None
        None only where somebody has edited the entry.
    subject : str
        Observation, night or user.
    action, by : str
    detail : mapping of str to Any
        What else was told.
    """

    identifier: str
    time: datetime | None
    subject: str
    action: str
    by: str
    detail: Mapping[str, Any]

    @property
    def detail_text(self) -> str:
        """What else was told, in words."""
        told = {key: value for key, value in self.detail.items() if value != ""}
        return ", ".join(
            f"{key} {' '.join(map(str, value)) or 'none' if isinstance(value, list) else value}"
            for key, value in told.items()
        )


@dataclass(frozen=True, kw_only=True)
class ActionPage:
    """Some entries of the log, newest first.

    Attributes
    ----------
    actions : tuple of Action
    older : str
        Where to go on (`before`); empty: there are no older ones.
    """

    actions: tuple[Action, ...]
    older: str


class ActionBook:
    """The log of a catalogue (`Catalogue.actions`)."""

    def __init__(self, home: DocumentHome) -> None:
        self._home = home

    def record(self, subject: str, action: str, *, by: str, **detail: Any) -> None:
        """Enter that something was done to an observation, a night or a user."""
        now = now_utc()
        entry = {
            # Sorted by time, and no two alike.
            "_id": f"{date_text(now)}-{uuid.uuid4().hex[:12]}",
            "time": now,
            "subject": subject,
            "action": action,
            "by": by,
            **detail,
        }
        self._home._insert(HISTORY, plain(entry))  # noqa: SLF001

    def newest(self, subject: str | None = None, limit: int = 100) -> list[Action]:
        """Return the newest entries, of one subject or of all, newest first."""
        found = self._home._newest(HISTORY, subject, limit)  # noqa: SLF001
        return [_action(document) for document in found]

    def search(
        self, *, by: str = "", text: str = "", before: str = "", limit: int = 100
    ) -> ActionPage:
        """Return entries in which words stand, newest first; capitals do not matter.

        Parameters
        ----------
        by : str
            A part of who did it.
        text : str
            A part of the subject, the action or what else was told.
        before : str
            Only entries older than this one (`ActionPage.older`).
        limit : int
            At most so many; fewer if the words are seldom: some 20,000 entries are read.
        """
        by, text = by.casefold(), text.casefold()
        found: list[Action] = []
        for _ in range(_MOST_READ // _READ_AT_ONCE):
            some = self._home._newest(  # noqa: SLF001
                HISTORY, None, _READ_AT_ONCE, before=before
            )
            for action in map(_action, some):
                if len(found) == limit:
                    return ActionPage(actions=tuple(found), older=before)
                before = action.identifier
                told = f"{action.subject}\n{action.action}\n{action.detail_text}"
                if by in action.by.casefold() and text in told.casefold():
                    found.append(action)
            if len(some) < _READ_AT_ONCE:
                return ActionPage(actions=tuple(found), older="")
        return ActionPage(actions=tuple(found), older=before)


def _action(document: Mapping[str, Any]) -> Action:
    time = document.get("time")
    return Action(
        identifier=str(document["_id"]),
        time=time if isinstance(time, datetime) else None,
        subject=str(document.get("subject", "")),
        action=str(document.get("action", "")),
        by=str(document.get("by", "")),
        detail={key: value for key, value in document.items() if key not in _OWN_KEYS},
    )
