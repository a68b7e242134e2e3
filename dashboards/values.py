"""Values of a document as its readers may find them.

Operators edit documents with any client, so a missing or odd value is an absent one here,
never an error.
"""

import math
from collections.abc import Mapping
from typing import Any


def section_of(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping below a key, empty if there is none."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def number_of(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    if type(value) is float:  # mostly; a night's curves are many numbers
        return value if math.isfinite(value) else None
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def integer_of(value: Any) -> int | None:
    """Return a number cut to an integer, None for anything else."""
    number = number_of(value)
    return None if number is None else int(number)


def text_of(value: Any) -> str:
    """Return a value as text, empty for None."""
    return "" if value is None else str(value)


def pair_of(value: Any) -> tuple[float, float] | None:
    """Return a list of two numbers as a pair."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, second = number_of(value[0]), number_of(value[1])
    return None if first is None or second is None else (first, second)


def text_pair_of(value: Any) -> tuple[str, str] | None:
    """Return a list of two values as a pair of texts."""
    return (str(value[0]), str(value[1])) if isinstance(value, list) and len(value) == 2 else None
