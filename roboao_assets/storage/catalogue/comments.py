"""What readers say of an observation: comments, in a collection of their own.

They are no part of the observation's document, so nothing that reduces or enters it again can
touch them. The field `comment` of the document is the operators'.
"""

import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.base import COMMENTS, OBJECTS, DocumentHome
from roboao_assets.storage.catalogue.values import date_text, now_utc, plain

MOST_COMMENT_CHARACTERS = 2000
# Of one observation: they all stand on its page.
MOST_COMMENTS = 500


@dataclass(frozen=True, kw_only=True)
class Comment:
    """A comment on an observation.

    Attributes
    ----------
    identifier : str
        Sorts by time.
    observation, by, text : str
    time : datetime or None
        None only where somebody has edited it with a database client.
    """

    identifier: str
    observation: str
    by: str
    text: str
    time: datetime | None


class CommentBook:
    """The comments of a catalogue (`Catalogue.comments`)."""

    def __init__(self, home: DocumentHome) -> None:
        self._home = home

    def add(self, observation: str, text: str, *, by: str) -> Comment:
        """Enter a comment.

        Raises
        ------
        CatalogueError
            There is no such observation, it has too many comments, or the text is empty, too
            long, or holds characters that are none.
        """
        self._home._check_writable()  # noqa: SLF001
        text = _checked(text)
        if self._home._get(OBJECTS, observation) is None:  # noqa: SLF001
            raise CatalogueError(f"the catalogue has no observation {observation!r}")
        if len(self.of(observation)) >= MOST_COMMENTS:
            raise CatalogueError(
                f"{observation} has {MOST_COMMENTS} comments already; an administrator can "
                f"delete those that say nothing any more"
            )
        now = now_utc()
        document = {
            "_id": f"{date_text(now)}-{uuid.uuid4().hex[:12]}",
            "subject": observation,
            "by": by,
            "text": text,
            "time": now,
        }
        self._home._insert(COMMENTS, plain(document))  # noqa: SLF001
        return _comment(document)

    def of(self, observation: str) -> list[Comment]:
        """Return the comments on an observation, newest last; at most `MOST_COMMENTS`."""
        return [_comment(document) for document in self.documents(observation)]

    def documents(self, observation: str) -> list[dict[str, Any]]:
        """Return the same as the catalogue keeps it, for the copy in the archive tree."""
        return self._home._newest(COMMENTS, observation, MOST_COMMENTS)[::-1]  # noqa: SLF001

    def get(self, identifier: str) -> Comment | None:
        """Return a comment, None if there is none."""
        document = self._home._get(COMMENTS, identifier)  # noqa: SLF001
        return None if document is None else _comment(document)

    def remove(self, identifier: str) -> bool:
        """Remove a comment; True if there was one."""
        self._home._check_writable()  # noqa: SLF001
        return self._home._delete(COMMENTS, identifier)  # noqa: SLF001

    def restore(self, document: Mapping[str, Any]) -> bool:
        """Enter a comment as it was; False if it is there."""
        self._home._check_writable()  # noqa: SLF001
        if not isinstance(document.get("_id"), str) or not document.get("subject"):
            raise CatalogueError(f"what is restored is no comment: {document!r:.200}")
        return self._home._insert(COMMENTS, plain(document))  # noqa: SLF001


def _checked(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise CatalogueError("a comment has a text; this one is empty")
    if len(text) > MOST_COMMENT_CHARACTERS:
        raise CatalogueError(
            f"a comment has at most {MOST_COMMENT_CHARACTERS} characters, and this one has "
            f"{len(text)}"
        )
    # Control characters and halves of characters; marks of writing from right to left stay.
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        raise CatalogueError(
            "the comment holds control characters, which nobody can read: type it anew"
        )
    return text


def _comment(document: Mapping[str, Any]) -> Comment:
    time = document.get("time")
    return Comment(
        identifier=str(document["_id"]),
        observation=str(document.get("subject", "")),
        by=str(document.get("by", "")),
        text=str(document.get("text", "")),
        time=time if isinstance(time, datetime) else None,
    )
