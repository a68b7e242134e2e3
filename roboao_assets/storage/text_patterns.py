"""Regular expressions that come from a settings file: checked once, so that none can hang.

Python's matcher tries every way to divide a text between the repeats of a pattern; what that
can cost at worst is told from the pattern alone, and a pattern that could cost too much is
refused before it is used.
"""

import math
import re

# Python offers no public way to read a pattern; the tests of this module fail if this one goes.
import re._constants as words
import re._parser as parser
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from roboao_assets.science.errors import SettingsError

LONGEST_PATTERN = 200
LONGEST_TEXT = 1000
# Elementary steps on a text of that length: some tenths of a second.
_MOST_STEPS = 2e7

_REPEATS = (words.MAX_REPEAT, words.MIN_REPEAT, words.POSSESSIVE_REPEAT)
_SINGLE = (words.LITERAL, words.NOT_LITERAL, words.ANY, words.IN, words.AT)
_REFUSED = {
    words.GROUPREF: "a backreference",
    words.GROUPREF_EXISTS: "a conditional group",
    words.ASSERT: "a look-around",
    words.ASSERT_NOT: "a look-around",
}


class _Cost(NamedTuple):
    """At worst: ways in which a piece matches one text, and steps to try one of them."""

    ways: float
    steps: float


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern that cannot hang.

    Raises
    ------
    SettingsError
        It is too long, is no regular expression, holds a backreference, a look-around or a
        conditional group, or could be divided in too many ways (repeats within repeats).
    """
    if len(pattern) > LONGEST_PATTERN:
        raise SettingsError(
            f"the regular expression {pattern[:40]!r}... has {len(pattern)} characters; "
            f"at most {LONGEST_PATTERN} are possible"
        )
    try:
        with warnings.catch_warnings():
            # What Python only warns of today is an error tomorrow.
            warnings.simplefilter("error")
            tree = parser.parse(pattern)
            cost = _cost_of(tree, pattern)
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError, ValueError, Warning) as error:
        raise SettingsError(f"{pattern!r} is no regular expression: {error}") from None
    if cost.steps > _MOST_STEPS:
        raise SettingsError(
            f"the regular expression {pattern!r} could take for ever: repeats within repeats, "
            f"or more than two open repeats after each other; write it as several rules"
        )
    return compiled


def matches_whole(pattern: str, text: str) -> bool:
    """Return whether the whole of `text`, cut at `LONGEST_TEXT`, matches (SettingsError)."""
    return compile_pattern(pattern).fullmatch(text[:LONGEST_TEXT]) is not None


def _cost_of(items: Iterable[tuple[Any, Any]], pattern: str) -> _Cost:
    """Of pieces after each other: each is tried once for every way of those before it."""
    # Nothing at all is a step too: rounds of nothing can be many.
    ways, steps = 1.0, 1.0
    for kind, argument in items:
        piece = _cost_of_piece(kind, argument, pattern)
        steps += ways * piece.steps
        ways *= piece.ways
    return _Cost(ways, steps)


def _cost_of_piece(kind: Any, argument: Any, pattern: str) -> _Cost:
    if kind in _REFUSED:
        raise SettingsError(
            f"the regular expression {pattern!r} holds {_REFUSED[kind]}, which is not possible here"
        )
    if kind in _SINGLE:
        return _Cost(1.0, 1.0)
    if kind is words.BRANCH:
        return _either([_cost_of(branch, pattern) for branch in argument[1]])
    if kind is words.SUBPATTERN:
        return _cost_of(argument[-1], pattern)
    if kind is words.ATOMIC_GROUP:
        return _cost_of(argument, pattern)
    if kind in _REPEATS:
        low, high, body = argument
        return _repeated(int(low), int(high), _cost_of(body, pattern))
    raise SettingsError(f"the regular expression {pattern!r} holds {kind}, which is not possible")


def _either(branches: Sequence[_Cost]) -> _Cost:
    return _Cost(sum(b.ways for b in branches), sum(b.steps for b in branches))


def _repeated(low: int, high: int, body: _Cost) -> _Cost:
    if high >= int(words.MAXREPEAT):
        # Each round of an open repeat takes a character at least.
        high = max(low, LONGEST_TEXT)
    lengths = high - low + 1.0
    if body.ways <= 1.0:
        return _Cost(lengths, max(high, 1) * body.steps)
    if high * math.log10(body.ways) > 100:
        return _Cost(math.inf, math.inf)
    rounds = max(high, 1)
    return _Cost(lengths * body.ways**high, rounds * body.ways ** (rounds - 1) * body.steps)
