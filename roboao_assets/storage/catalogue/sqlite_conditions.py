"""Searches of the SQLite home as SQL: conditions, order, cones."""

import json
import math
import re
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from roboao_assets.storage.catalogue import conditions as c
from roboao_assets.storage.catalogue.query import Cone
from roboao_assets.storage.catalogue.values import date_text

# To go by the index of positions is worth it for a narrow band of declinations alone.
_WIDE_BAND_RAD = math.radians(10.0)
# The haversine of the separation from a centre; see `sky.separation_rad`.
_HAVERSINE = (
    "min(1.0, pow(sin((dec_rad - ?) / 2), 2) + ? * cos(dec_rad) * pow(sin((ra_rad - ?) / 2), 2))"
)


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that the searches use."""
    connection.create_function("holds_text", 2, _holds_text, deterministic=True)
    try:
        connection.execute("SELECT sin(1.0), cos(1.0), pow(1.0, 2.0)")
    except sqlite3.OperationalError:  # this SQLite was built without its mathematics
        for name, count, function in (("sin", 1, math.sin), ("cos", 1, math.cos), ("pow", 2, pow)):
            connection.create_function(name, count, function, deterministic=True)


def order(sort: tuple[str, bool]) -> str:
    """Return the ORDER BY of a field: missing values last, ties by id."""
    field, ascending = sort
    # In descending order NULL comes last by itself.
    direction = "ASC NULLS LAST" if ascending else "DESC"
    if field == "id":
        return f"ORDER BY id {'ASC' if ascending else 'DESC'}"
    return f"ORDER BY {field} {direction}, id"


def inside_cone(
    conditions: Iterable[c.Condition], cone: Cone, sort: tuple[str, bool]
) -> tuple[str, list[Any]]:
    """Return a statement, and its values, that gives the ids inside a cone, sorted."""
    ra, dec, radius = (math.radians(value) for value in cone)
    where, values = compile_all(conditions)
    own = "" if sort[0] in ("id", "separation") else f", {sort[0]}"
    statement = (
        f"SELECT id FROM (SELECT id{own}, {_HAVERSINE} AS separation FROM objects WHERE {where}) "
        f"WHERE separation <= ? {order(sort)}"
    )
    return statement, [dec, math.cos(dec), ra, *values, math.sin(radius / 2) ** 2]


def compile_all(conditions: Iterable[c.Condition], joint: str = " AND ") -> tuple[str, list[Any]]:
    """Return the WHERE of conditions, and its values."""
    terms: list[str] = []
    values: list[Any] = []
    for condition in conditions:
        term, term_values = _compile(condition)
        terms.append(f"({term})")
        values.extend(term_values)
    return joint.join(terms) or ("1" if joint == " AND " else "0"), values


def _compile(condition: c.Condition) -> tuple[str, list[Any]]:  # noqa: PLR0911 - a table
    match condition:
        case c.OneOf(field, choices):
            return f"{field} IN (SELECT value FROM json_each(?))", [json.dumps(choices)]
        case c.Holds(field, value):
            # A generated column of a JSON list is its text; of a single text, that text. Few
            # lists hold a plain word at all: the others need not be taken apart.
            plain_word = isinstance(value, str) and re.fullmatch(r"[\w.@-]+", value, re.ASCII)
            return (
                f"{field} = ? OR ({f'instr({field}, ?) AND ' if plain_word else ''}"
                f"json_valid({field}) AND json_type({field}) = 'array' AND EXISTS "
                f"(SELECT 1 FROM json_each({field}) WHERE value = ?))",
                [value, *([value] if plain_word else []), value],
            )
        case c.HasItems(field, wanted):
            # The column is the list's length.
            return f"{field} {'>' if wanted else '='} 0", []
        case c.Contains(field, text) if text.isascii():
            # Of ASCII, LIKE knows upper and lower case. No character of the text has a meaning.
            pattern = re.sub(r"([%_\\])", r"\\\1", text)
            return f"{field} LIKE ? ESCAPE '\\'", [f"%{pattern}%"]
        case c.Contains(field, text):
            # Only a text of more bytes than letters can hold one that is not ASCII.
            return (
                f"length(CAST({field} AS BLOB)) > length({field}) AND holds_text({field}, ?)",
                [text.lower()],
            )
        case c.Between(field, low, high, open_end):
            if field == "dec_rad" and high - low > _WIDE_BAND_RAD:
                field = "+dec_rad"  # the plus keeps the index out
            terms = [f"{field} IS NOT NULL"]
            edges: list[Any] = []
            for bound, sign in ((low, ">="), (high, "<" if open_end else "<=")):
                if bound is not None:
                    terms.append(f"{field} {sign} ?")
                    edges.append(_stored(bound))
            return " AND ".join(terms), edges
        case c.IsTrue(field, wanted):
            return (field if wanted else f"NOT {field}"), []
        case c.RedoAsked(wanted):
            return ("redo_asked" if wanted else "NOT redo_asked"), []
        case c.AnyOf(conditions):
            return compile_all(conditions, " OR ")
    raise TypeError(f"unknown condition {condition!r}")


def _stored(bound: Any) -> Any:
    if isinstance(bound, datetime):
        return date_text(bound)
    return bound if isinstance(bound, str) else float(bound)


def _holds_text(value: Any, lowered: str) -> bool:
    return isinstance(value, str) and lowered in value.lower()
