"""The catalogue's documents as files of the archive tree: the database can be lost.

Beside the products of a night stands a copy of each of its documents, in `records/`: of the
night itself and of every observation. A copy is what the catalogue had when its document was
last changed by the archive, or looked at by the sensor that goes round the nights. The comments
on an observation stand in a file of their own, in `records/comments/`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import Catalogue
from roboao_assets.storage.catalogue.values import encode, from_json
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.paths import ArchivePaths

_FORMAT = 1


class RecordError(ArchiveError):
    """A copy of a document cannot be read."""


def write_record(path: Path, document: dict[str, Any]) -> bool:
    """Write a document as a file if it is not there as it is; True if it was written."""
    content = {"format": _FORMAT, "document": encode(document)}
    try:
        # On one line both: indented, a document takes five times as long.
        if _on_one_line(json.loads(path.read_text(encoding="utf-8"))) == _on_one_line(content):
            return False
    except (OSError, ValueError):
        pass
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True)
    write_text_whole(path, text + "\n")
    return True


def _on_one_line(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True)


def read_record(path: Path) -> dict[str, Any]:
    """Read a document that `write_record` has written.

    Raises
    ------
    RecordError
        If the file holds something else.
    """
    try:
        content = from_json(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT or not content["document"]["_id"]:
            raise ValueError(f"format {content['format']!r} instead of {_FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path} is no copy of a document of the catalogue ({error!r}); remove it, and "
            f"materialise what it was of"
        ) from None
    return dict(content["document"])


def list_records(paths: ArchivePaths, night: str) -> Iterator[Path]:
    """Yield the files of a night's observations, in the order of their names."""
    own = paths.night_record(night)
    yield from (path for path in sorted(own.parent.glob("*.json")) if path != own)


def write_comments(catalogue: Catalogue, paths: ArchivePaths, night: str, observation: str) -> bool:
    """Write the comments on an observation as a file, if there are or were any.

    Returns
    -------
    bool
        True if it was written.
    """
    path = paths.comments_record(night, observation)
    comments = catalogue.comments.documents(observation)
    if not comments and not path.exists():
        return False
    return write_record(path, {"_id": observation, "comments": comments})


def read_comments(path: Path) -> list[dict[str, Any]]:
    """Read the comments that `write_comments` has written.

    Raises
    ------
    RecordError
        If the file holds something else.
    """
    comments = read_record(path).get("comments")
    if not isinstance(comments, list) or not all(isinstance(one, dict) for one in comments):
        raise RecordError(f"{path} holds no comments; remove it")
    return comments


def list_comments(paths: ArchivePaths, night: str) -> list[Path]:
    """Return the files of the comments on a night's observations."""
    return sorted(paths.comments_record(night, "any").parent.glob("*.json"))
