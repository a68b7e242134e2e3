"""Searches of the MongoDB home as filters. A user's text never is a pattern or an operator."""

import re
from collections.abc import Iterable
from typing import Any

from pymongo import ASCENDING, DESCENDING

from roboao_assets.storage.catalogue import conditions as c
from roboao_assets.storage.catalogue.search_fields import FIELD_PATHS, NUMBER_FIELDS, TEXT_FIELDS


def path_of(field: str) -> str:
    """Return where a field stands in a document."""
    return FIELD_PATHS.get(field, field)


def order(sort: tuple[str, bool]) -> list[tuple[str, int]]:
    """Return the order by a field, ties by id."""
    field, ascending = sort
    keys = [(path_of(field), ASCENDING if ascending else DESCENDING)]
    return keys if field == "id" else [*keys, ("_id", ASCENDING)]


def has_value(field: str, wanted: bool) -> dict[str, Any]:
    """Return the filter of the documents in which a field has a value of its kind, or has none."""
    path = path_of(field)
    if field in NUMBER_FIELDS:
        term: dict[str, Any] = {"$type": "number"}
    elif field in TEXT_FIELDS:
        term = {"$type": "string"}
    elif field == "date_utc":
        term = {"$type": "date"}
    else:
        return {path: {"$ne": None} if wanted else None}
    return {path: term if wanted else {"$not": term}}


def compile_all(conditions: Iterable[c.Condition]) -> dict[str, Any]:
    """Return the filter of conditions that must all be met."""
    terms = [_compile(condition) for condition in conditions]
    return {"$and": terms} if terms else {}


def _compile(condition: c.Condition) -> dict[str, Any]:
    term: dict[str, Any]
    match condition:
        case c.OneOf(field, values):
            term = {path_of(field): {"$in": list(values)}}
        case c.Holds(field, value):
            term = {path_of(field): value}
        case c.HasItems(field, wanted):
            empty: dict[str, Any] = {"$size": 0}
            term = {path_of(field): {"$type": "array", "$not": empty} if wanted else empty}
        case c.Contains(field, text):
            term = {path_of(field): {"$regex": re.escape(text), "$options": "i"}}
        case c.Between(field, low, high, open_end):
            bounds = {"$gte": low, "$lt" if open_end else "$lte": high}
            term = {path_of(field): {sign: b for sign, b in bounds.items() if b is not None}}
        case c.IsTrue(field, wanted):
            term = {path_of(field): True if wanted else {"$ne": True}}
        case c.RedoAsked(wanted, paths):
            term = {"$or" if wanted else "$nor": [{path: True} for path in paths]}
        case c.AnyOf(conditions):
            terms = [_compile(item) for item in conditions]
            term = {"$or": terms} if terms else {"_id": {"$in": []}}
        case _:
            raise TypeError(f"unknown condition {condition!r}")
    return term
