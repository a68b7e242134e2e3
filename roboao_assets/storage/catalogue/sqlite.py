"""The SQLite home: one file, for an archive without a database server."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError
from roboao_assets.storage.catalogue.base import CLOCK_DIFFERENCE_S, ImageRow, NightSummary
from roboao_assets.storage.catalogue.change import Change
from roboao_assets.storage.catalogue.conditions import Condition
from roboao_assets.storage.catalogue.documents import BULK_PATHS
from roboao_assets.storage.catalogue.interface import Catalogue
from roboao_assets.storage.catalogue.query import Cone
from roboao_assets.storage.catalogue.search_fields import FLAG_FIELDS
from roboao_assets.storage.catalogue.sqlite_conditions import (
    add_functions,
    compile_all,
    inside_cone,
    order,
)
from roboao_assets.storage.catalogue.sqlite_schema import (
    MIGRATIONS,
    SCHEMA_VERSION,
    STATEMENTS,
    json_path,
)
from roboao_assets.storage.catalogue.values import (
    at_path,
    date_text,
    encode,
    from_json,
    now_utc,
    to_json,
)

_BUSY_TIMEOUT_S = 60.0
# A connection made before a fork belongs to the parent: closing it in the child could take the
# parent's locks away, so the child only forgets it, and keeps it from the garbage collector.
_ABANDONED: list[sqlite3.Connection] = []


class SqliteCatalogue(Catalogue):
    """The catalogue in an SQLite file; see `Catalogue` and `open_catalogue`.

    Write-ahead log, synced at every commit: readers never wait, writers take turns. Threads of
    one process share a connection in turn, a forked child opens its own.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        path = url.removeprefix("sqlite:///")
        if not path:
            raise CatalogueError("the catalogue URL sqlite:/// names no file; add its path")
        self.path = Path(path).expanduser().absolute()
        super().__init__(f"sqlite:///{self.path}", read_only=read_only)
        self._closed = False
        self._pid = -1
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        with self._translated("opening the catalogue"):
            self._connected()

    @property
    def url(self) -> str:
        """The URL."""
        return self._url

    def close(self) -> None:
        """Close the connection; calling it again does nothing."""
        if self._pid == os.getpid() and self._connection is not None:
            with self._lock:
                self._connection.close()
        self._connection = None
        self._closed = True

    # -- connection and transactions ---------------------------------------------------------

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            raise CatalogueError(f"the catalogue {self.url} was closed; open it again")
        if self._pid != os.getpid():
            if self._connection is not None:
                _ABANDONED.append(self._connection)
            self._connection, self._lock, self._pid = None, threading.RLock(), os.getpid()
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection

    def _connect(self) -> sqlite3.Connection:
        if self.read_only:
            if not self.path.is_file():
                raise CatalogueUnavailableError(
                    f"there is no catalogue at {self.path}; it is made when the first night is "
                    f"registered, or correct ROBOAO_CATALOGUE_URL or ROBOAO_ARCHIVE_ROOT"
                )
        else:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CatalogueUnavailableError(
                    f"the folder {self.path.parent} of the catalogue cannot be made: {error}"
                ) from error
        mode = "ro" if self.read_only else "rwc"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")
        add_functions(connection)
        if not self.read_only:
            _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version in (0, *MIGRATIONS) and not self.read_only:
            connection.execute("BEGIN IMMEDIATE")
            try:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                for statement in STATEMENTS if version == 0 else MIGRATIONS.get(version, ()):
                    connection.execute(statement)
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        if version != SCHEMA_VERSION:
            # Only what opens it for writing brings an earlier version up to date.
            advice = (
                "what writes it first, such as the sensors of `roboao serve`, brings it up to date"
                if version in MIGRATIONS
                else "it belongs to another program, or to a later version of this one: update it"
            )
            raise CatalogueError(
                f"{self.path} is no catalogue of this archive's version: its user_version is "
                f"{version}, expected {SCHEMA_VERSION}; {advice}"
            )

    @contextmanager
    def _transaction(self, mode: str, doing: str) -> Iterator[sqlite3.Connection]:
        with self._translated(doing):
            connection = self._connected()
            with self._lock:
                connection.execute(f"BEGIN {mode}")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise CatalogueUnavailableError(
                f"{doing} in {self.path} did not work: {error}; look for a full or read-only "
                f"disk, missing permissions, or another program that holds the file"
            ) from error
        except sqlite3.Error as error:
            raise CatalogueError(f"{doing} in {self.path} did not work: {error}") from error

    def _writing(self, doing: str) -> Any:
        return self._transaction("IMMEDIATE", doing)

    def _reading(self, doing: str) -> Any:
        return self._transaction("DEFERRED", doing)

    # -- documents ---------------------------------------------------------------------------

    def _insert(self, collection: str, document: dict[str, Any]) -> bool:
        text = to_json(document)
        with self._writing("entering a document") as connection:
            cursor = connection.execute(
                f"INSERT INTO {collection} (id, document) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (document["_id"], text),
            )
            return cursor.rowcount == 1

    def _get(self, collection: str, identifier: str) -> dict[str, Any] | None:
        with self._reading("reading a document") as connection:
            row = connection.execute(
                f"SELECT document FROM {collection} WHERE id = ?", (identifier,)
            ).fetchone()
        return from_json(row[0]) if row else None

    def _get_many(self, identifiers: Sequence[str], summary_only: bool) -> list[dict[str, Any]]:
        with self._reading("reading documents") as connection:
            # The ids travel as one JSON parameter: SQLite limits the number of parameters.
            rows = connection.execute(
                f"SELECT {_document(summary_only)} FROM json_each(?) JOIN objects "
                f"ON objects.id = json_each.value ORDER BY json_each.key",
                (json.dumps(list(identifiers)),),
            ).fetchall()
        return [from_json(text) for (text,) in rows]

    def _all(self, collection: str) -> list[dict[str, Any]]:
        with self._reading("reading documents") as connection:
            rows = connection.execute(f"SELECT document FROM {collection} ORDER BY id").fetchall()
        return [from_json(text) for (text,) in rows]

    def documents_after(self, collection: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return the next `limit` documents of a collection by `_id`, as they stand there."""
        with self._reading("reading documents") as connection:
            rows = connection.execute(
                f"SELECT document FROM {collection} WHERE id > ? ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()
        return [from_json(text) for (text,) in rows]

    def enter_documents(self, collection: str, documents: Sequence[dict[str, Any]]) -> None:
        """Enter documents of a backup; CatalogueError if one is there already."""
        self._check_writable()
        rows = [(document["_id"], to_json(document)) for document in documents]
        with self._writing("entering documents") as connection:
            connection.executemany(f"INSERT INTO {collection} (id, document) VALUES (?, ?)", rows)

    def _update(
        self,
        collection: str,
        identifier: str,
        change: Change,
        *,
        upsert: bool = False,
        returning: str = "",
        where: tuple[str, Any] | None = None,
    ) -> Any:
        encoded = Change(
            assign={path: encode(value) for path, value in change.assign.items()},
            remove=change.remove,
            increment=change.increment,
        )
        with self._writing("changing a document") as connection:
            row = connection.execute(
                f"SELECT document FROM {collection} WHERE id = ?", (identifier,)
            ).fetchone()
            if row is None and not upsert:
                return None
            # Times stay as spelled: nothing but the change touches the document.
            document = json.loads(row[0]) if row else {"_id": identifier}
            if where is not None and at_path(document, where[0]) != encode(where[1]):
                return None
            encoded.apply(document)
            connection.execute(
                f"INSERT INTO {collection} (id, document) VALUES (?, ?) "
                f"ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                (identifier, to_json(document)),
            )
        return at_path(document, returning) if returning else True

    def _delete(
        self, collection: str, identifier: str, *, where: tuple[str, Any] | None = None
    ) -> bool:
        with self._writing("removing a document") as connection:
            if where is not None:
                row = connection.execute(
                    f"SELECT document FROM {collection} WHERE id = ?", (identifier,)
                ).fetchone()
                if row is None or at_path(json.loads(row[0]), where[0]) != encode(where[1]):
                    return False
            cursor = connection.execute(f"DELETE FROM {collection} WHERE id = ?", (identifier,))
            return cursor.rowcount == 1

    def _newest(
        self, collection: str, subject: str | None, limit: int, *, before: str = ""
    ) -> list[dict[str, Any]]:
        wanted = {"subject = ?": subject, "id < ?": before or None}
        terms = {term: value for term, value in wanted.items() if value is not None}
        with self._reading("reading documents") as connection:
            rows = connection.execute(
                f"SELECT document FROM {collection} WHERE {' AND '.join(['1', *terms])} "
                f"ORDER BY id DESC LIMIT ?",
                (*terms.values(), limit),
            ).fetchall()
        return [from_json(text) for (text,) in rows]

    def _nights_without(self, section: str) -> list[str]:
        with self._reading("listing nights") as connection:
            rows = connection.execute(
                "SELECT id FROM aux WHERE json_type(document, ?) IS NULL ORDER BY id",
                (json_path(section),),
            ).fetchall()
        return [night for (night,) in rows]

    def _nights_with(self, section: str) -> list[str]:
        with self._reading("listing nights") as connection:
            rows = connection.execute(
                "SELECT id FROM aux WHERE json_type(document, ?) = 'true' ORDER BY id",
                (json_path(f"{section}.done"),),
            ).fetchall()
        return [night for (night,) in rows]

    # -- searches ----------------------------------------------------------------------------

    def _select(
        self,
        conditions: Sequence[Condition],
        *,
        sort: tuple[str, bool],
        skip: int,
        limit: int,
        summary_only: bool,
    ) -> list[dict[str, Any]]:
        where, values = compile_all(conditions)
        # The ids are cut first: sorting whole documents would carry them all along.
        statement = (
            f"SELECT {_document(summary_only)} FROM objects WHERE rowid IN (SELECT rowid FROM "
            f"objects WHERE {where} {order(sort)} LIMIT ? OFFSET ?) {order(sort)}"
        )
        with self._reading("searching observations") as connection:
            rows = connection.execute(statement, (*values, limit or -1, skip)).fetchall()
        return [from_json(text) for (text,) in rows]

    def _count(self, conditions: Sequence[Condition]) -> int:
        where, values = compile_all(conditions)
        with self._reading("counting observations") as connection:
            (count,) = connection.execute(
                f"SELECT count(*) FROM objects WHERE {where}", values
            ).fetchone()
        return count

    def _select_fields(
        self,
        conditions: Sequence[Condition],
        *,
        fields: Sequence[str],
        sort: tuple[str, bool],
        skip: int,
        limit: int,
    ) -> list[tuple[Any, ...]]:
        where, values = compile_all(conditions)
        statement = (
            f"SELECT {', '.join(fields)} FROM objects WHERE {where} {order(sort)} LIMIT ? OFFSET ?"
        )
        with self._reading("searching observations") as connection:
            rows = connection.execute(statement, (*values, limit or -1, skip)).fetchall()
        columns = list(zip(*rows, strict=True))
        for index, field in enumerate(fields if columns else ()):
            if field in FLAG_FIELDS:
                columns[index] = tuple(map(bool, columns[index]))
            elif field == "date_utc":
                columns[index] = tuple(t and datetime.fromisoformat(t) for t in columns[index])
        return list(zip(*columns, strict=True))

    def _inside(
        self, conditions: Sequence[Condition], cone: Cone, sort: tuple[str, bool]
    ) -> Sequence[str]:
        statement, values = inside_cone(conditions, cone, sort)
        with self._reading("searching observations") as connection:
            return [identifier for (identifier,) in connection.execute(statement, values)]

    def _night_rows(self, conditions: Sequence[Condition]) -> Iterable[NightSummary]:
        where, values = compile_all(conditions)
        with self._reading("listing nights") as connection:
            rows = connection.execute(
                f"""SELECT night, count(*), max(seeing_median),
                    sum(bright_star_done OR extended_object_done),
                    sum(NOT bright_star_done AND NOT extended_object_done
                        AND (coalesce(bright_star_retries, 0) > 0
                            OR coalesce(extended_object_retries, 0) > 0))
                FROM objects WHERE night IS NOT NULL AND ({where}) GROUP BY night""",
                values,
            ).fetchall()
        return [
            NightSummary(night=night, observations=count, seeing_median=seeing, done=done, failed=f)
            for night, count, seeing, done, f in rows
        ]

    def _night_seeing(self) -> Iterable[tuple[str, Any]]:
        with self._reading("listing nights") as connection:
            return connection.execute(
                "SELECT id, json_extract(document, '$.seeing.median') FROM aux"
            ).fetchall()

    # -- images and claims -------------------------------------------------------------------

    def _put_image(self, key: str, png: bytes, night: str, observation: str | None) -> None:
        with self._writing("keeping an image") as connection:
            connection.execute(
                "INSERT OR REPLACE INTO images (key, night, observation, last_modified, png) "
                "VALUES (?, ?, ?, ?, ?)",
                (key, night, observation, date_text(now_utc()), png),
            )

    def images_after(self, after: str, limit: int) -> list[ImageRow]:
        """Return the next `limit` images by key."""
        with self._reading("reading images") as connection:
            rows = connection.execute(
                "SELECT key, night, observation, png FROM images "
                "WHERE key > ? ORDER BY key LIMIT ?",
                (after, limit),
            ).fetchall()
        return [ImageRow(key=k, night=n, observation=o, png=png) for k, n, o, png in rows]

    def enter_images(self, rows: Sequence[ImageRow]) -> None:
        """Enter images of a backup; one that is there is replaced."""
        self._check_writable()
        now = date_text(now_utc())
        with self._writing("keeping images") as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO images (key, night, observation, last_modified, png) "
                "VALUES (?, ?, ?, ?, ?)",
                [(row.key, row.night, row.observation, now, row.png) for row in rows],
            )

    def image(self, key: str) -> bytes | None:
        """Return the image of a key, None if there is none."""
        with self._reading("reading an image") as connection:
            row = connection.execute("SELECT png FROM images WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def image_keys(self, *, night: str | None = None, observation: str | None = None) -> list[str]:
        """Return the keys of the images of a night or observation (or all), in order."""
        terms, values = ["1"], []
        for column, value in (("night", night), ("observation", observation)):
            if value is not None:
                terms.append(f"{column} = ?")
                values.append(value)
        with self._reading("listing images") as connection:
            rows = connection.execute(
                f"SELECT key FROM images WHERE {' AND '.join(terms)} ORDER BY key", values
            ).fetchall()
        return [key for (key,) in rows]

    def _claim(self, key: str, owner: str, ttl_s: float) -> bool:
        with self._writing("claiming a product") as connection:
            now = time.time()
            cursor = connection.execute(
                "INSERT INTO claims (key, owner, expires, taken) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET "
                "owner = excluded.owner, expires = excluded.expires, taken = excluded.taken "
                f"WHERE owner = excluded.owner OR NOT ({_VALID_CLAIM})",
                (key, owner, now + ttl_s, now, *_valid_at(now)),
            )
            return cursor.rowcount == 1

    def _claimant(self, key: str) -> str | None:
        with self._reading("reading a claim") as connection:
            row = connection.execute(
                f"SELECT owner FROM claims WHERE key = ? AND {_VALID_CLAIM}",
                (key, *_valid_at(time.time())),
            ).fetchone()
        return row[0] if row else None

    def _release(self, key: str, owner: str) -> bool:
        with self._writing("releasing a claim") as connection:
            cursor = connection.execute(
                f"DELETE FROM claims WHERE key = ? AND owner = ? AND {_VALID_CLAIM}",
                (key, owner, *_valid_at(time.time())),
            )
            return cursor.rowcount == 1


_VALID_CLAIM = "claims.expires > ? AND claims.taken <= ?"


def _valid_at(now_s: float) -> tuple[float, float]:
    """Return the values of `_VALID_CLAIM`."""
    return now_s, now_s + CLOCK_DIFFERENCE_S


def _document(summary_only: bool) -> str:
    if not summary_only:
        return "document"
    return f"json_remove(document, {', '.join(repr(json_path(path)) for path in BULK_PATHS)})"


def _patiently(action: Callable[[], Any]) -> None:
    """Repeat while another process prepares the same new file: SQLite does not wait there."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            action()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
