"""The MongoDB home: the production catalogue, one database on a server or replica set.

Only what both MongoDB (6 and later) and FerretDB 1.24 (SQLite backend) know is used. Every
change is one update of one document, which MongoDB carries out atomically; for FerretDB 1.x,
which does not, `ferretdb` takes turns.
"""

import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import CodecOptions
from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient, ReturnDocument, WriteConcern
from pymongo import errors as mongo_errors
from pymongo.collection import Collection
from pymongo.database import Database

from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError
from roboao_assets.storage.catalogue.base import (
    CLOCK_DIFFERENCE_S,
    COMMENTS,
    HISTORY,
    NIGHTS,
    OBJECTS,
    ImageRow,
    NightSummary,
)
from roboao_assets.storage.catalogue.change import Change
from roboao_assets.storage.catalogue.conditions import Condition
from roboao_assets.storage.catalogue.documents import BULK_PATHS, PIPELINES
from roboao_assets.storage.catalogue.ferretdb import Turns, decode_nested, encode_nested
from roboao_assets.storage.catalogue.interface import Catalogue
from roboao_assets.storage.catalogue.mongodb_conditions import (
    compile_all,
    has_value,
    order,
    path_of,
)
from roboao_assets.storage.catalogue.query import Cone
from roboao_assets.storage.catalogue.search_fields import (
    CONTRAST_PIPELINES,
    contrast_field,
    value_of,
)
from roboao_assets.storage.catalogue.sky import separation_rad
from roboao_assets.storage.catalogue.values import at_path, now_utc
from roboao_assets.storage.credentials import without_credentials

DEFAULT_DATABASE = "roboao"
IMAGES, CLAIMS = "images", "claims"

_DEFAULT_OPTIONS = {
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 60_000,
    "waitQueueTimeoutMS": 60_000,
    "appname": "roboao-archive",
}
_IDS_AT_ONCE = 1000
_UPSERT_ATTEMPTS = 5
_CLOCK_DIFFERENCE = timedelta(seconds=CLOCK_DIFFERENCE_S)
# A client made before a fork belongs to the parent: the child forgets it without closing it.
_ABANDONED: list[MongoClient] = []

# What the list of nights is made from; an index on just these answers it without documents.
_NIGHT_FIELDS = (
    "date_utc",
    "bright_star_done",
    "extended_object_done",
    "bright_star_retries",
    "extended_object_retries",
    "seeing_median",
)
_INDEXES = {
    OBJECTS: (
        _NIGHT_FIELDS,
        ("date_utc", "id"),
        ("name",),
        ("program", "date_utc"),
        ("dec_rad", "ra_rad"),
        ("magnitude",),
        ("exposure_s",),
        ("seeing_median",),
        ("seeing_nearest",),
        ("azimuth_rad",),
        ("elevation_rad",),
        *((f"{pipeline}_strehl",) for pipeline in PIPELINES),
        *((contrast_field(pipeline, 1.0),) for pipeline in CONTRAST_PIPELINES),
    ),
    IMAGES: (("night",), ("observation",)),
    HISTORY: (("subject", "id"),),
    COMMENTS: (("subject", "id"),),
}
_UNAVAILABLE = (
    mongo_errors.ConnectionFailure,
    mongo_errors.WTimeoutError,
    mongo_errors.ExecutionTimeout,
)


class MongoCatalogue(Catalogue):
    """The catalogue in a MongoDB database; see `Catalogue` and `open_catalogue`.

    Writes are acknowledged by a majority of the replica set, journalled, unless the URL asks
    for something else. Threads share one client, a forked child makes its own.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        super().__init__(url, read_only=read_only)
        self._closed = False
        self._pid = -1
        self._client: MongoClient | None = None
        self._lock = threading.Lock()
        self._turns: Turns | None = None
        try:
            with self._translated("opening the catalogue"):
                information = self._database().client.admin.command("buildInfo")
                if "ferretdbVersion" in information:
                    self._turns = Turns()
                # Asks for rights to read, which buildInfo does not.
                self._database()[NIGHTS].find_one({"_id": ""})
                if not read_only:
                    self._make_indexes()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The URL without user and password."""
        return without_credentials(self._url)

    def close(self) -> None:
        """Close the client; calling it again does nothing."""
        if self._pid == os.getpid() and self._client is not None:
            self._client.close()
        self._client = None
        self._closed = True

    # -- client ------------------------------------------------------------------------------

    def _database(self) -> Database:
        if self._closed:
            raise CatalogueError(f"the catalogue {self.url} was closed; open it again")
        if self._pid != os.getpid():
            if self._client is not None:
                _ABANDONED.append(self._client)
            self._client, self._lock, self._pid = None, threading.Lock(), os.getpid()
        with self._lock:
            if self._client is None:
                lowered = self._url.lower()
                options = {k: v for k, v in _DEFAULT_OPTIONS.items() if k.lower() not in lowered}
                try:
                    self._client = MongoClient(self._url, **options)  # type: ignore[arg-type]
                except (ValueError, TypeError) as error:
                    # pymongo raises these, too, for ports and options it cannot use.
                    raise mongo_errors.InvalidURI(str(error)) from None
            client = self._client
        concern = client.write_concern
        if not concern.document:
            concern = WriteConcern(w="majority", j=True, wtimeout=30_000)
        codec: CodecOptions = CodecOptions(tz_aware=True, tzinfo=UTC)
        return client.get_default_database(DEFAULT_DATABASE).with_options(codec, None, concern)

    def _collection(self, name: str) -> Collection:
        return self._database()[name]

    def _make_indexes(self) -> None:
        for name, indexes in _INDEXES.items():
            wanted = [[(path_of(field), ASCENDING) for field in fields] for fields in indexes]
            if not self._missing_indexes(name, wanted):
                continue
            with self._exclusive(name, "indexes"):
                # FerretDB falls over when it is asked for an index that is there.
                missing = self._missing_indexes(name, wanted)
                if missing:
                    self._collection(name).create_indexes([IndexModel(keys) for keys in missing])

    def _missing_indexes(self, name: str, wanted: list[Any]) -> list[Any]:
        present = [
            list(index["key"]) for index in self._collection(name).index_information().values()
        ]
        return [keys for keys in wanted if keys not in present]

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _UNAVAILABLE as error:
            # What pymongo adds after the time-out is a dump of its view of the servers.
            reason = str(error).split(", Timeout:")[0].split(" (configured timeouts")[0]
            raise CatalogueUnavailableError(
                f"{doing} at {self.url} did not work: {reason}; see whether the server runs and "
                f"this machine reaches it, or correct ROBOAO_CATALOGUE_URL"
            ) from error
        except mongo_errors.OperationFailure as error:
            reason = (error.details or {}).get("errmsg") or str(error).split(", full error")[0]
            if error.code in (13, 18):
                raise CatalogueError(
                    f"{doing} at {self.url}: the server refused the user of ROBOAO_CATALOGUE_URL: "
                    f"{reason}"
                ) from error
            raise CatalogueError(f"{doing} at {self.url} did not work: {reason}") from error
        except (mongo_errors.ConfigurationError, mongo_errors.InvalidURI) as error:
            # The message may quote the part of the URL that is wrong, a password for example.
            raise CatalogueError(
                f"the catalogue URL {self.url} cannot be used ({type(error).__name__}): it is "
                f"mongodb://user:password@host:port/database, with : / ? # [ ] @ in the user or "
                f"password percent-encoded, and known options after a ?"
            ) from None
        except (mongo_errors.PyMongoError, BSONError, OverflowError) as error:
            raise CatalogueError(f"{doing} at {self.url} did not work: {error}") from error

    def _exclusive(self, collection: str, identifier: str) -> AbstractContextManager[Any]:
        """Keep other writers off a document where the server does not do so by itself."""
        if self._turns is None:
            return nullcontext()
        return self._turns.of(self._collection("locks"), f"{collection}/{identifier}")

    def _stored(self, value: Any) -> Any:
        return value if self._turns is None else encode_nested(value)

    def _loaded(self, value: Any) -> Any:
        return value if self._turns is None else decode_nested(value)

    # -- documents ---------------------------------------------------------------------------

    def _insert(self, collection: str, document: dict[str, Any]) -> bool:
        with self._translated("entering a document"):
            try:
                self._collection(collection).insert_one(self._stored(document))
            except mongo_errors.DuplicateKeyError:
                return False
            return True

    def _get(self, collection: str, identifier: str) -> dict[str, Any] | None:
        with self._translated("reading a document"):
            return self._loaded(self._collection(collection).find_one({"_id": identifier}))

    def _get_many(self, identifiers: Sequence[str], summary_only: bool) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        with self._translated("reading documents"):
            for start in range(0, len(identifiers), _IDS_AT_ONCE):
                some = list(identifiers[start : start + _IDS_AT_ONCE])
                for document in self._collection(OBJECTS).find(
                    {"_id": {"$in": some}}, _projection(summary_only)
                ):
                    found[document["_id"]] = self._loaded(document)
        return [found[identifier] for identifier in identifiers if identifier in found]

    def _all(self, collection: str) -> list[dict[str, Any]]:
        with self._translated("reading documents"):
            cursor = self._collection(collection).find({}).sort("_id", ASCENDING)
            return [self._loaded(document) for document in cursor]

    def documents_after(self, collection: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return the next `limit` documents of a collection by `_id`, as they stand there."""
        with self._translated("reading documents"):
            found = self._collection(collection).find({"_id": {"$gt": after}})
            cursor = found.sort("_id", ASCENDING).limit(limit)
            return [self._loaded(document) for document in cursor]

    def enter_documents(self, collection: str, documents: Sequence[dict[str, Any]]) -> None:
        """Enter documents of a backup; CatalogueError if one is there already."""
        self._check_writable()
        with self._translated("entering documents"):
            self._collection(collection).insert_many([self._stored(d) for d in documents])

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
        selected = _selected(identifier, where)
        update: dict[str, Any] = {}
        if change.assign:
            update["$set"] = {path: self._stored(value) for path, value in change.assign.items()}
        if change.remove:
            update["$unset"] = dict.fromkeys(change.remove, "")
        if change.increment:
            update["$inc"] = dict(change.increment)
        with self._translated("changing a document"), self._exclusive(collection, identifier):
            documents = self._collection(collection)
            if not returning:
                result = self._upserting(
                    lambda: documents.update_one(selected, update, upsert=upsert)
                )
                return True if result.matched_count or result.upserted_id is not None else None
            # FerretDB knows no projection here: the whole document comes back.
            document = self._upserting(
                lambda: documents.find_one_and_update(
                    selected,
                    update,
                    upsert=upsert,
                    return_document=ReturnDocument.AFTER,
                )
            )
        return None if document is None else at_path(self._loaded(document), returning)

    def _upserting(self, action: Any) -> Any:
        """Repeat when another writer inserted the same document in between."""
        for _ in range(_UPSERT_ATTEMPTS - 1):
            try:
                return action()
            except mongo_errors.DuplicateKeyError:
                continue
        return action()

    def _delete(
        self, collection: str, identifier: str, *, where: tuple[str, Any] | None = None
    ) -> bool:
        selected = _selected(identifier, where)
        with self._translated("removing a document"), self._exclusive(collection, identifier):
            return self._collection(collection).delete_one(selected).deleted_count == 1

    def _newest(
        self, collection: str, subject: str | None, limit: int, *, before: str = ""
    ) -> list[dict[str, Any]]:
        query: dict[str, Any] = {} if subject is None else {"subject": subject}
        if before:
            query["_id"] = {"$lt": before}
        with self._translated("reading documents"):
            cursor = self._collection(collection).find(query).sort("_id", DESCENDING).limit(limit)
            return [self._loaded(document) for document in cursor]

    def _nights_without(self, section: str) -> list[str]:
        with self._translated("listing nights"):
            cursor = self._collection(NIGHTS).find({section: {"$exists": False}}, {"_id": 1})
            return sorted(document["_id"] for document in cursor)

    def _nights_with(self, section: str) -> list[str]:
        with self._translated("listing nights"):
            cursor = self._collection(NIGHTS).find({f"{section}.done": True}, {"_id": 1})
            return sorted(document["_id"] for document in cursor)

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
        return self._sorted(conditions, _projection(summary_only), sort, skip, limit)

    def _select_fields(
        self,
        conditions: Sequence[Condition],
        *,
        fields: Sequence[str],
        sort: tuple[str, bool],
        skip: int,
        limit: int,
    ) -> list[tuple[Any, ...]]:
        found = self._sorted(conditions, _field_projection(fields), sort, skip, limit)
        return [tuple(value_of(document, field) for field in fields) for document in found]

    def _sorted(
        self,
        conditions: Sequence[Condition],
        projection: dict[str, int] | None,
        sort: tuple[str, bool],
        skip: int,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Search twice where need be: MongoDB puts what has no value first, or by its type."""
        wanted = compile_all(conditions)

        def find(condition: dict[str, Any], skip: int, limit: int) -> list[dict[str, Any]]:
            cursor = self._collection(OBJECTS).find(
                condition, projection, sort=order(sort), skip=skip, limit=limit
            )
            return [self._loaded(document) for document in cursor]

        with self._translated("searching observations"):
            if sort[0] == "id":
                return find(wanted, skip, limit)
            known, unknown = ({"$and": [wanted, has_value(sort[0], yes)]} for yes in (True, False))
            found = find(known, skip, limit)
            if limit and len(found) == limit:
                return found
            before = len(found)
            if skip and not found:
                before = self._collection(OBJECTS).count_documents(known) - skip
            rest = limit - len(found) if limit else 0
            # What has no value is in the order of ids alone.
            cursor = self._collection(OBJECTS).find(
                unknown, projection, sort=order(("id", True)), skip=max(0, -before), limit=rest
            )
            return [*found, *(self._loaded(document) for document in cursor)]

    def _count(self, conditions: Sequence[Condition]) -> int:
        with self._translated("counting observations"):
            return self._collection(OBJECTS).count_documents(compile_all(conditions))

    def _inside(
        self, conditions: Sequence[Condition], cone: Cone, sort: tuple[str, bool]
    ) -> Sequence[str]:
        by_separation = sort[0] == "separation"
        rows = self._select_fields(
            conditions,
            fields=("id", "ra_rad", "dec_rad"),
            sort=("id", True) if by_separation else sort,
            skip=0,
            limit=0,
        )
        ra, dec, radius = (math.radians(value) for value in cone)
        # The box of the cone let through positions that are numbers only.
        angles = separation_rad(ra, dec, [row[1] for row in rows], [row[2] for row in rows])
        inside = [
            (angle, row[0])
            for angle, row in zip(angles.tolist(), rows, strict=True)
            if angle <= radius
        ]
        if by_separation:
            inside.sort(key=lambda item: item[0], reverse=not sort[1])
        return [identifier for _, identifier in inside]

    def _night_rows(self, conditions: Sequence[Condition]) -> Iterable[NightSummary]:
        # Counted here and not by $group: FerretDB has no conditional sums.
        rows: dict[str, dict[str, Any]] = {}
        projection = {"_id": 0, **{path_of(field): 1 for field in _NIGHT_FIELDS}}
        dated = {"date_utc": {"$gte": datetime(1, 1, 1, tzinfo=UTC)}}
        selected = {"$and": [dated, compile_all(conditions)]} if conditions else dated
        with self._translated("listing nights"):
            for document in self._collection(OBJECTS).find(selected, projection):
                night = f"{document['date_utc']:%Y%m%d}"
                row = rows.setdefault(
                    night, {"observations": 0, "seeing_median": None, "done": 0, "failed": 0}
                )
                star, resolved, *retries, seeing = (
                    at_path(document, path_of(f)) for f in _NIGHT_FIELDS[1:]
                )
                done = star is True or resolved is True
                row["observations"] += 1
                row["done"] += done
                row["failed"] += not done and any(_is_number(r) and r > 0 for r in retries)
                if _is_number(seeing):
                    row["seeing_median"] = max(seeing, row["seeing_median"] or seeing)
        return [NightSummary(night=night, **row) for night, row in rows.items()]

    def _night_seeing(self) -> Iterable[tuple[str, Any]]:
        with self._translated("listing nights"):
            cursor = self._collection(NIGHTS).find({}, {"seeing.median": 1})
            return [(document["_id"], at_path(document, "seeing.median")) for document in cursor]

    # -- images and claims -------------------------------------------------------------------

    def _put_image(self, key: str, png: bytes, night: str, observation: str | None) -> None:
        image = {"night": night, "observation": observation, "last_modified": now_utc(), "png": png}
        with self._translated("keeping an image"), self._exclusive(IMAGES, key):
            self._upserting(
                lambda: self._collection(IMAGES).replace_one({"_id": key}, image, upsert=True)
            )

    def images_after(self, after: str, limit: int) -> list[ImageRow]:
        """Return the next `limit` images by key."""
        with self._translated("reading images"):
            found = self._collection(IMAGES).find({"_id": {"$gt": after}})
            return [
                ImageRow(
                    key=image["_id"],
                    night=image["night"],
                    observation=image.get("observation"),
                    png=bytes(image["png"]),
                )
                for image in found.sort("_id", ASCENDING).limit(limit)
            ]

    def enter_images(self, rows: Sequence[ImageRow]) -> None:
        """Enter images of a backup; one that is there is replaced."""
        self._check_writable()
        for row in rows:
            self._put_image(row.key, row.png, row.night, row.observation)

    def image(self, key: str) -> bytes | None:
        """Return the image of a key, None if there is none."""
        with self._translated("reading an image"):
            document = self._collection(IMAGES).find_one({"_id": key})
        return bytes(document["png"]) if document and "png" in document else None

    def image_keys(self, *, night: str | None = None, observation: str | None = None) -> list[str]:
        """Return the keys of the images of a night or observation (or all), in order."""
        wanted = {"night": night, "observation": observation}
        query = {field: value for field, value in wanted.items() if value is not None}
        with self._translated("listing images"):
            cursor = self._collection(IMAGES).find(query, {"_id": 1}).sort("_id", ASCENDING)
            return [document["_id"] for document in cursor]

    def _claim(self, key: str, owner: str, ttl_s: float) -> bool:
        claims = self._collection(CLAIMS)
        with self._translated("claiming a product"), self._exclusive(CLAIMS, key):
            now = now_utc()
            claim = {"owner": owner, "expires": now + timedelta(seconds=ttl_s), "taken": now}
            try:
                claims.insert_one({"_id": key, **claim})
            except mongo_errors.DuplicateKeyError:
                others = [{"expires": {"$lte": now}}, {"taken": {"$gt": now + _CLOCK_DIFFERENCE}}]
                free = {"$or": [{"owner": owner}, *others]}
                taken = claims.find_one_and_update({"_id": key, **free}, {"$set": claim})
                return taken is not None
            return True

    def _claimant(self, key: str) -> str | None:
        with self._translated("reading a claim"):
            document = self._collection(CLAIMS).find_one({"_id": key, **_valid_claim()})
        return str(document["owner"]) if document else None

    def _release(self, key: str, owner: str) -> bool:
        with self._translated("releasing a claim"), self._exclusive(CLAIMS, key):
            own = {"_id": key, "owner": owner, **_valid_claim()}
            return self._collection(CLAIMS).delete_one(own).deleted_count == 1


def _valid_claim() -> dict[str, Any]:
    now = now_utc()
    # Those of an older version do not say when they were taken.
    return {"expires": {"$gt": now}, "taken": {"$not": {"$gt": now + _CLOCK_DIFFERENCE}}}


def _selected(identifier: str, where: tuple[str, Any] | None) -> dict[str, Any]:
    return {"_id": identifier} | ({} if where is None else {where[0]: where[1]})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _field_projection(fields: Iterable[str]) -> dict[str, int]:
    # A projection knows no places in a list: the list comes whole.
    return {re.sub(r"(\.\d+)+$", "", path_of(field)): 1 for field in fields}


def _projection(summary_only: bool) -> dict[str, int] | None:
    return dict.fromkeys(BULK_PATHS, 0) if summary_only else None
