"""One night's rows in the tables of a Dagster instance, written again for other nights."""

import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# Tables with rows of a night; what else there is, is of the instance.
_TABLES = ("event_logs", "asset_event_tags", "asset_check_executions", "runs", "run_tags")
# Columns that hold the number of an event.
_EVENT_NUMBERS = ("event_id", "evaluation_event_storage_id", "materialization_event_storage_id")
_NUMBER = r"<<(\d+)>>"
_DATA_VERSION = r"-([0-9a-f]{64})"


def marked(number: int) -> str:
    """Return an event's number as it stands in the text of another: every night has its own."""
    return f"<<{number}>>"


@dataclass(frozen=True)
class NightModel:
    """The night that is written again.

    Attributes
    ----------
    night : str
    observations, run_ids : tuple of str
    """

    night: str
    observations: tuple[str, ...]
    run_ids: tuple[str, ...]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Whatever of a row is another one's in another night."""
        names = "|".join(map(re.escape, [*self.observations, self.night, *self.run_ids]))
        return re.compile(f"({names})|{_NUMBER}|{_DATA_VERSION}")


@dataclass
class _Change:
    """From the model to another night."""

    names: dict[str, str]
    shift: int
    turn: int
    known: dict[str, str] = field(default_factory=dict)

    def of(self, name: str | None, number: str | None, version: str | None) -> str:
        if name is not None:
            return self.names[name]
        if number is not None:
            return str(int(number) + self.shift)
        return f"-{self.turn:04x}{(version or '')[4:]}"


# A text of the model: constant pieces, and what takes their place between them.
_Value = Callable[[_Change], Any]


def _compile(model: NightModel, column: str, value: Any) -> _Value:
    if column in _EVENT_NUMBERS and value is not None:
        return lambda change: value + change.shift
    if not isinstance(value, str):
        return lambda change: value
    # Four pieces a match: the text before it, and three groups of which one is set.
    pieces = model.pattern.split(value)
    texts, groups = pieces[::4], list(zip(pieces[1::4], pieces[2::4], pieces[3::4], strict=True))
    if not groups:
        return lambda change: value

    def changed(change: _Change) -> str:
        parts = [texts[0]]
        for group, text in zip(groups, texts[1:], strict=True):
            parts += (change.of(*group), text)
        return "".join(parts)

    return changed


def repeat_night(
    path: Path, model: NightModel, nights: Sequence[tuple[str, tuple[str, ...]]]
) -> None:
    """Write the rows of `model`, which are all that the database has, for each of `nights`.

    Parameters
    ----------
    path : Path
        SQLite database of an event log or of the runs.
    model : NightModel
        Its event numbers stand in texts as `marked`; they are unmarked afterwards.
    nights : sequence of (str, tuple of str)
        Each with as many observations as the model.
    """
    connection = sqlite3.connect(path)
    tables = {name: list(_rows(connection, name)) for name in _TABLES if _has(connection, name)}
    per_night = len(tables.get("event_logs", ()))
    compiled = {
        name: [{c: _compile(model, c, v) for c, v in row.items()} for row in rows]
        for name, rows in tables.items()
    }
    # The same run ids in every database.
    keys = [model.night, *model.observations, *model.run_ids]
    for turn, (night, observations) in enumerate([(model.night, model.observations), *nights]):
        runs = [str(uuid.uuid5(uuid.UUID(run), night)) for run in model.run_ids]
        names = [night, *observations, *(runs if turn else model.run_ids)]
        change = _Change(dict(zip(keys, names, strict=True)), turn * per_night, turn)
        with connection:
            for name, rows in compiled.items():
                if turn == 0:
                    connection.execute(f"DELETE FROM {name}")
                _insert(connection, name, rows, change)
    _renew_assets(connection, model, change)
    connection.close()


def _renew_assets(connection: sqlite3.Connection, model: NightModel, change: _Change) -> None:
    """Let the assets' own rows tell of the last night."""
    if not _has(connection, "asset_keys"):
        return
    with connection:
        for number, text, run in connection.execute(
            "SELECT id, last_materialization, last_run_id FROM asset_keys"
        ).fetchall():
            told = re.sub(r'("storage_id": )(\d+)', r"\1<<\2>>", text or "null")
            connection.execute(
                "UPDATE asset_keys SET last_materialization = ?, last_run_id = ? WHERE id = ?",
                (
                    _compile(model, "last_materialization", told)(change),
                    _compile(model, "last_run_id", run)(change),
                    number,
                ),
            )


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,))
    return found.fetchone() is not None


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table} ORDER BY id")
    columns = [column[0] for column in cursor.description]
    for row in cursor:
        values = dict(zip(columns, row, strict=True))
        # Given anew, in the same order.
        del values["id"]
        yield values


def _insert(
    connection: sqlite3.Connection, table: str, rows: list[dict[str, _Value]], change: _Change
) -> None:
    if not rows:
        return
    columns = list(rows[0])
    places = ", ".join("?" * len(columns))
    connection.executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",
        ([row[column](change) for column in columns] for row in rows),
    )
