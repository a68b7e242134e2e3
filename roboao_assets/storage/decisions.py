"""Decision chains: which pipeline runs on which observation, as data. Nothing is evaluated as code.

A rule is ``{field, operator, value}``; rules are joined by ``all``, ``any`` and ``not``. All of it
is checked when the settings are read. What an observation does not (yet) have makes a rule
neither true nor false: logic of three values (S. C. Kleene, 1938, doi:10.2307/2267778).
"""

import json
import math
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.decision_fields import KNOWN_FIELDS, FieldType, FoundValue, find_value
from roboao_assets.storage.text_patterns import compile_pattern, matches_whole

_DEEPEST = 10
_MOST_ITEMS = 200
_ORDER = ("<", "<=", ">", ">=", "between")
OPERATORS: dict[FieldType, tuple[str, ...]] = {
    FieldType.TEXT: ("in", "not in", "=", "!=", "matches", "exists"),
    FieldType.TEXTS: ("in", "not in", "=", "!=", "matches", "exists"),
    FieldType.NUMBER: ("in", "not in", "=", "!=", *_ORDER, "exists"),
    FieldType.BOOLEAN: ("=", "!=", "exists"),
    FieldType.TIME: (*_ORDER, "exists"),
    FieldType.PRESENCE: ("exists",),
}


class Verdict(StrEnum):
    """What a rule or chain says of an observation."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "not known"


class Condition(ABC):  # noqa: B024 - what a rule and the words that join rules have in common
    """A rule, or rules joined by `all`, `any` or `not`."""


@dataclass(frozen=True)
class Rule(Condition):
    """One comparison; `value` is a tuple for `in`, `not in` and `between`."""

    field: str
    operator: str
    value: Any = True


@dataclass(frozen=True)
class AllOf(Condition):
    """True if every part is; without parts, true."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class AnyOf(Condition):
    """True if some part is; without parts, false."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Negation(Condition):
    """True if its part is false."""

    part: Condition


@dataclass(frozen=True)
class Judgement:
    """What a condition says of an observation, and how that comes about.

    Attributes
    ----------
    condition : Condition
    verdict : Verdict
    found : FoundValue or None
        Of a rule.
    parts : tuple of Judgement
        Of `all`, `any` and `not`.
    """

    condition: Condition
    verdict: Verdict
    found: FoundValue | None = None
    parts: tuple["Judgement", ...] = field(default=())


# -- logic ----------------------------------------------------------------------------------


def every(verdicts: Sequence[Verdict]) -> Verdict:
    """Conjunction."""
    if Verdict.FALSE in verdicts:
        return Verdict.FALSE
    return Verdict.UNKNOWN if Verdict.UNKNOWN in verdicts else Verdict.TRUE


def some(verdicts: Sequence[Verdict]) -> Verdict:
    """Disjunction."""
    if Verdict.TRUE in verdicts:
        return Verdict.TRUE
    return Verdict.UNKNOWN if Verdict.UNKNOWN in verdicts else Verdict.FALSE


def opposite(verdict: Verdict) -> Verdict:
    """Negation."""
    return {Verdict.TRUE: Verdict.FALSE, Verdict.FALSE: Verdict.TRUE}.get(verdict, verdict)


def judge(
    condition: Condition, document: Mapping[str, Any], facts: Mapping[str, Any] | None = None
) -> Judgement:
    """Say whether a condition holds for an observation.

    Parameters
    ----------
    condition : Condition
    document : mapping
        Of the observation, as the catalogue has it now.
    facts : mapping, optional
        What is known beside the document, by field (`library.references`).
    """
    if isinstance(condition, Rule):
        found = find_value(document, condition.field, facts or {})
        return Judgement(condition, _compare(condition, found), found)
    if isinstance(condition, Negation):
        part = judge(condition.part, document, facts)
        return Judgement(condition, opposite(part.verdict), parts=(part,))
    assert isinstance(condition, AllOf | AnyOf)
    parts = tuple(judge(part, document, facts) for part in condition.parts)
    join = every if isinstance(condition, AllOf) else some
    return Judgement(condition, join([part.verdict for part in parts]), parts=parts)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "in": lambda found, value: found in value,
    "=": lambda found, value: found == value,
    "<": lambda found, value: found < value,
    "<=": lambda found, value: found <= value,
    ">": lambda found, value: found > value,
    ">=": lambda found, value: found >= value,
    "between": lambda found, value: value[0] <= found <= value[1],
    "matches": lambda found, value: matches_whole(value, found),
}
_NEGATED = {"not in": "in", "!=": "="}


def _compare(rule: Rule, found: FoundValue) -> Verdict:
    if rule.operator == "exists":
        return _verdict((not found.missing) is rule.value)
    if found.missing:
        return Verdict.UNKNOWN
    compare = _COMPARISONS[_NEGATED.get(rule.operator, rule.operator)]
    # Of a list some item is meant; with `not in` and `!=`, none.
    items = found.value if isinstance(found.value, tuple) else (found.value,)
    holds = any(compare(item, rule.value) for item in items)
    return _verdict(holds is not (rule.operator in _NEGATED))


def _verdict(holds: bool) -> Verdict:
    return Verdict.TRUE if holds else Verdict.FALSE


# -- words ----------------------------------------------------------------------------------


def rules_of(condition: Condition) -> Iterator[Rule]:
    """Every rule of a condition, in order."""
    if isinstance(condition, Rule):
        yield condition
    elif isinstance(condition, Negation):
        yield from rules_of(condition.part)
    elif isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from rules_of(part)


def deciding(judgement: Judgement) -> Iterator[Judgement]:
    """The rules that a verdict comes from."""
    if not judgement.parts:
        yield judgement
    wanted = judgement.verdict
    if isinstance(judgement.condition, Negation):
        wanted = opposite(wanted)
    for part in judgement.parts:
        if part.verdict is wanted:
            yield from deciding(part)


def condition_words(condition: Condition) -> str:
    """Spell a rule, or the word that joins rules."""
    if isinstance(condition, Rule):
        if condition.operator == "exists":
            return f"{condition.field} {'exists' if condition.value else 'does not exist'}"
        return f"{condition.field} {condition.operator} {_spell(condition.value)}"
    if isinstance(condition, Negation):
        return "not"
    word = "all" if isinstance(condition, AllOf) else "any"
    return word if condition.parts else f"{word} of no rules"


def found_words(found: FoundValue) -> str:
    """Spell what an observation has of a field."""
    return f"nothing ({found.missing})" if found.missing else _spell(found.value)


def reason_words(judgement: Judgement) -> str:
    """Say, rule by rule, what a verdict comes from."""
    sentences = []
    for part in deciding(judgement):
        if part.found is None or not isinstance(part.condition, Rule):
            sentences.append(f"{condition_words(part.condition)} is {part.verdict}")
            continue
        known = KNOWN_FIELDS[part.condition.field]
        sentences.append(
            f"{part.condition.field} ({known.meaning}) is {found_words(part.found)}, and "
            f"'{condition_words(part.condition)}' is {part.verdict}"
        )
    return "; ".join(dict.fromkeys(sentences))


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_spell(item) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- from and to plain data -----------------------------------------------------------------


def parse_condition(data: Any, where: str, depth: int = 0) -> Condition:
    """Make a condition of plain data, and check all of it.

    Parameters
    ----------
    data : mapping, str or Condition
        As TOML or JSON has it; a string is JSON (a variable of the environment).
    where : str
        Name of the setting, for messages.
    depth : int
        Of the nesting so far.

    Raises
    ------
    SettingsError
        Anything that is no condition: what was given, and what is possible.
    """
    if isinstance(data, Condition):
        return data
    if isinstance(data, str) and not depth:
        data = _from_json(data, where)
    if not isinstance(data, Mapping) or depth > _DEEPEST:
        raise SettingsError(
            f"{where}: a rule {{field, operator, value}}, or one of all, any and not, nested at "
            f"most {_DEEPEST} deep, was expected, not {_shown(data)}"
        )
    keys = set(data)
    if keys == {"not"}:
        return Negation(parse_condition(data["not"], f"{where}.not", depth + 1))
    for name, joined in (("all", AllOf), ("any", AnyOf)):
        if keys == {name}:
            return joined(_parse_parts(data[name], f"{where}.{name}", depth + 1))
    if {"field", "operator"} <= keys <= {"field", "operator", "value"}:
        return _parse_rule(data, where)
    raise SettingsError(
        f"{where}: its keys are {_shown(sorted(map(str, keys)))}; possible are field, operator and "
        f"value together, or one of all, any and not alone"
    )


def plain_condition(condition: Condition) -> dict[str, Any]:
    """Return a condition as plain data, which `parse_condition` reads back."""
    if isinstance(condition, Rule):
        return {
            "field": condition.field,
            "operator": condition.operator,
            "value": _plain_value(condition.value),
        }
    if isinstance(condition, Negation):
        return {"not": plain_condition(condition.part)}
    assert isinstance(condition, AllOf | AnyOf)
    name = "all" if isinstance(condition, AllOf) else "any"
    return {name: [plain_condition(part) for part in condition.parts]}


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _from_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{where}: {_shown(text)} is no JSON: {error}") from None


def _parse_parts(data: Any, where: str, depth: int) -> tuple[Condition, ...]:
    if isinstance(data, str):
        data = _from_json(data, where)
    if not isinstance(data, list | tuple) or len(data) > _MOST_ITEMS:
        raise SettingsError(
            f"{where}: a list of at most {_MOST_ITEMS} rules was expected, not {_shown(data)}"
        )
    return tuple(
        parse_condition(part, f"{where}[{number}]", depth) for number, part in enumerate(data)
    )


def _parse_rule(data: Mapping[str, Any], where: str) -> Rule:
    name, operator = data["field"], data["operator"]
    if not isinstance(name, str) or name not in KNOWN_FIELDS:
        raise SettingsError(
            f"{where}: {_shown(name)} is no field of an observation; possible are "
            f"{', '.join(KNOWN_FIELDS)}"
        )
    kind = KNOWN_FIELDS[name].type
    if not isinstance(operator, str) or operator not in OPERATORS[kind]:
        raise SettingsError(
            f"{where}: {name} ({kind}) cannot be asked with the operator {_shown(operator)}; "
            f"possible are {', '.join(OPERATORS[kind])}"
        )
    where = f"{where}: {name} {operator}"
    if operator == "exists":
        return Rule(name, operator, _parse_value(data.get("value", True), FieldType.BOOLEAN, where))
    if "value" not in data:
        raise SettingsError(f"{where}: the value to compare with is missing")
    if operator in ("in", "not in", "between"):
        return Rule(name, operator, _parse_values(data["value"], operator, kind, where))
    value = _parse_value(data["value"], kind, where)
    if operator == "matches":
        try:
            compile_pattern(value)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from None
    return Rule(name, operator, value)


def _parse_values(data: Any, operator: str, kind: FieldType, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple) or not 1 <= len(data) <= _MOST_ITEMS:
        raise SettingsError(
            f"{where}: a list of 1 to {_MOST_ITEMS} values was expected, not {_shown(data)}"
        )
    values = tuple(_parse_value(item, kind, where) for item in data)
    if operator == "between" and (len(values) != 2 or values[0] > values[1]):
        raise SettingsError(f"{where}: [low, high] was expected, not {_shown(data)}")
    return values


def _parse_value(value: Any, kind: FieldType, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (FieldType.TEXT, FieldType.TEXTS) and isinstance(value, str):
        return value
    if kind is FieldType.NUMBER and number and abs(value) < 1e300 and not math.isnan(value):
        return value
    if kind is FieldType.BOOLEAN and isinstance(value, bool):
        return value
    if kind is FieldType.TIME:
        time = _parse_time(value)
        if time is not None:
            return time
    expected = {
        FieldType.NUMBER: "a finite number",
        FieldType.BOOLEAN: "true or false",
        FieldType.TIME: "a time like 2017-06-07T04:00:00 (UTC)",
    }.get(kind, 'text in quotes, e.g. "24",')
    raise SettingsError(f"{where}: {expected} was expected, not {_shown(value)}")


def _parse_time(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        return None


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # An integer of thousands of digits cannot even be shown.
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
