"""Values as both homes keep them, and how SQLite's JSON text spells them."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from roboao_assets.science.errors import CatalogueError

DATE_KEY = "$date"
_INT64_LIMIT = 2**63
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def now_utc() -> datetime:
    """Return the time now (aware, UTC, whole milliseconds as both homes keep them)."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(time: datetime) -> datetime:
    """Return `time` in UTC, cut to whole milliseconds (CatalogueError if it is naive)."""
    if time.tzinfo is None:
        raise CatalogueError(
            f"the time {time.isoformat()} has no time zone; the catalogue keeps aware UTC times"
        )
    time = time.astimezone(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def plain(value: Any, where: str = "") -> Any:  # noqa: PLR0911 - one return a type
    """Return `value` as both homes can keep and return it, unchanged in meaning.

    Mappings become dict, sequences and NumPy arrays list, NumPy scalars Python ones, paths
    str, times aware UTC in whole milliseconds. A number that is not finite becomes None: JSON
    has no such numbers, and an absent measurement is what it means.

    Parameters
    ----------
    value : Any
    where : str
        Dotted place in the document, for the message.

    Raises
    ------
    CatalogueError
        A value of another type, an integer beyond 64 bits, a time without a time zone, or a
        key that is no string, is empty, holds a dot or a NUL, or starts with a dollar sign.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A header byte that is no UTF-8 must not make a whole document unstorable.
        return _whole_text(value)
    if isinstance(value, datetime):
        return to_milliseconds(value)
    if isinstance(value, int):
        if not -_INT64_LIMIT <= value < _INT64_LIMIT:
            raise CatalogueError(f"the integer {value} at {where or 'the top'} exceeds 64 bits")
        return int(value)
    if isinstance(value, float):
        # The sum turns -0.0 into 0.0: not every server tells them apart.
        return float(value) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_checked_key(k, where): plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, PurePath):
        return plain(str(value), where)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return plain(value.tolist(), where)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain(item, f"{where}.{index}") for index, item in enumerate(value)]
    raise CatalogueError(
        f"a value of type {type(value).__name__} at {where or 'the top'} cannot be kept in the "
        f"catalogue; give numbers, strings, times, lists or mappings"
    )


def _whole_text(text: str) -> str:
    return _LONE_SURROGATE.sub("\ufffd", str(text))


def _checked_key(key: Any, where: str) -> str:
    if not isinstance(key, str) or not key or "." in key or "\0" in key or key.startswith("$"):
        raise CatalogueError(
            f"the key {key!r} at {where.lstrip('.') or 'the top'} cannot be kept in the catalogue: "
            f"a key is a string without dots that does not start with a dollar sign"
        )
    return _whole_text(key)


def to_json(document: Any) -> str:
    """Spell plain values as JSON text; a time as ``{"$date": "2016-09-25T11:04:27.040Z"}``."""
    return json.dumps(encode(document), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(text: str) -> Any:
    """Inverse of `to_json`."""
    return json.loads(text, object_hook=_decode_date)


def encode(value: Any) -> Any:
    """Return plain values with every time as a ``$date`` mapping."""
    if isinstance(value, datetime):
        return {DATE_KEY: date_text(value)}
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encode(item) for item in value]
    return value


def date_text(time: datetime) -> str:
    """Spell a time as kept in JSON: of fixed width, so that text order is time order."""
    time = to_milliseconds(time)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z".rjust(24, "0")


def _decode_date(mapping: dict) -> Any:
    if len(mapping) == 1 and isinstance(mapping.get(DATE_KEY), str):
        return datetime.fromisoformat(mapping[DATE_KEY])
    return mapping


def at_path(document: Any, path: str, default: Any = None) -> Any:
    """Return what stands at a dotted path (numbers index lists), or `default`."""
    for part in path.split("."):
        if isinstance(document, Mapping) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return default
    return document
