"""The neutral conditions of a search: what a home of the catalogue must be able to compile.

A missing field meets none of them but `IsTrue(..., False)` and `RedoAsked(False)`.
"""

from typing import Any, NamedTuple

from roboao_assets.storage.catalogue.documents import REDO_PATHS


class OneOf(NamedTuple):
    """The field equals one of the values."""

    field: str
    values: tuple[Any, ...]


class Holds(NamedTuple):
    """The field is a list that holds the value, or is the value."""

    field: str
    value: Any


class HasItems(NamedTuple):
    """The field is a list with something in it; with `wanted` False: an empty list."""

    field: str
    wanted: bool


class Contains(NamedTuple):
    """The field is a text that contains `text`, whatever the case."""

    field: str
    text: str


class Between(NamedTuple):
    """The field is of the bounds' type (number, text or time) and between them.

    None is no bound; both ends belong to the range unless `open_end`.
    """

    field: str
    low: Any
    high: Any
    open_end: bool = False


class IsTrue(NamedTuple):
    """The field is true; with `wanted` False: is anything but true, or missing."""

    field: str
    wanted: bool


class RedoAsked(NamedTuple):
    """Some product's `force_redo` is true; with `wanted` False: none is."""

    wanted: bool
    paths: tuple[str, ...] = REDO_PATHS


class AnyOf(NamedTuple):
    """At least one of the conditions is met."""

    conditions: tuple[Any, ...]


Condition = OneOf | Holds | HasItems | Contains | Between | IsTrue | RedoAsked | AnyOf
